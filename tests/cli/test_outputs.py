"""Table files as they are written: in pieces, whole or absent, and read back as they were."""

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarkia.adapters import read_table
from clarkia.cli.outputs import table_writer, write_table
from clarkia.errors import DataError

KINDS = pa.table(
    {
        "whole": pa.array([1, None, 3], pa.int8()),
        "real": pa.array([0.1, None, 1e-300]),
        "money": pa.array([Decimal("1.20"), None, Decimal("-3.00")]),
        "truth": pa.array([True, None, False]),
        "day": pa.array([dt.date(2024, 2, 29), None, dt.date(1900, 1, 1)]),
        "moment": pa.array([dt.datetime(2024, 2, 29, 1, 2, 3), None, dt.datetime(1969, 1, 1)], pa.timestamp("ms")),
        "text": pa.array(['a "b",\nc', None, "ž"]),
        "view": pa.array(["x", None, "y"], pa.string_view()),
        "class": pa.array(["u", None, "v"]).dictionary_encode(),
    }
)


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow", "t.feather"])
def test_typed_formats_keep_every_type(tmp_path, name):
    write_table(tmp_path / name, KINDS, overwrite=False)
    assert read_table(tmp_path / name).equals(KINDS)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_csv_keeps_every_value(tmp_path, name):
    write_table(tmp_path / name, KINDS, overwrite=False)
    back = read_table(tmp_path / name).to_pydict()
    for column, values in KINDS.to_pydict().items():
        expected = [float(value) if isinstance(value, Decimal) else value for value in values]
        assert back[column] == expected, column


def test_not_a_number_is_a_missing_cell_in_csv(tmp_path):
    write_table(tmp_path / "t.csv", pa.table({"x": [1.5, float("nan")], "y": [1, 2]}), overwrite=False)
    assert (tmp_path / "t.csv").read_text().splitlines()[1:] == ["1.5,1", ",2"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1, max_size=5))
def test_any_text_survives_csv(tmp_path_factory, texts):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    rows = list(range(len(texts) + 1))
    # A word that is no number keeps the column a text column when it is read.
    write_table(path, pa.table({"row": rows, "text": [*texts, "word"]}), overwrite=True)
    import csv

    with open(path, newline="", encoding="utf-8") as file:
        assert [row[1] for row in list(csv.reader(file))[1:]] == [*texts, "word"]


def test_rows_are_written_in_large_pieces_as_they_come(tmp_path):
    piece = pa.table({"x": range(4096)})
    with table_writer(tmp_path / "t.parquet", piece.schema, overwrite=False) as write:
        for _ in range(40):
            write(piece)
            (temporary,) = tmp_path.iterdir()
            assert temporary.name != "t.parquet"
    file = pq.ParquetFile(tmp_path / "t.parquet")
    assert file.metadata.num_rows == 40 * 4096
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [65_536, 65_536, 32_768]


def test_a_table_without_rows_keeps_its_titles(tmp_path):
    for name in ("t.csv", "t.parquet"):
        write_table(tmp_path / name, KINDS.slice(0, 0), overwrite=False)
    assert (tmp_path / "t.csv").read_text() == ",".join(f'"{name}"' for name in KINDS.column_names) + "\n"
    assert pq.read_table(tmp_path / "t.parquet").schema.equals(KINDS.schema)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet", "t.arrow"])
def test_a_failure_leaves_what_was_there(tmp_path, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(ZeroDivisionError):
        _fail_midway(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "precious"


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path):
    with pytest.raises(DataError, match="appeared"), table_writer(tmp_path / "t.csv", KINDS.schema, overwrite=False):
        (tmp_path / "t.csv").write_text("precious")
    assert (tmp_path / "t.csv").read_text() == "precious"


def _fail_midway(path):
    with table_writer(path, KINDS.schema, overwrite=True) as write:
        write(KINDS)
        raise ZeroDivisionError
