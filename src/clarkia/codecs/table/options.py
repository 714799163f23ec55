"""The numbers that decide how a table's columns are coded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CodingOptions:
    """How columns become levels and residuals.

    Attributes:
        max_levels: a numeric column with at most this many distinct values may have one level per value.
        min_level_count: ... when there are on average at least this many rows per value.
        atom_share: a value that holds more than this share of the rows of a numeric column is a level of its own.
        min_repeat: a real value is only ever kept verbatim (as a level or a flat) when this many rows hold it.
        max_knots: the most quantile knots of one group.
        rows_per_knot: rows for each knot in smaller tables.
        max_values: the most categories kept as classes of their own in a column of high cardinality.
        kept_mass: ... or as many as hold this share of the rows; the rest share one rare bucket.
    """

    max_levels: int = 128
    min_level_count: int = 20
    atom_share: float = 0.02
    min_repeat: int = 5
    max_knots: int = 1000
    rows_per_knot: int = 30
    max_values: int = 1000
    kept_mass: float = 0.995


LEVELS_BLOCK_CLASSES = 128
"""Positions with at most this many classes lie in the block ``levels``, the others in ``wide``."""
