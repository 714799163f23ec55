"""The loss of several modalities in one latent: its own denoising, and what each head says of its modality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clarkia.denoisers import preconditioning
from clarkia.objectives.noise import LogNormal, NoiseLevels, draw_levels, time_of
from clarkia.objectives.weights import WEIGHTS, Weight
from clarkia.processes import spread
from clarkia.processes.aggregated import AggregatedGaussian
from clarkia.random import Noise
from clarkia.spaces import num_rows

JOINT_LEVELS = LogNormal(0.0, 1.5)
"""Noise levels around the data's own spread, where the modalities are told apart."""


class JointDenoiser(nn.Module):
    """A denoiser of all modalities from one network: ``denoiser(z_t, t, condition=None) -> {name: prediction}``.

    Args:
        network: ``network(inputs, noise, condition) -> {name: raw}``, such as `MultiHead`.
        process: The corruption.
        main: The modality that has the latent's shape and enters it as it is, from the start: its head is
            preconditioned as ``c_skip (z_t - alpha sum_i W_i E_i(x_hat_i)) + c_out raw``, the sum over the others,
            so that a network need not carve them out of the latent where there is little noise; None for none.
        classes: Modalities that are classes: their raw output is logits, their prediction log-probabilities.
        data_std: Standard deviation of the main modality.

    Raises:
        ValueError: Modalities that the process lacks, or a main one that enters late.
    """

    def __init__(
        self,
        network: nn.Module,
        process: AggregatedGaussian,
        *,
        main: str | None = None,
        classes: tuple[str, ...] = (),
        data_std: float = 1.0,
    ) -> None:
        super().__init__()
        unknown = {*classes, *([] if main is None else [main])} - set(process.encoders)
        if unknown:
            raise ValueError(f"main, classes: expected some of {sorted(process.encoders)}, found {sorted(unknown)}.")
        if main is not None and not float(process.share(main, torch.zeros(1))) > 0:
            raise ValueError(f"main: expected a modality that is in the latent from the start, found {main!r}.")
        self.network, self.process, self.main, self.classes = network, process, main, classes
        self.data_std = data_std

    def forward(self, z_t: Tensor, t: Tensor, condition: Any = None) -> dict[str, Tensor]:
        """Means of continuous modalities, log-probabilities of classes."""
        gaussian = self.process.process
        scales = preconditioning(gaussian, z_t, t, self.data_std)
        raw = self.network(scales.c_in * z_t, scales.c_noise.reshape(-1).expand(len(z_t)), condition)
        answer = {name: part.log_softmax(-1) if name in self.classes else part for name, part in raw.items()}
        if self.main is not None:
            others = self.process.signal({**answer, self.main: torch.zeros_like(z_t)}, t)
            rest = z_t - gaussian.alpha(spread(t, z_t)).to(z_t.dtype) * others
            share = spread(self.process.share(self.main, t), z_t).to(z_t.dtype)
            scales = preconditioning(gaussian, z_t, t, share * self.data_std)
            answer[self.main] = (scales.c_skip * rest + scales.c_out * raw[self.main]) / share
        return answer


@dataclass(frozen=True)
class MultiTaskELBO:
    """Squared error of the latent's signal, and that or the cross-entropy of every head, at one time a row.

    The signal's error is that of the divergences of the reverse steps; the heads' terms are the likelihoods of the
    modalities given the latent. A head's term is multiplied by ``alpha^2``, since at much noise it can do no more than
    learn the marginal.

    Args:
        process: The corruption.
        weights: By modality the factor lambda of its head's term; 1 where none is given.
        weight: Of the signal's squared error by noise level, as in `Denoising`.
        noise: Law of noise levels.

    Source: Diffusion Models for Multi-Task Generative Modeling (2024).
    """

    process: AggregatedGaussian
    weights: Mapping[str, float] = field(default_factory=dict)
    weight: str | Weight = "edm"
    noise: NoiseLevels = JOINT_LEVELS

    def __post_init__(self) -> None:
        if unknown := set(self.weights) - set(self.process.encoders):
            raise ValueError(f"weights: expected some of {sorted(self.process.encoders)}, found {sorted(unknown)}.")
        if isinstance(self.weight, str) and self.weight not in WEIGHTS:
            raise ValueError(f"weight: expected one of {list(WEIGHTS)} or a function, found {self.weight!r}.")

    def __call__(
        self, denoiser: Any, x0: Mapping[str, Tensor], generator: Noise = None, condition: Any = None
    ) -> dict[str, Float[Tensor, " n"]]:
        """Losses of every row: ``"latent"`` and one a modality; their sum is what training minimises.

        Args:
            denoiser: ``denoiser(z_t, t, condition=None)``; by modality numbers of its shape, or log-probabilities.
            x0: By modality, clean data: continuous, or int64 classes.
            generator: Source of randomness.
            condition: Handed to the denoiser where not None.
        """
        example = next(iter(x0.values()))
        n = num_rows(dict(x0))
        log_ratio = draw_levels(self.noise, n, generator, device=example.device)
        t = time_of(self.process.process, log_ratio).to(torch.get_default_dtype())
        z_t = self.process.corrupt(x0, t, generator=generator)
        prediction = denoiser(z_t, t) if condition is None else denoiser(z_t, t, condition)
        gap = self.process.signal(prediction, t) - self.process.signal(x0, t)
        s = self.process.process.kappa(t.double()).clamp(1e-7, 1e7)
        weight = (WEIGHTS[self.weight](1.0) if isinstance(self.weight, str) else self.weight)(s)
        losses = {"latent": weight.to(gap.dtype) * _mean(gap.square())}
        visible = self.process.process.alpha(t.double()).square()
        for name, clean in x0.items():
            factor = self.weights.get(name, 1.0) * visible
            losses[name] = factor.to(gap.dtype) * head_loss(clean, prediction[name])
        return losses

    def step_divergence(
        self, denoiser: Any, x0: Mapping[str, Tensor], t: Tensor, s: Tensor, generator: Noise = None
    ) -> Float[Tensor, " n"]:
        """One draw of ``KL(q(z_s | z_t, x) || p(z_s | z_t))``, a term of the bound of a sampler that steps from t to s.

        Args:
            denoiser: As in a call.
            x0: Clean data.
            t: Times ``(n,)``.
            s: Times to go to, positive and less than t.
            generator: Source of randomness.

        Returns:
            float64 nats.
        """
        z_t = self.process.corrupt(x0, t, generator=generator)
        return self.process.kernel(z_t, x0, t, s).kl(self.process.kernel(z_t, denoiser(z_t, t), t, s))


def head_loss(clean: Tensor, prediction: Tensor) -> Float[Tensor, " n"]:
    """Mean squared error of numbers, or mean nats of int64 classes under log-probabilities, a row."""
    if clean.is_floating_point():
        return _mean((prediction - clean).square())
    return _mean(-prediction.gather(-1, clean.unsqueeze(-1)).squeeze(-1))


def _mean(values: Tensor) -> Tensor:
    return values.reshape(len(values), -1).mean(1)
