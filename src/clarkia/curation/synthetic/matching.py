"""Distil by matching: move synthetic rows until their features have the distribution of the real ones', by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from clarkia.curation.checks import check_count, check_number
from clarkia.curation.descent import Descent, masked_optimise
from clarkia.curation.synthetic.augment import Augmentation
from clarkia.curation.synthetic.criteria import CharacteristicGap, Criterion, Gap
from clarkia.curation.synthetic.forms import Form, Mosaic, Parameters, Rows
from clarkia.curation.synthetic.pools import Layered, Pool, RandomFeatures
from clarkia.curation.synthetic.result import SyntheticDataset
from clarkia.random import rand
from clarkia.spaces import State, num_rows, take_rows


@dataclass(frozen=True, eq=False, kw_only=True)
class Matching:
    """How `distill` matches distributions of features; the defaults suit rows of any kind.

    Attributes:
        form: What is learned: `Rows`, a `Mosaic` or a `Table`.
        pool: Where the features of each step come from.
        criterion: Distance of two sets of features.
        start: ``"real"`` rows of the class, ``"noise"``, or a set of rows sorted by class, ``per_class`` of each.
        descent: Steps of the synthetic rows.
        unit: Scale features to unit length, which fixes the scale of the frequencies.
        augmentation: Of images; one draw for the real and synthetic rows of a class.
        batch: Real rows a class and step.
        weight: Of the distance, beside the calibration's.
        calibration: Weight of the cross-entropy of the pool's trained network on the synthetic rows, which keeps them
            recognisable; 0 where the pool has none.

    Source: Dataset Distillation with Neural Characteristic Function: A Minmax Perspective (2025).
    """

    form: Form = field(default_factory=Rows)
    pool: Pool = field(default_factory=RandomFeatures)
    criterion: Criterion = field(default_factory=CharacteristicGap)
    start: Literal["real", "noise"] | State = "real"
    descent: Descent = field(default_factory=lambda: Descent(steps=1000, learning_rate=0.01))
    unit: bool = True
    augmentation: Augmentation | None = None
    batch: int = 256
    weight: float = 300.0
    calibration: float = 0.0

    def __post_init__(self) -> None:
        check_count(self.batch, "batch", least=2)
        check_number(self.weight, "weight", low=0, open=True)
        check_number(self.calibration, "calibration", low=0)
        if isinstance(self.start, str) and self.start not in ("real", "noise"):
            raise ValueError(f"start: expected 'real', 'noise' or a set of rows, found {self.start!r}.")

    def learn(self, x: State, labels: Tensor, per_class: int, generator: torch.Generator) -> SyntheticDataset:
        """The synthetic set: ``per_class`` learned items of each class, in order of the classes."""
        form, x = self.form, self.form.check(x)
        by_class = [(labels == c).nonzero().flatten() for c in range(int(labels.max()) + 1)]
        items = torch.arange(len(by_class)).repeat_interleave(per_class)
        begun = self._begin(x, by_class, per_class, generator)
        rows = items.repeat_interleave(form.pieces)
        step = _Step(self, x, by_class, rows, self.criterion.begin(), generator)
        done = masked_optimise(begun, step.loss, descent=self.descent, bounds=form.bounds)
        parameters: Parameters = done.x  # type: ignore[assignment]
        with torch.no_grad():
            finished = form.finish(parameters, generator)
        stored = parameters["x"] if set(parameters) == {"x"} else parameters
        return SyntheticDataset(finished, rows, stored, done.losses)

    def _begin(self, x: State, by_class: Sequence[Tensor], per_class: int, generator: torch.Generator) -> Parameters:
        items = len(by_class) * per_class
        if not isinstance(self.start, str):
            given = self.form.check(self.start)
            if num_rows(given) != items * self.form.pieces:
                raise ValueError(f"start: expected {items * self.form.pieces} rows, found {num_rows(given)}.")
            return self.form.start(given)
        if self.start == "noise":
            return self.form.noise(items, x, generator)
        chosen = [_chosen(rows, per_class * self.form.pieces, generator) for rows in by_class]
        return self.form.start(take_rows(x, torch.cat(chosen)))


def ncfm(pool: Pool) -> Matching:
    """The published recipe for images: mosaics of four, 4096 normal frequencies, calibration, 20,000 steps.

    Args:
        pool: Twenty classifiers of one architecture, as `train_pool` makes them.

    Source: Dataset Distillation with Neural Characteristic Function: A Minmax Perspective (2025).
    """
    return Matching(
        form=Mosaic(factor=2),
        pool=pool,
        criterion=CharacteristicGap(count=4096),
        descent=Descent(steps=20_000, learning_rate=0.01, schedule="plateau", weight_decay=5e-4),
        augmentation=Augmentation(),
        batch=1024,
        weight=300.0,
        calibration=1.0,
    )


@dataclass(frozen=True, eq=False)
class _Step:
    """One step's loss: the same features of both sides, the real side without gradient."""

    method: Matching
    x: State
    by_class: Sequence[Tensor]
    labels: Tensor
    gap: Gap
    generator: torch.Generator

    def loss(self, parameters: State, step: int) -> Tensor:
        method, form = self.method, self.method.form
        drawn = method.pool.draw(self.generator)
        synthetic = form.view(parameters).split(torch.bincount(self.labels).tolist())  # type: ignore[arg-type]
        chosen = [_chosen(rows, min(method.batch, len(rows)), self.generator) for rows in self.by_class]
        real = form.real(take_rows(self.x, torch.cat(chosen))).split([len(rows) for rows in chosen])
        if method.augmentation is not None:
            pairs = [self._augmented(a, b) for a, b in zip(real, synthetic, strict=True)]
            real, synthetic = (tuple(side) for side in zip(*pairs, strict=True))
        with torch.no_grad():
            target = self._features(drawn.features, real)
        own = self._features(drawn.features, synthetic)
        gaps = [self.gap(a, b, self.generator) for a, b in zip(target, own, strict=True)]
        value = method.weight * torch.stack(gaps).sum()
        if method.calibration:
            if drawn.logits is None:
                raise ValueError("calibration: expected a pool with trained networks, found one without.")
            logits = drawn.logits(torch.cat(synthetic))
            value = value + method.calibration * F.cross_entropy(logits, self.labels)
        return value

    def _augmented(self, real: Tensor, synthetic: Tensor) -> tuple[Tensor, Tensor]:
        assert self.method.augmentation is not None
        both = self.method.augmentation(torch.cat([real, synthetic]), self.generator)
        return both[: len(real)], both[len(real) :]

    def _features(self, function: Layered, classes: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
        """Features by layer and class."""
        found = function(torch.cat(list(classes)))
        layers = [layer.flatten(1) for layer in (found if isinstance(found, tuple) else (found,))]
        layers = [F.normalize(layer, dim=1) for layer in layers] if self.method.unit else layers
        return [layer.split([len(rows) for rows in classes]) for layer in layers]


def _chosen(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Some of the rows without repetition; all of them, and some again, where there are too few."""
    copies = -(-count // len(rows))
    return rows[torch.argsort(rand((copies, len(rows)), generator), dim=1).flatten()[:count]]
