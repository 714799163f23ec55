"""Arguments and options that verbs share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..errors import DataError

Data = Annotated[Path, typer.Argument(metavar="DATA", help="A table: CSV (.csv, .csv.gz), Parquet, Arrow or Feather.")]
ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="A model that clarkia fit made.")]
Role = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN=ROLE", help="What a column is: categorical, integer, real, date, key, drop, ..."),
]
Seed = Annotated[
    int, typer.Option(min=0, metavar="S", show_default=False, help="Fixes everything random; 0 if not given.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", metavar="", help="Replace outputs that exist already.")]
NumSteps = Annotated[
    int | None, typer.Option(min=1, metavar="K", help="Steps of the sampler; more are slower and a little better.")
]


def pairs(option: str, form: str, texts: Sequence[str] | None) -> dict[str, str]:
    """Read texts such as COLUMN=VALUE.

    Args:
        option: the name of the option, for the messages.
        form: the form of its values, for the messages.
        texts: what the user wrote, once for each column.

    Raises:
        DataError: a text has no "=", or a column comes twice.
    """
    found: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise DataError(f"{option} {text!r} should have the form {form}")
        if name in found:
            raise DataError(f"{option} names the column {name!r} twice; name it once")
        found[name] = value
    return found
