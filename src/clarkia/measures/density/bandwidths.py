"""Bandwidths from the rows themselves: by their nearest neighbours, or by leaving each row out in turn."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clarkia._math.neighbours import k_nearest
from clarkia.measures.density.neighbourhoods import neighbourhoods, row_numbers
from clarkia.measures.density.profiles import Profile
from clarkia.random import Noise, rand

MOST_QUERIES = 1000
"""Rows that are looked at, at most; the mean over them settles a bandwidth to about a percent."""

_NODES = 9  # bandwidths tried in each round
_ROUNDS = 3  # of refinement; each narrows the bracket fourfold


def neighbour_distance(rows: Float[Tensor, "n d"], queries: Float[Tensor, "m d"]) -> float:
    """Root mean square distance of some of the rows to the nearest other row, copies left out, a dimension."""
    distance, _ = k_nearest(queries, rows.unique(dim=0), 2)  # the first is the query's own
    return float((distance[:, 1].square().mean() / rows.shape[1]).sqrt())


def some_rows(rows: Float[Tensor, "n d"], most: int, generator: Noise) -> Int[Tensor, " m"]:
    """Numbers of at most ``most`` rows, drawn where there are more."""
    order = rand((len(rows),), generator).argsort() if len(rows) > most else torch.arange(len(rows))
    return order[:most].to(rows.device)


def by_neighbours(rows: Float[Tensor, "n d"], kernel: Profile, generator: Noise = None) -> float:
    """The bandwidth whose kernel spreads as far, a dimension, as the nearest neighbour is."""
    queries = rows[some_rows(rows, MOST_QUERIES, generator)]
    return neighbour_distance(rows, queries) / math.sqrt(kernel.variance(rows.shape[1]))


def by_leaving_out(rows: Float[Tensor, "n d"], kernel: Profile, generator: Noise = None) -> float:
    """The bandwidth of the largest mean log-density of a row under the others, its copies left out with it."""
    d = rows.shape[1]
    numbers = row_numbers(rows)
    chosen = some_rows(rows, MOST_QUERIES, generator)
    queries, own = rows[chosen], numbers[chosen]
    # Between a fraction of the distance of neighbours and the whole spread of the data; a kernel of bounded support
    # must also reach the loneliest row.
    low = math.log(neighbour_distance(rows, queries) / 4)
    high = math.log(4 * float((rows - rows.mean(0)).square().sum(1).amax().sqrt()))
    scale = 0.5 * math.log(kernel.variance(d))
    for _ in range(_ROUNDS):
        grid = torch.linspace(low, high, _NODES, dtype=torch.float64, device=rows.device)
        found = neighbourhoods(queries, rows, (grid - scale).exp(), kernel, numbers=(own, numbers))
        score = found.log_prob.mean(1)
        best = int(score.argmax())
        low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, _NODES - 1)])
    return math.exp(_vertex(grid, score, best) - scale)


def _vertex(grid: Tensor, score: Tensor, best: int) -> float:
    """Top of the parabola through the best node and its neighbours; the node itself at an end."""
    if best in (0, len(grid) - 1) or not bool(score[best - 1 : best + 2].isfinite().all()):
        return float(grid[best])
    left, middle, right = score[best - 1 : best + 2].tolist()
    bend = left - 2 * middle + right
    move = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return float(grid[best] + move * (grid[1] - grid[0]))
