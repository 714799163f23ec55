"""When the cells of a row are corrupted: which are observed, which are masked, and the time the row has reached."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from clarkia.random import Noise, of_batch, rand


@dataclass(frozen=True)
class Times:
    """One draw of corruption for n rows of p positions.

    Attributes:
        row: (n,) float64 time in [0, 1] that each row has reached.
        observed: (n, p) cells shown to the denoiser as they are and left out of the loss.
        masked: (n, p) cells whose own mask time has come.
        masked_weight: (n,) factor of the summed nats of masked cells; None leaves it to the schedule's rate.
        continuous_weight: (n,) factor of a continuous term, of mean one.
    """

    row: Float[Tensor, " n"]
    observed: Bool[Tensor, "n p"]
    masked: Bool[Tensor, "n p"]
    masked_weight: Float[Tensor, " n"] | None
    continuous_weight: Float[Tensor, " n"]


def stratified(n: int, generator: Noise = None, *, device: torch.device | str | None = None) -> Float[Tensor, " n"]:
    """Uniform float64 numbers in [0, 1), one in each of n equal strata, the strata in random order.

    The strata are those of the whole batch where the rows at hand are a share of it.
    """

    def one_a_stratum(rows: int, source: torch.Generator | None) -> Tensor:
        levels = (torch.argsort(rand((rows,), source)) + rand((rows,), source)) / rows
        return levels.clamp(max=1 - 2**-53)  # the last stratum may round up to 1

    drawn = of_batch(n, generator, one_a_stratum)
    return drawn if device is None else drawn.to(device)


def observed_columns(n: int, column: Tensor, probability: float, generator: Noise = None) -> Bool[Tensor, "n p"]:
    """Which cells are observed: with the given probability a row shows a random set of whole columns.

    Args:
        n: number of rows.
        column: (p,) index of the column that each position belongs to.
        probability: share of rows that show any column; the expected share shown is uniform in [0, 1].
        generator: source of randomness.
    """
    device = column.device
    asked = rand((n, 1), generator, device=device) < probability
    share = torch.where(asked, rand((n, 1), generator, device=device), 0.0)
    return (rand((n, int(column.max()) + 1), generator, device=device) < share)[:, column]


def count_times(observed: Bool[Tensor, "n p"], maskable: Bool[Tensor, " p"], generator: Noise = None) -> Times:
    """Choose how many positions are masked, uniformly from none to all L that may be; the row's time follows.

    Every maskable position has its own uniform mask time. For c >= 1 the row stands at the c-th of them, for c = 0
    before the first of them and one more; importance weights (L + 1) / c for the masked terms and t (L + 1) / c for the
    continuous ones (1 where c = 0) then give the expectations under a uniform time. The masked weight is bounded, where
    drawing the time first has 1 / t.
    """
    device = observed.device
    own = torch.where(observed | ~maskable, torch.inf, rand(observed.shape, generator, device=device))
    available = torch.isfinite(own).sum(1)
    count = (stratified(len(observed), generator, device=device) * (available + 1)).long()
    ordered = torch.sort(own, dim=1).values
    before_first = torch.minimum(ordered[:, 0], rand((len(observed),), generator, device=device))
    reached = ordered.gather(1, (count - 1).clamp(min=0)[:, None])[:, 0]
    row = torch.where(count > 0, reached, before_first)
    share = torch.where(count > 0, (available + 1) / count.clamp(min=1), 0.0)
    continuous = torch.where(count > 0, row * share, 1.0)
    return Times(row, observed, (own <= row[:, None]) & (count > 0)[:, None], share, continuous)


def independent_times(
    observed: Bool[Tensor, "n p"], visible: Float[Tensor, "n p"], row: Float[Tensor, " n"], generator: Noise = None
) -> Times:
    """Mask every unobserved cell with its own probability ``1 - visible`` at the row's uniform time."""
    masked = (rand(observed.shape, generator, device=observed.device) >= visible) & ~observed
    return Times(row, observed, masked, None, torch.ones_like(row))
