"""Small networks that look at forecasts: what things are there, what colour and what shape a thing has.

They are trained in the benchmark, on scenes drawn on the spot and blurred and speckled as forecasts are. The judge is
another: exact, and never trained.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from clarkia import training
from clarkia.codecs.image import to_float
from clarkia.datasets.shapes import COLOURS, SHAPES, ColouredShapes
from clarkia.datasets.shapes.scenes import GROUND, Scenes, Side
from clarkia.guidance.filters import lowpass
from clarkia.random import Noise, rand, randn

Kind: TypeAlias = Literal["presence", "colour", "shape"]

OUTPUTS = {"presence": len(SHAPES) * len(COLOURS), "colour": len(COLOURS), "shape": len(SHAPES)}
"""Answers of each kind; a presence is that of a shape in a colour, ``shape * 8 + colour``."""

RARE = -8.0
"""Logit of a presence at a place before training: most things are nowhere."""

EXAMPLES = 20_000
BLURS = (0.5, 1.0, 2.0)
"""Widths in points of the blurs that training pictures are seen through, beside none."""


class Head(nn.Module):
    """Logits of a picture: convolutions, and the largest of each answer over the places, smoothly.

    Args:
        outputs: number of answers.
        width: channels of the first layer.
    """

    def __init__(self, outputs: int, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        # (from, to, kernel, stride): three layers at half the resolution, where shapes differ, then two at a quarter.
        for before, after, kernel, stride in (
            *((3, width, 5, 2), (width, width, 3, 1), (width, width, 3, 1)),
            *((width, 2 * width, 3, 2), (2 * width, 2 * width, 3, 1)),
        ):
            convolution = nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2)
            layers += [convolution, nn.GroupNorm(8, after), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.Conv2d(2 * width, outputs, 1))

    def forward(self, pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        """Logits ``(n, k)`` of pictures from -1 to 1."""
        return self.body(pictures - float(GROUND)).flatten(2).logsumexp(2)


def trained_head(
    kind: Kind, side: Side, *, steps: int = 1000, seed: int = 0, examples: int = EXAMPLES,
    progress: bool | Callable[..., None] = False,
) -> Head:  # fmt: skip
    """Train a head, about a minute on one core.

    Args:
        kind: "presence", of scenes of any number of things; "colour" or "shape", of scenes of one thing.
        side: of the pictures.
        steps: of 64 pictures.
        seed: fixes the scenes and everything else.
        examples: scenes to train on.
        progress: as of `training.fit`.
    """
    levels = ("colour", "binding", "count") if kind == "presence" else ("colour",)
    parts = [ColouredShapes(side, level, seed=seed + 1000) for level in levels]
    share = examples // len(parts)
    pictures = torch.cat([part.images(range(share)) for part in parts])
    answers = torch.cat([torch.from_numpy(_answers(part.scenes(range(share)), kind)) for part in parts])
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        head = Head(OUTPUTS[kind])
        if kind == "presence":
            nn.init.constant_(head.body[-1].bias, RARE)  # type: ignore[arg-type]
    options = training.TrainingOptions(
        batch_size=64, learning_rate=3e-3, max_steps=steps, warmup_steps=20, ema_decay=0.99, seed=seed
    )
    training.fit(
        head, partial(_loss, kind), {"picture": pictures, "answer": answers}, options=options, progress=progress
    )
    return head.requires_grad_(False)


def _loss(kind: Kind, head: nn.Module, batch: Any, generator: Noise) -> Float[Tensor, " n"]:
    """Cross-entropy on pictures as forecasts look."""
    logits = head(soiled(to_float(batch["picture"]), generator))
    if kind == "presence":
        return F.binary_cross_entropy_with_logits(logits, batch["answer"].float(), reduction="none").sum(1)
    return F.cross_entropy(logits, batch["answer"], reduction="none")


def soiled(pictures: Float[Tensor, "n 3 h w"], generator: Noise = None) -> Float[Tensor, "n 3 h w"]:
    """Pictures as forecasts look: each blurred by one of `BLURS` or none, then speckled by up to 0.1."""
    n, device = len(pictures), pictures.device
    which = (rand((n,), generator, device=device) * (1 + len(BLURS))).long()
    for number, sigma in enumerate(BLURS, 1):
        pictures = torch.where((which == number)[:, None, None, None], lowpass(sigma)(pictures), pictures)
    level = 0.1 * rand((n, 1, 1, 1), generator, device=device).to(pictures.dtype)
    return pictures + level * randn(pictures.shape, generator, dtype=pictures.dtype, device=device)


def _answers(scenes: Scenes, kind: Kind) -> np.ndarray:
    if kind != "presence":
        return (scenes.colour if kind == "colour" else scenes.shape)[:, 0]
    pair = np.where(scenes.present, scenes.shape * len(COLOURS) + scenes.colour, -1)
    return (pair[:, :, None] == np.arange(OUTPUTS["presence"])).any(1)
