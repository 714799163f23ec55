"""clarkia sample: new rows, pictures or texts from a model."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import DataError
from ..shards import Shard
from .kinds import Kind, refuse_others
from .model import kind_of_model, open_model
from .options import ModelFile, NumSteps, Overwrite, Seed
from .parts import chosen_shard, part_in, remove_others
from .sample_image import sample_pictures
from .sample_table import sample_rows
from .sample_text import sample_texts
from .terminal import say
from .wishes import Constraint, Exactness, HowExact, Maximize, Minimize, Particles, Strength, warnings_told, wishes

TABLES, PICTURES, TEXTS = "For tables", "For pictures", "For texts"


def sample(
    model: ModelFile,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="A table; a .png with all pictures, a folder or .npy; a .txt; .parquet for all. Rows and texts are "
            "shown without it.",
        ),
    ] = None,
    number: Annotated[
        int | None,
        typer.Option(
            "--rows",
            "--number",
            "-n",
            min=1,
            metavar="N",
            help="How many; as many rows as were trained on, 16 pictures, 1 text.",
        ),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Only rows or pictures with this value; of a row, with nothing after =, with a missing cell.",
        ),
    ] = None,
    num_steps: NumSteps = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    constraint: Constraint = None,
    maximize: Maximize = None,
    minimize: Minimize = None,
    strength: Strength = 1.0,
    particles: Particles = 16,
    exactness: HowExact = Exactness.asymptotic,
    shard: Annotated[
        str | None,
        typer.Option(metavar="K/N", help="Draw only the K-th of N parts, into a folder OUT of Parquet files."),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="CONDITIONS",
            help="Only rows that meet these, such as \"age >= 65 and sex = 'Female'\".",
            rich_help_panel=TABLES,
        ),
    ] = None,
    complete: Annotated[
        bool,
        typer.Option("--complete", metavar="", help="Fill the cells that come out missing.", rich_help_panel=TABLES),
    ] = False,
    caption: Annotated[
        str | None, typer.Option(metavar="WORDS", help="What the pictures should show.", rich_help_panel=PICTURES)
    ] = None,
    guidance: Annotated[
        float,
        typer.Option(metavar="W", help="How much more than a likeness is wanted; 0 is none.", rich_help_panel=PICTURES),
    ] = 0.0,
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", "--prefix", metavar="TEXT", help="How the text begins.", rich_help_panel=TEXTS),
    ] = None,
    suffix: Annotated[
        str | None, typer.Option(metavar="TEXT", help="How the text ends.", rich_help_panel=TEXTS)
    ] = None,
    infill: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="A text with holes to fill: [*], or [*12] for twelve tokens.", rich_help_panel=TEXTS
        ),
    ] = None,
    correction: Annotated[
        int,
        typer.Option(min=1, metavar="K", help="Candidates that the companion chooses among.", rich_help_panel=TEXTS),
    ] = 1,
) -> None:
    """Draw new rows, pictures or texts from a model.

    They are like those it learned from, or only such as meet conditions and keep rules, or with much of something: then
    --particles draws compete for each. A function FILE.py:FUNCTION gets a table, an array of pictures or a list of
    texts, and returns a number each, or of a rule whether it is kept. The first 100 of a million are the same as
    100 drawn alone. A file appears under its name once it is whole.

    Started by torchrun or accelerate launch, each process draws a part of them into the folder OUT. What is drawn does
    not depend on the number of parts.
    """
    chosen = chosen_shard(shard, output)
    folder = output
    if chosen is not None:
        output = part_in(folder, chosen, overwrite=overwrite)
    fitted = open_model(model)
    kind = kind_of_model(fitted)
    own: dict[Kind, dict[str, Any]] = {
        Kind.table: {"where": where, "complete": complete},
        Kind.image: {"caption": caption, "guidance": guidance},
        Kind.text: {"prompt": prompt, "suffix": suffix, "infill": infill, "correction": correction},
    }
    refuse_others(kind, own | {Kind.text: own[Kind.text] | {"correction": correction > 1}})
    if kind is Kind.text and given:
        raise DataError("--given is for tables and pictures; say how a text begins with --prompt")
    common: dict[str, Any] = {"number": number, "num_steps": num_steps, "seed": seed, "overwrite": overwrite}
    common["shard"] = chosen or Shard()
    common["asked"] = wishes(kind, constraint, maximize, minimize, strength, particles, exactness)
    with warnings_told():
        if kind is Kind.table:
            sample_rows(fitted, output, given=given, **own[kind], **common)
        elif kind is Kind.image:
            sample_pictures(fitted, output, given=given, **own[kind], **common)
        else:
            sample_texts(fitted, output, **own[kind], **common)
    if chosen is not None and folder is not None:
        remove_others(folder, chosen)
        if shard is None and chosen.count > 1:
            say(f"the other processes of {chosen.count} write theirs to {folder}")
