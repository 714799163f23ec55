"""TabDiff's starting values, the inverse of the noise scale, and a loss that is 1 at every noise level."""

import pytest
import torch

from clarkia.oracles import GaussianMixture
from clarkia.processes import EDM, VarianceExploding
from clarkia.schedules import LearnedPolynomialMask, LearnedPowerMean, PowerMean


def test_learned_schedules_start_where_tabdiff_does():
    assert LearnedPowerMean(3).rho.tolist() == pytest.approx([12.0009] * 3, abs=1e-4)
    assert LearnedPolynomialMask(2).k.tolist() == pytest.approx([1.00248] * 2, abs=1e-5)


@pytest.mark.parametrize("rho", [7.0, torch.tensor([5.5, 7.0, 12.0009, 30.0])])
def test_inverse_of_the_noise_scale(rho):
    schedule = PowerMean(rho=rho)
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    inverse = schedule.t_of_sigma(schedule.sigma(t))
    expected = t if inverse.ndim == 1 else t[:, None].expand_as(inverse)
    torch.testing.assert_close(inverse, expected, rtol=0, atol=1e-10)
    single = schedule.t_of_sigma(schedule.sigma(t.float()))
    torch.testing.assert_close(single, expected.float(), rtol=0, atol=1e-5)


def _edm_weighted_loss(process, t):
    """``E (sigma^2 + 1) / sigma^2 (x0_hat - x0)^2`` for a standard normal column, by Gauss-Hermite quadrature."""
    nodes = torch.tensor([-(3.0**0.5), 0.0, 3.0**0.5], dtype=torch.float64)  # exact to degree 5
    weights = torch.tensor([1 / 6, 2 / 3, 1 / 6], dtype=torch.float64)
    x0, eps = (grid.reshape(-1, 1) for grid in torch.meshgrid(nodes, nodes, indexing="ij"))
    time = t.expand(9)
    alpha, sigma = process.coefficients(time, x0)
    x0_hat = GaussianMixture([1.0], [[0.0]], [1.0]).denoiser(process)(alpha * x0 + sigma * eps, time)
    errors = (sigma**2 + 1) / sigma**2 * (x0_hat - x0) ** 2
    return (torch.outer(weights, weights).reshape(-1, 1) * errors).sum()


@pytest.mark.parametrize("level", [1e-6, 0.1, 0.37, 0.5, 0.9, 1.0])
def test_the_weighted_loss_of_a_normal_column_is_one_at_every_noise_level(level):
    t = torch.tensor([level], dtype=torch.float64)
    assert float(_edm_weighted_loss(EDM, t)) == pytest.approx(1.0, abs=1e-10)
    schedule = LearnedPowerMean(1).double()
    loss = _edm_weighted_loss(VarianceExploding(schedule=schedule), t)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1.0, abs=1e-10)
    assert float(schedule.raw.grad) == pytest.approx(0.0, abs=1e-8)
