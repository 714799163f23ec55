"""Whole rows: can a classifier or a nearest neighbour tell them from real ones?"""

from clarkia.measures.detection import c2st
from clarkia.measures.features import rank_normal
from clarkia.measures.fidelity import fidelity_scores, level_interval
from clarkia.measures.intervals import Interval, rate_interval
from clarkia.reports.material import Material
from clarkia.reports.metric import Metric, metric

NEIGHBOUR_ROWS = 10_000  # rows a side in nearest-neighbour metrics, whose time grows with the square

DETECTION_NOTES = {
    "boosting": "Area under the ROC curve of gradient boosting that tells synthetic from real rows it did not see: "
    "0.5 is a coin toss. It grows with the number of rows, so compare it at equal rows only.",
    "logistic": "The same of logistic regression, which sees single columns but hardly any dependence.",
}


def detection_metrics(material: Material) -> tuple[Metric, ...]:
    """Classifier two-sample tests by boosting and by logistic regression."""
    metrics = []
    for model, folds in (("boosting", 5), ("logistic", 3)):
        test = c2st(material.real, material.synthetic, model=model, folds=folds, seed=material.seed)
        fresh = c2st(material.reference, material.fresh, model=model, folds=folds, seed=material.seed)
        naive = c2st(material.real, material.independent, model=model, folds=folds, seed=material.seed)
        metrics.append(
            metric(
                f"Two-sample AUC, {model}",
                "joint",
                test.auc,
                interval=test.interval,
                floor=fresh.auc,
                ceiling=naive.auc,
                rows=test.rows,
                note=DETECTION_NOTES[model],
            )
        )
    return tuple(metrics)


def fidelity_metrics(material: Material) -> tuple[Metric, ...]:
    """Alpha-precision, beta-recall and authenticity at equal numbers of rows."""
    parts = material.cut(NEIGHBOUR_ROWS, material.reference, material.synthetic, material.fresh, material.independent)
    points, made, fresh, naive = rank_normal(*parts)
    score, floor, ceiling = (fidelity_scores(points, other) for other in (made, fresh, naive))
    rng = material.rng("fidelity")
    authentic = rate_interval(int(score.authentic.sum()), len(score.authentic))
    return (
        metric(
            "Alpha-precision",
            "joint",
            score.alpha_precision,
            better="higher",
            interval=level_interval(score.inside, rng),
            floor=floor.alpha_precision,
            ceiling=ceiling.alpha_precision,
            rows=score.rows,
            note="Synthetic rows lie as far from the real centre as real rows do; 1 is perfect.",
        ),
        metric(
            "Beta-recall",
            "joint",
            score.beta_recall,
            better="higher",
            interval=level_interval(score.covered, rng),
            floor=floor.beta_recall,
            ceiling=ceiling.beta_recall,
            rows=score.rows,
            note="Real rows have a synthetic row nearer than any other real row; fresh real rows score about one half, "
            "not 1. The interval resamples the real rows.",
        ),
        metric(
            "Authenticity",
            "joint",
            score.authenticity,
            better="higher",
            interval=Interval(authentic.low, authentic.high),
            floor=floor.authenticity,
            ceiling=0.0,
            rows=score.rows,
            note="Share of synthetic rows that are not suspiciously near a real row; fresh rows score about one half, "
            "copies 0 (the naive value here), and more than fresh rows means rows far from the data.",
        ),
    )
