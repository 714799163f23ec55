"""Changing what a trained denoiser samples: new labels by control, designs by their reward."""

from clarkia.alignment.chains import Changed, Transition, chain
from clarkia.alignment.control import Control
from clarkia.alignment.control_gap import ControlGap, control_gap
from clarkia.alignment.controlled import Controlled, Copy, Correction
from clarkia.alignment.ctrl import ControlCost, ctrl
from clarkia.alignment.designers import Designer, DiffusionDesigner, GaussianDesigner, gaussian_designs
from clarkia.alignment.reward_directed import Proposals, RewardDirected, TargetReport, recommend
from clarkia.alignment.reward_models import Ensemble, RewardModel, Ridge

__all__ = [
    "Changed",
    "Control",
    "ControlCost",
    "ControlGap",
    "Controlled",
    "Copy",
    "Correction",
    "Designer",
    "DiffusionDesigner",
    "Ensemble",
    "GaussianDesigner",
    "Proposals",
    "RewardDirected",
    "RewardModel",
    "Ridge",
    "TargetReport",
    "Transition",
    "chain",
    "control_gap",
    "ctrl",
    "gaussian_designs",
    "recommend",
]
