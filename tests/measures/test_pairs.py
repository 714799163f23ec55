import itertools

import numpy as np
import pandas as pd
import pytest

from clarkia.measures.pairs import (
    correlation_difference,
    correlations,
    discretise,
    joint_total_variation,
    mean_pair,
    pair_errors,
    quantile_edges,
    trend_errors,
)
from clarkia.measures.rows import MixedRows


def by_enumeration(real, synthetic, i, j):
    """Total variation of one joint table, cell by cell."""
    cells = itertools.product(range(-1, 9), range(-1, 9))
    share = lambda rows, a, b: np.mean((rows[:, i] == a) & (rows[:, j] == b))  # noqa: E731
    return 0.5 * sum(abs(share(real, a, b) - share(synthetic, a, b)) for a, b in cells)


def test_joint_total_variation_by_enumeration():
    rng = np.random.default_rng(1)
    real, synthetic = rng.integers(-1, [2, 5, 9], (200, 3)), rng.integers(-1, [2, 4, 9], (150, 3))
    distances = joint_total_variation(real, synthetic)
    for i, j in itertools.product(range(3), range(3)):
        expected = by_enumeration(real, synthetic, i, j)
        assert distances[i, j] == pytest.approx(expected, abs=1e-12)


def test_correlations_are_those_of_complete_pairs():
    rng = np.random.default_rng(2)
    columns = rng.normal(size=(300, 4)) @ rng.normal(size=(4, 4)) * [1, 1e6, 1e-6, 1] + [0, 1e8, 0, 5]
    columns[rng.random(columns.shape) < 0.2] = np.nan
    np.testing.assert_allclose(correlations(columns), pd.DataFrame(columns).corr(), atol=1e-9)


def test_a_constant_column_has_no_correlation():
    columns = np.stack([np.arange(10.0), np.full(10, 3.3)], 1)
    found = correlations(columns)
    assert np.isnan(found[0, 1])
    assert np.isnan(found[1, 1])
    assert np.isnan(mean_pair(correlation_difference(columns, columns)))


def test_quantile_bins_are_open_and_hold_equal_mass():
    column = np.random.default_rng(3).normal(size=10_000)
    edges = quantile_edges(column)
    assert len(edges) == 9
    assert np.bincount(discretise(column, edges)).tolist() == [1000] * 10
    assert discretise(np.array([-1e9, 1e9, np.nan]), edges).tolist() == [0, 9, -1]
    assert quantile_edges(np.array([0.0] * 95 + [1.0] * 5)).tolist() == [0.0]
    assert len(quantile_edges(np.array([np.nan]))) == 0


def lognormal_and_coin(rng, n=30_000):
    return MixedRows.build(np.exp(0.5 * rng.normal(size=n)), rng.integers(0, 2, n))


def test_own_edges_punish_two_samples_of_one_law():
    """The known defect: 0.908 with a deviation of 0.07 with own edges, 0.992 with shared ones."""
    rng = np.random.default_rng(4)
    pairs = [(lognormal_and_coin(rng), lognormal_and_coin(rng)) for _ in range(30)]
    own = np.array([1 - mean_pair(trend_errors(a, b)) for a, b in pairs])
    shared = np.array([1 - mean_pair(trend_errors(a, b, edges="shared")) for a, b in pairs])
    assert own.mean() == pytest.approx(0.908, abs=0.04)  # three standard errors of 30 draws
    assert own.std() > 0.03
    assert shared.mean() == pytest.approx(0.992, abs=0.001)
    assert shared.std() < 0.003


def test_the_floor_of_a_joint_table():
    """Two samples of n rows over C equally likely cells differ by sqrt(C / (pi n))."""
    rng = np.random.default_rng(5)
    n, cells = 30_000, 20
    draws = [
        joint_total_variation(*(np.stack([rng.integers(0, 4, n), rng.integers(0, 5, n)], 1) for _ in range(2)))[0, 1]
        for _ in range(60)
    ]
    # One draw's deviation is about 0.17 of the mean; four standard errors.
    assert np.mean(draws) == pytest.approx(np.sqrt(cells / (np.pi * n)), rel=0.09)


def test_trend_has_its_three_kinds_of_pairs():
    rng = np.random.default_rng(6)
    n = 4000
    z = rng.uniform(-1, 1, size=n)  # the sixth edge of ten bins is at 0
    real = MixedRows.build(np.stack([z, z], 1), np.stack([z > 0, z > 0], 1).astype(int))
    apart = real.permuted_columns(rng)
    errors = trend_errors(real, apart, edges="shared")
    assert errors[0, 1] == pytest.approx(0.5, abs=0.03)  # correlation 1 against 0, halved
    assert errors[2, 3] == pytest.approx(0.5, abs=0.03)  # (1/2, 0, 0, 1/2) against four quarters
    assert errors[0, 2] == pytest.approx(0.5, abs=0.03)
    np.testing.assert_allclose(errors, errors.T, atol=1e-15)
    assert np.isnan(np.diag(errors)).all()


def test_identical_rows_have_no_pair_error():
    rng = np.random.default_rng(7)
    rows = MixedRows.build(rng.normal(size=(500, 2)), rng.integers(-1, 5, (500, 2)))
    rows.numeric[:50, 0] = np.nan
    for errors in (pair_errors(rows, rows), trend_errors(rows, rows), trend_errors(rows, rows, edges="shared")):
        assert mean_pair(errors) == 0.0


def test_permuted_columns_are_caught_and_fresh_rows_are_not():
    rng = np.random.default_rng(8)

    def sample():
        z = rng.normal(size=8000)
        return MixedRows.build(np.stack([z, z + rng.normal(size=8000)], 1), (z > 0).astype(int))

    real = sample()
    fresh, apart = mean_pair(pair_errors(real, sample())), mean_pair(pair_errors(real, real.permuted_columns(rng)))
    assert fresh < 0.05
    assert apart > 0.25


def test_missing_counts_as_a_value_of_a_pair():
    real = MixedRows.build(np.array([1.0, np.nan] * 50), np.array([0, 1] * 50))
    synthetic = MixedRows.build(np.array([1.0, np.nan] * 50), np.array([1, 0] * 50))
    assert mean_pair(pair_errors(real, synthetic)) == 1.0


def test_unknown_edges_are_refused():
    with pytest.raises(ValueError, match="edges must be 'own' or 'shared', not 'mine'"):
        trend_errors(np.zeros(3), np.zeros(3), edges="mine")
