"""Chains of a changed denoiser beside the one it was made from: both laws of every step at the same states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from clarkia.processes import Discrete, Gaussian, Kernel
from clarkia.random import Noise


class Changed(Protocol):
    """A denoiser that was made from another one and can tell both answers, such as `guidance.guided.Guided`."""

    def both(self, x_t: Tensor, t: Tensor, condition: Any = None) -> tuple[Any, Any]:
        """The answer of the denoiser it was made from, and its own."""
        ...


@dataclass(frozen=True, eq=False)
class Transition:
    """One step of a chain.

    Attributes:
        law: The changed denoiser's.
        frozen: That of the denoiser it was made from, at the same state.
        x: The state that was drawn from ``law``.
    """

    law: Kernel
    frozen: Kernel
    x: Tensor

    def kl(self) -> Float[Tensor, " n"]:
        """Divergence of the changed law from the frozen one, summed over elements, float64 ``(n,)``."""
        return self.law.kl(self.frozen)


def chain(
    denoiser: Changed,
    process: Gaussian | Discrete,
    x: Tensor,
    times: Float[Tensor, " nodes"],
    condition: Any = None,
    *,
    cut: Tensor | None = None,
    pathwise: bool = True,
    recompute: bool = False,
    generator: Noise = None,
) -> Iterator[Transition]:
    """Walk the ancestral chain of a changed denoiser, step by step.

    A step without noise, to s = 0 of a Gaussian process, is the frozen one: its change would cost no divergence, so it
    would be a loophole.

    Args:
        denoiser: See `Changed`.
        process: The corruption of one block; steps are its kernels with all their noise.
        x: States at the first time, ``(n, ...)``.
        times: Decreasing grid, float64.
        condition: Handed to the denoiser.
        cut: int64 ``(n,)``: of each chain, the answers in steps before this one pass no gradient to the weights. One
            cut a chain leaves the gradient of every later step whole; a new draw at each step would break up the path
            from a step to the end of its chain.
        pathwise: Whether gradients run through the draws to the states before; else each state is a constant.
        recompute: Whether answers are computed again on the way back instead of kept.
        generator: Source of randomness.
    """
    grid = times.to(x.device)
    precision = x.dtype if x.is_floating_point() else torch.get_default_dtype()
    for index, (t, s) in enumerate(pairwise(grid)):
        learning = torch.ones(len(x), dtype=torch.bool, device=x.device) if cut is None else index >= cut.to(x.device)
        with torch.set_grad_enabled(torch.is_grad_enabled() and bool(learning.any())):
            time = t.to(precision).expand(len(x))
            if recompute and torch.is_grad_enabled():
                plain, answer = checkpoint(denoiser.both, x, time, condition, use_reentrant=False)  # type: ignore[misc]
            else:
                plain, answer = denoiser.both(x, time, condition)
            if isinstance(process, Gaussian) and float(s) == 0:
                answer = plain
            elif cut is not None:
                answer = torch.where(learning.reshape(-1, *(1,) * (answer.ndim - 1)), answer, answer.detach())
            law, frozen = (process.kernel(x, value, t.expand(len(x)), s.expand(len(x))) for value in (answer, plain))
            x = law.sample(generator)
        x = x if pathwise else x.detach()
        yield Transition(law, frozen, x)
