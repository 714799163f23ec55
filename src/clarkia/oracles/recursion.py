"""The forward-backward recursion of a chain in logarithms, exact at any range, with one loop over positions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

TINY = 1e-280
"""Sums below it may have lost terms to underflow; far enough above the smallest double to lose no digit itself."""


def log_product(log_rows: Float[Tensor, "b n j"], table: Float[Tensor, "b j k"]) -> Float[Tensor, "b n k"]:
    """``log(exp(log_rows) @ table)``, as a matrix product wherever that loses nothing.

    Rows are scaled to a largest term of 1. An entry can underflow only where the large terms meet zeros of the table;
    rows with such an entry are summed in logarithms.

    Args:
        log_rows: Log-weights; minus infinity is allowed.
        table: Non-negative.
    """
    top = log_rows.detach().amax(-1, keepdim=True)
    top = torch.where(top > -torch.inf, top, 0.0)
    sums = (log_rows - top).exp() @ table
    live = sums > 0
    answer = torch.where(live, torch.where(live, sums, 1.0).log() + top, -torch.inf)
    small = sums < TINY
    if bool(small.any()):
        reached = (log_rows > -torch.inf).double() @ (table > 0).double() > 0
        group, row = (small & reached).any(-1).nonzero(as_tuple=True)
        if len(row):
            terms = log_rows[group, row].unsqueeze(-1) + table.log()[group]
            answer = answer.index_put((group, row), torch.logsumexp(terms, -2))
    return answer


def forward(
    log_initial: Float[Tensor, " k"], transitions: Float[Tensor, "l k k"], log_emissions: Float[Tensor, "n m k"]
) -> Float[Tensor, "m n k"]:
    """``f_i(k) = log p(x^i = k, evidence up to i)``, with ``f_1 = pi e_1`` and ``f_i = e_i (f_{i-1} A)``."""
    evidence = log_emissions.transpose(0, 1)
    messages = [log_initial + evidence[0]]
    for transition, here in zip(transitions, evidence[1:], strict=True):
        messages.append(here + log_product(messages[-1][None], transition[None])[0])
    return torch.stack(messages)


def backward(transitions: Float[Tensor, "l k k"], log_emissions: Float[Tensor, "n m k"]) -> Float[Tensor, "m n k"]:
    """``b_i(k) = log p(evidence after i | x^i = k)``, with ``b_L = 1`` and ``b_i = A (e_{i+1} b_{i+1})``."""
    evidence = log_emissions.transpose(0, 1)
    messages = [torch.zeros_like(evidence[0])]
    for transition, after in zip(transitions.flip(0), evidence[1:].flip(0), strict=True):
        messages.append(log_product((after + messages[-1])[None], transition.mT[None])[0])
    return torch.stack(messages[::-1])
