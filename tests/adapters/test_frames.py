"""Frames come back as they went in: kind, types, order of categories, index."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from clarkia.adapters import from_arrow, to_arrow
from clarkia.codecs import TableCodec
from clarkia.errors import DataError

N = 60


def pandas_frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "whole": rng.integers(0, 9, N).astype(np.int16),
            "nullable": pd.array([None if v == 3 else v for v in rng.integers(0, 9, N).tolist()], "Int64"),
            "real": np.where(rng.random(N) < 0.2, np.nan, rng.integers(0, 4, N) / 4).astype(np.float32),
            "text": rng.choice(["a", "", "é"], N),
            "holes": pd.array(rng.choice(["a", None], N), "str"),
            "size": pd.Categorical(rng.choice(["S", "M"], N), ["S", "M", "L"], ordered=True),
            "code": pd.Categorical(rng.integers(0, 3, N)),
            "flag": rng.random(N) < 0.5,
            "maybe": pd.array(rng.choice([True, False, None], N), "boolean"),
            "when": pd.Timestamp("2020-01-01", tz="Europe/Zurich") + pd.to_timedelta(rng.integers(0, 99, N), "h"),
            "span": pd.to_timedelta(rng.integers(0, 99, N), "s"),
            "day": [datetime.date(2020, 1, 1 + int(v)) for v in rng.integers(0, 30, N)],
            "price": [Decimal(int(v)) / 4 for v in rng.integers(0, 9, N)],
            5: rng.integers(0, 9, N),
        },
        index=pd.Index(np.arange(N) * 2, name="row"),
    )


def test_pandas_survives_the_codec():
    frame = pandas_frame()
    table = to_arrow(frame)
    codec = TableCodec.fit(table, dict.fromkeys(("text", "holes"), "categorical"))
    decoded = codec.decode(codec.encode(table, np.random.default_rng(0)))
    back = from_arrow(decoded, frame)
    pd.testing.assert_frame_equal(back, frame, rtol=1e-6)
    other = from_arrow(decoded.slice(0, 7), frame)
    assert other.index.tolist() == list(range(7))
    pd.testing.assert_series_equal(other.dtypes, frame.dtypes)


def test_polars_survives_the_codec():
    pl = pytest.importorskip("polars")
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "whole": pl.Series(rng.integers(0, 9, N), dtype=pl.UInt8),
            "text": rng.choice(["a", "", "é"], N).tolist(),
            "category": pl.Series(rng.choice(["u", "v"], N), dtype=pl.Categorical),
            "size": pl.Series(rng.choice(["S", "M"], N), dtype=pl.Enum(["S", "M", "L"])),
            "when": pl.Series(rng.integers(0, 10**6, N)).cast(pl.Datetime("ms", "UTC")),
            "day": pl.Series(rng.integers(0, 99, N).astype(np.int32)).cast(pl.Date),
            "clock": pl.Series(rng.integers(0, 86_400, N) * 10**9).cast(pl.Time),
            "holes": [None if v < 0.3 else v for v in rng.random(N).round(1).tolist()],
        }
    )
    for given in (frame, frame.lazy()):
        table = to_arrow(given)
        codec = TableCodec.fit(table)
        back = from_arrow(codec.decode(codec.encode(table, np.random.default_rng(0))), given)
        assert back.schema == frame.schema
        assert back.equals(frame)


def test_arrow_stays_arrow():
    table = pa.table({"a": [1, 2]})
    assert to_arrow(table) is table
    assert to_arrow(table.to_batches()[0]).equals(table)
    assert from_arrow(table) is table
    assert from_arrow(table, table) is table


def test_missing_cells_in_a_column_that_had_none_widen_it():
    frame = pd.DataFrame({"a": np.array([1, 2], np.int64)})
    back = from_arrow(pa.table({"a": [1, None]}), frame)
    assert back["a"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "'a' appears more than once"),
        (pd.DataFrame({"a": [1, 2, "x", 4]}), "'a', row 3: 'x' is of type str in a column of int"),
        (pd.DataFrame({"a": ["x", "y", None, 4]}, dtype=object), "'a', row 4: 4 is of type int in a column of str"),
        (pd.DataFrame({"a": [object(), object()]}), "'a' holds cells of type object"),
        ([[1, 2]], "not list"),
        (pd.Series([1]), "not Series"),
    ],
)
def test_what_is_no_table_is_refused(frame, complaint):
    with pytest.raises(DataError, match=complaint):
        to_arrow(frame)


def test_mixed_objects_declared_categorical_become_text():
    frame = pd.DataFrame({"a": [1, None, "x", 4], "b": [1, 2, 3, 4]})
    assert to_arrow(frame, {"a": "categorical"})["a"].to_pylist() == ["1", None, "x", "4"]
