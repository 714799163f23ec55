"""Asking a denoiser for some rows only: those that are finished have an answer already, the row itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from clarkia.denoisers import Denoiser
from clarkia.processes.times import Time, shared
from clarkia.spaces import State, num_rows, take_rows


def on_live_rows(denoiser: Denoiser, x: State, t: Time, *condition: Any) -> Any:
    """The denoiser's answer, asked only for the rows with an element at t > 0.

    Args:
        denoiser: ``denoiser(x_t, t, condition=None)``.
        x: State of the run, ``(n, ...)`` or a dict of blocks.
        t: ``(n,)`` or the shape of a block, or a dict of these.
        condition: Nothing, or one condition. A tensor (or a dict of tensors) whose first axis has ``n`` entries has one
            a row. Where it is anything but tensors, all rows are asked for.

    Returns:
        The prediction of all rows; finished ones are ``x`` itself, one-hot where it holds classes.
    """
    if all(time.ndim == 1 and time.stride(0) == 0 for time in _times(t)):
        return denoiser(x, t, *condition)  # all rows are at one time
    live = _live(t)
    if bool(live.all()) or not bool(live.any()) or not splits(*condition):
        return denoiser(x, t, *condition)
    index = live.nonzero().squeeze(1)
    answer = ask(denoiser, x, t, index, *condition)
    if isinstance(x, Tensor):
        return _whole(answer, x, index)
    if not isinstance(answer, Mapping) or set(answer) != set(x):
        return answer  # wrong, and told so by the check of predictions
    return {name: _whole(answer[name], block, index) for name, block in x.items()}


def ask(denoiser: Denoiser, x: State, t: Time, index: Tensor, *condition: Any) -> Any:
    """The denoiser's answer to the rows ``index`` alone; arguments as in `on_live_rows`."""
    some_t = {name: time[index] for name, time in t.items()} if isinstance(t, Mapping) else t[index]
    return denoiser(take_rows(x, index), some_t, *(take_condition(part, index, num_rows(x)) for part in condition))


def splits(*condition: Any) -> bool:
    """Whether it is known which part of a condition belongs to which row."""
    parts = [part for one in condition for part in (one.values() if isinstance(one, Mapping) else (one,))]
    return all(part is None or isinstance(part, Tensor) for part in parts)


def certain(x: Tensor, like: Tensor) -> Tensor:
    """What a denoiser says of observed rows: the numbers themselves, classes one-hot; of the dtype of ``like``."""
    if x.is_floating_point():
        return x.to(like.dtype)
    answer = like.new_full((*x.shape, like.shape[-1]), -torch.inf)
    return answer.scatter_(-1, x.clamp(max=like.shape[-1] - 1).unsqueeze(-1), 0.0)


def _live(t: Time) -> Tensor:
    """Which rows have an element at t > 0, bool ``(n,)``."""
    live = [(shared(time) > 0).flatten(1).any(1) if time.ndim > 1 else shared(time) > 0 for time in _times(t)]
    return torch.stack(torch.broadcast_tensors(*live)).any(0)


def _times(t: Time) -> list[Tensor]:
    return list(t.values()) if isinstance(t, Mapping) else [t]


def _whole(answer: Any, x: Tensor, index: Tensor) -> Any:
    if not isinstance(answer, Tensor) or answer.shape[: x.ndim] != (len(index), *x.shape[1:]):
        return answer  # wrong, and told so by the check of predictions
    return certain(x, answer).index_copy(0, index, answer)


def take_condition(condition: Any, index: Tensor, rows: int) -> Any:
    """The entries ``index`` of each tensor of a condition that has one a row; anything else unchanged."""
    if isinstance(condition, Mapping):
        return {name: take_condition(part, index, rows) for name, part in condition.items()}
    return condition[index] if isinstance(condition, Tensor) and condition.shape[:1] == (rows,) else condition
