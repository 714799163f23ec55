"""Where in an image a classifier sees evidence of a class."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from clarkia.curation.checks import check_finite
from clarkia.curation.classifier import Classifier


@torch.no_grad()
def cam(
    model: Classifier, x: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"], *, batch_size: int = 256
) -> Float[Tensor, "n 1 h w"]:
    """Class activation maps: ``relu(sum_k w_yk F_k)`` on the last feature maps F with the class's weights w.

    Enlarged to the image by bilinear interpolation and scaled so that each map's largest value is 1; a map without
    positive evidence is 0 throughout. Nearly certain classifiers have large logits and saturated maps: the scale of
    each map is its own.

    Args:
        model: A pooled classifier, in evaluation mode here and left as it was.
        x: Images.
        labels: The class of each image that evidence is looked for of.
        batch_size: Images at once.

    Returns:
        Maps in [0, 1].

    Raises:
        ValueError: A classifier whose linear layer does not see averages of maps; images or labels that do not fit.

    Source: Learning Deep Features for Discriminative Localization (2016).
    """
    x = check_finite(x, "x", axes=4)
    if not isinstance(model, Classifier) or not model.pooled:
        raise ValueError("model: expected a Classifier whose maps are averaged over positions, found another.")
    if labels.shape != (len(x),) or int(labels.min()) < 0 or int(labels.max()) >= model.head.out_features:
        raise ValueError(
            f"labels: expected shape ({len(x)},) with classes below {model.head.out_features}, found "
            f"{tuple(labels.shape)} from {int(labels.min())} to {int(labels.max())}."
        )
    training = model.training
    model.eval()
    maps = []
    for rows, classes in zip(x.split(batch_size), labels.split(batch_size), strict=True):
        found = torch.einsum("nkhw,nk->nhw", model.maps(rows), model.head.weight[classes]).relu()
        large = F.interpolate(found.unsqueeze(1), x.shape[2:], mode="bilinear", align_corners=False)
        peak = large.amax((2, 3), keepdim=True)
        maps.append(torch.where(peak > 0, large / peak.where(peak > 0, torch.ones_like(peak)), 0.0))
    model.train(training)
    return torch.cat(maps)


def mean_inside(maps: Float[Tensor, "n 1 h w"], boxes: Float[Tensor, "n 4"]) -> Float[Tensor, " n"]:
    """Mean of each map over a box, each pixel counted by the share of it that the box covers.

    Args:
        maps: Piecewise constant on pixels.
        boxes: Top, left, height and width as shares of the sides.

    Returns:
        One number a map.
    """
    cover = []
    for axis, length in enumerate(maps.shape[2:]):
        edge = torch.arange(length, dtype=boxes.dtype, device=boxes.device)
        start = boxes[:, axis, None] * length
        end = start + boxes[:, axis + 2, None] * length
        share = (torch.minimum(edge + 1, end) - torch.maximum(edge, start)).clamp(min=0)
        cover.append(share / share.sum(1, keepdim=True))
    return torch.einsum("nhw,nh,nw->n", maps[:, 0].to(boxes), *cover)
