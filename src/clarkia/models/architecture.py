"""What a table model is made of: its process, its network, its objective and how it is sampled."""

from typing import Any, Protocol

import torch
from torch import nn

from clarkia import samplers
from clarkia.codecs import TableCodec
from clarkia.codecs.table.numeric import NumericCoding
from clarkia.denoisers import Preconditioned
from clarkia.errors import DataError
from clarkia.networks import Bfloat16, FieldTransformer, ResidualMLP, TabDiffNet, bfloat16_is_fast
from clarkia.networks.attention import num_heads
from clarkia.objectives import MixedDenoising
from clarkia.processes import Masked, Mixed, VarianceExploding
from clarkia.schedules import LearnedPolynomialMask, LearnedPowerMean
from clarkia.spaces import Categorical, Continuous
from clarkia.spaces import Mixed as MixedSpace

CHOICES = {
    "network": ("mlp", "tabdiff", "fields"),
    "schedule": ("fixed", "learned"),
    "precision": ("auto", "float32", "bfloat16"),
}


class Options(Protocol):
    """The settings of a table model that its parts depend on; see `TableModel`."""

    network: str
    width: int | None
    depth: int
    dropout: float
    schedule: str
    precision: str
    seed: int


def check_options(options: Any) -> None:
    """Raise `DataError` for a setting that is not among its choices or out of its range."""
    for name, choices in CHOICES.items():
        if getattr(options, name) not in choices:
            raise DataError(f"{name}: expected one of {', '.join(choices)}, found {getattr(options, name)!r}.")
    ranges = {"subset_probability": (0, 1), "validation_share": (0, 0.5), "dropout": (0, 0.9), "depth": (1, 64)}
    for name, (low, high) in ranges.items():
        if not low <= getattr(options, name) <= high:
            raise DataError(f"{name}: expected a number from {low} to {high}, found {getattr(options, name)}.")
    if options.groups is not None and options.groups < 1:
        raise DataError(f"groups: expected a positive whole number, found {options.groups}.")


def build(codec: TableCodec, options: Options) -> tuple[Mixed, Preconditioned]:
    """The process of a codec's space, and an untrained denoiser of it whose weights are a function of the seed."""
    space = codec.space
    process = Mixed.from_blocks({name: _process(block, options.schedule) for name, block in space.blocks.items()})
    with torch.random.fork_rng([]):
        torch.manual_seed(options.seed)
        network = _network(codec, options)
    if options.precision == "bfloat16" or (options.precision == "auto" and bfloat16_is_fast()):
        network = Bfloat16(network)
    return process, Preconditioned(network, process)


def _process(block: Any, schedule: str) -> Masked | VarianceExploding:
    learned = schedule == "learned"
    if isinstance(block, Continuous):
        return VarianceExploding(schedule=LearnedPowerMean(block.shape[0]) if learned else None)
    return Masked(block.num_classes, LearnedPolynomialMask(block.shape[0]) if learned else "linear")


def _network(codec: TableCodec, options: Options) -> nn.Module:
    if options.network == "tabdiff":
        return TabDiffNet(codec.space, width=options.width or 1024)
    if options.network == "fields":
        width = options.width or 128
        heads = num_heads(width, head_size=32)
        return FieldTransformer(codec.space, width=width, depth=options.depth, heads=heads, dropout=options.dropout)
    return ResidualMLP(
        codec.space,
        width=options.width or 384,
        depth=options.depth,
        dropout=options.dropout,
        ordered=_ordered(codec),
    )


def _ordered(codec: TableCodec) -> dict[str, list[int]]:
    """By block, how many levels of each position are in the order of their values: those of numeric columns."""
    blocks = codec.space.blocks.items()
    ordered = {name: [0] * len(block.counts) for name, block in blocks if isinstance(block, Categorical)}
    for column, coding in zip(codec.columns, codec.codings, strict=True):
        if column.level is not None and isinstance(coding, NumericCoding):
            block, position = column.level
            ordered[block][position] = coding.num_levels
    return ordered


def objective(process: Mixed, codec: TableCodec, subset_probability: float) -> MixedDenoising:
    """The denoising loss of a table; the level and the residual of a column are observed together."""
    columns = {name: torch.zeros(block.shape, dtype=torch.int64) for name, block in codec.space.blocks.items()}
    for index, column in enumerate(codec.columns):
        if column.level is not None:
            columns[column.level[0]][column.level[1]] = index
        if column.residual is not None:
            columns["numeric"][column.residual] = index
    return MixedDenoising(process, columns, subset_probability)


def default_solver() -> samplers.Mixed:
    """One evaluation a step: DPM-Solver++(2M) beside masked sampling that reveals one cell at a time."""
    return samplers.Mixed(numeric=samplers.DPMSolverPP(order=2), categorical=samplers.Ancestral(order="stratified"))


def stochastic_solver() -> samplers.Mixed:
    """The same with noise in every step, so that copies of a particle part."""
    numeric = samplers.DPMSolverPP(order=2, stochasticity=1.0)
    return samplers.Mixed(numeric=numeric, categorical=samplers.Ancestral(order="stratified"))


def default_steps(space: MixedSpace) -> int:
    """Enough steps to reveal every categorical position alone, and never fewer than the Gaussian blocks need."""
    positions = sum(len(block.counts) for block in space.blocks.values() if isinstance(block, Categorical))
    return max(24, positions + 4)
