"""When the cells of a row are corrupted: which are observed, which are masked, and the time the row has reached."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from clarkia.random import Noise, rand


@dataclass(frozen=True)
class Times:
    """One draw of corruption for n rows of p positions.

    Attributes:
        row: (n,) float64 time in [0, 1] of each row, uniform marginally.
        observed: (n, p) cells shown to the denoiser as they are and left out of the loss.
        masked: (n, p) cells whose own mask time has come.
    """

    row: Float[Tensor, " n"]
    observed: Bool[Tensor, "n p"]
    masked: Bool[Tensor, "n p"]


def stratified(n: int, generator: Noise = None) -> Float[Tensor, " n"]:
    """Uniform float64 times, one in each of n equal strata, the strata in random order."""
    return (torch.argsort(rand((n,), generator)) + rand((n,), generator)) / n


def observed_columns(n: int, column: Tensor, probability: float, generator: Noise = None) -> Bool[Tensor, "n p"]:
    """Which cells are observed: with the given probability a row shows a random set of whole columns.

    Args:
        n: number of rows.
        column: (p,) index of the column that each position belongs to.
        probability: share of rows that show any column; the expected share shown is uniform in [0, 1].
        generator: source of randomness.
    """
    share = torch.where(rand((n, 1), generator) < probability, rand((n, 1), generator), 0.0)
    return (rand((n, int(column.max()) + 1), generator) < share)[:, column]


def count_times(observed: Bool[Tensor, "n p"], maskable: Bool[Tensor, " p"], generator: Noise = None) -> Times:
    """Choose how many positions are masked, uniformly from one to all that may be; the row's time follows.

    Every maskable position has its own uniform mask time, and the row stands at the time of its count-th one. That
    time is uniform, as if it had been drawn first, but the masked bound now weighs the mean over masked cells by the
    number of maskable ones: bounded, where the time form has 1 / t.
    """
    own = torch.where(observed | ~maskable, torch.inf, rand(observed.shape, generator))
    available = torch.isfinite(own).sum(1)
    uniform = stratified(len(observed), generator)
    nth = (uniform * available).long().clamp(max=own.shape[1] - 1)
    reached = torch.sort(own, dim=1).values.gather(1, nth[:, None])[:, 0]
    row = torch.where(available > 0, reached, uniform)
    return Times(row, observed, own <= row[:, None])


def independent_times(observed: Bool[Tensor, "n p"], visible: Float[Tensor, "n p"], row: Tensor, generator: Noise):
    """Mask every unobserved cell with its own probability ``1 - visible`` at the row's time."""
    return Times(row, observed, (rand(observed.shape, generator) >= visible) & ~observed)
