"""clarkia fit: a table, a folder of pictures or a text in, a model out."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import DataError
from .fit_image import fit_image
from .fit_table import fit_table
from .fit_text import fit_text
from .fitting import check_model_output
from .kinds import PLURALS, Kind, kind_of, refuse_others
from .options import Overwrite, Role, Seed, pairs

TABLES, PICTURES, TEXTS = "For tables", "For pictures", "For texts"


class Network(StrEnum):
    """The networks to choose from."""

    mlp = "mlp"
    tabdiff = "tabdiff"
    fields = "fields"
    unet = "unet"
    dit = "dit"
    uvit = "uvit"


class Tokens(StrEnum):
    """What text is cut into."""

    char = "char"
    byte = "byte"
    bpe = "bpe"


_NETWORKS = {Kind.table: ("mlp", "tabdiff", "fields"), Kind.image: ("unet", "dit", "uvit"), Kind.text: ()}


def fit(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="A table, a folder or array of pictures, or a text file or folder.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL", help="The model file to write.")],
    kind: Annotated[Kind | None, typer.Option(help="What the data are, where their name does not tell.")] = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(metavar="M", help="Longest time to train; 15 for tables and 30 else where no limit is given."),
    ] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, metavar="N", help="Most steps to train.")] = None,
    resume: Annotated[bool, typer.Option("--resume", metavar="", help="Continue a fit that was stopped.")] = False,
    network: Annotated[
        Network | None,
        typer.Option(help="mlp (default), tabdiff or fields for tables; unet (default), dit or uvit for pictures."),
    ] = None,
    samples: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write samples there while training (pictures, texts)."),
    ] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column that reports predict.", rich_help_panel=TABLES)
    ] = None,
    role: Role = None,
    constraint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE",
            help='A rule that every row keeps: "total = rent + food", "start <= end", "city determines country".',
            rich_help_panel=TABLES,
        ),
    ] = None,
    holdout_share: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=0.5,
            metavar="SHARE",
            show_default=False,
            help="Set so many rows aside for the report; both parts are written.",
            rich_help_panel=TABLES,
        ),
    ] = 0.0,
    size: Annotated[
        int | None,
        typer.Option(min=1, metavar="POINTS", help="Side that pictures are brought to.", rich_help_panel=PICTURES),
    ] = None,
    captions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Columns file and caption; captions.csv in the folder is found.",
            rich_help_panel=PICTURES,
        ),
    ] = None,
    attributes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A column file and a column for each attribute.", rich_help_panel=PICTURES),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", metavar="", help="Refuse files that are damaged or no pictures.", rich_help_panel=PICTURES
        ),
    ] = False,
    tokens: Annotated[
        Tokens, typer.Option(help="Characters, bytes or learned byte pairs.", rich_help_panel=TEXTS)
    ] = Tokens.char,
    length: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Tokens of a text; 256 if not given.", rich_help_panel=TEXTS)
    ] = None,
    documents: Annotated[
        bool | None,
        typer.Option(
            "--documents/--one-text",
            help="Whether lines of a file and files of a folder are texts of their own.",
            rich_help_panel=TEXTS,
        ),
    ] = None,
    companion: Annotated[
        bool,
        typer.Option(
            "--companion",
            metavar="",
            help="Fit an autoregressive model beside, for --correction.",
            rich_help_panel=TEXTS,
        ),
    ] = False,
) -> None:
    """Learn a model from a table, pictures or texts.

    The training is saved every minute beside the model, in MODEL.checkpoint. If it is stopped, the same command with
    --resume continues it. Started by torchrun or accelerate launch, all processes train together.
    """
    check_model_output(output, resume=resume, overwrite=overwrite)
    kind = kind or kind_of(data)
    own = {
        Kind.table: {"target": target, "role": role, "constraint": constraint, "holdout_share": holdout_share},
        Kind.image: {"size": size, "captions": captions, "attributes": attributes, "strict": strict},
        Kind.text: {"tokens": None if tokens is Tokens.char else tokens, "length": length, "companion": companion},
    }
    refuse_others(kind, own)
    if network is not None and network.value not in _NETWORKS[kind]:
        choices = " or ".join(_NETWORKS[kind])
        instead = f"use {choices}" if choices else "leave it out"
        raise DataError(f"--network {network.value} is not for {PLURALS[kind]}; {instead}")
    common: dict[str, Any] = {
        "max_minutes": max_minutes,
        "max_steps": max_steps,
        "seed": seed,
        "resume": resume,
        "overwrite": overwrite,
    }
    chosen = None if network is None else network.value
    if kind is Kind.table:
        roles = pairs("--role", "COLUMN=ROLE", role)
        fit_table(
            data, output, target=target, roles=roles, constraints=constraint, network=chosen,
            holdout_share=holdout_share, **common,
        )  # fmt: skip
    elif kind is Kind.image:
        fit_image(
            data, output, size=size, network=chosen, captions=captions, attributes=attributes, strict=strict,
            samples=samples, **common,
        )  # fmt: skip
    else:
        fit_text(
            data, output, tokens=tokens.value, length=length, documents=documents, companion=companion, samples=samples,
            **common,
        )  # fmt: skip
