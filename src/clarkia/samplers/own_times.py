"""Solvers that find the times of their steps themselves, row by row."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from clarkia.processes import Masked


@runtime_checkable
class OwnTimes(Protocol):
    """A solver of a masked process that may know when its steps are better than a grid does."""

    def own_times(self, x: Tensor, process: Any, carry: Any) -> Tensor | None:
        """The grid of a run that starts at ``x``, ``(nodes, n)``, falling to 0 in each row and then staying there.

        The run ends earlier where no cell is masked any more. None to walk the grid that the caller gives.
        """
        ...


def own_grid(solver: Any, x: Any, process: Any, carry: Any, *, given: bool) -> Tensor | None:
    """The grid a solver finds itself, or None.

    Args:
        solver: The solver.
        x: State at the start.
        process: The process.
        carry: The solver's own state at the start.
        given: Whether the caller named a grid.

    Raises:
        ValueError: The caller named a grid and the solver has its own.
    """
    own = solver.own_times(x, process, carry) if isinstance(solver, OwnTimes) else None
    if own is not None and given:
        raise ValueError(f"num_steps, times: expected neither with a solver that finds its own times, found {solver}.")
    return own


def nothing_left(x: Any, process: Any) -> bool:
    """Whether no cell of a masked state is masked."""
    return isinstance(process, Masked) and not bool(process.is_masked(x).any())
