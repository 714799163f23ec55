"""What control is asked for: labels that a classifier can tell of clean data, and how much they count."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from clarkia.random import Noise, categorical, rand

NO_LABEL = -1
"""The label of a row in which a control is not given."""


@dataclass(frozen=True, eq=False)
class Control:
    """A label y of clean data, for the target ``p(x) p(y | x)^gamma / Z(y)``.

    Args:
        log_prob: ``log_prob(x_0, label) -> (n,)``, the classifier's log-probability of each row's label, int64
            ``(n,)``. It need be differentiable for pathwise gradients only.
        num_labels: Labels there are.
        gamma: How much the classifier counts; 1 is Bayes' rule.
        law: Probabilities of the labels in training, uniform if None.
        floor: A log-probability below this one counts as this one, and has no gradient.
        sees_condition: Whether the classifier is called with the condition as a third argument; one of data alone is
            enough where label and condition are independent given the data.

    Raises:
        ValueError: Fewer than one label, a law that is not one over the labels, or a gamma that is not finite.
    """

    log_prob: Callable[..., Float[Tensor, " n"]]
    num_labels: int
    gamma: float = 1.0
    law: Sequence[float] | None = None
    floor: float = -14.0
    sees_condition: bool = False

    def __post_init__(self) -> None:
        if self.num_labels < 1:
            raise ValueError(f"num_labels: expected at least 1, found {self.num_labels}.")
        if not math.isfinite(self.gamma):
            raise ValueError(f"gamma: expected a finite number, found {self.gamma}.")
        law = self.probabilities
        if law.shape != (self.num_labels,) or bool((law < 0).any()) or abs(float(law.sum()) - 1) > 1e-6:
            raise ValueError(f"law: expected {self.num_labels} probabilities that sum to 1, found {law.tolist()}.")

    @property
    def probabilities(self) -> Float[Tensor, " labels"]:
        """Law of the labels, float64."""
        uniform = [1 / self.num_labels] * self.num_labels
        return torch.as_tensor(uniform if self.law is None else self.law, dtype=torch.float64)


def draw_labels(
    controls: Sequence[Control], n: int, drop: float = 0.0, generator: Noise = None
) -> Int64[Tensor, "n controls"]:
    """Labels from the controls' laws; each left out, as `NO_LABEL`, with probability ``drop``."""
    columns = []
    for control in controls:
        label = categorical(control.probabilities.log().expand(n, -1), generator)
        if drop > 0:
            label = torch.where(rand((n,), generator, device=label.device) < drop, NO_LABEL, label)
        columns.append(label)
    return torch.stack(columns, 1)


def log_factor(
    controls: Sequence[Control], x0: Tensor, labels: Int64[Tensor, "n controls"], condition: Any = None
) -> Float[Tensor, " n"]:
    """``sum_k gamma_k log p(y_k | x_0)`` over the labels that are given, float64 ``(n,)``.

    Raises:
        ValueError: A classifier that does not answer one number a row.
    """
    total = torch.zeros(len(x0), dtype=torch.float64, device=x0.device)
    for index, (control, label) in enumerate(zip(controls, labels.to(x0.device).T, strict=True)):
        more = (condition,) if control.sees_condition else ()
        value = control.log_prob(x0, label.clamp(min=0), *more)
        if tuple(value.shape) != (len(x0),):
            raise ValueError(f"log_prob of control {index}: expected shape ({len(x0)},), found {tuple(value.shape)}.")
        value = control.gamma * value.double().clamp(min=control.floor)
        total = total + torch.where(label == NO_LABEL, 0.0, value)
    return total


def as_controls(controls: Control | Sequence[Control]) -> tuple[Control, ...]:
    """One or several controls as a tuple; raises ``ValueError`` where there is none."""
    controls = (controls,) if isinstance(controls, Control) else tuple(controls)
    if not controls or not all(isinstance(control, Control) for control in controls):
        raise ValueError(f"controls: expected one alignment.Control or several, found {controls!r}.")
    return controls


def with_labels(condition: Any, labels: Tensor) -> dict[str, Any]:
    """What a controlled denoiser is told: its labels beside the condition."""
    if condition is None:
        return {"control": labels}
    return {**condition, "control": labels} if isinstance(condition, Mapping) else {"x": condition, "control": labels}


def split_labels(condition: Any) -> tuple[Int64[Tensor, "n controls"] | None, Any]:
    """The inverse of `with_labels`: labels as a matrix, None where there are none, and the condition."""
    if not isinstance(condition, Mapping) or "control" not in condition:
        return None, condition
    rest = {name: value for name, value in condition.items() if name != "control"}
    labels = condition["control"]
    base = None if not rest else rest["x"] if set(rest) == {"x"} else rest
    return (labels if labels.ndim == 2 else labels.unsqueeze(1)), base
