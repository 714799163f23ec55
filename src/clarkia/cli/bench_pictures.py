"""Benchmarks that change what is drawn: captions mixed, structure kept, a part of a picture changed."""

from typing import TYPE_CHECKING

from ..errors import DataError
from .terminal import Counter

if TYPE_CHECKING:
    from ..bench.blending import BlendingReport
    from ..bench.editing import EditingReport
    from ..bench.filtering import FilteringReport
    from ..models.image import ImageModel


def blend(
    fitted: "ImageModel", texts: list[str], number: int, guidance: float, num_steps: int | None, seed: int
) -> "BlendingReport":
    """Two captions in one picture, by every rule of which to follow when; `number` pictures of each pair and rule."""
    from ..bench.blending import PAIRS, ROWS, blending

    pairs = tuple(_pair(text) for text in texts) or PAIRS
    with Counter("blending", number * len(pairs) * len(ROWS), "picture") as counter:
        return blending(
            fitted,
            pairs=pairs,
            per_pair=number,
            guidance_scale=guidance,
            num_steps=num_steps,
            seed=seed,
            progress=counter.add,
        )


def keep(fitted: "ImageModel", number: int, guidance: float, num_steps: int | None, seed: int) -> "FilteringReport":
    """Structure from a picture and colour from a caption, with and without a filter on the picture."""
    from ..bench.filtering import CUES, filtering

    with Counter("sampling", number * len(CUES), "picture") as counter:
        return filtering(
            fitted, n=number, guidance_scale=guidance, num_steps=num_steps, seed=seed, progress=counter.add
        )


def edit(fitted: "ImageModel", number: int, guidance: float, num_steps: int | None, seed: int) -> "EditingReport":
    """The thing in a box made a blue triangle by two small networks, the rest as it was."""
    from ..bench.editing import SETTINGS, STEPS, editing

    with Counter("changing", number * len(SETTINGS), "picture") as counter:
        return editing(
            fitted,
            n=number,
            guidance_scale=guidance,
            num_steps=num_steps or STEPS,
            seed=seed,
            progress=counter.add,
        )


def _pair(text: str) -> tuple[str, str]:
    from ..datasets.shapes import parse

    first, plus, second = (part.strip() for part in text.partition("+"))
    if not plus:
        raise DataError(f"--pair {text!r} should have the form 'a red circle + a blue circle'")
    for caption in (first, second):
        if parse(caption).second is not None:
            raise DataError(f"--pair: {caption!r} has two phrases; give captions of one")
    return first, second
