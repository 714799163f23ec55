"""Folders of pictures as a training source: lazy, labelled, described, and honest of what it left out."""

import json
import time

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from clarkia.adapters import ImageFolderSource, read_attributes, read_captions
from clarkia.codecs import ImageCodec
from clarkia.codecs.image import folders, scan
from clarkia.errors import DataError

RNG = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path):
    """Six grey pictures of three classes."""
    for place in range(6):
        path = tmp_path / "abc"[place % 3] / f"{place}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (16, 16)).astype(np.uint8)).save(path)
    return tmp_path


def test_rows_are_the_pictures(folder):
    source = ImageFolderSource(folder)
    assert len(source) == 6
    assert source.codec == ImageCodec.fit(folder)
    rows = source.rows(torch.tensor([4, 0, 0]))
    assert rows["image"].shape == (3, 1, 16, 16)
    assert torch.equal(rows["image"][1], rows["image"][2])
    assert np.array_equal(rows["image"][0, 0].numpy(), np.asarray(Image.open(source.files[4])))
    assert source.rows(torch.tensor([], dtype=torch.int64))["image"].shape == (0, 1, 16, 16)


def test_nothing_is_read_before_it_is_asked_for(folder, monkeypatch):
    source = ImageFolderSource(folder, verify=False)
    read = []
    monkeypatch.setattr(
        "clarkia.codecs.image.codec.read_picture", lambda path, *_: read.append(path) or np.zeros((16, 16), np.uint8)
    )
    source.rows(torch.tensor([3, 5]))
    assert sorted(read) == [source.files[3], source.files[5]]


def test_threads_run_only_a_little_ahead():
    started = []
    results = folders.in_threads(lambda item: started.append(item) or item, iter(range(1000)), 4)
    assert next(results) == 0
    time.sleep(0.05)  # time enough for threads to run on
    assert len(started) <= 4 * 4 + 1
    assert list(results) == list(range(1, 1000))
    assert list(folders.in_threads(str, [1, 2], 1)) == ["1", "2"]


def test_errors_in_threads_come_out():
    with pytest.raises(ZeroDivisionError):
        list(folders.in_threads(lambda item: 1 // item, [1, 0, 1], 2))


def test_damaged_pictures_are_left_out_or_named(folder):
    whole = (folder / "a" / "0.png").read_bytes()
    (folder / "a" / "0.png").write_bytes(whole[:150])
    source = ImageFolderSource(folder)
    assert len(source) == 5
    assert [skipped.path.name for skipped in source.skipped] == ["0.png"]
    with pytest.raises(DataError, match=r"0\.png: the picture is damaged"):
        ImageFolderSource(folder, strict=True)
    with pytest.raises(DataError, match=r"0\.png: the picture is damaged"):
        ImageFolderSource(folder, verify=False).rows(torch.arange(6))
    gone = ImageFolderSource(folder)
    gone.files[0].unlink()
    with pytest.raises(DataError, match="No such file"):
        gone.rows(torch.tensor([0]))


def test_attributes_from_a_table_beside_or_a_frame(folder):
    assert read_attributes(scan(folder)) == {"class": ["a", "a", "b", "b", "c", "c"]}
    frame = pd.DataFrame({"file": ["a/0.png", "1.png", "b/4.png"], "mood": ["glad", "sad", None], "age": [3, 4, 3]})
    found = scan(folder)
    told = read_attributes(found, frame)
    assert found.names == ("a/0.png", "a/3.png", "b/1.png", "b/4.png", "c/2.png", "c/5.png")
    assert told == {"mood": ["glad", None, "sad", None, None, None], "age": ["3", None, "4", "3", None, None]}
    frame.to_csv(folder / "attributes.csv", index=False)
    assert read_attributes(found) == told
    with pytest.raises(DataError, match=r"attributes\.csv: the picture 'a/3\.png' has no row"):
        read_attributes(found, strict=True)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"file": ["a/0.png", "a/0.png"], "x": [1, 2]}, "'a/0.png' appears twice"),
        ({"file": ["other.png"], "x": [1]}, "no row names a picture"),
        ({"file": ["a/0.png"]}, "expected columns of attributes beside 'file'"),
    ],
)
def test_tables_that_do_not_fit_are_refused(folder, table, message):
    with pytest.raises(DataError, match=message):
        read_attributes(scan(folder), pd.DataFrame(table))


def test_captions_of_three_kinds(folder):
    found = scan(folder)
    with pytest.raises(DataError, match="have no captions"):
        read_captions(found)
    (folder / "a" / "0.txt").write_text("nought\n")
    assert read_captions(found) == ["nought", *[None] * 5]
    with pytest.raises(DataError, match=r"3\.png: the picture has no caption"):
        read_captions(found, strict=True)
    lines = [{"file": name, "text": f"number {name[2]}"} for name in found.names]
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    expected = [f"number {name[2]}" for name in found.names]
    assert read_captions(found) == expected
    pd.DataFrame({"file_name": found.names, "caption": expected}).to_csv(folder / "captions.csv", index=False)
    assert read_captions(found, strict=True) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("captions.jsonl", b"{", "line 1 is no JSON object"),
        ("captions.jsonl", b'{"file": "a", "caption": "b"}\n[1]', "line 2 is no JSON object"),
        ("captions.jsonl", b"[" * 100_000, "line 1 is no JSON object"),
        ("captions.jsonl", b'{"caption": "b"}', "expected the columns 'file' and 'caption', found caption"),
        ("captions.jsonl", b"\xff", "byte 0 is not UTF-8"),
        ("captions.csv", b"file,words\na,b\n", "expected the columns"),
    ],
)
def test_captions_that_cannot_be_read_are_refused(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_captions(scan(folder))


def test_a_fingerprint_tells_folders_apart(folder):
    first = ImageFolderSource(folder).fingerprint()
    assert ImageFolderSource(folder).fingerprint() == first
    assert ImageFolderSource(folder, size=8).fingerprint() != first
    (folder / "a" / "0.png").unlink()
    assert ImageFolderSource(folder).fingerprint() != first
