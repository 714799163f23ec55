"""Codes, filters, complexity, moments: each on networks and features whose answer is known."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from clarkia.measures import representations as r
from clarkia.measures.representations.codes import pack
from clarkia.measures.representations.complexity import linear_cka
from clarkia.processes import EDM
from clarkia.random import generator, rand, randn

# --------------------------------------------------------------------------------------------------------- codes


def line_network(scale=1.0):
    """Six units of one input with breakpoints -b / w at 1, -2, 0.5, 0.5, 7 and -3."""
    net = nn.Sequential(nn.Linear(1, 6), nn.ReLU())
    with torch.no_grad():
        net[0].weight[:, 0] = scale * torch.tensor([1.0, 2.0, -2.0, 4.0, 1.0, -1.0])
        net[0].bias[:] = scale * torch.tensor([-1.0, 4.0, 1.0, -2.0, -7.0, -3.0])
    return net


def test_codes_of_a_line_count_its_breakpoints():
    grid = torch.linspace(-5, 5, 10_000)[:, None]
    codes = r.activation_codes(line_network(), grid)
    assert codes.num_bits == 6
    assert codes.num_unique() == 1 + len({1, -2, 0.5, -3})  # two units share 0.5, and 7 lies outside
    assert codes.redundancy() == (10_000 - 5) / 10_000
    changes = (codes.bits()[1:] != codes.bits()[:-1]).sum(1)
    assert sorted(changes[changes > 0].tolist()) == [1, 1, 1, 2]
    scaled = r.activation_codes(line_network(3.7), grid)
    assert (scaled.packed == codes.packed).all()
    assert codes.varying().tolist() == [True, True, True, True, False, True]
    assert codes.select(codes.varying()).num_bits == 5


def test_codes_read_the_units_inputs():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(3, 20), nn.GELU(), nn.BatchNorm1d(20), nn.Linear(20, 9), nn.ReLU(inplace=True))
    x = randn((50, 3), generator(0))
    net.train()
    codes = r.activation_codes(net, x, chunk=7)
    assert net.training
    h = net[0](x)
    net.eval()
    expected = torch.cat([h > 0, net[3](net[2](net[1](h))) > 0], 1).numpy()
    assert (codes.bits() == expected).all()
    by_name = r.activation_codes(net, x, ["0", "3"])
    assert (by_name.packed[:, :3] == codes.packed[:, :3]).all()
    assert r.activation_codes(net, x, "1").num_bits == 20


def test_neighbours_of_codes():
    bits = np.random.default_rng(0).random((40, 19)) < 0.5
    codes = pack(bits)
    assert (codes.bits() == bits).all()
    table = (bits[:, None] != bits[None]).sum(2)
    distances, index = codes.nearest(codes, 3)
    assert (distances == np.sort(table, 1)[:, :3]).all()
    assert (np.take_along_axis(table, index, 1) == distances).all()
    np.fill_diagonal(table, 99)
    assert (codes.nearest(codes, exclude_self=True)[0][:, 0] == table.min(1)).all()


def test_what_codes_tell_about_classes():
    rng = np.random.default_rng(1)
    patterns = rng.random((3, 64)) < 0.5
    y = np.arange(90) % 3
    codes, others = (pack(patterns[y] ^ (rng.random((90, 64)) < 0.1)) for _ in range(2))
    assert codes.knn_accuracy(y, others, y) == 1
    assert codes.cluster_accuracy((y + 1) % 3) == 1
    assert codes.logistic_accuracy(y, others, y) == 1
    random = rng.integers(0, 3, 90)
    assert codes.knn_accuracy(random, others, random[rng.permutation(90)]) < 0.6
    # two clusters of three classes: the best assignment leaves a third of the rows
    assert pack(np.repeat([[True], [False]], [2, 1], 0)[y]).cluster_accuracy(y) == pytest.approx(2 / 3, abs=0.01)


def test_the_length_of_a_linear_piece():
    x, targets = torch.tensor([[0.0], [0.75], [3.0]]), torch.tensor([[1.0], [-9.0], [2.0]])
    lengths = r.region_lengths(line_network(), x, targets, reach=4.0, step=0.01)
    # pieces (-2, 0.5), (0.5, 1) and (1, 7), the last cut at the reach
    assert lengths == pytest.approx([2.5, 0.5, 6.0], abs=0.021)


def test_copies_stand_out():
    """Copies with two bits flipped among fresh rows; unseen rows are flagged at the level (rows are exchangeable)."""
    rng = np.random.default_rng(2)
    train, holdout, fresh = (pack(rng.random((500, 128)) < 0.5) for _ in range(3))
    flips = np.zeros((30, 128), bool)
    flips[:, 5:7] = True
    copies = pack(train.bits()[:30] ^ flips)
    alarm = r.copy_alarm(copies, train, holdout)
    assert alarm.copies.all()
    assert (alarm.distances == 2).all()
    assert (alarm.nearest == np.arange(30)).all()
    assert (alarm.p_values == 1 / 501).all()
    quiet = r.copy_alarm(fresh, train, holdout, level=0.05)
    assert quiet.expected <= 0.05
    assert quiet.copies.mean() < 0.1  # mean at most 0.05, standard error 0.01


def test_codes_of_a_denoiser_are_taken_at_a_state():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.act = nn.Linear(2, 8), nn.SiLU()

        def forward(self, x_t, t):
            return self.act(self.inner(x_t + t[:, None]))[:, :2]

    net, x = Net(), randn((30, 2), generator(3))
    x_t, t = r.noised(EDM, x, 0.5, noise=generator(4))
    codes = r.activation_codes(net, r.noised(EDM, x, 0.5, noise=generator(4)))
    assert (codes.bits() == (net.inner(x_t + t[:, None]) > 0).numpy()).all()


# ------------------------------------------------------------------------------------------------------- filters


def test_published_thresholds_and_entropies():
    """Rank one with 5 % noise: 0.006; Gaussian filters at n = 1,024: 0.952 against a threshold of 0.9499."""
    source = generator(5)
    pattern = randn((9,), source, dtype=torch.float64)
    strength = randn((1024, 1), source, dtype=torch.float64)
    rank_one = strength * pattern / pattern.norm() * 3 + 0.05 * randn((1024, 9), source, dtype=torch.float64)
    layer = r.filter_statistics(rank_one.reshape(32, 32, 3, 3))
    assert layer.entropy == pytest.approx(0.006, abs=0.004)
    assert layer.low_diversity
    assert layer.degenerate
    assert not layer.random
    noise = [r.filter_statistics(randn((32, 32, 3, 3), source)) for _ in range(20)]
    assert np.mean([layer.entropy for layer in noise]) == pytest.approx(0.952, abs=5e-4)
    assert all(layer.random for layer in noise)
    assert layer.threshold == pytest.approx(0.9499, abs=5e-5)
    # the published fit at 64 filters, which noise falls below
    fit = 1.2618047 / (1 + math.exp(-0.88767525 * (math.log2(64) - 2.30436435))) - 0.31050834
    assert fit == pytest.approx(0.9056, abs=5e-5)
    entropies = [r.variance_entropy(randn((64, 9), source)) for _ in range(200)]
    assert np.mean(entropies) == pytest.approx(0.921, abs=1.5e-3)
    assert min(entropies) == pytest.approx(0.8965, abs=6e-3)
    assert np.sum(np.array(entropies) < fit) > 0
    # ours flags 1 %: with 200 draws more than 9 below has chance 1e-4
    assert np.sum(np.array(entropies) < r.random_threshold(64)) <= 9
    assert r.random_threshold(64) == pytest.approx(0.904, abs=2e-3)


def test_the_range_of_the_entropy():
    equal = torch.eye(9, dtype=torch.float64).repeat(10, 1)
    # centring takes one of nine equal directions: log10 8; with their negatives none: log10 9
    assert r.variance_entropy(equal) == pytest.approx(math.log10(8), abs=1e-12)
    assert r.variance_entropy(torch.cat([equal, -equal])) == pytest.approx(0.954243, abs=1e-6)
    assert r.variance_entropy(torch.ones(20, 9)) == 0
    assert r.filter_statistics(torch.zeros(4, 2, 3, 3)).sparsity == 1


def test_sparsity_and_orthogonality():
    weight = randn((8, 6, 3, 3), generator(6))
    before = r.filter_statistics(weight)
    half = weight.clone()
    half[:4] = 0
    after = r.filter_statistics(half)
    assert before.sparsity == 0
    assert after.sparsity == 0.5
    assert after.num_filters == 48
    assert after.entropy_without_sparse == pytest.approx(r.variance_entropy(weight[4:].reshape(-1, 9)), abs=1e-12)
    small = weight.clone()
    small[0, 0] = 0.009 * weight.abs().max()
    assert r.filter_statistics(small).sparsity == pytest.approx(1 / 48)
    assert r.filter_statistics(torch.eye(18).reshape(18, 2, 3, 3)).orthogonality == pytest.approx(1, abs=1e-12)
    assert r.filter_statistics(torch.ones(5, 2, 3, 3)).orthogonality == pytest.approx(0, abs=1e-12)
    turned = torch.zeros(2, 1, 3, 3)
    turned[0, 0, 0, 0], turned[1, 0, 0, 0], turned[1, 0, 0, 1] = 1.0, -0.6, 0.8
    assert r.filter_statistics(turned).orthogonality == pytest.approx(0.4, abs=1e-7)


def test_the_shift_between_two_sets_of_filters():
    a, b = randn((64, 16, 3, 3), generator(7)), randn((64, 16, 3, 3), generator(8))
    smooth = nn.functional.avg_pool2d(randn((64, 16, 5, 5), generator(9)), 3, stride=1)
    assert r.filter_shift(a, a) == 0
    assert r.filter_shift(a, smooth) == pytest.approx(r.filter_shift(smooth, a), rel=1e-9)
    assert r.filter_shift(a, 5 * a) == pytest.approx(0, abs=1e-9)  # every filter is scaled by itself
    assert r.filter_shift(a, smooth) > 3 * r.filter_shift(a, b) > 0
    first, second = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1)), nn.Conv2d(1, 4, 3)
    with torch.no_grad():
        second.weight.copy_(first[0].weight)
    assert r.filter_shift(first, second) == 0


def test_a_networks_own_weights_count():
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 2, 1))
    found = r.conv_filters(net)
    assert [layer.name for layer in found] == ["0", "2"]
    assert [layer.num_filters for layer in found] == [8, 8]
    torch.nn.utils.parametrizations.weight_norm(net[0])
    with torch.no_grad():
        net[0].parametrizations.weight.original0[:4] = 0.0
    assert r.conv_filters(net)[0].sparsity == 0.5


# ---------------------------------------------------------------------------------------------------- complexity


def test_complexity_of_known_features():
    """z = x_1 is readable wherever x is: K = 0; x_1^2 - 1 is not in x and is in x^2: K = 1/2 of these two layers."""
    x = randn((5000, 4), generator(10), dtype=torch.float64)
    layers = {"x": x, "squares": x.square(), "both": torch.cat([x, x.square()], 1)}
    z = torch.stack([x[:, 0], x[:, 0] ** 2 - 1], 1)
    found = r.v_complexity({name: layers[name] for name in ("x", "squares")}, z, generator=generator(11))
    assert found.readable["x"].tolist() == pytest.approx([1, 0], abs=0.02)
    assert found.readable["squares"].tolist() == pytest.approx([0, 1], abs=0.02)
    assert found.value.tolist() == pytest.approx([0.5, 0.5], abs=0.02)
    kept = r.v_complexity({name: layers[name] for name in ("x", "both")}, z, generator=generator(12))
    assert kept.value.tolist() == pytest.approx([0, 0.5], abs=0.02)
    # a stack of known ReLUs keeps x: relu(x) - relu(-x)
    stack = torch.cat([x.relu(), (-x).relu()], 1)
    assert r.v_complexity({"x": x, "relu": stack}, z[:, 0], generator=generator(13)).value[0] < 0.01


def test_what_can_be_read_of_a_noisy_copy():
    """R^2 = |a|^2 / (|a|^2 + tau^2), here 0.5; standard error at 5,000 test rows 0.01."""
    x = randn((15_000, 6), generator(14), dtype=torch.float64)
    a = torch.tensor([1.0, 2.0, 0.0, 0.0, 0.0, 2.0], dtype=torch.float64)
    z = x @ a + 3 * randn((15_000,), generator(15), dtype=torch.float64)
    found = r.v_complexity({"x": x}, z, generator=generator(16))
    assert float(found.readable["x"]) == pytest.approx(0.5, abs=0.04)


def test_a_wide_layer_of_noise_reads_nothing():
    """As many columns as rows to fit on: least squares would fit any feature; held-out rows with a penalty do not."""
    layer = randn((300, 100), generator(17), dtype=torch.float64)
    z = randn((300, 20), generator(18), dtype=torch.float64)
    assert float(r.v_complexity({"noise": layer}, z, generator=generator(19)).readable["noise"].mean()) < 0.05


def test_redundancy_of_one_and_of_all_channels():
    """A feature that all channels carry survives masks, one of a single channel with chance one half."""
    n, d = 400, 20
    shared = randn((n, 1), generator(20), dtype=torch.float64)
    everywhere = r.redundancy(shared.expand(n, d), shared, generator=generator(21))
    assert float(everywhere) == pytest.approx(1, abs=1e-9)
    layer = randn((n, d), generator(22), dtype=torch.float64)
    layer = torch.linalg.qr(layer - layer.mean(0))[0]  # centred and orthonormal columns
    alone = r.redundancy(layer, layer[:, 0], num_masks=2000, generator=generator(23))
    # CKA is 1 / sqrt(20) before; a mask that keeps the channel makes it 1 / sqrt(10), another 0
    assert float(alone) == pytest.approx(0.5 * math.sqrt(2), abs=0.07)
    a, z = randn((50, 7), generator(24), dtype=torch.float64), randn((50,), generator(25), dtype=torch.float64)
    centre = torch.eye(50, dtype=torch.float64) - 1 / 50
    k, other = centre @ a @ a.T @ centre, centre @ torch.outer(z, z) @ centre
    expected = (k * other).sum() / (k.norm() * other.norm())
    assert float(linear_cka(a, z[:, None])) == pytest.approx(float(expected), rel=1e-10)


def test_importance_is_gradient_times_input():
    codes, atoms, head = (
        rand((30, 4), generator(26)),
        rand((4, 6), generator(27)),
        randn((3, 6), generator(28)).double(),
    )
    z = codes.clone().requires_grad_()
    logits = z @ atoms @ head.T
    expected = torch.stack([(torch.autograd.grad(logits[:, c].sum(), z, retain_graph=True)[0] * z).abs().mean(0)
                            for c in range(3)])  # fmt: skip
    torch.testing.assert_close(r.importance(codes, atoms, head), expected.detach())


def test_sensitivity_of_a_linear_feature():
    """Variance |w|^2 s^2, from 400 draws of 200 rows: relative standard error 0.005."""
    w = torch.tensor([[3.0, 0.0], [4.0, 1.0]], dtype=torch.float64)
    x = randn((200, 2), generator(29), dtype=torch.float64) + 1000
    found = r.sensitivity(lambda x: x @ w, x, noise=0.1, num_draws=400, generator=generator(30))
    assert found.tolist() == pytest.approx([0.25, 0.01], rel=0.025)


def test_a_dictionary_of_known_atoms():
    """Separable atoms with codes that are often zero are found, and codes of new data by non-negative least squares."""
    from scipy.optimize import nnls

    source = generator(31)
    atoms = torch.zeros(3, 9, dtype=torch.float64)
    for i in range(3):
        atoms[i, 3 * i : 3 * i + 3] = torch.tensor([1.0, 2.0, 2.0]) / 3
    codes = rand((300, 3), source) * (rand((300, 3), source) < 0.5)
    found = r.learn_dictionary(codes @ atoms, 3)
    assert found.explained > 0.999
    torch.testing.assert_close(found.atoms.norm(dim=1), torch.ones(3, dtype=torch.float64))
    match = (found.atoms @ atoms.T).argmax(0)
    assert sorted(match.tolist()) == [0, 1, 2]
    assert float((found.codes[:, match] - codes).abs().max()) < 0.02
    dense = found.__class__(rand((3, 9), source), torch.zeros(9).double(), codes, 1.0)
    new = randn((20, 9), source, dtype=torch.float64)
    expected = np.stack([nnls(dense.atoms.T.numpy(), row)[0] for row in new.numpy()])
    np.testing.assert_allclose(dense.encode(new).numpy(), expected, atol=1e-7)
    shifted = r.learn_dictionary(codes @ atoms - 0.5, 3)
    assert shifted.shift.tolist() == pytest.approx([-0.5] * 9)


# -------------------------------------------------------------------------------------------------------- moments


def test_the_published_size_of_the_moment_probe():
    net = r.MomentProbe(768, 1000)
    assert net.moments.width == 2883
    linear, second = 768 * 1000 + 1000, 2883 * 1000 + 1000
    project, norm, convolutions = 768 * 512 + 512, 2 * 128, 2 * 3 * 3 * 9
    assert sum(p.numel() for p in net.parameters()) == linear + second + project + norm + convolutions
    # the published 0.77 M and 3.65 M count the two heads, without the projection
    assert linear == pytest.approx(0.77e6, rel=0.01)
    assert linear + second == pytest.approx(3.65e6, rel=0.01)
    # and MP+ adds 12 blocks of adapters of rank 16: 4.10 M
    adapter = r.Adapted(nn.Identity(), 768)
    assert linear + second + 12 * sum(p.numel() for p in adapter.parameters()) == pytest.approx(4.10e6, rel=0.01)
    widths = {pairs: r.CrossCovariance(8, 4, 64, pairs).width for pairs in ("near", "one", "all")}
    assert widths == {"near": 3 * 9, "one": 3 * 9, "all": 6 * 9}


def test_cross_covariances_are_numpys():
    torch.manual_seed(2)
    net = r.CrossCovariance(10, 4, 32).double()
    tokens = randn((2, 50, 10), generator(32), dtype=torch.float64)
    h = net.normalised(tokens)
    found = net.covariances(h)
    for i in range(3):
        one, other = h[1, :, i].detach().numpy(), h[1, :, i + 1].detach().numpy()
        expected = np.cov(one.T, other.T, bias=True)[:8, 8:]
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(found[1, i].detach().numpy(), expected, atol=1e-12)
    # a constant added to all tokens after the normalisation is taken out again, and so is their order
    torch.testing.assert_close(net.covariances(h + randn((4, 8), generator(33), dtype=torch.float64)), found)
    probe = r.MomentProbe(10, 5, hidden=32).double()
    order = torch.from_numpy(np.random.default_rng(3).permutation(50))
    torch.testing.assert_close(probe(tokens[:, order]), probe(tokens))
    first = r.MomentProbe(10, 5, hidden=32, class_token=True).double()
    moved = torch.cat([tokens[:, :1], tokens[:, 1:][:, order[order < 49]]], 1)
    torch.testing.assert_close(first(moved), first(tokens))
    # logits are the mean of both heads'
    expected = (probe.first(tokens.mean(1)) + probe.second(probe.moments(tokens))) / 2
    assert torch.equal(probe(tokens), expected)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.branch = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6), nn.GELU())

    def forward(self, x):
        return x + self.branch(x)


def test_adapters_start_as_nothing_and_train_alone():
    torch.manual_seed(3)
    backbone = nn.Sequential(Block(), Block())
    x = randn((4, 7, 6), generator(34))
    before = backbone(x).detach()
    parameters = r.adapt(backbone, ["0.branch", "1.branch"], 6, rank=2)
    assert torch.equal(backbone(x), before)
    assert {id(p) for p in parameters} == {id(p) for p in backbone.parameters() if p.requires_grad}
    assert sum(p.numel() for p in parameters) == 2 * 3 * 6 * 2
    adapter = backbone[0].branch
    with torch.no_grad():
        adapter.scale.weight.normal_()
        adapter.shift.weight.normal_()
    u = (x @ adapter.reduce.weight.T).relu()
    expected = x + (1 + u @ adapter.scale.weight.T) * adapter.branch(x) + u @ adapter.shift.weight.T
    torch.testing.assert_close(backbone[0](x), expected)


def test_second_moments_see_what_means_cannot():
    """Two classes of 64 tokens in 32 dimensions with equal means and different covariances.

    A linear probe of the mean token stays at one half (standard error 0.018 at 800 rows); the moment probe is above
    0.95 after 60 steps.
    """
    source = generator(35)
    mixing = torch.stack([torch.linalg.qr(randn((32, 32), source))[0] * torch.linspace(0.2, 1.8, 32) for _ in range(2)])
    y = torch.randint(0, 2, (1600,), generator=source)
    tokens = randn((1600, 64, 32), source) @ mixing[y].mT
    assert r.probe(tokens.mean(1), y).score == pytest.approx(0.5, abs=0.06)
    torch.manual_seed(4)
    net = r.MomentProbe(32, 2, hidden=64)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for step in range(60):
        rows = slice(step * 100 % 800, step * 100 % 800 + 100)
        loss = nn.functional.cross_entropy(net(tokens[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        accuracy = (net(tokens[800:]).argmax(1) == y[800:]).double().mean()
    assert float(accuracy) > 0.95


# ------------------------------------------------------------------------------------------------------ shortcuts


def test_the_best_use_of_a_shortcut():
    law = r.ShortcutLaw(predictivity=(0.85, 0.9), correlation=0.6)
    assert law.bayes_weights.tolist() == pytest.approx([0.418, 1.031], abs=5e-4)
    directions = law.embed(torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close(directions @ directions.T, torch.eye(2, dtype=torch.float64))
    best = r.shortcut_bias(lambda x: x @ directions.T @ law.bayes_weights, law)
    assert best.optimal == pytest.approx(-0.310, abs=5e-4)
    assert best.bias == 0
    only = r.shortcut_bias(lambda x: x @ directions[0], law)
    assert (only.shortcut, only.core) == (1, 0)
    assert only.reliance == 0.5
    assert only.bias == pytest.approx(0.81, abs=1e-3)


def test_the_law_of_the_cues():
    """Signs are right with the stated chances, and cues correlate as stated: four standard errors of 40,000 draws."""
    law = r.ShortcutLaw()
    x, y, z = law.sample(40_000, generator=generator(36))
    assert x.shape == (40_000, 100)
    right = (z.sign() == y[:, None]).double().mean(0)
    assert right.tolist() == pytest.approx([0.85, 0.9], abs=0.0075)
    rest = z - y[:, None] * law.mean
    torch.testing.assert_close(rest.T.cov(), torch.tensor([[1.0, 0.6], [0.6, 1.0]]).double(), atol=0.03, rtol=0)
    torch.testing.assert_close(x.square().sum(1), z.square().sum(1))
    hidden = r.ShortcutLaw(nesting=(2, 0))
    seen, _, z = hidden.sample(20_000, generator=generator(37))
    assert hidden.embed(z[:5]).allclose(seen[:5])
    nested = seen - law.embed(torch.stack([0 * z[:, 0], z[:, 1]], 1))
    assert float(nested.square().sum(1).mean()) == pytest.approx(float(z[:, 0].square().mean()), rel=0.1)


@pytest.mark.parametrize("loudness", [0.1, 1.0, 32.0])
def test_least_squares_does_not_hear_loudness(loudness):
    law, plain = r.ShortcutLaw(loudness=(loudness, 1.0), dim=20), r.ShortcutLaw(dim=20)
    weights = []
    for each in (law, plain):
        x, y, _ = each.sample(5000, generator=generator(38))
        solution = torch.linalg.lstsq(x, y.double()[:, None], driver="gelsd").solution[:, 0]
        weights.append(each.embed(torch.eye(2, dtype=torch.float64)) @ solution)
    torch.testing.assert_close(*weights, rtol=1e-9, atol=1e-9)
    found = r.shortcut_bias(lambda x: x @ solution, plain)
    assert abs(found.bias) < 0.05
