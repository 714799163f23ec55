import itertools

import numpy as np
import pytest
from scipy import integrate, stats

from clarkia.datasets.household import LAW
from clarkia.datasets.laws import choose, fix, mixture

AMOUNTS = sorted(LAW.amounts)


def corner(name):
    """An amount, and the parents' states at four corners of their table."""
    amount = LAW.amounts[name]
    shape = np.array(amount.mu.shape)
    return amount, [tuple((shape - 1) * np.array(bits)) for bits in ([0] * len(shape), [1] * len(shape))]


def density(amount, state, values):
    codes = {axis: np.full(len(values), code) for axis, code in zip(amount.axes, state, strict=True)}
    found, axes = amount.density(np.asarray(values, dtype=float), codes)
    assert axes == "n"
    return found


@pytest.mark.parametrize("name", AMOUNTS)
def test_the_bands_of_an_amount_have_probability_one_together(name):
    np.testing.assert_allclose(LAW.amounts[name].below(np.inf).sum(axis=-1), 1.0, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["rent", "savings"])
def test_a_rounded_amount_sums_to_its_bands_its_distribution_and_its_moments(name):
    amount, states = corner(name)
    grid = np.round(np.arange(1_500_000) * amount.step, 2)
    bands = amount.bands_of(grid)
    for state in states:
        mass = density(amount, state, grid)
        # What lies beyond the grid, from the survival function of the log-normal.
        beyond = (1 - amount.atom_probabilities[state].sum()) * stats.lognorm.sf(
            grid[-1] + amount.step / 2, amount.sigma, scale=np.exp(amount.mu[state])
        )
        assert mass.sum() + beyond == pytest.approx(1.0, abs=1e-11)
        for band in range(bands.max()):
            assert mass[bands == band].sum() == pytest.approx(amount.below(np.inf)[state][band], abs=1e-11)
        for place in (0, 1, 1000, 99_999, 1_000_000):
            assert mass[: place + 1].sum() == pytest.approx(amount.below(grid[place])[state].sum(), abs=1e-11)
        if beyond < 1e-13:
            for power in (1, 2):
                assert (mass * grid**power).sum() == pytest.approx(amount.moments(power)[state].sum(), rel=1e-9)


def test_the_moments_of_the_savings_match_a_sum_in_their_lower_band():
    amount, states = corner("savings")
    grid = np.arange(1.0, 10_001.0)
    for state in states:
        mass = density(amount, state, grid)
        for power in (1, 2):
            assert (mass * grid**power).sum() == pytest.approx(amount.moments(power)[state][1], rel=1e-8)


def test_the_income_integrates_to_its_bands_and_its_moments():
    amount, states = corner("income")
    edges = [1e-9, *amount.edges[1:], np.inf]
    for state in [*states, (3, 0, 3)]:
        assert density(amount, state, [0.0])[0] == amount.atom_probabilities[state][0]
        for band, (low, high) in enumerate(itertools.pairwise(edges), 1):
            for power, expected in enumerate([amount.below(np.inf), amount.moments(1), amount.moments(2)]):
                found = integrate.quad(
                    lambda log, state=state, power=power: (
                        np.exp(log * (power + 1)) * density(amount, state, [np.exp(log)])[0]
                    ),
                    max(np.log(low), amount.mu[state] - 6),
                    min(np.log(high), amount.mu[state] + 7),
                )[0]
                assert found == pytest.approx(expected[state][band], rel=1e-7, abs=1e-9)


def test_values_off_the_grid_or_below_zero_have_no_probability():
    for name, values in {"rent": [-1.0, 512.345], "savings": [-5.0, 10.5], "income": [-0.01]}.items():
        amount, states = corner(name)
        assert not density(amount, states[0], values).any()


@pytest.mark.parametrize("name", AMOUNTS)
def test_draws_follow_the_distribution_function(name):
    """Kolmogorov and Smirnov on the randomised transform; false-alarm rate 1e-4 a test, fixed seed."""
    amount, states = corner(name)
    rng = np.random.default_rng(5)
    for state in states:
        draws = amount.draw(tuple(np.full(3000, code) for code in state), rng)
        weights = np.zeros((*amount.mu.shape, len(amount.edges) + 1))
        weights[state] = amount.below(np.inf)[state]
        cdf = mixture(amount, weights, 0.0).cdf
        before = cdf(draws - (amount.step or 1e-9))
        uniform = before + rng.random(len(draws)) * (cdf(draws) - before)
        assert stats.kstest(uniform, "uniform").pvalue > 1e-4


def test_fix_indexes_rows_first():
    array = np.arange(24).reshape(2, 3, 4)
    found, axes = fix(array, "abc", {"b": np.array([2, 0]), "z": np.array([1, 1])})
    assert axes == "nac"
    np.testing.assert_array_equal(found, array[:, [2, 0]].transpose(1, 0, 2))
    assert fix(array, "abc", {})[0] is array


def test_choose_never_picks_the_impossible():
    class Extremes:
        def random(self, size):
            return np.array([0.0, np.nextafter(1.0, 0.0)])

    rows = np.array([[0.0, 0.1, 0.2, 0.7, 0.0], [0.0, 0.1, 0.2, 0.7 - 1e-12, 0.0]])
    assert choose(rows, Extremes()).tolist() == [1, 3]
