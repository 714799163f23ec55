"""Arrays, pictures and texts as they are read, and what cannot be."""

import numpy as np
import pytest
from PIL import Image

from clarkia.adapters.collections import is_collection, read_collection
from clarkia.errors import DataError


def picture(path, colour=(255, 0, 0), size=(20, 10), mode="RGB"):
    path.parent.mkdir(exist_ok=True)
    Image.new(mode, size, colour).save(path)


def test_an_array_keeps_its_rows(tmp_path):
    rows = np.arange(24.0).reshape(4, 2, 3)
    np.save(tmp_path / "x.npy", rows.astype(np.float32))
    np.savez(tmp_path / "x.npz", rows=rows)
    for name in ("x.npy", "x.npz"):
        found = read_collection(tmp_path / name)
        assert found.kind == "array"
        np.testing.assert_array_equal(found.rows, rows.reshape(4, 6))


def test_pictures_of_any_kind_become_one_size(tmp_path):
    picture(tmp_path / "a" / "red.png")
    picture(tmp_path / "a" / "grey.jpg", 128, mode="L")
    (tmp_path / "a" / ".hidden.png").write_text("not a picture")
    found = read_collection(tmp_path / "a", size=4)
    assert (found.kind, found.names, found.rows.shape) == ("images", ("grey.jpg", "red.png"), (2, 4, 4, 3))
    np.testing.assert_allclose(found.rows[1], np.broadcast_to([1.0, 0, 0], (4, 4, 3)), atol=1e-6)
    np.testing.assert_allclose(found.rows[0], 128 / 255, atol=0.02)


def test_texts_by_line_or_by_file(tmp_path):
    (tmp_path / "lines.txt").write_text("one\n\n  two  \nthree\n", encoding="utf-8")
    assert read_collection(tmp_path / "lines.txt").rows == ["one", "two", "three"]
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "b.txt").write_text("second\nfile")
    (folder / "a.md").write_text("first file")
    found = read_collection(folder)
    assert (found.rows, found.names) == (["first file", "second\nfile"], ("a.md", "b.txt"))


def test_what_is_read_as_a_collection(tmp_path):
    assert is_collection(tmp_path)
    assert is_collection("x.NPY")
    assert not is_collection("x.csv")


def pickled(path):
    np.save(path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return path / "x.npy"


def written(name, content):
    def make(path):
        (path / name).write_bytes(content)
        return path / name

    return make


def saved(array):
    def make(path):
        np.save(path / "x.npy", array)
        return path / "x.npy"

    return make


def two_arrays(path):
    np.savez(path / "x.npz", a=[1.0], b=[2.0])
    return path / "x.npz"


def folder_of(*files):
    def make(path):
        for file in files:
            file(path)
        return path

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path / "no", "there is no such file or folder"),
        (folder_of(), "holds no pictures and no texts"),
        (folder_of(lambda path: picture(path / "a.png"), written("a.txt", b"x")), "1 pictures and 1 texts"),
        (folder_of(written("a.png", b"\x89PNG garbage")), "a.png: the picture is damaged"),
        (pickled, "holds no plain array"),
        (written("x.npy", b"\x93NUMPY"), "damaged"),
        (written("x.npz", b"PK"), "damaged"),
        (two_arrays, "expected one array, found a, b"),
        (saved(np.array(["a"])), "expected rows of numbers"),
        (saved(np.zeros((0, 3))), "expected rows of numbers"),
        (saved(np.float64(1)), "expected rows of numbers"),
        (saved(np.array([[0.0, np.nan]])), "row 0, column 1 is nan"),
        (written("x.txt", b"\n \n"), "holds no text"),
        (written("x.txt", b"ok\xff"), "byte 2 is not UTF-8"),
    ],
)
def test_bad_collections_are_refused(tmp_path, make, message):
    with pytest.raises(DataError, match=message):
        read_collection(make(tmp_path))
