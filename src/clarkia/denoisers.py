"""From raw networks to denoisers: preconditioning, log-probabilities, and the check of a prediction.

A denoiser is any callable ``denoiser(x_t, t, condition=None) -> prediction``, where the prediction is the posterior of
the clean data: ``x0_hat`` of a Gaussian block, normalised log-probabilities ``(n, ..., K_max)`` of a discrete one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clarkia.processes import Discrete, Gaussian, Masked, Mixed, Process, Time, block_time, spread
from clarkia.processes.gaussian import KINDS
from clarkia.processes.times import unspread
from clarkia.spaces import State

Denoiser: TypeAlias = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Preconditioning:
    """The scales of ``x0_hat = c_skip x_t + c_out F(c_in x_t, c_noise)``, each broadcastable against ``x_t``."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


def preconditioning(
    process: Gaussian, x_t: Float[Tensor, "n ..."], t: Tensor | float, data_std: float | Tensor = 1.0
) -> Preconditioning:
    """EDM's preconditioning for any Gaussian process: input, target and output of the network have unit variance.

    With ``n2 = alpha^2 d^2 + sigma^2``: ``c_skip = alpha d^2 / n2``, ``c_out = sigma d / sqrt(n2)``,
    ``c_in = 1 / sqrt(n2)``, ``c_noise = log(sigma / alpha) / 4`` with the ratio held in [1e-4, 1e4]. All are finite
    at alpha = 0, and at t = 0 ``x0_hat`` is ``x_t`` itself.

    Args:
        process: The corruption of this block.
        x_t: Noisy state, ``(n, ...)``; fixes shape and dtype.
        t: Time, ``(n,)`` or element-wise.
        data_std: Standard deviation of the clean data, one or broadcastable against a data point.

    Source: Elucidating the Design Space of Diffusion-Based Generative Models (2022).
    """
    t = spread(t, x_t)
    alpha, sigma = process.alpha(t), process.sigma(t)
    data_std = torch.as_tensor(data_std, dtype=sigma.dtype, device=sigma.device)
    variance = alpha**2 * data_std**2 + sigma**2
    scale = variance.rsqrt()
    ratio = (sigma / alpha).clamp(1e-4, 1e4)  # bounds the embedding at the two ends, where the logarithm is infinite
    values = (alpha * data_std**2 / variance, sigma * data_std * scale, scale, 0.25 * ratio.log())
    return Preconditioning(*(value.to(x_t.dtype) for value in values))


class Preconditioned(nn.Module):
    """A denoiser from a raw network, for one block or several.

    The network is called as ``network(inputs, noise, condition)``: Gaussian blocks come scaled by ``c_in`` with noise
    level ``c_noise``, discrete blocks as their integer states with noise level t. A noise level has the shape ``(n,)``,
    or that of the block where times or schedules differ by element. It returns one tensor a block: ``F`` for Gaussian
    blocks, logits ``(n, ..., K_max)`` for discrete ones. For a mixed process inputs, noise and result are dicts.

    Args:
        network: The raw network; knows nothing of noise schedules.
        process: The corruption it is trained under; a learned schedule inside is registered as ``schedules``.
        data_std: Standard deviation of the clean continuous data, one number for all blocks.
    """

    def __init__(self, network: nn.Module, process: Process, *, data_std: float = 1.0) -> None:
        super().__init__()
        if not data_std > 0:
            raise ValueError(f"data_std: expected a positive number, found {data_std}.")
        self.network, self.process, self.data_std = network, process, data_std
        parts = process.blocks.values() if isinstance(process, Mixed) else (process,)
        schedules = [getattr(part, "schedule", None) for part in parts]
        self.schedules = nn.ModuleList([schedule for schedule in schedules if isinstance(schedule, nn.Module)])

    @property
    def time_independent(self) -> bool:
        """Whether the prediction at a state does not depend on the time, so that it may be cached."""
        parts = self.process.blocks.values() if isinstance(self.process, Mixed) else (self.process,)
        masked = all(isinstance(part, Masked) for part in parts)
        return masked and bool(getattr(self.network, "time_independent", False))

    def forward(self, x_t: State, t: Time, condition: Any = None) -> Any:
        """The prediction at a noisy state; see the class for the shapes."""
        if not isinstance(self.process, Mixed):
            source, noise, finish = self._block(self.process, x_t, t)  # type: ignore[arg-type]
            return finish(self.network(source, noise, condition))
        blocks = self.process.each(x_t, "x_t")
        parts = {name: self._block(part, x, block_time(t, name)) for name, part, x in blocks}
        inputs = {name: part[0] for name, part in parts.items()}
        noise = {name: part[1] for name, part in parts.items()}
        raw = self.network(inputs, noise, condition)
        return {name: part[2](raw[name]) for name, part in parts.items()}

    def _block(
        self, process: Gaussian | Discrete, x: Tensor, t: Tensor
    ) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
        if isinstance(process, Discrete):
            return x, t, lambda logits: process.log_probs(logits, x, t)
        scales = preconditioning(process, x, t, self.data_std)
        return scales.c_in * x, unspread(scales.c_noise, x), lambda raw: scales.c_skip * x + scales.c_out * raw


class Parametrized(nn.Module):
    """A denoiser from a network that predicts something else than the clean data.

    The network is called as ``network(x_t, t)``, or ``network(x_t, t, condition)`` where a condition is given.

    Args:
        network: The raw network, for one continuous block.
        process: The Gaussian process it is trained under.
        kind: What it predicts: ``"x0"``, ``"epsilon"``, ``"score"``, ``"velocity"`` or ``"v"``.

    Raises:
        ValueError: An unknown kind; in use, an epsilon or score where alpha is 0, which does not determine the data:
            start such a run below t = 1.
    """

    def __init__(self, network: nn.Module, process: Gaussian, kind: str) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind: expected one of {list(KINDS)}, found {kind!r}.")
        self.network, self.process, self.kind = network, process, kind

    def forward(self, x_t: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        """The posterior mean that the network's prediction means; elements at t = 0 come back as they are."""
        raw = self.network(x_t, t) if condition is None else self.network(x_t, t, condition)
        x0_hat = self.process.convert(raw, x_t, t, self.kind, "x0")
        return torch.where(spread(t, x_t) > 0, x0_hat, x_t)


def retimed(denoiser: Denoiser, trained: Gaussian, process: Gaussian) -> Denoiser:
    """A denoiser that was made for one Gaussian process, as one of another.

    All Gaussian processes are one up to a change of time and scale, so nothing is lost and nothing trained anew.

    Args:
        denoiser: The denoiser.
        trained: The process it was made for.
        process: The process it is wanted for.
    """

    def denoise(x_t: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        time, scale = process.retime(spread(t, x_t), trained)
        state, time = scale.to(x_t.dtype) * x_t, unspread(time, x_t)
        return denoiser(state, time) if condition is None else denoiser(state, time, condition)

    return denoise


def categorical_log_probs(
    logits: Float[Tensor, "n ... k"], x_t: Tensor, num_classes: int | tuple[int, ...]
) -> Float[Tensor, "n ... k"]:
    """Normalised log-probabilities of clean classes from raw logits.

    Args:
        logits: ``(n, ..., K_max)``.
        x_t: int64 ``(n, ...)``; value ``K`` of a position is its mask.
        num_classes: Class count, or one a position.

    Returns:
        ``(n, ..., K_max)``: minus infinity at classes a position lacks, one-hot at visible cells.
    """
    return Masked(num_classes).log_probs(logits, x_t)


def check_prediction(prediction: Any, x_t: State, t: Time, process: Process) -> None:
    """Raise ``ValueError`` where a denoiser's answer has the wrong blocks or shape, or is not finite.

    A continuous prediction must be finite; log-probabilities may be minus infinity but never NaN. The sentence names
    the block, the time and the row.
    """
    if isinstance(process, Mixed):
        if not isinstance(prediction, Mapping) or set(prediction) != set(process.blocks):
            found = sorted(prediction) if isinstance(prediction, Mapping) else type(prediction).__name__
            raise ValueError(f"denoiser: expected a dict with the blocks {sorted(process.blocks)}, found {found}.")
        for name, part, x in process.each(x_t, "x_t"):  # type: ignore[arg-type]
            _check_block(prediction[name], x, block_time(t, name), part, f"block {name!r}")
    else:
        _check_block(prediction, x_t, t, process, "prediction")  # type: ignore[arg-type]


def _check_block(prediction: Any, x: Tensor, t: Tensor, process: Gaussian | Discrete, where: str) -> None:
    expected = (*x.shape, process.max_classes) if isinstance(process, Discrete) else tuple(x.shape)
    if not isinstance(prediction, Tensor) or tuple(prediction.shape) != expected:
        found = tuple(prediction.shape) if isinstance(prediction, Tensor) else type(prediction).__name__
        raise ValueError(f"denoiser: expected {where} of shape {expected}, found {found}.")
    total = _distinct(prediction.detach()).sum().item()  # one pass: a NaN anywhere makes the sum NaN
    if math.isnan(total) or (not isinstance(process, Discrete) and math.isinf(total)):
        bad = prediction.isnan() if isinstance(process, Discrete) else ~prediction.isfinite()
        rows = bad.reshape(len(x), -1).any(1).nonzero().flatten()
        if len(rows):
            row = int(rows[0])
            time = float(spread(t, x).expand(x.shape)[row].max())
            found = "NaN" if bool(prediction[row].isnan().any()) else "infinity"
            raise ValueError(
                f"denoiser: expected finite numbers in {where}, found {found} at time {time:g}, row {row}."
            )


def _distinct(values: Tensor) -> Tensor:
    """One entry along each axis that was made by expansion, where all are the same number in memory."""
    for axis, stride in enumerate(values.stride()):
        values = values.narrow(axis, 0, 1) if stride == 0 and values.shape[axis] > 1 else values
    return values
