import hashlib
import io
import json
import struct
import zipfile

import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clarkia.errors import DataError
from clarkia.models.arrow import table_from_bytes, table_to_bytes
from clarkia.models.files import read_model, write_model

CONFIG = {"columns": [{"name": "größe", "role": "integer"}], "sigma": 0.1 + 0.2, "steps": 10**15}
WEIGHTS = {"layer.weight": torch.randn(3, 2), "half": torch.ones(4, dtype=torch.bfloat16), "count": torch.tensor(7)}
TABLES = {
    "levels": pa.table({"value": ["a", None, "ü"], "count": [3, 1, 2]}),
    "knots": pa.table({"x": pa.array([0.0, 1.5], pa.float64())}),
}


def save(path, **changes):
    write_model(path, **{"kind": "table", "config": CONFIG, "weights": WEIGHTS, "tables": TABLES, **changes})
    return path


@pytest.fixture
def path(tmp_path):
    return save(tmp_path / "model.clarkia")


def repack(path, edit):
    """Rewrite the archive after `edit` has changed its members, a dict of bytes by name."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    edit(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def edit_manifest(path, edit):
    def change(members):
        manifest = json.loads(members["model.json"])
        edit(manifest)
        members["model.json"] = json.dumps(manifest).encode()

    repack(path, change)


def replace_member(path, name, data):
    """Put other bytes in the place of a member, checksums and all, as an attacker would."""

    def change(members):
        members[name] = data
        manifest = json.loads(members["model.json"])
        manifest["members"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        members["model.json"] = json.dumps(manifest).encode()

    repack(path, change)


def assert_same(parts):
    assert (parts.kind, parts.config) == ("table", CONFIG)
    assert parts.weights.keys() == WEIGHTS.keys()
    for name, tensor in WEIGHTS.items():
        assert parts.weights[name].dtype == tensor.dtype
        assert torch.equal(parts.weights[name], tensor)
    assert parts.tables.keys() == TABLES.keys()
    assert all(parts.tables[name].equals(table) for name, table in TABLES.items())


def test_what_is_written_is_read(path):
    assert_same(read_model(path))


def test_the_members_are_exactly_those_of_the_format(path, tmp_path):
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    assert names == ["model.json", "weights.safetensors", "tables/levels.arrow", "tables/knots.arrow"]
    assert save(tmp_path / "again").read_bytes() == path.read_bytes()


def test_shared_and_strided_tensors_are_saved(tmp_path):
    base = torch.arange(6.0).reshape(2, 3)
    parts = read_model_of(tmp_path, weights={"a": base, "b": base, "c": base.T, "d": base[:, 1]})
    assert torch.equal(parts.weights["c"], base.T)
    assert torch.equal(parts.weights["d"], base[:, 1])


def read_model_of(tmp_path, **changes):
    return read_model(save(tmp_path / "other", **changes))


def test_the_schema_hash_follows_the_configuration_and_the_columns(path, tmp_path):
    same = read_model_of(tmp_path, weights={}).schema_hash
    assert read_model(path).schema_hash == same
    assert read_model(save(tmp_path / "b", config={})).schema_hash != same
    assert read_model(save(tmp_path / "c", tables={"levels": TABLES["levels"]})).schema_hash != same


def test_an_existing_file_is_kept_unless_told_otherwise(path):
    before = path.read_bytes()
    with pytest.raises(DataError, match="exists already; allow it to be overwritten or choose another name"):
        save(path)
    assert path.read_bytes() == before
    write_model(path, kind="other", config={}, weights={}, tables={}, overwrite=True)
    assert read_model(path).kind == "other"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failed_write_leaves_nothing_and_loses_nothing(path, tmp_path, overwrite, monkeypatch):
    before = path.read_bytes()

    def full_disk(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full_disk)
    target = path if overwrite else tmp_path / "new"
    with pytest.raises(DataError, match="no space left on device"):
        save(target, overwrite=overwrite)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_that_cannot_be_written_is_named(path, tmp_path):
    with pytest.raises(DataError, match="is a folder"):
        save(tmp_path)
    with pytest.raises(DataError, match="does not exist; create it first"):
        save(tmp_path / "none" / "model")
    with pytest.raises(DataError, match="cannot write"):
        save(path / "model")
    with pytest.raises(DataError, match="file name too long"):
        save(tmp_path / ("x" * 300))


def test_a_configuration_that_is_not_json_is_refused(tmp_path):
    for value in (float("nan"), float("inf"), {1, 2}, b"bytes"):
        with pytest.raises((ValueError, TypeError)):
            save(tmp_path / "model", config={"value": value})
    with pytest.raises(ValueError, match="cannot be the name of a table"):
        save(tmp_path / "model", tables={"../x": TABLES["knots"]})
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_model_files(tmp_path):
    with pytest.raises(DataError, match="there is no model file"):
        read_model(tmp_path / "none")
    with pytest.raises(DataError, match="is a directory"):
        read_model(tmp_path)
    for content in (b"", b"age,income\n3,4\n", b"\x80\x04\x95pickle"):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(DataError, match=r"is not a clarkia model file$"):
            read_model(tmp_path / "file")
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(DataError, match=r"is not a clarkia model file: it has no single model\.json"):
        read_model(tmp_path / "zip")


def test_a_newer_format_is_named(path):
    edit_manifest(path, lambda manifest: manifest.update(format=3, extra="unknown"))
    with pytest.raises(DataError, match=r"made by a newer clarkia \(format 3, this one reads 1\); upgrade clarkia$"):
        read_model(path)


def test_every_truncation_is_refused(path):
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            read_model(path)
    path.write_bytes(whole[:-1])
    with pytest.raises(DataError, match="is damaged: the archive is cut short or altered"):
        read_model(path)


@pytest.mark.parametrize("member", ["weights.safetensors", "tables/levels.arrow"])
def test_a_part_that_was_tampered_with_is_named(path, member):
    repack(path, lambda members: members.update({member: members[member][:-1] + b"\x01"}))
    with pytest.raises(DataError, match=f"its part {member} does not match its checksum"):
        read_model(path)


def test_a_configuration_that_was_tampered_with_is_named(path):
    edit_manifest(path, lambda manifest: manifest["config"].update(steps=3))
    with pytest.raises(DataError, match="its configuration does not match its checksum"):
        read_model(path)


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "tables/../../x.arrow", "tables/a/b.arrow", "extra.txt"])
def test_strange_members_are_refused(path, name):
    replace_member(path, name, b"data")
    with pytest.raises(DataError, match=r"the member name .* is not allowed"):
        read_model(path)
    repack(path, lambda members: members.pop(name))
    with pytest.raises(DataError, match="its members are not those"):
        read_model(path)


def test_undeclared_and_missing_members_are_refused(path):
    repack(path, lambda members: members.update({"tables/more.arrow": b""}))
    with pytest.raises(DataError, match="its members are not those"):
        read_model(path)
    repack(path, lambda members: [members.pop(name) for name in ("tables/more.arrow", "weights.safetensors")])
    with pytest.raises(DataError, match="its members are not those"):
        read_model(path)


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_duplicate_members_are_refused(path, name):
    with zipfile.ZipFile(path) as archive:
        data = archive.read(name)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, data)
    with pytest.raises(DataError, match=r"its members are not those|it has no single model\.json"):
        read_model(path)


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors", "tables/bomb.arrow"])
def test_a_zip_bomb_is_refused_before_it_is_unpacked(path, name, monkeypatch):
    bomb = b" " * 10**7
    replace_member(path, name, bomb) if name != "model.json" else None
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    if name == "model.json":
        members[name] += bomb
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            compression = zipfile.ZIP_DEFLATED if member == name else zipfile.ZIP_STORED
            archive.writestr(zipfile.ZipInfo(member), data, compress_type=compression)
    assert path.stat().st_size < 10**5
    read = zipfile.ZipFile.read

    def watched(archive, member, *arguments):
        assert getattr(member, "filename", member) != name
        return read(archive, member, *arguments)

    monkeypatch.setattr(zipfile.ZipFile, "read", watched)
    with pytest.raises(DataError, match="compressed"):
        read_model(path)


def test_members_that_claim_more_bytes_than_the_file_are_refused(path):
    """Sizes in the central directory raised to 3 GB; nothing of that size may be allocated."""
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    at = data.index(b"PK\x01\x02", at + 4)  # the second entry: the weights
    data[at + 20 : at + 28] = struct.pack("<II", 3 * 10**9, 3 * 10**9)
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match="claim more bytes than the file has"):
        read_model(path)


def safetensors_bytes(header, body=b""):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<Q", 2**62) + b"{}",
        safetensors_bytes({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}),
        safetensors_bytes({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 8]}}, b"12345678"),
        safetensors_bytes({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"1234"),
        safetensors_bytes({"w": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, b"1234"),
        safetensors_bytes({"w": {"dtype": "F32", "shape": [2**32, 2**32], "data_offsets": [0, 4]}}, b"1234"),
        b"",
    ],
)
def test_weights_that_claim_what_is_not_there_are_refused(path, data):
    replace_member(path, "weights.safetensors", data)
    with pytest.raises(DataError, match=r"its part weights\.safetensors cannot be read"):
        read_model(path)


def stream(table, compression=None):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def broken_text():
    """A string column whose offsets run backwards."""
    offsets = pa.py_buffer(struct.pack("<4i", 0, 3, 1, 6))
    array = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"abcdef")])
    return stream(pa.table({"text": array}))


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize("words", [pa.array(["zero"] * 999).dictionary_encode(), pa.array([0] * 999)])
def test_compressed_tables_are_refused(words, compression):
    table = pa.table({"value": words})
    assert table_from_bytes(stream(table)).equals(table)
    with pytest.raises(ValueError, match="compressed Arrow data may claim any size"):
        table_from_bytes(stream(table, compression))


def test_a_table_of_endless_nothing_is_refused():
    with pytest.raises(ValueError, match="claims more rows than it has bits"):
        table_from_bytes(stream(pa.table({"nothing": pa.nulls(10**9)})))


@pytest.mark.parametrize("data", [broken_text(), b"", b"\x00" * 100, stream(TABLES["levels"])[:-100]])
def test_tables_that_are_none_are_refused(path, data):
    replace_member(path, "tables/levels.arrow", data)
    with pytest.raises(DataError, match=r"its part tables/levels\.arrow cannot be read"):
        read_model(path)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'{"format": "1"}', b'{"format": true}', b'{"format": 1}', b"[" * 10**5, b"\xff\xfe"]
)
def test_a_manifest_that_is_none_is_refused(path, text):
    repack(path, lambda members: members.update({"model.json": text}))
    with pytest.raises(DataError):
        read_model(path)


@pytest.mark.parametrize("members", [{}, {"weights.safetensors": 3}, {"weights.safetensors": {"bytes": 3}}])
def test_a_list_of_members_that_is_none_is_refused(path, members):
    edit_manifest(path, lambda manifest: manifest.update(members=members))
    with pytest.raises(DataError):
        read_model(path)


# A place in the file (in ten thousandths) and a byte to put there, several times over; then a length to cut to.
PARTS = 10_000
damage = st.tuples(
    st.lists(st.tuples(st.integers(0, PARTS - 1), st.integers(0, 255)), max_size=4),
    st.one_of(st.just(PARTS), st.just(PARTS), st.integers(0, PARTS)),
)


def damaged(data, changes, kept):
    data = bytearray(data)
    for place, byte in changes:
        data[place * len(data) // PARTS] = byte
    return bytes(data[: kept * len(data) // PARTS])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "whole").read_bytes()


@settings(max_examples=600, deadline=None, derandomize=True)
@given(damage)
def test_a_damaged_file_reads_the_same_or_is_refused(whole, tmp_path_factory, damage):
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(damaged(whole, *damage))
    try:
        parts = read_model(path)
    except DataError:
        return
    assert_same(parts)


@settings(max_examples=600, deadline=None, derandomize=True)
@given(damage)
def test_a_damaged_table_is_a_table_or_an_error(damage):
    try:
        table = table_from_bytes(damaged(table_to_bytes(TABLES["levels"]), *damage))
    except (pa.ArrowException, ValueError, OSError):
        return
    assert isinstance(table, pa.Table)
