"""Curves of minority against majority accuracy: closed forms, exact parabolas, chords."""

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression

from clarkia.datasets import linear_accuracies, spurious
from clarkia.measures.shift import chord, group_accuracies, subgroup_curve


class Linear:
    def __init__(self, w, b=0.0):
        self.w, self.b = w, b

    def predict_proba(self, x):
        yes = (x @ self.w + self.b > 0).astype(float)
        return np.stack([1 - yes, yes], 1)


@pytest.mark.parametrize(("shortcut", "bias"), [(0.5, 0.0), (-0.4, 0.0), (2.0, 0.7)])
def test_linear_accuracies_within_half_a_point(shortcut, bias):
    """200 000 balanced rows: a standard error of 0.16 points a group; four of them are 0.63, asked is 0.5 (3.1)."""
    w = np.append(np.full(10, 0.3), shortcut)
    data = spurious(200_000, core_dim=10, core_strength=0.2, shortcut_strength=1.0, seed=1)
    found = group_accuracies([Linear(w, bias)], data.x, data.y, data.attribute)
    expected = linear_accuracies(w, bias, core_strength=0.2, shortcut_strength=1.0)
    assert (found.majority[0], found.minority[0]) == pytest.approx(expected, abs=0.005)


def test_the_accuracy_of_a_rule_without_bias_is_one_normal_probability():
    majority, minority = linear_accuracies([1.0, 1.0, 2.0])
    assert majority == pytest.approx(stats.norm.cdf((0.6 + 3.0) / math.sqrt(6)), abs=1e-14)
    assert minority == pytest.approx(stats.norm.cdf((0.6 - 3.0) / math.sqrt(6)), abs=1e-14)


def test_agreement_is_as_dialled():
    data = spurious(100_000, 0.85, core_dim=2, seed=2)
    # four standard errors of a share
    assert (data.y == data.attribute).mean() == pytest.approx(0.85, abs=4 * math.sqrt(0.85 * 0.15 / 1e5))
    assert data.y.mean() == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(1e5))
    sign = 2 * data.y - 1
    for column, strength, other in ((0, 0.3, sign), (2, 1.5, 2 * data.attribute - 1)):
        assert (data.x[:, column] * other).mean() == pytest.approx(strength, abs=4 / math.sqrt(1e5))


def test_cells_of_a_group_weigh_the_same():
    """Majority cells of 3 rows (all right) and 1 row (wrong): 1/2, not 3/4."""
    y, a = [1, 1, 1, 0, 0, 1], [1, 1, 1, 0, 1, 0]
    found = group_accuracies([Linear(np.ones(1))], np.array([[1.0], [1], [1], [1], [-1], [-1]]), y, a)
    assert (found.majority[0], found.minority[0]) == (0.5, 0.5)
    assert found.cells[0].tolist() == [[0, 1], [0, 1]]
    assert found.counts.tolist() == [[1, 1], [1, 3]]
    assert found.worst_group.tolist() == [0]


def test_a_parabola_is_found():
    x = np.linspace(0.6, 0.95, 40)
    y = 1.9 - 4.5 * x + 3.5 * x**2
    found = subgroup_curve(x, y)
    assert found.raw.coefficients == pytest.approx((1.9, -4.5, 3.5), abs=1e-9)
    assert (found.raw.curvature.low, found.raw.curvature.high) == pytest.approx((3.5, 3.5), abs=1e-6)
    assert found.raw.r2_quadratic == pytest.approx(1, abs=1e-12)
    assert found.raw.slope(0.8) == pytest.approx(-4.5 + 7 * 0.8, abs=1e-9)
    assert found.raw(0.7) == pytest.approx(y[np.abs(x - 0.7).argmin()], abs=0.01)
    assert found.shape == "moon"
    assert found.best == pytest.approx(0.95)
    turned = subgroup_curve(x, 1 - y)
    assert turned.shape == "arch"
    assert turned.raw.coefficients[2] == pytest.approx(-3.5, abs=1e-9)
    assert turned.best == pytest.approx(4.5 / 7, abs=1e-3)


def test_a_line_is_no_moon():
    """Noise on a line: the F-test says so at its level; a law of 200 lines is called bent in 1 to 10 % of them."""
    rng, bent = np.random.default_rng(0), 0
    x = np.linspace(0.6, 0.95, 60)
    for seed in range(200):
        y = np.clip(0.1 + 0.8 * x + 0.02 * rng.normal(size=60), 0, 1)
        bent += subgroup_curve(x, y, draws=2, seed=seed).shape != "line"
    # binomial with 5 %: fewer than 2 or more than 22 in 200 has probability 6e-4
    assert 2 <= bent <= 22


def test_the_f_statistic_of_nested_fits():
    rng = np.random.default_rng(1)
    x = rng.uniform(0.6, 0.9, 30)
    y = np.clip(x - 0.3 + (x - 0.7) ** 2 + 0.02 * rng.normal(size=30), 0, 1)
    found = subgroup_curve(x, y, runs=np.arange(30) // 3).raw
    f = (found.r2_quadratic - found.r2_linear) / ((1 - found.r2_quadratic) / 27)
    assert found.f_statistic == pytest.approx(f)
    assert found.p_value == pytest.approx(stats.f.sf(f, 1, 27))
    assert found.coefficients == pytest.approx(tuple(np.polyfit(x, y, 2)[::-1]), rel=1e-8)


def test_checkpoints_of_one_run_are_drawn_together():
    """Each model four times over: as rows of their own the interval halves, as runs it is what it was."""
    rng = np.random.default_rng(2)
    x = rng.uniform(0.6, 0.95, 50)
    y = np.clip(x**2 + 0.05 * rng.normal(size=50), 0, 1)
    one = subgroup_curve(x, y, seed=1).raw.curvature
    copies = [np.repeat(v, 4) for v in (x, y, np.arange(50))]
    together = subgroup_curve(copies[0], copies[1], runs=copies[2], seed=1).raw.curvature
    apart = subgroup_curve(copies[0], copies[1], seed=1).raw.curvature
    assert (together.low, together.high) == pytest.approx((one.low, one.high))
    assert (apart.high - apart.low) / (one.high - one.low) == pytest.approx(0.5, abs=0.12)


def test_a_mixture_of_two_models_lies_on_the_chord():
    """Asked by a coin, two models are right as often as the mean of their accuracies."""
    data = spurious(40_000, core_dim=4, core_strength=0.5, seed=3)
    core, shortcut = Linear(np.array([1.0, 1, 1, 1, 0])), Linear(np.array([0.0, 0, 0, 0, 1]))
    pick = np.random.default_rng(4).random(40_000) < 0.25

    class Mixture:
        def predict_proba(self, x):
            return np.where(pick[:, None], shortcut.predict_proba(x), core.predict_proba(x))

    found = group_accuracies([core, shortcut, Mixture()], data.x, data.y, data.attribute)
    points = np.stack([found.majority, found.minority], 1)
    expected = chord(tuple(points[0]), tuple(points[1]), [0.25])[0]
    # four standard errors of 20 000 coins
    assert points[2].tolist() == pytest.approx(expected.tolist(), abs=4 * 0.5 / math.sqrt(20_000))


def zoo(agreement, seed):
    """Majority and minority accuracy of 30 logistic models, 6 sizes times 5 penalties, in closed form."""
    strengths, found = {"core_strength": 0.15, "shortcut_strength": 0.75}, []
    for index, (n, penalty) in enumerate(product(np.geomspace(20, 3000, 6), np.geomspace(1e-3, 10, 5))):
        data = spurious(round(n), agreement, seed=1000 * seed + index, **strengths)
        model = LogisticRegression(C=penalty, max_iter=300).fit(data.x, data.y)
        found.append(linear_accuracies(model.coef_, float(model.intercept_[0]), **strengths))
    return np.array(found).T


def test_the_curve_bends_with_the_strength_of_the_spurious_correlation():
    """The published claim: b2 is larger at agreement .95 than at .5, in the mean over four small zoos.

    The difference of one zoo is 0.9 with standard deviation 0.5, so that four have a mean below 0 once in 6000 draws.
    """
    bends = [[subgroup_curve(*zoo(p, seed), draws=2).raw.coefficients[2] for seed in range(4)] for p in (0.5, 0.95)]
    assert np.mean(bends[1]) > np.mean(bends[0])


@pytest.mark.parametrize(
    ("majority", "minority", "sentence"),
    [
        ([0.6, 0.7], [0.6], "minority: expected accuracies in"),
        ([0.6, 1.7], [0.6, 0.5], "minority: expected accuracies in"),
        (
            [0.6, 0.6, 0.6, 0.5, 0.4],
            [0.5] * 5,
            "majority: expected at least 5 different accuracies of 0.55 or more, found 1",
        ),
    ],
)
def test_bad_accuracies_are_named(majority, minority, sentence):
    with pytest.raises(ValueError, match=sentence):
        subgroup_curve(majority, minority)


def test_bad_groups_are_named():
    with pytest.raises(ValueError, match="y, attribute: expected zeros and ones"):
        group_accuracies([], np.zeros((2, 1)), [0, 2], [0, 1])
    with pytest.raises(ValueError, match="attribute: expected rows that agree with the class and rows that do not"):
        group_accuracies([], np.zeros((2, 1)), [0, 1], [0, 1])
    with pytest.raises(ValueError, match="runs: expected one a model"):
        subgroup_curve(np.linspace(0.6, 0.9, 9), np.linspace(0.6, 0.9, 9), runs=[1])
    with pytest.raises(ValueError, match="n, core_dim, agreement: expected"):
        spurious(10, 1.5)
    with pytest.raises(ValueError, match="weights: expected not all 0"):
        linear_accuracies([0.0, 0.0])
