"""Weights of noise levels learned from a few labelled rows, kept only where they prove themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from clarkia.random import Noise, rand

Kind: TypeAlias = Literal["free", "polynomial", "l1"]

DEGREE = 4
"""Of the polynomial whose exponential the weights of that kind are."""

SPARSITY = 0.01
"""Of the kind "l1": the price of weights whose absolute values are on average those of even ones."""


class Fit(NamedTuple):
    """How well weights do on rows: mean cross-entropy in nats, and share classified right."""

    cross_entropy: float
    accuracy: float


@dataclass(frozen=True, eq=False)
class TimestepWeights:
    """Weights of the errors at each level.

    Attributes:
        values: float64 ``(m,)``, on the scale on which even weights are 1; all 1 where nothing better was found.
        kind: How they were parametrised.
        selected: Whether the learned weights were better on the validation rows.
        validation: How the learned weights did there.
        uniform: How even weights did there, at their best temperature.
    """

    values: Float64[Tensor, " m"]
    kind: Kind
    selected: bool
    validation: Fit
    uniform: Fit

    def log_posterior(
        self, errors: Float[Tensor, "n c m"], log_prior: Float[Tensor, " c"] | None = None
    ) -> Float64[Tensor, "n c"]:
        """Log-probabilities of the classes from errors at the same levels as were learned from.

        Args:
            errors: As `diffusion_classifier` returns them, without pruning.
            log_prior: Log-probabilities of the classes up to a constant; even by default.

        Raises:
            ValueError: Errors at another number of levels.
        """
        if errors.ndim != 3 or errors.shape[2] != len(self.values):
            raise ValueError(f"errors: expected shape (n, c, {len(self.values)}), found {tuple(errors.shape)}.")
        logits = -(errors.double() * self.values).mean(2)
        return (logits if log_prior is None else logits + log_prior).log_softmax(1)


def fit_timestep_weights(
    errors: Float[Tensor, "n c m"],
    labels: Int[Tensor, " n"],
    kind: Kind = "free",
    *,
    validation_share: float = 0.3,
    num_steps: int = 2000,
    learning_rate: float = 0.01,
    generator: Noise = None,
) -> TimestepWeights:
    """Learn how much the error at each level of noise should count, by cross-entropy on labelled rows.

    Adam starts from even weights at the temperature that suits them, and the step with the least cross-entropy on the
    validation rows is kept: if it classifies no fewer of these right than even weights do and has less cross-entropy.
    Otherwise the even weights are.

    Args:
        errors: Of n labelled rows, from `diffusion_classifier` without pruning; n at least 4.
        labels: True class of each row, int64.
        kind: ``"free"``, positive and one a level; ``"polynomial"``, the exponential of one of degree 4 in the level's
            place; ``"l1"``, any sign, with a price on their absolute values.
        validation_share: Share of the rows that choose the step.
        num_steps: Of Adam.
        learning_rate: Its step size.
        generator: Chooses the validation rows.

    Returns:
        The weights with what they were chosen for.

    Raises:
        ValueError: Errors that are not finite, labels that do not fit, or another kind.

    Source: Diffusion Classifiers Understand Compositionality, but Conditions Apply (2025).
    """
    gaps, labels = _checked(errors, labels, kind, validation_share)
    train, held = _split(len(gaps), validation_share, generator)
    train, held = train.to(gaps.device), held.to(gaps.device)
    start = _temperature(gaps[train], labels[train])
    even = torch.full((gaps.shape[2],), start, dtype=torch.float64, device=gaps.device)
    uniform = _fit_of(gaps[held], labels[held], even)
    weights, penalty, parameter = _parametrised(kind, even, gaps[train].std((0, 1)).clamp(min=1e-300))
    optimiser = torch.optim.Adam([parameter], lr=learning_rate)
    best, chosen = uniform, None
    for _ in range(num_steps):
        optimiser.zero_grad()
        with torch.enable_grad():
            loss = F.cross_entropy(_logits(gaps[train], weights()), labels[train]) + penalty()
            loss.backward()
        optimiser.step()
        with torch.no_grad():
            candidate = weights().detach().clone()
            found = _fit_of(gaps[held], labels[held], candidate)
        if found.cross_entropy < best.cross_entropy and found.accuracy >= uniform.accuracy:
            best, chosen = found, candidate
    if chosen is None:
        return TimestepWeights(torch.ones_like(even), kind, False, found if num_steps else uniform, uniform)
    return TimestepWeights(chosen, kind, True, best, uniform)


def _parametrised(
    kind: Kind, even: Tensor, spread: Tensor
) -> tuple[Callable[[], Tensor], Callable[[], Any], nn.Parameter]:
    """The weights as a function of a parameter, what they cost, and the parameter, which starts at even weights."""
    m = len(even)
    if kind == "l1":
        # In units of the spread of each level's errors, so that a step of Adam means the same at all of them.
        unit = spread.mean() / spread
        share = nn.Parameter(1 / unit)
        return lambda: even * unit * share, lambda: SPARSITY * share.abs().mean(), share
    if kind == "free":
        exponent = nn.Parameter(torch.zeros_like(even))
        return lambda: even * exponent.exp(), lambda: 0.0, exponent
    place = torch.linspace(-1, 1, m, dtype=even.dtype, device=even.device) if m > 1 else torch.zeros_like(even)
    angle = place.clamp(-1, 1).arccos()
    basis = torch.stack([(degree * angle).cos() for degree in range(DEGREE + 1)], 1)  # Chebyshev's, all of one size
    coefficients = nn.Parameter(torch.zeros(DEGREE + 1, dtype=even.dtype, device=even.device))
    return lambda: even * (basis @ coefficients).exp(), lambda: 0.0, coefficients


def _temperature(gaps: Tensor, labels: Tensor) -> float:
    """The factor of even weights with the least cross-entropy, to within 12 %."""
    scale = float(gaps.mean(2).abs().mean().clamp(min=1e-300))
    factors = torch.exp2(torch.arange(-40, 41, dtype=torch.float64) / 6) / scale
    logits = -gaps.mean(2)
    losses = torch.stack([F.cross_entropy(factor * logits, labels) for factor in factors])
    return float(factors[losses.argmin()])


def _fit_of(gaps: Tensor, labels: Tensor, weights: Tensor) -> Fit:
    logits = _logits(gaps, weights)
    right = (logits.argmax(1) == labels).double().mean()
    return Fit(float(F.cross_entropy(logits, labels)), float(right))


def _logits(gaps: Tensor, weights: Tensor) -> Tensor:
    return -(gaps * weights).mean(2)


def _split(rows: int, share: float, generator: Noise) -> tuple[Tensor, Tensor]:
    order = rand((rows,), generator).argsort()
    held = min(max(1, round(rows * share)), rows - 1)
    return order[held:], order[:held]


def _checked(errors: Tensor, labels: Tensor, kind: Kind, share: float) -> tuple[Tensor, Tensor]:
    """Errors less their mean over the classes, which no weight can make anything of, and labels."""
    if kind not in ("free", "polynomial", "l1"):
        raise ValueError(f"kind: expected 'free', 'polynomial' or 'l1', found {kind!r}.")
    if not 0 < share < 1:
        raise ValueError(f"validation_share: expected a number between 0 and 1, found {share}.")
    errors = torch.as_tensor(errors).double()
    labels = torch.as_tensor(labels, device=errors.device)
    if errors.ndim != 3 or len(errors) < 4 or errors.shape[1] < 2 or not errors.shape[2]:
        raise ValueError(f"errors: expected shape (n >= 4, c >= 2, m), found {tuple(errors.shape)}.")
    if not bool(errors.isfinite().all()):
        raise ValueError("errors: expected finite numbers, found NaN or infinity; classify without stages.")
    if labels.shape != errors.shape[:1] or labels.dtype != torch.int64:
        raise ValueError(f"labels: expected int64 ({len(errors)},), found {labels.dtype} {tuple(labels.shape)}.")
    if not bool(((labels >= 0) & (labels < errors.shape[1])).all()):
        raise ValueError(f"labels: expected classes from 0 to {errors.shape[1] - 1}, found {int(labels.max())}.")
    return errors - errors.mean(1, keepdim=True), labels
