"""A head whose features follow one simple density per class, its loss, and the scorer that trains it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from clarkia.measures.outliers.averages import RunningAverage

CLAMP = (1e-5, 1e5)

CIFAR = {"width": 1024, "groups": 32}
"""The published head for small images; its loss is `HVCMLoss()`."""

IMAGENET = {"width": 8192, "groups": 32, "hidden": 2048}
"""The published head for large images; its loss is `DistilledHVCMLoss`."""


class HVCMHead(nn.Module):
    """From features to attributes in groups, logits of the groups, and a centre of every class.

    Features are projected to a bottleneck and divided by their length; attributes are their cosines with learned
    directions (weights of length one and no bias), so that they lie in [-1, 1].

    Args:
        in_features: Width of the features.
        num_classes: Number C of classes, labelled 0 to C - 1.
        width: Number D of attributes, a multiple of the groups.
        groups: Number G of groups.
        bottleneck: Width of the projection.
        hidden: Width of the two hidden layers of a GELU projection; None for a linear one.
        rate: Share of a batch in the averages of the group weights.
        bias_correction: Start the averages from the data; False starts them from random weights, as published, which
            about ``1 / rate`` batches have to wear down.

    Raises:
        ValueError: A width that is no multiple of the groups.

    Source: Hierarchical Visual Categories Modeling: A Joint Representation Learning and Density Estimation Framework
    for Out-of-Distribution Detection (2023).
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        width: int = 1024,
        groups: int = 32,
        bottleneck: int = 256,
        hidden: int | None = None,
        rate: float = 1e-4,
        bias_correction: bool = True,
    ) -> None:
        super().__init__()
        if groups < 1 or width % groups:
            raise ValueError(f"width: expected a multiple of the {groups} groups, found {width}.")
        self.groups = groups
        self.projection = _projection(in_features, bottleneck, hidden)
        self.directions = nn.Parameter(torch.empty(width, bottleneck))
        self.group_logits = nn.Linear(bottleneck, groups, bias=False)
        for weight in (self.directions, self.group_logits.weight):
            nn.init.trunc_normal_(weight, std=0.02)
        self.centres = nn.Parameter(torch.randn(num_classes, groups, width // groups))
        start = torch.randn(num_classes, groups).softmax(1)
        start = torch.full_like(start, 1 / groups) if bias_correction else start
        self.averages = RunningAverage(start, rate, count_initial=not bias_correction)

    def forward(self, h: Float[Tensor, "n f"]) -> tuple[Float[Tensor, "n G k"], Float[Tensor, "n G"]]:
        """Attributes ``(n, G, D / G)`` and logits of the groups ``(n, G)`` of features ``(n, in_features)``."""
        h = F.normalize(self.projection(h), dim=1)
        z = F.linear(h, F.normalize(self.directions, dim=1))
        return z.unflatten(1, (self.groups, -1)), self.group_logits(h)

    def weights(self) -> Float[Tensor, "C G"]:
        """Weight of every class and group, float64 ``(C, G)``: the average share that rows of the class give it."""
        return self.averages()

    @torch.no_grad()
    def update(self, logits: Float[Tensor, "n G"], labels: Int[Tensor, " n"]) -> None:
        """Move the group weights of every class in the batch towards the batch's mean shares."""
        shares = logits.double().softmax(1)
        counts = torch.bincount(labels, minlength=len(self.centres))[:, None]
        sums = torch.zeros_like(self.averages.total).index_add(0, labels, shares)
        self.averages.update(sums / counts.clamp(min=1), counts > 0)

    @torch.no_grad()
    def classify(self, z: Float[Tensor, "n G k"]) -> Int[Tensor, " n"]:
        """The class whose centre has the largest cosine with the attributes, ``(n,)``."""
        return (F.normalize(z.flatten(1), dim=1) @ F.normalize(self.centres.flatten(1), dim=1).T).argmax(1)


class HVCM(nn.Module):
    """An encoder with its head.

    Args:
        encoder: From inputs to features ``(n, in_features)``.
        head: The head.
    """

    def __init__(self, encoder: nn.Module, head: HVCMHead) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Attributes ``(n, G, D / G)`` and logits of the groups ``(n, G)``."""
        return self.head(self.encoder(x))


def attribute_divergences(
    z: Float[Tensor, "n G k"], centres: Float[Tensor, "n G k"]
) -> tuple[Float[Tensor, "n G"], Float[Tensor, "n G"]]:
    """``KL(softmax(centre) || softmax(z))``, which moves the attributes, and the reverse, which moves the centres.

    Args:
        z: Attributes ``(n, G, k)``.
        centres: Centre of each row's class, ``(n, G, k)``.

    Returns:
        Both in nats, ``(n, G)``; 0 where attributes and centre are the same.
    """
    log_z, log_centre = z.log_softmax(-1), centres.log_softmax(-1)
    to_z = (log_centre.detach().exp() * (log_centre.detach() - log_z)).sum(-1)
    to_centre = (log_z.detach().exp() * (log_z.detach() - log_centre)).sum(-1)
    return to_z, to_centre


@dataclass(frozen=True)
class HVCMLoss:
    """The loss of an `HVCM` for ``training.fit``: attributes near their class's centre, weight on groups that fit.

    Batches are dicts of inputs ``"x"`` and int64 ``"label"`` ``(n,)``. In training mode the group weights follow.

    Args:
        attributes: Factor a of the divergence that moves the attributes.
        centres: Factor b of the one that moves the centres.

    Source: Hierarchical Visual Categories Modeling: A Joint Representation Learning and Density Estimation Framework
    for Out-of-Distribution Detection (2023).
    """

    attributes: float = 1.0
    centres: float = 0.1

    def __call__(self, module: nn.Module, batch: Any, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """The two terms of each row, ``(n,)``: ``"density"`` and ``"groups"``."""
        if not isinstance(module, HVCM):
            raise ValueError(f"module: expected an HVCM, found {type(module).__name__}.")
        z, logits = module(batch["x"])
        label = batch["label"]
        terms = self.terms(z, logits, module.head.centres[label])
        if module.training:
            module.head.update(logits, label)
        return terms

    def terms(self, z: Tensor, logits: Tensor, centres: Tensor) -> dict[str, Any]:
        """The two terms from attributes ``(n, G, k)``, group logits ``(n, G)`` and the centres of each row's class."""
        to_z, to_centre = attribute_divergences(z, centres)
        density = (self.attributes * to_z + self.centres * to_centre).clamp(*CLAMP).mean(1)
        return {"density": density, "groups": (self.attributes * to_z.detach() * logits.softmax(1)).mean(1)}


def _projection(in_features: int, bottleneck: int, hidden: int | None) -> nn.Module:
    widths = [in_features, bottleneck] if hidden is None else [in_features, hidden, hidden, bottleneck]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        linear = nn.Linear(before, after)
        nn.init.trunc_normal_(linear.weight, std=0.02)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.GELU()]
    return nn.Sequential(*layers[:-1])
