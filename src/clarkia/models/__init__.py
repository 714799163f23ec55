"""Estimators: a codec, a process and a denoiser behind fit, sample, impute, score and save."""

import os
from typing import Any

from clarkia.errors import DataError
from clarkia.models.files import read_model


def load(path: str | os.PathLike[str]) -> Any:
    """Read a model file, whatever kind of model it holds.

    Args:
        path: a file that `save` wrote.

    Returns:
        The fitted estimator.

    Raises:
        DataError: the file is missing, damaged, altered, of an unknown kind or made by a newer version.
    """
    from clarkia.models.table import TableModel

    parts = read_model(path)
    if parts.kind != "table":
        raise DataError(f"{path} holds a model of the kind {parts.kind!r}, which this version does not know.")
    return TableModel.from_parts(parts, path)
