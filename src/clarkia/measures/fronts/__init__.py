"""Trade-offs between several measures: fronts, hypervolumes, and the sweep of a knob that makes them."""

from clarkia.measures.fronts.agreement import conditional_diversity, conditional_realism
from clarkia.measures.fronts.dominance import front_probability, normal_replicates, pareto_mask
from clarkia.measures.fronts.hypervolume import Hypervolume, hypervolume, hypervolume_interval
from clarkia.measures.fronts.indicators import GroupFronts, attainment, epsilon_indicator, group_fronts, knee
from clarkia.measures.fronts.sweep import PerCondition, Pooled, Sweep, sweep

__all__ = [
    "GroupFronts",
    "Hypervolume",
    "PerCondition",
    "Pooled",
    "Sweep",
    "attainment",
    "conditional_diversity",
    "conditional_realism",
    "epsilon_indicator",
    "front_probability",
    "group_fronts",
    "hypervolume",
    "hypervolume_interval",
    "knee",
    "normal_replicates",
    "pareto_mask",
    "sweep",
]
