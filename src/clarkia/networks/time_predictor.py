"""Which tokens are how far: a small head that reads the times of tokens off what is predicted of them."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class ScaledEmbedding(nn.Module):
    """A trained table of vectors whose numbers have mean square about one, which also turns vectors into logits.

    Args:
        num_classes: K.
        size: Numbers a vector, e.
        normalised: Give every vector mean 0 and mean square 1 exactly.

    Source: Unifying Continuous and Discrete Text Diffusion with Non-simultaneous Diffusion Processes (2025).
    """

    def __init__(self, num_classes: int, size: int, *, normalised: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_classes, size) / math.sqrt(size))
        self.normalised = normalised

    def table(self) -> Float[Tensor, "k e"]:
        """The vectors."""
        scaled = math.sqrt(self.weight.shape[1]) * self.weight
        return nn.functional.layer_norm(scaled, scaled.shape[1:]) if self.normalised else scaled

    def logits(self, x0_hat: Float[Tensor, "n l e"]) -> Float[Tensor, "n l k"]:
        """Logits of the classes of predicted vectors, by the same table."""
        return x0_hat @ self.table().mT

    def forward(self, x: Int[Tensor, "n l"]) -> Float[Tensor, "n l e"]:
        """The vectors of tokens."""
        return nn.functional.embedding(x, self.table())


class TimePredictor(nn.Module):
    """Times of tokens in [0, 1] from the predicted vectors, the row's own time and, where given, a source sequence.

    One transformer layer; its input is cut off from the network that made it.

    Args:
        size: Numbers a predicted vector, e.
        width: Width of the layer.
        heads: Heads of its attention.
        max_length: Longest sequence.
        source_size: Numbers a vector of the source sequence; None for none.
    """

    def __init__(
        self, size: int, *, width: int = 128, heads: int = 4, max_length: int = 512, source_size: int | None = None
    ) -> None:
        super().__init__()
        self.tokens = nn.Linear(size, width)
        self.time = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width))
        self.places = nn.Parameter(0.02 * torch.randn(max_length, width))
        self.source = None if source_size is None else nn.Linear(source_size, width)
        self.layer = nn.TransformerDecoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.out = nn.Linear(width, 1)

    def forward(
        self,
        x0_hat: Float[Tensor, "n l e"],
        t: Float[Tensor, " n"],
        source: Float[Tensor, "n m e"] | None = None,
        source_mask: Bool[Tensor, "n m"] | None = None,
    ) -> Float[Tensor, "n l"]:
        """Times of the tokens at which the row's own time is t.

        Args:
            x0_hat: Predicted vectors.
            t: Time of the row, in [0, 1].
            source: Vectors of the source sequence.
            source_mask: True where a source token is real; None for all.
        """
        row = self.time(t.to(x0_hat.dtype).reshape(-1, 1)).unsqueeze(1)
        h = self.tokens(x0_hat.detach()) + row + self.places[: x0_hat.shape[1]]
        memory, mask = row, None
        if self.source is not None and source is not None:
            memory = torch.cat([row, self.source(source.detach())], 1)
            if source_mask is not None:
                mask = torch.cat([torch.zeros_like(source_mask[:, :1]), ~source_mask], 1)
        return torch.sigmoid(self.out(self.layer(h, memory, memory_key_padding_mask=mask)).squeeze(-1))


def element_policy(predictor: Any, *context: Any) -> Any:
    """A policy of `samplers.ElementTime` from a predictor: times of tokens from the prediction and the row's time.

    Args:
        predictor: `TimePredictor`, or any function of the prediction, the row's time and the context.
        context: Handed to it after these, such as the source and its mask.
    """

    def policy(x0_hat: Float[Tensor, "n l e"], t: Float[Tensor, " n"]) -> Float[Tensor, "n l"]:
        return predictor(x0_hat, t, *context).clamp(0, 1)

    return policy
