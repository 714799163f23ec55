"""Which cells masked training hides: every cell of a row in one of two copies, and never those that are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clarkia.objectives.draws import stratified
from clarkia.objectives.masked import MaskDraw, MaskedELBO
from clarkia.objectives.observed import Observed, draw_observed
from clarkia.processes import Masked
from clarkia.random import Noise, rand


def complementary(process: Masked, observed: Bool[Tensor, "n p"], generator: Noise = None) -> MaskDraw:
    """Each row twice, once with random cells masked and once with all the others, so that every cell is learned from.

    The first copy masks c of the L cells that are not observed, c uniform in 1 ... L, the second the L - c others.
    Their nats weigh ``L / c`` and ``L / (L - c)``; where the second masks none the first weighs 2. The mean over both
    copies is an unbiased bound.

    Args:
        process: A masked process with one schedule for all positions.
        observed: Cells shown to the denoiser as they are, in neither copy masked.
        generator: Source of randomness.

    Returns:
        The draw of 2 n rows; row n + i is row i again.

    Source: Discrete Diffusion in Large Language and Multimodal Models: A Survey (2025).
    """
    own = rand(observed.shape, generator, device=observed.device)
    cells = (~observed).sum(1)
    first = (stratified(len(observed), generator, device=observed.device) * cells).long() + 1
    count = torch.cat([first.minimum(cells), (cells - first).clamp(min=0)])
    # Numbers turned around rank the other way, so the second copy's lowest are the cells that the first leaves out.
    own, hidden, cells = torch.cat([own, 1 - own]), ~observed.repeat(2, 1), cells.repeat(2)
    own = own.masked_fill(~hidden, torch.inf)
    level = own.sort(1).values.gather(1, (count - 1).clamp(min=0).unsqueeze(1))
    level = torch.where(count > 0, level[:, 0], 0.0)
    masked = hidden & (own <= level.unsqueeze(1)) & (count > 0).unsqueeze(1)
    weight = torch.where(count == cells, 2.0, cells / count.clamp(min=1)).double()
    return MaskDraw(masked, process.schedule.t_of_alpha(1 - level).clamp(0, 1), weight.unsqueeze(1))


@dataclass(frozen=True)
class ComplementaryMasking:
    """The masked bound from complementary pairs: the mean of what a row's two copies cost, nats.

    Args:
        process: A masked process with one schedule for all positions.
        observed: As of `MaskedELBO`.

    Source: Discrete Diffusion in Large Language and Multimodal Models: A Survey (2025).
    """

    process: Masked
    observed: Observed | None = None

    def __call__(
        self, denoiser: Any, x0: Int[Tensor, "n ..."], generator: Noise = None, condition: Any = None
    ) -> Float[Tensor, " n"]:
        """Loss of every row, from two calls of the denoiser; arguments as of `MaskedELBO`."""
        bound = MaskedELBO(self.process)
        shown = draw_observed(self.observed, x0, generator)
        cells = torch.zeros_like(x0, dtype=torch.bool) if shown is None else shown
        pair = complementary(self.process, cells.reshape(len(x0), -1), generator)
        total = torch.zeros(len(x0), device=x0.device)
        for masked, t, weight in zip(pair.masked.chunk(2), pair.t.chunk(2), pair.weight.chunk(2), strict=True):
            draw = MaskDraw(masked.reshape(x0.shape), t, weight.reshape(-1, *(1,) * (x0.ndim - 1)))
            total = total + 0.5 * bound.value(denoiser, x0, draw, shown, condition)
        return total


@dataclass(frozen=True, eq=False)
class Given:
    """The same cells of every row are observed, such as the features a label is asked from.

    Args:
        cells: bool, of the shape of a data point; True where a cell is never masked.
    """

    cells: Tensor

    def __call__(self, x0: Tensor, generator: Noise = None) -> Bool[Tensor, "n ..."]:
        """The cells, for each row."""
        return self.cells.to(x0.device).expand(x0.shape)


@dataclass(frozen=True)
class Prompt:
    """Each row is observed up to and with its first separator: only answers are masked.

    Args:
        separator: The token that ends a prompt. A row without one is answer from its beginning.
    """

    separator: int

    def __call__(self, x0: Int[Tensor, "n l"], generator: Noise = None) -> Bool[Tensor, "n l"]:
        """The prompt of each row."""
        is_separator = x0 == self.separator
        ended = is_separator.cumsum(1) - is_separator.long() > 0
        return ~ended & is_separator.any(1, keepdim=True)
