"""Sharper categories: temperature, top-k and top-p on the predictions of a denoiser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.denoisers import Denoiser
from clarkia.processes.times import Time
from clarkia.spaces import State


def truncate(
    denoiser: Denoiser, *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Denoiser:
    """A denoiser whose categories are sharpened: tempered, then cut to the likeliest classes, then normalised.

    The law it samples is no longer the data's; with a temperature other than 1 not even for one cell. Cells that are
    certain (visible, or observed) stay as they are, bit for bit, and so do continuous blocks.

    Args:
        denoiser: Answers normalised log-probabilities ``(n, ..., K_max)`` where the state holds classes.
        temperature: Log-probabilities are divided by it; at 0 only the likeliest class is left, the first of equals.
        top_k: Keep the ``top_k`` likeliest classes of each cell, the first of equals.
        top_p: Keep the fewest likeliest classes of each cell whose mass (tempered, among the top-k) reaches ``top_p``.

    Raises:
        ValueError: A negative temperature, a ``top_k`` below 1 or a ``top_p`` outside (0, 1].

    Source: The Curious Case of Neural Text Degeneration (2020); Hierarchical Neural Story Generation (2018).
    """
    if temperature < 0:
        raise ValueError(f"temperature: expected a non-negative number, found {temperature}.")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k: expected at least 1, found {top_k}.")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p: expected a number in (0, 1], found {top_p}.")
    if temperature == 1 and top_k is None and top_p is None:
        return denoiser

    def cut(x_t: Tensor, prediction: Tensor) -> Tensor:
        return prediction if x_t.is_floating_point() else truncated(prediction, temperature, top_k, top_p)

    def sharpened(x_t: State, t: Time, condition: Any = None) -> Any:
        prediction = denoiser(x_t, t, *(() if condition is None else (condition,)))
        if isinstance(x_t, Mapping):
            return {name: cut(x_t[name], block) for name, block in prediction.items()}
        return cut(x_t, prediction)

    return sharpened


def truncated(
    log_probs: Float[Tensor, "... K"], temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Float[Tensor, "... K"]:
    """Log-probabilities tempered, cut and normalised; arguments as in `truncate`."""
    classes = log_probs.shape[-1]
    if temperature == 0:
        temperature, top_k = 1.0, 1
    log_probs = (log_probs / temperature).log_softmax(-1) if temperature != 1 else log_probs
    if top_k is None and top_p is None:
        return log_probs
    ordered, order = torch.sort(log_probs, dim=-1, descending=True, stable=True)
    if top_k is not None and top_k < classes:
        ordered = ordered.index_fill(-1, torch.arange(top_k, classes, device=log_probs.device), -torch.inf)
    if top_p is not None:
        mass = ordered.double().softmax(-1)
        reached = mass.cumsum(-1) - mass >= top_p  # by the classes before
        ordered = ordered.masked_fill(reached, -torch.inf)
    return torch.empty_like(log_probs).scatter_(-1, order, ordered.log_softmax(-1))
