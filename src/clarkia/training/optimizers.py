"""Which optimiser moves which weight."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from .muon import Muon
from .options import TrainingOptions
from .trainee import Trainee


def optimizers_of(trainee: Trainee, options: TrainingOptions) -> list[torch.optim.Optimizer]:
    """The optimisers of all weights that learn.

    Args:
        trainee: the module in training.
        options: the settings of the run.
    """
    weights = {name: weight for name, weight in trainee.followed.named_parameters() if weight.requires_grad}
    matrices = _matrices(trainee.followed) if options.optimizer == "muon" else set()
    others = {name: weight for name, weight in weights.items() if weight not in matrices}
    matrix_weights = {name: weight for name, weight in weights.items() if weight in matrices}
    found: list[torch.optim.Optimizer] = []
    if matrix_weights:
        muon = Muon(matrix_weights, trainee, lr=options.learning_rate, weight_decay=options.weight_decay)
        found.append(muon)
    if others:
        found.append(_adamw(list(others.values()), options))
    return found


def _matrices(module: nn.Module) -> set[Tensor]:
    """The weights of linear layers and convolutions; a table of embeddings is looked up, not multiplied."""
    return {part.weight for part in module.modules() if isinstance(part, nn.Linear | _ConvNd)}


def _adamw(weights: list[nn.Parameter], options: TrainingOptions) -> torch.optim.AdamW:
    """AdamW in its fused form (five times the speed of the others on a CPU); only matrices are decayed."""
    groups = [
        {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": options.weight_decay},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=options.learning_rate, betas=options.betas, fused=True)
