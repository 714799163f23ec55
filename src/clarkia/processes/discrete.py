"""Corruption of categories: what masks and mixture paths share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from clarkia.processes.kernels import DiscreteKernel
from clarkia.processes.times import spread
from clarkia.random import Noise, rand
from clarkia.schedules import CosineMask, GeometricMask, PolynomialMask, SquaredCosineMask
from clarkia.spaces import class_counts


class MaskSchedule(Protocol):
    """The probability ``alpha`` that a cell is still clean, its derivative and its inverse."""

    def alpha(self, t: Tensor) -> Tensor: ...  # noqa: D102

    def d_alpha(self, t: Tensor) -> Tensor: ...  # noqa: D102

    def t_of_alpha(self, alpha: Tensor) -> Tensor: ...  # noqa: D102


class Discrete(ABC):
    """Each cell keeps its class with probability ``alpha(t)`` and is otherwise a draw of pure noise, independently.

    From s to t the same holds with ``alpha(t) / alpha(s)``. Predictions are normalised log-probabilities ``(n, ...,
    K_max)`` of the clean classes, minus infinity at classes a position lacks. Times are ``(n,)`` or the block's shape.

    Args:
        num_classes: Clean classes, one count for all positions or one a position (then states are ``(n, m)``).
        schedule: ``"linear"``, ``"cosine"`` (most change early in t), ``"cosine_late"``, ``"cosine_squared"``,
            ``"geometric"``, or any object with the methods of `MaskSchedule`, with one parameter or one a position.

    Raises:
        ValueError: A class count below one, or an unknown schedule.
    """

    def __init__(self, num_classes: int | Sequence[int], schedule: str | MaskSchedule = "linear") -> None:
        self.num_classes = class_counts(num_classes)
        self.schedule: MaskSchedule = _schedule(schedule)

    # ------------------------------------------------------------------------------------------------- states

    @property
    def max_classes(self) -> int:
        """Width of a prediction: the largest class count."""
        return self.num_classes if isinstance(self.num_classes, int) else max(self.num_classes)

    def counts(self, device: torch.device | str | None = None) -> Int[Tensor, "..."]:
        """The class count: one number, or one a position."""
        return _counts(self.num_classes, torch.device(device or "cpu"))

    @abstractmethod
    def noise_probs(self, device: torch.device | str | None = None) -> Float[Tensor, "... states"]:
        """The law of pure noise over all states, float64 ``(states,)`` or, where positions differ, ``(m, states)``.

        The states are the clean classes, then any that noise alone can bring.
        """

    @property
    def max_states(self) -> int:
        """Number of states a cell may be in, at the position with most of them."""
        return self.noise_probs().shape[-1]

    # ----------------------------------------------------------------------------------------------- schedule

    def alpha(self, t: Tensor) -> Tensor:
        """Probability of being clean, exactly 1 at t = 0; ``(n, m)`` from ``(n,)`` with a schedule a position."""
        alpha = self.schedule.alpha(t)
        return torch.where(t.reshape((*t.shape, *(1,) * (alpha.ndim - t.ndim))) > 0, alpha, 1.0)

    def d_alpha(self, t: Tensor) -> Tensor:
        """Derivative of that probability for t > 0."""
        return self.schedule.d_alpha(t)

    def weight(self, t: Tensor) -> Tensor:
        """Rate ``-alpha' / (1 - alpha)`` at which noise gives way to data, the weight of the likelihood bound.

        It carries the gradient of a learned schedule; at t = 0, where nothing is noise, it is 0.
        """
        hidden = 1 - self.alpha(t)
        return torch.where(hidden > 0, -self.d_alpha(t) / torch.where(hidden > 0, hidden, 1.0), 0.0)

    def noising_rate(self, t: Tensor) -> Tensor:
        """Rate ``-alpha' / alpha`` at which noise redraws a cell; infinite where alpha is 0, and 0 at t = 0."""
        alpha = self.alpha(t)
        rate = torch.where(alpha > 0, -self.d_alpha(t) / torch.where(alpha > 0, alpha, 1.0), torch.inf)
        return torch.where(alpha < 1, rate, 0.0)

    def kept(self, s: Tensor, t: Tensor) -> Tensor:
        """Probability ``alpha(t) / alpha(s)`` that noise leaves a cell alone between s and t; 1 where alpha(s) is 0."""
        alpha = self.alpha(s)
        return torch.where(alpha > 0, self.alpha(t) / torch.where(alpha > 0, alpha, 1.0), 1.0)

    # ------------------------------------------------------------------------------------------------ forward

    @abstractmethod
    def corrupt(self, x0: Int[Tensor, "n ..."], t: Tensor | float, *, generator: Noise = None) -> Int[Tensor, "n ..."]:
        """Draw ``x_t`` given ``x_0``; cells at t = 0 come back as they are.

        Raises:
            ValueError: A class out of range, or a time outside [0, 1] or of another shape than ``(n,)`` or ``x0``'s.
        """

    @abstractmethod
    def prior(
        self,
        num_samples: int,
        shape: Sequence[int] | None = None,
        *,
        generator: Noise = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Int[Tensor, "n ..."]:
        """Pure noise, ``(num_samples, *shape)``; ``shape`` may be left out where the process knows its positions."""

    def renoise(
        self, x_s: Int[Tensor, "n ..."], s: Tensor | float, t: Tensor | float, *, generator: Noise = None
    ) -> Int[Tensor, "n ..."]:
        """Draw ``x_t`` given ``x_s`` for t >= s: noise redraws each cell with probability ``1 - kept(s, t)``."""
        kept = self.kept(spread(s, x_s, "s"), spread(t, x_s))
        same = rand(x_s.shape, generator, device=x_s.device) < kept
        return torch.where(same, x_s, self.prior(len(x_s), x_s.shape[1:], generator=generator, device=x_s.device))

    @abstractmethod
    def log_emission(self, x_t: Int[Tensor, "n ..."], t: Tensor | float) -> Float[Tensor, "n ... k"]:
        """``log q(x_t | x_0 = k)`` of each cell and class, up to a factor without k, float64 ``(n, ..., K_max)``.

        Minus infinity at classes a position lacks, and at all but its own class for a cell at t = 0.
        """

    # ------------------------------------------------------------------------------ what a prediction means

    @abstractmethod
    def log_probs(
        self, logits: Float[Tensor, "n ... k"], x_t: Int[Tensor, "n ..."], t: Tensor | float | None = None
    ) -> Float[Tensor, "n ... k"]:
        """Turn raw logits into a prediction: classes a position lacks get no mass, certain cells are one-hot.

        Args:
            logits: ``(n, ..., K_max)``, of the clean classes only.
            x_t: The noisy state, ``(n, ...)``.
            t: Its time; where it is given, cells at t = 0 are certain.
        """

    @abstractmethod
    def rates(self, x_t: Tensor, log_probs: Tensor, t: Tensor | float) -> Tensor:
        """Rates ``(n, ..., K_max)`` at which the time-reversed corruption jumps to each class; 0 to where it is."""

    @abstractmethod
    def log_probs_from_rates(self, x_t: Tensor, rates: Tensor, t: Tensor | float) -> Tensor:
        """The prediction that reverse jump rates mean; raises ``ValueError`` where alpha is 0 and they mean none."""

    @abstractmethod
    def score(self, x_t: Tensor, log_probs: Tensor, t: Tensor | float) -> Tensor:
        """Concrete score ``(n, ..., K_max)``: probability of the state with this cell at k, over that of ``x_t``."""

    @abstractmethod
    def log_probs_from_score(self, x_t: Tensor, score: Tensor, t: Tensor | float) -> Tensor:
        """The prediction that a concrete score means; raises ``ValueError`` where alpha is 0 and it means none."""

    def flow_rates(
        self, x_t: Tensor, log_probs: Tensor, t: Tensor | float, *, corrector: float = 0.0
    ) -> Float[Tensor, "n ... states"]:
        """Jump rates of the mixture-path velocity: ``weight p0_hat(k)`` towards data, and a corrector around it.

        Another jump process than the time reversal of `rates` with the same marginal law at every time. The corrector
        adds ``weight p0_hat(k) - (alpha' / alpha) noise(k)``, this velocity plus the forward corruption, whose fluxes
        cancel in the law at t.

        Args:
            x_t: State at time t, int64 ``(n, ...)``.
            log_probs: Normalised log-probabilities ``(n, ..., K_max)``.
            t: Time.
            corrector: Strength c >= 0 of the added pair.

        Returns:
            ``(n, ..., states)``, 0 to the state a cell is in and at cells at t = 0; with a corrector infinite where
            alpha is 0.

        Source: Discrete Flow Matching (2024).
        """
        if corrector < 0:
            raise ValueError(f"corrector: expected a non-negative number, found {corrector}.")
        time = self._at(x_t, log_probs, t, "log_probs")
        rates = (1 + corrector) * self.weight(time).unsqueeze(-1) * log_probs.exp()
        rates = pad(rates, (0, self.max_states - self.max_classes))
        if corrector > 0:
            noise = self.noise_probs(x_t.device)
            rates = rates + torch.where(noise > 0, corrector * self.noising_rate(time).unsqueeze(-1) * noise, 0.0)
        return rates.to(log_probs.dtype).scatter(-1, x_t.unsqueeze(-1), 0.0)

    # -------------------------------------------------------------------------------------------- transitions

    @abstractmethod
    def kernel(
        self, x_t: Tensor, prediction: Tensor, t: Tensor | float, s: Tensor | float, *, eta: float = 1.0
    ) -> DiscreteKernel:
        """The reverse step from t to s: ``p(x_s = j | x_t) = sum_k p0_hat(k) q(x_s = j | x_t, x_0 = k)`` of each cell.

        Args:
            x_t: State at time t, int64 ``(n, ...)``.
            prediction: Normalised log-probabilities ``(n, ..., K_max)``.
            t: Time of ``x_t``, ``(n,)`` or cell-wise.
            s: Time to go to.
            eta: Accepted so that all processes share one signature; categories have this kernel alone.
        """

    @abstractmethod
    def log_probs_from_kernel(
        self, x_t: Tensor, kernel: Any, t: Tensor | float, s: Tensor | float
    ) -> Float[Tensor, "n ... k"]:
        """The prediction that the kernel of a step means; raises ``ValueError`` where the step says nothing of it."""

    def _at(self, x_t: Tensor, answer: Tensor, t: Tensor | float, name: str) -> Tensor:
        """The time spread over the cells, once the shapes fit."""
        if answer.shape != (*x_t.shape, self.max_classes):
            raise ValueError(f"{name}: expected shape {(*x_t.shape, self.max_classes)}, found {tuple(answer.shape)}.")
        return spread(t, x_t)

    def _shape(self, shape: Sequence[int] | None, positions: int | None) -> tuple[int, ...]:
        """Shape of one data point: the one given, or the positions this process knows."""
        if shape is not None:
            return tuple(shape)
        if positions is None:
            raise ValueError("shape: expected the shape of one data point, found None with one class count for all.")
        return (positions,)

    def _without_lacking(self, values: Tensor, fill: float) -> Tensor:
        """``values`` ``(n, ..., K_max)`` with ``fill`` at the classes that a position lacks."""
        if isinstance(self.num_classes, int) or min(self.num_classes) == self.max_classes:
            return values
        return values.masked_fill(lacking(self.num_classes, values.device), fill)


def one_hot(x: Int[Tensor, "n ..."], width: int) -> Tensor:
    """Where each state is, bool ``(n, ..., width)``; nowhere for a state beyond."""
    return x.unsqueeze(-1) == torch.arange(width, device=x.device)


@lru_cache(maxsize=256)
def lacking(num_classes: tuple[int, ...], device: torch.device) -> Tensor:
    """The classes each position lacks, bool ``(m, K_max)``."""
    return torch.arange(max(num_classes), device=device) >= _counts(num_classes, device).unsqueeze(-1)


def check_signal(alpha: Tensor, needed: Tensor, name: str) -> None:
    """Raise ``ValueError`` where alpha is 0 at a cell whose class it is needed for."""
    if bool((needed & (alpha <= 0)).any()):
        raise ValueError(f"{name}: expected times with alpha > 0, found alpha = 0, where it does not determine x0.")


@lru_cache(maxsize=256)
def _counts(num_classes: int | tuple[int, ...], device: torch.device) -> Tensor:
    return torch.as_tensor(num_classes, device=device)


def _schedule(schedule: str | MaskSchedule) -> MaskSchedule:
    named = {
        "linear": PolynomialMask(),
        "cosine": CosineMask(),
        "cosine_late": CosineMask(late=True),
        "cosine_squared": SquaredCosineMask(),
        "geometric": GeometricMask(),
    }
    if isinstance(schedule, str):
        if schedule not in named:
            raise ValueError(f"schedule: expected one of {sorted(named)}, found {schedule!r}.")
        return named[schedule]
    if not all(callable(getattr(schedule, name, None)) for name in ("alpha", "d_alpha", "t_of_alpha")):
        raise ValueError(
            f"schedule: expected one of {sorted(named)} or an object with alpha, d_alpha and t_of_alpha, "
            f"found {type(schedule).__name__}."
        )
    return schedule
