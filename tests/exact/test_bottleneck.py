"""The measures of the Cauchy-Schwarz bottleneck against the population values of their own kernels."""

import math

import pytest
import torch
from torch import nn

from clarkia.measures.shift import Bottleneck, cauchy_schwarz_u, cs_mutual_information
from clarkia.measures.two_sample.cauchy_schwarz import cauchy_schwarz, conditional_cauchy_schwarz
from clarkia.random import generator, randn


def normal(n, seed, mean=0.0, sd=1.0):
    return mean + sd * randn((n, 1), generator(seed), dtype=torch.float64)


def divergence(m1, s1, m2, s2, s):
    """Of two normal laws under a Gaussian kernel of width s."""
    e = lambda v: math.log(s / math.sqrt(s * s + v))  # noqa: E731
    cross = e(s1**2 + s2**2) - (m1 - m2) ** 2 / (2 * (s * s + s1**2 + s2**2))
    return e(2 * s1**2) + e(2 * s2**2) - 2 * cross


def test_population_values():
    assert divergence(0, 1, 1, 2, 0.5) == pytest.approx(0.3881, abs=5e-5)
    assert divergence(0, 1, 3, 1, 0.7) == pytest.approx(9 / (0.49 + 2))


def test_the_divergence_without_own_pairs_is_nearly_unbiased():
    """N(0,1) against N(1,4), s = 0.5, 20 times 1000 rows: the mean is within 4 standard errors of 0.3881.

    The V-statistic is above it by (1/n)(1/e1 + 1/e2 - 2) on average, 0.011 here: both are seen.
    """
    draws = [(normal(1000, 2 * k), normal(1000, 2 * k + 1, 1.0, 2.0)) for k in range(20)]
    u = torch.stack([cauchy_schwarz_u(x, y, 0.5) for x, y in draws])
    v = torch.stack([cauchy_schwarz(x, y, 0.5) for x, y in draws])
    truth = divergence(0, 1, 1, 2, 0.5)
    assert float(u.mean()) == pytest.approx(truth, abs=4 * float(u.std()) / math.sqrt(20))
    own = [math.sqrt(0.25 + 2 * sd**2) / 0.5 for sd in (1, 2)]  # one over the mean kernel
    assert float((v - u).mean()) == pytest.approx(sum(w - 1 for w in own) / 1000, rel=0.05)
    assert float(u.std()) < 0.08  # sd 0.032 at 2000 rows


def information(r):
    """Of a bivariate normal of correlation r with unit variances, s = 1."""
    return -0.5 * math.log(9 - 4 * r * r) - math.log(3) + math.log(9 - r * r)


@pytest.mark.parametrize(("r", "value"), [(0.5, 0.0307), (0.9, 0.1288)])
def test_information_of_a_bivariate_normal(r, value):
    assert information(r) == pytest.approx(value, abs=5e-5)
    found = []
    for seed in range(10):
        x, noise = normal(1000, 100 + seed), normal(1000, 200 + seed)
        t = r * x + math.sqrt(1 - r * r) * noise
        found.append(float(cs_mutual_information(x, t, bandwidths=(1.0, 1.0), normalised=False)))
    found = torch.tensor(found)
    # four standard errors of ten draws and a bias of at most 2 / n
    assert float(found.mean()) == pytest.approx(value, abs=4 * float(found.std()) / math.sqrt(10) + 2e-3)


def test_normalised_information_runs_from_independence_to_identity():
    x, t = normal(800, 1), normal(800, 2)
    assert float(cs_mutual_information(x, x)) == pytest.approx(1, abs=1e-12)
    assert float(cs_mutual_information(x, -3 * x)) == pytest.approx(1, abs=1e-9)  # median widths follow the scale
    assert 0 <= float(cs_mutual_information(x, t)) < 0.02
    assert float(cs_mutual_information(x, t)) == pytest.approx(float(cs_mutual_information(t, x)), abs=1e-12)
    with pytest.raises(ValueError, match="t: expected rows that differ"):
        cs_mutual_information(x, torch.zeros(800, 1))


def test_a_conditional_divergence_of_shifted_predictions():
    """``d^2 / (s^2 + 2)`` for y and y_hat of variance 1 around a constant and a constant plus d: .333 and .083."""
    x = normal(1500, 3)
    for d in (1.0, 0.5):
        found = conditional_cauchy_schwarz(
            x, normal(1500, 4), normal(1500, 5, d), input_bandwidth=1.0, output_bandwidth=1.0
        )
        assert float(found) == pytest.approx(d * d / 3, abs=0.05)
    y = normal(1500, 6)
    assert float(conditional_cauchy_schwarz(x, y, y)) == pytest.approx(0, abs=1e-12)


def test_the_loss_is_misfit_plus_what_is_kept():
    x, y, t = normal(60, 7), normal(60, 8), randn((60, 5), generator(9), dtype=torch.float64)
    y_hat = 0.5 * y
    misfit = conditional_cauchy_schwarz(x, y, y_hat, input_bandwidth=1.0, output_bandwidth=1.0)
    kept = cs_mutual_information(x, t, bandwidths=(1.0, None))
    assert float(Bottleneck(0.0)(x, y, y_hat, t)) == float(misfit)
    assert float(Bottleneck(0.3)(x, y, y_hat, t)) == pytest.approx(float(misfit + 0.3 * kept), abs=1e-14)


def test_a_network_learns_a_line_by_the_loss():
    """y = 2 x + noise of 0.1: the slope is found but for the width's bias, and beta makes the code forget."""
    x = normal(128, 10)
    y = 2 * x + 0.1 * normal(128, 11)
    kept = {}
    for beta in (0.0, 1.0):
        torch.manual_seed(0)
        encoder, head = nn.Linear(1, 4).double(), nn.Linear(4, 1).double()
        optimiser = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 2e-2)
        for step in range(150):
            noise = randn((128, 4), generator(12, step), dtype=torch.float64)
            t = encoder(x) + (0.5 * noise if beta else 0)
            loss = Bottleneck(beta, input_width=0.3)(x, y, head(t), t)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            kept[beta] = float(cs_mutual_information(x, encoder(x) + 0.5 * noise))
        if not beta:
            with torch.no_grad():
                slope = (head(encoder(x)) * (x - x.mean())).mean() / x.var()
            assert float(slope) == pytest.approx(1.93, abs=0.15)
    assert kept[1.0] < kept[0.0]


def test_a_vanishing_width_is_named():
    with pytest.raises(ValueError, match="bandwidth: expected one at which some rows are near each other, found 1e-09"):
        cauchy_schwarz_u(normal(5, 13), normal(5, 14), 1e-9)
    with pytest.raises(ValueError, match="x: expected at least 2 rows"):
        cauchy_schwarz_u(normal(1, 13), normal(5, 14))
