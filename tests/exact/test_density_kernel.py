"""The kernel density against quadrature, enumeration, the oracle of the same law and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KernelDensity as Reference

from clarkia.measures import density
from clarkia.oracles import KernelSmoothed
from clarkia.processes import VarianceExploding
from clarkia.random import generator, randn

KERNELS = ["gaussian", "exponential", "epanechnikov", "tophat", "cauchy"]


def rows_of(n, d, seed=0):
    return randn((n, d), generator(seed, d), dtype=torch.float64)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("d", [1, 2, 3])
def test_every_kernel_integrates_to_one(kernel, d):
    """In polar coordinates about its one row: to 1e-6, or what a Cauchy's tail holds beyond the last radius."""
    fitted = density.KernelDensity(bandwidth=0.7, kernel=kernel).fit(torch.zeros(1, d))
    edge = 0.7 if kernel in ("epanechnikov", "tophat") else 3000.0 if kernel == "cauchy" else 40.0
    # fine near the centre: radius = edge * w^3
    w = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    radius = edge * w**3
    points = torch.zeros(len(w), d, dtype=torch.float64)
    points[:, 0] = radius
    area = 2 * math.pi ** (d / 2) / math.gamma(d / 2)
    integrand = fitted.log_prob(points).exp() * area * radius ** (d - 1) * 3 * edge * w**2
    beyond = 0.7 / edge * 4 / math.pi if kernel == "cauchy" else 0.0
    assert float(integrand.mean()) == pytest.approx(1, abs=1e-6 + beyond)


def test_the_density_of_several_rows_integrates_to_one():
    rows = rows_of(7, 2)
    axis = torch.linspace(-9, 9, 601, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    for whiten in (False, True):
        fitted = density.KernelDensity(bandwidth=0.4, whiten=whiten).fit(
            rows @ torch.tensor([[1.0, 0.5], [0.0, 0.6]]).double()
        )
        assert float(fitted.log_prob(grid).exp().sum() * (axis[1] - axis[0]) ** 2) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("kernel", KERNELS[:4])
@pytest.mark.parametrize("d", [1, 5])
def test_agreement_with_scikit_learn(kernel, d):
    rows, points = rows_of(200, d, 1), rows_of(50, d, 2)
    expected = Reference(bandwidth=1.3, kernel=kernel).fit(rows.numpy()).score_samples(points.numpy())
    found = density.KernelDensity(bandwidth=1.3, kernel=kernel).fit(rows).log_prob(points)
    reached = expected > -30  # its sum over no row leaves rounding errors
    np.testing.assert_allclose(found.numpy()[reached], expected[reached], atol=1e-9)
    assert bool((found[torch.from_numpy(~reached)] == -math.inf).all())


@pytest.mark.parametrize("d", [2, 40])
def test_one_row_is_a_normal_law(d):
    row, points = rows_of(1, d, 3), rows_of(9, d, 4)
    fitted = density.KernelDensity(bandwidth=0.3).fit(row)
    normal = torch.distributions.MultivariateNormal(row[0], 0.09 * torch.eye(d, dtype=torch.float64))
    torch.testing.assert_close(fitted.log_prob(points), normal.log_prob(points), rtol=1e-12, atol=1e-9)
    assert fitted.effective_neighbours(points).tolist() == [1.0] * 9


@pytest.mark.parametrize("whiten", [False, True])
def test_the_oracle_is_the_same_law(whiten):
    rows, points = rows_of(60, 3, 5) @ torch.diag(torch.tensor([5.0, 1.0, 0.2]).double()), rows_of(20, 3, 6)
    fitted = density.KernelDensity(bandwidth=0.5, whiten=whiten).fit(rows)
    oracle = fitted.oracle()
    assert isinstance(oracle, KernelSmoothed)
    torch.testing.assert_close(oracle.log_prob(points), fitted.log_prob(points), rtol=0, atol=1e-9)


@pytest.mark.parametrize("d", [3, 40])
def test_the_gradient_is_the_denoiser_of_the_rows(d):
    """``x0_hat = x + h^2 grad log rho_h``: the rows' mean by their shares, and the exact denoiser at h."""
    rows, h = rows_of(200, d, 7), 0.8
    points = rows_of(15, d, 8).requires_grad_()
    log_prob = density.KernelDensity(bandwidth=h).fit(rows).log_prob(points)
    (score,) = torch.autograd.grad(log_prob.sum(), points)
    shares = torch.softmax(-0.5 * ((points[:, None] - rows) ** 2).sum(2) / h**2, 1).detach()
    found = points.detach() + h**2 * score
    torch.testing.assert_close(found, shares @ rows, rtol=0, atol=1e-10)
    process = VarianceExploding()
    t = process.t_of_kappa(torch.full((15,), h, dtype=torch.float64))
    exact = KernelSmoothed(rows, 1e-9).denoiser(process)(points.detach(), t)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-9)


def test_shares_by_enumeration():
    rows, points = rows_of(50, 2, 9), rows_of(10, 2, 10)
    found = density.KernelDensity(bandwidth=0.3).fit(rows).neighbourhood(points)
    w = torch.softmax(-0.5 * torch.cdist(points, rows) ** 2 / 0.09, 1)
    torch.testing.assert_close(found.effective, 1 / w.square().sum(1), rtol=1e-9, atol=0)
    torch.testing.assert_close(found.top, w.amax(1), rtol=1e-9, atol=0)
    torch.testing.assert_close(found.perplexity, (-(w * w.log()).sum(1)).exp(), rtol=1e-9, atol=0)
    far = density.KernelDensity(bandwidth=1.0, kernel="tophat").fit(rows).neighbourhood(points + 100)
    assert far.effective.tolist() == far.top.tolist() == far.perplexity.tolist() == [0.0] * 10


def test_many_dimensions_do_not_underflow():
    rows, points = rows_of(100, 500, 11), rows_of(5, 500, 12)
    found = density.KernelDensity(bandwidth=0.1).fit(rows).neighbourhood(points)
    assert bool(found.log_prob.isfinite().all())
    assert bool((found.top > 0.99).all())


def test_rows_left_out_go_with_their_copies():
    rows = rows_of(30, 2, 13)
    rows[5] = rows[17]
    found = density.KernelDensity(bandwidth=0.5).fit(rows).leave_one_out()
    for i in (0, 5, 17):
        others = torch.tensor([j for j in range(30) if not bool((rows[j] == rows[i]).all())])
        alone = density.KernelDensity(bandwidth=0.5).fit(rows[others]).neighbourhood(rows[i : i + 1])
        assert float(found.log_prob[i]) == pytest.approx(float(alone.log_prob), abs=1e-12)
        assert float(found.effective[i]) == pytest.approx(float(alone.effective), rel=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("d", [1, 8])
def test_the_bandwidth_that_leaves_rows_out_is_the_best(kernel, d):
    rows = rows_of(300, d, 14)
    fitted = density.KernelDensity(kernel=kernel).fit(rows)
    scan = [
        float(
            density.KernelDensity(bandwidth=fitted.bandwidth * f, kernel=kernel)
            .fit(rows)
            .leave_one_out()
            .log_prob.mean()
        )
        for f in (0.9, 1.0, 1.1)
    ]
    assert scan[1] > -math.inf
    if kernel != "tophat":  # whose likelihood is a staircase
        assert scan[1] > max(scan[0], scan[2])


def test_the_bandwidth_of_neighbours():
    """The root mean square distance to another row, a dimension; copies do not count."""
    rows = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0], [30.0, 4.0]])
    expected = math.sqrt((25 + 25 + 25 + 27**2) / 4 / 2)
    assert density.KernelDensity(bandwidth="nn").fit(rows).bandwidth == pytest.approx(expected, rel=1e-12)
    ball = density.KernelDensity(bandwidth="nn", kernel="tophat").fit(rows)
    assert ball.bandwidth == pytest.approx(expected * math.sqrt(4), rel=1e-12)  # spreads as far a dimension


def test_whitening_follows_the_data():
    """An invertible map of the rows moves densities by its determinant, up to what shrinkage changes."""
    rows, points = rows_of(5000, 3, 15), rows_of(20, 3, 16)
    map_ = torch.tensor([[2.0, 0.3, 0.0], [0.0, 1.0, -0.5], [0.1, 0.0, 0.7]], dtype=torch.float64)
    plain, mapped = (
        density.KernelDensity(bandwidth=0.5, whiten=True).fit(data).log_prob(at)
        for data, at in ((rows, points), (rows @ map_, points @ map_))
    )
    assert float((plain - mapped - torch.linalg.slogdet(map_).logabsdet).abs().max()) < 0.02
