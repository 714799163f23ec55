"""The bound of Gaussian and mixed processes against closed forms, and the honesty of its errors."""

import itertools
import math

import pytest
import torch
from scipy import stats

from clarkia import measures, schedules
from clarkia.measures.likelihood.gaussian import _bin_log_mass
from clarkia.oracles import GaussianMixture, MixedJoint
from clarkia.processes import (
    EDM,
    Masked,
    Mixed,
    RectifiedFlow,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
)
from clarkia.random import RowBlocks, generator

PROCESSES = {
    "vp-linear": VariancePreserving(),
    "vp-cosine": VariancePreserving("cosine"),
    "sub-vp": SubVariancePreserving(),
    "edm": EDM,
    "flow": RectifiedFlow(),
    "per-column": VarianceExploding(rho=torch.tensor([5.5, 9.0], dtype=torch.float64)),
}
SHORT = VarianceExploding(sigma_min=0.1, sigma_max=1.5)  # its prior and its reconstruction cost something
MEAN = torch.tensor([0.4, -1.1], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.6, 0.35], [0.35, 0.5]], dtype=torch.float64)
LAW = GaussianMixture([1.0], MEAN[None], COVARIANCE[None])
STANDARD = GaussianMixture([1.0], [[0.0, 0.0]], [1.0])


@pytest.fixture(params=PROCESSES.values(), ids=PROCESSES.keys())
def process(request):
    return request.param


def test_the_bound_of_an_exact_denoiser_is_the_log_density(process):
    """Beyond its error only what a prior without the data's mean (sigma_max = 80, alpha_1 = 0.0066) and kappa = 0.002
    cost, below 3e-4 nats for these points."""
    points = torch.tensor([[0.4, -1.1], [1.5, 0.2], [-0.8, -1.0]], dtype=torch.float64)
    found = measures.elbo(LAW.denoiser(process), process, points.repeat(4000, 1), generator=generator(0))
    assert found.kind == "bound"
    nats, error = (part.reshape(4000, 3) for part in (found.nats, found.standard_error))
    gap = nats.mean(0) - LAW.log_prob(points)
    of_mean = error.square().sum(0).sqrt() / 4000
    assert bool((gap.abs() < 4 * of_mean + 3e-4).all())  # four standard errors, three points: false alarm 2e-4
    assert float(of_mean.max()) < 0.02


def test_standard_errors_are_honest(process):
    """Over 400 replicates of one row the spread is the root mean square of the errors that they state."""
    x = torch.tensor([[1.5, 0.2]], dtype=torch.float64).expand(400, 2)
    for num_steps in (None, 12):
        found = measures.elbo(LAW.denoiser(process), process, x, num_steps=num_steps, generator=generator(1))
        stated = float(found.standard_error.square().mean().sqrt())
        assert float(found.nats.std()) == pytest.approx(stated, rel=0.2)


def expected_bound(process, x, nodes):
    """The T-step bound of ``N(MEAN, COVARIANCE)`` with its exact denoiser, every expectation over the noise in closed
    form: ``x - x0_hat = (1 - alpha G)(x - mean) - sigma G eps`` with the gain ``G = alpha C (alpha^2 C + sigma^2)^-1``.
    """
    total = torch.zeros((), dtype=torch.float64)
    eye = torch.eye(2, dtype=torch.float64)

    def scales(t):
        return [part.expand(1, 2)[0] for part in process.coefficients(t[None], x[None])]

    for t, s in itertools.pairwise(nodes):
        (alpha, sigma), (alpha_s, sigma_s) = scales(t), scales(s)
        cross = COVARIANCE * alpha
        gain = cross @ torch.linalg.inv(alpha[:, None] * cross + torch.diag(sigma**2))
        bias = (eye - gain * alpha) @ (x - MEAN)
        error = bias**2 + (gain * sigma).square().sum(1)
        total += (0.5 * ((alpha_s / sigma_s) ** 2 - (alpha / sigma) ** 2) * error).sum()
    (alpha, sigma), (alpha_0, sigma_0) = scales(nodes[0]), scales(nodes[-1])
    prior = 0.5 * ((alpha / sigma * x) ** 2).sum()
    reconstruction = -(0.5 + 0.5 * math.log(2 * math.pi) + (sigma_0 / alpha_0).log()).sum()
    return float(reconstruction - prior - total)


@pytest.mark.parametrize("steps", [1, 4, 25])
@pytest.mark.parametrize("process", [*PROCESSES.values(), SHORT], ids=[*PROCESSES, "short"])
def test_the_t_step_bound_by_closed_form(process, steps):
    x = torch.tensor([1.5, 0.2], dtype=torch.float64)
    exact = expected_bound(process, x, schedules.log_snr(steps + 1, process)[:-1])
    rows = x.expand(400, 2)
    found = measures.elbo(LAW.denoiser(process), process, rows, num_draws=8, num_steps=steps, generator=generator(2))
    assert found.kind == "T-step bound"
    assert abs(found.mean - exact) < 4 * found.mean_standard_error + 1e-9  # false alarm 6e-5


def test_the_sum_over_steps_converges_to_the_integral():
    """For a standard normal nothing is left to draw, so that bounds are exact: their gap halves as T doubles."""
    process = RectifiedFlow()
    x = STANDARD.sample(5, generator=generator(3))

    def bound(num_steps=None):
        found = measures.elbo(STANDARD.denoiser(process), process, x, num_draws=2, num_steps=num_steps)
        assert float(found.standard_error.max()) < 1e-10
        return found.nats

    limit = bound()
    torch.testing.assert_close(limit, STANDARD.log_prob(x), rtol=0, atol=1e-4)
    gaps = torch.stack([limit - bound(steps) for steps in (64, 128, 256)])
    assert bool((gaps > 0).all())
    torch.testing.assert_close(gaps[:-1] / gaps[1:], torch.full((2, 5), 2.0).double(), rtol=0.06, atol=0)


def test_a_wrong_denoiser_pays_for_it():
    process = RectifiedFlow()
    x = LAW.sample(200, generator=generator(4))
    right = measures.elbo(LAW.denoiser(process), process, x, generator=generator(5))
    wrong = measures.elbo(STANDARD.denoiser(process), process, x, generator=generator(5))
    assert wrong.mean < right.mean - 0.2
    assert wrong.mean == pytest.approx(float(STANDARD.log_prob(x).mean()), abs=1e-3)


@pytest.mark.parametrize("half", [1e-3, 0.5, 2.0, 8.0, 60.0])
def test_the_mass_of_a_bin_under_the_decoder(half):
    z = torch.linspace(-9, 9, 200_001, dtype=torch.float64)
    log_mass = stats.norm.logsf((z.abs() - half).numpy())  # P(|z| - half < Z)
    log_mass = log_mass + torch.log1p(-torch.from_numpy(stats.norm.sf((z.abs() + half).numpy()) / stats.norm.sf(
        (z.abs() - half).numpy()))).numpy()  # fmt: skip
    expected = torch.trapezoid(torch.from_numpy(log_mass * stats.norm.pdf(z.numpy())), z)
    found = _bin_log_mass(torch.tensor([half], dtype=torch.float64))[0]
    assert float(found) == pytest.approx(float(expected), rel=1e-6, abs=1e-12)


def test_discretised_data_are_bounded_by_the_mass_of_their_bin():
    """Numbers rounded to a grid of 0.1: below the bin's log-probability, by less than 0.3 nats a dimension."""
    width = 0.1
    process = VarianceExploding(sigma_min=0.35 * width, sigma_max=300.0)
    x = (STANDARD.sample(50, generator=generator(6)) / width).round() * width
    found = measures.elbo(
        STANDARD.denoiser(process), process, x, num_draws=2, reconstruction="discretised", bin_width=width
    )
    mass = torch.special.ndtr(x + width / 2) - torch.special.ndtr(x - width / 2)
    gap = mass.log().sum(1) - found.nats
    assert float(gap.min()) > 0
    assert float(gap.max()) < 2 * 0.3
    plain = measures.elbo(STANDARD.denoiser(process), process, x, num_draws=2)
    least = process.sigma(schedules.log_snr(2, process)[1:2])
    swap = 0.5 + 0.5 * math.log(2 * math.pi) + least.log() + _bin_log_mass(0.5 * width / least)
    torch.testing.assert_close(found.nats - plain.nats, 2 * swap.expand(50), rtol=0, atol=1e-6)


def test_a_mixed_bound_is_the_log_density():
    oracle = MixedJoint([0.5, 0.3, 0.2], [[-1.5], [0.3], [1.6]], 0.35**2)
    numeric, levels = oracle.space.blocks
    process = Mixed.from_blocks({numeric: EDM, levels: Masked((3,))})
    x = {numeric: torch.tensor([[-1.2], [0.5], [0.5]]).double(), levels: torch.tensor([[0], [1], [2]])}
    many = {name: block.repeat(1000, 1) for name, block in x.items()}
    found = measures.elbo(oracle.denoiser(process), process, many, num_draws=64, generator=generator(7))
    nats, error = (part.reshape(1000, 3) for part in (found.nats, found.standard_error))
    of_mean = error.square().sum(0).sqrt() / 1000
    # 2e-4 nats is what sigma_max = 80 and sigma_min = 0.002 cost; false alarm 2e-4.
    assert bool(((nats.mean(0) - oracle.log_prob(x)).abs() < 4 * of_mean + 2e-4).all())
    assert float(of_mean.max()) < 0.05
    spread = nats.std(0) / error.square().mean(0).sqrt()
    torch.testing.assert_close(spread, torch.ones(3).double(), rtol=0.25, atol=0)


def test_a_seeded_row_is_the_same_in_any_batch():
    process = RectifiedFlow()
    x = LAW.sample(6, generator=generator(8))
    whole = measures.elbo(LAW.denoiser(process), process, x, generator=RowBlocks(3, 0, 6))
    part = measures.elbo(LAW.denoiser(process), process, x[2:5], generator=RowBlocks(3, 2, 3))
    torch.testing.assert_close(part.nats, whole.nats[2:5], rtol=0, atol=1e-10)
    torch.testing.assert_close(part.standard_error, whole.standard_error[2:5], rtol=0, atol=1e-10)
