"""Texts as a training source: windows and documents, out of files that are never loaded whole."""

import gc
from pathlib import Path

import numpy as np
import pytest
import torch

from clarkia.adapters import TextSource
from clarkia.codecs import TextCodec
from clarkia.errors import DataError

TEXT = "".join(f"line {n}: é and {n * n}\n" for n in range(300))


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "text.txt"
    file.write_bytes(TEXT.encode())
    return file


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_tiles_are_the_text(path, kind):
    codec = TextCodec.fit(path, kind, length=20, num_pieces=300)
    source = TextSource(path, codec, places="tiles")
    rows = source.rows(torch.arange(len(source)))
    assert set(rows) == {"tokens"}
    codec.space.check(rows["tokens"])
    assert source.num_tokens == len(codec.ids(TEXT))
    if kind == "char":
        assert codec.pieces.join(rows["tokens"].flatten().numpy()) == TEXT[: 20 * len(source)]
    assert rows["tokens"].flatten().tolist() == codec.ids(TEXT)[: 20 * len(source)].tolist()


def test_bytes_of_a_file_are_mapped_where_they_lie(path):
    source = TextSource(path, TextCodec.fit(path, "byte", length=16))
    assert isinstance(source._tokens, np.memmap)
    assert Path(source._tokens.filename) == path
    assert not list(path.parent.glob("*.tokens"))


def test_random_windows_are_functions_of_their_row_and_cover_the_text(path):
    codec = TextCodec.fit(path, length=32)
    source = TextSource(path, codec, seed=3)
    assert len(source) == 16 * (len(TEXT) // 32)
    whole = source.rows(torch.arange(len(source)))["tokens"]
    assert torch.equal(source.rows(torch.tensor([99, 7]))["tokens"], whole[[99, 7]])
    texts = codec.decode(whole)
    assert all(text in TEXT for text in texts)
    starts = source._firsts(np.arange(len(source)))
    assert starts.min() < 20
    assert starts.max() > len(TEXT) - 32 - 20
    assert len(set(starts.tolist())) > 0.9 * min(len(starts), len(TEXT) - 31) * (1 - np.exp(-len(starts) / len(TEXT)))
    other = TextSource(path, codec, seed=4)
    assert not torch.equal(other.rows(torch.arange(9))["tokens"], whole[:9])


def test_documents_are_ended_and_padded(tmp_path):
    texts = ["one", "", "three more", "é"]
    for kind in ("char", "byte", "bpe"):
        codec = TextCodec.fit(texts, kind)
        source = TextSource(texts, codec)
        rows = source.rows(torch.tensor([2, 0, 3, 1]))
        assert codec.decode(rows["tokens"]) == ["three more", "one", "é", ""]
        state = codec.encode([texts[row] for row in (2, 0, 3, 1)])
        assert torch.equal(rows["tokens"], state["tokens"])
        assert torch.equal(rows["mask"], state["mask"])


def test_lines_and_files_are_documents(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"first\r\n\nthird\n")
    (tmp_path / "b.txt").write_text("other")
    for texts, expected in ((tmp_path / "a.txt", ["first", "third"]), (tmp_path, ["first\r\n\nthird\n", "other"])):
        codec = TextCodec.fit(texts, documents=True)
        source = TextSource(texts, codec)
        assert codec.decode(source.rows(torch.arange(len(source)))["tokens"]) == expected


def test_token_files_are_kept_or_cleaned_away(path, tmp_path):
    codec = TextCodec.fit(path, length=16)
    kept = tmp_path / "kept.tokens"
    TextSource(path, codec, token_file=kept)
    assert kept.stat().st_size == len(TEXT)
    source = TextSource(path, codec)
    file = Path(source._tokens.filename)
    assert file.exists()
    del source
    gc.collect()
    assert not file.parent.exists()


def test_unknown_characters_are_counted_where_they_may_be_replaced(path):
    codec = TextCodec.fit(TEXT.replace("é", "e"), length=16)
    with pytest.raises(DataError, match=r"text\.txt: the character 'é' \(U\+00E9\) at position 8"):
        TextSource(path, codec)
    assert TextSource(path, codec, unknown="replace").replaced == 300


@pytest.mark.parametrize(
    ("texts", "make", "message"),
    [
        ("abc", lambda: TextCodec.fit("abc", length=4), "3 tokens are fewer than a window of 4"),
        (
            ["ab", "abcab"],
            lambda: TextCodec.fit(["abc"]),
            "text 1: has 6 tokens with its end, and the model's length is 4",
        ),
        (Path("/no/such/file"), lambda: TextCodec.fit("abc", length=2), "no such file"),
        (Path("/no/such/file"), lambda: TextCodec.fit("abc", "byte", length=2), "no such file"),
    ],
)
def test_texts_that_do_not_fit_are_refused(texts, make, message):
    with pytest.raises(DataError, match=message):
        TextSource(texts, make())


@pytest.mark.parametrize("kind", ["char", "byte"])
def test_files_that_are_not_utf8_are_refused(path, kind):
    codec = TextCodec.fit(TEXT, kind, length=16)
    path.write_bytes(TEXT.encode()[:100] + "é".encode("latin-1") + b"x" * 99)
    with pytest.raises(DataError, match="byte 100 is not UTF-8"):
        TextSource(path, codec)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"")
    for codec in (TextCodec.fit("abc", "byte", length=2), TextCodec.fit("abc", length=2)):
        with pytest.raises(DataError, match="0 tokens are fewer"):
            TextSource(tmp_path / "a.txt", codec)
    with pytest.raises(DataError, match="at least one document"):
        TextSource(tmp_path / "a.txt", TextCodec.fit(["abc"]))


def test_bad_options_and_rows_are_refused(path):
    codec = TextCodec.fit(TEXT, length=16)
    for options in ({"places": "all"}, {"passes": 0}, {"seed": -1}, {"unknown": "drop"}):
        with pytest.raises(ValueError, match="TextSource: expected"):
            TextSource(path, codec, **options)
    source = TextSource(path, codec)
    for row in (-1, len(source)):
        with pytest.raises(IndexError, match="indices: expected rows"):
            source.rows(torch.tensor([row]))


def test_a_fingerprint_tells_texts_apart(path):
    codec = TextCodec.fit(TEXT, length=16)
    first = TextSource(path, codec).fingerprint()
    assert TextSource(path, codec).fingerprint() == TextSource(TEXT, codec).fingerprint() == first
    assert TextSource(path, codec, seed=1).fingerprint() != first
    assert TextSource(TEXT[::-1], codec).fingerprint() != first
