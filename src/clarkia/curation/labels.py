"""A teacher's opinion in two numbers: how far its answer is from each of a few classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from clarkia.curation.checks import check_count


@dataclass(frozen=True, eq=False)
class DistanceLabels:
    """Distances ``-log T(x)_c`` of a teacher's probabilities from k classes c, instead of all its probabilities.

    With the two classes of a mixed image it is the published distance-based representation; with the k largest
    probabilities, all of them at most, anything from one number to full soft labels.

    Attributes:
        classes: int64 ``(n, k)``; a class named twice counts once.
        distances: Cross-entropy between the teacher's answer and each class, in nats, ``(n, k)``; half precision keeps
            them to a thousandth.
        num_classes: Number K of classes.

    Source: Enhancing Dataset Distillation via Non-Critical Region Refinement (2025).
    """

    classes: Int64[Tensor, "n k"]
    distances: Float[Tensor, "n k"]
    num_classes: int

    @classmethod
    def from_teacher(
        cls,
        logits: Float[Tensor, "n K"],
        pair: tuple[Int64[Tensor, " n"], Int64[Tensor, " n"]] | None = None,
        *,
        k: int | None = None,
        dtype: torch.dtype = torch.float16,
    ) -> DistanceLabels:
        """Store what a teacher says of some rows.

        Args:
            logits: The teacher's, or log-probabilities.
            pair: The two classes of each mixed image, or
            k: how many of the largest probabilities to store.
            dtype: Precision of the distances.

        Raises:
            ValueError: Both or neither of ``pair`` and ``k``, more classes than there are, or logits that are NaN.
        """
        if logits.ndim != 2 or bool(logits.isnan().any()):
            raise ValueError(f"logits: expected numbers of shape (n, classes), found {tuple(logits.shape)} or NaN.")
        if (pair is None) == (k is None):
            raise ValueError("pair, k: expected one of the two, found both or neither.")
        log_probs = logits.detach().double().log_softmax(1)
        if pair is not None:
            classes = torch.stack(pair, 1)
            if bool(((classes < 0) | (classes >= logits.shape[1])).any()):
                raise ValueError(f"pair: expected classes from 0 to {logits.shape[1] - 1}, found others.")
        else:
            check_count(k, "k", most=logits.shape[1])
            classes = log_probs.topk(k, 1).indices  # type: ignore[arg-type]
        return cls(classes, -log_probs.gather(1, classes).to(dtype), logits.shape[1])

    def take(self, rows: Int64[Tensor, " b"]) -> DistanceLabels:
        """The labels of some rows."""
        return DistanceLabels(self.classes[rows], self.distances[rows], self.num_classes)

    @property
    def stored_bytes(self) -> int:
        """Bytes of the distances; the classes of a pair follow from the view's seed, those of the k largest do not."""
        return self.distances.numel() * self.distances.element_size()

    def loss(self, logits: Float[Tensor, "n K"]) -> Float[Tensor, " n"]:
        """Squared differences of a student's distances from the stored ones, summed over the classes.

        Args:
            logits: The student's.

        Returns:
            One number a row; 0 with gradient 0 where the student says of these classes what the teacher said.
        """
        own = -logits.log_softmax(1).gather(1, self.classes)
        # A probability of 0 has an infinite distance; 100 nats are as far away for any student.
        stored = self.distances.to(own).clamp(max=100.0)
        return (self._distinct() * (own - stored).square()).sum(1)

    def maxent(self) -> Float[Tensor, "n K"]:
        """The distribution of largest entropy that has the stored probabilities: the rest is shared out equally.

        Stored probabilities that rounding has brought above a sum of 1, or all K of them, are scaled to sum to 1.

        Returns:
            Probabilities, float64.
        """
        probabilities = (-self.distances.double()).exp()
        distinct = self._distinct()
        total = (distinct * probabilities).sum(1, keepdim=True)
        others = self.num_classes - distinct.sum(1, keepdim=True)
        rest = torch.where(others > 0, (1 - total).clamp(min=0) / others.clamp(min=1), 0.0)
        soft = rest.expand(-1, self.num_classes).clone().scatter(1, self.classes, probabilities)
        return soft / soft.sum(1, keepdim=True)

    def soft_cross_entropy(self, logits: Float[Tensor, "n K"]) -> Float[Tensor, " n"]:
        """Cross-entropy of a student with `maxent`, one number a row."""
        return F.cross_entropy(logits, self.maxent().to(logits), reduction="none")

    def _distinct(self) -> Tensor:
        """1 at the first mention of a class in its row, 0 at others, ``(n, k)``."""
        same = self.classes[:, :, None] == self.classes[:, None, :]
        return (~same.tril(-1).any(2)).to(torch.float64)


def mixed_label_loss(
    logits: Float[Tensor, "n K"],
    own: Int64[Tensor, " n"],
    pasted: Int64[Tensor, " n"],
    share: Float[Tensor, " n"],
    labels: DistanceLabels | None = None,
    *,
    weight: float = 1.0,
) -> Float[Tensor, " n"]:
    """Loss of a student on images with boxes of others pasted in.

    ``share CE(own) + (1 - share) CE(pasted)``, plus ``weight`` times the distance labels' loss where there are any.

    Args:
        logits: The student's.
        own: Class of the image.
        pasted: Class of the box.
        share: The image's own share of the pixels.
        labels: Distances of the teacher from these two classes.
        weight: Of the distances.

    Source: Enhancing Dataset Distillation via Non-Critical Region Refinement (2025).
    """
    first, second = (F.cross_entropy(logits, label, reduction="none") for label in (own, pasted))
    mixed = share * first + (1 - share) * second
    return mixed if labels is None else mixed + weight * labels.loss(logits)
