"""Where randomness comes from: generators, noise in fixed blocks of rows, float64 categorical draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor


class RowBlocks:
    """A source of noise whose row ``i`` depends on ``(seed, i // block)`` only, never on the batch.

    Every draw makes whole blocks of ``block`` rows, each from its own generator on the CPU, and keeps the rows asked
    for. So rows ``[0, 10)`` of a seeded sample are the same drawn alone, among a thousand, or on another device.
    Two sources agree as long as the same draws are made in the same order.

    Args:
        seed: Any non-negative integer.
        start: Index of the first row.
        rows: Number of rows; the first axis of every draw.
        block: Rows a generator serves; part of the seed's meaning.
    """

    def __init__(self, seed: int, start: int, rows: int, block: int = 1024) -> None:
        if seed < 0 or start < 0 or rows < 0 or block < 1:
            raise ValueError(
                "RowBlocks: expected seed, start, rows >= 0 and block >= 1, "
                f"found seed={seed}, start={start}, rows={rows}, block={block}."
            )
        self.rows, self._block = rows, block
        offset = start % block
        self._kept: slice | Tensor = slice(offset, offset + rows)
        self._generators = [generator(seed, index) for index in range(start // block, -(-(start + rows) // block))]

    @classmethod
    def at(cls, seed: int, rows: Int64[Tensor, " n"], block: int = 1024) -> RowBlocks:
        """The noise of rows of any numbers, in any order."""
        blocks, place = torch.unique(rows // block, return_inverse=True)
        source = cls(seed, 0, 0, block)
        source.rows = len(rows)
        source._kept = place * block + rows % block
        source._generators = [generator(seed, index) for index in blocks.tolist()]
        return source

    def draw(self, sampler: Callable[[tuple[int, ...], torch.Generator], Tensor], shape: Sequence[int]) -> Tensor:
        """Draw ``shape`` (first axis ``rows``) by calling ``sampler(block shape, generator)`` for each block."""
        if not shape or shape[0] != self.rows:
            raise ValueError(f"shape: expected {self.rows} rows as this RowBlocks was made for, found {tuple(shape)}.")
        if not self._generators:
            return sampler((0, *shape[1:]), generator(0))
        parts = [sampler((self._block, *shape[1:]), block) for block in self._generators]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        return whole[self._kept.to(whole.device) if isinstance(self._kept, Tensor) else self._kept]


class Share:
    """The noise of some rows of a larger batch: every draw makes the whole batch's numbers and keeps these rows'.

    So the processes of one training step, each with a generator of the same seed and rows of its own, draw together
    what one process would draw alone, to the last bit.

    Args:
        generator: The source that all processes share.
        start: Index of this process's first row in the batch.
        rows: Number of its rows; the first axis of every draw.
        total: Rows of the whole batch.
    """

    def __init__(self, generator: torch.Generator, start: int, rows: int, total: int) -> None:
        if start < 0 or rows < 0 or start + rows > total:
            raise ValueError(
                "Share: expected 0 <= start, 0 <= rows and start + rows <= total, "
                f"found start={start}, rows={rows}, total={total}."
            )
        self.generator, self.start, self.rows, self.total = generator, start, rows, total

    def draw(self, sampler: Callable[[tuple[int, ...], torch.Generator], Tensor], shape: Sequence[int]) -> Tensor:
        """Draw ``shape`` (first axis ``rows``) as a part of ``sampler((total, ...), generator)``."""
        if not shape or shape[0] != self.rows:
            raise ValueError(f"shape: expected {self.rows} rows as this Share was made for, found {tuple(shape)}.")
        return sampler((self.total, *shape[1:]), self.generator)[self.start : self.start + self.rows]


Noise: TypeAlias = torch.Generator | RowBlocks | Share | None


def generator(seed: int, *path: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose stream is a function of ``(seed, *path)``: independent streams for blocks, epochs, steps."""
    words = np.random.SeedSequence((seed, *path)).generate_state(2, np.uint32)
    return torch.Generator(device).manual_seed(int(words[0]) << 32 | int(words[1]))


def randn(
    shape: Sequence[int],
    generator: Noise = None,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Standard normal numbers of the given shape."""

    def normal(size: tuple[int, ...], source: torch.Generator | None) -> Tensor:
        return torch.randn(size, generator=source, dtype=dtype, device=source.device if source else device)

    return _draw(normal, shape, generator, device)


def rand(shape: Sequence[int], generator: Noise = None, *, device: torch.device | str | None = None) -> Tensor:
    """Uniform float64 numbers in ``[0, 1)`` of the given shape."""

    def uniform(size: tuple[int, ...], source: torch.Generator | None) -> Tensor:
        return torch.rand(size, generator=source, dtype=torch.float64, device=source.device if source else device)

    return _draw(uniform, shape, generator, device)


def of_batch(n: int, generator: Noise, draw: Callable[[int, torch.Generator | None], Tensor]) -> Tensor:
    """A draw that couples the rows of a batch, such as stratified times, made over the whole batch.

    Args:
        n: Rows at hand.
        generator: Source of randomness. With a `Share` the draw is made for all rows of the shared batch; with
            `RowBlocks` for each of its fixed blocks, so that a row depends on its block alone.
        draw: ``draw(rows, source)`` makes a tensor with this many rows.

    Returns:
        The n rows at hand, ``(n, ...)``.

    Raises:
        ValueError: A source made for another number of rows.
    """
    if isinstance(generator, RowBlocks | Share):
        return generator.draw(lambda shape, source: draw(shape[0], source), (n,))
    return draw(n, generator)


def categorical(log_probs: Tensor, generator: Noise = None) -> Tensor:
    """Draw one class a distribution, in float64.

    Args:
        log_probs: ``(n, ..., K)`` log-probabilities, at least one finite in each distribution.
        generator: Source of randomness.

    Returns:
        int64 ``(n, ...)``; a class of probability zero is never drawn.
    """
    return choose(log_probs, rand(log_probs.shape[:-1], generator, device=log_probs.device))


def choose(log_probs: Tensor, uniforms: Tensor) -> Tensor:
    """The class at which the float64 cumulative distribution first exceeds a uniform number.

    Args:
        log_probs: ``(..., K)`` log-probabilities.
        uniforms: float64 ``(...)`` in ``[0, 1)``.

    Returns:
        int64 ``(...)``.

    Raises:
        ValueError: A distribution has no mass or holds a NaN.
    """
    cumulative = log_probs.double().exp().cumsum(-1)
    total = cumulative[..., -1]
    if not bool(((total > 0) & (total < torch.inf)).all()):
        raise ValueError(
            "log_probs: expected a finite positive mass in every distribution, found NaN, zero or infinity."
        )
    # A uniform number rescaled by a caller may round to 1; the last possible class takes it.
    threshold = torch.minimum(uniforms * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, threshold.unsqueeze(-1), right=True).squeeze(-1)


def _draw(
    sampler: Callable[[tuple[int, ...], torch.Generator | None], Tensor],
    shape: Sequence[int],
    source: Noise,
    device: torch.device | str | None,
) -> Tensor:
    noise = source.draw(sampler, shape) if isinstance(source, RowBlocks | Share) else sampler(tuple(shape), source)
    return noise if device is None else noise.to(device)
