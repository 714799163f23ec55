"""clarkia impute: the empty cells of a table, filled."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import about
from .model import counting, open_table_model, read_rows, sampler_steps
from .options import Data, ModelFile, NumSteps, Overwrite, Seed
from .outputs import check_table_output, write_table
from .signals import keeping
from .terminal import counted, say, size_of

if TYPE_CHECKING:
    import pyarrow as pa


def impute(
    model: ModelFile,
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="The table to write.")],
    num_steps: NumSteps = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Fill the empty cells of a table.

    Each is drawn given the other cells of its row; what is there stays as it is. Another seed gives another way to
    fill the table, as likely as the first.
    """
    check_table_output(output, overwrite=overwrite)
    fitted = open_table_model(model)
    table = read_rows(data)
    steps = sampler_steps(fitted, num_steps)
    with keeping(f"{output} was not written"):
        with about(data), counting(fitted, "imputing", table.num_rows, steps):
            filled = fitted.impute(table, seed=seed, num_steps=num_steps)
        write_table(output, filled, overwrite=overwrite)
    say(f"{counted(_empty(table) - _empty(filled), 'empty cell')} of {data} filled")
    say(f"{counted(filled.num_rows, 'row')} in {output} ({size_of(output)})")


def _empty(table: "pa.Table") -> int:
    """How many cells of a table are missing."""
    from ..codecs.table.arrow import is_missing, one_chunk

    return sum(int(is_missing(one_chunk(column)).sum()) for column in table.columns)
