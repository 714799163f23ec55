"""Controlled changes of images in [0, 1] at five severities."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy import fft
from torch import Tensor

from clarkia.denoisers import Denoiser
from clarkia.processes import Gaussian
from clarkia.random import Noise, rand, randn
from clarkia.samplers import sample

# Luminance quantisation of the JPEG standard (ITU-T T.81, annex K), at quality 50.
JPEG_TABLE = np.array([
    [16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55], [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62], [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99],
], dtype=np.float64)  # fmt: skip

Images = Float[Tensor, "n *channels h w"]


def gaussian_noise(x: Images, variance: float, *, generator: Noise = None) -> Images:
    """Add normal noise of a variance and cut to [0, 1]."""
    return (x + math.sqrt(variance) * randn(x.shape, generator, dtype=x.dtype, device=x.device)).clamp(0, 1)


def blur(x: Images, sigma: float) -> Images:
    """Convolve with a Gaussian of a width in pixels, mirrored at the edges, each channel by itself."""
    reach = min(max(1, math.ceil(3 * sigma)), x.shape[-1] - 1, x.shape[-2] - 1)
    places = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-0.5 * (places / sigma) ** 2)
    kernel = kernel / kernel.sum()
    flat = F.pad(_one_channel(x), (reach,) * 4, mode="reflect")
    flat = F.conv2d(F.conv2d(flat, kernel[None, None, None]), kernel[None, None, :, None])
    return flat.reshape(x.shape)


def contrast(x: Images, factor: float) -> Images:
    """Move every pixel towards the mean of its image; a factor of 0 leaves the mean."""
    mean = x.flatten(1).mean(1).reshape(-1, *(1,) * (x.ndim - 1))
    return mean + factor * (x - mean)


def invert(x: Images) -> Images:
    """White for black."""
    return 1 - x


def rotate(x: Images, degrees: float) -> Images:
    """Turn anticlockwise about the middle, bilinearly; corners that come from outside are 0."""
    angle = math.radians(degrees)
    flat, (height, width) = _one_channel(x), x.shape[-2:]
    # The grid runs from -1 to 1 along both sides, so an angle of a wide image is stretched there.
    ratio = height / width
    turn = torch.tensor(
        [[math.cos(angle), -math.sin(angle) * ratio, 0], [math.sin(angle) / ratio, math.cos(angle), 0]],
        dtype=x.dtype, device=x.device,
    )  # fmt: skip
    grid = F.affine_grid(turn.expand(len(flat), 2, 3), list(flat.shape), align_corners=False)
    return F.grid_sample(flat, grid, align_corners=False).reshape(x.shape)


def occlude(x: Images, side: float, *, generator: Noise = None) -> Images:
    """Cover a square at a random place, whose side is a share of the shorter side of the image, with grey."""
    height, width = x.shape[-2:]
    size = max(1, round(side * min(height, width)))
    corner = rand((len(x), 2), generator, device=x.device)
    top, left = (corner[:, 0] * (height - size + 1)).floor(), (corner[:, 1] * (width - size + 1)).floor()
    rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    down = (rows >= top[:, None]) & (rows < top[:, None] + size)
    across = (columns >= left[:, None]) & (columns < left[:, None] + size)
    covered = (down[:, :, None] & across[:, None, :]).reshape(len(x), *(1,) * (x.ndim - 3), height, width)
    return torch.where(covered, 0.5, x)


def jpeg(x: Images, quality: float) -> Images:
    """What JPEG of a quality from 1 to 100 leaves of every channel: rounded cosine transforms of 8 x 8 blocks."""
    scale = 50 / quality if quality < 50 else 2 - quality / 50
    table = np.clip(np.floor(JPEG_TABLE * scale + 0.5), 1, 255)
    height, width = x.shape[-2:]
    flat = F.pad(_one_channel(x), (0, -width % 8, 0, -height % 8), mode="replicate")
    values = flat.detach().cpu().numpy().astype(np.float64)[:, 0] * 255 - 128
    n, rows, columns = values.shape
    blocks = values.reshape(n, rows // 8, 8, columns // 8, 8)
    steps = table[:, None, :]
    coded = np.rint(np.asarray(fft.dctn(blocks, axes=(2, 4), norm="ortho")) / steps) * steps
    found = np.clip((np.asarray(fft.idctn(coded, axes=(2, 4), norm="ortho")) + 128) / 255, 0, 1).reshape(values.shape)
    return torch.from_numpy(found[:, :height, :width].copy()).to(x).reshape(x.shape)


SEVERITIES: dict[str, tuple[Callable[..., Tensor], tuple[float, ...], bool]] = {
    "noise": (gaussian_noise, (0.01, 0.02, 0.04, 0.08, 0.16), True),
    "blur": (blur, (0.5, 0.75, 1.0, 1.5, 2.0), False),
    "contrast": (contrast, (0.75, 0.5, 0.35, 0.2, 0.1), False),
    "jpeg": (jpeg, (60, 30, 15, 8, 4), False),
    "occlusion": (occlude, (0.2, 0.3, 0.4, 0.5, 0.6), True),
    "rotation": (rotate, (10, 20, 30, 45, 60), False),
}
"""Of each kind: the change, its strength at severities 1 to 5, and whether it is random."""


def corrupt(x: Images, kind: str, severity: int, *, generator: Noise = None) -> Images:
    """Change images at one of five severities.

    Args:
        x: Images ``(n, height, width)`` or ``(n, channels, height, width)`` in [0, 1].
        kind: "noise" (variance .01 to .16), "blur", "contrast", "jpeg", "occlusion" or "rotation".
        severity: 1 to 5.
        generator: Source of randomness of noise and places.

    Raises:
        ValueError: Images of another shape or range, an unknown kind, another severity.

    Source: Benchmarking Neural Network Robustness to Common Corruptions and Perturbations (2019).
    """
    if kind not in SEVERITIES:
        raise ValueError(f"kind: expected one of {list(SEVERITIES)}, found {kind!r}.")
    if severity not in range(1, 6):
        raise ValueError(f"severity: expected 1 to 5, found {severity!r}.")
    _check_images(x)
    change, strengths, random = SEVERITIES[kind]
    options = {"generator": generator} if random else {}
    return change(x, strengths[severity - 1], **options)


@dataclass(frozen=True, eq=False)
class Rerender:
    """Images as a generative model would draw them: noised to a strength and denoised again.

    Args:
        denoiser: A denoiser of images as they are.
        process: Its process.
        strength: Time to start from, in (0, 1]: near 0 the image stays, at 1 nothing of it does.
        num_steps: Steps of the sampler.
        condition: What the denoiser is told; None for nothing.

    Source: SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations (2021).
    """

    denoiser: Denoiser
    process: Gaussian
    strength: float
    num_steps: int = 50
    condition: Any = None

    def __call__(self, x: Tensor, *, generator: Noise = None) -> Tensor:
        """Images of the shape they came in."""
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength: expected a time in (0, 1], found {self.strength!r}.")
        noisy = self.process.corrupt(x, torch.full((len(x),), self.strength, dtype=x.dtype), generator=generator)
        times = torch.linspace(self.strength, 0, self.num_steps + 1, dtype=torch.float64)
        found = sample(
            self.denoiser, self.process, initial=noisy, times=times, condition=self.condition, generator=generator
        )
        return found  # type: ignore[return-value]


def _check_images(x: Any) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim not in (3, 4):
        found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"x: expected float images (n, h, w) or (n, c, h, w), found {found}.")
    if not bool(((x >= 0) & (x <= 1)).all()):
        raise ValueError(f"x: expected pixels in [0, 1], found {float(x.min()):g} to {float(x.max()):g}.")


def _one_channel(x: Tensor) -> Tensor:
    return x.reshape(-1, 1, *x.shape[-2:])
