"""Whole numbers as bytes by given laws, exactly: what a law's table does not reach is named and written out."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, UInt8, UInt32

from clarkia.measures.representations import range_coder
from clarkia.measures.representations.integer_laws import SCALES, LogisticMixture, normal_log_prob

HEAD = struct.Struct("<II")  # words, bytes of the numbers written out
FINE = 2.0**40  # probabilities as counts
MIXTURE_REACH = 63


@dataclass(frozen=True, eq=False)
class IntegerCode:
    """Shares of the numbers from ``-reach`` to ``reach`` under each law, and last of all others together.

    Attributes:
        table: Shares of 2^16, ``(laws, k)``; symbol j of a law stands for ``j - reach``, ``2 reach + 1`` for others.
        reach: Of each law, ``(laws,)``.
    """

    table: UInt32[np.ndarray, "laws k"]
    reach: Int64[np.ndarray, " laws"]

    def encode(self, values: Int64[np.ndarray, " n"], law: UInt8[np.ndarray, " n"]) -> bytes:
        """Numbers as bytes, each by its law."""
        reach = self.reach[law]
        known = np.abs(values) <= reach
        symbols = np.where(known, values + reach, 2 * reach + 1).astype(np.uint16)
        states, words = range_coder.encode(symbols, law, self.table)
        others = zlib.compress(values[~known].astype("<i8").tobytes(), 9)
        head = HEAD.pack(len(words), len(others))
        return head + states.astype("<u8").tobytes() + words.astype("<u4").tobytes() + others

    def decode(self, data: bytes, law: UInt8[np.ndarray, " n"]) -> tuple[Int64[np.ndarray, " n"], int]:
        """The numbers, and how many bytes they took at the front of the data.

        Raises:
            ValueError: Bytes that no numbers have under these laws.
        """
        lanes = range_coder.lanes_for(len(law))
        if len(data) < HEAD.size:
            raise ValueError("data: expected a stream of numbers, found its end.")
        count, rest = HEAD.unpack_from(data)
        middle = HEAD.size + 8 * lanes
        end = middle + 4 * count + rest
        if len(data) < end:
            raise ValueError(f"data: expected {end} bytes of numbers, found {len(data)}.")
        states = np.frombuffer(data[HEAD.size : middle], "<u8").astype(np.uint64)
        if not ((states >= range_coder.LOW) & (states < 1 << 63)).all():
            raise ValueError("data: expected states of a coder, found others.")
        words = np.frombuffer(data[middle : middle + 4 * count], "<u4").astype(np.uint32)
        symbols = range_coder.decode(states, words, law, self.table).astype(np.int64)
        reach = self.reach[law]
        values, other = symbols - reach, symbols > 2 * reach
        missing = 8 * int(other.sum())
        expand = zlib.decompressobj()
        try:
            plain = expand.decompress(data[middle + 4 * count : end], missing + 1)
        except zlib.error as error:
            raise ValueError(f"data: expected numbers written out, found {error}.") from error
        if len(plain) != missing:
            raise ValueError(f"data: expected {missing} bytes of numbers written out, found {len(plain)}.")
        values[other] = np.frombuffer(plain, "<i8")
        return values, end


def normal_code() -> IntegerCode:
    """The code of normal laws of the standard deviations `SCALES`, each up to six of them and one more."""
    reach = np.ceil(6 * SCALES.numpy()).astype(np.int64) + 1
    return _code([normal_log_prob(_numbers(int(r)), scale) for r, scale in zip(reach, SCALES, strict=True)], reach)


def mixture_code(law: LogisticMixture) -> IntegerCode:
    """The code of a mixture's channels."""
    channels = len(law.mean)
    with torch.no_grad():
        log_prob = law.log_prob(_numbers(MIXTURE_REACH)[:, None].expand(-1, channels))
    return _code(list(log_prob.T), np.full(channels, MIXTURE_REACH, np.int64))


def _numbers(reach: int) -> torch.Tensor:
    return torch.arange(-reach, reach + 1, dtype=torch.float64)


def _code(log_probs: list[torch.Tensor], reach: np.ndarray) -> IntegerCode:
    """Shares of each law; every number that its table names keeps one, and so do all others together."""
    counts = np.zeros((len(reach), 2 * int(reach.max()) + 2), np.int64)
    for row, log_prob, r in zip(counts, log_probs, reach, strict=True):  # tens of laws, once a codec
        p = log_prob.double().exp().numpy()
        row[: 2 * r + 2] = np.append(p, max(0.0, 1 - p.sum())) * FINE + 1
    return IntegerCode(range_coder.shares(counts), reach)
