"""Privacy: do synthetic rows give away rows the generator was trained on?"""

from __future__ import annotations

from clarkia.measures.intervals import mean_interval, rate_interval
from clarkia.measures.privacy import (
    attribute_inference,
    closer_to_real,
    exact_copies,
    membership_attack,
    outlier_ratio,
)
from clarkia.measures.rows import MixedRows
from clarkia.reports.material import Material
from clarkia.reports.metric import Metric, metric


def copy_metrics(material: Material) -> tuple[Metric, ...]:
    """Exact copies among all rows; the naive table copies its training rows."""
    real, made = material.coded.rows["real"], material.coded.rows["synthetic"]
    copies = exact_copies(real, made)
    rows = (len(real), len(made))
    verbatim = exact_copies(real, real)
    return (
        metric(
            "Exact copies",
            "privacy",
            float(copies.copied.mean()),
            interval=rate_interval(int(copies.copied.sum()), len(made)),
            floor=copies.expected,
            ceiling=1.0,
            rows=rows,
            note="Synthetic rows equal to a real row in every column; the floor is the share of real rows that "
            "another real row equals.",
        ),
        metric(
            "Copies of unique rows",
            "privacy",
            float(copies.unique.mean()),
            interval=rate_interval(int(copies.unique.sum()), len(made)),
            floor=copies.expected_unique,
            ceiling=float(verbatim.unique.mean()),
            rows=rows,
            note="Synthetic rows equal to a real row that occurs once.",
        ),
    )


def neighbour_metrics(material: Material, holdout: MixedRows) -> tuple[Metric, ...]:
    """Nearest records against a holdout."""
    real, made = material.real, material.synthetic
    closer = closer_to_real(real, holdout, made, seed=material.seed)
    ratio = outlier_ratio(real, holdout, made, seed=material.seed)
    rng = material.rng("privacy")
    size = min(len(real), len(holdout))
    return (
        metric(
            "Nearer to training than to holdout",
            "privacy",
            float(closer.mean()),
            interval=mean_interval(closer, rng=rng),
            floor=0.5,
            ceiling=1.0,
            rows=(size, len(closer)),
            note="Share of synthetic rows whose nearest training row is nearer than the nearest of as many holdout "
            "rows, ties counted half; 0.5 by symmetry for fresh rows.",
        ),
        metric(
            "Distance to outliers",
            "privacy",
            float(ratio.mean()),
            better="higher",
            interval=mean_interval(ratio, rng=rng),
            floor=0.5,
            ceiling=0.0,
            rows=(len(ratio), min(len(holdout), len(made))),
            note="For the 5% loneliest training rows: distance to synthetic over distance to synthetic plus holdout; "
            "0.5 by symmetry for fresh rows, 0 when each was copied.",
        ),
    )


def attack_metrics(material: Material, holdout: MixedRows) -> tuple[Metric, ...]:
    """Membership and attribute inference."""
    real, made = material.real, material.synthetic
    attack = membership_attack(real, holdout, made, seed=material.seed)
    worst = membership_attack(real, holdout, real, seed=material.seed)
    rows = (len(attack.members), len(made))
    metrics = [
        metric(
            "Membership attack AUC",
            "privacy",
            attack.auc,
            interval=attack.auc_interval,
            floor=0.5,
            ceiling=worst.auc,
            rows=rows,
            note="An attacker with the synthetic rows and half the holdout ranks training rows above others; 0.5 is a "
            "coin toss.",
        ),
        metric(
            "Members found at 1% false alarms",
            "privacy",
            attack.tpr,
            interval=attack.tpr_interval,
            floor=0.01,
            ceiling=worst.tpr,
            rows=rows,
            note="Share of training rows the same attack finds while wrongly accusing 1% of the others.",
        ),
    ]
    for name, column in material.sensitive.items():
        guess = attribute_inference(real, holdout, made, column, seed=material.seed)
        metrics.append(
            metric(
                f"Attribute inference gain, {name}",
                "privacy",
                guess.gain,
                interval=guess.interval,
                floor=0.0,
                ceiling=1 - guess.holdout,
                rows=(len(guess.terms), min(len(holdout), len(made))),
                note=f"Guessing {name} of a training row from its nearest synthetic row succeeds in "
                f"{guess.synthetic:.1%}, from as many holdout rows in {guess.holdout:.1%}.",
            )
        )
    return tuple(metrics)


def privacy_metrics(material: Material) -> tuple[Metric, ...]:
    """Copies always; neighbours and attacks where there is a holdout. The naive table copies its training rows."""
    metrics = copy_metrics(material)
    if material.holdout is None:
        return metrics
    return (*metrics, *neighbour_metrics(material, material.holdout), *attack_metrics(material, material.holdout))
