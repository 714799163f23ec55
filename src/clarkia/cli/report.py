"""clarkia report: how a synthetic table compares with the real one."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..atomic import replacing
from .kinds import Kind
from .model import counting, kind_of_model, open_model, read_rows, sampler_steps
from .options import Overwrite, Role, Seed, pairs
from .outputs import check_output, is_table, write_text
from .report_collection import report_on_model
from .signals import keeping
from .terminal import console, say, size_of

if TYPE_CHECKING:
    import pyarrow as pa

    from ..models.table import TableModel
    from ..reports import Report, TableReport


class Protocol(StrEnum):
    """The named sets of measures."""

    clarkia_1 = "clarkia-1"
    tabsyn_2024 = "tabsyn-2024"


def report(
    real: Annotated[
        Path, typer.Argument(metavar="REAL", help="What the model was trained on: a table, pictures or texts.")
    ],
    synthetic: Annotated[
        Path, typer.Argument(metavar="SYNTHETIC", help="The synthetic table, or a model of any kind to draw from.")
    ],
    holdout: Annotated[
        Path | None, typer.Option(metavar="TABLE", help="Real rows that the model did not see; privacy needs them.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column to predict; a model brings its own.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="HTML", help="Write the report with its plots as a page.")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="JSON", help="Write all figures as JSON.")] = None,
    protocol: Annotated[
        Protocol, typer.Option(help="The measures: this library's, or those of the TabSyn and TabDiff papers.")
    ] = Protocol.clarkia_1,
    role: Role = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Compare a synthetic table, or what a model draws, with the real data.

    Is it faithful, is it useful, does it give away anyone? Every figure stands beside the one that
    fresh real rows score, and of tables the one of unrelated columns.
    """
    for path in (output, json):
        if path is not None:
            check_output(path, overwrite=overwrite)
    roles = pairs("--role", "COLUMN=ROLE", role)
    model = None if is_table(synthetic) else open_model(synthetic)
    with keeping("no report was written"):
        if model is not None and kind_of_model(model) is not Kind.table:
            found = report_on_model(model, real, holdout, seed)
        else:
            found = _on_tables(real, synthetic, model, holdout, target, roles, protocol, seed)
    say()
    say(found.to_text(min(console().width, 120)))
    write_report(found, output, json, overwrite=overwrite)


def _on_tables(
    real: Path,
    synthetic: Path,
    model: "TableModel | None",
    holdout: Path | None,
    target: str | None,
    roles: dict[str, str],
    protocol: Protocol,
    seed: int,
) -> "TableReport":
    real_rows = read_rows(real)
    holdout_rows = None if holdout is None else read_rows(holdout)
    if model is None:
        synthetic_rows = read_rows(synthetic)
    else:
        real_rows = real_rows.drop_columns([name for name in model.codec_.dropped if name in real_rows.column_names])
        synthetic_rows = _draw(model, real_rows.num_rows, seed)
        target, roles = target or model.target, _roles(model) | roles

    from ..reports import table_report

    return table_report(
        real_rows,
        synthetic_rows,
        holdout=holdout_rows,
        target=target,
        protocol=protocol.value,
        roles=roles or None,
        seed=seed,
        progress=sys.stdout.isatty(),
    )


def write_report(found: "Report", output: Path | None, json: Path | None, *, overwrite: bool) -> None:
    """Write a report to the files that were asked for, and say where they are."""
    if output is not None:
        with replacing(output, overwrite=overwrite) as temporary:
            found.to_html(temporary)
        say(f"The report is in {output} ({size_of(output)}).", "bold green")
    if json is not None:
        write_text(json, found.to_json() + "\n", overwrite=overwrite)
        say(f"Its figures are in {json} ({size_of(json)}).", "bold green")


def _draw(model: "TableModel", rows: int, seed: int) -> "pa.Table":
    import pyarrow as pa

    with counting(model, "sampling", rows, sampler_steps(model, None)):
        return pa.concat_tables(model.sample_batches(rows, seed=seed))


def _roles(model: "TableModel") -> dict[str, str]:
    """The roles that the model found, where they say how to compare a column."""
    roles = {column.name: column.role for column in model.codec_.columns if column.role != "constant"}
    return {name: role for name, role in roles.items() if name in model.rules_.schema.names}
