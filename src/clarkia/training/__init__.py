"""The one training loop: a module, a loss and a data set in, trained weights out."""

from .arrow import ArrowSource
from .logs import CSVLog, TensorBoardLog
from .loop import TrainingRun, fit
from .options import TrainingOptions
from .posthoc import posthoc
from .progress import Log, Status
from .snapshots import snapshots_of
from .sources import Locality, LocalSource, Source

__all__ = [
    "ArrowSource",
    "CSVLog",
    "LocalSource",
    "Locality",
    "Log",
    "Source",
    "Status",
    "TensorBoardLog",
    "TrainingOptions",
    "TrainingRun",
    "fit",
    "posthoc",
    "snapshots_of",
]
