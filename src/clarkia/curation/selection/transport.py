"""How far a set of rows is from the target, and which of its rows are to blame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia._math.pairwise import squared_distances
from clarkia._math.transport import sinkhorn
from clarkia.random import Noise, rand

MOST = 2000  # rows of a side that enter one transport problem; of larger sets a random part stands for all
CHUNK = 2048


@dataclass(frozen=True, eq=False)
class Transport:
    """Entropic transport between a set of rows and the target, both with equal masses.

    Attributes:
        distance: Its cost, the mean distance that mass travels plus ``blur^2`` times the plan's mutual information.
        potential: By row, ``(n,)``, how much the cost grows with mass at that row; defined up to a constant.
    """

    distance: float
    potential: Float64[Tensor, " n"]


def transport(x: Float64[Tensor, "n d"], y: Float64[Tensor, "m d"], blur: float, generator: Noise = None) -> Transport:
    """Solve ``min_P <P, c> + blur^2 KL(P | uniform x uniform)`` with the Euclidean distance as cost c.

    Args:
        x: Rows of the set.
        y: Rows of the target.
        blur: Root of the entropic regularisation.
        generator: Chooses the rows that stand for a side of more than 2000.

    Returns:
        Cost and potential of all rows of x; those left out get theirs from the target's potential.
    """
    eps = blur**2
    part, target = _part(x, generator), _part(y, generator)
    g = sinkhorn(_cost(part, target), eps).g
    # The potential of a row follows from the other side's: f_i = -eps log mean_j exp((g_j - c_ij) / eps).
    f = torch.cat([-eps * torch.logsumexp((g - _cost(rows, target)) / eps, 1) for rows in x.split(CHUNK)])
    f = f + eps * math.log(len(target))
    return Transport(float(f.mean() + g.mean()), f)


def distance_to(x: Tensor, y: Tensor, blur: float, generator: Noise = None) -> float:
    """The cost of `transport` alone."""
    return transport(_part(x, generator), y, blur, generator).distance


def reweighted(potential: Float64[Tensor, " n"]) -> Float64[Tensor, " n"]:
    """Weights of mean one by which rows are nearer to the target than with equal ones.

    One step of exponentiated gradient descent on the cost, of length one in units of the unit rows' distance: weights
    are ``exp(-potential)``, scaled. They do not change with the constant that a potential is free to have, and lie
    within ``exp(2)`` of each other because distances of unit rows lie within 2.
    """
    return len(potential) * torch.softmax(-potential, 0)


def _cost(x: Tensor, y: Tensor) -> Tensor:
    return squared_distances(x, y).clamp(min=0).sqrt()


def _part(x: Tensor, generator: Noise) -> Tensor:
    if len(x) <= MOST:
        return x
    return x[torch.argsort(rand((len(x),), generator))[:MOST]]
