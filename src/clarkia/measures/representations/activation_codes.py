"""Which linear piece of a network does a data point lie in: one bit a unit, whether it is active."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from clarkia.measures.fields.checks import check_count
from clarkia.measures.representations.codes import Codes, pack
from clarkia.measures.representations.tap import Inputs, check_layers, evaluating
from clarkia.spaces import num_rows, take_rows

UNITS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus)


def activation_codes(
    module: nn.Module, inputs: Inputs, layers: str | Sequence[str] | None = None, *, chunk: int = 1024
) -> Codes:
    """Binary codes of a network's active units on some data: a bit for each unit, set where its input is above 0.

    For a denoiser hand over ``noised(process, x, level)``: the code at a state and a time.

    Args:
        module: Any torch module; it is run in evaluation mode.
        inputs: What it is called with: a state with n rows, or a tuple of states with n rows each.
        layers: Names of layers. Of an activation (ReLU, GELU, SiLU and the like) what goes in counts, of any other
            layer what comes out. All activation modules where None; functions inside a forward pass are not seen, so
            name the layers before them.
        chunk: Rows of a pass.

    Returns:
        The codes, layers in the order of their names (or of the module).

    Raises:
        ValueError: No activation module or an unknown layer, one that is not run exactly once a pass, no rows.

    Source: Neural networks behave as hash encoders: An empirical study (2021).
    """
    if layers is None:
        layers = [name for name, part in module.named_modules() if isinstance(part, UNITS)]
        if not layers:
            raise ValueError("layers: expected names where the module has no activation layers, found None.")
    names = check_layers(module, layers)
    parts = inputs if isinstance(inputs, tuple) else (inputs,)
    n = num_rows(parts[0])
    if not n:
        raise ValueError("inputs: expected at least one row, found none.")
    rows = []
    with evaluating(module), torch.no_grad():
        for start in range(0, n, check_count(chunk, "chunk")):
            piece = slice(start, min(start + chunk, n))
            signs = _signs_of_units(module, names, tuple(take_rows(part, piece) for part in parts))
            rows.append(pack(torch.cat(signs, 1).cpu().numpy()).packed)
            num_bits = sum(sign.shape[1] for sign in signs)
    return Codes(np.concatenate(rows), num_bits)


def region_lengths(
    module: nn.Module,
    x: Tensor,
    targets: Tensor,
    *,
    layers: str | Sequence[str] | None = None,
    reach: float = 5.0,
    step: float = 0.05,
) -> Float64[np.ndarray, " n"]:
    """Length of the linear piece around each row, along the line towards a target (say its class's mean).

    The row is moved both ways along the unit vector in steps; its code's stretch without a change is measured.

    Args:
        module: The network.
        x: Rows ``(n, ...)``.
        targets: Where each line leads, of the same shape; not the row itself.
        layers: As in `activation_codes`.
        reach: Largest distance from the row, in units of the data.
        step: Length of a step.

    Returns:
        Length of each stretch, from 0 to twice the reach.

    Raises:
        ValueError: Shapes that differ, a target at its row, a step that is not positive or beyond the reach.

    Source: Neural networks behave as hash encoders: An empirical study (2021).
    """
    if x.shape != targets.shape or x.ndim < 2:
        raise ValueError(f"targets: expected shape {tuple(x.shape)} as x, found {tuple(targets.shape)}.")
    if not 0 < step <= reach:
        raise ValueError(f"step: expected a positive number up to reach = {reach}, found {step}.")
    line = (targets - x).flatten(1)
    norms = line.norm(dim=1, keepdim=True)
    if bool((norms == 0).any()):
        raise ValueError(f"targets: expected points apart from x, found row {int((norms == 0).int().argmax())} at it.")
    line = (line / norms).reshape(x.shape)
    here = activation_codes(module, x, layers).packed
    total = np.zeros(len(x))
    for sign in (1.0, -1.0):
        inside = np.ones(len(x), bool)
        for count in range(1, round(reach / step) + 1):
            there = activation_codes(module, x + sign * count * step * line, layers).packed
            inside &= (there == here).all(1)
            if not inside.any():
                break
            total += inside * step
    return total


def _signs_of_units(module: nn.Module, names: Sequence[str], inputs: tuple[Any, ...]) -> list[Tensor]:
    """Booleans ``(rows, units)`` of each named layer in one pass."""
    found: dict[str, list[Tensor]] = {name: [] for name in names}

    def listen(name: str, part: nn.Module) -> Callable[..., None]:
        def hook(_module: nn.Module, given: Any, output: Any) -> None:
            value = given[0] if isinstance(part, UNITS) else output
            found[name].append(value > 0)  # at once: an activation in place would overwrite its input

        def before(_module: nn.Module, given: Any) -> None:
            hook(_module, given, None)

        return before if isinstance(part, UNITS) else hook

    handles = []
    for name in names:
        part = module.get_submodule(name)
        register = part.register_forward_pre_hook if isinstance(part, UNITS) else part.register_forward_hook
        handles.append(register(listen(name, part)))
    try:
        module(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    rows = num_rows(inputs[0])
    for name, values in found.items():
        if len(values) != 1 or values[0].ndim < 2 or len(values[0]) != rows:
            what = f"{len(values)} runs" if len(values) != 1 else f"shape {tuple(values[0].shape)}"
            raise ValueError(f"layers: expected {name!r} to run once a pass with a row a data point, found {what}.")
    return [found[name][0].flatten(1) for name in names]
