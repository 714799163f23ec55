"""Stored features: quantisers and coder against the theory of both, and files that are not what they claim."""

import math
import struct
import zlib

import numpy as np
import pytest
import torch
from scipy.stats import norm

from clarkia.measures import representations as r
from clarkia.measures.representations import range_coder
from clarkia.measures.representations.quantisers import fit_quantiser, step_quantiser
from clarkia.random import generator, randn

NORMAL = norm.ppf((np.arange(400_000) + 0.5) / 400_000)  # quantiles in the middle of equal shares: a normal law


def entropy_bits(codes):
    p = np.bincount(codes.ravel()) / codes.size
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())


@pytest.mark.parametrize("step", [0.1, 0.25, 0.5, 0.9])
def test_rounding_error_is_a_twelfth_of_the_squared_step(step):
    quantiser = step_quantiser(step, -8.0, 8.0)
    error = ((quantiser.decode(quantiser.encode(NORMAL)) - NORMAL) ** 2).mean()
    assert error == pytest.approx(step**2 / 12, rel=0.01)


def test_truncating_in_place_of_rounding_costs_four_times_as_much():
    """What released code does: four times the error, and a bias of half a step."""
    step = 0.1
    cut = np.floor(NORMAL / step) * step
    assert ((cut - NORMAL) ** 2).mean() / (step**2 / 12) == pytest.approx(4.00, abs=0.01)
    assert (cut - NORMAL).mean() == pytest.approx(-step / 2, rel=0.01)


@pytest.mark.parametrize(
    ("bits", "distortion", "entropy"),
    [(1, 0.36338, 1.000), (2, 0.11748, 1.911), (3, 0.03455, 2.825), (4, 0.00950, 3.765)],
)
def test_lloyds_quantiser_of_a_normal_law(bits, distortion, entropy):
    quantiser = fit_quantiser(NORMAL, "lloyd", bits, -9.0, 9.0)
    codes = quantiser.encode(NORMAL)
    assert ((quantiser.decode(codes) - NORMAL) ** 2).mean() == pytest.approx(distortion, abs=2e-5)
    assert entropy_bits(codes) == pytest.approx(entropy, abs=1e-3)
    # every value goes to the nearest level
    nearest = np.abs(NORMAL[::1000, None] - quantiser.levels).argmin(1)
    assert (codes[::1000] == nearest).all()


def test_equal_shares():
    quantiser = fit_quantiser(NORMAL, "quantile", 3, -9.0, 9.0)
    counts = np.bincount(quantiser.encode(NORMAL))
    assert counts.tolist() == [50_000] * 8
    assert quantiser.levels[0] == pytest.approx(-norm.pdf(norm.ppf(1 / 8)) * 8, abs=1e-3)


def test_the_rate_of_a_uniform_quantiser_of_a_normal_law():
    """Step 0.5: 3.064 bits, error 0.02083, 0.27 bits above what any code needs (in the limit 0.2546)."""
    edges = (np.arange(-40, 41) - 0.5) * 0.5
    p = np.diff(norm.cdf(edges))
    p = p[p > 0]
    rate = float(-(p * np.log2(p)).sum())
    assert rate == pytest.approx(3.064, abs=3e-3)
    x = randn((1000, 300), generator(0))
    data = r.FeatureCodec(step=0.5, truncate=(-8.0, 8.0)).encode(x)
    back = r.decode_features(data)
    error = float((back - x).square().mean())
    assert r.bits_per_value(data, x) == pytest.approx(rate, rel=0.01)
    assert error == pytest.approx(0.02083, rel=0.01)
    assert rate - r.gaussian_rate(1 / 48) == pytest.approx(0.27, abs=0.01)
    assert 0.5 * math.log2(2 * math.pi * math.e / 12) == pytest.approx(0.2546, abs=1e-4)


@pytest.mark.parametrize("count", [1, 5, 9000, 100_000])
def test_the_coder_gives_back_what_it_took_at_the_entropy(count):
    rng = np.random.default_rng(count)
    symbols = np.minimum(rng.geometric(0.3, count), 40).astype(np.uint16)
    groups = rng.integers(0, 3, count).astype(np.uint8)
    symbols[groups == 1] = 7  # a group of one symbol costs nothing
    counts = np.zeros((3, 50), np.int64)
    np.add.at(counts, (groups, symbols), 1)
    table = range_coder.shares(counts)
    assert (table.sum(1) == 1 << 16).all()
    assert ((table > 0) >= (counts > 0)).all()
    states, words = range_coder.encode(symbols, groups, table)
    assert (range_coder.decode(states, words, groups, table) == symbols).all()
    if count == 100_000:
        bits = sum(entropy_bits(symbols[groups == g]) * (groups == g).sum() for g in range(3))
        assert 8 * (states.nbytes + words.nbytes) == pytest.approx(bits, rel=0.01)
        assert 8 * (states.nbytes + words.nbytes) > bits


def test_many_rare_symbols_keep_a_share():
    counts = np.concatenate([[10**9], np.ones(4000, np.int64)])[None]
    table = range_coder.shares(counts)
    assert table.sum() == 1 << 16
    assert table[0, 1:].min() == 1
    even = range_coder.shares(np.ones((1, 3), np.int64))
    assert sorted(even[0].tolist()) == [21845, 21845, 21846]


@pytest.mark.parametrize("kind", ["uniform", "lloyd", "quantile"])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_decoded_features_are_the_quantised_ones(kind, bits):
    x = randn((20, 6, 5, 5), generator(1))
    codec = r.FeatureCodec(kind=kind, bits=bits, groups=3, truncate=(-2.5, 2.5))
    back = r.decode_features(codec.encode(x))
    assert back.shape == x.shape
    assert len(back[:, :2].unique()) <= 2**bits
    for pair in (slice(0, 2), slice(2, 4), slice(4, 6)):  # six channels in three groups
        values = x[:, pair].double().numpy()
        quantiser = fit_quantiser(values.clip(-2.5, 2.5), kind, bits, -2.5, 2.5)
        np.testing.assert_allclose(back[:, pair].numpy(), quantiser.decode(quantiser.encode(values)), atol=1e-6)
    assert torch.equal(r.decode_features(codec.encode(back.clone())), back) or kind != "uniform"


def test_groups_of_channels_of_different_laws_save_bits():
    x = randn((2000, 8), generator(2)) * torch.tensor([0.05] * 4 + [1.0] * 4)
    sizes = [r.bits_per_value(r.FeatureCodec(step=0.05, groups=g).encode(x), x) for g in (1, 2)]
    assert sizes[1] < sizes[0] - 0.5


@pytest.mark.parametrize("kind", ["uniform", "lloyd", "quantile"])
def test_quiet_channels_keep_their_levels(kind):
    """In a group of their own, channels a twentieth as loud have a twentieth of the error, squared."""
    x = randn((4000, 2), generator(6)).repeat(1, 2) * torch.tensor([0.05, 0.05, 1.0, 1.0])
    error = (r.decode_features(r.FeatureCodec(kind=kind, bits=4, groups=2).encode(x)) - x).square().mean(0)
    torch.testing.assert_close(error[:2], error[2:] / 400, rtol=1e-3, atol=0)


def test_outliers_are_cut_by_default():
    x = randn((1000, 10), generator(3))
    x[0, 0] = 1e4
    back = r.decode_features(r.FeatureCodec(bits=8).encode(x))
    assert float((back - x)[1:].square().mean()) < 1e-3
    assert float(back.max()) < 10
    constant = torch.full((3, 4), 2.5)
    assert torch.equal(r.decode_features(r.FeatureCodec().encode(constant)), constant)


def test_hostile_files():
    x = randn((100, 8), generator(4))
    data = r.FeatureCodec(bits=4, groups=2).encode(x)

    def sealed(body):
        return body + struct.pack("<I", zlib.crc32(body))

    huge = bytearray(data[:-4])
    struct.pack_into("<Q", huge, range_header(), 2**40)
    states = bytearray(data[:-4])
    states[-200] ^= 1
    for bad in (
        b"",
        data[:-1],
        data[:40],
        b"x" + data[1:],
        data + b"\0",
        sealed(bytes(huge)),
        sealed(bytes(states)),
        sealed(data[:20]),
    ):
        with pytest.raises(ValueError, match=r"^data: expected .*, found .*\.$"):
            r.decode_features(bad)
    with pytest.raises(ValueError, match="more than 700"):
        r.decode_features(data, max_values=700)


def range_header():
    from clarkia.measures.representations.feature_codec import HEADER

    return HEADER.size


def test_rate_task_curves():
    x = randn((500, 4), generator(5))
    codecs = {bits: r.FeatureCodec(bits=bits) for bits in (1, 3, 5)}
    curve = r.rate_task_curve(codecs, x, lambda back: -float((back - x).square().mean()))
    bits, errors = ([getattr(point, name) for point in curve.values()] for name in ("bits", "error"))
    assert bits == sorted(bits)
    assert errors == sorted(errors, reverse=True)
    assert [point.quality for point in curve.values()] == pytest.approx([-e for e in errors], rel=1e-5)


def test_average_saving_by_hand():
    """A curve that needs 20 % fewer bits everywhere; and one whose saving falls evenly in the logarithm."""
    rates, qualities = np.array([1.0, 2.0, 4.0, 8.0]), np.array([10.0, 20.0, 30.0, 40.0])
    assert r.average_saving(0.8 * rates, qualities, rates, qualities) == pytest.approx(0.2, abs=1e-12)
    assert r.average_saving(rates, qualities, 0.8 * rates, qualities) == pytest.approx(-0.25, abs=1e-12)
    # log2 rates q/10 - 1 and q/5 - 3 meet at q = 20: on [20, 40] they differ by (q - 20) / 10, whose mean is 1
    one, other = 2 ** (qualities / 10 - 1), 2 ** (qualities / 5 - 3)
    assert r.average_saving(one[1:], qualities[1:], other[1:], qualities[1:]) == pytest.approx(0.5, abs=1e-9)
    # only the common range counts
    assert r.average_saving(0.8 * rates[1:], qualities[1:], rates[:3], qualities[:3]) == pytest.approx(0.2, abs=1e-9)
