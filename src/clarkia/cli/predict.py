"""clarkia predict: what a column, a class or a beginning is likely to be, given all the rest."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import DataError
from .errors import about
from .kinds import Kind, refuse_others
from .model import kind_of_model, open_model, read_of_kind
from .options import ModelFile, Overwrite, Seed
from .outputs import check_table_output, write_table
from .rows import show_rows
from .signals import keeping
from .terminal import counted, say, size_of, waiting

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_SHOWN = 10
_NOUNS = {Kind.table: "row", Kind.image: "picture", Kind.text: "text"}


def predict(
    model: ModelFile,
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="A table, pictures or texts, as the model was fitted on.")
    ],
    column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The column of a table (the target), or the attribute of pictures (class)."),
    ] = None,
    prefix: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="A way in which the texts may begin; give two or more."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="The table to write; shown without it.")
    ] = None,
    draws: Annotated[
        int, typer.Option(min=2, metavar="N", help="Draws for each row of a numeric column, picture or text.")
    ] = 64,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Predict a column of a table, or classify pictures and texts.

    Of categories, classes and beginnings the probabilities are given, one a column; of numbers the mean, the deviation
    and quantiles. What the column itself holds is not looked at.
    """
    if output is not None:
        check_table_output(output, overwrite=overwrite)
    fitted = open_model(model)
    kind = kind_of_model(fitted)
    refuse_others(kind, {Kind.text: {"prefix": prefix}})
    if kind is Kind.text and (column is not None or not prefix):
        raise DataError("texts have no columns; say how they may begin, --prefix twice or more")
    with about(data):
        rows, table = read_of_kind(fitted, kind, data)
    with keeping("nothing was written"):
        with about(data), waiting("predicting"):
            found = _predicted(fitted, kind, rows, column, prefix, draws, seed)
        result = _as_table(found, table if kind is not Kind.table else None)
        if output is None:
            show_rows(result, limit=_SHOWN)
            return
        write_table(output, result, overwrite=overwrite)
    say(f"{counted(result.num_rows, _NOUNS[kind])} in {output} ({size_of(output)})")


def _predicted(
    fitted: Any, kind: Kind, rows: Any, column: str | None, prefix: list[str] | None, draws: int, seed: int
) -> "pd.DataFrame":
    if kind is Kind.table:
        return fitted.predict(rows, column, draws=draws, seed=seed)
    if kind is Kind.image:
        return fitted.classify(rows, column or "class", num_draws=draws, seed=seed)
    return fitted.classify(rows, prefix, num_draws=draws, seed=seed)


def _as_table(found: "pd.DataFrame", beside: "pa.Table | None") -> "pa.Table":
    """The answers as a table, behind what says which picture or text each is of."""
    import pyarrow as pa

    table = pa.table({str(name): pa.array(found[name]) for name in found.columns})
    for name in reversed(beside.column_names if beside is not None else []):
        table = table.add_column(0, name, beside.column(name))  # type: ignore[union-attr]  # no names without it
    return table
