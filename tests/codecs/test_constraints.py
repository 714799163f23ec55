"""Rules between columns: read, written, checked, built into what is coded and taken out again."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clarkia.codecs.conditions import Between, Equal, parse
from clarkia.codecs.constraints import (
    Bound,
    IfThen,
    Linked,
    Ordered,
    RuleEncoding,
    Sum,
    Where,
    from_files,
    kept,
    parse_rule,
    parse_rules,
    parse_terms,
    to_files,
)
from clarkia.errors import DataError

RULES = {
    "total = rent + food": Sum("total", ["rent", "food"]),
    "rent + food = total": Sum("total", ["rent", "food"]),
    "total=rent+0.5*food - 3": Sum("total", (("rent", 1.0), ("food", 0.5)), -3.0),
    "total = rent + 2 food within 5": Sum("total", (("rent", 1.0), ("food", 2.0)), within=5.0),
    "a + b = 100": Sum("b", (("a", -1.0),), 100.0),
    "start <= end": Ordered("start", "end"),
    "end > start": Ordered("start", "end", strict=True),
    "hours-per-week < age": Ordered("hours-per-week", "age", strict=True),
    "rent + food <= 2000": Bound((("rent", 1.0), ("food", 1.0)), "<=", 2000.0),
    '"my rent" > 2 * x + 1': Bound((("my rent", 1.0), ("x", -2.0)), ">", 1.0),
    "spend > 100": Where({"spend": Between(100, None, low_open=True)}),
    "100 >= spend": Where({"spend": Between(None, 100)}),
    "-x <= 3": Where({"x": Between(-3, None)}),
    "size = 3": Where({"size": Equal(3)}),
    "day >= '2024-03-01' and sex = 'F'": Where(parse("day >= '2024-03-01' and sex = 'F'")),
    "if sex = 'then' and age < 12 then job is missing": IfThen(
        parse("sex = 'then' and age < 12"), parse("job is missing")
    ),
    "city determines country, zone": Linked(("city", "country", "zone"), ("country", "zone")),
    'linked(make, "the model")': Linked(("make", "the model")),
}


@pytest.mark.parametrize("text", RULES)
def test_rules_are_read_and_written(text):
    rule = parse_rule(text)
    assert rule == RULES[text]
    assert parse_rule(str(rule)) == rule


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("total", "position 6 (at the end): one relation"),
        ("a = b = c", "position 7"),
        ("a + = b", "a column or a number"),
        ("a b = 3", "spaces around it"),
        ("if a = 3", "'then' should follow"),
        ("a <= 'x", "never closed"),
        ("a ! b", "cannot be read"),
        ("2 a = 3 b", "stand alone"),
        ("a determines", "a column should stand here"),
        ("linked(a)", "two or more"),
        ("a determines a", "two or more"),
        ("1 < 2", "no column"),
        ("a < b within 3", "belongs to a sum"),
        ("a <= 1e400 + b", "too large"),
        ("", "one relation"),
    ],
)
def test_what_is_no_rule_is_refused_with_its_place(text, words):
    with pytest.raises(DataError) as error:
        parse_rule(text)
    assert words in str(error.value)


def test_a_single_text_is_no_list_of_rules():
    with pytest.raises(DataError, match="list of rules"):
        parse_rules("a < b")


def test_sums_of_columns_are_read():
    assert parse_terms("income - 0.5 * rent + 3") == ((("income", 1.0), ("rent", -0.5)), 3.0)


def table(**columns):
    return pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)


def test_every_rule_says_which_rows_keep_it():
    rows = table(
        a=[1.0, 2.0, None, 4.0],
        b=[1.0, 5.0, 5.0, 3.0],
        c=[2.0, 7.0, 1.0, 7.5],
        day=pd.to_datetime(["2024-01-01", "2024-02-01", "2024-03-01", None]),
        end=pd.to_datetime(["2024-01-01", "2024-01-31", "2024-03-05", "2024-01-01"]),
        sex=["F", "M", None, "F"],
    )

    def holds(text, *, holes=False):
        return kept(parse_rule(text), rows, holes=holes).tolist()

    assert holds("c = a + b") == [True, True, False, False]
    assert holds("c = a + b", holes=True) == [True, True, True, False]
    assert holds("c = a + b within 0.5") == [True, True, False, True]
    assert holds("a < b") == [False, True, False, False]
    assert holds("a <= b", holes=True) == [True, True, True, False]
    assert holds("day <= end") == [True, False, True, False]
    assert holds("day < end", holes=True) == [False, False, True, True]
    assert holds("a + b > 6") == [False, True, False, True]
    assert holds("a > 1 and sex = 'M'") == [False, True, False, False]
    assert holds("day >= '2024-02-01'") == [False, True, True, False]
    assert holds("if sex = 'F' then b < 2") == [True, True, False, False]
    assert holds("if b = 5 then a > 3") == [True, False, False, True]
    assert holds("if b = 5 then a > 3", holes=True) == [True, False, True, True]
    assert holds("sex is missing") == [False, False, True, False]


def test_the_excess_of_a_bound_is_the_distance_to_it():
    rows = table(a=[1.0, 5.0, 7.0], b=[2.0, 2.0, 2.0])
    assert parse_rule("a <= 5").excess(rows, holes=False).tolist() == pytest.approx([-4, 0, 2])
    assert parse_rule("a - 2 b >= 3").excess(rows, holes=False).tolist() == pytest.approx([6, 2, 0])
    assert parse_rule("a < 5").excess(rows, holes=False)[1] > 0


def spending(rows=300, seed=0):
    rng = np.random.default_rng(seed)
    city = rng.choice(["Paris", "Lyon", "Bonn"], rows)
    start = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 300, rows), unit="D")
    frame = pd.DataFrame(
        {
            "country": np.where(city == "Bonn", "DE", "FR"),
            "city": pd.Categorical(city),
            "total": 0.0,
            "rent": np.round(rng.lognormal(6, 0.5, rows), 2),
            "food": np.round(rng.lognormal(5, 0.5, rows), 2),
            "start": start,
            "end": start + pd.to_timedelta(rng.integers(0, 30, rows), unit="D"),
            "low": rng.integers(0, 9, rows),
            "real": rng.normal(size=rows),
        }
    )
    frame["total"] = np.round(frame.rent + frame.food, 2)
    frame["tax"] = np.round(0.19 * frame.rent, 2)
    frame["all"] = np.round(frame.total + frame.tax, 2)
    frame["high"] = frame.low + rng.integers(1, 5, rows)
    frame["more"] = frame.real + rng.exponential(size=rows)
    return frame


ALL = [
    "total = rent + food",
    "tax = 0.19 * rent",
    "all = total + tax",
    "start <= end",
    "low < high",
    "real <= more",
    "city determines country",
    "if city = 'Bonn' then rent > 0",
]


def test_built_in_rules_are_taken_out_again_exactly():
    frame = spending()
    frame.loc[3, ["rent", "total", "tax", "all"]] = np.nan
    frame.loc[4, "end"] = pd.NaT
    frame.loc[5, ["city", "country"]] = None
    rows = pa.Table.from_pandas(frame, preserve_index=False)
    encoding = RuleEncoding.fit(rows, parse_rules(ALL))
    changed = encoding.forward(rows)
    assert sorted(changed.column_names) == sorted(
        ["rent", "food", "start", "end - start", "low", "high - low", "real", "more - real", "city & country"]
    )
    assert [str(rule) for rule in encoding.standing] == [ALL[-1]]
    again = encoding.backward(changed)
    assert again.schema == rows.schema
    for name in rows.column_names:
        if name != "more":
            assert again.column(name).to_pylist() == rows.column(name).to_pylist(), name
    np.testing.assert_allclose(again["more"], rows["more"], rtol=1e-15)
    config, tables = to_files(encoding)
    read = from_files(json.loads(json.dumps(config)), tables, changed.schema)
    assert read.backward(read.forward(rows)).equals(again)
    assert read.rules == encoding.rules


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9), st.integers(0, 10**6), st.sampled_from("abc")
        ),
        min_size=2,
        max_size=20,
    ),
    st.integers(0, 4),
)
def test_decimals_of_any_size_come_back_to_the_last_digit(rows, digits):
    unit = 10.0**digits
    first, second, gap = (np.array(column) for column in list(zip(*rows, strict=True))[:3])
    frame = pd.DataFrame({"a": first / unit, "b": second / unit, "c": [row[3] for row in rows]})
    frame["sum"] = (first - 2 * second + 7 * int(unit)) / unit
    frame["later"] = (first + gap) / unit
    frame["d"] = frame.c + "!"
    whole = pa.Table.from_pandas(frame, preserve_index=False)
    rules = parse_rules(["sum = a - 2 * b + 7", "a <= later", "linked(c, d)"])
    encoding = RuleEncoding.fit(whole, rules)
    assert encoding.backward(encoding.forward(whole)).equals(whole)


def test_whatever_is_drawn_keeps_the_rules():
    """The changed columns shuffled against each other are rows that break none."""
    rows = pa.Table.from_pandas(spending(), preserve_index=False)
    encoding = RuleEncoding.fit(rows, parse_rules(ALL[:-1]))
    changed, rng = encoding.forward(rows), np.random.default_rng(0)
    shuffled = pa.table(
        {name: changed.column(name).take(pa.array(rng.permutation(len(rows)))) for name in changed.column_names}
    )
    made = encoding.backward(shuffled)
    assert not encoding.breaks(made).any()
    assert not made.equals(rows)


def test_rows_that_break_a_rule_are_named():
    frame = spending(50)
    frame.loc[[6, 9], "total"] += 1
    with pytest.raises(DataError, match=r"'total = rent \+ food' is broken in 2 of 50 rows, first in row 7 \(total"):
        RuleEncoding.fit(pa.Table.from_pandas(frame), parse_rules(ALL[:1]))
    frame = spending(50)
    frame.loc[0, "country"] = "IT"
    with pytest.raises(DataError, match=r"rows 1 and \d+ agree on 'city' and not on 'country'"):
        RuleEncoding.fit(pa.Table.from_pandas(frame), parse_rules(["city determines country"]))


def test_rules_that_cannot_be_are_refused():
    rows = pa.Table.from_pandas(spending(50), preserve_index=False)
    with pytest.raises(DataError, match="no column 'rents' for the rule"):
        RuleEncoding.fit(rows, parse_rules(["total = rents + food"]))
    with pytest.raises(DataError, match="follow from each other"):
        RuleEncoding.fit(rows, parse_rules(["total = rent + food", "rent = total - food"]))
    with pytest.raises(DataError, match="cannot calculate"):
        RuleEncoding.fit(rows, parse_rules(["total = rent + city"]))
    with pytest.raises(DataError, match="do not compare"):
        RuleEncoding.fit(rows, parse_rules(["rent <= start"]))
    with pytest.raises(DataError, match="fit the model with it"):
        kept(parse_rule("city determines country"), rows, holes=False)


def test_what_rules_imply_is_filled_in_and_the_rest_left_open():
    frame = spending()
    encoding = RuleEncoding.fit(pa.Table.from_pandas(frame, preserve_index=False), parse_rules(ALL[:1] + ALL[6:7]))
    part = frame.iloc[:4].copy()
    part.loc[0, "rent"] = None
    part.loc[1, ["total", "food"]] = None
    part["country"] = ["DE", "FR", None, None]
    part["city"] = [None, None, "Lyon", None]
    changed, held = encoding.with_holes(pa.Table.from_pandas(part, preserve_index=False))
    assert changed.column("rent").to_pylist() == frame.rent[:4].tolist()
    assert changed.column("food").to_pylist()[1] is None
    assert changed.column("city & country").to_pylist() == ["Bonn, DE", None, "Lyon, FR", None]
    assert encoding.steps[1].allowed(held["city & country"]).sum(1).tolist() == [1, 2, 1, 3]
    part.loc[0, "food"] = None
    with pytest.raises(DataError, match="Row 1: 'total' is there while 'rent' and 'food' are empty"):
        encoding.with_holes(pa.Table.from_pandas(part, preserve_index=False))
    part.loc[0, "total"] = None
    part.loc[2, "country"] = "DE"
    with pytest.raises(DataError, match=r"Row 3: city = 'Lyon', country = 'DE' did not occur together"):
        encoding.with_holes(pa.Table.from_pandas(part, preserve_index=False))


def test_conditions_on_columns_that_are_not_coded():
    rows = pa.Table.from_pandas(spending(), preserve_index=False)
    encoding = RuleEncoding.fit(rows, parse_rules(ALL))
    native, rest = encoding.translate(parse("country = 'DE' and total > 300 and low = 3"))
    assert native == {"low": Equal(3), "city & country": Equal("Bonn, DE")}
    assert rest == [Where(parse("total > 300"))]
    with pytest.raises(DataError, match="no such values together"):
        encoding.translate(parse("country = 'DE' and city = 'Lyon'"))


def test_altered_rules_are_refused():
    rows = pa.Table.from_pandas(spending(), preserve_index=False)
    encoding = RuleEncoding.fit(rows, parse_rules(ALL))
    changed = encoding.forward(rows).schema
    whole, tables = to_files(encoding)

    def refused(words, change, own=tables):
        config = json.loads(json.dumps(whole))
        change(config)
        with pytest.raises(DataError, match=words):
            from_files(config, own, changed)

    refused("steps", lambda c: c["steps"][0].update(kind="code"))
    refused("digits", lambda c: next(s for s in c["steps"] if s["kind"] == "sum").update(digits=[2]))
    refused("not those of the codec", lambda c: c["steps"].pop())
    refused(
        "no rule of the kind",
        lambda c: c["steps"][-1].update(rule="start <= end") or c["steps"][-1].update(kind="link"),
    )
    refused("no column 'nope'", lambda c: c["standing"].append("nope > 3"))
    refused("least", lambda c: next(s for s in c["steps"] if s["kind"] == "order").update(least=-1.0))
    name = next(name for name in tables if name.startswith("combinations"))
    refused("combination twice", lambda c: None, tables | {name: pa.concat_tables([tables[name]] * 2)})
    refused("combinations of other columns", lambda c: None, tables | {name: tables[name].rename_columns(["x", "y"])})
    refused("KeyError", lambda c: None, {})
