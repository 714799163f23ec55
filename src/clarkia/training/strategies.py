"""How a module is trained: whole or cut up among processes, compiled or not."""

from __future__ import annotations

import torch
from torch import nn

from .objective import Objective
from .options import TrainingOptions
from .processes import Processes
from .trainee import Trainee, Whole


def trainee_of(objective: Objective, processes: Processes, device: torch.device, options: TrainingOptions) -> Trainee:
    """Make a module ready to be trained, on the device of this process.

    Args:
        objective: the module and its loss.
        processes: those that train it.
        device: of this process.
        options: their `strategy`.
    """
    if not _is_cut(objective.module, processes, device, options):
        return Whole(objective, processes)
    from .sharded import Sharded  # what it needs of torch takes a while to import

    return Sharded(objective, processes, device)


def _is_cut(module: nn.Module, processes: Processes, device: torch.device, options: TrainingOptions) -> bool:
    if processes.size == 1 or options.strategy != "auto" or device.type != "cuda":
        return processes.size > 1 and options.strategy == "fsdp"
    weights = sum(weight.numel() * weight.element_size() for weight in module.parameters())
    # Weights, gradients, two moments, the average and its best, and one for every further average.
    needed = weights * (6 + len(options.ema_sigmas))
    (largest,) = processes.largest(needed / torch.cuda.get_device_properties(device).total_memory)
    return largest > 0.5


def compiled_in_place(module: nn.Module) -> list[nn.Module]:
    """Compile a module, or what it holds where it is a mere container, without a wrapper that would rename weights.

    Returns:
        The modules that are compiled from now on, for `uncompile`.
    """
    if type(module).forward is not nn.Module.forward:
        module.compile()
        return [module]
    return [compiled for child in module.children() for compiled in compiled_in_place(child)]


def uncompile(modules: list[nn.Module]) -> None:
    """Let modules compute as they did before `compiled_in_place`."""
    for module in modules:
        module._compiled_call_impl = None
