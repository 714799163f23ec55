"""An embedded Runge-Kutta pair in which every row of a batch takes its own steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Dormand and Prince's fifth-order pair: nodes, stages, and the weights of its error.
_NODES = (0.2, 0.3, 0.8, 8 / 9, 1.0, 1.0)
_STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)

MOST_STEPS = 2_000
"""Attempts after which a flow counts as one that cannot be followed; a smooth one takes some hundred at 1e-9."""


def integrate(
    field: Callable[[Tensor, Tensor, Tensor], Tensor],
    y: Float[Tensor, "n m"],
    start: float,
    stop: float,
    tolerance: float,
) -> Float[Tensor, "n m"]:
    """Solve ``dy/dw = field(y, w, rows)`` from ``start`` to ``stop``, each row with steps of its own.

    Args:
        field: Takes states ``(k, m)``, their w ``(k,)`` and their row numbers ``(k,)``; returns ``(k, m)``.
        y: State at ``start``, float64.
        start: First w.
        stop: Last w, above ``start``.
        tolerance: Largest error of a step in any component, relative where the component is above 1.

    Returns:
        The state at ``stop``. A row's answer does not depend on the rows beside it.

    Raises:
        ValueError: A row that 2,000 steps do not bring there.

    Source: A family of embedded Runge-Kutta formulae (1980).
    """
    answer = y.clone()
    rows: Int[Tensor, " k"] = torch.arange(len(y), device=y.device)
    w = torch.full((len(y),), start, dtype=torch.float64, device=y.device)
    h = torch.full_like(w, 0.01 * (stop - start))
    slope = field(y, w, rows)
    for _ in range(MOST_STEPS):
        last = w + h >= stop
        h = torch.where(last, stop - w, h)
        proposal, slopes = _stages(field, y, w, h, rows, slope)
        scale = tolerance * (1 + torch.maximum(y.abs(), proposal.abs()))
        error = (_combine(slopes, _ERROR) * h[:, None] / scale).abs().amax(1)
        accepted = error <= 1
        y = torch.where(accepted[:, None], proposal, y)
        slope = torch.where(accepted[:, None], slopes[-1], slope)
        w = torch.where(accepted, w + h, w)
        answer[rows] = y
        h = h * (0.9 * error.clamp(min=1e-10) ** -0.2).clamp(0.2, 5.0)
        going = ~(accepted & last)
        rows, y, w, h, slope = rows[going], y[going], w[going], h[going], slope[going]
        if not len(rows):
            return answer
    row = int(rows[0])
    raise ValueError(
        f"tolerance: expected one that {MOST_STEPS} steps can meet, found {tolerance:g} too small, row {row}."
    )


def _stages(
    field: Callable[[Tensor, Tensor, Tensor], Tensor], y: Tensor, w: Tensor, h: Tensor, rows: Tensor, slope: Tensor
) -> tuple[Tensor, list[Tensor]]:
    slopes, point = [slope], y
    for node, weights in zip(_NODES, _STAGES, strict=True):
        point = y + h[:, None] * _combine(slopes, weights)
        slopes.append(field(point, w + node * h, rows))
    return point, slopes


def _combine(slopes: list[Tensor], weights: tuple[float, ...]) -> Tensor:
    return sum((weight * slope for weight, slope in zip(weights, slopes, strict=True) if weight), slopes[0] * 0)
