"""Filling in by repeated replacement: known elements are put in at every level, and steps are taken several times."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from clarkia.processes import Gaussian, spread
from clarkia.processes.times import shared
from clarkia.random import Noise, randn
from clarkia.samplers.ddim import DDPM
from clarkia.samplers.renoise import renoised
from clarkia.samplers.solver import Staged, Stages, drawn, require


@dataclass(frozen=True, eq=False)
class RePaint(Staged):
    """Replacement of known elements by their noisy selves, with resampling that lets the unknown ones agree with them.

    A step from t to s is walked in ``jump`` inner steps; then the state is noised back to t and the way walked again,
    ``resamples`` times in all. One resample is plain replacement, which is biased; more come nearer to the conditional
    law and do not reach it. A model that was trained with elements at different times needs none of this: give
    ``known`` to `sample` instead.

    Args:
        values: Known values, a state of one row or of all rows.
        known: bool, True where an element is known, of the same shape.
        solver: The inner step; DDPM's by default.
        jump: Inner steps of a step. A run's grid should have as many fewer steps.
        resamples: How often each step is walked.

    Raises:
        ValueError: Shapes that differ, or a number below 1.

    Source: RePaint: Inpainting using Denoising Diffusion Probabilistic Models (2022).
    """

    values: Float[Tensor, "m ..."]
    known: Bool[Tensor, "m ..."]
    solver: Staged = field(default_factory=DDPM)
    jump: int = 1
    resamples: int = 10

    def __post_init__(self) -> None:
        if self.known.dtype != torch.bool or self.known.shape != self.values.shape:
            raise ValueError(
                f"known: expected booleans of the values' shape {tuple(self.values.shape)}, "
                f"found {self.known.dtype} {tuple(self.known.shape)}."
            )
        if self.jump < 1 or self.resamples < 1:
            raise ValueError(f"jump, resamples: expected at least 1, found {self.jump} and {self.resamples}.")

    def init(self, x: Tensor, process: Gaussian, generator: Noise = None) -> None:
        """Nothing to carry: the solver starts anew each time the way is walked."""
        require(process, Gaussian, "RePaint")
        if self.values.shape[1:] != x.shape[1:] or len(self.values) not in (1, len(x)):
            raise ValueError(
                f"values: expected one row or {len(x)} of shape {tuple(x.shape[1:])}, found {tuple(self.values.shape)}."
            )

    def stages(
        self, process: Gaussian, x: Tensor, t: Tensor, s: Tensor, carry: None, generator: Noise = None
    ) -> Stages:
        """The solver's evaluations, ``jump resamples`` times."""
        moving = spread(s, x) < spread(t, x)
        first, last = shared(t), shared(s)
        way = [(first + (last - first) * (step / self.jump)).expand(t.shape) for step in range(self.jump)] + [s]
        walked = x
        for again in range(self.resamples):
            if again:
                walked = torch.where(moving, renoised(process, walked, s, t, generator), x)  # type: ignore[arg-type]
            inner = self.solver.init(walked, process, generator)
            for start, end in pairwise(way):
                outcome, inner = yield from self.solver.stages(process, walked, start, end, inner, generator)
                walked = torch.where(moving, self._replaced(process, drawn(outcome, generator), end, generator), x)
        return walked, None

    def _replaced(self, process: Gaussian, x: Tensor, t: Tensor, generator: Noise) -> Tensor:
        alpha, sigma = process.coefficients(t, x)
        noise = randn(x.shape, generator, dtype=x.dtype, device=x.device)
        return torch.where(self.known.to(x.device), alpha * self.values.to(x) + sigma * noise, x)
