import numpy as np
import pytest
from scipy import stats

from clarkia.measures.marginals import (
    kolmogorov_smirnov,
    missing_rate_difference,
    shape_errors,
    spread,
    total_variation,
    wasserstein,
)
from clarkia.measures.rows import MixedRows

nan = np.nan


def columns(rng, n):
    """A smooth, a tied and a zero-inflated column."""
    return np.stack(
        [rng.normal(size=n), rng.integers(0, 7, n) * 1.0, rng.exponential(size=n) * (rng.random(n) < 0.3)], 1
    )


def test_kolmogorov_smirnov_is_scipy_s():
    rng = np.random.default_rng(1)
    real, synthetic = columns(rng, 700), columns(rng, 400) + 0.1
    expected = [stats.ks_2samp(a, b).statistic for a, b in zip(real.T, synthetic.T, strict=True)]
    np.testing.assert_allclose(kolmogorov_smirnov(real, synthetic), expected, atol=1e-12)


def test_wasserstein_is_scipy_s_and_scales_with_the_interquartile_range():
    rng = np.random.default_rng(2)
    real, synthetic = columns(rng, 700), columns(rng, 400) * 1.2
    expected = [stats.wasserstein_distance(a, b) for a, b in zip(real.T, synthetic.T, strict=True)]
    np.testing.assert_allclose(wasserstein(real, synthetic, scaled=False), expected, rtol=1e-12)
    quartiles = np.quantile(real, [0.25, 0.75], axis=0)
    width = quartiles[1] - quartiles[0]
    width[2] = real[:, 2].std() if width[2] == 0 else width[2]
    np.testing.assert_allclose(wasserstein(real, synthetic), np.array(expected) / width, rtol=1e-12)


def test_a_shift_moves_all_mass_by_the_shift():
    x = np.random.default_rng(3).normal(size=500)
    np.testing.assert_allclose(wasserstein(x, x + 3.0, scaled=False), [3.0], rtol=1e-12)


def test_spread_falls_back_to_the_deviation_and_to_one():
    assert spread(np.array([0.0, 1.0, 2.0, 3.0, nan])) == 1.5
    assert spread(np.array([0.0] * 9 + [10.0])) == pytest.approx(3.0)
    assert spread(np.array([4.0, 4.0])) == 1.0
    assert spread(np.array([nan])) == 1.0


def test_total_variation_by_hand():
    real, synthetic = np.array([0, 0, 1, 2, -1]), np.array([0, 1, 1, 3, -1, -1])
    # (2, 1, 1, 0) / 4 against (1, 2, 0, 1) / 4
    np.testing.assert_allclose(total_variation(real, synthetic), [0.5 * (1 / 4 + 1 / 4 + 1 / 4 + 1 / 4)])
    # with missing as a value: (1, 2, 1, 1, 0) / 5 against (2, 1, 2, 0, 1) / 6
    p, q = np.array([1, 2, 1, 1, 0]) / 5, np.array([2, 1, 2, 0, 1]) / 6
    np.testing.assert_allclose(total_variation(real, synthetic, missing=True), [0.5 * np.abs(p - q).sum()])


def test_missing_values_are_dropped_and_their_rates_compared():
    real, synthetic = np.array([1.0, nan, 2.0, 3.0]), np.array([nan, 1.0, 2.0, nan, 3.0])
    assert kolmogorov_smirnov(real, synthetic) == pytest.approx(0.0)
    assert wasserstein(real, synthetic) == pytest.approx(0.0)
    assert missing_rate_difference(real, synthetic) == pytest.approx(abs(1 / 4 - 2 / 5))


def test_a_column_without_values():
    empty, full = np.array([nan, nan]), np.array([1.0, 2.0])
    assert kolmogorov_smirnov(empty, full) == 1.0
    assert kolmogorov_smirnov(empty, empty) == 0.0
    assert np.isnan(wasserstein(full, empty))
    assert total_variation(np.array([-1]), np.array([0])) == 1.0
    assert total_variation(np.array([-1]), np.array([-1])) == 0.0


def test_shape_lists_numeric_columns_first_and_is_zero_for_identical_rows():
    rng = np.random.default_rng(4)
    rows = MixedRows.build(columns(rng, 300), rng.integers(-1, 4, (300, 2)))
    assert shape_errors(rows, rows).tolist() == [0.0] * 5
    other = MixedRows(rows.numeric + np.array([0, 100, 0]), rows.categorical)
    assert shape_errors(rows, other).tolist() == [0.0, 1.0, 0.0, 0.0, 0.0]


def test_two_samples_of_one_law_differ_by_the_known_mean():
    """The mean Kolmogorov-Smirnov distance of two samples of n rows is 0.8687 sqrt(2 / n) in the limit."""
    rng = np.random.default_rng(5)
    n = 2000
    distances = kolmogorov_smirnov(rng.random((n, 400)), rng.random((n, 400)))
    # The standard deviation of one is 0.26 sqrt(2 / n); six standard errors of the mean, and 2 % for finite n.
    assert distances.mean() == pytest.approx(0.8687 * np.sqrt(2 / n), abs=(6 * 0.26 / 20 + 0.02) * np.sqrt(2 / n))
