"""The one sampling loop, its solvers and its hooks."""

from clarkia.samplers.ancestral import Ancestral
from clarkia.samplers.dpm import DPMSolverPP
from clarkia.samplers.euler import Euler
from clarkia.samplers.heun import Heun
from clarkia.samplers.hooks import Hook, Progress, Step, Trace
from clarkia.samplers.loop import default_solver, sample
from clarkia.samplers.mixed import Mixed
from clarkia.samplers.solver import Solver, Staged, take_carry

__all__ = [
    "Ancestral",
    "DPMSolverPP",
    "Euler",
    "Heun",
    "Hook",
    "Mixed",
    "Progress",
    "Solver",
    "Staged",
    "Step",
    "Trace",
    "default_solver",
    "sample",
    "take_carry",
]
