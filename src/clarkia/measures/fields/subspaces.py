"""The few directions that a denoiser uses at a state: how many there are, and which ones change what."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from clarkia._math.jacobians import Field, jacobian, jvp, randomised_svd
from clarkia.denoisers import Denoiser
from clarkia.measures.fields.checks import check_count, check_gaussian, check_noisy, check_points, in_state_precision
from clarkia.processes import Gaussian

FULL = 512  # elements of a state up to which the whole Jacobian is cheaper than products with it


@torch.no_grad()
def jacobian_rank(
    denoiser: Denoiser,
    process: Gaussian,
    x_t: Float[Tensor, "n ..."],
    t: Tensor | float,
    *,
    share: float = 0.99,
    components: int | None = None,
    generator: torch.Generator | None = None,
) -> Int64[Tensor, " n"]:
    """Number of directions that a prediction follows: the effective rank of the denoiser's Jacobian.

    The least r for which the first r singular values hold ``share`` of the Frobenius norm (of the norm itself, not of
    its square).

    Args:
        denoiser: ``denoiser(x_t, t) -> x0_hat``, differentiable.
        process: The Gaussian process it is made for.
        x_t: Noisy states, ``(n, ...)``.
        t: Times in (0, 1], ``(n,)`` or one.
        share: Part of the norm, in (0, 1).
        components: Look at so many leading singular values only, found by randomised iteration; a rank near this
            number is then a lower bound. None for the whole Jacobian.
        generator: Source of the randomised iteration.

    Returns:
        One rank a state, int64 ``(n,)``.

    Raises:
        ValueError: A process that is not Gaussian, states or times of a wrong shape or range, a share outside (0, 1).

    Source: Diffusion Models Learn Low-Dimensional Distributions via Subspace Clustering (2024).
    """
    x_t, t = _states(process, x_t, t)
    field = in_state_precision(denoiser)
    if components is None:
        values = torch.linalg.svdvals(jacobian(field, x_t, t).double())
    else:
        count = check_count(components, "components")
        values = randomised_svd(field, x_t, t, count, generator=generator)[1].double()
    return effective_rank(values, share)


def effective_rank(values: Float[Tensor, "n d"], share: float = 0.99) -> Int64[Tensor, " n"]:
    """Least number of leading singular values ``(n, d)``, decreasing, that hold ``share`` of their root sum of squares.

    0 where all are 0. Raises ``ValueError`` for a share outside (0, 1).
    """
    if not 0 < share < 1:
        raise ValueError(f"share: expected a number between 0 and 1, found {share}.")
    energy = values.square().cumsum(1)
    return (energy < share**2 * energy[:, -1:]).sum(1) + (energy[:, -1] > 0).long()


@dataclass(frozen=True, eq=False)
class Directions:
    """What `semantic_directions` found, for n states of shape ``...``.

    Attributes:
        vectors: Orthonormal directions of the noisy state, ``(n, k, ...)``, the most effective first.
        gains: Size of the change of the prediction along each, by unit of change of the state, ``(n, k)``; inside the
            mask, where there is one.
        leaks: The same outside the mask, ``(n, k)``; 0 without one.
    """

    vectors: Tensor
    gains: Float[Tensor, "n k"]
    leaks: Float[Tensor, "n k"]


@torch.no_grad()
def semantic_directions(
    denoiser: Denoiser,
    process: Gaussian,
    x_t: Float[Tensor, "n ..."],
    t: Tensor | float,
    k: int = 1,
    *,
    mask: Bool[Tensor, "..."] | None = None,
    protected: int | None = None,
    generator: torch.Generator | None = None,
) -> Directions:
    """Directions along which a change of the noisy state changes the prediction most.

    The leading right singular vectors of the denoiser's Jacobian: move ``x_t`` along one at an intermediate time and go
    on sampling. With a mask, those of the Jacobian of the masked part of the prediction, after projecting away the
    directions that move the rest.

    Args:
        denoiser: ``denoiser(x_t, t) -> x0_hat``, differentiable.
        process: The Gaussian process it is made for.
        x_t: Noisy states, ``(n, ...)`` with d elements each.
        t: Times in (0, 1], ``(n,)`` or one; six or seven tenths of the way to noise is usual.
        k: Number of directions.
        mask: True where the prediction shall change, of the shape of a state; None for everywhere.
        protected: Number of leading directions of the rest to project away, at most d - k; where None, those that hold
            99 % of the rest's Frobenius norm, and d - k at most.
        generator: Source of the randomised iteration that serves states of more than 512 elements.

    Returns:
        Directions with their effect inside and outside the mask.

    Raises:
        ValueError: A process that is not Gaussian, states, times or a mask of a wrong shape or range, counts above d.

    Source: Diffusion Models Learn Low-Dimensional Distributions via Subspace Clustering (2024).
    """
    x_t, t = _states(process, x_t, t)
    shape, d = x_t.shape[1:], x_t[0].numel()
    k = check_count(k, "k", most=d)
    if mask is None and protected is not None:
        raise ValueError("protected: expected None where there is no mask, found a number.")
    if protected is not None:
        check_count(protected, "protected", least=0, most=d - k)
    if mask is not None and (mask.shape != shape or mask.dtype != torch.bool or not mask.any() or mask.all()):
        raise ValueError(
            f"mask: expected booleans of shape {tuple(shape)}, some True and some False, "
            f"found {mask.dtype} of shape {tuple(mask.shape)} with {int(mask.sum())} True."
        )
    denoise = in_state_precision(denoiser)
    inside = torch.ones(shape, dtype=torch.bool, device=x_t.device) if mask is None else mask.to(x_t.device)

    def part(wanted: Tensor) -> tuple[Tensor, Tensor]:
        return _right(lambda x, time: denoise(x, time) * wanted, x_t, t, min(k + 32, d), generator)

    values, vectors = part(inside)
    if mask is not None:
        rest_values, rest = part(~inside)
        count = effective_rank(rest_values).clamp(max=d - k)
        if protected is not None:
            count = torch.full_like(count, protected)
        rest = rest * (torch.arange(rest.shape[1], device=rest.device) < count.reshape(-1, 1)).unsqueeze(2)
        # The masked part's map, restricted to the complement of the rest's directions.
        freed = values.unsqueeze(2) * (vectors - vectors @ rest.mT @ rest)
        vectors = torch.linalg.svd(freed, full_matrices=False)[2]
    vectors = vectors[:, :k].unflatten(2, shape)
    effect = jvp(denoise, x_t, t, vectors)
    gains, leaks = ((effect * region).flatten(2).norm(dim=2) for region in (inside, ~inside))
    return Directions(vectors, gains, leaks)


def _right(field: Field, x: Tensor, t: Tensor, count: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Leading singular values ``(n, count)`` and right singular vectors ``(n, count, d)``."""
    if x[0].numel() <= FULL:
        _, values, vectors = torch.linalg.svd(jacobian(field, x, t), full_matrices=False)
        return values, vectors
    _, values, vectors = randomised_svd(field, x, t, count, generator=generator)
    return values, vectors


def _states(process: Gaussian, x_t: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
    check_gaussian(process)
    x_t = check_points(x_t)
    return x_t, check_noisy(t, x_t)
