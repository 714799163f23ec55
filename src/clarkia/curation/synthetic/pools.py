"""The features that real and synthetic rows are compared in: anew at every step, from random to trained."""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clarkia.curation.checks import check_count
from clarkia.curation.classifier import Classifier
from clarkia.curation.synthetic.augment import Augmentation
from clarkia.measures.extractors import random_relu
from clarkia.measures.representations.tap import check_layers, recording
from clarkia.random import rand
from clarkia.training import TrainingOptions, fit

Function = Callable[[Tensor], Tensor]
Layered = Callable[[Tensor], Tensor | tuple[Tensor, ...]]
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Drawn:
    """One step's networks.

    Attributes:
        features: From rows to features, ``(n, width)``, or to those of several layers, whose distances are summed.
        logits: From rows to logits of their classes by a trained network; None where there is none.
    """

    features: Layered
    logits: Function | None = None


class Pool(ABC):
    """Where the features of each step come from."""

    @abstractmethod
    def draw(self, generator: torch.Generator) -> Drawn:
        """Features of one step."""


@dataclass(frozen=True)
class FixedFeatures(Pool):
    """The same features at every step.

    Attributes:
        features: Any differentiable function of rows, or several of them as a tuple; flattens the rows by default.
        logits: A trained classifier, for calibration.
    """

    features: Layered = field(default=lambda x: x.flatten(1))
    logits: Function | None = None

    def draw(self, generator: torch.Generator) -> Drawn:
        """The features."""
        return Drawn(self.features, self.logits)


@dataclass(frozen=True)
class RandomFeatures(Pool):
    """A layer of random directions with ReLU, new at every step: needs no training and suits rows of any kind.

    Attributes:
        width: Number of features.
    """

    width: int = 128

    def __post_init__(self) -> None:
        check_count(self.width, "width")

    def draw(self, generator: torch.Generator) -> Drawn:
        """A new layer."""
        return Drawn(random_relu(self.width, int(rand((1,), generator) * 2**31)))


@dataclass(frozen=True, eq=False)
class ModelPool(Pool):
    """Classifiers somewhere between their initial and their trained weights.

    A step picks one pair and a uniform share l: its features are those of ``l initial + (1 - l) trained``, so that over
    the steps rows are matched from the first random features to the last converged ones. Buffers, such as the
    statistics of batch norm, are the trained network's: between two sets of weights none were measured.

    Attributes:
        model: The architecture.
        pairs: Initial and trained weights, as state dicts.
        layers: Names of layers, as in ``model.named_modules()``, whose outputs are matched, each with a distance of its
            own; those before the linear layer alone where empty. Deep networks need more than their last.

    Source: Dataset Distillation with Neural Characteristic Function: A Minmax Perspective (2025).
    """

    model: Classifier
    pairs: tuple[tuple[Mapping[str, Tensor], Mapping[str, Tensor]], ...]
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.pairs:
            raise ValueError("pairs: expected at least one pair of initial and trained weights, found none.")
        if self.layers:
            check_layers(self.model, self.layers)

    def draw(self, generator: torch.Generator) -> Drawn:
        """A pair, mixed for the features and trained for the logits."""
        which, share = rand((2,), generator).tolist()
        initial, trained = self.pairs[int(which * len(self.pairs))]
        mixed = interpolated(self.model, initial, trained, share)
        features = partial(_layers, mixed, self.layers) if self.layers else mixed.features
        return Drawn(features, _frozen(self.model, trained))


def interpolated(
    model: Classifier, initial: Mapping[str, Tensor], trained: Mapping[str, Tensor], share: float
) -> Classifier:
    """A copy of the model with ``share initial + (1 - share) trained`` parameters and the trained buffers."""
    names = {name for name, _ in model.named_parameters()}
    state = {
        name: torch.lerp(value, initial[name], share) if name in names else value for name, value in trained.items()
    }
    return _frozen(model, state)


def train_pool(
    make: Callable[[], Classifier],
    x: Tensor,
    labels: Tensor,
    *,
    size: int = 20,
    options: TrainingOptions | None = None,
    augmentation: Augmentation | None = None,
    layers: tuple[str, ...] = (),
    seed: int = 0,
) -> ModelPool:
    """Train classifiers of one architecture from different initial weights.

    Args:
        make: Makes a classifier with new weights.
        x: Training rows, ``(n, ...)``.
        labels: Their classes, ``(n,)``.
        size: Number of classifiers.
        options: Of the training; 2000 steps of 128 rows where None.
        augmentation: Of images, drawn a row.
        layers: Whose outputs are matched; see `ModelPool`.
        seed: Fixes weights and training.

    Returns:
        The pool.
    """
    check_count(size, "size")
    options = options or TrainingOptions(max_steps=2000, batch_size=128)
    pairs = []
    for index in range(size):
        model = new_model(make, seed + index)
        initial = copy.deepcopy(model.state_dict())
        train_classifier(model, x, labels, dataclasses.replace(options, seed=seed + index), augmentation=augmentation)
        pairs.append((initial, copy.deepcopy(model.state_dict())))
    return ModelPool(new_model(make, seed), tuple(pairs), layers)


def new_model(make: Callable[[], M], seed: int) -> M:
    """A module whose initial weights are a function of the seed, without touching the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def train_classifier(
    model: nn.Module, x: Tensor, labels: Tensor, options: TrainingOptions, *, augmentation: Augmentation | None = None
) -> None:
    """Train a classifier in place by cross-entropy."""

    def loss(module: nn.Module, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        rows = batch["x"] if augmentation is None else augmentation(batch["x"], generator, by_row=True)
        return F.cross_entropy(module(rows), batch["label"], reduction="none")

    fit(model, loss, {"x": x, "label": labels}, options=options, progress=False)  # type: ignore[arg-type]


def _layers(model: Classifier, names: tuple[str, ...], x: Tensor) -> tuple[Tensor, ...]:
    """Outputs of some layers, a row each."""
    with recording(model, names) as outputs:
        model(x)
    return tuple(outputs[name].flatten(1) for name in names)


def _frozen(model: Classifier, state: Mapping[str, Tensor]) -> Classifier:
    frozen = copy.deepcopy(model)
    frozen.load_state_dict(dict(state))
    return frozen.eval().requires_grad_(False)
