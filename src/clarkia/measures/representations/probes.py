"""How much can be read off features by a simple head: probes with cross-fitting and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Int64

from clarkia.measures.fields.checks import check_count
from clarkia.measures.inputs import features
from clarkia.measures.intervals import LEVEL, Interval, percentile_interval, rate_interval

Kind: TypeAlias = Literal["ridge", "logistic", "linear", "knn"]
PENALTIES = np.logspace(-4, 6, 21)  # of ridge, on standardised features
STRENGTHS = (0.01, 0.1, 1.0, 10.0)  # inverse penalties of logistic regression
NEIGHBOURS = (1, 3, 9, 27)
DRAWS = 1000


@dataclass(frozen=True, eq=False)
class Probe:
    """What a probe reads off features, on rows that it was not fitted on.

    Attributes:
        score: Accuracy of classes, or share of variance explained (R^2) of numbers.
        interval: 95 % interval over rows: exact for accuracies, bootstrap for R^2. It takes the fitted heads as they
            are.
        folds: Score in each fold.
        baseline: The same without features: share of the most frequent class, or 0.
        predictions: Prediction of every row, ``(n,)``, or ``(n, k)`` of k numbers.
    """

    score: float
    interval: Interval
    folds: tuple[float, ...]
    baseline: float
    predictions: np.ndarray


def probe(x: Any, y: Any, *, kind: Kind = "ridge", num_folds: int = 5, groups: Any = None, seed: int = 0) -> Probe:
    """Predict labels or numbers from features by a simple head, each row by a head that has not seen it.

    Columns are standardised on the rows a head is fitted on, and its penalty (or number of neighbours) is chosen
    inside them too.

    Args:
        x: Features ``(n, d)``.
        y: Classes ``(n,)`` (integers, booleans or words), or numbers ``(n,)`` or ``(n, k)`` (floating point).
        kind: ``"ridge"`` (also of classes, by their indicators), ``"logistic"`` (classes only), ``"linear"`` (least
            squares without a penalty), ``"knn"``.
        num_folds: Parts that the rows are cut into, with classes spread evenly over them.
        groups: A group a row ``(n,)``; rows of one group stay in one fold. None where rows are independent.
        seed: Fixes the folds.

    Returns:
        Score, interval and the predictions.

    Raises:
        ValueError: Features that are not finite rows, targets that do not fit or are all equal, too few rows or groups.
    """
    x = features(x, "x").detach().cpu().numpy()
    y, classes = check_targets(y, len(x))
    check_kind(kind, classes)
    folds = assign_folds(y if classes else None, len(x), check_count(num_folds, "num_folds", least=2), groups, seed)
    predictions = np.empty_like(y)
    for fold in range(num_folds):
        held = folds == fold
        if classes and len(np.unique(y[~held])) < 2:
            raise ValueError(f"y: expected two classes outside each of {num_folds} folds, found one outside {fold}.")
        predictions[held] = fit_head(x[~held], y[~held], kind, classes, seed).predict(x[held]).reshape(y[held].shape)
    return summary(y, predictions, folds, classes, seed)


def fit_head(x: np.ndarray, y: np.ndarray, kind: Kind, classes: bool, seed: int) -> Any:
    """A fitted scikit-learn head on standardised columns, its penalty chosen inside the rows."""
    from sklearn.linear_model import (
        LinearRegression,
        LogisticRegression,
        RidgeClassifier,
        RidgeClassifierCV,
        RidgeCV,
    )
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if kind == "ridge":
        head = RidgeClassifierCV(PENALTIES) if classes else RidgeCV(PENALTIES)
    elif kind == "linear":
        head = RidgeClassifier(1e-10) if classes else LinearRegression()
    elif kind == "logistic":
        options = [LogisticRegression(C=c, max_iter=5000) for c in STRENGTHS]
        head = _chosen(options, x, y, seed)
    else:
        maker = KNeighborsClassifier if classes else KNeighborsRegressor
        fitting = len(x) - len(x) // 4
        head = _chosen([maker(k) for k in NEIGHBOURS if k <= fitting], x, y, seed)
    return make_pipeline(StandardScaler(), head).fit(x, y)


def summary(y: np.ndarray, predictions: np.ndarray, folds: np.ndarray, classes: bool, seed: int) -> Probe:
    """Score, interval and baseline of predictions of rows that were held out."""
    parts = [folds == fold for fold in np.unique(folds)]
    if classes:
        right = predictions == y
        interval = rate_interval(int(right.sum()), len(y), LEVEL)
        baseline = float(np.unique(y, return_counts=True)[1].max() / len(y))
        return Probe(float(right.mean()), interval, tuple(float(right[p].mean()) for p in parts), baseline, predictions)
    columns = y.reshape(len(y), -1)
    missed = ((columns - predictions.reshape(columns.shape)) ** 2).sum(1)
    spread = ((columns - columns.mean(0)) ** 2).sum(1)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(y), np.full(len(y), 1 / len(y)), size=DRAWS).astype(np.float64)
    interval = percentile_interval(1 - (weights @ missed) / (weights @ spread))
    scores = tuple(float(1 - missed[p].sum() / spread[p].sum()) for p in parts)
    return Probe(float(1 - missed.sum() / spread.sum()), interval, scores, 0.0, predictions)


def assign_folds(y: np.ndarray | None, n: int, num_folds: int, groups: Any, seed: int) -> Int64[np.ndarray, " n"]:
    """Fold of every row: at random, with classes (or whole groups) dealt out in turn."""
    rng = np.random.default_rng(seed)
    if groups is not None:
        groups = np.asarray(groups)
        if groups.shape != (n,):
            raise ValueError(f"groups: expected {n} groups, one a row, found shape {groups.shape}.")
        names, index = np.unique(groups, return_inverse=True)
        if len(names) < num_folds:
            raise ValueError(f"groups: expected at least {num_folds}, found {len(names)}.")
        return rng.permuted(np.arange(len(names)) % num_folds)[index]
    if n < num_folds:
        raise ValueError(f"x: expected at least {num_folds} rows, found {n}.")
    order = rng.permutation(n)
    if y is not None:
        order = order[np.argsort(y[order], kind="stable")]
    folds = np.empty(n, np.int64)
    folds[order] = np.arange(n) % num_folds
    return folds


def check_targets(y: Any, n: int) -> tuple[np.ndarray, bool]:
    """Targets as an array, and whether they are classes; raises ``ValueError`` unless one a row, not all equal."""
    y = y.detach().cpu().numpy() if hasattr(y, "detach") else np.asarray(y)
    classes = not np.issubdtype(y.dtype, np.floating)
    if len(y.shape) not in ((1,) if classes else (1, 2)) or len(y) != n:
        raise ValueError(f"y: expected {n} targets, one a row of x, found shape {y.shape}.")
    if not classes:
        y = y.astype(np.float64)
        bad = ~np.isfinite(y).reshape(n, -1).all(1)
        if bad.any():
            raise ValueError(f"y: expected finite numbers, found NaN or infinity in row {int(bad.argmax())}.")
    if n == 0 or (y == y[0]).all():
        raise ValueError("y: expected targets that differ, found one value in all rows.")
    return y, classes


def check_kind(kind: str, classes: bool) -> None:
    """Raise ``ValueError`` for a kind of probe that does not exist or does not fit the targets."""
    if kind not in get_args(Kind):
        raise ValueError(f"kind: expected one of {list(get_args(Kind))}, found {kind!r}.")
    if kind == "logistic" and not classes:
        raise ValueError("kind: expected 'ridge', 'linear' or 'knn' for numbers, found 'logistic'.")


@dataclass(frozen=True, eq=False)
class ProbeGrid:
    """Probes of many layers and noise levels, and an honest score of the best.

    Attributes:
        cells: A probe by name, cross-fitted on the rows for choosing.
        best: Name of the highest score.
        score: Score of the best on the rows that were kept out of the choice.
        interval: Its 95 % interval.
    """

    cells: Mapping[Any, Probe]
    best: Any
    score: float
    interval: Interval


def probe_grid(
    found: Mapping[Any, Any], y: Any, *, kind: Kind = "ridge", num_folds: int = 5, share: float = 1 / 3, seed: int = 0
) -> ProbeGrid:
    """Probe every set of features, choose the best, and score it on rows that took no part in the choice.

    Args:
        found: Features ``(n, d)`` by name, the same rows in each, as `activations` and `denoiser_features` give them.
        y: Targets as in `probe`.
        kind: As in `probe`.
        num_folds: As in `probe`.
        share: Part of the rows that is kept for the last score.
        seed: Fixes rows and folds.

    Returns:
        The grid, the best name and its score.

    Raises:
        ValueError: No features, or what `probe` raises.

    Source: Diffusion Models Beat GANs on Image Classification (2023).
    """
    if not found:
        raise ValueError("found: expected at least one set of features, found none.")
    if not 0 < share < 1:
        raise ValueError(f"share: expected a number between 0 and 1, found {share}.")
    sets = {name: features(x, f"found[{name!r}]").detach().cpu().numpy() for name, x in found.items()}
    y, classes = check_targets(y, len(next(iter(sets.values()))))
    parts = max(2, round(1 / share))
    kept = assign_folds(y if classes else None, len(y), parts, None, seed) == 0
    cells = {name: probe(x[~kept], y[~kept], kind=kind, num_folds=num_folds, seed=seed) for name, x in sets.items()}
    best = max(cells, key=lambda name: cells[name].score)
    head = fit_head(sets[best][~kept], y[~kept], kind, classes, seed)
    predictions = head.predict(sets[best][kept]).reshape(y[kept].shape)
    last = summary(y[kept], predictions, np.zeros(int(kept.sum())), classes, seed)
    return ProbeGrid(cells, best, last.score, last.interval)


def _chosen(options: Sequence[Any], x: np.ndarray, y: np.ndarray, seed: int) -> Any:
    """The option that is best on a quarter of the rows after fitting on the rest."""
    from sklearn.base import clone
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classes = not np.issubdtype(y.dtype, np.floating)
    held = assign_folds(y if classes else None, len(x), 4, None, seed) == 0
    if classes and len(np.unique(y[~held])) < 2:
        return options[len(options) // 2]
    scores = [
        make_pipeline(StandardScaler(), clone(option)).fit(x[~held], y[~held]).score(x[held], y[held])
        for option in options
    ]
    return options[int(np.argmax(scores))]
