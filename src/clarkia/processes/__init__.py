"""Forward corruptions over t in [0, 1], 0 clean and 1 the prior, and the arithmetic of their predictions."""

from typing import TypeAlias

from clarkia.processes.aggregated import AggregatedGaussian, ClassEncoder
from clarkia.processes.discrete import Discrete, MaskSchedule
from clarkia.processes.gaussian import Gaussian
from clarkia.processes.kernels import (
    CategoricalKernel,
    DiscreteKernel,
    GaussianKernel,
    Kernel,
    MaskedKernel,
    MixedKernel,
    RevealKernel,
)
from clarkia.processes.masked import Masked
from clarkia.processes.mixed import Mixed
from clarkia.processes.mixture_path import MixturePath, Uniform
from clarkia.processes.paths import (
    GaussianPath,
    RectifiedFlow,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
)
from clarkia.processes.times import Time, block_time, spread
from clarkia.processes.token_embedding import FixedEmbedding, TokenEmbeddingGaussian

Process: TypeAlias = Gaussian | Discrete | Mixed

EDM = VarianceExploding()
"""The variance-exploding process with the published settings: noise from 0.002 to 80, rho = 7."""

__all__ = [
    "EDM",
    "AggregatedGaussian",
    "CategoricalKernel",
    "ClassEncoder",
    "Discrete",
    "DiscreteKernel",
    "FixedEmbedding",
    "Gaussian",
    "GaussianKernel",
    "GaussianPath",
    "Kernel",
    "MaskSchedule",
    "Masked",
    "MaskedKernel",
    "Mixed",
    "MixedKernel",
    "MixturePath",
    "Process",
    "RectifiedFlow",
    "RevealKernel",
    "SubVariancePreserving",
    "Time",
    "TokenEmbeddingGaussian",
    "Uniform",
    "VarianceExploding",
    "VariancePreserving",
    "block_time",
    "spread",
]
