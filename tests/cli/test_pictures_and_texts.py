"""The verbs on pictures and texts, with models that have hardly been trained."""

import json

import numpy as np
import pytest
from command_line import run
from PIL import Image

NUMBERS = np.random.default_rng(0)


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """A folder with photos/ of two classes, one of them damaged, and photos.clarkia."""
    folder = tmp_path_factory.mktemp("album")
    for place in range(40):
        path = folder / "photos" / ("cat", "dog")[place % 2] / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(NUMBERS.integers(0, 256, (16, 16, 3)).astype(np.uint8)).save(path)
    (folder / "photos" / "cat" / "broken.jpg").write_bytes(b"not a picture")
    result = run("fit", folder / "photos", "-o", folder / "photos.clarkia", "--max-steps", 1, "--size", 8)
    assert result.status == 0, result
    assert "40 pictures, each with class (cat, dog)" in result.out
    assert "1 file left out" in result.err
    assert "broken.jpg" in result.err
    assert "clarkia sample" in result.out
    return folder


@pytest.fixture(scope="module")
def shelf_of_texts(tmp_path_factory):
    """A folder with book.txt and book.clarkia."""
    folder = tmp_path_factory.mktemp("texts")
    (folder / "book.txt").write_text("It was the best of times, it was the worst of times. " * 60, encoding="utf-8")
    result = run(
        *("fit", folder / "book.txt", "-o", folder / "book.clarkia", "--max-steps", 1, "--length", 24, "--companion")
    )
    assert result.status == 0, result
    assert "windows of 24 tokens" in result.out
    return folder


def test_pictures_come_as_a_grid_a_folder_or_an_array(album, tmp_path):
    model = album / "photos.clarkia"
    grid = tmp_path / "grid.png"
    assert run("sample", model, "-n", 4, "-o", grid, "--num-steps", 2, "--given", "class=cat").status == 0
    with Image.open(grid) as picture:
        assert picture.size == (2 * 64 + 2, 2 * 64 + 2)  # points eight times as large, two between pictures
    assert run("sample", model, "-n", 3, "-o", tmp_path / "drawn", "--num-steps", 2, "--seed", 5).status == 0
    names = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert names == ["000000.png", "000001.png", "000002.png"]
    assert run("sample", model, "-n", 3, "-o", tmp_path / "drawn.npy", "--num-steps", 2, "--seed", 5).status == 0
    array = np.load(tmp_path / "drawn.npy")
    with Image.open(tmp_path / "drawn" / "000001.png") as picture:
        assert (np.asarray(picture) == array[1]).all()
    run("sample", model, "-n", 3, "-o", grid).refuses("exists already", "--overwrite")
    run("sample", model, "-n", 3, "-o", tmp_path / "drawn").refuses("is not empty", "--overwrite")


def test_pictures_are_scored_inspected_and_reported_on(album, tmp_path):
    model, photos = album / "photos.clarkia", album / "photos"
    told = run("inspect", model)
    assert told.status == 0
    for words in ("image model, 8 x 8 RGB", "class (cat, dog)", "parameters", "multiply-adds a picture"):
        assert words in told.out
    scores = tmp_path / "scores.csv"
    result = run("score", model, photos, "-o", scores, "--top", 2)
    assert result.status == 0, result
    assert "40 pictures" in result.out
    assert scores.read_text().startswith('"picture","log_density"\n"cat/')
    figures = tmp_path / "report.json"
    result = run("report", photos, model, "--json", figures, "-o", tmp_path / "report.html")
    assert result.status == 0, result
    assert json.loads(figures.read_text())["kind"] == "images"


def test_texts_are_written_from_prompts(shelf_of_texts, tmp_path):
    model = shelf_of_texts / "book.clarkia"
    result = run("sample", model, "--prompt", "It was ", "-n", 2)
    assert result.status == 0, result
    assert [text[:7] for text in result.out.split("-" * 40 + "\n")] == ["It was "] * 2
    assert run("sample", model, "--infill", "It [*] s.", "--num-steps", 3, "--correction", 2).out.startswith("It ")
    page = tmp_path / "page.txt"
    assert run("sample", model, "-n", 3, "-o", page).status == 0
    assert page.read_text().count("-" * 40) == 2
    run("sample", model, "--prompt", "Ünknown").refuses("prefix", "Ü")
    run("sample", model, "-o", tmp_path / "page.csv").refuses("must end in .txt")


def test_texts_are_scored_inspected_and_reported_on(shelf_of_texts, tmp_path):
    model, book = shelf_of_texts / "book.clarkia", shelf_of_texts / "book.txt"
    told = run("inspect", model)
    assert told.status == 0
    for words in ("text model", "24 tokens", "char", "companion"):
        assert words in told.out
    result = run("score", model, book, "--top", 1)
    assert result.status == 0, result
    assert "1 text" in result.out
    figures = tmp_path / "report.json"
    result = run("report", book, model, "--json", figures)
    assert result.status == 0, result
    assert json.loads(figures.read_text())["kind"] == "texts"


def test_options_of_other_kinds_are_refused(album, shelf_of_texts, tmp_path):
    pictures, texts = album / "photos.clarkia", shelf_of_texts / "book.clarkia"
    out = tmp_path / "out.clarkia"
    run("sample", pictures, "--prompt", "x", "-o", "a.png").refuses("--prompt is for texts, and these are pictures")
    run("sample", pictures).refuses("add -o grid.png")
    run("sample", pictures, "-o", tmp_path / "a.csv").refuses(".png, a .npy, or a folder")
    run("sample", pictures, "-o", tmp_path / "a.png", "--given", "class=cow").refuses("no 'cow' among")
    run("sample", pictures, "-o", tmp_path / "a.png", "--caption", "a cow").refuses("'caption' cannot be asked for")
    run("sample", texts, "--where", "age > 3").refuses("--where is for tables")
    run("sample", texts, "--given", "a=b").refuses("--prompt")
    run("impute", pictures, album / "photos.clarkia", "-o", tmp_path / "a.csv").refuses("models of tables")
    run("fit", album / "photos", "-o", out, "--length", 3).refuses("--length is for texts")
    run("fit", album / "photos", "-o", out, "--network", "mlp").refuses("use unet or dit or uvit")
    run("fit", shelf_of_texts / "book.txt", "-o", out, "--network", "unet").refuses("leave it out")
    run("fit", album / "photos", "-o", out, "--strict").refuses("broken.jpg")


def test_what_holds_nothing_is_refused(tmp_path):
    out = tmp_path / "out.clarkia"
    empty = tmp_path / "empty"
    empty.mkdir()
    run("fit", empty, "-o", out).refuses("holds no pictures")
    run("fit", tmp_path / "nowhere", "-o", out).refuses("there is no file or folder")
    (tmp_path / "data.xyz").write_text("?")
    run("fit", tmp_path / "data.xyz", "-o", out).refuses("cannot tell what", "--kind")
    (tmp_path / "latin.txt").write_bytes("caf\xe9 ".encode("latin-1") * 200)
    run("fit", tmp_path / "latin.txt", "-o", out).refuses("byte 3", "UTF-8")
    assert not out.exists()
