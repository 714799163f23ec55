"""Procedural data whose law is known exactly."""

from .household import household, household_conditional, household_log_prob
from .laws import Conditional
from .shapes import ColouredShapes
from .spurious import Spurious, linear_accuracies, spurious

__all__ = [
    "ColouredShapes",
    "Conditional",
    "Spurious",
    "household",
    "household_conditional",
    "household_log_prob",
    "linear_accuracies",
    "spurious",
]
