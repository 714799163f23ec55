"""Diagnostics of a learned field: is it a score, of which densities, on how many dimensions, and does it copy?"""

from clarkia.measures.fields.clustering import Subspaces, recover_subspaces, subspace_error
from clarkia.measures.fields.collapse import Collapse, collapse_level, gaussian_collapse
from clarkia.measures.fields.dimension import IntrinsicDimension, intrinsic_dimension
from clarkia.measures.fields.flow_maps import FlowMapResiduals, flow_map_residuals
from clarkia.measures.fields.fokker_planck import OdeSdeGap, fokker_planck_residual, ode_sde_gap, potential_residual
from clarkia.measures.fields.gauge import (
    GaugeDecomposition,
    SteinTest,
    conservativity,
    gauge_decomposition,
    stein_test,
)
from clarkia.measures.fields.singular import (
    InstanceNoise,
    SingularityReport,
    choose_instance_noise,
    ppca_noise,
    singularity_report,
)
from clarkia.measures.fields.subspaces import Directions, effective_rank, jacobian_rank, semantic_directions

__all__ = [
    "Collapse",
    "Directions",
    "FlowMapResiduals",
    "GaugeDecomposition",
    "InstanceNoise",
    "IntrinsicDimension",
    "OdeSdeGap",
    "SingularityReport",
    "SteinTest",
    "Subspaces",
    "choose_instance_noise",
    "collapse_level",
    "conservativity",
    "effective_rank",
    "flow_map_residuals",
    "fokker_planck_residual",
    "gauge_decomposition",
    "gaussian_collapse",
    "intrinsic_dimension",
    "jacobian_rank",
    "ode_sde_gap",
    "potential_residual",
    "ppca_noise",
    "recover_subspaces",
    "semantic_directions",
    "singularity_report",
    "stein_test",
    "subspace_error",
]
