"""The noise profile of denoisers whose excess is known."""

import math

import pytest
import torch

from clarkia.measures.noise_profile import noise_profile
from clarkia.oracles import GaussianMixture
from clarkia.processes import EDM, VariancePreserving
from clarkia.random import generator

VP = VariancePreserving()
NORMAL = GaussianMixture([1.0], [[0.0, 0.0]], [0.5])
LEVELS = torch.tensor([-3.0, -1.0, 0.0, 2.0], dtype=torch.float64)


def test_the_exact_denoiser_has_no_excess_and_its_floor_is_the_posterior_variance():
    profile = noise_profile(NORMAL.denoiser(VP), NORMAL, VP, LEVELS, num_samples=50_000, generator=generator(0))
    assert float(profile.excess.max()) == 0.0
    s = LEVELS.exp()
    exact = 0.5 / (0.5 + s**2)  # the posterior variance over s^2
    torch.testing.assert_close(profile.floor, exact, rtol=4 / math.sqrt(50_000), atol=0)


@pytest.mark.parametrize("process", [VP, EDM])
@pytest.mark.parametrize(("weight", "factor"), [("x0", lambda s: 1.0 + 0 * s), ("eps", lambda s: s**-2)])
def test_a_constant_error_is_seen_through_the_floor(process, weight, factor):
    exact = NORMAL.denoiser(process)
    profile = noise_profile(
        lambda x_t, t: exact(x_t, t) + 1e-3,
        NORMAL,
        process,
        LEVELS,
        weight=weight,
        num_samples=100,
        generator=generator(1),
    )
    torch.testing.assert_close(profile.excess, 1e-6 * factor(LEVELS.exp()), rtol=1e-9, atol=0)
    assert float(profile.standard_error.max()) < 1e-12


def test_a_scaled_denoiser_and_its_standard_error():
    exact = NORMAL.denoiser(VP)
    profile = noise_profile(
        lambda x_t, t: 0.9 * exact(x_t, t), NORMAL, VP, LEVELS, weight="x0", num_samples=20_000, generator=generator(2)
    )
    s = LEVELS.exp()
    expected = 0.01 * 0.25 / (0.5 + s**2)
    assert bool(((profile.excess - expected).abs() < 4 * profile.standard_error).all())
    mean, error = profile.over(-4.0, 0.0)
    assert mean == pytest.approx(float(profile.excess[:2].mean()))
    assert 0 < abs(mean - float(expected[:2].mean())) < 4 * error
    with pytest.raises(ValueError, match="some level"):
        profile.over(5.0, 6.0)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"weight": "snr"}, "weight"), ({"levels": torch.tensor([20.0])}, "reaches"), ({"levels": LEVELS[None]}, "list")],
)
def test_wrong_arguments(wrong, words):
    arguments = {"levels": LEVELS} | wrong
    with pytest.raises(ValueError, match=words):
        noise_profile(NORMAL.denoiser(VP), NORMAL, VP, **arguments)


def test_a_denoiser_of_a_wrong_shape_is_refused():
    with pytest.raises(ValueError, match="shape"):
        noise_profile(lambda x_t, t: x_t[:, :1], NORMAL, VP, LEVELS)
