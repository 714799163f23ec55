"""Times of a batch: one a row, one an element, or (for mixed states) one of these a block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor

Time: TypeAlias = Tensor | Mapping[str, Tensor]


def spread(t: Tensor | float, x: Tensor, name: str = "t") -> Tensor:
    """A time that broadcasts against ``x``: ``(n, 1, ..., 1)`` from ``(n,)``, an element-wise time unchanged.

    A time that all rows share by expansion keeps one row, so that schedules are evaluated once for the whole batch.

    Args:
        t: One time, ``(n,)``, or the shape of ``x``.
        x: ``(n, ...)``.
        name: The argument's name in the error.

    Raises:
        ValueError: Any other shape.
    """
    if not isinstance(t, Tensor):
        t = torch.as_tensor(t, dtype=torch.float64, device=x.device)
    if t.shape == x.shape:
        return shared(t)
    if t.ndim == 0 or t.shape == x.shape[:1]:
        return shared(t).reshape(-1, *(1,) * (x.ndim - 1))
    raise ValueError(f"{name}: expected shape ({x.shape[0]},) or {tuple(x.shape)}, found {tuple(t.shape)}.")


def unspread(t: Tensor, x: Tensor) -> Tensor:
    """The inverse of `spread`: ``(n,)`` where the elements of a row share one time, else the shape of ``x``."""
    return t.reshape(-1).expand(len(x)) if t.shape[1:].numel() == 1 else t.expand(x.shape)


def shared(t: Tensor) -> Tensor:
    """One row of a time that was expanded over the rows; any other time unchanged."""
    return t[:1] if t.ndim and len(t) > 1 and t.stride(0) == 0 else t


def block_time(t: Time, block: str) -> Tensor:
    """The time of one block: its entry of a dict, or the one time all blocks share."""
    if not isinstance(t, Mapping):
        return t
    if block not in t:
        raise ValueError(f"t: expected a time for each block, found none for {block!r}.")
    return t[block]


def check_time(t: Tensor | float, name: str = "t") -> None:
    """Raise ``ValueError`` unless every time lies in [0, 1]."""
    t = torch.as_tensor(t)
    if t.numel() and not bool(((t >= 0) & (t <= 1)).all()):
        raise ValueError(f"{name}: expected times in [0, 1], found values from {float(t.min())} to {float(t.max())}.")


def check_step(t: Tensor, s: Tensor) -> None:
    """Raise ``ValueError`` unless both times lie in [0, 1] and no step leads back towards noise.

    Args:
        t: Time of the state, broadcastable against ``s``.
        s: Time to go to.
    """
    check_time(t)
    check_time(s, "s")
    if bool((s > t).any()):
        raise ValueError(f"s: expected times at most t, found {float((s - t).max()):g} above it.")
