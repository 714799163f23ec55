"""Which drafts go on when their number changes."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clarkia.random import Noise, rand

Choice = Literal["multinomial", "systematic", "distinct"]


def survivors(
    log_weights: Float[Tensor, " n"], count: int, scheme: Choice = "multinomial", generator: Noise = None
) -> Int[Tensor, " count"]:
    """Draw as many of n drafts as wanted, in proportion to their weights.

    Args:
        log_weights: Up to a constant; where all are minus infinity every draft is as likely.
        count: How many.
        scheme: ``"multinomial"``: independently, with replacement; ``"systematic"``: each draft its expected number of
            times, up to one; ``"distinct"``: without replacement, one after the other.
        generator: Source of randomness.

    Returns:
        int64 ``(count,)``, ascending but for the multinomial scheme.

    Raises:
        ValueError: More distinct drafts than there are.
    """
    logits = torch.where(log_weights.amax() > -torch.inf, log_weights.double(), 0.0)
    device = logits.device
    if scheme == "distinct":
        if count > len(logits):
            raise ValueError(f"count: expected at most {len(logits)} distinct drafts, found {count}.")
        # The largest of the log-weights plus Gumbel noise are drawn one after the other without replacement.
        gumbel = -(-rand((len(logits),), generator, device=device).log()).log()
        order = torch.where(logits > -torch.inf, logits + gumbel, -torch.inf)
        return order.topk(count).indices.sort().values
    uniforms = rand((count if scheme == "multinomial" else 1,), generator, device=device)
    if scheme == "systematic":
        uniforms = (uniforms + torch.arange(count, device=device)) / count
    cumulative = logits.softmax(0).cumsum(0)
    threshold = torch.minimum(uniforms * cumulative[-1], torch.nextafter(cumulative[-1], torch.zeros_like(logits[0])))
    return torch.searchsorted(cumulative, threshold, right=True)
