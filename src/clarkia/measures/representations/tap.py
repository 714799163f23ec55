"""What a network's layers say: the outputs of named layers, one row of features a data point."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clarkia.measures.extractors import Extractor, fingerprint_of
from clarkia.measures.fields.checks import check_count
from clarkia.spaces import State, num_rows, take_rows

Pool: TypeAlias = Literal["mean", "flatten", "none"] | int | Callable[[Tensor], Tensor]
Inputs: TypeAlias = State | tuple[State, ...]


def activations(
    module: nn.Module, inputs: Inputs, layers: str | Sequence[str], *, pool: Pool = "mean", chunk: int = 256
) -> dict[str, Tensor]:
    """Outputs of named layers in one pass over the data, in evaluation mode and without gradients.

    The module gets its training mode back, and no hook stays on it.

    Args:
        module: Any torch module.
        inputs: What it is called with: a state with n rows, or a tuple of states with n rows each (say ``(x_t, t)``).
        layers: Names as in ``module.named_modules()``; ``""`` is the module itself.
        pool: How an output becomes a row. ``"mean"``: mean over positions of maps ``(n, c, h, w)`` (any number of
            axes after the channels, two at least) and of tokens ``(n, positions, c)``; a whole number s: maps averaged
            to s x s, then flattened; ``"flatten"``; ``"none"``: as it is; or a function of the output.
        chunk: Rows of a pass.

    Returns:
        By layer ``(n, d)`` (any shape with ``"none"``), at least in single precision.

    Raises:
        ValueError: An unknown layer; one that is not run exactly once a pass, whose output is no tensor (or tuple that
            starts with one) with a row a data point, or that ``pool`` cannot handle; inputs without rows.
    """
    names = check_layers(module, layers)
    parts = inputs if isinstance(inputs, tuple) else (inputs,)
    rows = {num_rows(part) for part in parts}
    if len(rows) != 1 or not min(rows):
        raise ValueError(f"inputs: expected the same number of rows in each, at least one, found {sorted(rows)}.")
    n, chunk = rows.pop(), check_count(chunk, "chunk")
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    with evaluating(module), torch.no_grad():
        for start in range(0, n, chunk):
            rows_ = slice(start, min(start + chunk, n))
            with recording(module, names) as outputs:
                module(*(take_rows(part, rows_) for part in parts))
            for name in names:
                found[name].append(_row(name, outputs[name], rows_.stop - start, pool))
    return {name: torch.cat(parts) for name, parts in found.items()}


def tap(module: nn.Module, layers: str | Sequence[str], *, pool: Pool = "mean", chunk: int = 256) -> Extractor:
    """Make a feature extractor of a module's layers: a state in, the named layers' outputs side by side out.

    Args:
        module: Any torch module.
        layers: One name or several, as in ``module.named_modules()``.
        pool: How an output becomes a row, as in `activations`.
        chunk: Rows of a pass.

    Returns:
        The extractor; its fingerprint covers the weights as they are now, the layers and the pooling, so that numbers
        from before and after more training do not pass for the same features.

    Raises:
        ValueError: An unknown layer.
    """
    names = check_layers(module, layers)

    def extract(batch: State) -> Float[Tensor, "n d"]:
        found = activations(module, batch, names, pool=pool, chunk=chunk)
        return torch.cat([found[name].flatten(1) for name in names], 1)

    title = f"{type(module).__name__}[{', '.join(names)}]"
    return Extractor(extract, title, module_fingerprint(module, *names, pool_name(pool)))


@contextmanager
def recording(module: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Within the block a pass through the module leaves the named layers' outputs in the dict; hooks go at its end.

    Gradients flow through what is recorded. Raises ``ValueError`` at the end unless every layer was run exactly once.
    """
    outputs: dict[str, Any] = {}
    counts = dict.fromkeys(layers, 0)

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            outputs[name] = output
            counts[name] += 1

        return hook

    handles = [module.get_submodule(name).register_forward_hook(keep(name)) for name in layers]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
    for name, count in counts.items():
        if count != 1:
            raise ValueError(f"layers: expected {name!r} to run once a pass, found {count} times.")


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Within the block all parts are in evaluation mode; afterwards each is in its own mode again."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def check_layers(module: Any, layers: Any) -> tuple[str, ...]:
    """Layer names as a tuple; raises ``ValueError`` unless they are distinct layers of a torch module."""
    if not isinstance(module, nn.Module):
        raise ValueError(f"module: expected a torch module, found {type(module).__name__}.")
    names = (layers,) if isinstance(layers, str) else tuple(layers)
    known = dict(module.named_modules())
    unknown = [name for name in names if name not in known]
    if unknown or not names or len(set(names)) < len(names):
        what = f"no layer {unknown[0]!r} among {sorted(known)[:20]}" if unknown else f"{list(names)}"
        raise ValueError(f"layers: expected distinct layer names of the module, found {what}.")
    return names


def module_fingerprint(module: nn.Module, *words: str) -> str:
    """A fingerprint of a module's weights as they are now, and some words."""
    return "/".join((fingerprint_of(*module.state_dict().values()), *words))


def pool_name(pool: Pool) -> str:
    """The words by which a fingerprint knows a pooling."""
    return getattr(pool, "__qualname__", type(pool).__name__) if callable(pool) else str(pool)


def _row(name: str, output: Any, n: int, pool: Pool) -> Tensor:
    """One layer's output, pooled."""
    output = output[0] if isinstance(output, tuple) and output else output
    if not isinstance(output, Tensor) or output.ndim < 2 or len(output) != n:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"layers: expected a tensor of {n} rows out of {name!r}, found {found}.")
    output = output.detach()
    if callable(pool):
        return pool(output)
    if not output.is_floating_point() or output.element_size() < 4:
        output = output.float()  # half precision loses sums
    if pool == "none":
        return output
    if isinstance(pool, int) and not isinstance(pool, bool) and pool > 0:
        if output.ndim != 4:
            raise ValueError(f"pool: expected maps (n, c, h, w) for a grid, found {tuple(output.shape)} at {name!r}.")
        return nn.functional.adaptive_avg_pool2d(output, pool).flatten(1)
    if pool == "flatten" or (pool == "mean" and output.ndim == 2):
        return output.flatten(1)
    if pool == "mean":
        return output.mean(1) if output.ndim == 3 else output.flatten(2).mean(2)
    raise ValueError(f"pool: expected 'mean', 'flatten', 'none', a positive number or a function, found {pool!r}.")
