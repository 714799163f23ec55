"""Support and diversity: precision, recall, density, coverage and the Vendi score."""

import math

import numpy as np
import pytest
import torch

from clarkia.measures import two_sample
from clarkia.measures.kernels import Gaussian
from clarkia.random import generator, rand, randn

F64 = torch.float64


def normal(n, d, seed):
    return randn((n, d), generator(seed), dtype=F64)


def by_definition(x, y, k):
    """The four shares from whole distance matrices in NumPy."""
    x, y = x.numpy(), y.numpy()

    def gaps(a, b):
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))

    radius_x, radius_y = (np.sort(gaps(z, z), 1)[:, k] for z in (x, y))
    cross = gaps(x, y)
    in_real, in_made = cross <= radius_x[:, None], cross <= radius_y
    return in_real.any(0).mean(), in_made.any(1).mean(), in_real.sum(0).mean() / k, in_real.any(1).mean()


def numbers(found):
    return found.precision, found.recall, found.density, found.coverage


@pytest.mark.parametrize("d", [2, 40])
@pytest.mark.parametrize("k", [1, 5])
def test_by_definition(d, k):
    x, y = normal(90, d, 0), 0.8 * normal(70, d, 1) + 0.1
    assert numbers(two_sample.prdc(x, y, k, chunk=16)) == pytest.approx(by_definition(x, y, k), abs=1e-12)


@pytest.mark.parametrize(("n", "m", "k", "expected"), [(1000, 1000, 5, 0.96898), (500, 1500, 3, 0.98452)])
def test_expectations_for_one_law(n, m, k, expected):
    """Coverage and density over 12 repetitions; 5 standard errors of a t variable with 11 degrees: false alarm 4e-4."""
    assert two_sample.expected_coverage(n, m, k) == pytest.approx(expected, abs=5e-6)
    found = [two_sample.prdc(normal(n, 2, 10 + i), normal(m, 2, 50 + i), k) for i in range(12)]
    for values, mean in (
        ([f.coverage for f in found], expected),
        ([f.density for f in found], two_sample.expected_density()),
    ):
        assert abs(np.mean(values) - mean) < 5 * np.std(values, ddof=1) / 12**0.5


@pytest.mark.parametrize(("d", "floor"), [(2, 0.995), (8, 0.94), (32, 0.80), (128, 0.69)])
def test_precision_has_no_fixed_floor(d, floor):
    """Values measured elsewhere for one normal law, n = m = 1000 and k = 5; one run varies by about 0.02."""
    found = two_sample.prdc(normal(1000, d, 2), normal(1000, d, 3))
    assert found.precision == pytest.approx(floor, abs=0.05)
    assert found.recall == pytest.approx(floor, abs=0.05)


def test_half_the_scale_looks_dense_and_covers_but_recalls_nothing():
    found = two_sample.prdc(normal(1000, 32, 4), 0.5 * normal(1000, 32, 5))
    assert found.density == pytest.approx(31, abs=4)  # hubs make it vary: 28.5 to 32.6 in six draws
    assert found.coverage > 0.99
    assert found.recall < 0.01


@pytest.mark.parametrize("d", [2, 50])
def test_duplicated_rows_can_be_covered(d):
    """Real rows with more copies than neighbours have radius 0: a generated copy of them is inside."""
    x = normal(20, d, 6).repeat(8, 1)
    found = two_sample.prdc(x, x[:20])
    assert (found.precision, found.coverage) == (1.0, 1.0)
    away = two_sample.prdc(x, x[:20] + 1e-6)
    assert (away.precision, away.coverage) == (0.0, 0.0)
    same = two_sample.prdc(x, x)
    assert numbers(same) == pytest.approx((1.0, 1.0, 8 / 5, 1.0))


@pytest.mark.parametrize("d", [2, 50])
def test_ties_on_a_lattice_are_inside(d):
    """Whole numbers: many points exactly at the radius, of which none may be lost to rounding."""
    x, y = ((3 * rand((60, d), generator(seed))).floor() / 10 for seed in (7, 8))
    gaps_x, gaps = (((10 * (a[:, None] - x[None])).round() ** 2).sum(-1) for a in (x, y))
    radius = gaps_x.sort(1).values[:, 3]
    held = gaps <= radius
    found = two_sample.prdc(x, y, 3)
    assert found.precision == float(held.any(1).double().mean())
    assert found.density == pytest.approx(float(held.sum()) / 180, abs=1e-12)


def ring(n, modes, seed, outliers=0.0):
    """Ten Gaussians on a ring of radius 8 with scale 0.3, a share of rows uniform on a square instead."""
    noise = generator(seed)
    angle = 2 * math.pi / 10 * (len(modes) * rand((n,), noise)).long().apply_(lambda i: modes[i])
    points = 8 * torch.stack([angle.cos(), angle.sin()], 1) + 0.3 * randn((n, 2), noise, dtype=F64)
    strays = rand((n, 1), noise) < outliers
    return torch.where(strays, 24 * rand((n, 2), noise) - 12, points)


def test_a_ring_with_missing_modes_and_with_outliers():
    """2000 points each; values measured elsewhere: four modes missing 0.990, 0.586, 1.008, 0.586; outliers 0.896,
    0.996, 0.904, 0.954. Six of ten modes hold 0.6 +- 0.011 of the real rows."""
    real = ring(2000, range(10), 9)
    missing = two_sample.prdc(real, ring(2000, [0, 1, 2, 3, 4, 5], 10))
    assert numbers(missing) == pytest.approx((0.990, 0.586, 1.008, 0.586), abs=0.035)
    strays = two_sample.prdc(real, ring(2000, range(10), 11, outliers=0.1))
    assert numbers(strays) == pytest.approx((0.896, 0.996, 0.904, 0.954), abs=0.03)


def test_vendi_of_a_ring():
    """Kernel width 2, n = 800: 12.10 with ten modes, 7.37 with six."""
    ten, six = (float(two_sample.vendi(ring(800, range(modes), 12), kernel=Gaussian(2.0))) for modes in (10, 6))
    assert ten == pytest.approx(12.10, abs=0.15)
    assert six == pytest.approx(7.37, abs=0.15)


def test_soft_precision_by_definition():
    x, y = normal(40, 3, 13), 0.7 * normal(30, 3, 14)
    own = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").sort(1).values[:, 4]
    inside = 1 - (torch.cdist(x, y) / (1.2 * own.mean())).clamp_max(1)
    found = two_sample.soft_precision_recall(x, y, chunk=7)
    assert found.precision == pytest.approx(float((1 - (1 - inside).prod(0)).mean()), abs=1e-12)
    swapped = two_sample.soft_precision_recall(y, x)
    assert (found.precision, found.recall) == pytest.approx((swapped.recall, swapped.precision), abs=1e-12)
    assert two_sample.soft_precision_recall(x, x + 100).precision == 0.0
    equal = torch.zeros(6, 2)
    assert two_sample.soft_precision_recall(equal, equal).precision == 1.0


def test_alpha_precision_on_a_line():
    """Real points 1..100 on both sides of 0; generated ones in their inner half, or outliers."""
    x = torch.cat([torch.arange(1, 51), -torch.arange(1, 51)]).double()[:, None]
    same = two_sample.alpha_precision(x, x, levels=51)
    torch.testing.assert_close(same.precision, same.levels, atol=1e-12, rtol=0)  # levels that are whole pairs of points
    assert same.integrated_precision == pytest.approx(1, abs=1e-12)
    inner = two_sample.alpha_precision(x, x[x[:, 0].abs() <= 25], levels=51)
    torch.testing.assert_close(inner.precision, (2 * inner.levels).clamp_max(1), atol=1e-12, rtol=0)
    assert inner.integrated_precision == pytest.approx(0.5, abs=1e-3)
    assert float(inner.recall[-1]) == pytest.approx(0.56, abs=1e-12)  # 25 a side and three whose balls reach there
    far = two_sample.alpha_precision(x, x + 1000)
    assert far.integrated_precision == pytest.approx(0, abs=1e-12)
    assert float(far.recall.max()) == 0


@pytest.mark.parametrize("path", ["primal", "dual"])
def test_rows_of_zeros_are_alike_and_unlike_all_others(path):
    rows = torch.cat([torch.eye(3, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)])
    shares = torch.tensor([1 / 6, 1 / 6, 1 / 6, 1 / 2], dtype=torch.float64)
    expected = float((-(shares * shares.log()).sum()).exp())
    assert float(two_sample.vendi(rows, path=path)) == pytest.approx(expected, abs=1e-12)
    assert float(two_sample.vendi(rows[3:], path=path)) == pytest.approx(1, abs=1e-12)


def test_vendi_of_equal_and_of_orthogonal_rows():
    eye = torch.eye(7, dtype=F64)
    groups = eye[[0] * 50 + [1] * 30 + [2] * 20]
    for path in ("primal", "dual"):
        assert float(two_sample.vendi(3 * eye, path=path)) == pytest.approx(7, abs=1e-12)
        assert float(two_sample.vendi(eye[:1].repeat(9, 1), path=path)) == pytest.approx(1, abs=1e-12)
        assert float(two_sample.vendi(groups, path=path)) == pytest.approx(2.80009, abs=5e-6)
        assert float(two_sample.vendi(groups, 2.0, path=path)) == pytest.approx(1 / 0.38, abs=1e-12)
        assert float(two_sample.vendi(groups, math.inf, path=path)) == pytest.approx(2, abs=1e-12)
        assert float(two_sample.vendi(groups, 0.0, path=path)) == pytest.approx(3, abs=1e-12)
    entropy = -sum(p * math.log(p) for p in (0.5, 0.3, 0.2))
    assert math.exp(entropy) == pytest.approx(2.80009, abs=5e-6)
    weighted = two_sample.vendi(eye[:3], weights=torch.tensor([5.0, 3.0, 2.0]))
    assert float(weighted) == pytest.approx(math.exp(entropy), abs=1e-12)
    assert float(two_sample.vendi(groups, kernel=Gaussian(1e-3))) == pytest.approx(math.exp(entropy), abs=1e-9)


@pytest.mark.parametrize("q", [0.5, 1.0, 2.0, math.inf])
def test_primal_is_dual(q):
    x = normal(60, 9, 15)
    weights = rand((60,), generator(16))
    for w in (None, weights):
        primal, dual = (float(two_sample.vendi(x, q, weights=w, path=path)) for path in ("primal", "dual"))
        assert primal == pytest.approx(dual, rel=1e-10)


def test_diversity_beside_as_many_real_rows():
    x = normal(400, 5, 17)
    assert float(two_sample.vendi_ratio(x, x)) == pytest.approx(1, abs=1e-12)
    assert float(two_sample.vendi_ratio(x, x[:50] * torch.tensor([1.0, 1, 0, 0, 0]), generator=generator(18))) < 0.5
