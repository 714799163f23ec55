"""Which rows a step sees, and which noise: functions of the seed and the step alone, so any step can be redone."""

import zlib

import torch
from torch import Tensor

from .. import random
from ..spaces import State, map_blocks

ORDER, _NOISE, _LAYERS = range(3)  # separate streams of one seed


class RowOrder:
    """The endless sequence of rows of a run: one random permutation of the data after another, cut into batches.

    A batch may run over the end of an epoch, so every batch is full. Data smaller than a batch are repeated within it.

    Args:
        num_rows: rows of the data.
        batch_size: rows of a batch.
        seed: fixes the sequence.
    """

    def __init__(self, num_rows: int, batch_size: int, seed: int):
        self.num_rows, self.batch_size, self.seed = num_rows, batch_size, seed
        self._epoch, self._rows = -1, torch.empty(0, dtype=torch.int64)

    def batch(self, step: int) -> Tensor:
        """Row numbers of the batch of a step, int64 of shape (batch_size,)."""
        copies = -(-self.batch_size // self.num_rows)
        length = copies * self.num_rows
        epoch, start = divmod(step * self.batch_size, length)
        head = self._permutation(epoch, length)[start : start + self.batch_size]
        if len(head) == self.batch_size:
            return head
        return torch.cat([head, self._permutation(epoch + 1, length)[: self.batch_size - len(head)]])

    def _permutation(self, epoch: int, length: int) -> Tensor:
        if epoch != self._epoch:
            generator = random.generator(self.seed, ORDER, epoch)
            self._epoch, self._rows = epoch, torch.randperm(length, generator=generator) % self.num_rows
        return self._rows


def noise_of_step(seed: int, step: int, device: torch.device, start: int = 0) -> torch.Generator:
    """The generator that the loss of a step draws from; also seeds the global one, which dropout layers draw from.

    The generator is the same for all parts of a batch, which share its numbers by rows. Dropout knows no rows, so each
    part has a seed of its own.

    Args:
        seed: the seed of the run.
        step: finished steps.
        device: where the noise is drawn.
        start: first row of the part of the batch at hand.
    """
    layers = random.generator(seed, _LAYERS, step, *((start,) if start else ())).initial_seed()
    torch.default_generator.manual_seed(layers)
    if device.type == "cuda":
        torch.cuda.manual_seed(layers)
    return random.generator(seed, _NOISE, step, device=device)


def take(data: State, rows: Tensor, device: torch.device) -> State:
    """The given rows of a state, on a device."""
    return map_blocks(lambda block: block.index_select(0, rows).to(device, non_blocking=True), data)


def fingerprint(data: State) -> int:
    """A checksum of the data, by which a resumed run knows that they are the ones it was started on."""
    checksum = 0
    blocks = {"": data} if isinstance(data, Tensor) else data
    for name, tensor in sorted(blocks.items()):
        checksum = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), checksum)
        checksum = zlib.crc32(tensor.detach().flatten().view(torch.uint8).numpy().data, checksum)
    return checksum
