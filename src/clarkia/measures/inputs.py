"""What every measure of feature matrices accepts: checked once, float64 from there on."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia.random import Noise, rand


def features(x: Tensor | np.ndarray, name: str = "x") -> Float64[Tensor, "n d"]:
    """Check and convert a feature matrix.

    Args:
        x: Real numbers, one row a point, ``(n, d)``: a tensor (its gradient is kept) or an array.
        name: The argument's name in errors.

    Returns:
        The rows in float64.

    Raises:
        ValueError: Not a matrix of numbers, no row or no column, or a value that is not finite.
    """
    try:
        rows = x if isinstance(x, Tensor) else torch.from_numpy(np.ascontiguousarray(x, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected a matrix of numbers, found {type(x).__name__} ({error}).") from None
    if rows.ndim != 2 or rows.is_complex():
        raise ValueError(f"{name}: expected real features (rows, columns), found {rows.dtype} {tuple(rows.shape)}.")
    if rows.shape[0] == 0 or rows.shape[1] == 0:
        raise ValueError(f"{name}: expected at least one row and one column, found {tuple(rows.shape)}.")
    rows = rows.double()
    # A sum is finite unless an entry is not (or the sum itself overflows, which the search below sorts out).
    if not bool(rows.detach().sum().isfinite()):
        bad = (~rows.detach().isfinite()).nonzero()
        if len(bad):
            row, column = (int(index) for index in bad[0])
            raise ValueError(
                f"{name}: expected finite features, found {float(rows[row, column])} in row {row}, column {column}."
            )
    return rows


def pair(
    x: Tensor | np.ndarray, y: Tensor | np.ndarray, names: tuple[str, str] = ("x", "y")
) -> tuple[Float64[Tensor, "n d"], Float64[Tensor, "m d"]]:
    """Check and convert two feature matrices of one width; see `features`.

    Raises:
        ValueError: As `features`, or different widths or devices.
    """
    first, second = features(x, names[0]), features(y, names[1])
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"{names[1]}: expected {first.shape[1]} columns as {names[0]} has, found {second.shape[1]}.")
    if first.device != second.device:
        raise ValueError(f"{names[1]}: expected {names[0]}'s device {first.device}, found {second.device}.")
    return first, second


def at_least(rows: Tensor, count: int, name: str, purpose: str) -> None:
    """Raise a ValueError unless there are ``count`` rows."""
    if len(rows) < count:
        raise ValueError(f"{name}: expected at least {count} rows {purpose}, found {len(rows)}.")


def some_rows(rows: Tensor, count: int, generator: Noise = None) -> Tensor:
    """Draw ``count`` different rows in random order; all of them, as they are, where ``count`` is their number."""
    if count == len(rows):
        return rows
    return rows[shuffled(len(rows), generator, rows.device)[:count]]


def shuffled(count: int, generator: Noise = None, device: torch.device | str = "cpu") -> Tensor:
    """The numbers 0 to ``count - 1`` in random order, int64 ``(count,)``."""
    return rand((count,), generator).argsort().to(device)
