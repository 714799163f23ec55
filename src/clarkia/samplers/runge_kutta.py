"""An adaptive Runge-Kutta reference for the probability-flow equation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clarkia.processes import Gaussian, spread
from clarkia.processes.times import unspread
from clarkia.random import Noise
from clarkia.samplers.solver import Evaluate, require


@dataclass(frozen=True)
class RungeKutta:
    """Integrates each step of the grid to a tolerance with torchdiffeq; one step from 1 to 0 does the whole way.

    On the angle ``theta = atan(sigma / alpha)`` and ``w = x / sqrt(alpha^2 + sigma^2)`` the equation is
    ``dw / d theta = (cos(theta) w - x0_hat) / sin(theta)``, regular also where alpha is 0. A step to t = 0 ends at the
    angle ``least_noise`` and takes the prediction there.

    Args:
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        method: One of torchdiffeq's adaptive methods.
        least_noise: The ``sigma / alpha`` at which a step to t = 0 stops.

    Raises:
        ModuleNotFoundError: torchdiffeq is not installed.
    """

    rtol: float = 1e-6
    atol: float = 1e-6
    method: str = "dopri5"
    least_noise: float = 1e-3

    def __post_init__(self) -> None:
        if not (self.rtol > 0 and self.atol > 0 and self.least_noise > 0):
            raise ValueError(
                "rtol, atol, least_noise: expected positive numbers, "
                f"found {self.rtol}, {self.atol} and {self.least_noise}."
            )

    def init(self, x: Tensor, process: Gaussian, generator: Noise = None) -> None:
        """Nothing to carry."""
        require(process, Gaussian, "RungeKutta")

    def step(
        self,
        denoise: Evaluate,
        process: Gaussian,
        x: Tensor,
        t: Tensor,
        s: Tensor,
        carry: None,
        generator: Noise = None,
    ) -> tuple[Tensor, None]:
        """The state at s; as many evaluations as the tolerance asks."""
        odeint = _odeint()
        start, end = spread(t, x).double(), spread(s, x).double()
        to_zero = (process.sigma(end) == 0) & (end < start)
        least = process.kappa(torch.full_like(end, 1e-300)).clamp(min=self.least_noise)
        first = torch.atan2(process.sigma(start), process.alpha(start))
        last = torch.atan2(process.sigma(end), process.alpha(end))
        last = torch.minimum(torch.where(to_zero, torch.atan(least), last), first)
        turn = torch.where(end < start, last - first, 0.0)
        moving = (turn != 0).expand(x.shape)

        def state_at(u: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            theta = first + u * turn
            time = torch.where(turn != 0, process.t_of_kappa(torch.tan(theta)).clamp(max=1.0), start)
            scale = torch.hypot(process.alpha(time), process.sigma(time))
            return torch.where(moving, scale.to(x.dtype) * w, x), theta, unspread(time, x)

        def slope(u: Tensor, w: Tensor) -> Tensor:
            state, theta, time = state_at(u, w)
            still = turn == 0
            steepness = torch.where(still, 0.0, turn / torch.where(still, 1.0, torch.sin(theta)))
            return steepness.to(x.dtype) * (torch.cos(theta).to(x.dtype) * w - denoise(state, time))

        w = x / torch.hypot(process.alpha(start), process.sigma(start)).to(x.dtype)
        u = torch.tensor([0.0, 1.0], dtype=torch.float64, device=x.device)
        if bool(moving.any()):
            w = odeint(slope, w, u, rtol=self.rtol, atol=self.atol, method=self.method, options={"step_t": u[1:]})[-1]
        x_s, _, time = state_at(u[1], w)
        if not bool(to_zero.any()):
            return x_s, None
        return torch.where(to_zero, denoise(x_s, time), x_s), None


def _odeint() -> Any:
    try:
        from torchdiffeq import odeint
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "RungeKutta needs torchdiffeq; install it with `pip install 'clarkia[ode]'`."
        ) from error
    return odeint
