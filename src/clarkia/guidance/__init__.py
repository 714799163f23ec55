"""Functions from a denoiser to a denoiser."""

from clarkia.guidance.classifier_free import classifier_free
from clarkia.guidance.restrict import unaware_of, without_classes
from clarkia.guidance.truncate import truncate

__all__ = ["classifier_free", "truncate", "unaware_of", "without_classes"]
