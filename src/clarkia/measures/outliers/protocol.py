"""The protocol of all outlier scorers: what is usual is fitted, what is new is scored, larger is more unusual."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from clarkia.measures.inputs import features


@runtime_checkable
class FittedScorer(Protocol):
    """What a scorer knows of usual rows; frozen, and a row's score does not depend on the rows beside it."""

    def score(self, features: Any) -> Float64[Tensor, " n"]:
        """How unusual each row is, float64 ``(n,)``; larger is more unusual."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """The settings of a scorer; frozen, and fitting leaves them as they are."""

    def fit(self, features: Any, labels: Any = None) -> FittedScorer:
        """Learn what is usual.

        Args:
            features: Usual rows ``(n, d)``.
            labels: Class of each row ``(n,)``, for scorers that look at every class by itself; None for one class.
        """
        ...


def rows_like(x: Any, width: int, name: str = "features") -> Float64[Tensor, "n d"]:
    """Feature rows of the width that was fitted; raises ``ValueError`` otherwise."""
    rows = features(x, name)
    if rows.shape[1] != width:
        raise ValueError(f"{name}: expected {width} columns as were fitted, found {rows.shape[1]}.")
    return rows.detach()


def class_codes(labels: Any, n: int, name: str = "labels") -> tuple[Tensor, Int64[Tensor, " n"]]:
    """The distinct labels in order, ``(classes,)``, and the place of each row's label among them, int64 ``(n,)``.

    Raises:
        ValueError: Not one label a row, or labels that are not whole numbers.
    """
    if labels is None:
        return torch.zeros(1, dtype=torch.int64), torch.zeros(n, dtype=torch.int64)
    values = torch.as_tensor(labels)
    if values.shape != (n,):
        raise ValueError(f"{name}: expected one label a row, shape ({n},), found {tuple(values.shape)}.")
    if values.is_floating_point() or values.is_complex():
        raise ValueError(f"{name}: expected whole numbers, found {values.dtype}.")
    classes, codes = values.long().unique(return_inverse=True)
    return classes, codes
