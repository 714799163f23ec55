"""Singular value decompositions as two pairs of transforms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

Transform: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class SVD:
    """``A = U diag(values) V^T`` over the k directions that are measured; the columns of U and V are orthonormal.

    What ``V V^T`` removes from a point is not seen by the measurement, what ``U U^T`` removes from a measurement is
    nothing that a point could have given.

    Args:
        values: Singular values, float64 ``(k,)``, all positive, in no particular order.
        v_t: ``V^T``: from points ``(n, *shape)`` to ``(n, k)``.
        v: ``V``, back.
        u_t: ``U^T``: from measurements ``(n, *measured_shape)`` to ``(n, k)``.
        u: ``U``, back.
    """

    values: Float[Tensor, " k"]
    v_t: Transform
    v: Transform
    u_t: Transform
    u: Transform


def positive(values: Tensor) -> Tensor:
    """Which singular values are above the rounding of the largest, bool of the same shape."""
    return values > values.amax() * max(values.shape) * 4 * torch.finfo(values.dtype).eps


def dense_svd(matrix: Float[Tensor, "c d"], shape: tuple[int, ...], measured_shape: tuple[int, ...]) -> SVD:
    """The decomposition of a matrix over flattened points and measurements."""
    u, values, v_t = torch.linalg.svd(matrix.double(), full_matrices=False)
    kept = positive(values)
    u, v = u[:, kept], v_t[kept].T
    return SVD(
        values[kept],
        lambda x: x.flatten(1) @ v.to(x),
        lambda c: (c @ v.to(c).T).reshape(-1, *shape),
        lambda y: y.flatten(1) @ u.to(y),
        lambda c: (c @ u.to(c).T).reshape(-1, *measured_shape),
    )


def of_planes(values: Float[Tensor, "h w"], shape: tuple[int, ...], v_t: Transform, v: Transform, u_t: Transform,
              u: Transform) -> SVD:  # fmt: skip
    """The decomposition of an operator that treats every plane of a point alike.

    Args:
        values: Singular values of one plane; zeros are left out.
        shape: Shape of a point and of its measurement; the planes are its last axes.
        v_t: ``V^T`` from and to ``(n, planes, h, w)``, over all h w directions; the others alike.
        v: ``V``.
        u_t: ``U^T``.
        u: ``U``.
    """
    h, w = values.shape
    kept = positive(values).flatten()
    count = int(kept.sum())
    planes = int(torch.Size(shape).numel()) // (h * w)

    def down(transform: Transform) -> Transform:
        return lambda x: transform(x.reshape(-1, planes, h, w)).flatten(2)[..., kept.to(x.device)].flatten(1)

    def up(transform: Transform) -> Transform:
        def back(c: Tensor) -> Tensor:
            whole = c.new_zeros(len(c), planes, h * w)
            whole[..., kept.to(c.device)] = c.reshape(-1, planes, count)
            return transform(whole.reshape(-1, planes, h, w)).reshape(-1, *shape)

        return back

    return SVD(values.flatten()[kept].repeat(planes), down(v_t), up(v), down(u_t), up(u))
