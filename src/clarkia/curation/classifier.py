"""Small classifiers whose feature maps, features and class weights can be asked for."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from clarkia.curation.checks import check_choice, check_count


class Classifier(nn.Module):
    """Feature maps, their average over positions (or all of them in a row), and one linear layer.

    Args:
        maps: ``maps(x)`` gives ``(n, k, ...)``, k feature maps; ``(n, k)`` for data without positions.
        head: The linear layer, from k numbers (or all the maps' numbers) to one logit a class.
        pooled: Average over positions, which class activation maps need; else the maps are laid out in a row.
    """

    def __init__(self, maps: nn.Module, head: nn.Linear, *, pooled: bool = True) -> None:
        super().__init__()
        self.maps, self.head, self.pooled = maps, head, pooled

    def features(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n width"]:
        """What the linear layer sees."""
        maps = self.maps(x).flatten(2) if x.ndim > 2 else self.maps(x)
        if maps.ndim == 2:
            return maps
        return maps.mean(2) if self.pooled else maps.flatten(1)

    def forward(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n classes"]:
        """Logits of the classes."""
        return self.head(self.features(x))


def perceptron(inputs: int, num_classes: int, *, width: int = 128, depth: int = 1) -> Classifier:
    """A classifier of vectors (images are laid out in a row) with ReLU layers.

    Args:
        inputs: Numbers of a row.
        num_classes: Number of classes.
        width: Units of a layer.
        depth: Number of layers before the linear one.
    """
    check_count(depth, "depth")
    widths = [inputs] + [width] * depth
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    # Flatten as a part of the maps, so that images need no reshaping by the caller.
    return Classifier(nn.Sequential(nn.Flatten(), *layers, nn.Unflatten(1, (width, 1))), nn.Linear(width, num_classes))


def convnet(
    shape: Sequence[int],
    num_classes: int,
    *,
    width: int = 128,
    depth: int = 3,
    norm: Literal["instance", "batch", "none"] = "instance",
    pooled: bool = False,
) -> Classifier:
    """The convolutional network of data-set distillation: blocks of 3x3 convolution, norm, ReLU and halving.

    Args:
        shape: Channels, height and width of an image; both must halve ``depth`` times.
        num_classes: Number of classes.
        width: Channels of every block.
        depth: Number of blocks: 3 for 32 pixels, 5 for 128.
        norm: Normalisation of each channel over one image (rows do not see each other), over the batch, or none.
        pooled: Average over positions before the linear layer.

    Raises:
        ValueError: A shape that does not halve so often, or an unknown norm.
    """
    channels, height, across = shape
    check_choice(norm, "norm", ("instance", "batch", "none"))
    if height % 2**depth or across % 2**depth:
        raise ValueError(f"shape: expected a height and width that halve {depth} times, found {height} x {across}.")
    norms = {
        "instance": lambda: nn.GroupNorm(width, width),
        "batch": lambda: nn.BatchNorm2d(width),
        "none": nn.Identity,
    }
    parts: list[nn.Module] = []
    for index in range(depth):
        inputs = width if index else channels
        parts += [nn.Conv2d(inputs, width, 3, padding=1), norms[norm](), nn.ReLU(), nn.AvgPool2d(2)]
    positions = 1 if pooled else (height >> depth) * (across >> depth)
    return Classifier(nn.Sequential(*parts), nn.Linear(width * positions, num_classes), pooled=pooled)
