"""A small synthetic data set, and how well models do that were trained on it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
from scipy import stats
from torch import Tensor, nn

from clarkia._math.neighbours import k_nearest
from clarkia.curation.checks import check_count
from clarkia.curation.synthetic.augment import Augmentation
from clarkia.curation.synthetic.pools import new_model
from clarkia.curation.views import mixed_boxes, paste
from clarkia.measures.intervals import Interval
from clarkia.random import rand
from clarkia.spaces import State
from clarkia.training import TrainingOptions, fit


@dataclass(frozen=True, eq=False)
class SyntheticDataset:
    """Rows that stand for many.

    Attributes:
        x: The rows, as the data they were made from; what a mosaic holds is taken apart.
        labels: Their classes, int64 ``(n,)``.
        stored: What has to be kept to have them again: images of several rows each, or logits of categories.
        losses: Loss before each step.
    """

    x: State
    labels: Int64[Tensor, " n"]
    stored: State
    losses: tuple[float, ...]

    def nearest(self, codebook: Float[Tensor, "v d"]) -> Int64[Tensor, " n"]:
        """Index of the nearest row of a codebook to every synthetic embedding, such as the token it stands for."""
        if not isinstance(self.x, Tensor) or self.x.ndim != 2:
            raise ValueError("codebook: expected embeddings as synthetic rows, found a table or images.")
        return k_nearest(self.x, codebook, 1)[1][:, 0]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Test accuracy of models trained on a synthetic set.

    Attributes:
        accuracy: Of each trial after its last step, ``(trials,)``.
    """

    accuracy: Float64[Tensor, " trials"]

    @property
    def mean(self) -> float:
        """Mean over trials."""
        return float(self.accuracy.mean())

    @property
    def standard_deviation(self) -> float:
        """Over trials; NaN for a single one."""
        return float(self.accuracy.std()) if len(self.accuracy) > 1 else math.nan

    @property
    def interval(self) -> Interval:
        """95 % interval of the mean over seeds by Student's t; of the test rows' chance it knows nothing."""
        count = len(self.accuracy)
        half = float(stats.t.ppf(0.975, count - 1)) * self.standard_deviation / math.sqrt(count) if count > 1 else 1.0
        return Interval(self.mean - half, self.mean + half).clip(0.0, 1.0)


def evaluate(
    synthetic: SyntheticDataset,
    x: Float[Tensor, "m ..."],
    labels: Int64[Tensor, " m"],
    make: Callable[[], nn.Module],
    *,
    options: TrainingOptions | None = None,
    trials: int = 3,
    augmentation: Augmentation | None = None,
    cutmix: float = 0.0,
    teacher: nn.Module | None = None,
    seed: int = 0,
) -> Evaluation:
    """Train new models on a synthetic set and test each once, after its last step.

    The best of several tests along the way, which the literature reports, is chosen on the test rows and too high.

    Args:
        synthetic: The set; its rows must be one tensor.
        x: Test rows.
        labels: Their classes.
        make: Makes a model with new weights: ``model(x)`` gives logits.
        options: Of the training; 1000 steps of up to 128 rows where None.
        trials: Number of models.
        augmentation: Of images, drawn a row.
        cutmix: Probability that a batch of images has boxes of its own images pasted in, labels mixed by area.
        teacher: Where given, its probabilities of the rows as they are seen replace the labels.
        seed: Fixes weights and training.

    Returns:
        The accuracies.

    Raises:
        ValueError: A synthetic set of tables, or wrong numbers.

    Source: Dataset Distillation with Neural Characteristic Function: A Minmax Perspective (2025).
    """
    check_count(trials, "trials")
    rows = synthetic.x
    if not isinstance(rows, Tensor):
        raise ValueError("synthetic: expected rows in one tensor, found a table: encode it first.")
    options = options or TrainingOptions(max_steps=1000, batch_size=min(128, len(rows)))
    loss = _student_loss(augmentation, cutmix, teacher)
    accuracy = []
    for trial in range(seed, seed + trials):
        model = new_model(make, trial)
        own = dataclasses.replace(options, seed=trial)
        fit(model, loss, {"x": rows, "label": synthetic.labels}, options=own, progress=False)
        accuracy.append(accuracy_of(model, x, labels))
    return Evaluation(torch.tensor(accuracy, dtype=torch.float64))


@torch.no_grad()
def accuracy_of(model: nn.Module, x: Tensor, labels: Tensor) -> float:
    """Share of rows whose largest logit is their class."""
    hits = [(model(a).argmax(1) == b).double().sum() for a, b in zip(x.split(512), labels.split(512), strict=True)]
    return float(torch.stack(hits).sum()) / len(x)


def _student_loss(augmentation: Augmentation | None, cutmix: float, teacher: nn.Module | None) -> Callable[..., Tensor]:
    def loss(module: nn.Module, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        x, label = batch["x"], batch["label"]
        other, share = label, torch.ones(len(x))
        if augmentation is not None:
            x = augmentation(x, generator, by_row=True)
        if cutmix and float(rand((1,), generator)) < cutmix:
            partner = torch.argsort(rand((len(x),), generator))
            boxes = mixed_boxes(len(x), x.shape[2:], generator)
            x, share = paste(x, x[partner], boxes)
            other = label[partner]
        logits = module(x)
        if teacher is not None:
            with torch.no_grad():
                target = teacher(x).softmax(1)
            return F.cross_entropy(logits, target, reduction="none")
        own, pasted = (F.cross_entropy(logits, part, reduction="none") for part in (label, other))
        return share * own + (1 - share) * pasted

    return loss
