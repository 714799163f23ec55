"""clarkia fit: a table in, a model out."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import DataError
from .columns import show_columns
from .errors import about
from .model import SUFFIX, read_rows
from .options import Data, Overwrite, Role, Seed, pairs
from .outputs import check_output, check_table_output, ending, is_table, write_table
from .signals import Interrupted
from .terminal import counted, duration, say, shell, size_of

if TYPE_CHECKING:
    import pyarrow as pa

    from ..models.table import TableModel


class Network(StrEnum):
    """The networks to choose from."""

    mlp = "mlp"
    tabdiff = "tabdiff"


def fit(
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL", help="The model file to write.")],
    target: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column that reports predict.")] = None,
    role: Role = None,
    max_minutes: Annotated[
        float | None, typer.Option(metavar="M", help="Longest time to train; 15 where no limit is given.")
    ] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, metavar="N", help="Most steps to train.")] = None,
    resume: Annotated[bool, typer.Option("--resume", metavar="", help="Continue a fit that was stopped.")] = False,
    network: Annotated[
        Network, typer.Option(help="A fast residual MLP, or the network of the TabDiff paper.")
    ] = Network.mlp,
    holdout_share: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=0.5,
            metavar="SHARE",
            show_default=False,
            help="Set so many rows aside for the report; both parts are written.",
        ),
    ] = 0.0,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Learn a model from a table.

    The training is saved every minute beside the model, in MODEL.checkpoint. If it is stopped, the same command with
    --resume continues it.
    """
    checkpoint = output.with_name(f"{output.name}.checkpoint")
    parts = _parts(data, output) if holdout_share else ()
    _check(output, checkpoint, parts, resume=resume, overwrite=overwrite)
    roles = pairs("--role", "COLUMN=ROLE", role)
    table = read_rows(data)
    say(f"{data.name}: {counted(table.num_rows, 'row')}, {counted(table.num_columns, 'column')}")
    if parts:
        table = _set_aside(table, holdout_share, parts, seed, overwrite=overwrite or resume)

    from ..codecs import TableCodec
    from ..models.table import TableModel

    with about(data):
        codec = TableCodec.fit(table, roles)
    show_columns(codec, table)
    if max_steps is None and max_minutes is None:
        max_minutes = 15.0
    model = TableModel(
        roles=roles or None,
        target=target,
        network=network.value,
        max_minutes=max_minutes,
        max_steps=max_steps,
        seed=seed,
    )
    _train(model, table, output, checkpoint, resume=resume, overwrite=overwrite)
    _report(model, output, data, parts)


def _train(
    model: "TableModel", table: "pa.Table", output: Path, checkpoint: Path, *, resume: bool, overwrite: bool
) -> None:
    """Fit and save a model; what is left of a fit that is stopped is its checkpoint."""
    try:
        model.fit(table, checkpoint=checkpoint, resume=resume, progress=True)
        model.save(output, overwrite=overwrite)
    except KeyboardInterrupt as interrupt:
        raise Interrupted(_kept(checkpoint)) from interrupt
    checkpoint.unlink(missing_ok=True)


def _check(output: Path, checkpoint: Path, parts: tuple[Path, ...], *, resume: bool, overwrite: bool) -> None:
    """Refuse outputs that cannot be, before any work."""
    if is_table(output):
        raise DataError(f"{output} has the ending of a table; give the model another, such as {output.stem}{SUFFIX}")
    check_output(output, overwrite=overwrite)
    if checkpoint.exists() and not resume:
        raise DataError(
            f"{checkpoint} holds an unfinished fit; add --resume to continue it, or delete it to start again"
        )
    for part in parts:
        check_table_output(part, overwrite=overwrite or resume)


def _parts(data: Path, output: Path) -> tuple[Path, Path]:
    """Where the rows to train on and the rows set aside go."""
    suffix = ending(data)
    return output.with_name(f"{output.stem}.train{suffix}"), output.with_name(f"{output.stem}.holdout{suffix}")


def _set_aside(table: "pa.Table", share: float, parts: tuple[Path, ...], seed: int, *, overwrite: bool) -> "pa.Table":
    """Split the rows at random, write both parts, and return the rows to train on."""
    import numpy as np

    order = np.random.default_rng(seed).permutation(table.num_rows)
    held_out = round(share * table.num_rows)
    train, holdout = (table.take(np.sort(rows)) for rows in (order[held_out:], order[:held_out]))
    for path, part in zip(parts, (train, holdout), strict=True):
        write_table(path, part, overwrite=overwrite)
    say(f"training on {parts[0]} ({counted(train.num_rows, 'row')}), setting {parts[1]} aside ({held_out:,})")
    return train


def _kept(checkpoint: Path) -> str:
    if checkpoint.exists():
        return f"the training so far is kept in {checkpoint}; the same command with --resume continues it"
    return "the training had not begun and nothing was written"


def _report(model: "TableModel", output: Path, data: Path, parts: tuple[Path, ...]) -> None:
    """Say what the training did, where the model is, and what to do with it."""
    run = model.training_run_
    trained = f"Trained for {duration(run.seconds)}: {counted(run.steps, 'step')}"
    if run.best_validation is not None:
        trained += f", {run.best_validation:.2f} nats a row at best (step {run.best_step:,})"
    say(f"{trained}.")
    say(f"The model is in {output} ({size_of(output)}).", "bold green")
    real, holdout = parts or (data, None)
    name, synthetic = shell(output), shell(output.with_name(f"{output.stem}-synthetic.csv"))
    held = f" --holdout {shell(holdout)}" if holdout else ""
    say("\nTry next:")
    say(f"  clarkia sample {name} -o {synthetic}")
    if condition := _example_condition(model):
        say(f"  clarkia sample {name} --where {shell(condition)}")
    say(f"  clarkia report {shell(real)} {synthetic}{held} -o {shell(output.with_suffix('.html'))}")


def _example_condition(model: "TableModel") -> str | None:
    """A condition on the target, or on the first column that has categories."""
    from ..codecs.conditions import Equal, render
    from ..codecs.table.category import CategoryCoding

    codec = model.codec_
    named = sorted(zip(codec.columns, codec.codings, strict=True), key=lambda pair: pair[0].name != model.target)
    for column, coding in named:
        if isinstance(coding, CategoryCoding) and isinstance(value := coding.values[0].as_py(), str | bool):
            return render({column.name: Equal(value)})
    return None
