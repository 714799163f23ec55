"""Does a better average help the minority? The curve of minority against majority accuracy over many models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64
from scipy import stats

from clarkia.measures.intervals import Interval, percentile_interval
from clarkia.measures.rows import stream

LEAST = 0.55
SIGNIFICANCE = 0.05
PROBIT_LIMIT = 1e-4  # keeps accuracies of 0 and 1 finite on the probit scale


@dataclass(frozen=True, eq=False)
class GroupAccuracies:
    """Accuracies of M models.

    Attributes:
        majority: On rows whose attribute agrees with the class, the two classes alike, float64 ``(M,)``.
        minority: On rows whose attribute disagrees, float64 ``(M,)``.
        cells: By class (rows 0 and 1) and attribute, float64 ``(M, 2, 2)``; NaN where a cell is empty.
        counts: Rows of each cell, ``(2, 2)``.
    """

    majority: Float64[np.ndarray, " M"]
    minority: Float64[np.ndarray, " M"]
    cells: Float64[np.ndarray, "M 2 2"]
    counts: np.ndarray

    @property
    def worst_group(self) -> Float64[np.ndarray, " M"]:
        """Accuracy of each model on its worst cell, ``(M,)``."""
        return np.nanmin(self.cells.reshape(len(self.cells), -1), axis=1)


def group_accuracies(models: Sequence[Any], x: Any, y: Any, attribute: Any) -> GroupAccuracies:
    """Accuracies of models on the four cells of class and attribute, cells of a group weighing the same.

    Args:
        models: Classifiers with ``predict_proba`` of two classes.
        x: Inputs, n of them.
        y: Class of each, 0 or 1, ``(n,)``.
        attribute: Attribute of each, 0 or 1, ``(n,)``; a majority row has the attribute of its class.

    Raises:
        ValueError: Classes or attributes that are not zeros and ones, one a row; a group without rows.
    """
    y, a = np.asarray(y), np.asarray(attribute)
    if y.ndim != 1 or y.shape != a.shape or not np.isin([y, a], (0, 1)).all():
        raise ValueError(f"y, attribute: expected zeros and ones of one shape (n,), found {y.shape} and {a.shape}.")
    cell = (2 * y + a).astype(np.int64)
    counts = np.bincount(cell, minlength=4)
    if not (counts[0] + counts[3]) or not (counts[1] + counts[2]):
        agree, differ = counts[0] + counts[3], counts[1] + counts[2]
        raise ValueError(
            f"attribute: expected rows that agree with the class and rows that do not, found {agree}, {differ}."
        )
    right = np.stack([np.asarray(model.predict_proba(x)).argmax(1) == y for model in models]).astype(np.float64)
    hits = np.stack([np.bincount(cell, row, 4) for row in right])
    cells = np.divide(hits, counts, out=np.full(hits.shape, np.nan), where=counts > 0)
    return GroupAccuracies(
        np.nanmean(cells[:, [0, 3]], axis=1), np.nanmean(cells[:, [1, 2]], axis=1), cells.reshape(-1, 2, 2),
        counts.reshape(2, 2),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class CurveFit:
    """``minority = b0 + b1 majority + b2 majority^2`` by least squares.

    Attributes:
        coefficients: b0, b1 and b2.
        curvature: 95 % bootstrap interval of b2, over runs of training.
        r2_linear: Share of the variance explained by a line.
        r2_quadratic: Share explained by the parabola.
        f_statistic: Of the parabola against the line, 1 and M - 3 degrees of freedom.
        p_value: Of that statistic for independent models on a line; too small where models share a run.
    """

    coefficients: tuple[float, float, float]
    curvature: Interval
    r2_linear: float
    r2_quadratic: float
    f_statistic: float
    p_value: float

    def __call__(self, majority: Any) -> Any:
        """Fitted minority accuracy."""
        b0, b1, b2 = self.coefficients
        return b0 + (b1 + b2 * np.asarray(majority)) * np.asarray(majority)

    def slope(self, majority: float) -> float:
        """What one more point of majority accuracy brings the minority at an operating point."""
        return self.coefficients[1] + 2 * self.coefficients[2] * majority


@dataclass(frozen=True, eq=False)
class SubgroupCurve:
    """The relation of majority and minority accuracy.

    Attributes:
        raw: Fit to the accuracies.
        probit: Fit to their probits, on which part of the bend disappears.
        shape: "moon" for a parabola that opens upwards and is significantly better than a line, "arch" for one that
            opens downwards, "line" for neither.
        correlation: Of the accuracies; below 0 where better averages go with a worse minority.
        best: Majority accuracy in the range of the models at which the fitted minority accuracy is highest: the
            suggested point to stop at.
        kept: Which models the fit is of, those whose majority accuracy reaches a floor, ``(M,)``.
    """

    raw: CurveFit
    probit: CurveFit
    shape: Literal["moon", "arch", "line"]
    correlation: float
    best: float
    kept: np.ndarray


def subgroup_curve(
    majority: Any, minority: Any, *, runs: Any = None, least: float = LEAST, draws: int = 1000, seed: int = 0
) -> SubgroupCurve:
    """Fit minority to majority accuracy over many models.

    Args:
        majority: Majority accuracy of each model, ``(M,)``; at least 5 different ones above the floor.
        minority: Minority accuracy, ``(M,)``.
        runs: Training run of each model, so that checkpoints of one run are resampled together; None for one each.
        least: Models of a lower majority accuracy are left out: near chance both accuracies are.
        draws: Resamples of the runs.
        seed: Seed of the resamples.

    Raises:
        ValueError: Lengths that differ, numbers outside [0, 1], too few models.

    Source: Accuracy on the Curve: On the Nonlinear Correlation of ML Performance Between Data Subpopulations (2023).
    """
    x, y = np.asarray(majority, dtype=np.float64), np.asarray(minority, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or not (((x >= 0) & (x <= 1)).all() and ((y >= 0) & (y <= 1)).all()):
        raise ValueError(
            f"minority: expected accuracies in [0, 1] as many as of the majority, found {y.shape}, {x.shape}."
        )
    names = np.arange(len(x)) if runs is None else np.asarray(runs)
    if names.shape != x.shape:
        raise ValueError(f"runs: expected one a model, shape {x.shape}, found {names.shape}.")
    kept = x >= least
    if len(np.unique(x[kept])) < 5:
        raise ValueError(f"majority: expected at least 5 different accuracies of {least} or more, found "
                         f"{len(np.unique(x[kept]))}.")  # fmt: skip
    _, codes = np.unique(names[kept], return_inverse=True)
    total = int(codes.max()) + 1
    weights = stream(seed, "subgroups").multinomial(total, np.full(total, 1 / total), size=draws)[:, codes]
    raw = _fit(x[kept], y[kept], weights)
    probit = _fit(_probit(x[kept]), _probit(y[kept]), weights)
    bent = raw.p_value < SIGNIFICANCE
    shape = "line" if not bent else "moon" if raw.coefficients[2] > 0 else "arch"
    places = np.linspace(x[kept].min(), x[kept].max(), 1001)
    best = float(places[np.argmax(raw(places))])
    return SubgroupCurve(raw, probit, shape, float(np.corrcoef(x[kept], y[kept])[0, 1]), best, kept)


def chord(first: tuple[float, float], second: tuple[float, float], shares: Any) -> Float64[np.ndarray, "k 2"]:
    """Majority and minority accuracy of mixtures that answer every row by one of two models at random.

    Args:
        first: Majority and minority accuracy of the one.
        second: The same of the other.
        shares: How often the second is asked, ``(k,)``.

    Returns:
        Points of the straight line between the two, ``(k, 2)``.
    """
    share = np.asarray(shares, dtype=np.float64)[:, None]
    return (1 - share) * np.array(first) + share * np.array(second)


def _fit(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> CurveFit:
    centre = x.mean()
    u = x - centre
    design = np.stack([np.ones_like(u), u, u * u], 1)
    c = np.linalg.lstsq(design, y, rcond=None)[0]
    line = np.linalg.lstsq(design[:, :2], y, rcond=None)[0]
    left, straight = np.square(y - design @ c).sum(), np.square(y - design[:, :2] @ line).sum()
    total = np.square(y - y.mean()).sum()
    free = len(x) - 3
    f = (straight - left) / (left / free) if left > 0 else np.inf
    b2 = c[2]
    return CurveFit(
        (float(c[0] - c[1] * centre + b2 * centre**2), float(c[1] - 2 * b2 * centre), float(b2)),
        percentile_interval(_curvatures(u, y, weights)),
        float(1 - straight / total) if total > 0 else float("nan"),
        float(1 - left / total) if total > 0 else float("nan"),
        float(f),
        float(stats.f.sf(f, 1, free)),
    )


def _curvatures(u: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The quadratic coefficient under weights ``(draws, M)``; NaN where fewer than three places are left."""
    scaled = u / np.abs(u).max()
    powers = np.stack([scaled**k for k in range(5)])
    moments = weights @ powers.T
    gram = moments[:, np.add.outer(np.arange(3), np.arange(3))]
    target = weights @ (powers[:3] * y).T
    enough = np.linalg.cond(gram) < 1e12
    solved = np.linalg.solve(np.where(enough[:, None, None], gram, np.eye(3)), target[..., None])[:, 2, 0]
    return np.where(enough, solved / np.abs(u).max() ** 2, np.nan)


def _probit(accuracy: np.ndarray) -> np.ndarray:
    return stats.norm.ppf(np.clip(accuracy, PROBIT_LIMIT, 1 - PROBIT_LIMIT))
