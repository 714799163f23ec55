"""Strategies: Arrow columns of every kind that a table may hold, with nulls."""

import numpy as np
import pyarrow as pa
from hypothesis import settings
from hypothesis import strategies as st

SETTINGS = settings(deadline=None, derandomize=True, max_examples=60)

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)
EXACT_RANGE = 2**42  # whole numbers are exact while their range has no more steps than this


@st.composite
def whole_numbers(draw, kind, low, high):
    """Cells of an integer-like type whose range lies anywhere in the type but is not wider than is exact."""
    width = draw(st.sampled_from([3, 200, 10**6, EXACT_RANGE]))
    start = draw(st.integers(low, max(low, high - width)))
    cells = st.integers(start, min(start + width, high))
    return kind, cells


def temporal(kind, low, high):
    return whole_numbers(kind, low, high)


DAY = 86_400
INTEGERS = st.one_of(
    *[
        whole_numbers(pa.type_for_alias(f"{sign}int{bits}"), *limits)
        for bits in (8, 16, 32, 64)
        for sign, limits in (("", (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)), ("u", (0, 2**bits - 1)))
    ]
)
TIMES = st.one_of(
    temporal(pa.date32(), -100_000, 1_000_000),
    temporal(pa.timestamp("s"), -(10**10), 10**10),
    temporal(pa.timestamp("ms", "Europe/Zurich"), -(10**12), 10**13),
    temporal(pa.timestamp("us", "UTC"), -(10**15), 10**16),
    temporal(pa.timestamp("ns"), -(10**18), 9 * 10**18),
    temporal(pa.time32("s"), 0, DAY - 1),
    temporal(pa.time32("ms"), 0, DAY * 1000 - 1),
    temporal(pa.time64("us"), 0, DAY * 10**6 - 1),
    temporal(pa.duration("ms"), -(10**12), 10**12),
)


@st.composite
def whole_column(draw, rows):
    """A column of integers or times."""
    kind, cells = draw(st.one_of(INTEGERS, TIMES))
    values = draw(st.lists(st.one_of(st.none(), cells), min_size=rows, max_size=rows))
    return _array(values, kind)


def _array(values, kind):
    """Build an array from the integers that a type is stored as."""
    stored = {4: pa.int32(), 8: pa.int64()}
    if pa.types.is_integer(kind):
        return pa.array(values, kind)
    return pa.array(values, stored[kind.bit_width // 8]).cast(kind)


@st.composite
def decimal_column(draw, rows):
    scale = draw(st.integers(0, 6))
    cells = st.one_of(st.none(), st.decimals(-(10**6), 10**6, allow_nan=False, places=scale))
    return pa.array(draw(st.lists(cells, min_size=rows, max_size=rows)), pa.decimal128(20, scale))


@st.composite
def real_column(draw, rows):
    """Floats of any magnitude (missing as null or as NaN), or rounded ones."""
    kind, width = draw(st.sampled_from([(pa.float32(), 32), (pa.float64(), 64), (pa.float16(), 16)]))
    limit = {16: 6e4, 32: 1e37, 64: 1e300}[width]
    limit = draw(st.sampled_from([1.0, 1e4, limit]))
    cells = st.floats(
        -np.dtype(f"f{width // 8}").type(limit).item(), np.dtype(f"f{width // 8}").type(limit).item(), width=width
    )
    cells = draw(st.sampled_from([cells, cells.map(lambda x: round(x, 2))]))
    values = draw(st.lists(st.one_of(st.none(), cells), min_size=rows, max_size=rows))
    values = np.array([np.nan if v is None else v for v in values], f"f{width // 8}")
    return pa.array(values, kind, from_pandas=draw(st.booleans()))


@st.composite
def category_column(draw, rows):
    """Text, bytes, booleans, and dictionaries of them with unused entries and an order."""
    values = draw(st.lists(TEXT, min_size=1, max_size=6, unique=True))
    cells = draw(st.lists(st.one_of(st.none(), st.sampled_from(values)), min_size=rows, max_size=rows))
    form = draw(st.sampled_from(["string", "large", "view", "binary", "bool", "dictionary", "ordered"]))
    if form == "binary":
        return pa.array([None if c is None else c.encode() for c in cells], pa.binary())
    if form == "bool":
        return pa.array([None if c is None else bool(len(c) % 2) for c in cells], pa.bool_())
    if form in ("dictionary", "ordered"):
        indices = pa.array(
            [None if c is None else values.index(c) for c in cells], draw(st.sampled_from([pa.int8(), pa.int32()]))
        )
        return pa.DictionaryArray.from_arrays(indices, pa.array(values), ordered=form == "ordered")
    return pa.array(cells, {"string": pa.string(), "large": pa.large_string(), "view": pa.string_view()}[form])


@st.composite
def tables(draw, *columns, min_rows=2, max_rows=60):
    """A table of an anchor that varies and one column for each strategy."""
    rows = draw(st.integers(min_rows, max_rows))
    arrays = {"anchor": pa.array([i % 2 == 0 for i in range(rows)])}
    for index, column in enumerate(columns):
        arrays[f"column {index}"] = draw(column(rows))
    return pa.table(arrays)
