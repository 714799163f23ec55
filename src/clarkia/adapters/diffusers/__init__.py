"""Networks of diffusers as denoisers, their schedulers as processes, and solvers as their schedulers.

Nothing here imports diffusers: it works on the objects that it is given.
"""

from clarkia.adapters.diffusers.denoiser import PretrainedDenoiser, denoiser_of
from clarkia.adapters.diffusers.pipeline import Pretrained, from_pipeline
from clarkia.adapters.diffusers.processes import prediction_of, process_of, times_of
from clarkia.adapters.diffusers.scheduler import SolverScheduler

__all__ = [
    "Pretrained",
    "PretrainedDenoiser",
    "SolverScheduler",
    "denoiser_of",
    "from_pipeline",
    "prediction_of",
    "process_of",
    "times_of",
]
