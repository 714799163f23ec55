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

    def wished(
        self, given: Mapping[str, Any], steering: Steering, *, seed: int, start: int, rows: int, together: int
    ) -> NDArray[np.uint8]:
        """Pictures number `start` and after that are as wished; each depends on the seed and its number.

        Args:
            given: what is asked of them.
            steering: what is wished besides, and how it is met.
            seed: fixes the draws.
            start: number of the first.
            rows: how many.
            together: most pictures that go through the network at once.
        """
        k, wish = steering.num_particles, steering.wish

        def draw(attempt: int, copies: int, some: NDArray[np.int64]) -> NDArray[np.uint8]:
            asked = repeated(of_rows(given, some), copies)
            return self._decoded(self._draw(asked, _noise(seed, 2 * attempt, steered.copied(start + some, copies))))

        def run(attempt: int, k: int, first: int, some: int) -> tuple[Particles, NDArray[np.uint8]]:
            place = first + np.arange(some)
            source = _noise(seed, 2 * attempt, steered.copied(start + place, k))
            return self._particles(repeated(of_rows(given, place), k), wish, source, k, together)

        if not wish:
            return draw(0, 1, np.arange(rows))
        if not steering.by_particles:
            return steered.first_kept(draw, wish, rows, together=together)
        return steered.chosen(
            run,
            wish,
            lambda attempt, first, some: _noise(seed, 2 * attempt + 1, start + first + np.arange(some)),
            lambda count: draw(0, 1, np.arange(min(rows, count, together))),
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
        source = _noise(seed, 0, start + np.arange(len(levels)))
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
        self, given: Mapping[str, Any], wish: Wish, source: RowBlocks, k: int, together: int
    ) -> tuple[Particles, NDArray[np.uint8]]:
        denoiser, options = self._options(given, source)
        return steered.particles(
            denoiser,
            self.process,
            steered.Foresight(wish, self._decoded, self._decoded, Foreseen(), k),
            rows=source.rows // k,
            steps=len(options["times"]) - 1,
            solver=self.solver or image_parts.stochastic_solver(),
            rows_per_call=together,
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


def of_rows(given: Mapping[str, Any] | None, rows: NDArray[np.int64]) -> dict[str, Any]:
    """What is asked of the rows of these numbers, where what is asked of all may be a list."""
    return {name: [value[row] for row in rows] if is_list(value) else value for name, value in (given or {}).items()}


def _noise(seed: int, stream: int, rows: NDArray[np.int64]) -> RowBlocks:
    """Noise of these rows; a stream has a seed of its own, the first one the seed itself."""
    return RowBlocks.at(seed + (stream << 32), torch.from_numpy(rows), NOISE_BLOCK)
