"""Writing texts: the sampling loop between a prompt and decoded tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from clarkia import samplers
from clarkia.codecs.text import TextCodec
from clarkia.denoisers import Denoiser
from clarkia.errors import DataError
from clarkia.models import steered
from clarkia.models.wishes import Steering
from clarkia.processes import Masked
from clarkia.random import RowBlocks
from clarkia.samplers.own_times import OwnTimes
from clarkia.steering import Foreseen, Particles

NOISE_BLOCK = 16
"""Texts that share a generator of noise; part of what a seed means."""


@dataclass(frozen=True)
class Writer:
    """What texts are written with.

    Attributes:
        codec: of the texts.
        process: the masked process.
        denoiser: the trained denoiser.
        values: tokens of the prompt.
        known: which tokens are those of the prompt.
        num_steps: solver steps; None for one a token.
        solver: how to step.
        device: of the denoiser.
    """

    codec: TextCodec
    process: Masked
    denoiser: Denoiser
    values: Int[Tensor, " length"]
    known: Bool[Tensor, " length"]
    num_steps: int | None
    solver: samplers.Solver
    device: torch.device

    def texts(self, steering: Steering, *, seed: int, start: int, rows: int, together: int) -> list[str]:
        """Texts number `start` and after, as they are wished; each depends on the seed and its number.

        Args:
            steering: what is wished, and how it is met.
            seed: fixes the draws.
            start: number of the first.
            rows: how many.
            together: most texts that go through the network at once.

        Raises:
            DataError: a prompt that leaves nothing to write and does not keep the rules.
        """
        wish = steering.wish

        def draw(attempt: int, copies: int, some: NDArray[np.int64]) -> list[str]:
            return self._plain(_noise(seed, 2 * attempt, steered.copied(start + some, copies)))

        def run(attempt: int, k: int, first: int, some: int) -> tuple[Particles, list[str]]:
            return steered.particles(
                self.denoiser,
                self.process,
                steered.Foresight(wish, self.codec.decode, self.codec.decode, Foreseen(4), k),
                rows=some,
                steps=self._steps or self._free,
                generator=_noise(seed, 2 * attempt, steered.copied(start + first + np.arange(some), k)),
                rows_per_call=together,
                **self._options,
            )

        if not wish or self._free == 0:
            texts = draw(0, 1, np.arange(rows))
            if not wish.kept(texts).all():
                raise DataError(f"the prompt leaves nothing to write, and does not keep {' and '.join(wish.rules)}")
            return texts
        if not steering.by_particles:
            return steered.first_kept(draw, wish, rows, together=together)
        return steered.chosen(
            run,
            wish,
            lambda attempt, first, some: _noise(seed, 2 * attempt + 1, start + first + np.arange(some)),
            lambda count: draw(0, 1, np.arange(min(count, together))),
            rows=rows,
            num_particles=steering.num_particles,
            best=steering.exactness == "heuristic",
        )

    @torch.no_grad()
    def _plain(self, source: RowBlocks) -> list[str]:
        if self._free == 0:
            return self.codec.decode(self.values.expand(source.rows, -1))
        drawn = samplers.sample(self.denoiser, self.process, num_samples=source.rows, generator=source, **self._options)
        return self.codec.decode(drawn)  # type: ignore[arg-type]  # tokens are one block

    @property
    def _free(self) -> int:
        return int((~self.known).sum())

    @property
    def _steps(self) -> int | None:
        """One a free token where nothing is said; None leaves them to a solver that finds its own."""
        if self.num_steps is None and isinstance(self.solver, OwnTimes):
            return None
        return min(self.num_steps or self._free, self._free)

    @property
    def _options(self) -> dict[str, Any]:
        held = bool(self.known.any())
        return {
            "shape": self.codec.space,
            "solver": self.solver,
            "num_steps": self._steps,
            "known": (self.values.to(self.device)[None], self.known.to(self.device)[None]) if held else None,
            "device": self.device,
        }


def text_rules(constraints: Sequence[Any] | None) -> list[Callable[[list[str]], Any]] | None:
    """Constraints on texts as functions of them, where a text is a regular expression that each must hold.

    Raises:
        DataError: a malformed expression, or a single one instead of a list.
    """
    if constraints is None:
        return None
    if isinstance(constraints, str):
        raise DataError(f"constraints: expected a list, found one expression; write [{constraints!r}].")
    return [_matches(rule) if isinstance(rule, str) else rule for rule in constraints]


def _matches(expression: str) -> Callable[[list[str]], list[bool]]:
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise DataError(f"constraints: {expression!r} is no regular expression ({error}).") from None

    def matches(texts: list[str]) -> list[bool]:
        return [pattern.search(text) is not None for text in texts]

    matches.__name__ = repr(expression)
    return matches


def _noise(seed: int, stream: int, rows: NDArray[np.int64]) -> RowBlocks:
    """Noise of these rows; a stream has a seed of its own, the first one the seed itself."""
    return RowBlocks.at(seed + (stream << 32), torch.from_numpy(rows), NOISE_BLOCK)
