import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import torch

from clarkia.errors import DataError
from clarkia.training import ArrowSource, TrainingOptions, fit
from clarkia.training.sources import order_of

ROWS = 1000


def table(rows=ROWS, seed=0):
    noise = np.random.default_rng(seed)
    vectors = noise.normal(size=(rows, 3)).astype(np.float32)
    return pa.table({
        "number": np.arange(rows),
        "vector": pa.FixedSizeListArray.from_arrays(vectors.reshape(-1), 3),
        "truth": pa.array(noise.random(rows) < 0.5),
        "word": [f"row {row}" for row in range(rows)],
    })  # fmt: skip


def write(path, kind, rows):
    if kind == "parquet":
        pq.write_table(rows, path, row_group_size=64)
    elif kind == "feather":  # compressed
        feather.write_feather(rows, str(path), chunksize=64)
    else:
        make = pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream
        with make(str(path), rows.schema) as writer:
            writer.write_table(rows, max_chunksize=64)
    return path


@pytest.fixture(params=["parquet", "feather", "arrow", "stream"])
def path(tmp_path, request):
    return write(tmp_path / f"rows.{request.param}", request.param, table())


def test_rows_are_those_of_the_file_in_the_order_asked_for(path):
    source = ArrowSource(path, columns=["vector", "number", "truth"], window=100)
    assert len(source) == ROWS
    indices = torch.randperm(ROWS, generator=torch.Generator().manual_seed(0))[:333]
    rows, whole = source.rows(indices), table()
    assert list(rows) == ["vector", "number", "truth"]
    assert torch.equal(rows["number"], indices)
    vectors = whole["vector"].combine_chunks().flatten().to_numpy().reshape(ROWS, 3)
    assert torch.equal(rows["vector"], torch.tensor(vectors)[indices])
    assert torch.equal(rows["truth"], torch.tensor(whole["truth"].to_numpy())[indices])
    assert torch.equal(source.rows(torch.tensor([5, 5, 999]))["number"], torch.tensor([5, 5, 999]))
    assert len(source.rows(torch.empty(0, dtype=torch.int64))["number"]) == 0


def test_pieces_are_row_groups_and_each_is_read_about_once_an_epoch(path):
    source = ArrowSource(path, columns=["number"], window=200)
    assert source.locality.pieces.tolist() == [64] * 15 + [40]
    reads, file = [], source._files[0]
    read = file.read
    object.__setattr__(file, "read", lambda group: reads.append(group) or read(group))
    order = order_of(source, 50, seed=0)
    drawn = torch.cat([source.rows(order.batch(step))["number"] for step in range(20)])
    assert torch.equal(drawn.sort().values, torch.arange(ROWS))
    assert sorted(reads) == list(range(16))
    assert sum(map(len, source._held.values())) <= 2 * (200 + 64)


def test_several_files_and_folders_are_one_source(tmp_path):
    for number in range(3):
        write(tmp_path / f"{number}.parquet", "parquet", table(100 + number, seed=number))
    (tmp_path / "notes.txt").write_text("not data")
    source = ArrowSource(tmp_path, columns=["number"])
    assert len(source) == 303
    assert source.rows(torch.tensor([99, 100, 200, 201, 302]))["number"].tolist() == [99, 0, 100, 0, 101]
    assert len(ArrowSource([tmp_path / "0.parquet", tmp_path / "2.parquet"], columns=["number"])) == 202


def test_decode_makes_what_columns_cannot(path):
    source = ArrowSource(path, decode=lambda rows: torch.tensor([len(word.as_py()) for word in rows["word"]]))
    assert source.rows(torch.tensor([0, 10, 100])).tolist() == [5, 6, 7]


def test_training_reads_files_in_the_background(path):
    seen = []

    def loss(module, batch, generator):
        seen.append(batch["number"])
        return module(batch["vector"]).square().squeeze(1)

    options = TrainingOptions(batch_size=100, max_steps=20, validate_every=100)
    source = ArrowSource(path, columns=["number", "vector"], window=100)
    fit(torch.nn.Linear(3, 1), loss, source, options=options, progress=False)
    for epoch in torch.cat(seen).reshape(2, ROWS):
        assert torch.equal(epoch.sort().values, torch.arange(ROWS))


def test_the_fingerprint_sees_other_rows_and_columns(tmp_path):
    sources = [
        ArrowSource(write(tmp_path / "a.parquet", "parquet", table()), columns=["number", "vector"]),
        ArrowSource(write(tmp_path / "b.parquet", "parquet", table(seed=1)), columns=["number", "vector"]),
        ArrowSource(write(tmp_path / "c.parquet", "parquet", table(999)), columns=["number", "vector"]),
        ArrowSource(tmp_path / "a.parquet", columns=["number"]),
    ]
    assert len({source.fingerprint() for source in sources}) == 4
    again = ArrowSource(tmp_path / "a.parquet", columns=["number", "vector"])
    assert again.fingerprint() == sources[0].fingerprint()


def test_files_that_cannot_be_used_are_refused_with_a_reason(tmp_path):
    path = write(tmp_path / "a.parquet", "parquet", table())
    with pytest.raises(DataError, match=r"column 'word' of .*a.parquet is string, not numbers; .*decode="):
        ArrowSource(path)
    with pytest.raises(DataError, match=r"a.parquet has no column 'age'; its columns are \['number', "):
        ArrowSource(path, columns=["age"])
    with pytest.raises(DataError, match=r"cannot read .*nowhere.parquet: no such file"):
        ArrowSource(tmp_path / "nowhere.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"the folder .*empty holds no .parquet"):
        ArrowSource(tmp_path / "empty")
    whole = path.read_bytes()
    for damaged in (b"", b"hello, world", whole[: len(whole) // 2], b"ARROW1" + whole[6:]):
        (tmp_path / "bad").write_bytes(damaged)
        with pytest.raises(DataError, match="is no readable Parquet or Arrow file"):
            ArrowSource(tmp_path / "bad")
    other = write(tmp_path / "b.parquet", "parquet", table().set_column(0, "number", pa.array(np.ones(ROWS))))
    with pytest.raises(DataError, match=r"column 'number' is double in .*b.parquet and int64 in .*a.parquet"):
        ArrowSource([path, other], columns=["number"])
    holes = table(100).set_column(0, "number", pa.array([None if row == 70 else row for row in range(100)]))
    source = ArrowSource(write(tmp_path / "holes.parquet", "parquet", holes), columns=["number"])
    assert source.rows(torch.arange(70))["number"].tolist() == list(range(70))
    with pytest.raises(DataError, match="column 'number' has an empty cell in row 70"):
        source.rows(torch.arange(60, 80))


def test_a_file_that_is_damaged_while_it_is_read_is_named(tmp_path):
    path = write(tmp_path / "a.parquet", "parquet", table())
    source = ArrowSource(path, columns=["number"])
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4)
        file.write(b"\xff" * (size // 2))
    with pytest.raises(DataError, match=r"cannot read .*a.parquet: it was changed or damaged"):
        source.rows(torch.arange(ROWS))
