"""Two sets of anything compared through their features: distances, support, diversity, a classifier, and copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia.measures.assess import Assessment, assess_each
from clarkia.measures.detection import TwoSampleTest, c2st
from clarkia.measures.extractors import Extractor, identity
from clarkia.measures.inputs import pair, some_rows
from clarkia.measures.memorisation import Memorisation, memorisation
from clarkia.measures.two_sample import (
    energy_distance,
    frechet_distance,
    mmd2,
    prdc,
    sliced_wasserstein,
    vendi_ratio,
)
from clarkia.random import Noise

MIN_ROWS = 30
"""Random halves, five folds and balls around neighbours say nothing about fewer."""

NEIGHBOURS = 5


@dataclass(frozen=True, eq=False)
class Comparison:
    """What distances, neighbours and a classifier say about two sets of rows.

    Attributes:
        assessments: Every two-sample number by name, with interval, floor and, for the kernel test, p-value.
        test: A classifier's attempt to tell the sets apart.
        memorisation: Whether generated rows repeat real ones; None without a holdout.
        features: Name of the extractor.
        fingerprint: Its fingerprint.
        rows: Rows given, by set.
        real: Features in use of the real rows, ``(n, d)``.
        generated: The same of the generated rows, ``(m, d)``.
        holdout: The same of the held-out rows, or None.
    """

    assessments: dict[str, Assessment]
    test: TwoSampleTest
    memorisation: Memorisation | None
    features: str
    fingerprint: str
    rows: dict[str, int]
    real: Float64[Tensor, "n d"]
    generated: Float64[Tensor, "m d"]
    holdout: Float64[Tensor, "h d"] | None


def compare(
    real: Any,
    generated: Any,
    *,
    holdout: Any = None,
    extractor: Extractor = identity,
    max_rows: int = 2000,
    seeds: int = 5,
    draws: int = 20,
    permutations: int = 200,
    generator: Noise = None,
    step: Callable[[str], None] = lambda name: None,
) -> Comparison:
    """Compare generated rows with real ones, every number beside what real rows score against real rows.

    Args:
        real: What the extractor takes; the rows that a generator was trained on.
        generated: The rows to judge.
        holdout: Real rows that the generator did not see: a better floor, and the only way to look for copies.
        extractor: Makes features; only numbers of one extractor compare. For mixed tables see `reports.table_report`.
        max_rows: Rows of every set in use, drawn at random; time grows with their square.
        seeds: Repeats of the floor.
        draws: Random halves behind every interval.
        permutations: Behind the kernel test's p-value.
        generator: Source of all choices; a fixed one where None.
        step: Told what is done next, by its name.

    Returns:
        All numbers, and the features they were computed on.

    Raises:
        ValueError: Sets that are no finite features of one width, or fewer than 30 rows in one of them.
    """
    if max_rows < MIN_ROWS:
        raise ValueError(f"max_rows: expected at least {MIN_ROWS}, found {max_rows}.")
    noise = torch.Generator().manual_seed(0) if generator is None else generator
    step("features")
    x, y = pair(extractor(real), extractor(generated), ("real", "generated"))
    h = None if holdout is None else pair(x, extractor(holdout), ("real", "holdout"))[1]
    sets = {"real": x, "generated": y} | ({} if h is None else {"holdout": h})
    for name, rows in sets.items():
        if len(rows) < MIN_ROWS:
            raise ValueError(f"{name}: expected at least {MIN_ROWS} rows, found {len(rows)}.")
    used = {name: some_rows(rows, min(len(rows), max_rows), noise) for name, rows in sets.items()}
    x, y, h = used["real"], used["generated"], used.get("holdout")

    found: dict[str, Assessment] = {}
    for measure in _measures(noise):
        step(getattr(measure, "func", measure).__name__.replace("_", " "))
        shuffles = permutations if measure is mmd2 else 0
        found |= assess_each(
            measure, x, y, holdout=h, extractor=Extractor(lambda rows: rows, extractor.name, extractor.fingerprint),
            seeds=seeds, draws=draws, permutations=shuffles, generator=noise,
        )  # fmt: skip
    step("classifier")
    size = min(len(x), len(y))
    test = c2st(*(some_rows(rows, size, noise).numpy() for rows in (x, y)))
    step("copies")
    copies = None if h is None else memorisation(x, h, y, generator=noise)
    counts = {name: len(rows) for name, rows in sets.items()}
    return Comparison(found, test, copies, extractor.name, extractor.fingerprint, counts, x, y, h)


def _measures(noise: Noise) -> tuple[Callable[..., Any], ...]:
    """In the order of the report."""
    return (
        frechet_distance,
        mmd2,
        energy_distance,
        partial(sliced_wasserstein, generator=noise),
        partial(prdc, k=NEIGHBOURS),
        partial(vendi_ratio, generator=noise),
    )


STEPS = 9
"""How often `compare` calls ``step``."""
