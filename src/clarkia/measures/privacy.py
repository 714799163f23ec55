"""Privacy of synthetic rows: copies, nearest records, membership and attribute inference.

"Real" rows are those the generator was trained on; "holdout" rows come from the same source and it never saw them.
A generator that learned the law and not the rows treats the two alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64

from clarkia._math.neighbours import nearest_gower
from clarkia.measures.detection import placements
from clarkia.measures.features import one_hot, rank_normal
from clarkia.measures.intervals import Interval, mean_interval, percentile_interval
from clarkia.measures.marginals import spread
from clarkia.measures.neighbours import TIE, nearest
from clarkia.measures.rows import MixedRows, Target, concatenate, num_classes, stream, subsample


def row_ids(rows: MixedRows) -> Int64[np.ndarray, " n"]:
    """Number the distinct rows: two rows have the same number when all cells are equal (missing equals missing)."""
    ids = np.zeros(len(rows), np.int64)
    for column in (*rows.numeric.T, *rows.categorical.T):
        _, code = np.unique(column, return_inverse=True)  # NaNs are one value
        _, ids = np.unique(ids * (code.max(initial=0) + 1) + code, return_inverse=True)
    return ids


@dataclass(frozen=True, eq=False)
class Copies:
    """Synthetic rows that equal a real row in every column.

    Attributes:
        copied: For every synthetic row, whether a real row equals it, shape (m,).
        unique: For every synthetic row, whether exactly one real row equals it, shape (m,).
        expected: Share of copies among fresh rows of the same law: the share of real rows that another real row
            equals (leave-one-out).
        expected_unique: Share of fresh rows that equal exactly one of the others.
    """

    copied: Bool[np.ndarray, " m"]
    unique: Bool[np.ndarray, " m"]
    expected: float
    expected_unique: float


def exact_copies(real: Any, synthetic: Any) -> Copies:
    """Find synthetic rows that are exact copies of real rows, and of real rows that occur once.

    Args:
        real: Training rows, or an array (see ``MixedRows.of``).
        synthetic: Synthetic rows with the same columns and codes.
    """
    real, synthetic = MixedRows.of(real), MixedRows.of(synthetic)
    ids = row_ids(concatenate([real, synthetic]))
    counts = np.bincount(ids[: len(real)], minlength=ids.max() + 1)
    found, own = counts[ids[len(real) :]], counts[ids[: len(real)]]
    return Copies(found > 0, found == 1, float((own > 1).mean()), float((own == 2).mean()))


def closest_record_distances(reference: Any, *others: Any) -> tuple[Float64[np.ndarray, " n"], ...]:
    """Distance of every row of ``others[0]`` to its closest row in ``reference`` and in each of the further sets.

    ``closest_record_distances(real, synthetic, holdout)`` gives the distances of synthetic rows to real and to
    holdout rows. A numeric difference counts as a share of the reference column's range, a differing category as 2
    (the L1 distance of one-hot vectors); missing numbers are taken at the reference's mean.
    """
    parts = [MixedRows.of(rows) for rows in (reference, *others)]
    numeric = parts[0].numeric
    present = ~np.isnan(numeric)
    mean = np.where(present, numeric, 0.0).sum(0) / np.maximum(present.sum(0), 1)
    width = np.where(present, numeric, -np.inf).max(0, initial=-np.inf) - np.where(present, numeric, np.inf).min(
        0, initial=np.inf
    )
    width = np.where(width > 0, width, 1.0)
    classes = num_classes(*parts)
    encoded = [
        (
            torch.from_numpy(np.where(np.isnan(rows.numeric), mean, rows.numeric) / width),
            torch.from_numpy(one_hot(rows.categorical, classes).astype(np.float32)),
        )
        for rows in parts
    ]
    return tuple(nearest_gower(*encoded[1], *encoded[i])[0].numpy() for i in range(len(parts)) if i != 1)


def closer_share(to_real: np.ndarray, to_holdout: np.ndarray, *, ties: str = "split") -> Float64[np.ndarray, " n"]:
    """Indicator that a row is closer to the real rows than to the holdout; its mean is 0.5 for fresh rows.

    Args:
        to_real: Distances to the closest real row, shape (n,).
        to_holdout: Distances to the closest row of a holdout of equal size, shape (n,).
        ties: "split" counts an equal distance as one half; "strict" counts it as not closer, which makes fresh rows
            of coarse columns look private.

    Returns:
        Values 0, 0.5 or 1, shape (n,).
    """
    if ties not in ("split", "strict"):
        raise ValueError(f"ties must be 'split' or 'strict', not {ties!r}.")
    # Sums of the same terms in another order differ by rounding; such distances are equal.
    tied = np.isclose(to_real, to_holdout, rtol=1e-9, atol=1e-12)
    return np.where(tied, 0.5 if ties == "split" else 0.0, (to_real < to_holdout).astype(np.float64))


def closer_to_real(
    real: Any, holdout: Any, synthetic: Any, *, max_queries: int = 10_000, seed: int = 0
) -> Float64[np.ndarray, " n"]:
    """Indicator of every synthetic row that its nearest real row is nearer than its nearest holdout row.

    The larger of the two sets is cut to the size of the smaller, ties count one half, so the mean is 0.5 for fresh
    rows. Distances are Euclidean between rank-normal numbers and one-hot categories (a differing category is at 1).

    Args:
        real: Training rows, or an array (see ``MixedRows.of``).
        holdout: Real rows that were not trained on.
        synthetic: Synthetic rows.
        max_queries: Number of synthetic rows that are looked up at most.
        seed: Seed of the subsamples.
    """
    real, holdout, synthetic = MixedRows.of(real), MixedRows.of(holdout), MixedRows.of(synthetic)
    rng = stream(seed, "closer_to_real")
    size = min(len(real), len(holdout))
    a, b, queries = rank_normal(
        subsample(real, size, rng), subsample(holdout, size, rng), subsample(synthetic, max_queries, rng)
    )
    return closer_share(nearest(queries, a)[0], nearest(queries, b)[0])


def outlier_ratio(
    real: Any, holdout: Any, synthetic: Any, *, share: float = 0.05, seed: int = 0
) -> Float64[np.ndarray, " n"]:
    """How near synthetic rows come to the real outliers, next to how near holdout rows come.

    For each of the real rows farthest from all other real rows: ``d_s / (d_s + d_h)`` with the distances to the
    nearest synthetic and the nearest holdout row (sets of equal size). The mean is 0.5 for fresh rows, whatever the
    law, and 0 when every outlier was copied: memorised outliers are the people easiest to recognise.

    Args:
        real: Training rows, or an array (see ``MixedRows.of``).
        holdout: Real rows that were not trained on.
        synthetic: Synthetic rows.
        share: Share of the real rows that count as outliers.
        seed: Seed of the subsamples.
    """
    real, holdout, synthetic = MixedRows.of(real), MixedRows.of(holdout), MixedRows.of(synthetic)
    rng = stream(seed, "outlier_ratio")
    size = min(len(holdout), len(synthetic))
    points, fresh, made = rank_normal(
        subsample(real, max(size, 1000), rng), subsample(holdout, size, rng), subsample(synthetic, size, rng)
    )
    isolation, _ = nearest(points, points, exclude_self=True)
    outliers = points[np.argsort(-isolation, kind="stable")[: max(1, int(len(points) * share))]]
    return _ratio(nearest(outliers, made)[0], nearest(outliers, fresh)[0])


def _ratio(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """``first / (first + second)``, one half where both are 0 or equal up to rounding."""
    total = first + second
    tied = np.abs(first - second) <= TIE * total
    return np.where(tied, 0.5, first / np.where(total > 0, total, 1.0))


@dataclass(frozen=True, eq=False)
class MembershipAttack:
    """How well an attacker who holds the synthetic rows tells training rows from other rows of the same law.

    Attributes:
        auc: Area under the ROC curve; 0.5 when membership leaves no trace.
        auc_interval: Bootstrap interval over the attacked rows.
        tpr: Share of training rows found when 1 % of the other rows are wrongly accused; 0.01 without a trace.
        tpr_interval: Bootstrap interval over the attacked rows.
        members: Scores of training rows, higher is more suspect, shape (n,).
        others: Scores of the other rows, shape (k,).
    """

    auc: float
    auc_interval: Interval
    tpr: float
    tpr_interval: Interval
    members: Float64[np.ndarray, " n"]
    others: Float64[np.ndarray, " k"]


FALSE_POSITIVE_RATE = 0.01


def _tpr(members: np.ndarray, others: np.ndarray) -> float:
    """True positive rate at 1 % false positives; members at the threshold count by the share that ties leave."""
    threshold = np.quantile(others, 1 - FALSE_POSITIVE_RATE, method="inverted_cdf")
    above, at = (others > threshold).mean(), (others == threshold).mean()
    part = np.clip((FALSE_POSITIVE_RATE - above) / at, 0, 1)
    return float((members > threshold).mean() + part * (members == threshold).mean())


def membership_attack(
    real: Any, holdout: Any, synthetic: Any, *, max_rows: int = 5000, draws: int = 200, seed: int = 0
) -> MembershipAttack:
    """Attack membership by the ratio of synthetic to reference density at a row.

    Half of the holdout is the attacker's reference sample, the other half and as many training rows are attacked.
    A row is suspect when its nearest synthetic row is near compared with its nearest reference row: the score is
    ``d_reference / (d_reference + d_synthetic)``, the nearest-neighbour estimate of the density ratio in "Membership
    Inference Attacks against Synthetic Data through Overfitting Detection" (2023).

    Args:
        real: Training rows, or an array (see ``MixedRows.of``).
        holdout: Real rows that were not trained on, at least 4.
        synthetic: Synthetic rows.
        max_rows: Number of rows of each kind that are attacked at most.
        draws: Number of bootstrap draws.
        seed: Seed of the splits and the bootstrap.

    Raises:
        ValueError: The holdout has fewer than 4 rows.
    """
    real, holdout, synthetic = MixedRows.of(real), MixedRows.of(holdout), MixedRows.of(synthetic)
    if len(holdout) < 4:
        raise ValueError(f"A membership attack needs at least 4 holdout rows, not {len(holdout)}.")
    rng = stream(seed, "membership_attack")
    order = rng.permutation(len(holdout))
    reference, others = holdout[order[: len(order) // 2]], holdout[order[len(order) // 2 :][:max_rows]]
    attacked = concatenate([subsample(real, len(others), rng), others])
    known, made, points = rank_normal(reference, synthetic, attacked)
    scores = _ratio(nearest(points, known)[0], nearest(points, made)[0])
    members, others = scores[: -len(others)], scores[-len(others) :]
    place, against = placements(members, others), 1 - placements(others, members)
    auc = float(place.mean())
    spread = mean_interval(place - auc, against - auc, rng=rng)
    rates = [_tpr(rng.choice(members, len(members)), rng.choice(others, len(others))) for _ in range(draws)]
    return MembershipAttack(
        auc=auc,
        auc_interval=Interval(auc + spread.low, auc + spread.high).clip(0, 1),
        tpr=_tpr(members, others),
        tpr_interval=percentile_interval(np.array(rates)),
        members=members,
        others=others,
    )


@dataclass(frozen=True, eq=False)
class AttributeInference:
    """How much better a hidden cell of a training row is guessed from synthetic than from fresh rows.

    Attributes:
        gain: Difference of the two success rates; 0 when the synthetic rows say no more than the law.
        interval: Bootstrap interval over the attacked rows.
        synthetic: Success rate with the synthetic rows.
        holdout: Success rate with as many holdout rows.
        terms: Difference of success of every attacked row, shape (n,).
    """

    gain: float
    interval: Interval
    synthetic: float
    holdout: float
    terms: Float64[np.ndarray, " n"]


def attribute_inference(
    real: Any, holdout: Any, synthetic: Any, column: Target, *, max_rows: int = 5000, seed: int = 0
) -> AttributeInference:
    """Guess one column of training rows from the nearest synthetic row in all other columns.

    A guess succeeds when the category is equal, or the number is within a tenth of the interquartile range.

    Args:
        real: Training rows, or an array (see ``MixedRows.of``).
        holdout: Real rows that were not trained on; the same guess from these is the baseline.
        synthetic: Synthetic rows.
        column: The hidden column.
        max_rows: Number of training rows that are attacked at most.
        seed: Seed of the subsamples.
    """
    real, holdout, synthetic = MixedRows.of(real), MixedRows.of(holdout), MixedRows.of(synthetic)
    rng = stream(seed, "attribute_inference")
    size = min(len(holdout), len(synthetic))
    attacked, fresh, made = (
        subsample(real, max_rows, rng),
        subsample(holdout, size, rng),
        subsample(synthetic, size, rng),
    )
    features, known, points = rank_normal(*(column.features(rows) for rows in (attacked, fresh, made)))
    truth = column.values(attacked)
    scale = spread(column.values(real)) if column.numeric else 0.0
    success = []
    for sources, values in ((points, made), (known, fresh)):
        guess = column.values(values)[nearest(features, sources)[1]]
        if column.numeric:
            both = np.isnan(truth) & np.isnan(guess)
            success.append(both | (np.abs(guess - truth) <= 0.1 * scale))
        else:
            success.append(guess == truth)
    terms = success[0].astype(np.float64) - success[1]
    return AttributeInference(
        gain=float(terms.mean()),
        interval=mean_interval(terms, rng=rng),
        synthetic=float(success[0].mean()),
        holdout=float(success[1].mean()),
        terms=terms,
    )
