"""Ancestral sampling of categories: the exact reverse step of each cell, masked cells at their own moments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from clarkia.processes import Discrete, DiscreteKernel, Masked, spread
from clarkia.processes.kernels import RevealKernel, reveal
from clarkia.processes.times import unspread
from clarkia.random import Noise, rand
from clarkia.samplers.heun import MAX_CHURN
from clarkia.samplers.joint import Joint
from clarkia.samplers.solver import Evaluate, Staged, Stages, require
from clarkia.schedules import PowerMean

Moments: TypeAlias = tuple[Tensor, bool]
"""Each cell's reveal moment on the axis ``1 - alpha``, and whether it is still relative to the level of the start."""


@dataclass(frozen=True)
class Ancestral(Staged):
    """The reverse kernel of any discrete process, each cell by itself given the prediction.

    Masked cells are revealed as ``1 - alpha`` falls past each cell's own moment, and drawn from the prediction.

    Args:
        order: ``"independent"``: moments are uniform and independent, which is the textbook kernel (a masked cell
            stays so with probability ``(1 - alpha_s) / (1 - alpha_t)``). ``"stratified"``: the ``L`` masked cells of
            a row get a uniformly random order and the moments ``(rank + U) / L`` with one ``U`` a row. Each cell's
            moment is as uniform as before, but two cells meet in one step as rarely as can be: with at least ``L``
            steps of a linear schedule every cell is drawn alone, and an exact denoiser is sampled exactly. For masked
            processes only, like the next.
        remask: Before each step, a visible cell returns to the mask as if the time went back to where noise is
            ``1 + min(remask (t - s), sqrt(2) - 1)`` times that of EDM's schedule; cells at t = 0 never do.
        joint: How the cells of one step are drawn together, such as `EnergyCorrection`; None draws each by itself.

    Source: Simple and Effective Masked Diffusion Language Models (2024); remasking as in TabDiff: a Mixed-type
    Diffusion Model for Tabular Data Generation (2024).
    """

    order: Literal["independent", "stratified"] = "independent"
    remask: float = 0.0
    joint: Joint | None = None

    def __post_init__(self) -> None:
        if self.order not in ("independent", "stratified"):
            raise ValueError(f"order: expected 'independent' or 'stratified', found {self.order!r}.")
        if self.remask < 0:
            raise ValueError(f"remask: expected a non-negative number, found {self.remask}.")

    def init(self, x: Tensor, process: Discrete, generator: Noise = None) -> Moments | None:
        """Draw the reveal moments of the masked cells; nothing for a process without a mask."""
        require(process, Discrete, "Ancestral")
        if not isinstance(process, Masked):
            self._check_textbook(f"for {type(process).__name__}, which has no masks")
            return None
        uniforms = rand(x.shape, generator, device=x.device)
        if self.order == "independent":
            return uniforms, True
        masked = process.is_masked(x).reshape(len(x), -1)
        keys = uniforms.reshape(len(x), -1).masked_fill(~masked, torch.inf)
        rank = keys.argsort(1).argsort(1)
        shift = rand((len(x), 1), generator, device=x.device)
        return ((rank + shift) / masked.sum(1, keepdim=True).clamp(min=1)).reshape(x.shape), True

    def stages(
        self, process: Discrete, x: Tensor, t: Tensor, s: Tensor, carry: Moments | None, generator: Noise = None
    ) -> Stages:
        """One evaluation; without `joint` the classes of a step are independent given the state before it."""
        if carry is None or not isinstance(process, Masked):
            prediction = yield x, t
            return process.kernel(x, prediction, t, s), None
        moments, relative = carry
        hidden, hidden_s = (1 - process.alpha(spread(time, x)) for time in (t, s))
        if relative:
            moments = moments * hidden
        if self.remask > 0:
            x, t = self._remasked(process, x, t, s, generator)
            raised = 1 - process.alpha(spread(t, x))
            # Stretching keeps the moments of masked cells uniform below the raised level.
            moments = moments * torch.where(hidden > 0, raised / torch.where(hidden > 0, hidden, 1.0), 1.0)
            hidden = raised
        log_probs = yield x, t
        masked = process.is_masked(x)
        uniforms = rand(x.shape, generator, device=x.device)
        # A cell masked again since its moment, here or by a hook, gets a new one below the present level. Where that
        # reveals it at once, what is left of its uniform number is uniform again and draws its class.
        late = masked & (moments >= hidden)
        moments = torch.where(late, uniforms * hidden, moments)
        revealed = masked & (moments >= hidden_s)
        span = torch.where(hidden > hidden_s, hidden - hidden_s, 1.0)
        uniforms = torch.where(late & revealed, (moments - hidden_s) / span, uniforms)
        if self.joint is not None:
            return self.joint.reveal(x, masked, revealed, log_probs, t, generator), (moments, False)
        if self.remask > 0:  # the cells that came back into play are of this draw alone
            return reveal(x, revealed, log_probs, uniforms), (moments, False)
        return RevealKernel(x, revealed, log_probs, uniforms), (moments, False)

    def kernel(
        self, denoise: Evaluate, process: Discrete, x: Tensor, t: Tensor, s: Tensor, carry: Any, generator: Noise = None
    ) -> tuple[DiscreteKernel, Any]:
        """The process's own kernel, which is the law of a step whose moments are not known yet, and the same carry.

        Raises:
            ValueError: A stratified order or a joint draw, whose cells are not independent given the state, or
                remasking.
        """
        self._check_textbook("for a step with a kernel")
        return process.kernel(x, denoise(x, t), t, s), carry

    def _check_textbook(self, why: str) -> None:
        if self.order != "independent":
            raise ValueError(f"order: expected 'independent' {why}, found {self.order!r}.")
        if self.remask > 0:
            raise ValueError(f"remask: expected 0 {why}, found {self.remask}.")
        if self.joint is not None:
            raise ValueError(f"joint: expected None {why}, found {self.joint}.")

    def _remasked(self, process: Masked, x: Tensor, t: Tensor, s: Tensor, generator: Noise) -> tuple[Tensor, Tensor]:
        reference = PowerMean()
        t, s = spread(t, x), spread(s, x)
        gamma = (self.remask * (t - s)).clamp(max=MAX_CHURN)
        raised = reference.t_of_sigma(reference.sigma(t) * (1 + gamma))
        t_hat = torch.where((gamma > 0) & (raised <= 1), raised, t)
        visible, visible_hat = process.alpha(t), process.alpha(t_hat)
        keep = torch.where(visible > 0, visible_hat / torch.where(visible > 0, visible, 1.0), 1.0)
        kept = rand(x.shape, generator, device=x.device) < keep
        return torch.where(kept, x, process.mask_state(x.device)), unspread(t_hat, x)
