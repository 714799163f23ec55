"""Everything that answers with class probabilities, as one kind of classifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from clarkia._math.pairwise import squared_distances
from clarkia.denoisers import Denoiser
from clarkia.measures.fields.checks import at_level, check_count, check_gaussian, check_levels, check_points
from clarkia.measures.inputs import features
from clarkia.measures.likelihood.evaluate import predict
from clarkia.processes import Gaussian
from clarkia.random import Noise, randn

INVALID = -1
CHUNK = 4096
SUM_TOLERANCE = 1e-3  # probabilities of single precision sum to one this well


@runtime_checkable
class Classifier(Protocol):
    """Anything with scikit-learn's ``predict_proba``."""

    def predict_proba(self, x: Any, /) -> Any:
        """Class probabilities ``(n, classes)``; a row of NaN where there is no valid answer."""
        ...


@runtime_checkable
class Adaptable(Protocol):
    """A classifier that can learn from a few labelled rows."""

    def adapt(self, x: Any, labels: Any, /) -> Classifier:
        """A new classifier that has seen rows and their classes ``(k,)``."""
        ...


@dataclass(frozen=True, eq=False)
class Answers:
    """What a classifier answered.

    Attributes:
        labels: Most probable class of each row, -1 where the answer was not valid, int64 ``(n,)``.
        confidence: Its probability, NaN where the answer was not valid, float64 ``(n,)``.
    """

    labels: Int64[np.ndarray, " n"]
    confidence: Float64[np.ndarray, " n"]


def ask(classifier: Classifier, x: Any, num_classes: int) -> Answers:
    """The answers of a classifier to n inputs.

    Raises:
        ValueError: Another shape than ``(n, num_classes)``, or numbers that are no probabilities.
    """
    found = classifier.predict_proba(x)
    table = np.asarray(found.detach().cpu() if isinstance(found, Tensor) else found, dtype=np.float64)
    if table.shape != (len(x), num_classes):
        raise ValueError(f"predict_proba: expected shape {(len(x), num_classes)}, found {table.shape}.")
    valid = np.logical_not(np.isnan(table).any(axis=1))
    wrong = valid & ((table < 0).any(axis=1) | (np.abs(table.sum(1) - 1) > SUM_TOLERANCE))
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"predict_proba: expected probabilities that sum to one, found {table[row]} in row {row}.")
    best = np.where(valid, np.where(np.isnan(table), -1.0, table).argmax(1), INVALID)
    return Answers(best, np.where(valid, np.take_along_axis(table, np.maximum(best, 0)[:, None], 1)[:, 0], np.nan))


@dataclass(frozen=True, eq=False)
class TorchClassifier:
    """A torch module that gives logits, as a classifier.

    Args:
        module: From inputs to logits ``(n, classes)``; it is called as it is, in evaluation mode or not.
    """

    module: nn.Module | Callable[[Tensor], Tensor]

    @torch.no_grad()
    def predict_proba(self, x: Any) -> Float64[Tensor, "n c"]:
        """Softmax of the logits, ``(n, classes)``."""
        return torch.cat([self.module(part) for part in torch.as_tensor(x).split(CHUNK)]).double().softmax(1)


@dataclass(frozen=True, eq=False)
class SimilarityClassifier:
    """Classes by their nearest description: softmax of the cosines with one embedding a class.

    Args:
        encoder: From inputs to embeddings ``(n, d)``.
        classes: Embedding of each class, of its name say, ``(classes, d)``.
        temperature: Cosines are divided by it, positive.

    Source: Learning Transferable Visual Models From Natural Language Supervision (2021).
    """

    encoder: Callable[[Any], Any]
    classes: Any
    temperature: float = 0.01

    def predict_proba(self, x: Any) -> Float64[Tensor, "n c"]:
        """Softmax of the cosines, ``(n, classes)``."""
        if not self.temperature > 0:
            raise ValueError(f"temperature: expected a positive number, found {self.temperature!r}.")
        rows, classes = features(self.encoder(x), "embeddings").detach(), features(self.classes, "classes").detach()
        unit = (
            part / part.norm(dim=1, keepdim=True).clamp_min(torch.finfo(part.dtype).tiny) for part in (rows, classes)
        )
        a, b = unit
        return (a @ b.T / self.temperature).softmax(1)


@dataclass(frozen=True, eq=False)
class Prototypes:
    """Classes by the nearest mean of a few examples, optionally mixed with what another classifier says.

    Args:
        encoder: From inputs to features ``(n, d)``.
        base: Classifier asked before examples are known, and mixed in by ``share`` afterwards.
        num_classes: Number of classes.
        share: Share of the base's answer, in [0, 1].
        means: Mean of the examples of each class, ``(classes, d)``; None before `adapt`.
        variance: Of a column within classes; 1 where every class has one example.
    """

    encoder: Callable[[Any], Any]
    base: Classifier
    num_classes: int
    share: float = 0.0
    means: Tensor | None = None
    variance: float = 1.0

    def adapt(self, x: Any, labels: Any) -> Prototypes:
        """The same with the means of labelled examples; classes without one are never answered.

        Raises:
            ValueError: Labels that do not fit.
        """
        rows, codes = features(self.encoder(x), "x").detach(), torch.as_tensor(labels).long()
        if codes.shape != (len(rows),) or int(codes.min()) < 0 or int(codes.max()) >= self.num_classes:
            raise ValueError(
                f"labels: expected {len(rows)} of 0 to {self.num_classes - 1}, found {tuple(codes.shape)}."
            )
        counts = torch.bincount(codes, minlength=self.num_classes)
        means = torch.zeros(self.num_classes, rows.shape[1], dtype=rows.dtype).index_add(0, codes, rows)
        means = means / counts[:, None]  # NaN where a class has no example
        spare = (len(rows) - int((counts > 0).sum())) * rows.shape[1]
        left = float((rows - means[codes]).square().sum())
        return Prototypes(self.encoder, self.base, self.num_classes, self.share, means, left / spare if left else 1.0)

    def predict_proba(self, x: Any) -> Float64[Tensor, "n c"]:
        """Posterior of equal spherical Gaussians around the means, mixed with the base, ``(n, classes)``."""
        if self.means is None:
            return torch.as_tensor(self.base.predict_proba(x)).double()
        rows = features(self.encoder(x), "x").detach()
        known = self.means.isfinite().all(1)
        squared = torch.full((len(rows), self.num_classes), torch.inf, dtype=torch.float64, device=rows.device)
        squared[:, known] = squared_distances(rows, self.means[known])
        own = (-0.5 * squared / self.variance).softmax(1)
        if not self.share:
            return own
        return self.share * torch.as_tensor(self.base.predict_proba(x)).double() + (1 - self.share) * own


@dataclass(frozen=True, eq=False)
class DenoisingClassifier:
    """Classes by how well a conditional denoiser restores the input when told each of them.

    A row's log-density given a class is, up to a number without the class, minus half the integral over the logarithm
    of the signal-to-noise ratio of ratio times squared error: with an exact denoiser, levels that cover the range and
    many draws, the probabilities are the posterior under equal priors. All classes see the same noise.

    Args:
        denoiser: ``denoiser(x_t, t, condition) -> x0_hat`` of one continuous block; the condition is the class of each
            row, int64 ``(n,)``.
        process: Its Gaussian process.
        num_classes: Number of classes, 0 to C - 1.
        noise_levels: Ratios ``sigma / alpha``, at least 2, spanning those at which classes differ.
        num_draws: Draws of the noise at each level.
        generator: Source of the noise.

    Source: Your Diffusion Model is Secretly a Zero-Shot Classifier (2023).
    """

    denoiser: Denoiser
    process: Gaussian
    num_classes: int
    noise_levels: tuple[float, ...]
    num_draws: int = 8
    generator: Noise = None

    def __post_init__(self) -> None:
        check_levels(self.noise_levels, check_gaussian(self.process), least=2)
        check_count(self.num_classes, "num_classes", least=2)
        check_count(self.num_draws, "num_draws")

    def predict_proba(self, x: Any) -> Float64[Tensor, "n c"]:
        """Posterior of the classes, ``(n, classes)``."""
        return self.log_likelihoods(x).softmax(1)

    @torch.no_grad()
    def log_likelihoods(self, x: Any) -> Float64[Tensor, "n c"]:
        """Log-density of each row given each class, up to a number of the row, nats ``(n, classes)``."""
        x = check_points(x, "x")
        levels = check_levels(self.noise_levels)
        weights = _trapezoid(-2 * levels.log()) * levels.double() ** -2
        noise = randn((len(levels), self.num_draws, *x.shape[1:]), self.generator, dtype=x.dtype)
        total = torch.zeros(len(x), self.num_classes, dtype=torch.float64)
        for level, weight, draws in zip(levels, weights, noise, strict=True):
            for draw in draws.to(x.device).split(max(1, CHUNK // len(x))):
                total -= 0.5 * float(weight) / self.num_draws * self._errors(x, level, draw).cpu()
        return total

    def _errors(self, x: Tensor, level: Tensor, draws: Tensor) -> Tensor:
        """Squared errors of every class, summed over elements and draws, ``(n, classes)``."""
        clean = x.repeat(len(draws), *(1,) * (x.ndim - 1))
        t, alpha = at_level(self.process, level, clean)
        noisy = alpha * (clean + level.to(x.dtype) * draws.repeat_interleave(len(x), 0))
        errors = []
        for label in range(self.num_classes):
            told = torch.full((len(clean),), label, dtype=torch.int64, device=x.device)
            x0_hat = predict(lambda x_t, time, told=told: self.denoiser(x_t, time, told), self.process, noisy, t)
            errors.append((x0_hat - clean).square().flatten(1).sum(1).reshape(len(draws), -1).sum(0))
        return torch.stack(errors, 1)


def _trapezoid(points: Tensor) -> Tensor:
    """Weights of the trapezoid rule at increasing points."""
    gaps = points.diff() / 2
    return torch.cat([gaps, gaps.new_zeros(1)]) + torch.cat([gaps.new_zeros(1), gaps])
