"""Which optimiser moves which weight."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ..errors import DataError
from .blocks import blocks
from .muon import Muon
from .options import TrainingOptions
from .trainee import Trainee


def optimizers_of(trainee: Trainee, options: TrainingOptions) -> list[torch.optim.Optimizer]:
    """The optimisers of all weights that learn.

    Args:
        trainee: the module in training.
        options: the settings of the run.

    Raises:
        DataError: Muon is asked for, and the module has no blocks.
    """
    weights = {name: weight for name, weight in trainee.followed.named_parameters() if weight.requires_grad}
    if options.optimizer == "adamw":
        return [_adamw(list(weights.values()), options)]
    matrices = _matrices(trainee.followed)
    inner = {name: weight for name, weight in weights.items() if weight in matrices}
    outer = [weight for weight in weights.values() if weight not in matrices]
    if not inner:
        raise DataError("training option optimizer must be adamw for a module without blocks, layers in a ModuleList")
    muon = Muon(inner, trainee, lr=options.peak, weight_decay=options.weight_decay)
    return [muon, _adamw(outer, options)] if outer else [muon]


def _matrices(module: nn.Module) -> set[Tensor]:
    """The weights of linear layers and convolutions in a network's blocks; its first and last layers stay outside."""
    parts = [part for block in blocks(module) for part in block.modules()]
    return {part.weight for part in parts if isinstance(part, nn.Linear | _ConvNd)}


def _adamw(weights: list[nn.Parameter], options: TrainingOptions) -> torch.optim.AdamW:
    """AdamW in its fused form (five times the speed of the others on a CPU); only matrices are decayed."""
    groups = [
        {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": options.weight_decay},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=options.peak, betas=options.betas, fused=True)
