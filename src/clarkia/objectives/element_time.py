"""The loss of tokens in embedding space that each have a time of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clarkia.objectives.draws import stratified
from clarkia.processes.token_embedding import TokenEmbeddingGaussian
from clarkia.random import Noise, rand
from clarkia.schedules.element_time import PoissonElementTime

LEAST_TIME = 1e-12
"""Time of a token of count 0: the least noise of the schedule, where t = 0 would be a token that is shown."""


@dataclass(frozen=True)
class ElementTimeDenoising:
    """Squared error of the vectors, cross-entropy of the tokens, and the loss of a predictor of their times.

    The cross-entropy keeps embeddings from falling together. The predictor learns, from what the denoiser says, the
    times at which the tokens' own losses would be in order: the hardest token the latest of the row's law of times.

    Args:
        process: The corruption, with its embedding.
        times: Law of the tokens' times given the row's.
        logits: From predicted vectors ``(n, L, e)`` to logits ``(n, L, K)``.
        predictor: `networks.TimePredictor`, ``predictor(x0_hat, t, *context) -> (n, L)``; None for none.
        context: From the condition to what the predictor is given beside; None for nothing.
        label_smoothing: Of the cross-entropy.
        self_condition: Share of the rows whose denoiser is shown its own first answer: inputs are then ``(n, L, 2 e)``,
            the second half that answer or zeros. 0 leaves the inputs alone.
        padding: Class that fills rows up; its tokens count in no loss. None for none.

    Source: Unifying Continuous and Discrete Text Diffusion with Non-simultaneous Diffusion Processes (2025).
    """

    process: TokenEmbeddingGaussian
    times: PoissonElementTime
    logits: Callable[[Tensor], Tensor]
    predictor: Callable[..., Tensor] | None = None
    context: Callable[[Any], tuple[Any, ...]] | None = None
    label_smoothing: float = 0.1
    self_condition: float = 0.5
    padding: int | None = None

    def __post_init__(self) -> None:
        for name in ("label_smoothing", "self_condition"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a number from 0 to 1, found {getattr(self, name)}.")

    def __call__(
        self, denoiser: Any, x0: Int[Tensor, "n l"], generator: Noise = None, condition: Any = None
    ) -> dict[str, Float[Tensor, " n"]]:
        """Losses of every row, ``"vectors"``, ``"tokens"`` and with a predictor ``"times"``, to be minimised together.

        Args:
            denoiser: ``denoiser(z, t, condition=None) -> x0_hat (n, L, e)`` with times ``(n, L)``.
            x0: Tokens.
            generator: Source of randomness.
            condition: Handed to the denoiser where not None.
        """
        n, length = x0.shape
        row = 1 - stratified(n, generator, device=x0.device)
        tau = self.times.quantile(rand((n, length), generator, device=x0.device), row)
        t = (tau / self.times.max_tau).clamp(min=LEAST_TIME).to(torch.get_default_dtype())
        z = self.process.corrupt(x0, t, generator=generator)
        asked = (denoiser,) if condition is None else (denoiser, condition)
        x0_hat = self._answer(asked, z, t, generator)
        real = torch.ones_like(x0, dtype=torch.bool) if self.padding is None else x0 != self.padding
        square = (x0_hat - self.process.embed(x0)).square().mean(-1)
        nats = self._nats(x0_hat, x0)
        losses = {"vectors": _mean_of(square, real), "tokens": _mean_of(nats, real)}
        if self.predictor is not None:
            context = () if self.context is None else self.context(condition)
            label = time_labels(self.times, (square + nats).detach(), row, real)
            found = self.predictor(x0_hat.detach(), row.to(x0_hat.dtype), *context)
            losses["times"] = _mean_of((found - label.to(found.dtype)).square(), real)
        return losses

    def _answer(self, asked: tuple[Any, ...], z: Tensor, t: Tensor, generator: Noise) -> Tensor:
        denoiser, *condition = asked
        if self.self_condition == 0:
            return denoiser(z, t, *condition)
        nothing = torch.zeros_like(z)
        with torch.no_grad():
            first = denoiser(torch.cat([z, nothing], -1), t, *condition)
        shown = rand((len(z), 1, 1), generator, device=z.device) < self.self_condition
        return denoiser(torch.cat([z, torch.where(shown, first, nothing)], -1), t, *condition)

    def _nats(self, x0_hat: Tensor, x0: Tensor) -> Tensor:
        log_probs = self.logits(x0_hat).log_softmax(-1)
        true = -log_probs.gather(-1, x0.unsqueeze(-1)).squeeze(-1)
        return (1 - self.label_smoothing) * true - self.label_smoothing * log_probs.mean(-1)


def time_labels(
    times: PoissonElementTime, losses: Float[Tensor, "n l"], t: Float[Tensor, " n"], real: Bool[Tensor, "n l"]
) -> Float[Tensor, "n l"]:
    """The times, as shares of the largest, that put the tokens of a row in the order of their losses.

    Args:
        times: Law of the times given the row's.
        losses: A loss a token.
        t: Time of the row.
        real: Which tokens count; others come last and have no say.
    """
    ranked = losses.masked_fill(~real, torch.inf)
    rank = ranked.argsort(dim=1, stable=True).argsort(1)
    share = (rank.double() + 0.5) / real.sum(1, keepdim=True).clamp(min=1)
    return times.quantile(share.clamp(max=1 - 2**-53), t).double() / times.max_tau


def _mean_of(values: Tensor, real: Tensor) -> Tensor:
    return torch.where(real, values, 0.0).sum(1) / real.sum(1).clamp(min=1)
