"""Curation: which rows to keep, which few synthetic rows stand for many, and what tells whole sets of rows apart."""

from clarkia.curation.classifier import Classifier, convnet, perceptron
from clarkia.curation.descent import Descent, Optimised, masked_optimise
from clarkia.curation.distill import distill
from clarkia.curation.labels import DistanceLabels, mixed_label_loss
from clarkia.curation.refinement.noncritical import Noncritical, noncritical_mask, refine
from clarkia.curation.refinement.saliency import cam
from clarkia.curation.refinement.statistics import FeatureStatistics
from clarkia.curation.refinement.transfer import relabel, transfer
from clarkia.curation.selection import (
    Selection,
    gradient_features,
    repetition_counts,
    select,
    whitened_distance,
    whitened_features,
)
from clarkia.curation.sets.embedding import DistributionEmbedding, fit_distribution_embedding
from clarkia.curation.sets.encoder import SetEncoder
from clarkia.curation.sets.gaussians import gaussian_geodesic, gaussian_wasserstein
from clarkia.curation.synthetic.augment import Augmentation
from clarkia.curation.synthetic.criteria import AdversarialGap, CharacteristicGap, Criterion, MeanGap
from clarkia.curation.synthetic.forms import Form, Mosaic, Rows, Table
from clarkia.curation.synthetic.matching import Matching, ncfm
from clarkia.curation.synthetic.pools import Drawn, FixedFeatures, ModelPool, Pool, RandomFeatures, train_pool
from clarkia.curation.synthetic.result import Evaluation, SyntheticDataset, evaluate
from clarkia.curation.views import Views, views

__all__ = [
    "AdversarialGap",
    "Augmentation",
    "CharacteristicGap",
    "Classifier",
    "Criterion",
    "Descent",
    "DistanceLabels",
    "DistributionEmbedding",
    "Drawn",
    "Evaluation",
    "FeatureStatistics",
    "FixedFeatures",
    "Form",
    "Matching",
    "MeanGap",
    "ModelPool",
    "Mosaic",
    "Noncritical",
    "Optimised",
    "Pool",
    "RandomFeatures",
    "Rows",
    "Selection",
    "SetEncoder",
    "SyntheticDataset",
    "Table",
    "Views",
    "cam",
    "convnet",
    "distill",
    "evaluate",
    "fit_distribution_embedding",
    "gaussian_geodesic",
    "gaussian_wasserstein",
    "gradient_features",
    "masked_optimise",
    "mixed_label_loss",
    "ncfm",
    "noncritical_mask",
    "perceptron",
    "refine",
    "relabel",
    "repetition_counts",
    "select",
    "train_pool",
    "transfer",
    "views",
    "whitened_distance",
    "whitened_features",
]
