"""The boundary of every likelihood: data that can be scored, and a denoiser's checked answer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from clarkia.denoisers import Denoiser, check_prediction
from clarkia.processes import Gaussian
from clarkia.spaces import check_classes


def check_data(process: Any, x: Any, name: str = "x") -> None:
    """Raise ``ValueError`` unless ``x`` holds rows of clean data of one block."""
    if not isinstance(x, Tensor) or x.ndim < 1 or not x.numel():
        found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name}: expected a tensor of shape (n, ...) with at least one row, found {found}.")
    if isinstance(process, Gaussian):
        if not x.is_floating_point():
            raise ValueError(f"{name}: expected a floating dtype for a continuous block, found {x.dtype}.")
        rows = (~x.isfinite()).reshape(len(x), -1).any(1).nonzero().flatten()
        if len(rows):
            raise ValueError(f"{name}: expected finite values, found a NaN or infinity in row {int(rows[0])}.")
        return
    counts = process.num_classes
    if not isinstance(counts, int) and tuple(x.shape[1:]) != (len(counts),):
        raise ValueError(f"{name}: expected shape (n, {len(counts)}), found {tuple(x.shape)}.")
    check_classes(x, counts, name)


def predict(denoiser: Denoiser, process: Any, x_t: Tensor, t: Tensor) -> Tensor:
    """The denoiser's answer in float64, its times in the state's precision, as in sampling.

    Raises:
        ValueError: A wrong shape or a number that is not finite; the sentence names the time and the row.
    """
    t = t.to(x_t.dtype if x_t.is_floating_point() else torch.get_default_dtype())
    answer = denoiser(x_t, t)
    check_prediction(answer, x_t, t, process)
    return answer.double()
