"""New labels for a trained denoiser by control: roll out, pay the divergence, earn the classifier's log-probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from clarkia import schedules
from clarkia.alignment.chains import Changed, chain
from clarkia.alignment.control import Control, as_controls, draw_labels, log_factor, with_labels
from clarkia.alignment.controlled import Controlled, Copy, Correction
from clarkia.denoisers import Denoiser
from clarkia.processes import Discrete, Gaussian
from clarkia.random import Noise, rand
from clarkia.spaces import State, num_rows
from clarkia.training import Source, TrainingOptions, fit
from clarkia.training.sources import as_source

NO_CONDITION = "no condition"
"""Name of the empty column that stands for rows where a denoiser takes no condition."""


def ctrl(
    denoiser: Denoiser,
    process: Gaussian | Discrete,
    controls: Control | Sequence[Control],
    *,
    shape: Sequence[int],
    options: TrainingOptions,
    times: Float[Tensor, " nodes"] | None = None,
    change: Literal["correction", "adapters", "all"] | nn.Module = "correction",
    conditions: State | Source | None = None,
    truncate: Literal["random"] | None = "random",
    gradient: Literal["pathwise", "score"] = "pathwise",
    drop: float = 0.0,
    recompute: bool = False,
    data_std: float = 1.0,
    width: int = 64,
    rank: int = 4,
    progress: bool = False,
) -> Controlled:
    """Teach a denoiser labels that a classifier can tell of clean data: its samples become ``p(x) p(y | x)^gamma / Z``.

    Only the classifier has seen labels; no noisy classifier and no pairs of old conditions and labels are needed, and
    sampling costs one evaluation a step. Each training step rolls out the ancestral chain and minimises, in nats,
    ``-gamma log p(y | x_0)`` plus the divergences of all its steps from the frozen ones (`ControlCost`).
    `control_gap` tells how far from the best possible the result is.

    Args:
        denoiser: The trained denoiser of one block; it is not changed.
        process: Its process.
        controls: What the labels mean; several multiply.
        shape: Shape of one data point.
        options: Of the training; a learning rate of 1e-3, ``clip_norm=5`` and batches of 256 to 512 are usual.
        times: Decreasing grid of the chains, by default 50 uniform steps; sampling should use one that is as fine.
        change: What learns: a `Correction` of ``width`` units (any Gaussian denoiser), or a `Copy` of a denoiser with
            a conditional network, by low-rank ``"adapters"`` or ``"all"`` its weights; or a module of your own.
        conditions: The conditions to train under, a tensor or a dict of tensors, one a row, or a source of these.
        truncate: ``"random"`` gives every chain one uniform step before which nothing is learned from it; None learns
            from whole chains.
        gradient: ``"pathwise"`` through the states and the classifier; ``"score"``, the score-function estimate, for
            classifiers or processes without derivatives.
        drop: Chance of each control of a row to be left out, so that any of several can be given alone.
        recompute: Saves memory: answers are computed again on the way back.
        data_std: Standard deviation of the clean data, for a `Correction`.
        width: Hidden units of a `Correction`.
        rank: Of the adapters.
        progress: Whether to show a progress bar.

    Returns:
        The denoiser with labels, see `Controlled`.

    Raises:
        ValueError: An argument of the wrong kind; a discrete process with pathwise gradients; a denoiser that the
            change is not made for.

    Source: Adding Conditional Control to Diffusion Models with Reinforcement Learning (2024).
    """
    controls = as_controls(controls)
    times = schedules.uniform(50) if times is None else schedules.check_times(times)
    cost = ControlCost(
        process, controls, tuple(shape), times, truncate=truncate, gradient=gradient, drop=drop, recompute=recompute
    )
    labels = [control.num_labels for control in controls]
    with torch.random.fork_rng([]):
        torch.manual_seed(options.seed)
        if isinstance(change, str):
            change = _learner(change, denoiser, process, prod(shape), labels, width, rank, data_std)
        controlled = Controlled(denoiser, change, float(times[times > 0][-1]))
    data = {NO_CONDITION: torch.zeros(options.batch_size)} if conditions is None else as_source(conditions)
    fit(controlled, cost, data, options=options, progress=progress)
    return controlled


def _learner(
    change: str,
    denoiser: Denoiser,
    process: Gaussian | Discrete,
    size: int,
    labels: Sequence[int],
    width: int,
    rank: int,
    data_std: float,
) -> nn.Module:
    if change == "correction":
        if not isinstance(process, Gaussian):
            raise ValueError("change: expected a Gaussian process for a correction of means, found a discrete one.")
        module = Correction(process, size, labels, width=width, data_std=data_std)
        home = next(denoiser.parameters(), None) if isinstance(denoiser, nn.Module) else None
        return module if home is None else module.to(home.device)
    if change not in ("adapters", "all"):
        raise ValueError(f"change: expected 'correction', 'adapters', 'all' or a module, found {change!r}.")
    if not isinstance(denoiser, nn.Module):
        raise ValueError(f"denoiser: expected a module to copy, found {type(denoiser).__name__}; correct it instead.")
    return Copy(denoiser, labels, rank=rank if change == "adapters" else None)


@dataclass(frozen=True, eq=False)
class ControlCost:
    """The cost of control as a loss for `training.fit`: divergence from the frozen chain less the reward, in nats.

    Its least possible mean is ``-E log Z``, with ``Z = E[p(y | x_0)^gamma]`` given the noise a chain starts from.
    Divergences are sums over the elements of a data point, never means, so that gamma keeps its meaning.

    Args:
        process: The process of one block.
        controls: What the labels mean.
        shape: Shape of one data point.
        times: Decreasing grid.
        truncate: ``"random"``, the default of `ctrl`, or None. One cut a chain, uniform over its steps: the gradient
            of step i is whole with probability (i + 1) / steps and else absent, so where all of them vanish is not
            moved.
        gradient: ``"pathwise"`` or ``"score"``, where each step earns the cost it leads to, less the mean of that
            over the other chains of the batch with the same labels.
        drop: Chance of each label to be left out.
        recompute: Whether answers are computed again on the way back.

    Raises:
        ValueError: An unknown word, a chance outside [0, 1), or pathwise gradients of a discrete process.

    Source: Adding Conditional Control to Diffusion Models with Reinforcement Learning (2024).
    """

    process: Gaussian | Discrete
    controls: tuple[Control, ...]
    shape: tuple[int, ...]
    times: Float[Tensor, " nodes"]
    truncate: Literal["random"] | None = "random"
    gradient: Literal["pathwise", "score"] = "pathwise"
    drop: float = 0.0
    recompute: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.process, Gaussian | Discrete):
            raise ValueError(f"process: expected one block's process, found {type(self.process).__name__}.")
        if self.truncate not in ("random", None):
            raise ValueError(f"truncate: expected 'random' or None, found {self.truncate!r}.")
        if self.gradient not in ("pathwise", "score"):
            raise ValueError(f"gradient: expected 'pathwise' or 'score', found {self.gradient!r}.")
        if self.gradient == "pathwise" and not isinstance(self.process, Gaussian):
            raise ValueError("gradient: expected 'score' for a discrete process, found 'pathwise'.")
        if not 0 <= self.drop < 1:
            raise ValueError(f"drop: expected a chance in [0, 1), found {self.drop}.")

    def __call__(
        self, denoiser: Any, batch: State | None, generator: Noise = None, *, num_samples: int | None = None
    ) -> dict[str, Float[Tensor, " n"]]:
        """Draw labels and chains, and cost them.

        Args:
            denoiser: See `Controlled`.
            batch: Conditions, a row each; None, with ``num_samples`` rows, for none.
            generator: Source of randomness.
            num_samples: Chains, where there are no conditions to count.

        Returns:
            ``kl`` and ``reward`` (negative, as a loss), float64 ``(n,)`` each; their sum is the cost, and with
            ``gradient="score"`` they carry the gradient of its mean all the same.
        """
        if batch is None and num_samples is None:
            raise ValueError("num_samples: expected a number where there are no conditions, found None.")
        n = num_samples if batch is None else num_rows(batch)
        assert n is not None
        condition = None if batch is None or (isinstance(batch, dict) and NO_CONDITION in batch) else batch
        device = _device(denoiser)
        labels = draw_labels(self.controls, n, self.drop, generator).to(device)
        x = self.process.prior(n, self.shape, generator=generator, device=device)
        return self.of(denoiser, x, labels, condition, generator)

    def of(
        self,
        denoiser: Changed,
        x: Tensor,
        labels: Int64[Tensor, "n controls"],
        condition: Any = None,
        generator: Noise = None,
    ) -> dict[str, Float[Tensor, " n"]]:
        """The costs of chains with these labels from these states of the first time; see a call."""
        steps = len(self.times) - 1
        cut = None
        if self.truncate is not None:
            cut = (rand((len(x),), generator, device=x.device) * steps).long()
        pathwise = self.gradient == "pathwise"
        told = with_labels(condition, labels)
        log_probs, divergences = [], []
        for step in chain(
            denoiser, self.process, x, self.times, told,
            cut=cut, pathwise=pathwise, recompute=self.recompute, generator=generator,
        ):  # fmt: skip
            divergences.append(step.kl())
            log_probs.append(None if pathwise else step.law.log_prob(step.x))
            x = step.x
        kl = torch.stack(divergences, 1)
        if pathwise:
            return {"kl": kl.sum(1), "reward": -log_factor(self.controls, x, labels, condition)}
        with torch.no_grad():
            reward = -log_factor(self.controls, x, labels, condition)
        return {"kl": kl.sum(1), "reward": _scored(reward, kl, torch.stack(log_probs, 1), labels)}  # type: ignore[arg-type]


def _scored(
    reward: Float[Tensor, " n"], kl: Float[Tensor, "n steps"], log_prob: Float[Tensor, "n steps"], labels: Tensor
) -> Float[Tensor, " n"]:
    """The rewards, with the score-function gradient of everything that the draws of each step lead to.

    A step's draw decides the divergences of the steps after it and the reward, not its own divergence.
    """
    with torch.no_grad():
        ahead = kl.flip(1).cumsum(1).flip(1) - kl + reward[:, None]
        group = labels.unique(dim=0, return_inverse=True)[1]
        count = torch.bincount(group).to(ahead)[group][:, None]
        total = ahead.new_zeros((int(group.max()) + 1, ahead.shape[1])).index_add(0, group, ahead)[group]
        # The mean of the others: one's own cost in one's baseline would bias the estimate.
        advantage = torch.where(count > 1, ahead - (total - ahead) / (count - 1).clamp(min=1), ahead)
    score = log_prob - log_prob.detach()
    return reward + (advantage * score).sum(1)


def _device(module: Any) -> torch.device | None:
    return next((weight.device for weight in module.parameters()), None) if isinstance(module, nn.Module) else None
