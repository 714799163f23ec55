"""Jump samplers of categories: rates frozen over a step, exact mixture steps, and a corrector by fresh noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from clarkia.processes import CategoricalKernel, Discrete, spread
from clarkia.processes.discrete import one_hot
from clarkia.processes.times import unspread
from clarkia.random import Noise
from clarkia.samplers.solver import Staged, Stages, drawn, require


@dataclass(frozen=True)
class TauLeaping(Staged):
    """Freezes the jump rates over the step: a cell jumps with probability ``1 - exp(-rate (t - s))``, at most once.

    Where it jumps to is drawn in proportion to the rates. Of first order in the step. Where rates are infinite (no
    signal yet) and where the step ends in clean data, the exact step of the process takes its place: at time 0 every
    cell is drawn from the prediction.

    Args:
        rates: ``"reversal"``: of the corruption turned around in time. ``"flow"``: of the mixture-path velocity. The
            two agree on a masked process.
        corrector: Strength of the flow's corrector, see `Discrete.flow_rates`.

    Source: A Continuous Time Framework for Discrete Denoising Models (2022); the flow's rates are those of Discrete
    Flow Matching (2024).
    """

    rates: Literal["reversal", "flow"] = "reversal"
    corrector: float = 0.0

    def __post_init__(self) -> None:
        if self.rates not in ("reversal", "flow"):
            raise ValueError(f"rates: expected 'reversal' or 'flow', found {self.rates!r}.")
        if self.corrector < 0 or (self.corrector > 0 and self.rates == "reversal"):
            raise ValueError(
                "corrector: expected a non-negative number, and 0 with the rates of the reversal, "
                f"found {self.corrector} with {self.rates!r}."
            )

    def init(self, x: Tensor, process: Discrete, generator: Noise = None) -> None:
        """Nothing to carry."""
        require(process, Discrete, "TauLeaping")

    def stages(
        self, process: Discrete, x: Tensor, t: Tensor, s: Tensor, carry: None, generator: Noise = None
    ) -> Stages:
        """One evaluation."""
        prediction = yield x, t
        end = spread(s, x).unsqueeze(-1)
        step = spread(t, x).unsqueeze(-1) - end
        rates = self._rates(process, x, prediction.double(), t)
        total = rates.sum(-1, keepdim=True)
        leaps = -torch.expm1(-total * step) * rates / torch.where(total > 0, total, 1.0)
        law = torch.where(one_hot(x, process.max_states), torch.exp(-total * step), leaps)
        exact = (end == 0) | ~total.isfinite()
        if bool(exact.any()):
            law = torch.where(exact, process.kernel(x, prediction, t, s).table().exp(), law)
        return CategoricalKernel(law.log()), None

    def _rates(self, process: Discrete, x: Tensor, prediction: Tensor, t: Tensor) -> Float[Tensor, "n ... states"]:
        if self.rates == "flow":
            return process.flow_rates(x, prediction, t, corrector=self.corrector)
        return pad(process.rates(x, prediction, t), (0, process.max_states - process.max_classes))


@dataclass(frozen=True)
class MixtureStep(Staged):
    """Redraws a cell from the prediction with probability ``(alpha_s - alpha_t) / (1 - alpha_t)``, else keeps it.

    Integrates the mixture-path velocity exactly under a constant prediction: no discretisation error but that of the
    prediction. On a masked process this is the ancestral step.

    Args:
        corrector: Strength c of a corrector that is as exact: the step goes on to the earlier time with ``alpha =
            min(alpha_s (alpha_s / alpha_t)^c, 1)`` and fresh noise brings it back to s. In the limit of small steps
            it is that of `Discrete.flow_rates`.

    Source: Discrete Flow Matching (2024).
    """

    corrector: float = 0.0

    def __post_init__(self) -> None:
        if self.corrector < 0:
            raise ValueError(f"corrector: expected a non-negative number, found {self.corrector}.")

    def init(self, x: Tensor, process: Discrete, generator: Noise = None) -> None:
        """Nothing to carry."""
        require(process, Discrete, "MixtureStep")

    def stages(
        self, process: Discrete, x: Tensor, t: Tensor, s: Tensor, carry: None, generator: Noise = None
    ) -> Stages:
        """One evaluation."""
        prediction = yield x, t
        alpha_t, alpha_s = (process.alpha(spread(time, x)).double().unsqueeze(-1) for time in (t, s))
        moving = alpha_s > alpha_t
        growth = alpha_s / torch.where(alpha_t > 0, alpha_t, 1.0)
        beyond = torch.where(alpha_t > 0, alpha_s * growth**self.corrector, 1.0).clamp(max=1)
        reached = torch.where(moving, beyond, alpha_s) if self.corrector > 0 else alpha_s
        redrawn = torch.where(moving, (reached - alpha_t) / torch.where(moving, 1 - alpha_t, 1.0), 0.0)
        kept = torch.where(moving, alpha_s / torch.where(moving, reached, 1.0), 1.0)
        p0_hat = pad(prediction.double().exp(), (0, process.max_states - process.max_classes))
        law = redrawn * p0_hat + (1 - redrawn) * one_hot(x, process.max_states)
        return CategoricalKernel((kept * law + (1 - kept) * process.noise_probs(x.device)).log()), None


@dataclass(frozen=True)
class Renoised(Staged):
    """Corrects every step of another solver: noise takes the state back to ``s + strength (t - s)``, a kernel to s.

    The corruption followed by the exact reverse step leaves the law at s as it is where it draws one cell, and nearly
    where it draws few: so it mends what cells drawn together in a longer step got wrong, and what no later step would
    revise, at one more evaluation a step.

    Args:
        solver: The solver to correct, one of a discrete process.
        strength: How far back, as a share of the step, at most to t = 1. Near a half the errors of the step and of its
            own correction are in balance.

    Source: A Continuous Time Framework for Discrete Denoising Models (2022), with the finite step of Discrete Flow
    Matching (2024).
    """

    solver: Staged
    strength: float = 0.5

    def __post_init__(self) -> None:
        if not isinstance(self.solver, Staged):
            raise ValueError(f"solver: expected a solver written as stages, found {type(self.solver).__name__}.")
        if not self.strength > 0:
            raise ValueError(f"strength: expected a positive number, found {self.strength}.")

    def init(self, x: Tensor, process: Discrete, generator: Noise = None) -> Any:
        """The carry of the solver inside."""
        require(process, Discrete, "Renoised")
        return self.solver.init(x, process, generator)

    def stages(self, process: Discrete, x: Tensor, t: Tensor, s: Tensor, carry: Any, generator: Noise = None) -> Stages:
        """The solver's evaluations and one at the noisier time; the kernel is that of the way back from there."""
        outcome, carry = yield from self.solver.stages(process, x, t, s, carry, generator)
        x_s = drawn(outcome, generator)
        start, end = spread(t, x), spread(s, x)
        back = unspread((end + self.strength * (start - end)).clamp(max=1), x)
        x_back = process.renoise(x_s, s, back, generator=generator)
        prediction = yield x_back, back
        return process.kernel(x_back, prediction, back, s), carry
