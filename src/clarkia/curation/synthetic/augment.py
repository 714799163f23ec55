"""Random changes of images through which gradients flow."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.curation.checks import check_number
from clarkia.random import Noise, rand


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Colour, crop, cutout and flip, drawn once for a whole batch or once a row.

    Applied with one draw to real and synthetic images together, the comparison of the two stays one of like with like.

    Attributes:
        brightness: Range of a shift of all pixels.
        saturation: Range around 1 of the factor of the colours' distance from grey.
        contrast: Range around 1 of the factor of the pixels' distance from their mean.
        crop: Largest shift, as a share of the side; what comes in is zero.
        cutout: Side of a square that is set to zero, as a share of the image's.
        flip: Whether half of the draws are mirrored left to right.

    Source: Differentiable Augmentation for Data-Efficient GAN Training (2020).
    """

    brightness: float = 1.0
    saturation: float = 2.0
    contrast: float = 1.0
    crop: float = 0.125
    cutout: float = 0.5
    flip: bool = False

    def __post_init__(self) -> None:
        check_number(self.brightness, "brightness", low=0)
        check_number(self.saturation, "saturation", low=0, high=2)
        check_number(self.contrast, "contrast", low=0, high=2)
        check_number(self.crop, "crop", low=0, high=1)
        check_number(self.cutout, "cutout", low=0, high=1)

    def __call__(
        self, x: Float[Tensor, "n c h w"], generator: Noise = None, *, by_row: bool = False
    ) -> Float[Tensor, "n c h w"]:
        """The images, changed; the same change for all of them unless ``by_row``.

        Args:
            x: Images.
            generator: Source of the changes.
            by_row: Draw each image's own change.
        """
        rows, side = (len(x) if by_row else 1), x.shape[2:]

        def uniform() -> Tensor:
            return rand((rows, 1, 1, 1), generator).to(x)

        if self.brightness:
            x = x + self.brightness * (uniform() - 0.5)
        if self.saturation:
            grey = x.mean(1, keepdim=True)
            x = grey + (1 + self.saturation * (uniform() - 0.5)) * (x - grey)
        if self.contrast:
            mean = x.mean((1, 2, 3), keepdim=True)
            x = mean + (1 + self.contrast * (uniform() - 0.5)) * (x - mean)
        if self.crop:
            for axis, length in zip((2, 3), side, strict=True):
                most = int(self.crop * length + 0.5)
                x = shifted(x, ((2 * most + 1) * uniform()).long() - most, axis)
        if self.cutout:
            x = x * (self._outside(uniform(), 2, side[0]) | self._outside(uniform(), 3, side[1]))
        if self.flip:
            x = torch.where(uniform() < 0.5, x.flip(3), x)
        return x

    def _outside(self, where: Tensor, axis: int, length: int) -> Tensor:
        """Which positions along an axis lie outside the square."""
        width = int(self.cutout * length + 0.5)
        start = (where * (length + 1 - width % 2)).long() - width // 2
        place = _places(axis, length).to(where.device)
        return (place < start) | (place >= start + width)


def shifted(x: Float[Tensor, "n c h w"], shift: Tensor, axis: int) -> Float[Tensor, "n c h w"]:
    """Images moved by whole pixels along an axis; what comes in is zero."""
    length = x.shape[axis]
    place = _places(axis, length).to(x.device) - shift
    moved = x.take_along_dim(place.clamp(0, length - 1), axis)
    return torch.where((place >= 0) & (place < length), moved, torch.zeros((), dtype=x.dtype, device=x.device))


def _places(axis: int, length: int) -> Tensor:
    """0, 1, ... along one axis of images."""
    return torch.arange(length).reshape((1, 1, -1, 1) if axis == 2 else (1, 1, 1, -1))
