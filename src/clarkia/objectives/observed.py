"""Which elements of a row are shown to the denoiser as they are, so that it learns to fill in all others.

An objective's ``observed`` is any function ``(x0, generator) -> bool`` of the shape of ``x0`` (or broadcastable to it),
True where an element is shown; these are the common ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Bool
from torch import Tensor

from clarkia.random import Noise, rand

Observed: TypeAlias = Callable[[Tensor, Noise], Tensor]
Span: TypeAlias = Literal["prefix", "suffix", "infill"]


@dataclass(frozen=True)
class RandomElements:
    """In a share of the rows, each element is shown with the row's own probability, uniform in [0, 1].

    Args:
        probability: Share of the rows that show anything.

    Source: All-in-one Simulation-based Inference (2024).
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        _check_probability(self.probability)

    def __call__(self, x0: Tensor, generator: Noise = None) -> Bool[Tensor, "n ..."]:
        """Draw what is shown of each row."""
        share = _shown(x0, self.probability, generator)
        share = share.reshape(-1, *(1,) * (x0.ndim - 1))
        return rand(x0.shape, generator, device=x0.device) < share


@dataclass(frozen=True)
class RandomSpans:
    """In a share of the rows of sequences ``(n, L)`` a span is shown, or all but a span.

    Args:
        kinds: What a row may be asked, drawn for each row: ``"prefix"`` shows its beginning, ``"suffix"`` its end,
            ``"infill"`` both, hiding a span between two uniform positions. Lengths of the others are uniform.
        probability: Share of the rows that show anything.
    """

    kinds: tuple[Span, ...] = ("prefix", "suffix", "infill")
    probability: float = 0.5

    def __post_init__(self) -> None:
        _check_probability(self.probability)
        if not self.kinds or not set(self.kinds) <= set(get_args(Span)):
            raise ValueError(f"kinds: expected some of {list(get_args(Span))}, found {self.kinds}.")

    def __call__(self, x0: Tensor, generator: Noise = None) -> Bool[Tensor, "n l"]:
        """Draw what is shown of each row; at least one position is hidden."""
        if x0.ndim != 2:
            raise ValueError(f"x0: expected sequences (n, L) to take spans of, found shape {tuple(x0.shape)}.")
        n, length = x0.shape
        position = torch.arange(length, device=x0.device)
        # The hidden span [first, last) in each of the three kinds.
        cuts = (rand((n, 2), generator, device=x0.device) * length).long()
        one, low, high = cuts[:, :1], cuts.amin(1, keepdim=True), cuts.amax(1, keepdim=True) + 1
        firsts = {"prefix": one, "suffix": torch.zeros_like(one), "infill": low}
        lasts = {"prefix": torch.full_like(one, length), "suffix": one + 1, "infill": high}
        kind = (rand((n, 1), generator, device=x0.device) * len(self.kinds)).long().clamp(max=len(self.kinds) - 1)
        first, last = (torch.cat([ends[name] for name in self.kinds], 1).gather(1, kind) for ends in (firsts, lasts))
        asked = rand((n, 1), generator, device=x0.device) < self.probability
        return asked & ((position < first) | (position >= last))


@dataclass(frozen=True)
class RandomBoxes:
    """In a share of the rows of images ``(n, C, H, W)`` a box of all channels is hidden, or all but a box.

    Either side of the box is, with even chances, that of the image or a uniform span, so that halves and bands are as
    common as holes. Half of these rows hide the box, the others what is around it.

    Args:
        probability: Share of the rows that show anything, but for those whose box is the whole image.
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        _check_probability(self.probability)

    def __call__(self, x0: Tensor, generator: Noise = None) -> Bool[Tensor, "n 1 h w"]:
        """Draw what is shown of each row; at least one pixel is hidden."""
        if x0.ndim != 4:
            raise ValueError(f"x0: expected images (n, C, H, W), found shape {tuple(x0.shape)}.")
        inside = [self._span(len(x0), size, generator, x0.device) for size in x0.shape[2:]]
        box = inside[0].unsqueeze(2) & inside[1].unsqueeze(1)
        asked, around = rand((len(x0), 2, 1, 1), generator, device=x0.device).unbind(1)
        shown = torch.where((around < 0.5) & ~box.all((1, 2), keepdim=True), box, ~box)
        return ((asked < self.probability) & shown).unsqueeze(1)

    @staticmethod
    def _span(n: int, size: int, generator: Noise, device: torch.device) -> Bool[Tensor, "n size"]:
        whole, *ends = rand((n, 3), generator, device=device).unbind(1)
        low, high = (torch.stack(ends, 1) * size).long().sort(1).values.split(1, 1)
        position = torch.arange(size, device=device)
        return (whole < 0.5).unsqueeze(1) | ((position >= low) & (position <= high))


def draw_observed(observed: Observed | None, x0: Tensor, generator: Noise = None) -> Bool[Tensor, "n ..."] | None:
    """What is shown of each row, of the shape of ``x0``; None where nothing ever is."""
    if observed is None:
        return None
    shown = observed(x0, generator)
    if shown.dtype != torch.bool:
        raise ValueError(f"observed: expected a function that returns bool, found {shown.dtype}.")
    return shown.expand(x0.shape)


def _shown(x0: Tensor, probability: float, generator: Noise) -> Tensor:
    asked = rand((len(x0),), generator, device=x0.device) < probability
    return torch.where(asked, rand((len(x0),), generator, device=x0.device), 0.0)


def _check_probability(probability: float) -> None:
    if not 0 <= probability <= 1:
        raise ValueError(f"probability: expected a number from 0 to 1, found {probability}.")
