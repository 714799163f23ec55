"""What is said of pictures, as the condition of a network, and what cannot be said."""

import json
from dataclasses import replace

import pytest
import torch

from clarkia.codecs.descriptions import DescriptionCodec
from clarkia.errors import DataError
from clarkia.networks.conditioning import Conditions

MOODS = ["glad", "sad", None, "glad"]
AGES = [3, 5, 3, None]
CAPTIONS = ["A red square, left", "a blue square", None, "a red circle"]
CODEC = DescriptionCodec.fit({"mood": MOODS, "age": AGES}, CAPTIONS)


def test_values_and_words_become_numbers():
    assert CODEC.attributes == {"mood": ("glad", "sad"), "age": (3, 5)}
    assert CODEC.words == ("a", "red", "square", ",", "blue", "circle", "left")  # by number, then by name
    assert CODEC.conditions == Conditions(label_classes=(2, 2), token_classes=9, max_tokens=5, token_window=3)
    state = CODEC.encode({"mood": MOODS, "age": AGES}, CAPTIONS)
    assert state["label"].tolist() == [[0, 0], [1, 1], [-1, 0], [0, -1]]
    assert state["tokens"].tolist() == [[2, 3, 4, 5, 8], [2, 6, 4, 0, 0], [0] * 5, [2, 3, 7, 0, 0]]
    assert state["mask"].equal(state["tokens"] > 0)


def test_unknown_words_of_data_are_one_and_long_captions_are_cut():
    state = CODEC.encode({"mood": ["sad"], "age": [5]}, ["a green square, left and below"])
    assert state["tokens"].tolist() == [[2, 1, 4, 5, 8]]


def test_a_question_is_the_same_for_every_row():
    given = CODEC.given({"age": 5, "caption": "a red circle"}, 3)
    assert given is not None
    assert given["label"].tolist() == [[-1, 1]] * 3
    assert given["tokens"].tolist() == [[2, 3, 7, 0, 0]] * 3
    assert CODEC.given({}, 3) is None
    only_words = CODEC.given({"caption": "a circle"}, 1)
    assert only_words is not None
    assert only_words["label"].tolist() == [[-1, -1]]
    assert CODEC.given({"age": "5"}, 1)["label"].tolist() == [[-1, 1]]  # as the command line has it


def test_a_question_may_differ_by_row():
    given = CODEC.given({"mood": ["sad", None, "glad"], "caption": ["a circle", "a square", "a red square"]}, 3)
    assert given["label"].tolist() == [[1, -1], [-1, -1], [0, -1]]
    assert given["mask"].sum(1).tolist() == [2, 2, 3]
    with pytest.raises(DataError, match="mood: expected one value or a list of 3, found 2"):
        CODEC.given({"mood": ["sad", "glad"]}, 3)


def test_true_is_not_one():
    codec = DescriptionCodec.fit({"new": [True, False], "number": [1, 0]})
    assert codec.given({"new": True}, 1)["label"].tolist() == [[1, -1]]
    with pytest.raises(DataError, match="no True among"):
        codec.given({"number": True}, 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 3}, "'size' cannot be asked for; the model was told mood, age, caption"),
        ({"mood": "angry"}, "mood: there was no 'angry' among the training pictures, only glad, sad"),
        ({"caption": "a rd circle"}, "has the word 'rd'; words such as red are known"),
        ({"caption": " "}, "caption is empty"),
        ({"caption": "a red square, left, blue"}, "has 7 words, the longest in training had 5"),
    ],
)
def test_what_cannot_be_asked_is_said(given, message):
    with pytest.raises(DataError, match=message):
        CODEC.given(given, 1)


def test_nothing_said_is_nothing_known():
    codec = DescriptionCodec.fit({})
    assert codec.conditions == Conditions()
    assert codec.encode({}) == {}
    with pytest.raises(DataError, match="the model was told nothing"):
        codec.given({"class": 1}, 1)


@pytest.mark.parametrize(
    ("attributes", "captions", "message"),
    [
        ({"caption": ["x"]}, None, "cannot be named 'caption'"),
        ({"a": [None, None]}, None, "at least one that is known"),
        ({"a": [1, "x"]}, None, "values of one kind, found int, str"),
        ({"a": [0.5]}, None, "expected text, whole numbers"),
        ({}, ["", None], "hold no word"),
    ],
)
def test_what_cannot_be_fitted_is_said(attributes, captions, message):
    with pytest.raises(DataError, match=message):
        DescriptionCodec.fit(attributes, captions)


def test_it_goes_into_json_and_comes_back():
    assert DescriptionCodec.from_json(json.loads(json.dumps(CODEC.to_json()))) == CODEC


def test_words_are_read_with_their_neighbours_but_alone_in_a_file_that_does_not_say():
    assert CODEC.conditions.token_window == 3
    assert DescriptionCodec.fit({"mood": MOODS}).conditions.token_window == 1
    record = {name: value for name, value in CODEC.to_json().items() if name != "window"}
    assert DescriptionCodec.from_json(record) == replace(CODEC, window=1)


def hostile():
    good = CODEC.to_json()
    yield from (None, [], "x", {})
    for key in good:
        if key != "window":
            yield {name: value for name, value in good.items() if name != key}
        yield from (
            {**good, key: value} for value in (None, -1, 1 << 40, "x", [1], [["a"]], [["a", []]], [["a", [0.5]]])
        )


@pytest.mark.parametrize("values", list(hostile()))
def test_altered_codecs_are_refused(values):
    with pytest.raises(DataError):
        DescriptionCodec.from_json(values)


def test_tensors_are_what_networks_take():
    state = CODEC.encode({"mood": MOODS, "age": AGES}, CAPTIONS)
    embedded = CODEC.conditions.embedding(8)(state, 4)
    assert embedded.vector.shape == (4, 8)
    assert embedded.tokens.shape == (4, 5, 8)
    assert bool(torch.isfinite(embedded.tokens).all())
