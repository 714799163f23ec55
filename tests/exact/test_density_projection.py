"""The expansion of a fit's expected divergence against exact risks."""

import math

import numpy as np
import pytest
import torch
from scipy import special

from clarkia.measures import density
from clarkia.oracles import GaussianMixture
from clarkia.random import generator

NODES = torch.linspace(0, 1, 2)


def exponential():
    """Statistics and weights of a unit exponential, exact for moments to the eighth."""
    nodes, weights = np.polynomial.laguerre.laggauss(40)
    return torch.from_numpy(nodes)[:, None], torch.from_numpy(weights)


def expansion(statistics, weights, model=None, model_weights=None):
    found = density.pn_criterion(statistics, model, num_rows=10, weights=weights, model_weights=model_weights)
    return found.first, found.second


def test_closed_forms():
    """Exponential, Poisson, normal mean and variance, and multinomial cells: c1 and c2 to 1e-8."""
    assert expansion(*exponential()) == pytest.approx((1 / 2, 11 / 12), abs=1e-8)
    rate, counts = 3.7, torch.arange(60, dtype=torch.float64)
    poisson = torch.exp(counts * math.log(rate) - rate - torch.lgamma(counts + 1))
    assert expansion(counts[:, None], poisson) == pytest.approx((1 / 2, 5 / (12 * rate)), abs=1e-8)
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    x = 1.5 + 2 * torch.from_numpy(nodes)
    normal = torch.stack([x, x**2], 1)
    assert expansion(normal, torch.from_numpy(weights)) == pytest.approx((1, 61 / 12), abs=1e-8)
    p = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    c2 = (5 * float((1 / p).sum()) - 6 * 4 + 1) / 12
    assert c2 == pytest.approx(6.764, abs=1e-3)
    assert expansion(torch.eye(4, dtype=torch.float64)[:, :3], p) == pytest.approx((1.5, c2), abs=1e-10)


def test_the_exponential_s_exact_risk():
    """``psi(n) - log n + 1 / (n - 1)`` = 0.060279 at ten rows; the expansion gives 0.059167, its first term 0.05."""
    nodes, weights = exponential()
    exact = special.digamma(10) - math.log(10) + 1 / 9
    assert exact == pytest.approx(0.060279, abs=1e-6)
    found = density.pn_criterion(nodes, num_rows=10, weights=weights)
    assert found.risk == pytest.approx(0.059167, abs=1e-6)
    assert abs(found.risk - exact) < abs(0.05 - exact) / 8


def test_a_model_that_does_not_fit():
    """Exponential model, Gamma(3, 1) data scaled to its mean: c1 = 1/6 and not 1/2."""
    nodes, weights = exponential()
    gamma = weights * nodes[:, 0] ** 2 / 2
    c1, c2 = expansion(nodes, gamma, 3 * nodes, weights)
    assert (c1, c2) == pytest.approx((1 / 6, 0.10185), abs=1e-5)
    assert c1 / 10 + c2 / 100 == pytest.approx(0.017685, abs=1e-6)
    # E[log(3 / mean) + mean / 3 - 1] turned round: D(Exp(3) || Exp(mean)) = log(mean / 3) + 3 / mean - 1
    exact = special.digamma(30) - math.log(30) + 30 / 29 - 1
    assert exact == pytest.approx(0.017724, abs=1e-6)
    assert density.pn_criterion(nodes, 3 * nodes, num_rows=10, weights=gamma, model_weights=weights).trace == (
        pytest.approx(1 / 3, abs=1e-8)
    )


def test_the_multinomial_s_risk_by_simulation():
    """200 rows in four cells: 0.007669, and its mean over fits within four standard errors (6e-5)."""
    p = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    found = density.pn_criterion(torch.eye(4, dtype=torch.float64)[:, :3], num_rows=200, weights=p)
    assert found.risk == pytest.approx(0.007669, abs=1e-6)
    counts = np.random.default_rng(0).multinomial(200, p.numpy(), size=200_000) / 200
    assert (counts > 0).all()
    loss = (p.numpy() * np.log(p.numpy() / counts)).sum(1)
    error = loss.std() / math.sqrt(len(loss))
    assert loss.mean() == pytest.approx(found.risk, abs=4 * error + 5e-6)  # third order: below 5e-6


def test_how_many_rows_are_enough():
    """To first order ``n = 25 p`` at delta = 0.05 and ``100 p`` at 0.025."""
    rows = torch.randn(100_000, 4, generator=generator(0), dtype=torch.float64)
    for delta, factor in ((0.05, 25), (0.025, 100)):
        found = density.pn_criterion(rows, delta=delta)
        assert found.required == pytest.approx(factor * 4, rel=0.05)
        assert found.tolerance == 8 * delta**2
        assert density.pn_criterion(rows, delta=delta, num_rows=found.required).accept
        assert not density.pn_criterion(rows, delta=delta, num_rows=found.required - 1).accept


def test_the_answer_does_not_depend_on_coordinates():
    rows = torch.randn(500, 3, generator=generator(1), dtype=torch.float64).exp()
    model = torch.randn(600, 3, generator=generator(2), dtype=torch.float64).exp() * 1.2
    map_ = torch.tensor([[2.0, 0.3, 0.0], [0.0, 1.0, -0.5], [0.1, 0.0, 70.0]], dtype=torch.float64)
    one, other = density.pn_criterion(rows, model), density.pn_criterion(rows @ map_ + 5, model @ map_ - 2)
    assert (one.first, one.second) == pytest.approx((other.first, other.second), rel=1e-9)


@pytest.mark.parametrize("n", [50, 200, 500])
def test_refits_of_a_tilted_generator(n):
    """Three rewards tilt 4000 points of a mixture: the mean divergence of 500 refits, within a tenth."""
    law = GaussianMixture([0.4, 0.6], [[-1.0, 0.5], [1.2, -0.3]], [0.5, 0.8])
    x = law.sample(4000, generator=generator(3))
    rewards = torch.stack([x[:, 0], torch.tanh(x[:, 1]), torch.cos(x.sum(1))], 1)
    truth = torch.tensor([0.3, -0.5, 0.4], dtype=torch.float64)
    p = torch.softmax(rewards @ truth, 0)
    found = density.pn_criterion(rewards, num_rows=n, weights=p)
    draws = torch.multinomial(p, 500 * n, replacement=True, generator=generator(4, n)).reshape(500, n)
    targets = rewards[draws].mean(1)
    theta = truth.expand(500, 3).clone()
    for _ in range(12):
        q = torch.softmax(theta @ rewards.T, 1)
        mean = q @ rewards
        second = torch.einsum("ri,ia,ib->rab", q, rewards, rewards)
        step = torch.linalg.solve(second - mean[:, :, None] * mean[:, None, :], targets - mean)
        theta = theta + step
    assert float(step.abs().max()) < 1e-9
    log_ratio = torch.logsumexp(theta @ rewards.T, 1) - torch.logsumexp(rewards @ truth, 0)
    divergence = log_ratio - (theta - truth) @ (p @ rewards)
    assert float(divergence.mean()) == pytest.approx(found.risk, rel=0.1)
