"""Langevin steps: their arithmetic, the law they keep, and three published frameworks that meet in one law."""

import math

import pytest
import torch

from clarkia import samplers, schedules
from clarkia._math.energy import energy_distance, mean_distance
from clarkia.oracles import GaussianMixture
from clarkia.processes import VarianceExploding, VariancePreserving
from clarkia.random import generator, randn
from clarkia.samplers import DDPM, Ancestral, AnnealedLangevin, Euler, PredictorCorrector

MIXTURE = GaussianMixture([0.3, 0.5, 0.2], [[-1.5, 0.5], [1.0, 1.0], [0.3, -1.2]], [0.09, 0.16, 0.25])
VP, VE = VariancePreserving(), VarianceExploding(0.02, 20.0)


@pytest.mark.parametrize("process", [VP, VE], ids=["vp", "ve"])
def test_a_correction_follows_the_gradient_of_the_noisy_density(process):
    x = randn((7, 2), generator(0), dtype=torch.float64)
    t, s = (torch.full((7,), time, dtype=torch.float64) for time in (0.6, 0.4))
    denoise, r = MIXTURE.denoiser(process), 0.3
    solver = PredictorCorrector(Euler(), num_corrections=1, signal_to_noise=r)
    moved, _ = solver.step(denoise, process, x, t, s, None, generator(1))
    ahead, _ = Euler().step(denoise, process, x, t, s, None)
    ahead = ahead.requires_grad_()
    (score,) = torch.autograd.grad(MIXTURE.noisy_log_prob(process, ahead, s).sum(), ahead)
    step = 2 * (r * process.sigma(s[:1])) ** 2
    noise = randn((7, 2), generator(1), dtype=torch.float64)
    torch.testing.assert_close(moved, ahead.detach() + step * score + (2 * step).sqrt() * noise, rtol=1e-12, atol=1e-12)


def test_the_stationary_variance_of_a_normal():
    """Of data N(0, v) the chain is an autoregression whose variance is ``w / (1 - a / 2w)``, ``w = v + sigma^2``.

    200 000 rows; five standard errors of a variance, a false alarm in two million.
    """
    v, n = 0.5, 200_000
    law = GaussianMixture([1.0], [[0.0]], [v])
    t = torch.full((n,), 0.7, dtype=torch.float64)
    sigma = float(VE.sigma(t[:1]))
    w, a = v + sigma**2, 0.6 * sigma**2
    stationary = w / (1 - a / (2 * w))
    start = math.sqrt(stationary) * randn((n, 1), generator(2), dtype=torch.float64)
    solver = AnnealedLangevin(num_corrections=3, step_size=0.6)
    below, _ = solver.step(law.denoiser(VE), VE, start, t, 0.9 * t, None, generator(3))
    assert float(below.var()) == pytest.approx(stationary, rel=5 * math.sqrt(2 / n))


def test_three_frameworks_reach_one_law():
    """Energy distance of 2000 draws from 2000 of the law, the mean of five; of a perfect sampler 2 E|X - X'| / 2000.

    Its largest part is like a chi-square of two degrees, one for each free weight of the modes, whose mean of five
    passes twice its expectation once in thirty; the seed is fixed.
    """
    n = 10_000
    truth = MIXTURE.sample(n, generator=generator(4))
    floor = 2 * float(mean_distance(truth[:2000], truth[:2000])) / 2000
    frameworks = {
        "ancestral on VP": (VP, DDPM(), schedules.log_snr(200, VP)),
        "annealed Langevin on VE": (VE, AnnealedLangevin(60), schedules.log_snr(14, VE)),
        "predictor and corrector on VE": (VE, PredictorCorrector(), schedules.log_snr(100, VE)),
    }
    for name, (process, solver, times) in frameworks.items():
        x = samplers.sample(
            MIXTURE.denoiser(process), process, num_samples=n, shape=(2,), solver=solver, times=times,
            generator=generator(5), dtype=torch.float64,
        )  # fmt: skip
        parts = zip(x.split(2000), truth.split(2000), strict=True)
        assert sum(float(energy_distance(*part)) for part in parts) / 5 < 2 * floor, name


@pytest.mark.parametrize("solver", [PredictorCorrector(), AnnealedLangevin(5)], ids=["corrected", "annealed"])
def test_known_cells_stay(solver):
    x0 = MIXTURE.sample(6, generator=generator(6))
    mask = torch.tensor([[True, False]]).expand(6, 2)
    x = samplers.sample(
        MIXTURE.denoiser(VP), VP, known=(x0, mask), solver=solver, num_steps=5, generator=generator(7),
        dtype=torch.float64,
    )  # fmt: skip
    assert torch.equal(x[:, 0], x0[:, 0])
    assert bool(x.isfinite().all())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PredictorCorrector(num_corrections=0), "num_corrections: expected a positive whole number, found 0"),
        (lambda: PredictorCorrector(signal_to_noise=-1.0), "signal_to_noise: expected a positive number, found -1.0"),
        (lambda: AnnealedLangevin(num_corrections=1.5), "num_corrections"),
        (lambda: AnnealedLangevin(step_size=math.nan), "step_size"),
        (lambda: PredictorCorrector(Ancestral()).init(torch.zeros(2, 1), VP), "Ancestral"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
