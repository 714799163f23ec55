"""Measures: how close are two sets of rows, how useful, and how private is one of them?"""

from clarkia.measures.detection import TwoSampleTest, c2st, detection_score
from clarkia.measures.fidelity import Fidelity, fidelity
from clarkia.measures.intervals import Interval
from clarkia.measures.marginals import (
    kolmogorov_smirnov,
    missing_rate_difference,
    shape_errors,
    total_variation,
    wasserstein,
)
from clarkia.measures.pairs import correlation_difference, joint_total_variation, mean_pair, pair_errors, trend_errors
from clarkia.measures.privacy import closer_share, closest_record_distances
from clarkia.measures.rows import MixedRows
from clarkia.measures.tabsyn import TabsynScores, Target, tabsyn_2024
from clarkia.measures.utility import Predictor, train_and_test

__all__ = [
    "Fidelity",
    "Interval",
    "MixedRows",
    "Predictor",
    "TabsynScores",
    "Target",
    "TwoSampleTest",
    "c2st",
    "closer_share",
    "closest_record_distances",
    "correlation_difference",
    "detection_score",
    "fidelity",
    "joint_total_variation",
    "kolmogorov_smirnov",
    "mean_pair",
    "missing_rate_difference",
    "pair_errors",
    "shape_errors",
    "tabsyn_2024",
    "total_variation",
    "train_and_test",
    "trend_errors",
    "wasserstein",
]
