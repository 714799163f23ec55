"""What particles are weighed by: factors along the way whose product is what the target asks of the clean data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.spaces import State, num_rows
from clarkia.steering.looks import Look, default_look
from clarkia.steering.moment import Moment

Reward: TypeAlias = Callable[[State], Float[Tensor, " n"]]
"""``reward(x_0) -> (n,)`` of clean data; minus infinity excludes a point."""

Memory: TypeAlias = dict[str, Tensor]
"""What a potential remembers of each particle's past, a tensor ``(n, ...)`` each; copied with the particles."""


class Potential(Protocol):
    """Factors of a particle's weight whose product over a run, `final` included, is that of the target."""

    @property
    def looks(self) -> bool:
        """Whether it weighs before the end; if not, particles are weighed once, at the end."""
        ...

    def memory(self, x: State) -> Memory:
        """What is remembered before the first step."""
        ...

    def at(self, moment: Moment, memory: Memory) -> tuple[Float[Tensor, " n"], Memory]:
        """The log-factor of each particle before a step, float64 ``(n,)``, and what is remembered from now on."""
        ...

    def final(self, x0: State, memory: Memory) -> Float[Tensor, " n"]:
        """The log-factor that is left at the end, float64 ``(n,)``."""
        ...


@dataclass(frozen=True, eq=False)
class Twist:
    """A target density a time: particles at t are weighed as draws of ``p_t(x_t) psi_t(x_t)``.

    Args:
        log_psi: ``log_psi(moment) -> (n,)``, the nearer to ``log E[exp(log_factor(x_0)) | x_t]`` the better.
        log_factor: ``log_factor(x_0) -> (n,)``, what the target asks: a log-likelihood, or a reward times its scale.

    Source: Practical and Asymptotically Exact Conditional Sampling in Diffusion Models (2023).
    """

    log_psi: Callable[[Moment], Float[Tensor, " n"]]
    log_factor: Reward

    @property
    def looks(self) -> bool:
        """It weighs at every step."""
        return True

    def memory(self, x: State) -> Memory:
        """Nothing has been counted yet."""
        return {"counted": zeros(x)}

    def at(self, moment: Moment, memory: Memory) -> tuple[Float[Tensor, " n"], Memory]:
        """The twist here less the one before."""
        value = checked(self.log_psi(moment), num_rows(moment.x), "log_psi")
        return less(value, memory["counted"]), {"counted": value}

    def final(self, x0: State, memory: Memory) -> Float[Tensor, " n"]:
        """The exact factor less the last twist."""
        return less(checked(self.log_factor(x0), num_rows(x0), "log_factor"), memory["counted"])


@dataclass(frozen=True, eq=False)
class Rewarded:
    """The potentials of Feynman-Kac steering, for the target ``p(x_0) exp(scale reward(x_0))``.

    Along the way the reward is that of what the denoiser foresees, R. Whatever the kind, the factors of a lineage
    multiply to ``exp(scale reward(x_0))``.

    Args:
        reward: ``reward(x_0) -> (n,)``.
        scale: How much it counts; for a new reward, such that its deviation over plain samples becomes 1 to 3.
        kind: ``"difference"``: R here less R before; ``"max"``: the largest R so far; ``"sum"``: the sum of all so
            far; ``"last"``: nothing before the end, which is importance sampling.
        look: What is foreseen, see `looks`; by default the posterior mean of numbers and 4 draws of classes.

    Raises:
        ValueError: An unknown kind; in use a reward that is not finite (minus infinity is) or of a wrong shape.

    Source: A General Framework for Inference-time Scaling and Steering of Diffusion Models (2025).
    """

    reward: Reward
    scale: float = 1.0
    kind: Literal["difference", "max", "sum", "last"] = "difference"
    look: Look | None = None

    def __post_init__(self) -> None:
        kinds = ("difference", "max", "sum", "last")
        if self.kind not in kinds:
            raise ValueError(f"kind: expected one of {list(kinds)}, found {self.kind!r}.")

    @property
    def looks(self) -> bool:
        """Whether anything is foreseen."""
        return self.kind != "last"

    def memory(self, x: State) -> Memory:
        """No reward seen; of the kinds that need it, nothing spent."""
        seen = torch.full_like(zeros(x), -torch.inf) if self.kind == "max" else zeros(x)
        return {"seen": seen, "spent": zeros(x)}

    def at(self, moment: Moment, memory: Memory) -> tuple[Float[Tensor, " n"], Memory]:
        """The factor of what is foreseen here."""
        foreseen = self._foreseen(moment)
        before, spent = memory["seen"], memory["spent"]
        if self.kind == "difference":
            return less(foreseen, before), {"seen": foreseen, "spent": foreseen}
        seen = torch.maximum(before, foreseen) if self.kind == "max" else before + foreseen
        return seen, {"seen": seen, "spent": spent + seen}

    def final(self, x0: State, memory: Memory) -> Float[Tensor, " n"]:
        """The reward less what the factors so far have spent of it."""
        return less(self._value(x0), memory["spent"])

    def _value(self, x0: State) -> Float[Tensor, " n"]:
        return scaled(self.scale, checked(self.reward(x0), num_rows(x0), "reward"))

    def _foreseen(self, moment: Moment) -> Float[Tensor, " n"]:
        look = default_look(moment.process) if self.look is None else self.look
        values = torch.stack([self._value(x0) for x0 in look(moment)])
        return values.logsumexp(0) - torch.log(torch.tensor(float(len(values)), dtype=torch.float64))


def checked(values: Any, rows: int, name: str) -> Float[Tensor, " n"]:
    """Numbers a row in float64.

    Raises:
        ValueError: Another shape, a NaN or plus infinity; minus infinity is a point that the target excludes.
    """
    if not isinstance(values, Tensor) or tuple(values.shape) != (rows,):
        found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"{name}: expected one number a row, a tensor of shape ({rows},), found {found}.")
    values = values.detach().double()
    bad = (values.isnan() | (values == torch.inf)).nonzero().flatten()
    if len(bad):
        row = int(bad[0])
        raise ValueError(
            f"{name}: expected numbers, or minus infinity for points that are excluded, "
            f"found {float(values[row])} in row {row}; make it finite there."
        )
    return values


def scaled(scale: float, values: Tensor) -> Tensor:
    """``scale * values``: points stay excluded whatever the sign of the scale, but a scale of zero asks for nothing."""
    return torch.where(values == -torch.inf, values, values * scale) if scale else torch.zeros_like(values)


def zeros(x: State) -> Float[Tensor, " n"]:
    """A float64 zero a row of a state."""
    block = x if isinstance(x, Tensor) else next(iter(x.values()))
    return torch.zeros(len(block), dtype=torch.float64, device=block.device)


def less(value: Tensor, before: Tensor) -> Tensor:
    """``value - before``; a point that was excluded before stays so."""
    return torch.where(before == -torch.inf, -torch.inf, value - before)
