"""Steering: the one sampling loop with a filter of particles for its solver."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from clarkia import samplers
from clarkia.denoisers import Denoiser, check_prediction
from clarkia.guidance.guided import Guided
from clarkia.processes import Discrete, Gaussian, Process
from clarkia.processes.times import Time
from clarkia.random import Noise
from clarkia.samplers import Hook, Solver, Step
from clarkia.spaces import State, num_rows
from clarkia.steering.chunks import as_precise, in_chunks
from clarkia.steering.filter import Filter, Threshold
from clarkia.steering.moves import Move, Plain, Proposed
from clarkia.steering.particles import Particles, summary
from clarkia.steering.potentials import Potential
from clarkia.steering.resampling import SCHEMES, Scheme

FEW = 0.05
"""Share of the particles below which a group is said to have collapsed."""


class CollapseWarning(UserWarning):
    """The weights of the particles rest on very few of them."""


def run(
    denoiser: Denoiser,
    process: Process,
    potential: Potential,
    *,
    num_particles: int,
    groups: int = 1,
    proposal: Guided | Denoiser | Move | None = None,
    solver: Solver | None = None,
    ess_threshold: Threshold = 0.5,
    resample: Scheme = "systematic",
    every: int = 1,
    window: tuple[float, float] = (1.0, 0.0),
    condition: Any = None,
    known: tuple[State, State] | None = None,
    rows_per_call: int | None = None,
    hooks: Sequence[Hook] = (),
    generator: Noise = None,
    **options: Any,
) -> Particles:
    """Draw weighted samples of a denoiser's law times a factor, exact in the limit of many particles.

    The filter is unbiased for any potential and any proposal; good ones need fewer particles. Importance weights,
    best of n, twisted Monte Carlo, Feynman-Kac steering and annealed likelihoods are settings of it.

    Args:
        denoiser: ``denoiser(x_t, t, condition=None) -> prediction`` of the law to start from.
        process: Its corruption.
        potential: The factors, such as `Twist`, `Rewarded` or those of `measured`.
        num_particles: Particles a group.
        groups: Independent samples of the target, or one a condition.
        proposal: A guided denoiser that particles follow, with their weights corrected for it; `guidance` makes such
            of one evaluation. Or a `Move`. None follows the model.
        solver: How to step; by default `samplers.DDPM` for numbers, `Ancestral` for classes, `Mixed` of both. A
            proposal needs one whose steps have densities; a deterministic one never parts copies again. With
            ``samplers.DPMSolverPP(order=2, stochasticity=1.0)`` fewer steps will do.
        ess_threshold: Particles of a group are copied where their weights are worth less than this share of them;
            ``"always"``, ``"never"``.
        resample: ``"systematic"``, ``"stratified"`` or ``"multinomial"``.
        every: Weigh before every so many steps, and at the end.
        window: Times ``(start, end)``, start >= end, within which to weigh before the end.
        condition: As in `samplers.sample`; a tensor, or each of a dict, with ``groups`` entries has one a group.
        known: As in `samplers.sample`, one row for all particles or ``groups`` rows, the same within a group.
        rows_per_call: Particles that go through the denoiser together; None for all.
        hooks: As in `samplers.sample`.
        generator: Source of randomness.
        **options: ``num_steps`` or ``times``, ``shape``, ``initial`` (of all particles), ``dtype`` and ``device``, as
            in `samplers.sample`.

    Returns:
        The particles with their weights, the estimate of the normaliser, their ancestry and effective sizes.

    Raises:
        ValueError: A wrong argument; a reward that is NaN, plus infinity or of a wrong shape.

    Warns:
        CollapseWarning: The weights or the ancestry of a group rest on less than a twentieth of its particles.

    Source: Feynman-Kac Formulae (2004); Practical and Asymptotically Exact Conditional Sampling in Diffusion Models
    (2023).
    """
    _check(num_particles, groups, ess_threshold, resample, every, window)
    condition = repeated(condition, groups, num_particles)
    if rows_per_call is not None:
        denoiser = in_chunks(denoiser, rows_per_call)
        if isinstance(proposal, Guided):
            proposal = Guided(in_chunks(proposal.both, rows_per_call))
        elif proposal is not None and not hasattr(proposal, "step"):
            proposal = in_chunks(proposal, rows_per_call)  # type: ignore[arg-type]  # a denoiser, no move
    solver = default_solver(process) if solver is None else solver
    move = _move(proposal, solver, denoiser, process, () if condition is None else (condition,))
    particles = Filter(move, potential, num_particles, ess_threshold, resample, every, window)
    record = _Record(num_particles)
    initial = options.get("initial")
    if initial is None:
        options["num_samples"] = groups * num_particles
    elif num_rows(initial) != groups * num_particles:
        raise ValueError(
            f"initial: expected a state of groups * num_particles = {groups * num_particles} rows, "
            f"found {num_rows(initial)}."
        )
    x = samplers.sample(
        denoiser,
        process,
        solver=particles,
        condition=condition,
        known=None if known is None else repeated(known, groups, num_particles),
        hooks=(*hooks, record),
        generator=generator,
        **options,
    )
    return _outcome(x, particles.finish(x, record.carry), record, num_particles)


def default_solver(process: Process) -> Solver:
    """The reverse step of the process itself, whose law is known: DDPM for numbers, ancestral for classes."""
    if isinstance(process, Gaussian):
        return samplers.DDPM()
    return samplers.Ancestral() if isinstance(process, Discrete) else samplers.Mixed(numeric=samplers.DDPM())


def repeated(value: Any, groups: int, num_particles: int) -> Any:
    """What has one entry a group, with one a particle; anything else as it is."""
    if isinstance(value, Mapping):
        return {name: repeated(part, groups, num_particles) for name, part in value.items()}
    if isinstance(value, tuple):
        return tuple(repeated(part, groups, num_particles) for part in value)
    if isinstance(value, Tensor) and value.ndim and len(value) == groups:
        return value.repeat_interleave(num_particles, 0)
    return value


class _Record:
    """The hook that keeps the filter's carry, and what it says of each step."""

    def __init__(self, num_particles: int) -> None:
        self._every = num_particles
        self.carry: dict[str, Any] = {}
        self.ess: list[Tensor] = []
        self.resampled: list[Tensor] = []

    def on_step(self, step: Step) -> Step:
        """Note the step."""
        self.carry = step.carry
        self.ess.append(step.carry["ess"][:: self._every])
        self.resampled.append(step.carry["copied"][:: self._every])
        return step


def _outcome(x: State, carry: dict[str, Any], record: _Record, k: int) -> Particles:
    log_weights = carry["log_weights"].reshape(-1, k)
    lost = (log_weights == -torch.inf).all(1, keepdim=True)
    first = k * torch.arange(len(log_weights), device=log_weights.device)[:, None]
    particles = Particles(
        x=x,
        log_weights=torch.where(lost, log_weights, log_weights.log_softmax(1)),
        log_z=carry["log_z"][::k],
        ancestry=carry["ancestor"].reshape(-1, k) - first,
        ess=torch.stack([*record.ess, carry["ess"][::k]]),
        resampled=torch.stack(record.resampled),
    )
    alive = ~lost.flatten()
    poor = (particles.ess[-1] < FEW * k) | (particles.num_ancestors < FEW * k)
    if bool((poor & alive).any()):
        warnings.warn(
            f"steering: {summary(particles)}; use more particles, a proposal that is guided towards the target, "
            "a smaller scale, or weigh less often.",
            CollapseWarning,
            stacklevel=3,
        )
    return particles


def _move(proposal: Any, solver: Solver, denoiser: Denoiser, process: Process, given: tuple[Any, ...]) -> Move:
    """The move of a run: the solver's own, one that follows a guided denoiser, or the one that was given."""
    if proposal is None:
        return Plain(solver)
    if hasattr(proposal, "step"):
        return proposal
    answers = proposal.both if isinstance(proposal, Guided) else _apart(denoiser, proposal)

    def both(x: State, t: Time) -> tuple[Any, Any]:
        t = as_precise(t, x)
        plain, guided = answers(x, t, *given)
        for answer in (plain, guided):
            check_prediction(answer, x, t, process)
        return plain, guided

    return Proposed(solver, both)  # type: ignore[arg-type]


def _apart(denoiser: Denoiser, proposal: Denoiser) -> Callable[..., tuple[Any, Any]]:
    return lambda x, t, *given: (denoiser(x, t, *given), proposal(x, t, *given))


def _check(
    num_particles: int,
    groups: int,
    ess_threshold: Threshold,
    resample: str,
    every: int,
    window: tuple[float, float],
) -> None:
    for name, count in (("num_particles", num_particles), ("groups", groups), ("every", every)):
        if count < 1:
            raise ValueError(f"{name}: expected at least 1, found {count}.")
    if resample not in SCHEMES:
        raise ValueError(f"resample: expected one of {list(SCHEMES)}, found {resample!r}.")
    words = isinstance(ess_threshold, str) and ess_threshold in ("always", "never")
    if not words and (isinstance(ess_threshold, str) or not 0 <= ess_threshold <= 1):
        raise ValueError(f"ess_threshold: expected a share from 0 to 1, 'always' or 'never', found {ess_threshold!r}.")
    start, end = window
    if not 0 <= end <= start <= 1:
        raise ValueError(f"window: expected times (start, end) with 0 <= end <= start <= 1, found {window}.")
