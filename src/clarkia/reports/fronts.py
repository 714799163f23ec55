"""The trade-offs of a sweep as a figure: one panel for every two axes, the front drawn through it."""

from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from clarkia.measures.fronts import Sweep, pareto_mask

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL = 3.4  # inches
ON, OFF = "#0b7285", "#adb5bd"


def plot_front(sweep: Sweep, *, knob: str | None = None) -> Figure:
    """Draw every setting of a sweep on every two of its axes, the best trade-offs joined by steps.

    A point is filled where no other setting beats it on all axes together; the steps are the front of the panel's two
    axes alone. Bars are standard errors over seeds. Both axes of a panel improve upwards and to the right.

    Args:
        sweep: At least two axes.
        knob: The knob whose values are written beside the points; by default the first that the sweep turned.

    Returns:
        A matplotlib figure that no window or backend knows of: ``figure.savefig("front.png")``.

    Raises:
        ValueError: A sweep of one axis, or a knob it did not turn.

    Source: Consistency-diversity-realism Pareto fronts of conditional image generative models (2024).
    """
    from matplotlib.figure import Figure

    if len(sweep.axes) < 2:
        raise ValueError(f"sweep: expected at least 2 axes to trade, found {list(sweep.axes)}.")
    knobs = list(sweep.settings[0])
    if knob is not None and knob not in knobs:
        raise ValueError(f"knob: expected one of {knobs}, found {knob!r}.")
    labels = [_short(setting[knob or knobs[0]]) for setting in sweep.settings]
    pairs = list(combinations(range(len(sweep.axes)), 2))
    columns = min(len(pairs), 3)
    rows = math.ceil(len(pairs) / columns)
    figure = Figure(figsize=(PANEL * columns, PANEL * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for across, up in pairs:  # not a zip, which takes a panel more than there are pairs
        _draw(next(panels), sweep, across, up, labels)
    for panel in panels:
        panel.set_axis_off()
    figure.supxlabel(f"Labels: {knob or knobs[0]}. Filled: on the front of all axes.", fontsize=8, color="#495057")
    return figure


def _draw(panel: Axes, sweep: Sweep, across: int, up: int, labels: list[str]) -> None:
    values, errors = sweep.values.numpy(), np.nan_to_num(sweep.standard_errors.numpy())  # one seed has no errors
    x, y = values[:, across], values[:, up]
    panel.errorbar(x, y, errors[:, up], errors[:, across], fmt="none", ecolor=OFF, elinewidth=1)
    on = sweep.mask.numpy()
    panel.scatter(x, y, s=30, c=[ON if best else "white" for best in on], edgecolors=ON, linewidths=1, zorder=3)
    _steps(panel, sweep, across, up)
    for name, point in zip(labels, zip(x, y, strict=True), strict=True):
        panel.annotate(name, point, textcoords="offset points", xytext=(5, 4), fontsize=7, color="#495057")
    for index, set_label, axis in ((across, panel.set_xlabel, panel.xaxis), (up, panel.set_ylabel, panel.yaxis)):
        set_label(sweep.axes[index])
        if sweep.better[index] == "lower":
            axis.set_inverted(True)
    panel.locator_params(axis="x", nbins=4)  # or long numbers run into each other
    panel.spines[["top", "right"]].set_visible(False)


def _steps(panel: Axes, sweep: Sweep, across: int, up: int) -> None:
    """The staircase through the settings that are best on these two axes."""
    signs = np.array([1.0 if sweep.better[index] == "higher" else -1.0 for index in (across, up)])
    points = sweep.values[:, [across, up]] * sweep.values.new_tensor(signs)
    front = points[pareto_mask(points)].numpy()
    front = front[np.argsort(front[:, 0])] * signs
    panel.step(front[:, 0], front[:, 1], where="pre", color=ON, linewidth=1)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
