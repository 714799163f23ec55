"""Fitting a table."""

from pathlib import Path
from typing import TYPE_CHECKING

from .columns import show_columns
from .errors import about
from .fitting import say_trained, train
from .model import read_rows
from .outputs import check_table_output, ending, write_table
from .terminal import counted, is_main, say, shell

if TYPE_CHECKING:
    import pyarrow as pa

    from ..models.table import TableModel


def fit_table(
    data: Path,
    output: Path,
    *,
    target: str | None,
    roles: dict[str, str],
    constraints: list[str] | None,
    network: str | None,
    holdout_share: float,
    max_minutes: float | None,
    max_steps: int | None,
    seed: int,
    resume: bool,
    overwrite: bool,
) -> None:
    """Learn a model from a table; see `fit`."""
    parts = _parts(data, output) if holdout_share else ()
    for part in parts if is_main() else ():  # another process may look once the main one has written them
        check_table_output(part, overwrite=overwrite or resume)
    table = read_rows(data)
    say(f"{data.name}: {counted(table.num_rows, 'row')}, {counted(table.num_columns, 'column')}")
    if parts:
        table = _set_aside(table, holdout_share, parts, seed, overwrite=overwrite or resume)

    from ..codecs import TableCodec
    from ..models.table import TableModel

    with about(data):
        codec = TableCodec.fit(table, roles)
    show_columns(codec, table)
    if max_steps is None and max_minutes is None:
        max_minutes = 15.0
    model = TableModel(
        roles=roles or None,
        target=target,
        constraints=constraints or None,
        network=network or "mlp",  # type: ignore[arg-type]  # refused by the model if it is none of its own
        max_minutes=max_minutes,
        max_steps=max_steps,
        seed=seed,
    )
    train(model, table, output, resume=resume, overwrite=overwrite)
    if is_main():
        _report(model, output, data, parts)


def _parts(data: Path, output: Path) -> tuple[Path, Path]:
    """Where the rows to train on and the rows set aside go."""
    suffix = ending(data)
    return output.with_name(f"{output.stem}.train{suffix}"), output.with_name(f"{output.stem}.holdout{suffix}")


def _set_aside(table: "pa.Table", share: float, parts: tuple[Path, ...], seed: int, *, overwrite: bool) -> "pa.Table":
    """Split the rows at random, write both parts, and return the rows to train on."""
    import numpy as np

    order = np.random.default_rng(seed).permutation(table.num_rows)
    held_out = round(share * table.num_rows)
    train, holdout = (table.take(np.sort(rows)) for rows in (order[held_out:], order[:held_out]))
    if is_main():
        for path, part in zip(parts, (train, holdout), strict=True):
            write_table(path, part, overwrite=overwrite)
    say(f"training on {parts[0]} ({counted(train.num_rows, 'row')}), setting {parts[1]} aside ({held_out:,})")
    return train


def _report(model: "TableModel", output: Path, data: Path, parts: tuple[Path, ...]) -> None:
    """Say what the training did, where the model is, and what to do with it."""
    say_trained(model.training_run_, "nats a row", output)
    real, holdout = parts or (data, None)
    name, synthetic = shell(output), shell(output.with_name(f"{output.stem}-synthetic.csv"))
    held = f" --holdout {shell(holdout)}" if holdout else ""
    say("\nTry next:")
    say(f"  clarkia sample {name} -o {synthetic}")
    if condition := _example_condition(model):
        say(f"  clarkia sample {name} --where {shell(condition)}")
    say(f"  clarkia report {shell(real)} {synthetic}{held} -o {shell(output.with_suffix('.html'))}")


def _example_condition(model: "TableModel") -> str | None:
    """A condition on the target, or on the first column that has categories."""
    from ..codecs.conditions import Equal, render
    from ..codecs.table.category import CategoryCoding

    codec = model.codec_
    named = sorted(zip(codec.columns, codec.codings, strict=True), key=lambda pair: pair[0].name != model.target)
    for column, coding in named:
        own = column.name in model.rules_.schema.names  # and not made of others by a rule
        if own and isinstance(coding, CategoryCoding) and isinstance(value := coding.values[0].as_py(), str | bool):
            return render({column.name: Equal(value)})
    return None
