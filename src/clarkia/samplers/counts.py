"""How many masked cells to reveal in a step: rules that cut a ranking of the cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clarkia.samplers.policies import View, at_masked, entropy, log_confidence


@dataclass(frozen=True, eq=False)
class Span:
    """The step a count is for, each float64 ``(n,)``.

    Attributes:
        time: Share ``s / t`` of the time that is left after the step.
        level: Share ``(1 - alpha_s) / (1 - alpha_t)`` of the masked cells that the process leaves masked.
    """

    time: Float[Tensor, " n"]
    level: Float[Tensor, " n"]


class Count(Protocol):
    """Says how long a prefix of the ranking a step reveals."""

    @property
    def pace(self) -> int | None:
        """Cells that every call reveals at least, so that a run finds its own grid; None to walk a grid that is given.

        A rule with a pace shows the denoiser the time at which as many cells are masked as there are.
        """
        ...

    def number(self, view: View, order: Int[Tensor, "n L"], span: Span) -> Int[Tensor, " n"]:
        """Cells to reveal in each row; ``order`` lists its positions, first to be revealed first."""
        ...


@dataclass(frozen=True)
class Tokens:
    """The same number of cells in every call.

    Args:
        size: Cells a call.

    Raises:
        ValueError: A size below 1.
    """

    size: int = 1

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size: expected a positive number, found {self.size}.")

    @property
    def pace(self) -> int:
        """The size itself."""
        return self.size

    def number(self, view: View, order: Tensor, span: Span) -> Int[Tensor, " n"]:
        """The size, in every row."""
        return torch.full_like(order[:, 0], self.size)


@dataclass(frozen=True)
class Equal:
    """As many cells in each step of an even grid, up to one, whatever the schedule of the process."""

    @property
    def pace(self) -> None:
        """None: the grid decides."""
        return None

    def number(self, view: View, order: Tensor, span: Span) -> Int[Tensor, " n"]:
        """What leaves ``s / t`` of the masked cells, rounded."""
        return _leaving(view, span.time)


@dataclass(frozen=True)
class Scheduled:
    """The expected number of cells of the process's own schedule."""

    @property
    def pace(self) -> None:
        """None: the grid decides."""
        return None

    def number(self, view: View, order: Tensor, span: Span) -> Int[Tensor, " n"]:
        """What leaves ``(1 - alpha_s) / (1 - alpha_t)`` of the masked cells, rounded."""
        return _leaving(view, span.level)


@dataclass(frozen=True)
class _Adaptive:
    """A rule that looks at the distributions; every call reveals at least one cell."""

    @property
    def pace(self) -> int:
        """One cell at least."""
        return 1


@dataclass(frozen=True)
class Threshold(_Adaptive):
    """All cells up to the first in the ranking whose most likely class has at most this probability; at least one.

    Args:
        probability: The threshold.
    """

    probability: float = 0.9

    def number(self, view: View, order: Tensor, span: Span) -> Int[Tensor, " n"]:
        """Length of the prefix that passes."""
        return (_least_confidence(view, order) > self.probability).sum(1).clamp(min=1)


@dataclass(frozen=True)
class Factor(_Adaptive):
    """The largest number ``n`` with ``(n + 1) (1 - c_n) < factor``, ``c_n`` the least confidence of the first ``n``.

    While this holds with a factor of 1, the most likely classes of the ``n`` cells are also the most likely jointly.

    Args:
        factor: Bound on the product.

    Source: Fast-dLLM: Training-free Acceleration of Diffusion LLM by Enabling KV Cache and Parallel Decoding (2025).
    """

    factor: float = 1.0

    def number(self, view: View, order: Tensor, span: Span) -> Int[Tensor, " n"]:
        """Length of the longest prefix within the bound, at least 1."""
        n = torch.arange(1, order.shape[1] + 1, device=order.device)
        return ((n + 1) * (1 - _least_confidence(view, order)) < self.factor).sum(1).clamp(min=1)


@dataclass(frozen=True)
class EntropyBudget(_Adaptive):
    """Cells as long as their entropies, but for the largest, add up to at most a budget.

    The sum less its largest term bounds what drawing the cells independently loses (their total correlation).

    Args:
        budget: In nats; 0 reveals one cell a call, and with it those that are certain.

    Raises:
        ValueError: A negative budget.

    Source: Accelerated Sampling from Masked Diffusion Models via Entropy Bounded Unmasking (2025).
    """

    budget: float = 0.0

    def __post_init__(self) -> None:
        if self.budget < 0:
            raise ValueError(f"budget: expected a non-negative number of nats, found {self.budget}.")

    def number(self, view: View, order: Tensor, span: Span) -> Int[Tensor, " n"]:
        """Length of the longest prefix within the budget, at least 1."""
        entropies = at_masked(view, entropy, fill=torch.inf).gather(1, order)
        spent = entropies.cumsum(1) - entropies.cummax(1).values  # NaN past the masked cells, which is not within it
        return (spent <= self.budget).sum(1).clamp(min=1)


def _leaving(view: View, share: Tensor) -> Tensor:
    masked = view.masked.sum(1)
    return masked - (masked * share).round().long()


def _least_confidence(view: View, order: Tensor) -> Tensor:
    """The least ``max_k p(k)`` among the first 1, 2, ... cells of the ranking, ``(n, L)``; 0 past the masked ones."""
    return at_masked(view, log_confidence).exp().gather(1, order).cummin(1).values
