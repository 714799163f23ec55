"""Learning signals from measurements of them: the denoising loss in the space of measurements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.forward_models import ThroughForward
from clarkia.objectives.gaussian import Denoising
from clarkia.random import Noise, rand


@dataclass(frozen=True)
class ForwardModelLoss:
    """Denoise a target measurement through a predicted signal, which must also explain measurements held out.

    A batch is a dict of tensors with a row each: ``target`` and ``target_view``; ``extra`` ``(n, e, ...)`` and
    ``extra_view`` ``(n, e, ...)``, further measurements of the same signals, e at least ``num_extra``; and what the
    network looks at beside, by custom ``context`` and ``context_view``. The held-out measurements are what makes the
    prediction a signal: without them it need only look right in the target's own view. Measurements that nearly repeat
    each other are hard to learn from at little noise; whiten the rows of such a forward model.

    Args:
        denoising: The loss of the target: process, weight, noise levels.
        num_extra: Held-out measurements that are compared, the first ones of each row.
        extra_weight: Factor of their squared errors.
        context_weight: Factor of the squared error of the target as told from the context alone, with a state of
            zeros at t = 1; 0 leaves it out.
        drop: Chance that a row is told to ignore its context, by False in ``present`` bool (n,) of the condition.
        perceptual: Features of measurements, ``(n, ...) -> (n, ...)``, in which target and held-out measurements are
            compared as well, such as a fixed network's; None compares none.
        perceptual_weight: Factor of the mean squared error of features, the same at all noise levels.

    Raises:
        ValueError: A negative weight or number, a chance outside [0, 1]; in use, a batch without what is needed, or
            features that are not one row a measurement.

    Source: Diffusion with Forward Models: Solving Stochastic Inverse Problems Without Direct Supervision (2023).
    """

    denoising: Denoising
    num_extra: int = 1
    extra_weight: float = 1.0
    context_weight: float = 0.0
    drop: float = 0.0
    perceptual: Callable[[Tensor], Tensor] | None = None
    perceptual_weight: float = 0.2

    def __post_init__(self) -> None:
        for name in ("num_extra", "extra_weight", "context_weight", "perceptual_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected a non-negative number, found {getattr(self, name)}.")
        if not 0 <= self.drop <= 1:
            raise ValueError(f"drop: expected a chance in [0, 1], found {self.drop}.")

    def __call__(
        self, denoiser: ThroughForward, batch: Mapping[str, Tensor], generator: Noise = None
    ) -> dict[str, Float[Tensor, " n"]]:
        """Losses of every row by name: ``target``, and ``extra``, ``perceptual``, ``context`` where asked for."""
        condition = self._condition(batch, generator)
        target = batch["target"]
        predicted: list[tuple[Tensor, Tensor]] = []

        def denoise(x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
            predicted.append(denoiser.both(x_t, t, condition))
            return predicted[-1][1]

        losses = {"target": self.denoising(denoise, target, generator, condition)}
        signal, x0_hat = predicted[-1]
        compared = [(x0_hat, target)]
        if self.num_extra:
            views, extras = (batch[name][:, : self.num_extra].unbind(1) for name in ("extra_view", "extra"))
            compared += [(denoiser.measure(signal, view), truth) for view, truth in zip(views, extras, strict=True)]
        if self.num_extra and self.extra_weight:
            losses["extra"] = self.extra_weight * torch.stack([_error(*pair) for pair in compared[1:]]).mean(0)
        if self.perceptual is not None and self.perceptual_weight:
            errors = [_error(self._features(measured), self._features(truth)) for measured, truth in compared]
            losses["perceptual"] = self.perceptual_weight * torch.stack(errors).mean(0)
        if self.context_weight:
            end = torch.ones(len(target), dtype=target.dtype, device=target.device)
            told = denoiser.both(torch.zeros_like(target), end, condition)[1]
            losses["context"] = self.context_weight * _error(told, target)
        return losses

    def _condition(self, batch: Mapping[str, Tensor], generator: Noise) -> dict[str, Tensor]:
        needed = {"target", "target_view"} | ({"extra", "extra_view"} if self.num_extra else set())
        if not needed <= set(batch):
            raise ValueError(f"batch: expected {sorted(needed)}, found {sorted(batch)}; num_extra=0 needs no extras.")
        if self.num_extra and not batch["extra"].shape[1] == batch["extra_view"].shape[1] >= self.num_extra:
            found = batch["extra"].shape[1], batch["extra_view"].shape[1]
            raise ValueError(
                f"extra: expected at least {self.num_extra} measurements a row and as many views, {found}."
            )
        hidden = {"target", "extra", "extra_view"}
        condition = {name: value for name, value in batch.items() if name not in hidden}
        if self.drop > 0:
            present = rand((len(batch["target"]),), generator, device=batch["target"].device) >= self.drop
            condition["present"] = present
        return condition

    def _features(self, measured: Tensor) -> Tensor:
        assert self.perceptual is not None
        features = self.perceptual(measured)
        if features.shape[:1] != measured.shape[:1]:
            raise ValueError(
                f"perceptual: expected features of {len(measured)} rows, found shape {tuple(features.shape)}."
            )
        return features


def _error(measured: Tensor, truth: Tensor) -> Float[Tensor, " n"]:
    """Mean squared error of each row."""
    dtype = torch.promote_types(truth.dtype, torch.float32)
    return (measured.to(dtype) - truth.to(dtype)).square().reshape(len(truth), -1).mean(1)
