import numpy as np
import pytest

from clarkia.measures.intervals import Interval, mean_interval, normal_interval, rate_interval, recentred
from clarkia.measures.marginals import total_variation
from clarkia.measures.resampling import bootstrap_weights, marginal_draws
from clarkia.measures.rows import MixedRows


def test_exact_rates():
    # None of n: the upper end solves (1 - p)^n = 0.025.
    assert rate_interval(0, 100) == Interval(0.0, pytest.approx(1 - 0.025 ** (1 / 100)))
    assert rate_interval(100, 100) == Interval(pytest.approx(0.025 ** (1 / 100)), 1.0)
    assert rate_interval(5, 10).low == pytest.approx(0.1871, abs=1e-4)  # Clopper and Pearson's table
    assert rate_interval(5, 10).high == pytest.approx(0.8129, abs=1e-4)
    assert rate_interval(0, 0) == Interval(0.0, 1.0)


@pytest.mark.parametrize("terms", [np.arange(2000.0) % 7, np.random.default_rng(0).normal(size=2000)])
def test_the_interval_of_a_mean_is_the_normal_one(terms):
    found = mean_interval(terms, rng=np.random.default_rng(1))
    error = terms.std() / np.sqrt(len(terms))
    assert found.low == pytest.approx(terms.mean() - 1.96 * error, abs=0.25 * error)
    assert found.high == pytest.approx(terms.mean() + 1.96 * error, abs=0.25 * error)


def test_spreads_of_independent_groups_add():
    rng = np.random.default_rng(2)
    one, two = rng.normal(size=500), 2 * rng.normal(size=800)
    found = mean_interval(one, two, rng=rng)
    assert (found.high - found.low) / 3.92 == pytest.approx(np.hypot(1 / np.sqrt(500), 2 / np.sqrt(800)), rel=0.12)


def test_the_interval_of_a_distance_covers_its_mean_at_this_size():
    """Total variation near its floor, 150 samples against one real table; a plain percentile interval misses most."""
    rng = np.random.default_rng(3)
    real = MixedRows.of(rng.integers(0, 40, 1000))
    law = np.bincount(real.categorical[:, 0], minlength=40) / 1000
    mean = np.mean([total_variation(real.categorical, rng.choice(40, 800, p=law))[0] for _ in range(1000)])
    covered = plain = 0
    for _ in range(150):
        made = MixedRows.of(rng.choice(40, 800, p=law))
        value = total_variation(real.categorical, made.categorical)[0]
        draws = marginal_draws(real, made, bootstrap_weights(800, rng, draws=100)).total_variation[:, 0]
        found = recentred(value, draws)
        covered += found.low <= mean <= found.high
        plain += np.quantile(draws, 0.025) <= mean <= np.quantile(draws, 0.975)
    assert covered >= 132  # 0.95 would be 142; below 132 with probability 0.001
    assert plain < 75


def test_intervals_of_undefined_draws():
    assert np.isnan(recentred(1.0, np.array([np.nan])).low)
    found = recentred(1.0, np.array([np.nan, 1.0, 3.0]))
    assert found.low == pytest.approx(1 - 0.95)
    found = normal_interval(1.0, np.array([0.0, 2.0]))
    assert found.high == pytest.approx(1 + 1.959964 * np.sqrt(2))
    assert Interval(-1, 2).clip(0, 1) == Interval(0, 1)
