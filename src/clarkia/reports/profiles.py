"""What a report shows of every column and pair: distances, histograms, bar charts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from clarkia.measures.marginals import (
    kolmogorov_smirnov,
    missing_rates,
    total_variation,
    wasserstein,
)
from clarkia.measures.pairs import mean_pair
from clarkia.reports.columns import ReportColumn
from clarkia.reports.groups.marginals import column_floors
from clarkia.reports.material import Material

TOP_CATEGORIES = 12
HISTOGRAM_BINS = 40


@dataclass(frozen=True)
class Histogram:
    """Shares of rows in the bins of a numeric column.

    Attributes:
        edges: Edges of the bins, one more than shares.
        real: Share of the real values in every bin; the outer bins hold everything beyond.
        synthetic: Share of the synthetic values in every bin.
        labels: The edges as text, in the column's own type.
    """

    edges: tuple[float, ...]
    real: tuple[float, ...]
    synthetic: tuple[float, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Bars:
    """Shares of rows with the most frequent categories of a column.

    Attributes:
        labels: Values as text, the most frequent in the real table first.
        real: Share of the real values.
        synthetic: Share of the synthetic values.
        others: Number of further categories, gathered in one last bar when there are any.
    """

    labels: tuple[str, ...]
    real: tuple[float, ...]
    synthetic: tuple[float, ...]
    others: int


@dataclass(frozen=True)
class ColumnProfile:
    """One column, real against synthetic.

    Attributes:
        name: Name of the column.
        kind: "numeric" or "categorical".
        type: Arrow type of the real column, as text.
        distance: Kolmogorov-Smirnov distance or total variation, missing values dropped.
        floor: The same between two fresh samples of these sizes.
        wasserstein: Wasserstein distance over the interquartile range, for numeric columns.
        missing_real: Share of missing real cells.
        missing_synthetic: Share of missing synthetic cells.
        distinct: Number of distinct values in the real column.
        plot: Its histogram or bars.
    """

    name: str
    kind: str
    type: str
    distance: float
    floor: float
    wasserstein: float | None
    missing_real: float
    missing_synthetic: float
    distinct: int
    plot: Histogram | Bars

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values, without the plot."""
        figures = {key: value for key, value in vars(self).items() if key != "plot"}
        return {key: None if isinstance(v, float) and np.isnan(v) else v for key, v in figures.items()}


def _type_name(type_: pa.DataType) -> str:
    return f"dictionary of {type_.value_type}" if pa.types.is_dictionary(type_) else str(type_)


def shares(column: np.ndarray, edges: np.ndarray) -> tuple[float, ...]:
    """Share of the values in every bin; the outer bins hold everything beyond."""
    values = column[~np.isnan(column)]
    bins = np.clip(np.searchsorted(edges, values, "right") - 1, 0, len(edges) - 2)
    return tuple(float(x) for x in np.bincount(bins, minlength=len(edges) - 1) / max(len(values), 1))


def _edges(real: np.ndarray, whole: bool) -> np.ndarray:
    """Bin edges over the real values without long tails; one bin a value where whole numbers are few."""
    values = real[~np.isnan(real)]
    if not len(values):
        return np.array([0.0, 1.0])
    low, high = np.quantile(values, [0.005, 0.995])
    least, most = float(values.min()), float(values.max())
    if most - least <= 1.5 * (high - low) or low == high:  # no long tail to cut off
        low, high = least, most
    if whole:
        low, high = np.floor(low), np.floor(high) + 1
        step = max(1.0, np.ceil((high - low) / HISTOGRAM_BINS))
        return np.arange(low, high + step, step)
    if low == high:
        return np.array([low - 0.5, low + 0.5])
    return np.linspace(low, high, HISTOGRAM_BINS + 1)


def _edge_labels(edges: np.ndarray, whole: bool, values: np.ndarray, type_: pa.DataType) -> tuple[str, ...]:
    """Text of every edge; the outer ones say where values lie beyond, and whole numbers name the last bin's last."""
    shown = edges.copy()
    shown[-1] -= whole
    labels = list(_texts(shown, type_))
    if len(values) and values.min() < edges[0]:
        labels[0] = f"≤ {labels[0]}"
    if len(values) and values.max() > edges[-1]:
        labels[-1] = f"≥ {labels[-1]}"
    return tuple(labels)


def _texts(edges: np.ndarray, type_: pa.DataType) -> tuple[str, ...]:
    """Text of every edge: a date, the day of a long and the minute of a short span of time, a number with its unit."""
    if pa.types.is_duration(type_):
        return tuple(f"{short_number(edge)} {type_.unit}" for edge in edges)
    if not pa.types.is_temporal(type_):
        return tuple(short_number(edge) for edge in edges)
    small = pa.types.is_date32(type_) or pa.types.is_time32(type_)
    moments = pa.array(np.round(edges).astype(np.int32 if small else np.int64)).cast(type_)
    texts = [str(text) for text in moments.cast(pa.string()).to_pylist()]
    if pa.types.is_time(type_):
        return tuple(text[:8] for text in texts)
    days = len({text[:10] for text in texts})
    return tuple(text[:10] if days > 3 else text[5:16] for text in texts)


def short_number(value: float) -> str:
    """Write a number for an axis: 0.25, 1,200, 45k, 1.5M."""
    size = abs(value)
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if limit <= size < 1e15:
            return f"{value / (1e3 if unit == 'k' else limit):,.4g}{unit}"
    return f"{value:,.4g}" if size < 1e15 else f"{value:.2e}"


def _histogram(real: np.ndarray, synthetic: np.ndarray, type_: pa.DataType) -> Histogram:
    values = real[~np.isnan(real)]
    whole = bool((values == np.floor(values)).all())
    edges = _edges(real, whole)
    return Histogram(
        tuple(float(edge) for edge in edges),
        shares(real, edges),
        shares(synthetic, edges),
        _edge_labels(edges, whole, values, type_),
    )


def _bars(real: np.ndarray, synthetic: np.ndarray, labels: tuple[str, ...]) -> Bars:
    shares = []
    for codes in (real, synthetic):
        counts = np.bincount(codes[codes >= 0], minlength=len(labels))
        shares.append(counts / max(counts.sum(), 1))
    order = np.lexsort((-shares[1], -shares[0]))
    order = order[(shares[0] + shares[1])[order] > 0]
    top, rest = order, order[:0]
    if len(order) > TOP_CATEGORIES:
        top, rest = order[: TOP_CATEGORIES - 1], order[TOP_CATEGORIES - 1 :]
    names = [labels[i] for i in top]
    heights = [[float(share[i]) for i in top] for share in shares]
    if len(rest):
        names.append(f"{len(rest):,} others")
        for height, share in zip(heights, shares, strict=True):
            height.append(float(share[rest].sum()))
    return Bars(tuple(names), tuple(heights[0]), tuple(heights[1]), len(rest))


def profile_columns(material: Material, floors: dict[str, np.ndarray] | None = None) -> tuple[ColumnProfile, ...]:
    """Compare every measured column, in the order of the real table.

    Args:
        material: The rows to compare.
        floors: Floors of every column, from ``column_floors``; worked out when not given.
    """
    real, made, coded = material.real, material.synthetic, material.coded
    floors = floors or column_floors(material)
    ks, tv = kolmogorov_smirnov(real.numeric, made.numeric), total_variation(real.categorical, made.categorical)
    moved = wasserstein(real.numeric, made.numeric)
    gaps = missing_rates(real), missing_rates(made)
    position = {name: i for i, name in enumerate(coded.names)}

    def profile(column: ReportColumn) -> ColumnProfile:
        at = position[column.name]
        numeric = column.kind == "numeric"
        i = at if numeric else at - len(coded.numeric)
        known, new = ((rows.numeric if numeric else rows.categorical)[:, i] for rows in (real, made))
        distinct = np.unique(known[~np.isnan(known)] if numeric else known[known >= 0])
        return ColumnProfile(
            name=column.name,
            kind=column.kind,
            type=_type_name(column.type),
            distance=float(ks[i] if numeric else tv[i]),
            floor=float(floors["Kolmogorov-Smirnov distance" if numeric else "Total variation"][i]),
            wasserstein=float(moved[i]) if numeric else None,
            missing_real=float(gaps[0][at]),
            missing_synthetic=float(gaps[1][at]),
            distinct=len(distinct),
            plot=_histogram(known, new, column.type) if numeric else _bars(known, new, coded.categories[i]),
        )

    return tuple(profile(column) for column in coded.columns if column.name in position)


@dataclass(frozen=True, eq=False)
class PairProfile:
    """Every pair of columns, real against synthetic.

    Attributes:
        names: Names of the columns, in the order of the matrices.
        errors: Joint total variation of every pair, NaN on the diagonal.
        floor: The same between two fresh samples of these sizes.
    """

    names: tuple[str, ...]
    errors: np.ndarray
    floor: np.ndarray

    def worst(self, count: int = 10) -> list[tuple[str, str, float, float]]:
        """Return the pairs farthest above their floor: two names, the distance and the floor."""
        first, second = np.triu_indices(len(self.names), 1)
        excess = (self.errors - self.floor)[first, second]
        order = np.argsort(-excess, kind="stable")[:count]
        return [
            (
                self.names[first[i]],
                self.names[second[i]],
                float(self.errors[first[i], second[i]]),
                float(self.floor[first[i], second[i]]),
            )
            for i in order
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the mean and the ten worst pairs as plain values."""
        keys = ("first", "second", "distance", "floor")
        mean = mean_pair(self.errors) if len(self.names) > 1 else None
        return {"mean": mean, "worst": [dict(zip(keys, pair, strict=True)) for pair in self.worst()]}
