"""Absorbing corruption of categories: each is visible with probability ``alpha(t)`` and the mask otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clarkia.processes.discrete import Discrete, check_signal, lacking, one_hot
from clarkia.processes.kernels import MaskedKernel
from clarkia.processes.times import check_step, check_time, spread
from clarkia.random import Noise, rand
from clarkia.spaces import check_classes


class Masked(Discrete):
    """Masked diffusion: state ``K`` (the class count of a position) is the mask.

    Predictions are normalised log-probabilities ``(n, ..., K_max)`` of the clean classes: minus infinity at impossible
    classes, one-hot at visible cells.

    Args:
        num_classes: Clean classes, one count for all positions or one a position (then states are ``(n, m)``).
        schedule: ``"linear"``, ``"cosine"`` (reveals few first), ``"cosine_late"``, ``"cosine_squared"``,
            ``"geometric"``, or any object with the methods of `MaskSchedule`, with one parameter or one a position.

    Raises:
        ValueError: A class count below one, or an unknown schedule.

    Source: Simple and Effective Masked Diffusion Language Models (2024).
    """

    def mask_state(self, device: torch.device | str | None = None) -> Int[Tensor, "..."]:
        """The mask state: one number, or one a position."""
        return self.counts(device)

    def is_masked(self, x_t: Int[Tensor, "n ..."]) -> Tensor:
        """Which cells are masked."""
        return x_t == self.mask_state(x_t.device)

    @property
    def max_states(self) -> int:
        """The classes and the mask."""
        return self.max_classes + 1

    def noise_probs(self, device: torch.device | str | None = None) -> Float[Tensor, "... states"]:
        """All mass on the mask, float64 ``(K + 1,)`` or, with one class count a position, ``(m, K_max + 1)``."""
        return _at_mask(self.num_classes, torch.device(device or "cpu"))

    # ------------------------------------------------------------------------------------------------- forward

    def corrupt(self, x0: Int[Tensor, "n ..."], t: Tensor | float, *, generator: Noise = None) -> Int[Tensor, "n ..."]:
        """Mask each cell with probability ``1 - alpha(t)``; cells at t = 0 come back as they are.

        Raises:
            ValueError: A class out of range, or a time outside [0, 1] or of another shape than ``(n,)`` or ``x0``'s.
        """
        check_classes(x0, self.num_classes, "x0")
        check_time(t)
        with torch.no_grad():
            visible = rand(x0.shape, generator, device=x0.device) < self.alpha(spread(t, x0))
        return torch.where(visible, x0, self.mask_state(x0.device))

    def prior(
        self,
        num_samples: int,
        shape: Sequence[int] | None = None,
        *,
        generator: Noise = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Int[Tensor, "n ..."]:
        """All cells masked, ``(num_samples, *shape)``; ``shape`` may be left out with one class count a position."""
        del generator, dtype  # nothing is random, and states are always int64
        shape = self._shape(shape, None if isinstance(self.num_classes, int) else len(self.num_classes))
        return self.mask_state(device).expand(num_samples, *shape).clone()

    def log_emission(self, x_t: Int[Tensor, "n ..."], t: Tensor | float | None = None) -> Float[Tensor, "n ... k"]:
        """``log q(x_t | x_0 = k)`` up to a factor without k, float64: 0 for every class at a masked cell.

        A visible cell has 0 at its class and minus infinity elsewhere, and so have classes a position lacks. The time
        changes nothing and may be left out.
        """
        if t is not None:
            spread(t, x_t)
        possible = one_hot(x_t, self.max_classes) | self.is_masked(x_t).unsqueeze(-1)
        return self._without_lacking(torch.where(possible, 0.0, -torch.inf).double(), -torch.inf)

    # ------------------------------------------------------------------------------- what a prediction means

    def log_probs(
        self, logits: Float[Tensor, "n ... k"], x_t: Int[Tensor, "n ..."], t: Tensor | float | None = None
    ) -> Float[Tensor, "n ... k"]:
        """Turn raw logits into a prediction: classes a position lacks get no mass, visible cells are one-hot.

        Args:
            logits: ``(n, ..., K_max)``; a mask logit has no place in it.
            x_t: The noisy state, ``(n, ...)``.
            t: Accepted so that all processes share one signature; the mask says all there is to know.
        """
        del t
        if logits.shape != (*x_t.shape, self.max_classes):
            raise ValueError(f"logits: expected shape {(*x_t.shape, self.max_classes)}, found {tuple(logits.shape)}.")
        # Only masked cells go through the softmax; the one-hot rows of the visible ones are written as they are.
        masked = self.is_masked(x_t).flatten().nonzero().squeeze(1)
        rows = logits.flatten(0, -2).index_select(0, masked)
        if not isinstance(self.num_classes, int) and min(self.num_classes) < self.max_classes:
            absent = lacking(self.num_classes, x_t.device).index_select(0, masked % len(self.num_classes))
            rows = rows.masked_fill(absent, -torch.inf)
        answer = torch.full((x_t.numel(), self.max_classes), -torch.inf, dtype=logits.dtype, device=logits.device)
        answer.scatter_(1, x_t.flatten().clamp(max=self.max_classes - 1).unsqueeze(1), 0.0)
        return answer.index_copy_(0, masked, rows.log_softmax(-1)).view(logits.shape)

    def rates(self, x_t: Tensor, log_probs: Tensor, t: Tensor | float) -> Tensor:
        """Reverse jump rates from each masked cell to each class, ``(n, ..., K)``; 0 at visible cells."""
        rate = self.weight(self._at(x_t, log_probs, t, "log_probs")) * self.is_masked(x_t)
        return rate.unsqueeze(-1).to(log_probs.dtype) * log_probs.exp()

    def log_probs_from_rates(self, x_t: Tensor, rates: Tensor, t: Tensor | float) -> Tensor:
        """The prediction that reverse jump rates mean; visible cells are one-hot.

        Raises:
            ValueError: A masked cell where the schedule stands still, so that nothing jumps.
        """
        weight = self.weight(self._at(x_t, rates, t, "rates")).expand(x_t.shape)
        masked = self.is_masked(x_t)
        if bool((masked & (weight <= 0)).any()):
            raise ValueError("t: expected times at which alpha falls, found rate 0, which says nothing of the data.")
        return self._from_shares(x_t, rates, torch.where(masked, weight, 1.0))

    def score(self, x_t: Tensor, log_probs: Tensor, t: Tensor | float) -> Tensor:
        """Concrete score ``alpha / (1 - alpha) p0_hat`` from each masked cell to each class; 0 at visible cells.

        The ratio from a visible cell to the mask is no function of the prediction, and no reverse step needs it.
        """
        odds = self._odds(x_t, self._at(x_t, log_probs, t, "log_probs"))
        return odds.unsqueeze(-1).to(log_probs.dtype) * log_probs.exp()

    def log_probs_from_score(self, x_t: Tensor, score: Tensor, t: Tensor | float) -> Tensor:
        """The prediction that a concrete score means; visible cells are one-hot.

        Raises:
            ValueError: A masked cell where alpha is 0, so that the score is 0 whatever the data.
        """
        time = self._at(x_t, score, t, "score")
        masked = self.is_masked(x_t)
        check_signal(self.alpha(time), masked, "score")
        odds = self._odds(x_t, time)
        return self._from_shares(x_t, score, torch.where(masked, odds, 1.0))

    # --------------------------------------------------------------------------------------------- transitions

    def kernel(
        self, x_t: Tensor, prediction: Tensor, t: Tensor | float, s: Tensor | float, *, eta: float = 1.0
    ) -> MaskedKernel:
        """The reverse step from t to s: a masked cell stays so with probability ``(1 - alpha_s) / (1 - alpha_t)``.

        Args:
            x_t: State at time t, int64 ``(n, ...)``.
            prediction: Normalised log-probabilities ``(n, ..., K_max)``.
            t: Time of ``x_t``, ``(n,)`` or cell-wise.
            s: Time to go to.
            eta: Accepted so that all processes share one signature; an absorbing process has one such kernel.

        Raises:
            ValueError: A shape that does not fit, a class out of range, a time outside [0, 1] or a step with s > t.
        """
        del eta
        check_classes(x_t, self.num_classes, "x_t", masks=True)
        t, s = self._at(x_t, prediction, t, "prediction"), spread(s, x_t, "s")
        check_step(t, s)
        return MaskedKernel(x_t, self.is_masked(x_t), self.stay(t, s), prediction)

    def log_probs_from_kernel(
        self, x_t: Tensor, kernel: MaskedKernel, t: Tensor | float, s: Tensor | float
    ) -> Float[Tensor, "n ... k"]:
        """The prediction that the kernel of a step means; visible cells are one-hot.

        Raises:
            ValueError: A masked cell that cannot be revealed in the step.
        """
        masked = self.is_masked(x_t)
        reveal = (1 - self.stay(spread(t, x_t), spread(s, x_t, "s"))).expand(x_t.shape)
        if bool((masked & (reveal <= 0)).any()):
            raise ValueError("s: expected a step that may reveal every masked cell, found one that reveals nothing.")
        return self._from_shares(x_t, kernel.table()[..., :-1].exp(), torch.where(masked, reveal, 1.0))

    def stay(self, t: Tensor, s: Tensor) -> Tensor:
        """Probability that a cell masked at t is still masked at s."""
        hidden = 1 - self.alpha(t)
        return torch.where(hidden > 0, (1 - self.alpha(s)) / torch.where(hidden > 0, hidden, 1.0), 1.0)

    def _odds(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha = self.alpha(t).expand(x_t.shape)
        live = self.is_masked(x_t) & (alpha < 1)
        return torch.where(live, alpha / torch.where(live, 1 - alpha, 1.0), 0.0)

    def _from_shares(self, x_t: Tensor, shares: Tensor, whole: Tensor) -> Tensor:
        """The prediction of shares of a whole; an approximate answer may dip below 0, which counts as 0."""
        return self.log_probs((shares / whole.unsqueeze(-1).to(shares.dtype)).clamp(min=0).log(), x_t)


@lru_cache(maxsize=256)
def _at_mask(num_classes: int | tuple[int, ...], device: torch.device) -> Tensor:
    mask = torch.as_tensor(num_classes, device=device)
    return one_hot(mask, int(mask.max()) + 1).double()
