"""clarkia bench: what a model of captioned pictures can do, as a table and a picture."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..atomic import replacing
from ..errors import DataError
from .bench_pictures import blend, edit, keep
from .model import open_model
from .options import ModelFile, NumSteps, Overwrite, Seed
from .outputs import check_output, write_text
from .signals import keeping
from .terminal import Counter, counted, say

if TYPE_CHECKING:
    from ..models.image import ImageModel

_FRESH = 1_000_000  # number of the first scene that is asked for; training goes through earlier ones


class Bench(StrEnum):
    """The benchmarks."""

    counting = "counting"
    matching = "matching"
    self = "self"
    pareto = "pareto"
    blend = "blend"
    filter = "filter"
    edit = "edit"


def bench(
    what: Annotated[
        Bench, typer.Argument(metavar="WHAT", help="counting, matching, self, pareto, blend, filter or edit.")
    ],
    model: ModelFile,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the table and picture go.")],
    number: Annotated[
        int | None,
        typer.Option(
            "--number",
            "-n",
            min=1,
            metavar="N",
            help="Pictures of each number, shape and colour (1), scenes to match of each level (50), captions of each "
            "level to draw (self 5, pareto 2), pictures of each rule and pair (blend 32) or setting (filter 128, "
            "edit 64).",
        ),
    ] = None,
    guidance: Annotated[
        list[float] | None,
        typer.Option(metavar="W", help="A scale of guidance; several, once for each. Self draws with the first."),
    ] = None,
    best_of: Annotated[
        list[int] | None, typer.Option(min=2, metavar="K", help="Keep the best of K pictures by the judge.")
    ] = None,
    steer: Annotated[
        list[int] | None, typer.Option(min=2, metavar="K", help="Counting: steer K particles by the judge.")
    ] = None,
    n_max: Annotated[int | None, typer.Option(min=1, max=15, metavar="N", help="Counting: the largest number.")] = None,
    other: Annotated[
        list[Path] | None, typer.Option(metavar="MODEL", help="Self: another model that draws and chooses too.")
    ] = None,
    pair: Annotated[
        list[str] | None, typer.Option(metavar="'A + B'", help="Blend: two captions; five pairs if not given.")
    ] = None,
    num_steps: NumSteps = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Measure what a model of captioned coloured shapes can do.

    **counting**: how often the number is right, number by number, and what other wordings, guidance, the best of
    several and steering change. **matching**: whether it tells true captions of real pictures from false ones.
    **self**: the same of pictures that it drew itself. **pareto**: what settings trade of consistency, diversity,
    realism and cost. **blend**: two captions in one picture, by several rules. **filter**: whose colour is taken, that
    of a picture that lends its structure or the caption's. **edit**: one thing changed by two networks, the rest kept.
    """
    table, picture = output / f"{what}.md", output / f"{what}.png"
    fitted = open_model(model)
    from ..bench.generators import check_captioned

    side = check_captioned(fitted)
    if output.exists() and not output.is_dir():
        raise DataError(f"{output} is a file; give the name of a folder")
    output.mkdir(parents=True, exist_ok=True)
    for path in (table, picture):
        check_output(path, overwrite=overwrite)
    run: dict[Bench, Callable[[], Any]] = {
        Bench.counting: lambda: _count(fitted, side, number or 1, n_max, guidance, best_of, steer, num_steps, seed),
        Bench.matching: lambda: _match(fitted, side, number or 50, seed),
        Bench.self: lambda: _self(
            fitted, side, model, other or [], number or 5, (guidance or [2.0])[0], num_steps, seed
        ),
        Bench.pareto: lambda: _trade(fitted, side, number or 2, guidance, best_of, num_steps, seed),
        Bench.blend: lambda: blend(fitted, pair or [], number or 32, (guidance or [3.0])[0], num_steps, seed),
        Bench.filter: lambda: keep(fitted, number or 128, (guidance or [1.0])[0], num_steps, seed),
        Bench.edit: lambda: edit(fitted, number or 64, (guidance or [1.0])[0], num_steps, seed),
    }
    with keeping("nothing was written"):
        report = run[what]()
    text = report.to_markdown()
    write_text(table, text, overwrite=overwrite)
    with replacing(picture, overwrite=overwrite) as temporary:
        report.plot().savefig(temporary, format="png", dpi=150)
    say(text)
    say(f"{table} and {picture}", "bold green")


def _count(
    fitted: "ImageModel",
    side: Any,
    per_cell: int,
    n_max: int | None,
    guidance: list[float] | None,
    best: list[int] | None,
    steer: list[int] | None,
    num_steps: int | None,
    seed: int,
) -> Any:
    from .. import bench
    from ..datasets.shapes import COLOURS, SHAPES, Judge
    from ..datasets.shapes.scenes import MAX_COUNT

    judge, known = Judge(side), set(fitted.descriptions_.words)
    plain = bench.drawn_by(fitted, num_steps=num_steps)
    most = min(n_max or MAX_COUNT[side], _largest(known, MAX_COUNT[side]))
    reward = bench.miscount(judge)
    remedies: dict[str, tuple[bench.Draw, float]] = {}
    for scale in guidance or ():
        remedies[f"guidance {scale:g}"] = bench.drawn_by(fitted, guidance_scale=scale, num_steps=num_steps), 2.0
    for k in best or ():
        remedies[f"best of {k}"] = bench.best_of(plain, k, reward), k
    for k in steer or ():
        remedies[f"steered {k}"] = bench.steered(fitted, k, reward, num_steps=num_steps), k
    total = (1 + len(bench.REFINEMENTS) + len(remedies)) * most * len(SHAPES) * len(COLOURS) * per_cell
    with Counter("counting", total, "picture") as counter:
        return bench.counting(
            *(plain, judge),
            n_max=most,
            per_cell=per_cell,
            refinements=bench.REFINEMENTS,
            vocabulary=known,
            remedies=remedies,
            seed=seed,
            progress=counter.add,
        )


def _largest(known: set[str], most: int) -> int:
    """The largest number up to which a model knows all words; it must know shapes and colours too."""
    from ..datasets.shapes.grammar import COLOURS, COUNTS, PLURALS, SHAPES

    missing = [word for word in (*COLOURS, *SHAPES, *PLURALS, COUNTS[1]) if word not in known]
    if missing:
        raise DataError(f"no caption in training had the word {missing[0]!r}; fit the model on captions that count")
    return next((n for n in range(2, most) if COUNTS[n] not in known), most)


def _match(fitted: "ImageModel", side: Any, number: int, seed: int) -> Any:
    import numpy as np

    from .. import bench
    from ..datasets.shapes import ColouredShapes

    captions, pictures = [], []
    for level, rows in _scenes(fitted, side, number).items():
        data = ColouredShapes(size=side, level=level)  # type: ignore[arg-type]
        captions += data.captions(rows)
        pictures.append(data.images(rows).numpy())
    with Counter("matching", 2 * len(captions), "question") as counter:
        return bench.matching(fitted, np.concatenate(pictures), captions, seed=seed, progress=counter.add)


def _self(
    fitted: "ImageModel",
    side: Any,
    path: Path,
    others: list[Path],
    number: int,
    guidance: float,
    num_steps: int | None,
    seed: int,
) -> Any:
    from .. import bench
    from ..bench.generators import check_captioned
    from ..datasets.shapes import Judge

    models = {path.stem: fitted}
    for other in others:
        if other.stem in models:
            raise DataError(f"two models are named {other.stem!r}; rename one of the files")
        models[other.stem] = open_model(other)
        if check_captioned(models[other.stem]) != side:
            raise DataError(f"{other} draws pictures of another size than {path}; compare models of one size")
    captions = _captions(fitted, side, number)
    for name, one in models.items():
        check_captioned(one, sorted({word for caption in captions for word in caption.split()}))
        say(f"{name} draws {counted(4 * len(captions), 'picture')}")
    with Counter("drawing and matching", 4 * len(captions) * len(models) * (1 + 2 * len(models)), "picture") as counter:
        return bench.self_bench(
            *(models, captions, Judge(side)),
            guidance_scale=guidance,
            num_steps=num_steps,
            seed=seed,
            progress=counter.add,
        )


def _trade(
    fitted: "ImageModel",
    side: Any,
    number: int,
    guidance: list[float] | None,
    best: list[int] | None,
    num_steps: int | None,
    seed: int,
) -> Any:
    from .. import bench
    from ..datasets.shapes import Judge

    captions = _captions(fitted, side, number)
    grid: dict[str, list[Any]] = {"guidance": guidance or [0.0, 0.5, 1.0, 2.0, 4.0]}
    grid |= {"best_of": [1, *best]} if best else {}
    grid |= {"steps": [num_steps]} if num_steps else {}
    settings = len(grid["guidance"]) * len(grid.get("best_of", [1]))
    with Counter("drawing", settings * len(captions) * 16 * 3, "picture") as counter:
        return bench.pareto_of_model(fitted, captions, Judge(side), grid, seed=seed, progress=counter.add)


def _captions(fitted: "ImageModel", side: Any, number: int) -> list[str]:
    """Captions of scenes of every level that the model knows the words of."""
    from ..datasets.shapes import ColouredShapes

    levels = _scenes(fitted, side, number).items()
    found = [text for level, rows in levels for text in ColouredShapes(size=side, level=level).captions(rows)]  # type: ignore[arg-type]
    return list(dict.fromkeys(found))


def _scenes(fitted: "ImageModel", side: Any, number: int) -> dict[str, list[int]]:
    """By level numbers of scenes whose captions the model knows the words of.

    Raises:
        DataError: there is no level of which it knows any.
    """
    from ..datasets.shapes import LEVELS, ColouredShapes

    known, longest, found = set(fitted.descriptions_.words), fitted.descriptions_.max_words, {}
    for level in LEVELS[:-1]:
        rows = range(_FRESH, _FRESH + 4 * number)
        texts = [text.split() for text in ColouredShapes(size=side, level=level).captions(rows)]
        told = [row for row, text in zip(rows, texts, strict=True) if known.issuperset(text) and len(text) <= longest]
        if 2 * len(told) >= len(rows):  # a level that it was not trained on may share some words
            found[level] = told[:number]
    if not found:
        raise DataError("the model knows the words of no captions of coloured shapes; fit one on those")
    return found
