"""How one time meets a parameter with one value a column."""

from __future__ import annotations

import torch
from torch import Tensor


def against(t: Tensor, parameter: Tensor) -> Tensor:
    """A time ``(n,)`` with trailing axes for the axes of a per-column parameter; other times unchanged."""
    return t.reshape(-1, *(1,) * parameter.ndim) if parameter.ndim and t.ndim == 1 else t


def like(parameter: float | Tensor, t: Tensor) -> Tensor:
    """The parameter as a tensor on the device of ``t``, in its precision or at least float32."""
    return torch.as_tensor(parameter, device=t.device, dtype=torch.promote_types(t.dtype, torch.float32))
