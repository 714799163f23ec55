"""Filters of pictures: what each of them keeps and what it deletes, and denoisers that see through them."""

import pytest
import torch

from clarkia import samplers
from clarkia.datasets.shapes import COLOURS, ColouredShapes, Judge
from clarkia.guidance import filters
from clarkia.guidance.filtered import filtered, filtered_rows, lowband
from clarkia.oracles import GaussianMixture
from clarkia.processes import RectifiedFlow
from clarkia.random import generator, randn

FLOW = RectifiedFlow()
SCENES = ColouredShapes(level="colour")


def pictures(n=40):
    return SCENES.images(range(n)).double() / 127.5 - 1


ALL = {
    "grayscale": filters.grayscale,
    "luma": filters.luma,
    "edges": filters.edges,
    "highpass": filters.highpass(1.5),
    "histogram": filters.histogram(pictures(2)[1:]),
    "lowpass": filters.lowpass(1.5),
    "band": filters.band(4),
    "patch_shuffle": filters.patch_shuffle(8, generator(0)),
    "texture": filters.texture(randn((32, 32), generator(1))),
    "mask_fill": filters.mask_fill(torch.ones(32, 32) > 0, 0.25),
    "quantise": filters.quantise(4),
}


@pytest.mark.parametrize("name", ALL)
def test_a_filter_keeps_shape_and_dtype_and_passes_gradients(name):
    x = pictures(3).float().requires_grad_()
    y = ALL[name](x)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    slope = torch.autograd.grad((y * torch.arange(32.0)).sum() + x.sum(), x)[0] - 1
    assert bool(slope.isfinite().all())
    assert bool((slope != 0).any()) == (name not in ("mask_fill", "histogram"))


def test_grey_pictures_tell_no_colour():
    """The judge finds every colour in pictures; in grey ones what it finds depends on the brightness alone.

    A grey as bright as green is nearest to green, and one as bright as white to white, so that these two of the eight
    are right by chance.
    """
    scenes, x = SCENES.scenes(range(200)), pictures(200)
    truth = scenes.colour[:, 0]
    judge = Judge()
    assert (judge(x).colour[:, 0] == truth).all()
    grey = filters.grayscale(x)
    assert torch.equal(grey, grey[:, :1].expand_as(grey))
    found = judge(grey).colour[:, 0]
    assert set(truth[found == truth].tolist()) == {COLOURS.index("green"), COLOURS.index("white")}
    assert (found == truth).mean() < 0.35
    hue = torch.tensor([0.2, -0.2 * 0.299 / 0.587, 0.0], dtype=x.dtype)[:, None, None]
    torch.testing.assert_close(filters.grayscale(x + hue), grey, rtol=0, atol=1e-12)
    torch.testing.assert_close(grey[:, 0], 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2])


@pytest.mark.parametrize("name", ["luma", "band"])
def test_projections_are_orthogonal(name):
    """They are their own square and their own transpose, and the two commute."""
    project, other = ALL[name], ALL["band" if name == "luma" else "luma"]
    x, y = (randn((3, 3, 32, 32), generator(seed), dtype=torch.float64) for seed in (2, 3))
    torch.testing.assert_close(project(project(x)), project(x), rtol=0, atol=1e-12)
    torch.testing.assert_close((project(x) * y).sum(), (x * project(y)).sum())
    torch.testing.assert_close(project(other(x)), other(project(x)), rtol=0, atol=1e-12)


def test_a_band_ends_at_its_cutoff():
    place = torch.arange(32, dtype=torch.float64) / 32
    for periods, kept in ((3, True), (4, True), (5, False)):
        wave = torch.cos(2 * torch.pi * periods * place).expand(1, 1, 32, 32)
        for one in (wave, wave.mT):
            torch.testing.assert_close(filters.band(4)(one), one if kept else torch.zeros_like(one), rtol=0, atol=1e-12)
    slanted = torch.cos(2 * torch.pi * 3 * (place[:, None] + place)).expand(1, 1, 32, 32)  # of length 3 sqrt(2)
    torch.testing.assert_close(filters.band(4)(slanted), torch.zeros_like(slanted), rtol=0, atol=1e-12)


def test_the_brightness_is_kept_where_the_colour_goes():
    x = pictures(4)
    torch.testing.assert_close(filters.grayscale(filters.luma(x)), filters.grayscale(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(filters.grayscale(filters.grayscale(x)), filters.grayscale(x), rtol=0, atol=1e-12)


def test_edges_do_not_feel_a_constant():
    x = pictures(4)
    torch.testing.assert_close(filters.edges(x + 0.3), filters.edges(x), rtol=0, atol=1e-10)
    assert float(filters.edges(torch.full_like(x, 0.7)).max()) < 1.1e-4
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    torch.testing.assert_close(filters.edges(ramp)[0, 0, 1:-1, 1:-1], torch.ones(6, 6))


def test_shuffled_patches_keep_every_point_and_move_it():
    x = pictures(6)
    y = filters.patch_shuffle(4, generator(4))(x)
    assert torch.equal(y.flatten(2).sort(-1).values, x.flatten(2).sort(-1).values)
    together = [sorted(map(tuple, part.flatten(1).T.tolist())) for part in (x[0], y[0])]
    assert together[0] == together[1]  # colours, not channels alone
    assert not torch.equal(x, y)
    cells = torch.nn.functional.unfold(y, 4, stride=4)
    kept = torch.nn.functional.unfold(x, 4, stride=4)
    assert all(bool((cells[0, :, j, None] == kept[0]).all(0).any()) for j in range(64))


def test_a_histogram_is_taken_over_exactly():
    x, reference = pictures(6), randn((1, 3, 32, 32), generator(5), dtype=torch.float64)
    y = filters.histogram(reference)(x)
    assert torch.equal(y.flatten(2).sort(-1).values, reference.flatten(2).sort(-1).values.expand(6, -1, -1))
    first = x[0, 0].flatten()
    brighter = first[:, None] > first[None]
    assert bool((y[0, 0].flatten()[:, None] > y[0, 0].flatten()[None])[brighter].all())


def test_a_texture_has_the_waves_of_its_picture_in_other_places():
    x = pictures(3)
    y = ALL["texture"](x)
    torch.testing.assert_close(torch.fft.rfft2(y).abs(), torch.fft.rfft2(x).abs(), rtol=0, atol=1e-9)
    torch.testing.assert_close(y.mean((2, 3)), x.mean((2, 3)), rtol=0, atol=1e-12)
    assert float((y - x).abs().mean()) > 0.02


def test_a_blur_keeps_the_mean_level_and_a_highpass_is_the_rest():
    flat = torch.full((1, 1, 16, 16), 0.4, dtype=torch.float64)
    torch.testing.assert_close(filters.lowpass(2.0)(flat), flat, rtol=0, atol=1e-7)
    x = pictures(2)
    torch.testing.assert_close(filters.lowpass(2.0)(x) + filters.highpass(2.0)(x), x, rtol=0, atol=1e-12)
    point = torch.zeros(1, 1, 33, 33, dtype=torch.float64)
    point[0, 0, 16, 16] = 1
    spread = filters.lowpass(2.0)(point)[0, 0]
    place = torch.arange(33, dtype=torch.float64) - 16
    # Cut off at three deviations and a half point, a Gaussian has 0.988 of its variance.
    assert float((spread.sum(1) * place**2).sum()) == pytest.approx(4 * 0.988, rel=0.01)
    assert float(spread.sum()) == pytest.approx(1, abs=1e-6)


def test_levels_and_fillings_by_hand():
    x = torch.tensor([[[[-1.0, -0.4, 0.2, 3.0]]]])
    assert filters.quantise(3)(x).flatten().tolist() == [-1, 0, 0, 1]
    region = torch.tensor([[True, False, False, True]])
    assert filters.mask_fill(region, 9.0)(x).flatten().tolist() == [9, pytest.approx(-0.4), pytest.approx(0.2), 9]
    both = filters.compose(filters.quantise(3), filters.mask_fill(region, 9.0))
    assert both(x).flatten().tolist() == [9, 0, 0, 9]


# ------------------------------------------------------------------------------------------------- the denoisers


LAW = GaussianMixture([0.5, 0.5], torch.stack([torch.linspace(-1, 1, 48), torch.zeros(48)]), [0.3, 0.4])


def denoise(x_t, t, condition=None):
    return LAW.denoiser(FLOW)(x_t.flatten(1), t).reshape(x_t.shape)


def test_the_low_band_of_the_forecast_is_the_references():
    x = randn((5, 3, 4, 4), generator(6), dtype=torch.float64)
    reference = randn((3, 4, 4), generator(7), dtype=torch.float64)
    low = filters.band(1)
    guided = lowband(denoise, reference, 1, until=0.5)
    plain, answer = guided.both(x, torch.full((5,), 0.8))
    torch.testing.assert_close(low(answer), low(reference[None]).expand(5, -1, -1, -1), rtol=0, atol=1e-6)
    torch.testing.assert_close(answer - low(answer), plain - low(plain), rtol=0, atol=1e-12)
    late = guided(x, torch.full((5,), 0.49))
    assert torch.equal(late, denoise(x, torch.full((5,), 0.49)))
    grey = lowband(denoise, reference, 1, through=filters.luma)(x, torch.ones(5))
    torch.testing.assert_close(low(filters.luma(grey)), low(filters.luma(reference[None])).expand(5, -1, -1, -1))
    colour = plain.new_tensor([1.0, -0.299 / 0.587, 0.0])  # no brightness
    seen = torch.einsum("nchw,c->nhw", grey - denoise(x, torch.ones(5)), colour)
    torch.testing.assert_close(seen, torch.zeros_like(seen), rtol=0, atol=1e-12)


def test_a_sample_under_the_low_band_all_the_way_has_it():
    reference = randn((3, 4, 4), generator(7), dtype=torch.float64)
    x = samplers.sample(
        lowband(denoise, reference, 1, until=1.0), FLOW, num_samples=4, shape=(3, 4, 4), num_steps=5,
        generator=generator(8), dtype=torch.float64,
    )  # fmt: skip
    low = filters.band(1)
    torch.testing.assert_close(low(x), low(reference[None]).expand(4, -1, -1, -1), rtol=0, atol=1e-6)


def test_conditions_are_seen_through_their_filters():
    def repeat(x_t, t, condition=None):
        return x_t + condition["structure"] + 10 * condition["appearance"]

    x, t = torch.zeros(2, 3, 8, 8), torch.tensor([0.25, 1.0])
    cues = {"structure": torch.rand(2, 3, 8, 8), "appearance": torch.rand(2, 3, 8, 8)}
    half = filters.mask_fill(torch.ones(8, 8) > 0, 0.5)
    plain, seen = filtered(repeat, {"structure": half}).both(x, t, cues)
    assert torch.equal(plain, repeat(x, t, cues))
    assert torch.equal(seen, 0.5 + 10 * cues["appearance"])
    growing = filtered(repeat, {"structure": half}, strength=lambda t: t)(x, t, cues)
    expected = torch.stack([0.75 * cues["structure"][0] + 0.125, torch.full((3, 8, 8), 0.5)])
    torch.testing.assert_close(growing, expected + 10 * cues["appearance"])
    with pytest.raises(ValueError, match="condition: expected appearance to filter"):
        filtered(repeat, {"appearance": half})(x, t, {"structure": x})


def test_training_shows_some_rows_filtered():
    """About 300 of 1000 rows: four standard errors are 58."""
    cues = {"structure": torch.rand(1000, 1, 2, 2), "label": torch.arange(1000)}
    shown = filtered_rows(cues, {"structure": lambda x: x + 5}, 0.3, generator(9))
    changed = (shown["structure"] > 4).flatten(1)
    assert torch.equal(changed.all(1), changed.any(1))
    assert abs(int(changed[:, 0].sum()) - 300) < 58
    assert torch.equal(shown["label"], cues["label"])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: filters.quantise(1), "levels"),
        (lambda: filters.lowpass(0), "sigma"),
        (lambda: filters.patch_shuffle(5)(torch.zeros(1, 3, 8, 8)), "patch"),
        (lambda: filters.grayscale(torch.zeros(1, 2, 8, 8)), "pictures"),
        (lambda: lowband(denoise, torch.zeros(3, 4, 4), 1, until=2.0), "until"),
    ],
)
def test_wrong_arguments_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
