"""Does a classifier lean on an easy but less reliable cue more than the best classifier would?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from clarkia.measures.fields.checks import check_count
from clarkia.random import Noise, generator, rand, randn

HIDDEN = 100  # width of the random networks that hide a cue


@dataclass(frozen=True)
class ShortcutLaw:
    """Two correlated cues about a label, a shortcut and a core, that differ in reliability and in how loud they are.

    The label y is 1 or -1 with equal chances; the cues are normal, ``(z_s, z_c) ~ N(y mu, [[1, r], [r, 1]])``, and what
    a classifier sees is ``x = a_s e_s(z_s) + a_c e_c(z_c)``.

    Args:
        predictivity: Chance that the sign of each cue is the label, in (1/2, 1): shortcut, core.
        loudness: Factors a_s and a_c.
        nesting: Depth of the random ReLU networks e that hide a cue; 0 is a direction of its own, orthogonal to the
            other's.
        correlation: r, of the cues given the label.
        dim: Width of x.
        seed: Fixes directions and networks.

    Raises:
        ValueError: Numbers out of their ranges.

    Source: On the Foundations of Shortcut Learning (2023).
    """

    predictivity: tuple[float, float] = (0.85, 0.9)
    loudness: tuple[float, float] = (1.0, 1.0)
    nesting: tuple[int, int] = (0, 0)
    correlation: float = 0.6
    dim: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name, holds, rule in (
            ("predictivity", all(0.5 < p < 1 for p in self.predictivity), "two numbers between 0.5 and 1"),
            ("loudness", all(a > 0 and math.isfinite(a) for a in self.loudness), "two positive numbers"),
            ("correlation", -1 < self.correlation < 1, "a number between -1 and 1"),
        ):
            if not holds or (name != "correlation" and len(getattr(self, name)) != 2):
                raise ValueError(f"{name}: expected {rule}, found {getattr(self, name)}.")
        for depth in self.nesting:
            check_count(depth, "nesting", least=0)
        check_count(self.dim, "dim", least=2)

    @property
    def mean(self) -> Float64[Tensor, "2"]:
        """mu, the mean of the cues where y is 1: a cue of mean m has its sign right with chance Phi(m)."""
        p = torch.tensor(self.predictivity, dtype=torch.float64)
        return 2**0.5 * torch.erfinv(2 * p - 1)

    @property
    def bayes_weights(self) -> Float64[Tensor, "2"]:
        """Weights of the cues in the best classifier, ``Sigma^-1 mu``."""
        r = self.correlation
        return torch.linalg.solve(torch.tensor([[1.0, r], [r, 1.0]], dtype=torch.float64), self.mean)

    def sample(
        self, num_samples: int, *, generator: Noise = None
    ) -> tuple[Float64[Tensor, "n d"], Int64[Tensor, " n"], Float64[Tensor, "n 2"]]:
        """Draw what a classifier sees ``(n, dim)``, labels 1 and -1 ``(n,)``, and cues ``(n, 2)``."""
        check_count(num_samples, "num_samples")
        y = torch.where(rand((num_samples,), generator) < 0.5, -1, 1)
        noise = randn((num_samples, 2), generator, dtype=torch.float64)
        r = self.correlation
        root = torch.tensor([[1.0, 0.0], [r, (1 - r * r) ** 0.5]], dtype=torch.float64)
        z = y[:, None] * self.mean + noise @ root.T
        return self.embed(z), y, z

    def embed(self, z: Float64[Tensor, "n 2"]) -> Float64[Tensor, "n d"]:
        """What a classifier sees of some cues."""
        directions = torch.linalg.qr(randn((self.dim, 2), generator(self.seed, 0), dtype=torch.float64))[0]
        parts = [
            a * (z[:, i : i + 1] * directions[:, i] if depth == 0 else self._nested(z[:, i], i, depth))
            for i, (a, depth) in enumerate(zip(self.loudness, self.nesting, strict=True))
        ]
        return parts[0] + parts[1]

    def _nested(self, z: Float64[Tensor, " n"], cue: int, depth: int) -> Tensor:
        """A cue through a random ReLU network whose output has mean square norm 1 over the cue's law."""
        source = generator(self.seed, 1 + cue)
        mean = float(self.mean[cue])
        signs = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(2048)
        typical = signs * mean + randn((4096,), source, dtype=torch.float64)
        h = torch.cat([typical, z]).unsqueeze(1)
        for _ in range(depth):
            weight = randn((h.shape[1], HIDDEN), source, dtype=torch.float64) * (2 / h.shape[1]) ** 0.5
            h = torch.relu(h @ weight + 0.5 * randn((HIDDEN,), source, dtype=torch.float64))
        h = h @ randn((HIDDEN, self.dim), source, dtype=torch.float64)
        h = h - h[: len(typical)].mean(0)
        # The cue itself has mean square 1 + mu^2 before it is hidden; keep that scale.
        scale = ((1 + mean**2) / h[: len(typical)].square().sum(1).mean()).sqrt()
        return scale * h[len(typical) :]


@dataclass(frozen=True)
class ShortcutBias:
    """How much a classifier follows each cue.

    Attributes:
        shortcut: Mean over the grid of ``sign(f) sign(z_s)``.
        core: The same of the core.
        reliance: ``(shortcut - core) / 2``: from -1 (the core alone) to 1 (the shortcut alone).
        optimal: Reliance of the best classifier.
        bias: Reliance above the optimal one.
    """

    shortcut: float
    core: float
    reliance: float
    optimal: float
    bias: float


def shortcut_bias(
    classifier: Callable[[Float64[Tensor, "n d"]], Tensor],
    law: ShortcutLaw,
    *,
    num_points: int = 41,
    reach: float = 3.0,
) -> ShortcutBias:
    """Compare a classifier's use of the shortcut with the best use of it.

    Args:
        classifier: Inputs ``(n, dim)`` to numbers ``(n,)`` whose sign is the class.
        law: The law it was trained on.
        num_points: Points a side of the square grid of cues that it is asked at; the axes are left out.
        reach: Half the side of the grid. Both fix the value: compare equal grids only.

    Returns:
        Reliances and the bias.

    Raises:
        ValueError: A grid of less than two points or no size, an answer of another shape or not finite.

    Source: On the Foundations of Shortcut Learning (2023).
    """
    check_count(num_points, "num_points", least=2)
    if not (math.isfinite(reach) and reach > 0):
        raise ValueError(f"reach: expected a positive number, found {reach}.")
    # Whole multiples of the spacing, so that a middle point is 0 exactly and recognised as an axis.
    line = (torch.arange(num_points, dtype=torch.float64) - (num_points - 1) / 2) * (2 * reach / (num_points - 1))
    z = torch.cartesian_prod(line, line)
    z = z[(z != 0).all(1)]
    answers = classifier(law.embed(z))
    if answers.shape != (len(z),) or not bool(answers.isfinite().all()):
        raise ValueError(f"classifier: expected {len(z)} finite numbers, found shape {tuple(answers.shape)}.")
    shortcut, core = _follow(answers.detach().double(), z)
    best = _follow(z @ law.bayes_weights, z)
    reliance, optimal = (shortcut - core) / 2, (best[0] - best[1]) / 2
    return ShortcutBias(shortcut, core, reliance, optimal, reliance - optimal)


def _follow(answers: Float[Tensor, " n"], z: Float64[Tensor, "n 2"]) -> tuple[float, float]:
    agreement = (answers.sign()[:, None] * z.sign()).mean(0)
    return float(agreement[0]), float(agreement[1])
