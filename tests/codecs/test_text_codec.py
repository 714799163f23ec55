"""Texts become tokens and come back exactly; prompts say what is known; what cannot be read is named."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clarkia.codecs import TextCodec
from clarkia.codecs.text import BytePairs, Bytes, Characters, read_text
from clarkia.codecs.text.files import read_lines, read_pieces
from clarkia.codecs.text.tokens import MAX_PIECE, _alphabet
from clarkia.errors import DataError

SETTINGS = settings(deadline=None, derandomize=True, max_examples=100)
TEXTS = st.text(max_size=60)
PAIRS = BytePairs.train(["the cat sat on the mat, the end. ünïcode ünïcode"] * 3, 300)


@SETTINGS
@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_documents_of_characters_come_back_exactly(texts):
    if not any(texts):
        return
    codec = TextCodec.fit(texts)
    state = codec.encode(texts)
    codec.space.check(state["tokens"])
    assert codec.decode(state["tokens"]) == texts
    assert state["mask"].sum(1).tolist() == [len(text) + 1 for text in texts]
    assert codec.length == max(map(len, texts)) + 1


@SETTINGS
@given(TEXTS)
def test_any_text_goes_through_bytes_and_pairs(text):
    for pieces in (Bytes(), PAIRS):
        codec = TextCodec(pieces, 300, documents=True)
        assert codec.decode(codec.encode([text])["tokens"]) == [text]
        assert pieces.join(pieces.cut(text)[0]) == text


@SETTINGS
@given(st.text(min_size=1, max_size=50))
def test_windows_come_back_exactly(text):
    codec = TextCodec.fit(text, length=len(text))
    assert codec.num_classes == len(set(text))
    assert codec.decode(codec.encode([text])["tokens"]) == [text]


def test_pairs_make_texts_shorter_and_are_those_of_the_vocabulary():
    assert 256 < len(PAIRS) <= 300
    assert len(PAIRS.cut("the cat sat on the mat")[0]) < 12
    assert {PAIRS.join(np.array([piece])) for piece in range(256, len(PAIRS))} >= {"at", " the", " cat"}


def test_the_alphabet_of_bytes_is_the_published_one():
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = _alphabet()
    assert sorted(alphabet) == sorted(ByteLevel.alphabet())
    found = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str("é \n\t~")
    assert "".join(alphabet[byte] for byte in "é \n\t~".encode()) == found[0][0]


def test_unknown_characters_are_named_or_replaced_and_counted():
    codec = TextCodec.fit(["a cab"], length=8)
    with pytest.raises(DataError, match=r"text 1: the character 'é' \(U\+00E9\) at position 2"):
        codec.encode(["a", "caé"])
    assert codec.decode(codec.encode(["caéd"], unknown="replace")["tokens"]) == ["ca  "]
    ids, replaced = codec.read("béd")
    assert (codec.pieces.join(ids), replaced) == ("b  ", 2)
    assert TextCodec.fit(["abc"]).read("x")[0].tolist() == [0]


def test_half_surrogates_are_named():
    for pieces in (Bytes(), PAIRS):
        with pytest.raises(DataError, match=r"U\+D800 at position 1"):
            pieces.cut("a\ud800")
        assert pieces.join(pieces.cut("a\ud800", replace=True)[0]) == "a?"


def test_texts_of_other_lengths_are_refused():
    codec = TextCodec.fit(["abc", "ab"])
    with pytest.raises(DataError, match=r"text 1: has 5 tokens with its end, and the model's length is 4"):
        codec.encode(["abc", "abca"])
    window = TextCodec.fit("abcabc", length=4)
    for text in ("abc", "abcab"):
        with pytest.raises(DataError, match=rf"text 0: has {len(text)} tokens"):
            window.encode([text])
    with pytest.raises(DataError, match="put it into a list"):
        codec.encode("abc")


def test_what_a_network_writes_is_read():
    codec = TextCodec.fit(["abc"], length=6)
    a, b, end, padding, mask = 0, 1, codec.end, codec.padding, codec.num_classes
    rows = torch.tensor([[a, b, end, a, a, a], [a, padding, b, b, b, b], [a, mask, b, mask, end, mask]])
    assert codec.decode(rows, mask="_") == ["ab", "abbbb", "a_b_"]
    with pytest.raises(DataError, match="row 2, position 1 is masked still"):
        codec.decode(rows)
    for bad in (mask + 1, -1):
        with pytest.raises(DataError, match=f"position 0 is {bad}, no token"):
            codec.decode(torch.full((1, 6), bad), mask="_")
    assert TextCodec(Bytes(), 3).decode(torch.tensor([[0xE2, 0x82, 65]])) == ["\ufffdA"]


def shown(codec, **conditions):
    values, known = codec.conditions(**conditions)
    values = torch.where(known, values, codec.num_classes)
    return codec.decode(values[None], mask="_")[0]


def test_conditions():
    codec = TextCodec.fit("The cat sat. [*]0123456789", length=12)
    assert shown(codec, prefix="The ") == "The ________"
    assert shown(codec, suffix=" sat") == "________ sat"
    assert shown(codec, prefix="The", suffix="t.") == "The_______t."
    assert shown(codec, infill="The [*] sat") == "The ____ sat"
    assert shown(codec, infill="The [*3] sat[*]") == "The ___ sat_"
    assert shown(codec, infill="[*]a[*]") == "______a_____"
    assert shown(codec, infill="[*2]a") == "__a_________"
    assert shown(codec, at={0: "T", 4: "cat", -1: "."}) == "T___cat____."
    assert shown(codec, prefix="The", at={0: "Th"}) == "The_________"
    assert shown(codec) == "_" * 12
    documents = TextCodec.fit(["abc"], length=6)
    values, known = documents.conditions(suffix="c")
    assert values[known].tolist() == [2, documents.end]
    assert known.tolist() == [False] * 4 + [True] * 2


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"prefix": "x"}, "prefix: the character 'x'"),
        ({"prefix": "abcabca"}, "prefix: the text takes 7 tokens, and only 6 are left"),
        ({"suffix": "abcabca"}, "suffix: the text takes 7"),
        ({"infill": "abc"}, "expected a hole"),
        ({"infill": "abc[*9]abc"}, "take 15 tokens, and the model's length is 6"),
        ({"at": {6: "a"}}, "expected positions from -6 to 5, found 6"),
        ({"at": {"1": "a"}}, "found '1'"),
        ({"at": {5: "ab"}}, "at 5: the text takes 2 tokens, and only 1 are left"),
        ({"prefix": "ab", "at": {1: "c"}}, "at 1: position 1 is given another token already"),
    ],
)
def test_conditions_that_cannot_be_are_refused(conditions, message):
    with pytest.raises(DataError, match=message):
        TextCodec.fit("abc", length=6).conditions(**conditions)


@SETTINGS
@given(st.text("ab[*]1", max_size=12))
def test_any_infill_is_laid_out_or_refused(text):
    codec = TextCodec.fit("ab[*]1", length=8)
    try:
        values, known = codec.conditions(infill=text)
    except DataError:
        return
    assert values.shape == known.shape == (8,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: TextCodec.fit(""), "at least one character"),
        (lambda path: TextCodec.fit([]), "found an empty list"),
        (lambda path: TextCodec.fit(["a", 3]), "found int in row 1"),
        (lambda path: TextCodec.fit("a", "word"), "kind: expected 'char', 'byte' or 'bpe'"),
        (lambda path: TextCodec.fit("a", length=0), "length: expected"),
        (lambda path: TextCodec.fit("a", "bpe", num_pieces=10), "at least the 256 bytes"),
        (lambda path: TextCodec.fit(path / "no.txt"), "no such file or folder"),
        (lambda path: TextCodec.fit(path), "holds no texts"),
    ],
)
def test_what_cannot_be_fitted_is_refused(tmp_path, make, message):
    with pytest.raises(DataError, match=message):
        make(tmp_path)


@SETTINGS
@given(st.text(max_size=80), st.integers(1, 9))
def test_files_are_read_in_pieces_that_make_the_whole(tmp_path_factory, text, block):
    path = tmp_path_factory.mktemp("texts") / "a.txt"
    path.write_bytes(text.encode())
    pieces = list(read_pieces(path, block))
    assert "".join(pieces) == text == read_text(path)
    assert all(pieces)
    lines = [(n, line.removesuffix("\r")) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    assert [(n, line.removesuffix("\r")) for n, line in read_lines(path)] == lines


@pytest.mark.parametrize("at", [0, 1, 7, 8, 9, 30, (1 << 20) - 1, 1 << 20, (1 << 20) + 5])
def test_the_byte_that_is_not_utf8_is_named(tmp_path, at):
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * at + b"\xe9" + b"yz")
    with pytest.raises(DataError, match=rf"a\.txt: byte {at} is not UTF-8; save the file as UTF-8"):
        read_text(path)
    path.write_bytes("é".encode() * (at // 2) + b"\xc3")
    with pytest.raises(DataError, match=f"byte {at // 2 * 2} is not UTF-8"):
        read_text(path)


def test_folders_and_lines_are_documents(tmp_path):
    (tmp_path / "b.txt").write_text("two\n")
    (tmp_path / "a.md").write_text("one")
    assert TextCodec.fit(tmp_path).documents
    assert TextCodec.fit(tmp_path).length == 5
    assert not TextCodec.fit(tmp_path, documents=False).documents
    assert not TextCodec.fit(tmp_path / "b.txt").documents
    assert TextCodec.fit(tmp_path / "b.txt", documents=True).length == 4


CODECS = [
    TextCodec(Characters("\n abcé日"), 16, True),
    TextCodec(Bytes(), 64),
    TextCodec(PAIRS, 32, True),
]


@pytest.mark.parametrize("codec", CODECS)
def test_the_codec_goes_into_json_and_comes_back(codec):
    other = TextCodec.from_json(json.loads(json.dumps(codec.to_json())))
    assert other == codec
    assert other.pieces.cut("abc a")[0].tolist() == codec.pieces.cut("abc a")[0].tolist()


def hostile():
    yield from (None, [], "x", {})
    for codec in CODECS:
        good = codec.to_json()
        yield {**good, "more": 1}
        for key in good:
            yield {name: value for name, value in good.items() if name != key}
            for value in (None, -1, 0, 1 << 40, 1.0, "x", [], {}, {"kind": "word"}):
                if (key, value) != ("format", 1.0):
                    yield {**good, key: value}
    head = {"format": 1, "length": 8, "documents": False}
    for merges in (
        [[256, 0]],
        [[0, 257], [0, 0]],
        [[-1, 0]],
        [[0]],
        [[0, 0, 0]],
        ["ab"],
        [[0, 0.5]],
        [[97, 97], *([256 + i, 256 + i] for i in range(8))],  # 2 ** 9 bytes a piece
    ):
        yield {**head, "pieces": {"kind": "bpe", "merges": merges}}
    for characters in ("", "ba", "aa", "a\ud800", 3):
        yield {**head, "pieces": {"kind": "char", "characters": characters}}


@pytest.mark.parametrize("values", list(hostile()))
def test_altered_codecs_are_refused(values):
    with pytest.raises(DataError):
        TextCodec.from_json(values)


def test_pieces_of_pairs_stay_short():
    assert max(len(PAIRS.join(np.array([i])).encode()) for i in range(256, len(PAIRS))) <= MAX_PIECE
    long = BytePairs.train([" " * 3000, "a" * 3000] * 3, 600)
    assert long.join(long.cut("a" * 777)[0]) == "a" * 777
    assert BytePairs(long.merges) == long
