"""Moving averages of a module's weights: with an exponential profile, or one that keeps pace with the run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn


class WeightAverage:
    """The moving average of everything in a module's state: floating tensors are averaged, others follow.

    After step s (counted from 0) the average moves to d * average + (1 - d) * weights with
    d = min(decay, (1 + s) / (10 + s)), so that a short run is not held back by its random start.

    Args:
        module: the module to follow; it keeps training, the average lives beside it on the same device.
        decay: the limit of d.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.decay = decay
        self._live = dict(module.state_dict())
        self.weights = {name: tensor.clone() for name, tensor in self._live.items()}
        floating = [name for name, tensor in self._live.items() if tensor.is_floating_point()]
        self._followed = [name for name in self._live if name not in set(floating)]
        self._targets = [self._live[name] for name in floating]
        self._averages = [self.weights[name] for name in floating]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the module's weights after step number `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self._targets, 1.0 - decay)  # pyright: ignore[reportPrivateImportUsage]
        for name in self._followed:
            self.weights[name].copy_(self._live[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the module carries the averaged weights; afterwards its own again, bit for bit."""
        own = snapshot(self._live)
        write(self._live, self.weights)
        try:
            yield
        finally:
            write(self._live, own)


class PowerAverage:
    """A moving average in which step s of n weighs as ``s^gamma``, so that it forgets no faster than the run grows.

    After step s (counted from 0) the average moves to b * average + (1 - b) * weights with
    b = (1 - 1 / (s + 1))^(gamma + 1). Parameters are averaged, in single precision or better; buffers follow.

    Args:
        module: the module to follow; it keeps training, the average lives beside it on the same device.
        sigma_rel: standard deviation of the profile as a share of the run, in (0, 0.2886]; 0.05 and 0.1 are usual.

    Attributes:
        sigma_rel: the same.
        gamma: the exponent that it means.
        weights: the average, by name as in the module's state.
        averaged: names of those that are averaged.

    Raises:
        ValueError: a sigma_rel out of range.

    Source: Analyzing and Improving the Training Dynamics of Diffusion Models (2023).
    """

    def __init__(self, module: nn.Module, sigma_rel: float):
        self.sigma_rel, self.gamma = sigma_rel, power_of(sigma_rel)
        self._live = dict(module.state_dict())
        kept = module.state_dict(keep_vars=True)
        self.averaged = tuple(name for name, tensor in kept.items() if isinstance(tensor, nn.Parameter))
        self.weights = {
            name: _master(tensor) if name in set(self.averaged) else tensor.clone()
            for name, tensor in self._live.items()
        }
        self._averages = [self.weights[name] for name in self.averaged]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the module's weights after step number `step`, counted from 0."""
        share = 1.0 - (step / (step + 1)) ** (self.gamma + 1)
        targets = [self._live[name].to(self.weights[name].dtype) for name in self.averaged]
        torch._foreach_lerp_(self._averages, targets, share)  # pyright: ignore[reportPrivateImportUsage]
        for name in self._live.keys() - set(self.averaged):
            self.weights[name].copy_(self._live[name])


def power_of(sigma_rel: float) -> float:
    """The exponent gamma of the power profile ``s^gamma`` whose standard deviation is this share of the run.

    The variance of the law with density ``(gamma + 1) s^gamma`` on [0, 1] is (gamma + 1) / ((gamma + 2)^2 (gamma + 3)),
    so gamma is the largest root of a cubic.
    """
    largest = 12**-0.5  # of the plain mean, gamma = 0
    if not 0 < sigma_rel <= largest:
        raise ValueError(f"sigma_rel: expected a number in (0, {largest:.4f}], found {sigma_rel}.")
    inverse = sigma_rel**-2
    roots = np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse])
    return max(0.0, float(roots.real.max()))


def _master(tensor: Tensor) -> Tensor:
    """A copy that small increments do not get lost in."""
    return tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32), copy=True)


def snapshot(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the tensors, cut off from their module."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@torch.no_grad()
def write(targets: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copy values into the tensors of the same names, in place."""
    for name, target in targets.items():
        target.copy_(values[name])
