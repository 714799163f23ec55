"""A codec that learns its features: a transform, laws of what it gives, and the range coder on both."""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from clarkia.measures.fields.checks import check_count
from clarkia.measures.representations.integer_laws import scale_index
from clarkia.measures.representations.integer_stream import IntegerCode, mixture_code, normal_code
from clarkia.measures.representations.tap import module_fingerprint
from clarkia.measures.representations.transform import Hyperprior
from clarkia.training import TrainingOptions, fit

MAGIC = b"cklc"
HEADER = struct.Struct("<4sBI")  # magic, axes, checksum of the codec's weights
ROWS = 1024  # of a pass: the same for both directions, so that both compute the same scales
MAX_HYPER = 256


@dataclass(frozen=True, eq=False)
class LearnedCodec:
    """A codec of features like those it was trained on; both sides need it, and its weights are not in the bytes.

    Attributes:
        net: The transform and the laws, float64; ``net.state_dict()`` is all there is to keep.
        shape: Of a row.
        block: Positions along a side that are transformed together.
        latents: Code of the latents by scale.
        hyper: Code of the numbers that tell the scales.

    Source: Feature Coding in the Era of Large Models: Dataset, Test Conditions, and Benchmark (2024).
    """

    net: Hyperprior
    shape: tuple[int, ...]
    block: int
    latents: IntegerCode
    hyper: IntegerCode

    def encode(self, x: Float[Tensor, "n ..."]) -> bytes:
        """Features as bytes.

        Args:
            x: Features ``(n, ...)``, finite, rows as the codec was trained on.

        Raises:
            ValueError: Rows of another shape, none, or values that are not finite.
        """
        y, z, law = self._symbols(x)
        streams = self.hyper.encode(_flat(z), _channels(z)) + self.latents.encode(_flat(y), law.numpy().ravel())
        body = HEADER.pack(MAGIC, x.ndim, self._checksum()) + struct.pack(f"<{x.ndim}Q", *x.shape) + streams
        return body + struct.pack("<I", zlib.crc32(body))

    @torch.no_grad()
    def decode(self, data: bytes, *, max_values: int = 2**28) -> Float[Tensor, "n ..."]:
        """Read features back, in single precision.

        Args:
            data: What `encode` wrote.
            max_values: Refuse tensors of more values, whatever the header claims.

        Raises:
            ValueError: Data that are cut off, damaged, no features, or of another codec.
        """
        n, at = self._read_header(data, max_values)
        blank, example = (torch.zeros(n, *size) for size in self._sizes())
        z, used = self.hyper.decode(data[at:-4], _channels(example))
        z = torch.from_numpy(z).reshape(example.shape)
        law = torch.cat([self._law(part) for part in z.split(ROWS)])
        y, more = self.latents.decode(data[at + used : -4], law.numpy().ravel())
        if at + used + more + 4 != len(data):
            raise ValueError(f"data: expected {at + used + more + 4} bytes, found {len(data)}.")
        y = torch.from_numpy(y).reshape(blank.shape)
        return torch.cat([self._unfold(self.net.restored(part.double())) for part in y.split(ROWS)]).float()

    @torch.no_grad()
    def information(self, x: Float[Tensor, "n ..."]) -> float:
        """Bits that the codec's laws give to the rounded latents of some features, before any coder."""
        y, z, _ = self._symbols(x)
        parts = zip(y.split(ROWS), z.split(ROWS), strict=True)
        return float(sum(self.net.information(a.double(), b.double()).sum() for a, b in parts))

    @torch.no_grad()
    def _symbols(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rounded latents y and z, int64, and the law of each y."""
        if not isinstance(x, Tensor) or tuple(x.shape[1:]) != self.shape or not len(x):
            found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"x: expected one row or more of shape {self.shape}, found {found}.")
        _check_finite(x)
        pairs = [self.net.latents(self._fold(part.detach().cpu().double())) for part in x.split(ROWS)]
        y, z = (torch.cat(parts).round().long() for parts in zip(*pairs, strict=True))
        return y, z, torch.cat([self._law(part) for part in z.split(ROWS)])

    def _law(self, z: Tensor) -> Tensor:
        height, width = self._sizes()[0][1:]
        return scale_index(self.net.log_scales(z.double(), (height, width)))

    def _sizes(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Shapes of a row of y and of z."""
        channels, height, width = self._fold(torch.zeros(1, *self.shape)).shape[1:]
        return (channels, height, width), (len(self.net.law.mean), -(-height // 2), -(-width // 2))

    def _fold(self, x: Tensor) -> Tensor:
        return fold(x, self.block)

    def _unfold(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(x, self.block).reshape(len(x), *self.shape)

    def _checksum(self) -> int:
        return zlib.crc32(module_fingerprint(self.net, str(self.shape), str(self.block)).encode())

    def _read_header(self, data: bytes, max_values: int) -> tuple[int, int]:
        """Number of rows, and where the streams begin."""
        axes = 1 + len(self.shape)
        at = HEADER.size + 8 * axes
        if len(data) < at + 4 or data[:4] != MAGIC:
            raise ValueError("data: expected features of a learned codec, found other bytes.")
        if zlib.crc32(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
            raise ValueError("data: expected features of a learned codec, found bytes that are damaged or cut off.")
        _, found, checksum = HEADER.unpack_from(data)
        if checksum != self._checksum() or found != axes:
            raise ValueError("data: expected features that this codec wrote, found another's.")
        n, *row = struct.unpack_from(f"<{axes}Q", data, HEADER.size)
        if tuple(row) != self.shape or not 0 < n * math.prod(self.shape) <= max_values:
            raise ValueError(f"data: expected at most {max_values} values in rows of {self.shape}, found {[n, *row]}.")
        return n, at


def train_feature_codec(
    x: Float[Tensor, "n ..."],
    *,
    trade_off: float = 100.0,
    hyper: int = 8,
    width: int = 64,
    block: int = 1,
    options: TrainingOptions | None = None,
) -> LearnedCodec:
    """Train a codec of features: least ``bits a value + trade_off * squared error`` of the standardised channels.

    Begins as even steps along the principal axes and learns to bend them, to tell quiet rows from loud ones, and to
    drop what is not worth its bits. The squared error comes out near ``0.72 / trade_off`` of a channel's variance.

    Args:
        x: Features ``(n, d)``, or maps ``(n, c, h, w)``.
        trade_off: Bits a value that a mean squared error of a whole variance is worth.
        hyper: Channels of the numbers that tell the scales, up to 256.
        width: Of the networks.
        block: Positions of maps along a side that are transformed together, a divisor of both sides.
        options: Of the training; 2,000 steps of 128 rows where None.

    Returns:
        The codec.

    Raises:
        ValueError: Features of another form, fewer than two rows, values that are not finite, numbers out of range.

    Source: Feature Coding in the Era of Large Models: Dataset, Test Conditions, and Benchmark (2024).
    """
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim not in (2, 4) or len(x) < 2 or not x[0].numel():
        found = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"x: expected floating-point rows (n, d) or maps (n, c, h, w), found {found}.")
    _check_finite(x)
    if not (math.isfinite(trade_off) and trade_off > 0):
        raise ValueError(f"trade_off: expected a positive number, found {trade_off}.")
    check_count(hyper, "hyper", most=MAX_HYPER)
    check_count(width, "width")
    check_count(block, "block")
    if any(size % block for size in (x.shape[2:] if x.ndim == 4 else (1, 1))):
        raise ValueError(f"block: expected a divisor of both sides of {tuple(x.shape[2:])}, found {block}.")
    data = fold(x.detach().cpu(), block)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0 if options is None else options.seed)
        # Even steps s have an error of s^2 / 12 at -log2(s) bits; this s is where the two trade off as asked.
        net = Hyperprior(data, math.sqrt(6 / (math.log(2) * trade_off)), hyper, width).float()

    def loss(module: nn.Module, batch: Tensor, noise: torch.Generator) -> dict[str, Tensor]:
        bits, error = module(batch, noise)
        return {"bits": bits, "error": trade_off * error}

    settings = options or TrainingOptions(batch_size=128, max_steps=2000, learning_rate=2e-3, ema_decay=0.99)
    fit(net, loss, data.float(), options=settings, progress=False)  # type: ignore[arg-type]
    net = net.double().requires_grad_(False)
    return LearnedCodec(net, tuple(x.shape[1:]), block, normal_code(), mixture_code(net.law))


def fold(x: Tensor, block: int) -> Tensor:
    """Rows as maps of one position, and the positions of each block of maps as channels."""
    return F.pixel_unshuffle(x.reshape(*x.shape[:2], *(x.shape[2:] or (1, 1))), block)


def _check_finite(x: Tensor) -> None:
    bad = ~x.isfinite().flatten(1).all(1)
    if bool(bad.any()):
        raise ValueError(f"x: expected finite features, found NaN or infinity in row {int(bad.long().argmax())}.")


def _flat(x: Tensor) -> np.ndarray:
    return x.numpy().ravel()


def _channels(z: Tensor) -> np.ndarray:
    """Channel of each number, flat."""
    return np.broadcast_to(np.arange(z.shape[1], dtype=np.uint8)[:, None, None], tuple(z.shape)).ravel()
