"""From densities at every position of several levels to one map of anomalies an image, and one score."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from scipy import ndimage
from torch import Tensor

SIGMA = 4.0


def closeness(
    log_probs: Sequence[Float[Tensor, "n h w"]], maxima: Sequence[float], size: tuple[int, int]
) -> Float64[Tensor, "n H W"]:
    """How close to the usual: the sum over levels of ``exp(log p - maximum)``, enlarged bilinearly to one size.

    Args:
        log_probs: Log-densities of the usual at each level, ``(n, h, w)``, sizes differing by level.
        maxima: Largest log-density of usual positions at each level; of reference images, so that the score of an
            image does not depend on the images beside it.
        size: Height and width of the maps.
    """
    return torch.stack([
        enlarge((level.double() - top).exp(), size) for level, top in zip(log_probs, maxima, strict=True)
    ]).sum(0)  # fmt: skip


def anomaly_maps(
    close: Float[Tensor, "n H W"],
    unusual: Sequence[Float[Tensor, "n h w"]],
    peak: float,
    *,
    sigma: float = SIGMA,
) -> Float64[Tensor, "n H W"]:
    """Mean of ``peak - closeness`` and of the mean probability of being unusual over levels, both smoothed.

    Args:
        close: `closeness` of the images.
        unusual: Probability of being unusual at each level, ``(n, h, w)``.
        peak: Largest closeness of reference images.
        sigma: Width of the Gaussian smoothing, in pixels; 0 leaves the maps as they are.
    """
    size = (close.shape[1], close.shape[2])
    probability = torch.stack([enlarge(level.double(), size) for level in unusual]).mean(0)
    return 0.5 * (smooth(peak - close.double(), sigma) + smooth(probability, sigma))


def image_scores(maps: Float[Tensor, "n H W"], top: int = 1) -> Float[Tensor, " n"]:
    """Mean of the ``top`` largest pixels of each map, ``(n,)``.

    Raises:
        ValueError: More pixels than a map has, or none.
    """
    pixels = maps.flatten(1)
    if not 1 <= top <= pixels.shape[1]:
        raise ValueError(f"top: expected 1 to {pixels.shape[1]} pixels, found {top}.")
    return pixels.topk(top, dim=1).values.mean(1)


def enlarge(maps: Float[Tensor, "n h w"], size: tuple[int, int]) -> Float[Tensor, "n H W"]:
    """Maps of another size, bilinearly between the centres of pixels."""
    if maps.shape[1:] == size:
        return maps
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False).squeeze(1)


def smooth(maps: Float[Tensor, "n H W"], sigma: float) -> Float[Tensor, "n H W"]:
    """Maps convolved with a Gaussian of the given width, mirrored at the edges."""
    if sigma == 0:
        return maps
    smoothed = ndimage.gaussian_filter(maps.detach().cpu().numpy(), (0, sigma, sigma))
    return torch.from_numpy(smoothed).to(maps)


def pool_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Which cells of a smaller map contain a marked pixel of masks ``(n, H, W)``, booleans ``(n, h, w)``."""
    return F.adaptive_max_pool2d(mask[:, None].float(), size).squeeze(1) > 0
