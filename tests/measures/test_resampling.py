import numpy as np
import pytest

from clarkia.measures.marginals import kolmogorov_smirnov, missing_rate_difference, total_variation, wasserstein
from clarkia.measures.pairs import mean_pair, pair_errors
from clarkia.measures.resampling import bootstrap_weights, marginal_draws, pair_draws, resample
from clarkia.measures.rows import MixedRows


def sample(rng, n):
    numeric = np.stack([rng.normal(size=n), rng.integers(0, 5, n) * 1.0], 1)
    numeric[rng.random((n, 2)) < 0.1] = np.nan
    return MixedRows.build(numeric, rng.integers(-1, [3, 8, 2], (n, 3)))


def test_weighted_distances_are_those_of_the_repeated_rows():
    rng = np.random.default_rng(1)
    real, made = sample(rng, 400), sample(rng, 300)
    weights = bootstrap_weights(300, rng, draws=60)
    found, pairs = marginal_draws(real, made, weights), pair_draws(real, made, weights, rng)
    for draw in range(60):
        rows = made[np.repeat(np.arange(300), weights[:, draw])]
        expected = kolmogorov_smirnov(real.numeric, rows.numeric)
        np.testing.assert_allclose(found.kolmogorov_smirnov[draw], expected, atol=1e-12)
        np.testing.assert_allclose(found.wasserstein[draw], wasserstein(real.numeric, rows.numeric), atol=1e-12)
        expected = total_variation(real.categorical, rows.categorical)
        np.testing.assert_allclose(found.total_variation[draw], expected, atol=1e-12)
        np.testing.assert_allclose(found.missing[draw], missing_rate_difference(real, rows), atol=1e-6)
        assert pairs[draw] == pytest.approx(mean_pair(pair_errors(real, rows)), abs=1e-12)


def test_bootstrap_weights_are_multinomial():
    weights = bootstrap_weights(50, np.random.default_rng(2), draws=4000)
    assert (weights.sum(0) == 50).all()
    assert weights.var() == pytest.approx(1 - 1 / 50, rel=0.05)


def test_many_pairs_are_sampled():
    rng = np.random.default_rng(3)
    real, made = sample(rng, 200), sample(rng, 200)
    some = pair_draws(real, made, np.ones((200, 1), np.int16), rng, max_pairs=4)[0]
    every = pair_errors(real, made)
    assert every[np.triu_indices(5, 1)].min() <= some <= every[np.triu_indices(5, 1)].max()


def test_columns_without_values_do_not_disturb_the_others():
    rng = np.random.default_rng(4)
    real, made = sample(rng, 100), sample(rng, 100)
    made.numeric[:, 0] = np.nan
    found = marginal_draws(real, made, bootstrap_weights(100, rng, draws=5))
    assert np.isnan(found.kolmogorov_smirnov[:, 0]).all()
    assert np.isfinite(found.kolmogorov_smirnov[:, 1]).all()


def test_resample_draws_whole_rows():
    rng = np.random.default_rng(5)
    rows = MixedRows.build(np.arange(20.0), np.arange(20))
    drawn = resample(rows, 500, rng)
    assert len(drawn) == 500
    assert (drawn.numeric[:, 0] == drawn.categorical[:, 0]).all()
