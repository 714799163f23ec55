"""Writing texts."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..shards import Shard
from .model import counting
from .outputs import check_output, table_writer, write_text
from .signals import keeping
from .terminal import counted, say, size_of
from .wishes import particles_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..models.text import TextModel

_RULE = "\n" + 40 * "-" + "\n"


def sample_texts(
    fitted: "TextModel",
    output: Path | None,
    *,
    number: int | None,
    prompt: str | None,
    suffix: str | None,
    infill: str | None,
    correction: int,
    num_steps: int | None,
    seed: int,
    overwrite: bool,
    shard: Shard,
    asked: dict[str, Any],
) -> None:
    """Write texts from a model; see `sample`."""
    if output is not None:
        if output.suffix.lower() not in (".txt", ".md", ".text", ".parquet"):
            raise DataError(f"cannot write texts to {output}: its name must end in .txt, .md, .text or .parquet")
        check_output(output, overwrite=overwrite)
    share = shard.share(number or 1)
    count = share.stop - share.start
    batches = fitted.sample_batches(
        count,
        prefix=prompt,
        suffix=suffix,
        infill=infill,
        correction=correction,
        num_steps=num_steps,
        seed=seed,
        start=share.start,
        **asked,
    )
    steps = (num_steps or fitted.codec_.length) * particles_of(asked)
    with keeping("nothing was written"), counting(fitted, "writing", count, steps, "text"):
        if output is not None and output.suffix.lower() == ".parquet":
            _write_rows(output, batches, overwrite=overwrite)
        else:
            text = _RULE.join(text for batch in batches for text in batch)
            if output is None:
                say(text)
                return
            write_text(output, text + "\n", overwrite=overwrite)
    say(f"{counted(count, 'text')} in {output} ({size_of(output)})")


def _write_rows(output: Path, batches: "Iterator[list[str]]", *, overwrite: bool) -> None:
    import pyarrow as pa

    schema = pa.schema([pa.field("text", pa.string())])
    with table_writer(output, schema, overwrite=overwrite) as write:
        for texts in batches:
            write(pa.table({"text": texts}, schema=schema))
