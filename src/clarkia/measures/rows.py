"""Rows of mixed type as two arrays, the input of every table measure."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64


def as_array(values: Any) -> np.ndarray:
    """Return a NumPy view or copy of an array, a sequence or a torch tensor (any device, with or without gradient)."""
    detach = getattr(values, "detach", None)
    return np.asarray(detach().cpu() if detach is not None else values)


def as_columns(values: Any, dtype: type) -> np.ndarray:
    """Return ``values`` as a two-dimensional array of ``dtype``, one column for one-dimensional input."""
    array = as_array(values).astype(dtype, copy=False)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise ValueError(f"Rows must be a one- or two-dimensional array, not one of shape {array.shape}.")
    return array


@dataclass(frozen=True, eq=False)
class MixedRows:
    """A set of rows with numeric and categorical columns.

    Attributes:
        numeric: Numeric columns, float64, shape (n, d); NaN is missing.
        categorical: Category codes, int64, shape (n, m); -1 is missing. A code means the same value in every
            set of rows that is compared.
    """

    numeric: Float64[np.ndarray, "n d"]
    categorical: Int64[np.ndarray, "n m"]

    def __post_init__(self) -> None:
        if len(self.numeric) != len(self.categorical):
            raise ValueError(
                f"Numeric and categorical columns must have the same number of rows, not {len(self.numeric)} and "
                f"{len(self.categorical)}."
            )
        if np.isinf(self.numeric).any():
            column = int(np.isinf(self.numeric).any(0).argmax())
            raise ValueError(f"Numeric column {column} holds an infinite value; use NaN for missing values.")
        if self.categorical.size and self.categorical.min() < -1:
            raise ValueError("Category codes must be -1 for missing or a number from 0 on.")

    @staticmethod
    def of(data: Any) -> MixedRows:
        """Wrap an array or tensor: floating are numeric columns, integer or boolean are category codes."""
        if isinstance(data, MixedRows):
            return data
        array = as_array(data)
        if np.issubdtype(array.dtype, np.floating):
            return MixedRows(as_columns(array, np.float64), np.zeros((len(array), 0), np.int64))
        return MixedRows(np.zeros((len(array), 0)), as_columns(array, np.int64))

    @staticmethod
    def build(numeric: Any = None, categorical: Any = None) -> MixedRows:
        """Make rows from numeric columns (n, d), category codes (n, m) or both."""
        n = len(numeric) if numeric is not None else len(categorical)
        return MixedRows(
            np.zeros((n, 0)) if numeric is None else as_columns(numeric, np.float64),
            np.zeros((n, 0), np.int64) if categorical is None else as_columns(categorical, np.int64),
        )

    def __len__(self) -> int:
        return len(self.numeric)

    def __getitem__(self, rows: Any) -> MixedRows:
        return MixedRows(self.numeric[rows], self.categorical[rows])

    def without(self, *, numeric: int | None = None, categorical: int | None = None) -> MixedRows:
        """Return the rows without one numeric and/or one categorical column, by position."""
        return MixedRows(
            self.numeric if numeric is None else np.delete(self.numeric, numeric, 1),
            self.categorical if categorical is None else np.delete(self.categorical, categorical, 1),
        )

    def permuted_columns(self, rng: np.random.Generator) -> MixedRows:
        """Return the rows with every column permuted on its own: same marginals, no dependence."""
        return MixedRows(rng.permuted(self.numeric, axis=0), rng.permuted(self.categorical, axis=0))


@dataclass(frozen=True)
class Target:
    """One column of mixed rows, to be predicted: its position among the numeric or among the categorical columns."""

    position: int
    numeric: bool = False

    def values(self, rows: MixedRows) -> np.ndarray:
        """Return the column: float64 with NaN or int64 with -1 for missing."""
        return (rows.numeric if self.numeric else rows.categorical)[:, self.position]

    def features(self, rows: MixedRows) -> MixedRows:
        """Return the rows without the column."""
        return rows.without(numeric=self.position) if self.numeric else rows.without(categorical=self.position)

    def split(self, rows: MixedRows) -> tuple[MixedRows, np.ndarray]:
        """Return the feature rows and the target values, without rows whose target is missing."""
        values = self.values(rows)
        known = ~np.isnan(values) if self.numeric else values >= 0
        return self.features(rows)[known], values[known]


def stream(seed: int, purpose: str) -> np.random.Generator:
    """Make a generator of its own for every purpose.

    A plain ``default_rng(seed)`` would repeat the draws of a user who split the data with the same seed.
    """
    return np.random.default_rng([seed, zlib.crc32(purpose.encode())])


def concatenate(parts: Sequence[MixedRows]) -> MixedRows:
    """Stack sets of rows with the same columns."""
    return MixedRows(np.concatenate([p.numeric for p in parts]), np.concatenate([p.categorical for p in parts]))


def num_classes(*parts: MixedRows) -> Int64[np.ndarray, " m"]:
    """Return for every categorical column one more than the largest code in any of the sets."""
    top = np.full(parts[0].categorical.shape[1], -1, np.int64)
    for part in parts:
        if len(part):
            top = np.maximum(top, part.categorical.max(0, initial=-1))
    return top + 1


def subsample(rows: MixedRows, limit: int, rng: np.random.Generator) -> MixedRows:
    """Return at most ``limit`` rows, a uniform draw without replacement in the original order."""
    if len(rows) <= limit:
        return rows
    return rows[np.sort(rng.choice(len(rows), limit, replace=False))]
