"""A measure beside its floor, interval and p-value."""

import functools
import json

import numpy as np
import pytest
import torch

from clarkia.measures import two_sample
from clarkia.measures.assess import assess, assess_each
from clarkia.measures.extractors import random_relu
from clarkia.measures.facts import Facts, known
from clarkia.random import generator, randn

F64 = torch.float64


def normal(n, d, *seed):
    return randn((n, d), generator(*seed), dtype=F64)


OPTIONS = {
    two_sample.kid: {"size": 20, "subsets": 5},
    two_sample.sinkhorn_divergence: {"blur": 1.0},
    two_sample.max_sliced_wasserstein: {"steps": 5},
    two_sample.characteristic_distance: {"n_frequencies": 64},
}


@pytest.mark.parametrize("measure", known(), ids=lambda m: m.__name__)
def test_every_measure_can_be_assessed(measure):
    ready = functools.partial(measure, **OPTIONS.get(measure, {}))
    found = assess_each(
        ready, normal(60, 3, 0), normal(50, 3, 1), seeds=2, draws=4, permutations=4, generator=generator(2)
    )
    for assessment in found.values():
        assert assessment.rows == (60, 50)
        assert assessment.floor.rows == (30, 30)
        assert assessment.interval.low <= assessment.interval.high
        assert 0.2 <= assessment.p_value <= 1
        assert assessment.facts.name in str(assessment)
        assert assessment.reading().endswith(".")
        assert json.loads(json.dumps(assessment.to_dict()))["value"] == assessment.value


def test_one_law_and_two_laws():
    x, same, other = normal(300, 2, 3), normal(300, 2, 4), normal(300, 2, 5) + 0.5
    alike, apart = (
        assess(two_sample.energy_distance, x, y, permutations=99, generator=generator(6)) for y in (same, other)
    )
    assert alike.p_value > 0.05
    assert apart.p_value == 0.01
    assert apart.floor.ratio > 3
    assert "times real against real" in apart.reading()
    assert apart.interval.low < apart.value < apart.interval.high
    text = str(apart)
    assert text.startswith("energy distance[identity] ")
    assert "split, 150 and 150 rows" in text
    assert text.endswith("lower is better")


def test_a_holdout_is_the_floor():
    x, y, holdout = normal(100, 2, 7), normal(80, 2, 8), normal(90, 2, 9)
    found = assess(two_sample.mmd2, x, y, holdout=holdout, seeds=3, permutations=0, draws=0, generator=generator(10))
    assert found.floor.source == "holdout"
    assert found.floor.rows == (100, 80)
    assert found.floor.matched == (found.value,) * 3
    assert found.interval is None
    assert found.p_value is None
    with pytest.raises(ValueError, match="holdout: expected 2 columns as x has"):
        assess(two_sample.mmd2, x, y, holdout=normal(5, 3, 11))


def test_the_interval_covers():
    """Means of 40 rows: the halves' interval covers the true mean in 88 to 100 % of 200 samples (false alarm 1e-4)."""
    facts = Facts("gap of means", "lower", 0.0)

    def gap(x, y):
        return x.mean() - y.mean()

    hits = 0
    for i in range(200):
        found = assess(
            gap, normal(40, 1, 12, i), normal(40, 1, 13, i), facts=facts, seeds=0, permutations=0, draws=100,
            generator=generator(14, i),
        )  # fmt: skip
        hits += found.interval.low <= 0 <= found.interval.high
    assert 176 <= hits <= 199


def test_collapse_is_not_good():
    """Half the true scale: precision and density beyond real against real, and the reading says what that means."""
    x, y = normal(200, 8, 15), 0.5 * normal(200, 8, 16)
    found = assess_each(two_sample.prdc, x, y, draws=10, permutations=19, generator=generator(17))
    assert list(found) == ["precision", "recall", "density", "coverage"]
    assert "collapsed" in found["precision"].reading()
    assert found["recall"].value < found["recall"].floor.mean
    assert "real against real" in found["recall"].reading()
    assert found["density"].p_value == 0.05
    assert found["coverage"].interval.high <= 1


def test_permutations_of_the_discrepancy_in_one_pass():
    """The fast way for the unbiased discrepancy and the general one agree in distribution."""
    x, y = normal(60, 2, 18), normal(60, 2, 19) + 0.35
    fast, slow = (
        assess(
            measure, x, y, facts=Facts("MMD^2", "lower"), seeds=0, draws=0, permutations=199, generator=generator(20)
        )
        for measure in (two_sample.mmd2, lambda a, b: two_sample.mmd2(a, b))
    )
    assert fast.value == slow.value
    assert fast.p_value == pytest.approx(slow.p_value, abs=0.06)


def test_features_are_named():
    x, y = torch.rand(30, 2, 4, generator=generator(21)), torch.rand(30, 2, 4, generator=generator(22))
    found = assess(two_sample.energy_distance, x, y, extractor=random_relu(8), permutations=0, generator=generator(23))
    assert found.name == "energy distance[random-relu-8]"
    assert found.to_dict()["fingerprint"] == "random-relu-8-seed-0"


def test_seeded_assessments_repeat():
    x, y = normal(40, 2, 24), normal(40, 2, 25)
    first, second = (
        assess(two_sample.frechet_distance, x, y, permutations=5, draws=5, generator=generator(26)).to_dict()
        for _ in range(2)
    )
    assert first == second


def test_wrong_arguments():
    x, y = normal(8, 2, 27), normal(8, 2, 28)
    with pytest.raises(ValueError, match="measure: expected one number, found precision, recall"):
        assess(two_sample.prdc, x, y, seeds=0, draws=0, permutations=0)
    with pytest.raises(ValueError, match="facts: expected one for each of 1 numbers, found 4"):
        assess_each(two_sample.mmd2, x, y, facts=(Facts("a", "lower"),) * 4)
    with pytest.raises(ValueError, match="seeds: expected counts >= 0"):
        assess(two_sample.mmd2, x, y, draws=-1)
    with pytest.raises(ValueError, match=r"too few rows for random halves .* Pass seeds=0"):
        assess_each(two_sample.prdc, x, y, draws=0)
    with pytest.raises(ValueError, match="known facts"):
        assess(lambda a, b: np.float64(0), x, y)
