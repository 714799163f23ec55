"""The score entropy of any corruption of categories: how far the model's reversal is from the one that knows the data.

For jump rates r of the time reversal that knows x0 and s of the model's, the divergence a unit of time is the sum of
``s - r + r log(r / s)`` over jumps. Integrated over time it is the negative evidence lower bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clarkia.objectives.draws import stratified
from clarkia.objectives.observed import Observed, draw_observed
from clarkia.processes import Discrete, spread
from clarkia.processes.discrete import one_hot
from clarkia.random import Noise
from clarkia.spaces import check_classes


def score_entropy(
    process: Discrete, x0: Int[Tensor, "n ..."], x_t: Int[Tensor, "n ..."], log_probs: Tensor, t: Tensor
) -> Float[Tensor, "n ..."]:
    """Divergence a unit of time of each cell, nats; 0 where the data let nothing jump.

    Args:
        process: Masks, uniform noise or any mixture path.
        x0: Clean classes.
        x_t: Noisy state.
        log_probs: The prediction, ``(n, ..., K_max)``; a network of concrete scores is turned into one by
            ``process.log_probs_from_score``.
        t: Time, ``(n,)`` or cell-wise.

    Source: Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution (2024).
    """
    known = torch.full_like(log_probs, -torch.inf).scatter(-1, x0.unsqueeze(-1), 0.0)
    r, s = process.rates(x_t, known, t), process.rates(x_t, log_probs, t)
    jump = r > 0
    ratio = torch.where(jump, r, 1.0) / torch.where(jump, s, 1.0)
    return (s - r + torch.where(jump, r * ratio.log(), 0.0)).sum(-1)


def score_entropy_of_scores(
    process: Discrete, x0: Int[Tensor, "n ..."], x_t: Int[Tensor, "n ..."], score: Tensor, t: Tensor
) -> Float[Tensor, "n ..."]:
    """The same for raw concrete scores ``(n, ..., K_max)``, which need not be those of any prediction.

    Only scores of other classes than the cell's own count. At alpha = 0, where a score says nothing, it is infinite.
    """
    known = torch.full_like(score, -torch.inf).scatter(-1, x0.unsqueeze(-1), 0.0)
    ratio = process.score(x_t, known, t)
    jump = ratio > 0
    inner = score - ratio + torch.where(jump, ratio * (torch.where(jump, ratio, 1.0) / score).log(), 0.0)
    inner = inner.masked_fill(one_hot(x_t, process.max_classes), 0.0).sum(-1)
    # A jump's rate is that of the opposite corruption, the same from every class, times its score.
    source = process.noise_probs(x_t.device).expand(*x_t.shape, -1).gather(-1, x_t.unsqueeze(-1)).squeeze(-1)
    rate = process.noising_rate(spread(t, x_t).double()) * source
    return torch.where(source > 0, rate, 0.0).to(inner.dtype) * inner


@dataclass(frozen=True)
class ScoreEntropy:
    """The negative bound of any corruption of categories at one time a row, uniform over the batch's strata; nats.

    For masks it is the weighted cross-entropy of `MaskedELBO`. For uniform noise its variance is least under a schedule
    that dwells near the data, such as ``PolynomialMask(k=2)``, which changes nothing else. There a prediction has to
    become certain as t falls to 0, or the bound is infinite: add ``process.log_emission(x_t, t)``, what a cell shows of
    its own class, to the logits of a network.

    Args:
        process: Masks, uniform noise or any mixture path; its schedule is taken as given, not trained.
        observed: Function ``(x0, generator) -> bool`` that says which cells are shown, at time 0, and left out.

    Source: Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution (2024).
    """

    process: Discrete
    observed: Observed | None = None

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
        return path_loss(self.process, score_entropy, self.observed, denoiser, x0, generator, condition)

    @torch.no_grad()
    def elbo(
        self, denoiser: Any, x0: Int[Tensor, "n ..."], generator: Noise = None, condition: Any = None
    ) -> Float[Tensor, " n"]:
        """One draw of every row's lower bound on ``log p(x0)``, all cells unknown, float64 nats.

        Raises:
            ValueError: A process that leaves a share of the data at t = 1; `measures.elbo` counts what that costs.
        """
        one = torch.ones(1, dtype=torch.float64, device=x0.device)
        if bool((self.process.alpha(one) > 1e-12).any()):
            raise ValueError("process: expected one that leaves nothing of the data at t = 1; use measures.elbo.")
        return -path_loss(self.process, score_entropy, None, denoiser, x0, generator, condition, torch.float64)


def path_loss(
    process: Discrete,
    divergence: Callable[..., Tensor],
    observed: Observed | None,
    denoiser: Any,
    x0: Int[Tensor, "n ..."],
    generator: Noise,
    condition: Any,
    dtype: torch.dtype | None = None,
    couple: Callable[[Tensor, Noise], Tensor] | None = None,
) -> Float[Tensor, " n"]:
    """A divergence ``(process, x0, x_t, log_probs, t) -> (n, ...)`` at a uniform time, summed over hidden cells.

    Args:
        process: The corruption.
        divergence: What is summed.
        observed: Which cells are shown, or None.
        denoiser: As in training.
        x0: Clean classes.
        generator: Source of randomness.
        condition: Handed to the denoiser where not None.
        dtype: Precision of the divergence; None for that of the prediction.
        couple: ``(x0, generator) -> x1``, the noise of each row where it goes with the data; None for the process's.
    """
    check_classes(x0, process.num_classes, "x0")
    t = 1 - stratified(len(x0), generator, device=x0.device)
    shown = draw_observed(observed, x0, generator)
    cells = t if shown is None else torch.where(shown, 0.0, spread(t, x0))
    with torch.no_grad():
        if couple is None:
            x_t = process.corrupt(x0, cells, generator=generator)
        else:
            x_t = process.corrupt(x0, cells, noise=couple(x0, generator), generator=generator)  # type: ignore[call-arg]
    seen = cells.to(torch.get_default_dtype())
    log_probs = denoiser(x_t, seen) if condition is None else denoiser(x_t, seen, condition)
    nats = divergence(process, x0, x_t, log_probs if dtype is None else log_probs.to(dtype), t)
    return (nats if shown is None else torch.where(shown, 0.0, nats)).reshape(len(x0), -1).sum(1)
