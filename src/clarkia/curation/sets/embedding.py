"""An embedding of distributions, trained together with a denoiser that draws from what it embeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from clarkia import samplers
from clarkia.curation.checks import check_count, check_number
from clarkia.curation.sets.encoder import Kind, SetEncoder
from clarkia.curation.sets.groups import check_groups, halves, mixed, padded
from clarkia.denoisers import Denoiser, Preconditioned
from clarkia.processes import Gaussian, VarianceExploding
from clarkia.random import Noise, rand, randn
from clarkia.training import TrainingOptions, TrainingRun, fit

# Levels of log(sigma / alpha) in training, for points of unit variance: most where a group's spread shows, the others
# over the whole way of a sampler.
MIDDLE, SPREAD, OTHERS, RANGE = -0.7, 1.0, 0.2, (-6.0, 3.0)
CHUNK = 64  # groups embedded at once


@dataclass(frozen=True, eq=False)
class DistributionEmbedding:
    """One vector a group of points: compare, interpolate and regress on it, and draw new points from it.

    Attributes:
        encoder: From a set of scaled points to its vector.
        denoiser: ``denoiser(x_t, t, z)`` of scaled points, each given its group's vector.
        process: The corruption it undoes.
        mean: Of all training points, ``(d,)``; points are scaled by it and the deviation.
        deviation: Root mean variance over all numbers, so that angles between directions are kept.
        run: What the training did.
    """

    encoder: SetEncoder
    denoiser: nn.Module
    process: Gaussian
    mean: Tensor
    deviation: float
    run: TrainingRun

    @torch.no_grad()
    def embed(self, groups: Any) -> Float[Tensor, "g z"]:
        """Vectors of groups of points, of any number and size.

        Groups are compared with least noise at equal sizes: the vector of n points is off by order ``1 / sqrt(n)``.

        Args:
            groups: A sequence of matrices ``(n_i, d)``, or a tensor ``(g, n, d)``.

        Raises:
            ValueError: A group that is not a finite matrix of d columns.
        """
        scaled = [((x - self.mean) / self.deviation).float() for x in check_groups(groups, width=len(self.mean))]
        parts = [padded(scaled[start : start + CHUNK]) for start in range(0, len(scaled), CHUNK)]
        return torch.cat([self.encoder(x, present) for x, present in parts])

    def sample(
        self, z: Float[Tensor, " z"], num_samples: int, *, num_steps: int = 18, generator: Noise = None
    ) -> Float[Tensor, "n d"]:
        """New points of the group that a vector stands for.

        Args:
            z: The vector.
            num_samples: Number of points.
            num_steps: Steps of the sampler.
            generator: Source of randomness.
        """
        z = torch.as_tensor(z, dtype=torch.float32)
        if z.shape != (self.encoder.out.out_features,):
            raise ValueError(f"z: expected shape ({self.encoder.out.out_features},), found {tuple(z.shape)}.")
        check_count(num_samples, "num_samples")
        x = samplers.sample(
            self.denoiser, self.process, num_samples=num_samples, shape=(len(self.mean),), num_steps=num_steps,
            condition=z.expand(num_samples, -1), generator=generator, dtype=torch.float32,
        )  # fmt: skip
        return self.deviation * x.double() + self.mean  # type: ignore[union-attr]

    def interpolate(
        self, first: Float[Tensor, " z"], second: Float[Tensor, " z"], share: float, num_samples: int, **options: Any
    ) -> Float[Tensor, "n d"]:
        """Points of the group at a share of the straight way between two vectors; options as for `sample`."""
        return self.sample(torch.lerp(first, second, check_number(share, "share")), num_samples, **options)

    def given(self, z: Float[Tensor, " z"]) -> Denoiser:
        """The denoiser of scaled points of one group, for anything that takes a denoiser."""
        return lambda x_t, t, condition=None: self.denoiser(x_t, t, z.to(x_t.dtype).expand(len(x_t), -1))


def fit_distribution_embedding(
    groups: Any,
    *,
    latent: int = 16,
    kind: Kind = "pooled",
    width: int = 128,
    set_size: int = 128,
    num_targets: int = 32,
    mixing: float = 0.0,
    process: Gaussian | None = None,
    options: TrainingOptions | None = None,
    progress: bool = False,
) -> DistributionEmbedding:
    """Learn to embed groups of points, from nothing but the groups.

    A set encoder turns half of a group into a vector, and a denoiser given the vector learns to clean the other half.
    The halves are disjoint: the vector cannot hold points to copy, only what predicts new ones.

    Args:
        groups: A sequence of matrices ``(n_i, d)`` of at least 4 points, or a tensor ``(g, n, d)``.
        latent: Numbers of the vector.
        kind: Of the encoder; see `SetEncoder`.
        width: Units of a layer, of the encoder and of the denoiser; a multiple of 4 for attention.
        set_size: Points that the encoder sees in training, at most.
        num_targets: Points of a group that the denoiser cleans in a step, at most.
        mixing: Share of the steps whose groups are random mixtures of three groups, which teaches that the vectors of
            mixtures lie between.
        process: Corruption of the points; variance exploding where None.
        options: Of the training, a row being a group; 3000 steps of 64 groups where None.
        progress: Whether to show a progress bar.

    Returns:
        The embedding.

    Raises:
        ValueError: Groups that are not finite matrices of one width, or all of one point.

    Source: Generative Distribution Embeddings (2025).
    """
    checked = check_groups(groups, least=4)
    for value, name in ((set_size, "set_size"), (num_targets, "num_targets"), (latent, "latent"), (width, "width")):
        check_count(value, name)
    check_number(mixing, "mixing", low=0, high=1)
    options = options or TrainingOptions(max_steps=3000, batch_size=64)
    process = process or VarianceExploding(sigma_max=20.0)
    every = torch.cat(checked)
    mean, deviation = every.mean(0), float(every.var(0, unbiased=False).mean().sqrt())
    if deviation == 0:
        raise ValueError("groups: expected points that differ, found one and the same.")
    x, present = padded([((group - mean) / deviation).float() for group in checked])
    d = x.shape[2]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        encoder = SetEncoder(d, latent, kind=kind, width=width)
        module = nn.ModuleDict({
            "encoder": encoder,
            "denoiser": Preconditioned(ConditionalMLP(d, latent, width=width), process),
        })  # fmt: skip
    loss = _Loss(process, set_size, num_targets, mixing)
    run = fit(module, loss, {"x": x, "size": present.sum(1)}, options=options, progress=progress)
    return DistributionEmbedding(encoder, module["denoiser"], process, mean, deviation, run)


@dataclass(frozen=True, eq=False)
class _Loss:
    """Weighted squared error of the second half of each group given the vector of the first, a number a group."""

    process: Gaussian
    set_size: int
    num_targets: int
    mixing: float

    def __call__(self, module: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        first, there, second, wanted = halves(batch["x"], batch["size"], self.set_size, generator)
        second, wanted = second[:, : self.num_targets], wanted[:, : self.num_targets]
        if self.mixing and float(rand((1,), generator)) < self.mixing:
            first, second = mixed(first, there, second, wanted, generator)
            there, wanted = torch.ones_like(there), torch.ones_like(wanted)
        z = module.get_submodule("encoder")(first, there)
        level = _levels(second.shape[:2], generator).exp()
        t = self.process.t_of_kappa(level).clamp(1e-6, 1.0).flatten()
        x0 = second.flatten(0, 1)
        x_t = self.process.corrupt(x0, t.to(x0.dtype), generator=generator)
        denoiser = module.get_submodule("denoiser")
        x0_hat = denoiser(x_t, t.to(x0.dtype), z.repeat_interleave(second.shape[1], 0))
        kappa = self.process.kappa(t).to(x0.dtype).clamp(min=1e-4)  # bounds the weight of points without noise
        error = (1 + kappa.pow(-2)) * (x0_hat - x0).square().mean(1)
        weight = wanted.to(error)
        return (error.reshape(wanted.shape) * weight).sum(1) / weight.sum(1)


def _levels(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Random logarithms of noise over signal."""
    usual = MIDDLE + SPREAD * randn(shape, generator, dtype=torch.float64)
    anywhere = RANGE[0] + (RANGE[1] - RANGE[0]) * rand(shape, generator)
    return torch.where(rand(shape, generator) < OTHERS, anywhere, usual)


class ConditionalMLP(nn.Module):
    """A residual network of a point, its noise level and a vector.

    Args:
        inputs: Numbers of a point.
        condition: Numbers of the vector.
        width: Units of a layer.
        depth: Number of residual layers.
    """

    FREQUENCIES = 8

    def __init__(self, inputs: int, condition: int, *, width: int = 128, depth: int = 3) -> None:
        super().__init__()
        self.point = nn.Linear(inputs, width)
        self.context = nn.Sequential(
            nn.Linear(condition + 2 * self.FREQUENCIES + 1, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.layers = nn.ModuleList(_Modulated(width) for _ in range(depth))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, inputs)

    def forward(self, x: Float[Tensor, "n d"], noise: Float[Tensor, " n"], condition: Tensor) -> Float[Tensor, "n d"]:
        """Raw output.

        Args:
            x: Points of unit variance.
            noise: Quarter of the logarithm of noise over signal, ``(n,)``.
            condition: Vectors, ``(n, z)``.
        """
        noise = noise.reshape(len(x), -1)[:, :1]
        angle = noise * (math.pi * 2.0 ** torch.arange(self.FREQUENCIES, device=x.device) / 8)
        context = self.context(torch.cat([condition, noise, angle.sin(), angle.cos()], 1))
        h = self.point(x) + context
        for layer in self.layers:
            h = layer(h, context)
        return self.out(self.norm(h))


class _Modulated(nn.Module):
    """A residual layer whose input is scaled and shifted by the context: the moments of a group act on its points."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.context = nn.Linear(width, 2 * width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, h: Tensor, context: Tensor) -> Tensor:
        scale, shift = self.context(F.silu(context)).chunk(2, 1)
        return h + self.down(F.silu(self.up((1 + scale) * self.norm(h) + shift)))
