import pytest
import torch
from scipy.stats import chisquare, kstest

from clarkia.random import RowBlocks, categorical, choose, generator, rand, randn


@pytest.mark.parametrize(("start", "rows"), [(0, 1), (0, 2500), (1020, 10), (1024, 1024), (2000, 1)])
def test_a_row_of_noise_does_not_depend_on_the_batch(start, rows):
    whole, part = RowBlocks(7, 0, 4000), RowBlocks(7, start, rows)
    for _ in range(3):
        expected = randn((4000, 3), whole)[start : start + rows]
        assert torch.equal(randn((rows, 3), part), expected)
        assert torch.equal(rand((rows,), part), rand((4000,), whole)[start : start + rows])


def test_rows_of_any_numbers_have_the_noise_of_the_whole():
    rows = torch.tensor([3000, 1, 1023, 1024, 1, 2999])
    whole, some = RowBlocks(7, 0, 4000), RowBlocks.at(7, rows)
    for _ in range(2):
        assert torch.equal(randn((6, 3), some), randn((4000, 3), whole)[rows])
    assert randn((0, 3), RowBlocks.at(7, rows[:0])).shape == (0, 3)


def test_blocks_and_seeds_are_independent():
    noise = randn((2048, 1), RowBlocks(0, 0, 2048))
    other = randn((2048, 1), RowBlocks(1, 0, 2048))
    assert not torch.equal(noise[:1024], noise[1024:])
    assert not torch.equal(noise, other)
    assert kstest(noise.flatten().numpy(), "norm").pvalue > 1e-4  # false alarm 1e-4
    assert abs(float((noise[:1024] * noise[1024:]).mean())) < 4 / 32


def test_derived_generators_are_functions_of_their_path():
    first = [float(torch.rand(1, generator=generator(3, epoch))) for epoch in range(3)]
    assert first == [float(torch.rand(1, generator=generator(3, epoch))) for epoch in range(3)]
    assert len({*first, float(torch.rand(1, generator=generator(4, 0)))}) == 4


def test_uniforms_are_float64_and_normals_as_asked():
    assert rand((4,), generator(0)).dtype == torch.float64
    assert randn((4,), generator(0), dtype=torch.float64).dtype == torch.float64
    assert randn((4,)).dtype == torch.get_default_dtype()


def test_categorical_draws_follow_their_probabilities():
    p = torch.tensor([0.5, 0.0, 0.3, 0.2])
    draws = categorical(p.log().expand(100_000, 4), generator(1))
    counts = torch.bincount(draws, minlength=4)
    assert counts[1] == 0
    assert chisquare(counts[p > 0].numpy(), (p[p > 0].double() / p.double().sum() * 100_000).numpy()).pvalue > 1e-4


def test_tiny_probabilities_are_drawn_as_often_as_they_should():
    """A float32 Gumbel race cannot draw below about 1e-7; the float64 cumulative distribution can."""
    tiny = 1e-9
    log_probs = torch.tensor([tiny, 1 - tiny], dtype=torch.float64).log()
    uniforms = torch.tensor([0.0, 0.5e-9, 0.999e-9, 1.001e-9, 0.5], dtype=torch.float64)
    assert choose(log_probs.expand(5, 2), uniforms).tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("last", [1 - 2.0**-53, 1.0])
def test_no_uniform_number_reaches_past_the_last_possible_class(last):
    last = torch.tensor(last, dtype=torch.float64)
    probabilities = torch.rand(10_000, 7, generator=generator(2), dtype=torch.float64)
    probabilities[:, -2:] = 0
    draws = choose(probabilities.log() - probabilities.sum(1, keepdim=True).log(), last.expand(10_000))
    assert int(draws.max()) == 4
    assert choose(torch.tensor([[-torch.inf, 0.0]]), torch.zeros(1, dtype=torch.float64)).tolist() == [1]


@pytest.mark.parametrize("bad", [torch.nan, -torch.inf])
def test_a_distribution_without_mass_is_refused(bad):
    with pytest.raises(ValueError, match="finite positive mass"):
        categorical(torch.full((2, 3), bad), generator(0))


def test_wrong_uses_of_row_blocks_are_refused():
    with pytest.raises(ValueError, match="expected 3 rows"):
        randn((4, 2), RowBlocks(0, 0, 3))
    with pytest.raises(ValueError, match="block >= 1"):
        RowBlocks(0, 0, 3, block=0)
