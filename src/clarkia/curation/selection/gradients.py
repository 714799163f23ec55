"""Features of rows by what a model would learn from them: the gradients of its loss, projected to few numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.utils._pytree import tree_leaves, tree_map

from clarkia import random
from clarkia.curation.checks import check_count
from clarkia.random import Noise, rand

PARAMETER_BLOCK = 4096  # rows of the projection matrix that are held at once

Loss = Callable[[Callable[..., Any], Any], Tensor]


def gradient_features(
    model: nn.Module,
    loss: Loss,
    data: Any,
    *,
    dim: int = 2048,
    checkpoints: Sequence[Mapping[str, Tensor]] | None = None,
    parameters: Sequence[str] | None = None,
    batch_size: int = 32,
    generator: Noise = None,
) -> Float64[Tensor, "n dim"]:
    """The gradient of the loss at each row, averaged over checkpoints and projected to ``dim`` numbers.

    Two rows with aligned features teach the model the same. The projection has random signs over ``sqrt(dim)``, so
    inner products of gradients are kept in expectation, with a standard error of at most ``sqrt(2 / dim)`` times the
    product of their norms. Where the gradient has no more than ``dim`` numbers it is returned as it is.

    Candidates and target must be projected alike: give both calls a generator of the same seed, or both sets to one
    call. The loss must be a function of the row: noise and times of a denoising loss belong into the data, and
    sequences of different lengths into a mean over positions.

    Args:
        model: The reference model; run in evaluation mode and left as it was.
        loss: ``loss(call, row)`` with one number as result; ``call`` is used like the model, ``row`` is a batch of one.
        data: A tensor, or a tuple, list or dict of tensors, whose first axis is the n rows.
        dim: Numbers kept of a gradient.
        checkpoints: State dicts whose gradients are averaged; None for the model's own weights.
        parameters: Names of the parameters that the gradient is taken for; None for all that can be trained.
        batch_size: Rows whose gradients are held at once.
        generator: Source of the projection's seed; the same signs serve all checkpoints.

    Returns:
        Features, float64 ``(n, dim)``, or ``(n, parameters)`` where these are fewer.

    Raises:
        ValueError: Unknown names, a checkpoint that lacks weights, rows of different number, a loss that is not one
            number, a gradient that is not finite.

    Source: TAROT: Targeted Data Selection via Optimal Transport (2024).
    """
    check_count(dim, "dim")
    check_count(batch_size, "batch_size")
    rows = _rows(data)
    names = _names(model, parameters)
    states = [_state(model, state, index) for index, state in enumerate(checkpoints or [model.state_dict()])]
    if checkpoints is not None and not len(checkpoints):
        raise ValueError("checkpoints: expected at least one state dict or None, found an empty sequence.")
    seed = int(rand((1,), generator) * 2**53)

    def loss_of(weights: dict[str, Tensor], fixed: dict[str, Tensor], row: Any) -> Tensor:
        def call(*arguments: Any, **named: Any) -> Any:
            return functional_call(model, {**fixed, **weights}, arguments, named)

        value = loss(call, tree_map(lambda part: part.unsqueeze(0), row))
        if value.numel() != 1:
            raise ValueError(f"loss: expected one number a row, found shape {tuple(value.shape)}.")
        return value.reshape(())

    per_row = vmap(grad(loss_of), in_dims=(None, None, 0))
    features, training = [], model.training
    model.eval()
    try:
        for start in range(0, rows, batch_size):
            part = tree_map(lambda block, s=start: block[s : s + batch_size], data)
            total = torch.zeros((), dtype=torch.float64)
            for state in states:
                weights = {name: state[name] for name in names}
                fixed = {name: value for name, value in state.items() if name not in weights}
                found = per_row(weights, fixed, part)
                total = total + torch.cat([found[name].flatten(1).double() for name in names], 1)
            features.append(_project(total / len(states), dim, seed))
    finally:
        model.train(training)
    result = torch.cat(features)
    bad = ~result.isfinite().all(1)
    if bool(bad.any()):
        raise ValueError(f"loss: expected a finite gradient, found NaN or infinity at row {int(bad.int().argmax())}.")
    return result


def _project(gradients: Tensor, dim: int, seed: int) -> Tensor:
    """Rows times a matrix of random signs over ``sqrt(dim)``, whose blocks are drawn anew each time they are used."""
    if gradients.shape[1] <= dim:
        return gradients
    result = gradients.new_zeros(len(gradients), dim)
    for index, block in enumerate(gradients.split(PARAMETER_BLOCK, 1)):
        bits = torch.randint(0, 2, (block.shape[1], dim), generator=random.generator(seed, index), dtype=torch.int8)
        result += block @ (2.0 * bits.to(block) - 1.0)
    return result / dim**0.5


def _rows(data: Any) -> int:
    leaves = tree_leaves(data)
    if not leaves or not all(isinstance(leaf, Tensor) and leaf.ndim for leaf in leaves):
        raise ValueError(f"data: expected tensors with rows, found {type(data).__name__}.")
    lengths = {len(leaf) for leaf in leaves}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"data: expected tensors of one positive number of rows, found {sorted(lengths)}.")
    return lengths.pop()


def _names(model: nn.Module, parameters: Sequence[str] | None) -> list[str]:
    known = dict(model.named_parameters())
    if parameters is None:
        parameters = [name for name, value in known.items() if value.requires_grad]
    unknown = [name for name in parameters if name not in known]
    if unknown or not parameters:
        raise ValueError(f"parameters: expected names among {sorted(known)}, found {unknown or 'none'}.")
    return list(parameters)


def _state(model: nn.Module, state: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    """The parameters and buffers of a checkpoint, detached; buffers that are not saved are the model's own."""
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    saved = model.state_dict()
    missing = [name for name in saved if name not in state or state[name].shape != saved[name].shape]
    if missing:
        raise ValueError(f"checkpoints: expected the model's weights in entry {index}, found {missing[0]!r} amiss.")
    return {name: (state[name] if name in saved else value).detach() for name, value in own.items()}
