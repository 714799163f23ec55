"""The detector that takes a few usual examples of a new class and needs no training for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia.measures.fields.checks import check_points
from clarkia.measures.outliers.maps import SIGMA, anomaly_maps, closeness, enlarge, image_scores, pool_mask
from clarkia.measures.outliers.protocol import FittedScorer, Scorer, class_codes
from clarkia.measures.outliers.residual_flow import FittedResidualFlow, ResidualFlow, as_rows
from clarkia.measures.outliers.residuals import Kind, Metric, ResidualFeatures, class_whitening, draw_bank
from clarkia.random import Noise

Levels = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class ResidualDetector:
    """Learn on known classes how residuals of usual rows look; score rows of new classes against a few usual ones.

    Inputs are rows ``(n, d)``, maps of features ``(n, d, h, w)``, or a sequence of maps of several levels. Every
    position of a map is matched with all positions of the shots.

    Classes vary in directions of their own, which residuals keep: what is usual for one class is unusual for another,
    and of residuals alone little but the length transfers. Whitening by the class's own usual examples brings all
    classes to one law before they are matched; residuals are then the same for a class moved or scaled as a whole.

    Args:
        density: What is fitted to the residuals: a `ResidualFlow`, which also learns from unusual rows, or any scorer.
        shots: Usual rows or images in a bank, in training; give as many for a new class.
        rounds: Banks drawn for each class in training: residuals vary with the bank. Its items are not trained on.
        encoder: From inputs to features; None where inputs are features.
        metric: How matches are found.
        kind: Squared residuals, or signed ones for a density that takes them; the ReLU of a `ResidualFlow` does not.
        whiten: Whiten features by the mean and covariance of the class's bank first; False is as published.
        sigma: Smoothing of anomaly maps, pixels of the first level.
        top: Pixels of a map whose mean is the image's score.

    Source: Towards Class Agnostic Anomaly Detection via Residual Feature Learning (2025).
    """

    density: Scorer = field(default_factory=ResidualFlow)
    shots: int = 4
    rounds: int = 4
    encoder: Callable[[Any], Any] | None = None
    metric: Metric = "cosine"
    kind: Kind = "squared"
    whiten: bool = True
    sigma: float = SIGMA
    top: int = 1

    def __post_init__(self) -> None:
        if self.shots < 2 or self.rounds < 1:
            raise ValueError(f"shots, rounds: expected at least 2 and 1, found {self.shots} and {self.rounds}.")

    def fit(self, features: Any, labels: Any = None, *, unusual: Any = None, generator: Noise = None) -> ResidualModel:
        """Learn on known classes.

        Args:
            features: Inputs, n of them.
            labels: Class of each, ``(n,)``; None for one class.
            unusual: Which rows ``(n,)`` or pixels ``(n, height, width)`` are unusual; None for none.
            generator: Draws the banks.

        Raises:
            ValueError: Inputs, labels or marks that do not fit; a class without more usual rows than shots.
        """
        levels = self.levels(features)
        n = len(levels[0])
        _, codes = class_codes(labels, n)
        marks = torch.zeros(n, dtype=torch.bool) if unusual is None else torch.as_tensor(unusual, dtype=torch.bool)
        if len(marks) != n or marks.ndim not in (1, 3):
            raise ValueError(f"unusual: expected shape ({n},) or ({n}, height, width), found {tuple(marks.shape)}.")
        usual = ~marks.reshape(n, -1).any(1)
        banks = [draw_bank(codes, usual, self.shots, generator=generator) for _ in range(self.rounds)]
        fitted = [self._fit_level(level, codes, banks, _marks_of(marks, level)) for level in levels]
        return ResidualModel(self, tuple(fitted))

    def levels(self, x: Any) -> Levels:
        """Features of inputs as a tuple of levels, checked."""
        x = x if self.encoder is None else self.encoder(x)
        parts = x if isinstance(x, Sequence) else [x]
        tensors = [p if isinstance(p, Tensor) else torch.as_tensor(p, dtype=torch.float64) for p in parts]
        levels = tuple(check_points(p, "features") for p in tensors)
        if any(p.ndim not in (2, 4) or len(p) != len(levels[0]) for p in levels) or len({p.ndim for p in levels}) > 1:
            shapes = [tuple(p.shape) for p in levels]
            raise ValueError(f"features: expected levels all (n, d) or all (n, d, h, w), found {shapes}.")
        return levels

    def residuals(self, level: Tensor, bank: Tensor, own: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Residuals of one level ``(n, d, ...)`` against the items of a bank ``(m, d, ...)``.

        Args:
            level: Features of n items.
            bank: Features of m usual items.
            own: Number of each item ``(n,)`` and of each item of the bank ``(m,)``; no item is matched with itself.
        """
        if own is not None:
            places = level[0, 0].numel()
            own = own[0].repeat_interleave(places), own[1].repeat_interleave(places)
        rows, banked = as_rows(level), as_rows(bank)
        if self.whiten:
            common = class_whitening(banked.double())
            rows, banked = common.apply(rows), common.apply(banked)
        left = ResidualFeatures(banked, self.metric, self.kind)(rows, own=own)
        if level.ndim == 2:
            return left
        return left.reshape(len(level), *level.shape[2:], -1).permute(0, 3, 1, 2).contiguous()

    def _fit_level(self, level: Tensor, codes: Tensor, banks: list[Tensor], marks: Tensor) -> FittedScorer:
        residuals, kept = [], []
        for bank in banks:
            for index, chosen in enumerate(bank):
                items = (codes == index).nonzero().squeeze(1)
                items = items[~torch.isin(items, chosen)]
                residuals.append(self.residuals(level[items], level[chosen]))
                kept.append(marks[items])
        x, unusual = torch.cat(residuals), torch.cat(kept)
        if isinstance(self.density, ResidualFlow):
            return self.density.fit(x, unusual=unusual)
        return self.density.fit(as_rows(x)[~unusual.reshape(-1)])


@dataclass(frozen=True, eq=False)
class ResidualModel:
    """What is known of residuals of usual rows, for any class.

    Attributes:
        settings: The detector that was fitted.
        densities: Density of the residuals at each level.
    """

    settings: ResidualDetector
    densities: tuple[FittedScorer, ...]

    def reference(self, usual: Any) -> FittedResidualDetector:
        """The scorer of a new class.

        Args:
            usual: A few usual inputs of it, at least 2, as many as in training for comparable residuals.
        """
        banks, settings = self.settings.levels(usual), self.settings
        if len(banks) != len(self.densities) or len(banks[0]) < 2:
            raise ValueError(f"reference: expected at least 2 usual inputs of {len(self.densities)} levels, found "
                             f"{len(banks[0])} of {len(banks)}.")  # fmt: skip
        own = torch.arange(len(banks[0])), torch.arange(len(banks[0]))
        densities = tuple(
            density.refer(settings.residuals(bank, bank, own)) if isinstance(density, FittedResidualFlow) else density
            for density, bank in zip(self.densities, banks, strict=True)
        )
        unscaled = FittedResidualDetector(settings, banks, densities, 1.0)
        if banks[0].ndim == 2 or not isinstance(densities[0], FittedResidualFlow):
            return unscaled
        left = [settings.residuals(bank, bank, own) for bank in banks]
        return FittedResidualDetector(settings, banks, densities, float(unscaled.closeness(left).max()))

    def score(self, features: Any, *, reference: Any) -> Float64[Tensor, " n"]:
        """How unusual each input of a new class is beside a few usual ones of it, ``(n,)``."""
        return self.reference(reference).score(features)


@dataclass(frozen=True, eq=False)
class FittedResidualDetector:
    """A detector for one class.

    Attributes:
        settings: The detector that was fitted.
        banks: Features of the usual inputs, at each level.
        densities: Density of the residuals at each level, relative to the usual inputs.
        peak: Largest closeness of the usual inputs to each other.
    """

    settings: ResidualDetector
    banks: Levels
    densities: tuple[FittedScorer, ...]
    peak: float

    def score(self, features: Any) -> Float64[Tensor, " n"]:
        """How unusual each input is, ``(n,)``: of rows the mean over levels, of images that of the highest pixels."""
        levels = self._residuals(features)
        if levels[0].ndim == 2:
            return torch.stack([d.score(e) for d, e in zip(self.densities, levels, strict=True)]).mean(0)
        return image_scores(self._maps(levels, (levels[0].shape[2], levels[0].shape[3])), self.settings.top)

    def maps(self, features: Any, size: tuple[int, int] | None = None) -> Float64[Tensor, "n H W"]:
        """How unusual each pixel is, ``(n, height, width)``, of the given size or that of the first level.

        Raises:
            ValueError: Inputs without positions.
        """
        levels = self._residuals(features)
        if levels[0].ndim == 2:
            raise ValueError(f"features: expected maps (n, d, h, w), found rows {tuple(levels[0].shape)}.")
        return self._maps(levels, size or (levels[0].shape[2], levels[0].shape[3]))

    def closeness(self, levels: Sequence[Tensor], size: tuple[int, int] | None = None) -> Tensor:
        """`closeness` of maps of residuals, ``(n, H, W)``."""
        flows = [d for d in self.densities if isinstance(d, FittedResidualFlow)]
        log_probs = [flow.log_probs(e)[0] for flow, e in zip(flows, levels, strict=True)]
        whole = size or (levels[0].shape[2], levels[0].shape[3])
        return closeness(log_probs, [flow.maximum for flow in flows], whole)

    def _residuals(self, features: Any) -> list[Tensor]:
        levels = self.settings.levels(features)
        if len(levels) != len(self.banks) or any(
            a.shape[1] != b.shape[1] for a, b in zip(levels, self.banks, strict=True)
        ):
            shapes = [tuple(level.shape) for level in levels]
            raise ValueError(f"features: expected the levels and columns of the reference, found {shapes}.")
        return [self.settings.residuals(a, b) for a, b in zip(levels, self.banks, strict=True)]

    def _maps(self, levels: list[Tensor], size: tuple[int, int]) -> Tensor:
        flows = [d for d in self.densities if isinstance(d, FittedResidualFlow)]
        if not flows:
            shaped = [
                d.score(as_rows(e)).reshape(len(e), *e.shape[2:]) for d, e in zip(self.densities, levels, strict=True)
            ]
            return torch.stack([enlarge(part, size) for part in shaped]).mean(0)
        densities = [flow.log_probs(e) for flow, e in zip(flows, levels, strict=True)]
        unusual = [(other - usual).sigmoid() for usual, other in densities]
        close = closeness([usual for usual, _ in densities], [flow.maximum for flow in flows], size)
        return anomaly_maps(close, unusual, self.peak, sigma=self.settings.sigma)


def _marks_of(marks: Tensor, level: Tensor) -> Tensor:
    """Marks of rows or pixels as marks of a level's rows or positions."""
    if level.ndim == 2:
        return marks.reshape(len(marks), -1).any(1)
    if marks.ndim == 1:
        return marks[:, None, None].expand(-1, *level.shape[2:])
    return pool_mask(marks, (level.shape[2], level.shape[3]))
