"""The one training loop: a module, a loss and a data set in, trained weights out."""

from .loop import TrainingRun, fit
from .options import TrainingOptions
from .progress import Status

__all__ = ["Status", "TrainingOptions", "TrainingRun", "fit"]
