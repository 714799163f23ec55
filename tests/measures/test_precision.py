"""The bias of coarse categorical draws: reference values, brute force, and emulation of the draws themselves."""

import numpy as np
import pytest
import torch

from clarkia.measures import precision
from clarkia.measures.precision import categorical_bias
from clarkia.random import categorical, generator


def zipf(classes):
    p = 1 / np.arange(1, classes + 1)
    return p / p.sum()


def entropy(p):
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())


def test_the_formula_against_an_emulation_with_twelve_bits():
    """200 classes of weights 0.05 p against 0.45 for staying: revealed 0.0828 times instead of 0.1000 (four standard
    errors of 200,000 draws are 0.0025), with entropy 3.68 nats instead of 4.149."""
    p, draws, bits = zipf(200), 200_000, 12
    found = categorical_bias(p, 0.1, bits)
    assert found.reveal_rate * 0.1 == pytest.approx(0.0828, abs=5e-5)
    assert found.entropy == pytest.approx(3.68, abs=0.005)
    assert found.entropy + found.entropy_loss == pytest.approx(4.149, abs=5e-4)

    weights = torch.tensor(np.append(0.05 * p, 0.45))
    noise, counts = generator(0), torch.zeros(201, dtype=torch.int64)
    for _ in range(20):
        uniforms = torch.randint(0, 2**bits, (draws // 20, 201), generator=noise).double() / 2**bits
        counts += torch.bincount((-uniforms.log() / weights).argmin(1), minlength=201)
    revealed = counts[:-1].numpy()
    share = revealed.sum() / draws
    assert share == pytest.approx(found.reveal_rate * 0.1, abs=4 * (0.0828 * 0.9172 / draws) ** 0.5)
    assert share == pytest.approx(0.0829, abs=0.0005 + 4 * (0.0828 * 0.9172 / draws) ** 0.5)
    # the entropy of counts falls short by (classes - 1) / 2n; its standard error here is below 0.01
    seen = revealed / revealed.sum()
    assert entropy(seen) + 199 / (2 * revealed.sum()) == pytest.approx(found.entropy, abs=0.04)
    assert np.abs(seen - found.probabilities).sum() / 2 < np.abs(seen - p).sum() / 2 / 2


# time, length of the step: reveal rate over nominal, entropy of the class drawn
REFERENCE = {(0.5, 1e-3): (0.752, 6.055), (0.5, 1e-4): (0.549, 4.664), (0.9, 1e-3): (0.700, 5.705)}


@pytest.mark.parametrize(("t", "dt"), REFERENCE)
def test_reference_values_of_a_vocabulary_in_single_precision(t, dt):
    """Entropies are given to 0.001 and were summed on a grid; ticks followed one by one come out up to 0.0012 above."""
    rate, nats = REFERENCE[t, dt]
    found = categorical_bias(zipf(50_257), dt / t, 24)
    assert found.reveal_rate == pytest.approx(rate, abs=5e-4)
    assert found.entropy == pytest.approx(nats, abs=0.0015)
    assert found.entropy + found.entropy_loss == pytest.approx(7.5659, abs=5e-5)
    assert found.total_variation > 0.15


def test_without_a_mask_in_the_race_single_precision_is_enough():
    found = categorical_bias(zipf(50_257), 1.0, 24)
    assert 0.004 < found.entropy_loss < 0.0105
    assert found.reveal_rate == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(("bits", "loss"), [(8, 1.67), (11, 0.57)])
def test_half_precision_is_not(bits, loss):
    """A plain draw among 1000 classes: emulated, 1.67 and 0.57 nats lost in bfloat16 and float16."""
    assert categorical_bias(zipf(1000), 1.0, bits).entropy_loss == pytest.approx(loss, abs=0.02)


@pytest.mark.parametrize("reveal_prob", [1.0, 0.002, 0.0002])
def test_double_precision_is_nominal(reveal_prob):
    found = categorical_bias(zipf(50_257), reveal_prob, 53)
    assert found.reveal_rate == pytest.approx(1.0, abs=1e-6)
    assert found.entropy_loss == pytest.approx(0.0, abs=1e-6)
    assert found.total_variation < 1e-6


def test_the_library_draws_in_double_precision():
    """A class of probability 1e-9, which a race of 24 bits never draws at all, is drawn at its rate here."""
    assert categorical_bias(np.array([1 - 1e-9, 1e-9]), 1.0, 24).probabilities[1] < 1e-10
    p = torch.tensor([1 - 1e-4, 1e-4], dtype=torch.float64).log().expand(400_000, 2)
    drawn = int(categorical(p, generator(1)).sum())
    assert drawn == pytest.approx(40, abs=4 * 40**0.5)


@pytest.mark.parametrize("followed", [4_000_000, 4_000])
def test_the_sums_by_brute_force(followed, monkeypatch):
    """Each outcome's ticks and the floors of all others, one by one; also where the heavy ones are integrated."""
    monkeypatch.setattr(precision, "_MOST_TICKS", followed)
    p = np.random.default_rng(0).dirichlet(np.full(12, 0.4))  # no two outcomes tick at the same moment
    d = 2.0**-12
    weights = np.append(0.3 * p, 0.7)
    expected = np.zeros(13)
    for k, weight in enumerate(weights):
        ticks = np.arange(1, int(25 * weight / d) + 1) * d / weight
        passed = np.delete(np.floor(ticks[:, None] * weights / d), k, 1).sum(1) + np.arange(len(ticks))
        expected[k] = (d * np.exp(-d * passed)).sum()
    found = categorical_bias(p, 0.3, 12)
    law = expected[:-1] / expected[:-1].sum()
    exact = followed > 4_000
    np.testing.assert_allclose(found.probabilities, law, rtol=1e-9 if exact else 0, atol=0 if exact else 5e-5)
    assert found.reveal_rate * 0.3 == pytest.approx(expected[:-1].sum(), abs=1e-9 if exact else 5e-5)
    assert np.abs(found.probabilities - p).max() > 4e-4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((np.array([0.5, 0.6]), 0.5, 24), "sum"),
        ((np.array([1.5, -0.5]), 0.5, 24), "non-negative"),
        ((np.array([0.5, 0.5]), 0.0, 24), "reveal_prob"),
        ((np.array([0.5, 0.5]), 0.5, 0), "bits"),
    ],
)
def test_wrong_arguments_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        categorical_bias(*arguments)
