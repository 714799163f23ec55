"""Second-order tools in float64: covariances, shrinkage, whitening, traces of square roots."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clarkia._math.pairwise import blocks, mean_row

STRIP = 256  # columns of a symmetric product that are multiplied at once
ROUNDING = torch.finfo(torch.float64).eps


def covariance(x: Tensor) -> Tensor:
    """Unbiased covariance ``(d, d)`` of the rows of ``x`` ``(n, d)``.

    Raises:
        ValueError: Fewer than two rows.
    """
    if len(x) < 2:
        raise ValueError(f"x: expected at least 2 rows for a covariance, found {len(x)}.")
    return moments(x)[1] / (len(x) - 1)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``(d,)`` of the rows and sum of ``(x - mean)(x - mean)'``, ``(d, d)``, in float64 without a copy of all."""
    mean = mean_row(x)
    return mean, product_sum(block.double() - mean for _, block in blocks(x))


def product_sum(parts: Iterable[Tensor]) -> Tensor:
    """``sum_i p_i' p_i`` of float64 blocks of rows ``(., d)``, of which only the upper triangle is multiplied out."""
    strips: list[Tensor] = []
    for part in parts:
        pairs = [(part[:, start : start + STRIP].T, part[:, start:]) for start in range(0, part.shape[1], STRIP)]
        if strips:
            strips = [torch.addmm(strip, *pair) for strip, pair in zip(strips, pairs, strict=True)]
        else:
            strips = [torch.mm(*pair) for pair in pairs]
    width = strips[0].shape[1]
    upper = torch.cat([torch.nn.functional.pad(strip, (width - strip.shape[1], 0)) for strip in strips]).triu()
    return upper + upper.triu(1).T


def ledoit_wolf(x: Tensor) -> Tensor:
    """Covariance ``(d, d)`` of the rows of ``x`` ``(n, d)``, shrunk towards a multiple of the identity.

    ``(1 - s) S + s tr(S)/d I`` with the biased covariance S and the share s of `ledoit_wolf_shrinkage`: invertible
    unless all rows are equal.

    Source: A well-conditioned estimator for large-dimensional covariance matrices (2004).
    """
    mean, scatter = moments(x)
    s = scatter / len(x)
    return _shrunk(s, _identity_share(x, mean.detach(), s.detach()))


def ledoit_wolf_shrinkage(x: Tensor) -> float:
    """The share of the identity in `ledoit_wolf` that minimises the expected squared error, in [0, 1]."""
    x = x.detach()
    mean, scatter = moments(x)
    return _identity_share(x, mean, scatter / len(x))


def _identity_share(x: Tensor, mean: Tensor, s: Tensor) -> float:
    """Of rows with this mean and biased covariance."""
    n, d = x.shape
    spread = float((s.square().sum() - s.trace() ** 2 / d) / d)  # delta: distance of S from the identity's multiples
    if spread <= 0:
        return 0.0
    # beta: mean squared distance of the single x x' from S, over n
    fourth = sum(float((block.double() - mean).square().sum(1).square().sum()) for _, block in blocks(x.detach()))
    noise = (fourth / n - float(s.square().sum())) / (d * n)
    return min(max(noise, 0.0), spread) / spread


@dataclass(frozen=True, eq=False)
class Whitening:
    """An affine map under which rows have mean 0 and covariance 1.

    Attributes:
        mean: ``(d,)``.
        matrix: Symmetric inverse root of the covariance, ``(d, d)``.
    """

    mean: Tensor
    matrix: Tensor

    def apply(self, x: Tensor) -> Tensor:
        """Whitened rows ``(n, d)``; their squared norms are Mahalanobis distances."""
        return (x.double() - self.mean) @ self.matrix


def whitening(x: Tensor, *, shrinkage: str | float = "ledoit-wolf") -> Whitening:
    """Whitening of the law of the rows of ``x`` ``(n, d)``.

    Args:
        x: Rows.
        shrinkage: Share of ``tr(S)/d I`` in the covariance, in [0, 1], or "ledoit-wolf" to choose it from the rows.

    Returns:
        The map; directions without any variance go to 0.

    Raises:
        ValueError: Another word, or a number outside [0, 1].
    """
    if shrinkage == "ledoit-wolf":
        shared = ledoit_wolf(x)
    elif isinstance(shrinkage, int | float) and 0 <= shrinkage <= 1:
        shared = _shrunk(covariance(x), float(shrinkage))
    else:
        raise ValueError(f"shrinkage: expected 'ledoit-wolf' or a number in [0, 1], found {shrinkage!r}.")
    values, vectors = torch.linalg.eigh(shared)
    present = values > len(values) * ROUNDING * values[-1].clamp_min(0)
    inverse = torch.where(present, values.clamp_min(0).where(present, 1.0).rsqrt(), 0.0)
    return Whitening(mean_row(x), (vectors * inverse) @ vectors.T)


def square_root(matrix: Tensor) -> Tensor:
    """Symmetric root of a positive semi-definite matrix; eigenvalues at the level of rounding count as 0."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * _clipped(values).sqrt()) @ vectors.T


def trace_sqrt_product(a: Tensor, b: Tensor) -> Tensor:
    """``tr (A^{1/2} B A^{1/2})^{1/2}`` of two positive semi-definite matrices ``(d, d)``, differentiable in both.

    The derivatives are ``A^{-1/2} (A^{1/2} B A^{1/2})^{1/2} A^{-1/2} / 2`` in A and the same with the roles exchanged
    in B: equal eigenvalues, where derivatives of eigenvectors do not exist, do no harm. Singular matrices take the
    pseudo-inverse.
    """
    return _TraceSqrtProduct.apply(a.double(), b.double())  # type: ignore[no-any-return]


class _TraceSqrtProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        root = square_root(a)
        product = root @ b @ root
        return _clipped(torch.linalg.eigvalsh((product + product.T) / 2)).sqrt().sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        values, vectors = torch.linalg.eigh(a)
        values = _clipped(values)
        root = (vectors * values.sqrt()) @ vectors.T
        inverse = (vectors * torch.where(values > 0, values, torch.inf).rsqrt()) @ vectors.T
        product = root @ b @ root
        inner, basis = torch.linalg.eigh((product + product.T) / 2)
        inner = _clipped(inner)
        middle = (basis * inner.sqrt()) @ basis.T
        inverse_middle = (basis * torch.where(inner > 0, inner, torch.inf).rsqrt()) @ basis.T
        half = gradients[0] / 2
        return half * (inverse @ middle @ inverse), half * (root @ inverse_middle @ root)


def _clipped(values: Tensor) -> Tensor:
    """Eigenvalues (ascending) with those at the level of rounding set to 0: a root would blow them up to 1e-8."""
    floor = len(values) * ROUNDING * values[-1].clamp_min(0)
    return torch.where(values > floor, values, 0.0)


def _shrunk(matrix: Tensor, share: float) -> Tensor:
    d = len(matrix)
    target = matrix.trace() / d * torch.eye(d, dtype=matrix.dtype, device=matrix.device)
    return (1 - share) * matrix + share * target
