"""What columns are taken for, what a declaration overrules, and what is refused in one sentence."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from clarkia.codecs import TableCodec
from clarkia.errors import DataError

N = 200
RNG = np.random.default_rng(0)
BASE = {"c": RNG.choice(["a", "b"], N)}


PROSE = [f"{i} long free text about many a thing, and more" for i in range(N)]
WIDE = pa.array([Decimal(10**30 + i) for i in range(N)], pa.decimal128(38, 0))
STRAY = ["1", "2.5", "n.a", "-3e4"] * (N // 4)


def role_of(values, **options):
    return TableCodec.fit(pa.table({**BASE, "x": values}), **options).column("x")[0].role


@pytest.mark.parametrize(
    ("values", "role"),
    [
        (RNG.integers(0, 50, N), "integer"),
        (RNG.permutation(N), "key"),  # distinct and dense
        (RNG.permutation(N) * 1000, "integer"),  # distinct and sparse: an amount, say
        (RNG.integers(0, 9, N).astype(float), "integer"),
        (RNG.normal(size=N).round(2), "decimal"),
        (RNG.normal(size=N), "real"),
        (RNG.random(N) < 0.5, "boolean"),
        ([f"user-{i}" for i in range(N)], "key"),
        (RNG.choice(["x", "", "é"], N), "categorical"),
        (["02139", "10001"] * (N // 2), "categorical"),
        ([7] * N, "constant"),
        (pa.array(RNG.integers(0, 9, N).astype(np.int32)).cast(pa.date32()), "date"),
        (pa.array(RNG.integers(0, 9, N)).cast(pa.timestamp("us")), "timestamp"),
        (pa.array(RNG.integers(0, 9, N)).cast(pa.time64("us")), "time"),
        (pa.array(RNG.integers(0, 9, N)).cast(pa.duration("s")), "duration"),
        (pa.array(RNG.integers(0, 9, N)).cast(pa.decimal128(20, 0)), "decimal"),
        (pa.array(RNG.integers(0, 9, N)).dictionary_encode(), "categorical"),
    ],
)
def test_inferred_roles(values, role):
    assert role_of(values) == role


def test_few_distinct_integers_are_no_key_in_a_small_table():
    table = pa.table({"age": [23, 25, 24, 31], "c": ["a", "b", "a", "b"], "row": [1, 2, 3, 4]})
    codec = TableCodec.fit(table)
    assert [column.role for column in codec.columns] == ["integer", "categorical", "key"]


@pytest.mark.parametrize(
    ("values", "role"),
    [
        (RNG.permutation(N), "integer"),
        (RNG.permutation(N), "categorical"),
        (RNG.permutation(N) * 1000, "key"),
        (RNG.normal(size=N).round(2), "real"),
        (RNG.normal(size=N).round(0), "categorical"),
        ([f"word {i}" for i in range(N)], "categorical"),
        (["3", "x"] * (N // 2), "categorical"),
        (pa.array(RNG.integers(0, 9, N).astype(np.int32)).cast(pa.date32()), "categorical"),
    ],
)
def test_declared_roles(values, role):
    assert role_of(values, roles={"x": role}) == role


@pytest.mark.parametrize(
    ("values", "role", "complaint"),
    [
        (["a", "b"] * (N // 2), "integer", "'x' is declared 'integer' but has the type string"),
        (RNG.normal(size=N), "integer", "declared 'integer' but holds"),
        (RNG.normal(size=N), "key", "'x' is declared 'key'"),
        ([1, 1] * (N // 2), "key", "'x' is declared 'key'"),
        (RNG.normal(size=N), "date", "'x' is declared 'date'"),
        (RNG.normal(size=N), "constant", "'x' is declared 'constant'"),
        (RNG.normal(size=N), "boolean", "'x' is declared 'boolean'"),
        (RNG.normal(size=N), "number", "'number', which is no role; use one of categorical"),
    ],
)
def test_roles_that_do_not_fit(values, role, complaint):
    with pytest.raises(DataError, match=complaint):
        role_of(values, roles={"x": role})


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        (pa.table({}), "no columns"),
        (pa.table({"a": [1.5, 2.5]}), "one column only, 'a'"),
        (pa.table({"a": pa.array([], pa.int64()), "b": pa.array([], pa.string())}), "no rows, only a header"),
        (pa.table({"a": [1], "b": ["x"]}), "one row only"),
        (pa.Table.from_arrays([pa.array([1, 2]), pa.array([1, 2])], ["a", "a"]), "'a' appears more than once"),
        (pa.table({**BASE, "x": pa.nulls(N, pa.float64())}), r"'x' has no value in any row; .* roles=\{'x': 'drop'\}"),
        (pa.table({**BASE, "x": pa.nulls(N)}), "'x' has no value in any row"),
        (pa.table({**BASE, "x": [np.nan] * N}), "'x' has no value in any row"),
        (pa.table({**BASE, "x": [1.5] * (N - 1) + [np.inf]}), "'x', row 200: inf is infinite"),
        (pa.table({**BASE, "x": [1.5, -1e308] + [2.5] * (N - 2)}), "'x', row 2: -1e[+]308 is beyond 1e300"),
        (pa.table({**BASE, "x": STRAY}), r"'x', row 3: 'n.a' is text in a column of numbers.*roles"),
        (pa.table({**BASE, "x": PROSE}), "'x' is text with 200 different"),
        (pa.table({**BASE, "x": [f"w{i}" for i in range(N - 5)] + ["w"] * 5}), "'key' .*'categorical' or 'drop'"),
        (pa.table({**BASE, "x": [[1]] * N}), r"'x' has the type list.*unpack it"),
        (pa.table({"id": range(N), "c": ["kg"] * N}), "nothing to learn"),
        (pa.table({**BASE, "x": WIDE}), "more than 18 digits"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_fitted(table, complaint):
    with pytest.raises(DataError, match=complaint) as error:
        TableCodec.fit(table)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("options", [{"roles": {"z": "drop"}}, {"groups": {"z": 3}}])
def test_declarations_for_columns_that_are_not_there(options):
    with pytest.raises(DataError, match="no column 'z'"):
        TableCodec.fit(pa.table({**BASE, "x": range(N)}), **options)


FIT = pa.table({"n": RNG.integers(0, 100, N), "c": RNG.choice(["a", "b"], N), "h": pa.array(["u", None] * (N // 2))})


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"c": ["a", "z"]}, "'c', row 2: the value 'z' did not occur in training"),
        ({"n": [5, None]}, "'n', row 2: the cell is empty, but training had no missing values"),
        ({"n": [5, 6.5]}, r"'n', row 2: 6.5 is no int64"),
        ({"n": ["5", "x"]}, "'n', row 2: 'x' is no int64"),
        ({"n": None}, "no column 'n' in this table"),
    ],
)
def test_tables_that_cannot_be_encoded(changes, complaint):
    codec = TableCodec.fit(FIT)
    columns = {"n": [1, 2], "c": ["a", "b"], "h": ["u", "u"], **changes}
    table = pa.table({name: cells for name, cells in columns.items() if cells is not None})
    with pytest.raises(DataError, match=complaint):
        codec.encode(table, np.random.default_rng(0))


def test_other_types_of_the_same_values_are_encoded():
    codec = TableCodec.fit(FIT)
    wanted = codec.encode(pa.table({"n": [1, 2], "c": ["a", "b"], "h": ["u", None]}), np.random.default_rng(0))
    table = pa.table(
        {
            "extra": [0, 0],
            "h": pa.array(["u", None]).dictionary_encode(),
            "c": pa.array(["a", "b"], pa.large_string()),
            "n": [1.0, 2.0],
        }
    )
    found = codec.encode(table, np.random.default_rng(0))
    assert all(np.array_equal(wanted[name], found[name]) for name in wanted)


def test_unseen_categories_and_holes_on_request():
    codec = TableCodec.fit(FIT)
    rng = np.random.default_rng(0)
    odd = pa.table({"n": [1, 2], "h": ["never", "u"]})
    with pytest.raises(DataError, match="no column 'c'"):
        codec.encode(odd, rng, unseen="missing")
    state = codec.encode(odd, rng, unseen="missing", holes="fill")
    column = codec.column("h")[0]
    assert state["levels"][:, column.level[1]].tolist() == [column.missing, 0]
    known = codec.observed(odd)
    assert known["levels"][:, codec.column("c")[0].level[1]].tolist() == [False, False]
    with pytest.raises(DataError, match="'never' did not occur"):
        codec.encode(odd, rng, unseen="rare", holes="fill")
    many = pa.table({"s": [f"v{int(v)}" for v in RNG.random(9000) ** 4 * 3000], "b": RNG.random(9000) < 0.5})
    rare = TableCodec.fit(many)
    new = pa.table({"s": ["brand new"], "b": [True]})
    assert rare.encode(new, rng, unseen="rare")["wide"].tolist() == [[rare.column("s")[1].rare]]


def test_states_that_cannot_be_decoded():
    codec = TableCodec.fit(pa.table({**BASE, "x": RNG.normal(size=N)}))
    state = codec.encode(pa.table({"c": ["a", "b"], "x": [0.1, 0.2]}), np.random.default_rng(0))
    masked = {**state, "levels": np.array([[0], [2]])}
    with pytest.raises(DataError, match="'c', row 2: class 2 is not one of its levels"):
        codec.decode(masked)
    with pytest.raises(DataError, match="'x', row 1: the residual is not a number"):
        codec.decode({**state, "numeric": np.full((2, 1), np.nan)})
