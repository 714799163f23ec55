"""Which crops of real images make a synthetic one: much evidence of the class, and little certainty of the teacher."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from clarkia.curation.classifier import Classifier
from clarkia.curation.refinement.saliency import cam, mean_inside
from clarkia.curation.synthetic.forms import assemble
from clarkia.curation.views import Boxes, crop, crop_boxes
from clarkia.random import Noise

BATCH = 256


@dataclass(frozen=True, eq=False)
class Crops:
    """Candidate crops, the ones that were kept of each image.

    Attributes:
        image: Index of the image each comes from, ``(m,)``.
        box: Where in it, ``(m, 4)``.
        evidence: Mean of the image's class activation map inside, ``(m,)``.
        loss: The teacher's cross-entropy on the crop, enlarged, ``(m,)``.
        plausible: Whether the class is among the teacher's first few, ``(m,)``.
    """

    image: Int64[Tensor, " m"]
    box: Boxes
    evidence: Float[Tensor, " m"]
    loss: Float[Tensor, " m"]
    plausible: Float[Tensor, " m"]


@torch.no_grad()
def candidate_crops(
    teacher: Classifier,
    x: Float[Tensor, "n c h w"],
    labels: Int64[Tensor, " n"],
    *,
    crops: int = 5,
    keep: int = 1,
    scale: tuple[float, float] = (0.08, 1.0),
    among: int = 5,
    generator: Noise = None,
) -> Crops:
    """Draw random crops of every image and keep those with most evidence of its class.

    Args:
        teacher: A pooled classifier.
        x: Images.
        labels: Their classes.
        crops: Crops drawn of an image.
        keep: Crops kept of an image.
        scale: Smallest and largest area of a crop.
        among: Classes the teacher may rank before a crop's own without the crop being taken for label noise, plus one.
        generator: Source of the crops.

    Returns:
        The kept crops and what the teacher makes of them.
    """
    image = torch.arange(len(x)).repeat_interleave(crops)
    box = crop_boxes(len(image), scale, generator)
    evidence = mean_inside(cam(teacher, x, labels)[image], box).reshape(len(x), crops)
    best = evidence.topk(keep, 1).indices + crops * torch.arange(len(x))[:, None]
    image, box, evidence = image[best.flatten()], box[best.flatten()], evidence.flatten()[best.flatten()]
    loss, rank = [], []
    for rows, boxes in zip(image.split(BATCH), box.split(BATCH), strict=True):
        logits = teacher(crop(x[rows], boxes, x.shape[2:]))
        loss.append(F.cross_entropy(logits, labels[rows], reduction="none"))
        rank.append((logits > logits.gather(1, labels[rows, None])).sum(1))
    return Crops(image, box, evidence, torch.cat(loss), torch.cat(rank) < among)


def choose_crops(
    found: Crops, labels: Int64[Tensor, " n"], count: int, *, certain: bool = False
) -> Int64[Tensor, " classes_and_count"]:
    """Of each class, the plausible crops that the teacher is least certain of (or most, where ``certain``).

    Args:
        found: The crops.
        labels: Classes of the images.
        count: Crops of a class.
        certain: The other end, as a baseline.

    Returns:
        Indices of crops, ``count`` of each class, in order of the classes.

    Raises:
        ValueError: A class with fewer crops.
    """
    classes = labels[found.image]
    order = torch.where(found.plausible, found.loss if not certain else -found.loss, -torch.inf)
    chosen = []
    for label in range(int(labels.max()) + 1):
        own = (classes == label).nonzero().flatten()
        if len(own) < count:
            raise ValueError(f"per_class: expected at most {len(own)} crops of class {label}, found {count} wanted.")
        chosen.append(own[torch.argsort(order[own], descending=True, stable=True)[:count]])
    return torch.cat(chosen)


@torch.no_grad()
def tiles(
    teacher: Classifier, x: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"], found: Crops, grid: int
) -> tuple[Float[Tensor, "m c h w"], Float[Tensor, "m 1 h w"]]:
    """Mosaics of crops at full size, and the mosaics of their activation maps, each tile's on its own scale.

    Args:
        teacher: A pooled classifier.
        x: Images.
        labels: Their classes.
        found: The crops, in the order of the tiles.
        grid: Tiles along a side, a divisor of the image's.

    Returns:
        Images and maps in [0, 1].
    """
    height, width = x.shape[2] // grid, x.shape[3] // grid
    large = crop(x[found.image], found.box, x.shape[2:])
    small = crop(x[found.image], found.box, (height, width))
    maps = F.avg_pool2d(cam(teacher, large, labels[found.image]), grid)
    peak = maps.amax((2, 3), keepdim=True)
    maps = torch.where(peak > 0, maps / peak.where(peak > 0, torch.ones_like(peak)), 0.0)
    return assemble(small, grid), assemble(maps, grid)


def only(found: Crops, rows: Int64[Tensor, " k"]) -> Crops:
    """Some of the crops."""
    return Crops(found.image[rows], found.box[rows], found.evidence[rows], found.loss[rows], found.plausible[rows])
