"""The codec that learns: its laws by sums, its bytes by what went in, its rate by the theory of normal sources."""

import math
import struct
import zlib

import numpy as np
import pytest
import torch
from scipy.stats import norm

from clarkia.measures import representations as r
from clarkia.measures.representations.integer_laws import SCALES, LogisticMixture, normal_log_prob, scale_index
from clarkia.measures.representations.integer_stream import mixture_code, normal_code
from clarkia.measures.representations.transform import Hyperprior
from clarkia.random import generator, rand, randn
from clarkia.training import TrainingOptions

FEW = TrainingOptions(batch_size=64, max_steps=20, learning_rate=2e-3, warmup_steps=0, ema_decay=0.0)


def correlated(n=4000, d=6):
    """Normal rows of known covariance: variances of the principal axes from 4 down to 1/8."""
    axes = torch.linalg.qr(randn((d, d), generator(1), dtype=torch.float64))[0]
    variance = 4.0 * 0.5 ** torch.arange(d)
    return (randn((n, d), generator(2), dtype=torch.float64) * variance.sqrt()) @ axes.T, axes, variance


@pytest.mark.parametrize("scale", [0.11, 0.4, 3.0, 40.0])
def test_normal_laws_are_differences_of_the_normal_distribution(scale):
    k = torch.arange(-400, 401, dtype=torch.float64)
    law = torch.tensor(scale, dtype=torch.float64)
    p = normal_log_prob(k, law).exp()
    expected = norm.cdf((k + 0.5) / scale) - norm.cdf((k - 0.5) / scale)
    np.testing.assert_allclose(p, expected, atol=1e-12)
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)
    # far out, where the probability is below the smallest number, its logarithm still pulls
    far = torch.tensor(1e3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(normal_log_prob(far, law), far)
    assert float(slope) == pytest.approx(-(1e3 - 0.5) / scale**2, rel=0.02)


def test_mixtures_are_differences_of_their_distribution():
    law = LogisticMixture(2).double()
    with torch.no_grad():
        law.mean.copy_(torch.tensor([[-3.0, 0.2, 5.0], [0.0, 0.0, 1.0]]))
        law.log_scale.copy_(torch.tensor([[-1.0, 0.0, 0.5], [-2.0, 1.0, 0.0]]))
        law.logit.copy_(torch.tensor([[0.0, 1.0, -1.0], [0.3, 0.0, 0.0]]))
        k = torch.arange(-200, 201, dtype=torch.float64)[:, None].repeat(1, 2)
        p = law.log_prob(k).exp()
        weight, scale = law.logit.softmax(1), law.log_scale.exp()

        def below(x):
            return (weight * torch.sigmoid((x[..., None] - law.mean) / scale)).sum(-1)

        torch.testing.assert_close(p, below(k + 0.5) - below(k - 0.5), rtol=0, atol=1e-14)
        torch.testing.assert_close(p.sum(0), torch.ones(2, dtype=torch.float64))


def test_numbers_come_back_whatever_the_law_thought_of_them():
    code, rng = normal_code(), np.random.default_rng(3)
    law = rng.integers(0, 64, 50_000).astype(np.uint8)
    values = np.rint(rng.normal(0, SCALES.numpy()[law])).astype(np.int64)
    values[::5000] = rng.integers(-(10**12), 10**12, 10)
    data = code.encode(values, law)
    back, used = code.decode(data + b"more", law)
    assert used == len(data)
    assert (back == values).all()
    usual = np.abs(values) < 10**4
    p = normal_log_prob(torch.from_numpy(values[usual]).double(), SCALES[torch.from_numpy(law[usual]).long()])
    assert 8 * len(data) == pytest.approx(-float(p.sum()) / math.log(2), rel=0.01)


def test_scales_are_coded_by_the_nearest_one():
    index = scale_index(SCALES.log())
    assert index.tolist() == list(range(64))
    # what a scale half a step off costs, in bits a symbol of a wide law
    ratio = float(SCALES[1] / SCALES[0]) ** 0.5
    assert max(math.log(a) + 0.5 / a**2 - 0.5 for a in (ratio, 1 / ratio)) / math.log(2) < 0.006


def test_before_training_it_is_even_steps_along_the_principal_axes():
    x = correlated()[0]
    step = 0.1
    net = Hyperprior(x[:, :, None, None], step, 2, 4).double().requires_grad_(False)
    y = net.latents(x[:, :, None, None])[0][:, :, 0, 0]
    spread = x.std(0, correction=0)
    back = net.restored(y.round()[:, :, None, None])[:, :, 0, 0]
    assert float(((back - x) / spread).square().mean()) == pytest.approx(step**2 / 12, rel=0.02)
    # axes of the standardised rows: latents are uncorrelated
    cov = (y * step).T.cov(correction=0)
    torch.testing.assert_close(cov, torch.diag(cov.diagonal()), rtol=0, atol=1e-6)
    assert float(cov.trace()) == pytest.approx(6, rel=1e-6)


@pytest.mark.parametrize("form", ["rows", "maps"])
def test_decoded_symbols_are_the_encoded_ones_at_the_laws_entropy(form):
    """Exactly the rounded latents come back, in bytes within 2 % of what the laws say that they are worth."""
    x = correlated()[0].float()
    if form == "maps":
        x = x[:, :2, None, None] + 0.5 * randn((4000, 2, 5, 3), generator(4))
    codec = r.train_feature_codec(x[:1000], trade_off=50.0, hyper=3, width=8, options=FEW)
    data = codec.encode(x)
    y, _, _ = codec._symbols(x)
    with torch.no_grad():
        expected = torch.cat([codec.net.restored(part.double()) for part in y.split(1024)]).reshape(x.shape)
    back = codec.decode(data)
    assert back.shape == x.shape
    assert torch.equal(back, expected.float())
    assert 8 * len(data) == pytest.approx(codec.information(x), rel=0.02)
    assert 8 * len(data) > codec.information(x)
    assert torch.equal(codec.decode(codec.encode(x[:7])), back[:7])


def test_the_rate_of_a_normal_source():
    """At fine steps, a quarter of a bit a value above what any code of the source needs."""
    x, axes, variance = correlated(20_000)
    options = TrainingOptions(batch_size=64, max_steps=20, learning_rate=2e-4, warmup_steps=0, ema_decay=0.0)
    codec = r.train_feature_codec(x.float(), trade_off=1000.0, hyper=1, width=4, options=options)
    spread = x.std(0)
    covariance = (axes * variance) @ axes.T / spread[:, None] / spread
    error = float(((codec.decode(codec.encode(x)) - x) / spread).square().mean())
    assert error == pytest.approx(1 / (2 * math.log(2) * 1000), rel=0.05)  # where bits and errors trade off as asked
    bound = float(torch.linalg.slogdet(covariance)[1]) / 12 / math.log(2) - 0.5 * math.log2(error)
    z = codec._symbols(x)[1].double()
    found = (codec.information(x) + float(codec.net.law.log_prob(z).sum()) / math.log(2)) / x.numel()  # latents alone
    assert found - bound == pytest.approx(0.5 * math.log2(2 * math.pi * math.e / 12), abs=0.02)
    plain = r.FeatureCodec(step=float((12 * error) ** 0.5), truncate=(-9.0, 9.0)).encode((x / spread).float())
    assert found < r.bits_per_value(plain, x) - 0.3  # what the correlations are worth


def test_telling_the_scales_pays_where_rows_differ_in_loudness():
    loud = torch.where(rand((6000, 1), generator(5)) < 0.5, 0.05, 1.0).float()
    x = loud * randn((6000, 8), generator(6))
    options = TrainingOptions(batch_size=128, max_steps=400, learning_rate=1e-2, warmup_steps=0, ema_decay=0.9)
    codec = r.train_feature_codec(x[:5000], trade_off=300.0, hyper=2, width=16, options=options)
    error = float(((codec.decode(codec.encode(x[5000:])) - x[5000:]) / x.std(0)).square().mean())
    known = (
        0.5 * torch.log2(loud[5000:].square() / x.var() / error).clamp(min=0).mean() + 1 / 8
    )  # a bit a row tells which
    one = 0.5 * math.log2(2 * math.pi * math.e * error)
    bins = torch.bincount((x[5000:] / x.std() / (12 * error) ** 0.5).round().long().flatten() + 1000).double()
    blind = float(torch.special.entr(bins / bins.sum()).sum()) / math.log(2)
    found = codec.information(x[5000:]) / x[5000:].numel()
    assert one < 0  # errors finer than a row's own scale
    assert float(known) < found < blind - 0.3


def test_blocks_of_maps_are_transformed_together():
    x = randn((600, 2, 1, 1), generator(7)) + 0.1 * randn((600, 2, 4, 4), generator(8))
    bits = {}
    for block in (1, 2):
        codec = r.train_feature_codec(x, trade_off=100.0, hyper=1, width=4, block=block, options=FEW)
        assert codec.decode(codec.encode(x)).shape == x.shape
        bits[block] = codec.information(x) / x.numel()
    assert bits[2] < bits[1] - 0.3


def test_mixture_tables_reach_what_they_say():
    code = mixture_code(LogisticMixture(3).double())
    assert (code.table.sum(1) == 1 << 16).all()
    assert (code.table[:, : 2 * 63 + 2] > 0).all()
    assert code.table.shape == (3, 128)


def test_hostile_files_and_rows():
    x = correlated(300)[0].float()
    codec, other = (
        r.train_feature_codec(x, hyper=2, width=4, options=TrainingOptions(max_steps=n, batch_size=8)) for n in (1, 2)
    )
    data = codec.encode(x)

    def sealed(body):
        return bytes(body) + struct.pack("<I", zlib.crc32(bytes(body)))

    huge, flipped = bytearray(data[:-4]), bytearray(data[:-4])
    struct.pack_into("<Q", huge, 9, 2**40)
    flipped[60] ^= 1
    for bad in (b"", data[:-1], data[:30], b"x" + data[1:], sealed(huge), sealed(flipped), sealed(data[:-4] + b"\0")):
        with pytest.raises(ValueError, match=r"^data: expected .*, found .*\.$"):
            codec.decode(bad)
    with pytest.raises(ValueError, match="this codec wrote"):
        other.decode(data)
    with pytest.raises(ValueError, match="at most 10 values"):
        codec.decode(data, max_values=10)
    for wrong in (x[:, :5], x[:0], x[0]):
        with pytest.raises(ValueError, match="x: expected one row"):
            codec.encode(wrong)
    x[3, 1] = torch.nan
    with pytest.raises(ValueError, match="row 3"):
        codec.encode(x)
    for options in ({"trade_off": 0.0}, {"hyper": 300}, {"block": 2}, {"width": 0}):
        with pytest.raises(ValueError, match=f"^{next(iter(options))}: expected"):
            r.train_feature_codec(x[5:], **options)  # type: ignore[arg-type]
