"""Replace a labelled data set by a handful of synthetic rows a class."""

from __future__ import annotations

from typing import Any

from clarkia.curation.checks import check_count, check_labels
from clarkia.curation.refinement.noncritical import Noncritical
from clarkia.curation.synthetic.matching import Matching
from clarkia.curation.synthetic.result import SyntheticDataset
from clarkia.random import Noise, rand
from clarkia.random import generator as stream
from clarkia.spaces import State, num_rows


def distill(
    x: State,
    labels: Any,
    *,
    per_class: int = 10,
    method: Matching | Noncritical | None = None,
    generator: Noise = None,
) -> SyntheticDataset:
    """Distil a data set: a few synthetic rows on which a new model trains almost as well as on all.

    Args:
        x: Rows ``(n, ...)``: images ``(n, c, h, w)`` in [0, 1], embeddings ``(n, d)``, or the blocks of a table.
        labels: Their classes from 0, ``(n,)``.
        per_class: Learned items a class; an item of a mosaic holds several rows.
        method: `Matching` of feature distributions (the default, with random features), or `Noncritical` refinement of
            mosaics of real crops.
        generator: Source of all that is random.

    Returns:
        The synthetic rows and their classes, in order of the classes.

    Raises:
        ValueError: Rows, labels or options that do not fit.
        FloatingPointError: A loss that is not finite.

    Sources: Dataset Distillation with Neural Characteristic Function: A Minmax Perspective (2025); Enhancing Dataset
    Distillation via Non-Critical Region Refinement (2025).
    """
    check_count(per_class, "per_class")
    rows = num_rows(x)
    if not rows:
        raise ValueError("x: expected at least one row, found none.")
    labels = check_labels(labels, rows)
    source = stream(int(rand((1,), generator) * 2**53))  # one stream for the run, whatever noise was given
    return (method or Matching()).learn(x, labels, per_class, source)
