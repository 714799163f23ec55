"""Known cells of a run: held at their values, at time 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from clarkia.processes import Discrete, Mixed, Process, spread
from clarkia.processes.times import Time
from clarkia.spaces import State, check_classes


class Evidence:
    """What is known of each block of a run.

    Args:
        x: A state of the run; fixes shapes, dtypes and device.
        process: The run's process.
        known: None, or ``(values, mask)``: states of one row or of all; blocks of a mixed state may be left out.

    Raises:
        ValueError: Blocks or shapes other than the state's, a mask that is not bool, or an unusable known value.
    """

    def __init__(self, x: State, process: Process, known: tuple[State, State] | None) -> None:
        self._mixed = isinstance(x, Mapping)
        self._cells: dict[str, tuple[Tensor, Tensor]] = {}
        if known is None:
            return
        values, mask = known
        if isinstance(values, Mapping) != self._mixed or isinstance(mask, Mapping) != self._mixed:
            raise ValueError(f"known: expected a pair of {'dicts of tensors' if self._mixed else 'tensors'}.")
        states, held, masks = (_blocks(state) for state in (x, values, mask))
        if set(held) != set(masks) or not set(held) <= set(states):
            raise ValueError(
                f"known: expected values and mask of the same blocks among {sorted(states)}, "
                f"found {sorted(held)} and {sorted(masks)}."
            )
        parts = process.blocks if isinstance(process, Mixed) else {"": process}
        self._cells = {name: _check(states[name], held[name], masks[name], parts[name], name) for name in held}
        self._live = {name: ~known_cells for name, (_, known_cells) in self._cells.items()}

    def hold(self, x: State) -> State:
        """The state with every known cell at its value."""
        if not self._cells:
            return x
        blocks = dict(_blocks(x))
        for name, (values, mask) in self._cells.items():
            blocks[name] = torch.where(mask, values, blocks[name])
        return blocks if self._mixed else blocks[""]

    def times(self, t: Tensor, x: State) -> Time:
        """Row times ``(n,)``, spread over the cells of blocks with known cells and 0 there."""
        if not self._cells:
            return t
        times = {
            name: (spread(t, block) * self._live[name]).expand(block.shape) if name in self._live else t
            for name, block in _blocks(x).items()
        }
        return times if self._mixed else times[""]


def known_rows(known: tuple[State, State]) -> int:
    """Number of rows of the known values."""
    return next(iter(_blocks(known[0]).values())).shape[0]


def known_shape(known: tuple[State, State]) -> Any:
    """Shape of one data point of the known values, a dict for a mixed state."""
    shapes = {name: tuple(block.shape[1:]) for name, block in _blocks(known[0]).items()}
    return shapes if isinstance(known[0], Mapping) else shapes[""]


def _blocks(state: State) -> Mapping[str, Tensor]:
    return state if isinstance(state, Mapping) else {"": state}


def _check(x: Tensor, values: Tensor, mask: Tensor, process: Any, block: str) -> tuple[Tensor, Tensor]:
    where = f" of block {block!r}" if block else ""
    for name, given in (("values", values), ("mask", mask)):
        if tuple(given.shape) not in {tuple(x.shape), (1, *x.shape[1:])}:
            raise ValueError(
                f"known: expected {name}{where} of shape {tuple(x.shape)} or one row, found {tuple(given.shape)}."
            )
    if mask.dtype != torch.bool:
        raise ValueError(f"known: expected a bool mask{where}, found {mask.dtype}.")
    values, mask = torch.broadcast_tensors(values.to(x), mask.to(x.device))
    if isinstance(process, Discrete):
        check_classes(torch.where(mask, values, 0), process.num_classes, f"known values{where}")
    elif not bool(torch.isfinite(values[mask]).all()):
        row = int((mask & ~torch.isfinite(values)).nonzero()[0][0])
        raise ValueError(
            f"known: expected finite values{where} where the mask is True, found a NaN or infinity in row {row}."
        )
    return values, mask
