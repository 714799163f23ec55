"""Convolution of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from clarkia.operators.linear import LinearOperator, sizes, small_svd
from clarkia.operators.svd import SVD, of_planes, positive

Boundary = Literal["reflect", "circular"]


class Blur(LinearOperator):
    """Each point replaced by a weighted sum of its neighbourhood, plane by plane.

    A kernel of two axes is a sum of separable ones, so that the map is a sum of products ``R x C^T`` with small
    matrices. Its singular values are those of R and C where one product is enough, those of a discrete Fourier
    transform where the plane is a torus, and else those of its whole matrix where that is small.

    Args:
        shape: Shape of a data point, the planes on the last two axes (on the only axis of a point with one).
        kernel: Weights of odd sizes, ``(k, l)``, or ``(k,)`` to be applied along both axes. It is not turned over: the
            weight after its centre belongs to the point after.
        boundary: How a plane goes on outside: ``"reflect"``, mirrored at its edge, ``d c b a | a b c d``; or
            ``"circular"``, from the other side.

    Raises:
        ValueError: A kernel of another shape, or an unknown boundary.
    """

    def __init__(self, shape: Sequence[int], kernel: Any, boundary: Boundary = "reflect") -> None:
        self.shape = self.measured_shape = sizes(tuple(shape))
        self.kernel = torch.as_tensor(kernel, dtype=torch.float64)
        allowed = (1, 2) if len(self.shape) > 1 else (1,)
        if self.kernel.ndim not in allowed or any(size % 2 == 0 for size in self.kernel.shape):
            raise ValueError(f"kernel: expected odd sizes on {allowed} axes, found {tuple(self.kernel.shape)}.")
        if boundary not in ("reflect", "circular"):
            raise ValueError(f"boundary: expected 'reflect' or 'circular', found {boundary!r}.")
        self.boundary = boundary
        self._plane = (1, *self.shape)[-2:]
        rows, columns = _separable(self.kernel, flat=len(self.shape) == 1)
        self._rows = torch.stack([_matrix(weights, self._plane[0], boundary) for weights in rows])
        self._columns = torch.stack([_matrix(weights, self._plane[1], boundary) for weights in columns])

    def _apply(self, x: Tensor) -> Tensor:
        return self._product(x, self._rows, self._columns)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._product(y, self._rows.mT, self._columns.mT)

    def _product(self, x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        planes = x.reshape(-1, *self._plane)
        terms = zip(rows.to(x), columns.to(x), strict=True)
        return torch.stack([row @ planes @ column.T for row, column in terms]).sum(0).reshape(x.shape)

    def _decompose(self) -> SVD | None:
        if self.boundary == "circular":
            return self._on_a_torus()
        if len(self._rows) > 1:
            return small_svd(self)
        (u_r, s_r, v_r), (u_c, s_c, v_c) = (torch.linalg.svd(part[0]) for part in (self._rows, self._columns))
        return of_planes(
            torch.outer(s_r, s_c),
            self.shape,
            lambda x: v_r.to(x) @ x @ v_c.to(x).T,
            lambda c: v_r.to(c).T @ c @ v_c.to(c),
            lambda y: u_r.to(y).T @ y @ u_c.to(y),
            lambda c: u_r.to(c) @ c @ u_c.to(c).T,
        )

    def _on_a_torus(self) -> SVD:
        """``A = P |A|``: both are diagonal under the Fourier transform, and V is a real basis of its frequencies."""
        peak = torch.zeros(1, *self._plane, dtype=torch.float64)
        peak[0, 0, 0] = 1
        response = self._product(peak, self._rows, self._columns)[0]
        spectrum = torch.fft.fft2(response)
        values = spectrum.abs()
        phase = torch.where(positive(values), spectrum / values.clamp_min(torch.finfo(values.dtype).tiny), 1.0)

        def turned(x: Tensor, by: Tensor) -> Tensor:
            factor = by.to(device=x.device, dtype=torch.complex128 if x.dtype == torch.float64 else torch.complex64)
            return torch.fft.ifft2(factor * torch.fft.fft2(x)).real

        return of_planes(
            values,
            self.shape,
            hartley,
            hartley,
            lambda y: hartley(turned(y, phase.conj())),
            lambda c: turned(hartley(c), phase),
        )


def hartley(x: Tensor) -> Tensor:
    """The orthonormal Hartley transform of the last two axes, its own inverse: a Fourier transform that stays real."""
    spectrum = torch.fft.fft2(x, norm="ortho")
    return spectrum.real - spectrum.imag


def gaussian_kernel(size: int, std: float) -> Tensor:
    """Weights of a normal density at ``size`` points around 0, summing to one, ``(size,)``.

    Raises:
        ValueError: An even size or a deviation that is not positive.
    """
    if size < 1 or size % 2 == 0 or not std > 0:
        raise ValueError(f"size, std: expected an odd and a positive number, found {size} and {std}.")
    return (-0.5 * (torch.arange(size, dtype=torch.float64) - size // 2).square() / std**2).softmax(0)


def _separable(kernel: Tensor, *, flat: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Kernels along rows and along columns whose products add up to the kernel."""
    if kernel.ndim == 1:
        return [kernel.new_ones(1) if flat else kernel], [kernel]
    u, values, v_t = torch.linalg.svd(kernel, full_matrices=False)
    terms = positive(values).nonzero().flatten().tolist()
    return [values[term] * u[:, term] for term in terms], [v_t[term] for term in terms]


def _matrix(weights: Tensor, size: int, boundary: Boundary) -> Tensor:
    """The matrix of one axis, ``(size, size)``: row i holds the weights around i."""
    place = torch.arange(size)[:, None] + torch.arange(len(weights)) - len(weights) // 2
    if boundary == "circular":
        place = place % size
    else:
        place = place % (2 * size)
        place = torch.where(place < size, place, 2 * size - 1 - place)
    return weights.new_zeros(size, size).scatter_add_(1, place, weights.expand(size, -1))
