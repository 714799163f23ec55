"""Sampling several modalities from one latent, all or some given the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from clarkia import schedules
from clarkia.denoisers import Denoiser
from clarkia.processes.aggregated import AggregatedGaussian
from clarkia.random import Noise, categorical

JointPrediction = Callable[..., Mapping[str, Tensor]]


@torch.no_grad()
def sample_jointly(
    denoiser: JointPrediction,
    process: AggregatedGaussian,
    num_samples: int,
    shape: Sequence[int],
    *,
    given: Mapping[str, Tensor] | None = None,
    classes: Sequence[str] = (),
    num_steps: int | None = None,
    times: Tensor | None = None,
    eta: float = 1.0,
    condition: Any = None,
    generator: Noise = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> dict[str, Tensor]:
    """Draw all modalities at once, or the others given some.

    Modalities may enter the latent at different times, so a step has two signals, at either end: `samplers.sample` with
    `latent_denoiser` serves where all are there from the start.

    Args:
        denoiser: ``denoiser(z_t, t, condition=None)``; by modality ``x_hat`` or log-probabilities.
        process: The corruption.
        num_samples: Number of rows.
        shape: Of one latent.
        given: Modalities that are known, ``(num_samples, ...)``; they take the place of their prediction at every step.
            The others are then imputed, which is not exactly a draw from their conditional law.
        classes: Modalities whose prediction is log-probabilities; a class is drawn from the last one.
        num_steps: Steps of the uniform grid (50 where neither this nor ``times`` is given), or
        times: a decreasing grid from 1 to 0.
        eta: 1 for the posterior step, 0 for the deterministic one.
        condition: Handed to the denoiser where not None.
        generator: Source of randomness.
        dtype: Dtype of the latent.
        device: Device of the latent.

    Returns:
        By modality, what was predicted at the least noise at which it still was in the latent; given ones as given.
    """
    if times is not None and num_steps is not None:
        raise ValueError("num_steps, times: expected one of the two, found both.")
    grid = schedules.uniform(50 if num_steps is None else num_steps) if times is None else schedules.check_times(times)
    given = dict(given or {})
    z = process.prior(num_samples, shape, generator=generator, dtype=dtype, device=device)
    result: dict[str, Tensor] = {}
    for t, s in pairwise(node.expand(num_samples) for node in grid.to(z.device)):
        seen = t.to(z.dtype)
        prediction = dict(denoiser(z, seen) if condition is None else denoiser(z, seen, condition))
        present = [name for name in prediction if float(process.share(name, t[:1])) > 0]
        result |= {name: prediction[name] for name in present}
        z = process.kernel(z, prediction | given, t, s, eta=eta).sample(generator)
    drawn = {name: categorical(part, generator) if name in classes else part for name, part in result.items()}
    return drawn | given


def latent_denoiser(
    denoiser: JointPrediction, process: AggregatedGaussian, given: Mapping[str, Tensor] | None = None
) -> Denoiser:
    """The denoiser of the latent's own clean signal, for any solver of `samplers.sample` on ``process.process``.

    Args:
        denoiser: As in `sample_jointly`.
        process: The corruption, all of whose modalities are in the latent from the start.
        given: Modalities that are known, one row for each row of the run.

    Raises:
        ValueError: A modality that enters later: the signal is then not one and the same.
    """
    if not process.constant:
        raise ValueError("process: expected modalities with constant shares; sample others with sample_jointly.")
    known = dict(given or {})

    def denoise(z_t: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        prediction = denoiser(z_t, t) if condition is None else denoiser(z_t, t, condition)
        return process.signal({**prediction, **known}, t)

    return denoise
