"""Feature extractors: the functions from a batch to rows of features that a measure was computed on, by name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.random import generator, randn


@dataclass(frozen=True)
class Extractor:
    """A function from a batch to features, with a name for reports and a fingerprint that tells two of them apart.

    Attributes:
        function: Takes a batch, first axis the rows; returns ``(n, d)``, or more axes, which are flattened.
        name: What reports print: a distance is ``FD[name]``, never a bare "FID".
        fingerprint: Differs whenever the features may differ: a hash of weights, or settings and a seed.
    """

    function: Callable[[Any], Tensor]
    name: str
    fingerprint: str

    def __call__(self, batch: Any) -> Float[Tensor, "n d"]:
        """Features of every row of the batch.

        Raises:
            ValueError: The function returned no tensor, or another number of rows than the batch has.
        """
        found = self.function(batch)
        if not isinstance(found, Tensor) or found.ndim == 0:
            raise ValueError(f"{self.name}: expected a tensor of features, found {type(found).__name__}.")
        rows = len(next(iter(batch.values()))) if isinstance(batch, dict) else len(batch)
        if len(found) != rows:
            raise ValueError(f"{self.name}: expected one row of features a row, {rows} rows, found {len(found)}.")
        return found.flatten(1) if found.ndim > 1 else found[:, None]


def fingerprint_of(*tensors: Tensor) -> str:
    """Sixteen hexadecimal digits that change with any number of the tensors, such as a network's weights."""
    digest = hashlib.sha256()
    for tensor in tensors:
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{plain.dtype}{tuple(plain.shape)}".encode())
        digest.update(plain.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _flat(batch: Any) -> Tensor:
    return torch.as_tensor(batch).flatten(1)


identity = Extractor(torch.as_tensor, "identity", "identity")
flatten = Extractor(_flat, "flatten", "flatten")


def random_relu(width: int, seed: int = 0) -> Extractor:
    """One layer of random directions and biases with ReLU: features that no data set has trained.

    ``relu(x W / sqrt(d) + b)`` with standard normal W and b, the same for every batch of one width d.

    Args:
        width: Number of features.
        seed: Seed of the weights.

    Raises:
        ValueError: A width below 1.
    """
    if width < 1:
        raise ValueError(f"width: expected at least 1 feature, found {width}.")

    def function(batch: Any) -> Tensor:
        rows = _flat(batch)
        d = rows.shape[1]
        noise = generator(seed, d)
        weight, bias = (randn(shape, noise, dtype=torch.float64).to(rows) for shape in ((d, width), (width,)))
        return torch.relu(rows @ weight / d**0.5 + bias)

    return Extractor(function, f"random-relu-{width}", f"random-relu-{width}-seed-{seed}")
