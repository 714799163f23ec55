"""Which masked cells to reveal first: policies that rank the cells of a row by what the denoiser says of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clarkia.random import Noise, choose, rand


@dataclass(frozen=True, eq=False)
class View:
    """What a policy sees of the rows, their cells flattened to ``L`` positions.

    Attributes:
        log_probs: The prediction, ``(n, L, K)``.
        masked: bool ``(n, L)``, the cells that may be revealed.
        level: float64 ``(n,)``, the share of the run's cells that is still masked.
        x: int64 ``(n, L)``, the state.
        drawn: float64 ``(n, L)``, the log-probability with which the run drew a cell, minus infinity at cells it did
            not draw; None where nobody asked for it.
    """

    log_probs: Float[Tensor, "n L K"]
    masked: Bool[Tensor, "n L"]
    level: Float[Tensor, " n"]
    x: Int[Tensor, "n L"]
    drawn: Float[Tensor, "n L"] | None = None


@dataclass(frozen=True, eq=False)
class Ranking:
    """The order in which cells are to be visible.

    Attributes:
        priority: float64 ``(n, L)``, highest first, ties by position; minus infinity excludes a cell from this step.
        classes: int64 ``(n, L)``, classes already drawn for the cells, which the ranking depends on; None where the
            classes are drawn after the choice of cells, and only there.
    """

    priority: Float[Tensor, "n L"]
    classes: Int[Tensor, "n L"] | None = None


class Policy(Protocol):
    """Ranks the masked cells of each row."""

    def rank(self, view: View, generator: Noise = None) -> Ranking:
        """The ranking of one step; cells not ``view.masked`` get minus infinity."""
        ...


@dataclass(frozen=True)
class Random:
    """Every order of the cells is as likely."""

    def rank(self, view: View, generator: Noise = None) -> Ranking:
        """Uniform numbers."""
        uniforms = rand(view.masked.shape, generator, device=view.masked.device)
        return Ranking(uniforms.masked_fill(~view.masked, -torch.inf))


@dataclass(frozen=True)
class Position:
    """A given order, by default from the first cell to the last.

    Args:
        order: A permutation of the flattened positions, first to be revealed first.

    Raises:
        ValueError: Not a permutation.
    """

    order: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.order is not None and sorted(self.order) != list(range(len(self.order))):
            raise ValueError(f"order: expected a permutation of the positions, found {self.order}.")

    def rank(self, view: View, generator: Noise = None) -> Ranking:
        """Minus each cell's place in the order."""
        length, device = view.masked.shape[1], view.masked.device
        if self.order is not None and len(self.order) != length:
            raise ValueError(f"order: expected a permutation of {length} positions, found {len(self.order)}.")
        order = torch.arange(length) if self.order is None else torch.tensor(self.order)
        place = order.argsort().to(device, torch.float64)
        return Ranking(torch.where(view.masked, -place, -torch.inf))


@dataclass(frozen=True)
class Confidence:
    """The cells whose most likely class is the most likely come first."""

    def rank(self, view: View, generator: Noise = None) -> Ranking:
        """``max_k log p(k)``."""
        return Ranking(at_masked(view, log_confidence))


@dataclass(frozen=True)
class Margin:
    """The cells whose two most likely classes lie furthest apart come first."""

    def rank(self, view: View, generator: Noise = None) -> Ranking:
        """``p_(1) - p_(2)``."""
        return Ranking(at_masked(view, margin))


@dataclass(frozen=True)
class Entropy:
    """The cells with the most certain class come first."""

    def rank(self, view: View, generator: Noise = None) -> Ranking:
        """``sum_k p(k) log p(k)``."""
        return Ranking(at_masked(view, lambda log_probs: -entropy(log_probs)))


@dataclass(frozen=True)
class Blocks:
    """Semi-autoregressive: blocks of consecutive cells from left to right, within a block as another policy says.

    Args:
        policy: Ranks the cells of the first block with a masked cell.
        length: Cells a block.

    Raises:
        ValueError: A length below 1.
    """

    policy: Policy
    length: int

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length: expected a positive number, found {self.length}.")

    def rank(self, view: View, generator: Noise = None) -> Ranking:
        """The inner ranking of the present block; all other cells wait."""
        block = torch.arange(view.masked.shape[1], device=view.masked.device) // self.length
        present = torch.where(view.masked, block, len(block)).amin(1, keepdim=True)
        return self.policy.rank(replace(view, masked=view.masked & (block == present)), generator)


@dataclass(frozen=True)
class SampledConfidence:
    """Draws a class for every masked cell and keeps those that came out likely.

    Not exact, even cell by cell from an exact denoiser: a class that would be drawn rarely loses its place to a cell
    that drew a frequent one, so samples come out too typical and the entropy too low.

    Args:
        noise: Scale of Gumbel noise on the log-probability, times the share of cells still masked.
        revise: Cells drawn earlier compete with the log-probability they were drawn with; where they lose, they go
            back to the mask. Cells the run did not draw never do.

    Raises:
        ValueError: A negative scale.

    Source: MaskGIT: Masked Generative Image Transformer (2022); revision as in Large Language Diffusion Models (2025).
    """

    noise: float = 0.0
    revise: bool = False

    def __post_init__(self) -> None:
        if self.noise < 0:
            raise ValueError(f"noise: expected a non-negative number, found {self.noise}.")

    def rank(self, view: View, generator: Noise = None) -> Ranking:
        """``log p`` of a class drawn for each masked cell."""
        uniforms = rand(view.masked.shape, generator, device=view.masked.device)
        cells, log_probs = masked_rows(view)
        classes = view.x.flatten().index_copy(0, cells, choose(log_probs, uniforms.flatten()[cells]))
        gumbel = -(-rand(view.masked.shape, generator, device=view.masked.device).log()).log() if self.noise else None
        return self.judge(view, classes.view(view.x.shape), gumbel)

    def judge(self, view: View, classes: Tensor, gumbel: Tensor | None = None) -> Ranking:
        """The ranking of given classes, int64 ``(n, L)``, with Gumbel noise of scale 1 of the same shape."""
        index = torch.where(view.masked, classes, 0).unsqueeze(-1)
        priority = view.log_probs.gather(-1, index).squeeze(-1).double()
        priority = torch.where(view.masked, priority, -torch.inf)
        if self.revise and view.drawn is not None:
            priority = torch.where(view.masked, priority, view.drawn)
        if gumbel is not None:
            priority = priority + self.noise * view.level.unsqueeze(1) * gumbel
        return Ranking(priority, classes)


# --------------------------------------------------------------------------------------------- statistics of cells


def log_confidence(log_probs: Float[Tensor, "m K"]) -> Float[Tensor, " m"]:
    """``max_k log p(k)``."""
    return log_probs.amax(-1).double()


def margin(log_probs: Float[Tensor, "m K"]) -> Float[Tensor, " m"]:
    """``p_(1) - p_(2)``, 1 where there is one class."""
    best = log_probs.topk(min(2, log_probs.shape[-1]), -1).values.double().exp()
    return best[:, 0] - best[:, 1] if best.shape[-1] > 1 else best[:, 0]


def entropy(log_probs: Float[Tensor, "m K"]) -> Float[Tensor, " m"]:
    """Entropy in nats."""
    log_probs = log_probs.double()
    return -torch.where(log_probs > -torch.inf, log_probs.exp() * log_probs, 0.0).sum(-1)


def masked_rows(view: View) -> tuple[Int[Tensor, " m"], Float[Tensor, "m K"]]:
    """Flat indices of the masked cells and their log-probabilities."""
    cells = view.masked.flatten().nonzero().squeeze(1)
    return cells, view.log_probs.flatten(0, 1).index_select(0, cells)


def at_masked(view: View, statistic: Callable[[Tensor], Tensor], fill: float = -torch.inf) -> Float[Tensor, "n L"]:
    """A statistic of each masked cell's distribution, float64 ``(n, L)``; ``fill`` at the other cells."""
    cells, log_probs = masked_rows(view)
    whole = torch.full((view.masked.numel(),), fill, dtype=torch.float64, device=view.masked.device)
    return whole.index_copy_(0, cells, statistic(log_probs)).view(view.masked.shape)
