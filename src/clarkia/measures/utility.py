"""Train on synthetic, test on real: what a predictive model loses when it learns from synthetic rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy import stats

from clarkia.measures.detection import placements
from clarkia.measures.features import plain, trainable, tree_matrix
from clarkia.measures.rows import MixedRows, stream

TREES = (25, 50, 100, 200)
MAX_TREES = 1000
LEAVES = (7, 15, 31)
INVERSE_PENALTIES = (0.01, 0.1, 1.0, 10.0)
VALIDATION_SHARE = 1 / 9


@dataclass(frozen=True, eq=False)
class Predictor:
    """A fitted model's predictions on the test rows.

    Attributes:
        task: "classification" or "regression".
        predictions: Class probabilities (n, classes) or predicted values (n,).
        target: True codes or values, shape (n,).
        setting: The hyper-parameters that validation on the training rows chose.
        importances: Loss of AUC or R2 when one feature column of the test rows is shuffled, numeric columns first;
            None unless asked for.
    """

    task: str
    predictions: np.ndarray
    target: np.ndarray
    setting: dict[str, float]
    importances: Float64[np.ndarray, " features"] | None = None


def macro_auc(probabilities: np.ndarray, target: np.ndarray) -> float:
    """Area under the ROC curve, one class against the rest, averaged over the classes that occur and are not all."""
    classes = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    areas = []
    for k in classes:
        inside = target == k
        if 0 < inside.sum() < len(target):
            areas.append(placements(probabilities[inside, k], probabilities[~inside, k]).mean())
    return float(np.mean(areas)) if areas else np.nan


def log_loss(probabilities: np.ndarray, target: np.ndarray) -> float:
    """Mean negative log-probability of the true class, in nats."""
    return float(-np.log(probabilities[np.arange(len(target)), target]).mean())


def calibration_error(probabilities: np.ndarray, target: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error of the most probable class: mean gap of confidence and accuracy in equal-mass bins."""
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == target
    groups = np.array_split(np.argsort(confidence, kind="stable"), bins)
    gaps = [abs(confidence[g].mean() - correct[g].mean()) * len(g) for g in groups if len(g)]
    return float(np.sum(gaps) / len(target))


def r2(predictions: np.ndarray, target: np.ndarray) -> float:
    """Share of the target's variance that the predictions explain; NaN for a constant target."""
    variance = target.var()
    return float(1 - np.mean((target - predictions) ** 2) / variance) if variance > 0 else np.nan


def rmse(predictions: np.ndarray, target: np.ndarray) -> float:
    """Root mean squared error, in the target's units."""
    return float(np.sqrt(np.mean((target - predictions) ** 2)))


def _boosting(task: str, categorical: np.ndarray, leaves: int, trees: int, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingClassifier if task == "classification" else HistGradientBoostingRegressor
    options: dict[str, Any] = {"categorical_features": categorical, "early_stopping": False}
    return kind(max_leaf_nodes=leaves, max_iter=trees, random_state=seed, **options)


def _linear(task: str, inverse_penalty: float) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if task == "classification":
        return make_pipeline(StandardScaler(), LogisticRegression(C=inverse_penalty, max_iter=200))
    return make_pipeline(StandardScaler(), Ridge(alpha=1 / inverse_penalty))


def _predict(model: Any, features: np.ndarray, task: str, num_classes: int, n: int) -> np.ndarray:
    if task == "regression":
        return model.predict(features)
    return _all_classes(model.predict_proba(features), model.classes_, num_classes, n)


def _all_classes(probabilities: np.ndarray, classes: np.ndarray, num_classes: int, n: int) -> np.ndarray:
    """Probabilities over every class, with a floor for those that training rows never showed."""
    out = np.zeros((len(probabilities), num_classes))
    out[:, classes] = probabilities
    # No model learned from n rows can know a probability below about half a row in n; this bounds the log loss.
    out = np.maximum(out, 0.5 / n)
    return out / out.sum(1, keepdims=True)


def _loss(predictions: np.ndarray, target: np.ndarray, task: str) -> float:
    return log_loss(predictions, target) if task == "classification" else rmse(predictions, target)


def _rounds(num_classes: int) -> tuple[int, ...]:
    """Numbers of trees to choose from: each round fits a tree a class, so many classes get fewer rounds."""
    return tuple(n for n in TREES if num_classes < 3 or n * num_classes <= MAX_TREES) or TREES[:1]


def _candidates(
    task: str, model: str, categorical: np.ndarray, trees: int, seed: int
) -> Iterator[tuple[dict[str, float], Any]]:
    if model == "boosting":
        for leaves in LEAVES:
            yield {"leaves": leaves}, _boosting(task, categorical, leaves, trees, seed)
    else:
        for inverse_penalty in INVERSE_PENALTIES:
            yield {"inverse_penalty": inverse_penalty}, _linear(task, inverse_penalty)


def _staged(
    fitted: Any, features: np.ndarray, task: str, k: int, n: int
) -> Iterator[tuple[dict[str, float], np.ndarray]]:
    """Predictions of one fitted candidate, for boosting after every number of trees in ``TREES``."""
    if not hasattr(fitted, "staged_predict"):
        yield {}, _predict(fitted, features, task, k, n)
        return
    stages = fitted.staged_predict(features) if task == "regression" else fitted.staged_predict_proba(features)
    for trees, stage in enumerate(stages, 1):
        if trees in _rounds(k):
            yield {"trees": trees}, stage if task == "regression" else _all_classes(stage, fitted.classes_, k, n)


def _tune(
    features: np.ndarray, target: np.ndarray, task: str, model: str, categorical: np.ndarray, k: int, seed: int
) -> dict[str, float]:
    """Setting with the smallest validation loss; one ninth of the rows is the validation set."""
    order = stream(seed, "tune").permutation(len(target))
    held, kept = np.split(order, [max(1, int(len(target) * VALIDATION_SHARE))])
    best, best_loss = {}, np.inf
    trees = _rounds(k)[-1]
    for setting, candidate in _candidates(task, model, categorical, trees, seed):
        candidate.fit(trainable(features[kept]), target[kept])
        for stage, predictions in _staged(candidate, features[held], task, k, len(kept)):
            if (loss := _loss(predictions, target[held], task)) < best_loss:
                best, best_loss = setting | stage, loss
    return best


def _importances(model: Any, features: np.ndarray, task: str, target: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Loss of AUC or R2 when one column is shuffled, mean of three shuffles."""
    rng = stream(seed, "importances")
    rows = rng.permutation(len(target))[:3000]
    features, target = features[rows], target[rows]

    def score(matrix: np.ndarray) -> float:
        predictions = _predict(model, matrix, task, k, len(matrix))
        return macro_auc(predictions, target) if task == "classification" else r2(predictions, target)

    full = score(features)
    drops = np.zeros(features.shape[1])
    for column in range(len(drops)):
        for _ in range(3):
            shuffled = features.copy()
            shuffled[:, column] = rng.permutation(features[:, column])
            drops[column] += (full - score(shuffled)) / 3
    return drops


def train_and_test(
    train: Any,
    train_target: np.ndarray,
    test: Any,
    test_target: np.ndarray,
    *,
    model: str = "boosting",
    importances: bool = False,
    seed: int = 0,
) -> Predictor:
    """Tune and fit a model on one set of rows and predict another.

    The setting is chosen on a ninth of the training rows, never on the test rows, and refitted on all training rows.

    Args:
        train: Feature rows, or an array (see ``MixedRows.of``).
        train_target: Integer class codes (classification) or floating values (regression), shape (n,).
        test: Feature rows with the same columns.
        test_target: Codes or values of the test rows, shape (m,).
        model: "boosting" (histogram gradient boosting) or "linear" (logistic or ridge regression).
        importances: Also measure the importance of every feature column on the test rows (boosting only).
        seed: Seed of the split and the model.

    Raises:
        ValueError: ``model`` is unknown.
    """
    from sklearn.exceptions import ConvergenceWarning

    if model not in ("boosting", "linear"):
        raise ValueError(f"model must be 'boosting' or 'linear', not {model!r}.")
    train, test = MixedRows.of(train), MixedRows.of(test)
    task = "regression" if np.issubdtype(train_target.dtype, np.floating) else "classification"
    k = 0 if task == "regression" else int(max(train_target.max(), test_target.max())) + 1
    if model == "boosting":
        (x, x_test), categorical = tree_matrix(train, test)
    else:
        (x, x_test), categorical = plain(train, test), np.zeros(0, bool)
    if task == "classification" and len(np.unique(train_target)) < 2:
        constant = _all_classes(np.ones((len(x_test), 1)), np.unique(train_target), k, len(x))
        return Predictor(task, constant, test_target, {}, np.zeros(len(categorical)) if importances else None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        setting = _tune(x, train_target, task, model, categorical, k, seed)
        if model == "boosting":
            fitted = _boosting(task, categorical, int(setting["leaves"]), int(setting["trees"]), seed)
        else:
            fitted = _linear(task, setting["inverse_penalty"])
        fitted.fit(trainable(x), train_target)
    drops = None
    if importances and model == "boosting":
        drops = _importances(fitted, x_test, task, test_target, k, seed)
    return Predictor(task, _predict(fitted, x_test, task, k, len(x)), test_target, setting, drops)


def bootstrap_scores(
    score: Callable[[np.ndarray, np.ndarray], float],
    *predictors: Predictor,
    draws: int = 200,
    seed: int = 0,
) -> Float64[np.ndarray, "draws predictors"]:
    """Scores of predictors on resamples of the test rows, the same resamples for all of them.

    Args:
        score: Function of predictions and target, such as ``macro_auc``.
        predictors: Predictors of the same test rows.
        draws: Number of resamples.
        seed: Seed of the resamples.
    """
    rng = stream(seed, "bootstrap_scores")
    n = len(predictors[0].target)
    samples = (rng.integers(n, size=n) for _ in range(draws))
    return np.array([[score(p.predictions[rows], p.target[rows]) for p in predictors] for rows in samples])


def importance_correlation(first: Predictor, second: Predictor) -> float:
    """Spearman rank correlation of two models' feature importances; NaN when one of them uses no feature."""
    a, b = first.importances, second.importances
    if a is None or b is None:
        raise ValueError("Both predictors must have been made with importances=True.")
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return float(np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1])
