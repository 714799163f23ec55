"""Filters of pictures that delete one of two things a picture says: how things lie in it, or how they look.

A filter takes pictures ``(n, c, h, w)`` with points from -1 to 1 to pictures of the same shape, so filters compose.
`grayscale`, `edges` and `highpass` delete appearance; `lowpass`, `patch_shuffle` and `texture` delete structure. All
but `histogram`, whose values are the reference's, are differentiable; `quantise` passes gradients through unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clarkia.random import Noise, rand

Filter: TypeAlias = Callable[[Tensor], Tensor]
Pictures: TypeAlias = Float[Tensor, "n c h w"]

LUMA = (0.299, 0.587, 0.114)
"""How bright the eye sees red, green and blue (ITU-R 601)."""


def compose(*filters: Filter) -> Filter:
    """The filters one after another, the first first."""

    def composed(x: Pictures) -> Pictures:
        for one in filters:
            x = one(x)
        return x

    return composed


# --------------------------------------------------------------------------------------------- appearance deleted


def grayscale(x: Pictures) -> Pictures:
    """Every channel the brightness of red, green and blue; pictures of one channel as they are."""
    if x.shape[1] == 1:
        return x
    return torch.einsum("nchw,c->nhw", x, _luma(x))[:, None].expand_as(x)


def luma(x: Pictures) -> Pictures:
    """The part of the colours along the brightness: an orthogonal projection, unlike `grayscale`, that keeps luma."""
    weights = _luma(x)
    return torch.einsum("nchw,c,d->ndhw", x, weights, weights / (weights**2).sum())


def edges(x: Pictures) -> Pictures:
    """Magnitude of the Sobel gradient of each channel; a constant added to the picture changes nothing."""
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], dtype=x.dtype, device=x.device) / 8
    kernels = torch.stack([across, across.T])[:, None]
    planes = F.pad(x.reshape(-1, 1, *x.shape[2:]), (1, 1, 1, 1), mode="replicate")
    slopes = F.conv2d(planes, kernels)
    # The root has no derivative at 0, where flat ground lies: a square below what a byte resolves bounds its slope.
    return (slopes.square().sum(1) + 1e-8).sqrt().reshape(x.shape)


def highpass(sigma: float) -> Filter:
    """What `lowpass` of the same width takes away."""
    blur = lowpass(sigma)
    return lambda x: x - blur(x)


def histogram(reference: Pictures) -> Filter:
    """Points moved, in their order of brightness channel by channel, to the values of a reference of as many points.

    Args:
        reference: One picture for all or one each, ``(1, c, h, w)`` or ``(n, c, h, w)``; its histogram is taken over
            exactly, ties broken by place.
    """

    def matched(x: Pictures) -> Pictures:
        values = reference.to(x).expand_as(x).flatten(2).sort(-1).values
        rank = x.flatten(2).argsort(dim=-1, stable=True).argsort(dim=-1)
        return values.gather(-1, rank).reshape(x.shape)

    return matched


# ---------------------------------------------------------------------------------------------- structure deleted


def lowpass(sigma: float) -> Filter:
    """Gaussian blur with a deviation of `sigma` points, three of them wide on either side; the border is repeated."""
    if not sigma > 0:
        raise ValueError(f"sigma: expected a positive number of points, found {sigma}.")
    reach = math.ceil(3 * sigma)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)

    def blurred(x: Pictures) -> Pictures:
        row = (weights / weights.sum()).to(x)
        planes = F.pad(x.reshape(-1, 1, *x.shape[2:]), (reach,) * 4, mode="replicate")
        return F.conv2d(F.conv2d(planes, row[None, None, None]), row[None, None, :, None]).reshape(x.shape)

    return blurred


def band(cutoff: float) -> Filter:
    """The waves of at most `cutoff` periods a picture side: an orthogonal projection, unlike `lowpass`."""

    def projected(x: Pictures) -> Pictures:
        height, width = x.shape[2:]
        down = torch.fft.fftfreq(height, 1 / height, device=x.device)
        across = torch.fft.rfftfreq(width, 1 / width, device=x.device)
        kept = down[:, None] ** 2 + across**2 <= cutoff**2
        return torch.fft.irfft2(torch.fft.rfft2(x) * kept, s=(height, width))

    return projected


def patch_shuffle(patch: int, generator: Noise = None) -> Filter:
    """The patches of every picture in an order of its own; all its points are kept, so is its histogram of colours.

    Args:
        patch: Side of a patch; divides the sides of the picture.
        generator: Source of randomness.
    """

    def shuffled(x: Pictures) -> Pictures:
        n, _, h, w = x.shape
        if h % patch or w % patch:
            raise ValueError(f"patch: expected a side that divides pictures of {w} x {h} points, found {patch}.")
        cells = F.unfold(x, patch, stride=patch)
        order = rand((n, cells.shape[2]), generator, device=x.device).argsort(1)
        moved = cells.gather(2, order[:, None].expand_as(cells))
        return F.fold(moved, (h, w), patch, stride=patch)

    return shuffled


def texture(noise: Tensor) -> Filter:
    """The waves of each picture at their strength, displaced as those of a noise are.

    Args:
        noise: ``(h, w)`` or broadcastable against the pictures; one noise for all channels leaves the colours that go
            together together.
    """

    def displaced(x: Pictures) -> Pictures:
        phases = torch.fft.rfft2(noise.to(x)).angle()
        phases[..., 0, 0] = 0  # the mean stays
        return torch.fft.irfft2(torch.fft.rfft2(x) * torch.polar(torch.ones_like(phases), phases), s=x.shape[2:])

    return displaced


def mask_fill(region: Tensor, value: float | Tensor = 0.0) -> Filter:
    """One value inside a region, bool and broadcastable against the pictures, such as where a thing stands."""
    return lambda x: torch.where(region, torch.as_tensor(value, dtype=x.dtype, device=x.device), x)


def quantise(levels: int) -> Filter:
    """The nearest of some levels evenly spaced from -1 to 1; gradients pass as if nothing were done."""
    if levels < 2:
        raise ValueError(f"levels: expected at least 2, found {levels}.")

    def rounded(x: Pictures) -> Pictures:
        nearest = ((x.clamp(-1, 1) + 1) / 2 * (levels - 1)).round() * 2 / (levels - 1) - 1
        return x + (nearest - x).detach()

    return rounded


def _luma(x: Tensor) -> Tensor:
    if x.shape[1] != 3:
        raise ValueError(f"pictures: expected red, green and blue, found {x.shape[1]} channels.")
    return torch.tensor(LUMA, dtype=x.dtype, device=x.device)
