"""What is left of a feature when its best match among usual ones is taken away: it transfers to new classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from clarkia._math.linear import Whitening, ledoit_wolf_shrinkage, whitening
from clarkia._math.pairwise import squared_distances
from clarkia.measures.inputs import features
from clarkia.random import Noise, rand

Metric: TypeAlias = Literal["cosine", "euclidean"]
Kind: TypeAlias = Literal["signed", "squared"]

CELLS = 4_000_000  # similarities held at once
TIE = 1e-12  # cosines closer than this are the same up to rounding


@dataclass(frozen=True, eq=False)
class ResidualFeatures:
    """Features minus their best match in a bank of usual rows.

    A row of the bank has residual 0. With Euclidean matching, a vector added to all rows and to the bank changes
    nothing; with cosine matching it may change the matches, because angles are measured at the origin. Residuals shrink
    as banks grow: banks of one size only are comparable.

    Args:
        bank: Usual rows to match, ``(m, d)``.
        metric: "cosine" (of equal cosines the nearest row wins) or "euclidean".
        kind: "signed" for ``f - r``, "squared" for its elementwise square.

    Raises:
        ValueError: A bank that is no matrix of finite numbers, an unknown metric or kind.

    Source: Towards Class Agnostic Anomaly Detection via Residual Feature Learning (2025).
    """

    bank: Any
    metric: Metric = "cosine"
    kind: Kind = "signed"

    def __post_init__(self) -> None:
        object.__setattr__(self, "bank", features(self.bank, "bank").detach())
        if self.metric not in ("cosine", "euclidean"):
            raise ValueError(f"metric: expected 'cosine' or 'euclidean', found {self.metric!r}.")
        if self.kind not in ("signed", "squared"):
            raise ValueError(f"kind: expected 'signed' or 'squared', found {self.kind!r}.")

    def __call__(self, x: Any, *, own: tuple[Tensor, Tensor] | None = None) -> Float64[Tensor, "n d"]:
        """Residuals of rows ``(n, d)``.

        Args:
            x: Rows as wide as the bank.
            own: Item of each row ``(n,)`` and of each row of the bank ``(m,)``, whole numbers: rows of one item, the
                same row or the same image, are not matched. None matches all.

        Raises:
            ValueError: Rows of another width, or one without a row left to match.
        """
        rows = features(x, "features").detach()
        if rows.shape[1] != self.bank.shape[1]:
            raise ValueError(f"features: expected {self.bank.shape[1]} columns as the bank has, found {rows.shape[1]}.")
        left = rows - self.bank[self._match(rows, own)]
        return left.square() if self.kind == "squared" else left

    def _match(self, rows: Tensor, own: tuple[Tensor, Tensor] | None) -> Int64[Tensor, " n"]:
        chunk = max(1, CELLS // len(self.bank))
        if own is None:
            return torch.cat([self._nearest(part, None) for part in rows.split(chunk)])
        items, banked = (part.to(rows.device) for part in own)
        shapes = tuple(items.shape), tuple(banked.shape)
        if shapes != ((len(rows),), (len(self.bank),)):
            raise ValueError(f"own: expected shapes ({len(rows)},) and ({len(self.bank)},), found {shapes}.")
        if len(banked.unique()) == 1 and bool((items == banked[0]).any()):
            raise ValueError("own: expected a row of the bank left for each row, found rows of its only item.")
        parts = zip(rows.split(chunk), items.split(chunk), strict=True)
        return torch.cat([self._nearest(part, item[:, None] == banked) for part, item in parts])

    def _nearest(self, rows: Tensor, own: Tensor | None) -> Tensor:
        squared = squared_distances(rows, self.bank)
        if own is not None:
            squared = squared.masked_fill(own, torch.inf)
        if self.metric == "euclidean":
            return squared.argmin(1)
        cosine = _unit(rows) @ _unit(self.bank).T
        if own is not None:
            cosine = cosine.masked_fill(own, -torch.inf)
        best = cosine >= cosine.max(1, keepdim=True).values - TIE
        return squared.where(best, torch.inf).argmin(1)


def class_whitening(bank: Float64[Tensor, "m d"]) -> Whitening:
    """The map that gives the law of a class's usual rows mean 0 and covariance 1, estimated from its bank.

    The covariance is shrunk as Ledoit and Wolf do, by 1/m at least: m rows cannot say that a direction has no variance.

    Args:
        bank: Usual rows of the class, ``(m, d)``.

    Raises:
        ValueError: A single row, or rows that are all equal.
    """
    if not bool((bank != bank[0]).any()):
        raise ValueError(f"reference: expected usual rows that differ to whiten by, found {len(bank)} equal ones; "
                         "whiten=False does without.")  # fmt: skip
    return whitening(bank, shrinkage=max(ledoit_wolf_shrinkage(bank), 1 / len(bank)))


def draw_bank(labels: Tensor, usual: Tensor, shots: int, *, generator: Noise = None) -> Int64[Tensor, "classes shots"]:
    """Choose rows of every class at random, without replacement.

    Args:
        labels: Codes of the classes, 0 to C - 1, int64 ``(n,)``.
        usual: Which rows may be chosen, booleans ``(n,)``; more than ``shots`` of every class, so that some are left.
        shots: Rows a class.
        generator: Source of randomness.

    Returns:
        Indices of the chosen rows, int64 ``(C, shots)``.
    """
    order = rand(labels.shape, generator).argsort()
    order = order[usual[order]]
    order = order[labels[order].argsort(stable=True)]
    counts = torch.bincount(labels[usual], minlength=int(labels.max()) + 1)
    if int(counts.min()) <= shots:
        raise ValueError(
            f"shots: expected fewer than {int(counts.min())}, the usual rows of the smallest class, found {shots}."
        )
    first = counts.cumsum(0) - counts
    return order[first[:, None] + torch.arange(shots)]


def _unit(rows: Tensor) -> Tensor:
    """Rows of length one; a row of zeros stays and has cosine 0 with everything."""
    length = rows.norm(dim=1, keepdim=True)
    return rows / length.where(length > 0, 1.0)
