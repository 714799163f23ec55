"""FlowChef's steps: the state is moved down a loss with its velocity held fixed, then stepped along that velocity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.processes import Gaussian, spread
from clarkia.random import Noise
from clarkia.samplers.exponential import exponential_step
from clarkia.samplers.solver import Staged, Stages, require


@dataclass(frozen=True, eq=False)
class FlowChef(Staged):
    """Euler's step, before which the state goes some steps down a loss of the data its velocity leads to.

    The velocity is not traced back through the denoiser, so that ``d x0 / d x`` is a number (1 for rectified flow) and
    a step costs one evaluation. Good for nearly straight paths; the loss is satisfied, the posterior is not sampled.

    Args:
        loss: ``loss(x0) -> (n,)``, such as ``|A x0 - y|^2 / 2``. A mean over elements makes it as many times smaller.
        move: Length of a move over the gradient; 0.08 to 0.3 for a sum of squares of an operator of norm 1.
        inner: Moves a step.
        until: Share of the way from t = 1 on which to move: at times from ``1 - until`` on, never in the last step.

    Raises:
        ValueError: A number out of range; in use, a loss that is not one differentiable number a row.

    Source: Steering Rectified Flow Models in the Vector Field for Controlled Image Generation (2024).
    """

    loss: Callable[[Tensor], Float[Tensor, " n"]]
    move: float = 0.1
    inner: int = 1
    until: float = 1.0

    def __post_init__(self) -> None:
        if not self.move > 0 or self.inner < 1 or not 0 <= self.until <= 1:
            raise ValueError(
                "move, inner, until: expected move > 0, inner >= 1 and a share from 0 to 1, "
                f"found {self.move}, {self.inner}, {self.until}."
            )

    def init(self, x: Tensor, process: Gaussian, generator: Noise = None) -> None:
        """Nothing to carry."""
        require(process, Gaussian, "FlowChef")

    def stages(
        self, process: Gaussian, x: Tensor, t: Tensor, s: Tensor, carry: None, generator: Noise = None
    ) -> Stages:
        """One evaluation."""
        x0_hat = yield x, t
        start, end = spread(t, x), spread(s, x)
        led = (end < start) & (end > 0) & (start >= 1 - self.until)
        if bool(led.any()):
            velocity = process.velocity(x, x0_hat, t)
            for _ in range(self.inner):
                x = torch.where(led, x - self.move * self._slope(process, x, velocity, t), x)
            x0_hat = torch.where(led, process.x0_from_velocity(x, velocity, t), x0_hat)
        return exponential_step(process, x, t, s, ((x0_hat, t),)).mean, None

    def _slope(self, process: Gaussian, x: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            value = self.loss(process.x0_from_velocity(leaf, velocity, t))
            if value.shape != x.shape[:1] or not value.requires_grad:
                raise ValueError(
                    f"loss: expected one differentiable number a row, shape ({len(x)},), found {tuple(value.shape)}."
                )
            return torch.autograd.grad(value.sum(), leaf)[0]
