"""Distributions with closed forms: what every algorithm is tested against."""

from clarkia.oracles.joint import FiniteJoint
from clarkia.oracles.mixed import MixedJoint
from clarkia.oracles.mixture import GaussianMixture

__all__ = ["FiniteJoint", "GaussianMixture", "MixedJoint"]
