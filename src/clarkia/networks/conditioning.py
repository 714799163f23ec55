"""What a network is told beside its noisy input: labels, vectors and tokens, each with a learned null."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from clarkia.random import Noise, rand

Condition: TypeAlias = Mapping[str, Tensor]
"""Any of ``label`` int64 (n,) or (n, k), -1 where not given; ``vector`` float (n, d); ``tokens`` int64 (n, m) ids or
float (n, m, d) embeddings; ``mask`` bool (n, m), True where a token is real; ``present`` bool (n,), False where the
whole condition of a row is dropped."""

KEYS = ("label", "vector", "tokens", "mask", "present")


class Embedded(NamedTuple):
    """A condition in a network's width.

    Attributes:
        vector: ``(n, width)``, the sum over labels and vector; zero where a network declares neither.
        tokens: ``(n, m, width)``; every row has at least one real token. None where a network declares none.
        mask: ``(n, m)``, True where a token is real; None where all are.
    """

    vector: Float[Tensor, "n width"]
    tokens: Float[Tensor, "n m width"] | None
    mask: Bool[Tensor, "n m"] | None

    def pooled(self) -> Float[Tensor, "n width"]:
        """The mean of a row's real tokens; zero without tokens."""
        if self.tokens is None:
            return torch.zeros_like(self.vector)
        if self.mask is None:
            return self.tokens.mean(1)
        real = self.mask.unsqueeze(-1).to(self.tokens.dtype)
        return (self.tokens * real).sum(1) / real.sum(1)

    def summed(self) -> Float[Tensor, "n width"]:
        """The sum of a row's real tokens over the root of their number, which is of the size of one; zero without."""
        if self.tokens is None:
            return self.pooled()
        count = self.tokens.new_full((1,), self.tokens.shape[1]) if self.mask is None else self.mask.sum(1)
        return self.pooled() * count.to(self.tokens.dtype).sqrt().unsqueeze(-1)


@dataclass(frozen=True)
class Conditions:
    """The conditions that a network can be given.

    Attributes:
        label_classes: Classes of each label attribute.
        vector_size: Numbers of the vector; None for no vector.
        token_classes: Vocabulary of tokens given as ids.
        token_size: Numbers of a token given as an embedding; at most one of this and `token_classes`.
        max_tokens: Longest sequence, each place with a learned position; None for any length and no positions.
        token_window: Odd number of tokens, itself in the middle, that a token is read with; 1 for itself alone. The
            sum of words says what there is, the sum of words read with their neighbours also what belongs together.
    """

    label_classes: tuple[int, ...] = ()
    vector_size: int | None = None
    token_classes: int | None = None
    token_size: int | None = None
    max_tokens: int | None = None
    token_window: int = 1

    @property
    def has_vector(self) -> bool:
        """Whether labels or a vector are declared."""
        return bool(self.label_classes) or self.vector_size is not None

    @property
    def has_tokens(self) -> bool:
        """Whether tokens are declared."""
        return self.token_classes is not None or self.token_size is not None

    def embedding(self, width: int, *, std: float = 0.02) -> ConditionEmbedding:
        """The layer that embeds these conditions in a width; see there for `std`."""
        return ConditionEmbedding(
            width,
            label_classes=self.label_classes,
            vector_size=self.vector_size,
            token_classes=self.token_classes,
            token_size=self.token_size,
            max_tokens=self.max_tokens,
            token_window=self.token_window,
            std=std,
        )


NO_CONDITIONS = Conditions()


class ConditionEmbedding(nn.Module):
    """Embed a condition; what is not given, by row or at all, is replaced by a learned null.

    A row without tokens has one, the null token, so that dropping a row's tokens, giving it none that is real and
    giving no condition at all are one and the same to the network.

    Args:
        width: The network's width.
        label_classes: Classes of each label attribute.
        vector_size: Numbers of the vector; None for no vector.
        token_classes: Vocabulary of tokens given as ids.
        token_size: Numbers of a token given as an embedding; at most one of this and `token_classes`.
        max_tokens: Longest sequence, each place with a learned position; None for any length and no positions.
        token_window: Odd number of tokens, itself in the middle, that a token is read with; 1 for itself alone.
        std: Deviation of the numbers of labels and tokens at the start: of the order of what they are added to, or a
            network long takes all labels, or all tokens, for one.

    Source: Classifier-Free Diffusion Guidance (2022).
    """

    nothing: Tensor

    def __init__(
        self,
        width: int,
        *,
        label_classes: tuple[int, ...] = (),
        vector_size: int | None = None,
        token_classes: int | None = None,
        token_size: int | None = None,
        max_tokens: int | None = None,
        token_window: int = 1,
        std: float = 0.02,
    ) -> None:
        super().__init__()
        if token_classes is not None and token_size is not None:
            raise ValueError("token_size: expected None beside token_classes, tokens are ids or embeddings.")
        self.spec = Conditions(tuple(label_classes), vector_size, token_classes, token_size, max_tokens, token_window)
        self.register_buffer("nothing", torch.zeros(width), persistent=False)
        # Row 0 is the null, so that -1 means it and a class too large is an error, not the null.
        self.labels = nn.ModuleList(nn.Embedding(classes + 1, width) for classes in label_classes)
        self.vector = None if vector_size is None else nn.Linear(vector_size, width)
        self.null_vector = None if vector_size is None else nn.Parameter(torch.zeros(width))
        self.ids = None if token_classes is None else nn.Embedding(token_classes, width)
        self.embeddings = None if token_size is None else nn.Linear(token_size, width)
        self.null_token = nn.Parameter(torch.empty(width)) if self.spec.has_tokens else None
        placed = self.spec.has_tokens and max_tokens is not None
        self.positions = nn.Parameter(torch.empty(max_tokens or 0, width)) if placed else None
        read = self.spec.has_tokens and token_window != 1
        self.windows = nn.ModuleList([TokenWindow(width, token_window)] if read else [])
        tables = [table.weight for table in self.labels]
        for table in (*tables, self.ids and self.ids.weight, self.null_token, self.positions):
            if table is not None:
                nn.init.normal_(table, std=std)  # type: ignore[arg-type]

    def forward(self, condition: Condition | None, rows: int) -> Embedded:
        """The condition in the network's width.

        Args:
            condition: The condition, None where nothing is given for any row.
            rows: Rows of the batch.

        Raises:
            ValueError: A condition that the network does not declare, or one of a wrong shape or class.
        """
        given = {} if condition is None else dict(condition)
        check(given, rows, self.spec)
        tokens, mask = self._tokens(given, rows)
        return Embedded(self._vector(given, rows), tokens, mask)

    def _vector(self, given: dict[str, Tensor], rows: int) -> Tensor:
        total = self.nothing.expand(rows, -1)
        present = _present(given, self.nothing, rows)[:, None]
        if len(self.labels):
            label = given.get("label")
            if label is None:
                label = torch.full((rows, len(self.labels)), -1, device=self.nothing.device)
            label = torch.where(present, label.reshape(rows, -1), -1)
            for attribute, table in enumerate(self.labels):
                total = total + table(label[:, attribute] + 1)
        if self.vector is not None and self.null_vector is not None:
            null = self.null_vector.expand(rows, -1)
            total = total + (torch.where(present, self.vector(given["vector"]), null) if "vector" in given else null)
        return total

    def _tokens(self, given: dict[str, Tensor], rows: int) -> tuple[Tensor | None, Tensor | None]:
        if self.null_token is None:
            return None, None
        if "tokens" not in given:
            return self.null_token.expand(rows, 1, -1), None
        embed = self.ids if self.ids is not None else self.embeddings
        assert embed is not None
        h = embed(given["tokens"])
        if self.positions is not None:
            h = h + self.positions[: h.shape[1]]
        some, mask = _present(given, h, rows), given.get("mask")
        if mask is not None:
            some = some & mask.any(1)
        for window in self.windows:
            h = window(h, mask)
        # The null has its part in every batch, weight or not: engines of several devices want a gradient of all.
        h = torch.where(some[:, None, None], h, self.null_token)
        if mask is None and "present" not in given:
            return h, None
        first = torch.arange(h.shape[1], device=h.device) == 0
        mask = torch.where(some[:, None], torch.ones_like(h[..., 0], dtype=torch.bool) if mask is None else mask, first)
        return h.masked_fill(~mask.unsqueeze(-1), 0.0), mask


class TokenWindow(nn.Module):
    """Add to each token what it says together with its neighbours.

    Args:
        width: Features of a token.
        size: Odd number of tokens looked at, the token itself in the middle.

    Raises:
        ValueError: A size that is even or below one.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        if size < 1 or size % 2 == 0:
            raise ValueError(f"token_window: expected a positive odd number, found {size}.")
        self.near = nn.Conv1d(width, width, size, padding=size // 2)
        self.out = nn.Linear(width, width)

    def forward(self, h: Float[Tensor, "n m width"], mask: Bool[Tensor, "n m"] | None) -> Float[Tensor, "n m width"]:
        """The tokens, each with what it says together with its neighbours.

        Args:
            h: Tokens.
            mask: True where a token is real; the others are as nothing to it, as is what lies past the ends.
        """
        real = h if mask is None else h.masked_fill(~mask.unsqueeze(-1), 0.0)
        return h + self.out(F.silu(self.near(real.transpose(1, 2))).transpose(1, 2))


def drop(
    condition: Condition | None, probability: float | Float[Tensor, " n"], generator: Noise = None
) -> dict[str, Tensor] | None:
    """Take the whole condition away from some rows, as training for classifier-free guidance does.

    Args:
        condition: The condition of n rows; None stays None.
        probability: Chance of each row to lose its condition, one for all or one each.
        generator: Source of randomness.

    Returns:
        The condition with ``present``, bool (n,), False where a row lost it now or before.

    Raises:
        ValueError: A probability outside [0, 1].

    Source: Classifier-Free Diffusion Guidance (2022).
    """
    chance = torch.as_tensor(probability)
    if not bool(((chance >= 0) & (chance <= 1)).all()):
        raise ValueError(f"probability: expected numbers in [0, 1], found {probability}.")
    if not condition:
        return None if condition is None else dict(condition)
    some = next(iter(condition.values()))
    present = rand((len(some),), generator, device=some.device) >= chance.to(some.device)
    if "present" in condition:
        present = present & condition["present"]
    return {**condition, "present": present}


def check(given: Condition, rows: int, spec: Conditions) -> None:
    """Raise ``ValueError`` where a condition is not one of those declared, or has a wrong shape or class."""
    unknown = sorted(set(given) - set(KEYS))
    if unknown:
        raise ValueError(f"condition: expected keys among {list(KEYS)}, found {unknown}.")
    declared = {"label": bool(spec.label_classes), "vector": spec.vector_size is not None, "tokens": spec.has_tokens}
    for name, is_declared in declared.items():
        if name in given and not is_declared:
            raise ValueError(f"condition: expected no {name!r}, this network declares none, found one.")
    if "mask" in given and "tokens" not in given:
        raise ValueError("condition: expected tokens beside the mask, found none.")
    attributes = len(spec.label_classes)
    _shape(given, "label", [(rows,), (rows, 1)] if attributes == 1 else [(rows, attributes)])
    _shape(given, "vector", [(rows, spec.vector_size)])
    _shape(given, "present", [(rows,)])
    if "tokens" in given:
        length = given["tokens"].shape[1] if given["tokens"].ndim > 1 else 0
        _shape(given, "tokens", [(rows, length) if spec.token_size is None else (rows, length, spec.token_size)])
        _shape(given, "mask", [(rows, length)])
        if length < 1 or (spec.max_tokens is not None and length > spec.max_tokens):
            raise ValueError(f"tokens: expected 1 to {spec.max_tokens or 'any number'} of them, found {length}.")
    _classes(given.get("label"), "label", -1, spec.label_classes)
    if spec.token_classes is not None:
        _classes(given.get("tokens"), "tokens", 0, (spec.token_classes,))


def _present(given: Condition, like: Tensor, rows: int) -> Tensor:
    present = given.get("present")
    return torch.ones(rows, dtype=torch.bool, device=like.device) if present is None else present


def _shape(given: Condition, name: str, expected: list[tuple[int | None, ...]]) -> None:
    if name in given and tuple(given[name].shape) not in expected:
        raise ValueError(f"{name}: expected shape {expected[0]}, found {tuple(given[name].shape)}.")


def _classes(values: Tensor | None, name: str, lowest: int, counts: tuple[int, ...]) -> None:
    """On a GPU looking at the values would wait for them; there the embedding itself fails on a wrong class."""
    if values is None or values.device.type != "cpu" or torch.compiler.is_compiling():
        return
    limits = torch.tensor(counts) if values.ndim == 2 and len(counts) == values.shape[1] else counts[0]
    if bool(((values < lowest) | (values >= limits)).any()):
        found = f"{int(values.min())} to {int(values.max())}"
        raise ValueError(f"{name}: expected classes from {lowest} on, below {counts}, found {found}.")
