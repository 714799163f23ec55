"""Backbones: they map scaled inputs and noise features to raw outputs and know nothing of processes."""

from clarkia.networks.autoregressive import Autoregressive
from clarkia.networks.conditioning import Condition, ConditionEmbedding, Conditions
from clarkia.networks.counts import flops, num_parameters
from clarkia.networks.dit import DiT
from clarkia.networks.energy import EnergyHead
from clarkia.networks.fields import FieldTransformer
from clarkia.networks.mlp import ResidualMLP
from clarkia.networks.multihead import MultiHead
from clarkia.networks.precision import Bfloat16, bfloat16_is_fast
from clarkia.networks.sizes import matched
from clarkia.networks.source import SourceCode, TextTrunk, VariationalEncoder
from clarkia.networks.tabdiff import TabDiffNet
from clarkia.networks.time_predictor import ScaledEmbedding, TimePredictor, element_policy
from clarkia.networks.tokens import TokenTransformer
from clarkia.networks.unet import UNet
from clarkia.networks.uvit import UViT

__all__ = [
    "Autoregressive",
    "Bfloat16",
    "Condition",
    "ConditionEmbedding",
    "Conditions",
    "DiT",
    "EnergyHead",
    "FieldTransformer",
    "MultiHead",
    "ResidualMLP",
    "ScaledEmbedding",
    "SourceCode",
    "TabDiffNet",
    "TextTrunk",
    "TimePredictor",
    "TokenTransformer",
    "UNet",
    "UViT",
    "VariationalEncoder",
    "bfloat16_is_fast",
    "element_policy",
    "flops",
    "matched",
    "num_parameters",
]
