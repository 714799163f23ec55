"""Sampling signals by way of their measurements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.denoisers import Denoiser
from clarkia.forward_models import ThroughForward
from clarkia.processes import Gaussian
from clarkia.random import Noise
from clarkia.samplers.hooks import Hook
from clarkia.samplers.loop import sample
from clarkia.samplers.solver import Solver


def sample_signals(
    denoiser: ThroughForward,
    process: Gaussian,
    *,
    num_samples: int | None = None,
    initial: Tensor | None = None,
    shape: Sequence[int] | None = None,
    condition: Mapping[str, Any],
    guide: Callable[[Denoiser], Denoiser] | None = None,
    solver: Solver | None = None,
    num_steps: int | None = None,
    times: Tensor | None = None,
    hooks: Sequence[Hook] = (),
    generator: Noise = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw target measurements, and with each the signal that was predicted for it in the last step.

    A signal is as random as what its two measurements tell of it: directions that neither context nor target sees are
    at their mean (`measures.null_space_variance`). `sample_views` draws targets in several views, which together tell
    more.

    Args:
        denoiser: Predicts signals.
        process: Of the target measurement.
        num_samples: See `sample`, as for all that follow.
        initial: A state to start from.
        shape: Shape of a target measurement.
        condition: A mapping with ``"target_view"`` and what else the network looks at, a row a sample.
        guide: Guidance of the target's denoiser, such as `guidance.dynamic_threshold`; the signal is the one predicted
            when it last asked.
        solver: How to step.
        num_steps: Number of steps.
        times: One grid for all rows, which must end at 0.
        hooks: Called after each step.
        generator: Source of randomness.
        dtype: Dtype of the prior.
        device: Device of the prior.

    Returns:
        Signals and target measurements, a row each.

    Raises:
        ValueError: A grid that does not end at 0 or has a column a row, and as `sample`.

    Source: Diffusion with Forward Models: Solving Stochastic Inverse Problems Without Direct Supervision (2023).
    """
    if times is not None and float(times[-1].max()) > 0:
        raise ValueError(f"times: expected a grid that ends at 0, found one that ends at {float(times[-1].max()):g}.")
    if times is not None and times.ndim != 1:
        raise ValueError(f"times: expected one grid for all rows, found shape {tuple(times.shape)}.")
    latest: list[Tensor] = []

    def denoise(x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
        signal, x0_hat = denoiser.both(x_t, t, condition)
        latest[:] = [signal]
        return x0_hat

    measured = sample(
        denoise if guide is None else guide(denoise), process, num_samples=num_samples, initial=initial, shape=shape,
        solver=solver, num_steps=num_steps, times=times, condition=dict(condition), hooks=hooks, generator=generator,
        dtype=dtype, device=device,
    )  # fmt: skip
    assert isinstance(measured, Tensor)
    return latest[0], measured


def sample_views(
    denoiser: ThroughForward,
    process: Gaussian,
    views: Tensor,
    *,
    condition: Mapping[str, Any],
    guide: Callable[[Denoiser], Denoiser] | None = None,
    solver: Solver | None = None,
    num_steps: int | None = None,
    times: Tensor | None = None,
    hooks: Sequence[Hook] = (),
    generator: Noise = None,
) -> tuple[Tensor, Float[Tensor, "n v ..."]]:
    """Draw targets in one view after another, each given all before it, and the signal that explains them all.

    Every drawn target joins the contexts of the next pass, so the targets are drawn together given the first contexts,
    and a signal that contexts and views determine has its exact law. Only what was drawn may become a context: in a
    view that was no target a signal is at its mean, which the next pass would take for certain.

    Args:
        denoiser: Predicts signals from any number of contexts.
        process: Of a target measurement.
        views: ``(n, v, ...)``, of each row the views to draw, in this order.
        condition: A mapping with ``"context"`` ``(n, c, ...)`` and ``"context_view"`` ``(n, c, ...)``, c measurements
            of each row and their views, c being 0 where nothing is known; and what else the network looks at.
        guide: See `sample_signals`, as for all that follow.
        solver: How to step.
        num_steps: Number of steps of each pass.
        times: The grid of each pass, which must end at 0.
        hooks: Called after each step of each pass.
        generator: Source of randomness.

    Returns:
        Signals of the last pass, and target measurements ``(n, v, ...)``.

    Raises:
        ValueError: No view, contexts that are missing or not as many as their views, another number of rows, and as
            `sample_signals`.

    Source: Diffusion with Forward Models: Solving Stochastic Inverse Problems Without Direct Supervision (2023).
    """
    if not {"context", "context_view"} <= set(condition):
        raise ValueError(f"condition: expected 'context' and 'context_view', found {sorted(condition)}.")
    context, context_view = condition["context"], condition["context_view"]
    if context.shape[:2] != context_view.shape[:2]:
        found = tuple(context.shape), tuple(context_view.shape)
        raise ValueError(f"context, context_view: expected shapes (n, c, ...) of the same n and c, found {found}.")
    if views.ndim < 2 or views.shape[0] != len(context) or views.shape[1] == 0:
        raise ValueError(f"views: expected shape ({len(context)}, 1 or more, ...), found {tuple(views.shape)}.")
    first = context.shape[1]
    for view in views.unbind(1):
        told = {**condition, "context": context, "context_view": context_view, "target_view": view}
        signals, measured = sample_signals(
            denoiser, process, num_samples=len(context), shape=context.shape[2:], condition=told, guide=guide,
            solver=solver, num_steps=num_steps, times=times, hooks=hooks, generator=generator, dtype=context.dtype,
            device=context.device,
        )  # fmt: skip
        context = torch.cat([context, measured[:, None]], 1)
        context_view = torch.cat([context_view, view[:, None]], 1)
    return signals, context[:, first:]
