"""One Gaussian per class and group of columns: a density for features too wide for one covariance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from clarkia.measures.inputs import features
from clarkia.measures.outliers.covariances import Shrinkage, check_shrinkage, inverse_factor, shrunk_covariance
from clarkia.measures.outliers.protocol import class_codes, rows_like

CELLS = 4_000_000  # numbers held at once while scoring


@dataclass(frozen=True)
class GroupedGaussians:
    """Score rows by the nearest class, each class a Gaussian in every group of neighbouring columns.

    The published score of class c is ``sum_g w_cg q_cg`` with ``q_cg`` half the squared Mahalanobis distance within
    group g. Its source calls this a mixture; it is none: the groups are *multiplied*, with the weights as exponents, so
    there is nothing to sample from. Determinants are left out too, so that wide classes are favoured. The normalised
    form is the negative logarithm of a density, a mixture over classes of products over groups.

    Args:
        groups: Number G of groups of equal width; 1 keeps all correlations, as many as columns keeps none.
        shrinkage: Share of the class's mean variance times I in every covariance, in [0, 1], or "ledoit-wolf" to choose
            it from the rows.
        normalised: Score by ``-log sum_c p(c) prod_g N(z_g; m_cg, S_cg)`` instead.

    Raises:
        ValueError: Fewer than one group, a shrinkage out of range.

    Source: Hierarchical Visual Categories Modeling: A Joint Representation Learning and Density Estimation Framework
    for Out-of-Distribution Detection (2023).
    """

    groups: int = 1
    shrinkage: Shrinkage = 0.1
    normalised: bool = False

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise ValueError(f"groups: expected at least 1, found {self.groups}.")
        check_shrinkage(self.shrinkage)

    def fit(self, features: Any, labels: Any = None, *, weights: Any = None) -> FittedGroupedGaussians:
        """Take mean and unbiased covariance of every class and group.

        Args:
            features: Usual rows ``(n, d)``, d a multiple of the groups; at least 2 of every class.
            labels: Class of each row ``(n,)``; None for one class.
            weights: Weight of each class (in the order of its label) and group, ``(classes, groups)``, not negative;
                None for ``1 / groups``.

        Raises:
            ValueError: Features, labels or weights that do not fit; a covariance that is singular.
        """
        rows, groups = _checked(features, self.groups), self.groups
        classes, codes = class_codes(labels, len(rows))
        counts = torch.bincount(codes)
        if int(counts.min()) < 2:
            name = int(classes[counts.argmin()])
            raise ValueError(f"labels: expected at least 2 rows of every class, found {int(counts.min())} of {name}.")
        means, factors = [], []
        for index, name in enumerate(classes.tolist()):
            members = rows[(codes == index).to(rows.device)].unflatten(1, (groups, -1))
            means.append(members.mean(0))
            deviations, degrees = members - means[-1], len(members) - 1
            # One variance for all groups of a class: a group of constant columns has none of its own.
            variance = deviations.square().sum() / (degrees * rows.shape[1])
            parts = deviations.unbind(1)
            covariances = [shrunk_covariance(part, degrees, self.shrinkage, variance) for part in parts]
            factors.append(
                torch.stack([inverse_factor(c, f"class {name}, group {g}") for g, c in enumerate(covariances)])
            )
        shape = (len(classes), groups)
        return FittedGroupedGaussians(
            self, classes, torch.stack(means), torch.stack(factors), _weights(weights, shape).to(rows.device),
            (counts.double() / len(rows)).log().to(rows.device),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class FittedGroupedGaussians:
    """The Gaussians of C classes in G groups of k columns.

    Attributes:
        settings: The scorer that was fitted.
        classes: Label of each class, int64 ``(C,)``.
        means: float64 ``(C, G, k)``.
        factors: Lower triangular factors A of the inverse covariances ``A' A``, float64 ``(C, G, k, k)``.
        weights: Weights of the published score, float64 ``(C, G)``.
        log_priors: Log-shares of the classes, float64 ``(C,)``.
    """

    settings: GroupedGaussians
    classes: Int64[Tensor, " C"]
    means: Float64[Tensor, "C G k"]
    factors: Float64[Tensor, "C G k k"]
    weights: Float64[Tensor, "C G"]
    log_priors: Float64[Tensor, " C"]

    def score(self, features: Any) -> Float64[Tensor, " n"]:
        """How badly the nearest class fits each row, or its negative log-density, ``(n,)``."""
        return -self.log_prob(features) if self.settings.normalised else self.class_scores(features).min(1).values

    def classify(self, features: Any) -> Int64[Tensor, " n"]:
        """Label of the class of the smallest published score, or of the largest share of the density, ``(n,)``."""
        scores = -self.class_log_probs(features) if self.settings.normalised else self.class_scores(features)
        return self.classes.to(scores.device)[scores.argmin(1)]

    def log_prob(self, features: Any) -> Float64[Tensor, " n"]:
        """Log-density ``log sum_c p(c) prod_g N(z_g; m_cg, S_cg)`` of each row, nats ``(n,)``."""
        return self.class_log_probs(features).logsumexp(1)

    def class_scores(self, features: Any) -> Float64[Tensor, "n C"]:
        """The published score of every class, ``(n, C)``."""
        return (self.group_scores(features) * self.weights).sum(2)

    def class_log_probs(self, features: Any) -> Float64[Tensor, "n C"]:
        """Log of class share times density, ``(n, C)``."""
        width = self.means.shape[1] * self.means.shape[2]
        volume = self.factors.diagonal(dim1=-2, dim2=-1).log().sum((1, 2)) - 0.5 * width * math.log(2 * math.pi)
        return self.log_priors + volume - self.group_scores(features).sum(2)

    def group_scores(self, features: Any) -> Float64[Tensor, "n C G"]:
        """Half the squared Mahalanobis distance to every class in every group, ``(n, C, G)``."""
        groups, width = self.means.shape[1:]
        rows = rows_like(features, groups * width).unflatten(1, (groups, width))
        chunk = max(1, CELLS // self.means.numel())
        return torch.cat([
            0.5 * torch.einsum("cgij,ncgj->ncgi", self.factors, part[:, None] - self.means).square().sum(-1)
            for part in rows.split(chunk)
        ])  # fmt: skip


def _checked(x: Any, groups: int) -> Tensor:
    rows = features(x, "features").detach()
    if rows.shape[1] % groups:
        raise ValueError(f"groups: expected a divisor of the {rows.shape[1]} columns, found {groups}.")
    return rows


def _weights(weights: Any, shape: tuple[int, int]) -> Tensor:
    if weights is None:
        return torch.full(shape, 1 / shape[1], dtype=torch.float64)
    table = torch.as_tensor(weights, dtype=torch.float64).detach()
    if table.shape != shape or not bool((table.isfinite() & (table >= 0)).all()):
        raise ValueError(f"weights: expected non-negative numbers of shape {shape}, found shape {tuple(table.shape)} "
                         f"with smallest {float(table.min()) if table.numel() else math.nan:g}.")  # fmt: skip
    return table
