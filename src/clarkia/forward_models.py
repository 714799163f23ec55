"""Denoisers of measurements that predict the signal behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from clarkia.processes import spread

ForwardModel: TypeAlias = Callable[[Tensor, Any], Tensor]
"""``forward(signal, view) -> measurement``: known and differentiable; a view says how each row is measured."""


class ThroughForward(nn.Module):
    """A denoiser of measurements of a signal that is never seen: ``x0_hat = forward(network(x_t, t, ...), view)``.

    The state is the noisy target measurement. The condition is a mapping with ``"target_view"``, how the target is
    measured, and whatever else the network looks at, by custom ``"context"`` and ``"context_view"``, another
    measurement of the same signal.

    Args:
        network: ``network(x_t, t, condition) -> signal``, one a row; it must look at ``t``, because what the target
            tells of the signal depends on its noise.
        forward: See `ForwardModel`.

    Source: Diffusion with Forward Models: Solving Stochastic Inverse Problems Without Direct Supervision (2023).
    """

    def __init__(self, network: nn.Module | Callable[..., Tensor], forward: ForwardModel) -> None:
        super().__init__()
        self.network, self.forward_model = network, forward

    def signal(self, x_t: Tensor, t: Tensor, condition: Mapping[str, Any]) -> Tensor:
        """The predicted signals, in the signal's own shape ``(n, ...)``."""
        return self.network(x_t, t, condition)

    def measure(self, signal: Tensor, view: Any) -> Tensor:
        """How signals look in a view."""
        return self.forward_model(signal, view)

    def forward(self, x_t: Tensor, t: Tensor, condition: Mapping[str, Any] | None = None) -> Tensor:
        """The predicted target measurement; elements at t = 0 come back as they are.

        Raises:
            ValueError: No condition, or one without a target view.
        """
        return self.both(x_t, t, condition)[1]

    def both(self, x_t: Tensor, t: Tensor, condition: Mapping[str, Any] | None = None) -> tuple[Tensor, Tensor]:
        """The predicted signal and its target measurement."""
        if condition is None or "target_view" not in condition:
            found = "none" if condition is None else f"one with {sorted(condition)}"
            raise ValueError(f"condition: expected a mapping with 'target_view', found {found}.")
        signal = self.signal(x_t, t, condition)
        x0_hat = self.measure(signal, condition["target_view"])
        if x0_hat.shape != x_t.shape:
            raise ValueError(
                f"forward: expected measurements of shape {tuple(x_t.shape)}, found {tuple(x0_hat.shape)}."
            )
        return signal, torch.where(spread(t, x_t) > 0, x0_hat, x_t)
