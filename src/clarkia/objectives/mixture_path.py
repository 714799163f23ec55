"""The loss of discrete flow matching: how far the model's velocity is from that of the path to the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clarkia.objectives.observed import Observed
from clarkia.objectives.score_entropy import path_loss
from clarkia.processes import Discrete, MixturePath, spread
from clarkia.random import Noise


def velocity_divergence(
    process: Discrete, x0: Int[Tensor, "n ..."], x_t: Int[Tensor, "n ..."], log_probs: Tensor, t: Tensor
) -> Float[Tensor, "n ..."]:
    """Divergence a unit of time between the mixture-path velocities that know the data and the model's, nats a cell.

    ``weight (-log p0_hat(x0))`` where the cell differs from the data and ``weight (1 - p0_hat(x_t))`` where it does
    not, with ``weight = -alpha' / (1 - alpha)``.

    Args:
        process: Masks or any mixture path.
        x0: Clean classes.
        x_t: Noisy state.
        log_probs: The prediction, ``(n, ..., K_max)``.
        t: Time, ``(n,)`` or cell-wise.

    Source: Flow Matching with General Discrete Paths: A Kinetic-Optimal Perspective (2024).
    """
    with torch.no_grad():
        weight = process.weight(spread(t, x0).double()).to(log_probs.dtype)
    here = x_t == x0
    nats = -log_probs.gather(-1, x0.unsqueeze(-1)).squeeze(-1)
    return weight * torch.where(here, 1 - torch.exp(-nats), nats)


@dataclass(frozen=True)
class DiscreteFlowMatching:
    """Generalised divergence of mixture-path velocities at one time a row, uniform over the batch's strata; nats.

    A negative bound for the jump process of these velocities (`samplers.MixtureStep`). For masks it is that of
    `MaskedELBO`; for uniform noise it lies above the score entropy, because the path to the data is another process
    than the reversed corruption.

    Args:
        process: Masks or any mixture path; its schedule is taken as given, not trained.
        observed: Function ``(x0, generator) -> bool`` that says which cells are shown, at time 0, and left out.
        couple: ``(x0, generator) -> x1`` that draws the source of each row where it goes with the data; None draws it
            from the process's own, independently. For mixture paths only.

    Raises:
        ValueError: A coupling with a process that is no mixture path.

    Sources: Discrete Flow Matching (2024); Flow Matching with General Discrete Paths: A Kinetic-Optimal Perspective
    (2024).
    """

    process: Discrete
    observed: Observed | None = None
    couple: Callable[[Tensor, Noise], Tensor] | None = None

    def __post_init__(self) -> None:
        if self.couple is not None and not isinstance(self.process, MixturePath):
            raise ValueError(f"couple: expected None with a {type(self.process).__name__} process.")

    def __call__(
        self, denoiser: Any, x0: Int[Tensor, "n ..."], generator: Noise = None, condition: Any = None
    ) -> Float[Tensor, " n"]:
        """Loss of every row.

        Args:
            denoiser: ``denoiser(x_t, t, condition=None) -> log_probs``.
            x0: Clean classes.
            generator: Source of randomness.
            condition: Handed to the denoiser where not None.
        """
        return path_loss(
            *(self.process, velocity_divergence, self.observed, denoiser, x0, generator, condition), couple=self.couple
        )
