"""The cheapest grid among fixed nodes, when what a step costs is known for every pair of them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def shortest_paths(costs: Float[Tensor, "nodes nodes"], max_moves: int) -> tuple[Float[Tensor, " moves"], list[Tensor]]:
    """The cheapest way from the first node to the last in exactly 1, 2, ..., ``max_moves`` moves forwards.

    ``V_1(j) = C(0, j)`` and ``V_k(j) = min over i < j of V_(k-1)(i) + C(i, j)``: one sweep over the moves gives the
    global optimum for every number of them.

    Args:
        costs: ``C(i, j)``, the cost of moving from node i to node j; only j > i is read. Infinity forbids a move.
        max_moves: Largest number of moves, at most ``nodes - 1``.

    Returns:
        The least cost in 1, 2, ... moves, float64 ``(max_moves,)``, and the nodes visited, int64 ``(moves + 1,)`` each.
        Where no path exists the cost is infinite and the nodes mean nothing.

    Raises:
        ValueError: Costs that are not a square matrix or hold a NaN; more moves than nodes allow.
    """
    nodes = len(costs) if costs.ndim == 2 else 0
    if nodes < 2 or costs.shape != (nodes, nodes):
        raise ValueError(f"costs: expected a square matrix of at least two nodes, found shape {tuple(costs.shape)}.")
    if not 1 <= max_moves < nodes:
        raise ValueError(f"max_moves: expected 1 to {nodes - 1} for {nodes} nodes, found {max_moves}.")
    forward = torch.full((nodes, nodes), torch.inf, dtype=torch.float64)
    above = torch.ones(nodes, nodes, dtype=torch.bool).triu(1)
    forward[above] = costs.double().cpu()[above]
    if bool(forward.isnan().any()):
        raise ValueError("costs: expected numbers above the diagonal, found NaN.")

    best = forward[0]
    values, origins = [best[-1]], []
    for _ in range(1, max_moves):
        best, origin = (best.unsqueeze(1) + forward).min(0)
        values.append(best[-1])
        origins.append(origin)
    return torch.stack(values), [_walk_back(origins[:inner], nodes - 1) for inner in range(max_moves)]


def _walk_back(origins: list[Tensor], last: int) -> Tensor:
    """The nodes of a path that ends at ``last``, from where each of its moves came."""
    path = [last]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return torch.tensor([0, *reversed(path)])
