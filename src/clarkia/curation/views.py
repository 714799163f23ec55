"""Random views of images that can be made again from a seed: crops, mirrors and boxes of other images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from clarkia import random
from clarkia.curation.checks import check_count, check_number
from clarkia.random import Noise, rand

Boxes = Float64[Tensor, "n 4"]
"""Top, left, height and width of a box, as shares of the image's height and width."""


def crop_boxes(
    count: int,
    scale: tuple[float, float] = (0.08, 1.0),
    generator: Noise = None,
    *,
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Boxes:
    """Random boxes inside the image, of uniform area and log-uniform ratio of width to height.

    Args:
        count: Number of boxes.
        scale: Smallest and largest area, as shares of the image's.
        generator: Source of the boxes.
        ratio: Smallest and largest ratio; a box that would stick out of the image is made narrower.
    """
    low = check_number(scale[0], "scale", low=0, high=1, open=True)
    high = check_number(scale[1], "scale", low=low, high=1)
    area, form, top, left = rand((4, count), generator)
    area = low + (high - low) * area
    form = torch.exp(torch.lerp(torch.tensor(ratio[0]).log().double(), torch.tensor(ratio[1]).log().double(), form))
    height, width = (area / form).sqrt().clamp(max=1), (area * form).sqrt().clamp(max=1)
    return torch.stack([top * (1 - height), left * (1 - width), height, width], 1)


def mixed_boxes(count: int, size: Sequence[int], generator: Noise = None) -> Boxes:
    """Boxes of CutMix in whole pixels: of uniform area around a uniform centre, cut at the image's edge.

    Args:
        count: Number of boxes.
        size: Height and width of the images in pixels.
        generator: Source of the boxes.

    Source: CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features (2019).
    """
    area, *centre = rand((3, count), generator)
    edges = []
    for middle, length in zip(centre, size, strict=True):
        half = (area.sqrt() * length / 2).floor()
        middle = (middle * length).floor()
        edges.append(((middle - half).clamp(min=0) / length, (middle + half).clamp(max=length) / length))
    (top, bottom), (left, right) = edges
    return torch.stack([top, left, bottom - top, right - left], 1)


def inside(boxes: Boxes, size: Sequence[int]) -> Bool[Tensor, "n 1 h w"]:
    """Which pixels have their centre in the box."""
    parts = []
    for axis, length in enumerate(size):
        place = (torch.arange(length, dtype=torch.float64, device=boxes.device) + 0.5) / length
        start, extent = boxes[:, axis, None], boxes[:, axis + 2, None]
        parts.append((place >= start) & (place < start + extent))
    return (parts[0][:, :, None] & parts[1][:, None, :]).unsqueeze(1)


def paste(
    x: Float[Tensor, "n c h w"], other: Float[Tensor, "n c h w"], boxes: Boxes
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, " n"]]:
    """Images with a box of other images pasted in at the same place, and the share of their own pixels that is left."""
    covered = inside(boxes, x.shape[2:])
    return torch.where(covered, other, x), 1 - covered.to(x).mean((1, 2, 3))


def crop(x: Float[Tensor, "n c h w"], boxes: Boxes, size: Sequence[int]) -> Float[Tensor, "n c a b"]:
    """The images' boxes, brought to one size by bilinear interpolation; the whole image at its own size is unchanged.

    Args:
        x: Images.
        boxes: One an image.
        size: Height and width of the result in pixels.
    """
    # In the coordinates of affine_grid the image is [-1, 1]^2: the centre of the box, and its extent as a scale.
    top, left, height, width = boxes.to(x).unbind(1)
    zero = torch.zeros_like(top)
    rows = torch.stack([width, zero, 2 * left + width - 1, zero, height, 2 * top + height - 1], 1)
    grid = F.affine_grid(rows.reshape(-1, 2, 3), [len(x), x.shape[1], *size], align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


@dataclass(frozen=True, eq=False)
class Views:
    """Which view each of n images is shown in, in each of E epochs; a function of a seed, so only the seed is stored.

    Attributes:
        seed: Fixes all of it.
        partner: Image whose box is pasted in, ``(E, n)``.
        mix: That box, in the cropped image, ``(E, n, 4)``.
        crop: Part of the image that is shown, ``(E, n, 4)``.
        mirrored: Whether it is shown mirrored, ``(E, n)``.
    """

    seed: int
    partner: Int64[Tensor, "E n"]
    mix: Float64[Tensor, "E n 4"]
    crop: Float64[Tensor, "E n 4"]
    mirrored: Bool[Tensor, "E n"]

    def __len__(self) -> int:
        return len(self.partner)

    def show(
        self, x: Float[Tensor, "n c h w"], epoch: Int64[Tensor, " b"], row: Int64[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, " b"]]:
        """Views of images: each cropped, mirrored, and with the same view's box of its partner pasted in.

        Args:
            x: All images.
            epoch: Epoch of each view.
            row: Image of each view.

        Returns:
            The views, and the share of each image's own pixels.
        """

        def one(rows: Tensor) -> Tensor:
            shown = crop(x[rows], self.crop[epoch, row], x.shape[2:])
            return torch.where(self.mirrored[epoch, row][:, None, None, None], shown.flip(3), shown)

        return paste(one(row), one(self.partner[epoch, row]), self.mix[epoch, row])


def views(
    images: int,
    epochs: int,
    size: Sequence[int],
    *,
    seed: int = 0,
    scale: tuple[float, float] = (0.25, 1.0),
    mirror: bool = True,
) -> Views:
    """The views of some epochs.

    Args:
        images: Number n of images.
        epochs: Number E of views an image.
        size: Height and width of the images in pixels.
        seed: Fixes the views; each epoch has its own stream.
        scale: Smallest and largest area of a crop.
        mirror: Show half of the views mirrored; not for images such as digits that mean something else then.
    """
    check_count(images, "images")
    check_count(epochs, "epochs")
    check_count(seed, "seed", least=0)
    drawn = []
    for epoch in range(epochs):
        noise = random.generator(seed, epoch)
        drawn.append((
            torch.argsort(rand((images,), noise)),
            mixed_boxes(images, size, noise),
            crop_boxes(images, scale, noise),
            (rand((images,), noise) < 0.5) & mirror,
        ))  # fmt: skip
    return Views(seed, *(torch.stack(part) for part in zip(*drawn, strict=True)))
