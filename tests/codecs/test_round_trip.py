"""decode(encode(table)) is the table, for every kind of column, and the schema comes back as it went in."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from tables_of_all_kinds import SETTINGS, category_column, decimal_column, real_column, tables, whole_column

from clarkia.codecs import CodingOptions, TableCodec

RNG = np.random.default_rng


def through(table, **options):
    """Encode and decode a table by a codec fitted on it; all-null columns and keys are declared away."""
    roles = options.pop("roles", {})
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_integer(column.type):
            roles.setdefault(name, "integer")
    codec = TableCodec.fit(table, roles, strict=False, **options)
    state = codec.encode(table, RNG(0))
    return codec, state, codec.decode(state)


def missing(column):
    return np.asarray(column.is_null(nan_is_null=True))


def assert_close(found, expected, relative=1e-6):
    """Real columns agree to a relative 1e-6 (zero exactly), missing cells exactly."""
    assert found.type == expected.type
    assert found.null_count in (expected.null_count, 0, len(expected))
    np.testing.assert_array_equal(missing(found), missing(expected))
    keep = ~missing(expected)
    x = expected.cast(pa.float64()).to_numpy()[keep]
    y = found.cast(pa.float64()).to_numpy()[keep]
    rounding = {pa.float16(): 1e-3, pa.float32(): 1e-6}.get(expected.type, relative)
    assert (np.abs(x - y) <= rounding * np.abs(x) + 5e-324).all()


@SETTINGS
@given(tables(whole_column, whole_column))
def test_whole_numbers_and_times_are_exact(table):
    _, _, decoded = through(table)
    assert decoded.equals(table, check_metadata=True)


@SETTINGS
@given(tables(decimal_column, category_column, category_column))
def test_decimals_and_categories_are_exact(table):
    categories = dict.fromkeys(table.column_names[2:], "categorical")
    keep = {name: role for name, role in categories.items() if table[name].null_count < table.num_rows}
    _, _, decoded = through(table, roles=keep)
    assert decoded.schema.equals(table.schema)
    assert decoded.to_pylist() == table.to_pylist()
    for name in table.column_names:
        if pa.types.is_dictionary(table[name].type):
            assert decoded[name].chunk(0).dictionary.equals(table[name].chunk(0).dictionary)


@SETTINGS
@given(tables(real_column, real_column))
def test_real_numbers_are_close(table):
    _, _, decoded = through(table)
    for name in table.column_names[1:]:
        assert_close(decoded[name], table[name])


@pytest.mark.parametrize("groups", [1, 3, 16])
def test_every_kind_at_once_on_many_rows(groups):
    """Large enough for levels, atoms, flats, groups, a rare bucket-free text column and a time zone."""
    rng, n = RNG(1), 4000
    table = pa.table(
        {
            "count": pa.array(rng.poisson(3, n), pa.int16()),
            "wide": pa.array(2**62 + rng.integers(0, 10**9, n)),
            "unsigned": pa.array(rng.integers(2**63, 2**63 + 10**6, n, dtype=np.uint64)),
            "amount": pa.array(np.where(rng.random(n) < 0.4, 0.0, rng.lognormal(size=n).round(2))),
            "steps": pa.array(rng.choice([0.1, 0.25, 1 / 3], n)),
            "stamp": pa.array(rng.integers(1_600_000_000, 1_700_000_000, n) * 10**9, pa.timestamp("ns", "Asia/Tokyo")),
            "micro": pa.array(rng.integers(0, 10**14, n), pa.timestamp("us")),
            "price": pa.array(rng.integers(0, 10**6, n)).cast(pa.decimal128(21, 2)).cast(pa.decimal128(12, 2)),
            "text": pa.array(rng.choice(["", "a", "ünï, \"ç\"\n"], n)).dictionary_encode(),
            "holes": pa.array(rng.integers(0, 500, n), mask=rng.random(n) < 0.3),
        }
    )  # fmt: skip
    codec, state, decoded = through(table, groups=groups)
    assert decoded.equals(table)
    assert np.isfinite(state["numeric"]).all()
    assert codec.column("steps")[0].residual is None


def test_repeated_reals_are_bit_exact_and_others_never_leave_verbatim():
    """Values on 40 rows or more come back as they are; decoded fresh residuals hit no unrepeated value."""
    rng, n = RNG(2), 3000
    unique = rng.normal(size=n)
    values = np.where(rng.random(n) < 0.5, unique, rng.choice([np.pi, np.e, -np.sqrt(2)], n))
    table = pa.table({"x": values, "y": rng.choice(["a", "b"], n)})
    codec, state, decoded = through(table)
    repeated = np.isin(values, [np.pi, np.e, -np.sqrt(2)])
    np.testing.assert_array_equal(decoded["x"].to_numpy()[repeated], values[repeated])
    state["numeric"] = rng.standard_normal(state["numeric"].shape)
    fresh = codec.decode(state)["x"].to_numpy()[~repeated]
    assert not np.isin(fresh, values).any()


@SETTINGS
@given(tables(real_column, whole_column, category_column, max_rows=30))
def test_any_state_decodes_to_valid_cells(table):
    roles = {"column 2": "categorical"} if table["column 2"].null_count < table.num_rows else {}
    codec, state, _ = through(table, roles=roles)
    rng, n = RNG(3), 200
    for name, block in codec.space.blocks.items():
        if name == "numeric":
            state[name] = rng.standard_normal((n, *block.shape)) * 10
            state[name][:3] = np.array([np.inf, -np.inf, 1e300])[:, None]
        else:
            state[name] = (rng.random((n, *block.shape)) * np.array(block.num_classes)).astype(int)
    decoded = codec.decode(state)
    decoded.validate(full=True)
    assert decoded.schema.equals(table.schema)
    for name in table.column_names:
        if pa.types.is_floating(table[name].type):
            numbers = decoded[name].cast(pa.float64()).to_numpy()
            assert not np.isinf(numbers).any()
    # what is decoded is encoded again: it lies on the grid, within the limits, in the categories
    again = codec.encode(decoded, rng)
    codec.space.check({k: __import__("torch").from_numpy(v) for k, v in again.items()})


def test_narrow_classes_and_missing_places():
    """Compact levels hold the same classes; live residuals are those of groups; missing cells are drawn dummies."""
    rng, n = RNG(4), 2000
    table = pa.table(
        {
            "x": pa.array(np.where(rng.random(n) < 0.3, 0.0, rng.normal(size=n)), mask=rng.random(n) < 0.2),
            "c": rng.choice(["a", "b"], n),
        }
    )
    codec = TableCodec.fit(table)
    state, compact = codec.encode(table, RNG(0)), codec.encode(table, RNG(0), dtype=np.int16)
    assert compact["levels"].dtype == np.int16
    np.testing.assert_array_equal(state["levels"], compact["levels"])
    column = codec.columns[0]
    assert column.missing == 2 == codec.missing_class("x")
    assert column.num_levels == 3
    levels, live = state["levels"][:, column.level[1]], codec.live(state)[:, 0]
    np.testing.assert_array_equal(levels == 2, missing(table["x"]))
    group = codec.codings[0].group_levels[0]
    np.testing.assert_array_equal(live, levels == group)
    assert np.ptp(np.histogram(state["numeric"][~live, 0], 4, (-1, 1))[0]) > 0  # drawn, not constant
    observed = codec.observed(table)
    np.testing.assert_array_equal(observed["levels"][:, column.level[1]], ~missing(table["x"]))
    np.testing.assert_array_equal(observed["numeric"][:, 0], live)


def test_dtype_too_narrow_is_refused():
    table = pa.table({"c": [str(i % 200) for i in range(4000)], "d": [i % 2 for i in range(4000)]})
    codec = TableCodec.fit(table, {"c": "categorical"})
    with pytest.raises(ValueError, match="int8 does not hold 200 classes"):
        codec.encode(table, RNG(0), dtype=np.int8)


def test_a_residual_is_standard_normal():
    """Kolmogorov-Smirnov on 20,000 rows of each shape, false alarm 1e-4 each (seed fixed)."""
    from scipy.stats import kstest

    rng, n = RNG(5), 20_000
    table = pa.table(
        {
            "heavy": rng.standard_cauchy(n),
            "bounded": rng.beta(0.5, 0.5, n).round(3),
            "ties": rng.geometric(0.004, n),
            "days": pa.array(rng.integers(0, 5000, n).astype(np.int32)).cast(pa.date32()),
            "mixture": np.concatenate([rng.normal(size=n // 2), 1e6 + rng.normal(size=n // 2)]),
        }
    )
    codec = TableCodec.fit(table)
    state = codec.encode(table, rng)
    assert state["numeric"].shape == (n, 5)
    live = codec.live(state)
    for place in range(5):
        z = state["numeric"][live[:, place], place]
        assert kstest(z, "norm").pvalue > 1e-4, codec.columns[place].name


def test_rare_values_share_a_bucket_and_are_drawn_by_frequency():
    """10,000 levels: at most 1,000 are kept; the bucket's draws follow training (chi-square, false alarm 1e-4)."""
    from scipy.stats import chisquare

    rng, n = RNG(6), 60_000
    codes = (rng.random(n) ** 3 * 10_000).astype(int)
    table = pa.table({"city": [f"city {i}" for i in codes], "flag": rng.random(n) < 0.5})
    codec = TableCodec.fit(table)
    column, coding = codec.column("city")
    assert (column.level[0], column.num_levels, coding.rare) == ("wide", 1001, 1000)
    state = codec.encode(table, rng)
    decoded = codec.decode(state, uniforms=rng.random((n, 2)))
    kept = state["wide"][:, 0] != coding.rare
    assert decoded.filter(pa.array(kept)).equals(table.filter(pa.array(kept)))
    drawn = decoded["city"].filter(pa.array(~kept)).to_pylist()
    names = coding.rare_values.to_pylist()
    counts = dict(zip(names, coding.rare_counts, strict=True))
    assert set(drawn) <= set(names)
    bins = np.array([int(name.split()[1]) % 20 for name in names])
    expected = np.bincount(bins, coding.rare_counts, 20)
    found = np.bincount([int(name.split()[1]) % 20 for name in drawn], minlength=20)
    assert sum(counts.values()) == (~kept).sum()
    assert chisquare(found, expected * found.sum() / expected.sum()).pvalue > 1e-4
    assert codec.decode(state).equals(codec.decode(state))  # without uniforms the stream is fixed


def test_keys_are_fresh_and_unique():
    n = 300
    uuids = [f"{i:08x}-0000-4000-8000-{i:012x}" for i in range(n)]
    table = pa.table(
        {
            "id": pa.array(range(100, 100 + n), pa.int32()),
            "code": [f"AB{i:05d}" for i in range(n)],
            "uuid": uuids,
            "mail": [f"{chr(97 + i % 26)}{i}@x.org" for i in range(n)],
            "y": [i % 2 for i in range(n)],
        }
    )
    codec, state, first = through(table, roles={"id": "key"})
    assert [column.role for column in codec.columns] == ["key"] * 4 + ["integer"]
    second = codec.decode(state, first_row=n)
    for name in table.column_names[:4]:
        old, new = table[name].to_pylist(), first[name].to_pylist() + second[name].to_pylist()
        assert len(set(new)) == 2 * n
        assert not set(old) & set(new)
    assert first["id"][0].as_py() == 400
    assert first["code"][0].as_py() == "AB00300"
    assert len(first["uuid"][0].as_py()) == 36


def test_keys_of_a_narrow_type_run_out():
    table = pa.table({"id": pa.array(range(100), pa.int8()), "y": [i % 2 for i in range(100)]})
    codec = TableCodec.fit(table)
    state = codec.encode(table, RNG(0))
    with pytest.raises(ValueError, match="run out"):
        codec.decode(state)


def test_constants_are_replayed_and_dropped_columns_stay_away():
    table = pa.table(
        {"unit": ["kg"] * 10, "note": ["x"] * 10, "y": list(range(10)), "none": pa.nulls(10, pa.float32())}
    )
    codec = TableCodec.fit(table, {"note": "drop", "y": "integer"}, strict=False)
    decoded = codec.decode(codec.encode(table, RNG(0)))
    assert codec.dropped == ("note",)
    assert decoded.equals(table.drop_columns(["note"]))


def test_more_groups_refine_and_keep_the_law():
    rng, n = RNG(7), 5000
    table = pa.table({"x": rng.normal(size=n), "c": rng.integers(0, 3, n)})
    for groups, shares in ((1, [1]), (4, [1 / 4] * 4), (8, [1 / 64, 1 / 64, 1 / 32, 1 / 16] + [1 / 8] * 3)):
        codec = TableCodec.fit(table, groups={"x": groups})
        column, coding = codec.column("x")
        levels = codec.encode(table, rng)["levels"][:, 0] if groups > 1 else np.zeros(n, int)
        assert column.num_levels == len(coding.groups)
        found = np.bincount(levels, minlength=column.num_levels) / n
        shares = shares + shares[::-1] if groups == 8 else shares  # the outermost groups are cut, on both sides
        np.testing.assert_allclose(found, shares, atol=2 / n)
        assert (np.diff([group.x[0] for group in coding.groups]) > 0).all()


def test_a_group_never_keeps_a_lone_real_value():
    """A value on one row between two heavy ones shares its neighbour's group."""
    values = np.concatenate([np.repeat(1.5, 30), [2.123456789], np.repeat(np.pi, 30), np.linspace(4, 5, 200) ** 1.1])
    options = CodingOptions(max_levels=2, atom_share=0.5)
    table = pa.table({"x": values, "c": np.arange(len(values)) % 2})
    codec = TableCodec.fit(table, {"c": "categorical"}, groups=64, options=options)
    assert 2.123456789 not in codec.column("x")[1].single_values
