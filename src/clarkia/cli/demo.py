"""clarkia demo: everything once, on a survey whose law is known."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Overwrite, Seed
from .outputs import check_output, write_table
from .terminal import counted, grid, say, shell, waiting

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

_HOLDOUT = 2_000  # households that the model does not see
_INCOMPLETE = 500  # of those, to be imputed
_HOLES = 0.2  # share of their cells that is emptied
_GIVEN = {"region": "Capital", "education": "master"}
_WRITTEN = (
    *("household.csv", "holdout.csv", "incomplete.csv", "household.clarkia", "household.clarkia.checkpoint"),
    *("synthetic.csv", "masters.csv", "imputed.csv", "scored.csv", "report.html", "report.json"),
)


def demo(
    folder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where everything goes; demo, or the first free demo-2, ...")
    ] = None,
    minutes: Annotated[float, typer.Option(metavar="M", help="Longest time to train.")] = 1.0,
    max_steps: Annotated[int | None, typer.Option(min=1, metavar="N", help="Most steps to train.")] = None,
    rows: Annotated[int, typer.Option("--rows", "-n", min=100, metavar="N", help="Households to train on.")] = 10_000,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Do everything once, on a survey whose law is known.

    Fits it, samples it with and without conditions, imputes, scores and reports. Each step is a command that you can
    type yourself, and the answers stand beside the exact ones.
    """
    folder = folder or _free_folder()
    folder.mkdir(parents=True, exist_ok=True)
    at = {name: folder / name for name in _WRITTEN}
    for path in at.values():
        check_output(path, overwrite=overwrite)
    at["household.clarkia.checkpoint"].unlink(missing_ok=True)
    holdout = _make_survey(at, rows, seed)
    steps = ["--max-steps", str(max_steps)] if max_steps else []
    common = ["--seed", str(seed), *(["--overwrite"] if overwrite else [])]

    def clarkia(verb: str, *arguments: str | Path) -> None:
        _run(verb, *map(str, arguments), *common)

    model, survey, condition = at["household.clarkia"], at["household.csv"], _condition()
    clarkia("fit", survey, "-o", model, "--target", "satisfaction", "--max-minutes", f"{minutes:g}", *steps)
    clarkia("sample", model, "-o", at["synthetic.csv"])
    clarkia("sample", model, "-o", at["masters.csv"], "-n", "2000", "--where", condition)
    _check_condition(at["masters.csv"], condition)
    clarkia("impute", model, at["incomplete.csv"], "-o", at["imputed.csv"])
    clarkia("score", model, at["holdout.csv"], "-o", at["scored.csv"], "--top", "5")
    _check_scores(holdout)
    page = ("-o", at["report.html"], "--json", at["report.json"])
    clarkia("report", survey, at["synthetic.csv"], "--holdout", at["holdout.csv"], "--target", "satisfaction", *page)
    _list(at)


def _free_folder() -> Path:
    """The first of demo, demo-2, demo-3, ... that is not there."""
    folder, number = Path("demo"), 1
    while folder.exists():
        number += 1
        folder = Path(f"demo-{number}")
    return folder


def _make_survey(at: dict[str, Path], rows: int, seed: int) -> "pd.DataFrame":
    """Write the rows to train on, the rows set aside, and some of these with holes; return those set aside."""
    with waiting("making the survey"):
        import numpy as np

        from ..datasets import household

        frame = household(rows + _HOLDOUT, seed)
        train, holdout = frame.iloc[:rows], frame.iloc[rows:]
        holes = np.random.default_rng(seed).random((_INCOMPLETE, frame.shape[1])) < _HOLES
        write_table(at["household.csv"], _table(train), overwrite=True)
        write_table(at["holdout.csv"], _table(holdout), overwrite=True)
        write_table(at["incomplete.csv"], _with_holes(_table(holdout.iloc[:_INCOMPLETE]), holes), overwrite=True)
    say(f"{counted(rows, 'household')} of a survey whose law is known, and {_HOLDOUT:,} that the model will not see")
    return holdout


def _table(frame: "pd.DataFrame") -> "pa.Table":
    """The survey as an Arrow table of plain columns, its days as days."""
    import pyarrow as pa

    table = pa.Table.from_pandas(frame, preserve_index=False)
    kinds = {"survey_date": pa.date32(), "education": pa.string()}
    return table.cast(pa.schema([(field.name, kinds.get(field.name, field.type)) for field in table.schema]))


def _with_holes(table: "pa.Table", holes: "NDArray[np.bool_]") -> "pa.Table":
    """The table without the cells where `holes` is true, (rows, columns)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = [pc.if_else(pa.array(hole), None, column) for hole, column in zip(holes.T, table.columns, strict=True)]
    return pa.table(columns, schema=table.schema)


def _condition() -> str:
    from ..codecs.conditions import Equal, render

    return render({name: Equal(value) for name, value in _GIVEN.items()})


def _run(verb: str, *arguments: str) -> None:
    """Print a command as it would be typed, and run it."""
    from .app import invoke

    say("\n$ clarkia " + " ".join(map(shell, (verb, *arguments))), "bold cyan")
    invoke([verb, *arguments])


def _check_condition(path: Path, condition: str) -> None:
    """Compare two means of the conditional sample with the law of the survey."""
    import pandas as pd

    from ..datasets import household_conditional

    sample = pd.read_csv(path)
    say(f"Means where {condition}:")
    means = [(name, sample[name].mean(), household_conditional(name, _GIVEN).mean) for name in ("size", "cars", "rent")]
    rows = [(name, f"{mean:.2f}", f"{exact:.2f}") for name, mean, exact in means]
    grid(["column", "sample", "law of the survey"], rows, right=[1, 2])


def _check_scores(holdout: "pd.DataFrame") -> None:
    """Say what the law of the survey gives the rows that were scored."""
    from ..datasets import household_log_prob

    say(f"The law of the survey itself gives these rows {household_log_prob(holdout).mean():.2f} nats on average.")


def _list(at: dict[str, Path]) -> None:
    say("\nEverything is in place:", "bold")
    meanings = {
        "household.csv": "the survey",
        "holdout.csv": "households the model did not see",
        "household.clarkia": "the model",
        "synthetic.csv": "new households",
        "masters.csv": "new households that meet the condition",
        "incomplete.csv": "households with holes",
        "imputed.csv": "the same, filled",
        "scored.csv": "households with their log-density",
        "report.html": "the report: open it in a browser",
        "report.json": "its figures",
    }
    width = max(len(str(at[name])) for name in meanings)
    for name, meaning in meanings.items():
        say(f"  {at[name]!s:<{width}}  {meaning}")
