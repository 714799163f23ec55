"""Procedural data whose law is known exactly."""

from .household import household, household_conditional, household_log_prob
from .laws import Conditional
from .shapes import ColouredShapes

__all__ = ["ColouredShapes", "Conditional", "household", "household_conditional", "household_log_prob"]
