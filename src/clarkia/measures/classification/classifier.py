"""Classification by a conditional denoiser: the class under which noise is told from the data best."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from clarkia.denoisers import Denoiser, check_prediction
from clarkia.measures.classification.conditions import ClassConditions
from clarkia.measures.classification.stages import Stages, check_stages, keep_best, log_likelihoods, nested_order
from clarkia.measures.classification.trials import Distance, Trial, Trials, Weight, trials_of
from clarkia.measures.likelihood.evaluate import check_data
from clarkia.processes import Mixed, Process
from clarkia.random import Noise, rand
from clarkia.spaces import State, num_rows, take_rows


@dataclass(frozen=True, eq=False)
class Classification:
    """What a denoiser thinks of the classes of n rows; unpacks as ``log_posterior, errors``.

    Attributes:
        log_posterior: float64 ``(n, c)``, normalised. Calibrated with exact weights; otherwise only its order counts.
        errors: float64 ``(n, c, m)``, the cost in nats of each draw, from the least noise to the most; NaN where a
            class had been given up.
        log_likelihood: float64 ``(n, c)``, up to a constant of each row; with `unconditional` less that of no
            condition, which compares rows as well.
        levels: float64 ``(m,)``, middle of each draw's stratum: a log-SNR, a time, or a share of masked cells.
        evaluations: Rows that the denoiser was shown, over all classes and draws.
    """

    log_posterior: Float64[Tensor, "n c"]
    errors: Float64[Tensor, "n c m"]
    log_likelihood: Float64[Tensor, "n c"]
    levels: Float64[Tensor, " m"]
    evaluations: int

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.log_posterior, self.errors))

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """The most probable class of each row."""
        return self.log_posterior.argmax(1)


@torch.no_grad()
def diffusion_classifier(
    denoiser: Denoiser,
    process: Process,
    x: State,
    conditions: Any,
    *,
    weight: Weight = "logsnr",
    num_draws: int = 128,
    stages: Stages | str | None = None,
    antithetic: bool = True,
    log_prior: Float[Tensor, " c"] | None = None,
    log_snr_range: tuple[float, float] | None = None,
    distance: Distance = "squared",
    unconditional: bool = False,
    per_row: bool = False,
    rows_per_call: int = 512,
    generator: Noise = None,
) -> Classification:
    """Posterior of classes from the errors of a denoiser that is told each of them in turn.

    For Gaussian processes ``log p(x | c) = const - 1/2 integral of E|eps - eps_hat_c|^2 d log snr``; for masked ones
    the likelihood bound over all orders; for mixed ones the sum over blocks. Levels and noises are shared by all
    classes: only so are their errors comparable after a few draws.

    Args:
        denoiser: ``denoiser(x_t, t, condition)``, without any guidance.
        process: A Gaussian, a masked, or a mixed process of these.
        x: Clean rows, ``(n, ...)`` or a dict of blocks.
        conditions: A tensor with a row a class, a dict of such tensors, or a list with any condition a class, which is
            handed over as it is.
        weight: Of a Gaussian process: ``"logsnr"`` is exact; a function of the log-SNR multiplies that;
            ``"uniform_t"`` spreads levels evenly in time and weighs them alike, as published.
        num_draws: Noisy copies of each row.
        stages: ``(draws so far, classes kept)``, or the name of a preset in `PRUNING`: classes are given up along the
            way, and what was drawn before counts on. Replaces `num_draws`.
        antithetic: Draw noise in pairs of opposite sign at one level (of masks, orders in reverse).
        log_prior: Log-probabilities of the classes up to a constant; even by default.
        log_snr_range: Lowest and highest log-SNR of Gaussian blocks; by default all that the process reaches, between
            ``sigma / alpha`` of 0.002 and 80 where it has no ends.
        distance: Of a Gaussian process, how errors count: ``"squared"``, its root ``"norm"``, or ``"absolute"``; only
            the first is a likelihood.
        unconditional: Ask without a condition too and take that likelihood off, so that pictures can be ranked for a
            caption; costs as much as a class.
        per_row: Whether conditions are ``(n c)`` rows, the c of the first row first.
        rows_per_call: Most rows that the denoiser is shown at once.
        generator: Source of randomness. Draws are the same whatever the classes, stages and rows a call.

    Returns:
        The posterior with all errors. A row that no class can have made keeps the prior.

    Raises:
        ValueError: Data or conditions that do not fit, a wrong argument, or a denoiser that answers with a wrong shape
            or a number that is not finite.

    Source: Your Diffusion Model is Secretly a Zero-Shot Classifier (2023).
    """
    plan = check_stages(stages, num_draws, antithetic)
    if rows_per_call < 1:
        raise ValueError(f"rows_per_call: expected at least 1, found {rows_per_call}.")
    _check_state(process, x)
    given = ClassConditions.of(conditions, num_rows(x) if per_row else None)
    prior = _checked_prior(log_prior, given.classes)
    trials = trials_of(process, weight, distance, log_snr_range)
    run = _Run(denoiser, process, trials, x, given, plan[-1][0], antithetic, unconditional, rows_per_call, generator)
    done = 0
    for draws, kept in plan:
        run.evaluate(range(done, draws))
        done = draws
        if kept > 0 and draws < plan[-1][0]:
            run.give_up(kept, draws)
    likelihood = log_likelihoods(run.errors)
    if unconditional:
        likelihood = likelihood[:, :-1] - likelihood[:, -1:]
    prior = prior.to(likelihood.device)
    possible = (likelihood > -torch.inf).any(1, keepdim=True)
    posterior = (torch.where(possible, likelihood, 0.0) + prior).log_softmax(1)
    middle = (torch.arange(run.strata, dtype=torch.float64) + 0.5) / run.strata
    levels = trials.level(middle).repeat_interleave(1 + antithetic)
    errors = run.errors[:, : given.classes, run.stratum.argsort(stable=True)]
    return Classification(posterior, errors, likelihood, levels, run.evaluations)


class _Run:
    """Errors of all classes on the same noisy rows, draw by draw."""

    def __init__(
        self,
        denoiser: Denoiser,
        process: Process,
        trials: Trials,
        x: State,
        given: ClassConditions,
        draws: int,
        antithetic: bool,
        unconditional: bool,
        rows_per_call: int,
        generator: Noise,
    ) -> None:
        self.denoiser, self.process, self.trials, self.x, self.given = denoiser, process, trials, x, given
        self.rows, self.rows_per_call, self.generator = num_rows(x), rows_per_call, generator
        self.device = next(iter(x.values())).device if isinstance(x, dict) else x.device
        copies = 2 if antithetic else 1
        self.strata, self.copies = draws // copies, copies
        order = nested_order(self.strata)
        self.stratum = order.repeat_interleave(copies).to(self.device)
        jitter = rand((self.rows, self.strata), generator, device=self.device)
        self.u = (order.to(self.device) + jitter) / self.strata  # in the order of the draws
        columns = given.classes + unconditional
        self.errors = torch.full((self.rows, columns, draws), torch.nan, dtype=torch.float64, device=self.device)
        self.active = torch.ones(self.rows, columns, dtype=torch.bool, device=self.device)
        self.evaluations = 0
        self._pending: State | None = None  # the second half of a pair

    def give_up(self, kept: int, draws: int) -> None:
        """Go on with the best classes of each row only; no condition is no class."""
        classes = self.given.classes
        mean = self.errors[:, :classes, :draws].mean(2)
        self.active[:, :classes] = keep_best(mean, self.active[:, :classes], kept)

    def evaluate(self, draws: range) -> None:
        """Fill in the errors of some draws for all classes that are left."""
        label, row = self.active.T.nonzero(as_tuple=True)
        together = max(1, self.rows_per_call // len(label))
        for first in range(draws.start, draws.stop, together):
            some = range(first, min(first + together, draws.stop))
            trial = self._trial(some)
            copy = torch.arange(len(some), device=self.device).repeat_interleave(len(label))
            everyone = (copy, row.repeat(len(some)), label.repeat(len(some)))
            for part in zip(*(index.split(self.rows_per_call) for index in everyone), strict=True):
                self._ask(trial, first, *part)

    def _trial(self, draws: range) -> Trial:
        """The rows of several draws, one draw after the other."""
        noises = [self._noise(draw) for draw in draws]
        u = torch.cat([self.u[:, draw // self.copies] for draw in draws])
        several = len(noises) > 1
        if isinstance(self.x, dict):
            x = {name: block.repeat(len(noises), *(1,) * (block.ndim - 1)) for name, block in self.x.items()}
            noise: State = {name: torch.cat([one[name] for one in noises]) for name in self.x}  # type: ignore[index]
        else:
            x = self.x.repeat(len(noises), *(1,) * (self.x.ndim - 1)) if several else self.x
            noise = torch.cat(noises)  # type: ignore[arg-type]
        return self.trials.trial(x, u, noise)

    def _noise(self, draw: int) -> State:
        if self.copies == 2 and draw % 2:
            assert self._pending is not None
            return self._pending
        fresh = self.trials.noise(self.x, self.generator)
        self._pending = self.trials.opposite(fresh) if self.copies == 2 else None
        return fresh

    def _ask(self, trial: Trial, first: int, copy: Tensor, row: Tensor, label: Tensor) -> None:
        place = copy * self.rows + row
        for part, condition in self.given.parts(row, label):
            rows = place[part]
            x_t = take_rows(trial.x_t, rows)
            t = trial.t[rows].to(_float_of(x_t))
            answer = self.denoiser(x_t, t) if condition is None else self.denoiser(x_t, t, condition)
            check_prediction(answer, x_t, t, self.process)
            self.errors[row[part], label[part], first + copy[part]] = trial.error(answer, rows)
            self.evaluations += len(rows)


def _float_of(x_t: State) -> torch.dtype:
    """The precision of times: that of the numbers in a state."""
    blocks = x_t.values() if isinstance(x_t, dict) else (x_t,)
    return next((block.dtype for block in blocks if block.is_floating_point()), torch.get_default_dtype())


def _check_state(process: Process, x: State) -> None:
    if isinstance(process, Mixed):
        for name, part, block in process.each(x, "x"):
            check_data(part, block, f"x[{name!r}]")
    else:
        check_data(process, x)


def _checked_prior(log_prior: Tensor | None, classes: int) -> Tensor:
    if log_prior is None:
        return torch.zeros(classes, dtype=torch.float64)
    prior = torch.as_tensor(log_prior, dtype=torch.float64)
    if prior.shape != (classes,) or bool(prior.isnan().any()) or not bool((prior > -torch.inf).any()):
        raise ValueError(f"log_prior: expected {classes} numbers, one a class, found {tuple(prior.shape)}.")
    return prior
