"""Make the thing in this box a blue triangle: two networks guide a region, and the rest must stay as it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy.typing import NDArray
from torch import Tensor, nn

from clarkia import samplers
from clarkia.bench.generators import check_captioned
from clarkia.bench.heads import trained_head
from clarkia.bench.sheets import sheet
from clarkia.bench.tables import markdown, percent, rate
from clarkia.codecs.descriptions import CAPTION
from clarkia.codecs.image import to_float, to_uint8
from clarkia.datasets.shapes import COLOURS, SHAPES, ColouredShapes, Judge
from clarkia.datasets.shapes.geometry import CIRCUMRADII
from clarkia.datasets.shapes.grammar import Phrase
from clarkia.datasets.shapes.scenes import GROUND, Scenes, Side
from clarkia.guidance import Term, classifier_free, composite
from clarkia.guidance.composite import Pull, cross_entropy
from clarkia.random import generator
from clarkia.samplers.region import started

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clarkia.models.image import ImageModel

SETTINGS = ("nothing", "colour alone", "shape alone", "both", "caption", "both and caption")
"""What guides: no network, one, both, the caption of the scene as it should be, or all."""

STEPS = 40
"""Solver steps where none are asked for; each of a guided run is a pass forth and one back a network."""

CLOSE = 0.5
"""Points within which a thing that was not to be changed still stands where it did."""

MARGIN = 1.0
"""Points of a box beyond the largest shape of the thing's radius."""


class Task(NamedTuple):
    """Scenes of two things, and a box around the one to be changed.

    Attributes:
        scenes: n of them; the thing to be changed is the first.
        pictures: uint8 ``(n, 3, h, w)``.
        box: bool ``(n, 1, h, w)``.
        colour: what it is to become, index into `COLOURS`, ``(n,)``.
        shape: index into `SHAPES`, ``(n,)``.
    """

    scenes: Scenes
    pictures: UInt8[Tensor, "n 3 h w"]
    box: Bool[Tensor, "n 1 h w"]
    colour: NDArray[np.int64]
    shape: NDArray[np.int64]

    def captions(self) -> list[str]:
        """The scenes as they should be."""
        new = [Phrase(1, SHAPES[s], COLOURS[c]) for s, c in zip(self.shape, self.colour, strict=True)]
        old = zip(self.scenes.shape[:, 1], self.scenes.colour[:, 1], strict=True)
        return [f"{one} and {Phrase(1, SHAPES[s], COLOURS[c])}" for one, (s, c) in zip(new, old, strict=True)]


@dataclass(frozen=True, eq=False)
class Edited:
    """What came out under one setting.

    Attributes:
        name: of the setting.
        colour: whether the box holds one thing and it has the colour, ``(n,)``.
        shape: whether it has the shape, ``(n,)``.
        others: whether all other things are as they were, ``(n,)``.
        outside: largest change of a point outside the boxes, in bytes.
        cosine: mean cosine between the two networks' gradients; NaN where there are not two.
        pictures: the first of them.
    """

    name: str
    colour: NDArray[np.bool_]
    shape: NDArray[np.bool_]
    others: NDArray[np.bool_]
    outside: int
    cosine: float
    pictures: UInt8[Tensor, "n 3 h w"]


@dataclass(frozen=True, eq=False)
class EditingReport:
    """All settings, from the same noise.

    Attributes:
        settings: what each gave.
        before: the pictures as they were.
    """

    settings: tuple[Edited, ...]
    before: UInt8[Tensor, "n 3 h w"]

    def to_markdown(self) -> str:
        """A line a setting."""
        rows = []
        for one in self.settings:
            n, both = len(one.colour), one.colour & one.shape
            cells = [rate(int(both.sum()), n), percent(float(one.colour.mean())), percent(float(one.shape.mean()))]
            cells += [rate(int(one.others.sum()), n), one.outside]
            rows.append([one.name, *cells, "–" if one.cosine != one.cosine else f"{one.cosine:+.2f}", n])
        head = [
            "guided by",
            "both right",
            "colour",
            "shape",
            "others unchanged",
            "largest change outside",
            "cosine",
            "n",
        ]
        return "\n".join(markdown(head, rows)) + "\n"

    def plot(self) -> Figure:
        """The pictures as they were, and a row a setting."""
        return sheet({"before": self.before, **{one.name: one.pictures for one in self.settings}})


def editing(
    model: ImageModel,
    *,
    colour: str | None = "blue",
    shape: str | None = "triangle",
    n: int = 64,
    strength: float = 0.98,
    weights: tuple[float, float] = (0.5, 0.5),
    window: tuple[float, float] = (0.3, 0.95),
    guidance_scale: float = 1.0,
    num_steps: int = STEPS,
    head_steps: int = 1000,
    shown: int = 12,
    settings: Sequence[str] = SETTINGS,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> EditingReport:
    """Change colour and shape of the thing in a box by the losses of two small networks.

    The networks see the box on plain ground. Their gradients have the norm of the predicted noise times their weight.

    Args:
        model: a fitted model with captions of coloured shapes.
        colour: what the thing is to become; None for another one in each picture.
        shape: likewise.
        n: pictures a setting.
        strength: time to which the reference is noised.
        weights: of colour and shape.
        window: times within which the networks act.
        guidance_scale: towards the caption, where there is one.
        num_steps: solver steps.
        head_steps: steps of training each network.
        shown: pictures of each setting in the grid.
        settings: names of `SETTINGS`.
        seed: fixes everything.
        progress: called with the number of pictures done since it was called last.

    Raises:
        DataError: a model without captions, or of other pictures.

    Source: LDFaceNet: Latent Diffusion-based Network for High-Fidelity Deepfake Generation (2024), its mechanism alone.
    """
    judge = Judge(check_captioned(model, [*SHAPES, *COLOURS, "and"]))  # type: ignore[arg-type]
    task = tasks(judge.side, n, colour=colour, shape=shape, seed=seed + 700)
    heads = [trained_head(kind, judge.side, steps=head_steps, seed=seed) for kind in ("colour", "shape")]
    wanted = [torch.from_numpy(part) for part in (task.colour, task.shape)]
    terms = [
        Term(cross_entropy(boxed(head, task.box)), target, weight=weight, window=window, normalise="match_eps")
        for head, target, weight in zip(heads, wanted, weights, strict=True)
    ]
    chosen = {"colour alone": terms[:1], "shape alone": terms[1:], "both": terms, "both and caption": terms}
    found = []
    for name in settings:
        caption = task.captions() if "caption" in name else None
        pictures, cosine = _edited(
            model, task, chosen.get(name, []), caption, strength, guidance_scale, num_steps, seed
        )
        found.append(_judged(name, judge, task, pictures, cosine, shown))
        if progress is not None:
            progress(n)
    return EditingReport(tuple(found), task.pictures[:shown])


def _edited(
    model: ImageModel,
    task: Task,
    terms: Sequence[Term],
    captions: list[str] | None,
    strength: float,
    guidance_scale: float,
    num_steps: int,
    seed: int,
) -> tuple[UInt8[Tensor, "n 3 h w"], float]:
    """The pictures with their boxes changed, and the mean cosine of the terms."""
    reference = to_float(task.pictures)
    initial, times = started(model.process_, reference, strength, num_steps=num_steps, generator=generator(seed))
    condition = None if captions is None else model.descriptions_.given({CAPTION: captions}, len(captions))
    denoiser = model.denoiser_ if captions is None else classifier_free(model.denoiser_, guidance_scale)
    pulls: list[Pull] = []
    # Without a network to follow the mechanism is the same, with a term that weighs nothing.
    some = list(terms) or [Term(lambda x0: x0.flatten(1).sum(1), weight=0.0)]
    guided = composite(denoiser, model.process_, some, region=task.box, reference=reference, listen=pulls.append)
    x = samplers.sample(
        guided, model.process_, initial=initial, times=times, solver=samplers.DDIM(0.0), condition=condition
    )  # fmt: skip
    assert isinstance(x, Tensor)
    cosines = [float(pull.cosines[:, 0, 1].mean()) for pull in pulls if pull.cosines.shape[1] > 1]
    return to_uint8(x.clamp(-1, 1)), float(np.mean(cosines)) if cosines else float("nan")


def boxed(head: nn.Module, box: Bool[Tensor, "n 1 h w"]) -> Callable[[Tensor], Float[Tensor, "n k"]]:
    """A head that sees what is in the boxes, on plain ground."""
    return lambda x0: head(torch.where(box, x0.float(), float(GROUND)))


def tasks(side: Side, n: int, *, colour: str | None, shape: str | None, seed: int = 0) -> Task:
    """Scenes of two things in which a box around the first holds no point of the second.

    Args:
        side: of the pictures.
        n: how many.
        colour: what the first is to become; None for another colour, in turn.
        shape: likewise.
        seed: fixes the scenes.
    """
    data = ColouredShapes(side, "binding", seed=seed)
    rows = np.arange(200 + 20 * n)  # about one scene in five will do
    many = data.scenes(rows)
    half = many.radius[:, 0] * CIRCUMRADII.max() + MARGIN
    gap = np.maximum(np.abs(many.x[:, 0] - many.x[:, 1]), np.abs(many.y[:, 0] - many.y[:, 1]))
    apart = gap > half + many.radius[:, 1] * CIRCUMRADII[many.shape[:, 1]] + 1
    target_colour = (many.colour[:, 0] + 1 + rows % (len(COLOURS) - 1)) % len(COLOURS)
    target_shape = (many.shape[:, 0] + 1 + rows % (len(SHAPES) - 1)) % len(SHAPES)
    target_colour = target_colour if colour is None else np.full(len(rows), COLOURS.index(colour))
    target_shape = target_shape if shape is None else np.full(len(rows), SHAPES.index(shape))
    # A thing that is there already, in the box or beside it, would tell nothing.
    new = (target_colour != many.colour[:, 0]) & (target_shape != many.shape[:, 0])
    new &= (target_colour != many.colour[:, 1]) & (target_shape != many.shape[:, 1])
    kept = np.flatnonzero(apart & new)[:n]
    scenes, half = many.take(kept), half[kept]
    places = np.arange(side) + 0.5
    across = np.abs(places - scenes.x[:, :1]) <= half[:, None]
    down = np.abs(places - scenes.y[:, :1]) <= half[:, None]
    box = torch.from_numpy(down[:, None, :, None] & across[:, None, None, :])
    return Task(scenes, data.images(kept), box, target_colour[kept], target_shape[kept])


def _judged(name: str, judge: Judge, task: Task, pictures: Tensor, cosine: float, shown: int) -> Edited:
    seen, n = judge(pictures), len(pictures)
    column, row = np.clip(seen.x.astype(int), 0, judge.side - 1), np.clip(seen.y.astype(int), 0, judge.side - 1)
    inside = seen.present & task.box[:, 0].numpy()[np.arange(n)[:, None], row, column]
    alone = inside.sum(1) == 1
    thing = inside.argmax(1)
    colour = alone & (seen.colour[np.arange(n), thing] == task.colour)
    shape = alone & (seen.shape[np.arange(n), thing] == task.shape)
    outside = seen.present & ~inside
    other = task.scenes
    same = (seen.shape == other.shape[:, 1:]) & (seen.colour == other.colour[:, 1:]) & (seen.size == other.size[:, 1:])
    same &= np.hypot(seen.x - other.x[:, 1:], seen.y - other.y[:, 1:]) <= CLOSE
    others = (outside.sum(1) == 1) & (outside & same).any(1)
    change = (pictures.int() - task.pictures.int()).abs().masked_fill(task.box, 0)
    return Edited(name, colour, shape, others, int(change.max()), cosine, pictures[:shown])
