"""Numeric columns: sorted levels, each a single value or a group of values with a residual."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clarkia.codecs.table import arrow
from clarkia.codecs.table.options import CodingOptions
from clarkia.codecs.table.quantile import QuantileMap, fit_quantile_map
from clarkia.codecs.table.scale import Floats, Grid, Line, Scale, distinct, fit_grid, straight_line

Levels = NDArray[np.int64]
_ROUNDING = 4e-16  # relative error of ndtr and its inverse together
_GRID_MARGIN = 1e-7  # least distance of a dequantised integer from the edge of its cell
_COARSE = 1e-3  # a margin so wide says that single cells come near the resolution of a residual
_POLISH_STEPS = 4
_PROBE_ROWS = 4096
_PROBE_TOLERANCE = 1e-9  # of a real number, well under the promised 1e-6


@dataclass(frozen=True, eq=False)
class NumericCoding:
    """The levels of one numeric column, in ascending order of their values; a missing level is not among them.

    Attributes:
        kind: Arrow type of the column.
        scale: the map between cells and coordinates.
        single_values: coordinates of the levels that are one value, ascending, int64 or float64, ``(s,)``.
        single_levels: their levels, ``(s,)``.
        groups: the maps of the levels that are groups, ascending.
        group_levels: their levels, ``(g,)``.
        edges: coordinates between neighbouring groups, ``(g - 1,)``.
    """

    kind: pa.DataType
    scale: Scale
    single_values: NDArray
    single_levels: Levels
    groups: tuple[QuantileMap, ...]
    group_levels: Levels
    edges: Floats

    @property
    def num_levels(self) -> int:
        """Number of levels."""
        return len(self.single_levels) + len(self.groups)

    @property
    def has_residual(self) -> bool:
        """Whether any level is a group."""
        return bool(self.groups)

    @cached_property
    def is_group(self) -> NDArray[np.bool_]:
        """Which levels carry a residual, ``(num_levels,)``."""
        mask = np.zeros(self.num_levels, bool)
        mask[self.group_levels] = True
        return mask

    @cached_property
    def margins(self) -> Floats:
        """How far inside its cell the dequantised integer of each group stays, so that rounding cannot move it out."""
        return np.array([_margin(group) if isinstance(self.scale, Grid) else 0.0 for group in self.groups])

    def encode(self, array: pa.Array, rng: np.random.Generator) -> tuple[Levels, Floats | None]:
        """Return the level and the residual of each cell of an array without nulls.

        Where the level is a single value, the residual is an independent standard normal draw.
        """
        x = self.scale.coordinates(array)
        if not self.groups:
            return self._nearest_single(x), None
        group = np.searchsorted(self.edges, x, side="right")
        levels = self.group_levels[group]
        grouped = np.ones(len(x), bool)
        if len(self.single_values):
            place = np.minimum(np.searchsorted(self.single_values, x), len(self.single_values) - 1)
            grouped = self.single_values[place] != x
            levels = np.where(grouped, levels, self.single_levels[place])
        z = np.empty(len(x)) if grouped.all() else rng.standard_normal(len(x))
        for index in range(len(self.groups)):
            rows = (
                slice(None) if grouped.all() and len(self.groups) == 1 else np.flatnonzero(grouped & (group == index))
            )
            z[rows] = self.residual(index, x[rows], rng)
        return levels, z

    def residual(self, group: int, x: NDArray, rng: np.random.Generator) -> Floats:
        """Return residuals of coordinates in one group (integers are dequantised, flats drawn)."""
        uniforms = rng.random(len(x))
        if isinstance(self.scale, Grid):
            margin = self.margins[group]
            z = self.groups[group].encode(x + (margin + (1 - 2 * margin) * uniforms), uniforms)
            return _polish(self.groups[group], x, z) if margin > _COARSE else z
        return self.groups[group].encode(x, uniforms)

    def _nearest_single(self, x: NDArray) -> Levels:
        last = len(self.single_values) - 1
        after = np.minimum(np.searchsorted(self.single_values, x), last)
        before = np.maximum(after - 1, 0)
        ahead = self.single_values[after].astype(np.float64) - x
        behind = x - self.single_values[before].astype(np.float64)
        exact = self.single_values[after] == x
        return self.single_levels[np.where(exact | (np.abs(ahead) <= behind), after, before)]

    def coordinates(self, levels: Levels, z: Floats | None) -> NDArray:
        """Return the coordinate that each level and residual stands for."""
        grid = isinstance(self.scale, Grid)
        values = np.zeros(self.num_levels, np.int64 if grid else np.float64)
        values[self.single_levels] = self.single_values
        x = values[levels]
        if z is None:
            return x
        for group, level in zip(self.groups, self.group_levels, strict=True):
            rows = slice(None) if self.num_levels == 1 else np.flatnonzero(levels == level)
            found = group.decode(z[rows])
            x[rows] = np.floor(np.minimum(found, np.nextafter(group.high, -np.inf))) if grid else found
        return x

    def decode(self, levels: Levels, z: Floats | None, missing: arrow.Mask | None, *, nan: bool = False) -> pa.Array:
        """Return the cells that levels and residuals stand for; missing ones are null (or NaN)."""
        return self.scale.cells(self.coordinates(levels, z), self.kind, missing, nan=nan)

    def log_slope(self, levels: Levels, z: Floats) -> Floats:
        """Return log |dz/dx| where the level is a group, zero elsewhere."""
        slope = np.zeros(len(levels))
        for group, level in zip(self.groups, self.group_levels, strict=True):
            rows = np.flatnonzero(levels == level)
            slope[rows] = group.log_slope(z[rows])
            if isinstance(self.scale, Line) and self.scale.bend is not None:
                slope[rows] += self.scale.log_slope(group.decode(z[rows]))
        return slope


def _polish(group: QuantileMap, x: NDArray[np.int64], z: Floats) -> Floats:
    """Move residuals that rounding put just outside the cell of their integer back into its middle."""
    for _ in range(_POLISH_STEPS):
        error = x + 0.5 - group.decode(z)
        rows = np.flatnonzero((np.abs(error) > 0.5) & (np.abs(error) < 8))  # farther off: not this group's value
        if not len(rows):
            break
        z[rows] += error[rows] * np.exp(group.log_slope(z[rows]))
    return z


def _margin(group: QuantileMap) -> float:
    """Bound the rounding error of a coordinate: of its share of a segment, and of its own size."""
    mass = np.maximum(np.diff(group.below), 1e-300)
    size = np.maximum(np.minimum(group.below, group.above)[1:], np.minimum(group.below, group.above)[:-1])
    length = np.where(np.diff(group.below) > 0, np.diff(group.x), 0.0)
    largest = np.spacing(np.abs(group.x).max())
    return float(np.clip(8 * _ROUNDING * (size / mass * length).max() + 4 * largest, _GRID_MARGIN, 0.5))


def fit_numeric(
    array: pa.Array, *, digits: int | None, bounded: bool, num_groups: int, options: CodingOptions
) -> NumericCoding:
    """Fit the levels of a numeric column.

    Args:
        array: the cells that are not missing, at least one.
        digits: decimal digits of the grid on which the values lie, None for real numbers.
        bounded: whether nothing beyond the observed extremes may be returned (points in time).
        num_groups: number of groups of equal mass.
        options: thresholds.
    """
    if digits is not None:
        scale: Scale = fit_grid(array, digits)
    else:
        scale = straight_line(arrow.to_floats(array), array.type)
    coding = _fit_levels(array, scale, bounded, num_groups, options)
    if isinstance(scale, Line) and not _precise(coding, array):
        numbers = np.abs(arrow.to_floats(array))
        bent = Line(float(numbers[numbers > 0].min()), scale.low, scale.high)
        coding = _fit_levels(array, bent, bounded, num_groups, options)
    return coding


def _fit_levels(array: pa.Array, scale: Scale, bounded: bool, num_groups: int, options: CodingOptions) -> NumericCoding:
    values, counts = distinct(scale.coordinates(array))
    single = _single_values(counts, options)
    member = _members(counts, single, num_groups, options)
    sizes = np.bincount(member[~single], minlength=1)
    single |= sizes[member] == 1  # nothing to interpolate between
    places = np.flatnonzero(~single)
    starts = np.flatnonzero(np.diff(member[places], prepend=-1))
    firsts, lasts = places[starts], places[np.append(starts[1:], len(places))[: len(starts)] - 1]
    step = 1 if isinstance(scale, Grid) else 0
    edges = _edges(values[lasts[:-1]].astype(float) + step, values[firsts[1:]].astype(float), step)
    low, high = _limits(values, counts, single, scale, bounded, options)
    lows, highs = np.concatenate([[low], edges]), np.concatenate([edges, [high]])
    heavy = counts > max(counts.sum() / options.max_knots, options.min_repeat - 1)
    num_knots = int(np.clip(counts.sum() // options.rows_per_knot, 10, options.max_knots))
    maps = []
    for index, (first, last) in enumerate(zip(firsts, lasts, strict=True)):
        within = slice(first, last + 1)
        mine = ~single[within]
        maps.append(
            fit_quantile_map(
                values[within][mine].astype(np.float64),
                counts[within][mine],
                step=step,
                heavy=heavy[within][mine],
                num_knots=max(num_knots // len(firsts), 10),
                low=float(lows[index]),
                high=float(highs[index]),
                holes=values[within][~mine].astype(np.float64) if step else np.empty(0),
            )
        )
    order = np.argsort(np.concatenate([np.flatnonzero(single), firsts]), kind="stable")
    levels = np.argsort(order)
    num_single = int(single.sum())
    return NumericCoding(
        array.type, scale, values[single], levels[:num_single], tuple(maps), levels[num_single:], edges
    )


def _single_values(counts: NDArray[np.int64], options: CodingOptions) -> NDArray[np.bool_]:
    """Return which distinct values are levels of their own."""
    rows = counts.sum()
    if len(counts) <= options.max_levels and rows >= options.min_level_count * len(counts):
        return np.ones(len(counts), bool)
    return counts > max(options.atom_share * rows, options.min_repeat - 1)


def _members(
    counts: NDArray[np.int64], single: NDArray[np.bool_], num_groups: int, options: CodingOptions
) -> NDArray[np.int64]:
    """Return the group of each distinct value, in ascending order, -1 for single levels."""
    member = np.full(len(counts), -1)
    rest = np.flatnonzero(~single)
    mass = np.cumsum(counts[rest]) - counts[rest] / 2
    total = counts[rest].sum()
    groups = max(min(num_groups, int(total) // options.min_level_count), 1)
    inner = _group_masses(groups, int(total) // options.min_level_count).cumsum()[:-1]
    member[rest] = np.searchsorted(inner, mass / max(total, 1), side="right")
    own = member[rest]
    change = np.concatenate([[True], own[1:] != own[:-1], [True]])
    alone = change[:-1] & change[1:] & (counts[rest] < options.min_repeat)
    for place in np.flatnonzero(alone) if len(rest) > 1 else ():  # never kept verbatim: it joins its neighbour
        member[rest[place]] = member[rest[place - 1 if place else 1]]
    return member


def _group_masses(groups: int, most: int) -> Floats:
    """Return the share of each group: all equal, but the outermost two are cut into 1/2, 1/4, 1/8 and 1/8.

    The outermost values spread over the widest range, and a class tells more of a place than a residual does.

    Args:
        groups: number of equal groups.
        most: number of groups that would leave each just enough rows.
    """
    equal = np.full(groups, 1.0 / groups)
    if groups < 8 or most < 8 * groups:
        return equal
    tail = np.array([1, 1, 2, 4]) / (8 * groups)
    return np.concatenate([tail, equal[1:-1], tail[::-1]])


def _edges(lasts: Floats, firsts: Floats, step: int) -> Floats:
    middle = lasts / 2 + firsts / 2
    return np.ceil(middle) if step else middle


def _limits(
    values: NDArray,
    counts: NDArray[np.int64],
    single: NDArray[np.bool_],
    scale: Scale,
    bounded: bool,
    options: CodingOptions,
) -> tuple[float, float]:
    """Return the coordinates that no group may leave: repeated extremes and the scale's own limits."""
    repeated = max(counts.sum() / options.max_knots, options.min_repeat - 1)
    step = 1 if isinstance(scale, Grid) else 0
    least, greatest = scale.coordinate_limits
    low = float(values[0]) if bounded or counts[0] > repeated else float(least)
    high = float(values[-1]) + step if bounded or counts[-1] > repeated else float(greatest) + step
    if step and len(grouped := np.flatnonzero(~single)):  # atoms below or above all groups are no part of them
        first, last = grouped[0], grouped[-1]
        low = max(low, float(values[first - 1]) + 1) if first > 0 else low
        high = min(high, float(values[last + 1])) if last + 1 < len(values) else high
    return low, high


def _precise(coding: NumericCoding, array: pa.Array) -> bool:
    """Return whether real numbers survive the map to a residual and back, the smallest ones included."""
    numbers, _ = distinct(arrow.to_floats(array))
    stride = max(len(numbers) // _PROBE_ROWS, 1)
    smallest = np.argsort(np.abs(numbers), kind="stable")[:16]
    probe = np.unique(np.concatenate([numbers[::stride], numbers[smallest]]))
    kept = pa.array(probe, pa.float64())
    levels, z = coding.encode(kept, np.random.default_rng(0))
    decoded = coding.scale.numbers(coding.coordinates(levels, z)) if isinstance(coding.scale, Line) else probe
    return bool(np.all((np.abs(decoded - probe) <= _PROBE_TOLERANCE * np.abs(probe)) | (probe == 0)))
