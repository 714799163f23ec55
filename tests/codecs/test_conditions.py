"""The language of conditions: what is written reads back, garbage is refused with its place."""

import datetime
import decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables_of_all_kinds import SETTINGS

from clarkia.codecs import Between, Equal, Missing, NotMissing, OneOf, TableCodec, intersect, parse, render
from clarkia.errors import DataError

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=10)
NUMBERS = st.one_of(st.integers(-(10**20), 10**20), st.floats(allow_nan=False, allow_infinity=False))
VALUES = st.one_of(NUMBERS, st.booleans(), st.text(max_size=10))


@st.composite
def intervals(draw):
    low, high = sorted(draw(st.lists(NUMBERS, min_size=2, max_size=2, unique=True)))
    low, high = draw(st.sampled_from([(low, high), (low, None), (None, high), (low, low)]))
    if low == high:
        return Between(low, high)
    return Between(low, high, low is not None and draw(st.booleans()), high is not None and draw(st.booleans()))


CONDITIONS = st.one_of(
    VALUES.map(Equal),
    intervals(),
    st.lists(VALUES, min_size=1, max_size=4).map(tuple).map(OneOf),
    st.just(Missing()),
    st.just(NotMissing()),
)


@SETTINGS
@given(st.dictionaries(NAMES, CONDITIONS, min_size=1, max_size=4))
def test_what_is_written_reads_back(conditions):
    found = parse(render(conditions))
    assert found == conditions
    assert list(found) == list(conditions)
    assert all(type(found[name]) is type(condition) for name, condition in conditions.items())


WORDS = [
    "age",
    "and",
    "between",
    "in",
    "(",
    ")",
    ",",
    "is",
    "not",
    "missing",
    "=",
    "<",
    ">=",
    "3",
    "'x'",
    '"a b"',
    "'",
    "!",
]


@SETTINGS
@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(WORDS)).map(" ".join)))
def test_garbage_raises_a_data_error_only(text):
    try:
        conditions = parse(text)
    except DataError:
        return
    assert parse(render(conditions)) == conditions


def test_every_relation():
    text = (
        "income='>50K' and age between 30 and 40 AND hours-per-week >= 35 and sex in ('Male','Female') "
        """and x is missing and "a ""b"" c" < -1.5e3 and y IS NOT NULL and day > 2020-01-31 and flag = true and 'z'"""
    )
    assert parse(text.removesuffix(" and 'z'")) == {
        "income": Equal(">50K"),
        "age": Between(30, 40),
        "hours-per-week": Between(35, None),
        "sex": OneOf(("Male", "Female")),
        "x": Missing(),
        'a "b" c': Between(None, -1500.0, high_open=True),
        "y": NotMissing(),
        "day": Between("2020-01-31", None, low_open=True),
        "flag": Equal(True),
    }
    with pytest.raises(DataError, match=r"position 196 .*name of a column"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", r"position 1 \(at the end\)"),
        ("age", r"position 4 \(at the end\).*relation"),
        ("age = ", r"at the end\).*value"),
        ("age != 3", "position 5.*'!=' is no relation"),
        ("age between 3", "'and' should stand here"),
        ("age between 4 and 3", "nothing lies between 4 and 3"),
        ("age in ()", "position 9.*value"),
        ("age in (3", "',' should stand here"),
        ("age = 'x", "position 7.*quote is never closed"),
        ("age is 3", "'missing' or 'not missing'"),
        ("age = 3 or age = 4", "position 9.*'and' should stand here"),
        ("age = 1e999", "too large"),
        ("age < 3 and age > 4", "nothing lies between 4 and 3"),
        ("age = 3 and age is missing", "No cell satisfies both age = 3 and age is missing"),
        ("age = 3 and age in (4, 5)", "No cell satisfies both"),
        ("age > 3 and age < 'b'", "do not compare"),
    ],
)
def test_mistakes_are_named_with_their_place(text, complaint):
    with pytest.raises(DataError, match=complaint):
        parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x >= 1 and x < 5 and x > 1", Between(1, 5, low_open=True, high_open=True)),
        ("x in (1, 2, 3, 9) and x between 2 and 5", OneOf((2, 3))),
        ("x in (1, 2) and x in (2, 3)", Equal(2)),
        ("x is not missing and x > 2", Between(2, None, low_open=True)),
        ("x is missing and x is missing", Missing()),
        ("d >= 2020-01-01 and d >= '2020-02-01'", Between("2020-02-01", None)),
    ],
)
def test_several_conditions_on_a_column_intersect(text, expected):
    assert parse(text) == {text[0]: expected}


@SETTINGS
@given(CONDITIONS, CONDITIONS)
def test_intersection_is_symmetric(first, second):
    def settle(a, b):
        try:
            return intersect("x", a, b)
        except DataError:
            return None

    one, other = settle(first, second), settle(second, first)
    if isinstance(one, OneOf) and isinstance(other, OneOf):
        assert set(one.values) == set(other.values)
    else:
        assert one == other


def test_values_that_never_compare_are_refused():
    for value in (float("nan"), float("inf"), None, [1], decimal.Decimal("nan")):
        with pytest.raises(DataError, match="compares with"):
            Equal(value)
    with pytest.raises(DataError, match="needs a lower or an upper bound"):
        Between()
    with pytest.raises(DataError, match="at least one value"):
        OneOf(())
    assert render({"when": Equal(datetime.date(2020, 1, 31))}) == "when = '2020-01-31'"


def test_numbers_are_told_apart_by_their_spelling_in_a_column_of_texts():
    frame = pa.table({"zip": ["01", "1", "2", "1e3", "01", "1", "2", "1e3"], "x": [1.0, 2.0, 3.0, 4.0] * 2})
    codec = TableCodec.fit(frame)

    def kept(where):
        return frame.column("zip").filter(pa.array(codec.satisfies(frame, parse(where)))).unique().to_pylist()

    assert kept("zip = 01") == ["01"]
    assert kept("zip = 1") == ["1"]
    assert kept("zip in (01, 2)") == ["01", "2"]
    assert kept("zip = 1e3") == ["1e3"]
    assert render(parse("zip = 01 and x >= +1.50")) == "zip = 01 and x >= +1.50"
    assert codec.satisfies(frame, parse("x >= +3.00 and x <= 0.4e1")).tolist() == [False, False, True, True] * 2
    with pytest.raises(DataError, match="never held 001"):
        codec.evidence("zip", parse("zip = 001")["zip"])
