"""Scores from the logits of a classifier: the energy and the largest probability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float64
from torch import Tensor

from clarkia.measures.inputs import features

Logits = Callable[[Any], Any]


@dataclass(frozen=True)
class Energy:
    """Score rows by the energy ``-T log sum_c exp(logit_c / T)`` of a classifier.

    Args:
        classifier: From features ``(n, d)`` to logits ``(n, classes)``; None where the features are the logits.
        temperature: T, positive.

    Raises:
        ValueError: A temperature that is not positive.

    Source: Energy-based Out-of-distribution Detection (2020).
    """

    classifier: Logits | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        _check_temperature(self.temperature)

    def fit(self, features: Any = None, labels: Any = None) -> Energy:
        """The scorer itself: the classifier is all that it knows."""
        return self

    def score(self, features: Any) -> Float64[Tensor, " n"]:
        """Energy of each row, ``(n,)``."""
        return -self.temperature * (_logits(self.classifier, features) / self.temperature).logsumexp(1)


@dataclass(frozen=True)
class MaximumSoftmax:
    """Score rows by one minus the largest class probability of a classifier.

    Args:
        classifier: From features ``(n, d)`` to logits ``(n, classes)``; None where the features are the logits.
        temperature: Logits are divided by it, positive.

    Raises:
        ValueError: A temperature that is not positive.

    Source: A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks (2016).
    """

    classifier: Logits | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        _check_temperature(self.temperature)

    def fit(self, features: Any = None, labels: Any = None) -> MaximumSoftmax:
        """The scorer itself: the classifier is all that it knows."""
        return self

    def score(self, features: Any) -> Float64[Tensor, " n"]:
        """One minus the largest probability of each row, ``(n,)``."""
        logits = _logits(self.classifier, features) / self.temperature
        best = logits.argmax(1, keepdim=True)
        # The others' share, summed: one minus a probability near 1 would lose all its digits.
        return logits.softmax(1).scatter(1, best, 0.0).sum(1)


def _logits(classifier: Logits | None, x: Any) -> Tensor:
    logits = features(x if classifier is None else classifier(x), "logits").detach()
    if logits.shape[1] < 2:
        raise ValueError(f"logits: expected at least 2 classes, found {logits.shape[1]}.")
    return logits


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f"temperature: expected a positive number, found {temperature!r}.")
