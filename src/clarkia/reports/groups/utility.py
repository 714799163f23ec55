"""Utility: does a model learn from synthetic rows what it would learn from real ones?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clarkia.measures.intervals import Interval, percentile_interval
from clarkia.measures.rows import MixedRows
from clarkia.measures.utility import (
    Predictor,
    bootstrap_scores,
    calibration_error,
    importance_correlation,
    log_loss,
    macro_auc,
    r2,
    rmse,
    train_and_test,
)
from clarkia.reports.material import Material
from clarkia.reports.metric import Metric, metric

Score = Callable[[np.ndarray, np.ndarray], float]

SCORES: dict[str, tuple[tuple[str, Score, str, str], ...]] = {
    "classification": (
        ("AUC", macro_auc, "higher", "Area under the ROC curve on real rows, mean over classes."),
        ("Log loss", log_loss, "lower", "Mean surprise at the true class of real rows, in nats."),
        ("Calibration error", calibration_error, "lower", "Gap between confidence and accuracy on real rows."),
    ),
    "regression": (
        ("R2", r2, "higher", "Share of the target's variance explained on real rows."),
        ("RMSE", rmse, "lower", "Root mean squared error on real rows, in the target's units."),
    ),
}


def _fit(material: Material, rows: MixedRows, test: MixedRows, model: str, *, importances: bool = False) -> Predictor:
    target = material.target
    assert target is not None
    (x, y), (x_test, y_test) = target.split(rows), target.split(test)
    return train_and_test(x, y, x_test, y_test, model=model, importances=importances, seed=material.seed)


def _model_metrics(model: str, made: Predictor, real: Predictor, naive: Predictor, rows: tuple[int, int], seed: int):
    """Scores of one kind of model, and what is lost against training on real rows."""
    metrics = []
    for position, (name, score, better, note) in enumerate(SCORES[made.task]):
        value, floor, ceiling = (score(p.predictions, p.target) for p in (made, real, naive))
        # A model that learned nothing has an AUC of 0.5 on average, but one draw of it wanders far.
        ceiling = 0.5 if score is macro_auc else ceiling
        draws = bootstrap_scores(score, made, real, seed=seed)
        metrics.append(
            metric(
                f"{name}, {model}",
                "utility",
                value,
                better=better,
                interval=percentile_interval(draws[:, 0]),
                floor=floor,
                ceiling=ceiling,
                rows=rows,
                note=note,
            )
        )
        if position == 0:
            lost = percentile_interval(draws[:, 1] - draws[:, 0])
            metrics.append(
                metric(
                    f"{name} lost, {model}",
                    "utility",
                    floor - value,
                    interval=Interval(lost.low, lost.high),
                    floor=0.0,
                    ceiling=floor - ceiling,
                    rows=rows,
                    note=f"{name} after training on as many real rows, less {name} after training on synthetic rows.",
                )
            )
    return metrics


def utility_metrics(material: Material) -> tuple[Metric, ...]:
    """Train on synthetic, test on real, by boosting and by a linear model; nothing without a target.

    The test rows are the holdout, else the half of the real rows that the real model is not trained on. The naive
    table is the real one with columns permuted.
    """
    if material.target is None:
        return ()
    test = material.fresh
    made_rows, real_rows, naive_rows = material.cut(
        len(material.real), material.synthetic, material.reference, material.independent
    )
    rows = (len(real_rows), len(made_rows))
    metrics: list[Metric] = []
    for model in ("boosting", "linear"):
        deep = model == "boosting"
        made = _fit(material, made_rows, test, model, importances=deep)
        real = _fit(material, real_rows, test, model, importances=deep)
        naive = _fit(material, naive_rows, test, model)
        metrics += _model_metrics(model, made, real, naive, rows, material.seed)
        if made.importances is not None and len(made.importances) > 1:
            half = len(real_rows) // 2
            parts = [
                _fit(material, part, test, model, importances=True) for part in (real_rows[:half], real_rows[half:])
            ]
            metrics.append(
                metric(
                    "Importance agreement",
                    "utility",
                    importance_correlation(made, real),
                    better="higher",
                    floor=importance_correlation(*parts),
                    ceiling=0.0,
                    rows=rows,
                    note=f"Rank correlation of the importances of {len(made.importances)} features, synthetic against "
                    "real training; the floor compares models of two halves of the real rows.",
                )
            )
    return tuple(metrics)
