"""Distance to the nearest usual rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float64
from torch import Tensor

from clarkia._math.neighbours import k_nearest
from clarkia.measures.inputs import at_least, features
from clarkia.measures.outliers.protocol import rows_like


@dataclass(frozen=True)
class NearestNeighbours:
    """Score rows by their Euclidean distance to the k-th nearest usual row, or the mean over the k nearest.

    Args:
        k: Number of neighbours.
        reduction: "kth" or "mean".
        normalise: Divide every row by its length first, as is customary for the features of classifiers; a row of
            zeros stays.

    Raises:
        ValueError: An unknown reduction or a ``k`` below 1.

    Source: Out-of-Distribution Detection with Deep Nearest Neighbors (2022).
    """

    k: int = 10
    reduction: Literal["kth", "mean"] = "kth"
    normalise: bool = False

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k: expected at least 1, found {self.k}.")
        if self.reduction not in ("kth", "mean"):
            raise ValueError(f"reduction: expected 'kth' or 'mean', found {self.reduction!r}.")

    def fit(self, features: Any, labels: Any = None) -> FittedNeighbours:
        """Keep the usual rows ``(n, d)``, at least k of them; labels are not looked at."""
        return FittedNeighbours(self, self._prepare(_checked(features, self.k)))

    def _prepare(self, rows: Tensor) -> Tensor:
        if not self.normalise:
            return rows
        length = rows.norm(dim=1, keepdim=True)
        return rows / length.where(length > 0, 1.0)


@dataclass(frozen=True, eq=False)
class FittedNeighbours:
    """The usual rows.

    Attributes:
        settings: The scorer that was fitted.
        rows: Usual rows as they are compared, float64 ``(n, d)``.
    """

    settings: NearestNeighbours
    rows: Float64[Tensor, "n d"]

    def score(self, features: Any) -> Float64[Tensor, " n"]:
        """Distance of each row to its k-th neighbour, or the mean distance to the k nearest, ``(n,)``."""
        queries = self.settings._prepare(rows_like(features, self.rows.shape[1]))
        distances, _ = k_nearest(queries, self.rows, self.settings.k)
        return distances[:, -1] if self.settings.reduction == "kth" else distances.mean(1)


def _checked(x: Any, k: int) -> Tensor:
    rows = features(x, "features").detach()
    at_least(rows, k, "features", f"for {k} neighbours")
    return rows
