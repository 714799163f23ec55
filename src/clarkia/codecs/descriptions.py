"""What is said of a picture, a class, attributes, a caption, as the condition of a network."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from clarkia.errors import DataError
from clarkia.networks.conditioning import Conditions

Value: TypeAlias = str | int | bool

CAPTION = "caption"
PADDING, UNKNOWN = 0, 1
"""Ids of the places after a caption's end and of words that the vocabulary lacks; its own words follow."""

WINDOW = 3
"""An adjective is read with its noun: attention learns late, and a sum of single words never, what belongs together."""

_RESERVED = 2
_WORD = re.compile(r"\w+|[^\w\s]")
_MAX_CLASSES, _MAX_WORDS = 100_000, 32_768


@dataclass(frozen=True)
class DescriptionCodec:
    """The attributes that pictures have, and the words of their captions.

    Attributes:
        attributes: By name the values of each attribute, in the order of their class numbers.
        words: The vocabulary of captions, most frequent first; empty where there are none.
        max_words: Words of the longest caption.
        window: Words that a network reads a word with, itself in the middle; model files that do not say have 1.
    """

    attributes: Mapping[str, tuple[Value, ...]]
    words: tuple[str, ...] = ()
    max_words: int = 0
    window: int = 1

    @classmethod
    def fit(
        cls, attributes: Mapping[str, Sequence[Any]], captions: Sequence[str | None] | None = None
    ) -> DescriptionCodec:
        """Learn the values and the words.

        Args:
            attributes: By name one value a picture, a string, whole number or bool; None where it is not known.
            captions: One a picture, None where there is none; or None where no picture has one.

        Raises:
            DataError: an attribute named "caption", one with too many values or values of another kind, or captions
                without a word.
        """
        if CAPTION in attributes:
            raise DataError(f"an attribute cannot be named {CAPTION!r}, which stands for the caption; rename it")
        found = {name: _classes(name, values) for name, values in attributes.items()}
        if captions is None:
            return cls(found)
        texts = [_words(text or "") for text in captions]
        counts = Counter(word for text in texts for word in text)
        if not counts:
            raise DataError("the captions hold no word; leave them out, or write what the pictures show")
        ordered = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(found, tuple(ordered[:_MAX_WORDS]), max(map(len, texts)), WINDOW)

    @property
    def conditions(self) -> Conditions:
        """What a network of these pictures declares."""
        return Conditions(
            label_classes=tuple(len(values) for values in self.attributes.values()),
            token_classes=len(self.words) + _RESERVED if self.words else None,
            max_tokens=self.max_words or None,
            token_window=self.window,
        )

    def encode(
        self, attributes: Mapping[str, Sequence[Any]], captions: Sequence[str | None] | None = None
    ) -> dict[str, Tensor]:
        """The descriptions of n pictures as tensors: ``label`` int64 (n, k), ``tokens`` int64 (n, m), ``mask`` (n, m).

        Raises:
            DataError: a value that was not there when the codec was fitted.
        """
        state: dict[str, Tensor] = {}
        if self.attributes:
            columns = [self._numbers(name, attributes.get(name)) for name in self.attributes]
            state["label"] = torch.tensor(columns, dtype=torch.int64).T.contiguous()
        if self.words and captions is not None:
            state |= self._tokens(captions, strict=False)
        return state

    def given(self, values: Mapping[str, Any], rows: int) -> dict[str, Tensor] | None:
        """The condition that some attributes or a caption have values; None without any.

        Args:
            values: By attribute a value; under "caption" a sentence; or a list of them, one a row.
            rows: How many rows.

        Raises:
            DataError: an attribute, a value or a word that the model does not know, or a list of another length.
        """
        unknown = [name for name in values if name not in self.attributes and not (name == CAPTION and self.words)]
        if unknown:
            known = ", ".join([*self.attributes, *([CAPTION] if self.words else [])]) or "nothing"
            raise DataError(f"{unknown[0]!r} cannot be asked for; the model was told {known}")
        if not values:
            return None
        state: dict[str, Tensor] = {}
        if self.attributes:
            columns = [
                self._numbers(name, _each(name, values[name], rows)) if name in values else [-1] * rows
                for name in self.attributes
            ]
            state["label"] = torch.tensor(columns, dtype=torch.int64).T.contiguous()
        if CAPTION in values:
            state |= self._tokens(_each(CAPTION, values[CAPTION], rows), strict=True)
        return state

    def to_json(self) -> dict[str, Any]:
        """The codec as JSON values."""
        attributes = [[name, list(values)] for name, values in self.attributes.items()]
        words = {"words": list(self.words), "max_words": self.max_words, "window": self.window}
        return {"attributes": attributes, **words}

    @classmethod
    def from_json(cls, record: Any) -> DescriptionCodec:
        """The codec that `to_json` wrote.

        Raises:
            DataError: a record that it cannot have written.
        """
        try:
            attributes = {name: tuple(values) for name, values in record["attributes"]}
            words, max_words, window = tuple(record["words"]), record["max_words"], record.get("window", 1)
            sound = (
                all(type(name) is str and _are_values(values) for name, values in attributes.items())
                and type(record["words"]) is list
                and all(type(word) is str for word in words)
                and type(max_words) is int
                and bool(words) == bool(max_words)
                and 0 <= max_words <= 2**16
                and type(window) is int
                and window in (1, WINDOW)
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError("the descriptions in the model file are damaged; get a fresh copy") from error
        if not sound:
            raise DataError("the descriptions in the model file are damaged; get a fresh copy")
        return cls(attributes, words, max_words, window)

    def _numbers(self, name: str, values: Sequence[Any] | None) -> list[int]:
        if values is None:
            raise DataError(f"the attribute {name!r} is missing; give it, with None where it is not known")
        return [-1 if value is None else self._number(name, value) for value in values]

    def _number(self, name: str, value: Any) -> int:
        classes = self.attributes[name]
        for number, known in enumerate(classes):
            # True == 1 in Python; and a value may come from the command line, as text.
            if (value == known and isinstance(value, bool) == isinstance(known, bool)) or value == str(known):
                return number
        raise DataError(f"{name}: there was no {value!r} among the training pictures, only {_some(classes)}")

    def _tokens(self, captions: Sequence[str | None], strict: bool) -> dict[str, Tensor]:
        ids = {word: number for number, word in enumerate(self.words, _RESERVED)}
        tokens = torch.full((len(captions), self.max_words), PADDING)
        for row, text in enumerate(captions):
            words = _words(text or "")
            if strict:
                self._check_caption(words, ids)
            found = [ids.get(word, UNKNOWN) for word in words[: self.max_words]]
            tokens[row, : len(found)] = torch.tensor(found, dtype=torch.int64)
        return {"tokens": tokens, "mask": tokens != PADDING}

    def _check_caption(self, words: list[str], ids: Mapping[str, int]) -> None:
        if not words:
            raise DataError("the caption is empty; write what the picture should show, or ask for nothing")
        if len(words) > self.max_words:
            longest = f"the longest in training had {self.max_words}"
            raise DataError(f"the caption has {len(words)} words, {longest}; shorten it")
        for word in words:
            if word not in ids:
                near = difflib.get_close_matches(word, self.words, 3) or self.words[:8]
                known = f"words such as {', '.join(near)} are known"
                raise DataError(f"no caption in training has the word {word!r}; {known}")


def _each(name: str, value: Any, rows: int) -> Sequence[Any]:
    """A value a row."""
    if not is_list(value):
        return [value] * rows
    if len(value) != rows:
        raise DataError(f"{name}: expected one value or a list of {rows}, found {len(value)}")
    return value.tolist() if hasattr(value, "tolist") else value


def is_list(value: Any) -> bool:
    """Whether what is asked for is a value a row rather than one for all."""
    return (isinstance(value, Sequence) and not isinstance(value, str)) or getattr(value, "ndim", 0) == 1


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _classes(name: str, values: Sequence[Any]) -> tuple[Value, ...]:
    found = {value for value in values if value is not None}
    if not found or not _are_values(tuple(found)):
        raise DataError(f"{name}: expected text, whole numbers or true and false, with at least one that is known")
    kinds = {type(value) for value in found}
    if len(kinds) > 1:
        raise DataError(f"{name}: expected values of one kind, found {', '.join(sorted(k.__name__ for k in kinds))}")
    if len(found) > _MAX_CLASSES:
        raise DataError(f"{name}: expected at most {_MAX_CLASSES:,} different values, found {len(found):,}")
    return tuple(sorted(found))


def _are_values(values: tuple[Any, ...]) -> bool:
    return bool(values) and all(type(value) in (str, int, bool) for value in values)


def _some(classes: tuple[Value, ...]) -> str:
    shown = ", ".join(map(str, classes[:10]))
    return shown if len(classes) <= 10 else f"{shown} and {len(classes) - 10} more"
