"""What a condition says of levels and residuals is what the table's rows bear out."""

import datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy.stats import norm

from clarkia.codecs import Between, Equal, Missing, NotMissing, OneOf, TableCodec, parse
from clarkia.errors import DataError

ROWS = 6000


def make_table():
    rng = np.random.default_rng(0)
    n = ROWS
    sizes = pa.DictionaryArray.from_arrays(
        pa.array(rng.integers(0, 3, n), pa.int8()), pa.array(["S", "M", "L"]), ordered=True
    )
    zone = pa.timestamp("ms", "Europe/Zurich")
    return pa.table(
        {
            "age": rng.integers(17, 60, n),
            "income": np.where(rng.random(n) < 0.3, 0.0, rng.lognormal(10, 1, n)),
            "count": pa.array(rng.geometric(0.003, n), mask=rng.random(n) < 0.2),
            "day": pa.array(rng.integers(18_000, 19_000, n).astype(np.int32)).cast(pa.date32()),
            "stamp": pa.array(1_500_000_000_000 + rng.integers(0, 10**9, n)).cast(zone),
            "clock": pa.array(rng.integers(0, 86_400, n).astype(np.int32)).cast(pa.time32("s")),
            "span": pa.array(rng.integers(0, 10**6, n)).cast(pa.duration("s")),
            "price": pa.array([Decimal(int(v)) / 100 for v in rng.integers(100, 10**6, n)], pa.decimal128(10, 2)),
            "big": pa.array(rng.integers(2**63, 2**63 + 10**6, n, dtype=np.uint64)),
            "size": sizes,
            "flag": rng.random(n) < 0.5,
            "city": [f"city {int(v)}" for v in rng.random(n) ** 2 * 400],
            "unit": ["kg"] * n,
            "id": [f"X{i}" for i in range(n)],
        }
    )


TABLE = make_table()
CODECS = {groups: TableCodec.fit(TABLE, groups=groups) for groups in (1, 8)}
INSIDE = {
    "age": lambda c: pc.and_(pc.greater_equal(c, 30), pc.less(c, 40)),
    "count": lambda c: pc.and_(pc.greater(c, 50), pc.less_equal(c, 70)),
    "income": lambda c: pc.greater_equal(c, 20_000),
    "day": lambda c: pc.less(c, pa.scalar(datetime.date(2020, 1, 1))),
    "size": lambda c: pc.is_in(c.cast(pa.string()), pa.array(["M", "L"])),
    "flag": lambda c: c,
    "price": lambda c: pc.less_equal(c, pa.scalar(Decimal("17.25"))),
    "city": lambda c: pc.is_in(c, pa.array(["city 0", "city 399", "city 7"])),
    "big": lambda c: pc.greater(c, pa.scalar(2**63 + 500_000, pa.uint64())),
}
CONDITIONS = parse(
    "age >= 30 and age < 39.5 and count > 50.5 and count <= 70 and income >= 20000 and day < 2020-01-01 and size >= M "
    "and flag = true and price <= 17.25 and city in ('city 0', 'city 399', 'city 7') and big > 9223372036855275808"
)


def cells_that_fit(codec, name, condition, state):
    """Which rows lie within the evidence."""
    evidence = codec.evidence(name, condition)
    column, _ = codec.column(name)
    level = np.zeros(ROWS, int) if column.level is None else state[column.level[0]][:, column.level[1]]
    if column.residual is None:
        return evidence.levels[level] == 1, evidence, level
    z = state["numeric"][:, column.residual]
    return (evidence.levels[level] > 0) & (z >= evidence.low[level]) & (z <= evidence.high[level]), evidence, level


@pytest.mark.parametrize("groups", [1, 8])
@pytest.mark.parametrize("name", INSIDE)
def test_evidence_picks_the_rows_that_satisfy(name, groups):
    """Rows inside the evidence are those that satisfy the condition, but for the rare bucket's share."""
    codec, condition = CODECS[groups], CONDITIONS[name]
    state = codec.encode(TABLE, np.random.default_rng(1))
    truth = np.asarray(INSIDE[name](TABLE[name].combine_chunks()).fill_null(False))
    inside, evidence, level = cells_that_fit(codec, name, condition, state)
    np.testing.assert_array_equal(codec.satisfies(TABLE, {name: condition}), truth)
    assert evidence.exact
    if name == "city":
        rare = codec.column("city")[1].rare
        np.testing.assert_array_equal(inside[level != rare], truth[level != rare])
        np.testing.assert_allclose(evidence.levels[rare], truth[level == rare].mean(), rtol=1e-12)
    else:
        np.testing.assert_array_equal(inside, truth)


@pytest.mark.parametrize("groups", [1, 8])
@pytest.mark.parametrize("name", ["count", "income", "day", "price", "big"])
def test_shares_are_normal_masses(name, groups):
    """Share of a level = normal mass of its interval; summed with the levels' shares it is the condition's frequency.

    The tolerance is the mass that interpolation between knots may move: one knot at either end, 30 rows or so each.
    """
    codec = CODECS[groups]
    state = codec.encode(TABLE, np.random.default_rng(1))
    _, evidence, level = cells_that_fit(codec, name, CONDITIONS[name], state)
    column, coding = codec.column(name)
    grouped = np.append(coding.is_group, np.zeros(column.num_levels - coding.num_levels, bool))
    np.testing.assert_allclose(
        evidence.levels[grouped],
        (norm.cdf(evidence.high) - norm.cdf(evidence.low))[grouped] * (evidence.levels[grouped] > 0),
    )
    frequency = np.bincount(level, minlength=column.num_levels) / ROWS
    truth = codec.satisfies(TABLE, {name: CONDITIONS[name]}).mean()
    assert abs((frequency * evidence.levels).sum() - truth) < 60 / ROWS


def test_one_value_of_each_kind():
    codec = CODECS[1]
    age = codec.evidence("age", Equal(33))
    assert age.levels.tolist() == [float(v == 33) for v in range(17, 60)]
    income = codec.evidence("income", Equal(25_000))
    group = codec.column("income")[1].group_levels[0]
    assert income.low[group] == income.high[group]
    assert income.levels[group] == 1
    assert income.levels.sum() == 1
    assert codec.evidence("income", Equal(0)).levels[group] == 0  # the atom, not the group
    state = codec.encode(TABLE, np.random.default_rng(0))
    for block, position in [codec.column("income")[0].level]:
        state[block][:, position] = group
    state["numeric"][:, codec.column("income")[0].residual] = income.low[group]
    np.testing.assert_allclose(codec.decode(state)["income"].to_numpy(), 25_000, rtol=1e-9)
    count = codec.evidence("count", Equal(60))
    assert 0 < count.levels[0] < 0.01
    assert count.low[0] < count.high[0]
    hull = codec.evidence("count", OneOf((60, 90)))
    assert not hull.exact
    assert (hull.low[0], hull.levels[0] > count.levels[0]) == (count.low[0], True)


@pytest.mark.parametrize(
    ("name", "value", "row"),
    [
        ("day", "2020-02-01", datetime.date(2020, 2, 1)),
        ("day", datetime.date(2020, 2, 1), datetime.date(2020, 2, 1)),
        ("clock", "08:30:00", datetime.time(8, 30)),
        ("span", "1 days 00:00:00", datetime.timedelta(days=1)),
        ("span", datetime.timedelta(hours=3), datetime.timedelta(hours=3)),
        ("price", "17.25", Decimal("17.25")),
        ("flag", "true", True),
        ("big", 2**63 + 5, 2**63 + 5),
    ],
)  # fmt: skip
def test_values_may_be_text_or_python_objects(name, value, row):
    codec = CODECS[1]
    table = TABLE.slice(0, 1).set_column(
        TABLE.schema.get_field_index(name), TABLE.field(name), pa.array([row], TABLE.field(name).type)
    )
    np.testing.assert_array_equal(codec.satisfies(table, {name: Equal(value)}), [True])


def test_a_time_without_a_zone_is_in_the_columns_zone():
    codec = CODECS[1]
    local = codec.evidence("stamp", Between("2017-07-15 12:00", None))
    utc = codec.evidence("stamp", Between("2017-07-15T10:00:00Z", None))
    np.testing.assert_array_equal(local.low, utc.low)


def test_missing_and_constants():
    codec = CODECS[1]
    missing = codec.column("count")[0].missing
    assert codec.evidence("count", Missing()).levels.tolist() == [float(k == missing) for k in range(missing + 1)]
    assert codec.evidence("count", NotMissing()).levels.tolist() == [float(k != missing) for k in range(missing + 1)]
    assert codec.evidence("unit", Equal("kg")).levels.tolist() == [1.0]


@pytest.mark.parametrize(
    ("name", "condition", "complaint"),
    [
        ("agee", Equal(3), "no column 'agee'; the nearest are 'age'"),
        ("age", Equal(99), "'age' never held 99"),
        ("age", Equal(30.5), "'age' cannot hold 30.5"),
        ("age", Between(200, None), "age >= 200"),
        ("age", Equal("old"), "'old' does not compare"),
        ("age", Missing(), "had no missing cell"),
        ("income", Equal(-5), "cannot hold -5"),
        ("income", OneOf((5000.5, 6000.5)), "real numbers"),
        ("city", Equal("city 4000"), "never held 'city 4000'.*'city 40'"),
        ("city", Between("a", "b"), "without an order"),
        ("flag", Equal("maybe"), "'maybe' does not compare"),
        ("day", Equal(5), "5 does not compare"),
        ("day", Equal("NaT"), "'NaT' does not compare"),
        ("clock", Equal("25:99"), "'25:99'"),
        ("span", Equal("long"), "'long'"),
        ("size", Equal("XL"), "never held 'XL'"),
        ("unit", Equal("g"), "always 'kg'|never held 'g'"),
        ("unit", Missing(), "always 'kg'"),
        ("id", Equal("X1"), "is a key"),
    ],
)
def test_what_cannot_hold_is_refused(name, condition, complaint):
    with pytest.raises(DataError, match=complaint):
        CODECS[1].evidence(name, condition)
