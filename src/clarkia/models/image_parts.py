"""What an image model is made of: its process, its network, its objective and how it is sampled."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from clarkia import objectives, samplers, schedules
from clarkia.denoisers import Preconditioned
from clarkia.errors import DataError
from clarkia.networks.attention import num_heads
from clarkia.networks.conditioning import Conditions
from clarkia.networks.dit import DiT
from clarkia.networks.folded import Folded
from clarkia.networks.unet import UNet
from clarkia.networks.uvit import UViT
from clarkia.processes import Gaussian, RectifiedFlow, VarianceExploding

CHOICES = {"network": ("unet", "dit", "uvit"), "process": ("edm", "flow"), "optimizer": ("muon", "adamw")}

STEPS = 24
"""Steps of the default solver, each one evaluation of the network."""

LEAST_SIDE, MOST_LEVELS, ATTENTIVE_SIDE = 4, 4, 8
"""A U-Net halves the shorter side down to this at the most, in so many levels, and has attention from this down."""


class Options(Protocol):
    """The settings of an image model that its parts depend on; see `ImageModel`."""

    network: str
    process: str
    width: int | None
    depth: int | None
    patch: int | None
    dropout: float
    seed: int


FLOW_LEVELS = objectives.LogitNormal(0.0, 1.4)
"""Wider than published: what a small picture shows is decided at high levels, and its score at low ones."""


def check_options(options: Any) -> None:
    """Raise `DataError` for a setting that is not among its choices or out of its range."""
    for name, choices in CHOICES.items():
        if getattr(options, name) not in choices:
            raise DataError(f"{name}: expected one of {', '.join(choices)}, found {getattr(options, name)!r}.")
    shares = {"condition_dropout": (0, 1), "subset_probability": (0, 1), "validation_share": (0, 0.5)}
    ranges = shares | {"dropout": (0, 0.9), "depth": (1, 64)}
    for name, (low, high) in ranges.items():
        if getattr(options, name) is not None and not low <= getattr(options, name) <= high:
            raise DataError(f"{name}: expected a number from {low} to {high}, found {getattr(options, name)}.")


def build(
    shape: tuple[int, int, int], conditions: Conditions, data_std: float, options: Options
) -> tuple[Gaussian, Preconditioned]:
    """The process of images, and an untrained denoiser of them whose weights are a function of the seed.

    Args:
        shape: Channels, height and width of what the network sees.
        conditions: What it can be given.
        data_std: Standard deviation of the data.
        options: The settings.

    Raises:
        DataError: sides that the network cannot take.
    """
    process = VarianceExploding() if options.process == "edm" else RectifiedFlow()
    with torch.random.fork_rng([]):
        torch.manual_seed(options.seed)
        network = _unet(shape, conditions, options) if options.network == "unet" else _vit(shape, conditions, options)
    return process, Preconditioned(network, process, data_std=data_std)


def objective(process: Gaussian, data_std: float, subset_probability: float) -> objectives.Denoising:
    """The loss of each process; a share of the pictures is shown in part, see `RandomBoxes`."""
    shown = objectives.RandomBoxes(subset_probability) if subset_probability else None
    if isinstance(process, RectifiedFlow):
        return objectives.Denoising(process, "flow", FLOW_LEVELS, data_std, shown)
    return objectives.Denoising(process, "edm", objectives.LogNormal(), data_std, shown)


def default_solver() -> samplers.Solver:
    """One evaluation a step: DPM-Solver++(2M)."""
    return samplers.DPMSolverPP(order=2)


def stochastic_solver() -> samplers.Solver:
    """The same with noise in every step, so that copies of a particle part."""
    return samplers.DPMSolverPP(order=2, stochasticity=1.0)


def times(process: Gaussian, num_steps: int | None) -> Tensor:
    """The grid of the default solver."""
    steps = num_steps or STEPS
    return schedules.uniform(steps) if isinstance(process, RectifiedFlow) else schedules.karras(steps, process)


def _unet(shape: tuple[int, int, int], conditions: Conditions, options: Options) -> nn.Module:
    channels, *sides = shape
    patch = options.patch or (1 if min(sides) <= 16 else 2)
    _check_patch(sides, patch)
    height, width = sides[0] // patch, sides[1] // patch
    levels = [min(height, width)]
    while len(levels) < MOST_LEVELS and not (height % 2 ** len(levels) or width % 2 ** len(levels)):
        if levels[-1] // 2 < LEAST_SIDE:
            break
        levels.append(levels[-1] // 2)
    network = UNet(
        channels * patch**2,
        width=options.width or 32 * patch,
        multipliers=(1, *(2,) * (len(levels) - 1)),
        blocks=options.depth or 2,
        attention=[level for level, side in enumerate(levels) if side <= ATTENTIVE_SIDE] or [len(levels) - 1],
        dropout=options.dropout,
        conditions=conditions,
        element_noise=True,
    )
    return network if patch == 1 else Folded(network, patch)


def _vit(shape: tuple[int, int, int], conditions: Conditions, options: Options) -> nn.Module:
    channels, *sides = shape
    patch = options.patch or (2 if min(sides) <= 32 else 4)
    _check_patch(sides, patch)
    width, depth = options.width or 192, options.depth or 8
    kind = DiT if options.network == "dit" else UViT
    return kind(
        channels,
        (sides[0], sides[1]),
        patch=patch,
        width=width,
        depth=depth,
        heads=num_heads(width),
        conditions=conditions,
        element_noise=True,
    )


def _check_patch(sides: list[int], patch: int) -> None:
    if patch < 1 or any(side % patch for side in sides):
        raise DataError(f"patch: pictures of {sides[1]} x {sides[0]} points cannot be cut into patches of {patch}")
