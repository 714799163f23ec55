"""Densities from kernels: estimators, the regimes in which they can be trusted, and how many rows a fit needs."""

from clarkia.measures.density.kernel import FittedKernelDensity, KernelDensity
from clarkia.measures.density.neighbourhoods import Neighbourhood
from clarkia.measures.density.projection import PNCriterion, pn_criterion
from clarkia.measures.density.regimes import DensityRegimes, density_regimes
from clarkia.measures.density.tails import hill_index
from clarkia.measures.density.theory import KernelRegimes, contributing_entropy, kernel_divergence, kernel_regimes

__all__ = [
    "DensityRegimes",
    "FittedKernelDensity",
    "KernelDensity",
    "KernelRegimes",
    "Neighbourhood",
    "PNCriterion",
    "contributing_entropy",
    "density_regimes",
    "hill_index",
    "kernel_divergence",
    "kernel_regimes",
    "pn_criterion",
]
