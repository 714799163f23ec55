"""Data on a few subspaces: finding them, and whether there are enough points to do so."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from clarkia.measures.fields.checks import check_count, check_rows


@dataclass(frozen=True, eq=False)
class Subspaces:
    """What `recover_subspaces` found.

    Attributes:
        bases: Orthonormal basis of each subspace as columns, float64 ``(K, d, r)``.
        assignment: Subspace of each point, ``(n,)``.
        explained: Share of the points' squared length that lies in their subspaces, in [0, 1].
    """

    bases: Float64[Tensor, "K d r"]
    assignment: Int64[Tensor, " n"]
    explained: float

    @property
    def counts(self) -> Int64[Tensor, " K"]:
        """Number of points in each subspace."""
        return torch.bincount(self.assignment, minlength=len(self.bases))

    @property
    def identifiable(self) -> Bool[Tensor, " K"]:
        """Whether a subspace has the points it takes: as many as dimensions where it is alone, one more among others.

        Any r points lie on some subspace of r dimensions, so that many alone cannot tell two clusters apart.
        """
        count, _, r = self.bases.shape
        return self.counts >= (r if count == 1 else r + 1)


@torch.no_grad()
def recover_subspaces(
    x: Float[Tensor, "n d"],
    num_subspaces: int,
    dim: int,
    *,
    initial: Float[Tensor, "K d r"] | None = None,
    restarts: int = 20,
    num_iterations: int = 100,
    generator: torch.Generator | None = None,
) -> Subspaces:
    """Find K subspaces through the origin that explain as much of the points as they can.

    Maximises ``sum_i max_k |U_k^T x_i|^2`` by turns: each point to the subspace that holds most of it, each subspace to
    the leading singular vectors of its points. For one subspace this is PCA without centring. It is what training a
    denoiser on a mixture of low-rank Gaussians maximises: below ``dim`` points a cluster no denoiser can find the
    subspace, from there on the best one does. From random starts it takes more, as the turns get stuck.

    Args:
        x: Points, ``(n, d)``.
        num_subspaces: Number K of subspaces.
        dim: Dimension r of each, at most d.
        initial: Bases to start from, ``(K, d, r)``, instead of random ones.
        restarts: Number of random starts, of which the best is kept.
        num_iterations: Turns at most; fewer where no assignment changes.
        generator: Source of the starts.

    Returns:
        Bases, assignment and the share explained.

    Raises:
        ValueError: Points that are not finite rows, a dimension above d, initial bases of another shape.

    Source: Diffusion Models Learn Low-Dimensional Distributions via Subspace Clustering (2024).
    """
    x = check_rows(x, "x")
    d = x.shape[1]
    count = check_count(num_subspaces, "num_subspaces")
    r = check_count(dim, "dim", most=d)
    turns = check_count(num_iterations, "num_iterations")
    if initial is not None and initial.shape != (count, d, r):
        raise ValueError(f"initial: expected shape ({count}, {d}, {r}), found {tuple(initial.shape)}.")
    if initial is None:
        starts = check_count(restarts, "restarts") if count > 1 else 1
        device = generator.device if generator else x.device
        bases = torch.randn((starts, count, d, r), generator=generator, dtype=torch.float64, device=device).to(x)
    else:
        bases = initial.to(x).unsqueeze(0)
    bases = torch.linalg.qr(bases)[0]
    previous = None
    for _ in range(turns):
        assignment = _held(x, bases).argmax(1)
        if previous is not None and torch.equal(assignment, previous):
            break
        previous = assignment
        bases = _leading(x, assignment, bases)
    held = _held(x, bases)
    best = int(held.amax(1).sum(1).argmax())
    total = x.square().sum()
    explained = held[best].amax(0).sum() / torch.where(total > 0, total, 1.0)
    return Subspaces(bases[best], held[best].argmax(0), float(explained))


@torch.no_grad()
def subspace_error(found: Float[Tensor, "K d r"], true: Float[Tensor, "K d r"]) -> Float64[Tensor, " K"]:
    """Sine of the largest principal angle between each true subspace and the one found that is matched to it.

    Args:
        found: Orthonormal bases as columns, ``(K, d, r)``.
        true: As many bases, of the same shape; matched so that the sum of the errors is least.

    Returns:
        Sines in [0, 1], in the order of ``true``, float64 ``(K,)``.

    Raises:
        ValueError: Shapes that differ.
    """
    if found.shape != true.shape or found.ndim != 3:
        raise ValueError(f"found: expected shape (K, d, r) as true {tuple(true.shape)}, found {tuple(found.shape)}.")
    found, true = found.double(), true.double()
    # The part of a true basis outside a found subspace: its norm is the sine, without loss of digits for small angles.
    overlap = torch.einsum("adr,bds->abrs", found, true)
    outside = true.unsqueeze(0) - torch.einsum("adr,abrs->abds", found, overlap)
    sines = torch.linalg.matrix_norm(outside, ord=2)
    rows, columns = linear_sum_assignment(sines.cpu().numpy())
    return sines[torch.as_tensor(rows), torch.as_tensor(columns)][torch.as_tensor(columns).argsort()].clamp(max=1)


def _held(x: Tensor, bases: Tensor) -> Tensor:
    """Squared length of every point in every subspace, ``(starts, K, n)``."""
    return torch.einsum("skdr,nd->sknr", bases, x).square().sum(3)


def _leading(x: Tensor, assignment: Tensor, bases: Tensor) -> Tensor:
    """Leading singular vectors of each cluster's points; a cluster of fewer points than dimensions keeps what it had.

    A small multiple of the former projector fills what the points leave open: less than any direction they span.
    """
    count, r = bases.shape[1], bases.shape[3]
    member = torch.nn.functional.one_hot(assignment, count).to(x)  # (starts, n, K)
    scatter = torch.einsum("snk,nd,ne->skde", member, x, x)
    scale = 1e-12 * x.square().sum() / len(x)
    vectors = torch.linalg.eigh(scatter + scale * bases @ bases.mT)[1]
    return vectors[..., -r:]
