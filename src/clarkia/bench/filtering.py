"""Structure from a picture, colour from a caption: does a filter on the picture decide whose colour it is?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from clarkia import samplers
from clarkia.bench.generators import check_captioned
from clarkia.bench.sheets import sheet
from clarkia.bench.tables import markdown, percent, rate
from clarkia.codecs.descriptions import CAPTION
from clarkia.codecs.image import to_float, to_uint8
from clarkia.datasets.shapes import COLOURS, ColouredShapes, Judge
from clarkia.datasets.shapes.grammar import SHAPES, Phrase
from clarkia.guidance import classifier_free, filters, lowband
from clarkia.models import image_parts
from clarkia.random import RowBlocks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clarkia.models.image import ImageModel

NEAR = 2.0
"""Points within which a thing stands where the structure's does."""

CUES: dict[str, tuple[filters.Filter | None, filters.Filter | None] | None] = {
    "no structure": None,
    "unfiltered": (None, None),
    "grayscale": (filters.grayscale, None),
    "brightness alone": (None, filters.luma),
}
"""Settings: what the structure's picture goes through, and the projection that is held beside the low band."""


@dataclass(frozen=True, eq=False)
class Transferred:
    """What came out under one setting.

    Attributes:
        name: of the setting.
        cue: colours of the structure's things, index into `COLOURS`, ``(n,)``.
        asked: colours that the captions ask for, ``(n,)``.
        seen: colours of the thing that stands where the structure's does, -1 for none, ``(n,)``.
        shaped: whether it has the shape, ``(n,)``.
        pictures: the first of them.
    """

    name: str
    cue: NDArray[np.int64]
    asked: NDArray[np.int64]
    seen: NDArray[np.int64]
    shaped: NDArray[np.bool_]
    pictures: UInt8[Tensor, "n 3 h w"]

    def confusion(self, column: str) -> NDArray[np.int64]:
        """Pictures by colour of the "cue" or "asked" for (rows) and colour seen (columns, none last)."""
        table = np.zeros((len(COLOURS), len(COLOURS) + 1), np.int64)
        np.add.at(table, (getattr(self, column), self.seen), 1)
        return table


@dataclass(frozen=True, eq=False)
class FilteringReport:
    """All settings, from the same noise.

    Attributes:
        settings: what each gave.
        cues: the structures' pictures that belong to the ones shown.
    """

    settings: tuple[Transferred, ...]
    cues: UInt8[Tensor, "n 3 h w"]

    def to_markdown(self) -> str:
        """A line a setting, then whose colour was taken, setting by setting."""
        rows = []
        for one in self.settings:
            n, there = len(one.seen), one.seen >= 0
            cells = [rate(int((one.seen == one.cue).sum()), n), rate(int((one.seen == one.asked).sum()), n)]
            other = there & (one.seen != one.cue) & (one.seen != one.asked)
            cells += [percent(float(other.mean())), percent(float(there.mean()))]
            rows.append([one.name, *cells, percent(float((there & one.shaped).mean())), n])
        head = [
            "structure's picture",
            "its colour",
            "the caption's colour",
            "another",
            "in its place",
            "of its shape",
            "n",
        ]
        lines = markdown(head, rows)
        for one in self.settings[1:]:
            for column, words in (("cue", "structure's colour"), ("asked", "caption's colour")):
                table = [[COLOURS[row], *cells] for row, cells in enumerate(one.confusion(column))]
                lines += ["", f"{one.name}, by {words}:", "", *markdown([words, *COLOURS, "none"], table)]
        return "\n".join(lines) + "\n"

    def plot(self) -> Figure:
        """The structures, and a row of pictures a setting."""
        return sheet({"structure": self.cues, **{one.name: one.pictures for one in self.settings}})


def filtering(
    model: ImageModel,
    *,
    n: int = 128,
    cutoff: float = 6.0,
    until: float = 0.5,
    shown: int = 12,
    guidance_scale: float = 1.0,
    num_steps: int | None = None,
    settings: Sequence[str] = tuple(CUES),
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> FilteringReport:
    """Hold the low band of pictures of one thing, and ask by caption for the same shape in another colour.

    Args:
        model: a fitted model with captions of coloured shapes.
        n: pictures a setting.
        cutoff: periods a side of the band that is held.
        until: share of the time axis in which it is.
        shown: pictures of each setting in the grid.
        guidance_scale: of classifier-free guidance towards the caption.
        num_steps: solver steps.
        settings: names of `CUES`.
        seed: fixes everything.
        progress: called with the number of pictures done since it was called last.

    Raises:
        DataError: a model without captions, or of other pictures.

    Source: FilterPrompt: Guiding Image Transfer in Diffusion Models (2024).
    """
    judge = Judge(check_captioned(model, [*SHAPES, *COLOURS]))  # type: ignore[arg-type]
    data = ColouredShapes(judge.side, "colour", seed=seed + 500)
    scenes, cues = data.scenes(range(n)), data.images(range(n))
    cue, shape = scenes.colour[:, 0], scenes.shape[:, 0]
    asked = (cue + 1 + np.arange(n) % (len(COLOURS) - 1)) % len(COLOURS)
    captions = [str(Phrase(1, SHAPES[s], COLOURS[c])) for s, c in zip(shape, asked, strict=True)]
    condition = model.descriptions_.given({CAPTION: captions}, n)
    captioned = classifier_free(model.denoiser_, guidance_scale) if guidance_scale else model.denoiser_
    found = []
    for name in settings:
        choice, denoiser = CUES[name], captioned
        if choice is not None:
            structure = to_float(cues) if choice[0] is None else choice[0](to_float(cues))
            denoiser = lowband(captioned, structure, cutoff, until, through=choice[1])
        x = samplers.sample(
            denoiser,
            model.process_,
            num_samples=n,
            shape=model.latent_shape_,
            solver=samplers.Euler(),  # a forecast that is held jumps when it is let go, which a multistep solver smears
            times=image_parts.times(model.process_, num_steps),
            condition=condition,
            generator=RowBlocks(seed, 0, n),
            dtype=torch.float32,
        )
        assert isinstance(x, Tensor)
        pictures = to_uint8(x.clamp(-1, 1))
        judged = judge(pictures)
        away = np.hypot(judged.x - scenes.x[:, :1], judged.y - scenes.y[:, :1])
        away = np.where(judged.present, away, np.inf)
        nearest, rows = away.argmin(1), np.arange(n)
        there = away[rows, nearest] <= NEAR
        seen = np.where(there, judged.colour[rows, nearest], -1)
        found.append(Transferred(name, cue, asked, seen, judged.shape[rows, nearest] == shape, pictures[:shown]))
        if progress is not None:
            progress(n)
    return FilteringReport(tuple(found), cues[:shown])
