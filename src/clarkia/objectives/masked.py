"""The evidence lower bound of masked diffusion, by four estimators of one number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clarkia.objectives.draws import stratified
from clarkia.objectives.observed import Observed, draw_observed
from clarkia.objectives.score_entropy import score_entropy
from clarkia.processes import Masked, spread
from clarkia.random import Noise, rand
from clarkia.spaces import check_classes

Estimator: TypeAlias = Literal["count", "lambda", "time", "score"]
Reduction: TypeAlias = Literal["bound", "mean"]


@dataclass(frozen=True)
class MaskDraw:
    """One draw of corruption for n rows of any shape.

    Attributes:
        masked: bool, of the shape of the data.
        t: float64 ``(n,)``, the time that each row has reached.
        weight: float64, broadcastable against the data: factor of each masked cell's nats.
    """

    masked: Bool[Tensor, "n ..."]
    t: Float[Tensor, " n"]
    weight: Float[Tensor, "n ..."]


@dataclass(frozen=True)
class MaskedELBO:
    """The negative bound of masked diffusion, nats a row: a weighted cross-entropy of the masked cells.

    With L cells that are not observed, four draws have one expectation, whatever the schedule:

        count   c of them are masked, c uniform in 1 ... L; the nats weigh L / c. The least variance.
        lambda  each is masked with a probability lambda, uniform in (0, 1]; the nats weigh 1 / lambda.
        time    t is uniform in (0, 1], each is masked with probability 1 - alpha; the nats weigh -alpha' / (1 - alpha).
        score   the same draw; the score entropy of the concrete score, as a network of scores is trained.

    Levels are stratified over the batch. No level is cut off: masks are as rare as their weights are large.

    Args:
        process: The masked process; its schedule is taken as given, not trained. ``"count"`` and ``"lambda"`` need one
            schedule for all positions, and tell a denoiser that reads it the time at which so much is masked.
        estimator: Which draw.
        reduction: ``"bound"``; or ``"mean"``, the mean nats of the masked cells without their weight, which is better
            conditioned and has the same minimum only where the denoiser can be exact.
        observed: Function ``(x0, generator) -> bool`` that says which cells are shown, at time 0, and left out; see
            `RandomSpans`. None shows none.

    Raises:
        ValueError: An unknown estimator or reduction, ``"mean"`` with ``"score"``, or a schedule that does not fit.

    Sources: Simple and Effective Masked Diffusion Language Models (2024); Your Absorbing Discrete Diffusion Secretly
    Models the Conditional Distributions of Clean Data (2024).
    """

    process: Masked
    estimator: Estimator = "count"
    reduction: Reduction = "bound"
    observed: Observed | None = None

    def __post_init__(self) -> None:
        if self.estimator not in get_args(Estimator):
            raise ValueError(f"estimator: expected one of {list(get_args(Estimator))}, found {self.estimator!r}.")
        if self.reduction not in get_args(Reduction):
            raise ValueError(f"reduction: expected one of {list(get_args(Reduction))}, found {self.reduction!r}.")
        if self.estimator == "score" and self.reduction == "mean":
            raise ValueError("reduction: expected 'bound' with the estimator 'score', found 'mean'.")
        one_a_position = self.process.alpha(torch.full((1,), 0.5)).numel() > 1
        if one_a_position and self.estimator in ("count", "lambda"):
            raise ValueError("estimator: expected 'time' or 'score' for a schedule a position, found a draw of counts.")

    def __call__(
        self, denoiser: Any, x0: Int[Tensor, "n ..."], generator: Noise = None, condition: Any = None
    ) -> Float[Tensor, " n"]:
        """Loss of every row; its expectation over draws and data is what training minimises.

        Args:
            denoiser: ``denoiser(x_t, t, condition=None) -> log_probs``; t is ``(n,)``, or of the shape of the data
                with 0 at observed cells.
            x0: Clean classes.
            generator: Source of randomness.
            condition: Handed to the denoiser where not None.
        """
        check_classes(x0, self.process.num_classes, "x0")
        return self._loss(denoiser, x0, draw_observed(self.observed, x0, generator), generator, condition)

    @torch.no_grad()
    def elbo(
        self, denoiser: Any, x0: Int[Tensor, "n ..."], generator: Noise = None, condition: Any = None
    ) -> Float[Tensor, " n"]:
        """One unbiased draw of every row's lower bound on ``log p(x0)``, all cells unknown, float64 nats.

        Raises:
            ValueError: ``"time"`` or ``"score"`` under a schedule that is not all visible at 0 and all masked at 1.
        """
        check_classes(x0, self.process.num_classes, "x0")
        ends = torch.tensor([1e-300, 1.0], dtype=torch.float64, device=x0.device)
        visible = self.process.alpha(ends).reshape(2, -1)
        whole = bool((visible[0] == 1).all()) and bool((visible[1] < 1e-12).all())
        if self.estimator in ("time", "score") and not whole:
            raise ValueError("process: expected a schedule from 1 to 0 for a bound in time; use the estimator 'count'.")
        bound = MaskedELBO(self.process, self.estimator)
        return -bound._loss(denoiser, x0, None, generator, condition, torch.float64)

    def corruption(
        self, x0: Int[Tensor, "n ..."], u: Float[Tensor, " n"], own: Float[Tensor, "n cells"], observed: Tensor | None
    ) -> MaskDraw:
        """The draw that uniform numbers mean.

        Args:
            x0: Clean classes.
            u: One number in [0, 1) a row.
            own: One in [0, 1) a cell of the flattened row.
            observed: bool, of the shape of the data, or None.
        """
        hidden = torch.ones_like(own, dtype=torch.bool) if observed is None else ~observed.reshape(own.shape)
        if self.estimator in ("time", "score"):
            t = 1 - u
            level = (1 - self.process.alpha(spread(t, x0))).expand(x0.shape).reshape(own.shape)
            weight = self.process.weight(spread(t, x0))
            return MaskDraw((hidden & (own < level)).reshape(x0.shape), t, weight)
        if self.estimator == "lambda":
            level = (1 - u).unsqueeze(1)
            masked, weight = hidden & (own < level), 1 / level
        else:
            # The level is the c-th smallest of L uniform numbers: its law given c, for denoisers that read the time.
            own = own.masked_fill(~hidden, torch.inf)
            cells = hidden.sum(1, keepdim=True)
            count = torch.minimum((u.unsqueeze(1) * cells).long() + 1, cells)
            level = own.sort(1).values.gather(1, (count - 1).clamp(min=0))
            masked, weight = hidden & (own <= level), cells.double() / count.clamp(min=1)
        t = self.process.schedule.t_of_alpha(1 - level[:, 0].clamp(max=1)).clamp(0, 1)
        return MaskDraw(masked.reshape(x0.shape), t, weight.double().reshape(-1, *(1,) * (x0.ndim - 1)))

    def value(
        self,
        denoiser: Any,
        x0: Int[Tensor, "n ..."],
        draw: MaskDraw,
        observed: Tensor | None = None,
        condition: Any = None,
        dtype: torch.dtype | None = None,
    ) -> Float[Tensor, " n"]:
        """Loss of every row for a given draw, in the precision of the prediction or the one asked for."""
        x_t = torch.where(draw.masked, self.process.mask_state(x0.device), x0)
        t = draw.t.to(torch.get_default_dtype())
        if observed is not None:
            t = torch.where(observed, 0.0, spread(t, x0))
        log_probs = denoiser(x_t, t) if condition is None else denoiser(x_t, t, condition)
        log_probs = log_probs if dtype is None else log_probs.to(dtype)
        if self.estimator == "score":
            return score_entropy(self.process, x0, x_t, log_probs, draw.t).reshape(len(x0), -1).sum(1)
        nats = -log_probs.gather(-1, x0.unsqueeze(-1)).squeeze(-1)
        nats = torch.where(draw.masked, nats, 0.0)
        if self.reduction == "mean":
            return nats.reshape(len(x0), -1).sum(1) / draw.masked.reshape(len(x0), -1).sum(1).clamp(min=1)
        return (nats * draw.weight.to(nats.dtype)).reshape(len(x0), -1).sum(1)

    def _loss(
        self,
        denoiser: Any,
        x0: Tensor,
        observed: Tensor | None,
        generator: Noise,
        condition: Any,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        u = stratified(len(x0), generator, device=x0.device)
        own = rand((len(x0), x0[:1].numel()), generator, device=x0.device)
        with torch.no_grad():
            draw = self.corruption(x0, u, own, observed)
        return self.value(denoiser, x0, draw, observed, condition, dtype)
