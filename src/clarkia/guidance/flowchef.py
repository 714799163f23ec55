"""FlowChef's guidance: the gradient of a loss at the prediction, which is not traced back through the denoiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from clarkia.denoisers import Denoiser
from clarkia.guidance.gradients import WHOLE, continuous_blocks, mapped
from clarkia.guidance.guided import Guided
from clarkia.guidance.potential import one_a_row
from clarkia.processes import Process, spread
from clarkia.processes.times import Time, block_time
from clarkia.spaces import State


def flowchef(
    denoiser: Denoiser,
    process: Process,
    loss: Callable[[Any], Tensor],
    *,
    step: float = 0.1,
    inner: int = 1,
    until: float = 1.0,
) -> Guided:
    """A denoiser whose prediction goes some steps down a loss, as if the state could be moved along with it.

    That assumes paths so straight that ``d x0_hat / d x_t`` is near a multiple of the identity. The state itself moves
    by what the solver makes of the prediction, a share ``(t - s) / t`` of it; `samplers.FlowChef` moves the state by
    the whole, as published. Elements at t = 0 and categories stay as they are.

    Args:
        denoiser: The denoiser; it is not differentiated.
        process: Its process, Gaussian or mixed with a Gaussian block.
        loss: ``loss(x0_hat) -> (n,)``, such as ``|A x0 - y|^2 / 2``; of a mixed process, of the dict of predictions. A
            mean over elements instead of a sum makes it as many times smaller.
        step: Length of a step over the gradient; 0.08 to 0.3 for a sum of squares of an operator of norm 1.
        inner: Steps a prediction.
        until: Share of the way from t = 1 on which to guide: at times from ``1 - until`` on.

    Returns:
        The guided denoiser; it knows its plain answer as well.

    Raises:
        ValueError: A number out of range; in use, a loss that is not one differentiable number a row.

    Source: Steering Rectified Flow Models in the Vector Field for Controlled Image Generation (2024).
    """
    check_options(step, inner, until)
    names = continuous_blocks(process)

    def both(x_t: State, t: Time, condition: Any = None) -> tuple[Any, Any]:
        plain = mapped(denoiser(x_t, t, *(() if condition is None else (condition,))), lambda _, part: part.detach())
        led = plain
        for _ in range(inner):
            slopes = slopes_of(loss, led, names, x_t)
            led = mapped(led, lambda name, part, slopes=slopes: part - step * slopes[name] if name in slopes else part)

        def kept(name: str, part: Tensor) -> Tensor:
            if name not in names:
                return part
            x, before = (x_t, plain) if name == WHOLE else (x_t[name], plain[name])  # type: ignore[index]
            time = spread(block_time(t, name), x)  # type: ignore[arg-type]
            return torch.where((time > 0) & (time >= 1 - until), part, before)

        return plain, mapped(led, kept)

    return Guided(both)


def slopes_of(loss: Callable[[Any], Tensor], x0: Any, names: list[str], x_t: State) -> dict[str, Tensor]:
    """Gradients of a loss with respect to the continuous blocks of a prediction."""
    with torch.enable_grad():
        if isinstance(x0, Mapping):
            leaves = {name: x0[name].detach().requires_grad_() for name in names}
            value = one_a_row(loss({**x0, **leaves}), x_t)
        else:
            leaves = {WHOLE: x0.detach().requires_grad_()}
            value = one_a_row(loss(leaves[WHOLE]), x_t)
        if not value.requires_grad:
            raise ValueError("loss: expected a differentiable function of the prediction, found one that is not.")
        found = torch.autograd.grad(value.sum(), list(leaves.values()), allow_unused=True)
    return {name: slope for name, slope in zip(leaves, found, strict=True) if slope is not None}


def check_options(step: float, inner: int, until: float) -> None:
    """Raise ``ValueError`` for a step that is not positive, less than one step, or a share outside [0, 1]."""
    if not step > 0 or inner < 1 or not 0 <= until <= 1:
        raise ValueError(
            "step, inner, until: expected step > 0, inner >= 1 and a share from 0 to 1, "
            f"found {step}, {inner}, {until}."
        )
