"""A network of diffusers as a denoiser."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clarkia.adapters.diffusers.processes import prediction_of, process_of
from clarkia.denoisers import preconditioning
from clarkia.processes import Gaussian, RectifiedFlow, VariancePreserving, spread
from clarkia.schedules import TabulatedVP

ARGUMENTS: Mapping[str, str] = MappingProxyType(
    {"label": "class_labels", "tokens": "encoder_hidden_states", "mask": "encoder_attention_mask"}
)
"""Under which argument a diffusers network takes each part of a condition."""

_FLOW_LEVELS = 1000.0
_WHOLE = 1e-3  # a level this near a whole one is it; single-precision times are a few 1e-5 of a level off


class PretrainedDenoiser(nn.Module):
    """The posterior mean that a diffusers network's answer means.

    Rows at t = 0 and observed elements come back as they are; of element-wise times the network is told the highest.
    A network that answers with twice its input's channels is taken to learn a variance too, which is left out.

    Args:
        network: A UNet2DModel, UNet2DConditionModel, a transformer, or anything called alike:
            ``network(sample, timestep, **condition)``, answering an object with ``sample``, a tuple or a tensor.
        process: The process it was trained under.
        kind: What it predicts: ``"epsilon"``, ``"x0"``, ``"v"``, ``"velocity"``, or ``"edm"`` for a network inside
            EDM's preconditioning.
        data_std: Standard deviation of the data, for ``"edm"``.
        nothing: The condition that stands for none, with one row: the embedding of an empty prompt, the null class.
            It is used where no condition is given and for rows whose condition is not ``present``.
        names: Under which argument the network takes each part of a condition; others go under their own name.
        extra: Further arguments of every call.

    Source: the networks' own papers; Diffusers: State-of-the-art diffusion models (2022).
    """

    def __init__(
        self,
        network: nn.Module,
        process: Gaussian,
        kind: str,
        *,
        data_std: float = 0.5,
        nothing: Mapping[str, Tensor] | None = None,
        names: Mapping[str, str] = ARGUMENTS,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if kind not in ("epsilon", "x0", "v", "velocity", "edm"):
            raise ValueError(f"kind: expected epsilon, x0, v, velocity or edm, found {kind!r}.")
        self.network, self.process, self.kind, self.data_std = network, process, kind, data_std
        self.nothing, self.names, self.extra = dict(nothing or {}), dict(names), dict(extra or {})

    def forward(
        self, x_t: Float[Tensor, "n ..."], t: Tensor, condition: Mapping[str, Tensor] | None = None
    ) -> Float[Tensor, "n ..."]:
        """The posterior mean at a noisy state.

        Args:
            x_t: Noisy states.
            t: Times ``(n,)``, or of the states' shape.
            condition: Parts of a condition with a row each; None for nothing.

        Raises:
            ValueError: An answer of another shape.
        """
        given = {self.names.get(name, name): part for name, part in self._given(condition, x_t).items()}
        if self.kind == "edm":
            scales = preconditioning(self.process, x_t, t, self.data_std)
            level = scales.c_noise.flatten(1).amax(1)
            raw = self._answer(scales.c_in * x_t, level, given)
            return scales.c_skip * x_t + scales.c_out * raw
        time = t if t.ndim == 1 else t.flatten(1).amax(1)
        raw = self._answer(x_t, self.level(time).to(x_t.dtype), given)
        x0_hat = self.process.convert(raw, x_t, t, self.kind, "x0")
        return torch.where(spread(t, x_t) > 0, x0_hat, x_t)

    def level(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The timestep that the network knows a time as, whole or between two of its training."""
        if isinstance(self.process, RectifiedFlow):
            return t * _FLOW_LEVELS
        count = _num_levels(self.process)
        level = (t.double() * count - 1).clamp(min=0.0)
        whole = level.round()
        return torch.where((level - whole).abs() < _WHOLE, whole, level)

    def _answer(self, x: Tensor, level: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        answer = self.network(x, level, **given, **self.extra)
        raw = answer if isinstance(answer, Tensor) else answer[0]
        if raw.shape[1] == 2 * x.shape[1]:
            raw = raw[:, : x.shape[1]]
        if raw.shape != x.shape:
            raise ValueError(f"network: expected an answer of shape {tuple(x.shape)}, found {tuple(raw.shape)}.")
        return raw

    def _given(self, condition: Mapping[str, Tensor] | None, x: Tensor) -> dict[str, Tensor]:
        nothing = {name: part.to(x.device).expand(len(x), *part.shape[1:]) for name, part in self.nothing.items()}
        if condition is None:
            return nothing
        parts = {name: part for name, part in condition.items() if name != "present"}
        present = condition.get("present")
        if present is None or bool(present.all()):
            return parts
        absent = sorted(set(parts) - set(nothing))
        if absent:
            raise ValueError(f"nothing: expected what stands for no {absent[0]!r}, some rows have none; found none.")
        return {name: torch.where(spread(present, part), part, nothing[name]) for name, part in parts.items()}


def denoiser_of(network: nn.Module, scheduler: Any, **options: Any) -> PretrainedDenoiser:
    """A network and the scheduler it came with as a denoiser, whose process is `PretrainedDenoiser.process`.

    Args:
        network: A diffusers network.
        scheduler: The scheduler of its training or any of the same configuration.
        options: Further arguments of `PretrainedDenoiser`.
    """
    process = process_of(scheduler)
    if not isinstance(process, VariancePreserving | RectifiedFlow):
        return PretrainedDenoiser(network, process, "edm", data_std=scheduler.config.sigma_data, **options)
    return PretrainedDenoiser(network, process, prediction_of(scheduler), **options)


def _num_levels(process: Gaussian) -> int:
    schedule = getattr(process, "schedule", None)
    return schedule.num_levels if isinstance(schedule, TabulatedVP) else 1000
