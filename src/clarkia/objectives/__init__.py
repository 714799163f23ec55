"""Losses: from a denoiser, a process and clean data to a loss a row, and the evidence lower bound."""

from clarkia.objectives.balance import LevelBalance
from clarkia.objectives.crossflow import CrossFlow, CrossModal
from clarkia.objectives.element_time import ElementTimeDenoising
from clarkia.objectives.forward_model import ForwardModelLoss
from clarkia.objectives.gaussian import Denoising
from clarkia.objectives.masked import MaskedELBO
from clarkia.objectives.masking import ComplementaryMasking, Given, Prompt
from clarkia.objectives.mixed import MixedDenoising
from clarkia.objectives.mixture_path import DiscreteFlowMatching
from clarkia.objectives.multitask import JointDenoiser, MultiTaskELBO
from clarkia.objectives.noise import LogitNormal, LogNormal, Shifted, UniformTime
from clarkia.objectives.observed import RandomBoxes, RandomElements, RandomSpans
from clarkia.objectives.residual_nce import ResidualNCE
from clarkia.objectives.score_entropy import ScoreEntropy

__all__ = [
    "ComplementaryMasking",
    "CrossFlow",
    "CrossModal",
    "Denoising",
    "DiscreteFlowMatching",
    "ElementTimeDenoising",
    "ForwardModelLoss",
    "Given",
    "JointDenoiser",
    "LevelBalance",
    "LogNormal",
    "LogitNormal",
    "MaskedELBO",
    "MixedDenoising",
    "MultiTaskELBO",
    "Prompt",
    "RandomBoxes",
    "RandomElements",
    "RandomSpans",
    "ResidualNCE",
    "ScoreEntropy",
    "Shifted",
    "UniformTime",
]
