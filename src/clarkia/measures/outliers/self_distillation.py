"""Self-distillation for an HVCM: a slow copy of the network tells what the views of one input have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clarkia.measures.outliers.averages import RunningAverage
from clarkia.measures.outliers.hvcm import HVCM, HVCMLoss

Views: TypeAlias = Callable[[Tensor, torch.Generator | None], Sequence[Tensor]]

WHOLE = 2  # views that see all of an input; only they are shown to the teacher and given to the density
STUDENT, TEACHER = 0.1, 0.04  # temperatures
CENTRE_RATE = 0.1


class DistilledHVCM(nn.Module):
    """An HVCM with a teacher, its own exponential average, and the average of the teacher's attributes.

    Args:
        student: What is trained; the teacher starts as a copy of it.
        momentum: Share of the teacher that a step keeps.

    Raises:
        ValueError: A share outside [0, 1).

    Source: Emerging Properties in Self-Supervised Vision Transformers (2021).
    """

    def __init__(self, student: HVCM, *, momentum: float = 0.996) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum: expected a share in [0, 1), found {momentum!r}.")
        self.student, self.teacher, self.momentum = student, deepcopy(student).requires_grad_(False), momentum
        self.centre = RunningAverage(torch.zeros_like(student.head.centres[0].flatten()), CENTRE_RATE)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The student's attributes ``(n, G, D / G)`` and logits of the groups ``(n, G)``."""
        return self.student(x)

    @torch.no_grad()
    def follow(self) -> None:
        """Move the teacher's weights towards the student's."""
        for slow, fast in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            slow.lerp_(fast, 1 - self.momentum)


def agreement_loss(
    student: Float[Tensor, "V n D"], teacher: Float[Tensor, "W n D"], centre: Float[Tensor, " D"]
) -> Float[Tensor, " n"]:
    """Cross-entropy of the student's attributes of a view to the teacher's of another, nats, mean over pairs ``(n,)``.

    Both are made probabilities of the D attributes by a softmax, the teacher's at a lower temperature and less their
    average: sharpness and centring together keep all inputs from being told the same.

    Args:
        student: Attributes of V views, ``(V, n, D)``; the first W are those that the teacher saw.
        teacher: Attributes of W views by the teacher, ``(W, n, D)``; no gradient goes there.
        centre: Average of the teacher's attributes, ``(D,)``.
    """
    q = ((teacher - centre) / TEACHER).softmax(-1).detach()
    cross = -torch.einsum("wnd,vnd->wvn", q, (student / STUDENT).log_softmax(-1))
    different = ~torch.eye(len(teacher), len(student), dtype=torch.bool, device=cross.device)
    return cross[different].mean(0)


@dataclass(frozen=True)
class DistilledHVCMLoss:
    """The loss of a `DistilledHVCM` for ``training.fit``: that of an `HVCM` on whole views, and agreement of all views.

    Batches are dicts of inputs ``"x"`` and int64 ``"label"`` ``(n,)``. In training mode teacher, average and group
    weights follow.

    Args:
        views: From a batch of inputs and a source of randomness to views of it, each of n rows: two that see all of an
            input, then any number that see parts.
        density: Factors of the other terms; by default those published for large images.

    Source: Hierarchical Visual Categories Modeling: A Joint Representation Learning and Density Estimation Framework
    for Out-of-Distribution Detection (2023).
    """

    views: Views
    density: HVCMLoss = field(default_factory=lambda: HVCMLoss(1.6e-4, 1.6e-5))

    def __call__(self, module: nn.Module, batch: Any, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """The three terms of each row, ``(n,)``: ``"density"``, ``"groups"`` and ``"agreement"``."""
        if not isinstance(module, DistilledHVCM):
            raise ValueError(f"module: expected a DistilledHVCM, found {type(module).__name__}.")
        views = list(self.views(batch["x"], generator))
        if len(views) < WHOLE:
            raise ValueError(f"views: expected at least {WHOLE} views of a batch, found {len(views)}.")
        if module.training:
            module.follow()
        seen = [module.student(view) for view in views]
        with torch.no_grad():
            told = torch.stack([module.teacher(view)[0].flatten(1) for view in views[:WHOLE]])
        label, head = batch["label"], module.student.head
        whole = [self.density.terms(z, logits, head.centres[label]) for z, logits in seen[:WHOLE]]
        terms = {name: torch.stack([each[name] for each in whole]).mean(0) for name in whole[0]}
        student = torch.stack([z.flatten(1) for z, _ in seen])
        terms["agreement"] = agreement_loss(student, told, module.centre().to(told))
        if module.training:
            head.update(torch.cat([logits for _, logits in seen[:WHOLE]]), label.repeat(WHOLE))
            module.centre.update(told.mean((0, 1)))
        return terms
