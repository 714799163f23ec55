"""Fitting pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import about
from .fitting import say_trained, train
from .terminal import counted, fail, is_main, listed, say, shell, waiting

if TYPE_CHECKING:
    from ..models.image import ImageModel


def fit_image(
    data: Path,
    output: Path,
    *,
    size: int | None,
    network: str | None,
    captions: Path | None,
    attributes: Path | None,
    strict: bool,
    samples: Path | None,
    max_minutes: float | None,
    max_steps: int | None,
    seed: int,
    resume: bool,
    overwrite: bool,
) -> None:
    """Learn a model from pictures; see `fit`."""
    with waiting(f"reading {data.name}"):
        from ..models.image import ImageModel
        from ..models.image_data import gathered

        with about(data):
            pictures = gathered(data, None, attributes, captions, strict=strict)
    _show(data, pictures)
    model = ImageModel(
        size=size,
        network=network or "unet",  # type: ignore[arg-type]  # refused by the model if it is none of its own
        max_minutes=max_minutes if max_steps or max_minutes else 30.0,
        max_steps=max_steps,
        seed=seed,
    )
    train(model, pictures, output, resume=resume, overwrite=overwrite, samples=samples)
    if is_main():
        _report(model, output)


def _show(data: Path, pictures: Any) -> None:
    said = [
        f"{name} ({listed(sorted({str(value) for value in values if value is not None}))})"
        for name, values in pictures.attributes.items()
    ]
    said += ["captions"] if pictures.captions is not None else []
    say(
        f"{data.name}: {counted(len(pictures), 'picture')}, "
        + (f"each with {' and '.join(said)}" if said else "nothing said of them")
    )
    if pictures.skipped:
        fail(
            f"{counted(len(pictures.skipped), 'file')} left out, the first because {pictures.skipped[0].reason}", "Note"
        )


def _report(model: "ImageModel", output: Path) -> None:
    say_trained(model.training_run_, "of loss", output)
    name, grid = shell(output), shell(output.with_name(f"{output.stem}-samples.png"))
    say("\nTry next:")
    say(f"  clarkia sample {name} -n 64 -o {grid}")
    for attribute, values in model.descriptions_.attributes.items():
        say(f"  clarkia sample {name} -n 16 --given {shell(f'{attribute}={values[0]}')} --guidance 1 -o {grid}")
        break
    if model.descriptions_.words:
        say(f'  clarkia sample {name} -n 16 --caption "..." --guidance 2 -o {grid}')
