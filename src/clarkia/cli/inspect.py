"""clarkia inspect: what a model is, or what a table would be read as."""

from pathlib import Path
from typing import Annotated

import typer

from .columns import show_columns
from .errors import about
from .model import open_model, read_rows
from .options import Role, pairs
from .outputs import is_table
from .terminal import counted, duration, say, size_of

_ENDS = {
    "max_steps": "all steps were done",
    "max_minutes": "the time was up",
    "patience": "no further improvement",
}


def inspect(
    path: Annotated[Path, typer.Argument(metavar="MODEL|DATA", help="A model that clarkia fit made, or a table.")],
    role: Role = None,
) -> None:
    """Show what a model is, or how a table would be read.

    Prints the columns with their roles and codings, and of a model its training, size and parameters.
    """
    if is_table(path):
        _table(path, pairs("--role", "COLUMN=ROLE", role))
    else:
        _model(path)


def _table(path: Path, roles: dict[str, str]) -> None:
    table = read_rows(path)

    from ..codecs import TableCodec

    with about(path):
        codec = TableCodec.fit(table, roles)
    rows, columns = counted(table.num_rows, "row"), counted(table.num_columns, "column")
    say(f"{path}: table, {rows}, {columns}, {size_of(path)}", "bold")
    say()
    show_columns(codec, table)


def _model(path: Path) -> None:
    model = open_model(path)
    run, codec = model.training_run_, model.codec_
    weights = sum(parameter.numel() for parameter in model.denoiser_.parameters())
    best = "" if run.best_validation is None else f", {run.best_validation:.2f} nats a row at step {run.best_step:,}"
    facts = {
        "rows": f"{model.n_rows_:,}",
        "network": f"{model.network}, {counted(weights, 'parameter')}",
        "training": f"{counted(run.steps, 'step')} in {duration(run.seconds)} ({_ENDS[run.stopped]}){best}",
        "target": model.target or "none",
        "seed": str(model.seed),
    }
    say(f"{path}: table model, {counted(len(codec.columns), 'column')}, {size_of(path)}", "bold")
    for word, fact in facts.items():
        say(f"  {word:<9} {fact}")
    say()
    show_columns(codec)
