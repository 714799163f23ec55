"""Pictures of every mode and size become states and come back; what cannot be read is named."""

import json
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from clarkia.codecs import ImageCodec
from clarkia.codecs.image import as_bytes, grid, read_picture, scan, to_float, to_uint8, write_grid
from clarkia.errors import DataError

SETTINGS = settings(deadline=None, derandomize=True, max_examples=50)
RNG = np.random.default_rng(0)


def noise(*shape):
    return RNG.integers(0, 256, shape).astype(np.uint8)


@SETTINGS
@given(arrays.arrays(np.uint8, st.tuples(st.integers(0, 4), st.sampled_from([1, 3]), st.just(16), st.just(16))))
def test_pictures_of_the_size_come_back_exactly(array):
    codec = ImageCodec(16, "L" if array.shape[1] == 1 else "RGB")
    state = codec.encode(array, layout="first")
    assert state.dtype == torch.uint8
    assert np.array_equal(state.numpy(), array)
    decoded = codec.decode(state)
    assert np.array_equal(codec.encode(decoded, layout=None if array.shape[1] == 1 else "last").numpy(), array)
    assert np.array_equal(codec.decode(to_float(state)), decoded)
    if len(array):
        assert torch.equal(codec.encode(codec.pictures(state)), state)


def test_bytes_and_floating_numbers_are_inverse():
    every = torch.arange(256, dtype=torch.uint8)
    for dtype in (torch.float32, torch.float64):
        values = to_float(every, dtype)
        assert (values[0], values[-1]) == (-1, 1)
        assert torch.equal(to_uint8(values), every)
    assert to_uint8(torch.tensor([-7.0, 7.0])).tolist() == [0, 255]
    with pytest.raises(ValueError, match="NaN"):
        to_uint8(torch.tensor([torch.nan]))


def test_arrays_of_every_layout_and_type():
    grey, colour = noise(3, 10, 12), noise(3, 10, 12, 3)
    assert as_bytes(grey).shape == (3, 1, 10, 12)
    np.testing.assert_array_equal(as_bytes(colour), as_bytes(colour.transpose(0, 3, 1, 2)))
    np.testing.assert_array_equal(as_bytes(grey / 255), as_bytes(grey))
    np.testing.assert_array_equal(as_bytes((grey / 255).astype(np.float32)), as_bytes(grey))
    np.testing.assert_array_equal(as_bytes(grey > 100), as_bytes(np.where(grey > 100, 255, 0).astype(np.uint8)))
    np.testing.assert_array_equal(as_bytes(torch.from_numpy(colour)), as_bytes(colour))
    clear = np.concatenate([colour, np.zeros((3, 10, 12, 1), np.uint8)], 3)
    assert (as_bytes(clear) == 255).all()
    solid = np.concatenate([colour, np.full((3, 10, 12, 1), 255, np.uint8)], 3)
    np.testing.assert_array_equal(as_bytes(solid), as_bytes(colour))
    ambiguous = noise(2, 3, 5, 3)
    assert as_bytes(ambiguous, "first").shape == (2, 3, 5, 3)
    assert as_bytes(ambiguous, "last").shape == (2, 3, 3, 5)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (noise(4, 4), "expected shape"),
        (noise(2, 3, 5, 3), "both may be"),
        (noise(2, 5, 5, 5), "neither can be"),
        (np.zeros((2, 4, 4), np.int64), "convert them to uint8"),
        (np.full((2, 4, 4), 16.0), "found 16.0 to 16.0"),
        (np.full((2, 4, 4), np.nan), "found nan to nan"),
        (np.full((2, 4, 4), -0.1), "0 to 1"),
        (np.zeros((2, 0, 4), np.uint8), "pictures with points"),
        (np.zeros((2, 4, 4), dtype="<U1"), "convert them"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(array, message):
    with pytest.raises(DataError, match=message):
        as_bytes(array)


def test_the_size_and_mode_come_from_the_data():
    assert ImageCodec.fit(noise(5, 28, 28)) == ImageCodec(28, "L")
    assert ImageCodec.fit(noise(5, 30, 22, 3)) == ImageCodec(24, "RGB")
    assert ImageCodec.fit(noise(5, 3, 3)).size == 4
    assert ImageCodec.fit(noise(1, 900, 900)).size == 256
    assert ImageCodec.fit(noise(5, 28, 28), size=64, mode="RGB") == ImageCodec(64, "RGB")
    many = [Image.new("L", (20, 40)), Image.new("L", (40, 20)), Image.new("1", (64, 64))]
    assert ImageCodec.fit(many) == ImageCodec(20, "L")
    assert ImageCodec.fit([*many, Image.new("P", (9, 9))]).mode == "RGB"


def test_resizing_takes_the_middle_and_keeps_its_mean():
    wide = noise(1, 16, 48)
    whole = Image.fromarray(wide[0]).resize((24, 8), Image.Resampling.BICUBIC).crop((8, 0, 16, 8))
    np.testing.assert_array_equal(ImageCodec(8, "L").encode(wide)[0, 0], np.asarray(whole))
    fine = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[None]
    grey = ImageCodec(8, "L").encode(fine).float()
    assert abs(grey - 127.5).max() < 8  # without antialiasing black or white


def test_arrays_and_pictures_are_resized_alike(tmp_path):
    array = noise(2, 20, 31, 3)
    codec = ImageCodec(16)
    for row in range(2):
        Image.fromarray(array[row]).save(tmp_path / f"{row}.png")
    by_array = codec.encode(array)
    assert torch.equal(by_array, codec.encode([tmp_path / "0.png", tmp_path / "1.png"]))
    assert torch.equal(by_array, codec.encode([Image.fromarray(one) for one in array]))
    assert torch.equal(by_array, codec.encode(tmp_path))


def save(path, picture, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)
    return path


def test_every_mode_becomes_grey_or_colour(tmp_path):
    """Transparent points are white, 16 bits are scaled, palettes looked up."""
    level = Image.new("L", (8, 8), 51)
    deep = Image.fromarray(np.full((8, 8), 51 * 257, np.uint16))
    deeper = Image.fromarray(np.full((8, 8), 65535, np.uint16))
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 51, 51, 51])
    clear = palette.copy()
    clear.info["transparency"] = 1
    for name, picture, value in (
        ("l", level, 51),
        ("i16", deep, 51),
        ("i16-white", deeper, 255),
        ("rgb", level.convert("RGB"), 51),
        ("p", palette, 51),
        ("p-clear", clear, 255),
        ("one", Image.new("1", (8, 8), 1), 255),
        ("la", Image.new("LA", (8, 8), (51, 0)), 255),
        ("la-solid", Image.new("LA", (8, 8), (51, 255)), 51),
        ("rgba", Image.new("RGBA", (8, 8), (0, 0, 0, 0)), 255),
        ("rgba-half", Image.new("RGBA", (8, 8), (0, 0, 0, 128)), 127),
    ):
        path = save(tmp_path / f"{name}.png", picture)
        for mode in ("L", "RGB"):
            found = read_picture(path, mode)
            assert found.shape == ((8, 8) if mode == "L" else (8, 8, 3)), name
            assert (found == value).all(), name
    cmyk = read_picture(save(tmp_path / "cmyk.jpg", Image.new("CMYK", (8, 8), (0, 0, 0, 204))))
    assert abs(cmyk.astype(int) - 51).max() <= 2
    floats = save(tmp_path / "f.tif", Image.fromarray(np.full((8, 8), 0.2, np.float32)))
    assert (read_picture(floats, "L") == 51).all()


def test_pictures_are_turned_upright(tmp_path):
    picture = Image.fromarray(np.array([[0, 255]] * 2, np.uint8).repeat(8, 0).repeat(8, 1))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the first row is the right side
    path = save(tmp_path / "turned.png", picture, exif=exif)
    assert read_picture(path, "L").tolist() == np.rot90(np.asarray(picture), -1).tolist()
    tall = save(tmp_path / "tall.jpg", Image.new("L", (40, 20)), exif=exif)
    assert scan(tall.parent).sizes == ((20, 40), (16, 16))
    assert os.path.getsize(tall) > 0


def test_a_large_jpeg_is_close_to_itself_read_whole(tmp_path):
    waves = (127 + 100 * np.sin(np.arange(1024) / 100)).astype(np.uint8)
    path = save(tmp_path / "large.jpg", Image.fromarray(np.tile(waves, (1024, 1))), quality=95)
    fast = read_picture(path, "L", 32).astype(int)
    whole = ImageCodec(32, "L").encode(read_picture(path, "L")[None]).numpy()[0, 0].astype(int)
    assert abs(fast - whole).max() <= 4


def png_of(width, height):
    """A PNG whose head claims a size, with hardly any points in it."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


def cut(content):
    return content[: len(content) // 2]


@pytest.fixture
def bad(tmp_path):
    """A folder with one good picture and many that are not."""
    good = save(tmp_path / "good.png", Image.fromarray(noise(32, 32, 3))).read_bytes()
    jpeg = save(tmp_path / "x.jpg", Image.fromarray(noise(64, 64, 3))).read_bytes()
    (tmp_path / "x.jpg").unlink()
    for name, content in (
        ("cut.png", cut(good)),
        ("cut.jpg", cut(jpeg)),
        ("empty.png", b""),
        ("text.png", b"not a picture"),
        ("bomb.png", png_of(60_000, 60_000)),
        ("large.png", png_of(10_001, 10_000)),
        ("script.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"),
        ("film.mp4", b"0000"),
        ("captions.csv", b"file,caption\n"),
        ("good.txt", b"noise"),
        (".hidden.png", b"x"),
    ):
        (tmp_path / name).write_bytes(content)
    save(tmp_path / "depth.tif", Image.fromarray(np.full((9, 9), 70_000, np.int32)))
    return tmp_path


def test_files_that_cannot_be_read_are_left_out_and_counted(bad):
    found = scan(bad, verify=True)
    assert found.names == ("good.png",)
    reasons = {skipped.path.name: skipped.reason for skipped in found.skipped}
    assert set(reasons) == {
        "cut.png", "cut.jpg", "empty.png", "text.png", "bomb.png", "large.png", "script.png", "film.mp4", "depth.tif",
    }  # fmt: skip
    for name, word in (("bomb.png", "more than 100000000 points"), ("large.png", "more than 100000000 points")):
        assert word in reasons[name]
    assert "damaged" in reasons["cut.png"]
    assert "unknown kind" in reasons["script.png"]
    assert "is no picture" in reasons["film.mp4"]
    assert "8 or 16 bits" in reasons["depth.tif"]
    assert all(str(bad / name) in reason for name, reason in reasons.items())
    assert len(ImageCodec(32).encode(bad)) == 1
    assert ImageCodec.fit(bad).mode == "RGB"


def test_large_pictures_are_refused_where_pillow_would_only_warn(bad):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DataError, match=r"large\.png: the picture has more than 100000000 points"):
            read_picture(bad / "large.png")


def test_strict_names_the_file(bad):
    with pytest.raises(DataError, match=r"bomb\.png"):
        scan(bad, strict=True)
    with pytest.raises(DataError, match=r"cut\.png: the picture is damaged"):
        ImageCodec(32).encode([bad / "good.png", bad / "cut.png"])
    with pytest.raises(DataError, match="No such file"):
        read_picture(bad / "absent.png")


def test_folders_without_pictures_are_refused(tmp_path):
    for path, message in ((tmp_path / "no", "no such folder"), (tmp_path, "holds no picture")):
        with pytest.raises(DataError, match=message):
            ImageCodec.fit(path)
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"a\.png: the picture is damaged"):
        scan(tmp_path)


def test_folders_in_a_folder_are_classes(tmp_path):
    for name in ("dog/1.png", "cat/2.png", "cat/deep/3.png"):
        save(tmp_path / name, Image.new("L", (16, 16)))
    found = scan(tmp_path)
    assert (found.names, found.classes, found.labels) == (
        ("cat/2.png", "cat/deep/3.png", "dog/1.png"), ("cat", "dog"), (0, 0, 1),
    )  # fmt: skip
    assert ImageCodec.fit(tmp_path) == ImageCodec(16, "L")
    assert scan(tmp_path, labelled=False).classes == ()
    save(tmp_path / "loose.png", Image.new("L", (16, 16)))
    assert scan(tmp_path).classes == ()
    with pytest.raises(DataError, match=r"loose\.png: the picture is in none"):
        scan(tmp_path, labelled=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ImageCodec.fit(noise(0, 8, 8)), "at least one picture"),
        (lambda: ImageCodec(10), "multiple of 4"),
        (lambda: ImageCodec(0), "multiple of 4"),
        (lambda: ImageCodec(1 << 30), "multiple of 4 up to"),
        (lambda: ImageCodec(8, "CMYK"), "expected 'L' or 'RGB'"),
        (lambda: ImageCodec(8).encode([3]), "found int"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(DataError, match=message):
        make()


CODEC = ImageCodec(64, "L")


def test_the_codec_goes_into_json_and_comes_back():
    assert ImageCodec.from_json(json.loads(json.dumps(CODEC.to_json()))) == CODEC


def hostile():
    good = CODEC.to_json()
    yield from (None, [], "x", {}, {**good, "more": 1})
    for key in good:
        yield {name: value for name, value in good.items() if name != key}
        yield from (
            {**good, key: value} for value in (None, -8, 1 << 40, 10, 8.0, True, "RGBA", [1], {}, [{"name": "a"}])
        )


@pytest.mark.parametrize("values", list(hostile()))
def test_altered_codecs_are_refused(values):
    with pytest.raises(DataError):
        ImageCodec.from_json(values)


def test_a_grid_holds_every_picture_in_its_place(tmp_path):
    array = noise(5, 8, 6, 3)
    whole = grid(array, columns=3, gap=1, scale=2)
    assert whole.shape == (2 * 17 - 1, 3 * 13 - 1, 3)
    for row in range(5):
        top, left = row // 3 * 17, row % 3 * 13
        np.testing.assert_array_equal(whole[top : top + 16 : 2, left : left + 12 : 2], array[row])
    assert (whole[17:, 26:] == 255).all()
    assert grid(noise(4, 8, 8)).shape == (18, 18)
    path = tmp_path / "grid.png"
    write_grid(array, path, columns=3, gap=1, scale=2)
    assert np.array_equal(np.asarray(Image.open(path)), whole)
    with pytest.raises(DataError, match="exists already"):
        write_grid(array, path)
    write_grid(array, path, overwrite=True)
    with pytest.raises(ValueError, match="grid: expected"):
        grid(noise(0, 8, 8))
    assert [file.name for file in tmp_path.iterdir()] == ["grid.png"]
