"""What a benchmark of pictures draws with: a model, plain, guided, the best of several, or steered by a judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from clarkia.codecs.descriptions import CAPTION
from clarkia.codecs.image import to_uint8
from clarkia.datasets.shapes import Judge
from clarkia.datasets.shapes.scenes import RADII, Scenes
from clarkia.datasets.shapes.vocabulary import COLOUR, COUNT, SHAPE, SIZE, claims
from clarkia.errors import DataError

if TYPE_CHECKING:
    from clarkia.models.image import ImageModel

Draw: TypeAlias = Callable[[Sequence[str], int], UInt8[Tensor, "n 3 side side"]]
"""``draw(captions, seed) -> pictures``: one for each caption, uint8."""

Reward: TypeAlias = Callable[[Any, Sequence[str]], Float[Tensor, " n"]]
"""``reward(pictures, captions) -> (n,)``: pictures uint8, or floating from -1 to 1; larger is better."""

PARTICLES = 128
"""Particles that are steered together."""


def check_captioned(model: Any, words: Sequence[str] = ()) -> int:
    """Find out whether a model can be asked for coloured shapes.

    Args:
        model: a fitted model.
        words: words that it must know.

    Returns:
        The side of its pictures in points.

    Raises:
        DataError: it is no model of pictures, was trained without captions, on pictures of another kind, or lacks a
            word.
    """
    if not hasattr(model, "descriptions_"):
        raise DataError(f"expected a model of pictures with captions, found a {type(model).__name__}")
    known = set(model.descriptions_.words)
    if not known:
        raise DataError("the model was trained without captions; fit one with captions.csv beside the pictures")
    codec = model.codec_
    if codec.mode != "RGB" or codec.size not in RADII:
        found = f"{codec.size} points of mode {codec.mode}"
        raise DataError(f"the judge sees colour pictures of 32 or 64 points, and the model draws {found}")
    missing = sorted(set(words) - known)
    if missing:
        raise DataError(f"no caption in training had the word {missing[0]!r}; fit the model on coloured shapes")
    return codec.size


def drawn_by(model: ImageModel, *, guidance_scale: float = 0.0, num_steps: int | None = None) -> Draw:
    """A model's own samples of captions.

    Args:
        model: a fitted model with captions.
        guidance_scale: of classifier-free guidance, 0 for none.
        num_steps: solver steps.
    """

    def draw(captions: Sequence[str], seed: int) -> Tensor:
        given = {CAPTION: list(captions)}
        pictures = model.sample(
            len(captions), given=given, seed=seed, guidance_scale=guidance_scale, num_steps=num_steps
        )
        return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()

    return draw


def best_of(draw: Draw, k: int, reward: Reward) -> Draw:
    """The best of k pictures of each caption, the first of equal ones.

    Args:
        draw: what draws them.
        k: how many.
        reward: what is best.
    """
    if k < 1:
        raise ValueError(f"k: expected at least 1, found {k}.")

    def chosen(captions: Sequence[str], seed: int) -> Tensor:
        many = [caption for caption in captions for _ in range(k)]
        pictures = draw(many, seed)
        score = reward(pictures, many).reshape(len(captions), k)
        return pictures[torch.arange(len(captions)) * k + score.argmax(1)]

    return chosen


def steered(
    model: ImageModel,
    k: int,
    reward: Reward,
    *,
    scale: float = 5.0,
    guidance_scale: float = 0.0,
    num_steps: int | None = None,
) -> Draw:
    """The best of k particles of each caption that are steered by a reward along the way.

    Args:
        model: a fitted model with captions.
        k: particles a caption.
        reward: what they are steered towards.
        scale: how much it counts, in nats a unit.
        guidance_scale: of the classifier-free guidance that the particles follow besides; 0 for none.
        num_steps: solver steps.

    Source: A General Framework for Inference-time Scaling and Steering of Diffusion Models (2025).
    """
    from clarkia import steering
    from clarkia.guidance import classifier_free
    from clarkia.models import image_parts
    from clarkia.random import generator

    denoiser = classifier_free(model.denoiser_, guidance_scale) if guidance_scale else model.denoiser_
    device = next(model.denoiser_.parameters()).device
    together = max(1, PARTICLES // k)

    def some(captions: Sequence[str], seed: int, number: int) -> Tensor:
        many = [caption for caption in captions for _ in range(k)]
        condition = model.descriptions_.given({CAPTION: many}, len(many))
        assert condition is not None

        def value(x0: Any) -> Tensor:
            return reward(x0.float().clamp(-1, 1), many)

        particles = steering.run(
            denoiser,
            model.process_,
            steering.Rewarded(value, scale),
            num_particles=k,
            groups=len(captions),
            condition={name: part.to(device) for name, part in condition.items()},
            shape=model.latent_shape_,
            times=image_parts.times(model.process_, num_steps),
            generator=generator(seed, number),
            dtype=torch.float32,
            device=device,
        )
        best = particles.chosen(value)
        assert isinstance(best, Tensor)
        return to_uint8(best.clamp(-1, 1)).cpu()

    def draw(captions: Sequence[str], seed: int) -> Tensor:
        starts = range(0, len(captions), together)
        return torch.cat([some(captions[start : start + together], seed, start) for start in starts])

    return draw


def seen(scenes: Scenes, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
    """How many things a caption asks for, and how many of them a scene shows, int64 ``(n,)`` each.

    Of a caption of two phrases the first counts.
    """
    said = claims(captions).phrases[:, 0]
    like = scenes.present
    for place, codes in ((SIZE, scenes.size), (COLOUR, scenes.colour), (SHAPE, scenes.shape)):
        like = like & ((said[:, place, None] < 0) | (codes == said[:, place, None]))
    return torch.from_numpy(said[:, COUNT].copy()), torch.from_numpy(like.sum(1))


def miscount(judge: Judge) -> Reward:
    """The reward of a right number: minus how many things too many or too few there are."""

    def reward(pictures: Any, captions: Sequence[str]) -> Tensor:
        asked, found = seen(judge(pictures), captions)
        return -(asked - found).abs().double()

    return reward
