"""Backbones: they map scaled inputs and noise features to raw outputs and know nothing of processes."""

from clarkia.networks.mlp import ResidualMLP
from clarkia.networks.precision import Bfloat16, bfloat16_is_fast
from clarkia.networks.tabdiff import TabDiffNet

__all__ = ["Bfloat16", "ResidualMLP", "TabDiffNet", "bfloat16_is_fast"]
