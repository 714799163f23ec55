"""Writing texts."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError
from .model import counting
from .outputs import check_output, write_text
from .signals import keeping
from .terminal import counted, say, size_of

if TYPE_CHECKING:
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
) -> None:
    """Write texts from a model; see `sample`."""
    if output is not None:
        if output.suffix.lower() not in (".txt", ".md", ".text"):
            raise DataError(f"cannot write texts to {output}: its name must end in .txt, .md or .text")
        check_output(output, overwrite=overwrite)
    count = number or 1
    evaluations = num_steps or fitted.codec_.length
    with keeping("nothing was written"), counting(fitted, "writing", count, evaluations, "text"):
        texts = fitted.sample(
            count,
            prefix=prompt,
            suffix=suffix,
            infill=infill,
            correction=correction,
            num_steps=num_steps,
            seed=seed,
        )
    if output is None:
        say(_RULE.join(texts))
        return
    write_text(output, _RULE.join(texts) + "\n", overwrite=overwrite)
    say(f"{counted(count, 'text')} in {output} ({size_of(output)})")
