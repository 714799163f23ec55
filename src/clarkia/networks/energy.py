"""An energy of whole sequences given noisy ones: a transformer that starts from the denoiser it corrects."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from clarkia.networks.tokens import TokenTransformer


class EnergyHead(nn.Module):
    """Both sequences embedded and mixed, the denoiser's own blocks, their mean over the tokens, two layers.

    Every energy is zero at the start, which leaves the denoiser as it is.

    Args:
        base: The trained denoiser's network; its weights are copied, not shared.

    Raises:
        ValueError: A causal network.

    Source: Energy-Based Diffusion Language Models for Text Generation (2024).
    """

    def __init__(self, base: TokenTransformer) -> None:
        super().__init__()
        if base.causal:
            raise ValueError("base: expected a network whose tokens see all others, found a causal one.")
        width = base.head.in_features
        self.body = copy.deepcopy(base)
        self.body.requires_grad_(True)
        self.body.head = nn.Linear(width, width)
        self.mix = nn.Linear(2 * width, width)
        with torch.no_grad():  # the blocks see at first nearly what they were trained on, the noisy tokens
            self.mix.weight[:, :width] = torch.eye(width)
            self.mix.bias.zero_()
        self.out = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(self.out.weight)

    @property
    def time_independent(self) -> bool:
        """Whether the noise level is not looked at."""
        return self.body.time_independent

    def forward(
        self, x_0: Int[Tensor, "n l"], x_t: Int[Tensor, "n l"], t: Tensor, log_probs: Tensor | None = None
    ) -> Float[Tensor, " n"]:
        """The energy of each row.

        Args:
            x_0: Clean classes.
            x_t: Noisy ones, the mask being ``num_classes``.
            t: Time, ``(n,)`` or ``(n, l)``.
            log_probs: Not looked at; the other energies are.
        """
        h = self.mix(torch.cat([self.body.embedding(x_t), self.body.embedding(x_0)], dim=-1))
        h = self.body.hidden(h, t).float().mean(1)
        with torch.autocast(h.device.type, enabled=False):  # energies are differences of large numbers
            return self.out(self.body.head(h).relu()).squeeze(-1)
