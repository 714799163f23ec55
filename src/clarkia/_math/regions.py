"""Regions of pictures: what is taken inside and outside, and a region's surroundings."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def pasted(x: Float[Tensor, "n ..."], outside: Float[Tensor, "..."], region: Tensor) -> Float[Tensor, "n ..."]:
    """``x`` inside a region and something else outside, each bit for bit; between them where the region is a share.

    Args:
        x: ``(n, ...)``.
        outside: Broadcastable against it.
        region: bool or from 0 to 1, broadcastable against it.
    """
    share, outside = region.to(x.dtype), outside.to(x.dtype)
    return torch.where(share == 0, outside, torch.where(share == 1, x, share * x + (1 - share) * outside))


def dilated(region: Bool[Tensor, "... h w"], points: int) -> Bool[Tensor, "... h w"]:
    """A region and all that lies within some points of it along rows, columns and diagonals.

    A model of latents changes its pictures a little beyond the region, so they are pasted outside the dilated one.
    """
    planes = region.to(torch.float32).reshape(-1, 1, *region.shape[-2:])
    return (F.max_pool2d(planes, 2 * points + 1, stride=1, padding=points) > 0).reshape(region.shape)
