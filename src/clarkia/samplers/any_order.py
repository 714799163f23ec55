"""Any-order decoding of masked diffusion: a policy ranks the masked cells, a count says how many to reveal at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.processes import Masked, MaskedKernel, spread
from clarkia.random import Noise
from clarkia.samplers.counts import Count, Span, Tokens
from clarkia.samplers.first_hitting import LEAST_TIME, revealing
from clarkia.samplers.joint import Joint
from clarkia.samplers.policies import Policy, Random, Ranking, View
from clarkia.samplers.solver import Staged, Stages, require


@dataclass(frozen=True)
class AnyOrder(Staged):
    """Reveals, in each call of the denoiser, the first cells of a ranking, each drawn from its own prediction.

    An exact denoiser is sampled exactly by one cell a call in any order that depends on the predictions but not on the
    classes drawn from them; several cells a call lose their total correlation given what was visible.

    Args:
        policy: Which masked cells come first: `Random`, `Position`, `Confidence`, `Margin`, `Entropy`, any of these in
            `Blocks`, or `SampledConfidence`, which is not exact.
        count: How many a call: `Tokens`, `Threshold`, `Factor`, `EntropyBudget` go on until nothing is masked and take
            no ``num_steps``; `Equal` and `Scheduled` share the masked cells among the steps of a grid. Whatever is
            still masked at time 0 is drawn at once.
        joint: How the cells of one call are drawn together, such as `EnergyCorrection`; None draws each by itself. Not
            with a policy that draws classes before it ranks, such as `SampledConfidence`.

    Source: Your Absorbing Discrete Diffusion Secretly Models the Conditional Distributions of Clean Data (2024).
    """

    policy: Policy = field(default_factory=Random)
    count: Count = field(default_factory=Tokens)
    joint: Joint | None = None

    def init(self, x: Tensor, process: Masked, generator: Noise = None) -> dict[str, Any]:
        """Masked cells of each row at the start, float64 ``(n,)``; with what probability each cell was drawn."""
        require(process, Masked, "AnyOrder")
        masked = process.is_masked(x).flatten(1)
        drawn = torch.full(masked.shape, -torch.inf, dtype=torch.float64, device=x.device) if self._revises else None
        return {"masked": masked.sum(1).double(), "drawn": drawn}

    def own_times(self, x: Tensor, process: Masked, carry: dict[str, Any]) -> Float[Tensor, "nodes n"] | None:
        """The longest grid the run may need, at the times of its own counts; None where the count follows a given one.

        Rows that get on faster are ahead of it, and are shown to the denoiser at the time of where they are.
        """
        if self.count.pace is None:
            return None
        start = carry["masked"]
        calls = int((start / self.count.pace).ceil().max()) if len(start) else 0
        revealed = self.count.pace * torch.arange(calls + 1, device=x.device).unsqueeze(1)
        return _time_of_level(process, (1 - revealed / start.clamp(min=1)).clamp(min=0) * (start > 0))

    def stages(
        self, process: Masked, x: Tensor, t: Tensor, s: Tensor, carry: dict[str, Any], generator: Noise = None
    ) -> Stages:
        """One evaluation; a kernel where cells are chosen before their classes, else the state itself."""
        masked = process.is_masked(x).flatten(1)
        level = masked.sum(1) / carry["masked"].clamp(min=1)
        time = t if self.count.pace is None else _shown(process, level, t, x)
        log_probs = yield x, time
        view = View(log_probs.flatten(1, -2), masked, level, x.flatten(1), carry["drawn"])
        ranking = self.policy.rank(view, generator)
        chosen, kept = self._choose(view, ranking, _span(process, t, s, x))
        ends = _by_row(s, x, torch.amax) == 0
        chosen = torch.where(ends.unsqueeze(1), masked, chosen)
        if ranking.classes is None:
            return self._revealed(process, x, chosen.view(x.shape), log_probs, time, generator), carry
        if self.joint is not None:
            raise ValueError(f"joint: expected None with a policy that draws classes, found one with {self.policy}.")
        x_s = torch.where(chosen, ranking.classes, view.x).view(x.shape)
        if carry["drawn"] is None:
            return x_s, carry
        lost = ~(kept | ends.unsqueeze(1))
        at_class = view.log_probs.gather(-1, torch.where(chosen, ranking.classes, 0).unsqueeze(-1)).squeeze(-1)
        drawn = torch.where(chosen, at_class.double(), carry["drawn"]).masked_fill(lost, -torch.inf)
        return torch.where(lost.view(x.shape), process.mask_state(x.device), x_s), {**carry, "drawn": drawn}

    def _revealed(
        self, process: Masked, x: Tensor, chosen: Tensor, log_probs: Tensor, time: Tensor, generator: Noise
    ) -> Tensor | MaskedKernel:
        """The chosen cells drawn together, or the kernel that draws each by itself."""
        if self.joint is None:
            return revealing(x, chosen, log_probs)
        return self.joint.reveal(x, process.is_masked(x), chosen, log_probs, time, generator)

    @property
    def _revises(self) -> bool:
        return bool(getattr(self.policy, "revise", False))

    def _choose(self, view: View, ranking: Ranking, span: Span) -> tuple[Tensor, Tensor]:
        """The masked cells to reveal, and the cells that do not lose a class drawn earlier, both bool ``(n, L)``."""
        order = torch.argsort(ranking.priority, dim=1, descending=True, stable=True)
        open_cells = (ranking.priority > -torch.inf) & view.masked
        number = torch.minimum(self.count.number(view, order, span), open_cells.sum(1))
        drawn = (view.drawn > -torch.inf) & ~view.masked if view.drawn is not None else torch.zeros_like(view.masked)
        number = number + drawn.sum(1)
        first = torch.arange(order.shape[1], device=order.device) < number.unsqueeze(1)
        first = torch.zeros_like(first).scatter(1, order, first)
        stays = ~drawn | first | (span.time >= 1).unsqueeze(1)
        # A step of no length reveals nothing and takes nothing back.
        return first & open_cells & (span.time < 1).unsqueeze(1), stays


def _span(process: Masked, t: Tensor, s: Tensor, x: Tensor) -> Span:
    """What a step leaves of time and masks; rows at time 0 take steps of no length."""
    time, time_s = _by_row(t, x, torch.amax), _by_row(s, x, torch.amax)
    hidden, hidden_s = (_by_row(1 - process.alpha(spread(one, x)), x, torch.mean) for one in (time, time_s))
    return Span(*(torch.where(old > 0, new / torch.where(old > 0, old, 1.0), 1.0) for old, new in
                  ((time, time_s), (hidden, hidden_s))))  # fmt: skip


def _by_row(values: Tensor, x: Tensor, reduce: Any) -> Tensor:
    """One float64 number a row from ``(n,)`` or cell-wise values."""
    values = values.double()
    return (reduce(values.flatten(1), 1) if values.ndim > 1 else values).expand(len(x))


def _shown(process: Masked, level: Tensor, t: Tensor, x: Tensor) -> Tensor:
    """The time at which as many cells are masked as there are, at every cell that is not observed."""
    time = _time_of_level(process, level)
    return torch.where(t > 0, spread(time, x) if t.ndim > 1 else time, 0.0)


def _time_of_level(process: Masked, level: Tensor) -> Tensor:
    """The time, mean over a schedule a position, at which a share of the cells masked at t = 1 still is."""
    end = torch.ones(1, dtype=torch.float64, device=level.device)
    hidden = (1 - process.alpha(end)).flatten()  # one, or one a position
    times = process.schedule.t_of_alpha(1 - level.unsqueeze(-1) * hidden).mean(-1)
    return torch.where(level > 0, times.clamp(LEAST_TIME, 1.0), 0.0)
