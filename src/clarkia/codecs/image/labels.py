"""What pictures are labelled with: classes by name, and as numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from clarkia.errors import DataError

MAX_VALUES = 100_000
"""Most values of an attribute."""


@dataclass(frozen=True)
class Attribute:
    """Something that pictures are labelled with.

    Attributes:
        name: of the attribute.
        values: what it can be; a label is a place in this list, -1 where nothing is known.
    """

    name: str
    values: tuple[str, ...]


def encode_labels(
    attributes: Sequence[Attribute], labels: Sequence[Any] | Mapping[str, Sequence[Any]]
) -> Int[Tensor, "n k"]:
    """Values of attributes as places in their lists; see `ImageCodec.encode_labels`."""
    if not isinstance(labels, Mapping):
        if len(attributes) != 1:
            known = ", ".join(attribute.name for attribute in attributes)
            raise DataError(f"labels: expected values by name of the attribute ({known or 'there are none'}).")
        labels = {attributes[0].name: labels}
    known = {attribute.name: attribute.values for attribute in attributes}
    if len({len(column) for column in labels.values()}) > 1:
        raise DataError("labels: expected as many values of each attribute, found lists of different lengths.")
    codes = torch.full((len(next(iter(labels.values()), ())), len(known)), -1)
    for name, column in labels.items():
        if name not in known:
            raise DataError(f"labels: there is no attribute {name!r}; the pictures have {', '.join(known) or 'none'}.")
        place = {value: code for code, value in enumerate(known[name])}
        for row, value in enumerate(column):
            code = -1 if _unknown(value) else place.get(str(value))
            if code is None:
                raise DataError(f"{name}: {value!r} was not seen when the model was fitted; {_some(known[name])}.")
            codes[row, list(known).index(name)] = code
    return codes


def decode_labels(attributes: Sequence[Attribute], codes: Int[Tensor, "n k"]) -> dict[str, list[str | None]]:
    """Values by name of the attribute from their places; None for -1."""
    return {
        attribute.name: [None if code < 0 else attribute.values[code] for code in column]
        for attribute, column in zip(attributes, codes.T.tolist(), strict=True)
    }


def attribute_of(name: str, column: Sequence[Any], n: int) -> Attribute:
    """The attribute that a column of n labels shows.

    Raises:
        DataError: another number of labels, none that is known, or too many different ones.
    """
    if len(column) != n:
        raise DataError(f"labels: expected one a picture, {n} of them, found {len(column)} for {name!r}.")
    values = tuple(sorted({str(value) for value in column if not _unknown(value)}))
    if not values:
        raise DataError(f"labels: expected at least one value of {name!r} that is known, found none.")
    if len(values) > MAX_VALUES:
        raise DataError(f"labels: {name!r} has {len(values)} different values, more than {MAX_VALUES}; is it a class?")
    return Attribute(name, values)


def _unknown(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or (isinstance(value, str) and not value)


def _some(values: tuple[str, ...]) -> str:
    return f"known are {', '.join(values[:10])}" + (f" and {len(values) - 10} more" if len(values) > 10 else "")
