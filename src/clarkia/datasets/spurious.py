"""Data with a dial for a spurious correlation, and what linear classifiers make of them in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import ndtr

from clarkia.measures.rows import stream


@dataclass(frozen=True, eq=False)
class Spurious:
    """Rows of two classes with an attribute that agrees with the class more often than not.

    Attributes:
        x: Core columns, then the shortcut, float64 ``(n, core_dim + 1)``.
        y: Class, 0 or 1, ``(n,)``.
        attribute: 0 or 1, ``(n,)``.
    """

    x: Float64[np.ndarray, "n d"]
    y: Int64[np.ndarray, " n"]
    attribute: Int64[np.ndarray, " n"]


def spurious(
    n: int,
    agreement: float = 0.5,
    *,
    core_dim: int = 150,
    core_strength: float = 0.3,
    shortcut_strength: float = 1.5,
    seed: int = 0,
) -> Spurious:
    """Draw rows: every core column is ``strength s(y) + N(0, 1)``, the shortcut ``strength s(a) + N(0, 1)``.

    Signs s are -1 and 1; classes are equally likely, the attribute is that of the class with a given probability.

    Args:
        n: Number of rows.
        agreement: That probability; 0.5 gives four equal cells.
        core_dim: Number of core columns.
        core_strength: Strength of each.
        shortcut_strength: Strength of the shortcut.
        seed: Seed of the draw.

    Raises:
        ValueError: No row or core column, a probability outside [0, 1].

    Source: Accuracy on the Curve: On the Nonlinear Correlation of ML Performance Between Data Subpopulations (2023).
    """
    if n < 1 or core_dim < 1 or not 0 <= agreement <= 1:
        raise ValueError(
            f"n, core_dim, agreement: expected at least 1, 1 and a share, found {n}, {core_dim}, {agreement}."
        )
    rng = stream(seed, "spurious")
    y = rng.integers(0, 2, n)
    attribute = np.where(rng.random(n) < agreement, y, 1 - y)
    x = rng.standard_normal((n, core_dim + 1))
    x[:, :-1] += core_strength * (2 * y - 1)[:, None]
    x[:, -1] += shortcut_strength * (2 * attribute - 1)
    return Spurious(x, y, attribute)


def linear_accuracies(
    weights: Any, bias: float = 0.0, *, core_strength: float = 0.3, shortcut_strength: float = 1.5
) -> tuple[float, float]:
    """Majority and minority accuracy of the rule ``w.x + b > 0`` on such data, exactly.

    ``Phi((w_c.m_c +- w_s m_s) / |w|)``, averaged over the two classes where there is a bias.

    Args:
        weights: Weights of the core columns and, last, of the shortcut, ``(core_dim + 1,)``.
        bias: b.
        core_strength: Strength of each core column.
        shortcut_strength: Strength of the shortcut.

    Raises:
        ValueError: Weights that are all 0.
    """
    w = np.asarray(weights, dtype=np.float64).reshape(-1)
    core, shortcut, length = core_strength * w[:-1].sum(), shortcut_strength * w[-1], np.linalg.norm(w)
    if not length > 0:
        raise ValueError("weights: expected not all 0.")
    margins = np.array([core + shortcut, core - shortcut])
    majority, minority = 0.5 * (ndtr((margins + bias) / length) + ndtr((margins - bias) / length))
    return float(majority), float(minority)
