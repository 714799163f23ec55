"""Drawing pictures: the sampling loop between what is asked for and decoded bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from numpy.typing import NDArray
from torch import Tensor

from clarkia import samplers
from clarkia.codecs.descriptions import DescriptionCodec, is_list
from clarkia.codecs.image import ImageCodec, to_float
from clarkia.denoisers import Preconditioned
from clarkia.errors import DataError
from clarkia.guidance import classifier_free
from clarkia.models import image_parts
from clarkia.processes import Gaussian
from clarkia.random import RowBlocks

NOISE_BLOCK = 16
"""Pictures that share a generator of noise; part of what a seed means."""


@dataclass(frozen=True)
class PictureSampler:
    """What pictures are drawn with.

    Attributes:
        codec: of the pictures.
        descriptions: of what is said of them.
        process: the Gaussian process.
        denoiser: the trained denoiser.
        shape: channels, height and width of what the network sees.
        autoencoder: of a model of latents; None otherwise.
        num_steps: solver steps; None for the default.
        guidance_scale: classifier-free guidance towards what is asked for.
        solver: None for the default.
    """

    codec: ImageCodec
    descriptions: DescriptionCodec
    process: Gaussian
    denoiser: Preconditioned
    shape: tuple[int, int, int]
    autoencoder: Any = None
    num_steps: int | None = None
    guidance_scale: float = 0.0
    solver: samplers.Solver | None = None

    def pictures(self, given: Mapping[str, Any], *, seed: int, start: int, rows: int) -> NDArray[np.uint8]:
        """Pictures number `start` and after; each depends on the seed and its number."""
        return self._decoded(self._draw(given, RowBlocks(seed, start, rows, NOISE_BLOCK)))

    def filled(
        self,
        levels: UInt8[Tensor, "n c h w"],
        holes: Bool[Tensor, "n 1 h w"],
        given: Mapping[str, Any],
        *,
        seed: int,
        start: int,
    ) -> NDArray[np.uint8]:
        """Coded pictures, number `start` and after, with their holes filled and the rest as it was."""
        source = RowBlocks(seed, start, len(levels), NOISE_BLOCK)
        known = (~holes).expand(levels.shape)
        drawn = self._decoded(self._draw(given, source, (to_float(levels), known)))
        kept = known[:, 0] if self.codec.mode == "L" else known.permute(0, 2, 3, 1)
        return np.where(kept.numpy(), self.codec.decode(levels), drawn)

    @torch.no_grad()
    def _draw(self, given: Mapping[str, Any], source: RowBlocks, known: tuple[Tensor, Tensor] | None = None) -> Tensor:
        device = next(self.denoiser.parameters()).device
        condition = self.descriptions.given(given, source.rows)
        guided = self.guidance_scale and condition is not None
        drawn = samplers.sample(
            classifier_free(self.denoiser, self.guidance_scale) if guided else self.denoiser,
            self.process,
            num_samples=source.rows,
            shape=self.shape,
            solver=self.solver or image_parts.default_solver(),
            times=image_parts.times(self.process, self.num_steps),
            condition=None if condition is None else {name: part.to(device) for name, part in condition.items()},
            known=None if known is None else (known[0].to(device), known[1].to(device)),
            generator=source,
            dtype=torch.float32,
            device=device,
        )
        assert isinstance(drawn, Tensor)
        return drawn

    def _decoded(self, x: Tensor) -> NDArray[np.uint8]:
        if self.autoencoder is None and self.shape != self.codec.space.shape:
            raise DataError("this is a model of latents; set its attribute `autoencoder` to the one it was fitted with")
        with torch.no_grad():
            points = x if self.autoencoder is None else self.autoencoder.decode(x)
        return self.codec.decode(points.float().clamp(-1, 1))


def of_rows(given: Mapping[str, Any] | None, first: int, rows: int) -> dict[str, Any]:
    """What is asked of some rows, where what is asked of all may be a list."""
    return {name: value[first : first + rows] if is_list(value) else value for name, value in (given or {}).items()}
