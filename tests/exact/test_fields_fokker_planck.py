"""The Fokker-Planck residual of exact and of wrong fields, and the gap between their two samplers."""

import math

import pytest
import torch
from wrong_fields import HORIZON, OrnsteinUhlenbeck, quarter_turn, scaled, turned

from clarkia import measures, schedules
from clarkia.oracles import GaussianMixture
from clarkia.processes import EDM, RectifiedFlow, VarianceExploding, VariancePreserving
from clarkia.random import generator

PROCESSES = {
    "vp-linear": VariancePreserving(),
    "vp-cosine": VariancePreserving("cosine"),
    "edm": EDM,
    "per-column": VarianceExploding(rho=torch.tensor([5.0, 7.0, 9.0], dtype=torch.float64)),
    "flow": RectifiedFlow(),
    "ou": OrnsteinUhlenbeck(),
}
MIXTURE = GaussianMixture(
    [0.3, 0.5, 0.2],
    [[-1.5, 0.5, 0.0], [1.0, 1.0, -1.0], [0.3, -1.2, 0.4]],
    [
        torch.eye(3).tolist(),
        [[0.5, 0.3, 0.0], [0.3, 0.5, 0.1], [0.0, 0.1, 0.3]],
        torch.diag(torch.tensor([0.1, 0.2, 0.3])).tolist(),
    ],
)


@pytest.fixture(params=PROCESSES.values(), ids=PROCESSES.keys())
def point(request):
    """A process, 40 noisy states of the mixture and their times."""
    t = torch.linspace(0.05, 0.98, 40, dtype=torch.float64)
    x_0 = MIXTURE.sample(40, generator=generator(0))
    return request.param, request.param.corrupt(x_0, t, generator=generator(1)), t


def test_mixtures_obey_the_equation(point):
    """Relative to the size of the terms that cancel: the score's change in time."""
    process, x_t, t = point
    denoise = MIXTURE.denoiser(process)
    h = 1e-6
    score = [process.score(x_t, denoise(x_t, time), time) for time in (t - h, t + h)]
    size = ((score[1] - score[0]) / (2 * h)).norm(dim=1, keepdim=True)
    residual = measures.fokker_planck_residual(denoise, process, x_t, t)
    assert float((residual / (1 + size)).abs().max()) < 1e-8
    potential = measures.potential_residual(lambda x, time: MIXTURE.noisy_log_prob(process, x, time), process, x_t, t)
    assert float((potential / (1 + size.squeeze(1))).abs().max()) < 1e-8


def test_a_wrong_field_does_not(point):
    process, x_t, t = point
    for wrong in (scaled(MIXTURE.denoiser(process), process, 1.05), lambda x, time: 0.5 * x):
        residual = measures.fokker_planck_residual(wrong, process, x_t, t)
        assert float(residual.norm(dim=1).min()) > 1e-6


def test_the_scalar_residual_is_the_vector_one_integrated(point):
    """For a potential that is no log-density of the process, the gradient of one is the other."""
    process, x_t, t = point

    def potential(x, time):
        return MIXTURE.noisy_log_prob(process, x, time) + torch.sin(x.sum(1)) * time

    def denoise(x, time):
        slope = torch.func.grad(lambda point: potential(point, time).sum())(x)
        return process.x0_from_score(x, slope, time)

    vector = measures.fokker_planck_residual(denoise, process, x_t, t)
    h = 1e-5
    for column in range(3):
        ends = []
        for sign in (1, -1):
            moved = x_t.clone()
            moved[:, column] += sign * h
            ends.append(measures.potential_residual(potential, process, moved, t))
        slope = (ends[0] - ends[1]) / (2 * h)
        torch.testing.assert_close(vector[:, column], slope, rtol=1e-5, atol=1e-5 * float(vector.abs().max()))


def test_random_directions_give_the_residual_on_average():
    process, t = VariancePreserving(), torch.full((1,), 0.5, dtype=torch.float64)
    wrong = scaled(MIXTURE.denoiser(process), process, 1.3)
    x_t = torch.tensor([[0.5, -0.3, 0.8]], dtype=torch.float64)
    exact = measures.fokker_planck_residual(wrong, process, x_t, t)
    draws = measures.fokker_planck_residual(wrong, process, x_t.expand(1000, 3), t, probes=2, generator=generator(2))
    # four standard errors in three columns: false alarm 2e-4
    assert bool(((draws.mean(0) - exact).abs() < 4 * draws.std(0) / 1000**0.5).all())
    assert float(draws.std()) > 1e-3


@pytest.mark.parametrize("e", [0.05, 0.1, 0.2])
def test_the_linear_field(e):
    """``s = -(1 + e) x / V`` leaves ``-e (1 + e) x^2 / (2 V^2)`` by unit of tau, with V the true variance."""
    process, v0 = OrnsteinUhlenbeck(), 0.2
    x_t = torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(-1, 1)
    for t in (0.05, 0.3, 0.9):
        variance = v0 * math.exp(-2 * HORIZON * t) + 0.5 * (1 - math.exp(-2 * HORIZON * t))

        def potential(x, time):
            v = v0 * torch.exp(-2 * HORIZON * time) - 0.5 * torch.expm1(-2 * HORIZON * time)
            return -(1 + e) * x.squeeze(1) ** 2 / (2 * v)

        found = measures.potential_residual(potential, process, x_t, t) / HORIZON
        coefficient = found - found[4]  # what is left at x = 0 is a function of time alone
        expected = -0.5 * e * (1 + e) / variance**2 * x_t.squeeze(1) ** 2
        torch.testing.assert_close(coefficient, expected, rtol=1e-8, atol=1e-9)
        denoise = scaled(GaussianMixture([1.0], [[0.0]], [v0]).denoiser(process), process, 1 + e)
        vector = measures.fokker_planck_residual(denoise, process, x_t, t).squeeze(1) / HORIZON
        torch.testing.assert_close(vector, -e * (1 + e) / variance**2 * x_t.squeeze(1), rtol=1e-8, atol=1e-9)


def grid(steps):
    return schedules.log_snr(steps, OrnsteinUhlenbeck(), kappa_min=0.01)


REFERENCE = {0.05: (0.3404, 0.4264), 0.1: (0.2591, 0.4083), 0.2: (0.1501, 0.3780)}


@pytest.mark.parametrize(("e", "expected"), REFERENCE.items(), ids=[str(e) for e in REFERENCE])
def test_the_gap_of_the_linear_field(e, expected):
    """Both laws are normal with known standard deviations; the data's is 0.4472."""
    process, n = OrnsteinUhlenbeck(), 3000
    oracle = GaussianMixture([1.0], [[0.0]], [0.2])
    denoise, data = scaled(oracle.denoiser(process), process, 1 + e), oracle.sample(n, generator=generator(3))
    found = measures.ode_sde_gap(
        denoise, process, data=data, times=grid(100), num_bins=4,
        generator=generator(4),
    )  # fmt: skip
    # Standard error of a standard deviation is 1 / sqrt(2 n), 1.1 %; four of them in six numbers: false alarm 4e-4.
    assert float(found.ode.std()) == pytest.approx(expected[0], rel=4 / (2 * n) ** 0.5)
    assert float(found.sde.std()) == pytest.approx(expected[1], rel=4 / (2 * n) ** 0.5)
    # Two normal laws with the samples' own spreads: the energy distance in closed form, within three floors.
    ode, sde, real = (float(points.std()) for points in (found.ode, found.sde, data))
    for value, one, other in (
        (found.ode_sde, ode, sde),
        (found.ode_data, ode, real),
        (found.sde_data, sde, real),
    ):
        closed = 2 / math.sqrt(2 * math.pi) * (2 * math.hypot(one, other) - math.sqrt(2) * (one + other))
        assert abs(value - closed) < 0.05 * closed + 3 * found.floor
    assert bool((found.relative_residual > 0.01).all())


def test_the_deterministic_law_of_the_linear_field_to_four_digits():
    """The flow multiplies every start by one number: standard deviation over that of the prior, without noise."""
    process = OrnsteinUhlenbeck()
    oracle = GaussianMixture([1.0], [[0.0]], [0.2])
    for e, (expected, _) in REFERENCE.items():
        denoise = scaled(oracle.denoiser(process), process, 1 + e)
        found = measures.ode_sde_gap(
            denoise, process, data=oracle.sample(3, generator=generator(5)), times=grid(250), num_bins=1,
            points_per_bin=1, generator=generator(6),
        )  # fmt: skip
        factors = found.ode / found.starts
        assert float(factors.std()) < 1e-10
        true = 0.2 * math.exp(-2 * HORIZON) + 0.5 * (1 - math.exp(-2 * HORIZON))
        assert float(factors.mean()) * true**0.5 == pytest.approx(expected, abs=1e-4)


def test_an_exact_field_has_no_gap():
    process = VariancePreserving()
    oracle = GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.5]], [0.1, 0.2])
    data = oracle.sample(1500, generator=generator(7))
    found = measures.ode_sde_gap(
        oracle.denoiser(process), process, data=data, num_samples=1000, num_steps=60, num_bins=5, points_per_bin=20,
        generator=generator(8),
    )  # fmt: skip
    assert found.times.shape == found.residual.shape == (5,)
    assert float(found.relative_residual.max()) < 1e-8
    assert found.ode.shape == found.sde.shape == (1000, 2)
    # Under equality the distance is a sum of chi-squares with mean the floor: beyond four floors has chance below 1e-3.
    assert max(found.ode_sde, found.ode_data, found.sde_data) < 4 * found.floor


def test_a_rotation_leaves_a_residual_but_no_gap():
    """The residual sees the whole field; the laws see its gradient part alone."""
    process = VariancePreserving()
    oracle = GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.5]], [0.1, 0.2])
    found = measures.ode_sde_gap(
        turned(oracle.denoiser(process), process, quarter_turn(0.5)), process,
        data=oracle.sample(1500, generator=generator(9)), num_steps=80, num_bins=3, points_per_bin=20,
        generator=generator(10),
    )  # fmt: skip
    assert float(found.relative_residual.max()) > 1e-3
    assert found.ode_data < 4 * found.floor
