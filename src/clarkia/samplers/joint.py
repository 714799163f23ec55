"""Whole sequences instead of cells: among a few candidates of a factorised prediction, an energy chooses one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clarkia.processes.kernels import reveal
from clarkia.random import Noise, choose, rand

Energy: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Float[Tensor, " n"]]
"""``energy(x_0, x_t, t, log_probs)``: the energy of each row of clean classes given its noisy state, ``(n,)``.

It reweighs the prediction of a denoiser: ``p(x_0 | x_t)`` is ``prod_i p0_hat(x_0^i | x_t) exp(-E) / Z(x_t)``. Infinity
excludes a row.
"""


class Joint(Protocol):
    """How the classes of the cells that a step reveals are drawn together; None draws each by itself."""

    def reveal(
        self,
        x_t: Int[Tensor, "n ..."],
        masked: Bool[Tensor, "n ..."],
        revealed: Bool[Tensor, "n ..."],
        log_probs: Float[Tensor, "n ... k"],
        t: Tensor,
        generator: Noise = None,
    ) -> Int[Tensor, "n ..."]:
        """The state with classes at the revealed cells.

        Args:
            x_t: The state.
            masked: Its masked cells.
            revealed: Those of them to reveal.
            log_probs: The denoiser's prediction at the state.
            t: Time of the state, ``(n,)`` or cell-wise.
            generator: Source of randomness.
        """
        ...


@dataclass(frozen=True)
class EnergyCorrection:
    """Draws whole candidates from the factorised prediction, picks one in proportion to ``exp(-E / temperature)``.

    The cells of a step are revealed from the candidate that was picked. Parallel reveals thereby respect what the
    prediction cannot say, how cells depend on each other. The choice among finitely many candidates is biased by
    O(1 / num_candidates). Only rows that reveal a cell are asked for; where every candidate is excluded (infinite
    energy) the first is taken.

    Args:
        energy: ``energy(x_0, x_t, t, log_probs) -> (n,)``; called once a candidate. `Counted` counts the calls.
        num_candidates: How many candidates a row draws.
        window: ``(start, end)`` with start >= end: times at which to correct, both ends included; elsewhere cells are
            drawn each by itself. Parallel reveals lose most early, where t is near 1.
        temperature: Of the choice.

    Raises:
        ValueError: A count below 1, a temperature that is not positive, or a window outside [0, 1]; in use, an energy
            that is NaN, minus infinity, or of another shape than ``(n,)``.

    Source: Energy-Based Diffusion Language Models for Text Generation (2024).
    """

    energy: Energy
    num_candidates: int = 4
    window: tuple[float, float] = (1.0, 0.6)
    temperature: float = 1.0

    def __post_init__(self) -> None:
        start, end = self.window
        if not 0 <= end <= start <= 1:
            raise ValueError(f"window: expected (start, end) with 0 <= end <= start <= 1, found {self.window}.")
        if self.num_candidates < 1:
            raise ValueError(f"num_candidates: expected at least 1, found {self.num_candidates}.")
        if not self.temperature > 0:
            raise ValueError(f"temperature: expected a positive number, found {self.temperature}.")

    def reveal(
        self,
        x_t: Int[Tensor, "n ..."],
        masked: Bool[Tensor, "n ..."],
        revealed: Bool[Tensor, "n ..."],
        log_probs: Float[Tensor, "n ... k"],
        t: Tensor,
        generator: Noise = None,
    ) -> Int[Tensor, "n ..."]:
        """The state with the revealed cells of the candidate that was picked; see `Joint`."""
        uniforms = rand((len(x_t), self.num_candidates, *x_t.shape[1:]), generator, device=x_t.device)
        pick = rand((len(x_t),), generator, device=x_t.device)
        row_time = t.flatten(1).amax(1) if t.ndim > 1 else t
        inside = (row_time <= self.window[0]) & (row_time >= self.window[1])
        changed = revealed.flatten(1).any(1)
        rows = (inside & changed).expand(len(x_t)).nonzero().squeeze(1)
        plain = revealed.index_fill(0, rows, False)
        x_s = reveal(x_t, plain, log_probs, uniforms[:, 0])
        if not len(rows):
            return x_s
        state, answer, time = x_t[rows], log_probs[rows], t.expand(len(x_t), *t.shape[1:])[rows]
        candidates = drawn_wholes(state, masked[rows], answer, uniforms[rows])
        energies = torch.stack([checked(self.energy, whole, state, time, answer) for whole in candidates], 1)
        chosen = _chosen(energies / self.temperature, pick[rows])
        whole = torch.stack(candidates, 1)[torch.arange(len(rows), device=x_t.device), chosen]
        return x_s.index_copy(0, rows, torch.where(revealed[rows], whole, state))


def drawn_wholes(
    x_t: Int[Tensor, "n ..."], masked: Tensor, log_probs: Tensor, uniforms: Float[Tensor, "n m ..."]
) -> list[Int[Tensor, "n ..."]]:
    """Candidates: the state with all its masked cells drawn, each from its own prediction.

    Args:
        x_t: The state.
        masked: Its masked cells.
        log_probs: ``(n, ..., K)``.
        uniforms: float64 ``(n, m, ...)`` in ``[0, 1)``, one for each cell of each of m candidates.
    """
    return [reveal(x_t, masked, log_probs, uniforms[:, index]) for index in range(uniforms.shape[1])]


def checked(energy: Energy, x_0: Tensor, x_t: Tensor, t: Tensor, log_probs: Tensor) -> Float[Tensor, " n"]:
    """Energies in float64; raises ``ValueError`` for another shape, a NaN or minus infinity."""
    values = energy(x_0, x_t, t, log_probs)
    if not isinstance(values, Tensor) or values.shape != (len(x_t),):
        found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"energy: expected one number a row, shape ({len(x_t)},), found {found}.")
    bad = (values.isnan() | (values == -torch.inf)).nonzero().flatten()
    if len(bad):
        row = int(bad[0])
        raise ValueError(f"energy: expected numbers or infinity, found {float(values[row])} in row {row}.")
    return values.double()


def _chosen(energies: Float[Tensor, "n m"], pick: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    lost = (energies == torch.inf).all(1, keepdim=True)
    first = torch.arange(energies.shape[1], device=energies.device) == 0
    logits = torch.where(lost, torch.where(first, 0.0, -torch.inf), -energies)
    return choose(logits.log_softmax(1), pick)
