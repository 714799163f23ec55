"""Models of a reward from few scored points: ridge regression, and an ensemble of small networks."""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clarkia.random import generator as generator_of
from clarkia.training import TrainingOptions, fit


class RewardModel(Protocol):
    """Fitted to scored points, it scores others.

    Attributes:
        noise_std: Deviation of the scores around its predictions, known once it is fitted.
    """

    noise_std: float

    def fit(self, x: Float[Tensor, "n d"], reward: Float[Tensor, " n"]) -> Self:
        """Learn from scored points."""
        ...

    def predict(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Expected scores, float64."""
        ...


class Ridge:
    """Linear regression, ``theta = (X'X + penalty I)^-1 X'y``, with the noise from its residuals.

    Args:
        penalty: lambda, at least 0.
        intercept: Whether points and rewards are centred first.

    Attributes:
        theta: Weights, float64 ``(d,)``.
        offset: Prediction at x = 0.
        noise_std: Root of the squared residuals over ``n - degrees of freedom``.

    Raises:
        ValueError: A negative penalty; in `fit`, fewer than two points.
    """

    theta: Tensor
    offset: Tensor
    noise_std: float

    def __init__(self, penalty: float = 1.0, *, intercept: bool = True) -> None:
        if not penalty >= 0:
            raise ValueError(f"penalty: expected a non-negative number, found {penalty}.")
        self.penalty, self.intercept = penalty, intercept

    def fit(self, x: Float[Tensor, "n d"], reward: Float[Tensor, " n"]) -> Self:
        """Solve for the weights, and count what they cost in degrees of freedom."""
        check_scored(x, reward)
        x, reward = x.double(), reward.double()
        centre, level = (x.mean(0), reward.mean()) if self.intercept else (torch.zeros_like(x[0]), reward.new_zeros(()))
        design = x - centre
        gram = design.T @ design + self.penalty * torch.eye(x.shape[1], dtype=torch.float64)
        inverse = torch.linalg.pinv(gram, hermitian=True)
        self.theta = inverse @ (design.T @ (reward - level))
        self.offset = level - centre @ self.theta
        freedom = float((inverse * (design.T @ design)).sum()) + float(self.intercept)
        residual = float((reward - self.predict(x)).square().sum())
        self.noise_std = (residual / max(len(x) - freedom, 1.0)) ** 0.5
        return self

    def predict(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Expected scores."""
        return x.double() @ self.theta + self.offset


class Ensemble:
    """Small networks on resampled points: their mean predicts, the points that each has not seen tell the noise.

    Args:
        members: Networks, at least 2.
        width: Hidden units of the two layers of each.
        options: Of the training; by default 600 steps.

    Attributes:
        noise_std: Deviation of the scores from the mean of the networks that have not seen them.
    """

    noise_std: float

    def __init__(self, members: int = 5, *, width: int = 64, options: TrainingOptions | None = None) -> None:
        if members < 2:
            raise ValueError(f"members: expected at least 2, found {members}.")
        default = TrainingOptions(batch_size=128, max_steps=600, warmup_steps=20, learning_rate=5e-3, ema_decay=0.99)
        self.members, self.width, self.options = members, width, default if options is None else options

    def fit(self, x: Float[Tensor, "n d"], reward: Float[Tensor, " n"]) -> Self:
        """Train all networks together, each with its own weights of the points."""
        check_scored(x, reward)
        x, reward = x.double(), reward.double()
        self._x, self._reward = Scale(x), Scale(reward)
        noise = generator_of(self.options.seed, len(x))
        # How often a resample holds each point: a share 1/e of them is unseen by a network.
        counts = torch.poisson(torch.ones(len(x), self.members), generator=noise)
        with torch.random.fork_rng([]):
            torch.manual_seed(self.options.seed)
            self._networks = _Networks(x.shape[1], self.members, self.width)
        data = {"x": self._x.inward(x).float(), "reward": self._reward.inward(reward).float(), "count": counts}
        fit(self._networks, _squared_error, data, options=self.options, progress=False)
        unseen = (counts == 0).double()
        each = self._each(x)
        known = unseen.sum(1) > 0
        if bool(known.any()):
            fresh = (each * unseen).sum(1)[known] / unseen.sum(1)[known]
            self.noise_std = float((fresh - reward[known]).square().mean().sqrt())
        else:
            self.noise_std = float((each.mean(1) - reward).square().mean().sqrt())
        return self

    def predict(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """The mean of the networks."""
        return self._each(x.double()).mean(1)

    def spread(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """How far the networks disagree: their standard deviation."""
        return self._each(x.double()).std(1)

    @torch.no_grad()
    def _each(self, x: Tensor) -> Float[Tensor, "n members"]:
        return self._reward.outward(self._networks(self._x.inward(x).float()).double())


class Scale:
    """Columns to mean 0 and deviation 1, and back."""

    def __init__(self, values: Tensor) -> None:
        self.mean, std = values.mean(0), values.std(0)
        self.std = torch.where(std > 0, std, 1.0)

    def inward(self, values: Tensor) -> Tensor:
        """Scaled."""
        return (values - self.mean) / self.std

    def outward(self, values: Tensor) -> Tensor:
        """As they were."""
        return values * self.std + self.mean


class _Networks(nn.Module):
    """Networks of two hidden layers side by side, in batched products."""

    def __init__(self, size: int, members: int, width: int) -> None:
        super().__init__()
        sizes = (size, width, width, 1)
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(members, a, b) * a**-0.5) for a, b in pairwise(sizes))
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(members, 1, b)) for b in sizes[1:])

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n members"]:
        h = x.expand(len(self.weights[0]), *x.shape)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = torch.baddbmm(bias, nn.functional.silu(h) if layer else h, weight)
        return h.squeeze(2).T


def _squared_error(networks: nn.Module, batch: object, generator: object) -> Float[Tensor, " n"]:
    assert isinstance(batch, dict)
    return (batch["count"] * (networks(batch["x"]) - batch["reward"][:, None]).square()).sum(1)


def check_scored(x: Tensor, reward: Tensor) -> None:
    """Raise ``ValueError`` unless there are at least two scored points, all numbers finite."""
    if x.ndim != 2 or reward.shape != x.shape[:1] or len(x) < 2:
        raise ValueError(
            f"x, reward: expected shapes (n, d) and (n,) with n at least 2, found {tuple(x.shape)} and "
            f"{tuple(reward.shape)}."
        )
    if not bool(x.isfinite().all()) or not bool(reward.isfinite().all()):
        raise ValueError("x, reward: expected finite numbers, found a NaN or infinity.")
