"""New designs with high rewards from a table of which few are scored, and how far it pays to ask for more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia._math.energy import mean_distance
from clarkia._math.neighbours import k_nearest
from clarkia.alignment.designers import Designer, DiffusionDesigner
from clarkia.alignment.reward_models import RewardModel, Ridge, Scale
from clarkia.measures.subspace import leading_subspace
from clarkia.random import Noise, randn

TrueReward = Callable[[Tensor], Float[Tensor, " n"]]
LEAK_FLOOR = 1e-6  # rounding of points that lie in a subspace exactly, in deviations


@dataclass(frozen=True)
class TargetReport:
    """What designs asked for at one target are like.

    Attributes:
        target: The reward asked for.
        predicted: Mean reward by the reward model. Designs are made to please it, so it is no evidence.
        reward: Mean true reward, or by a model that the designs were not made with; None where there is neither.
        leak: Mean distance from the leading subspace of the data, in deviations of their columns.
        distance: Mean distance to the k-th nearest row of the data, likewise.
        diversity: Mean distance of two designs over that of two rows of the data.
        supported: Whether leak and distance stay below the quantiles of the data's own.
    """

    target: float
    predicted: float
    reward: float | None
    leak: float
    distance: float
    diversity: float
    supported: bool


@dataclass(frozen=True, eq=False)
class Proposals:
    """New designs.

    Attributes:
        x: The designs, float64 ``(n, d)``, best first by the reward model.
        predicted: Their rewards by the reward model, ``(n,)``.
        target: The reward that was asked for.
        reports: What was found at each target, where it was chosen; else that of the one.
    """

    x: Float[Tensor, "n d"]
    predicted: Float[Tensor, " n"]
    target: float
    reports: tuple[TargetReport, ...]


class RewardDirected:
    """Reward-directed generation: score all rows by a model fitted to few, learn designs given scores, ask for more.

    Args:
        designer: The conditional model; a `DiffusionDesigner` by default.
        reward_model: Fitted to the scored rows; `Ridge` by default.
        num_samples: Designs that each target is judged by.
        neighbours: The k of the distance to the data.
        quantile: Of the data's own distances, beyond which a target is not supported.
        share: Of the variance that the leading subspace holds.

    Attributes:
        x: Rows of the last `fit`, float64.
        reward: Their scores, NaN where not known.

    Source: An Overview of Diffusion Models: Applications, Guided Generation, Statistical Rates and Optimization (2024);
    Reward-Directed Conditional Diffusion: Provable Distribution Estimation and Reward Improvement (2023).
    """

    x: Tensor
    reward: Tensor

    def __init__(
        self,
        designer: Designer | None = None,
        reward_model: RewardModel | None = None,
        *,
        num_samples: int = 1000,
        neighbours: int = 5,
        quantile: float = 0.95,
        share: float = 0.99,
    ) -> None:
        if not 0 < quantile < 1:
            raise ValueError(f"quantile: expected a number in (0, 1), found {quantile}.")
        self.designer: Designer = DiffusionDesigner() if designer is None else designer
        self.reward_model: RewardModel = Ridge() if reward_model is None else reward_model
        self.num_samples, self.neighbours = num_samples, neighbours
        self.quantile, self.share = quantile, share

    def fit(self, x: Float[Tensor, "n d"], reward: Float[Tensor, " n"], *, generator: Noise = None) -> Self:
        """Fit the reward model to the scored rows, pseudo-label the others, and fit the designer to all.

        Args:
            x: Rows.
            reward: Scores, NaN where a row has none.
            generator: Source of the pseudo-labels' noise, of the reward model's own width.

        Raises:
            ValueError: Shapes that do not fit, rows that are not finite, or fewer than two scores.
        """
        if x.ndim != 2 or reward.shape != x.shape[:1] or not bool(x.isfinite().all()):
            raise ValueError(
                "x, reward: expected finite rows (n, d) and scores (n,), NaN where there is none, found "
                f"{tuple(x.shape)} and {tuple(reward.shape)}."
            )
        self.x, self.reward = x.double(), reward.double()
        scored = self.reward.isfinite()
        if int(scored.sum()) < 2:
            raise ValueError(f"reward: expected at least 2 scores, found {int(scored.sum())}.")
        self.reward_model.fit(self.x[scored], self.reward[scored])
        guess = self.reward_model.predict(self.x)
        guess = guess + self.reward_model.noise_std * randn(guess.shape, generator, dtype=torch.float64)
        self._labels = torch.where(scored, self.reward, guess)
        self.designer.fit(self.x, self._labels)
        self._scale = Scale(self.x)
        rows = self._scale.inward(self.x)
        self._subspace = leading_subspace(rows, share=self.share)
        self._leak = max(_quantile(self._subspace.leak(rows), self.quantile), LEAK_FLOOR)
        self._distance = _quantile(self._neighbour(rows, own=True), self.quantile)
        some = rows[: self.num_samples]
        self._spread = float(mean_distance(some, some))
        return self

    def targets(self, num: int = 9) -> list[float]:
        """A grid of targets, from the median label to half the way beyond the largest."""
        low, high = self._labels.median(), self._labels.max()
        return torch.linspace(float(low), float(high + 0.5 * (high - low)), num, dtype=torch.float64).tolist()

    def diagnose(
        self, targets: Sequence[float], *, true_reward: TrueReward | None = None, generator: Noise = None
    ) -> tuple[TargetReport, ...]:
        """Draw designs at each target, in ascending order, and say what they are like.

        Args:
            targets: Rewards to ask for.
            true_reward: ``true_reward(x) -> (n,)``: a query, or a reward model fitted to scores kept apart.
            generator: Source of randomness.
        """
        return tuple(
            self._report(target, self.designer.sample(self.num_samples, target, generator=generator), true_reward)
            for target in sorted(float(target) for target in targets)
        )

    def propose(
        self,
        num: int = 100,
        *,
        target: float | Literal["auto"] = "auto",
        targets: Sequence[float] | None = None,
        true_reward: TrueReward | None = None,
        generator: Noise = None,
    ) -> Proposals:
        """New designs at a target; ``"auto"`` asks for as much as the data support.

        Args:
            num: Designs.
            target: The reward to ask for, or ``"auto"``: the largest of ``targets`` at which designs still lie as near
                the data as most data do (`recommend`).
            targets: Grid for ``"auto"``; see `targets`.
            true_reward: See `diagnose`; it is reported, never used to choose.
            generator: Source of randomness.
        """
        if target == "auto":
            reports = self.diagnose(
                self.targets() if targets is None else targets, true_reward=true_reward, generator=generator
            )
            target = recommend(reports)
        else:
            reports = self.diagnose([target], true_reward=true_reward, generator=generator)
        x = self.designer.sample(num, target, generator=generator).double()
        predicted = self.reward_model.predict(x)
        order = predicted.argsort(descending=True)
        return Proposals(x[order], predicted[order], target, reports)

    def improve(
        self, query: TrueReward, *, rounds: int = 3, batch: int = 20, candidates: int = 200, generator: Noise = None
    ) -> list[Proposals]:
        """Batch optimisation: propose, query the top candidates, add them to the data, fit again.

        Args:
            query: The true reward of some designs, ``(n, d) -> (n,)``.
            rounds: How often.
            batch: Queries a round.
            candidates: Designs among which the reward model picks them.
            generator: Source of randomness.

        Returns:
            What was proposed in each round; `x` and `reward` hold the queried designs at their end.
        """
        history = []
        for _ in range(rounds):
            found = self.propose(candidates, generator=generator)
            history.append(found)
            chosen = found.x[:batch]
            score = query(chosen).double()
            self.fit(torch.cat([self.x, chosen]), torch.cat([self.reward, score]), generator=generator)
        return history

    def _report(self, target: float, x: Tensor, true_reward: TrueReward | None) -> TargetReport:
        rows = self._scale.inward(x.double())
        leak, distance = float(self._subspace.leak(rows).mean()), float(self._neighbour(rows).mean())
        return TargetReport(
            target=target,
            predicted=float(self.reward_model.predict(x).mean()),
            reward=None if true_reward is None else float(true_reward(x).double().mean()),
            leak=leak,
            distance=distance,
            diversity=float(mean_distance(rows, rows)) / self._spread,
            supported=leak <= self._leak and distance <= self._distance,
        )

    def _neighbour(self, rows: Tensor, *, own: bool = False) -> Float[Tensor, " n"]:
        """Distance of each row to its k-th neighbour among the data."""
        data = self._scale.inward(self.x)
        return k_nearest(rows, data, min(self.neighbours, len(data) - 1), exclude_self=own)[0][:, -1]


def recommend(reports: Sequence[TargetReport]) -> float:
    """The largest target that the data support; where they support none, the one nearest to them."""
    supported = [report.target for report in reports if report.supported]
    return max(supported) if supported else min(reports, key=lambda report: report.distance).target


def _quantile(values: Tensor, share: float) -> float:
    return float(torch.quantile(values, share))
