"""Reports on models of pictures and texts: what they draw beside what they learned from."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .errors import about
from .kinds import Kind
from .model import counting, kind_of_model

if TYPE_CHECKING:
    from ..adapters.collections import Collection
    from ..reports import CollectionReport

MAX_ROWS = 1000
"""Rows of a set in use at the most; a model draws no more of them."""

_LARGEST = 32  # side of the pictures that are compared


def report_on_model(model: Any, real: Path, holdout: Path | None, seed: int) -> "CollectionReport":
    """Compare what a model draws with real pictures or texts.

    Raises:
        DataError: the real ones cannot be read, or are too few.
    """
    from ..reports import collection_report

    read = _pictures if kind_of_model(model) is Kind.image else _texts
    with about(real):
        found = read(model, real)
    held = None
    if holdout is not None:
        with about(holdout):
            held = read(model, holdout)
    number = min(len(found), MAX_ROWS)
    drawn = _drawn_pictures(model, number, seed) if found.kind == "images" else _written(model, number, seed)
    return collection_report(found, drawn, holdout=held, max_rows=MAX_ROWS, seed=seed, progress=sys.stdout.isatty())


def _pictures(model: Any, path: Path) -> "Collection":
    from ..models.image_data import gathered

    pictures = gathered(path)
    return _as_collection(model, model.codec_.decode(model.codec_.encode(pictures.images)))


def _drawn_pictures(model: Any, number: int, seed: int) -> "Collection":
    from ..models.image_parts import STEPS

    with counting(model, "sampling", number, STEPS, "picture"):
        return _as_collection(model, model.sample(number, seed=seed))


def _as_collection(model: Any, pictures: Any) -> "Collection":
    from dataclasses import replace

    import numpy as np

    from ..adapters.collections import Collection

    small = replace(model.codec_, mode="RGB", size=min(model.codec_.size, _LARGEST))
    points = small.decode(small.encode(pictures, layout="last" if pictures.ndim == 4 else None))
    return Collection("images", points.astype(np.float32) / 255)


def _texts(model: Any, path: Path) -> "Collection":
    import torch

    from ..adapters.collections import Collection
    from ..adapters.texts import TextSource

    source = TextSource(path, model.codec_, places="tiles", unknown="replace")
    rows = torch.linspace(0, len(source) - 1, min(len(source), 10 * MAX_ROWS)).long()
    if len(rows) < 2:
        raise DataError(f"{path}: expected at least two texts of {model.codec_.length} tokens, found {len(rows)}")
    return Collection("texts", model.codec_.decode(source.rows(rows)["tokens"]))


def _written(model: Any, number: int, seed: int) -> "Collection":
    from ..adapters.collections import Collection

    with counting(model, "writing", number, model.codec_.length, "text"):
        return Collection("texts", model.sample(number, seed=seed))
