"""Sampling rows."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..shards import Shard
from .model import counting, sampler_steps
from .options import pairs
from .outputs import check_table_output, table_writer
from .rows import show_rows
from .signals import keeping
from .terminal import counted, say, size_of, waiting
from .wishes import particles_of

if TYPE_CHECKING:
    from ..models.table import TableModel

_SHOWN = 10  # rows, where there is no output file


def sample_rows(
    fitted: "TableModel",
    output: Path | None,
    *,
    number: int | None,
    given: list[str] | None,
    where: str | None,
    complete: bool,
    num_steps: int | None,
    seed: int,
    overwrite: bool,
    shard: Shard,
    asked: dict[str, Any],
) -> None:
    """Draw rows from a model; see `sample`."""
    if output is not None:
        check_table_output(output, overwrite=overwrite)
    if where is not None and not where.strip():
        raise DataError("--where is empty; write conditions such as age >= 65, or leave it out")
    values = {name: value or None for name, value in pairs("--given", "COLUMN=VALUE", given).items()}
    share = shard.share(number or (fitted.n_rows_ if output else _SHOWN))
    count = share.stop - share.start
    with waiting("asking"):  # a reward may need some rows to find its unit
        batches = fitted.sample_batches(
            count,
            given=values or None,
            where=where,
            complete=complete,
            seed=seed,
            num_steps=num_steps,
            start=share.start,
            **asked,
        )
    steps = sampler_steps(fitted, num_steps) * particles_of(asked)
    if output is None:
        import pyarrow as pa

        with counting(fitted, "sampling", count, steps):
            drawn = pa.concat_tables(batches)
        show_rows(drawn, limit=count)
        return
    with (
        keeping(f"{output} was not written"),
        counting(fitted, "sampling", count, steps),
        table_writer(output, fitted.rules_.schema, overwrite=overwrite) as write,
    ):
        for batch in batches:
            write(batch)
    say(f"{counted(count, 'row')} in {output} ({size_of(output)})")
