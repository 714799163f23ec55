"""Opening models and tables, and watching a model work."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .kinds import Kind
from .outputs import is_table
from .terminal import Counter, waiting

if TYPE_CHECKING:
    import pyarrow as pa

    from ..models.table import TableModel

SUFFIX = ".clarkia"
"""The usual ending of a model's name."""


def open_model(path: Path) -> Any:
    """Read a model file of any kind.

    Raises:
        DataError: the file is a table, missing, damaged, or made by a newer version.
    """
    if is_table(path):
        raise DataError(f"{path} is a table, not a model; give a model that clarkia fit made")
    with waiting(f"reading {path.name}"):
        from ..models import load

        return load(path)


def kind_of_model(model: Any) -> Kind:
    """What a model is one of."""
    return Kind(type(model).__name__.removesuffix("Model").lower())


def open_table_model(path: Path) -> "TableModel":
    """Read a model file of a table.

    Raises:
        DataError: as of `open_model`, or the model is of another kind.
    """
    model = open_model(path)
    if kind_of_model(model) is not Kind.table:
        raise DataError(f"{path} is a model of {kind_of_model(model)}s; this verb is for models of tables")
    return model


def read_rows(path: Path) -> "pa.Table":
    """Read a table file.

    Raises:
        DataError: the file cannot be read as a table.
    """
    with waiting(f"reading {path.name}"):
        from ..adapters import read_table

        return read_table(path)


def read_of_kind(fitted: Any, kind: Kind, data: Path) -> "tuple[Any, pa.Table]":
    """What a model of some kind is asked about, and a table with a row for each."""
    if kind is Kind.table:
        table = read_rows(data)
        return table, table
    import pyarrow as pa

    if kind is Kind.image:
        from ..models.image_data import gathered

        pictures = gathered(data).images
        names = pictures.names if hasattr(pictures, "names") else [str(number) for number in range(len(pictures))]
        return pictures, pa.table({"picture": list(names)})
    from ..codecs.text import text_source

    texts = list(text_source(data, fitted.codec_.documents).texts())
    return texts, pa.table({"text": texts})


def sampler_steps(model: "TableModel", num_steps: int | None) -> int:
    """The steps that the sampler takes, each one evaluation of the network."""
    from ..models.architecture import default_steps

    return num_steps or default_steps(model.codec_.space)


@contextmanager
def counting(model: Any, words: str, rows: int, evaluations: int, noun: str = "row") -> Iterator[None]:
    """Show a bar over rows that moves with every evaluation of the network.

    Args:
        model: the model at work.
        words: what it does.
        rows: how many rows it has to do.
        evaluations: of the network for each row, about.
        noun: what a row is.
    """
    done = 0.0
    with Counter(words, rows, noun) as counter:

        def evaluated(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
            batch = next(iter(inputs[0].values())) if isinstance(inputs[0], dict) else inputs[0]
            nonlocal done
            done += len(batch) / evaluations
            counter.add(len(batch) / evaluations)

        handle = model.denoiser_.register_forward_hook(evaluated)
        try:
            yield
            counter.add(max(rows - done, 0.0))  # rows that were whole already are never shown to the network
        finally:
            handle.remove()
