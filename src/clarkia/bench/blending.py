"""Can two captions be blended into one picture, and does it matter by which rule?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from clarkia import samplers
from clarkia.bench.generators import check_captioned
from clarkia.bench.heads import trained_head
from clarkia.bench.sheets import sheet
from clarkia.bench.tables import markdown, percent, rate
from clarkia.codecs.descriptions import CAPTION
from clarkia.codecs.image import to_uint8
from clarkia.datasets.shapes import COLOURS, SHAPES, Judge, parse
from clarkia.guidance import blend
from clarkia.models import image_parts
from clarkia.networks.conditioning import ConditionEmbedding, Embedded
from clarkia.random import RowBlocks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clarkia.models.image import ImageModel

PAIRS = (
    ("a red circle", "a blue circle"),
    ("a green square", "a yellow square"),
    ("a cyan triangle", "a cyan cross"),
    ("a red circle", "a blue square"),
    ("a white triangle", "a magenta cross"),
)
"""Pairs that differ in colour, in shape and in both."""

ROWS = ("black_scholes", "lowest", "volatility", "black_scholes_published", "alternate", "switch", "sum", "interpolate")
"""Rules in the order of the table."""

OUTCOMES = ("both", "first only", "second only", "between", "neither")

LEAST = 1e-3
"""Least similarity: a score is positive."""


@dataclass(frozen=True)
class Blended:
    """What one rule made of all pairs.

    Attributes:
        rule: its name.
        outcomes: pictures of each of `OUTCOMES`: both things are there; one of them; a thing with a colour of the one
            and the shape of the other, or the colour that lies between; none of these.
        things: mean number of things in a picture.
        first: share of the steps that followed the first concept; half where both are followed at once.
        realism: mean of the judge's.
        pictures: the first pictures of each pair, uint8.
    """

    rule: str
    outcomes: dict[str, int]
    things: float
    first: float
    realism: float
    pictures: UInt8[Tensor, "n 3 h w"]

    @property
    def total(self) -> int:
        """Pictures judged."""
        return sum(self.outcomes.values())


@dataclass(frozen=True)
class BlendingReport:
    """All rules, each with the same noise.

    Attributes:
        rules: what each made.
        pairs: of captions.
        same: share of the pictures in which "black_scholes" and "lowest" agree in every point.
    """

    rules: tuple[Blended, ...]
    pairs: tuple[tuple[str, str], ...]
    same: float

    def to_markdown(self) -> str:
        """A line a rule."""
        head = ["rule", *OUTCOMES, "things", "first followed", "realism", "pictures"]
        rows = []
        for one in self.rules:
            cells = [rate(one.outcomes["both"], one.total)]
            cells += [percent(one.outcomes[name] / one.total) for name in OUTCOMES[1:]]
            rows.append([one.rule, *cells, f"{one.things:.2f}", percent(one.first), f"{one.realism:.3f}", one.total])
        pairs = "; ".join(f"{first} + {second}" for first, second in self.pairs)
        lines = [*markdown(head, rows), "", f"Pairs: {pairs}."]
        lines += [f"Pictures of black_scholes and lowest that agree in every point: {percent(self.same)}."]
        return "\n".join(lines) + "\n"

    def plot(self) -> Figure:
        """A row of pictures a rule."""
        return sheet({one.rule: one.pictures for one in self.rules})


def blending(
    model: ImageModel,
    *,
    pairs: Sequence[tuple[str, str]] = PAIRS,
    rules: Sequence[str] = ROWS,
    per_pair: int = 32,
    shown: int = 2,
    guidance_scale: float = 3.0,
    num_steps: int | None = None,
    scorer_steps: int = 1000,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> BlendingReport:
    """Blend pairs of captions by every rule and count what comes out.

    Args:
        model: a fitted model with captions of coloured shapes.
        pairs: of captions of one phrase each.
        rules: names of `guidance.blend_rules.RULES`.
        per_pair: pictures of each pair and rule.
        shown: of these, in the grid.
        guidance_scale: as of `guidance.blend`.
        num_steps: solver steps.
        scorer_steps: steps of training the network that scores forecasts.
        seed: fixes everything; all rules start from the same noise.
        progress: called with the number of pictures done since it was called last.

    Raises:
        DataError: a model without captions, or of other pictures.

    Source: Financial Models in Generative Art: Black-Scholes-Inspired Concept Blending in Text-to-Image Diffusion
    (2024).
    """
    words = {word for pair in pairs for caption in pair for word in caption.split()}
    judge = Judge(check_captioned(model, sorted(words)))  # type: ignore[arg-type]
    presence = trained_head("presence", judge.side, steps=scorer_steps, seed=seed)
    denoiser = mixable(model.denoiser_)
    found, drawn = [], {}
    for rule in rules:
        parts, followed = [], []
        for number, pair in enumerate(pairs):
            x, record = _blended(
                model, denoiser, pair, rule, presence, guidance_scale, num_steps, per_pair, seed + number
            )
            parts.append(x)
            followed.append(torch.stack(record.weights)[..., 0].mean())
            if progress is not None:
                progress(per_pair)
        drawn[rule] = torch.cat(parts)
        found.append(_judged(rule, judge, parts, pairs, float(torch.stack(followed).mean()), shown))
    both = [drawn.get("black_scholes"), drawn.get("lowest")]
    same = float((both[0] == both[1]).flatten(1).all(1).double().mean()) if None not in both else float("nan")
    return BlendingReport(tuple(found), tuple(pairs), same)


def _blended(
    model: ImageModel,
    denoiser: nn.Module,
    pair: tuple[str, str],
    rule: str,
    presence: nn.Module,
    scale: float,
    num_steps: int | None,
    n: int,
    seed: int,
) -> tuple[UInt8[Tensor, "n 3 h w"], Any]:
    """Pictures of a pair by a rule, and what the blend noted."""
    conditions = [model.descriptions_.given({CAPTION: caption}, n) for caption in pair]
    times = image_parts.times(model.process_, num_steps)
    guided = blend(
        denoiser, conditions, rule, scorer=scorer_of(presence, pair), scale=scale, times=times, mix=_mixed
    )  # fmt: skip
    x = samplers.sample(
        guided,
        model.process_,
        num_samples=n,
        shape=model.latent_shape_,
        solver=image_parts.default_solver(),
        times=times,
        generator=RowBlocks(seed, 0, n),
        dtype=torch.float32,
    )
    assert isinstance(x, Tensor)
    return to_uint8(x.clamp(-1, 1)), guided.both


def scorer_of(presence: nn.Module, captions: Sequence[str]) -> Callable[[Tensor], Float[Tensor, "n k"]]:
    """How probable it is that a forecast shows the first phrase of each caption, by a "presence" head."""
    phrases = [parse(caption).first for caption in captions]
    places = [
        [SHAPES.index(phrase.shape) * len(COLOURS) + colour for colour in _colours(phrase.colour)] for phrase in phrases
    ]

    def scores(x0_hat: Tensor) -> Tensor:
        chance = presence(x0_hat.float()).double().sigmoid()
        return torch.stack([chance[:, place].amax(1) for place in places], 1).clamp(LEAST, 1)

    return scores


def _colours(colour: str | None) -> Sequence[int]:
    return range(len(COLOURS)) if colour is None else [COLOURS.index(colour)]


def _judged(
    rule: str, judge: Judge, parts: Sequence[Tensor], pairs: Sequence[tuple[str, str]], first: float, shown: int
) -> Blended:
    counts: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
    things = realism = 0.0
    for pictures, pair in zip(parts, pairs, strict=True):
        scenes = judge(pictures)
        phrases = [parse(caption).first for caption in pair]
        here = [
            torch.from_numpy(scenes.matching(shape=phrase.shape, colour=phrase.colour)).any(1) for phrase in phrases
        ]
        shapes = {SHAPES.index(phrase.shape) for phrase in phrases}
        near = torch.tensor([[code in shapes for code in row] for row in scenes.shape.tolist()]).any(1)
        one, two = here
        verdicts = (one & two, one & ~two, two & ~one, ~one & ~two & near, ~one & ~two & ~near)
        for name, verdict in zip(OUTCOMES, verdicts, strict=True):
            counts[name] += int(verdict.sum())
        things += float(scenes.present.sum(1).mean()) / len(pairs)
        realism += float(judge.realism(pictures).mean()) / len(pairs)
    return Blended(rule, counts, things, first, realism, torch.cat([part[:shown] for part in parts]))


# ------------------------------------------------------------------------------------- conditions that are averaged


class _Mixing(nn.Module):
    """A condition embedding that also averages the embeddings of several conditions."""

    def __init__(self, embedding: ConditionEmbedding) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, condition: Any, rows: int) -> Embedded:
        if condition is None or "parts" not in condition:
            return self.embedding(condition, rows)
        parts = [self.embedding(part, rows) for part in condition["parts"]]
        shares = condition["weights"].to(parts[0].vector.dtype).unbind(1)
        vector = sum(share[:, None] * part.vector for share, part in zip(shares, parts, strict=True))
        tokens = sum(share[:, None, None] * part.tokens for share, part in zip(shares, parts, strict=True))
        masks = [part.mask for part in parts if part.mask is not None]
        return Embedded(vector, tokens, torch.stack(masks).any(0) if masks else None)  # type: ignore[arg-type]


def mixable(denoiser: nn.Module) -> nn.Module:
    """A copy of a denoiser that takes a mix of captions as a condition, ``{"parts": ..., "weights": (n, K)}``."""
    copy = deepcopy(denoiser)
    for module in list(copy.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ConditionEmbedding):
                setattr(module, name, _Mixing(child))
    return copy


def _mixed(conditions: Sequence[Any], weights: Tensor) -> dict[str, Any]:
    return {"parts": list(conditions), "weights": weights}
