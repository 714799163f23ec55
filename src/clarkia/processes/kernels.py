"""Transition kernels: what a stochastic step draws from, with its likelihood and its divergence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from clarkia.random import Noise, categorical, choose, rand, randn
from clarkia.spaces import State


class Kernel(Protocol):
    """The law of a state at time s given the state at time t."""

    def sample(self, generator: Noise = None) -> Any:
        """Draw a state."""
        ...

    def log_prob(self, x_s: Any) -> Tensor:
        """Log-density of a state, float64 ``(n,)``."""
        ...

    def kl(self, other: Any) -> Tensor:
        """Divergence from this kernel to another of the same kind, float64 ``(n,)``."""
        ...


class DiscreteKernel(Kernel, Protocol):
    """A kernel of categories that is independent over cells given the state it leaves."""

    def table(self) -> Float[Tensor, "n ... states"]:
        """Log-probability of every state of every cell, float64 ``(n, ..., states)``."""
        ...


@dataclass(frozen=True, eq=False)
class GaussianKernel:
    """Independent normals; where ``std`` is 0 the element is certain.

    Args:
        mean: ``(n, ...)``.
        std: Broadcastable against ``mean``.
    """

    mean: Tensor
    std: Tensor

    def sample(self, generator: Noise = None) -> Tensor:
        """Draw a state of the shape of ``mean``."""
        noise = randn(self.mean.shape, generator, dtype=self.mean.dtype, device=self.mean.device)
        return self.mean + self.std * noise

    def log_prob(self, x_s: Tensor) -> Tensor:
        """Log-density over the uncertain elements, minus infinity where a certain element differs."""
        mean, std = self._doubles()
        gap = x_s.double() - mean
        live = std > 0
        safe = torch.where(live, std, 1.0)
        density = -0.5 * (gap / safe) ** 2 - safe.log() - 0.5 * torch.log(torch.tensor(2 * torch.pi, dtype=std.dtype))
        certain = torch.where(gap == 0, 0.0, -torch.inf)
        return _per_row(torch.where(live, density, certain))

    def kl(self, other: GaussianKernel) -> Tensor:
        """Divergence summed over elements; two certain elements give 0 if equal and infinity otherwise."""
        mean, std = self._doubles()
        other_mean, other_std = other._doubles()
        live = (std > 0) & (other_std > 0)
        ratio = torch.where(live, std, 1.0) / torch.where(live, other_std, 1.0)
        gap = (mean - other_mean) / torch.where(live, other_std, 1.0)
        normal = 0.5 * (ratio**2 + gap**2 - 1) - ratio.log()
        certain = torch.where((std == other_std) & (mean == other_mean), 0.0, torch.inf)
        return _per_row(torch.where(live, normal, certain))

    def _doubles(self) -> tuple[Tensor, Tensor]:
        return self.mean.double(), self.std.double().expand(self.mean.shape)


@dataclass(frozen=True, eq=False)
class MaskedKernel:
    """Masked cells stay masked with probability ``stay`` and otherwise take a class; visible cells stay as they are.

    Args:
        x_t: int64 ``(n, ...)``, the state the step leaves.
        masked: bool ``(n, ...)``, its masked cells.
        stay: float64, broadcastable against ``x_t``.
        log_probs: ``(n, ..., K)``, log-probabilities of the clean classes.
    """

    x_t: Tensor
    masked: Tensor
    stay: Tensor
    log_probs: Tensor

    def sample(self, generator: Noise = None) -> Tensor:
        """Draw a state: first which cells are revealed, then their classes, all in float64."""
        shape, device = self.x_t.shape, self.x_t.device
        revealed = self.masked & (rand(shape, generator, device=device) >= self.stay)
        return reveal(self.x_t, revealed, self.log_probs, rand(shape, generator, device=device))

    def log_prob(self, x_s: Tensor) -> Tensor:
        """Log-probability of a state; minus infinity where a visible cell changed."""
        same = x_s == self.x_t
        stay = self.stay.double().expand(self.x_t.shape)
        index = torch.where(same, 0, x_s).clamp(max=self.log_probs.shape[-1] - 1).unsqueeze(-1)
        drawn = self.log_probs.double().gather(-1, index).squeeze(-1) + torch.log1p(-stay)
        impossible = torch.full_like(drawn, -torch.inf)
        return _per_row(
            torch.where(self.masked, torch.where(same, stay.log(), drawn), torch.where(same, 0.0, impossible))
        )

    def table(self) -> Float[Tensor, "n ... states"]:
        """Log-probability of every state of every cell, float64 ``(n, ..., K_max + 1)``: the classes, then the mask."""
        stay = self.stay.double().expand(self.x_t.shape)
        drawn = pad(self.log_probs.double() + torch.log1p(-stay).unsqueeze(-1), (0, 1), value=-torch.inf)
        same = torch.where(self.masked, stay.log(), 0.0).unsqueeze(-1)
        drawn = torch.where(self.masked.unsqueeze(-1), drawn, -torch.inf)
        return drawn.scatter(-1, self.x_t.unsqueeze(-1), same)

    def kl(self, other: MaskedKernel) -> Tensor:
        """Divergence to a kernel that leaves the same state."""
        stay, other_stay = (kernel.stay.double().expand(self.x_t.shape) for kernel in (self, other))
        log_p, log_q = self.log_probs.double(), other.log_probs.double()
        classes = torch.where(log_p > -torch.inf, log_p.exp() * (log_p - log_q), 0.0).sum(-1)
        reveal_kl = _relative(1 - stay, 1 - other_stay) + torch.where(stay < 1, (1 - stay) * classes, 0.0)
        return _per_row(torch.where(self.masked, _relative(stay, other_stay) + reveal_kl, 0.0))


@dataclass(frozen=True, eq=False)
class RevealKernel:
    """Cells whose moment has come take a class; all others stay as they are.

    It is the law given which cells those are, and two steps that agree in that can be compared by it.

    Args:
        x_t: int64 ``(n, ...)``, the state the step leaves.
        revealed: bool ``(n, ...)``, the cells.
        log_probs: ``(n, ..., K)``, log-probabilities of the clean classes.
        uniforms: float64 ``(n, ...)`` in ``[0, 1)``, which its draw inverts the probabilities at.
    """

    x_t: Tensor
    revealed: Tensor
    log_probs: Tensor
    uniforms: Tensor

    def sample(self, generator: Noise = None) -> Tensor:
        """The state at the numbers it was given; always the same."""
        return reveal(self.x_t, self.revealed, self.log_probs, self.uniforms)

    def log_prob(self, x_s: Tensor) -> Tensor:
        """Log-probability of a state; minus infinity where any other cell changed or a revealed one has no class."""
        return self._certain().log_prob(x_s)

    def table(self) -> Float[Tensor, "n ... states"]:
        """Log-probability of every state of every cell, float64 ``(n, ..., K_max + 1)``: the classes, then the mask."""
        return self._certain().table()

    def kl(self, other: RevealKernel) -> Tensor:
        """Divergence to a kernel that reveals the same cells."""
        return self._certain().kl(other._certain())

    def _certain(self) -> MaskedKernel:
        return MaskedKernel(self.x_t, self.revealed, torch.zeros((), dtype=torch.float64), self.log_probs)


@dataclass(frozen=True, eq=False)
class CategoricalKernel:
    """Independent categories, one distribution a cell.

    Args:
        log_probs: ``(n, ..., states)``, normalised log-probabilities of the states of each cell.
    """

    log_probs: Float[Tensor, "n ... states"]

    def sample(self, generator: Noise = None) -> Int[Tensor, "n ..."]:
        """Draw a state, int64 ``(n, ...)``, in float64."""
        return categorical(self.log_probs, generator)

    def log_prob(self, x_s: Int[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Log-probability of a state, float64 ``(n,)``; minus infinity where a cell holds no state at all."""
        states = self.log_probs.shape[-1]
        known = (x_s >= 0) & (x_s < states)
        found = self.log_probs.double().gather(-1, torch.where(known, x_s, 0).unsqueeze(-1)).squeeze(-1)
        return _per_row(torch.where(known, found, -torch.inf))

    def table(self) -> Float[Tensor, "n ... states"]:
        """Log-probability of every state of every cell, float64 ``(n, ..., states)``."""
        return self.log_probs.double()

    def kl(self, other: DiscreteKernel) -> Float[Tensor, " n"]:
        """Divergence to another kernel of categories, float64 ``(n,)``."""
        log_p, log_q = self.table(), other.table()
        return _per_row(torch.where(log_p > -torch.inf, log_p.exp() * (log_p - log_q), 0.0).sum(-1))


@dataclass(frozen=True, eq=False)
class MixedKernel:
    """Independent kernels of the blocks of a mixed state."""

    kernels: Mapping[str, Any]

    def sample(self, generator: Noise = None) -> dict[str, Tensor]:
        """Draw every block, in order."""
        return {name: kernel.sample(generator) for name, kernel in self.kernels.items()}

    def log_prob(self, x_s: State) -> Tensor:
        """Sum of the blocks' log-densities."""
        parts = [kernel.log_prob(x_s[name]) for name, kernel in self.kernels.items()]  # type: ignore[index]
        return torch.stack(parts).sum(0)

    def kl(self, other: MixedKernel) -> Tensor:
        """Sum of the blocks' divergences."""
        parts = [kernel.kl(other.kernels[name]) for name, kernel in self.kernels.items()]
        return torch.stack(parts).sum(0)


def reveal(x: Tensor, revealed: Tensor, log_probs: Tensor, uniforms: Tensor) -> Tensor:
    """``x`` with a class drawn from ``log_probs`` at the revealed cells; only those cells are worked on.

    Args:
        x: int64 ``(n, ...)``.
        revealed: bool ``(n, ...)``.
        log_probs: ``(n, ..., K)``.
        uniforms: float64 ``(n, ...)`` in ``[0, 1)``, one a cell whether revealed or not.
    """
    cells = revealed.flatten().nonzero().squeeze(1)
    classes = choose(log_probs.flatten(0, -2).index_select(0, cells), uniforms.flatten().index_select(0, cells))
    return x.flatten().index_copy(0, cells, classes).view(x.shape)


def _relative(p: Tensor, q: Tensor) -> Tensor:
    """``p log(p / q)`` with ``0 log 0 = 0``."""
    return torch.where(p > 0, p * (p.log() - q.log()), torch.zeros_like(p))


def _per_row(values: Tensor) -> Tensor:
    return values.flatten(1).sum(1) if values.ndim > 1 else values
