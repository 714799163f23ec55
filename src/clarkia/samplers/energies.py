"""Energies of whole sequences: of a causal model, of a reward, their sum, and one that counts its calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clarkia.samplers.joint import Energy

CausalModel: TypeAlias = Callable[[Int[Tensor, "n L"]], Float[Tensor, "n L"]]
"""Log-probability of each class of a sequence given those before it, ``(n, L)``."""


def causal_residual(token_log_probs: CausalModel, *, carry_over: bool = False) -> Energy:
    """The energy by which a causal model corrects a masked denoiser; nothing is trained.

    It is ``-log p(x_0) + sum_i log p0_hat(x_0^i | x_t)``, and the corrected law is the causal model's own conditional
    law of the masked cells. With carry-over both sums run over masked cells alone. The corrected law is then the causal
    model run over the row with visible cells held: normalised, ``Z(x_t) = 1``, as long as the prediction excludes no
    class, which is what a likelihood needs; but blind to the visible cells behind each masked one, so that samples get
    worse with many candidates.

    Args:
        token_log_probs: ``token_log_probs(x_0) -> (n, L)``, such as `networks.Autoregressive.token_log_probs`.
        carry_over: Whether the factors of visible cells are left out.

    Source: Energy-Based Diffusion Language Models for Text Generation (2024).
    """

    def energy(x_0: Tensor, x_t: Tensor, t: Tensor, log_probs: Tensor) -> Float[Tensor, " n"]:
        causal = token_log_probs(x_0).double()
        drawn = log_probs.gather(-1, x_0.unsqueeze(-1)).squeeze(-1).double()
        # Every state but a clean class is the mask, so a visible cell is one that agrees with the candidate.
        masked = x_t != x_0
        kept = torch.where(masked, causal, 0.0) if carry_over else causal
        return torch.where(masked, drawn, 0.0).sum(1) - kept.sum(1)

    return energy


def from_reward(reward: Callable[[Tensor], Float[Tensor, " n"]], beta: float = 1.0) -> Energy:
    """The energy ``-reward(x_0) / beta``: the best of a few candidates at each step.

    Args:
        reward: ``reward(x_0) -> (n,)``.
        beta: Temperature of the tilt; the smaller, the more the reward counts.

    Raises:
        ValueError: A beta that is not positive.
    """
    if not beta > 0:
        raise ValueError(f"beta: expected a positive number, found {beta}.")

    def energy(x_0: Tensor, x_t: Tensor, t: Tensor, log_probs: Tensor) -> Float[Tensor, " n"]:
        return -reward(x_0) / beta

    return energy


def total(*energies: Energy) -> Energy:
    """The sum of several energies: what is drawn answers to all of them.

    Of the residual of a whole-row law and a reward it is steering: where the candidates are many, every step draws from
    the posterior of that law tilted by the reward.
    """

    def energy(x_0: Tensor, x_t: Tensor, t: Tensor, log_probs: Tensor) -> Float[Tensor, " n"]:
        return torch.stack([part(x_0, x_t, t, log_probs).double() for part in energies]).sum(0)

    return energy


class Counted:
    """An energy that counts how often it is asked: the price of a correction beside the denoiser's calls.

    Args:
        energy: The energy.

    Attributes:
        calls: How often it was called.
        rows: How many sequences it has seen in all.
    """

    def __init__(self, energy: Energy) -> None:
        self.calls = self.rows = 0
        self._energy = energy

    def __call__(self, x_0: Tensor, x_t: Tensor, t: Tensor, log_probs: Tensor) -> Float[Tensor, " n"]:
        """The energy of each row."""
        self.calls += 1
        self.rows += len(x_0)
        return self._energy(x_0, x_t, t, log_probs)
