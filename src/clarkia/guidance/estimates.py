"""Estimates of a guided prediction of categories: ``p0_hat(x0^i = j | x_t)`` times what is expected of a factor then.

Each function makes an `Estimate`. With ``l`` the factor, the law ``p(x_0) l(x_0) / Z`` has the posterior of a cell
``p0_hat[i, j] E[l(x_0) | x_t, x_0^i = j]`` up to a constant, under every corruption, because noise knows nothing of l.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.guidance.draws import checked, class_sums, joint_draws, relative_weights
from clarkia.processes import Discrete, Masked
from clarkia.processes.discrete import one_hot
from clarkia.random import Noise

Estimate: TypeAlias = Callable[[Tensor, Tensor, Tensor], Float[Tensor, "n ... k"]]
"""``estimate(x_t, t, log_probs)``: logarithms of the guided masses of every cell, ``(n, ..., K)``, up to a constant."""

LogFactor: TypeAlias = Callable[..., Tensor]

MOST_STATES = 2**16
"""The largest space that is enumerated: 512 KiB a row of the batch."""

ROWS_AT_ONCE = 2**14
"""Candidates that are put through a predictor at once."""


def conditional(expectation: LogFactor, scale: float) -> Estimate:
    """From ``expectation(x_t, t) = log E[l(x_0) | x_t, x_0^i = j]``, ``(n, ..., K)``, known in closed form."""

    def estimate(x_t: Tensor, t: Tensor, log_probs: Tensor) -> Tensor:
        values = expectation(x_t, t)
        if not isinstance(values, Tensor) or values.shape != log_probs.shape:
            found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(f"log_factor: expected shape {tuple(log_probs.shape)}, found {found}.")
        # A class that is impossible stays so, whatever is expected of it.
        return torch.where(log_probs > -torch.inf, log_probs.double() + scale * values.double(), -torch.inf)

    return estimate


def enumerated(log_factor: LogFactor, scale: float, process: Discrete) -> Estimate:
    """From all rows of clean classes, each with the product of its cells' probabilities: many draws, in the limit."""

    def estimate(x_t: Tensor, t: Tensor, log_probs: Tensor) -> Tensor:
        cells = x_t[:1].numel()
        counts = process.counts(x_t.device).expand(x_t.shape[1:]).flatten().tolist()
        size = float(torch.tensor(counts, dtype=torch.float64).prod())
        if size > MOST_STATES:
            raise ValueError(f"method: expected at most {MOST_STATES} states to enumerate, found {size:g}; use 'mc'.")
        states = torch.cartesian_prod(*(torch.arange(count, device=x_t.device) for count in counts)).view(-1, cells)
        worth = scale * checked(log_factor(states.view(-1, *x_t.shape[1:])), len(states), "log_factor")
        rows = log_probs.double().flatten(1, -2)  # (n, cells, K)
        log_weights = sum(rows[:, i, states[:, i]] for i in range(cells)) + worth
        weights = relative_weights(log_weights)  # type: ignore[arg-type]
        hot = one_hot(states, process.max_classes).double().flatten(1)
        return (weights @ hot).view(log_probs.shape).log()

    return estimate


def drawn(log_factor: LogFactor, scale: float, num_draws: int, smoothing: float | None, generator: Noise) -> Estimate:
    """From rows drawn cell by cell from the prediction, weighed by the factor; the error falls as 1 / sqrt(draws)."""

    def estimate(x_t: Tensor, t: Tensor, log_probs: Tensor) -> Tensor:
        draws = joint_draws(log_probs, num_draws, generator)
        values = log_factor(draws.flatten(0, 1))
        log_weights = scale * checked(values, len(x_t) * num_draws, "log_factor").view(len(x_t), num_draws)
        return masses(draws, relative_weights(log_weights), log_probs, smoothing)

    return estimate


def masses(draws: Tensor, weights: Tensor, log_probs: Tensor, smoothing: float | None) -> Float[Tensor, "n ... k"]:
    """Logarithms of the guided masses of each class from weighted draws.

    Args:
        draws: ``(n, m, ...)``.
        weights: Theirs, ``(n, m)``.
        log_probs: The prediction they were drawn from, ``(n, ..., K)``.
        smoothing: None: the share of the weight that has the class. Otherwise the prediction times the mean weight of
            the draws that have the class, to which as many draws of average weight are added: no class is lost.
    """
    sums = class_sums(draws, weights, log_probs.shape[-1])
    if smoothing is None:
        return sums.log()
    numbers = class_sums(draws, torch.ones_like(weights), log_probs.shape[-1])
    average = weights.mean(1).reshape(-1, *(1,) * (log_probs.ndim - 1))
    return log_probs.double() + torch.log(sums + smoothing * average) - torch.log(numbers + smoothing)


def by_candidates(log_prob: LogFactor, scale: float, process: Discrete) -> Estimate:
    """From a predictor of noisy rows, ``log_prob(x_t, t)``, asked once for every class that every cell could have."""

    def estimate(x_t: Tensor, t: Tensor, log_probs: Tensor) -> Tensor:
        flat, width = x_t.flatten(1), log_probs.shape[-1]
        uncertain = ((log_probs > -torch.inf).sum(-1) > 1).flatten(1)
        counts = process.counts(x_t.device).expand(x_t.shape[1:]).flatten().unsqueeze(-1)
        possible = torch.arange(width, device=x_t.device) < counts  # (cells, K)
        row, cell, label = (uncertain.unsqueeze(-1) & possible).nonzero(as_tuple=True)
        parts = []
        for some in torch.arange(len(row), device=x_t.device).split(ROWS_AT_ONCE):
            rows = flat[row[some]].scatter(1, cell[some].unsqueeze(1), label[some].unsqueeze(1))
            answer = log_prob(rows.view(-1, *x_t.shape[1:]), t[row[some]])
            parts.append(checked(answer, len(some), "log_factor"))
        values = torch.zeros(*flat.shape, width, dtype=torch.float64, device=x_t.device)
        if parts:
            values[row, cell, label] = scale * torch.cat(parts)
        return changed(process, x_t, t, log_probs, values.view(log_probs.shape))

    return estimate


def by_gradient(log_prob: LogFactor, scale: float, process: Discrete) -> Estimate:
    """From the gradient of ``log_prob(one_hot, t)`` at the state's own ``(n, ..., states)``: its first-order change."""

    def estimate(x_t: Tensor, t: Tensor, log_probs: Tensor) -> Tensor:
        with torch.enable_grad():
            hot = one_hot(x_t, process.max_states).to(log_probs.dtype).requires_grad_()
            value = checked(log_prob(hot, t), len(x_t), "log_factor").sum()
            (slope,) = torch.autograd.grad(value, hot)
        # To each class the slope, up to what is the same for all of a cell.
        return changed(process, x_t, t, log_probs, scale * slope[..., : log_probs.shape[-1]].double())

    return estimate


def changed(process: Discrete, x_t: Tensor, t: Tensor, log_probs: Tensor, change: Tensor) -> Float[Tensor, "n ... k"]:
    """The guided masses where each class would change the log-probability of what is asked for by ``change``.

    Revealing a masked cell is learning ``x_0^i``, so the change is the factor itself. Under other noise a cell that
    moves is still noise: the change multiplies the rates (equivalently the concrete score, which is finite), and the
    prediction is the one that these mean. Every set of rates of a law is met exactly; an approximate set that no law
    has is met as nearly as probabilities can.
    """
    if isinstance(process, Masked):
        return log_probs.double() + change
    certain = ((log_probs > -torch.inf).sum(-1, keepdim=True) == 1).expand(log_probs.shape)
    here = change.gather(-1, x_t.unsqueeze(-1))
    lost = here == -torch.inf  # no ratio to a state that is excluded itself
    score = process.score(x_t, log_probs.double(), t) * torch.exp(change - torch.where(lost, 0.0, here))
    guided = process.log_probs_from_score(x_t, score, t)
    return torch.where(certain | lost, log_probs.double(), guided)


def settled(masses: Tensor, log_probs: Tensor) -> Float[Tensor, "n ... k"]:
    """Normalised; certain cells, and cells of which nothing is left, keep their prediction bit for bit."""
    certain = (log_probs > -torch.inf).sum(-1, keepdim=True) == 1
    left = masses.amax(-1, keepdim=True) > -torch.inf
    return torch.where(left & ~certain, masses.log_softmax(-1).to(log_probs.dtype), log_probs)


def parts(method: str, log_factor: Any, process: Discrete, scale: float, options: dict[str, Any]) -> Estimate:
    """The estimate of a method by its name."""
    if method == "exact":
        return conditional(log_factor, scale)
    if method == "enumerate":
        return enumerated(log_factor, scale, process)
    if method == "mc":
        return drawn(log_factor, scale, **options)
    return (by_candidates if method == "predictor" else by_gradient)(log_factor, scale, process)
