"""Classifier two-sample tests: can a classifier tell real rows from synthetic ones?"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from clarkia.measures.features import plain, trainable, tree_matrix
from clarkia.measures.intervals import Interval, mean_interval
from clarkia.measures.rows import MixedRows, stream


@dataclass(frozen=True, eq=False)
class TwoSampleTest:
    """Result of a classifier two-sample test.

    Attributes:
        auc: Mean over the folds of the area under the ROC curve on rows the classifier did not see; 0.5 when the two
            sets cannot be told apart. A difference shows more clearly the more rows there are: compare figures at
            equal row counts only.
        fold_aucs: The area of every fold.
        interval: Bootstrap interval of ``auc`` over rows, widened for the rows that folds share.
        synthetic_scores: Probability of being synthetic given to every synthetic row by the classifier that did not
            see it, shape (m,).
        real_scores: The same for the real rows, shape (n,).
        rows: Numbers of real and synthetic rows used.
    """

    auc: float
    fold_aucs: tuple[float, ...]
    interval: Interval
    synthetic_scores: Float64[np.ndarray, " m"]
    real_scores: Float64[np.ndarray, " n"]
    rows: tuple[int, int]


def placements(scores: np.ndarray, against: np.ndarray) -> Float64[np.ndarray, " n"]:
    """Share of ``against`` below every score, ties counted half; their mean is the area under the ROC curve."""
    ordered = np.sort(against)
    return 0.5 * (np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")) / len(against)


def _boosting(categorical: np.ndarray, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    options: dict[str, Any] = {"categorical_features": categorical, "early_stopping": False}
    return HistGradientBoostingClassifier(max_iter=100, random_state=seed, **options)


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import RobustScaler

    return make_pipeline(RobustScaler(), LogisticRegression(solver="lbfgs"))


def c2st(real: Any, synthetic: Any, *, model: str = "boosting", folds: int = 5, seed: int = 0) -> TwoSampleTest:
    """Classifier two-sample test, cross-validated.

    Args:
        real: Rows, or an array (see ``MixedRows.of``), n of them.
        synthetic: Rows with the same columns, m of them.
        model: "boosting" (histogram gradient boosting on numbers and categories, missing values included) or
            "logistic" (logistic regression on imputed, robust-scaled, one-hot columns, as in SDMetrics).
        folds: Number of stratified folds.
        seed: Seed of the folds, the classifier and the bootstrap.

    Raises:
        ValueError: ``model`` is unknown, or a set has fewer rows than folds.

    Source: "Revisiting Classifier Two-Sample Tests" (2017).
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import StratifiedKFold

    real, synthetic = MixedRows.of(real), MixedRows.of(synthetic)
    if min(len(real), len(synthetic)) < folds:
        raise ValueError(f"A two-sample test with {folds} folds needs at least {folds} rows on each side.")
    if model == "boosting":
        (a, b), categorical = tree_matrix(real, synthetic)
    elif model == "logistic":
        a, b = plain(real, synthetic)
    else:
        raise ValueError(f"model must be 'boosting' or 'logistic', not {model!r}.")
    features = np.concatenate([a, b])
    labels = np.repeat([0, 1], [len(a), len(b)])
    scores, share = np.zeros(len(labels)), np.zeros(len(labels))
    fold_aucs = []
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(features, labels):
        classifier = _boosting(categorical, seed) if model == "boosting" else _logistic()
        with warnings.catch_warnings():
            # A hundred steps are part of the reference's definition, converged or not.
            warnings.simplefilter("ignore", ConvergenceWarning)
            classifier.fit(trainable(features[train]), labels[train])
        scores[test] = classifier.predict_proba(features[test])[:, 1]
        ones, zeros = test[labels[test] == 1], test[labels[test] == 0]
        share[ones] = placements(scores[ones], scores[zeros])
        share[zeros] = 1 - placements(scores[zeros], scores[ones])
        fold_aucs.append(float(share[ones].mean()))
    auc = float(np.mean(fold_aucs))
    rng = stream(seed, "c2st")
    # First-order bootstrap over both sets: the deviations of the two groups' mean placements add. Folds share their
    # training rows, so the area varies more than its test rows alone: the factor of "Inference for the
    # Generalization Error" (2003) for test sets 1 / (folds - 1) the size of the training sets.
    spread = mean_interval(share[labels == 1] - auc, share[labels == 0] - auc, rng=rng)
    width = np.sqrt(1 + folds / (folds - 1))
    return TwoSampleTest(
        auc=auc,
        fold_aucs=tuple(fold_aucs),
        interval=Interval(auc + width * spread.low, auc + width * spread.high).clip(0, 1),
        synthetic_scores=scores[labels == 1],
        real_scores=scores[labels == 0],
        rows=(len(real), len(synthetic)),
    )


def detection_score(test: TwoSampleTest) -> float:
    """Detection score of SDMetrics and TabSyn: one minus the mean over folds of ``2 max(AUC, 0.5) - 1``; 1 is best."""
    return float(1 - np.mean([2 * max(auc, 0.5) - 1 for auc in test.fold_aucs]))
