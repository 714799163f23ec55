"""Many cheap drafts, fewer and fewer of them: search over the stages of a generator."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clarkia.random import Noise
from clarkia.spaces import State
from clarkia.steering.clusters import representatives
from clarkia.steering.potentials import less, scaled
from clarkia.steering.survivors import survivors


class Stages(Protocol):
    """A generator whose drafts grow stage by stage; `SamplerStages` makes one of any denoiser."""

    @property
    def num_stages(self) -> int:
        """How many stages there are."""
        ...

    def init(self, num_drafts: int) -> Any:
        """Drafts before the first stage."""
        ...

    def advance(self, drafts: Any, stage: int) -> Any:
        """The drafts after a stage."""
        ...

    def preview(self, drafts: Any, stage: int) -> State:
        """What each draft looks like after a stage, as clean data; after the last it is the result."""
        ...

    def reorder(self, drafts: Any, index: Int[Tensor, " b"]) -> Any:
        """Some of the drafts, possibly several times, with everything that belongs to them."""
        ...


@dataclass(frozen=True, eq=False)
class Searched:
    """What a staged search returns.

    Attributes:
        x: The survivors, ``(b, ...)``.
        rewards: Theirs, float64 ``(b,)``.
        best: Index of the one with the highest.
        parents: For each stage, which drafts went on, int64 ``(b_s,)``.
    """

    x: State
    rewards: Float[Tensor, " b"]
    best: int
    parents: tuple[Int[Tensor, " b"], ...]

    def lineage(self, survivor: int) -> list[int]:
        """The place of a survivor's ancestor among the drafts that each stage started with."""
        places = [survivor]
        for parents in reversed(self.parents):
            places.append(int(parents[places[-1]]))
        return places[:0:-1]


def staged_search(
    stages: Stages,
    reward: Callable[[State], Float[Tensor, " n"]],
    widths: Sequence[int],
    *,
    cluster_at: Collection[int] = (),
    resample_at: Collection[int] = (),
    features: Callable[[State], Float[Tensor, "n d"]] | None = None,
    scale: float = 10.0,
    potential: Literal["value", "difference", "max", "sum"] = "value",
    scheme: Literal["multinomial", "systematic", "distinct"] = "multinomial",
    generator: Noise = None,
) -> Searched:
    """Grow many drafts, keep diverse ones while they are coarse and good ones once they can be judged.

    After stage s, ``widths[s]`` drafts go on: one for each cluster of the drafts' features where s is in `cluster_at`,
    a draw in proportion to ``exp(scale V)`` where it is in `resample_at`. Only with ``"difference"`` do the factors
    multiply to ``exp(scale reward)`` of the result, so that survivors follow the model tilted by it; ``"value"``, as
    published, counts the reward of every stage in full.

    Args:
        stages: The generator.
        reward: ``reward(preview) -> (n,)``, higher is better; asked where drafts are resampled (with ``"max"`` and
            ``"sum"`` at every stage) and at the end.
        widths: How many drafts leave each stage; the first number also enters the first. It may change only where
            drafts are clustered or resampled, and by clusters not grow.
        cluster_at: Stages after which to cluster.
        resample_at: Stages after which to resample.
        features: ``features(preview) -> (n, d)`` for the clusters; by default the preview, flattened.
        scale: How much the reward counts.
        potential: V: the reward; its gain since the last resampling; the largest so far; the sum so far.
        scheme: How parents are drawn: independently, systematically, or each at most once.
        generator: Source of the drawing of parents, None or a `torch.Generator`; clusters are a function of the
            features alone.

    Raises:
        ValueError: Widths that do not fit the stages, a stage both clustered and resampled, an unknown choice.

    Source: TTS-VAR: A Test-Time Scaling Framework for Visual Auto-Regressive Generation (2025).
    """
    _check(stages, widths, cluster_at, resample_at, potential, scheme)
    drafts, score = stages.init(widths[0]), _Score(reward, potential)
    parents = []
    for stage, width in enumerate(widths):
        drafts = stages.advance(drafts, stage)
        preview = stages.preview(drafts, stage)
        score = score.seen(preview, asked=stage in resample_at)
        index = torch.arange(width)
        if stage in cluster_at:
            index = representatives(_flat(preview) if features is None else features(preview), width)
        elif stage in resample_at:
            assert score.potential is not None
            index = survivors(scaled(scale, score.potential), width, scheme, generator)
            score = score.spent()
        if stage in cluster_at or stage in resample_at:
            drafts, score = stages.reorder(drafts, index), score.of(index)
        parents.append(index)
    x = stages.preview(drafts, len(widths) - 1)
    rewards = _rewards(reward, x)
    return Searched(x, rewards, int(rewards.argmax()), tuple(parents))


@dataclass(frozen=True, eq=False)
class _Score:
    """What the rewards of the drafts' stages so far amount to, each float64 ``(n,)`` once there is one."""

    reward: Callable[[State], Tensor]
    kind: str
    potential: Tensor | None = None
    latest: Tensor | None = None
    before: Tensor | None = None

    def seen(self, preview: State, *, asked: bool) -> _Score:
        """After a stage."""
        if not asked and self.kind in ("value", "difference"):
            return self
        value, so_far = _rewards(self.reward, preview), self.potential
        if self.kind == "difference":
            so_far = value if self.before is None else less(value, self.before)
        elif self.kind == "value" or so_far is None:
            so_far = value
        else:
            so_far = torch.maximum(so_far, value) if self.kind == "max" else so_far + value
        return _Score(self.reward, self.kind, so_far, value, self.before)

    def spent(self) -> _Score:
        """After a resampling."""
        return _Score(self.reward, self.kind, self.potential, self.latest, self.latest)

    def of(self, index: Tensor) -> _Score:
        """Of the drafts that went on."""
        kept = (None if part is None else part[index] for part in (self.potential, self.latest, self.before))
        return _Score(self.reward, self.kind, *kept)


def _rewards(reward: Callable[[State], Tensor], x: State) -> Float[Tensor, " n"]:
    rows = len(x) if isinstance(x, Tensor) else len(next(iter(x.values())))
    values = reward(x)
    if values.shape != (rows,) or bool((values.isnan() | (values == torch.inf)).any()):
        raise ValueError(f"reward: expected one number a row ({rows}), minus infinity allowed, found {values}.")
    return values.detach().double()


def _flat(preview: State) -> Float[Tensor, "n d"]:
    blocks = [preview] if isinstance(preview, Tensor) else list(preview.values())
    return torch.cat([block.double().flatten(1) for block in blocks], 1)


def _check(
    stages: Stages, widths: Sequence[int], cluster_at: Any, resample_at: Any, potential: str, scheme: str
) -> None:
    if len(widths) != stages.num_stages or min(widths) < 1:
        raise ValueError(f"widths: expected {stages.num_stages} counts from 1 on, one a stage, found {list(widths)}.")
    if set(cluster_at) & set(resample_at):
        both = sorted(set(cluster_at) & set(resample_at))
        raise ValueError(f"cluster_at, resample_at: expected no stage in both, found {both}.")
    for stage, (before, width) in enumerate(zip([widths[0], *widths], widths, strict=False)):
        if width != before and stage not in cluster_at and stage not in resample_at:
            raise ValueError(f"widths: expected {before} after stage {stage}, which keeps all drafts, found {width}.")
        if width > before and (stage in cluster_at or scheme == "distinct"):
            raise ValueError(f"widths: expected at most {before} distinct drafts after stage {stage}, found {width}.")
    for name, value, known in (
        ("potential", potential, ("value", "difference", "max", "sum")),
        ("scheme", scheme, ("multinomial", "systematic", "distinct")),
    ):
        if value not in known:
            raise ValueError(f"{name}: expected one of {list(known)}, found {value!r}.")
