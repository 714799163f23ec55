"""Predictions held in the range of the data, however strongly they are guided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.denoisers import Denoiser
from clarkia.processes.times import Time, block_time, spread
from clarkia.spaces import State


def dynamic_threshold(denoiser: Denoiser, quantile: float = 0.95, *, bound: float = 1.0) -> Denoiser:
    """A denoiser whose predictions stay within the range of the data: clipped, and where many leave it, shrunk.

    With s the quantile of ``|x0_hat|`` over the elements of a row, or `bound` where that is more, the answer is
    ``clip(x0_hat, -s, s) bound / s``. So a few elements out of range are cut off, while a row that is too large as a
    whole keeps its contrasts. Rows within the range stay as they are, bit for bit, and so do elements at t = 0 and
    categorical blocks. Guidance goes inside: ``dynamic_threshold(classifier_free(denoiser, 5.0))``.

    Args:
        denoiser: Answers ``x0_hat (n, ...)``; of a mixed state each continuous block has its own quantile.
        quantile: Share of a row's elements that is not clipped; 1 only shrinks.
        bound: The data lie in ``[-bound, bound]``, as pictures in [-1, 1].

    Raises:
        ValueError: A quantile outside [0, 1], or a bound that is not positive.

    Source: Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding (2022).
    """
    if not 0 <= quantile <= 1:
        raise ValueError(f"quantile: expected a number in [0, 1], found {quantile}.")
    if not bound > 0:
        raise ValueError(f"bound: expected a positive number, found {bound}.")

    def cut(x_t: Tensor, t: Tensor, prediction: Tensor) -> Tensor:
        if not x_t.is_floating_point():
            return prediction
        return torch.where(spread(t, x_t) > 0, thresholded(prediction, quantile, bound), prediction)

    def held(x_t: State, t: Time, condition: Any = None) -> Any:
        prediction = denoiser(x_t, t, *(() if condition is None else (condition,)))
        if isinstance(x_t, Mapping):
            return {name: cut(x_t[name], block_time(t, name), block) for name, block in prediction.items()}
        return cut(x_t, t, prediction)  # type: ignore[arg-type]

    return held


def thresholded(x: Float[Tensor, "n ..."], quantile: float, bound: float = 1.0) -> Float[Tensor, "n ..."]:
    """Rows clipped and shrunk; arguments as in `dynamic_threshold`."""
    size = x.reshape(len(x), -1).abs().to(torch.promote_types(x.dtype, torch.float32)).sort(1).values
    place = quantile * (size.shape[1] - 1)
    low, high = size[:, int(place)], size[:, min(int(place) + 1, size.shape[1] - 1)]
    limit = spread(torch.lerp(low, high, place - int(place)).clamp(min=bound).to(x.dtype), x)
    return x.clamp(-limit, limit) / (limit / bound)
