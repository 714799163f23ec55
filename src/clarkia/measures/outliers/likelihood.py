"""Scores from log-probabilities of any model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

LogProb = Callable[[Any], Any]


@dataclass(frozen=True)
class LogLikelihood:
    """Score rows by how improbable a model finds them.

    A high density is no proof of being usual: in many dimensions nearly all mass lies away from the densest points. The
    typical form scores by how far a log-probability is from the mean over usual rows, in either direction.

    Args:
        log_prob: From features to log-probabilities ``(n,)``: an oracle's ``log_prob``, the nats of a likelihood; None
            where the features are the log-probabilities themselves.
        typical: Score ``|log p(x) - mean log p|`` instead of ``-log p(x)``.

    Source: Detecting Out-of-Distribution Inputs to Deep Generative Models Using Typicality (2019).
    """

    log_prob: LogProb | None = None
    typical: bool = False

    def fit(self, features: Any, labels: Any = None) -> FittedLogLikelihood:
        """Take the mean log-probability of usual rows; labels are not looked at."""
        found = _log_probs(self.log_prob, features)
        if self.typical and not bool(found.isfinite().all()):
            raise ValueError("features: expected finite log-probabilities of usual rows, found an infinite one in row "
                             f"{int((~found.isfinite()).int().argmax())}.")  # fmt: skip
        return FittedLogLikelihood(self, float(found.mean()))


@dataclass(frozen=True, eq=False)
class FittedLogLikelihood:
    """A likelihood and what it makes of usual rows.

    Attributes:
        settings: The scorer that was fitted.
        mean: Mean log-probability of the usual rows, nats.
    """

    settings: LogLikelihood
    mean: float

    def score(self, features: Any) -> Float64[Tensor, " n"]:
        """Negative log-probability of each row, or its distance from that of usual rows, nats ``(n,)``."""
        nats = _log_probs(self.settings.log_prob, features)
        return (nats - self.mean).abs() if self.settings.typical else -nats


def _log_probs(log_prob: LogProb | None, x: Any) -> Tensor:
    found = torch.as_tensor(x if log_prob is None else log_prob(x)).detach().double()
    if found.ndim == 2 and found.shape[1] == 1:
        found = found.squeeze(1)
    if found.ndim != 1 or not len(found):
        raise ValueError(f"log_prob: expected one number a row, shape (n,), found {tuple(found.shape)}.")
    bad = found.isnan() | (found == torch.inf)
    if bool(bad.any()):
        row = int(bad.int().argmax())
        raise ValueError(f"log_prob: expected numbers below infinity, found {float(found[row])} in row {row}.")
    return found
