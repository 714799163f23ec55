import datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from clarkia.errors import DataError
from clarkia.reports.columns import code_tables, type_columns


def kinds(table, roles=None):
    return {column.name: column.kind for column in type_columns(table, roles)}


def test_types_decide_the_kind_and_roles_overrule_it():
    n = 30
    table = pa.table(
        {
            "integer": pa.array([1, 2] * 15),
            "real": pa.array(np.linspace(0, 1, n)),
            "decimal": pa.array([Decimal("1.50")] * n),
            "date": pa.array([datetime.date(2020, 1, 1)] * n),
            "stamp": pa.array([datetime.datetime(2020, 1, 1)] * n),
            "time": pa.array([datetime.time(1)] * n),
            "duration": pa.array([datetime.timedelta(1)] * n),
            "text": pa.array(["a", "b"] * 15),
            "large": pa.array(["a", "b"] * 15, pa.large_string()),
            "flag": pa.array([True, False] * 15),
            "dictionary": pa.array(["a", "b"] * 15).dictionary_encode(),
            "empty": pa.nulls(n),
            "name": pa.array([f"person {i}" for i in range(n)]),
            "number": pa.array(np.arange(n) * 2 + 900),
            "spread": pa.array(np.arange(n) ** 2),
        }
    )
    found = kinds(table)
    numeric = ["integer", "real", "decimal", "date", "stamp", "time", "duration", "spread"]
    assert [name for name, kind in found.items() if kind == "numeric"] == numeric
    assert [name for name, kind in found.items() if kind == "key"] == ["name", "number"]
    assert found["empty"] == "categorical"
    roles = {"integer": "categorical", "name": "categorical", "number": "integer", "real": "drop", "flag": "constant"}
    assert [kinds(table, roles)[name] for name in roles] == [
        "categorical",
        "categorical",
        "numeric",
        "drop",
        "categorical",
    ]


def coded(roles=None, **tables):
    return code_tables(type_columns(tables["real"], roles), tables)


def test_categories_share_one_code_across_tables_and_types():
    real = pa.table({"x": pa.array(["b", None, "a"]).dictionary_encode()})
    other = pa.table({"x": pa.array(["a", "c", "b", None], pa.large_string())})
    found = coded(real=real, synthetic=other)
    assert found.categories == (("b", "a", "c"),)
    assert found.rows["real"].categorical[:, 0].tolist() == [0, -1, 1]
    assert found.rows["synthetic"].categorical[:, 0].tolist() == [1, 2, 0, -1]


def test_numbers_declared_categorical_keep_their_values():
    real, other = pa.table({"x": pa.array([1, 2, None])}), pa.table({"x": pa.array([2.0, float("nan"), 1.0])})
    found = coded({"x": "categorical"}, real=real, synthetic=other)
    assert found.categories == (("1", "2"),)
    assert found.rows["synthetic"].categorical[:, 0].tolist() == [1, -1, 0]
    odd = coded({"x": "categorical"}, real=real, synthetic=pa.table({"x": pa.array([1.5, 1.0])}))
    assert odd.categories == (("1", "2", "1.5"),)
    assert odd.rows["synthetic"].categorical[:, 0].tolist() == [2, 0]


def test_times_are_numbers_of_the_real_table_s_unit():
    real = pa.table({"x": pa.array([datetime.date(1970, 1, 3), None])})
    other = pa.table({"x": pa.array([datetime.datetime(1970, 1, 5)], pa.timestamp("ns"))})
    found = coded(real=real, synthetic=other)
    np.testing.assert_array_equal(found.rows["real"].numeric[:, 0], [2.0, np.nan])
    assert found.rows["synthetic"].numeric[:, 0].tolist() == [4.0]
    zone = pa.table({"x": pa.array([datetime.datetime(1970, 1, 2)], pa.timestamp("s", "Europe/Berlin"))})
    assert coded(real=zone).rows["real"].numeric[:, 0].tolist() == [86400.0]


def test_decimals_integers_and_gaps_are_floats():
    table = pa.table({"a": pa.array([Decimal("1.25"), None]), "b": pa.array([2**40, 3], pa.uint64())})
    rows = coded(real=table).rows["real"].numeric
    np.testing.assert_array_equal(rows, [[1.25, 2.0**40], [np.nan, 3]])


TABLE = pa.table({"x": [1.0, 2.0], "y": ["a", "b"]})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda: type_columns(TABLE, {"z": "numeric"}), "Column 'z' given in roles does not exist; nearest are"),
        (
            lambda: type_columns(TABLE, {"x": "floaty"}),
            "Column 'x' has the unknown role 'floaty'; the roles are boolean",
        ),
        (lambda: type_columns(pa.table([[1], [2]], names=["a", "a"])), "Column name 'a' occurs more than once"),
        (lambda: type_columns(pa.table({"a": [[1]]})), "Column 'a' has the type list"),
        (lambda: coded(real=TABLE, synthetic=TABLE.select(["x"])), "The synthetic table has no column 'y'"),
        (lambda: coded(real=TABLE, synthetic=TABLE.slice(0, 0)), "The synthetic table has no rows"),
        (lambda: coded({"y": "numeric"}, real=TABLE), "Column 'y' of the real table has the type string and cannot"),
        (lambda: coded({"x": "drop", "y": "key"}, real=TABLE), "no column that can be compared"),
        (
            lambda: coded(real=TABLE, synthetic=TABLE.set_column(0, "x", pa.array([1.0, np.inf]))),
            "Column 'x' of the synthetic table is infinite in row 1",
        ),
        (
            lambda: coded(real=pa.table({"d": [datetime.date(2020, 1, 1)]}), synthetic=pa.table({"d": ["soon"]})),
            "Column 'd' of the synthetic table has the type string",
        ),
        (
            lambda: coded({"x": "categorical"}, real=TABLE, synthetic=TABLE.set_column(0, "x", pa.array(["p", "q"]))),
            "Column 'x' has the type string in the synthetic table but double in the real table",
        ),
    ],
)
def test_unusable_tables_are_refused_with_one_sentence(change, sentence):
    with pytest.raises(DataError, match=r"^[^\n]+$") as caught:
        change()
    assert sentence in str(caught.value)
