"""The map between coordinates and residuals: monotone, invertible, with the density it says it has."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from tables_of_all_kinds import SETTINGS

from clarkia.codecs import TableCodec
from clarkia.codecs.table.quantile import RESIDUAL_LIMIT, fit_quantile_map

WIDE = 1e9


@st.composite
def samples(draw):
    """Distinct values with counts, and bounds near or far."""
    step = draw(st.integers(0, 1))
    cells = st.integers(-300, 300) if step else st.floats(-100, 100).map(lambda x: round(x, 3))
    values = np.array(sorted(set(draw(st.lists(cells, min_size=2, max_size=40)))), float)
    if len(values) < 2:
        values = np.array([0.0, 1.0])
    counts = np.array(draw(st.lists(st.integers(1, 30), min_size=len(values), max_size=len(values))))
    low = values[0] - draw(st.sampled_from([0.0, 5.0, WIDE]))
    high = values[-1] + step + draw(st.sampled_from([0.0, 5.0, WIDE]))
    gaps = np.setdiff1d(np.arange(values[0], values[-1]), values) if step else np.empty(0)
    holes = gaps[: draw(st.integers(0, 3))]
    return fit_quantile_map(
        values, counts, step=step, heavy=counts > 10, num_knots=10, low=low, high=high, holes=holes
    ), values, counts, step, holes  # fmt: skip


@SETTINGS
@given(samples(), st.integers(0, 2**31))
def test_decoding_is_monotone_within_bounds_and_skips_holes(sample, seed):
    curve, _, _, step, holes = sample
    z = np.sort(np.concatenate([np.random.default_rng(seed).standard_normal(500) * 2, [-np.inf, -9, 9, np.inf]]))
    x = curve.decode(z)
    assert (np.diff(x) >= -1e-12 * np.abs(x[1:])).all()
    assert x[0] >= curve.low
    assert x[-1] <= curve.high
    inside = np.floor(x[np.abs(z) < 8]) if step else x
    assert not np.isin(inside, holes).any()


@SETTINGS
@given(samples(), st.integers(0, 2**31))
def test_encoding_inverts_decoding(sample, seed):
    curve, values, _, step, holes = sample
    rng = np.random.default_rng(seed)
    x = np.concatenate(
        [
            np.repeat(values, 3) + step * rng.uniform(1e-6, 1 - 1e-6, 3 * len(values)),
            rng.uniform(values[0], values[-1], 50),
        ]
    )
    z = curve.encode(x, rng.random(len(x)))
    assert (np.abs(z) <= RESIDUAL_LIMIT).all()
    kept = ~np.isin(np.floor(x), holes) if step else np.ones(len(x), bool)
    np.testing.assert_allclose(curve.decode(z)[kept], x[kept], rtol=1e-9, atol=1e-9)
    back = curve.decode(rng.standard_normal(200))
    np.testing.assert_allclose(curve.decode(curve.encode(back, rng.random(200))), back, rtol=1e-9, atol=1e-9)


@SETTINGS
@given(samples())
def test_the_slope_is_the_density(sample):
    """exp(log slope) times the normal density is the mass of a segment over its length, and of a flat its mass."""
    curve, *_ = sample
    for index in range(len(curve.x) - 1):
        mass, length = curve.below[index + 1] - curve.below[index], curve.x[index + 1] - curve.x[index]
        if mass < 1e-9:
            continue
        lower = max(curve.z[index], -8.0)
        z = np.array([lower + 0.3 * (min(curve.z[index + 1], 8.0) - lower)])
        density = np.exp(curve.log_slope(z)) * norm.pdf(z)
        if length > 0:
            np.testing.assert_allclose(density, mass / length, rtol=1e-6)
        else:
            whole = curve.below[curve.x == curve.x[index]]
            np.testing.assert_allclose(density, whole[-1] - whole[0], rtol=1e-6)


@pytest.mark.parametrize("side", [-1, 1])
def test_a_tail_is_exponential(side):
    """Beyond the extremes the slope is that of the inverse map (central differences), and far values stay finite."""
    values = np.sort(np.random.default_rng(0).normal(size=400))
    curve = fit_quantile_map(
        values,
        np.ones(400, int),
        step=0,
        heavy=np.zeros(400, bool),
        num_knots=20,
        low=-WIDE,
        high=WIDE,
        holes=np.empty(0),
    )
    scale, end = (curve.left, curve.x[0]) if side < 0 else (curve.right, curve.x[-1])
    x = end + side * scale * np.linspace(0.1, 10, 30)
    z = curve.encode(x, np.zeros(30))
    np.testing.assert_allclose(curve.decode(z), x, rtol=1e-9)
    np.testing.assert_allclose(norm.sf(side * z), 0.5 / 400 * np.exp(-np.linspace(0.1, 10, 30)), rtol=1e-9)
    slope = 2e-5 / (curve.decode(z + 1e-5) - curve.decode(z - 1e-5))
    np.testing.assert_allclose(curve.log_slope(z), np.log(slope), atol=1e-4)
    assert curve.encode(np.array([side * 1e8]), np.zeros(1)) == side * RESIDUAL_LIMIT


def test_masses_of_an_integer_column_add_up():
    """Summed over all values, the probability that the codec gives a standard normal residual is one.

    The expectation over the dequantisation of exp(log slope + log phi) is each value's mass exactly, as the density is
    constant in a cell here; what the two tails hold is left out (half a row each).
    """
    rng = np.random.default_rng(1)
    n = 3000
    column = rng.geometric(0.004, n)
    table = pa.table({"x": column, "c": rng.choice(["a", "b"], n)})
    codec = TableCodec.fit(table)
    everything = pa.table({"x": np.arange(1, 20_000), "c": ["a"] * 19_999})
    draws = []
    for seed in range(20):
        state = codec.encode(everything, np.random.default_rng(seed))
        level = np.log(1.0)
        draws.append(np.exp(codec.log_abs_det(state) + norm.logpdf(state["numeric"]).sum(1) + level))
    assert abs(np.mean(draws, 0).sum() - 1) < 2e-3


def test_real_density_integrates_to_one():
    """Riemann sum over a fine lattice of the density of a bent and of a straight line."""
    rng = np.random.default_rng(2)
    for values, lattice in (
        (rng.normal(size=2000), np.linspace(-12, 12, 400_001)),
        (rng.lognormal(sigma=12, size=2000), np.exp(np.linspace(-80, 80, 400_001))),
    ):
        table = pa.table({"x": values, "c": rng.choice(["a", "b"], 2000)})
        codec = TableCodec.fit(table)
        assert (codec.column("x")[1].scale.bend is None) == (values.min() < 0)
        state = codec.encode(pa.table({"x": lattice, "c": ["a"] * len(lattice)}), rng)
        density = np.exp(codec.log_abs_det(state) + norm.logpdf(state["numeric"]).sum(1))
        assert abs(np.trapezoid(density, lattice) - 1) < 2e-3


def test_values_beyond_training_score_finite_and_low():
    rng = np.random.default_rng(3)
    n = 2000
    table = pa.table({"x": rng.normal(size=n), "k": rng.integers(0, 1000, n), "c": rng.choice(["a", "b"], n)})
    codec = TableCodec.fit(table)
    odd = pa.table({"x": [0.0, 5.0, 50.0, 1e299], "k": [500, 10**6, -(10**6), 500], "c": ["a"] * 4})
    state = codec.encode(odd, rng)
    score = codec.log_abs_det(state) + norm.logpdf(state["numeric"]).sum(1)
    assert np.isfinite(score).all()
    assert score[0] > score[1:].max() + 5
    assert codec.decode(state)["k"].to_pylist()[2] == 0  # a count stays on its side of zero
