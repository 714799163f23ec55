"""Taps and probes: what a hook hears is what the layer said, and what a probe reads is what can be read."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import nn

from clarkia.measures import representations as r
from clarkia.measures.extractors import Extractor
from clarkia.oracles import GaussianMixture
from clarkia.processes import EDM, Masked, VariancePreserving
from clarkia.random import generator, rand, randn


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4 * 36, 5))


X = randn((10, 2, 8, 8), generator(0))


def hooks(module):
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def test_a_tap_is_a_manual_forward():
    net = network().train()
    net[2].eval()
    found = r.activations(net, X, ["0", "1", ""], pool="none", chunk=10)
    modes = [part.training for part in net.modules()]
    assert modes == [True, True, True, False, True, True]
    conv = net[0](X)
    assert torch.equal(found["0"], conv)
    assert torch.equal(found["1"], conv.relu())
    assert torch.equal(found[""], net[4](conv.relu().flatten(1)))
    assert hooks(net) == 0
    assert list(found) == ["0", "1", ""]
    assert not found[""].requires_grad
    in_parts = r.activations(net, X, [""], chunk=3)[""]
    torch.testing.assert_close(in_parts, found[""])


def test_pooling():
    net = network()
    maps = net[0](X)
    pooled = {pool: r.activations(net, X, "0", pool=pool)["0"] for pool in ("mean", "flatten", 2)}
    torch.testing.assert_close(pooled["mean"], maps.mean((2, 3)))
    torch.testing.assert_close(pooled["flatten"], maps.flatten(1))
    torch.testing.assert_close(pooled[2], maps.unflatten(2, (2, 3)).unflatten(4, (2, 3)).mean((3, 5)).flatten(1))
    largest = r.activations(net, X, "0", pool=lambda maps: maps.amax((2, 3)))["0"]
    torch.testing.assert_close(largest, maps.amax((2, 3)))
    tokens = randn((6, 7, 3), generator(1))
    torch.testing.assert_close(r.activations(nn.Identity(), tokens, "")[""], tokens.mean(1))
    half = r.activations(nn.Identity(), tokens.half(), "", pool="none")[""]
    assert half.dtype == torch.float32


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.add = nn.Linear(3, 3)
        self.attention = nn.MultiheadAttention(3, 1, batch_first=True)

    def forward(self, x, t):
        h = self.add(x + t[:, None])
        return self.attention(h[:, None], h[:, None], h[:, None])


def test_several_inputs_and_layers_that_return_pairs():
    x, t = randn((5, 3), generator(2)), rand((5,), generator(3)).float()
    net = TwoInputs()
    found = r.activations(net, (x, t), ["add", "attention"], chunk=2)
    torch.testing.assert_close(found["add"], net.add(x + t[:, None]))
    torch.testing.assert_close(found["attention"], net(x, t)[0][:, 0])


def test_an_extractor_knows_its_weights():
    net = network()
    one, other = r.tap(net, "1"), r.tap(net, ["1", ""])
    assert isinstance(one, Extractor)
    assert one(X).shape == (10, 4)
    assert other(X).shape == (10, 9)
    prints = {
        one.fingerprint,
        other.fingerprint,
        r.tap(net, "1", pool="flatten").fingerprint,
        r.tap(net, "").fingerprint,
    }
    assert len(prints) == 4
    assert r.tap(network(), "1").fingerprint == one.fingerprint
    with torch.no_grad():
        net[4].bias[0] += 1e-6
    assert r.tap(net, "1").fingerprint != one.fingerprint
    assert "Sequential[1]" in one.name


# ---------------------------------------------------------------------------------------------------- denoisers


class Responsibilities(nn.Module):
    """The exact denoiser of a mixture of two normals, with the chances of the two components as a layer."""

    def __init__(self, process, law):
        super().__init__()
        self.process, self.law = process, law
        self.chances = nn.Identity()

    def forward(self, x_t, t, condition=None):
        alpha, sigma = self.process.coefficients(t, x_t)
        means, variances = self.law.means, self.law.covariances.diagonal(dim1=1, dim2=2)
        spread = alpha[..., None] ** 2 * variances + sigma[..., None] ** 2
        log = -0.5 * ((x_t[:, None] - alpha[..., None] * means) ** 2 / spread + spread.log()).sum(2)
        self.chances((self.law.weights.log() + log).softmax(1))
        return self.law.denoiser(self.process)(x_t, t)


LAW = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [0.25, 0.25])


@pytest.mark.parametrize("process", [EDM, VariancePreserving()])
def test_features_of_a_denoiser(process):
    net = Responsibilities(process, LAW)
    x = LAW.sample(50, generator=generator(4))
    found = r.denoiser_features(net, process, x, [0.0, 0.5], ["chances", ""], generator=generator(5))
    assert set(found) == {(0.0, "chances"), (0.0, ""), (0.5, "chances"), (0.5, "")}
    assert torch.equal(found[0.0, ""], x)
    source = generator(5)
    randn(x.shape, source, dtype=x.dtype)  # the draw of the level before
    t = process.t_of_kappa(torch.tensor([0.5], dtype=torch.float64)).expand(50)
    x_t = process.corrupt(x, t, generator=source)
    torch.testing.assert_close(found[0.5, ""], LAW.denoiser(process)(x_t, t), rtol=1e-12, atol=1e-12)
    again = r.denoiser_features(net, process, x, [0.0, 0.5], ["chances", ""], generator=generator(5))
    assert all(torch.equal(found[key], again[key]) for key in found)
    assert hooks(net) == 0
    many = r.denoiser_features(net, process, x, 0.5, "", num_draws=400, generator=generator(6))[0.5, ""]
    assert float((many - x).abs().mean()) < float((found[0.5, ""] - x).abs().mean())


def test_a_denoiser_as_an_extractor():
    net = Responsibilities(EDM, LAW)
    x = LAW.sample(20, generator=generator(7))
    taps = [r.denoiser_tap(net, EDM, level, "chances", seed=seed) for level, seed in ((0.5, 0), (0.5, 1), (1.0, 0))]
    assert len({tap.fingerprint for tap in taps}) == 3
    assert torch.equal(taps[0](x), taps[0](x))
    assert not torch.equal(taps[0](x), taps[1](x))
    assert "level 0.5" in taps[0].name


def test_levels_of_other_processes_are_times():
    process = Masked(3)
    x = torch.randint(0, 3, (200, 5), generator=generator(8))
    x_t, t = r.noised(process, x, 0.25, noise=generator(9))
    assert float(t[0]) == 0.25
    assert t.shape == (200,)
    assert 0.15 < float((x_t == 3).double().mean()) < 0.35
    x_t, _, condition = r.noised(process, x, 0.0, condition=torch.ones(200))
    assert torch.equal(x_t, x)
    assert condition.shape == (200,)


def bayes_accuracy(level, separation=1.0, std=0.5):
    """Accuracy of the sign of x_t = x_0 + level eps for the mixture of two normals, by quadrature of the densities."""
    scale = math.hypot(std, level)
    both = [stats.norm(mean, scale).pdf for mean in (-separation, separation)]
    return 0.5 * integrate.quad(lambda v: max(p(v) for p in both), -12, 12, points=[0.0])[0]


def test_a_probe_of_the_oracles_responsibilities_is_the_bayes_classifier():
    """Ridge and logistic probes reach the accuracy of the best classifier of x_t, which falls with the noise.

    20,000 rows: four standard errors of an accuracy are 0.014 at most, false alarm below 4e-4 for six cells; the two
    probes differ from the rule itself by less than 0.001 here.
    """
    source = generator(10)
    y = torch.randint(0, 2, (20_000,), generator=source)
    x = (2.0 * y - 1)[:, None].double() + 0.5 * randn((20_000, 1), source, dtype=torch.float64)
    found = r.denoiser_features(Responsibilities(EDM, LAW), EDM, x, [0.1, 0.7, 2.0], "chances", generator=source)
    accuracies = []
    for (level, _), features in found.items():
        best = bayes_accuracy(level)
        for kind in ("ridge", "logistic"):
            probe = r.probe(features, y, kind=kind, num_folds=3)
            assert probe.score == pytest.approx(best, abs=0.014)
            assert probe.interval.low - 0.005 < best < probe.interval.high + 0.005
        accuracies.append(probe.score)
    assert accuracies == sorted(accuracies, reverse=True)


# -------------------------------------------------------------------------------------------------------- probes


def test_what_a_ridge_probe_explains_of_a_noisy_copy():
    """z = a.x + noise of variance tau^2: R^2 = |a|^2 / (|a|^2 + tau^2); standard error about 0.011 at 4,000 rows."""
    x = randn((4000, 5), generator(11), dtype=torch.float64)
    a = torch.tensor([1.0, -1.0, 0.5, 0.0, 0.0], dtype=torch.float64)
    z = x @ a + 1.5 * randn((4000,), generator(12), dtype=torch.float64)
    for kind in ("ridge", "linear"):
        found = r.probe(x, z, kind=kind)
        assert found.score == pytest.approx(2.25 / 4.5, abs=0.045)
        assert found.interval.low < found.score < found.interval.high
        assert found.baseline == 0
        assert len(found.folds) == 5
        assert found.predictions.shape == (4000,)
    pair = r.probe(x, torch.stack([z, 2 * z], 1))
    assert pair.predictions.shape == (4000, 2)
    assert pair.score == pytest.approx(0.5, abs=0.045)


@pytest.mark.parametrize("kind", ["ridge", "logistic", "linear", "knn"])
def test_no_probe_reads_what_is_not_there(kind):
    """Random labels: held-out accuracy is one half (standard error 0.018), though 60 columns fit the training rows."""
    x = randn((800, 60), generator(13), dtype=torch.float64)
    y = torch.randint(0, 2, (800,), generator=generator(14))
    found = r.probe(x, y, kind=kind)
    assert abs(found.score - 0.5) < 0.08
    assert found.interval.low < 0.55
    assert found.baseline == pytest.approx(float(y.bincount().max()) / 800)


@pytest.mark.parametrize("kind", ["ridge", "logistic", "linear", "knn"])
def test_every_probe_reads_what_is_there(kind):
    y = np.repeat(["apple", "pear", "plum"], 40)
    x = np.eye(3).repeat(40, 0) * 10 + np.random.default_rng(0).normal(size=(120, 3))
    found = r.probe(x, y, kind=kind)
    assert found.score == 1
    assert (found.predictions == y).all()
    assert found.interval.high == 1


def test_groups_stay_together():
    """Twenty groups of ten equal rows with a random label each: rows leak the label across folds, groups do not."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 4)).repeat(10, 0)
    y = rng.integers(0, 2, 40).repeat(10)
    leaky = r.probe(x, y, kind="knn")
    honest = r.probe(x, y, kind="knn", groups=np.arange(40).repeat(10))
    assert leaky.score == 1
    assert honest.score < 0.75


def test_numbers_by_neighbours():
    x = rand((2000, 1), generator(15))
    found = r.probe(x, torch.sin(6 * x[:, 0]), kind="knn")
    assert found.score > 0.999


def test_a_grid_is_scored_on_rows_that_did_not_choose():
    """Eighty sets of noise: the best looks good (0.62 is expected) on the rows that chose it, and only there.

    The last score has mean 0.5 and standard error 0.07; for a fixed seed.
    """
    y = torch.randint(0, 2, (150,), generator=generator(16))
    found = {i: randn((150, 2), generator(17, i), dtype=torch.float64) for i in range(80)}
    grid = r.probe_grid(found, y, kind="linear", num_folds=3)
    assert grid.cells[grid.best].score > 0.6
    assert grid.score < 0.6
    assert grid.interval.low < 0.5
    found["truth"] = y[:, None].double()
    grid = r.probe_grid(found, y, num_folds=3)
    assert grid.best == "truth"
    assert grid.score == 1


def test_a_reservoir_is_a_uniform_sample_of_a_stream():
    """Each of 100 rows stays with chance 0.2: chi-square over 2,000 streams, false alarm 1e-4."""
    counts = np.zeros(100)
    source = generator(18)
    for trial in range(2000):
        stream = torch.arange(100).split([1, 30, 5, 64] if trial % 2 else [50, 50])
        kept = r.reservoir(stream, 20, generator=source)
        assert len(kept) == 20
        counts[kept.numpy()] += 1
    assert (kept.diff() > 0).all()
    # drawn without replacement: variances are 0.2 * 0.8 a stream, and the counts sum to a constant
    chi_square = ((counts - 400) ** 2).sum() / (2000 * 0.16) * 99 / 100
    assert chi_square < stats.chi2.isf(1e-4, 99)
    short = r.reservoir([torch.arange(3), torch.arange(3, 5)], 9)
    assert short.tolist() == [0, 1, 2, 3, 4]
