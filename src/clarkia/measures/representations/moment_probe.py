"""A probe on tokens that sees their second moments beside their mean, and light adapters for the backbone below it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clarkia.measures.fields.checks import check_count

Pairs: TypeAlias = Literal["near", "one", "all"]


class CrossCovariance(nn.Module):
    """Second moments of tokens: cross-covariances of projected heads, shrunk by two convolutions.

    Tokens are projected, cut into heads, normalised and centred over the tokens; each pair of heads gives a
    cross-covariance with rows of unit norm, and the pairs are the channels of an image that two convolutions of stride
    2 make a quarter as wide.

    Args:
        dim: Width of a token.
        heads: Number of heads, at least 2.
        hidden: Width of the projection, a multiple of ``heads``.
        pairs: ``"near"``: each head with the next; ``"one"``: the first with every other; ``"all"``.

    Attributes:
        width: Length of the result.

    Raises:
        ValueError: Numbers that do not fit, or heads of fewer than 7 columns, which two convolutions cannot shrink.
    """

    def __init__(self, dim: int, heads: int = 4, hidden: int = 512, pairs: Pairs = "near") -> None:
        super().__init__()
        check_count(dim, "dim")
        check_count(heads, "heads", least=2)
        check_count(hidden, "hidden")
        if hidden % heads or hidden // heads < 7:
            raise ValueError(f"hidden: expected {heads} heads of at least 7 columns each, found {hidden} columns.")
        if pairs not in get_args(Pairs):
            raise ValueError(f"pairs: expected one of {list(get_args(Pairs))}, found {pairs!r}.")
        self.heads, size = heads, hidden // heads
        index = {
            "near": [(i, i + 1) for i in range(heads - 1)],
            "one": [(0, i) for i in range(1, heads)],
            "all": [(i, j) for i in range(heads) for j in range(i + 1, heads)],
        }[pairs]
        self._first, self._second = ([pair[side] for pair in index] for side in (0, 1))
        self.project = nn.Linear(dim, hidden)
        self.norm = nn.LayerNorm(size)
        channels = len(index)
        self.shrink = nn.Sequential(
            nn.Conv2d(channels, channels, 3, stride=2, bias=False),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, stride=2, bias=False),
        )
        for _ in range(2):
            size = (size - 3) // 2 + 1
        self.width = channels * size * size

    def forward(self, tokens: Float[Tensor, "n tokens dim"]) -> Float[Tensor, "n width"]:
        """The shrunk cross-covariances, flattened."""
        return self.shrink(self.covariances(self.normalised(tokens))).flatten(1)

    def normalised(self, tokens: Float[Tensor, "n tokens dim"]) -> Float[Tensor, "n tokens heads size"]:
        """Projected tokens by head, normalised."""
        return self.norm(self.project(tokens).unflatten(2, (self.heads, -1)))

    def covariances(self, h: Float[Tensor, "n tokens heads size"]) -> Float[Tensor, "n pairs size size"]:
        """Cross-covariances of pairs of heads over the tokens, each row of unit norm."""
        h = (h - h.mean(1, keepdim=True)).transpose(1, 2)
        covariance = h[:, self._first].mT @ h[:, self._second] / h.shape[2]
        return nn.functional.normalize(covariance, dim=3)


class MomentProbe(nn.Module):
    """A head on frozen tokens that averages the logits of their mean and of their second moments.

    The order of the tokens does not matter. Takes 64 tokens or more for covariances that are worth something.

    Args:
        dim: Width of a token.
        classes: Number of classes.
        heads: Heads of the covariances.
        hidden: Width of their projection.
        pairs: Which heads are paired, as in `CrossCovariance`.
        class_token: The first token speaks for the whole and is left out of the covariances; else the mean does.

    Raises:
        ValueError: Numbers that do not fit.

    Source: Tuning Pre-trained Model via Moment Probing (2023).
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        heads: int = 4,
        hidden: int = 512,
        pairs: Pairs = "near",
        class_token: bool = False,
    ) -> None:
        super().__init__()
        check_count(classes, "classes", least=2)
        self.class_token = class_token
        self.moments = CrossCovariance(dim, heads, hidden, pairs)
        self.first = nn.Linear(dim, classes)
        self.second = nn.Linear(self.moments.width, classes)

    def forward(self, tokens: Float[Tensor, "n tokens dim"]) -> Float[Tensor, "n classes"]:
        """Logits."""
        whole, parts = (tokens[:, 0], tokens[:, 1:]) if self.class_token else (tokens.mean(1), tokens)
        return (self.first(whole) + self.second(self.moments(parts))) / 2


class Adapted(nn.Module):
    """A residual branch whose output is scaled and shifted by a small function of what goes in.

    ``(1 + scale) branch(x) + shift`` with ``u = ReLU(A x)``, ``scale = B u``, ``shift = C u``. B and C start at zero,
    so the branch starts as it was.

    Args:
        branch: The frozen branch, say norm and MLP of a transformer block, from tokens to tokens of one width.
        dim: That width.
        rank: Rows of A.

    Source: Tuning Pre-trained Model via Moment Probing (2023).
    """

    def __init__(self, branch: nn.Module, dim: int, rank: int = 16) -> None:
        super().__init__()
        self.branch = branch
        self.reduce = nn.Linear(dim, rank, bias=False)
        self.scale = nn.Linear(rank, dim, bias=False)
        self.shift = nn.Linear(rank, dim, bias=False)
        nn.init.zeros_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Float[Tensor, "... dim"]) -> Float[Tensor, "... dim"]:
        """The branch's output, scaled and shifted."""
        u = torch.relu(self.reduce(x))
        return (1 + self.scale(u)) * self.branch(x) + self.shift(u)


def adapt(backbone: nn.Module, branches: Sequence[str], dim: int, *, rank: int = 16) -> list[nn.Parameter]:
    """Freeze a network and put adapters around some of its branches, in place.

    Args:
        backbone: The network.
        branches: Names of residual branches as in ``backbone.named_modules()``, none inside another.
        dim: Width of their tokens.
        rank: Width of the adapters.

    Returns:
        The adapters' parameters, the only ones left to train.

    Raises:
        ValueError: An unknown branch, or the network itself.

    Source: Tuning Pre-trained Model via Moment Probing (2023).
    """
    known = dict(backbone.named_modules())
    check_count(dim, "dim")
    check_count(rank, "rank")
    for name in branches:
        nested = [other for other in branches if other != name and name.startswith(f"{other}.")]
        if not name or name not in known or nested:
            raise ValueError(f"branches: expected distinct layers of the network, none in another, found {name!r}.")
    backbone.requires_grad_(False)
    found: list[nn.Parameter] = []
    for name in branches:
        parent, _, child = name.rpartition(".")
        adapter = Adapted(known[name], dim, rank)
        setattr(known[parent], child, adapter)
        found += [p for part in (adapter.reduce, adapter.scale, adapter.shift) for p in part.parameters()]
    return found
