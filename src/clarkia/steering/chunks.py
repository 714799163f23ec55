"""Many particles through a denoiser in parts, so that memory is that of a part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from clarkia.processes.times import Time
from clarkia.samplers.live import take_condition
from clarkia.spaces import State, num_rows, take_rows


def in_chunks(answers: Callable[..., Any], rows: int) -> Callable[..., Any]:
    """A denoiser, or anything called like one, asked for so many rows at a time.

    Args:
        answers: ``answers(x_t, t, condition=None)``; tensors whose first axis is the rows, or dicts or tuples of these.
        rows: How many.

    Raises:
        ValueError: Fewer than one row.
    """
    if rows < 1:
        raise ValueError(f"rows_per_call: expected at least 1, found {rows}.")

    def asked(x: State, t: Time, *condition: Any) -> Any:
        total = num_rows(x)
        parts = []
        for first in range(0, max(total, 1), rows):
            index = torch.arange(first, min(first + rows, total))
            time = {name: part[index] for name, part in t.items()} if isinstance(t, Mapping) else t[index]
            given = (take_condition(part, index, total) for part in condition)
            parts.append(answers(take_rows(x, index), time, *given))
        return parts[0] if len(parts) == 1 else joined(parts)

    return asked


def joined(parts: list[Any]) -> Any:
    """Answers of some rows each as one of all rows."""
    first = parts[0]
    if isinstance(first, Mapping):
        return {name: joined([part[name] for part in parts]) for name in first}
    if isinstance(first, tuple):
        return tuple(joined([part[index] for part in parts]) for index in range(len(first)))
    return torch.cat(parts) if isinstance(first, Tensor) else first


def as_precise(t: Time, x: State) -> Time:
    """Times in the precision of the state's numbers."""
    blocks = [x] if isinstance(x, Tensor) else list(x.values())
    floats = [block.dtype for block in blocks if block.is_floating_point()]
    dtype = floats[0] if floats else torch.get_default_dtype()
    return {name: part.to(dtype) for name, part in t.items()} if isinstance(t, Mapping) else t.to(dtype)
