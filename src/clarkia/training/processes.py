"""The processes that train together: how they meet, share a batch, agree on numbers and notice that one is gone."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import DataError
from ..shards import share

_LOST = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "timed out", "timeout")


class LostProcess(RuntimeError):  # noqa: N818  # the name says what happened
    """Another process has ended or did not answer in time; the run can be resumed from its last checkpoint."""


@dataclass(frozen=True, eq=False)
class Processes:
    """One process and its place among those that train together; alone by default.

    Attributes:
        rank: number of this process; the main one is 0.
        size: how many there are.
        control: the group over which numbers of the CPU are exchanged.
    """

    rank: int = 0
    size: int = 1
    control: Any = None

    @property
    def main(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    def share(self, rows: int) -> slice:
        """The rows of a batch that this process takes: neighbours, as many as any other takes or one fewer or more."""
        return share(rows, self.rank, self.size)

    def largest(self, *values: float) -> list[float]:
        """The largest of each number over all processes."""
        if self.size == 1:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(numbers, dist.ReduceOp.MAX, group=self.control)
        return numbers.tolist()

    def total(self, numbers: Tensor) -> Tensor:
        """The sum of a tensor over all processes, on the CPU."""
        if self.size > 1:
            numbers = numbers.cpu()
            dist.all_reduce(numbers, group=self.control)
        return numbers

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all processes, in place and on its device."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    @torch.no_grad()
    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes the main one's tensors, in place."""
        for tensor in tensors if self.size > 1 else ():
            dist.broadcast(tensor, src=0)


@contextmanager
def joined(device: torch.device, timeout_minutes: float) -> Iterator[tuple[Processes, torch.device]]:
    """Meet the other processes, if torchrun or `accelerate launch` started any, or the program made a group of them.

    Args:
        device: where the module is. Processes that are started on GPUs take one each.
        timeout_minutes: how long one waits for another.

    Yields:
        This process's place, and its device.

    Raises:
        DataError: several processes without accelerate.
    """
    own = dist.is_available() and dist.is_initialized()
    if not own and not _launched():
        yield Processes(), device
        return
    timeout = timedelta(minutes=timeout_minutes)
    if not own:
        device = _start(device, timeout)
    control: Any = dist.new_group(backend="gloo", timeout=timeout)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), control), device
    finally:
        # Closing the connections tells the others at once where this process ends with an error.
        dist.destroy_process_group(control)


@contextmanager
def in_touch(processes: Processes) -> Iterator[None]:
    """Within the block the failure to reach another process is one clear sentence.

    Raises:
        LostProcess: another process has ended or did not answer in time.
    """
    try:
        yield
    except RuntimeError as error:
        if processes.size == 1 or not _is_loss(error):
            raise
        raise LostProcess(
            f"process {processes.rank} of {processes.size} lost touch with another training process, which stopped or "
            "did not answer in time; see its message, then start all of them again with resume=True"
        ) from error


def _is_loss(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in _LOST)


def _launched() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and {"RANK", "MASTER_ADDR"} <= os.environ.keys()


def _start(device: torch.device, timeout: timedelta) -> torch.device:
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise DataError("training with several processes needs accelerate: pip install accelerate") from error
    state = PartialState(cpu=device.type == "cpu", timeout=timeout)
    # The group stays open for the next run: torchrun's store does not take the same processes twice.
    atexit.register(_leave)
    return device if device.type == "cpu" or state.device is None else state.device


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
