"""Pictures in rows with a name each, as a figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from jaxtyping import UInt8
from torch import Tensor

from clarkia.codecs.image import grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEIGHT = 0.55
"""Inches of a row."""


def sheet(rows: Mapping[str, UInt8[Tensor, "n 3 h w"]]) -> Figure:
    """A figure that no window knows of, with a row of pictures a name, all of the same number."""
    from matplotlib.figure import Figure

    columns = max(len(pictures) for pictures in rows.values())
    figure = Figure(figsize=(1.6 + HEIGHT * columns, HEIGHT * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for panel, (name, pictures) in zip(axes, rows.items(), strict=True):
        panel.imshow(grid(pictures, columns=columns, scale=2, layout="first"), interpolation="nearest")
        panel.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=7)
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(False)
    return figure
