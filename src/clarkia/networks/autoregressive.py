"""A causal token network as a distribution: exact log-probabilities, and samples one token at a time."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from clarkia.networks.conditioning import Condition
from clarkia.networks.tokens import TokenTransformer
from clarkia.networks.transformer import KeyValueCache
from clarkia.random import Noise, choose, rand


class Autoregressive(nn.Module):
    """The autoregressive twin of a masked denoiser: the same network with causal attention, shifted by one token.

    The mask's embedding is the start token, so both have the same weights but for the anchor of the other.

    Args:
        network: With ``causal=True``.

    Raises:
        ValueError: A network that is not causal.
    """

    def __init__(self, network: TokenTransformer) -> None:
        super().__init__()
        if not network.causal:
            raise ValueError("network: expected one with causal=True, found one whose tokens see those after them.")
        self.network = network

    def forward(self, x: Int[Tensor, "n l"], condition: Condition | None = None) -> Float[Tensor, "n l k"]:
        """Log-probabilities of every class at each place, given the tokens before it."""
        start = torch.full_like(x[:, :1], self.network.num_classes)
        logits = self.network(torch.cat([start, x[:, :-1]], dim=1), condition=condition)
        return logits.float().log_softmax(-1)

    def token_log_probs(self, x: Int[Tensor, "n l"], condition: Condition | None = None) -> Float[Tensor, "n l"]:
        """Log-probability of each token given those before it; minus their sum is the loss to train with."""
        return self(x, condition).gather(-1, x.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, x: Int[Tensor, "n l"], condition: Condition | None = None) -> Float[Tensor, " n"]:
        """Log-probability of each sequence, exact, float64 nats ``(n,)``."""
        return self.token_log_probs(x, condition).double().sum(1)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        generator: Noise = None,
        *,
        prefix: Int[Tensor, "n m"] | None = None,
        length: int | None = None,
        condition: Condition | None = None,
    ) -> Int[Tensor, "n l"]:
        """Draw sequences, in float64; each token costs one token's pass through the network.

        Args:
            n: Number of sequences.
            generator: Source of randomness.
            prefix: How they begin, ``(n, m)`` or one row for all.
            length: Their length, prefix included; by default the network's longest.
            condition: One a row, as the network declares.

        Raises:
            ValueError: A length that the network has not or that the prefix exceeds.
        """
        network, device = self.network, self.network.head.weight.device
        length = network.length if length is None else length
        given = torch.empty(n, 0, dtype=torch.int64) if prefix is None else prefix.expand(n, -1)
        if not given.shape[1] <= length <= network.length:
            raise ValueError(f"length: expected {given.shape[1]} to {network.length} tokens, found {length}.")
        caches = [KeyValueCache.empty(block.attention, n, length) for block in network.blocks]  # type: ignore[arg-type]
        start = torch.full((n, 1), network.num_classes, dtype=torch.int64)
        x = torch.cat([start, given], dim=1).to(device)
        fresh = x
        while x.shape[1] <= length:
            h = network.hidden(network.embedding(fresh), None, condition, caches)[:, -1]
            log_probs = network.head(h).double().log_softmax(-1)
            fresh = choose(log_probs, rand((n,), generator, device=device)).unsqueeze(1)
            x = torch.cat([x, fresh], dim=1)
        return x[:, 1:]
