"""Sampling pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import replacing
from ..errors import DataError
from .model import counting
from .options import pairs
from .outputs import check_output
from .signals import keeping
from .terminal import counted, say, size_of

if TYPE_CHECKING:
    import numpy as np

    from ..models.image import ImageModel

_DIGITS = 6  # of the numbers in the names of pictures


def sample_pictures(
    fitted: "ImageModel",
    output: Path | None,
    *,
    number: int | None,
    given: list[str] | None,
    caption: str | None,
    guidance: float,
    num_steps: int | None,
    seed: int,
    overwrite: bool,
) -> None:
    """Draw pictures from a model; see `sample`."""
    if output is None:
        raise DataError("add -o grid.png for one picture of all, -o folder/ for a file each, or -o pictures.npy")
    ending = output.suffix.lower()
    if ending not in ("", ".png", ".npy"):
        raise DataError(f"cannot write pictures to {output}: give a .png, a .npy, or a folder without an ending")
    _check(output, ending, overwrite=overwrite)
    asked: dict[str, Any] = dict(pairs("--given", "NAME=VALUE", given))
    asked |= {} if caption is None else {"caption": caption}
    count = number or 16

    import numpy as np

    from ..models.image_parts import STEPS

    evaluations = (num_steps or STEPS) * (2 if guidance and asked else 1)
    batches = fitted.sample_batches(count, given=asked, seed=seed, num_steps=num_steps, guidance_scale=guidance)
    with keeping(f"{output} was not written"), counting(fitted, "sampling", count, evaluations, "picture"):
        if ending == "":
            _write_folder(output, batches)
        else:
            _write_file(output, ending, np.concatenate(list(batches)), overwrite=overwrite)
    say(f"{counted(count, 'picture')} in {output}" + ("" if output.is_dir() else f" ({size_of(output)})"))


def _check(output: Path, ending: str, *, overwrite: bool) -> None:
    if ending:
        check_output(output, overwrite=overwrite)
    elif output.is_dir() and any(output.iterdir()) and not overwrite:
        raise DataError(f"the folder {output} is not empty; add --overwrite to write into it, or choose another name")
    elif output.exists() and not output.is_dir():
        raise DataError(f"{output} is a file; give the name of a folder, or one that ends in .png or .npy")


def _write_folder(folder: Path, batches: Any) -> None:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    for batch in batches:
        for points in batch:
            with replacing(folder / f"{number:0{_DIGITS}d}.png", overwrite=True) as temporary:
                Image.fromarray(points).save(temporary, format="PNG")
            number += 1


def _write_file(output: Path, ending: str, pictures: "np.ndarray", *, overwrite: bool) -> None:
    if ending == ".npy":
        import numpy as np

        with replacing(output, overwrite=overwrite) as temporary, open(temporary, "wb") as file:
            np.save(file, pictures, allow_pickle=False)
        return
    from ..codecs.image import write_grid

    # Small pictures are enlarged, so that a grid of them can be looked at.
    scale = max(1, 64 // pictures.shape[1])
    write_grid(pictures, output, scale=scale, layout="last" if pictures.ndim == 4 else None, overwrite=overwrite)
