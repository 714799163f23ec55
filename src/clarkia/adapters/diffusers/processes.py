"""What a scheduler's configuration says: the process a network was trained under, what it predicts, and a grid."""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.processes import Gaussian, RectifiedFlow, VarianceExploding, VariancePreserving
from clarkia.schedules import TabulatedVP

_PREDICTIONS = {"epsilon": "epsilon", "sample": "x0", "v_prediction": "v", "flow_prediction": "velocity"}


def process_of(scheduler: Any) -> Gaussian:
    """The process that networks used with a scheduler were trained under.

    Args:
        scheduler: A diffusers scheduler. Those with a table ``alphas_cumprod`` give a variance-preserving process, in
            whatever units the scheduler itself walks; flow-matching ones the rectified flow; EDM's a
            variance-exploding one.

    Raises:
        ValueError: A scheduler of another kind.
    """
    config = scheduler.config
    if _is_flow(scheduler):
        return RectifiedFlow()
    if _is_edm(scheduler):
        return VarianceExploding(config.sigma_min, config.sigma_max, config.rho)
    if not hasattr(scheduler, "alphas_cumprod"):
        raise ValueError(f"scheduler: expected one with alphas_cumprod, a flow or EDM's, found {_name(scheduler)}.")
    return VariancePreserving(TabulatedVP.from_signal(scheduler.alphas_cumprod))


def prediction_of(scheduler: Any) -> str:
    """What a network used with a scheduler predicts: ``"epsilon"``, ``"x0"``, ``"v"`` or ``"velocity"``.

    Raises:
        ValueError: A prediction type that is none of these, or EDM's scheduler, whose network is preconditioned.
    """
    if _is_flow(scheduler):
        return "velocity"
    kind = getattr(scheduler.config, "prediction_type", "epsilon")
    if kind not in _PREDICTIONS or _is_edm(scheduler):
        raise ValueError(f"scheduler: expected a prediction among {list(_PREDICTIONS)}, found {kind!r}.")
    return _PREDICTIONS[kind]


def times_of(scheduler: Any, num_steps: int, **options: Any) -> Float[Tensor, " nodes"]:
    """The grid that a scheduler would walk, as times of `process_of` it.

    Args:
        scheduler: A diffusers scheduler; it is not changed.
        num_steps: Number of steps.
        options: Further arguments of its ``set_timesteps``, such as ``mu`` of a dynamic shift.

    Returns:
        float64 times, decreasing; the last is 0, or the first level's where the scheduler ends there.
    """
    scheduler = copy.deepcopy(scheduler)
    scheduler.set_timesteps(num_steps, **options)
    if hasattr(scheduler, "sigmas"):
        sigmas = torch.as_tensor(scheduler.sigmas, dtype=torch.float64).cpu()
        times = sigmas if _is_flow(scheduler) else process_of(scheduler).t_of_kappa(sigmas)
        return times.clamp(0.0, 1.0).unique_consecutive()  # a second-order scheduler lists inner levels twice
    count = scheduler.config.num_train_timesteps
    levels = torch.as_tensor(scheduler.timesteps, dtype=torch.float64).cpu()
    last = 0.0 if getattr(scheduler.config, "set_alpha_to_one", True) else 1.0
    return torch.cat([levels + 1, levels.new_tensor([last])]) / count


def _is_flow(scheduler: Any) -> bool:
    kind = getattr(scheduler.config, "prediction_type", None)
    flow = kind == "flow_prediction" or getattr(scheduler.config, "use_flow_sigmas", False)
    return bool(flow) or _name(scheduler).startswith("FlowMatch")


def _is_edm(scheduler: Any) -> bool:
    return _name(scheduler).startswith("EDM")


def _name(scheduler: Any) -> str:
    return type(scheduler).__name__
