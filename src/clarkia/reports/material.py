"""The sets of rows that every group of metrics compares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from clarkia.measures.resampling import resample
from clarkia.measures.rows import MixedRows, Target, concatenate, stream, subsample
from clarkia.reports.columns import CodedTables


@dataclass(frozen=True, eq=False)
class Material:
    """Everything a group of metrics works on.

    Attributes:
        tables: The Arrow tables "real", "synthetic" and, where given, "holdout".
        coded: The same tables as arrays, all rows.
        real: Real rows, at most ``max_rows``.
        synthetic: Synthetic rows, at most ``max_rows``.
        holdout: Real rows the generator did not see, at most ``max_rows``; None when not given.
        reference: Real rows that stand against ``fresh`` where a floor needs two disjoint real sets: the real rows
            beside the holdout, else one half of the real rows.
        fresh: Real rows apart from ``reference``: the holdout, else the other half of the real rows.
        every_real: All real rows in use, the holdout among them.
        independent: As many rows as ``synthetic``, drawn from the real rows with every column permuted on its own.
        target: The column to predict, or None.
        sensitive: Columns for attribute inference, by name.
        seed: Seed of everything random.
    """

    tables: dict[str, pa.Table]
    coded: CodedTables
    real: MixedRows
    synthetic: MixedRows
    holdout: MixedRows | None
    reference: MixedRows
    fresh: MixedRows
    every_real: MixedRows
    independent: MixedRows
    target: Target | None
    sensitive: dict[str, Target]
    seed: int

    def rng(self, purpose: str) -> np.random.Generator:
        """Make the generator of one purpose."""
        return stream(self.seed, purpose)

    @property
    def rows(self) -> tuple[int, int]:
        """Numbers of real and synthetic rows in use."""
        return len(self.real), len(self.synthetic)

    def cut(self, limit: int, *parts: MixedRows) -> list[MixedRows]:
        """Cut sets of rows to one common size, at most ``limit``."""
        size = min(limit, *(len(part) for part in parts))
        return [subsample(part, size, self.rng(f"cut {i}")) for i, part in enumerate(parts)]


def locate(coded: CodedTables, name: str) -> Target:
    """Find a column among the numeric or the categorical ones."""
    if name in coded.numeric:
        return Target(coded.numeric.index(name), numeric=True)
    return Target(coded.categorical.index(name))


def gather(
    tables: dict[str, pa.Table],
    coded: CodedTables,
    *,
    target: str | None,
    sensitive: tuple[str, ...],
    max_rows: int,
    seed: int,
) -> Material:
    """Cut the tables to size and set up the comparisons.

    Args:
        tables: "real", "synthetic" and, where given, "holdout".
        coded: The same tables as arrays; further ones are not looked at.
        target: Name of the column to predict, or None.
        sensitive: Names of the columns for attribute inference.
        max_rows: Number of rows of every table in use at most.
        seed: Seed of everything random.
    """
    cut = {word: subsample(coded.rows[word], max_rows, stream(seed, f"rows of {word}")) for word in tables}
    real, synthetic, holdout = cut["real"], cut["synthetic"], cut.get("holdout")
    reference, fresh = real, holdout
    if fresh is None:  # two halves of the real rows
        order = stream(seed, "halves").permutation(len(real))
        reference, fresh = real[order[: (len(order) + 1) // 2]], real[order[(len(order) + 1) // 2 :]]
    rng = stream(seed, "independent columns")
    return Material(
        tables=tables,
        coded=coded,
        real=real,
        synthetic=synthetic,
        holdout=holdout,
        reference=reference,
        fresh=fresh,
        every_real=real if holdout is None else concatenate([real, holdout]),
        independent=resample(real, len(synthetic), rng).permuted_columns(rng),
        target=None if target is None else locate(coded, target),
        sensitive={name: locate(coded, name) for name in sensitive},
        seed=seed,
    )
