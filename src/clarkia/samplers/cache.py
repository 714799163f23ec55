"""A denoiser that remembers its last answers, for networks that do not look at the time."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clarkia.denoisers import Denoiser
from clarkia.processes import Masked
from clarkia.samplers.live import ask, certain, splits


class OutputCache:
    """A denoiser that calls another only for the rows whose state changed since the call before.

    Exact for a denoiser of one masked block that does not depend on the time. A row without a masked cell is answered
    without a call. Make one for each run: the answers of the last call are its memory.

    Args:
        denoiser: ``denoiser(x_t, t, condition=None)``, independent of ``t``.
        process: Its process.

    Attributes:
        calls: int64 ``(n,)``, how often each row was shown to the denoiser; None before the first call.

    Raises:
        ValueError: Another process than a masked one.

    Source: Your Absorbing Discrete Diffusion Secretly Models the Conditional Distributions of Clean Data (2024).
    """

    calls: Int[Tensor, " n"] | None

    def __init__(self, denoiser: Denoiser, process: Masked) -> None:
        if not isinstance(process, Masked):
            raise ValueError(f"process: expected a masked process, found {type(process).__name__}.")
        self.calls = None
        self._denoiser, self._process = denoiser, process
        self._last: tuple[Tensor, Any, Tensor] | None = None  # state, condition, answer

    def __call__(self, x_t: Int[Tensor, "n ..."], t: Tensor, condition: Any = None) -> Float[Tensor, "n ... K"]:
        """The denoiser's answer to all rows."""
        changed = self._changed(x_t, condition)
        asked = changed & self._process.is_masked(x_t).flatten(1).any(1)
        if self._last is None or bool(asked.all()) or not splits(condition):
            asked = torch.ones_like(asked)
            answer = self._denoiser(x_t, t, *(() if condition is None else (condition,)))
        else:
            answer = self._last[2]
            if bool(changed.any()):
                answer = self._updated(answer, x_t, t, changed, asked, condition)
        if self.calls is None or len(self.calls) != len(x_t):
            self.calls = torch.zeros(len(x_t), dtype=torch.int64, device=x_t.device)
        self.calls += asked
        self._last = x_t.clone(), condition, answer
        return answer

    def _changed(self, x_t: Tensor, condition: Any) -> Bool[Tensor, " n"]:
        if self._last is None or self._last[0].shape != x_t.shape or self._last[1] is not condition:
            self._last = None
            return torch.ones(len(x_t), dtype=torch.bool, device=x_t.device)
        return (self._last[0] != x_t).flatten(1).any(1)

    def _updated(
        self, answer: Tensor, x_t: Tensor, t: Tensor, changed: Tensor, asked: Tensor, condition: Any
    ) -> Tensor:
        """A new tensor: the old answer may be kept by others."""
        complete, index = (rows.nonzero().squeeze(1) for rows in (changed & ~asked, asked))
        answer = answer.index_copy(0, complete, certain(x_t[complete], answer))
        if len(index):
            given = () if condition is None else (condition,)
            answer.index_copy_(0, index, ask(self._denoiser, x_t, t, index, *given))
        return answer
