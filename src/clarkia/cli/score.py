"""clarkia score: how likely every row of a table is, and which are the most unusual."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import DataError
from .errors import about
from .model import counting_rows, open_model, read_rows
from .options import Data, ModelFile, Overwrite, Seed
from .outputs import check_table_output, write_table
from .rows import show_rows
from .signals import keeping
from .terminal import counted, say, size_of

COLUMN = "log_density"
_DRAWS = 16  # of the noise, for each row


def score(
    model: ModelFile,
    data: Data,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help=f"Write the table with a column {COLUMN}.")
    ] = None,
    top: Annotated[int, typer.Option(min=0, metavar="N", help="How many of the most unusual rows to show.")] = 10,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Score how likely each row of a table is, and show the most unusual.

    The score is a lower bound on the log-density in nats, estimated with 16 draws of noise; the lowest rows are the
    most unusual. Keys and constants do not count.
    """
    if output is not None:
        check_table_output(output, overwrite=overwrite)
    fitted = open_model(model)
    table = read_rows(data)
    if output is not None and COLUMN in table.column_names:
        raise DataError(f"{data} has a column {COLUMN!r} already; rename it, so that the scores have a place")
    with keeping("nothing was written"):
        with about(data), counting_rows(fitted, "scoring", table.num_rows, _DRAWS):
            scores = fitted.score_samples(table, seed=seed, num_draws=_DRAWS)
        if output is not None:
            import pyarrow as pa

            write_table(output, table.append_column(COLUMN, pa.array(scores)), overwrite=overwrite)
    say(f"{counted(table.num_rows, 'row')}, {scores.mean():.2f} nats a row on average")
    if output is not None:
        say(f"scores in {output} ({size_of(output)}), column {COLUMN}")
    order = scores.argsort(kind="stable")[:top]
    if len(order):
        say("\nThe most unusual rows:", "bold")
        before = [("row", [f"{row + 1:,}" for row in order]), (COLUMN, [f"{scores[row]:.2f}" for row in order])]
        show_rows(table.take(order), before=before, limit=top)
