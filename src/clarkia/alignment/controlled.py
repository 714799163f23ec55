"""A denoiser that obeys labels it was not trained with: the frozen one, and what is learned beside it or of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from clarkia.alignment.control import split_labels, with_labels
from clarkia.alignment.low_rank import adapt
from clarkia.denoisers import Denoiser, preconditioning
from clarkia.networks.conditioning import ConditionEmbedding, Embedded
from clarkia.networks.embeddings import NoiseEmbedding, row_level
from clarkia.processes import Gaussian
from clarkia.processes.times import unspread

SPEED = 10.0
"""How much faster the embeddings of labels learn than the layers: they start at zero and meet few rows each."""


class LabelEmbedding(nn.Module):
    """A vector a label, summed over controls: zero at the start, and zero for good where a label is not given.

    Args:
        num_labels: Labels of each control.
        width: Numbers of a vector.
    """

    def __init__(self, num_labels: Sequence[int], width: int) -> None:
        super().__init__()
        # Row 0 is the label that is not given: as padding it never has a gradient.
        self.tables = nn.ModuleList(nn.Embedding(labels + 1, width, padding_idx=0) for labels in num_labels)
        for table in self.tables:
            nn.init.zeros_(table.weight)  # type: ignore[arg-type]

    def forward(self, labels: Int64[Tensor, "n controls"]) -> Float[Tensor, "n width"]:
        """The embedding of each row; raises ``ValueError`` for another number of controls."""
        if labels.shape[1] != len(self.tables):
            raise ValueError(f"control: expected {len(self.tables)} labels a row, found {labels.shape[1]}.")
        return SPEED * torch.stack([table(labels[:, k] + 1) for k, table in enumerate(self.tables)]).sum(0)


class Correction(nn.Module):
    """What is added to any denoiser's mean: a small network of the state, the frozen mean, the noise and the labels.

    Its output is scaled as EDM's preconditioning scales a network's, so that it vanishes with the noise; it is zero at
    the start.

    Args:
        process: The denoiser's Gaussian process.
        size: Numbers of a data point.
        num_labels: Labels of each control.
        width: Hidden units.
        depth: Hidden layers.
        data_std: Standard deviation of the clean data.
    """

    def __init__(
        self,
        process: Gaussian,
        size: int,
        num_labels: Sequence[int],
        *,
        width: int = 64,
        depth: int = 2,
        data_std: float = 1.0,
    ) -> None:
        super().__init__()
        self.process, self.data_std = process, data_std
        self.enter = nn.Linear(2 * size, width)
        self.noise = NoiseEmbedding(width, features=64)
        self.labels = LabelEmbedding(num_labels, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.leave = nn.Linear(width, size)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(
        self, plain: Callable[[], Tensor], x_t: Tensor, t: Tensor, labels: Tensor, condition: Any = None
    ) -> Tensor:
        """The corrected mean; see `Controlled` for the arguments."""
        x0_hat = plain()
        scales = preconditioning(self.process, x_t, t, self.data_std)
        seen = torch.cat([(scales.c_in * x_t).flatten(1), x0_hat.flatten(1) / self.data_std], 1)
        steer = self.noise(row_level(unspread(scales.c_noise, x_t), len(x_t))) + self.labels(labels)
        h = self.enter(seen.to(steer.dtype))
        for layer in self.layers:
            h = h + layer(nn.functional.silu(h + steer))
        return x0_hat + scales.c_out * self.leave(nn.functional.silu(h)).reshape(x_t.shape).to(x_t.dtype)


class Copy(nn.Module):
    """A copy of a denoiser that is told the labels beside its own conditions, with adapters or free in all weights.

    Args:
        denoiser: A module with one of the networks that take conditions (`DiT`, `UNet`, or `UViT` with a vector).
        num_labels: Labels of each control.
        rank: Rank of the adapters; None trains all weights.

    Raises:
        ValueError: A denoiser without conditions to add labels to, or without layers to adapt.
    """

    def __init__(self, denoiser: nn.Module, num_labels: Sequence[int], *, rank: int | None = 4) -> None:
        super().__init__()
        self.body = copy.deepcopy(denoiser)
        places = [
            (parent, name)
            for parent in list(self.body.modules())
            for name, child in parent.named_children()
            if isinstance(child, ConditionEmbedding) and getattr(parent, "has_vector", True)
        ]
        if not places:
            raise ValueError(
                'denoiser: expected a network with a conditioning vector, found none; use change="correction".'
            )
        if rank is None:
            self.body.requires_grad_(True)
        else:
            adapt(self.body, rank)
        for parent, name in places:
            setattr(parent, name, _LabelledConditions(getattr(parent, name), num_labels))

    def forward(
        self, plain: Callable[[], Tensor], x_t: Tensor, t: Tensor, labels: Tensor, condition: Any = None
    ) -> Tensor:
        """The copy's answer; see `Controlled` for the arguments."""
        return self.body(x_t, t, with_labels(condition, labels))


class _LabelledConditions(nn.Module):
    """The embedding of conditions with that of the labels added to its vector."""

    def __init__(self, base: ConditionEmbedding, num_labels: Sequence[int]) -> None:
        super().__init__()
        self.base, self.labels = base, LabelEmbedding(num_labels, len(base.nothing)).to(base.nothing.device)

    def forward(self, condition: Any, rows: int) -> Embedded:
        labels, condition = split_labels(condition)
        given = self.base(condition, rows)
        return given if labels is None else given._replace(vector=given.vector + self.labels(labels))


class Controlled(nn.Module):
    """A denoiser with labels: ``denoiser(x_t, t, {"control": labels, **condition})``, labels int64 (n,) or (n, k).

    Without labels, in rows whose labels are all -1, and from the last noisy time of its training on, it is the frozen
    denoiser itself, to the bit. So guidance between labels and none is `guidance.classifier_free` of it, and
    ``guidance.guided.Guided(controlled.both)`` a proposal for particles that corrects what control has not learned.

    Args:
        frozen: The denoiser to be controlled; of a module a frozen copy is kept.
        change: ``change(plain, x_t, t, labels, condition) -> prediction`` with labels ``(n, k)``, and ``plain()`` the
            frozen answer; `Correction`, `Copy` or any other module.
        last_time: The last time above 0 at which a step begins.
    """

    def __init__(self, frozen: Denoiser, change: nn.Module, last_time: float = 0.0) -> None:
        super().__init__()
        self.frozen = copy.deepcopy(frozen).requires_grad_(False) if isinstance(frozen, nn.Module) else frozen
        self.change, self.last_time = change, last_time
        self.train(False)

    def train(self, mode: bool = True) -> Controlled:
        """Always evaluation mode: with dropout the two denoisers would differ by more than what is learned."""
        return super().train(False)

    def forward(self, x_t: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        """The prediction given the labels."""
        return self._answer(x_t, t, condition)[1]

    def both(self, x_t: Tensor, t: Tensor, condition: Any = None) -> tuple[Tensor, Tensor]:
        """The frozen prediction and the one given the labels."""
        plain, answer = self._answer(x_t, t, condition)
        return plain(), answer

    def _answer(self, x_t: Tensor, t: Tensor, condition: Any) -> tuple[Callable[[], Tensor], Tensor]:
        labels, base = split_labels(condition)

        @cache
        def plain() -> Tensor:
            return self.frozen(x_t, t) if base is None else self.frozen(x_t, t, base)

        if labels is None:
            return plain, plain()
        time = t if t.ndim == 1 else t.flatten(1).amax(1)
        # Times come in the state's precision, the grid's last one does not.
        live = (labels >= 0).any(1) & (time > self.last_time * (1 + 1e-6))
        if not bool(live.any()):
            return plain, plain()
        answer = self.change(plain, x_t, t, labels, base)
        if not bool(live.all()):
            answer = torch.where(live.reshape(-1, *(1,) * (answer.ndim - 1)), answer, plain())
        return plain, answer
