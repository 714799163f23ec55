"""Backbones: they map scaled inputs and noise features to raw outputs and know nothing of processes."""

from clarkia.networks.mlp import ResidualMLP
from clarkia.networks.tabdiff import TabDiffNet

__all__ = ["ResidualMLP", "TabDiffNet"]
