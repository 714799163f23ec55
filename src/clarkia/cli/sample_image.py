"""Sampling pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import replacing
from ..errors import DataError
from ..shards import Shard
from .model import counting
from .options import pairs
from .outputs import check_output, table_writer
from .picture_rows import PICTURES_PER_WRITE, picture_name, picture_rows, picture_schema
from .signals import keeping
from .terminal import counted, say, size_of
from .wishes import particles_of

if TYPE_CHECKING:
    import numpy as np

    from ..models.image import ImageModel


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
    shard: Shard,
    asked: dict[str, Any],
) -> None:
    """Draw pictures from a model; see `sample`."""
    if output is None:
        raise DataError(
            "add -o grid.png for one picture of all, -o folder/ for a file each, or -o pictures.npy or .parquet"
        )
    ending = output.suffix.lower()
    if ending not in ("", ".png", ".npy", ".parquet"):
        raise DataError(f"cannot write pictures to {output}: give a .png, a .npy, or a folder; or a .parquet")
    _check(output, ending, overwrite=overwrite)
    told: dict[str, Any] = dict(pairs("--given", "NAME=VALUE", given))
    told |= {} if caption is None else {"caption": caption}
    if ending == ".parquet":
        picture_schema(told)  # refuses what has no place in it
    share = shard.share(number or 16)
    count = share.stop - share.start

    import numpy as np

    from ..models.image_parts import STEPS

    evaluations = (num_steps or STEPS) * (2 if guidance and told else 1) * particles_of(asked)
    batches = fitted.sample_batches(
        count, given=told, seed=seed, num_steps=num_steps, guidance_scale=guidance, start=share.start, **asked
    )
    with keeping(f"{output} was not written"), counting(fitted, "sampling", count, evaluations, "picture"):
        if ending == "":
            _write_folder(output, batches)
        elif ending == ".parquet":
            _write_rows(output, batches, share.start, told, overwrite=overwrite)
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
            with replacing(folder / picture_name(number), overwrite=True) as temporary:
                Image.fromarray(points).save(temporary, format="PNG")
            number += 1


def _write_rows(output: Path, batches: Any, first: int, asked: dict[str, str], *, overwrite: bool) -> None:
    schema = picture_schema(asked)
    with table_writer(output, schema, overwrite=overwrite, rows_per_write=PICTURES_PER_WRITE) as write:
        for batch in batches:
            write(picture_rows(batch, first, asked))
            first += len(batch)


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
