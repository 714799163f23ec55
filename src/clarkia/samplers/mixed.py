"""Several blocks in lock-step on shared evaluations of the denoiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import Tensor

from clarkia.processes import Gaussian, Kernel, MixedKernel
from clarkia.processes import Mixed as MixedProcess
from clarkia.processes.times import Time, block_time
from clarkia.random import Noise
from clarkia.samplers.ancestral import Ancestral
from clarkia.samplers.heun import Heun
from clarkia.samplers.solver import Evaluate, Staged, as_kernel, drawn, require


@dataclass(frozen=True, init=False)
class Mixed:
    """A solver a block, all advancing together: each evaluation of the denoiser serves every block.

    Where a block asks for more evaluations than another (Heun's correction), the other is shown as it stood at its
    own last one: categories before this step's unmasking, at their own time.

    Args:
        numeric: Solver of the Gaussian blocks; `Heun` by default.
        categorical: Solver of the discrete blocks; `Ancestral` by default.
        **blocks: Solvers of single blocks by name.

    Source: TabDiff: a Mixed-type Diffusion Model for Tabular Data Generation (2024).
    """

    numeric: Staged
    categorical: Staged
    blocks: Mapping[str, Staged]

    def __init__(self, numeric: Staged | None = None, categorical: Staged | None = None, **blocks: Staged) -> None:
        object.__setattr__(self, "numeric", Heun() if numeric is None else numeric)
        object.__setattr__(self, "categorical", Ancestral() if categorical is None else categorical)
        object.__setattr__(self, "blocks", MappingProxyType(blocks))
        for name, solver in {"numeric": self.numeric, "categorical": self.categorical, **blocks}.items():
            if not isinstance(solver, Staged):
                raise ValueError(f"{name}: expected a solver written as stages, found {type(solver).__name__}.")

    def init(self, x: Mapping[str, Tensor], process: MixedProcess, generator: Noise = None) -> dict[str, Any]:
        """The carries of the blocks."""
        require(process, MixedProcess, "Mixed")
        unknown = set(self.blocks) - set(process.blocks)
        if unknown:
            raise ValueError(f"solver: expected blocks of {sorted(process.blocks)}, found {sorted(unknown)}.")
        return {name: self._of(name, part).init(block, part, generator) for name, part, block in process.each(x, "x")}

    def step(
        self,
        denoise: Evaluate,
        process: MixedProcess,
        x: Mapping[str, Tensor],
        t: Time,
        s: Time,
        carry: Mapping[str, Any],
        generator: Noise = None,
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """One step of every block."""
        outcomes = self._run(denoise, process, x, t, s, carry, generator)
        states = {name: drawn(outcome, generator) for name, (outcome, _) in outcomes.items()}
        return states, {name: after for name, (_, after) in outcomes.items()}

    def kernel(
        self,
        denoise: Evaluate,
        process: MixedProcess,
        x: Mapping[str, Tensor],
        t: Time,
        s: Time,
        carry: Mapping[str, Any],
        generator: Noise = None,
    ) -> tuple[MixedKernel, dict[str, Any]]:
        """The law of the state at s, a product over blocks, and the next carry."""
        outcomes = self._run(denoise, process, x, t, s, carry, generator)
        kernels = {name: as_kernel(outcome) for name, (outcome, _) in outcomes.items()}
        return MixedKernel(kernels), {name: after for name, (_, after) in outcomes.items()}

    def _run(
        self,
        denoise: Evaluate,
        process: MixedProcess,
        x: Mapping[str, Tensor],
        t: Time,
        s: Time,
        carry: Mapping[str, Any],
        generator: Noise,
    ) -> dict[str, tuple[Tensor | Kernel, Any]]:
        """Drive the stages of every block side by side: where each leads, and its carry."""
        running = {
            name: self._of(name, part).stages(
                part, block, block_time(t, name), block_time(s, name), carry[name], generator
            )
            for name, part, block in process.each(x, "x")
        }
        asked = {name: next(stages) for name, stages in running.items()}
        finished: dict[str, tuple[Tensor | Kernel, Any]] = {}
        while len(finished) < len(running):
            prediction = denoise(
                {name: state for name, (state, _) in asked.items()}, {name: time for name, (_, time) in asked.items()}
            )
            for name, stages in running.items():
                if name not in finished:
                    try:
                        asked[name] = stages.send(prediction[name])
                    except StopIteration as done:
                        finished[name] = done.value
        return {name: finished[name] for name in running}

    def _of(self, name: str, process: Any) -> Staged:
        return self.blocks.get(name, self.numeric if isinstance(process, Gaussian) else self.categorical)
