"""Plots as inline SVG that follows the page's light and dark colours; every text from the data is escaped."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from clarkia.reports.profiles import Bars, Histogram, PairProfile

WIDTH = 320
HISTOGRAM_HEIGHT = 132
BAR_ROW = 20
LABEL_WIDTH = 116
LABEL_SIZE, TICK_SIZE = 11.0, 10.5  # as in report.css
NARROW = frozenset("fijlrtI.,:;|!'()[]- ")
HEATMAP_COLUMNS = 40  # more names than this cannot be read; the farthest are kept


def shorten(text: str, limit: int) -> str:
    """Cut a text to ``limit`` characters with an ellipsis, with blanks and line breaks made single spaces."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def fitted(text: str, width: float, size: float) -> str:
    """Cut a text so that it takes about ``width`` at a font size: narrow, usual and East Asian letters differ."""
    text = " ".join(text.split())
    wide = [1.0 if unicodedata.east_asian_width(c) in "WF" else 0.32 if c in NARROW else 0.62 for c in text]
    reach = np.cumsum(wide) * size
    if not len(reach) or reach[-1] <= width:
        return text
    return text[: int(np.searchsorted(reach, width - size, "right"))].rstrip() + "…"


def _svg(width: float, height: float, label: str, parts: Sequence[Markup]) -> Markup:
    return Markup('<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>').format(
        width, height, label, Markup("").join(parts)
    )


def _no_values(name: str) -> Markup:
    return _svg(WIDTH, 20, f"{name} has no values", [Markup('<text class="tick" x="0" y="14">no values</text>')])


def _heights(shares: Sequence[float], log: bool, top: float) -> np.ndarray:
    """Heights in [0, 1]; on the log scale a thousandth of the rows is a visible sliver."""
    heights = np.asarray(shares)
    return np.log1p(1000 * heights) / math.log1p(1000 * top) if log else heights / top


def _steps(left: np.ndarray, heights: np.ndarray, base: float, scale: float, close: bool) -> str:
    """Path of a step curve over bins with the given edges."""
    x, y = np.repeat(left, 2)[1:-1], base - scale * np.repeat(heights, 2)
    points = " L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))
    return f"M{x[0]:.1f} {base} L{points} L{x[-1]:.1f} {base}" + ("Z" if close else "")


def histogram(plot: Histogram, name: str) -> Markup:
    """Draw real values as a filled and synthetic values as an outlined histogram, on shared bins."""
    edges = np.array(plot.edges)
    if not sum(plot.real) + sum(plot.synthetic):
        return _no_values(name)
    top = max(max(plot.real), max(plot.synthetic), 1e-9)
    log = top > 0.6 and len(plot.real) > 3
    base, scale = HISTOGRAM_HEIGHT - 22.0, HISTOGRAM_HEIGHT - 40.0
    left = (edges - edges[0]) / (edges[-1] - edges[0]) * (WIDTH - 4) + 2
    parts = [
        Markup('<path class="real-area" d="{}"/>').format(
            _steps(left, _heights(plot.real, log, top), base, scale, True)
        ),
        Markup('<path class="synthetic-line" d="{}"/>').format(
            _steps(left, _heights(plot.synthetic, log, top), base, scale, False)
        ),
        Markup('<line class="axis" x1="0" x2="{}" y1="{}" y2="{}"/>').format(WIDTH, base, base),
        Markup('<text class="tick" x="0" y="11">{}{}</text>').format(f"{top:.0%}", " · log scale" if log else ""),
    ]
    ticks = ((0, 0.0, "start"), (len(edges) // 2, float(left[len(edges) // 2]), "middle"), (-1, float(WIDTH), "end"))
    seen = set()
    for position, x, anchor in ticks:
        label = fitted(plot.labels[position], WIDTH / 3, TICK_SIZE)
        if label in seen or (anchor == "middle" and len(edges) < 5):
            continue
        seen.add(label)
        parts.append(
            Markup('<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
                x, base + 15, anchor, label
            )
        )
    return _svg(WIDTH, HISTOGRAM_HEIGHT, f"Histogram of {name}, real and synthetic", parts)


def bars(plot: Bars, name: str) -> Markup:
    """Draw the shares of the most frequent categories, a real and a synthetic bar each."""
    top = max(max(plot.real, default=0), max(plot.synthetic, default=0), 1e-9)
    room = WIDTH - LABEL_WIDTH - 44
    parts = []
    for i, (label, real, made) in enumerate(zip(plot.labels, plot.real, plot.synthetic, strict=True)):
        y = i * BAR_ROW + 3
        parts.append(
            Markup(
                '<g><title>{}: real {:.2%}, synthetic {:.2%}</title>'
                '<text class="label" x="{}" y="{:.1f}" text-anchor="end">{}</text>'
                '<rect class="real-bar" x="{}" y="{}" width="{:.1f}" height="7" rx="1"/>'
                '<rect class="synthetic-bar" x="{}" y="{}" width="{:.1f}" height="7" rx="1"/>'
                '<text class="tick" x="{:.1f}" y="{:.1f}">{}</text></g>'
            ).format(
                label, real, made,
                LABEL_WIDTH - 8, y + 11.0, fitted(label, LABEL_WIDTH - 8, LABEL_SIZE),
                LABEL_WIDTH, y, max(room * real / top, 0.5),
                LABEL_WIDTH, y + 7, max(room * made / top, 0.5),
                LABEL_WIDTH + room * max(real, made) / top + 6, y + 11.0, percent(made),
            )
        )  # fmt: skip
    if not plot.labels:
        return _no_values(name)
    return _svg(WIDTH, len(plot.labels) * BAR_ROW + 4, f"Shares of the values of {name}, real and synthetic", parts)


def percent(share: float) -> str:
    """Write a share for a label: 12%, 1.2%, 0.12%, 0."""
    if share == 0:
        return "0"
    return f"{share:.0%}" if share >= 0.0995 else f"{share:.1%}" if share >= 0.00995 else f"{share:.2%}"


def _kept(pairs: PairProfile) -> np.ndarray:
    """Columns of the heat map, in their order: those of the farthest pairs when there are too many."""
    count = len(pairs.names)
    if count <= HEATMAP_COLUMNS:
        return np.arange(count)
    excess = np.nan_to_num(pairs.errors - pairs.floor, nan=-np.inf).max(1)
    return np.sort(np.argsort(-excess, kind="stable")[:HEATMAP_COLUMNS])


def heatmap_scale(pairs: PairProfile) -> float:
    """Distance above the floor at the dark end of the heat map."""
    excess = pairs.errors - pairs.floor
    return max(0.05, float(np.nanmax(excess))) if len(excess) > 1 else 0.05


def heatmap(pairs: PairProfile) -> Markup:
    """Draw every pair's distance above its floor as the lower triangle of a matrix."""
    kept = _kept(pairs)
    n, scale = len(kept), heatmap_scale(pairs)
    cell = float(np.clip(560 / max(n, 1), 13, 34))
    size = min(12.0, cell * 0.72)
    names = [fitted(pairs.names[i], 11 * size, size) for i in kept]
    longest = min(11.0, max(0.62 * len(name) for name in names)) * size
    left = 8 + longest
    parts = []
    for row, i in enumerate(kept):
        y = row * cell
        parts.append(
            Markup(
                '<text class="label" x="{:.1f}" y="{:.1f}" text-anchor="end" style="font-size:{:.1f}px">{}</text>'
            ).format(left - 6, y + cell / 2 + size * 0.35, size, names[row])
        )
        for column, j in enumerate(kept[:row]):
            error, floor = float(pairs.errors[i, j]), float(pairs.floor[i, j])
            strength = min(max(error - floor, 0.0) / scale, 1.0)
            parts.append(
                Markup(
                    '<rect class="cell" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="2" '
                    'fill-opacity="{:.3f}">'
                    "<title>{} with {}: {:.1%} off, fresh samples {:.1%}</title></rect>"
                ).format(
                    left + column * cell + 1, y + 1, cell - 2, cell - 2, 0.04 + 0.96 * strength,
                    pairs.names[i], pairs.names[j], error, floor,
                )
            )  # fmt: skip
    for column in range(n - 1):
        x, y = left + column * cell + cell / 2 + size * 0.35, n * cell + 6
        parts.append(
            Markup(
                '<text class="label" transform="translate({:.1f} {:.1f}) rotate(-55)" text-anchor="end" '
                'style="font-size:{:.1f}px">{}</text>'
            ).format(x, y, size, names[column])
        )
    return _svg(
        left + (n - 1) * cell + 8,
        n * cell + 14 + 0.82 * longest,
        "Distance of every pair of columns above its floor",
        parts,
    )
