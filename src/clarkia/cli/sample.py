"""clarkia sample: new rows from a model."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import DataError
from .model import counting_rows, open_model, sampler_steps
from .options import ModelFile, NumSteps, Overwrite, Seed, pairs
from .outputs import check_table_output, table_writer
from .rows import show_rows
from .signals import keeping
from .terminal import counted, say, size_of

_SHOWN = 10  # rows, where there is no output file


def sample(
    model: ModelFile,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="OUT", help="The table to write; without it, a few rows are shown."),
    ] = None,
    rows: Annotated[
        int | None, typer.Option("--rows", "-n", min=1, metavar="N", help="How many rows; as many as were trained on.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="CONDITIONS", help="Only rows that meet these, such as \"age >= 65 and sex = 'Female'\"."),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=VALUE", help="Only rows with this value; with nothing after =, with a missing cell."
        ),
    ] = None,
    complete: Annotated[
        bool, typer.Option("--complete", metavar="", help="Fill the cells that come out missing.")
    ] = False,
    num_steps: NumSteps = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Draw new rows from a model.

    They are rows like those it learned from, or only such as meet conditions. The first 100 of a million rows are the
    same as 100 rows drawn alone. The file appears under its name once it is whole.
    """
    if output is not None:
        check_table_output(output, overwrite=overwrite)
    if where is not None and not where.strip():
        raise DataError("--where is empty; write conditions such as age >= 65, or leave it out")
    values = {name: value or None for name, value in pairs("--given", "COLUMN=VALUE", given).items()}
    fitted = open_model(model)
    count = rows or (fitted.n_rows_ if output else _SHOWN)
    batches = fitted.sample_batches(
        count, given=values or None, where=where, complete=complete, seed=seed, num_steps=num_steps
    )
    steps = sampler_steps(fitted, num_steps)
    if output is None:
        import pyarrow as pa

        with counting_rows(fitted, "sampling", count, steps):
            drawn = pa.concat_tables(batches)
        show_rows(drawn, limit=count)
        return
    with (
        keeping(f"{output} was not written"),
        counting_rows(fitted, "sampling", count, steps),
        table_writer(output, fitted.codec_.schema, overwrite=overwrite) as write,
    ):
        for batch in batches:
            write(batch)
    say(f"{counted(count, 'row')} in {output} ({size_of(output)})")
