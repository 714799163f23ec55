"""The Markov chain of categories: sequences of any length with an exact posterior."""

from __future__ import annotations

from functools import cached_property
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clarkia.oracles.classes import ClassLaw, check_possible, parse_table
from clarkia.oracles.components import check_probabilities
from clarkia.oracles.recursion import backward, forward
from clarkia.oracles.roots import draw_index
from clarkia.random import Noise, categorical
from clarkia.spaces import Categorical

SOFTENING = 1e-12
"""Share of the uniform law mixed into a chain where it explains a state it holds impossible."""


@final
class MarkovChain(ClassLaw):
    """A chain ``x^1 ~ initial``, ``x^{i+1} ~ transition[x^i]``; its tilts and posteriors are chains again.

    A partly observed or noisy state of probability zero is explained by the same chain with 1e-12 of the uniform law
    mixed into every row, so the evidence nearby still counts; all other states are answered exactly.

    Args:
        initial: ``(K,)``, summing to one.
        transition: ``(K, K)`` for all steps, or ``(length - 1, K, K)``; rows sum to one.
        length: Number of positions L >= 1.
        log_z: Log-normaliser relative to the law this one was tilted from; 0 for a law of its own.

    Raises:
        ValueError: Probabilities that do not sum to one, or shapes that do not fit.
    """

    def __init__(self, initial: Any, transition: Any, length: int, *, log_z: Tensor | float = 0.0) -> None:
        self.initial = check_probabilities(initial, "initial")
        if self.initial.ndim != 1 or length < 1:
            raise ValueError(
                f"initial, length: expected shape (K,) and a length >= 1, "
                f"found {tuple(self.initial.shape)} and {length}."
            )
        count = len(self.initial)
        transition = torch.as_tensor(transition, dtype=torch.float64)
        if transition.shape not in ((count, count), (length - 1, count, count)):
            raise ValueError(
                f"transition: expected shape ({count}, {count}) or ({length - 1}, {count}, {count}), "
                f"found {tuple(transition.shape)}."
            )
        self.transitions = check_probabilities(transition, "transition", per_row=True).expand(length - 1, -1, -1)
        self.length = length
        self.log_z = torch.as_tensor(log_z, dtype=torch.float64)

    @property
    def space(self) -> Categorical:
        """The space the law lives on."""
        return Categorical((self.length,), num_classes=len(self.initial))

    @cached_property
    def marginals(self) -> Float[Tensor, "l k"]:
        """Probabilities of the classes of each position."""
        nothing = torch.zeros(1, self.length, len(self.initial), dtype=torch.float64)
        return self.explain(nothing)[0][0].exp()

    def sample(self, num_samples: int, *, generator: Noise = None) -> Int[Tensor, "n l"]:
        """Draw ``(num_samples, length)`` classes."""
        classes = [draw_index(self.initial.log(), num_samples, generator)]
        for transition in self.transitions:
            classes.append(categorical(transition.log()[classes[-1]], generator))
        return torch.stack(classes, 1)

    def sample_posterior(self, log_emissions: Float[Tensor, "n l k"], *, generator: Noise = None) -> Int[Tensor, "n l"]:
        """Draw a whole sequence for each row of evidence: ``x^L`` from ``f_L``, then ``x^i`` given ``x^{i+1}``."""
        messages, evidence = self._forward(log_emissions)
        lost = evidence == -torch.inf
        classes = [categorical(messages[-1].log_softmax(-1), generator)]
        for message, transition, softer in zip(
            messages[:-1].flip(0), self.transitions.flip(0), self._softened[1].flip(0), strict=True
        ):
            arrive = transition.log().mT[classes[-1]]
            if bool(lost.any()):
                arrive = torch.where(lost.unsqueeze(1), softer.log().mT[classes[-1]], arrive)
            classes.append(categorical((message + arrive).log_softmax(-1), generator))
        return torch.stack(classes[::-1], 1)

    def log_prob(self, x: Int[Tensor, "n l"]) -> Float[Tensor, " n"]:
        """Log-probability, float64 ``(n,)``; raises ``ValueError`` for classes out of range."""
        self.space.check(x, "x")
        steps = self.transitions.log()[torch.arange(self.length - 1), x[:, :-1], x[:, 1:]]
        return self.initial.log()[x[:, 0]] + steps.sum(1)

    def explain(self, log_emissions: Float[Tensor, "n l k"]) -> tuple[Float[Tensor, "n l k"], Float[Tensor, " n"]]:
        """Posterior of every position and the log-probability of the evidence; see `ClassLaw.explain`."""
        log_f, log_b, evidence = self._messages(log_emissions)
        return (log_f + log_b).log_softmax(-1).transpose(0, 1), evidence

    def explain_pairs(self, log_emissions: Float[Tensor, "n l k"]) -> Float[Tensor, "n l k k"]:
        """Posterior log-probabilities of all neighbours ``(x^i, x^{i+1})`` given evidence, ``(n, L - 1, K, K)``."""
        log_f, log_b, evidence = self._messages(log_emissions)
        after = (log_emissions.transpose(0, 1) + log_b)[1:]
        chains, lost = self.transitions.unsqueeze(1), evidence == -torch.inf
        if bool(lost.any()):
            chains = torch.where(lost.reshape(1, -1, 1, 1), self._softened[1].unsqueeze(1), chains)
        pairs = log_f[:-1].unsqueeze(-1) + chains.log() + after.unsqueeze(-2)
        return pairs.flatten(2).log_softmax(-1).view_as(pairs).transpose(0, 1)

    def tilt(self, reward: Any, pair_reward: Any = None) -> MarkovChain:
        """The chain reweighed by ``exp(sum_i reward[i, x^i] + sum_i pair_reward[i, x^i, x^{i+1}])``.

        Args:
            reward: ``(L, K)``; minus infinity excludes a class.
            pair_reward: ``(L - 1, K, K)``; None for none.

        Raises:
            ValueError: Another shape, or a reward that leaves no sequence possible.
        """
        count, steps = len(self.initial), self.length - 1
        reward = parse_table(reward, (self.length, count), "reward")
        log_steps = self.transitions.log()
        if pair_reward is not None:
            log_steps = log_steps + parse_table(pair_reward, (steps, count, count), "pair_reward")
        worth, rows = reward[-1], []  # log of what is still to come, given the class here
        for log_step, before in zip(log_steps.flip(0), reward[:-1].flip(0), strict=True):
            paths = log_step + worth
            rows.append(paths)
            worth = before + paths.logsumexp(-1)
        log_initial = self.initial.log() + worth
        log_z = torch.logsumexp(log_initial, 0)
        check_possible(log_z, "reward")
        paths = torch.stack(rows[::-1]) if rows else log_steps
        ends = paths.logsumexp(-1, keepdim=True)
        # A class without a future is never reached; it keeps the old row, so that rows still sum to one.
        steps_on = torch.where(ends > -torch.inf, (paths - ends).exp(), self.transitions)
        return MarkovChain((log_initial - log_z).exp(), steps_on, self.length, log_z=log_z)

    @cached_property
    def _softened(self) -> tuple[Tensor, Tensor]:
        share = SOFTENING / len(self.initial)
        return (1 - SOFTENING) * self.initial + share, (1 - SOFTENING) * self.transitions + share

    def _forward(self, log_emissions: Tensor) -> tuple[Tensor, Tensor]:
        """Forward messages ``(L, n, K)``, of the softened chain in rows of probability zero; log-evidence ``(n,)``."""
        if log_emissions.shape[1:] != (self.length, len(self.initial)):
            raise ValueError(
                f"log_emissions: expected shape (n, {self.length}, {len(self.initial)}), "
                f"found {tuple(log_emissions.shape)}."
            )
        log_f = forward(self.initial.log(), self.transitions, log_emissions)
        evidence = torch.logsumexp(log_f[-1], -1)
        lost = (evidence == -torch.inf).nonzero().squeeze(1)
        if len(lost):
            initial, transitions = self._softened
            log_f = log_f.index_copy(1, lost, forward(initial.log(), transitions, log_emissions[lost]))
        return log_f, evidence

    def _messages(self, log_emissions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Forward and backward messages and the log-evidence, as `_forward` has them."""
        log_f, evidence = self._forward(log_emissions)
        log_b = backward(self.transitions, log_emissions)
        lost = (evidence == -torch.inf).nonzero().squeeze(1)
        if len(lost):
            log_b = log_b.index_copy(1, lost, backward(self._softened[1], log_emissions[lost]))
        return log_f, log_b, evidence
