"""Whether samples still vary in the directions that their measurements do not see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from clarkia._math.linear import covariance
from clarkia.measures import inputs


@dataclass(frozen=True, eq=False)
class NullSpaceVariance:
    """Variance of samples along and across the null space of measurements.

    Attributes:
        basis: Orthonormal directions that no measurement sees, ``(d, k)``; k may be 0.
        unseen: Variance along them, summed.
        seen: Variance across them, summed.
        reference_unseen: The same of the reference, None without one.
        reference_seen: Likewise.
    """

    basis: Float64[Tensor, "d k"]
    unseen: float
    seen: float
    reference_unseen: float | None = None
    reference_seen: float | None = None

    @property
    def share(self) -> float | None:
        """Total variance over the reference's: 1 where samples vary as they should, less where they collapsed."""
        if self.reference_unseen is None or self.reference_seen is None:
            return None
        return (self.unseen + self.seen) / (self.reference_unseen + self.reference_seen)


def null_space_variance(
    signals: Float[Tensor, "n d"] | np.ndarray,
    operators: Sequence[Float[Tensor, "m d"]],
    *,
    reference: Float[Tensor, "k d"] | np.ndarray | None = None,
    tolerance: float = 1e-8,
) -> NullSpaceVariance:
    """How much samples vary where neither of their measurements looks.

    A model that is trained on measurements alone draws only what they see of a signal; the rest collapses to its mean.
    Variance 0 along the null space tells so, without any signal to compare with.

    Args:
        signals: Samples, ``(n, d)``.
        operators: The linear measurements of context and target, ``(m, d)`` each.
        reference: True signals given the same context, to compare with.
        tolerance: Singular values below this share of the largest count as 0.

    Raises:
        ValueError: No operators, or widths that differ.

    Source: Diffusion with Forward Models: Solving Stochastic Inverse Problems Without Direct Supervision (2023).
    """
    rows = inputs.features(signals, "signals")
    inputs.at_least(rows, 2, "signals", "to vary")
    if not operators or any(operator.ndim != 2 or operator.shape[1] != rows.shape[1] for operator in operators):
        found = [tuple(operator.shape) for operator in operators]
        raise ValueError(f"operators: expected matrices (m, {rows.shape[1]}), at least one, found {found}.")
    stacked = torch.cat([torch.as_tensor(operator).double() for operator in operators])
    _, values, right = torch.linalg.svd(stacked, full_matrices=True)
    rank = int((values > tolerance * values[0]).sum())
    basis = right[rank:].T
    unseen, seen = _split(rows, basis)
    if reference is None:
        return NullSpaceVariance(basis, unseen, seen)
    truth = inputs.pair(signals, reference, ("signals", "reference"))[1]
    return NullSpaceVariance(basis, unseen, seen, *_split(truth, basis))


def _split(rows: Tensor, basis: Tensor) -> tuple[float, float]:
    """Variance along a basis and across it."""
    matrix = covariance(rows)
    along = float((basis * (matrix @ basis)).sum())
    return along, float(matrix.trace()) - along
