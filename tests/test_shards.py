"""Parts of one piece of work: which rows are whose, what they are called, and what a folder of them must hold."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clarkia.adapters import read_table
from clarkia.adapters.collections import is_collection
from clarkia.errors import DataError
from clarkia.shards import Shard, is_table_folder


@pytest.mark.parametrize(("rows", "count"), [(10, 3), (2, 5), (0, 2), (1, 1)])
def test_every_row_is_in_one_part_and_parts_differ_by_one_row(rows, count):
    shares = [Shard(index, count).share(rows) for index in range(count)]
    assert [row for share in shares for row in range(rows)[share]] == list(range(rows))
    sizes = {share.stop - share.start for share in shares}
    assert max(sizes) - min(sizes) <= 1


def test_a_part_has_a_number_and_a_name():
    assert Shard.parse("2/4") == Shard(1, 4)
    assert Shard(1, 4).file_name == "part-00001-of-00004.parquet"


@pytest.mark.parametrize("text", ["0/4", "5/4", "2", "a/b", "", "1/0", "-1/4", "1/100000"])
def test_what_names_no_part_is_refused(text):
    with pytest.raises(DataError, match="names no part"):
        Shard.parse(text)


def test_a_launcher_says_which_part_is_here(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert Shard.here() == Shard(0, 1)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert Shard.here() == Shard(2, 3)
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(DataError, match="RANK=3 and WORLD_SIZE=3"):
        Shard.here()
    monkeypatch.setenv("WORLD_SIZE", "many")
    with pytest.raises(DataError, match="WORLD_SIZE=many"):
        Shard.here()


def test_every_process_of_a_machine_takes_a_gpu_of_its_own(monkeypatch):
    from clarkia.models.devices import chosen_device

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert str(chosen_device("auto")) == "cuda"
    found = []
    for rank in range(3):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        found.append(str(chosen_device("auto")))
    assert found == ["cuda:0", "cuda:1", "cuda:0"]


TABLE = pa.table({"x": range(7), "kind": pa.array(list("aabbcca")).dictionary_encode()})


@pytest.fixture
def folder(tmp_path):
    """A table in three parts, one of them empty, each with its own list of values, beside what does not count."""
    folder = tmp_path / "rows"
    folder.mkdir()
    for index, part in enumerate((TABLE.slice(0, 4), TABLE.slice(4, 0), TABLE.slice(4, 3))):
        values = part.column("kind").cast(pa.string()).combine_chunks().dictionary_encode()
        pq.write_table(part.set_column(1, "kind", values), folder / Shard(index, 3).file_name)
    (folder / "_SUCCESS").touch()
    (folder / ".part-00000-of-00003.parquet.12.partial").touch()
    return folder


def test_a_folder_of_parts_is_read_as_one_table(folder):
    table = read_table(folder)
    assert table.to_pylist() == TABLE.to_pylist()
    assert len({str(chunk.dictionary) for chunk in table.column("kind").chunks}) == 1
    assert not is_collection(folder)


def test_a_missing_part_is_named(folder):
    (folder / Shard(1, 3).file_name).unlink()
    with pytest.raises(DataError, match=r"lacks part-00001-of-00003\.parquet \(1 of 3 parts"):
        read_table(folder)


def test_parts_of_two_runs_are_not_one_table(folder):
    pq.write_table(TABLE, folder / Shard(0, 1).file_name)
    with pytest.raises(DataError, match="several runs, of 1 and of 3"):
        read_table(folder)


def test_parts_have_the_same_columns(folder):
    pq.write_table(TABLE.select(["x"]), folder / Shard(2, 3).file_name)
    with pytest.raises(DataError, match=r"part-00002-of-00003\.parquet: the columns .* part-00000"):
        read_table(folder)


def test_a_damaged_part_is_named(folder):
    (folder / Shard(2, 3).file_name).write_bytes(b"PAR1 not")
    with pytest.raises(DataError, match=r"part-00002-of-00003\.parquet: the file is damaged"):
        read_table(folder)


def test_a_folder_that_holds_something_else_is_no_table(folder):
    assert is_table_folder(folder)
    (folder / "notes.txt").touch()
    assert not is_table_folder(folder)
    assert is_collection(folder)
    with pytest.raises(DataError, match="Parquet files and nothing else"):
        read_table(folder)


def test_other_names_are_read_in_their_order(tmp_path):
    for name, start in (("b", 4), ("a", 0)):
        pq.write_table(TABLE.slice(start, 4), tmp_path / f"{name}.parquet")
    assert read_table(tmp_path)["x"].to_pylist() == list(range(7))
