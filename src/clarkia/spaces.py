"""What a data point is: continuous numbers, categories, or several named blocks of either kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

import torch
from torch import Tensor

State: TypeAlias = Tensor | dict[str, Tensor]


@dataclass(frozen=True)
class Continuous:
    """Real numbers of one shape a data point; a state is a floating tensor ``(n, *shape)``.

    Args:
        shape: Shape of one data point; ``()`` is a single number.
    """

    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _shape(self.shape))

    def check(self, state: Any, name: str = "state") -> None:
        """Raise ``ValueError`` unless ``state`` is a finite floating tensor ``(n, *shape)``."""
        _check_tensor(state, self.shape, name)
        if not state.is_floating_point():
            raise ValueError(f"{name}: expected a floating dtype for a continuous block, found {state.dtype}.")
        if not torch.isfinite(state).all():
            row = int((~torch.isfinite(state)).flatten(1).any(1).nonzero()[0]) if state.ndim > 1 else 0
            raise ValueError(f"{name}: expected finite values, found a NaN or infinity in row {row}.")

    def to_dict(self) -> dict[str, Any]:
        """The space as JSON-ready data; `from_dict` is its inverse."""
        return {"kind": "continuous", "shape": list(self.shape)}


@dataclass(frozen=True)
class Categorical:
    """Categories, one a position; a state is an int64 tensor ``(n, *shape)`` and value ``K`` is the mask state.

    Args:
        shape: Shape of one data point; ``()`` is a single category.
        num_classes: Number of clean classes, one for all positions or one a position (then ``shape`` is ``(m,)``).
    """

    shape: tuple[int, ...] = ()
    num_classes: int | tuple[int, ...] = field(kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _shape(self.shape))
        object.__setattr__(self, "num_classes", class_counts(self.num_classes))
        if isinstance(self.num_classes, tuple) and self.shape != (len(self.num_classes),):
            raise ValueError(
                f"num_classes: expected one class count for each of the positions of shape {self.shape}, "
                f"found {len(self.num_classes)} counts."
            )

    @property
    def counts(self) -> tuple[int, ...]:
        """The class count of every position, in the order of a flattened data point."""
        positions = math.prod(self.shape)
        return (self.num_classes,) * positions if isinstance(self.num_classes, int) else self.num_classes

    @property
    def max_classes(self) -> int:
        """The largest class count of any position: the width of a prediction."""
        return self.num_classes if isinstance(self.num_classes, int) else max(self.num_classes)

    def check(self, state: Any, name: str = "state", *, masks: bool = False) -> None:
        """Raise ``ValueError`` unless ``state`` is int64 ``(n, *shape)`` with classes in range (``masks`` allows K)."""
        _check_tensor(state, self.shape, name)
        check_classes(state, self.num_classes, name, masks=masks)

    def to_dict(self) -> dict[str, Any]:
        """The space as JSON-ready data; `from_dict` is its inverse."""
        counts = self.num_classes if isinstance(self.num_classes, int) else list(self.num_classes)
        return {"kind": "categorical", "shape": list(self.shape), "num_classes": counts}


Block: TypeAlias = Continuous | Categorical


@dataclass(frozen=True, init=False, repr=False)
class Mixed:
    """Several named blocks, each continuous or categorical; a state is a dict of their states.

    Args:
        **blocks: The blocks by name, in order; `from_blocks` takes names that are no Python identifiers.
    """

    blocks: Mapping[str, Block]

    def __init__(self, **blocks: Block) -> None:
        if not blocks:
            raise ValueError("blocks: expected at least one block, found none.")
        for name, block in blocks.items():
            if not isinstance(block, Continuous | Categorical):
                raise ValueError(f"blocks[{name!r}]: expected Continuous or Categorical, found {type(block).__name__}.")
        object.__setattr__(self, "blocks", MappingProxyType(dict(blocks)))

    @classmethod
    def from_blocks(cls, blocks: Mapping[str, Block]) -> Mixed:
        """The mixed space of a mapping from names to blocks."""
        return cls(**dict(blocks))

    @property
    def shape(self) -> dict[str, tuple[int, ...]]:
        """Shape of one data point, by block."""
        return {name: block.shape for name, block in self.blocks.items()}

    def check(self, state: Any, name: str = "state") -> None:
        """Raise ``ValueError`` unless ``state`` holds exactly these blocks, all valid and with as many rows."""
        if not isinstance(state, Mapping) or set(state) != set(self.blocks):
            found = sorted(state) if isinstance(state, Mapping) else type(state).__name__
            raise ValueError(f"{name}: expected a dict with the blocks {sorted(self.blocks)}, found {found}.")
        for key, block in self.blocks.items():
            block.check(state[key], f"{name}[{key!r}]")
        num_rows(dict(state))

    def to_dict(self) -> dict[str, Any]:
        """The space as JSON-ready data; `from_dict` is its inverse."""
        return {"kind": "mixed", "blocks": {name: block.to_dict() for name, block in self.blocks.items()}}

    def __hash__(self) -> int:
        return hash(tuple(self.blocks.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return (Mixed.from_blocks, (dict(self.blocks),))

    def __repr__(self) -> str:
        return f"Mixed({', '.join(f'{name}={block!r}' for name, block in self.blocks.items())})"


Space: TypeAlias = Continuous | Categorical | Mixed


def from_dict(data: Mapping[str, Any]) -> Space:
    """Build the space that ``to_dict`` described.

    Raises:
        ValueError: The mapping names no known kind of space or holds unknown or missing fields.
    """
    fields = {"continuous": {"shape"}, "categorical": {"shape", "num_classes"}, "mixed": {"blocks"}}
    kind = data.get("kind") if isinstance(data, Mapping) else None
    if kind not in fields or set(data) != fields[kind] | {"kind"}:
        raise ValueError(f"space: expected 'kind' and the fields of one of {sorted(fields)}, found {data!r}.")
    if kind == "continuous":
        return Continuous(tuple(data["shape"]))
    if kind == "categorical":
        counts = data["num_classes"]
        return Categorical(tuple(data["shape"]), num_classes=tuple(counts) if isinstance(counts, list) else counts)
    blocks = {name: from_dict(block) for name, block in data["blocks"].items()}
    return Mixed.from_blocks(blocks)  # type: ignore[arg-type]  # a mixed block inside is refused there


def num_rows(state: State) -> int:
    """Number of data points in a state; raises ``ValueError`` where blocks disagree."""
    if isinstance(state, Tensor):
        return state.shape[0]
    rows = {name: block.shape[0] for name, block in state.items()}
    if len(set(rows.values())) != 1:
        raise ValueError(f"state: expected the same number of rows in every block, found {rows}.")
    return next(iter(rows.values()))


def map_blocks(function: Callable[..., Tensor], *states: State) -> State:
    """Apply ``function`` to the tensor of a single-block state, or to each block of mixed states."""
    first = states[0]
    if isinstance(first, Tensor):
        return function(*states)
    return {name: function(*(state[name] for state in states)) for name in first}  # type: ignore[index]


def take_rows(state: State, index: Tensor | slice) -> State:
    """The rows of a state that ``index`` (int64, bool or a slice) picks."""
    return map_blocks(lambda block: block[index], state)


def class_counts(num_classes: Any) -> int | tuple[int, ...]:
    """A class count or one a position as plain integers; raises ``ValueError`` for anything below one."""
    counts = (num_classes,) if isinstance(num_classes, int) else tuple(int(count) for count in num_classes)
    if not counts or min(counts) < 1:
        raise ValueError(f"num_classes: expected at least one class at every position, found {num_classes!r}.")
    return num_classes if isinstance(num_classes, int) else counts


def check_classes(x: Tensor, num_classes: int | tuple[int, ...], name: str, *, masks: bool = False) -> None:
    """Raise ``ValueError`` unless ``x`` is int64 with every class in ``[0, K)``, or ``[0, K]`` where ``masks``."""
    if x.dtype != torch.int64:
        raise ValueError(f"{name}: expected int64 classes, found {x.dtype}.")
    bound = torch.as_tensor(num_classes, device=x.device) + int(masks)
    if x.numel() and bool(((x < 0) | (x >= bound)).any()):
        where = ((x < 0) | (x >= bound)).nonzero()[0].tolist()
        found = int(x[tuple(where)])
        limit = int(bound.expand(x.shape)[tuple(where)]) - 1
        raise ValueError(f"{name}: expected classes from 0 to {limit} at position {where[1:]}, found {found}.")


def _shape(shape: Any) -> tuple[int, ...]:
    shape = tuple(int(length) for length in shape)
    if any(length < 1 for length in shape):
        raise ValueError(f"shape: expected positive lengths, found {shape}.")
    return shape


def _check_tensor(state: Any, shape: tuple[int, ...], name: str) -> None:
    if not isinstance(state, Tensor) or state.ndim != 1 + len(shape) or math.prod(state.shape[1:]) != math.prod(shape):
        found = tuple(state.shape) if isinstance(state, Tensor) else type(state).__name__
        raise ValueError(f"{name}: expected a tensor of shape (n, {', '.join(map(str, shape))}), found {found}.")
    if tuple(state.shape[1:]) != shape:
        raise ValueError(f"{name}: expected shape (n, {', '.join(map(str, shape))}), found {tuple(state.shape)}.")
