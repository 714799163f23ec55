"""Euler's method on the probability-flow equation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from clarkia.processes import Gaussian
from clarkia.random import Noise
from clarkia.samplers.exponential import exponential_step
from clarkia.samplers.solver import Staged, Stages, require


@dataclass(frozen=True)
class Euler(Staged):
    """First order: the prediction is taken for constant over the step.

    Euler's method in ``y = x / alpha`` over ``kappa = sigma / alpha``, which is DDIM, and for rectified flow also
    Euler in t. It is exact for data at one point.

    Source: Denoising Diffusion Implicit Models (2021).
    """

    def init(self, x: Tensor, process: Gaussian, generator: Noise = None) -> None:
        """Nothing to carry."""
        require(process, Gaussian, "Euler")

    def stages(
        self, process: Gaussian, x: Tensor, t: Tensor, s: Tensor, carry: None, generator: Noise = None
    ) -> Stages:
        """One evaluation."""
        x0_hat = yield x, t
        return exponential_step(process, x, t, s, ((x0_hat, t),)).mean, None
