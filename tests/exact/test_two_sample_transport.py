"""Optimal transport: on lines, in slices, with entropy and exactly."""

import itertools
import math
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from scipy import stats

from clarkia._math.pairwise import squared_distances
from clarkia._math.transport import sinkhorn, sinkhorn_points, wasserstein_1d
from clarkia.measures import two_sample
from clarkia.random import generator, randn

F64 = torch.float64


def normal(n, d, seed):
    return randn((n, d), generator(seed), dtype=F64)


def brute_force(x, y, p):
    """The cheapest of all permutations."""
    cost = torch.cdist(x, y) ** p
    rows = range(len(x))
    return min(float(cost[list(rows), list(order)].mean()) for order in itertools.permutations(rows)) ** (1 / p)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
def test_on_a_line_against_brute_force(p):
    x, y = normal(6, 1, 0), normal(6, 1, 1) * 2
    expected = brute_force(x, y, p)
    assert float(wasserstein_1d(x[:, 0], y[:, 0], p)) == pytest.approx(expected, abs=1e-12)
    assert float(two_sample.wasserstein_1d(x, y, p)) == pytest.approx(expected, abs=1e-12)
    assert float(two_sample.exact_wasserstein(x, y, p)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("n", "m"), [(4, 6), (7, 3), (1, 5), (8, 5)])
def test_unequal_sizes_on_a_line(n, m):
    """Rows repeated to the least common multiple give the same laws; scipy has p = 1."""
    x, y = normal(n, 2, 2), normal(m, 2, 3)
    copies = math.lcm(n, m)
    repeated = x.repeat_interleave(copies // n, 0), y.repeat_interleave(copies // m, 0)
    for p in (1.0, 2.0, 2.5):
        torch.testing.assert_close(
            two_sample.wasserstein_1d(x, y, p), two_sample.wasserstein_1d(*repeated, p), atol=1e-12, rtol=0
        )
    by_scipy = [stats.wasserstein_distance(a, b) for a, b in zip(x.T.numpy(), y.T.numpy(), strict=True)]
    np.testing.assert_allclose(two_sample.wasserstein_1d(x, y, 1.0), by_scipy, atol=1e-12)


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_exact_transport_against_brute_force(p):
    x, y = normal(6, 3, 4), normal(6, 3, 5) + 0.5
    assert float(two_sample.exact_wasserstein(x, y, p)) == pytest.approx(brute_force(x, y, p), abs=1e-12)
    # unequal sizes whose multiple is small: as the repeated rows
    z = y[:3]
    expected = brute_force(x, z.repeat_interleave(2, 0), p)
    assert float(two_sample.exact_wasserstein(x, z, p)) == pytest.approx(expected, abs=1e-12)
    assert float(two_sample.exact_wasserstein(x, x + 2, p)) == pytest.approx(2 * 3**0.5, abs=1e-12)


def test_exact_transport_by_linear_programme():
    """Sizes without a small common multiple: POT, or an error that names it."""
    x = normal(59, 1, 6)
    y = normal(61, 1, 7)
    if find_spec("ot") is None:
        with pytest.raises(ImportError, match="POT"):
            two_sample.exact_wasserstein(x, y)
    else:
        expected = float(two_sample.wasserstein_1d(x, y))
        assert float(two_sample.exact_wasserstein(x, y)) == pytest.approx(expected, abs=1e-9)


def test_gradient_of_exact_transport_is_the_matching():
    x, y = normal(5, 2, 8).requires_grad_(), normal(5, 2, 9)
    (slope,) = torch.autograd.grad(two_sample.exact_wasserstein(x, y), x)
    step = 1e-6 * normal(5, 2, 10)
    up, down = (float(two_sample.exact_wasserstein((x + sign * step).detach(), y)) for sign in (1, -1))
    assert float((slope * step).sum()) == pytest.approx((up - down) / 2, rel=1e-6)


def test_sliced_distance_of_a_shift():
    """A shift by v: |v|^2 / d, exactly over whole orthogonal frames."""
    x, v = normal(50, 4, 11), torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=F64)
    found = two_sample.sliced_wasserstein(x, x + v, n_projections=40, generator=generator(12))
    assert float(found) ** 2 == pytest.approx(float(v.square().sum()) / 4, abs=1e-10)
    # directions on their own: 4 standard errors, of (v.theta)^2 over 2000 directions
    free = two_sample.sliced_wasserstein(x, x + v, n_projections=2000, orthogonal=False, generator=generator(13))
    mean = float(v.square().sum()) / 4
    assert float(free) ** 2 == pytest.approx(mean, abs=4 * mean * math.sqrt(2 * 3 / 6 / 2000))
    largest, direction = two_sample.max_sliced_wasserstein(x, x + v, generator=generator(14))
    assert float(largest) == pytest.approx(float(v.norm()), rel=1e-6)
    assert abs(float(direction @ v)) == pytest.approx(float(v.norm()), rel=1e-6)


def test_largest_slice_of_two_normal_laws():
    """Equal means, covariances 1 and 9 along one axis of six: the axis is found, W_2 near 3 - 1."""
    x = normal(4000, 6, 15)
    y = normal(4000, 6, 16) * torch.tensor([1.0, 1, 3, 1, 1, 1], dtype=F64)
    largest, direction = two_sample.max_sliced_wasserstein(x, y, generator=generator(17))
    assert abs(float(direction[2])) > 0.99
    assert float(largest) == pytest.approx(2, abs=0.15)


def test_slices_of_a_users_own():
    """Directions to concentric circles: rotations are at distance 0."""
    x = normal(60, 2, 18)
    angle = torch.tensor(0.7, dtype=F64)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])

    def radii(rows, directions):
        return rows.norm(dim=1, keepdim=True) * directions.norm(dim=1)

    found = two_sample.sliced_wasserstein(x, x @ turn.T, projection=radii, n_projections=10)
    assert float(found) == pytest.approx(0, abs=1e-12)
    assert float(two_sample.sliced_wasserstein(x, x @ turn.T, generator=generator(19))) > 0.05


@pytest.mark.parametrize("p", [1, 2])
def test_limits_of_the_sinkhorn_divergence(p):
    """From W_p^p at no blur to the squared gap of the means (p = 2) or half the energy distance (p = 1)."""
    x, y = normal(8, 2, 20), normal(8, 2, 21) + torch.tensor([1.5, 0.0], dtype=F64)
    sharp = two_sample.sinkhorn_divergence(x, y, 0.05 if p == 2 else 0.01, p, tolerance=1e-4, max_iterations=5000)
    assert float(sharp) == pytest.approx(float(two_sample.exact_wasserstein(x, y, p)) ** p, rel=5e-3)
    blurred = float(two_sample.sinkhorn_divergence(x, y, 1e4, p))
    gap = float((x.mean(0) - y.mean(0)).square().sum())
    expected = gap if p == 2 else float(two_sample.energy_distance(x, y)) / 2
    assert blurred == pytest.approx(expected, rel=1e-3)


def test_sinkhorn_in_blocks_and_symmetric():
    x, y = normal(50, 3, 22), normal(37, 3, 23)
    cost = squared_distances(x, y)
    whole = sinkhorn(cost, 2.0, tolerance=1e-10)
    parts = sinkhorn_points(squared_distances, x, y, 2.0, largest=float(cost.max()), tolerance=1e-10, chunk=16)
    assert whole.converged
    assert parts.converged
    torch.testing.assert_close(whole.f, parts.f, atol=1e-12, rtol=0)
    assert float(whole.cost) == pytest.approx(float(parts.cost), abs=1e-12)
    own = squared_distances(x, x)
    alternating, averaged = (sinkhorn(own, 2.0, tolerance=1e-10, symmetric=s) for s in (False, True))
    assert float(averaged.cost) == pytest.approx(float(alternating.cost), abs=1e-10)
    # the plan has the right marginals and the primal cost is the dual one
    plan = ((whole.f[:, None] + whole.g - cost) / 2.0).exp() / (50 * 37)
    torch.testing.assert_close(plan.sum(0), torch.full((37,), 1 / 37, dtype=F64), atol=1e-12, rtol=0)
    torch.testing.assert_close(plan.sum(1), torch.full((50,), 1 / 50, dtype=F64), atol=1e-10, rtol=0)
    primal = (plan * cost).sum() + 2.0 * (plan * (plan * 50 * 37).log()).sum()
    assert float(primal) == pytest.approx(float(whole.cost), abs=1e-9)


@pytest.mark.parametrize("matrix", [True, False])
@pytest.mark.parametrize("p", [1, 2])
def test_gradient_of_the_sinkhorn_divergence(p, matrix, monkeypatch):
    """Potentials held fixed give the full derivative, by matrix and by blocks."""
    if not matrix:
        monkeypatch.setattr("clarkia.measures.two_sample.sinkhorn.MATRIX", 0)
    x, y, step = normal(9, 2, 24).requires_grad_(), normal(7, 2, 25), 1e-5 * normal(9, 2, 26)

    def value(rows):
        return two_sample.sinkhorn_divergence(rows, y, 0.8, p, tolerance=1e-12, max_iterations=5000, chunk=4)

    (slope,) = torch.autograd.grad(value(x), x)
    up, down = (float(value((x + sign * step).detach())) for sign in (1, -1))
    assert float((slope * step).sum()) == pytest.approx((up - down) / 2, rel=1e-6)


def test_sinkhorn_that_does_not_converge_says_so():
    x, y = normal(30, 2, 27), normal(30, 2, 28)
    with pytest.warns(RuntimeWarning, match="1e-06"):
        two_sample.sinkhorn_divergence(x, y, 0.01, max_iterations=3)
    assert float(two_sample.sinkhorn_divergence(x, x, 0.5)) == pytest.approx(0, abs=1e-6)
    assert float(two_sample.sinkhorn_divergence(x, x, 0.5, debias=False)) > 0.1
