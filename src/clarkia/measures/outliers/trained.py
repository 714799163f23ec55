"""HVCM as an outlier scorer: train encoder and head, then take a Gaussian per class and group of attributes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from clarkia.measures.inputs import features
from clarkia.measures.outliers.covariances import Shrinkage
from clarkia.measures.outliers.grouped import FittedGroupedGaussians, GroupedGaussians
from clarkia.measures.outliers.hvcm import HVCM, HVCMHead, HVCMLoss
from clarkia.measures.outliers.protocol import class_codes, rows_like
from clarkia.measures.outliers.self_distillation import DistilledHVCM, DistilledHVCMLoss, Views
from clarkia.random import generator as stream
from clarkia.training import TrainingOptions, fit

CHUNK = 4096
OPTIONS = TrainingOptions(max_steps=2000, batch_size=128, learning_rate=1e-3, weight_decay=1e-4)


def mlp(in_features: int, hidden: tuple[int, ...] = (128, 64)) -> nn.Sequential:
    """ReLU layers of the given widths, an activation after each."""
    widths = (in_features, *hidden)
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers)


@dataclass(frozen=True, eq=False)
class HVCMScorer:
    """Train an encoder so that its attributes follow a Gaussian per class and group, then score by that density.

    Args:
        encoder: Builds a fresh encoder from the number of columns; its outputs are rows of features.
        width: Number of attributes.
        groups: Number of groups.
        loss: Factors of the loss.
        rate: Share of a batch in the averages of the group weights; the published 1e-4 wants 1e4 batches.
        shrinkage: Share of the class's mean variance in every covariance of the density, see `GroupedGaussians`.
        options: Settings of the training; its seed also draws the starting weights.
        views: Makes views of a batch for self-distillation, see `DistilledHVCMLoss`, as published for large images with
            a loss of ``HVCMLoss(1.6e-4, 1.6e-5)``; None trains by the loss alone, as published for small ones.

    Source: Hierarchical Visual Categories Modeling: A Joint Representation Learning and Density Estimation Framework
    for Out-of-Distribution Detection (2023).
    """

    encoder: Callable[[int], nn.Module] = mlp
    width: int = 128
    groups: int = 16
    loss: HVCMLoss = field(default_factory=HVCMLoss)
    rate: float = 0.01
    shrinkage: Shrinkage = 0.1
    options: TrainingOptions = OPTIONS
    views: Views | None = None

    def fit(self, features: Any, labels: Any = None) -> FittedHVCM:
        """Train on usual rows ``(n, d)`` and their classes ``(n,)``.

        Raises:
            ValueError: Features or labels that do not fit.
        """
        rows = _checked(features)
        classes, codes = class_codes(labels, len(rows))
        x = rows.float()
        with torch.random.fork_rng([]):
            torch.manual_seed(stream(self.options.seed, 1).initial_seed())
            encoder = self.encoder(x.shape[1])
            with torch.no_grad():
                encoded = encoder.eval()(x[:2]).shape[1]
            head = HVCMHead(encoded, len(classes), width=self.width, groups=self.groups, rate=self.rate)
        model = HVCM(encoder, head)
        data = {"x": x, "label": codes}
        if self.views is None:
            fit(model, self.loss, data, options=self.options, progress=False)
        else:
            loss = DistilledHVCMLoss(self.views, self.loss)
            fit(DistilledHVCM(model), loss, data, options=self.options, progress=False)
        density = GroupedGaussians(self.groups, self.shrinkage)
        z = _attributes(model, x)
        return FittedHVCM(model, density.fit(z, codes, weights=head.weights()), classes, x.shape[1])


@dataclass(frozen=True, eq=False)
class FittedHVCM:
    """A trained encoder and head with the density of their attributes.

    Attributes:
        model: Encoder and head, in evaluation mode.
        density: Gaussians of the attributes per class and group, weighted as the head learned.
        classes: Label of each class, int64 ``(C,)``.
        columns: Number of columns of the features.
    """

    model: HVCM
    density: FittedGroupedGaussians
    classes: Int64[Tensor, " C"]
    columns: int

    def score(self, features: Any) -> Float64[Tensor, " n"]:
        """How badly the nearest class fits each row, ``(n,)``."""
        return self.density.score(self.attributes(features))

    def classify(self, features: Any, *, by: str = "centres") -> Int64[Tensor, " n"]:
        """Label of each row ``(n,)``: the largest cosine with a learned centre, or the smallest score.

        Args:
            features: Rows ``(n, d)``.
            by: "centres" or "score".

        Raises:
            ValueError: Another word.
        """
        if by not in ("centres", "score"):
            raise ValueError(f"by: expected 'centres' or 'score', found {by!r}.")
        z = self.attributes(features)
        if by == "score":
            return self.classes[self.density.classify(z)]
        return self.classes[self.model.head.classify(z.float().unflatten(1, (self.model.head.groups, -1)))]

    def attributes(self, features: Any) -> Float64[Tensor, "n D"]:
        """Attributes of each row, ``(n, D)``."""
        return _attributes(self.model, rows_like(features, self.columns).float())


def _checked(x: Any) -> Tensor:
    return features(x, "features").detach()


@torch.no_grad()
def _attributes(model: HVCM, x: Tensor) -> Tensor:
    return torch.cat([model(part)[0].flatten(1) for part in x.split(CHUNK)]).double()
