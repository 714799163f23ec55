"""How noise levels are read, and how grids become patches."""

import math

import pytest
import torch

from clarkia.networks.embeddings import NoiseEmbedding, element_level, row_level, sinusoid, with_element_level
from clarkia.networks.patches import coordinates, fixed_positions, grid_of, patchify, unpatchify
from clarkia.random import generator


def test_fourier_features_come_from_the_ambient_seed_and_are_kept():
    torch.manual_seed(3)
    first = NoiseEmbedding(8)
    torch.manual_seed(3)
    second = NoiseEmbedding(8)
    assert torch.equal(first.frequencies, second.frequencies)
    assert {"frequencies", "phases"} <= set(first.state_dict())
    level = torch.tensor([-0.7])
    features = math.sqrt(2) * torch.cos(2 * math.pi * (level * first.frequencies + first.phases))
    torch.testing.assert_close(first(level)[0], first.layers(features))


def test_fourier_features_are_uncorrelated_over_phases_with_unit_power():
    torch.manual_seed(0)
    bare = NoiseEmbedding(20_000, features=20_000, layers=False)
    a, b = bare(torch.tensor([0.3, 0.4]))
    # E[2 cos(u) cos(u + d)] = E cos(2 pi f 0.1) = exp(-(0.2 pi)^2 / 2); standard errors at most sqrt(2 / 20 000).
    assert abs((a * a).mean().item() - 1.0) < 0.05
    assert abs((a * b).mean().item() - math.exp(-((0.2 * math.pi) ** 2) / 2)) < 0.05


def test_sinusoids_are_those_of_the_formula():
    found = sinusoid(torch.tensor([3.0]), 6, period=1000.0)[0]
    angles = [3.0, 3.0 / 10, 3.0 / 100]
    expected = torch.tensor([math.cos(a) for a in angles] + [math.sin(a) for a in angles])
    torch.testing.assert_close(found, expected)
    bare = NoiseEmbedding(6, kind="sinusoid", features=6, layers=False)
    torch.testing.assert_close(bare(torch.tensor([0.003]))[0], sinusoid(torch.tensor([3.0]), 6)[0])


def test_a_row_has_the_level_of_its_highest_element():
    noise = torch.tensor([[[0.5, -2.3], [0.5, 0.5]], [[-2.3, -2.3], [-2.3, 0.1]]])[:, None]
    assert row_level(noise, 2).tolist() == pytest.approx([0.5, 0.1])
    assert row_level(torch.tensor([0.3, 0.1]), 2).tolist() == pytest.approx([0.3, 0.1])
    with pytest.raises(ValueError, match="noise: expected 3 rows"):
        row_level(noise, 3)


def test_elements_are_told_how_far_below_their_row_they_lie():
    x = torch.zeros(1, 3, 2, 2)
    noise = torch.tensor([[0.5, -2.3], [0.5, 0.5]])[None, None]
    found = with_element_level(x, noise)
    assert found.shape == (1, 6, 2, 2)
    torch.testing.assert_close(found[0, 4], torch.tensor([[0.0, -2.8], [0.0, 0.0]]))
    assert not element_level(torch.tensor([0.7]), x).any()


@pytest.mark.parametrize(
    ("arguments", "options", "sentence"),
    [
        ((8,), {"kind": "cosine"}, "kind: expected"),
        ((8,), {"layers": False}, "features: expected the width 8"),
    ],
)
def test_wrong_arguments(arguments, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        NoiseEmbedding(*arguments, **options)


@pytest.mark.parametrize("size", [(6,), (4, 6), (2, 4, 6)])
def test_patches_are_cut_and_put_together_again(size):
    x = torch.randn(2, 3, *size, generator=generator(0))
    tokens = patchify(x, 2)
    assert tokens.shape == (2, math.prod(size) // 2 ** len(size), 3 * 2 ** len(size))
    assert torch.equal(unpatchify(tokens, 2, size), x)


def test_a_patch_holds_its_own_pixels_in_row_order():
    x = torch.arange(2 * 4 * 6.0).reshape(1, 2, 4, 6)
    token = patchify(x, 2)[0, 1 * 3 + 2]  # second row, third column
    assert torch.equal(token, x[0, :, 2:4, 4:6].flatten())


def test_sides_that_the_patch_does_not_divide_are_refused():
    with pytest.raises(ValueError, match=r"multiples of the patch 2, found \(4, 5\)"):
        grid_of((4, 5), 2)


def test_positions_of_another_size_span_the_same_range():
    same = fixed_positions((4, 4), 16)
    torch.testing.assert_close(fixed_positions((4, 4), 16, (4, 4)), same)
    wide = fixed_positions((4, 8), 16, (4, 4)).reshape(4, 8, 16)
    torch.testing.assert_close(wide[:, ::2], same.reshape(4, 4, 16))
    assert coordinates((2, 2)).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    with pytest.raises(ValueError, match="multiple of 4"):
        fixed_positions((4, 4), 18)
