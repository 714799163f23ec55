"""Measures: how close are two sets of rows, how useful, and how private is one of them?"""

from clarkia.measures.detection import TwoSampleTest, c2st, detection_score
from clarkia.measures.fidelity import Fidelity, fidelity_scores
from clarkia.measures.intervals import Interval
from clarkia.measures.marginals import (
    kolmogorov_smirnov,
    missing_rate_difference,
    shape_errors,
    total_variation,
    wasserstein,
)
from clarkia.measures.pairs import correlation_difference, joint_total_variation, mean_pair, pair_errors, trend_errors
from clarkia.measures.privacy import (
    AttributeInference,
    Copies,
    MembershipAttack,
    attribute_inference,
    closer_share,
    closer_to_real,
    closest_record_distances,
    exact_copies,
    membership_attack,
    outlier_ratio,
)
from clarkia.measures.rows import MixedRows, Target
from clarkia.measures.tabsyn import TabsynScores, tabsyn_2024
from clarkia.measures.utility import Predictor, train_and_test

__all__ = [
    "AttributeInference",
    "Copies",
    "Fidelity",
    "Interval",
    "MembershipAttack",
    "MixedRows",
    "Predictor",
    "TabsynScores",
    "Target",
    "TwoSampleTest",
    "attribute_inference",
    "c2st",
    "closer_share",
    "closer_to_real",
    "closest_record_distances",
    "correlation_difference",
    "detection_score",
    "exact_copies",
    "fidelity_scores",
    "joint_total_variation",
    "kolmogorov_smirnov",
    "mean_pair",
    "membership_attack",
    "missing_rate_difference",
    "outlier_ratio",
    "pair_errors",
    "shape_errors",
    "tabsyn_2024",
    "total_variation",
    "train_and_test",
    "trend_errors",
    "wasserstein",
]
