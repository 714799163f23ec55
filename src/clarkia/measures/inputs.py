"""What every measure of feature matrices accepts: checked once, float64 at once or block by block."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from jaxtyping import Float64, Shaped
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
    return lazy_features(x, name).double()


def pair(
    x: Tensor | np.ndarray, y: Tensor | np.ndarray, names: tuple[str, str] = ("x", "y")
) -> tuple[Float64[Tensor, "n d"], Float64[Tensor, "m d"]]:
    """Check and convert two feature matrices of one width; see `features`.

    Raises:
        ValueError: As `features`, or different widths or devices.
    """
    first, second = lazy_pair(x, y, names)
    return first.double(), second.double()


def lazy_features(x: Tensor | np.ndarray, name: str = "x") -> Shaped[Tensor, "n d"]:
    """Check a feature matrix and leave its numbers as they are, for functions that convert a block of rows at a time.

    Rows that need a gradient are converted all the same, because it is gathered in float64. Arguments and errors are
    those of `features`.
    """
    rows = _tensor(x, name)
    if rows.ndim != 2 or rows.is_complex() or rows.layout != torch.strided:
        raise ValueError(f"{name}: expected real features (rows, columns), found {rows.dtype} {tuple(rows.shape)}.")
    if rows.shape[0] == 0 or rows.shape[1] == 0:
        raise ValueError(f"{name}: expected at least one row and one column, found {tuple(rows.shape)}.")
    if not rows.is_floating_point() or rows.requires_grad:
        rows = rows.double()
    low, high = rows.detach().aminmax()  # NaN where there is one
    if not bool(low.isfinite() & high.isfinite()):
        row, column = (int(index) for index in (~rows.detach().isfinite()).nonzero()[0])
        raise ValueError(
            f"{name}: expected finite features, found {float(rows[row, column])} in row {row}, column {column}."
        )
    return rows


def lazy_pair(
    x: Tensor | np.ndarray, y: Tensor | np.ndarray, names: tuple[str, str] = ("x", "y")
) -> tuple[Shaped[Tensor, "n d"], Shaped[Tensor, "m d"]]:
    """Check two feature matrices of one width as `pair` does, and leave their numbers as `lazy_features` does."""
    first, second = lazy_features(x, names[0]), lazy_features(y, names[1])
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"{names[1]}: expected {first.shape[1]} columns as {names[0]} has, found {second.shape[1]}.")
    if first.device != second.device:
        raise ValueError(f"{names[1]}: expected {names[0]}'s device {first.device}, found {second.device}.")
    return first, second


def _tensor(x: Tensor | np.ndarray, name: str) -> Tensor:
    """A tensor over the same memory where the array's type allows it, else over a float64 copy."""
    if isinstance(x, Tensor):
        return x
    try:
        array = np.asarray(x)
        kept = array.dtype in (np.float32, np.float64) or array.dtype.kind == "c"  # complex numbers are refused below
        array = np.ascontiguousarray(array, dtype=array.dtype if kept else np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected a matrix of numbers, found {type(x).__name__} ({error}).") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # rows of a read-only array, such as a file's, are only read
        return torch.from_numpy(array)


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
