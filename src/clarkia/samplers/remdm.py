"""Ancestral sampling that may take back: revealed cells return to the mask and are drawn anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.processes import DiscreteKernel, Masked, spread
from clarkia.processes.kernels import MaskedKernel
from clarkia.processes.times import unspread
from clarkia.random import Noise, rand
from clarkia.samplers.solver import Staged, Stages, require

_LEAST = torch.finfo(torch.float64).tiny  # where a denominator is 0, so is the numerator or a bound on the ratio is met


@dataclass(frozen=True, eq=False)
class RemaskingKernel:
    """Visible cells return to the mask with probability ``remask``, masked ones stay or take a class.

    Args:
        revealing: The law of the masked cells; it leaves visible cells alone.
        remask: float64, broadcastable against the state; 0 at observed cells.
        mask_state: The mask, one number or one a position.
    """

    revealing: MaskedKernel
    remask: Float[Tensor, "..."]
    mask_state: Tensor

    def sample(self, generator: Noise = None) -> Tensor:
        """Draw a state: the cells to take back, then the cells to reveal and their classes."""
        x = self.revealing.x_t
        lost = ~self.revealing.masked & (rand(x.shape, generator, device=x.device) < self.remask)
        return torch.where(lost, self.mask_state, self.revealing.sample(generator))

    def log_prob(self, x_s: Tensor) -> Float[Tensor, " n"]:
        """Log-probability of a state, float64 ``(n,)``."""
        return self.table().gather(-1, x_s.unsqueeze(-1)).flatten(1).sum(1)

    def table(self) -> Float[Tensor, "n ... states"]:
        """Log-probability of every state of every cell, float64 ``(n, ..., K_max + 1)``: the classes, then the mask."""
        masked, mask = self.revealing.masked, self.mask_state.expand(self.revealing.x_t.shape).unsqueeze(-1)
        remask = self.remask.double().expand(masked.shape)
        table = self.revealing.table()
        lost = torch.where(masked.unsqueeze(-1), table.gather(-1, mask), remask.log().unsqueeze(-1))
        return (table + torch.where(masked, 0.0, torch.log1p(-remask)).unsqueeze(-1)).scatter(-1, mask, lost)

    def kl(self, other: DiscreteKernel) -> Float[Tensor, " n"]:
        """Divergence to another kernel of categories, float64 ``(n,)``."""
        log_p, log_q = self.table(), other.table()
        return torch.where(log_p > -torch.inf, log_p.exp() * (log_p - log_q), 0.0).flatten(1).sum(1)


@dataclass(frozen=True)
class ReMDM(Staged):
    """Ancestral sampling in which a visible cell returns to the mask with probability ``sigma`` in each step.

    A masked cell is revealed with ``(alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t)``, so that a cell is visible at s
    with probability ``alpha_s`` for every ``sigma`` from 0 to ``sigma_max = min(1, (1 - alpha_s) / alpha_t)``. Cells at
    t = 0 never return.

    Args:
        strategy: ``"cap"``: ``sigma = min(eta, sigma_max)``. ``"rescale"``: ``eta sigma_max``. ``"confidence"``:
            ``eta sigma_max`` times a softmax, over the visible cells of a row, of minus the probability they were drawn
            with (1 for cells the run did not draw). What a row expects to lose its masked cells get back, and it loses
            no more than they can take, so that the expected number of visible cells is kept.
        eta: Strength from 0, which is plain ancestral sampling, to 1.
        hold: ``(on, off, alpha)``: from time ``on`` down to ``off`` the process is held where a cell is visible with
            probability ``alpha`` and cells are only exchanged; before and after, plain ancestral steps lead there and
            away. None holds nothing and exchanges in every step.

    Raises:
        ValueError: An unknown strategy, an eta outside [0, 1], or a hold outside ``1 > on > off > 0`` or (0, 1).

    Source: Remasking Discrete Diffusion Models with Inference-Time Scaling (2025).
    """

    strategy: Literal["cap", "rescale", "confidence"] = "cap"
    eta: float = 0.02
    hold: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.strategy not in ("cap", "rescale", "confidence"):
            raise ValueError(f"strategy: expected 'cap', 'rescale' or 'confidence', found {self.strategy!r}.")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta: expected a number from 0 to 1, found {self.eta}.")
        if self.hold is not None and not (1 > self.hold[0] > self.hold[1] > 0 and 0 < self.hold[2] < 1):
            raise ValueError(f"hold: expected times 1 > on > off > 0 and 0 < alpha < 1, found {self.hold}.")

    def init(self, x: Tensor, process: Masked, generator: Noise = None) -> Tensor | None:
        """With which probability each cell was drawn, 1 where the run has not drawn it; only for ``"confidence"``."""
        require(process, Masked, "ReMDM")
        return torch.ones(x.shape, dtype=torch.float64, device=x.device) if self.strategy == "confidence" else None

    def stages(self, process: Masked, x: Tensor, t: Tensor, s: Tensor, carry: Any, generator: Noise = None) -> Stages:
        """One evaluation; the kernel, or the state itself where the next step needs to know how it was drawn."""
        t, s = spread(t, x).double(), spread(s, x).double()
        live, exchanges = t > 0, self._exchanges(t, s)
        t, s = self._held(process, t), self._held(process, s)
        log_probs = yield x, unspread(t, x)
        masked, alpha, alpha_s = process.is_masked(x), process.alpha(t), process.alpha(s)
        highest = ((1 - alpha_s) / alpha.clamp(min=_LEAST)).clamp(max=1.0)
        sigma = self.eta * highest if self.strategy != "cap" else highest.clamp(max=self.eta)
        sigma = torch.where(exchanges & live, sigma, 0.0)
        hidden = torch.where(alpha < 1, 1 - alpha, 1.0)
        if carry is None:
            reveal = ((alpha_s - (1 - sigma) * alpha) / hidden).clamp(0.0, 1.0)
            return self._kernel(process, x, masked, reveal, sigma, log_probs), carry
        plain = ((alpha_s - alpha) / hidden).expand(x.shape)
        sigma, back = _shared_out(sigma * ~masked, carry, torch.where(masked, 1 - plain, 0.0))
        reveal = (plain + back).clamp(max=1.0)  # a sum that may round above
        x_s = self._kernel(process, x, masked, reveal, sigma, log_probs).sample(generator)
        revealed = masked & ~process.is_masked(x_s)
        chance = log_probs.gather(-1, torch.where(revealed, x_s, 0).unsqueeze(-1)).squeeze(-1).double().exp()
        return x_s, torch.where(revealed, chance, carry)

    def _kernel(
        self, process: Masked, x: Tensor, masked: Tensor, reveal: Tensor, sigma: Tensor, log_probs: Tensor
    ) -> RemaskingKernel:
        return RemaskingKernel(MaskedKernel(x, masked, 1 - reveal, log_probs), sigma, process.mask_state(x.device))

    def _exchanges(self, t: Tensor, s: Tensor) -> Tensor:
        """Whether a step takes cells back: all do, or those within the time that is held."""
        if self.hold is None:
            return t > s
        on, off, _ = self.hold
        return (t > s) & (t <= on) & (s >= off)

    def _held(self, process: Masked, t: Tensor) -> Tensor:
        """The time of the process at a time of the run: it stands still between ``on`` and ``off``."""
        if self.hold is None:
            return t
        on, off, alpha = self.hold
        still = process.schedule.t_of_alpha(torch.full((1,), alpha, dtype=torch.float64, device=t.device))
        before = still + (1 - still) * (t - on) / (1 - on)
        return torch.where(t > on, before, torch.where(t < off, still * t / off, still))


def _shared_out(sigma: Tensor, chance: Tensor, room: Tensor) -> tuple[Tensor, Tensor]:
    """``sigma`` of the visible cells by a softmax of minus their chances, and what each masked cell gets back.

    Args:
        sigma: ``(n, ...)``, equal at the visible cells of a row and 0 elsewhere.
        chance: ``(n, ...)``, the probabilities the cells were drawn with.
        room: ``(n, ...)``, by how much the probability of a reveal can grow at masked cells; 0 elsewhere.
    """
    weights = torch.exp(-chance) * (sigma > 0)
    sigma = sigma * weights / _row_sum(weights)
    total, space = sigma.flatten(1).sum(1), room.flatten(1).sum(1)
    lost = torch.minimum(total, space)
    return (
        sigma * spread(lost / total.clamp(min=_LEAST), sigma),
        room * spread(lost / space.clamp(min=_LEAST), room),
    )


def _row_sum(values: Tensor) -> Tensor:
    total = values.flatten(1).sum(1)
    return spread(torch.where(total > 0, total, 1.0), values)
