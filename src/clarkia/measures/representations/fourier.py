"""The spectrum of a diffusion operator on very many rows, from random Fourier features of its kernel."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia.measures.representations.diffusion import Normalisation
from clarkia.random import Noise, randn

CHUNK = 8192  # rows of a pass


def fourier_spectrum(
    z: Float64[Tensor, "n d"],
    bandwidth: float,
    frequencies: int,
    normalisation: Normalisation = "anisotropic",
    *,
    generator: Noise = None,
) -> Float64[Tensor, " 2m"]:
    """Eigenvalues of the diffusion matrix of a Gaussian kernel in O(n m^2 + m^3), with memory for a few rows and m^2.

    With frequencies w from a normal law of variance ``1 / s^2`` the products of ``phi(z) = m^-1/2 (cos w.z, sin w.z)``
    are the kernel up to an error of order ``m^-1/2`` an entry. The matrix ``a_i phi_i . phi_j a_j`` has the eigenvalues
    of the small one ``sum_i a_i^2 phi_i phi_i'`` and no others, so that an entropy beyond ``log 2m`` cannot be seen.
    Suits bandwidths at which rows have many neighbours: where they have few, the errors outweigh the affinities.

    Args:
        z: Rows.
        bandwidth: s of the kernel.
        frequencies: m.
        normalisation: As in `diffusion_matrix`.
        generator: Source of the frequencies.

    Source: Random Features for Large-Scale Kernel Machines (2007).
    """
    w = randn((z.shape[1], frequencies), generator, dtype=torch.float64).to(z.device) / bandwidth

    def sums(weight: Callable[[Tensor], Tensor]) -> Tensor:
        """The weighted sum of the features of all rows."""
        return sum((weight(phi) @ phi for phi in (_features(part, w) for part in z.split(CHUNK))), z.new_zeros(()))

    total = sums(lambda phi: torch.ones_like(phi[:, 0]))

    def root(phi: Tensor) -> Tensor:
        # A row has affinity 1 to itself and none below 0 to others: errors must not bring its sum below that.
        return (phi @ total).clamp(min=1.0).rsqrt()

    if normalisation == "anisotropic":
        thinned = sums(root)

        def scale(phi: Tensor) -> Tensor:
            first = root(phi)
            # Row sums of K are first * (G first), and at least first^2, the row's affinity to itself.
            return first * (first * torch.maximum(phi @ thinned, first)).rsqrt()
    else:
        scale = root
    small = z.new_zeros(2 * frequencies, 2 * frequencies)
    for part in z.split(CHUNK):
        phi = _features(part, w)
        phi = phi * scale(phi)[:, None]
        small = small + phi.T @ phi
    return torch.linalg.eigvalsh(small).clamp(0.0, 1.0)


def _features(z: Tensor, w: Tensor) -> Tensor:
    angle = z @ w
    return torch.cat([angle.cos(), angle.sin()], 1) / w.shape[1] ** 0.5
