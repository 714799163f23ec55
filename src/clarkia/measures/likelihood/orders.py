"""A masked model as many autoregressive ones: the likelihood in a given order, and how much orders disagree."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clarkia.denoisers import Denoiser
from clarkia.measures.likelihood.evaluate import check_data, predict
from clarkia.measures.likelihood.result import Likelihood, certain
from clarkia.processes import Masked
from clarkia.random import Noise, rand


@torch.no_grad()
def order_nll(
    denoiser: Denoiser,
    process: Masked,
    x: Int[Tensor, "n ..."],
    order: Int[Tensor, "..."] | Literal["forward", "backward", "random"] = "forward",
    *,
    generator: Noise = None,
) -> Likelihood:
    """Exact likelihood of rows whose cells are revealed one at a time in a given order.

    With k of L cells still masked a denoiser that looks at time is asked at that of ``alpha = 1 - k / L``.

    Args:
        denoiser: Called L times.
        process: A masked process.
        x: Clean classes, ``(n, ...)`` with L cells a row.
        order: The cells in the order of their revealing: indices ``(L,)`` into a flattened data point, or ``(n, L)``
            with an order a row; or ``"forward"``, ``"backward"``, ``"random"`` (an order a row).
        generator: Source of a random order.

    Returns:
        Log-probabilities; minus their sum is the negative log-likelihood in this order.

    Raises:
        ValueError: Data that do not fit the process, or no order of its cells.

    Source: Your Absorbing Discrete Diffusion Secretly Models the Conditional Distributions of Clean Data (2024).
    """
    if not isinstance(process, Masked):
        raise ValueError(f"process: expected a masked process, found {type(process).__name__}.")
    check_data(process, x)
    if process.alpha(torch.full((1,), 0.5)).numel() > 1:
        raise ValueError("process: expected one schedule for all positions, found one a position.")
    cells = _order(order, x, generator)
    length = cells.shape[1]
    clean = x.reshape(len(x), -1)
    x_t = process.mask_state(x.device).expand(x.shape).reshape(clean.shape)
    nats = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for step in range(length):
        cell = cells[:, step : step + 1]
        level = torch.full((len(x),), (length - step) / length, dtype=torch.float64, device=x.device)
        t = process.schedule.t_of_alpha(1 - level).clamp(0, 1)
        log_probs = predict(denoiser, process, x_t.reshape(x.shape), t).reshape(*clean.shape, -1)
        truth = clean.gather(1, cell)
        nats = nats + log_probs[torch.arange(len(x), device=x.device), cell[:, 0]].gather(1, truth)[:, 0]
        x_t = x_t.scatter(1, cell, truth)
    return certain(nats, "exact")


def order_spread(
    denoiser: Denoiser, process: Masked, x: Int[Tensor, "n ..."], *, num_orders: int = 8, generator: Noise = None
) -> Float[Tensor, " n"]:
    """How much random orders disagree on each row: the standard deviation of its log-likelihood over them.

    The conditionals of one law agree in every order, so a spread above 0 is the denoiser's inconsistency. Nothing but
    rows is needed to see it.

    Args:
        denoiser: Called ``num_orders L`` times.
        process: A masked process.
        x: Clean classes, ``(n, ...)``.
        num_orders: At least 2 random orders a row.
        generator: Source of the orders.

    Returns:
        float64 ``(n,)``, nats; infinite where only some orders find a row possible.

    Source: Your Absorbing Discrete Diffusion Secretly Models the Conditional Distributions of Clean Data (2024).
    """
    if num_orders < 2:
        raise ValueError(f"num_orders: expected at least 2, found {num_orders}.")
    nats = torch.stack([order_nll(denoiser, process, x, "random", generator=generator).nats for _ in range(num_orders)])
    possible = nats.isfinite()
    spread = torch.where(possible.all(0), torch.where(possible, nats, 0.0).std(0), torch.inf)
    return torch.where(possible.any(0), spread, 0.0)


def _order(order: Tensor | str, x: Tensor, generator: Noise) -> Int[Tensor, "n cells"]:
    rows, length = len(x), x[0].numel()
    forward = torch.arange(length, device=x.device).expand(rows, length)
    if isinstance(order, str):
        if order == "random":
            return rand((rows, length), generator, device=x.device).argsort(1)
        if order not in ("forward", "backward"):
            raise ValueError(f"order: expected 'forward', 'backward', 'random' or indices, found {order!r}.")
        return forward if order == "forward" else forward.flip(1)
    given = torch.as_tensor(order, device=x.device)
    if given.shape not in {(length,), (rows, length)}:
        raise ValueError(f"order: expected shape ({length},) or ({rows}, {length}), found {tuple(given.shape)}.")
    given = given.expand(rows, length)
    if given.dtype != torch.int64 or not bool((given.sort(1).values == forward).all()):
        raise ValueError(f"order: expected every cell from 0 to {length - 1} once in each row, found something else.")
    return given
