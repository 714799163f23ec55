"""Functions from a denoiser to a denoiser."""

from clarkia.guidance import filters
from clarkia.guidance.blend import blend
from clarkia.guidance.categorical import categorical
from clarkia.guidance.classifier_free import classifier_free, classifier_free_plus_plus, compose
from clarkia.guidance.composite import Term, composite
from clarkia.guidance.filtered import filtered, filtered_rows, lowband
from clarkia.guidance.flowchef import flowchef
from clarkia.guidance.grid import noise_interval, plus_plus_scale
from clarkia.guidance.guided import Guided
from clarkia.guidance.indicator import indicator
from clarkia.guidance.linear import METHODS, linear
from clarkia.guidance.mixed_blocks import mixed
from clarkia.guidance.potential import classifier, potential
from clarkia.guidance.restrict import unaware_of, without_classes
from clarkia.guidance.tfg_mixed import TFGFlow, loss_spread, tfg_mixed, zero_mean
from clarkia.guidance.threshold import dynamic_threshold
from clarkia.guidance.truncate import truncate

__all__ = [
    "METHODS",
    "Guided",
    "TFGFlow",
    "Term",
    "blend",
    "categorical",
    "classifier",
    "classifier_free",
    "classifier_free_plus_plus",
    "compose",
    "composite",
    "dynamic_threshold",
    "filtered",
    "filtered_rows",
    "filters",
    "flowchef",
    "indicator",
    "linear",
    "loss_spread",
    "lowband",
    "mixed",
    "noise_interval",
    "plus_plus_scale",
    "potential",
    "tfg_mixed",
    "truncate",
    "unaware_of",
    "without_classes",
    "zero_mean",
]
