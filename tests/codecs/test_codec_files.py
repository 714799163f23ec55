"""A codec goes into JSON and Arrow and comes back the same; what was altered is refused."""

import copy
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables_of_all_kinds import SETTINGS, category_column, decimal_column, real_column, tables, whole_column

from clarkia.codecs import TableCodec
from clarkia.errors import DataError


def over_the_wire(codec):
    """The parts as a file keeps them: JSON text and Arrow streams."""
    config, parts = codec.to_files()
    back = {}
    for name, table in parts.items():
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        back[name] = pa.ipc.open_stream(sink.getvalue()).read_all()
    return json.loads(json.dumps(config, allow_nan=False)), back


def assert_same(codec, other, table):
    assert codec.columns == other.columns
    assert codec.schema.equals(other.schema, check_metadata=True)
    assert codec.space == other.space
    state, again = (one.encode(table, np.random.default_rng(0)) for one in (codec, other))
    assert all(np.array_equal(state[name], again[name]) for name in state)
    assert str(codec.decode(state).to_pylist()) == str(other.decode(state).to_pylist())  # NaN is unlike NaN
    np.testing.assert_array_equal(codec.log_abs_det(state), other.log_abs_det(state))


@SETTINGS
@given(tables(whole_column, decimal_column, real_column, category_column))
def test_every_kind_of_column_comes_back(table):
    roles = {name: "integer" for name in table.column_names if pa.types.is_integer(table[name].type)}
    if table["column 3"].null_count < table.num_rows:
        roles["column 3"] = "categorical"
    codec = TableCodec.fit(table, roles, strict=False, groups=2)
    assert_same(codec, TableCodec.from_files(*over_the_wire(codec)), table)


def many():
    rng, n = np.random.default_rng(0), 3000
    sizes = pa.DictionaryArray.from_arrays(pa.array(rng.integers(0, 2, n), pa.int8()), ["S", "M", "L"], ordered=True)
    return pa.table(
        {
            "id": [f"X{i}" for i in range(n)],
            "unit": pa.array(["kg"] * n).dictionary_encode(),
            "x": np.where(rng.random(n) < 0.3, 0.0, rng.normal(size=n)),
            "k": rng.integers(0, 10**5, n),
            "bent": rng.lognormal(sigma=30, size=n),
            "city": [f"c{v}" for v in (rng.random(n) ** 3 * 900).astype(int)],
            "size": sizes,
            "gone": [1] * n,
        },
        metadata={"kept": "yes"},
    )


TABLE = many()
CODEC = TableCodec.fit(TABLE, {"gone": "drop"}, groups=3)
CONFIG, PARTS = over_the_wire(CODEC)


def test_keys_constants_rare_values_and_metadata_come_back():
    other = TableCodec.from_files(CONFIG, {**PARTS, "another table": pa.table({"a": [1]})})
    assert other.dropped == ("gone",)
    assert other.schema.metadata == {b"kept": b"yes"}
    assert_same(CODEC, other, TABLE)


def paths(value, prefix=()):
    """Every leaf of the JSON, by path."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    yield prefix
    for key, item in items:
        yield from paths(item, (*prefix, key))


LEAVES = list(paths(CONFIG))[1:]
WRONG = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [-1, 0, 1, 2, 3, 2**31, 2**62, -(2**63), 2**64, 10**30, 1e308, -1e-300, 0.5, "numeric", "x", [], {}, [0] * 9]
    ),
)


@SETTINGS
@given(st.sampled_from(LEAVES), WRONG)
def test_altered_json_raises_a_data_error_or_makes_a_codec_that_works(path, value):
    config = copy.deepcopy(CONFIG)
    place = config
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    survive(config, PARTS)


def survive(config, parts):
    """Load; what loads must encode and decode without any error but a DataError."""
    try:
        codec = TableCodec.from_files(config, parts)
        state = {name: np.zeros((5, *block.shape)) for name, block in codec.space.blocks.items()}
        decoded = codec.decode(state)
        codec.log_abs_det(state)
        codec.encode(decoded, np.random.default_rng(0))
    except DataError:
        return False
    return True


@SETTINGS
@given(st.data())
def test_removed_or_added_json_is_refused(data):
    config = copy.deepcopy(CONFIG)
    path = data.draw(st.sampled_from(LEAVES))
    place = config
    for key in path[:-1]:
        place = place[key]
    if isinstance(place, dict) and data.draw(st.booleans()):
        place["unknown"] = 1
    elif isinstance(place, dict):
        if path[-1] in ("format", "kind"):
            return  # what has one value only may be left out
        del place[path[-1]]
    else:
        place.append(place[-1])
    with pytest.raises(DataError, match="damaged"):
        TableCodec.from_files(config, PARTS)


@pytest.mark.parametrize("name", ["schema", "knots", "values", "rare", "dictionaries", "constants"])
def test_lost_or_altered_tables_are_refused(name):
    without = {key: table for key, table in PARTS.items() if key != name}
    with pytest.raises(DataError, match="damaged"):
        TableCodec.from_files(CONFIG, without)
    part = PARTS[name]
    others = [
        part.slice(0, max(part.num_rows - 1, 0)),
        part.rename_columns([f"{c}_" for c in part.column_names]),
        pa.table({"x": [1]}),
    ]
    for other in others[1:] if name == "schema" else others:
        with pytest.raises(DataError, match="damaged"):
            TableCodec.from_files(CONFIG, {**PARTS, name: other})


@pytest.mark.parametrize(
    ("column", "values", "complaint"),
    [
        ("x", [np.nan], "no distribution function"),
        ("x", [np.inf], "no distribution function"),
        ("x", [1e17], "no distribution function"),
        ("below", [0.9], "no distribution function"),
        ("above", [-0.1], "no distribution function"),
    ],
)
def test_knots_that_are_no_distribution_function_are_refused(column, values, complaint):
    knots = PARTS["knots"]
    cells = knots[column].to_numpy().copy()
    cells[2 : 2 + len(values)] = values
    altered = knots.set_column(knots.schema.get_field_index(column), column, pa.array(cells))
    with pytest.raises(DataError, match=complaint):
        TableCodec.from_files(CONFIG, {**PARTS, "knots": altered})


def test_repeated_or_missing_categories_are_refused():
    values = PARTS["values"]
    for cells in (["S", "S"], ["S", None], []):
        column = pa.array([cells], pa.large_list(pa.string()))
        place = values.column_names.index("column6")
        altered = values.set_column(place, "column6", column)
        with pytest.raises(DataError, match="damaged"):
            TableCodec.from_files(CONFIG, {**PARTS, "values": altered})


@pytest.mark.parametrize("config", [None, [], 3, "x", {}, {"columns": []}, {"format": 2, "columns": [], "dropped": []}])
def test_no_codec_at_all_is_refused(config):
    with pytest.raises(DataError, match="damaged"):
        TableCodec.from_files(config, PARTS)
