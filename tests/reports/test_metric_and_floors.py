import numpy as np
import pytest

from clarkia.measures.intervals import Interval
from clarkia.measures.marginals import total_variation
from clarkia.measures.pairs import pair_errors
from clarkia.measures.rows import MixedRows
from clarkia.reports.floors import fresh_distances
from clarkia.reports.html import skill_bar
from clarkia.reports.metric import metric
from clarkia.reports.text import number


def test_skill_is_one_at_the_floor_and_zero_at_the_ceiling():
    lower = [metric("m", "pairs", value, floor=0.1, ceiling=0.5).skill for value in (0.1, 0.5, 0.2)]
    assert lower == pytest.approx([1.0, 0.0, 0.75])
    higher = [metric("m", "pairs", v, better="higher", floor=0.9, ceiling=0.5).skill for v in (0.9, 0.5, 0.8)]
    assert higher == pytest.approx([1.0, 0.0, 0.75])


def test_there_is_no_skill_without_a_scale():
    assert metric("m", "pairs", 0.2, floor=0.1).skill is None
    assert metric("m", "pairs", 0.2, floor=0.5, ceiling=0.5).skill is None
    assert metric("m", "pairs", 0.2, floor=0.5, ceiling=0.4).skill is None
    assert metric("m", "joint", 0.502, floor=0.501, ceiling=0.503, interval=Interval(0.49, 0.51)).skill is None
    undefined = metric("m", "pairs", np.nan, floor=0.5, ceiling=np.inf, interval=Interval(np.nan, 1.0))
    assert (undefined.value, undefined.ceiling, undefined.interval, undefined.skill) == (None, None, None, None)


def test_a_skill_bar_stays_on_its_track():
    bar = skill_bar(metric("m", "pairs", 0.2, interval=Interval(0.15, 0.7), floor=0.1, ceiling=0.5))
    assert (bar.at, bar.low, bar.high, bar.tone) == (pytest.approx(75), 0.0, pytest.approx(87.5), "fair")
    assert skill_bar(metric("m", "pairs", 0.2)) is None


def test_a_small_trace_is_red_however_far_from_copying_everything():
    trace = metric("m", "privacy", 0.05, interval=Interval(0.04, 0.06), floor=0.0, ceiling=1.0)
    assert trace.skill > 0.9
    assert skill_bar(trace).tone == "bad"


def pair_floor(rows, sizes, draws=8):
    return fresh_distances(pair_errors, rows, sizes, np.random.default_rng(1), draws)[0, 1]


def test_the_floor_of_a_joint_table_is_sqrt_of_cells_over_pi_n():
    rng = np.random.default_rng(2)
    n = 4000
    rows = MixedRows.build(None, np.stack([rng.integers(0, 4, n), rng.integers(0, 5, n)], 1))
    for m in (n // 2, n):  # without and with carrying over to larger samples
        assert pair_floor(rows, (m, m)) == pytest.approx(np.sqrt(20 / (np.pi * m)), rel=0.2)


def test_the_floor_of_rare_values_is_not_that_of_the_bootstrap():
    """A sample of 400 values in 300 rows shows half of them only; a bootstrap never leaves that half."""
    rng = np.random.default_rng(3)
    distances = lambda a, b: total_variation(a.categorical, b.categorical)  # noqa: E731
    rows = lambda n: MixedRows.of(rng.integers(0, 400, n))  # noqa: E731
    true = np.mean([distances(rows(300), rows(300)) for _ in range(50)])
    bootstrap = rows(300)
    bootstrap = np.mean(
        [distances(bootstrap[rng.integers(300, size=300)], bootstrap[rng.integers(300, size=300)]) for _ in range(50)]
    )
    for pool in (600, 300):
        floors = [fresh_distances(distances, rows(pool), (300, 300), rng, 8)[0] for _ in range(5)]
        assert np.mean(floors) == pytest.approx(true, abs=0.05)
    assert bootstrap < true - 0.1


def test_numbers_are_written_without_exponents():
    assert [number(x) for x in (None, 0, 0.000262, 0.0432, 0.5, -0.0123, 12.3456, 123456.7)] == [
        "–", "0", "0.000262", "0.0432", "0.500", "-0.0123", "12.346", "123,457",
    ]  # fmt: skip
