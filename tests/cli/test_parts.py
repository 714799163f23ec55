"""Samples drawn into a folder of Parquet files, one for each process, and tables read from such folders."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import run
from PIL import Image

from clarkia.adapters import read_table
from clarkia.shards import Shard

QUICK = ("--num-steps", 2)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Models of pictures and of a text that have hardly been trained, beside the one of people."""
    folder = tmp_path_factory.mktemp("models")
    np.save(folder / "photos.npy", np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3)).astype(np.uint8))
    (folder / "book.txt").write_text("It was the best of times, it was the worst of times. " * 40)
    for data, options in (("photos.npy", ()), ("book.txt", ("--length", 12))):
        model = folder / data.replace(".npy", ".clarkia").replace(".txt", ".clarkia")
        result = run("fit", folder / data, "-o", model, "--max-steps", 1, *options)
        assert result.status == 0, result
    return folder


def draw_parts(model, count, *options, folder="rows"):
    for number in range(1, count + 1):
        result = run("sample", model, *options, *QUICK, "-o", folder, "--shard", f"{number}/{count}")
        assert result.status == 0, result
    return result


def test_rows_in_parts_are_those_of_one_draw(shelf, inside):
    model = shelf / "people.clarkia"
    last = draw_parts(model, 3, "-n", 20)
    assert last.out.startswith("7 rows in rows/part-00002-of-00003.parquet")
    assert sorted(path.name for path in (inside / "rows").iterdir()) == [Shard(i, 3).file_name for i in range(3)]
    assert run("sample", model, "-n", 20, *QUICK, "-o", "whole.parquet").status == 0
    assert read_table("rows").equals(read_table("whole.parquet"))


def test_pictures_in_parts_are_those_of_one_draw(models, inside):
    draw_parts(models / "photos.clarkia", 2, "-n", 5, folder="drawn")
    for output in ("drawn.npy", "whole.parquet"):
        assert run("sample", models / "photos.clarkia", "-n", 5, *QUICK, "-o", output).status == 0
    drawn, whole = read_table("drawn"), read_table("whole.parquet")
    assert drawn.equals(whole)
    assert whole.schema.field("image").type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    assert b'"image": {"_type": "Image"}' in pq.read_schema("whole.parquet").metadata[b"huggingface"]
    for row, points in zip(whole["image"].to_pylist(), np.load("drawn.npy"), strict=True):
        assert (np.asarray(Image.open(io.BytesIO(row["bytes"]))) == points).all()
    assert [row["path"] for row in drawn["image"].to_pylist()] == [f"00000{number}.png" for number in range(5)]


def test_what_was_asked_of_pictures_stands_beside_them():
    from clarkia.cli.picture_rows import picture_rows, picture_schema
    from clarkia.errors import DataError

    rows = picture_rows(np.zeros((2, 3, 3), np.uint8), 7, {"class": "cat"})
    assert rows["class"].to_pylist() == ["cat", "cat"]
    assert rows["image"].to_pylist()[1]["path"] == "000008.png"
    with pytest.raises(DataError, match="has no place in Parquet"):
        picture_schema({"image": "cat"})


def test_texts_in_parts_are_those_of_one_draw(models, inside):
    draw_parts(models / "book.clarkia", 2, "-n", 5, folder="pages")
    assert run("sample", models / "book.clarkia", "-n", 5, *QUICK, "-o", "whole.parquet").status == 0
    whole = read_table("whole.parquet")
    assert read_table("pages").equals(whole)
    told = run("sample", models / "book.clarkia", "-n", 5, *QUICK).out
    assert told.rstrip("\n").split("\n" + "-" * 40 + "\n") == whole["text"].to_pylist()


def test_a_folder_of_parts_is_a_table_for_every_verb(shelf, inside):
    model = shelf / "people.clarkia"
    draw_parts(model, 2, "-n", 60)
    assert run("fit", "rows", "-o", "again.clarkia", "--max-steps", 1, "--holdout-share", 0.1).status == 0
    assert (inside / "again.holdout.parquet").exists()
    assert "60 rows" in run("score", model, "rows").out
    assert "table, 60 rows" in run("inspect", "rows").out
    for verb in ("report", "compare"):
        result = run(verb, shelf / "people.csv", "rows")
        assert result.status == 0, result
    (inside / "rows" / Shard(1, 2).file_name).unlink()
    for verb in (("score", model), ("inspect",), ("report", shelf / "people.csv"), ("compare", shelf / "people.csv")):
        run(*verb, "rows").refuses("rows lacks part-00001-of-00002.parquet", "1 of 2 parts")
    run("fit", "rows", "-o", "other.clarkia").refuses("rows lacks part-00001-of-00002.parquet")


def test_parts_of_another_run_are_replaced_only_when_allowed(shelf, inside):
    model = shelf / "people.clarkia"
    draw_parts(model, 2, "-n", 4)
    one = ("sample", model, "-n", 4, *QUICK, "-o", "rows", "--shard")
    run(*one, "2/2").refuses("part-00001-of-00002.parquet exists already", "--overwrite")
    run(*one, "1/3").refuses("part-00000-of-00002.parquet of a run with another number of parts", "--overwrite")
    assert run(*one, "1/1", "--overwrite").status == 0
    assert [path.name for path in (inside / "rows").iterdir()] == [Shard().file_name]
    # Of the same number of parts each replaces its own alone.
    assert run(*one, "1/1", "--overwrite", "--seed", 1).status == 0
    draw_parts(model, 2, "-n", 4, "--overwrite")
    before = (inside / "rows" / Shard(0, 2).file_name).read_bytes()
    assert run(*one, "2/2", "--overwrite", "--seed", 1).status == 0
    assert (inside / "rows" / Shard(0, 2).file_name).read_bytes() == before
    assert read_table("rows").num_rows == 4


def test_a_failed_draw_leaves_the_parts_that_were_there(shelf, inside, monkeypatch):
    model = shelf / "people.clarkia"
    draw_parts(model, 2, "-n", 4)
    before = {path.name: path.read_bytes() for path in (inside / "rows").iterdir()}

    def stopped(*arguments, **options):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("clarkia.models.table.TableModel.sample_batches", stopped)
    assert run("sample", model, "-o", "rows", "--shard", "1/3", "--overwrite").status == 130
    assert run("sample", model, "-o", "rows", "--shard", "1/2", "--overwrite").status == 130
    assert {path.name: path.read_bytes() for path in (inside / "rows").iterdir()} == before


def test_a_part_needs_a_folder_of_its_own(shelf, inside, monkeypatch):
    one = ("sample", shelf / "people.clarkia", "-n", 4, *QUICK)
    run(*one, "--shard", "1/2").refuses("give -o rows/ instead of nothing")
    run(*one, "--shard", "1/2", "-o", "rows.csv").refuses("a file in a folder", "-o rows/ instead of -o rows.csv")
    run(*one, "--shard", "3/2", "-o", "rows").refuses("'3/2' names no part")
    (inside / "file").touch()
    run(*one, "--shard", "1/2", "-o", "file").refuses("file is a file")
    run(*one, "--shard", "1/2", "-o", "file/rows").refuses("cannot make the folder file/rows")
    run(*one, "--shard", "1/2", "-o", ".").refuses("holds file, which is no part of a table")
    assert not (inside / "rows").exists()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    run(*one, "-o", "rows.csv").refuses("each of 2 parts is a file in a folder")
    run(*one, "--shard", "1/2", "-o", "rows").refuses("started by hand")
    monkeypatch.setenv("RANK", "two")
    run(*one, "-o", "rows").refuses("RANK=two and WORLD_SIZE=2 name no process")


def test_only_the_first_process_speaks(shelf, inside, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    told = []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        result = run("sample", shelf / "people.clarkia", "-n", 4, *QUICK, "-o", "rows")
        assert result.status == 0, result
        assert result.err == ""
        told.append(result.out.splitlines())
    assert told[0][0].startswith("2 rows in rows/part-00000-of-00002.parquet")
    assert len(told[0]) == 2
    assert told[1] == []
    assert read_table("rows").num_rows == 4


def test_a_launcher_may_start_a_single_process(shelf, inside, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    for output in ("rows", "rows.csv"):
        result = run("sample", shelf / "people.clarkia", "-n", 4, *QUICK, "-o", output)
        assert result.status == 0, result
        assert len(result.out.splitlines()) == 1
    assert [path.name for path in (inside / "rows").iterdir()] == [Shard().file_name]
