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
from clarkia.denoisers import Denoiser, Preconditioned
from clarkia.errors import DataError
from clarkia.guidance import classifier_free
from clarkia.models import image_parts, steered
from clarkia.models.wishes import Steering, Wish
from clarkia.processes import Gaussian
from clarkia.random import RowBlocks
from clarkia.steering import Foreseen, Particles

NOISE_BLOCK = 16
"""Pictures that share a generator of noise; part of what a seed means."""

TOGETHER = 256
"""Pictures that go through the network together where many are drawn to keep few."""


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

    def wished(
        self, given: Mapping[str, Any], steering: Steering, *, seed: int, start: int, rows: int
    ) -> NDArray[np.uint8]:
        """Pictures number `start` and after that are as wished."""
        k, wish = steering.num_particles, steering.wish
        if not wish:
            return self.pictures(given, seed=seed, start=start, rows=rows)

        def several(attempt: int, copies: int, first: int, some: int) -> NDArray[np.uint8]:
            asked = repeated(of_rows(given, first, some), copies)
            return self.pictures(asked, seed=_of(seed, 2 * attempt), start=(start + first) * copies, rows=some * copies)

        def run(attempt: int, k: int, first: int, some: int) -> tuple[Particles, NDArray[np.uint8]]:
            asked = repeated(of_rows(given, first, some), k)
            source = RowBlocks(_of(seed, 2 * attempt), (start + first) * k, some * k, NOISE_BLOCK)
            return self._particles(asked, wish, source, k)

        if not steering.by_particles:
            return steered.first_kept(several, wish, rows, together=TOGETHER)
        return steered.chosen(
            run,
            wish,
            lambda attempt, first, some: RowBlocks(_of(seed, 2 * attempt + 1), start + first, some, NOISE_BLOCK),
            lambda count: several(0, -(-count // rows), 0, rows),
            rows=rows,
            num_particles=k,
            best=steering.exactness == "heuristic",
        )

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
        denoiser, options = self._options(given, source)
        device = options["device"]
        drawn = samplers.sample(
            denoiser,
            self.process,
            num_samples=source.rows,
            solver=self.solver or image_parts.default_solver(),
            known=None if known is None else (known[0].to(device), known[1].to(device)),
            **options,
        )
        assert isinstance(drawn, Tensor)
        return drawn

    def _particles(
        self, given: Mapping[str, Any], wish: Wish, source: RowBlocks, k: int
    ) -> tuple[Particles, NDArray[np.uint8]]:
        denoiser, options = self._options(given, source)
        return steered.particles(
            denoiser,
            self.process,
            steered.Foresight(wish, self._decoded, self._decoded, Foreseen(), k),
            rows=source.rows // k,
            steps=len(options["times"]) - 1,
            solver=self.solver or image_parts.stochastic_solver(),
            **options,
        )

    def _options(self, given: Mapping[str, Any], source: RowBlocks) -> tuple[Denoiser, dict[str, Any]]:
        """The denoiser and what all ways of sampling are told."""
        device = next(self.denoiser.parameters()).device
        condition = self.descriptions.given(given, source.rows)
        guided = self.guidance_scale and condition is not None
        return classifier_free(self.denoiser, self.guidance_scale) if guided else self.denoiser, {
            "shape": self.shape,
            "times": image_parts.times(self.process, self.num_steps),
            "condition": None if condition is None else {name: part.to(device) for name, part in condition.items()},
            "generator": source,
            "dtype": torch.float32,
            "device": device,
        }

    def _decoded(self, x: Tensor) -> NDArray[np.uint8]:
        if self.autoencoder is None and self.shape != self.codec.space.shape:
            raise DataError("this is a model of latents; set its attribute `autoencoder` to the one it was fitted with")
        with torch.no_grad():
            points = x if self.autoencoder is None else self.autoencoder.decode(x)
        return self.codec.decode(points.float().clamp(-1, 1))


def repeated(given: Mapping[str, Any], times: int) -> dict[str, Any]:
    """What is asked of rows, for so many draws of each, those of a row together."""
    return {
        name: [one for one in value for _ in range(times)] if is_list(value) else value for name, value in given.items()
    }


def _of(seed: int, stream: int) -> int:
    """The seed of a stream of noise of its own; the first one is the seed's."""
    return seed + (stream << 32)


def of_rows(given: Mapping[str, Any] | None, first: int, rows: int) -> dict[str, Any]:
    """What is asked of some rows, where what is asked of all may be a list."""
    return {name: value[first : first + rows] if is_list(value) else value for name, value in (given or {}).items()}
