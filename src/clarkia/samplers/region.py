"""Changing a part of something that is there: where a run starts from, and what it keeps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia import schedules
from clarkia._math.regions import dilated, pasted
from clarkia.processes import Gaussian
from clarkia.random import Noise, randn
from clarkia.samplers.hooks import Step

__all__ = ["HeldOutside", "dilated", "pasted", "started"]


def started(
    process: Gaussian,
    reference: Float[Tensor, "n ..."],
    strength: float = 0.7,
    *,
    num_steps: int = 50,
    generator: Noise = None,
) -> tuple[Float[Tensor, "n ..."], Float[Tensor, " nodes"]]:
    """Where a run starts that is to change something rather than make it from nothing.

    Args:
        process: The corruption.
        reference: Clean states.
        strength: Time from which the run goes back, in (0, 1]: little is changed from near 0, all from 1, where the
            start is the prior (with whatever signal the process leaves in it).
        num_steps: Steps of the grid, evenly spaced in time.
        generator: Source of randomness.

    Returns:
        ``initial``, the noised reference, and ``times``, from the strength to 0: two arguments of `sample`.

    Raises:
        ValueError: A strength outside (0, 1].

    Source: SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations (2022).
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength: expected a number in (0, 1], found {strength}.")
    start = torch.full((len(reference),), strength, dtype=torch.float64, device=reference.device)
    return process.corrupt(reference, start, generator=generator), strength * schedules.uniform(num_steps)


@dataclass(frozen=True, eq=False)
class HeldOutside:
    """A hook that puts a reference back outside a region after each step, at the noise of the time reached.

    ``x_s <- m x_s + (1 - m) (alpha_s x_ref + sigma_s eps)``; at s = 0 the reference itself, bit for bit where m is 0.

    Args:
        process: The corruption.
        reference: Clean states, ``(n, ...)`` or one for all.
        region: m, bool or from 0 to 1, broadcastable against a state: where the run is free.
        eps: The noise that the reference keeps throughout; with that of its start a deterministic run stays on the
            reference's own path. None draws it anew after each step.
        generator: Source of that noise.

    Source: Blended Diffusion for Text-driven Editing of Natural Images (2022); RePaint: Inpainting using Denoising
    Diffusion Probabilistic Models (2022).
    """

    process: Gaussian
    reference: Tensor
    region: Tensor
    eps: Tensor | None = None
    generator: Noise = None

    def on_step(self, step: Step) -> Step:
        """Put the reference back."""
        x = step.x
        assert isinstance(x, Tensor), "a region is one of a single block"
        alpha, sigma = self.process.coefficients(step.s, x)
        eps = self.eps
        if eps is None:
            eps = randn(x.shape, self.generator, dtype=x.dtype, device=x.device)
        return replace(step, x=pasted(x, alpha * self.reference.to(x.dtype) + sigma * eps, self.region))
