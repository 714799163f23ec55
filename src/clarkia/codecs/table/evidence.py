"""What a condition on a column says about its level and its residual."""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from scipy.special import ndtr

from clarkia.codecs.conditions import Between, Condition, Missing, NotMissing, OneOf, render
from clarkia.codecs.table import arrow
from clarkia.codecs.table.arrow import Floats
from clarkia.codecs.table.category import CategoryCoding, fit_category, plain
from clarkia.codecs.table.numeric import NumericCoding
from clarkia.codecs.table.options import CodingOptions
from clarkia.codecs.table.quantile import RESIDUAL_LIMIT
from clarkia.codecs.table.scale import Grid, Line
from clarkia.codecs.table.values import Interval, category_scalar, interval, point
from clarkia.errors import DataError

_IMPOSSIBLE = 1e-12  # a share below the resolution of the tails is none


@dataclass(frozen=True, eq=False)
class Evidence:
    """The levels and residuals that satisfy a condition.

    Attributes:
        levels: share of each level that satisfies it, in [0, 1], ``(K,)``; 1 for a group of real numbers that is pinned
            to one value.
        low: least residual of each level, ``(K,)``, -inf where there is no bound.
        high: greatest residual, ``(K,)``; equal to low where the condition pins a real number.
        exact: whether every residual in [low, high] satisfies the condition; otherwise that is only the smallest
            interval around those that do, and rows are to be checked with `TableCodec.satisfies`.
    """

    levels: Floats
    low: Floats
    high: Floats
    exact: bool = True


def find_evidence(
    name: str, coding: NumericCoding | CategoryCoding, missing: int | None, condition: Condition
) -> Evidence:
    """Return what a condition says about a column.

    Args:
        name: the column, for messages.
        coding: its coding.
        missing: its missing class.
        condition: the condition.

    Raises:
        DataError: the condition cannot hold, or a value does not fit the column.
    """
    count = coding.num_levels + (missing is not None)
    levels, low, high = np.zeros(count), np.full(count, -np.inf), np.full(count, np.inf)
    exact = True
    if isinstance(condition, Missing):
        if missing is None:
            raise DataError(f"Column {name!r} had no missing cell in training, so it cannot be asked to be missing.")
        levels[missing] = 1.0
        return Evidence(levels, low, high)
    known = slice(0, coding.num_levels)
    if isinstance(condition, NotMissing):
        levels[known] = 1.0
    elif isinstance(coding, CategoryCoding):
        levels[known] = _category_shares(name, coding, condition)
    else:
        levels[known], low[known], high[known], exact = _numeric_shares(name, coding, condition)
    if not levels.max() > 0:
        raise DataError(f"No cell of the training table's range satisfies {render({name: condition})}.")
    return Evidence(levels, low, high, exact)


def constant_evidence(name: str, value: pa.Array, condition: Condition) -> Evidence:
    """Return evidence on a column with one value: none, but a condition that it fails is refused.

    Args:
        name: the column.
        value: its one cell.
        condition: the condition.
    """
    everything = Evidence(np.ones(1), np.full(1, -np.inf), np.full(1, np.inf))
    if isinstance(condition, Missing | NotMissing):
        fits = bool(arrow.is_missing(value)[0]) == isinstance(condition, Missing)
    elif arrow.is_missing(value)[0]:
        fits = False
    else:
        coding = fit_category(value, CodingOptions())
        fits = bool(_category_shares(name, coding, condition)[0] > 0)
    if not fits:
        raise DataError(
            f"Column {name!r} is always {value[0].as_py()!r}, so that {render({name: condition})} cannot hold."
        )
    return everything


def _category_shares(name: str, coding: CategoryCoding, condition: Condition) -> Floats:
    values = pa.concat_arrays([coding.values, coding.rare_values])
    chosen = _chosen(name, coding, values, condition)
    kept = len(coding.values)
    shares = chosen[:kept].astype(np.float64)
    if coding.rare is None:
        return shares
    return np.append(shares, coding.rare_counts[chosen[kept:]].sum() / coding.rare_counts.sum())


def _chosen(name: str, coding: CategoryCoding, values: pa.Array, condition: Condition) -> arrow.Mask:
    """Return which categories satisfy a condition."""
    if isinstance(condition, Between):
        return _in_range(name, coding, values, condition)
    wanted = condition.values if isinstance(condition, OneOf) else (condition.value,)  # type: ignore[union-attr]
    chosen = np.zeros(len(values), bool)
    for value in wanted:
        chosen[_place(name, values, value)] = True
    return chosen


def _place(name: str, values: pa.Array, value: Any) -> int:
    """Return the index of a category."""
    scalar = category_scalar(name, value, values.type)
    index = pc.index(values, scalar).as_py()
    if index >= 0:
        return index
    texts = [str(v) for v in values.slice(0, 5000).to_pylist()]
    near = difflib.get_close_matches(str(value), texts, n=3, cutoff=0.4) or texts[:5]
    raise DataError(
        f"Column {name!r} never held {value!r} in training; values it held are {', '.join(map(repr, near))}."
    )


def _in_range(name: str, coding: CategoryCoding, values: pa.Array, condition: Between) -> np.ndarray:
    kind = values.type
    ordered = coding.dictionary is not None and coding.kind.ordered
    if ordered:
        order = plain(coding.dictionary)  # type: ignore[arg-type]
        ranks = pc.index_in(values, order)
        low = None if condition.low is None else pa.scalar(_place(name, order, condition.low))
        high = None if condition.high is None else pa.scalar(_place(name, order, condition.high))
    elif arrow.is_number(kind) or pt.is_temporal(kind):
        ranks = values
        low = None if condition.low is None else category_scalar(name, condition.low, kind)
        high = None if condition.high is None else category_scalar(name, condition.high, kind)
    else:
        raise DataError(f"Column {name!r} holds categories without an order; name the values in 'in (...)'.")
    inside = np.ones(len(values), bool)
    if low is not None:
        inside &= _as_mask((pc.greater if condition.low_open else pc.greater_equal)(ranks, low))
    if high is not None:
        inside &= _as_mask((pc.less if condition.high_open else pc.less_equal)(ranks, high))
    return inside


def _as_mask(array: pa.Array) -> arrow.Mask:
    return np.asarray(array.to_numpy(zero_copy_only=False))


def _numeric_shares(name: str, coding: NumericCoding, condition: Condition) -> tuple[Floats, Floats, Floats, bool]:
    """Return the share of each level and the bounds of its residual, and whether the bounds are exact."""
    if isinstance(condition, Between):
        return *_interval_shares(coding, interval(name, coding.kind, coding.scale, condition)), True
    wanted = condition.values if isinstance(condition, OneOf) else (condition.value,)  # type: ignore[union-attr]
    points = {point(name, coding.kind, coding.scale, value): value for value in wanted}
    shares = np.zeros(coding.num_levels)
    low, high = np.full(coding.num_levels, np.inf), np.full(coding.num_levels, -np.inf)
    hits = np.zeros(coding.num_levels, int)
    for x, value in points.items():
        level, share, z_low, z_high = _point_share(name, coding, x, value)
        hits[level] += 1
        shares[level] += share
        low[level], high[level] = min(low[level], z_low), max(high[level], z_high)
    several = hits > 1
    if isinstance(coding.scale, Line) and several.any():
        raise DataError(
            f"Column {name!r} holds real numbers, of which one can be given, not one of several; use 'between'."
        )
    low[hits == 0], high[hits == 0] = -np.inf, np.inf
    return np.minimum(shares, 1.0), low, high, not several.any()


def _interval_shares(coding: NumericCoding, within: Interval) -> tuple[Floats, Floats, Floats]:
    shares = np.zeros(coding.num_levels)
    low, high = np.full(coding.num_levels, -np.inf), np.full(coding.num_levels, np.inf)
    shares[coding.single_levels] = within.holds(coding.single_values)
    step = 1 if isinstance(coding.scale, Grid) else 0
    for group, level in zip(coding.groups, coding.group_levels, strict=True):
        z_low = -np.inf if within.low <= group.low else group.bounds(within.low)[int(within.low_open)]
        z_high = (
            np.inf if within.high + step >= group.high else group.bounds(within.high + step)[int(not within.high_open)]
        )
        share = _normal_mass(z_low, z_high)
        if share > _IMPOSSIBLE:
            shares[level], low[level], high[level] = share, z_low, z_high
    return shares, low, high


def _point_share(name: str, coding: NumericCoding, x: float, value: Any) -> tuple[int, float, float, float]:
    """Return the level of one coordinate, its share of the level and the bounds of its residual."""
    place = np.flatnonzero(coding.single_values == x)
    if len(place):
        return int(coding.single_levels[place[0]]), 1.0, -np.inf, np.inf
    if not coding.groups:
        nearest = np.argsort(np.abs(coding.single_values - x), kind="stable")[:3]
        cells = coding.scale.cells(coding.single_values[nearest], coding.kind, None, nan=False).to_pylist()
        raise DataError(
            f"Column {name!r} never held {value!r} in training; the nearest are {', '.join(map(str, cells))}."
        )
    index = int(np.searchsorted(coding.edges, x, side="right"))
    group, level = coding.groups[index], int(coding.group_levels[index])
    step = 1 if isinstance(coding.scale, Grid) else 0
    if x < group.low or x + step > group.high:
        raise DataError(f"Column {name!r} cannot hold {value!r}: it is out of the range of training.")
    z_low, z_high = group.bounds(x)[0], group.bounds(x + step)[1]
    share = _normal_mass(z_low, z_high)
    if share > _IMPOSSIBLE:
        return level, share, z_low, z_high
    z = float(np.clip((z_low + z_high) / 2, -RESIDUAL_LIMIT, RESIDUAL_LIMIT))
    return level, 1.0, z, z


def _normal_mass(low: float, high: float) -> float:
    """Return the standard normal probability of an interval, from the side where it is precise."""
    if low > 0:
        low, high = -high, -low
    return float(max(ndtr(high) - ndtr(low), 0.0))


def find_satisfied(
    name: str, coding: NumericCoding | CategoryCoding, array: pa.Array, condition: Condition
) -> arrow.Mask:
    """Return which cells of a column satisfy a condition, ``(n,)``."""
    missing = arrow.is_missing(array)
    if isinstance(condition, Missing | NotMissing):
        return missing if isinstance(condition, Missing) else ~missing
    values = array.filter(pa.array(~missing))
    if isinstance(coding, CategoryCoding):
        known = pa.concat_arrays([coding.values, coding.rare_values])
        chosen = known.filter(pa.array(_chosen(name, coding, known, condition)))
        inside = np.asarray(pc.is_in(plain(values), chosen).to_numpy(zero_copy_only=False))
    elif isinstance(condition, Between):
        inside = interval(name, coding.kind, coding.scale, condition).holds(coding.scale.coordinates(values))
    else:
        wanted = condition.values if isinstance(condition, OneOf) else (condition.value,)
        inside = np.isin(
            coding.scale.coordinates(values), [point(name, coding.kind, coding.scale, value) for value in wanted]
        )
    satisfied = np.zeros(len(array), bool)
    satisfied[~missing] = inside
    return satisfied
