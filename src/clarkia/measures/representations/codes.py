"""Binary codes, eight bits a byte: how many differ, which are near, and what they tell about labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, UInt8
from torch import Tensor

from clarkia.measures.fields.checks import check_count

CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Codes:
    """Binary codes of n rows, eight bits a byte.

    Attributes:
        packed: ``(n, bytes)``; the last byte is filled up with zeros.
        num_bits: Bits of a code.
    """

    packed: UInt8[np.ndarray, "n bytes"]
    num_bits: int

    def __len__(self) -> int:
        return len(self.packed)

    def bits(self) -> Bool[np.ndarray, "n bits"]:
        """The codes, one boolean a bit."""
        return np.unpackbits(self.packed, axis=1, count=self.num_bits).astype(bool)

    def varying(self) -> Bool[np.ndarray, " bits"]:
        """Which bits are not the same in all rows; ask the training rows, and `select` with their answer everywhere."""
        some, every = np.bitwise_or.reduce(self.packed, 0), np.bitwise_and.reduce(self.packed, 0)
        return np.unpackbits(some ^ every, count=self.num_bits).astype(bool)

    def select(self, bits: Bool[np.ndarray, " bits"]) -> Codes:
        """The codes with these bits only."""
        return pack(self.bits()[:, bits])

    def num_unique(self) -> int:
        """Number of different codes: of linear pieces that the rows lie in."""
        return len(np.unique(self.packed, axis=0)) if self.packed.shape[1] else min(len(self), 1)

    def redundancy(self) -> float:
        """Share of rows that a code for each piece would not need, ``(n - unique) / n``: 0 where each has its own."""
        return (len(self) - self.num_unique()) / len(self)

    def nearest(
        self, others: Codes, k: int = 1, *, exclude_self: bool = False
    ) -> tuple[Int64[np.ndarray, "n k"], Int64[np.ndarray, "n k"]]:
        """Hamming distances to the k nearest other codes, ascending, and their indices.

        Args:
            others: Codes of the same bits.
            k: Number of neighbours.
            exclude_self: ``others`` are these codes, and a row is not its own neighbour.

        Raises:
            ValueError: Codes of other bits, or fewer of them than neighbours.
        """
        if others.num_bits != self.num_bits:
            raise ValueError(f"others: expected codes of {self.num_bits} bits, found {others.num_bits}.")
        check_count(k, "k", most=len(others) - int(exclude_self))
        points = _signs(others)
        distances, indices = [], []
        for start in range(0, len(self), CHUNK):
            part = Codes(self.packed[start : start + CHUNK], self.num_bits)
            # Products of signs count agreements minus differences; single precision holds these whole numbers exactly.
            found = (self.num_bits - _signs(part) @ points.T) / 2
            if exclude_self:
                found[torch.arange(len(part)), torch.arange(start, start + len(part))] = torch.inf
            least = found.topk(k, largest=False)
            distances.append(least.values)
            indices.append(least.indices)
        return torch.cat(distances).long().numpy(), torch.cat(indices).numpy()

    def knn_accuracy(self, labels: Any, others: Codes, other_labels: Any, *, k: int = 9) -> float:
        """Share of other rows whose label is the most frequent among their k nearest of these codes.

        Args:
            labels: Labels of these codes, ``(n,)``.
            others: Codes of rows to classify.
            other_labels: Their labels.
            k: Number of neighbours.

        Raises:
            ValueError: Labels that do not fit, codes of other bits, fewer codes than neighbours.
        """
        y, other = _labels(labels, len(self), "labels"), _labels(other_labels, len(others), "other_labels")
        names, index = np.unique(y, return_inverse=True)
        near = index[others.nearest(self, k)[1]]
        votes = (near[:, :, None] == np.arange(len(names))).sum(1)
        return float((names[votes.argmax(1)] == other).mean())

    def cluster_accuracy(self, labels: Any, *, seed: int = 0) -> float:
        """Share of rows whose cluster (K-means with a cluster a class) is matched with their class, at best.

        Args:
            labels: Labels ``(n,)``.
            seed: Fixes the starts.

        Raises:
            ValueError: Labels that do not fit.
        """
        from scipy.optimize import linear_sum_assignment
        from sklearn.cluster import KMeans

        names, index = np.unique(_labels(labels, len(self), "labels"), return_inverse=True)
        count = min(len(names), self.num_unique())  # equal codes cannot be told apart
        found = KMeans(count, n_init=10, random_state=seed).fit_predict(self.bits().astype(np.float32))  # pyright: ignore[reportArgumentType]
        table = np.zeros((count, len(names)), np.int64)
        np.add.at(table, (found, index), 1)
        rows, columns = linear_sum_assignment(table, maximize=True)
        return float(table[rows, columns].sum() / len(self))

    def logistic_accuracy(self, labels: Any, others: Codes, other_labels: Any) -> float:
        """Share of other rows that one-against-one logistic regressions on these codes classify rightly.

        Raises:
            ValueError: Labels that do not fit, or codes of other bits.
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.multiclass import OneVsOneClassifier

        if others.num_bits != self.num_bits:
            raise ValueError(f"others: expected codes of {self.num_bits} bits, found {others.num_bits}.")
        y, other = _labels(labels, len(self), "labels"), _labels(other_labels, len(others), "other_labels")
        model = OneVsOneClassifier(LogisticRegression(max_iter=5000)).fit(self.bits().astype(np.float64), y)
        return float((model.predict(others.bits().astype(np.float64)) == other).mean())


def pack(bits: Bool[np.ndarray, "n bits"]) -> Codes:
    """Codes of booleans."""
    return Codes(np.packbits(bits, axis=1), bits.shape[1])


@dataclass(frozen=True, eq=False)
class CopyAlarm:
    """Which generated rows lie nearer to a training row than unseen rows do.

    Attributes:
        distances: Hamming distance of each generated row to the nearest training code, ``(n,)``.
        nearest: Index of that training row, ``(n,)``.
        p_values: Share of unseen rows (and the row itself) that are as near to the training codes, ``(n,)``.
        copies: Rows whose p-value does not exceed the level, ``(n,)``.
        expected: Share of rows that would be flagged if they were unseen rows; at most the level.
    """

    distances: Int64[np.ndarray, " n"]
    nearest: Int64[np.ndarray, " n"]
    p_values: Float64[np.ndarray, " n"]
    copies: Bool[np.ndarray, " n"]
    expected: float


def copy_alarm(generated: Codes, train: Codes, holdout: Codes, *, level: float = 0.01) -> CopyAlarm:
    """Flag generated rows whose codes are nearer to a training code than codes of unseen rows are.

    Args:
        generated: Codes of generated rows.
        train: Codes of the training rows.
        holdout: Codes of unseen rows of the same law; m of them resolve levels down to 1 / (m + 1).
        level: Share of false alarms that is allowed.

    Raises:
        ValueError: Codes of different bits, no rows, a level outside (0, 1).

    Source: Neural networks behave as hash encoders: An empirical study (2021).
    """
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number between 0 and 1, found {level}.")
    if not len(generated) or not len(train) or not len(holdout):
        raise ValueError("codes: expected at least one row of each kind, found none.")
    distances, index = (part[:, 0] for part in generated.nearest(train))
    usual = np.sort(holdout.nearest(train)[0][:, 0])
    p = (np.searchsorted(usual, distances, "right") + 1) / (len(usual) + 1)
    own = (np.searchsorted(usual, usual, "right") + 1) / (len(usual) + 1)
    return CopyAlarm(distances, index, p, p <= level, float((own <= level).mean()))


def _signs(codes: Codes) -> Tensor:
    return torch.from_numpy(codes.bits().astype(np.float32)) * 2 - 1


def _labels(labels: Any, n: int, name: str) -> np.ndarray:
    labels = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if labels.shape != (n,):
        raise ValueError(f"{name}: expected {n} labels, one a code, found shape {labels.shape}.")
    return labels
