"""Estimators: a codec, a process and a denoiser behind fit, sample, score and save."""

import os
from importlib import import_module
from typing import Any

from clarkia.errors import DataError
from clarkia.models.files import read_model

_KINDS = {
    "table": ("clarkia.models.table", "TableModel"),
    "image": ("clarkia.models.image", "ImageModel"),
    "text": ("clarkia.models.text", "TextModel"),
}


def load(path: str | os.PathLike[str]) -> Any:
    """Read a model file, whatever kind of model it holds.

    Args:
        path: a file that `save` wrote.

    Returns:
        The fitted estimator.

    Raises:
        DataError: the file is missing, damaged, altered, of an unknown kind or made by a newer version.
    """
    parts = read_model(path)
    if parts.kind not in _KINDS:
        raise DataError(f"{path} holds a model of the kind {parts.kind!r}, which this version does not know.")
    module, name = _KINDS[parts.kind]
    return getattr(import_module(module), name).from_parts(parts, path)
