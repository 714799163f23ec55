"""Guidance of a flow between two modalities, whose condition is where it starts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from clarkia.denoisers import Denoiser
from clarkia.guidance.guided import Guided
from clarkia.processes.times import Time


def indicator(denoiser: Denoiser, scale: float) -> Guided:
    """A denoiser moved away from the flow to the marginal of its targets: ``(1 + w) D(g = 1) - w D(g = 0)``.

    A flow from a source code to its target is given nothing but the state; what it withholds instead of a condition is
    the indicator g, the class 0 of a label. Both answers see the same state.

    Args:
        denoiser: Trained by `objectives.CrossFlow` with a network of one label of one class.
        scale: w; the published weight 7 is 6 here. At 0 the answer with the indicator comes back bit for bit.

    Returns:
        The denoiser; its plain prediction is the answer with the indicator.

    Source: Flowing from Words to Pixels: A Framework for Cross-Modality Evolution (2024).
    """

    def both(x_t: Tensor, t: Time, condition: Any = None) -> tuple[Tensor, Tensor]:
        shown = denoiser(x_t, t, indicated(len(x_t), x_t.device))
        if scale == 0:
            return shown, shown
        return shown, shown + scale * (shown - denoiser(x_t, t, None))

    return Guided(both)


def indicated(rows: int, device: torch.device | None = None) -> dict[str, Tensor]:
    """The condition ``g = 1`` of all rows, int64 ``(n,)``; -1 in a row's place, or no condition, is ``g = 0``."""
    return {"label": torch.zeros(rows, dtype=torch.int64, device=device)}
