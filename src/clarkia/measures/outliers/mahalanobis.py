"""Mahalanobis distance to the nearest class, all classes sharing one covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia._math.pairwise import squared_distances
from clarkia.measures.inputs import at_least, features
from clarkia.measures.outliers.covariances import Shrinkage, check_shrinkage, inverse_factor, shrunk_covariance
from clarkia.measures.outliers.protocol import class_codes, rows_like

CHUNK = 4096


@dataclass(frozen=True)
class Mahalanobis:
    """Score rows by the smallest squared Mahalanobis distance to a class mean.

    Args:
        shrinkage: Share of ``tr(S)/d I`` in the covariance, in [0, 1], or "ledoit-wolf" to choose it from the rows.

    Raises:
        ValueError: Another word, or a share out of range.

    Source: A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks (2018).
    """

    shrinkage: Shrinkage = "ledoit-wolf"

    def __post_init__(self) -> None:
        check_shrinkage(self.shrinkage)

    def fit(self, features: Any, labels: Any = None) -> FittedMahalanobis:
        """Take the mean of each class and the unbiased covariance of what is left of the rows.

        Args:
            features: Usual rows ``(n, d)``, more than there are classes.
            labels: Class of each row ``(n,)``; None for one class.

        Raises:
            ValueError: Features that are not finite, labels that do not fit, a covariance that is singular.
        """
        rows = _checked(features)
        _, codes = class_codes(labels, len(rows))
        codes = codes.to(rows.device)
        counts = torch.bincount(codes)
        at_least(rows, len(counts) + 1, "features", f"for a covariance within {len(counts)} classes")
        means = torch.zeros(len(counts), rows.shape[1], dtype=rows.dtype, device=rows.device)
        means = means.index_add(0, codes, rows) / counts[:, None]
        within = shrunk_covariance(rows - means[codes], len(rows) - len(counts), self.shrinkage)
        return FittedMahalanobis(means, inverse_factor(within, "the features within classes"))


@dataclass(frozen=True, eq=False)
class FittedMahalanobis:
    """Class means and the covariance within classes.

    Attributes:
        means: float64 ``(classes, d)``.
        factor: Lower triangular factor A of the inverse covariance ``A' A``, float64 ``(d, d)``.
    """

    means: Float64[Tensor, "classes d"]
    factor: Float64[Tensor, "d d"]

    def score(self, features: Any) -> Float64[Tensor, " n"]:
        """Squared distance of each row to the nearest class, ``(n,)``: about d for rows of that class."""
        rows = rows_like(features, self.means.shape[1])
        centres = self.means @ self.factor.T
        parts = [squared_distances(part @ self.factor.T, centres).min(1).values for part in rows.split(CHUNK)]
        return torch.cat(parts)


def _checked(x: Any) -> Tensor:
    return features(x, "features").detach()
