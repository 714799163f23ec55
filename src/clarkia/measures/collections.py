"""Features for whole collections: numbers on one scale, points of small pictures, pieces of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from clarkia.measures.extractors import Extractor, fingerprint_of
from clarkia.measures.inputs import features

NGRAM_COLUMNS = 512


def standardised(real: Any) -> Extractor:
    """Columns with the mean taken off and divided by the deviation of the real rows; constant ones are only centred.

    Args:
        real: Rows that set the scale, ``(n, d)``.

    Raises:
        ValueError: Rows that are no finite matrix; the extractor, for another number of columns.
    """
    rows = features(real, "real")
    mean, deviation = rows.mean(0), rows.std(0, correction=0)
    scale = torch.where(deviation > 0, deviation, 1.0)

    def function(batch: Any) -> Tensor:
        found = torch.as_tensor(batch, dtype=torch.float64).flatten(1)
        if found.shape[1] != len(mean):
            raise ValueError(f"rows: expected {len(mean)} columns as the real rows have, found {found.shape[1]}.")
        return (found - mean) / scale

    return Extractor(function, "standardised", f"standardised-{fingerprint_of(mean, scale)}")


def pixels(size: int) -> Extractor:
    """The points of pictures ``(n, size, size, 3)`` as they are."""

    def function(batch: Any) -> Tensor:
        return torch.as_tensor(batch).flatten(1)

    return Extractor(function, f"pixels-{size}", f"pixels-{size}")


def character_ngrams(columns: int = NGRAM_COLUMNS) -> Extractor:
    """Signed counts of the two to four letters in a row of every text's words, hashed, of unit length.

    Needs no vocabulary, so it is the same for every pair of sets. A text without letters has zeros.

    Args:
        columns: Number of hashed columns.

    Source: Feature Hashing for Large Scale Multitask Learning (2009).
    """
    if columns < 1:
        raise ValueError(f"columns: expected at least 1, found {columns}.")

    def function(batch: Sequence[str]) -> Tensor:
        from sklearn.feature_extraction.text import HashingVectorizer

        hashed = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 4), n_features=columns, norm="l2")
        counts: Any = hashed.transform(batch)
        return torch.from_numpy(counts.toarray())

    return Extractor(function, f"character-ngrams-{columns}", f"character-ngrams-2-4-{columns}")
