"""How far a fitted exponential family still is from the best it could be, and how many rows would be enough."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia.measures.inputs import features, pair

CHUNK = 1024


@dataclass(frozen=True)
class PNCriterion:
    """The expected divergence of a maximum-likelihood fit from the best member of its family, and what it asks for.

    Attributes:
        num_parameters: p.
        num_rows: n.
        first: ``c1`` of the expansion ``c1 / n + c2 / n^2``; ``p / 2`` where the family holds the law.
        second: ``c2``.
        risk: The expansion at n, nats.
        tolerance: Largest risk that is accepted: ``8 delta^2``.
        accept: Whether the risk is at most that.
        required: Least number of rows at which it is.
        ratio: ``c2 / (c1 n)``. The expansion is to be trusted where it is small, say below 0.3 in size.
        trace: ``2 c1``, the trace of model-inverse times data covariance; far from p the family does not fit.
    """

    num_parameters: int
    num_rows: int
    first: float
    second: float
    risk: float
    tolerance: float
    accept: bool
    required: int
    ratio: float
    trace: float


def pn_criterion(
    statistics: Any,
    model: Any = None,
    *,
    num_rows: int | None = None,
    delta: float = 0.05,
    weights: Any = None,
    model_weights: Any = None,
) -> PNCriterion:
    """Expected divergence from the information projection to a fit, for ``p(x) ~ exp(theta . xi(x))`` times a base.

    Such a family are the tilts of a generator by rewards, with ``xi`` the rewards. Two laws at divergence D cannot be
    told apart with an error below ``(1 - sqrt(D / 2)) / 2`` (Pinsker), so a risk of ``8 delta^2`` keeps the fit within
    ``delta`` of a coin toss. To first order that takes ``p / 16 delta^2`` rows.

    Args:
        statistics: ``xi`` of the data, ``(n, p)``.
        model: ``xi`` of samples from the fitted model, ``(S, p)``; None takes the model for the law of the data.
        num_rows: n, where it is not the number of rows of ``statistics``.
        delta: Tolerated advantage over a coin toss, between 0 and 0.5.
        weights: Of the rows of ``statistics``, ``(n,)``, for a law that is known by its points; None for equal ones.
        model_weights: Of the rows of ``model``.

    Returns:
        The expansion and what follows from it. The second term needs third and fourth moments: with p above the root
        of the number of samples it is noise.

    Raises:
        ValueError: Statistics that are no finite matrices of one width, weights or counts that do not fit, a delta out
            of range, or statistics of the model that are linearly dependent.

    Source: MLE convergence speed to information projection of exponential family (2021).
    """
    xi = features(statistics, "statistics")
    w = _weights(weights, len(xi), "weights")
    eta, v = xi, w
    if model is not None:
        xi, eta = pair(statistics, model, ("statistics", "model"))
        v = _weights(model_weights, len(eta), "model_weights")
    n = len(xi) if num_rows is None else num_rows
    if n < 1:
        raise ValueError(f"num_rows: expected at least 1, found {n}.")
    if not 0 < delta < 0.5:
        raise ValueError(f"delta: expected a number between 0 and 0.5, found {delta}.")
    c1, c2 = _expansion(xi, w, eta, v)
    tolerance = 8 * delta**2
    risk = c1 / n + c2 / n**2
    root = math.sqrt(max(c1**2 + 4 * tolerance * c2, 0.0))
    return PNCriterion(
        num_parameters=xi.shape[1],
        num_rows=n,
        first=c1,
        second=c2,
        risk=risk,
        tolerance=tolerance,
        accept=risk <= tolerance,
        required=max(1, math.ceil((c1 + root) / (2 * tolerance) - 1e-9)),
        ratio=c2 / (c1 * n) if c1 > 0 else math.nan,
        trace=2 * c1,
    )


def _expansion(xi: Tensor, w: Tensor, eta: Tensor, v: Tensor) -> tuple[float, float]:
    """``c1`` and ``c2``, in coordinates in which the statistics of the model are white.

    With V the covariance and K the third moment of the data, T3 and T4 third and fourth cumulants of the model,

        c1 = tr V / 2,    c2 = -<T3, K> / 3 + 3/8 (<T3 . T3 over its three pairings, V x V> - <T4, V x V>).
    """
    centre = v @ eta
    white = _whiten((eta - centre).mul(v.sqrt()[:, None]))
    data, z = (xi - w @ xi) @ white, (eta - centre) @ white
    spread = (data * w[:, None]).T @ data
    third, own_third = _third(z, v), _third(data, w)
    quadratic = (z @ spread * z).sum(1)
    trace = float(spread.trace())
    fourth = float(v @ quadratic.square()) - trace**2 - 2 * float(spread.square().sum())
    along = torch.einsum("abe,ab->e", third, spread)
    half = torch.einsum("ace,ab->bce", third, spread)
    crossed = float(torch.einsum("bce,cd,bde->", half, spread, third))
    pairings = float(along @ along) + 2 * crossed
    return 0.5 * trace, -float((third * own_third).sum()) / 3 + 0.375 * (pairings - fourth)


def _whiten(scaled: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(scaled.T @ scaled)
    if not float(values[0]) > 1e-12 * float(values[-1]):
        raise ValueError("statistics: expected linearly independent columns, found some that are not.")
    return vectors / values.sqrt()


def _third(z: Tensor, w: Tensor) -> Float64[Tensor, "p p p"]:
    """``E z z z`` of centred rows."""
    p = z.shape[1]
    total = z.new_zeros(p * p, p)
    for rows, weight in zip(z.split(CHUNK), w.split(CHUNK), strict=True):
        total += (rows[:, :, None] * rows[:, None, :]).flatten(1).T @ (rows * weight[:, None])
    return total.reshape(p, p, p)


def _weights(weights: Any, n: int, name: str) -> Tensor:
    if weights is None:
        return torch.full((n,), 1 / n, dtype=torch.float64)
    w = torch.as_tensor(weights, dtype=torch.float64)
    if w.shape != (n,) or not bool((w >= 0).all() & w.isfinite().all()) or not float(w.sum()) > 0:
        raise ValueError(f"{name}: expected {n} non-negative numbers, not all 0, found shape {tuple(w.shape)}.")
    return w / w.sum()
