"""Absorbing corruption of categories: each is visible with probability ``alpha(t)`` and the mask otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clarkia.processes.kernels import MaskedKernel
from clarkia.processes.times import check_time, spread
from clarkia.random import Noise, rand
from clarkia.schedules import CosineMask, PolynomialMask
from clarkia.spaces import check_classes, class_counts


class MaskSchedule(Protocol):
    """The probability that a cell is visible, its derivative and its inverse."""

    def alpha(self, t: Tensor) -> Tensor: ...  # noqa: D102

    def d_alpha(self, t: Tensor) -> Tensor: ...  # noqa: D102

    def t_of_alpha(self, alpha: Tensor) -> Tensor: ...  # noqa: D102


class Masked:
    """Masked diffusion: state ``K`` (the class count of a position) is the mask.

    Predictions are normalised log-probabilities ``(n, ..., K_max)`` of the clean classes: minus infinity at impossible
    classes, one-hot at visible cells.

    Args:
        num_classes: Clean classes, one count for all positions or one a position (then states are ``(n, m)``).
        schedule: ``"linear"``, ``"cosine"`` (reveals few first), ``"cosine_late"``, or any object with the methods of
            `MaskSchedule`, with one parameter or one a position.

    Source: Simple and Effective Masked Diffusion Language Models (2024).
    """

    def __init__(self, num_classes: int | Sequence[int], schedule: str | MaskSchedule = "linear") -> None:
        named = {"linear": PolynomialMask(), "cosine": CosineMask(), "cosine_late": CosineMask(late=True)}
        if isinstance(schedule, str) and schedule not in named:
            raise ValueError(f"schedule: expected one of {sorted(named)}, found {schedule!r}.")
        self.num_classes = class_counts(num_classes)
        self.schedule: MaskSchedule = named[schedule] if isinstance(schedule, str) else schedule

    @property
    def max_classes(self) -> int:
        """Width of a prediction: the largest class count."""
        return self.num_classes if isinstance(self.num_classes, int) else max(self.num_classes)

    def mask_state(self, device: torch.device | str | None = None) -> Int[Tensor, "..."]:
        """The mask state: one number, or one a position."""
        return _counts(self.num_classes, torch.device(device or "cpu"))

    def is_masked(self, x_t: Int[Tensor, "n ..."]) -> Tensor:
        """Which cells are masked."""
        return x_t == self.mask_state(x_t.device)

    # ------------------------------------------------------------------------------------------------ schedule

    def alpha(self, t: Tensor) -> Tensor:
        """Probability of being visible, exactly 1 at t = 0; ``(n, m)`` from ``(n,)`` with a schedule a position."""
        alpha = self.schedule.alpha(t)
        return torch.where(t.reshape((*t.shape, *(1,) * (alpha.ndim - t.ndim))) > 0, alpha, 1.0)

    def d_alpha(self, t: Tensor) -> Tensor:
        """Derivative of that probability for t > 0."""
        return self.schedule.d_alpha(t)

    def weight(self, t: Tensor) -> Tensor:
        """Rate ``-alpha' / (1 - alpha)`` at which masked cells are revealed, the weight of the likelihood bound.

        It carries the gradient of a learned schedule; at t = 0, where nothing is masked, it is 0.
        """
        hidden = 1 - self.alpha(t)
        return torch.where(hidden > 0, -self.d_alpha(t) / torch.where(hidden > 0, hidden, 1.0), 0.0)

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
        if shape is None:
            if isinstance(self.num_classes, int):
                raise ValueError(
                    "shape: expected the shape of one data point, found None with one class count for all."
                )
            shape = (len(self.num_classes),)
        return self.mask_state(device).expand(num_samples, *shape).clone()

    # ------------------------------------------------------------------------------- what a prediction means

    def log_probs(self, logits: Float[Tensor, "n ... k"], x_t: Int[Tensor, "n ..."]) -> Float[Tensor, "n ... k"]:
        """Turn raw logits into a prediction: classes a position lacks get no mass, visible cells are one-hot.

        Args:
            logits: ``(n, ..., K_max)``; a mask logit has no place in it.
            x_t: The noisy state, ``(n, ...)``.
        """
        if logits.shape != (*x_t.shape, self.max_classes):
            raise ValueError(f"logits: expected shape {(*x_t.shape, self.max_classes)}, found {tuple(logits.shape)}.")
        # Only masked cells go through the softmax; the one-hot rows of the visible ones are written as they are.
        masked = self.is_masked(x_t).flatten().nonzero().squeeze(1)
        rows = logits.flatten(0, -2).index_select(0, masked)
        if not isinstance(self.num_classes, int) and min(self.num_classes) < self.max_classes:
            lacking = _lacking(self.num_classes, x_t.device).index_select(0, masked % len(self.num_classes))
            rows = rows.masked_fill(lacking, -torch.inf)
        answer = torch.full((x_t.numel(), self.max_classes), -torch.inf, dtype=logits.dtype, device=logits.device)
        answer.scatter_(1, x_t.flatten().clamp(max=self.max_classes - 1).unsqueeze(1), 0.0)
        return answer.index_copy_(0, masked, rows.log_softmax(-1)).view(logits.shape)

    def rates(self, x_t: Tensor, log_probs: Tensor, t: Tensor) -> Tensor:
        """Reverse jump rates from each masked cell to each class, ``(n, ..., K)``; 0 at visible cells."""
        rate = self.weight(spread(t, x_t)) * self.is_masked(x_t)
        return rate.unsqueeze(-1).to(log_probs.dtype) * log_probs.exp()

    def score(self, x_t: Tensor, log_probs: Tensor, t: Tensor) -> Tensor:
        """Concrete score ``alpha / (1 - alpha) p0_hat`` from each masked cell to each class; 0 at visible cells."""
        return self._odds(x_t, t).unsqueeze(-1).to(log_probs.dtype) * log_probs.exp()

    def log_probs_from_score(self, x_t: Tensor, score: Tensor, t: Tensor) -> Tensor:
        """The prediction that a concrete score means; visible cells are one-hot."""
        odds = self._odds(x_t, t).unsqueeze(-1).to(score.dtype)
        return self.log_probs((score / torch.where(odds > 0, odds, 1.0)).log().nan_to_num(nan=-torch.inf), x_t)

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
        """
        del eta
        return MaskedKernel(x_t, self.is_masked(x_t), self.stay(spread(t, x_t), spread(s, x_t, "s")), prediction)

    def stay(self, t: Tensor, s: Tensor) -> Tensor:
        """Probability that a cell masked at t is still masked at s."""
        hidden = 1 - self.alpha(t)
        return torch.where(hidden > 0, (1 - self.alpha(s)) / torch.where(hidden > 0, hidden, 1.0), 1.0)

    def _odds(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha = self.alpha(spread(t, x_t)).expand(x_t.shape)
        live = self.is_masked(x_t) & (alpha < 1)
        return torch.where(live, alpha / torch.where(live, 1 - alpha, 1.0), 0.0)


@lru_cache(maxsize=256)
def _counts(num_classes: int | tuple[int, ...], device: torch.device) -> Tensor:
    return torch.as_tensor(num_classes, device=device)


@lru_cache(maxsize=256)
def _lacking(num_classes: tuple[int, ...], device: torch.device) -> Tensor:
    """The classes each position lacks, bool ``(m, K_max)``."""
    return torch.arange(max(num_classes), device=device) >= _counts(num_classes, device).unsqueeze(-1)
