"""Functions from a denoiser to a denoiser."""

from clarkia.guidance.classifier_free import classifier_free

__all__ = ["classifier_free"]
