"""Stored features at a chosen accuracy: cut to a range, quantised, and coded at about their entropy."""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.measures.fields.checks import check_count
from clarkia.measures.representations import range_coder
from clarkia.measures.representations.quantisers import MAX_BITS, Kind, Quantiser, fit_quantiser, step_quantiser

MAGIC = b"ckfc"
HEADER = struct.Struct("<4sBBHHII")  # magic, version, axes, groups, levels, words, bytes of side information
MAX_GROUPS = 256


@dataclass(frozen=True, kw_only=True)
class FeatureCodec:
    """A codec of feature tensors.

    Attributes:
        kind: Quantiser: ``"uniform"``, ``"lloyd"`` (least squared error) or ``"quantile"`` (equal shares).
        bits: ``2^bits`` levels, from 1 to 12.
        step: Distance between the levels of a uniform quantiser, in place of ``bits``; None for ``bits``.
        truncate: Range that values are cut to, or None for the quantiles 0.001 and 0.999 of each group. Outliers of
            few channels of a transformer would otherwise stretch all steps.
        groups: Parts of the channels (axis 1), each with a histogram and a quantiser of its own (levels of a given
            ``step`` are the same in all). One range for loud and quiet channels leaves the quiet ones few levels.

    Raises:
        ValueError: A value out of its range.

    Source: Feature Coding in the Era of Large Models: Dataset, Test Conditions, and Benchmark (2024).
    """

    kind: Kind = "uniform"
    bits: int = 8
    step: float | None = None
    truncate: tuple[float, float] | None = None
    groups: int = 1

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind: expected one of {list(get_args(Kind))}, found {self.kind!r}.")
        check_count(self.bits, "bits", most=MAX_BITS)
        check_count(self.groups, "groups", most=MAX_GROUPS)
        if self.step is not None and (self.kind != "uniform" or not (math.isfinite(self.step) and self.step > 0)):
            raise ValueError(f"step: expected a positive number with the uniform kind, found {self.step}.")
        if self.truncate is not None:
            low, high = self.truncate
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"truncate: expected two finite ascending numbers, found {self.truncate}.")

    def encode(self, x: Float[Tensor, "n ..."]) -> bytes:
        """Features as bytes, side information included.

        Args:
            x: Features ``(n, ...)``, finite, channels on axis 1.

        Raises:
            ValueError: No values, values that are not finite, fewer channels than groups, or more than 4,096 steps in
                the range.
        """
        values = _values(x)
        if self.groups > 1 and (values.ndim < 2 or values.shape[1] < self.groups):
            raise ValueError(f"x: expected at least {self.groups} channels on axis 1, found shape {values.shape}.")
        parts = _parts(values.shape, self.groups)
        quantisers = self._quantisers(values, parts)
        levels = np.stack([quantiser.levels for quantiser in quantisers])
        codes, counts = np.empty(values.shape, np.uint16), np.empty(levels.shape, np.int64)
        for group, (part, quantiser) in enumerate(zip(parts, quantisers, strict=True)):
            codes[part] = quantiser.encode(values[part])
            counts[group] = np.bincount(codes[part].ravel(), minlength=levels.shape[1])
        table = range_coder.shares(counts)
        states, words = range_coder.encode(codes.ravel(), _groups(values.shape, self.groups), table)
        return _write(values.shape, table, levels, states, words)

    def decode(self, data: bytes) -> Float[Tensor, "n ..."]:
        """The same as `decode_features`: all that is needed is in the bytes."""
        return decode_features(data)

    def _quantisers(self, values: np.ndarray, parts: list[Any]) -> list[Quantiser]:
        """One quantiser a group."""
        if self.step is not None:
            low, high = self.truncate or _cuts(values)
            if (high - low) / self.step > 2**MAX_BITS - 2:
                raise ValueError(f"step: expected at most {2**MAX_BITS} steps from {low} to {high}, found {self.step}.")
            return [step_quantiser(self.step, low, high)] * self.groups
        ranges = [self.truncate or _cuts(values[part]) for part in parts]
        return [
            fit_quantiser(np.clip(values[part], low, high), self.kind, self.bits, low, high)
            for part, (low, high) in zip(parts, ranges, strict=True)
        ]


def decode_features(data: bytes, *, max_values: int = 2**28) -> Float[Tensor, "n ..."]:
    """Read features back.

    Args:
        data: What `FeatureCodec.encode` wrote.
        max_values: Refuse tensors of more values, whatever the header claims.

    Returns:
        The levels nearest to the features, in single precision.

    Raises:
        ValueError: Data that are cut off, damaged, or no features.
    """
    shape, table, levels, states, words = _read(data, max_values)
    groups = _groups(shape, len(table))
    codes = range_coder.decode(states, words, groups, table)
    return torch.from_numpy(levels[groups, codes].astype(np.float32)).reshape(shape)


def bits_per_value(data: bytes, x: Float[Tensor, "n ..."]) -> float:
    """Bits that a coded tensor takes for each of its values, side information included."""
    return 8 * len(data) / x.numel()


def _values(x: Tensor) -> np.ndarray:
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim < 1 or not x.numel():
        found = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"x: expected a floating-point tensor with values, found {found}.")
    values = x.detach().cpu().double().numpy()
    bad = ~np.isfinite(values)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(f"x: expected finite features, found {values[where]} in row {where[0]}, position {where[1:]}.")
    return values


def _cuts(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.001, 0.999])
    return float(low), float(high)


def _groups(shape: tuple[int, ...], count: int) -> np.ndarray:
    """Group of every value, in the tensor's order: channels cut into even parts."""
    if count == 1:
        return np.zeros(math.prod(shape), np.uint8)
    of_channel = _of_channel(shape[1], count).astype(np.uint8)
    return np.broadcast_to(of_channel.reshape(-1, *(1,) * (len(shape) - 2)), shape).ravel()


def _parts(shape: tuple[int, ...], count: int) -> list[Any]:
    """Index of each group in the tensor."""
    if count == 1:
        return [...]
    edges = np.searchsorted(_of_channel(shape[1], count), np.arange(count + 1))
    return [np.s_[:, low:high] for low, high in pairwise(edges)]


def _of_channel(channels: int, count: int) -> np.ndarray:
    return np.arange(channels) * count // channels


def _write(
    shape: tuple[int, ...], table: np.ndarray, levels: np.ndarray, states: np.ndarray, words: np.ndarray
) -> bytes:
    # Even levels are two numbers; shares are mostly zeros and small, and compress well.
    steps = np.diff(levels, axis=1)
    even = levels.shape[1] < 3 or np.allclose(steps, steps[:, :1], rtol=1e-9, atol=0)
    ends = levels[:, [0, -1]].astype("<f8") if even else levels.astype("<f4")
    side = zlib.compress(bytes([even]) + ends.tobytes() + table.astype("<u4").T.tobytes(), 9)
    header = HEADER.pack(MAGIC, 2, len(shape), len(table), levels.shape[1], len(words), len(side))
    body = b"".join(
        (
            header,
            struct.pack(f"<{len(shape)}Q", *shape),
            side,
            states.astype("<u8").tobytes(),
            words.astype("<u4").tobytes(),
        )
    )
    return body + struct.pack("<I", zlib.crc32(body))


def _read(data: bytes, max_values: int) -> tuple[tuple[int, ...], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The parts of coded features; nothing is allocated that the header claims and the checks do not allow."""

    def need(holds: bool, what: str) -> None:
        if not holds:
            raise ValueError(f"data: expected coded features, found {what}.")

    need(len(data) >= HEADER.size + 4 and data[:4] == MAGIC, "other bytes")
    need(zlib.crc32(data[:-4]) == struct.unpack("<I", data[-4:])[0], "bytes that are damaged or cut off")
    _, version, axes, groups, count, words, side = HEADER.unpack_from(data)
    need(version == 2 and axes >= 1 and 1 <= groups <= MAX_GROUPS and 1 <= count <= 2**MAX_BITS, "an unknown version")
    at = HEADER.size + 8 * axes
    need(len(data) >= at + side + 4, "a header that promises more")
    shape = struct.unpack_from(f"<{axes}Q", data, HEADER.size)
    total = math.prod(shape)
    need(0 < total <= max_values, f"{total} values, more than {max_values}")
    need(groups == 1 or (axes > 1 and shape[1] >= groups), "fewer channels than groups")
    lanes = range_coder.lanes_for(total)
    need(len(data) == at + side + 8 * lanes + 4 * words + 4, "a header of another length")
    expand = zlib.decompressobj()
    plain = expand.decompress(data[at : at + side], 1 + 8 * groups * (count + 2))
    even = bool(plain[:1] == b"\x01")
    head = 1 + groups * (16 if even else 4 * count)
    need(expand.eof and len(plain) == head + 4 * groups * count, "side information of another length")
    ends = np.frombuffer(plain[1:head], "<f8" if even else "<f4").astype(np.float64)
    ends = ends.reshape(groups, -1)
    levels = np.linspace(ends[:, 0], ends[:, 1], count, axis=1) if even else ends
    table = np.ascontiguousarray(np.frombuffer(plain[head:], "<u4").reshape(count, groups).T.astype(np.uint32))
    need(bool((table.sum(1, dtype=np.uint64) == 1 << range_coder.PRECISION).all()), "shares that do not sum to one")
    need(bool(np.isfinite(levels).all()), "levels that are not finite")
    at += side
    states = np.frombuffer(data[at : at + 8 * lanes], "<u8").astype(np.uint64)
    need(bool((states >= range_coder.LOW).all() & (states < 1 << 63).all()), "states out of range")
    return shape, table, levels, states, np.frombuffer(data[at + 8 * lanes : -4], "<u4").astype(np.uint32)
