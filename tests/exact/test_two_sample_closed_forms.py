"""Two-sample measures against the closed forms of normal laws."""

import math

import pytest
import torch

from clarkia._math.transport import sinkhorn
from clarkia.measures import two_sample
from clarkia.measures.kernels import Energy, Gaussian, Polynomial
from clarkia.measures.two_sample import closed_forms
from clarkia.random import generator, randn

F64 = torch.float64


def vector(*numbers):
    return torch.tensor(numbers, dtype=F64)


X_LAW = vector(0, 0), torch.eye(2, dtype=F64)
Y_LAW = vector(1, 0), torch.diag(vector(0.5, 2))


def normal(law, count, seed):
    mean, covariance = law
    return mean + randn((count, len(mean)), generator(seed), dtype=F64) @ torch.linalg.cholesky(covariance).T


def on_line(mean, variance):
    return vector(mean), vector(variance)[None]


def within(values, expected, errors=4.0):
    """Four standard errors of a t variable with 19 degrees of freedom: false alarm 8e-4."""
    values = torch.as_tensor(values, dtype=F64)
    return abs(float(values.mean()) - expected) < errors * float(values.std()) / len(values) ** 0.5


def test_frechet_distance_of_parameters():
    assert float(two_sample.gaussian_frechet(*X_LAW, *Y_LAW)) == pytest.approx(1.257359, abs=5e-7)


def test_frechet_distance_of_a_shift_is_the_shift():
    x = normal(Y_LAW, 200, 0)
    for path in ("eigen", "nuclear"):
        assert float(two_sample.frechet_distance(x, x + vector(3, -4), path=path)) == pytest.approx(25, abs=1e-10)


@pytest.mark.parametrize(("n", "m", "d"), [(400, 300, 12), (40, 300, 12), (9, 200, 30)])
def test_frechet_paths_agree(n, m, d):
    noise = generator(1)
    x = randn((n, d), noise, dtype=F64) * torch.linspace(0.2, 2, d)
    y = randn((m, d), noise, dtype=F64) + 1
    eigen, nuclear = (float(two_sample.frechet_distance(x, y, path=path)) for path in ("eigen", "nuclear"))
    assert eigen == pytest.approx(nuclear, rel=1e-8)


@pytest.mark.parametrize(("n", "d", "measured"), [(5000, 64, 0.432), (500, 16, 0.298)])
def test_frechet_bias_of_one_law(n, d, measured):
    """The first-order formula, and the value of one draw that was measured elsewhere; 20 repetitions."""
    noise = generator(2)
    values = [
        float(two_sample.frechet_distance(*(randn((n, d), noise, dtype=F64) for _ in range(2)))) for _ in range(20)
    ]
    assert sum(values) / 20 == pytest.approx(two_sample.frechet_floor(n, n, d), rel=0.03)
    assert sum(values) / 20 == pytest.approx(measured, rel=0.15)  # of one draw
    assert two_sample.frechet_floor(5000, 5000, 64) == pytest.approx(0.442, abs=5e-4)
    assert two_sample.frechet_floor(500, 500, 16) == pytest.approx(0.336, abs=5e-4)


def test_frechet_extrapolation_removes_the_bias():
    noise = generator(3)
    pairs = [[randn((2000, 32), noise, dtype=F64) for _ in range(2)] for _ in range(6)]
    plain = [float(two_sample.frechet_distance(x, y)) for x, y in pairs]
    lines = [float(two_sample.frechet_distance(x, y, extrapolate=True, generator=noise)) for x, y in pairs]
    assert min(plain) > 0.25
    assert abs(sum(lines) / 6) < 0.02  # of the bias of 0.29 less than a tenth is left


def test_frechet_from_a_stream():
    """Batches of any size, a mean far from 0: the same distance as from all rows at once."""
    x, y = normal(X_LAW, 500, 4) + 1e5, normal(Y_LAW, 300, 5) + 1e5
    stats = two_sample.FeatureStats.of(x[:1])
    for batch in x[1:].split(37):
        stats = stats.add(batch)
    assert stats.count == 500
    whole = float(two_sample.frechet_distance(x, y))
    assert float(two_sample.frechet_distance(stats, y)) == pytest.approx(whole, rel=1e-9)
    assert float(two_sample.frechet_distance(stats, two_sample.FeatureStats.of(y))) == pytest.approx(whole, rel=1e-9)


def test_kernel_distance_of_normal_laws_on_a_line():
    """KID between N(0, 1) and N(0.5, 1.2^2): 7.3995, mean of 20 unbiased estimates."""
    assert closed_forms.normal_polynomial_mmd2(0, 1, 0.5, 1.44) == pytest.approx(7.3995, abs=5e-5)
    noise = generator(6)
    values = [
        float(
            two_sample.mmd2(
                randn((1000, 1), noise, dtype=F64), 0.5 + 1.2 * randn((1000, 1), noise, dtype=F64), kernel=Polynomial()
            )
        )
        for _ in range(20)
    ]
    assert within(values, 7.399525)


def test_kid_averages_subsets():
    noise = generator(7)
    x, y = randn((4000, 1), noise, dtype=F64), 0.5 + 1.2 * randn((4000, 1), noise, dtype=F64)
    found = two_sample.kid(x, y, subsets=50, size=500, generator=noise)
    whole = float(two_sample.mmd2(x, y, kernel=Polynomial()))
    assert abs(found.value - whole) < 4 * found.standard_error  # of the average about that of all rows: 7e-5
    assert found.deviation == pytest.approx(found.standard_error * 50**0.5)
    assert str(found).endswith("(x1000)")
    assert [two_sample.kid(x[:n], y, subsets=2).size for n in (2, 300, 4000)] == [2, 150, 1000]


def test_gaussian_discrepancy_of_normal_laws():
    expected = float(closed_forms.gaussian_mmd2(*X_LAW, *Y_LAW, 1.0))
    assert expected == pytest.approx(0.13175, abs=5e-6)
    pairs = [(normal(X_LAW, 500, 100 + i), normal(Y_LAW, 400, 200 + i)) for i in range(20)]
    values = [float(two_sample.mmd2(x, y, kernel=Gaussian(1.0))) for x, y in pairs]
    assert within(values, expected)
    biased = [float(two_sample.mmd2(x, y, kernel=Gaussian(1.0), unbiased=False)) for x, y in pairs]
    means = [closed_forms.gaussian_kernel_mean(*law, *law, 1.0) for law in (X_LAW, Y_LAW)]
    lift = sum((1 - float(mean)) / n for mean, n in zip(means, (500, 400), strict=True))
    assert within(biased, expected + lift)


def test_unbiased_discrepancy_of_one_law():
    """Mean zero over 60 splits, and negative about half the time (17 to 43 of 60: false alarm 8e-4)."""
    values = torch.stack([two_sample.mmd2(normal(X_LAW, 200, 300 + i), normal(X_LAW, 150, 400 + i)) for i in range(60)])
    assert within(values, 0.0)
    # the law of a degenerate statistic is skewed: negative somewhat more than half the time
    assert 17 <= int((values < 0).sum()) <= 50


def test_energy_distance_of_normal_laws():
    """N(0, 1) and N(1, 1): 0.54181; as a discrepancy with the kernel -r it is the same number."""
    assert closed_forms.normal_energy_distance(0, 1, 1, 1) == pytest.approx(0.54181, abs=5e-6)
    noise = generator(8)
    pairs = [[randn((800, 1), noise, dtype=F64) + shift for shift in (0, 1)] for _ in range(20)]
    values = [float(two_sample.energy_distance(x, y, unbiased=True)) for x, y in pairs]
    assert within(values, 0.5418065793)
    x, y = pairs[0]
    for exponent in (0.5, 1.0, 1.7):
        for unbiased in (True, False):
            energy = two_sample.energy_distance(x, y, exponent=exponent, unbiased=unbiased)
            kernel = two_sample.mmd2(x, y, kernel=Energy(exponent), unbiased=unbiased)
            assert float(energy) == pytest.approx(float(kernel), abs=1e-12)
    squared = two_sample.energy_distance(x, y, exponent=2.0)
    assert float(squared) == pytest.approx(2 * float((x.mean() - y.mean()) ** 2), abs=1e-10)


def test_score_of_a_normal_forecast():
    """CRPS of N(0, 1) at 0.5: 0.331404; a sample's score is unbiased however few samples."""
    assert closed_forms.normal_crps(0, 1, 0.5) == pytest.approx(0.331404, abs=5e-7)
    noise = generator(9)
    samples = randn((20_000, 4), noise, dtype=F64)
    scores = two_sample.crps(samples, torch.full((20_000,), 0.5))
    assert abs(float(scores.mean()) - 0.3314035) < 4 * float(scores.std()) / 20_000**0.5  # 6e-5
    energy = two_sample.energy_score(samples[:50, :, None], torch.full((50, 1), 0.5))
    torch.testing.assert_close(energy, scores[:50], atol=1e-12, rtol=0)


def test_energy_score_of_few_samples():
    samples = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]])
    gaps = (0 + 5 + 1) / 3 - 0.5 * 2 * (5 + 1 + 18**0.5) / 6
    assert float(two_sample.energy_score(samples, torch.zeros(1, 2))) == pytest.approx(gaps, abs=1e-12)
    assert float(two_sample.energy_score(samples, torch.zeros(1, 2), exponent=2.0)) == pytest.approx(
        26 / 3 - (25 + 1 + 18) / 6, abs=1e-12
    )


@pytest.mark.parametrize(("bandwidth", "expected"), [(0.3, 0.6896), (0.6, 0.5952), (1.0, 0.4525)])
def test_cauchy_schwarz_of_normal_laws(bandwidth, expected):
    x_law = vector(0, 0), torch.diag(vector(1, 0.5))
    y_law = vector(1, 0.5), torch.tensor([[0.8, 0.3], [0.3, 0.6]], dtype=F64)
    assert float(closed_forms.gaussian_cauchy_schwarz(*x_law, *y_law, bandwidth)) == pytest.approx(expected, abs=6e-5)
    found = [
        two_sample.cauchy_schwarz(normal(x_law, 1500, i), normal(y_law, 1500, i + 50), bandwidth) for i in range(6)
    ]
    # six means of samples that spread by 0.07; pairs of a row with itself add 1/n over the overlap, at most 0.015
    assert float(sum(found)) / 6 == pytest.approx(expected, abs=0.1)


def test_cauchy_schwarz_far_apart_does_not_underflow():
    x = normal(X_LAW, 20, 12)
    assert float(two_sample.cauchy_schwarz(x, x + 1000, 0.5)) > 1e6


def entropic(x_law, y_law, eps):
    """Sinkhorn on a grid of 12 standard deviations, spectrally accurate for normal densities."""
    points, weights = [], []
    for mean, variance in (x_law, y_law):
        grid = torch.linspace(-8, 8, 240, dtype=F64) * variance**0.5
        density = torch.exp(-0.5 * grid.square() / variance)
        points.append(mean + grid)
        weights.append(density / density.sum())
    cost = (points[0][:, None] - points[1]).square()
    found = sinkhorn(cost, eps, a=weights[0], b=weights[1], tolerance=1e-12, max_iterations=3000)
    assert found.converged
    return float(found.cost)


@pytest.mark.parametrize(("blur", "expected"), [(0.5, 1.619668), (1.0, 2.077191)])
def test_entropic_transport_of_normal_laws(blur, expected):
    exact = float(closed_forms.gaussian_entropic_transport(*on_line(0, 1), *on_line(1, 0.49), blur))
    assert exact == pytest.approx(expected, abs=5e-7)
    assert entropic((0, 1), (1, 0.49), 2 * blur**2) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize(("eps", "expected"), [(0.5, 1.0886), (2.0, 1.0735), (50.0, 1.0052), (1000.0, 1.0003)])
def test_sinkhorn_divergence_of_normal_laws(eps, expected):
    """From W_2^2 = 1.09 at eps 0 to the squared gap of the means, 1."""
    exact = float(closed_forms.gaussian_sinkhorn_divergence(*on_line(0, 1), *on_line(1, 0.49), (eps / 2) ** 0.5))
    assert exact == pytest.approx(expected, abs=6e-5)
    grid = entropic((0, 1), (1, 0.49), eps) - (entropic((0, 1), (0, 1), eps) + entropic((1, 0.49), (1, 0.49), eps)) / 2
    assert grid == pytest.approx(exact, abs=1e-8)


def test_vendi_of_a_normal_law():
    """Mehler's eigenvalues: 5.5482 for N(0, 1) and bandwidth 0.5."""
    assert closed_forms.normal_vendi(1.0, 0.5) == pytest.approx(5.5482, abs=5e-5)
    found = [
        float(two_sample.vendi(randn((800, 1), generator(13, i), dtype=F64), kernel=Gaussian(0.5))) for i in range(4)
    ]
    assert sum(found) / 4 == pytest.approx(5.5482, rel=0.05)  # samples of 800 spread by 3.5 %
    for q in (0.5, 2.0, math.inf):
        values = closed_forms.normal_vendi(1.0, 0.5, q)
        assert float(two_sample.vendi(randn((800, 1), generator(14), dtype=F64), q, kernel=Gaussian(0.5))) == (
            pytest.approx(values, rel=0.1)
        )


def test_moments_of_many_rows_are_those_of_all_at_once():
    """In parts of a few thousand rows, far from 0; a bad row is named by its place in the whole set."""
    x, y = (1e3 + randn((9000, 3), generator(seed), dtype=torch.float64) for seed in (0, 1))
    stats = two_sample.FeatureStats.of(x)
    assert stats.count == 9000
    torch.testing.assert_close(stats.covariance, torch.cov(x.T), rtol=1e-10, atol=1e-10)
    plain = two_sample.gaussian_frechet(x.mean(0), torch.cov(x.T), y.mean(0), torch.cov(y.T))
    torch.testing.assert_close(two_sample.frechet_distance(x, y), plain, rtol=1e-8, atol=1e-10)
    graph = two_sample.frechet_distance(x.clone().requires_grad_(), y)
    torch.testing.assert_close(graph.detach(), plain, rtol=1e-8, atol=1e-10)
    x[8000, 2] = torch.nan
    with pytest.raises(ValueError, match="found nan in row 8000, column 2"):
        two_sample.frechet_distance(x, y)
