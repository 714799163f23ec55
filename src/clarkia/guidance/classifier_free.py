"""Classifier-free guidance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.denoisers import Denoiser
from clarkia.guidance.grid import plus_plus_scale
from clarkia.guidance.guided import Guided
from clarkia.processes import Gaussian
from clarkia.processes.times import Time, block_time
from clarkia.spaces import State

FLOOR = -30.0
"""Log-probability that stands for a class one answer excludes and another does not, where answers are combined."""


def classifier_free(
    denoiser: Denoiser,
    scale: float | Callable[[Tensor], Tensor],
    *,
    unconditional: Denoiser | None = None,
    interval: tuple[float, float] = (0.0, 1.0),
    rescale: float = 0.0,
) -> Guided:
    """A denoiser moved away from its unconditional answer: ``(1 + w) conditional - w unconditional``.

    The combination is taken on ``x0_hat`` and, renormalised, on log-probabilities, so that it aims at
    ``p(x | y)^(1 + w) p(x)^(-w)``. At ``w = 0`` the conditional answer is returned bit for bit.

    Args:
        denoiser: The conditional denoiser.
        scale: Weight ``w``, or a function from times (any shape) to it; a negative one weakens the condition. In the
            other convention, where 1 is the conditional model, the weight is ``1 + w``.
        unconditional: Denoiser of the other term, possibly of fewer blocks (the rest stays conditional); by
            default the same denoiser without a condition.
        interval: Times ``(low, high)`` within which to guide; elsewhere ``w`` is 0 and the other term is not asked for.
            `noise_interval` makes one from noise-to-signal ratios.
        rescale: Share, from 0 to 1, to which a guided ``x0_hat`` gets back the conditional one's standard deviation
            over the elements of a data point.

    Returns:
        The guided denoiser; its plain answer is the conditional one.

    Raises:
        ValueError: A rescale or an interval outside [0, 1].

    Source: Classifier-Free Diffusion Guidance (2022); Applying Guidance in a Limited Interval Improves Sample and
    Distribution Quality (2024); Common Diffusion Noise Schedules and Sample Steps are Flawed (2023).
    """
    low, high = interval
    if not 0 <= low <= high <= 1:
        raise ValueError(f"interval: expected 0 <= low <= high <= 1, found {interval}.")
    if not 0 <= rescale <= 1:
        raise ValueError(f"rescale: expected a number from 0 to 1, found {rescale}.")

    def weight_at(t: Tensor) -> Tensor:
        weight = scale(t) if callable(scale) else torch.full_like(t, scale)
        return torch.where((t >= low) & (t <= high), weight, 0.0)

    def combined(x_t: Tensor, weight: Tensor, conditional: Tensor, other: Tensor) -> Tensor:
        weight = weight.to(conditional.dtype).reshape(*weight.shape, *(1,) * (conditional.ndim - weight.ndim))
        if x_t.is_floating_point():
            return _means(conditional, other, weight, rescale)
        return _log_probs(conditional, other, weight)

    def both(x_t: State, t: Time, condition: Any = None) -> tuple[Any, Any]:
        conditional = denoiser(x_t, t, condition)
        if not any(bool(weight_at(time).any()) for time in (t.values() if isinstance(t, Mapping) else (t,))):
            return conditional, conditional
        other = denoiser(x_t, t, None) if unconditional is None else unconditional(x_t, t)
        if isinstance(x_t, Tensor):
            return conditional, combined(x_t, weight_at(t), conditional, other)  # type: ignore[arg-type]
        changed = {
            name: combined(x_t[name], weight_at(block_time(t, name)), conditional[name], other[name]) for name in other
        }
        return conditional, {**conditional, **changed}

    return Guided(both)


def classifier_free_plus_plus(
    denoiser: Denoiser,
    process: Gaussian,
    times: Float[Tensor, " nodes"],
    scale: float,
    *,
    unconditional: Denoiser | None = None,
) -> Guided:
    """CFG++: denoise with ``D_u + scale (D_c - D_u)``, noise again with the unconditional noise.

    Of DDIM's steps (`samplers.Euler`, ``DDIM(eta=0)``) on the grid that is named this is exactly plain guidance with
    the weights of `plus_plus_scale`, and so no solver of its own.

    Args:
        denoiser: The conditional denoiser.
        process: The process that will be sampled.
        times: The grid that will be walked.
        scale: From 0 (unconditional) to 1; for more steps take less.
        unconditional: As in `classifier_free`.

    Raises:
        ValueError: A scale outside [0, 1], or no grid.

    Source: CFG++: Manifold-constrained Classifier Free Guidance for Diffusion Models (2024).
    """
    return classifier_free(denoiser, plus_plus_scale(process, times, scale), unconditional=unconditional)


def compose(denoiser: Denoiser, conditions: Sequence[Any], weights: Sequence[float], *, negative: Any = None) -> Guided:
    """Several conditions at once: ``D_u + sum_k weights[k] (D_k - D_u)``.

    It aims at ``p(x) prod_k (p(x | c_k) / p(x))^weights[k]``. One condition with weight 1 is the conditional model, and
    with weight ``1 + w`` it is `classifier_free` with scale w.

    Args:
        denoiser: The denoiser; a condition passed in use is not looked at.
        conditions: What it may be told; one evaluation each, and one for the base.
        weights: A number each, negative to move away.
        negative: Condition of the base ``D_u``: what is not wanted; None for none at all.

    Returns:
        The guided denoiser; its plain answer is the base.

    Raises:
        ValueError: No condition, or another number of weights.

    Source: Compositional Visual Generation with Composable Diffusion Models (2022).
    """
    if not conditions or len(conditions) != len(weights):
        raise ValueError(
            f"conditions, weights: expected a weight for each of some, found {len(conditions)} and {len(weights)}."
        )

    def combined(x_t: Tensor, base: Tensor, answers: list[Tensor]) -> Tensor:
        if x_t.is_floating_point():
            return base + sum(w * (answer - base) for w, answer in zip(weights, answers, strict=True))
        return _product(base, answers, weights)

    def both(x_t: State, t: Time, condition: Any = None) -> tuple[Any, Any]:
        base = denoiser(x_t, t, negative)
        answers = [denoiser(x_t, t, given) for given in conditions]
        if isinstance(x_t, Tensor):
            return base, combined(x_t, base, answers)
        return base, {name: combined(x_t[name], base[name], [answer[name] for answer in answers]) for name in base}

    return Guided(both)


def _means(conditional: Tensor, other: Tensor, weight: Tensor, rescale: float) -> Tensor:
    guided = conditional + weight * (conditional - other)
    if rescale == 0 or guided[:1].numel() < 2:
        return guided
    axes = tuple(range(1, guided.ndim))
    std, target = guided.std(axes, keepdim=True), conditional.std(axes, keepdim=True)
    ratio = torch.where(std > 0, target / std, 1.0)
    return torch.where(weight == 0, conditional, guided * (rescale * ratio + 1 - rescale))


def _log_probs(conditional: Tensor, other: Tensor, weight: Tensor) -> Tensor:
    # A class that only the unconditional answer excludes has no finite guided mass; it keeps its conditional one.
    gap = torch.where(conditional.isfinite() & other.isfinite(), conditional - other, 0.0)
    return torch.where(weight == 0, conditional, (conditional + weight * gap).log_softmax(-1))


def _product(base: Tensor, answers: list[Tensor], weights: Sequence[float]) -> Tensor:
    """The normalised product of powers; a class that a wanted condition excludes is out, unless that leaves none."""
    floored = base.clamp_min(FLOOR)
    total = floored + sum(w * (answer.clamp_min(FLOOR) - floored) for w, answer in zip(weights, answers, strict=True))
    nowhere = torch.stack([base, *answers]).amax(0) == -torch.inf
    wanted = [answer for w, answer in zip(weights, answers, strict=True) if w > 0]
    excluded = torch.stack([answer == -torch.inf for answer in wanted]).any(0) | nowhere if wanted else nowhere
    excluded = torch.where(excluded.all(-1, keepdim=True), nowhere, excluded)
    return total.masked_fill(excluded, -torch.inf).log_softmax(-1)
