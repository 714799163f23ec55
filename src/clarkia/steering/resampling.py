"""Weights of particles: how many they are worth, and whom to copy in proportion to them."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clarkia.random import Noise, rand

Scheme: TypeAlias = Literal["systematic", "stratified", "multinomial"]

SCHEMES: tuple[Scheme, ...] = ("systematic", "stratified", "multinomial")


def effective_size(log_weights: Float[Tensor, "... k"]) -> Float[Tensor, "..."]:
    """The effective sample size ``(sum w)^2 / sum w^2``, from 1 to k; 0 where no particle has any weight.

    Args:
        log_weights: ``(..., k)``, up to a constant.
    """
    size = torch.exp(2 * log_weights.logsumexp(-1) - (2 * log_weights).logsumexp(-1))
    return torch.where(log_weights.amax(-1) > -torch.inf, size, 0.0)


def ancestors(
    log_weights: Float[Tensor, "groups k"], scheme: Scheme = "systematic", generator: Noise = None
) -> Int[Tensor, "groups k"]:
    """Whom each particle of the next generation descends from; a particle is copied ``k w`` times in expectation.

    Each scheme inverts the cumulative weights at k numbers: ``(u + i) / k`` with one uniform u (systematic), with one
    a stratum (stratified), or k independent ones (multinomial, which varies most).

    Args:
        log_weights: float64 ``(groups, k)``, up to a constant a group; at least one finite in each.
        scheme: One of `SCHEMES`.
        generator: Source of randomness; draws ``groups * k`` rows.

    Returns:
        Indices into the k particles of the same group, ascending but for the multinomial scheme.

    Raises:
        ValueError: An unknown scheme.

    Source: Comparison of Resampling Schemes for Particle Filtering (2005).
    """
    if scheme not in SCHEMES:
        raise ValueError(f"scheme: expected one of {list(SCHEMES)}, found {scheme!r}.")
    groups, k = log_weights.shape
    uniforms = rand((groups * k,), generator, device=log_weights.device).reshape(groups, k)
    if scheme == "systematic":
        uniforms = uniforms[:, :1].expand(groups, k)
    if scheme != "multinomial":
        uniforms = (uniforms + torch.arange(k, device=log_weights.device)) / k
    cumulative = log_weights.double().softmax(-1).cumsum(-1)
    # Rounding may leave the last sum just off 1: scaled by it, the last particle that has weight takes what is left.
    threshold = torch.minimum(uniforms * cumulative[:, -1:], torch.nextafter(cumulative[:, -1:], torch.zeros(())))
    return torch.searchsorted(cumulative, threshold.contiguous(), right=True)
