"""The one sampling loop, its solvers and its hooks."""

from clarkia.samplers import counts, energies, policies
from clarkia.samplers.aggregated import given_classes, latent_denoiser, sample_jointly
from clarkia.samplers.ancestral import Ancestral
from clarkia.samplers.anchored import Anchored
from clarkia.samplers.any_order import AnyOrder
from clarkia.samplers.cache import OutputCache
from clarkia.samplers.ddim import DDIM, DDPM
from clarkia.samplers.ddrm import DDRM
from clarkia.samplers.deis import DEIS
from clarkia.samplers.dpm import DPMSolverPP, DPMSolverPPSinglestep
from clarkia.samplers.dps import DPS
from clarkia.samplers.element_time import ElementTime, doubled, together
from clarkia.samplers.euler import Euler
from clarkia.samplers.exponential import exponential_weights
from clarkia.samplers.first_hitting import FirstHitting
from clarkia.samplers.flowchef import FlowChef
from clarkia.samplers.heun import Heun
from clarkia.samplers.hooks import Hook, Progress, Step, Trace
from clarkia.samplers.joint import EnergyCorrection
from clarkia.samplers.jumps import MixtureStep, Renoised, TauLeaping
from clarkia.samplers.langevin import AnnealedLangevin, PredictorCorrector
from clarkia.samplers.loop import default_solver, sample
from clarkia.samplers.mixed import Mixed
from clarkia.samplers.moved import Moved
from clarkia.samplers.optimal_flows import optimal_flow_times
from clarkia.samplers.optimal_grids import optimal_times
from clarkia.samplers.region import HeldOutside, started
from clarkia.samplers.remdm import ReMDM
from clarkia.samplers.renoise import renoised
from clarkia.samplers.repaint import RePaint
from clarkia.samplers.runge_kutta import RungeKutta
from clarkia.samplers.signals import sample_signals, sample_views
from clarkia.samplers.solver import Solver, Staged, take_carry
from clarkia.samplers.tfg import PRESETS as TFG_PRESETS
from clarkia.samplers.tfg import TFG
from clarkia.samplers.unipc import SASolver, UniPC

__all__ = [
    "DDIM",
    "DDPM",
    "DDRM",
    "DEIS",
    "DPS",
    "TFG",
    "TFG_PRESETS",
    "Ancestral",
    "Anchored",
    "AnnealedLangevin",
    "AnyOrder",
    "DPMSolverPP",
    "DPMSolverPPSinglestep",
    "ElementTime",
    "EnergyCorrection",
    "Euler",
    "FirstHitting",
    "FlowChef",
    "HeldOutside",
    "Heun",
    "Hook",
    "Mixed",
    "MixtureStep",
    "Moved",
    "OutputCache",
    "PredictorCorrector",
    "Progress",
    "ReMDM",
    "RePaint",
    "Renoised",
    "RungeKutta",
    "SASolver",
    "Solver",
    "Staged",
    "Step",
    "TauLeaping",
    "Trace",
    "UniPC",
    "counts",
    "default_solver",
    "doubled",
    "energies",
    "exponential_weights",
    "given_classes",
    "latent_denoiser",
    "optimal_flow_times",
    "optimal_times",
    "policies",
    "renoised",
    "sample",
    "sample_jointly",
    "sample_signals",
    "sample_views",
    "started",
    "take_carry",
    "together",
]
