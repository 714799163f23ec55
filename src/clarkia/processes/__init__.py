"""Forward corruptions over t in [0, 1], 0 clean and 1 the prior, and the arithmetic of their predictions."""

from typing import TypeAlias

from clarkia.processes.gaussian import Gaussian, RectifiedFlow, VarianceExploding, VariancePreserving
from clarkia.processes.kernels import GaussianKernel, Kernel, MaskedKernel, MixedKernel
from clarkia.processes.masked import Masked
from clarkia.processes.mixed import Mixed
from clarkia.processes.times import Time, block_time, spread

Process: TypeAlias = Gaussian | Masked | Mixed

EDM = VarianceExploding()
"""The variance-exploding process with the published settings: noise from 0.002 to 80, rho = 7."""

__all__ = [
    "EDM",
    "Gaussian",
    "GaussianKernel",
    "Kernel",
    "Masked",
    "MaskedKernel",
    "Mixed",
    "MixedKernel",
    "Process",
    "RectifiedFlow",
    "Time",
    "VarianceExploding",
    "VariancePreserving",
    "block_time",
    "spread",
]
