"""clarkia compare: are two collections of anything from one distribution?"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import DataError
from .model import read_rows
from .options import Overwrite, Role, Seed, pairs
from .outputs import check_output
from .report import write_report
from .signals import keeping
from .terminal import console, say

if TYPE_CHECKING:
    from ..reports import CollectionReport, TableReport


def compare(
    real: Annotated[Path, typer.Argument(metavar="REAL", help="A table, an array, or a folder of pictures or texts.")],
    generated: Annotated[Path, typer.Argument(metavar="GENERATED", help="What to compare with it, of the same kind.")],
    holdout: Annotated[
        Path | None, typer.Option(metavar="HOLDOUT", help="Real ones that the generator did not see: copies show.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="HTML", help="Write the report with its plots as a page.")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="JSON", help="Write all figures as JSON.")] = None,
    max_rows: Annotated[
        int, typer.Option(min=30, metavar="N", help="Most rows of a set in use (arrays, pictures, texts).")
    ] = 2000,
    size: Annotated[
        int, typer.Option(min=1, max=128, metavar="POINTS", help="Side that pictures are resized to.")
    ] = 16,
    raw: Annotated[
        bool, typer.Option("--raw", help="Take an array's columns as they are, on their own scales.")
    ] = False,
    role: Role = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Compare two collections; no model is needed.

    How far apart are they, does one reach where the other is, can a classifier tell them apart, was
    anything copied? Every figure stands beside what real ones score against real ones.
    """
    for path in (output, json):
        if path is not None:
            check_output(path, overwrite=overwrite)
    from ..adapters.collections import is_collection

    paths = [real, generated] + ([] if holdout is None else [holdout])
    several = [is_collection(path) for path in paths]
    if any(several) and not all(several):
        odd = paths[several.index(not several[0])]
        raise DataError(f"{odd} and {real} are not of one kind; compare tables with tables and folders with folders")
    with keeping("no report was written"):
        found = (
            _collections(paths, max_rows, size, raw, seed)
            if several[0]
            else _tables(paths, pairs("--role", "COLUMN=ROLE", role), seed)
        )
    say()
    say(found.to_text(min(console().width, 120)))
    write_report(found, output, json, overwrite=overwrite)


def _tables(paths: list[Path], roles: dict[str, str], seed: int) -> "TableReport":
    from ..reports import table_report

    real, generated, *holdout = (read_rows(path) for path in paths)
    return table_report(
        real, generated, holdout=holdout[0] if holdout else None, roles=roles or None, seed=seed,
        progress=sys.stdout.isatty(),
    )  # fmt: skip


def _collections(paths: list[Path], max_rows: int, size: int, raw: bool, seed: int) -> "CollectionReport":
    from ..adapters.collections import read_collection
    from ..reports import collection_report

    shown = sys.stdout.isatty()
    real, generated, *holdout = (read_collection(path, size=size, progress=shown) for path in paths)
    return collection_report(
        real, generated, holdout=holdout[0] if holdout else None, max_rows=max_rows, raw=raw, seed=seed, progress=shown
    )
