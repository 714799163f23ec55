"""The metrics of protocol "tabsyn-2024" as lines of a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from clarkia.measures.fidelity import level_interval
from clarkia.measures.intervals import Interval, normal_interval, percentile_interval, rate_interval, recentred
from clarkia.measures.marginals import shape_errors
from clarkia.measures.pairs import mean_pair, trend_errors
from clarkia.measures.resampling import bootstrap_weights, marginal_draws, resample
from clarkia.measures.rows import MixedRows
from clarkia.measures.tabsyn import TabsynScores, imputation_score, tabsyn_2024, tstr, tstr_score
from clarkia.measures.utility import bootstrap_scores, macro_auc, rmse
from clarkia.reports.floors import fresh_distances
from clarkia.reports.material import Material
from clarkia.reports.metric import Metric, metric

FLOOR_DRAWS = 10
TREND_DRAWS = 30


def _floors(material: Material) -> tuple[float, float, float]:
    """Shape and Trend errors (own and shared edges) of two fresh samples of the sizes compared."""

    def errors(first: MixedRows, second: MixedRows) -> np.ndarray:
        own, shared = trend_errors(first, second), trend_errors(first, second, edges="shared")
        return np.array([shape_errors(first, second).mean(), mean_pair(own), mean_pair(shared)])

    rng = material.rng("tabsyn floors")
    shape, own, shared = fresh_distances(errors, material.every_real, material.rows, rng, FLOOR_DRAWS)
    return float(shape), float(own), float(shared)


def _trend_draws(material: Material) -> tuple[np.ndarray, np.ndarray]:
    """Trend errors (own and shared edges) on resamples of the synthetic rows."""
    rng = material.rng("trend draws")
    samples = [resample(material.synthetic, len(material.synthetic), rng) for _ in range(TREND_DRAWS)]
    own, shared = (
        np.array([mean_pair(trend_errors(material.real, sample, edges=edges)) for sample in samples])
        for edges in ("own", "shared")
    )
    return own, shared


def _column_metrics(material: Material, scores: TabsynScores) -> list[Metric]:
    shape_floor, own_floor, shared_floor = _floors(material)
    weights = bootstrap_weights(len(material.synthetic), material.rng("tabsyn"))
    drawn = marginal_draws(material.real, material.synthetic, weights)
    shape_draws = np.concatenate([drawn.kolmogorov_smirnov, drawn.total_variation], 1).mean(1)
    rows = material.rows
    metrics = [
        metric(
            "Shape error",
            "marginals",
            scores.shape_error,
            interval=recentred(scores.shape_error, shape_draws).clip(0, 1),
            floor=shape_floor,
            rows=rows,
            note="Mean of Kolmogorov-Smirnov and total-variation distances of the columns, missing dropped.",
        ),
    ]
    if len(scores.details.trend) < 2:
        return metrics
    own, shared = _trend_draws(material)
    return [
        *metrics,
        metric(
            "Trend error",
            "pairs",
            scores.trend_error,
            interval=normal_interval(scores.trend_error, own).clip(0, 1),
            floor=own_floor,
            rows=rows,
            note="Mean over pairs, numeric columns cut at the default histogram edges of each table on its own, as the "
            "published figures are: one outlier shifts all bins.",
        ),
        metric(
            "Trend error, shared edges",
            "pairs",
            scores.trend_error_shared,
            interval=normal_interval(scores.trend_error_shared, shared).clip(0, 1),
            floor=shared_floor,
            rows=rows,
            note="The same with both tables cut at the edges of the real column, outer bins open.",
        ),
    ]


def _joint_metrics(material: Material, scores: TabsynScores) -> list[Metric]:
    details = scores.details
    rng = material.rng("tabsyn joint")
    cloud = details.fidelity
    c2st_high = 1 - 2 * np.maximum(np.array([details.logistic.interval.low, details.logistic.interval.high]) - 0.5, 0)
    return [
        metric(
            "Alpha-precision",
            "joint",
            scores.alpha_precision,
            better="higher",
            interval=level_interval(cloud.inside, rng),
            floor=1.0,
            rows=cloud.rows,
            note="Min-max scaled numbers and one-hot categories.",
        ),
        metric(
            "Beta-recall",
            "joint",
            scores.beta_recall,
            better="higher",
            interval=level_interval(cloud.covered, rng),
            floor=0.49,
            rows=cloud.rows,
            note="Perfect fresh data scores about 0.49, not 1. The interval resamples the real rows.",
        ),
        metric(
            "C2ST score, logistic",
            "joint",
            scores.c2st_logistic,
            better="higher",
            interval=Interval(float(c2st_high[1]), float(c2st_high[0])),
            floor=1.0,
            rows=details.logistic.rows,
            note="1 - mean(2 max(AUC, 0.5) - 1) over three folds of logistic regression.",
        ),
        metric(
            "Two-sample AUC, boosting",
            "joint",
            scores.c2st_boosting_auc,
            interval=details.boosting.interval,
            floor=0.5,
            rows=details.boosting.rows,
            note="Not one of the eight. Gradient boosting sees what logistic regression cannot; it grows with the "
            "number of rows, so compare it at equal rows only.",
        ),
    ]


def _utility_metric(material: Material, scores: TabsynScores) -> list[Metric]:
    predictor = scores.details.predictor
    if predictor is None or material.holdout is None or material.target is None:
        return []
    real = tstr(material.real, material.holdout, material.target, seed=material.seed)
    score = macro_auc if predictor.task == "classification" else rmse
    draws = bootstrap_scores(score, predictor, seed=material.seed)
    classify = predictor.task == "classification"
    return [
        metric(
            "Utility AUC" if classify else "Utility RMSE of the log target",
            "utility",
            scores.utility,
            better="higher" if classify else "lower",
            interval=percentile_interval(draws[:, 0]),
            floor=tstr_score(real),
            rows=material.rows,
            note="Trained on synthetic, tested on holdout rows, by scikit-learn's histogram gradient boosting in place "
            "of XGBoost; the floor is training on the real rows. The interval resamples the holdout rows.",
        )
    ]


def _privacy_metrics(scores: TabsynScores) -> list[Metric]:
    closer = scores.details.closer
    if closer is None:
        return []
    return [
        metric(
            "Closest-record share",
            "privacy",
            scores.dcr_share,
            interval=rate_interval(int(closer.sum()), len(closer)),
            floor=0.5,
            rows=(len(closer), len(closer)),
            note="Share of synthetic rows strictly closer to a training than to a holdout row, sets cut to equal size. "
            "Ties count as not closer, and ten percent of verbatim copies move it by five points only: no proof of "
            "privacy.",
        )
    ]


def _imputation_metric(material: Material, imputed: Sequence[np.ndarray]) -> list[Metric]:
    if not imputed or material.target is None or material.holdout is None:
        return []
    truth, numeric = material.target.values(material.coded.rows["holdout"]), material.target.numeric
    known = ~np.isnan(truth) if numeric else truth >= 0
    return [
        metric(
            "Imputation RMSE of the log target" if numeric else "Imputation AUC, micro average",
            "utility",
            imputation_score(truth[known], [draw[known] for draw in imputed]),
            better="lower" if numeric else "higher",
            note="Imputed target cells of the holdout against the truth; a micro average is inflated when classes are "
            "unequal.",
        )
    ]


def tabsyn_metrics(
    material: Material,
    *,
    imputed: Sequence[np.ndarray] = (),
    on_step: Callable[[str], None] = lambda name: None,
) -> tuple[Metric, ...]:
    """Compute the protocol's metrics; floors are those of fresh real data, there are no ceilings.

    Args:
        material: The rows to compare.
        imputed: Imputations of the target column of the holdout, codes or values.
        on_step: Called with the name of every step before it starts.
    """
    scores = tabsyn_2024(
        material.real,
        material.synthetic,
        holdout=material.holdout,
        target=material.target,
        seed=material.seed,
        on_step=on_step,
    )
    on_step("Floors and intervals")
    metrics = [
        *_column_metrics(material, scores),
        *_joint_metrics(material, scores),
        *_utility_metric(material, scores),
        *_privacy_metrics(scores),
    ]
    return (*metrics, *_imputation_metric(material, imputed))
