"""How far the statistics of features inside a network are from those of the data it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Means and variances by channel of what enters some layers, over rows and positions.

    Attributes:
        layers: Names of the layers.
        means: Of each layer's input, ``(channels,)``.
        variances: Likewise.

    Source: Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (2020).
    """

    layers: tuple[str, ...]
    means: tuple[Tensor, ...]
    variances: tuple[Tensor, ...]

    @classmethod
    def of_batch_norm(cls, model: nn.Module) -> FeatureStatistics:
        """The running statistics that batch norm layers keep.

        Raises:
            ValueError: A model without such layers: `record` its statistics on the training rows instead.
        """
        found = {name: part for name, part in model.named_modules() if isinstance(part, NORMS)}
        kept = [(part.running_mean, part.running_var) for part in found.values()]
        pairs = [
            (mean.detach().clone(), var.detach().clone()) for mean, var in kept if mean is not None and var is not None
        ]
        if not pairs or len(pairs) < len(found):
            raise ValueError("model: expected batch norm layers with running statistics, found none: use record.")
        means, variances = zip(*pairs, strict=True)
        return cls(tuple(found), means, variances)

    @classmethod
    @torch.no_grad()
    def record(cls, model: nn.Module, layers: Sequence[str], x: Float[Tensor, "n ..."]) -> FeatureStatistics:
        """The statistics of a model of any kind on some rows.

        Args:
            model: In the mode it is wanted in.
            layers: Names of its layers.
            x: Training rows.

        Raises:
            ValueError: A layer that the model does not have.
        """
        known = dict(model.named_modules())
        unknown = [name for name in layers if name not in known]
        if unknown or not layers:
            raise ValueError(f"layers: expected names of the model's layers, found {unknown or 'none'}.")
        with _Tap(model, layers) as tap:
            model(x)
        means, variances = zip(*(_moments(tap.inputs[name]) for name in layers), strict=True)
        return cls(tuple(layers), means, variances)

    def distance(self, model: nn.Module, x: Float[Tensor, "n ..."]) -> tuple[Tensor, Float[Tensor, ""]]:
        """The model's answer for some rows, and how far their statistics are from these.

        Args:
            model: The model.
            x: Rows; their statistics are taken over all of them together.

        Returns:
            ``model(x)``, and the sum over layers of the Euclidean distances of means and of variances.
        """
        with _Tap(model, self.layers) as tap:
            answer = model(x)
        total = answer.new_zeros(())
        for name, mean, variance in zip(self.layers, self.means, self.variances, strict=True):
            own_mean, own_variance = _moments(tap.inputs[name])
            total = total + (own_mean - mean).norm() + (own_variance - variance).norm()
        return answer, total


class _Tap:
    """The inputs of some layers during a pass."""

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        self.parts = {name: model.get_submodule(name) for name in layers}
        self.inputs: dict[str, Tensor] = {}

    def __enter__(self) -> _Tap:
        def keeper(name: str):
            def keep(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
                self.inputs[name] = arguments[0]

            return keep

        self.handles = [part.register_forward_pre_hook(keeper(name)) for name, part in self.parts.items()]
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self.handles:
            handle.remove()


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance by channel."""
    axes = [axis for axis in range(x.ndim) if axis != 1]
    return x.mean(axes), x.var(axes, unbiased=False)
