"""What a text model is made of: its process, its networks, its objective and how it is sampled."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from clarkia import objectives, samplers
from clarkia.denoisers import Preconditioned
from clarkia.errors import DataError
from clarkia.networks.autoregressive import Autoregressive
from clarkia.networks.tokens import TokenTransformer
from clarkia.processes import Masked

CHOICES = {"tokens": ("char", "byte", "bpe"), "optimizer": ("muon", "adamw")}

HEAD = 64
"""Features of an attention head, where the width is a multiple of them."""


class Options(Protocol):
    """The settings of a text model that its parts depend on; see `TextModel`."""

    width: int
    depth: int
    dropout: float
    seed: int


def check_options(options: Any) -> None:
    """Raise `DataError` for a setting that is not among its choices or out of its range."""
    for name, choices in CHOICES.items():
        if getattr(options, name) not in choices:
            raise DataError(f"{name}: expected one of {', '.join(choices)}, found {getattr(options, name)!r}.")
    shares = {"subset_probability": (0, 1), "validation_share": (0, 0.5), "dropout": (0, 0.9)}
    for name, (low, high) in (shares | {"depth": (1, 96), "width": (8, 16_384)}).items():
        if not low <= getattr(options, name) <= high:
            raise DataError(f"{name}: expected a number from {low} to {high}, found {getattr(options, name)}.")


def build(num_classes: int, length: int, options: Options) -> tuple[Masked, Preconditioned]:
    """The process of token sequences, and an untrained denoiser of them whose weights are a function of the seed."""
    process = Masked(num_classes)
    return process, Preconditioned(_network(num_classes, length, options, causal=False), process)


def build_companion(num_classes: int, length: int, options: Options) -> Autoregressive:
    """An untrained autoregressive model of the same size."""
    return Autoregressive(_network(num_classes, length, options, causal=True))


def objective(process: Masked, subset_probability: float) -> objectives.MaskedELBO:
    """The masked bound with the least variance; a share of the texts show a beginning, an end or both."""
    shown = objectives.RandomSpans(probability=subset_probability) if subset_probability else None
    return objectives.MaskedELBO(process, "count", observed=shown)


def solver(joint: samplers.EnergyCorrection | None = None) -> samplers.Ancestral:
    """Masked sampling that reveals as many tokens a step as its time says, at random places."""
    return samplers.Ancestral(order="stratified", joint=joint)


def _network(num_classes: int, length: int, options: Options, *, causal: bool) -> TokenTransformer:
    heads = max(1, options.width // HEAD)
    if options.width % heads or options.width // heads % 2:
        raise DataError(f"width: expected a multiple of {HEAD} or an even number below it, found {options.width}.")
    with torch.random.fork_rng([]):
        torch.manual_seed(options.seed)
        return TokenTransformer(
            num_classes,
            length,
            width=options.width,
            depth=options.depth,
            heads=heads,
            causal=causal,
            dropout=options.dropout,
        )
