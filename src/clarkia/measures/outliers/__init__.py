"""Outliers: how unusual is a row, given usual ones? One protocol, ``fit(features, labels)`` and ``score(features)``."""

from clarkia.measures.outliers.denoising import DenoisingError, FittedDenoisingError
from clarkia.measures.outliers.flow import CouplingFlow, sinusoidal_positions
from clarkia.measures.outliers.grouped import FittedGroupedGaussians, GroupedGaussians
from clarkia.measures.outliers.hvcm import HVCM, HVCMHead, HVCMLoss
from clarkia.measures.outliers.hypersphere import (
    HypersphereConstraint,
    Shell,
    contraction_loss,
    preservation_loss,
    radius,
)
from clarkia.measures.outliers.likelihood import FittedLogLikelihood, LogLikelihood
from clarkia.measures.outliers.logits import Energy, MaximumSoftmax
from clarkia.measures.outliers.mahalanobis import FittedMahalanobis, Mahalanobis
from clarkia.measures.outliers.maps import anomaly_maps, closeness, image_scores
from clarkia.measures.outliers.matching import VectorQuantiser, match_order_statistics
from clarkia.measures.outliers.neighbours import FittedNeighbours, NearestNeighbours
from clarkia.measures.outliers.protocol import FittedScorer, Scorer
from clarkia.measures.outliers.resad import FittedResidualDetector, ResidualDetector, ResidualModel
from clarkia.measures.outliers.residual_flow import FittedResidualFlow, ResidualFlow
from clarkia.measures.outliers.residuals import ResidualFeatures
from clarkia.measures.outliers.self_distillation import DistilledHVCM, DistilledHVCMLoss, agreement_loss
from clarkia.measures.outliers.trained import FittedHVCM, HVCMScorer

__all__ = [
    "HVCM",
    "CouplingFlow",
    "DenoisingError",
    "DistilledHVCM",
    "DistilledHVCMLoss",
    "Energy",
    "FittedDenoisingError",
    "FittedGroupedGaussians",
    "FittedHVCM",
    "FittedLogLikelihood",
    "FittedMahalanobis",
    "FittedNeighbours",
    "FittedResidualDetector",
    "FittedResidualFlow",
    "FittedScorer",
    "GroupedGaussians",
    "HVCMHead",
    "HVCMLoss",
    "HVCMScorer",
    "HypersphereConstraint",
    "LogLikelihood",
    "Mahalanobis",
    "MaximumSoftmax",
    "NearestNeighbours",
    "ResidualDetector",
    "ResidualFeatures",
    "ResidualFlow",
    "ResidualModel",
    "Scorer",
    "Shell",
    "VectorQuantiser",
    "agreement_loss",
    "anomaly_maps",
    "closeness",
    "contraction_loss",
    "image_scores",
    "match_order_statistics",
    "preservation_loss",
    "radius",
    "sinusoidal_positions",
]
