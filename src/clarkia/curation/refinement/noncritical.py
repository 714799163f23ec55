"""Distil images by keeping real detail where a class shows and re-painting the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from clarkia.curation.checks import check_count, check_finite, check_number
from clarkia.curation.classifier import Classifier
from clarkia.curation.descent import Descent, Optimised, masked_optimise
from clarkia.curation.refinement.crops import candidate_crops, choose_crops, only, tiles
from clarkia.curation.refinement.statistics import FeatureStatistics
from clarkia.curation.synthetic.augment import Augmentation
from clarkia.curation.synthetic.result import SyntheticDataset
from clarkia.spaces import State

Augment = Callable[[Tensor, torch.Generator], Tensor]

SHIFT = Augmentation(brightness=0.0, saturation=0.0, contrast=0.0, cutout=0.0, flip=True)
"""Crop and mirror: what changes where a pixel is but not what it is."""


def noncritical_mask(saliency: Float[Tensor, "n 1 h w"], threshold: float = 0.5) -> Float[Tensor, "n 1 h w"]:
    """``max(0, threshold - saliency)``: 0 on critical pixels, growing to the threshold where there is no evidence."""
    return (check_number(threshold, "threshold", low=0, high=1) - saliency).clamp(min=0)


def refine(
    teacher: Classifier,
    x: Float[Tensor, "n c h w"],
    labels: Int64[Tensor, " n"],
    saliency: Float[Tensor, "n 1 h w"],
    *,
    descent: Descent,
    threshold: float = 0.5,
    statistics: FeatureStatistics | None = None,
    statistics_weight: float = 0.01,
    augment: Augment | None = None,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Optimised:
    """Move the pixels without evidence towards what the teacher takes for the class.

    Minimises the teacher's cross-entropy plus ``statistics_weight`` times the distance of the images' feature
    statistics from those of its training data. Pixels of saliency at or above the threshold come back bit for bit.

    Args:
        teacher: In evaluation mode here.
        x: Images.
        labels: Their classes.
        saliency: Evidence in [0, 1] of each pixel.
        descent: Steps.
        threshold: Saliency from which on a pixel is critical.
        statistics: Of the teacher's training data; None takes those of its batch norm layers.
        statistics_weight: 0 leaves the statistics out.
        augment: A change of the images at each step; None for none.
        bounds: Lowest and highest pixel value.
        generator: Source of the changes.

    Returns:
        The images and the course of the loss.

    Raises:
        ValueError: A teacher without batch norm and no statistics, or arguments that do not fit.

    Source: Enhancing Dataset Distillation via Non-Critical Region Refinement (2025).
    """
    check_number(statistics_weight, "statistics_weight", low=0)
    if statistics is None and statistics_weight:
        statistics = FeatureStatistics.of_batch_norm(teacher)
    source = generator if generator is not None else torch.default_generator

    def loss(images: State, step: int) -> Tensor:
        assert isinstance(images, Tensor)
        shown = images if augment is None else augment(images, source)
        if statistics is None or not statistics_weight:
            return F.cross_entropy(teacher(shown), labels)
        logits, distance = statistics.distance(teacher, shown)
        return F.cross_entropy(logits, labels) + statistics_weight * distance

    training = teacher.training
    teacher.eval()
    done = masked_optimise(x, loss, noncritical_mask(saliency, threshold), descent=descent, bounds=bounds)
    teacher.train(training)
    return done


@dataclass(frozen=True, eq=False, kw_only=True)
class Noncritical:
    """How `distill` makes mosaics of real crops and re-paints them.

    Of every image the random crops with most evidence are kept; of those of a class, the ones that the teacher is least
    certain of are tiled; then what is not critical is refined. Soft labels dominate the accuracy of such sets: compare
    the same images with plain labels, and random crops with the same labels.

    Attributes:
        teacher: A pooled classifier trained on the whole set.
        grid: Tiles along a side of an image.
        crops: Crops drawn of an image.
        keep: Crops kept of an image.
        scale: Smallest and largest area of a crop.
        among: A crop counts only where its class is among this many of the teacher's.
        descent: Steps of the refinement; 0 steps leave the mosaics as they are.
        threshold: Saliency from which on a pixel is critical.
        statistics: Of the teacher's training data; None takes those of its batch norm layers.
        statistics_weight: Weight of their distance, to be chosen on a validation set.
        augment: A change of the images at each step.
        bounds: Lowest and highest pixel value.

    Source: Enhancing Dataset Distillation via Non-Critical Region Refinement (2025).
    """

    teacher: Classifier
    grid: int = 2
    crops: int = 5
    keep: int = 1
    scale: tuple[float, float] = (0.08, 1.0)
    among: int = 5
    descent: Descent = field(default_factory=lambda: Descent(steps=500, learning_rate=0.05, schedule="cosine"))
    threshold: float = 0.5
    statistics: FeatureStatistics | None = None
    statistics_weight: float = 0.01
    augment: Augment | None = SHIFT
    bounds: tuple[float, float] | None = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_count(self.grid, "grid")
        check_count(self.crops, "crops")
        check_count(self.keep, "keep", most=self.crops)
        check_count(self.among, "among")

    def learn(self, x: State, labels: Tensor, per_class: int, generator: torch.Generator) -> SyntheticDataset:
        """The synthetic set: ``per_class`` mosaics of each class, in order of the classes."""
        x = check_finite(x, "x", axes=4)
        if x.shape[2] % self.grid or x.shape[3] % self.grid:
            raise ValueError(f"x: expected images that divide into {self.grid} x {self.grid}, found {x.shape[2:]}.")
        training = self.teacher.training
        self.teacher.eval()
        found = candidate_crops(
            self.teacher, x, labels, crops=self.crops, keep=self.keep, scale=self.scale, among=self.among,
            generator=generator,
        )  # fmt: skip
        chosen = only(found, choose_crops(found, labels, per_class * self.grid**2))
        mosaics, saliency = tiles(self.teacher, x, labels, chosen, self.grid)
        own = torch.arange(int(labels.max()) + 1).repeat_interleave(per_class)
        done = refine(
            self.teacher, mosaics, own, saliency, descent=self.descent, threshold=self.threshold,
            statistics=self.statistics, statistics_weight=self.statistics_weight if self.descent.steps else 0.0,
            augment=self.augment, bounds=self.bounds, generator=generator,
        )  # fmt: skip
        self.teacher.train(training)
        return SyntheticDataset(done.x, own, done.x, done.losses)
