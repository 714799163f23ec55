"""Projections of a picture at angles: tomography."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from clarkia.operators.linear import LinearOperator, sizes, small_svd
from clarkia.operators.svd import SVD


class Radon(LinearOperator):
    """Sums of a picture across the direction of each angle, its points shared between the two nearest bins.

    Bins are as wide as a point and reach over the diagonal; each projection has the picture's total and centre.

    Args:
        shape: ``(height, width)``, or with channels before.
        angles: Directions in radians, 0 along the rows: bins follow ``x cos + y sin`` around the centre.

    Raises:
        ValueError: A shape of one axis, or no angle.
    """

    def __init__(self, shape: Sequence[int], angles: Sequence[float] | Tensor) -> None:
        self.shape = sizes(tuple(shape))
        angle = torch.as_tensor(angles, dtype=torch.float64)
        if len(self.shape) < 2 or angle.ndim != 1 or not len(angle):
            raise ValueError(f"shape, angles: expected a picture and some angles, found {self.shape}, {angles}.")
        h, w = self.shape[-2:]
        self.num_bins = math.ceil(math.hypot(h - 1, w - 1)) + 2
        self.measured_shape = (*self.shape[:-2], len(angle), self.num_bins)
        y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in (h, w)), indexing="ij")
        along = angle.cos()[:, None] * x.flatten() + angle.sin()[:, None] * y.flatten() + (self.num_bins - 1) / 2
        below = along.floor()
        share = along - below
        row = (torch.arange(len(angle))[:, None] * self.num_bins + below.long()).flatten()
        point = torch.arange(h * w).expand(len(angle), -1).flatten()
        places = torch.stack([torch.cat([row, row + 1]), torch.cat([point, point])])
        weights = torch.cat([1 - share.flatten(), share.flatten()])
        size = (len(angle) * self.num_bins, h * w)
        self._table = torch.sparse_coo_tensor(places, weights, size, check_invariants=True).coalesce()
        self._turned = torch.sparse_coo_tensor(places.flip(0), weights, size[::-1], check_invariants=True).coalesce()

    def _apply(self, x: Tensor) -> Tensor:
        points = x.reshape(-1, self._table.shape[1])
        return torch.sparse.mm(self._table.to(x), points.T).T.reshape(-1, *self.measured_shape)

    def _adjoint(self, y: Tensor) -> Tensor:
        bins = y.reshape(-1, self._table.shape[0])
        return torch.sparse.mm(self._turned.to(y), bins.T).T.reshape(-1, *self.shape)

    def _decompose(self) -> SVD | None:
        return small_svd(self)
