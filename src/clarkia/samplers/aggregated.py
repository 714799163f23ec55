"""Sampling several modalities from one latent, all or some given the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from clarkia import schedules
from clarkia.denoisers import Denoiser
from clarkia.processes import spread
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
            The others are then imputed, which is not exactly a draw from their conditional law, and far from one where
            the given have small shares. Where they are classes, `given_classes` makes it one.
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


def given_classes(
    denoiser: JointPrediction, process: AggregatedGaussian, main: str, known: Mapping[str, Tensor]
) -> JointPrediction:
    """The denoiser of one modality given the classes of all others, exact where the denoiser of all is.

    Imputation puts the known classes into a step, but leaves the prediction of the others as it was without them. This
    changes the prediction too, by Bayes' rule: the mean of the clean signal given the latent and the classes is
    ``S_hat + sigma^2 / alpha`` times the gradient of the denoiser's own ``log p(classes | z_t)``. Of several classes
    it takes the log-probabilities as those of modalities independent given the latent.

    Args:
        denoiser: ``denoiser(z_t, t, condition=None)`` as in `sample_jointly`, differentiable in ``z_t``.
        process: The corruption.
        main: The other modality, which enters the latent as it is, from the start.
        known: By modality, the int64 classes ``(n,)`` of all others, one for each row of the run; hand them to
            `sample_jointly` or `latent_denoiser` as ``given`` too.

    Returns:
        A denoiser for these, whose prediction of ``main`` knows the classes.

    Raises:
        ValueError: Modalities other than main that are not known.
    """
    if set(known) != (others := set(process.encoders) - {main}) or not others:
        raise ValueError(f"known: expected the modalities besides {main!r}, {sorted(others)}, found {sorted(known)}.")

    def denoise(z_t: Tensor, t: Tensor, condition: Any = None) -> dict[str, Tensor]:
        with torch.enable_grad():
            z = z_t.detach().requires_grad_()
            prediction = denoiser(z, t) if condition is None else denoiser(z, t, condition)
            likelihood = torch.stack([prediction[name].gather(-1, x.unsqueeze(-1)).sum() for name, x in known.items()])
            (slope,) = torch.autograd.grad(likelihood.sum(), z)
        prediction = {name: part.detach() for name, part in prediction.items()}
        time = spread(t, z)
        alpha, sigma = process.process.alpha(time), process.process.sigma(time)
        # Of pure noise the gradient is 0 and says nothing: the prediction stays as it is.
        gain = torch.where(alpha > 1e-4 * sigma, sigma**2 / alpha, 0.0).to(z.dtype)
        signal = process.signal(prediction, t) + gain * slope
        main_part = signal - process.signal({**known, main: torch.zeros_like(z_t)}, t)
        return prediction | {main: main_part / spread(process.share(main, t), z).to(z.dtype)}

    return denoise
