"""The conditions of classes, handed to a denoiser for any mixture of rows and classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ClassConditions:
    """Conditions by class.

    Attributes:
        given: A tensor with a row a class, a dict of such tensors, or a list with any condition a class.
        classes: c.
        rows: n where each row has conditions of its own, (n c) rows with those of a row together; else None.
    """

    given: Any
    classes: int
    rows: int | None = None

    @classmethod
    def of(cls, given: Any, rows: int | None) -> ClassConditions:
        """Count the classes.

        Args:
            given: As the attribute.
            rows: Rows that have conditions of their own; None where they share them.

        Raises:
            ValueError: No class, tensors that disagree on their number, a list where rows have their own.
        """
        if isinstance(given, Mapping):
            counts = {name: len(part) for name, part in given.items()}
            if len(set(counts.values())) != 1:
                raise ValueError(f"conditions: expected tensors with one row a class, found {counts} rows.")
            count = next(iter(counts.values()))
        elif isinstance(given, Tensor) and given.ndim:
            count = len(given)
        elif isinstance(given, Sequence) and not isinstance(given, str):
            count = len(given)
            if rows is not None:
                raise ValueError("conditions: expected tensors where each row has its own, found a list.")
        else:
            raise ValueError(f"conditions: expected a tensor, a dict of tensors or a list, found {type(given)}.")
        if not count or count % (rows or 1):
            raise ValueError(f"conditions: expected the same number of classes for {rows or 1} rows, found {count}.")
        return cls(given, count // (rows or 1), rows)

    def parts(self, row: Tensor, label: Tensor) -> Iterator[tuple[Tensor, Any]]:
        """Split k questions into calls: which of them, and the condition of that call.

        Args:
            row: Row of each question ``(k,)``.
            label: Class of each question ``(k,)``; `classes` asks without a condition.
        """
        free = label == self.classes
        if bool(free.any()):
            yield free.nonzero().squeeze(1), None
        told = (~free).nonzero().squeeze(1)
        if not len(told):
            return
        if isinstance(self.given, Sequence):
            for one in label[told].unique().tolist():
                yield (label == one).nonzero().squeeze(1), self.given[one]
            return
        place = label[told] if self.rows is None else row[told] * self.classes + label[told]
        yield told, _take(self.given, place)


def _take(given: Any, place: Tensor) -> Any:
    if isinstance(given, Mapping):
        return {name: part[place.to(part.device)] for name, part in given.items()}
    return torch.index_select(given, 0, place.to(given.device))
