"""Files become tables: CSV as people write it, Parquet, Arrow; what is no table is refused in one sentence."""

import bz2
import csv
import gzip

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import feather, parquet

from clarkia.adapters import read_table
from clarkia.errors import DataError

SETTINGS = settings(deadline=None, derandomize=True, max_examples=60)
NULLS = {
    "",
    "NA",
    "N/A",
    "NaN",
    "nan",
    "-nan",
    "-NaN",
    "null",
    "NULL",
    "n/a",
    "#N/A",
    "#NA",
    "#N/A N/A",
    "1.#IND",
    "-1.#IND",
}
CELLS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], include_characters='\n",;\t|'), max_size=8)


@pytest.fixture
def write(tmp_path):
    def write_bytes(text, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_bytes


@SETTINGS
@given(
    rows=st.lists(st.tuples(CELLS, CELLS), min_size=2, max_size=8),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    end=st.sampled_from(["\n", "\r\n"]),
    bom=st.booleans(),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
)
def test_quotes_delimiters_line_breaks_and_byte_order_marks(tmp_path_factory, rows, delimiter, end, bom, quoting):
    """What Python's csv module writes is read back: quoted cells verbatim, an unquoted empty cell as missing."""
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    # a word in front keeps cells text; the last column is empty and unquoted
    with path.open("w", encoding="utf-8-sig" if bom else "utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=quoting)
        writer.writerow(["first", "second", "third"])
        writer.writerows([("w" + a, "w" + b, "w") for a, b in rows])
        file.write(delimiter.join(['"x"', '""', ""]) + end)
    table = read_table(path)
    assert table.column_names == ["first", "second", "third"]
    assert table["first"].to_pylist() == ["w" + a for a, _ in rows] + ["x"]
    assert table["second"].to_pylist() == ["w" + b for _, b in rows] + [""]
    assert table["third"].to_pylist() == ["w"] * len(rows) + [None]


@SETTINGS
@given(data=st.binary(max_size=200), name=st.sampled_from(["t.csv", "t.csv.gz", "t.parquet", "t.arrow", "t.tsv"]))
def test_any_bytes_are_a_table_or_a_data_error(tmp_path_factory, data, name):
    path = tmp_path_factory.mktemp("bytes") / name
    path.write_bytes(data)
    try:
        table = read_table(path)
    except DataError as error:
        assert str(path) in str(error), "the file is named"  # noqa: PT017
    else:
        assert table.num_rows > 0


def test_types_are_inferred(write):
    path = write(
        "whole,real,flag,day,moment,clock,text,empty,zip,mixed\n"
        "1,0.5,true,2020-01-31,2020-01-31 10:00:00,08:30:00,a,,02139,7\n"
        "-2,1e3,false,2020-02-01,2020-02-01 11:30:00,09:00:00,NA,,10001,07\n"
        ",,,,,,,,,\n"
    )
    table = read_table(path)
    types = [
        "int64",
        "double",
        "bool",
        "date32[day]",
        "timestamp[s]",
        "time32[s]",
        "string",
        "null",
        "string",
        "string",
    ]
    assert [str(kind) for kind in table.schema.types] == types
    assert [column.null_count for column in table.columns] == [1, 1, 1, 1, 1, 1, 2, 3, 1, 1]
    assert table["zip"].to_pylist()[:2] == ["02139", "10001"]


@pytest.mark.parametrize(("fraction", "unit"), [("", "s"), (".5", "ms"), (".000250", "us"), (".000000001", "ns")])
def test_times_keep_their_resolution(write, fraction, unit):
    table = read_table(write(f"a,b\n2020-01-31 10:00:00{fraction},1\n"))
    assert table["a"].type == pa.timestamp(unit)


def test_types_that_change_after_the_first_block(write, monkeypatch):
    """Whole numbers, then fractions; dates, then times; numbers, then words: nothing is lost."""
    monkeypatch.setattr("clarkia.adapters.delimited._BLOCK_BYTES", 1000)
    lines = ["1,2020-01-31,3,x"] * 200 + ["1.5,2020-01-31 10:00:00,word,y"]
    table = read_table(write("a,b,c,d\n" + "\n".join(lines) + "\n"))
    assert [str(kind) for kind in table.schema.types] == ["double", "timestamp[s]", "string", "string"]
    assert table["a"][200].as_py() == 1.5
    assert table["c"].to_pylist()[199:] == ["3", "word"]


@pytest.mark.parametrize("cells", [["1", "", "3"], ["1.5", "", "3"]])
def test_empty_cells_in_quotes_are_missing_among_numbers(write, cells):
    table = read_table(write("n,s\n" + "".join(f'"{cell}","{cell}x"\n' for cell in cells)))
    assert table["n"].null_count == 1
    assert pa.types.is_integer(table["n"].type) or pa.types.is_floating(table["n"].type)
    assert table["s"].to_pylist()[1] == "x"


@pytest.mark.parametrize(
    ("text", "name", "complaint"),
    [
        ("", "a.csv", "a.csv: the file is empty"),
        ("\n\r\n", "a.csv", "a.csv: the file is empty"),
        ("a,b\n", "a.csv", "a header but no rows"),
        ("a,b\n1,2\n3\n", "a.csv", "row 2 after the header: 1 cells where the header has 2"),
        ("a,b\n1,2\n3,4\n5,6,7\n", "a.csv", "row 3 after the header: 3 cells where the header has 2"),
        ("a,a\n1,2\n", "a.csv", "column 'a' appears more than once"),
        ("a,caf\xe9\n1,2\n".encode("latin-1"), "a.csv", "not UTF-8 text"),
        ("a,b\n1,x\n2,caf\xe9\n".encode("latin-1"), "a.csv", "column 'b', row 2: it is not UTF-8 text"),
        ("a,b\n1,2\n".encode("utf-16"), "a.csv", "not UTF-8 text"),
        ("no table", "a.parquet", "damaged or no parquet file"),
        ("no table", "a.feather", "damaged or no Arrow file"),
        ("no table", "a.csv.gz", "damaged or no csv file"),
        ("a,b\n1,2\n", "a.xlsx", "the ending '.xlsx' says no known kind"),
        ("a,b\n1,2\n", "table", "the ending '' says no known kind"),
        ("x", "a.parquet.gz", "only CSV files may be packed"),
    ],
)
def test_files_that_are_no_table(write, text, name, complaint):
    with pytest.raises(DataError, match=complaint) as error:
        read_table(write(text, name))
    assert "\n" not in str(error.value)


def test_absent_files_and_folders(tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="is a folder"):
        read_table(tmp_path)


def test_cut_files_are_refused(tmp_path):
    table = pa.table({"a": np.arange(1000), "b": np.random.default_rng(0).normal(size=1000)})
    parquet.write_table(table, tmp_path / "t.parquet")
    feather.write_feather(table, tmp_path / "t.arrow", compression="uncompressed")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 5000))
    for name in ("t.parquet", "t.arrow", "t.csv.gz"):
        read_table(tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) * 2 // 3])
        with pytest.raises(DataError, match=f"{name}: the file is damaged"):
            read_table(tmp_path / name)


def test_every_form_of_a_file(tmp_path):
    table = pa.table({"a": [1, 2], "b": ["x", None]})
    parquet.write_table(table, tmp_path / "t.pq")
    feather.write_feather(table, tmp_path / "t.feather")
    with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    text = b"a\tb\n1\tx\n2\t\n"
    (tmp_path / "t.tsv").write_bytes(text)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text))
    (tmp_path / "t.txt.bz2").write_bytes(bz2.compress(text))
    for name in ("t.pq", "t.feather", "t.arrow", "t.tsv", "t.csv.gz", "t.txt.bz2"):
        assert read_table(str(tmp_path / name)).equals(table), name
