"""Gaussians as means and square roots of their covariances: reweighing them, conditioning them, drawing from them.

A group of Gaussians shares one root: ``means`` are ``(k, m, d)`` and ``roots`` are ``(k, d, r)``, the covariance of the
m Gaussians of group k being ``roots[k] roots[k]'``. A full matrix, a subspace (r < d) and a kernel that thousands of
centres share (k = 1) are then the same arithmetic, and no covariance is ever inverted.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from clarkia.random import Noise, rand


def reweigh(means: Tensor, roots: Tensor, slope: Tensor, quadratic: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The Gaussians reweighed by ``exp(b.x - x'Qx / 2)``, and the log-mean of that factor under each.

    With ``x = m + S z`` the factor's exponent is quadratic in z with matrix ``S'QS``, so ``B = I + S'QS = LL'`` is the
    new precision of z and ``S L^-T`` the new root.

    Args:
        means: ``(k, m, d)``.
        roots: ``(k, d, r)``.
        slope: ``b``, broadcastable against ``means``.
        quadratic: ``Q``, symmetric ``(d, d)``, or None for a linear reward.

    Returns:
        New means and roots of the same shapes, and ``(k, m)``.

    Raises:
        ValueError: Somewhere ``B`` is not positive definite, so that the reweighed law has no finite mass.
    """
    if quadratic is None:
        pull, constant, log_det = slope.expand_as(means), (means * slope).sum(-1), roots.new_zeros(len(roots), 1)
    else:
        inner = torch.eye(roots.shape[-1], dtype=roots.dtype) + roots.mT @ quadratic @ roots
        factor, failed = torch.linalg.cholesky_ex(inner)
        if bool(failed.any()):
            lowest = float(torch.linalg.eigvalsh(inner).amin())
            raise ValueError(
                "quadratic: expected a reward that leaves every component normalisable, "
                f"found I + S'QS with eigenvalue {lowest:.3g} in component {int(failed.nonzero()[0])}."
            )
        roots = torch.linalg.solve_triangular(factor, roots.mT, upper=False).mT
        bent = means @ quadratic
        pull, constant = slope - bent, (means * (slope - 0.5 * bent)).sum(-1)
        log_det = torch.diagonal(factor, dim1=-2, dim2=-1).log().sum(-1, keepdim=True)
    shift = pull @ roots
    return means + shift @ roots.mT, roots, constant + 0.5 * shift.square().sum(-1) - log_det


def condition(
    means: Tensor, roots: Tensor, operator: Tensor, y: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The Gaussians given ``y = A x + noise eps``, and each one's log-evidence.

    With ``H = A S`` one triangularisation of ``[[noise, H], [0, I]]`` to ``[[F, 0], [G, R]]`` gives the covariance
    ``FF'`` of y, the gain ``G F^-1`` of z, and the root R of its posterior covariance, without subtracting matrices.

    Args:
        means: ``(k, m, d)``.
        roots: ``(k, d, r)``.
        operator: ``A``, ``(c, d)``.
        y: ``(c,)``.
        noise: Standard deviations ``(c,)``; 0 for a certain measurement.

    Returns:
        New means and roots of the same shapes, and ``(k, m)``.

    Raises:
        ValueError: A measurement whose outcome is certain in advance.
    """
    count, rank = len(y), roots.shape[-1]
    upper = torch.cat([torch.diag(noise).expand(len(roots), -1, -1), operator @ roots], -1)
    lower = torch.eye(rank, count + rank, dtype=roots.dtype).roll(count, 1).expand(len(roots), -1, -1)
    triangle = torch.linalg.qr(torch.cat([upper, lower], -2).mT, mode="r").R.mT
    corner, cross, rest = triangle[:, :count, :count], triangle[:, count:, :count], triangle[:, count:, count:]
    pivots = torch.diagonal(corner, dim1=-2, dim2=-1).abs()
    # A pivot at rounding level of its own row is a measurement that those before it already determine.
    if bool((pivots <= 1e-14 * upper.norm(dim=-1)).any()):
        raise ValueError("noise_std: expected a measurement with noise, found one that is certain in advance.")
    gap = y - means @ operator.mT
    white = torch.linalg.solve_triangular(corner, gap.mT, upper=False)
    means = means + (cross @ white).mT @ roots.mT
    evidence = -0.5 * white.square().sum(-2) - pivots.log().sum(-1, keepdim=True) - 0.5 * count * math.log(2 * math.pi)
    return means, roots @ rest, evidence


def draw_index(log_weights: Tensor, num_samples: int, generator: Noise = None) -> Tensor:
    """Draw indices of one list of log-weights ``(K,)``, int64 ``(num_samples,)``, without a table of draws by K."""
    cumulative = log_weights.exp().cumsum(0)
    total = cumulative[-1]
    # A product that rounds up to the total goes to the last possible index.
    threshold = (rand((num_samples,), generator) * total).clamp(max=float(torch.nextafter(total, total * 0)))
    return torch.searchsorted(cumulative, threshold, right=True)


def parse_reward(slope: Any, quadratic: Any, shape: tuple[int, ...]) -> tuple[Tensor, Tensor | None]:
    """A slope of the given shape ``(..., d)`` or ``(d,)``, and a symmetric ``(d, d)`` from a number, ``(d,)`` or that.

    Raises:
        ValueError: Another shape, a matrix that is not symmetric, or a number that is not finite.
    """
    d = shape[-1]
    slope = torch.as_tensor(slope, dtype=torch.float64)
    if slope.shape not in ((d,), shape) or not bool(slope.isfinite().all()):
        raise ValueError(f"slope: expected finite numbers of shape {(d,)}, found {_describe(slope)}.")
    if quadratic is None:
        return slope, None
    matrix = torch.as_tensor(quadratic, dtype=torch.float64)
    if matrix.ndim == 0 or matrix.shape == (d,):
        matrix = torch.diag(matrix.expand(d))
    if matrix.shape != (d, d) or not torch.allclose(matrix, matrix.mT, rtol=1e-8, atol=1e-12):
        raise ValueError(
            f"quadratic: expected a number, a diagonal {(d,)} or a symmetric matrix {(d, d)}, "
            f"found {_describe(torch.as_tensor(quadratic))}."
        )
    return slope, matrix


def parse_measurement(operator: Any, y: Any, noise_std: Any, d: int) -> tuple[Tensor, Tensor, Tensor]:
    """Operator ``(c, d)``, outcome ``(c,)`` and noise ``(c,)`` of a linear measurement.

    Raises:
        ValueError: Shapes that do not fit, or a negative noise.
    """
    operator = torch.atleast_2d(torch.as_tensor(operator, dtype=torch.float64))
    y = torch.atleast_1d(torch.as_tensor(y, dtype=torch.float64))
    noise = torch.as_tensor(noise_std, dtype=torch.float64)
    if operator.ndim != 2 or operator.shape[1] != d or y.shape != operator.shape[:1]:
        raise ValueError(
            f"operator, y: expected shapes (c, {d}) and (c,), found {tuple(operator.shape)} and {tuple(y.shape)}."
        )
    if noise.shape not in ((), y.shape) or not bool((noise >= 0).all()):
        raise ValueError(f"noise_std: expected a number >= 0 or {tuple(y.shape)} of them, found {_describe(noise)}.")
    return operator, y, noise.expand(y.shape)


def _describe(values: Tensor) -> str:
    if values.numel() > 4:
        return f"shape {tuple(values.shape)}"
    return f"{values.tolist()} of shape {tuple(values.shape)}"
