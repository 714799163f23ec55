"""Distribution shift: how accuracy moves across domains, corruptions and groups, and whether the move is real."""

from clarkia.measures.shift.bottleneck import Bottleneck, cauchy_schwarz_u, cs_mutual_information
from clarkia.measures.shift.corruptions import SEVERITIES, Rerender, corrupt
from clarkia.measures.shift.manifest import Manifest
from clarkia.measures.shift.predictors import (
    Adaptable,
    Answers,
    Classifier,
    DenoisingClassifier,
    Prototypes,
    SimilarityClassifier,
    TorchClassifier,
    ask,
)
from clarkia.measures.shift.report import Accuracy, Outcome, Report
from clarkia.measures.shift.sizes import ShiftSize, rank_correlation, shift_sizes
from clarkia.measures.shift.statistics import PairedTest, cluster_bootstrap, mcnemar, wilson_interval
from clarkia.measures.shift.subgroups import (
    CurveFit,
    GroupAccuracies,
    SubgroupCurve,
    chord,
    group_accuracies,
    subgroup_curve,
)
from clarkia.measures.shift.suite import CLEAN, Scenario, Suite

__all__ = [
    "CLEAN",
    "SEVERITIES",
    "Accuracy",
    "Adaptable",
    "Answers",
    "Bottleneck",
    "Classifier",
    "CurveFit",
    "DenoisingClassifier",
    "GroupAccuracies",
    "Manifest",
    "Outcome",
    "PairedTest",
    "Prototypes",
    "Report",
    "Rerender",
    "Scenario",
    "ShiftSize",
    "SimilarityClassifier",
    "SubgroupCurve",
    "Suite",
    "TorchClassifier",
    "ask",
    "cauchy_schwarz_u",
    "chord",
    "cluster_bootstrap",
    "corrupt",
    "cs_mutual_information",
    "group_accuracies",
    "mcnemar",
    "rank_correlation",
    "shift_sizes",
    "subgroup_curve",
    "wilson_interval",
]
