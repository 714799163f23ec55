"""Sampling signals by way of their measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

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
    at their mean (`measures.null_space_variance`). To add contexts, measure a drawn signal in a new view and give the
    network that measurement as context.

    Args:
        denoiser: Predicts signals.
        process: Of the target measurement.
        num_samples: See `sample`, as for all that follow.
        initial: A state to start from.
        shape: Shape of a target measurement.
        condition: A mapping with ``"target_view"`` and what else the network looks at, a row a sample.
        solver: How to step.
        num_steps: Number of steps.
        times: A grid, which must end at 0.
        hooks: Called after each step.
        generator: Source of randomness.
        dtype: Dtype of the prior.
        device: Device of the prior.

    Returns:
        Signals and target measurements, a row each.

    Raises:
        ValueError: A grid that does not end at 0, and as `sample`.

    Source: Diffusion with Forward Models: Solving Stochastic Inverse Problems Without Direct Supervision (2023).
    """
    if times is not None and float(times[-1].max()) > 0:
        raise ValueError(f"times: expected a grid that ends at 0, found one that ends at {float(times[-1].max()):g}.")
    latest: list[Tensor] = []

    def denoise(x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
        signal, x0_hat = denoiser.both(x_t, t, condition)
        latest[:] = [signal]
        return x0_hat

    measured = sample(
        denoise, process, num_samples=num_samples, initial=initial, shape=shape, solver=solver, num_steps=num_steps,
        times=times, condition=dict(condition), hooks=hooks, generator=generator, dtype=dtype, device=device,
    )  # fmt: skip
    assert isinstance(measured, Tensor)
    return latest[0], measured
