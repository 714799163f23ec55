"""Batches made ready in the background, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from threading import Lock
from typing import TypeVar

import torch

from ..spaces import State, map_blocks, num_rows, take_rows
from .batches import take
from .sources import InMemory, Source, order_of

Made = TypeVar("Made")

THREADS = 2
"""Batches that are read at the same time: one waits for the disk while another is decoded."""


@contextmanager
def prefetched(make: Callable[[int], Made], first: int, *, ahead: int) -> Iterator[Callable[[int], Made]]:
    """Lend a function that gives `make(first)`, `make(first + 1)`, ..., each begun in the background beforehand.

    The order is that of the numbers, whichever is ready first. An error of `make` is raised where its number is asked
    for. On leaving the block nothing new is begun and the threads have ended.

    Args:
        make: called in a background thread with one number after another.
        first: the first number.
        ahead: how many are under way or ready beyond the one that is asked for.
    """
    waiting: deque[Future[Made]] = deque()
    pool = ThreadPoolExecutor(min(THREADS, ahead), thread_name_prefix="clarkia-batches")
    begun = first

    def get(number: int) -> Made:
        nonlocal begun
        while begun <= number + ahead:
            waiting.append(pool.submit(make, begun))
            begun += 1
        return waiting.popleft().result()

    try:
        yield get
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def batches(
    source: Source, *, batch_size: int, seed: int, share: slice, device: torch.device, first: int, ahead: int
) -> Iterator[Callable[[int], State]]:
    """Lend a function from the number of a step to this process's rows of its batch, on the device.

    Args:
        source: the data.
        batch_size: rows of a whole batch.
        seed: fixes the order of the rows.
        share: the rows of the batch that this process takes.
        device: where the batch is wanted.
        first: the step that is asked for first; the others follow one by one.
        ahead: batches read in the background beyond the one in use; 0 reads in the calling thread.
    """
    order = order_of(source, batch_size, seed)
    if isinstance(source, InMemory):
        yield lambda step: take(source.data, order.batch(step)[share], device)
        return

    one_at_a_time = Lock()  # an order keeps the permutation of its epoch

    def read(step: int) -> State:
        with one_at_a_time:
            indices = order.batch(step)[share]
        state = source.rows(indices)
        if num_rows(state) != len(indices):
            raise ValueError(f"data: expected {len(indices)} rows from rows(...), found {num_rows(state)}.")
        # Memory that the operating system may not move is what a GPU can copy from while the thread goes on.
        return map_blocks(torch.Tensor.pin_memory, state) if device.type == "cuda" else state

    with prefetched(read, first, ahead=ahead) if ahead else nullcontext(read) as get:
        yield lambda step: map_blocks(lambda block: block.to(device, non_blocking=True), get(step))


def parts(batch: State, count: int) -> Iterator[tuple[slice, State]]:
    """The rows of a batch in `count` parts of nearly one size, none of them empty, and where each lies."""
    rows = num_rows(batch)
    count = min(count, rows)
    for part in range(count):
        where = slice(part * rows // count, (part + 1) * rows // count)
        yield where, batch if count == 1 else take_rows(batch, where)
