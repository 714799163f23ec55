"""Which rows a comparison is made on: drawn once, saved, the same for every classifier."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from clarkia.atomic import replacing
from clarkia.errors import DataError
from clarkia.measures.rows import stream


@dataclass(frozen=True)
class Manifest:
    """Rows of a data set with their domain and class.

    Attributes:
        rows: Row numbers in the data set, increasing.
        domains: Domain of each row.
        labels: Class of each row, 0 to C - 1.
        class_names: Name of each class.
        seed: Seed they were drawn with.

    Raises:
        ValueError: Lengths that differ, a row twice, a class without a name.
    """

    rows: tuple[int, ...]
    domains: tuple[str, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        if not len(self.rows) == len(self.domains) == len(self.labels) or not self.rows:
            raise ValueError(
                f"rows, domains, labels: expected three of one length above 0, found {len(self.rows)}, "
                f"{len(self.domains)} and {len(self.labels)}."
            )
        if len(set(self.rows)) < len(self.rows):
            raise ValueError("rows: expected every row once, found one twice.")
        if min(self.labels) < 0 or max(self.labels) >= len(self.class_names):
            raise ValueError(f"labels: expected 0 to {len(self.class_names) - 1}, one for each name, found "
                             f"{min(self.labels)} to {max(self.labels)}.")  # fmt: skip

    @classmethod
    def draw(
        cls,
        domains: Any,
        labels: Any,
        *,
        num_samples: int | None = None,
        class_names: Any = None,
        seed: int = 0,
    ) -> Manifest:
        """Draw rows of every domain and class at random, without replacement.

        Args:
            domains: Domain of each row of the data set, ``(n,)``.
            labels: Class of each row, whole numbers from 0, ``(n,)``.
            num_samples: Rows of each domain and class, all where there are fewer; None takes all.
            class_names: Name of each class; None for its number.
            seed: Seed of the draw.
        """
        places, classes = np.asarray(domains).astype(str), np.asarray(labels)
        if places.ndim != 1 or places.shape != classes.shape or not np.issubdtype(classes.dtype, np.integer):
            raise ValueError(f"labels: expected whole numbers, one a row as domains has, found {classes.dtype} "
                             f"{classes.shape} for {places.shape}.")  # fmt: skip
        names = [str(c) for c in range(int(classes.max(initial=0)) + 1)] if class_names is None else class_names
        rows = np.arange(len(places))
        if num_samples is not None:
            rows = _first_of_each(places, classes, num_samples, seed)
        return cls(
            tuple(rows.tolist()), tuple(places[rows].tolist()), tuple(classes[rows].tolist()), tuple(names), seed
        )

    def subset(self, num_samples: int, *, seed: int = 0) -> Manifest:
        """At most ``num_samples`` of its rows of every domain and class, drawn at random."""
        chosen = _first_of_each(np.array(self.domains), np.array(self.labels), num_samples, seed)
        return self.take(chosen)

    def take(self, places: Any) -> Manifest:
        """The rows at some places of the manifest: whole numbers, or booleans ``(n,)``."""
        chosen = np.arange(len(self.rows))[np.asarray(places)]
        rows, domains, labels = (tuple(c[i] for i in chosen) for c in (self.rows, self.domains, self.labels))
        return Manifest(rows, domains, labels, self.class_names, self.seed)

    def split_shots(self, shots: int, *, seed: int = 0) -> tuple[Manifest, Manifest]:
        """``shots`` rows of every domain and class, and all the others.

        Raises:
            ValueError: A domain and class that has no row beside its shots.
        """
        domains, labels = np.array(self.domains), np.array(self.labels)
        _, counts = np.unique(np.stack([domains, labels.astype(str)]), axis=1, return_counts=True)
        if counts.min() <= shots:
            raise ValueError(f"shots: expected less than {counts.min()}, the rows of the smallest class of a domain, "
                             f"found {shots}.")  # fmt: skip
        chosen = np.zeros(len(domains), dtype=bool)
        chosen[_first_of_each(domains, labels, shots, seed)] = True
        return self.take(chosen), self.take(~chosen)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the manifest as JSON."""
        with replacing(Path(path)) as temporary:
            Path(temporary).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Manifest:
        """Read a manifest.

        Raises:
            DataError: The file is no manifest.
        """
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8"))
            columns = {name: tuple(record[name]) for name in ("rows", "domains", "labels", "class_names")}
            return cls(**columns, seed=int(record["seed"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: expected a manifest, found none ({error}).") from None


def _first_of_each(domains: np.ndarray, labels: np.ndarray, count: int, seed: int) -> Int64[np.ndarray, " k"]:
    """Places of ``count`` random rows of every domain and class, increasing."""
    if count < 1:
        raise ValueError(f"num_samples: expected at least 1, found {count}.")
    order = stream(seed, "manifest").permutation(len(domains))
    _, cells = np.unique(np.stack([domains, labels.astype(str)]), axis=1, return_inverse=True)
    cells = cells.reshape(-1)
    order = order[np.argsort(cells[order], kind="stable")]
    ordered = cells[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return np.sort(order[rank < count])
