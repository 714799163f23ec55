"""Annealed likelihoods in continuous time: every term of the weights, and the mixture whose posterior is known."""

import math
from itertools import pairwise

import pytest
import torch

from clarkia import measures, schedules, steering
from clarkia.operators import Dense, Nonlinear
from clarkia.oracles import GaussianMixture
from clarkia.processes import RectifiedFlow, VarianceExploding, VariancePreserving
from clarkia.random import generator, randn
from clarkia.steering.afdps_sde import AnnealedDiffusion, AnnealedLikelihood

MATRIX = torch.tensor([[1.0, 0.5], [0.3, -0.8], [0.2, 0.1]], dtype=torch.float64)
Y = torch.tensor([0.6, -0.2, 0.4], dtype=torch.float64)
LINEAR = AnnealedLikelihood(Dense(MATRIX), Y, 0.3, gamma=1.5)
BENT = AnnealedLikelihood(Nonlinear(lambda z: torch.sin(z) * z[:, :1], (2,)), torch.tensor([[0.3, -0.1]]), 0.4)
MIXTURE = GaussianMixture(
    [0.5, 0.3, 0.2], [[-2.0, 0.0], [2.0, 1.0], [0.0, -3.0]],
    [[[0.5, 0.2], [0.2, 0.3]], [[0.2, 0.0], [0.0, 0.6]], [[0.4, -0.1], [-0.1, 0.2]]],
)  # fmt: skip


@pytest.mark.parametrize("likelihood", [LINEAR, BENT], ids=["linear", "bent"])
def test_the_derivatives_of_the_path(likelihood):
    z = randn((5, 2), generator(0), dtype=torch.float64).requires_grad_()
    kappa = torch.tensor([0.0, 0.1, 0.5, 2.0, 9.0], dtype=torch.float64, requires_grad=True)
    value = likelihood.value(z, kappa)
    gradient, slope = torch.autograd.grad(value.sum(), (z, kappa))
    torch.testing.assert_close(likelihood.gradient(z, kappa).detach(), gradient, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(likelihood.slope(z, kappa).detach(), slope, rtol=1e-10, atol=1e-10)
    hessians = torch.stack(
        [
            torch.autograd.functional.hessian(lambda p, k=k: likelihood.value(p[None], k[None])[0], point)
            for point, k in zip(z.detach(), kappa.detach(), strict=True)
        ]
    )
    exact = hessians.diagonal(dim1=1, dim2=2).sum(1)
    many = AnnealedLikelihood(
        likelihood.operator, likelihood.y, likelihood.noise_std, likelihood.gamma, num_probes=2000
    )
    tolerance = 1e-10 if likelihood is LINEAR else 0.1 * float(exact.abs().max())
    found = many.laplacian(z.detach(), kappa.detach(), generator(1))
    torch.testing.assert_close(found, exact, rtol=1e-10, atol=tolerance)


def test_at_no_noise_the_path_ends_at_the_likelihood():
    z = randn((5, 2), generator(2), dtype=torch.float64)
    exact = torch.distributions.Normal(z @ MATRIX.T, 0.3).log_prob(Y).sum(1)
    torch.testing.assert_close(-LINEAR.value(z, torch.zeros(5)), exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 1.5])
def test_the_stiff_drift_is_integrated_exactly(gamma):
    """Against 10 000 Euler steps of ``dz = -2 eta kappa dV/dz dtau``, down to a likelihood thirty times as stiff."""
    likelihood = AnnealedLikelihood(Dense(MATRIX), Y, 0.3, gamma)
    z = randn((4, 2), generator(3), dtype=torch.float64)
    start, end = (torch.full((4,), level, dtype=torch.float64) for level in (2.0, 0.4))
    moved, steps = z, 10_000
    levels = torch.linspace(2.0, 0.4, steps + 1, dtype=torch.float64)
    for high, low in pairwise(levels):
        middle = ((high + low) / 2).expand(4)
        moved = moved - 2 * 0.7 * middle[:, None] * (high - low) * likelihood.gradient(moved, middle)
    found = likelihood.drifted(z, start, end, 0.7)
    torch.testing.assert_close(found, moved, rtol=1e-3, atol=2e-4)
    half = likelihood.drifted(likelihood.drifted(z, start, end, 0.7, 0.5), start, end, 0.7, 0.5)
    torch.testing.assert_close(half, found, rtol=1e-12, atol=1e-12)


def test_a_small_step_of_a_bent_drift_is_along_its_gradient():
    z = randn((4, 2), generator(4), dtype=torch.float64)
    start, end = (torch.full((4,), level, dtype=torch.float64) for level in (0.5, 0.5 - 1e-6))
    moved = BENT.drifted(z, start, end, 1.0)
    torch.testing.assert_close((moved - z) / 1e-6, -2 * 0.5 * BENT.gradient(z, start), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("matrix", [MATRIX, MATRIX[:1]], ids=["too many rows", "one row"])
def test_the_start_is_exact(matrix):
    """Draws of the prior become draws of prior times likelihood, and weigh its normaliser."""
    y, level = Y[: len(matrix)], 1.7
    likelihood = AnnealedLikelihood(Dense(matrix), y, 0.3, 1.2)
    kappa = torch.full((3,), level, dtype=torch.float64)
    noise = torch.cat([torch.zeros(1, 2), torch.eye(2)]).double()
    moved, log_weight = likelihood.start(noise, kappa)
    root = (moved[1:] - moved[0]).T * level
    std = float(likelihood.variance(kappa)[0] ** 0.5)
    truth = GaussianMixture([1.0], [[0.0, 0.0]], [level**2]).posterior(matrix, y, std)
    torch.testing.assert_close(moved[0], truth.mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(root @ root.T, truth.covariance, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(log_weight, truth.log_z.expand(3), rtol=1e-9, atol=1e-9)


def test_a_bent_start_weighs_the_likelihood():
    z, kappa = randn((4, 2), generator(5), dtype=torch.float64), torch.full((4,), 2.0, dtype=torch.float64)
    moved, log_weight = BENT.start(z, kappa)
    assert torch.equal(moved, z)
    assert torch.equal(log_weight, -BENT.value(z, kappa))


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_the_rate_of_the_weights_is_that_of_the_evidence(eta, gamma):
    """Averaged over the path's law at a level, the rate is ``d log Z / d tau``: exact on a grid, for a normal prior."""
    s2, mean, a = 0.8, 0.7, 1.3
    law = GaussianMixture([1.0], [[mean]], [s2])
    likelihood = AnnealedLikelihood(Dense([[a]]), torch.tensor([0.4], dtype=torch.float64), 0.5, gamma)
    process = VarianceExploding(0.01, 20.0)
    level = torch.tensor([0.9], dtype=torch.float64)
    t = process.t_of_kappa(level)
    z = torch.linspace(-9, 9, 4001, dtype=torch.float64)[:, None]
    log_law = -0.5 * (z[:, 0] - mean) ** 2 / (s2 + level**2) - likelihood.value(z, level.expand(len(z)))
    share = log_law.softmax(0)
    move = AnnealedDiffusion(likelihood, eta)
    x0_hat = law.denoiser(process)(z, t.expand(len(z)))
    rate = share @ move._rate(z, level.expand(len(z)), x0_hat, None)

    def log_z(kappa):
        width = a**2 * (s2 + kappa**2) + likelihood.variance(kappa)
        return -0.5 * ((0.4 - a * mean) ** 2 / width + torch.log(2 * math.pi * width))

    point = level.clone().requires_grad_()
    (slope,) = torch.autograd.grad(log_z(point).sum(), point)
    assert float(rate) == pytest.approx(-float(slope), rel=1e-9, abs=1e-10)


def steered(likelihood, process, *, n=4000, steps=400, eta=1.0, law=MIXTURE, seed=6, times=None):
    parts = likelihood.operator, likelihood.y, likelihood.noise_std
    potential, proposal = steering.annealed_diffusion(*parts, gamma=likelihood.gamma, stochasticity=eta)
    return steering.run(
        law.denoiser(process), process, potential, proposal=proposal, num_particles=n,
        shape=(law.means.shape[1],), times=schedules.karras(steps, process) if times is None else times,
        generator=generator(seed), dtype=torch.float64,
    )  # fmt: skip


@pytest.mark.parametrize(("noise_std", "log_z", "published"), [(0.3, -4.8167, -4.79), (1.0, -2.7684, -2.74)])
def test_the_mixture_whose_posterior_is_known(noise_std, log_z, published):
    """4000 particles: log Z within 0.1, sliced distance below 0.2 (0.06 between two exact draws of that size)."""
    process = VarianceExploding(0.01, 20.0)
    truth = MIXTURE.posterior([[1.0, 0.5]], [0.6], [noise_std])
    assert float(truth.log_z) == pytest.approx(log_z, abs=1e-4)
    assert abs(published - log_z) < 0.1
    likelihood = AnnealedLikelihood(Dense([[1.0, 0.5]]), torch.tensor([0.6], dtype=torch.float64), noise_std)
    found = steered(likelihood, process, steps=200)
    assert float(found.log_z) == pytest.approx(log_z, abs=0.1)
    drawn = found.draw(4000, generator=generator(7))
    exact = truth.sample(4000, generator=generator(8))
    distance = measures.sliced_wasserstein(drawn, exact, n_projections=200, generator=generator(9))
    assert float(distance) < 0.2
    assert int(found.num_ancestors) > 200


def test_another_process_is_the_same_path():
    """Variance preserving, in its own units: the evidence of one normal, and its posterior mean and deviation.

    4000 particles, 150 steps; the mean within four standard errors of the smallest effective size.
    """
    law = GaussianMixture([1.0], [[0.4, -0.3]], [[[1.0, 0.5], [0.5, 0.8]]])
    truth = law.posterior(MATRIX, Y, [0.3] * 3)
    likelihood = AnnealedLikelihood(Dense(MATRIX), Y, 0.3)
    process = VariancePreserving()
    found = steered(likelihood, process, law=law, steps=150)
    assert float(found.log_z) == pytest.approx(float(truth.log_z), abs=0.1)
    error = (truth.covariance.diagonal() / float(found.ess.min())).sqrt()
    assert bool(((found.mean()[0] - truth.mean).abs() < 4 * error + 0.01).all())


def test_a_measurement_that_is_not_linear():
    """The distance of a number from (0, 1): two modes. Evidence within 0.1, their shares within 0.05."""
    law = GaussianMixture([1.0], [[0.3]], [1.0])
    likelihood = AnnealedLikelihood(
        Nonlinear(lambda z: (1 + z.square()).sqrt(), (1,)), torch.tensor([[1.8]]).double(), 0.2
    )
    grid = torch.linspace(-6, 6, 4001, dtype=torch.float64)[:, None]
    log_law = law.log_prob(grid) - likelihood.value(grid, torch.zeros(len(grid)))
    log_z = float(log_law.logsumexp(0)) + math.log(float(grid[1] - grid[0]))
    process = VarianceExploding(0.01, 20.0)
    found = steered(likelihood, process, law=law, steps=150)
    assert float(found.log_z) == pytest.approx(log_z, abs=0.1)
    share = float(log_law.softmax(0) @ (grid > 0).double()[:, 0])
    assert 0.6 < share < 0.9
    assert float(found.mean(lambda x: (x > 0).double())[0, 0]) == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AnnealedLikelihood(Dense(MATRIX), Y, 0.0), "noise_std"),
        (lambda: AnnealedLikelihood(Dense(MATRIX), Y, 1.0, -1.0), "gamma"),
        (lambda: AnnealedLikelihood(Dense(MATRIX), torch.tensor([math.nan]), 1.0), "y"),
        (lambda: AnnealedDiffusion(LINEAR, 1.5), "stochasticity"),
        (lambda: steered(LINEAR, RectifiedFlow(), n=3, times=schedules.uniform(3)), "below t = 1"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
