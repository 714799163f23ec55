"""What was understood of a table's columns, as a short table on the terminal."""

from typing import TYPE_CHECKING

from .rows import cell_text
from .terminal import grid, listed

if TYPE_CHECKING:
    import pyarrow as pa

    from ..codecs import Column, TableCodec
    from ..codecs.table.category import CategoryCoding
    from ..codecs.table.codec import Coding
    from ..codecs.table.numeric import NumericCoding

_VALUES = 3  # named of a categorical column


def show_columns(codec: "TableCodec", table: "pa.Table | None" = None) -> None:
    """Print the name, role, coding and values of every column, and the share of missing cells.

    Args:
        codec: what was understood.
        table: the rows, for the share of missing cells; without them only whether there were any is known.
    """
    rows = [
        (column.name, column.role, _coding(coding), _values(coding), _missing(column, table))
        for column, coding in zip(codec.columns, codec.codings, strict=True)
    ]
    rows += [(name, "drop", "left out", "", "") for name in codec.dropped]
    grid(["column", "role", "coding", "values", "missing"], rows, right=[4])


def _coding(coding: "Coding") -> str:
    """How a column is coded, in a few words."""
    from ..codecs.table.category import CategoryCoding
    from ..codecs.table.fixed import ConstantCoding, KeyCoding

    if isinstance(coding, ConstantCoding):
        return "replayed"
    if isinstance(coding, KeyCoding):
        return "made afresh"
    if isinstance(coding, CategoryCoding):
        rare = f" and {len(coding.rare_values):,} rare" if coding.rare is not None else ""
        return f"{len(coding.values):,} categories{rare}"
    single = len(coding.single_levels)
    if not coding.groups:
        return f"{single:,} values"
    return f"continuous and {single:,} frequent" if single else "continuous"


def _values(coding: "Coding") -> str:
    """The categories, or the least and the greatest number."""
    from ..codecs.table.category import CategoryCoding
    from ..codecs.table.fixed import ConstantCoding, KeyCoding

    if isinstance(coding, ConstantCoding):
        return cell_text(coding.value[0].as_py())
    if isinstance(coding, KeyCoding):
        return f"{cell_text(coding.decode(1, 0)[0].as_py())} …"
    if isinstance(coding, CategoryCoding):
        return _categories(coding)
    return _range(coding)


def _categories(coding: "CategoryCoding") -> str:
    count = len(coding.values) + len(coding.rare_values)
    names = [cell_text(value) for value in coding.values.slice(0, _VALUES).to_pylist()]
    return listed([*names, *[""] * (count - len(names))], _VALUES)


def _range(coding: "NumericCoding") -> str:
    import numpy as np

    from ..codecs.table.scale import Grid

    ends = [end for group in coding.groups for end in (group.x[0], np.nextafter(group.x[-1], -np.inf))]
    coordinates = np.array([*coding.single_values, *ends])
    extremes, scale = np.array([coordinates.min(), coordinates.max()]), coding.scale
    if isinstance(scale, Grid):  # whose groups reach up to the next integer
        cells = scale.cells(np.floor(extremes).astype(np.int64), coding.kind, None, nan=False)
    else:
        cells = scale.cells(extremes, coding.kind, None, nan=False)
    low, high = cells.to_pylist()
    return f"{cell_text(low)} … {cell_text(high)}"


def _missing(column: "Column", table: "pa.Table | None") -> str:
    if table is None:
        return "yes" if column.missing is not None else ""
    from ..codecs.table.arrow import is_missing, one_chunk

    share = is_missing(one_chunk(table.column(column.name))).mean() if table.num_rows else 0.0
    return "" if share == 0 else "< 0.1 %" if share < 0.001 else f"{100 * share:.1f} %"
