"""Classification by denoisers: posteriors from shared noise, early pruning, and learned weights of noise levels."""

from clarkia.measures.classification.classifier import Classification, diffusion_classifier
from clarkia.measures.classification.stages import PRUNING, Stages
from clarkia.measures.classification.weights import TimestepWeights, fit_timestep_weights

__all__ = ["PRUNING", "Classification", "Stages", "TimestepWeights", "diffusion_classifier", "fit_timestep_weights"]
