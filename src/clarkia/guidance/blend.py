"""Several concepts in one sample: at every step a rule says which of them to follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia import schedules
from clarkia.denoisers import Denoiser
from clarkia.guidance.blend_rules import RULES, SCORED, Rule
from clarkia.guidance.guided import Guided
from clarkia.processes.times import Time, spread

Mix: TypeAlias = Callable[[Sequence[Any], Tensor], Any]
"""``mix(conditions, weights) -> condition``: K conditions and weights ``(n, K)`` as one condition of n rows."""


def blend(
    denoiser: Denoiser,
    conditions: Sequence[Any],
    rule: str | Rule = "black_scholes",
    *,
    scorer: Callable[[Tensor], Tensor] | None = None,
    scale: float = 6.5,
    num_steps: int | None = None,
    times: Float[Tensor, " nodes"] | None = None,
    mix: Mix | None = None,
) -> Guided:
    """A denoiser that shows several concepts at once, with no training.

    At each state it scores the plain prediction, which classifier-free guidance needs in any case, with every concept;
    the rule turns scores into weights ``u``, and the guided prediction is ``D + (1 + scale) sum_k u_k (D_k - D)`` with
    the prediction ``D`` under no condition and ``D_k`` under the k-th. Where the rule follows one concept a row, that
    takes two evaluations.

    The published "Black-Scholes" rule with its parameters shared by all concepts is the same as following the concept
    with the lowest score, and is implemented to show this. "hyperparameter-free" there hides a strike of 100 and an
    interest of 1/N.

    Args:
        denoiser: Of one continuous block, trained with and without conditions.
        conditions: K of them. Tensors, or dicts of tensors, of one shape each and one row or as many as the state; of
            another kind only where all rows follow one concept or all.
        rule: "black_scholes", "black_scholes_published", "volatility", "lowest", "alternate", "switch" (see
            `blend_rules`), "sum" (predictions are averaged), "interpolate" (conditions are), or a function.
        scorer: ``scorer(x0_hat) -> (n, K)``, how much each concept is in a forecast, in (0, 1]; the rules see a hundred
            times that. Without one every score is 100.
        scale: Guidance: 0 gives the conditional predictions, the published weight 7.5 is 6.5 here.
        num_steps: Steps of a uniform grid, 100 where neither this nor `times` is given, or
        times: the grid of the run, ``(N + 1,)``: the step is told by where on it the time stands.
        mix: How conditions are averaged by "interpolate"; by default entry by entry, which numbers allow and words do
            not.

    Returns:
        The denoiser. Its ``both`` is a `Blend`, which remembers scores and weights of the present run. A condition
        given in a call takes the place of no condition, as a negative prompt does.

    Raises:
        ValueError: No condition, an unknown rule, one that needs a scorer without it; in use, a scorer's answer of
            another shape or out of (0, 1], or weights that do not sum to one.

    Source: Financial Models in Generative Art: Black-Scholes-Inspired Concept Blending in Text-to-Image Diffusion
    (2024).
    """
    if isinstance(rule, str) and rule not in RULES:
        raise ValueError(f"rule: expected one of {', '.join(RULES)} or a function, found {rule!r}.")
    if rule in SCORED and scorer is None:
        raise ValueError(f"scorer: the rule {rule!r} looks at scores; expected a function, found None.")
    if not conditions:
        raise ValueError("conditions: expected at least one, found none.")
    if times is not None and num_steps is not None:
        raise ValueError("num_steps, times: expected one of the two, found both.")
    grid = schedules.uniform(num_steps or 100) if times is None else schedules.check_times(times)
    averaged = (mix or _average) if rule == "interpolate" else None
    choose = RULES[rule] if isinstance(rule, str) else rule
    return Guided(Blend(denoiser, tuple(conditions), choose, scorer, scale, grid, averaged))


@final
@dataclass(eq=False)
class Blend:
    """The two predictions of `blend`, and the scores and weights of the present run.

    A run begins at the first time of the grid. What an earlier call noted at the same step or a later one is forgotten,
    so a solver may ask several times at one time, and the next run needs no reset.

    Attributes:
        scores: By step, ``(n, K)`` from 0 to 100.
        weights: Likewise, what the rule answered.
    """

    denoiser: Denoiser
    conditions: tuple[Any, ...]
    rule: Rule
    scorer: Callable[[Tensor], Tensor] | None
    scale: float
    times: Tensor
    mix: Mix | None = None
    scores: list[Tensor] = field(default_factory=list, init=False)
    weights: list[Tensor] = field(default_factory=list, init=False)

    def __call__(self, x_t: Tensor, t: Time, condition: Any = None) -> tuple[Tensor, Tensor]:
        """The prediction under no concept, and the blended one."""
        plain = self.denoiser(x_t, t, condition)
        i = self._step(t)
        scores = self._scored(plain)
        del self.scores[i:], self.weights[i:]
        if self.scores and len(self.scores[0]) != len(scores):
            raise ValueError(
                f"x_t: expected the {len(self.scores[0])} rows that the run began with, found {len(scores)}."
            )
        history = torch.stack(self.scores) if self.scores else scores.new_empty(0, *scores.shape)
        weights = self._checked(self.rule(i, len(self.times) - 1, scores, history), scores)
        self.scores.append(scores)
        self.weights.append(weights)
        followed = self._followed(x_t, t, weights)
        return plain, plain + (1 + self.scale) * (followed - plain)

    def _step(self, t: Time) -> int:
        """Where on the grid the rows stand: the number of the nearest time, the last step's at most."""
        assert isinstance(t, Tensor), "a state of one block has one time"
        nearest = (self.times - float(t.max())).abs().argmin()
        return min(int(nearest), len(self.times) - 2)

    def _scored(self, forecast: Tensor) -> Tensor:
        shape = (len(forecast), len(self.conditions))
        if self.scorer is None:
            return torch.full(shape, 100.0, dtype=torch.float64, device=forecast.device)
        scores = self.scorer(forecast).double()
        if tuple(scores.shape) != shape or not bool(((scores > 0) & (scores <= 1)).all()):
            found = f"{tuple(scores.shape)} from {float(scores.min()):g} to {float(scores.max()):g}"
            raise ValueError(f"scorer: expected scores in (0, 1] of shape {shape}, found {found}.")
        return 100 * scores

    def _checked(self, weights: Tensor, scores: Tensor) -> Tensor:
        if weights.shape != scores.shape or bool(((weights.sum(1) - 1).abs() > 1e-6).any()):
            raise ValueError(
                f"rule: expected weights of shape {tuple(scores.shape)} that sum to one, "
                f"found shape {tuple(weights.shape)} and sums near {float(weights.sum(-1).mean()):g}."
            )
        return weights

    def _followed(self, x_t: Tensor, t: Time, weights: Tensor) -> Tensor:
        """The conditional prediction under these weights."""
        if self.mix is not None:
            return self.denoiser(x_t, t, self.mix(self.conditions, weights))
        concept = weights.argmax(1)
        if bool((weights.gather(1, concept[:, None]) == 1).all()):
            return self.denoiser(x_t, t, _picked(self.conditions, concept))
        parts = [self.denoiser(x_t, t, condition) for condition in self.conditions]
        shares = weights.to(x_t.dtype).unbind(1)
        return sum(spread(share, part) * part for share, part in zip(shares, parts, strict=True))  # type: ignore[return-value]


def _picked(conditions: Sequence[Any], concept: Tensor) -> Any:
    """The condition in which each row has its own concept."""
    if bool((concept == concept[0]).all()):
        return conditions[int(concept[0])]

    def pick(parts: Sequence[Tensor]) -> Tensor:
        rows = torch.arange(len(concept), device=concept.device)
        return torch.stack([part.expand(len(concept), *part.shape[1:]) for part in parts])[concept, rows]

    return _each(conditions, pick)


def _average(conditions: Sequence[Any], weights: Tensor) -> Any:
    """The condition of averaged numbers."""

    def average(parts: Sequence[Tensor]) -> Tensor:
        if not parts[0].is_floating_point():
            if all(torch.equal(part, parts[0]) for part in parts):
                return parts[0]
            raise ValueError("conditions: expected numbers to average, found words or classes; give a `mix`.")
        shares = weights.to(parts[0].dtype).unbind(1)
        return sum(spread(share, _rows(part, weights)) * part for share, part in zip(shares, parts, strict=True))  # type: ignore[return-value]

    return _each(conditions, average)


def _rows(part: Tensor, weights: Tensor) -> Tensor:
    return part.expand(len(weights), *part.shape[1:])


def _each(conditions: Sequence[Any], combine: Callable[[Sequence[Tensor]], Tensor]) -> Any:
    """What a function makes of the tensors of several conditions, name by name."""
    if all(isinstance(condition, Mapping) for condition in conditions):
        return {name: combine([condition[name] for condition in conditions]) for name in conditions[0]}
    if all(isinstance(condition, Tensor) for condition in conditions):
        return combine(conditions)
    raise ValueError("conditions: expected tensors or dicts of tensors, so that rows may follow different concepts.")
