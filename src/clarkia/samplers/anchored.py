"""Anchored decoding: a masked model restores what a measurement was taken of, its surest tokens first."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from clarkia.processes import Masked, spread
from clarkia.random import Noise, categorical, rand
from clarkia.samplers.solver import Evaluate, require


@dataclass(frozen=True, eq=False)
class Anchored:
    """Fits the predicted classes to a measurement before each step, and keeps the ones that come out most probable.

    Before each step the logits of all masked cells are optimised, from the prediction on, for

        -log_likelihood(sum_k p_k codes_k) + kl KL(p || p0_hat),        p = softmax(logits),

    by Adam with a fresh state; no gradient passes through the denoiser. Each masked cell then gets its likeliest class,
    the cells are ranked by its probability, and ``ceil(masked (1 - s / t))`` of them stay: on an even grid the same
    number each step. What is revealed anchors the next prediction. The result is an estimate of the likeliest data,
    not a sample from their posterior.

    Args:
        log_likelihood: ``log_likelihood(codes) -> (n,)`` of the code vectors of all cells, ``(n, ..., d)``:
            decoder, operator and noise in one; differentiable.
        codes: The code vector of every class, ``(K, d)``.
        relaxation: What is decoded while optimising: ``"soft"`` the expected code; ``"quantized"`` the code nearest to
            it, with the gradient of the expectation; ``"gumbel"`` the expectation under noisy logits. Which is best
            depends on how the decoder behaves between codes.
        num_iterations: Steps of Adam.
        learning_rate: Of Adam.
        kl: Weight of the tie to the prediction.
        select: Rank by the fitted probability, by the predicted one, or at random.
        draw: ``"sample"`` draws each cell's class from the fit instead.
        keep_best: End with the iterate of least loss rather than the last.
        remask_below: Before a step, anchors less probable than this return to the mask; 0 keeps every anchor. An
            anchor's probability is what a fit of all cells gives its class, from a prediction made without it: every
            other anchor is masked, then the rest, which in a Markov chain is the law given all other anchors. Three
            more predictions and one more fit a step. Cells at t = 0 are known and stay.

    Raises:
        ValueError: An unknown choice, negative counts or weights, a probability outside [0, 1]; in use, a likelihood
            of another shape than ``(n,)``.

    Source: Test-Time Anchoring for Discrete Diffusion Posterior Sampling (2025).
    """

    log_likelihood: Callable[[Tensor], Float[Tensor, " n"]]
    codes: Float[Tensor, "k d"]
    relaxation: Literal["soft", "quantized", "gumbel"] = "soft"
    num_iterations: int = 100
    learning_rate: float = 0.1
    kl: float = 1.0
    select: Literal["posterior", "prior", "random"] = "posterior"
    draw: Literal["argmax", "sample"] = "argmax"
    keep_best: bool = False
    remask_below: float = 0.0

    def __post_init__(self) -> None:
        choices = {
            "relaxation": ("soft", "quantized", "gumbel"),
            "select": ("posterior", "prior", "random"),
            "draw": ("argmax", "sample"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected one of {list(known)}, found {getattr(self, name)!r}.")
        for name in ("num_iterations", "learning_rate", "kl"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: expected a number from 0 on, found {getattr(self, name)}.")
        if not 0 <= self.remask_below <= 1:
            raise ValueError(f"remask_below: expected a number from 0 to 1, found {self.remask_below}.")
        if self.codes.ndim != 2:
            raise ValueError(f"codes: expected shape (classes, d), found {tuple(self.codes.shape)}.")

    def init(self, x: Tensor, process: Masked, generator: Noise = None) -> None:
        """Nothing to carry."""
        require(process, Masked, "Anchored")
        if process.max_classes != len(self.codes):
            raise ValueError(f"codes: expected {process.max_classes} of them, one a class, found {len(self.codes)}.")

    def step(
        self, denoise: Evaluate, process: Masked, x: Tensor, t: Tensor, s: Tensor, carry: None, generator: Noise = None
    ) -> tuple[Tensor, None]:
        """The state with its doubtful anchors masked and the surest of its masked cells revealed."""
        anchors = ~process.is_masked(x) & (spread(t, x) > spread(s, x))
        if self.remask_below > 0 and bool(anchors.any()):
            log_probs = self.fitted(_unanchored(denoise, process, x, t, anchors), generator)
            doubtful = anchors & (_of(x, log_probs) < math.log(self.remask_below))
            x = torch.where(doubtful, process.mask_state(x.device), x)
        masked = process.is_masked(x)
        log_prior = denoise(x, t).double()
        if not bool(masked.any()):
            return x, None
        log_probs = self.fitted(log_prior, generator)
        classes = log_probs.argmax(-1) if self.draw == "argmax" else categorical(log_probs, generator)
        ranked = self._ranking(log_probs, log_prior, classes, generator)
        left = _by_row(s, len(x)) / _by_row(t, len(x)).clamp(min=torch.finfo(torch.float64).tiny)
        number = torch.ceil(masked.flatten(1).sum(1) * (1 - left) - 1e-9)  # the grid's rounding is no further cell
        revealed = _first(ranked.masked_fill(~masked, -torch.inf), number) & masked
        return torch.where(revealed, classes, x), None

    def fitted(self, log_prior: Float[Tensor, "n ... k"], generator: Noise = None) -> Float[Tensor, "n ... k"]:
        """The log-probabilities that fit the measurement, from predicted ones; certain cells stay certain."""
        leaf = torch.zeros_like(log_prior, requires_grad=True)
        adam = torch.optim.Adam([leaf], lr=self.learning_rate)
        best = leaf.detach().clone()
        least = torch.full((len(log_prior),), torch.inf, dtype=log_prior.dtype, device=log_prior.device)
        for turn in range(self.num_iterations + 1):
            if turn == self.num_iterations and not self.keep_best:
                return (log_prior + leaf.detach()).log_softmax(-1)
            with torch.enable_grad():
                loss = self.loss(log_prior, leaf, generator)
                (leaf.grad,) = torch.autograd.grad(loss.sum(), leaf)
            better = loss.detach() < least
            least = torch.where(better, loss.detach(), least)
            best = torch.where(better.reshape(-1, *(1,) * (leaf.ndim - 1)), leaf.detach(), best)
            adam.step()
        return (log_prior + best).log_softmax(-1)

    def loss(self, log_prior: Tensor, shift: Tensor, generator: Noise = None) -> Float[Tensor, " n"]:
        """What is minimised over shifts of the predicted log-probabilities, a number a row."""
        logits = log_prior + shift
        noisy = logits
        if self.relaxation == "gumbel":
            noisy = logits - (-rand(logits.shape, generator, device=logits.device).log()).log()
        decoded = self._codes(noisy.softmax(-1))
        value = self.log_likelihood(decoded)
        if value.shape != (len(logits),):
            raise ValueError(f"log_likelihood: expected shape ({len(logits)},), found {tuple(value.shape)}.")
        # log p - log p0_hat is the shift less a normaliser: finite also at classes that are impossible.
        gap = shift - logits.logsumexp(-1, keepdim=True) + log_prior.logsumexp(-1, keepdim=True)
        # Probabilities add to one, so how the gap itself moves adds nothing; left out, the tie pulls at its own
        # minimum by nothing at all, which the optimiser would otherwise blow up.
        divergence = (logits.softmax(-1) * gap.detach()).flatten(1).sum(1)
        return self.kl * divergence - value

    def _codes(self, p: Float[Tensor, "n ... k"]) -> Float[Tensor, "n ... d"]:
        codes = self.codes.to(p)
        expected = p @ codes
        if self.relaxation != "quantized":
            return expected
        nearest = codes[torch.cdist(expected.detach().flatten(0, -2), codes).argmin(-1)].view(expected.shape)
        return expected + (nearest - expected).detach()

    def _ranking(self, log_probs: Tensor, log_prior: Tensor, classes: Tensor, generator: Noise) -> Tensor:
        if self.select == "random":
            return rand(classes.shape, generator, device=classes.device)
        source = log_probs if self.select == "posterior" else log_prior
        return _of(classes, source)


def _unanchored(
    denoise: Evaluate, process: Masked, x: Tensor, t: Tensor, anchors: Bool[Tensor, "n ..."]
) -> Float[Tensor, "n ... k"]:
    """The prediction, that of each anchor made without it: every other one is masked, then the rest."""
    log_prior = denoise(x, t).double()
    turn = anchors.flatten(1).cumsum(1).view(x.shape) % 2
    for one in (1, 0):
        hidden = anchors & (turn == one)
        without = denoise(torch.where(hidden, process.mask_state(x.device), x), t).double()
        log_prior = torch.where(hidden.unsqueeze(-1), without, log_prior)
    return log_prior


def _of(classes: Tensor, log_probs: Float[Tensor, "n ... k"]) -> Float[Tensor, "n ..."]:
    """The log-probability of each cell's class; of a masked cell, that of its last one."""
    return log_probs.gather(-1, classes.clamp(max=log_probs.shape[-1] - 1).unsqueeze(-1)).squeeze(-1)


def _first(priority: Float[Tensor, "n ..."], number: Float[Tensor, " n"]) -> Bool[Tensor, "n ..."]:
    """The cells of highest priority, as many a row as there should be."""
    flat = priority.flatten(1)
    order = torch.argsort(flat, dim=1, descending=True, stable=True)
    first = torch.arange(flat.shape[1], device=flat.device) < number.unsqueeze(1)
    return torch.zeros_like(first).scatter(1, order, first).view(priority.shape)


def _by_row(t: Tensor, rows: int) -> Float[Tensor, " n"]:
    """A row's latest time, float64."""
    return (t.double().flatten(1).amax(1) if t.ndim > 1 else t.double()).expand(rows)
