"""Rules in the cases that are easily overlooked: overlapping ones, empty cells, rounding, names that need quotes."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clarkia.codecs.conditions import Between, Equal, Missing
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
    to_files,
)
from clarkia.errors import DataError


def table(**columns):
    return pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)


def fit(rows, *rules):
    return RuleEncoding.fit(rows, parse_rules(list(rules)))


# ------------------------------------------------------------------------------------------------ linked columns

PLACES = table(
    city=["Bonn", "Lyon", "Bonn", "Nice", "Atlantis", "Wien"],
    country=["DE", "FR", "DE", "FR", None, "AT"],
    continent=["EU", "EU", "EU", "EU", None, "EU"],
    size=[3, 5, 3, 2, 9, 7],
)


def test_linked_rules_that_share_a_column_are_one_step():
    rules = ["city determines country", "linked(size, continent)", "country determines continent"]
    encoding = fit(PLACES, *rules)
    assert len(encoding.steps) == 1
    assert [str(rule) for rule in encoding.rules] == rules
    changed = encoding.forward(PLACES)
    assert changed.num_columns == 1
    assert encoding.backward(changed).equals(PLACES)
    config, tables = to_files(encoding)
    read = from_files(json.loads(json.dumps(config)), tables, changed.schema)
    assert read.rules == encoding.rules
    assert read.backward(read.forward(PLACES)).equals(PLACES)


def test_each_of_the_rules_that_share_a_column_is_checked():
    with pytest.raises(DataError, match=r"'country determines size' is broken: rows 2 and 4 agree on 'country'"):
        fit(PLACES, "city determines country", "country determines size")


def test_linked_columns_that_another_rule_makes():
    rows = table(a=[1, 2, 3], b=[4, 4, 5], total=[5, 6, 8], kind=["x", "y", "x"])
    with pytest.raises(DataError, match=r"both make the column 'total'; leave one out, or link all columns, 'linked\("):
        fit(rows, "total = a + b", "linked(kind, total)")
    for rules in (["linked(total, a, b)", "total = a + b"], ["a <= total", "linked(kind, total)"]):
        encoding = fit(rows, *rules)
        assert not any(isinstance(rule, Linked) for rule in encoding.standing)
        assert len(encoding.standing) == 1
        assert encoding.backward(encoding.forward(rows)).equals(rows)


def test_a_combination_with_an_empty_cell_is_one_like_others():
    encoding = fit(PLACES, "city determines country")
    (step,) = encoding.steps
    changed, held = encoding.with_holes(PLACES)
    assert changed.equals(encoding.forward(PLACES))
    # Atlantis goes with no country, and only what cannot be filled stays empty.
    open_rows = table(city=["Atlantis", None, None], country=[None, None, "FR"])
    _, held = encoding.with_holes(open_rows)
    cities = [step.combinations.column("city").filter(pa.array(fits)) for fits in step.allowed(held["city & country"])]
    assert [sorted(part.to_pylist()) for part in cities] == [
        ["Atlantis"],
        ["Bonn", "Lyon", "Nice", "Wien"],
        ["Lyon", "Nice"],
    ]


def test_linked_cells_of_another_type_are_named():
    rows = table(code=[1, 2], name=["a", "b"])
    encoding = fit(rows, "linked(code, name)")
    wrong = table(code=["1", "two"], name=["a", "b"])
    for look in (encoding.with_holes, encoding.forward, encoding.breaks):
        with pytest.raises(DataError, match="Column 'code', row 2: 'two' is no int64"):
            look(wrong)


def test_the_row_that_never_occurred_is_named_by_its_number_in_the_frame():
    encoding = fit(PLACES, "city determines country")
    city = ["Bonn"] * 5000
    city[4500] = "Lyon"
    with pytest.raises(DataError, match=r"Row 4501: city = 'Lyon', country = 'DE' did not occur together"):
        encoding.with_holes(table(city=city, country=["DE"] * 5000))


# ------------------------------------------------------------------------------------------------------- sums


def test_a_sum_is_kept_whichever_rows_stand_beside_it():
    rule = parse_rule("total = 1.5 * a")
    training = table(total=[0.15, 7.35], a=[0.1, 4.9])
    encoding = RuleEncoding.fit(training, [rule])
    config, tables = to_files(encoding)
    encodings = [encoding, from_files(config, tables, encoding.forward(training).schema)]
    for own in encodings:
        beside = own.breaks(table(total=[7.0, 0.15, 7.35], a=[4.9, 0.1, 4.9]))
        assert beside.tolist() == [True, False, False]
        assert own.breaks(table(total=[7.0], a=[4.9])).tolist() == [True]


def test_a_sum_that_stands_has_the_digits_of_training_too():
    training = table(total=[0.25, 7.35], a=[0.1, 4.9])
    encoding = fit(training, "total = 1.5 * a within 0.1")
    config, tables = to_files(encoding)
    again = from_files(json.loads(json.dumps(config)), tables, training.schema)
    for own in (encoding, again):
        assert len(own.standing) == 1
        assert own.breaks(table(total=[7.0], a=[4.9])).tolist() == [True]
        assert own.breaks(table(total=[7.25], a=[4.9])).tolist() == [False]


def test_a_total_with_fewer_digits_than_its_parts_is_rounded():
    rule = parse_rule("total = a + b")
    rows = table(total=[8, 7, 9], a=[3.3, 3.3, 3.3], b=[4.4, 4.4, 4.4])
    assert kept(rule, rows, holes=False).tolist() == [True, False, False]
    encoding = RuleEncoding.fit(rows.slice(0, 1), [rule])
    assert encoding.backward(encoding.forward(rows.slice(0, 1))).equals(rows.slice(0, 1))
    whole = table(total=[8], a=[3], b=[4])
    assert not kept(rule, whole, holes=False).any()


def test_a_part_that_its_column_cannot_hold_is_refused():
    encoding = fit(table(x=[1, 2, 5], total=[2, 4, 10]), "total = 2 * x")
    holes = pa.table({"x": pa.array([None, 3, None], pa.int64()), "total": [12, 6, 11]})
    with pytest.raises(DataError, match=r"Row 3: no value that 'x' can hold .* total = 11 \(the nearest is 6\)"):
        encoding.with_holes(holes)
    changed, _ = encoding.with_holes(holes.slice(0, 2))
    assert changed.column("x").to_pylist() == [6, 3]


# ------------------------------------------------------------------------------------------------- empty cells


def test_if_then_with_empty_cells():
    """Only a cell on which it depends leaves open whether the rule is kept."""
    rule = parse_rule("if sex = 'F' and age > 12 then beard = 'no'")
    rows = table(
        sex=["F", "F", "M", None, None, None, "M"],
        age=[30.0, 30.0, 30.0, 30.0, 30.0, 5.0, None],
        beard=["yes", None, None, "yes", "no", "yes", "yes"],
    )
    certain = kept(rule, rows, holes=False)
    assert certain.tolist() == [False, False, True, False, True, True, True]
    assert np.isnan(rule.excess(rows, holes=False)).tolist() == [False, True, False, True, False, False, False]
    assert kept(rule, rows, holes=True).tolist() == [False, True, True, True, True, True, True]
    absent = parse_rule("if sex is not missing then beard = 'no'")
    assert kept(absent, rows, holes=False).tolist() == [False, False, False, True, True, True, False]


def test_cells_that_rules_want_empty_are_emptied_where_they_were():
    encoding = fit(
        pa.table({"age": [8, 30], "job": pa.array([None, "cook"])}), "if age < 12 then job is missing", "age < 99"
    )
    given = pa.table({"age": [8, 30], "job": pa.array([None, None], pa.string())})
    filled = pa.table({"age": [8, 30], "job": pa.array(["cook", "cook"])})
    assert encoding.emptied(filled, given).column("job").to_pylist() == [None, "cook"]
    assert encoding.emptied(filled, given.drop_columns(["job"])).column("job").to_pylist() == [None, "cook"]
    assert encoding.emptied(filled, filled).equals(filled)


def test_holes_are_found_where_no_rule_is_built_in():
    encoding = fit(table(sex=["F", "M"], beard=["no", "yes"]), "if sex = 'F' then beard = 'no'")
    rows = table(sex=["F", "M", "F"], beard=[None, "no", "yes"])
    with pytest.raises(DataError, match=r"is broken in one row, first in row 3 \(sex = F, beard = yes\)"):
        encoding.with_holes(rows)
    assert encoding.leaves_open(rows).tolist() == [True, False, False]
    assert encoding.leaves_open(rows.drop_columns(["sex"])).all()
    with pytest.raises(DataError, match="no column 'beard' for the rule"):
        encoding.breaks(rows.drop_columns(["beard"]))
    nothing = rows.set_column(1, "beard", pa.nulls(3))  # as of a frame without a single value
    assert not encoding.breaks(nothing).any()
    assert encoding.with_holes(nothing)[0].column("beard").null_count == 3


# ------------------------------------------------------------------------------------------------- written rules

# fmt: off
NAMES = st.sampled_from([
    "a--b", "a-", "if", "If", "then", "determines", "linked", "within", "in", "between", "is-in", "true", "check-in",
    "if-then", "a.b", "-", "=", "+", "*", ",", "(", "<=", "5a", "x y", 'say "a"', "it's", "",
]) | st.text("ab-.'\" =,5", max_size=4)
# fmt: on
NUMBERS = st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: value != 0)


@st.composite
def rules(draw):
    first, second, third = draw(st.lists(NAMES, min_size=3, max_size=3, unique=True))
    factor, constant = draw(NUMBERS), draw(NUMBERS)
    return draw(
        st.sampled_from(
            [
                Sum(first, ((second, factor), (third, 1.0)), constant, abs(factor)),
                Sum(first, ((second, 1.0),)),
                Ordered(first, second, strict=True),
                Bound(((first, factor), (second, constant)), "<=", factor),
                Where({first: Equal("then in"), second: Between(1, None)}),
                IfThen({first: Equal(1), second: Missing()}, {third: Equal("then")}),
                Linked((first, second, third), (third,)),
                Linked((first, second, third)),
            ]
        )
    )


@settings(max_examples=300, deadline=None)
@given(rules())
def test_rules_on_columns_of_any_name_are_read_as_they_are_written(rule):
    assert parse_rule(str(rule)) == rule


def test_a_name_with_a_keyword_in_it_is_a_name():
    assert parse_rule("check-in <= check-out") == Ordered("check-in", "check-out")
    assert parse_rule("if-x < is.y") == Ordered("if-x", "is.y", strict=True)
    assert parse_rule("if if-x = 3 then then-y = 4") == IfThen({"if-x": Equal(3)}, {"then-y": Equal(4)})
    assert str(Sum("b", (("a", 1 / 3), ("c", 2.0)))) == "b = 0.3333333333333333 * a + 2 * c"


def test_what_must_not_be_missing_is_broken_by_an_empty_cell_unless_it_is_to_be_filled():
    rows = pa.table({"job": ["yes", "yes", "no"], "pay": [3.0, None, None]})
    rule = "if job = 'yes' then pay is not missing"
    with pytest.raises(DataError, match=r"is broken in one row, first in row 2"):
        RuleEncoding.fit(rows, parse_rules([rule]))
    encoding = RuleEncoding.fit(rows.take([0, 2]), parse_rules([rule]))
    assert encoding.breaks(rows).tolist() == [False, True, False]
    assert encoding.breaks_standing(rows).tolist() == [False, True, False]
    assert encoding.with_holes(rows)[0].equals(rows)
    with pytest.raises(DataError, match="first in row 2"):
        encoding.forward(rows)
