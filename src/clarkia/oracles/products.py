"""The mixture of products: many categories with many classes, dependent through one hidden component."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clarkia.oracles.classes import ClassLaw, check_possible, explain_apart, parse_table
from clarkia.oracles.components import check_probabilities
from clarkia.oracles.recursion import log_product
from clarkia.oracles.roots import draw_index
from clarkia.random import Noise, categorical
from clarkia.spaces import Categorical


@final
class MixtureOfProducts(ClassLaw):
    """A component drawn from ``weights`` and, given it, independent positions.

    Its posterior needs the component's responsibilities alone, so that hundreds of positions with thousands of classes
    cost two matrix products. Tilts by a reward of single positions are mixtures of products again.

    Args:
        weights: ``(C,)``, summing to one.
        probabilities: ``(C, m, K_max)``; each position of each component sums to one.
        num_classes: Clean classes, one count for all positions or one a position (then a position's probabilities are
            0 at the classes it lacks); None for ``K_max``.
        log_z: Log-normaliser relative to the law this one was tilted from; 0 for a law of its own.

    Raises:
        ValueError: Probabilities that do not sum to one or lie on classes a position lacks, or shapes that do not fit.
    """

    def __init__(
        self,
        weights: Any,
        probabilities: Any,
        *,
        num_classes: int | Sequence[int] | None = None,
        log_z: Tensor | float = 0.0,
    ) -> None:
        self.weights = check_probabilities(weights, "weights")
        self.probabilities = check_probabilities(probabilities, "probabilities", per_row=True)
        if self.probabilities.ndim != 3 or self.weights.shape != self.probabilities.shape[:1]:
            raise ValueError(
                "weights, probabilities: expected shapes (C,) and (C, m, K_max), "
                f"found {tuple(self.weights.shape)} and {tuple(self.probabilities.shape)}."
            )
        _, positions, width = self.probabilities.shape
        counts: Any = width if num_classes is None else num_classes
        self._space = Categorical((positions,), num_classes=counts if isinstance(counts, int) else tuple(counts))
        bound = torch.tensor(self._space.counts).unsqueeze(1)
        if int(bound.max()) != width or bool(self.probabilities[:, torch.arange(width) >= bound].any()):
            raise ValueError(
                f"num_classes: expected counts up to {width} that cover all classes with probability, found {counts}."
            )
        self.log_z = torch.as_tensor(log_z, dtype=torch.float64)

    @property
    def space(self) -> Categorical:
        """The space the law lives on."""
        return self._space

    @cached_property
    def marginals(self) -> Float[Tensor, "m k"]:
        """Probabilities of the classes of each position."""
        return torch.einsum("c,cmk->mk", self.weights, self.probabilities)

    def sample(self, num_samples: int, *, generator: Noise = None) -> Int[Tensor, "n m"]:
        """Draw ``(num_samples, m)`` classes."""
        component = draw_index(self.weights.log(), num_samples, generator)
        classes = [categorical(table.log()[component], generator) for table in self.probabilities.unbind(1)]
        return torch.stack(classes, 1)

    def log_prob(self, x: Int[Tensor, "n m"]) -> Float[Tensor, " n"]:
        """Log-probability, float64 ``(n,)``; raises ``ValueError`` for classes out of range."""
        self.space.check(x, "x")
        seen = self.probabilities[:, torch.arange(x.shape[1]), x]  # (C, n, m)
        return torch.logsumexp(self.weights.log() + seen.log().sum(-1).mT, 1)

    def explain(self, log_emissions: Float[Tensor, "n m k"]) -> tuple[Float[Tensor, "n m k"], Float[Tensor, " n"]]:
        """Posterior of every position and the log-probability of the evidence; see `ClassLaw.explain`.

        With ``s_{c,i} = sum_k p_c(k) e_i(k)`` the component has weight ``w_c prod_i s_{c,i}``, and the posterior of a
        position is ``e_i(k) sum_c r_c p_c(k) / s_{c,i}``. A row of probability zero is answered position by position:
        its own marginal times its own evidence.
        """
        evidence, tables = log_emissions.transpose(0, 1), self.probabilities.transpose(0, 1)  # (m, n, K), (m, C, K)
        log_s = log_product(evidence, tables.mT)  # (m, n, C)
        log_weights = self.weights.log() + log_s.sum(0)
        log_z = torch.logsumexp(log_weights, 1)
        log_shares = torch.where(log_weights > -torch.inf, log_weights.log_softmax(1) - log_s, -torch.inf)
        answer = (evidence + log_product(log_shares, tables)).transpose(0, 1)
        possible = (log_z > -torch.inf).reshape(-1, 1, 1)
        if not bool(possible.all()):
            answer = torch.where(possible, answer, explain_apart(self.marginals.log(), log_emissions))
        return answer.log_softmax(-1), log_z

    def tilt(self, reward: Any) -> MixtureOfProducts:
        """The law reweighed by ``exp(sum_i reward[i, x_i])``; ``log_z`` is the factor's log-mean.

        Args:
            reward: ``(m, K_max)``; minus infinity excludes a class.

        Raises:
            ValueError: Another shape, or a reward that leaves nothing possible.
        """
        reward = parse_table(reward, tuple(self.probabilities.shape[1:]), "reward")
        log_table = self.probabilities.log() + reward
        log_mass = log_table.logsumexp(-1, keepdim=True)
        log_weights = self.weights.log() + log_mass.sum((1, 2))
        log_z = torch.logsumexp(log_weights, 0)
        check_possible(log_z, "reward")
        # A component that the reward excludes has weight 0; it keeps its table, so that rows still sum to one.
        tables = torch.where(log_mass > -torch.inf, (log_table - log_mass).exp(), self.probabilities)
        return MixtureOfProducts((log_weights - log_z).exp(), tables, num_classes=self.space.num_classes, log_z=log_z)
