"""From the teacher to a student by stored views: the teacher is asked once, the student learns from what was kept."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from clarkia.curation.checks import check_choice, check_number
from clarkia.curation.labels import DistanceLabels, mixed_label_loss
from clarkia.curation.views import Views
from clarkia.training import TrainingOptions, TrainingRun, fit

Target = Literal["pair", "maxent"]


@torch.no_grad()
def relabel(
    teacher: nn.Module,
    x: Float[Tensor, "n c h w"],
    labels: Int64[Tensor, " n"],
    shown: Views,
    *,
    k: int | None = None,
    dtype: torch.dtype = torch.float16,
    batch_size: int = 256,
) -> DistanceLabels:
    """What a teacher says of all views of some images.

    Args:
        teacher: In evaluation mode.
        x: Images.
        labels: Their classes.
        shown: The views.
        k: Store the k largest probabilities; None stores those of the two classes of each view.
        dtype: Precision of what is stored.
        batch_size: Views at once.

    Returns:
        Labels of all views, those of the first epoch first, ``(E n, 2)`` or ``(E n, k)``.

    Source: Enhancing Dataset Distillation via Non-Critical Region Refinement (2025).
    """
    logits, partners = [], []
    for view in torch.arange(len(shown) * len(x)).split(batch_size):
        epoch, row = view // len(x), view % len(x)
        logits.append(teacher(shown.show(x, epoch, row)[0]))
        partners.append(shown.partner[epoch, row])
    own, pasted = labels.repeat(len(shown)), labels[torch.cat(partners)]
    pair = (own, pasted) if k is None else None
    return DistanceLabels.from_teacher(torch.cat(logits), pair, k=k, dtype=dtype)


def transfer(
    student: nn.Module,
    x: Float[Tensor, "n c h w"],
    labels: Int64[Tensor, " n"],
    shown: Views,
    stored: DistanceLabels | None = None,
    *,
    target: Target = "pair",
    weight: float = 1.0,
    options: TrainingOptions,
) -> TrainingRun:
    """Train a student in place on stored views.

    Args:
        student: ``student(x)`` gives logits.
        x: Images.
        labels: Their classes.
        shown: The views.
        stored: The teacher's labels of all views, as `relabel` gives them; None trains on the mixed classes alone.
        target: ``"pair"`` adds the squared differences of distances to the cross-entropy with the mixed classes;
            ``"maxent"`` is cross-entropy with the completed distribution, which with all classes stored is the
            teacher's own.
        weight: Of the distances.
        options: Of the training.

    Returns:
        What the training did.

    Raises:
        ValueError: Labels of another number of views, or an unknown target.

    Source: Enhancing Dataset Distillation via Non-Critical Region Refinement (2025).
    """
    check_choice(target, "target", get_args(Target))
    check_number(weight, "weight", low=0)
    count = len(shown) * len(x)
    if stored is not None and len(stored.classes) != count:
        raise ValueError(f"stored: expected labels of {count} views, found {len(stored.classes)}.")

    def loss(module: nn.Module, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        view = batch["view"]
        epoch, row = view // len(x), view % len(x)
        images, share = shown.show(x, epoch, row)
        logits = module(images)
        told = None if stored is None else stored.take(view)
        if told is not None and target == "maxent":
            return told.soft_cross_entropy(logits)
        pasted = labels[shown.partner[epoch, row]]
        return mixed_label_loss(logits, labels[row], pasted, share, told, weight=weight)

    return fit(student, loss, {"view": torch.arange(count)}, options=options, progress=False)  # type: ignore[arg-type]
