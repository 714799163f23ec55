"""Captions: what is written is read, what cannot be read is refused, and negatives are few and false."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clarkia.datasets.shapes import (
    COLOURS,
    MAX_WORDS,
    RELATIONS,
    SHAPES,
    SIZES,
    Caption,
    Phrase,
    claims,
    contradicts,
    level_of,
    negatives,
    parse,
)
from clarkia.datasets.shapes.grammar import KINDS
from clarkia.errors import DataError

SETTINGS = settings(deadline=None, derandomize=True, max_examples=200)
PHRASES = st.builds(
    Phrase,
    st.integers(1, 15),
    st.sampled_from(SHAPES),
    st.sampled_from([None, *COLOURS]),
    st.sampled_from([None, *SIZES]),
)
CAPTIONS = st.one_of(
    st.builds(Caption, PHRASES), st.builds(Caption, PHRASES, PHRASES, st.sampled_from([None, *RELATIONS]))
)


@SETTINGS
@given(CAPTIONS)
def test_captions_are_read_as_they_are_written(caption):
    assert parse(str(caption)) == caption
    assert parse(str(caption).upper()) == caption
    said = claims([caption])
    assert said.texts() == [str(caption)]
    assert said.caption(0) == caption
    assert len(str(caption).split()) <= MAX_WORDS


@SETTINGS
@given(CAPTIONS, st.sampled_from(KINDS))
def test_negatives_contradict_and_differ_in_one_kind_of_word(caption, kind):
    assert not contradicts(caption, caption)
    for text in negatives(caption, kind):
        other = parse(text)
        assert contradicts(caption, other)
        assert contradicts(other, caption)
        for name in ("count", "size", "colour", "shape"):
            if name != kind:
                values = [[getattr(phrase, name) for phrase in one.phrases] for one in (caption, other)]
                assert values[0] == values[1]


def test_negatives_of_each_kind():
    binding = "a red circle and a blue square"
    assert negatives(binding, "colour") == ("a blue circle and a red square",)
    assert negatives(binding, "shape") == ("a red square and a blue circle",)
    assert negatives(binding, "count") == ("two red circles and a blue square", "a red circle and two blue squares")
    assert negatives(binding, "relation") == negatives(binding, "size") == ()
    assert negatives("a circle above a cross", "relation") == ("a circle below a cross",)
    assert len(negatives("a red circle", "colour")) == 7
    assert negatives("three small crosses", "size") == ("three large crosses",)
    # Of two circles of which one is red, the other may be blue: that is no negative.
    assert "a circle and a blue circle" not in negatives("a circle and a red circle", "colour")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a number from 'one' to 'fifteen' or 'a', found the end"),
        ("red circle", "found 'red'"),
        ("a purple circle", "found 'purple'"),
        ("two circle", "found 'circle'"),
        ("a circles", "found 'circles'"),
        ("a red small circle", "found 'small'"),
        ("a circle or a square", "found 'or'"),
        ("a circle left a square", "found 'left'"),
        ("a circle and", "found the end"),
        ("a circle and a square and a cross", "expected the end, found 'and'"),
        ("sixteen circles", "found 'sixteen'"),
    ],
)
def test_what_is_no_caption_is_refused(text, message):
    with pytest.raises(DataError, match=message):
        parse(text)


@SETTINGS
@given(st.lists(st.sampled_from(["a", "two", "red", "small", "circle", "circles", "and", "left", "of", "the", "§"])))
def test_any_words_are_read_or_refused(words):
    try:
        caption = parse(" ".join(words))
    except DataError:
        return
    assert parse(str(caption)) == caption


def test_levels_by_what_is_said():
    captions = {
        "single": "a circle",
        "colour": "a red circle",
        "count": "three red circles",
        "two": "a circle and a cross",
        "binding": "a red circle and a blue cross",
        "relation": "a red circle above a blue cross",
        "full": "a small circle and two crosses",
    }
    assert {level: level_of(text) for level, text in captions.items()} == {level: level for level in captions}


def test_bad_phrases_are_refused():
    for make in (
        lambda: Phrase(0, "circle"),
        lambda: Phrase(16, "circle"),
        lambda: Phrase(1, "blob"),
        lambda: Phrase(1, "circle", "pink"),
        lambda: Caption(Phrase(1, "circle"), None, "above"),
        lambda: Caption(Phrase(1, "circle"), Phrase(1, "circle"), "near"),
        lambda: negatives("a circle", "taste"),
    ):
        with pytest.raises(ValueError, match="expected"):
            make()
