"""Distributions with closed forms: what every algorithm is tested against."""

from clarkia.oracles.classes import Channel, ClassLaw
from clarkia.oracles.embedding import Embedded
from clarkia.oracles.joint import FiniteJoint
from clarkia.oracles.lowrank import MixtureOfLowRank
from clarkia.oracles.markov import MarkovChain
from clarkia.oracles.mixed import MixedJoint
from clarkia.oracles.mixture import GaussianMixture
from clarkia.oracles.products import MixtureOfProducts
from clarkia.oracles.smoothed import KernelSmoothed

__all__ = [
    "Channel",
    "ClassLaw",
    "Embedded",
    "FiniteJoint",
    "GaussianMixture",
    "KernelSmoothed",
    "MarkovChain",
    "MixedJoint",
    "MixtureOfLowRank",
    "MixtureOfProducts",
]
