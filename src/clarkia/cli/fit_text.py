"""Fitting texts."""

from pathlib import Path
from typing import TYPE_CHECKING

from .errors import about
from .fitting import say_trained, train
from .terminal import counted, is_main, say, shell

if TYPE_CHECKING:
    from ..models.text import TextModel


def fit_text(
    data: Path,
    output: Path,
    *,
    tokens: str,
    length: int | None,
    documents: bool | None,
    companion: bool,
    samples: Path | None,
    max_minutes: float | None,
    max_steps: int | None,
    seed: int,
    resume: bool,
    overwrite: bool,
) -> None:
    """Learn a model from texts; see `fit`."""
    from ..models.text import TextModel

    model = TextModel(
        tokens=tokens,  # type: ignore[arg-type]  # one of the choices of the command line
        length=length,
        documents=documents,
        companion=companion,
        max_minutes=max_minutes if max_steps or max_minutes else 30.0,
        max_steps=max_steps,
        seed=seed,
    )
    with about(data):
        train(model, data, output, resume=resume, overwrite=overwrite, samples=samples)
    if is_main():
        _report(model, output)


def _report(model: "TextModel", output: Path) -> None:
    codec = model.codec_
    rows = "document" if codec.documents else "window"
    say(f"{counted(model.n_texts_, rows)} of {codec.length} tokens, {counted(codec.num_classes, 'different token')}")
    say_trained(model.training_run_, "nats a token", output)
    name = shell(output)
    say("\nTry next:")
    say(f"  clarkia sample {name} -n 3")
    say(f'  clarkia sample {name} --prompt "..."')
