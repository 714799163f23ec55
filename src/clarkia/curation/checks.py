"""What the functions of this room ask of their arguments."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def check_count(value: Any, name: str, *, least: int = 1, most: int | None = None) -> int:
    """A whole number of at least ``least`` and at most ``most``; raises ``ValueError`` otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name}: expected a whole number {limits}, found {value!r}.")
    return value


def check_number(value: Any, name: str, *, low: float = -math.inf, high: float = math.inf, open: bool = False) -> float:
    """A finite number in ``[low, high]``, or ``(low, high]`` where ``open``; raises ``ValueError`` otherwise."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or value < low or value > high or (open and value == low):
        raise ValueError(f"{name}: expected a number in {'(' if open else '['}{low:g}, {high:g}], found {value!r}.")
    return float(value)


def check_choice(value: Any, name: str, choices: tuple[str, ...]) -> str:
    """One of the named choices; raises ``ValueError`` otherwise."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {list(choices)}, found {value!r}.")
    return value


def check_labels(labels: Any, rows: int, name: str = "labels") -> Tensor:
    """Class numbers int64 ``(rows,)`` from 0, each class up to the largest present; raises ``ValueError`` otherwise."""
    labels = torch.as_tensor(labels)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"{name}: expected whole numbers, found {labels.dtype}.")
    if labels.shape != (rows,):
        raise ValueError(f"{name}: expected shape ({rows},), found {tuple(labels.shape)}.")
    labels = labels.long()
    if int(labels.min()) < 0:
        raise ValueError(f"{name}: expected classes from 0, found {int(labels.min())}.")
    empty = (torch.bincount(labels) == 0).nonzero().flatten()
    if len(empty):
        raise ValueError(f"{name}: expected rows of every class up to the largest, found none of {int(empty[0])}.")
    return labels


def check_finite(x: Any, name: str, *, axes: int | None = None) -> Tensor:
    """A floating-point tensor with at least one row; raises ``ValueError`` naming the first row that is not finite."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        found = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name}: expected a floating-point tensor, found {found}.")
    if x.ndim < 2 or not x.numel() or (axes is not None and x.ndim != axes):
        wanted = "(n, ...)" if axes is None else f"of {axes} axes"
        raise ValueError(f"{name}: expected a shape {wanted} without an empty axis, found {tuple(x.shape)}.")
    bad = ~x.isfinite().flatten(1).all(1)
    if bool(bad.any()):
        raise ValueError(f"{name}: expected finite numbers, found NaN or infinity in row {int(bad.int().argmax())}.")
    return x.detach()
