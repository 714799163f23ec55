"""Derivatives of fields, against automatic differentiation of one row at a time, and the energy distance."""

import math

import pytest
import torch
from torch.autograd.functional import jacobian as reference

from clarkia._math import jacobians
from clarkia._math.energy import energy_distance, mean_distance
from clarkia.random import generator, randn


def field(x, t):
    """A smooth field from rows of shape (2, 3) to rows of shape (4,), with a branch on its data as oracles have."""
    if bool((t > 10).any()):
        raise AssertionError
    flat = x.flatten(1)
    weights = randn((6, 4), generator(9), dtype=x.dtype)
    return torch.sin(flat @ weights * t.reshape(-1, 1)) + flat[:, :4] ** 2 * flat[:, 2:]


def square(x, t):
    """A field from rows of shape (2, 3) to themselves."""
    return torch.cat([field(x, t), x.flatten(1)[:, 1:3] ** 3], 1).reshape(x.shape)


@pytest.fixture(name="point")
def a_point():
    x = randn((5, 2, 3), generator(0), dtype=torch.float64)
    return x, torch.linspace(0.1, 1, 5, dtype=torch.float64)


def by_row(function, x, t):
    def one(row, time):
        return reference(lambda point: function(point.unsqueeze(0), time.reshape(1))[0].flatten(), row).flatten(1)

    return torch.stack([one(row, time) for row, time in zip(x, t, strict=True)])


def test_jacobians_and_products(point, monkeypatch):
    x, t = point
    expected = by_row(field, x, t)
    torch.testing.assert_close(jacobians.jacobian(field, x, t), expected, rtol=1e-12, atol=1e-12)
    into, out = randn((5, 7, 2, 3), generator(1), dtype=x.dtype), randn((5, 7, 4), generator(2), dtype=x.dtype)
    for _ in range(2):
        products = jacobians.jvp(field, x, t, into), jacobians.vjp_rows(field, x, t, out)
        torch.testing.assert_close(products[0], into.flatten(2) @ expected.mT, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(products[1].flatten(2), out @ expected, rtol=1e-12, atol=1e-12)
        monkeypatch.setattr(jacobians, "LARGEST", 60)  # two directions at a time


def test_traces(point):
    x, t = point
    matrices = by_row(square, x, t)
    exact = matrices.diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(jacobians.trace(square, x, t), exact, rtol=1e-12, atol=1e-12)
    probes = jacobians.rademacher(x, 20_000, generator(3))
    assert set(probes.unique().tolist()) == {-1.0, 1.0}
    estimate = jacobians.trace(square, x, t, probes)
    # Variance of Hutchinson's estimate with signs: the squared off-diagonal of the symmetric part, twice.
    symmetric = 0.5 * (matrices + matrices.mT)
    variance = 2 * (symmetric.square().sum((1, 2)) - symmetric.diagonal(dim1=1, dim2=2).square().sum(1))
    # four standard errors in 5 rows: false alarm 3e-4
    assert bool(((estimate - exact).abs() < 4 * (variance / 20_000).sqrt()).all())


def test_gradient_and_time_derivative(point):
    x, t = point
    (expected,) = torch.autograd.grad(square(x.requires_grad_(), t).square().sum(), x)
    x = x.detach()
    found = jacobians.gradient(lambda rows: square(rows, t).flatten(1).square().sum(1), x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    h = 1e-6
    slope = (field(x, t + h) - field(x, t - h)) / (2 * h)
    torch.testing.assert_close(jacobians.time_derivative(field, x, t), slope, rtol=1e-7, atol=1e-7)


def test_randomised_singular_values(point):
    """With as many directions as there are, and for a map of low rank with few, the triples are exact."""
    x, t = point
    expected = by_row(field, x, t)
    u, s, vt = jacobians.randomised_svd(field, x, t, 4, generator=generator(4))
    torch.testing.assert_close(s, torch.linalg.svdvals(expected), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(u * s.unsqueeze(1) @ vt, expected, rtol=1e-10, atol=1e-10)
    left, right = (randn((size, 3), generator(seed), dtype=torch.float64) for size, seed in ((40, 5), (30, 6)))

    def low_rank(rows, _):
        return torch.tanh(rows @ right) @ left.T

    rows, times = randn((4, 30), generator(7), dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    u, s, vt = jacobians.randomised_svd(low_rank, rows, times, 3, oversample=2, generator=generator(8))
    assert (u.shape, s.shape, vt.shape) == ((4, 40, 3), (4, 3), (4, 3, 30))
    torch.testing.assert_close(u * s.unsqueeze(1) @ vt, by_row(low_rank, rows, times), rtol=1e-9, atol=1e-9)


def test_power_iterations_sharpen_a_slow_decay():
    """Singular values 0.95^i: the error of the first five falls with every iteration."""
    left, right = (torch.linalg.qr(randn((80, 80), generator(seed), dtype=torch.float64))[0] for seed in (12, 13))
    true = 0.95 ** torch.arange(80, dtype=torch.float64)
    x, t = randn((1, 80), generator(14), dtype=torch.float64), torch.ones(1, dtype=torch.float64)

    def linear(rows, _):
        return rows @ right * true @ left.T

    def error(**options):
        found = jacobians.randomised_svd(linear, x, t, 5, generator=generator(15), **options)[1][0]
        return float((found / true[:5] - 1).abs().max())

    assert error() < 0.3 * error(iterations=0)
    assert error(iterations=8) < 0.1 * error()


def test_energy_distance_of_few_points():
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    y = torch.tensor([[0.0, 0.0]])
    assert float(mean_distance(x, y)) == pytest.approx(2.5, abs=1e-12)
    assert float(energy_distance(x, y)) == pytest.approx(2 * 2.5 - 2.5, abs=1e-12)
    pair = torch.tensor([[0.0, 0.0], [0.0, 2.0]])
    between = (0 + 2 + 5 + math.sqrt(9 + 4)) / 4
    assert float(energy_distance(x, pair)) == pytest.approx(2 * between - 2.5 - 1, abs=1e-12)
    assert float(energy_distance(x, pair, unbiased=True)) == pytest.approx(2 * between - 5 - 2, abs=1e-12)


def test_energy_distance_of_two_normal_laws():
    """N(0, 1) and N(1, 1): 0.54181, from E|N(m, 2)| in closed form."""
    n = 1000
    draws = [randn((40, n, 1), generator(seed), dtype=torch.float64) for seed in (10, 11)]
    found = torch.stack([energy_distance(a, b + 1, unbiased=True) for a, b in zip(*draws, strict=True)])
    gap = 2 * math.sqrt(2) * math.exp(-0.25) / math.sqrt(2 * math.pi) + math.erf(0.5)
    assert 2 * gap - 4 / math.sqrt(math.pi) == pytest.approx(0.54181, abs=5e-6)
    # four standard errors of a t variable with 39 degrees of freedom: false alarm 3e-4
    assert abs(float(found.mean()) - 0.54181) < 4 * float(found.std()) / 40**0.5
    same = energy_distance(draws[0][0], draws[0][0])
    assert float(same) == pytest.approx(0, abs=1e-12)
