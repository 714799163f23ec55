"""Mixture paths: categories that give way to draws from a source of clean classes, uniform noise among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clarkia.processes.discrete import Discrete, MaskSchedule, check_signal, one_hot
from clarkia.processes.kernels import CategoricalKernel
from clarkia.processes.sources import flat, parse
from clarkia.processes.times import check_step, check_time, spread
from clarkia.random import Noise, rand
from clarkia.spaces import check_classes, class_counts


class MixturePath(Discrete):
    """``x_t`` is ``x_0`` with probability ``alpha(t)``, else a class drawn from a source.

    With the source's probabilities ``pi`` and ``beta_x = (1 - alpha) pi(x)``, ``q(x | k) = alpha 1[x = k] + beta_x``.
    States are clean classes throughout. Predictions are normalised log-probabilities ``(n, ..., K_max)``: minus
    infinity at impossible classes, one-hot at certain cells, those at t = 0 or in a class that the source never brings.

    Args:
        num_classes: Clean classes, one count for all positions or one a position (then states are ``(n, m)``).
        source: Probabilities of the classes in pure noise, ``(K,)``, or ``(m, K_max)`` with one row a position and 0
            at classes a position lacks.
        schedule: As in `Masked`: a name or any object with the methods of `MaskSchedule`.

    Raises:
        ValueError: Probabilities of another shape, negative, not summing to one or at classes a position lacks; a
            class count below one, or an unknown schedule.

    Source: Discrete Flow Matching (2024); uniform noise as in Structured Denoising Diffusion Models in Discrete
    State-Spaces (2021).
    """

    def __init__(self, num_classes: int | Sequence[int], source: Any, schedule: str | MaskSchedule = "linear") -> None:
        super().__init__(num_classes, schedule)
        self.source: Float[Tensor, "... k"] = parse(source, self.num_classes)

    def noise_probs(self, device: torch.device | str | None = None) -> Float[Tensor, "... k"]:
        """The source, float64 ``(K,)`` or ``(m, K_max)``."""
        return self.source.to(device or "cpu")

    @property
    def max_states(self) -> int:
        """The classes."""
        return self.max_classes

    # ------------------------------------------------------------------------------------------------- forward

    def corrupt(
        self,
        x0: Int[Tensor, "n ..."],
        t: Tensor | float,
        *,
        noise: Int[Tensor, "n ..."] | None = None,
        generator: Noise = None,
    ) -> Int[Tensor, "n ..."]:
        """Replace each cell by noise with probability ``1 - alpha(t)``; cells at t = 0 come back as they are.

        Args:
            x0: Clean classes, int64 ``(n, ...)``.
            t: Time.
            noise: The state ``x_1`` to replace by, of the shape of ``x0``, for data coupled to their noise; by
                default a fresh draw from the source.
            generator: Source of randomness.

        Raises:
            ValueError: A class out of range, a time outside [0, 1], or a shape that does not fit.
        """
        check_classes(x0, self.num_classes, "x0")
        check_time(t)
        if noise is not None:
            check_classes(noise, self.num_classes, "noise")
            if noise.shape != x0.shape:
                raise ValueError(f"noise: expected shape {tuple(x0.shape)}, found {tuple(noise.shape)}.")
        with torch.no_grad():
            clean = rand(x0.shape, generator, device=x0.device) < self.alpha(spread(t, x0))
        if noise is None:
            noise = self.prior(len(x0), x0.shape[1:], generator=generator, device=x0.device)
        return torch.where(clean, x0, noise)

    def prior(
        self,
        num_samples: int,
        shape: Sequence[int] | None = None,
        *,
        generator: Noise = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Int[Tensor, "n ..."]:
        """Draws from the source, ``(num_samples, *shape)``; ``shape`` may be left out where positions are counted."""
        del dtype  # states are always int64
        counted = None if isinstance(self.num_classes, int) else len(self.num_classes)
        shape = self._shape(shape, len(self.source) if self.source.ndim == 2 else counted)
        if self.source.ndim == 2 and shape != (len(self.source),):
            raise ValueError(f"shape: expected ({len(self.source)},) as the source has, found {shape}.")
        uniforms = rand((num_samples, *shape), generator, device=device)
        # One cumulative distribution serves all cells of a position: nothing of the size of a prediction is made.
        cumulative = self.noise_probs(uniforms.device).cumsum(-1)
        total = cumulative[..., -1]
        threshold = torch.minimum(uniforms * total, torch.nextafter(total, torch.zeros_like(total)))
        if cumulative.ndim == 1:
            return torch.searchsorted(cumulative, threshold, right=True)
        return torch.searchsorted(cumulative, threshold.T.contiguous(), right=True).T.contiguous()

    def log_emission(self, x_t: Int[Tensor, "n ..."], t: Tensor | float) -> Float[Tensor, "n ... k"]:
        """``log q(x_t | x_0 = k) = log(alpha 1[k = x_t] + (1 - alpha) pi(x_t))``, float64 ``(n, ..., K_max)``."""
        alpha = self.alpha(spread(t, x_t).double())
        return self._without_lacking(self._likelihood(x_t, alpha), 0.0).log()

    # ------------------------------------------------------------------------------- what a prediction means

    def log_probs(
        self, logits: Float[Tensor, "n ... k"], x_t: Int[Tensor, "n ..."], t: Tensor | float | None = None
    ) -> Float[Tensor, "n ... k"]:
        """Turn raw logits into a prediction; cells with ``pi(x_t) = 0``, or t = 0 where it is given, are certain."""
        zero = torch.zeros((), device=x_t.device)
        time = self._at(x_t, logits, zero if t is None else t, "logits")
        answer = self._without_lacking(logits, -torch.inf).log_softmax(-1)
        certain = self._source_at(x_t) == 0
        if t is not None:
            certain = certain | (time == 0)
        known = torch.where(one_hot(x_t, self.max_classes), 0.0, -torch.inf).to(answer.dtype)
        return torch.where(certain.unsqueeze(-1), known, answer)

    def rates(self, x_t: Tensor, log_probs: Tensor, t: Tensor | float) -> Tensor:
        """Rates ``(n, ..., K_max)`` of the time-reversed corruption, 0 to the class a cell is in and at certain cells.

        The corruption leaves y for x at rate ``sigma' pi(x)``, ``sigma' = -alpha' / alpha``; times the score this is
        ``sigma' pi(y) (1 - d p0_hat(x)) + weight p0_hat(y)`` with ``d = alpha / (alpha + beta_x)``: infinite where
        alpha is 0.
        """
        time = self._at(x_t, log_probs, t, "log_probs").double()
        pi, _, other = self._ratios(x_t, log_probs, self.alpha(time))
        towards_noise = torch.where(pi > 0, self.noising_rate(time).unsqueeze(-1) * other.unsqueeze(-1) * pi, 0.0)
        rates = self.weight(time).unsqueeze(-1) * log_probs.double().exp() + towards_noise
        still = one_hot(x_t, self.max_classes) | self._certain(x_t, self.alpha(time)).unsqueeze(-1)
        return rates.masked_fill(still, 0.0).to(log_probs.dtype)

    def log_probs_from_rates(self, x_t: Tensor, rates: Tensor, t: Tensor | float) -> Tensor:
        """The prediction that reverse jump rates mean; one-hot at certain cells.

        Raises:
            ValueError: A cell where alpha is 0 or stands still, so that the rates say nothing of the data.
        """
        time = self._at(x_t, rates, t, "rates").double()
        live = ~self._certain(x_t, self.alpha(time))
        check_signal(self.alpha(time), live, "rates")
        arrival = self.noising_rate(time) * self._source_at(x_t)
        if bool((live & (arrival <= 0)).any()):
            raise ValueError("t: expected times at which alpha falls, found rate 0, which says nothing of the data.")
        scale = torch.where(live, arrival, 1.0).unsqueeze(-1)
        return self.log_probs_from_score(x_t, (rates.double() / scale).to(rates.dtype), t)

    def score(self, x_t: Tensor, log_probs: Tensor, t: Tensor | float) -> Tensor:
        """Concrete score ``s_y = beta_y / beta_x (1 - d p0_hat(x)) + alpha / beta_x p0_hat(y)``, and 1 at x itself.

        With ``x = x_t`` and ``d = alpha / (alpha + beta_x)``. At certain cells, whose ratios are no function of the
        prediction, 0 to every other class: no reverse step leaves them.
        """
        alpha = self.alpha(self._at(x_t, log_probs, t, "log_probs").double())
        pi, pi_x, other = self._ratios(x_t, log_probs, alpha)
        certain = self._certain(x_t, alpha)
        beta_x = torch.where(certain, 1.0, (1 - alpha) * pi_x).unsqueeze(-1)
        noise, data = (1 - alpha).unsqueeze(-1) * pi, alpha.unsqueeze(-1) * log_probs.double().exp()
        s = torch.where(certain.unsqueeze(-1), 0.0, (noise * other.unsqueeze(-1) + data) / beta_x)
        return torch.where(one_hot(x_t, self.max_classes), 1.0, s).to(log_probs.dtype)

    def log_probs_from_score(self, x_t: Tensor, score: Tensor, t: Tensor | float) -> Tensor:
        """The prediction that a concrete score means; one-hot at certain cells.

        With ``S`` and ``B`` the sums of ``s_y`` and ``beta_y`` over ``y != x``, normalisation gives ``p0_hat(x) = (1 -
        (beta_x S - B) / alpha) / (1 + B d / alpha)``, and then the score's own equation every ``p0_hat(y)``. What an
        approximate score puts below 0 counts as 0.

        Raises:
            ValueError: A cell where alpha is 0 and the score the same whatever the data.
        """
        time = self._at(x_t, score, t, "score").double()
        alpha = self.alpha(time)
        certain = self._certain(x_t, alpha)
        check_signal(alpha, ~certain, "score")
        alpha = torch.where(certain, 1.0, alpha)
        here = one_hot(x_t, self.max_classes)
        beta_x = (1 - alpha) * self._source_at(x_t)
        beta_others = (1 - alpha) - beta_x
        d = alpha / (alpha + beta_x)
        total = score.double().masked_fill(here, 0.0).sum(-1)
        at_x = (1 - (beta_x * total - beta_others) / alpha) / (1 + beta_others * d / alpha)
        beta = (1 - alpha).unsqueeze(-1) * self.noise_probs(x_t.device)
        others = beta_x.unsqueeze(-1) * score.double() - beta * (1 - d * at_x).unsqueeze(-1)
        p0 = torch.where(here, at_x.unsqueeze(-1), others / alpha.unsqueeze(-1))
        return self._normalised(x_t, p0, certain).to(score.dtype)

    # --------------------------------------------------------------------------------------------- transitions

    def kernel(
        self, x_t: Tensor, prediction: Tensor, t: Tensor | float, s: Tensor | float, *, eta: float = 1.0
    ) -> CategoricalKernel:
        """The reverse step from t to s: ``p(j) = q(x_t | x_s = j) (alpha_s w_j + (1 - alpha_s) pi(j) W)`` of each cell.

        With ``w_k = p0_hat(k) / q(x_t | k)`` and ``W`` their sum: the posterior of ``x_s`` given ``x_t`` and ``x_0``,
        averaged over the prediction. A state that the prediction holds impossible stays as it is.

        Args:
            x_t: State at time t, int64 ``(n, ...)``.
            prediction: Normalised log-probabilities ``(n, ..., K_max)``.
            t: Time of ``x_t``, ``(n,)`` or cell-wise.
            s: Time to go to.
            eta: Accepted so that all processes share one signature; categories have this kernel alone.

        Raises:
            ValueError: A shape that does not fit, a class out of range, a time outside [0, 1] or a step with s > t.
        """
        del eta
        check_classes(x_t, self.num_classes, "x_t")
        t, s = self._at(x_t, prediction, t, "prediction").double(), spread(s, x_t, "s").double()
        check_step(t, s)
        likelihood = self._likelihood(x_t, self.alpha(t))
        w = torch.where(likelihood > 0, prediction.double().exp() / _nonzero(likelihood), 0.0)
        alpha_s = self.alpha(s).unsqueeze(-1)
        source = (1 - alpha_s) * self.noise_probs(x_t.device) * w.sum(-1, keepdim=True)
        p = self._likelihood(x_t, self.kept(s, t)) * (alpha_s * w + source)
        total = p.sum(-1, keepdim=True)
        here = one_hot(x_t, self.max_classes).double()
        return CategoricalKernel(torch.where(total > 0, p / _nonzero(total), here).log())

    def log_probs_from_kernel(
        self, x_t: Tensor, kernel: CategoricalKernel, t: Tensor | float, s: Tensor | float
    ) -> Float[Tensor, "n ... k"]:
        """The prediction that the kernel of a step means, float64; one-hot at certain cells.

        Raises:
            ValueError: A cell that the step cannot move, or whose ``x_s`` is pure noise.
        """
        t, s = self._at(x_t, kernel.log_probs, t, "kernel").double(), spread(s, x_t, "s").double()
        certain = self._certain(x_t, self.alpha(t))
        kept, alpha_s = self.kept(s, t), self.alpha(s)
        check_signal(alpha_s, ~certain, "kernel")
        if bool((~certain & (kept >= 1)).any()):
            raise ValueError("s: expected a step that may move every uncertain cell, found one that moves nothing.")
        v = kernel.table().exp() / _nonzero(self._likelihood(x_t, kept))
        alpha_s = torch.where(certain, 1.0, alpha_s).unsqueeze(-1)
        w = (v - (1 - alpha_s) * self.noise_probs(x_t.device) * v.sum(-1, keepdim=True)) / alpha_s
        return self._normalised(x_t, w * self._likelihood(x_t, self.alpha(t)), certain)

    def _likelihood(self, x: Tensor, kept: Tensor) -> Float[Tensor, "n ... k"]:
        """``q(x | k)`` of every class k that was kept with this probability, else replaced by the source."""
        stray = (1 - kept) * self._source_at(x)
        return torch.where(one_hot(x, self.max_classes), (kept + stray).unsqueeze(-1), stray.unsqueeze(-1))

    def _ratios(self, x_t: Tensor, log_probs: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The source, its probability of ``x_t``, and ``1 - d p0_hat(x_t)``."""
        pi_x = self._source_at(x_t)
        present = alpha + (1 - alpha) * pi_x
        d = torch.where(present > 0, alpha / _nonzero(present), 1.0)
        p_x = log_probs.double().gather(-1, x_t.unsqueeze(-1)).squeeze(-1).exp()
        return self.noise_probs(x_t.device), pi_x, 1 - d * p_x

    def _certain(self, x_t: Tensor, alpha: Tensor) -> Tensor:
        """Cells that noise cannot have brought, bool ``(n, ...)``."""
        return (1 - alpha) * self._source_at(x_t) <= 0

    def _source_at(self, x: Tensor) -> Tensor:
        """``pi(x)`` of every cell, float64 ``(n, ...)``."""
        return self.noise_probs(x.device).expand(*x.shape, -1).gather(-1, x.unsqueeze(-1)).squeeze(-1)

    def _normalised(self, x_t: Tensor, p0: Tensor, certain: Tensor) -> Tensor:
        p0 = torch.where(certain.unsqueeze(-1), one_hot(x_t, self.max_classes).double(), p0.clamp(min=0))
        p0 = self._without_lacking(p0, 0.0)
        return (p0 / p0.sum(-1, keepdim=True)).log()


def Uniform(num_classes: int | Sequence[int], schedule: str | MaskSchedule = "linear") -> MixturePath:  # noqa: N802
    """Uniform noise: the mixture path whose source gives every class of a position the same probability.

    Args:
        num_classes: Clean classes, one count for all positions or one a position.
        schedule: As in `Masked`.

    Source: Structured Denoising Diffusion Models in Discrete State-Spaces (2021).
    """
    return MixturePath(num_classes, flat(class_counts(num_classes)), schedule)


def _nonzero(divisor: Tensor) -> Tensor:
    """The divisor, 1 in place of 0."""
    return torch.where(divisor == 0, 1.0, divisor)
