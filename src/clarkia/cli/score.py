"""clarkia score: how likely every row, picture or text is, and which are the most unusual."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import DataError
from .errors import about
from .kinds import Kind
from .model import counting, kind_of_model, open_model, read_of_kind
from .options import ModelFile, Overwrite, Seed
from .outputs import check_table_output, write_table
from .rows import show_rows
from .signals import keeping
from .terminal import counted, say, size_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

COLUMN = "log_density"
_DRAWS = 16  # of the noise, for each row
_NOUNS = {Kind.table: "row", Kind.image: "picture", Kind.text: "text"}


def score(
    model: ModelFile,
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="A table, pictures or texts, as the model was fitted on.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help=f"Write the table with a column {COLUMN}.")
    ] = None,
    top: Annotated[int, typer.Option(min=0, metavar="N", help="How many of the most unusual to show.")] = 10,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Score how likely each row, picture or text is, and show the most unusual.

    The score is a lower bound on the log-density (of pictures and texts the log-probability) in nats, estimated with 16
    draws of noise; the lowest are the most unusual. Keys and constants of a table do not count.
    """
    if output is not None:
        check_table_output(output, overwrite=overwrite)
    fitted = open_model(model)
    kind = kind_of_model(fitted)
    with about(data):
        rows, table = read_of_kind(fitted, kind, data)
    if output is not None and COLUMN in table.column_names:
        raise DataError(f"{data} has a column {COLUMN!r} already; rename it, so that the scores have a place")
    with keeping("nothing was written"):
        with about(data), counting(fitted, "scoring", table.num_rows, _DRAWS, _NOUNS[kind]):
            scores = fitted.score_samples(rows, seed=seed, num_draws=_DRAWS)
        if output is not None:
            import pyarrow as pa

            write_table(output, table.append_column(COLUMN, pa.array(scores)), overwrite=overwrite)
    noun = _NOUNS[kind]
    kept = scores[scores > float("-inf")]
    average = f"{kept.mean():.2f} nats a {noun} on average" if len(kept) else "none of which keeps the model's rules"
    say(f"{counted(len(scores), noun)}, {average}")
    if 0 < len(kept) < len(scores):
        say(f"{counted(len(scores) - len(kept), noun)} left out of the average: rules of the model are broken there")
    if output is not None:
        say(f"scores in {output} ({size_of(output)}), column {COLUMN}")
    _show_unusual(scores, table, noun, top)


def _show_unusual(scores: "np.ndarray", table: "pa.Table", noun: str, top: int) -> None:
    order = scores.argsort(kind="stable")[:top]
    if len(order):
        say(f"\nThe most unusual {noun}s:", "bold")
        before = [("row", [f"{row + 1:,}" for row in order]), (COLUMN, [f"{scores[row]:.2f}" for row in order])]
        show_rows(table.take(order), before=before, limit=top)
