"""How likely is a data point under a model: exact densities, bounds, and the orders of a masked model."""

from clarkia.measures.likelihood.bits import BitsPerDimension, UniformNoise, bits_per_dim, from_levels
from clarkia.measures.likelihood.elbo import elbo
from clarkia.measures.likelihood.enumeration import enumerated_elbo
from clarkia.measures.likelihood.flow import log_density
from clarkia.measures.likelihood.immse import immse_log_density
from clarkia.measures.likelihood.joint import JointBound, edlm_paper, joint_elbo, log_mean_bounds
from clarkia.measures.likelihood.joint_enumeration import enumerated_joint_elbo
from clarkia.measures.likelihood.orders import order_nll, order_spread
from clarkia.measures.likelihood.result import Likelihood

__all__ = [
    "BitsPerDimension",
    "JointBound",
    "Likelihood",
    "UniformNoise",
    "bits_per_dim",
    "edlm_paper",
    "elbo",
    "enumerated_elbo",
    "enumerated_joint_elbo",
    "from_levels",
    "immse_log_density",
    "joint_elbo",
    "log_density",
    "log_mean_bounds",
    "order_nll",
    "order_spread",
]
