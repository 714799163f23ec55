"""clarkia inspect: what a model is, or what a table would be read as."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .columns import show_columns
from .errors import about
from .kinds import Kind
from .model import kind_of_model, open_model, read_rows
from .options import Role, pairs
from .outputs import is_table
from .terminal import counted, duration, listed, say, size_of

_ENDS = {
    "max_steps": "all steps were done",
    "max_minutes": "the time was up",
    "patience": "no further improvement",
}


def inspect(
    path: Annotated[Path, typer.Argument(metavar="MODEL|DATA", help="A model that clarkia fit made, or a table.")],
    role: Role = None,
) -> None:
    """Show what a model is, or how a table would be read.

    Prints the columns with their roles and codings, and of a model its training, size and parameters.
    """
    if is_table(path):
        _table(path, pairs("--role", "COLUMN=ROLE", role))
        return
    model = open_model(path)
    {Kind.table: _table_model, Kind.image: _image_model, Kind.text: _text_model}[kind_of_model(model)](path, model)


def _table(path: Path, roles: dict[str, str]) -> None:
    table = read_rows(path)

    from ..codecs import TableCodec

    with about(path):
        codec = TableCodec.fit(table, roles)
    rows, columns = counted(table.num_rows, "row"), counted(table.num_columns, "column")
    say(f"{path}: table, {rows}, {columns}, {size_of(path)}", "bold")
    say()
    show_columns(codec, table)


def _table_model(path: Path, model: Any) -> None:
    codec = model.codec_
    say(f"{path}: table model, {counted(len(codec.columns), 'column')}, {size_of(path)}", "bold")
    _facts(
        rows=f"{model.n_rows_:,}",
        network=f"{model.network}, {_parameters(model.denoiser_)}",
        training=_training(model.training_run_, "nats a row"),
        target=model.target or "none",
        rules="; ".join(map(str, model.rules_.rules)) or "none",
        seed=str(model.seed),
    )
    say()
    show_columns(codec)


def _image_model(path: Path, model: Any) -> None:
    import torch

    codec, said = model.codec_, model.descriptions_
    told = [f"{name} ({listed(map(str, values))})" for name, values in said.attributes.items()]
    told += [f"captions of {counted(len(said.words), 'word')}"] if said.words else []
    size = _operations(model.denoiser_.network, torch.zeros(1, *model.latent_shape_), torch.zeros(1))
    say(f"{path}: image model, {codec.size} x {codec.size} {codec.mode}, {size_of(path)}", "bold")
    _facts(
        pictures=f"{model.n_images_:,}",
        told=", ".join(told) or "nothing",
        network=f"{model.network}, {_parameters(model.denoiser_)}, {size} a picture",
        process=model.process,
        training=_training(model.training_run_, "of loss"),
        seed=str(model.seed),
    )


def _text_model(path: Path, model: Any) -> None:
    import torch

    codec = model.codec_
    inputs = torch.zeros(1, codec.length, dtype=torch.int64), torch.zeros(1)
    rows = "documents" if codec.documents else "windows"
    facts = {
        rows: f"{model.n_texts_:,} of {counted(codec.length, 'token')}",
        "tokens": f"{model.tokens}, {counted(codec.num_classes, 'different one')}",
        "network": f"{_parameters(model.denoiser_)}, {_operations(model.denoiser_.network, *inputs)} a text",
        "training": _training(model.training_run_, "nats a token"),
    }
    if model.companion_run_ is not None:
        facts["companion"] = _training(model.companion_run_, "nats a token")
    say(f"{path}: text model, {size_of(path)}", "bold")
    _facts(**facts, seed=str(model.seed))


def _facts(**facts: str) -> None:
    width = max(map(len, facts)) + 1
    for word, fact in facts.items():
        say(f"  {word:<{width}} {fact}")


def _training(run: Any, unit: str) -> str:
    best = "" if run.best_validation is None else f", {run.best_validation:.4g} {unit} at step {run.best_step:,}"
    return f"{counted(run.steps, 'step')} in {duration(run.seconds)} ({_ENDS[run.stopped]}){best}"


def _parameters(module: Any) -> str:
    from ..networks.counts import num_parameters

    return counted(num_parameters(module), "parameter")


def _operations(network: Any, *inputs: Any) -> str:
    """Multiply-adds of one evaluation."""
    from ..networks.counts import flops

    number = flops(network, *inputs)
    return f"{number / 1e9:.3g} billion multiply-adds" if number >= 1e9 else f"{number / 1e6:.3g} million multiply-adds"
