"""The eight metrics of the TabSyn and TabDiff papers under one name, "tabsyn-2024"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clarkia.measures.detection import TwoSampleTest, c2st, detection_score
from clarkia.measures.features import min_max
from clarkia.measures.fidelity import Fidelity, fidelity_scores
from clarkia.measures.marginals import shape_errors
from clarkia.measures.pairs import mean_pair, trend_errors
from clarkia.measures.privacy import closer_share, closest_record_distances
from clarkia.measures.rows import MixedRows, Target, stream, subsample
from clarkia.measures.utility import Predictor, macro_auc, rmse, train_and_test


@dataclass(frozen=True, eq=False)
class TabsynScores:
    """The metrics of protocol "tabsyn-2024"; shares and errors are in [0, 1], not in percent.

    Attributes:
        shape_error: Mean error of the single columns.
        trend_error: Mean error of the pairs, real and synthetic numeric columns cut at their own edges.
        trend_error_shared: The same with both cut at the real column's edges.
        alpha_precision: See ``measures.fidelity``; 1 is best.
        beta_recall: See ``measures.fidelity``; about 0.49 is best.
        c2st_logistic: Detection score of logistic regression; 1 is best.
        c2st_boosting_auc: Area under the ROC curve of gradient boosting; 0.5 is best.
        utility: AUC (classification) or root mean squared error of ``log(clip(y, 1, 20000))`` (regression) on the
            holdout of a model trained on synthetic rows; None without a holdout and a target.
        dcr_share: Share of synthetic rows strictly closer to a real than to a holdout row; 0.5 is best; None without
            a holdout.
        imputation: Micro-averaged AUC or log error of imputed targets; None unless imputations are given.
        details: The results behind the figures, for intervals.
    """

    shape_error: float
    trend_error: float
    trend_error_shared: float
    alpha_precision: float
    beta_recall: float
    c2st_logistic: float
    c2st_boosting_auc: float
    utility: float | None
    dcr_share: float | None
    imputation: float | None
    details: Details


@dataclass(frozen=True, eq=False)
class Details:
    """Results behind ``TabsynScores``."""

    shape: np.ndarray
    trend: np.ndarray
    trend_shared: np.ndarray
    fidelity: Fidelity
    logistic: TwoSampleTest
    boosting: TwoSampleTest
    predictor: Predictor | None
    closer: np.ndarray | None


def log_target(values: np.ndarray) -> np.ndarray:
    """Return the regression target of the protocol: the logarithm of the value cut to [1, 20000]."""
    return np.log(np.clip(values, 1, 20000))


def tstr_score(predictor: Predictor) -> float:
    """Return macro AUC for a classifier and root mean squared error for a regressor."""
    if predictor.task == "classification":
        return macro_auc(predictor.predictions, predictor.target)
    return rmse(predictor.predictions, predictor.target)


def tstr(train: MixedRows, test: MixedRows, target: Target, *, model: str = "boosting", seed: int = 0) -> Predictor:
    """Train on ``train``, test on ``test``, with the protocol's target."""
    (x, y), (x_test, y_test) = target.split(train), target.split(test)
    if target.numeric:
        y, y_test = log_target(y), log_target(y_test)
    return train_and_test(x, y, x_test, y_test, model=model, seed=seed)


def equal_halves_closer(
    real: MixedRows, holdout: MixedRows, synthetic: MixedRows, *, ties: str = "strict", seed: int = 0
) -> np.ndarray:
    """Indicators of being closer to real than to holdout rows, the larger set cut to the size of the smaller."""
    rng = stream(seed, "equal_halves_closer")
    size = min(len(real), len(holdout))
    distances = closest_record_distances(subsample(real, size, rng), synthetic, subsample(holdout, size, rng))
    return closer_share(*distances, ties=ties)


def imputation_score(truth: np.ndarray, draws: Sequence[np.ndarray]) -> float:
    """Score imputations of one column against the truth.

    Args:
        truth: Category codes (integer) or values (floating), shape (n,).
        draws: Imputed codes or values, each of shape (n,).

    Returns:
        Micro-averaged one-vs-rest AUC of the averaged one-hot draws, or the root mean squared error of the averaged
        log target. The micro average is inflated when classes are unequal.
    """
    if np.issubdtype(truth.dtype, np.floating):
        return rmse(np.mean([log_target(draw) for draw in draws], axis=0), log_target(truth))
    classes = np.arange(int(max(truth.max(), *(draw.max() for draw in draws))) + 1)
    votes = np.mean([draw[:, None] == classes for draw in draws], axis=0)
    hits = (truth[:, None] == classes).ravel().astype(np.int64)
    return macro_auc(np.stack([1 - votes.ravel(), votes.ravel()], 1), hits)


def tabsyn_2024(
    real: Any,
    synthetic: Any,
    *,
    holdout: Any = None,
    target: Target | None = None,
    imputed: Sequence[np.ndarray] | None = None,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda name: None,
) -> TabsynScores:
    """Compute the eight metrics of the TabSyn and TabDiff papers, and the AUC of gradient boosting.

    Departures from the shared script: the classifier of the utility metric is scikit-learn's histogram gradient
    boosting, tuned over leaves and trees by validation log loss, in place of XGBoost; alpha-precision keeps the last
    one-hot column, which the script drops by accident; missing numbers leave a pair's correlation instead of
    counting as 0.

    Args:
        real: Training rows, or an array (see ``MixedRows.of``).
        synthetic: Synthetic rows with the same columns and codes.
        holdout: Real rows the generator did not see, for utility and closest records.
        target: Column to predict.
        imputed: Imputations of the target column of the holdout, each of shape (n,).
        seed: Seed of folds, splits and classifiers.
        on_step: Called with the name of every step before it starts.

    Source: "Mixed-Type Tabular Data Synthesis with Score-based Diffusion in Latent Space" (2024); "TabDiff: a
    Mixed-type Diffusion Model for Tabular Data Generation" (2025).
    """
    real, synthetic = MixedRows.of(real), MixedRows.of(synthetic)
    on_step("Shape and Trend")
    shape = shape_errors(real, synthetic)
    trend, shared = trend_errors(real, synthetic), trend_errors(real, synthetic, edges="shared")
    on_step("Alpha-precision and beta-recall")
    # The reference needs equal sizes.
    size, rng = min(len(real), len(synthetic)), stream(seed, "tabsyn_2024")
    cloud = fidelity_scores(*min_max(subsample(real, size, rng), subsample(synthetic, size, rng)))
    on_step("Logistic two-sample test")
    logistic = c2st(real, synthetic, model="logistic", folds=3, seed=seed)
    on_step("Boosting two-sample test")
    boosting = c2st(real, synthetic, model="boosting", seed=seed)
    predictor = closer = imputation = None
    if holdout is not None:
        holdout = MixedRows.of(holdout)
        if target is not None:
            on_step("Utility")
            predictor = tstr(synthetic, holdout, target, seed=seed)
        on_step("Closest records")
        closer = equal_halves_closer(real, holdout, synthetic, seed=seed)
        if imputed is not None and target is not None:
            column = holdout.numeric if target.numeric else holdout.categorical
            imputation = imputation_score(column[:, target.position], imputed)
    return TabsynScores(
        shape_error=float(shape.mean()),
        trend_error=mean_pair(trend),
        trend_error_shared=mean_pair(shared),
        alpha_precision=cloud.alpha_precision,
        beta_recall=cloud.beta_recall,
        c2st_logistic=detection_score(logistic),
        c2st_boosting_auc=boosting.auc,
        utility=None if predictor is None else tstr_score(predictor),
        dcr_share=None if closer is None else float(closer.mean()),
        imputation=imputation,
        details=Details(shape, trend, shared, cloud, logistic, boosting, predictor, closer),
    )
