"""Models of designs given the reward they should have: a closed form for normal laws, and a small diffusion model."""

from __future__ import annotations

from typing import Protocol, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clarkia import samplers, schedules
from clarkia.alignment.reward_models import Scale
from clarkia.denoisers import Preconditioned
from clarkia.networks import ResidualMLP
from clarkia.objectives import Denoising, LogNormal
from clarkia.oracles import GaussianMixture
from clarkia.processes import VarianceExploding
from clarkia.random import Noise, rand
from clarkia.spaces import Continuous, Mixed
from clarkia.training import TrainingOptions, fit


class Designer(Protocol):
    """A conditional model: fitted to designs with their rewards, it draws designs for a reward."""

    def fit(self, x: Float[Tensor, "n d"], reward: Float[Tensor, " n"]) -> Self:
        """Learn the law of designs and rewards together."""
        ...

    def sample(self, num_samples: int, reward: float, *, generator: Noise = None) -> Float[Tensor, "n d"]:
        """Draw designs that have this reward."""
        ...


def gaussian_designs(
    covariance: Float[Tensor, "d d"], theta: Float[Tensor, " d"], noise_std: float, target: float
) -> GaussianMixture:
    """The law of ``x ~ N(0, Sigma)`` given ``theta . x + noise = target``, as an oracle.

    It is normal with mean ``Sigma theta a / v`` and covariance ``Sigma - Sigma theta theta' Sigma / v``, with
    ``v = theta' Sigma theta + noise_std^2``.

    Args:
        covariance: Sigma, which may be singular.
        theta: Weights of the reward model.
        noise_std: Deviation of its noise.
        target: a.

    Source: An Overview of Diffusion Models: Applications, Guided Generation, Statistical Rates and Optimization (2024).
    """
    covariance = torch.as_tensor(covariance, dtype=torch.float64)
    law = GaussianMixture([1.0], torch.zeros(1, len(covariance), dtype=torch.float64), covariance[None])
    return law.posterior(theta, target, noise_std)


class GaussianDesigner:
    """Designs and reward as one normal law, whose conditionals are known: the baseline of any other model."""

    def fit(self, x: Float[Tensor, "n d"], reward: Float[Tensor, " n"]) -> Self:
        """Take the mean and the covariance of designs with their rewards."""
        rows = torch.cat([x.double(), reward.double()[:, None]], 1)
        self.law = GaussianMixture([1.0], rows.mean(0, keepdim=True), rows.T.cov()[None])
        return self

    def sample(self, num_samples: int, reward: float, *, generator: Noise = None) -> Float[Tensor, "n d"]:
        """Draw from the conditional law, float64."""
        last = torch.zeros(self.law.means.shape[1], dtype=torch.float64)
        last[-1] = 1.0
        return self.law.posterior(last, reward, 0.0).sample(num_samples, generator=generator)[:, :-1]


class DiffusionDesigner:
    """A diffusion model over designs and reward, in which the reward is one more number that may be known.

    Designs are drawn with the reward known; there is no guidance scale, because it and the target would be two knobs of
    one thing.

    Args:
        options: Of the training; by default 3000 steps of 256 rows.
        width: Width of the network.
        depth: Its residual blocks.
        shown: Share of the training rows in which the reward is known.
        num_steps: Steps of sampling.
    """

    def __init__(
        self,
        *,
        options: TrainingOptions | None = None,
        width: int = 128,
        depth: int = 2,
        shown: float = 0.9,
        num_steps: int = 24,
    ) -> None:
        if not 0 < shown <= 1:
            raise ValueError(f"shown: expected a share in (0, 1], found {shown}.")
        default = TrainingOptions(batch_size=256, max_steps=3000, ema_decay=0.995)
        self.options = default if options is None else options
        self.width, self.depth, self.shown, self.num_steps = width, depth, shown, num_steps
        self.process = VarianceExploding()

    def fit(self, x: Float[Tensor, "n d"], reward: Float[Tensor, " n"]) -> Self:
        """Train the network on designs and rewards, each number scaled to deviation 1."""
        rows = torch.cat([x.double(), reward.double()[:, None]], 1)
        self._scale = Scale(rows)
        with torch.random.fork_rng([]):
            torch.manual_seed(self.options.seed)
            network = _OneBlock(rows.shape[1], self.width, self.depth)
        self.denoiser = Preconditioned(network, self.process)
        objective = Denoising(self.process, noise=LogNormal(-0.5, 1.2), data_std=1.0, observed=_RewardShown(self.shown))

        def loss(denoiser: nn.Module, batch: object, generator: Noise) -> Tensor:
            assert isinstance(batch, Tensor)
            return objective(denoiser, batch, generator)

        fit(self.denoiser, loss, self._scale.inward(rows).float(), options=self.options, progress=False)
        return self

    def sample(self, num_samples: int, reward: float, *, generator: Noise = None) -> Float[Tensor, "n d"]:
        """Draw designs, float64, with Heun's method on EDM's grid."""
        width = len(self._scale.mean)
        values = torch.zeros(num_samples, width)
        values[:, -1] = float((reward - self._scale.mean[-1]) / self._scale.std[-1])
        known = torch.zeros(1, width, dtype=torch.bool)
        known[:, -1] = True
        rows = samplers.sample(
            self.denoiser, self.process, known=(values, known), times=schedules.karras(self.num_steps, self.process),
            generator=generator,
        )  # fmt: skip
        assert isinstance(rows, Tensor)
        return self._scale.outward(rows.double())[:, :-1]


class _OneBlock(nn.Module):
    """The network of mixed spaces, for one row of numbers."""

    def __init__(self, size: int, width: int, depth: int) -> None:
        super().__init__()
        self.body = ResidualMLP(Mixed(row=Continuous((size,))), width=width, depth=depth)

    def forward(self, inputs: Tensor, noise: Tensor, condition: None = None) -> Tensor:
        return self.body({"row": inputs}, {"row": noise})["row"]


class _RewardShown:
    """Shows the last number of a share of the rows."""

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, x0: Tensor, generator: Noise = None) -> Tensor:
        last = torch.arange(x0.shape[1], device=x0.device) == x0.shape[1] - 1
        return last & (rand((len(x0), 1), generator, device=x0.device) < self.share)
