"""Diffusion spectral entropy and information against closed forms: clusters, circles, limits, invariances."""

import math

import numpy as np
import pytest
import torch

from clarkia.measures import representations as r
from clarkia.measures.representations import fourier
from clarkia.random import generator, rand, randn

entropy = r.diffusion_spectral_entropy
information = r.diffusion_spectral_mutual_information


def circle(n):
    angle = torch.arange(n, dtype=torch.float64) * 2 * math.pi / n
    return torch.stack([angle.cos(), angle.sin()], 1)


def clusters(sizes, spread=1e-4, seed=0):
    """Tight clusters on a line, a hundred apart, and their labels."""
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    noise = randn((len(labels), 3), generator(seed), dtype=torch.float64)
    return 100.0 * torch.nn.functional.one_hot(labels, max(len(sizes), 3)).double()[:, :3] * (
        1 + labels[:, None].double()
    ) + spread * noise, labels


@pytest.mark.parametrize("normalisation", ["anisotropic", "random-walk"])
@pytest.mark.parametrize(
    ("bandwidth", "t", "published"),
    [
        (0.3, 1, 3.783835),
        (0.3, 2, 3.267380),
        (0.3, 5, 2.595563),
        (1.0, 1, 2.023676),
        (1.0, 2, 1.269544),
        (1.0, 5, 0.249916),
    ],
)
def test_points_on_a_circle(normalisation, bandwidth, t, published):
    """The kernel is circulant: its eigenvalues are the Fourier transform of a row. Both variants agree here."""
    z = circle(60)
    row = np.exp(-((z - z[0]) ** 2).sum(1).numpy() / (2 * bandwidth**2))
    p = np.abs(np.fft.fft(row).real / row.sum()) ** t
    p = p[p > 0] / p.sum()
    value = float(entropy(z, bandwidth=bandwidth, t=t, normalisation=normalisation))
    assert value == pytest.approx(-(p * np.log2(p)).sum(), abs=1e-10)
    assert value == pytest.approx(published, abs=1e-6)


def test_the_two_ends_of_the_bandwidth():
    z = randn((50, 4), generator(1), dtype=torch.float64)
    assert float(entropy(z, bandwidth=1e-3)) == pytest.approx(math.log2(50), abs=1e-12)
    assert float(entropy(z, bandwidth=1e6)) == pytest.approx(0, abs=1e-9)
    assert float(entropy(torch.ones(20, 3))) == pytest.approx(0, abs=1e-12)
    assert float(entropy(z, bandwidth=1e-3, base=math.e)) == pytest.approx(math.log(50), abs=1e-12)


@pytest.mark.parametrize(("count", "bits"), [(2, 1.0), (5, 2.3219), (10, 3.3219)])
@pytest.mark.parametrize("normalisation", ["anisotropic", "random-walk"])
def test_far_clusters_of_any_sizes_count_themselves(count, bits, normalisation):
    sizes = [5 + 7 * i for i in range(count)]
    labels = torch.arange(count).repeat_interleave(torch.tensor(sizes))
    noise = 1e-4 * randn((len(labels), count), generator(2), dtype=torch.float64)
    z = 100.0 * torch.nn.functional.one_hot(labels).double() + noise
    value = float(entropy(z, bandwidth=1.0, normalisation=normalisation))
    assert value == pytest.approx(math.log2(count), abs=1e-5)
    assert value == pytest.approx(bits, abs=5e-5)
    assert float(entropy(z, bandwidth=1.0, t=50, normalisation=normalisation)) == pytest.approx(
        math.log2(count), abs=1e-9
    )


def test_information_of_three_clusters():
    """Their labels are worth log2 3 bits, shuffled labels nothing."""
    labels = torch.arange(3).repeat_interleave(60)
    z = 100.0 * torch.nn.functional.one_hot(labels).double() + 1e-3 * randn((180, 3), generator(3), dtype=torch.float64)
    found = information(z, labels, bandwidth=1.0, t=20, generator=generator(4))
    assert found.value == pytest.approx(1.584963, abs=1e-6)
    assert found.group_sizes == (60, 60, 60)
    assert found.num_rows == 180
    shuffled = labels[torch.from_numpy(np.random.default_rng(0).permutation(180))]
    assert information(z, shuffled, bandwidth=1.0, t=20, generator=generator(5)).value == pytest.approx(0, abs=1e-9)
    assert information(z, torch.zeros(180, dtype=torch.int64), bandwidth=1.0).value == 0


@pytest.mark.parametrize("count", [2, 5, 10])
def test_information_of_classes_that_are_clusters(count):
    """k far clusters with their labels: log2 k; random subsets of 40 rows hold all clusters with chance 0.98 a piece.

    Subsets that miss one cluster of ten lose at most log2(10/9) = 0.15 bits.
    """
    labels = torch.arange(count).repeat_interleave(40)
    z = 100.0 * torch.nn.functional.one_hot(labels).double()
    found = information(z, labels, bandwidth=1.0, generator=generator(6), repetitions=5)
    assert found.value == pytest.approx(math.log2(count), abs=0.1)


def test_information_by_hand():
    """One group of the formula, with the random subsets drawn again from the same stream."""
    z, y = randn((30, 2), generator(7), dtype=torch.float64), torch.tensor([0] * 10 + [1] * 20)
    found = information(z, y, bandwidth=0.8, repetitions=3, generator=generator(8))
    source, expected, variance = generator(8), 0.0, 0.0
    for label, size in ((0, 10), (1, 20)):
        draws = []
        for _ in range(3):
            index = rand((30,), source).argsort()[:size].sort().values
            draws.append(float(entropy(z[index], bandwidth=0.8)))
        expected += size / 30 * (np.mean(draws) - float(entropy(z[y == label], bandwidth=0.8)))
        variance += (size / 30) ** 2 * np.var(draws, ddof=1) / 3
    assert found.value == pytest.approx(expected, abs=1e-10)
    assert found.standard_error == pytest.approx(math.sqrt(variance), rel=1e-8)


def test_what_the_entropy_does_not_depend_on():
    z = randn((80, 5), generator(9), dtype=torch.float64)
    turn = torch.linalg.qr(randn((5, 5), generator(10), dtype=torch.float64))[0]
    order = torch.from_numpy(np.random.default_rng(1).permutation(80))
    expected = float(entropy(z, bandwidth=1.3))
    for same in (z @ turn, z + 7, z[order]):
        assert float(entropy(same, bandwidth=1.3)) == pytest.approx(expected, abs=1e-9)
    assert float(entropy(5 * z, bandwidth=6.5)) == pytest.approx(expected, abs=1e-9)
    assert float(entropy(5 * z)) == pytest.approx(float(entropy(z)), abs=1e-9)  # the default bandwidth scales along
    pairs = torch.pdist(z)
    assert entropy(z).bandwidth == pytest.approx(float(pairs.median()) / 2**0.5, rel=0.02)
    assert entropy(z, bandwidth=1.3).large == pytest.approx(float((spectrum_of(z, 1.3) > 0.01).mean()))


def spectrum_of(z, s, t=1):
    """Eigenvalues of the anisotropic walk, unsymmetric and by NumPy."""
    gap = ((z[:, None] - z[None]) ** 2).sum(2).numpy()
    g = np.exp(-gap / (2 * s * s))
    q = g.sum(1)
    k = g / np.sqrt(q[:, None] * q)
    return np.abs(np.linalg.eigvals(k / k.sum(1, keepdims=True)).real) ** t


def test_both_variants_against_plain_formulas_where_they_differ():
    """Points of uneven density; the difference of the two variants is real and has a sign here."""
    z = torch.cat([randn((80, 2), generator(11), dtype=torch.float64), 6 + 3 * randn((80, 2), generator(12)).double()])
    for t in (1, 3):
        p = spectrum_of(z, 1.0, t)
        p = p[p > 0] / p.sum()
        assert float(entropy(z, bandwidth=1.0, t=t)) == pytest.approx(-(p * np.log2(p)).sum(), abs=1e-8)
    gap = ((z[:, None] - z[None]) ** 2).sum(2).numpy()
    g = np.exp(-gap / 2)
    p = np.abs(np.linalg.eigvals(g / g.sum(1, keepdims=True)).real)
    p = p[p > 0] / p.sum()
    plain = float(entropy(z, bandwidth=1.0, normalisation="random-walk"))
    assert plain == pytest.approx(-(p * np.log2(p)).sum(), abs=1e-8)
    assert abs(plain - float(entropy(z, bandwidth=1.0))) > 0.01


def test_other_variants():
    z = circle(8)
    # each point and its two neighbours: a circulant graph with eigenvalues (1 + 2 cos(2 pi k / 8)) / 3
    p = np.abs(1 + 2 * np.cos(2 * np.pi * np.arange(8) / 8)) / 3
    p = p[p > 1e-12] / p.sum()
    assert float(entropy(z, neighbours=2)) == pytest.approx(-(p * np.log2(p)).sum(), abs=1e-9)
    # entries of one step: a third at each of three places, from each of 8 rows
    assert float(entropy(z, neighbours=2, variant="entries")) == pytest.approx(math.log2(24), abs=1e-12)
    walk = np.linalg.matrix_power(
        np.array([[(abs(i - j) % 8 in (0, 1, 7)) / 3 for i in range(8)] for j in range(8)]), 3
    )
    p = walk[walk > 0] / 8
    assert float(entropy(z, neighbours=2, variant="entries", t=3)) == pytest.approx(-(p * np.log2(p)).sum(), abs=1e-9)
    # two columns of four equally filled bins
    grid = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))
    assert r.binned_entropy(grid, num_bins=4) == pytest.approx(4)
    assert r.binned_entropy(grid, num_bins=2) == pytest.approx(2)
    assert r.binned_entropy(torch.ones(5, 2)) == 0


def test_the_entropy_of_a_batch_has_a_gradient():
    z = randn((12, 3), generator(13), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: entropy(z, bandwidth=1.0, t=2).value, z)
    clumped, _ = clusters([4, 4])
    clumped.requires_grad_()
    entropy(clumped, bandwidth=1.0).value.backward()
    assert bool(clumped.grad.isfinite().all())


@pytest.mark.parametrize("normalisation", ["anisotropic", "random-walk"])
def test_landmarks(normalisation):
    """All rows as landmarks: exact. Few: near, with the error it reports. Exact at both ends of the bandwidth."""
    z = torch.cat([randn((150, 3), generator(14), dtype=torch.float64), 3 * randn((150, 3), generator(15)).double()])
    options = {"bandwidth": 2.0, "normalisation": normalisation, "generator": generator(16)}
    exact = float(entropy(z, landmarks=None, **options))
    assert float(entropy(z, landmarks=300, **options)) == pytest.approx(exact, abs=1e-8)
    near = entropy(z, landmarks=150, **options)
    assert float(near) == pytest.approx(exact, abs=0.01)
    assert near.error < 0.01
    far = entropy(z, landmarks=50, **options)
    assert abs(float(far) - exact) > 0.1
    assert far.error == pytest.approx(abs(float(far) - exact), rel=0.3)
    coarse = [
        float(entropy(z, landmarks=m, bandwidth=s, normalisation=normalisation)) for m, s in ((7, 1e-4), (7, 1e7))
    ]
    assert coarse == pytest.approx([math.log2(300), 0], abs=1e-6)
    assert entropy(z, landmarks=None).error is None


@pytest.mark.parametrize("s", [2.5, 0.3])
@pytest.mark.parametrize("normalisation", ["anisotropic", "random-walk"])
def test_fourier_features_are_the_walk_of_the_kernel_that_they_stand_for(normalisation, s, monkeypatch):
    """The whole matrix of the kernel of few frequencies, by NumPy: the same entropy, in pieces of rows or not.

    At the smaller bandwidth some row sums are far below 1, which a kernel's are not.
    """
    z = randn((120, 3), generator(21), dtype=torch.float64)
    angle = (z @ randn((3, 40), generator(22), dtype=torch.float64) / s).numpy()
    g = np.cos(angle[:, None] - angle[None]).mean(2)
    root = np.maximum(g.sum(1), 1) ** -0.5
    k = root[:, None] * g * root
    if normalisation == "anisotropic":
        root = np.maximum(k.sum(1), root**2) ** -0.5
        k = root[:, None] * k * root
    p = np.clip(np.linalg.eigvalsh(k), 0, 1)
    p = p[p > 1e-14] / p.sum()
    options = {"bandwidth": s, "frequencies": 40, "normalisation": normalisation}
    value = float(entropy(z, generator=generator(22), **options))
    assert value == pytest.approx(-(p * np.log2(p)).sum(), abs=1e-9)
    monkeypatch.setattr(fourier, "CHUNK", 7)
    assert float(entropy(z, generator=generator(22), **options)) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("normalisation", ["anisotropic", "random-walk"])
def test_more_frequencies_come_nearer_to_the_exact_entropy(normalisation):
    """16 times the frequencies have a quarter of the error an entry; the error reported is of the size of the true."""
    z = randn((500, 4), generator(23), dtype=torch.float64)
    options = {"bandwidth": 3.0, "normalisation": normalisation}
    exact = float(entropy(z, **options))
    errors = []
    for count in (16, 256):
        found = [entropy(z, frequencies=count, generator=generator(24, i), **options) for i in range(3)]
        errors.append(np.mean([abs(float(value) - exact) for value in found]))
        assert np.mean([value.error for value in found]) == pytest.approx(errors[-1], rel=1.0)
    assert errors[0] > 0.1
    assert errors[1] < errors[0] / 2


def test_a_gradient_through_frequencies():
    z = randn((12, 3), generator(25), dtype=torch.float64).requires_grad_()
    options = {"bandwidth": 2.0, "t": 2, "frequencies": 5}
    assert torch.autograd.gradcheck(lambda z: entropy(z, generator=generator(26), **options).value, z)
    with pytest.raises(ValueError, match=r"^frequencies: expected None with landmarks"):
        entropy(z, frequencies=5, landmarks=3)
    with pytest.raises(ValueError, match=r"^frequencies: expected None"):
        entropy(z, frequencies=5, neighbours=3)


def test_labels_from_anything():
    assert r.groups(torch.tensor([3, 3, 7])).tolist() == [3, 3, 7]
    assert r.groups(np.array([True, False])).tolist() == [1, 0]
    assert r.groups(torch.arange(11.0)).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9]
    assert r.groups(torch.tensor([[0.0], [10.0]]), 4).tolist() == [0, 3]
    z, labels = clusters([30, 30, 30], spread=1.0)
    found = r.groups(z, 3, generator=generator(17))
    table = torch.stack([found[labels == c].bincount(minlength=3) for c in range(3)])
    assert sorted(table.flatten().tolist()) == [0, 0, 0, 0, 0, 0, 30, 30, 30]
    both = [information(z, y, bandwidth=3.0, generator=generator(18)).value for y in (labels, found)]
    assert both[0] == pytest.approx(both[1], abs=0.2)


# The figures below come from random data of which only the law is known; bands are the spread over seeds.


def test_the_dimension_of_a_cube_shows_through_noise():
    """500 points uniform in [-1, 1]^k inside 32 dimensions, s = 0.5; noise of total length 0.1 as well.

    Over eight seeds the entropies have standard deviations below 0.03; the bands are four of these.
    """
    published = {1: (1.74, 2.16), 2: (3.43, 3.80), 4: (6.49, 6.66), 8: (8.75, 8.76)}
    source = generator(19)
    for k, figures in published.items():
        z = torch.zeros(500, 32, dtype=torch.float64)
        z[:, :k] = 2 * rand((500, k), source) - 1
        noisy = z + 0.1 / 32**0.5 * randn(z.shape, source, dtype=torch.float64)
        for rows, figure in zip((z, noisy), figures, strict=True):
            assert float(entropy(rows, bandwidth=0.5)) == pytest.approx(figure, abs=0.12)


def test_more_steps_take_out_more_noise():
    """500 normal points of d dimensions, scale 3, in 20; s = 2, the plain random walk."""
    source, table = generator(20), []
    for d in (1, 2, 3, 5):
        plane = torch.linalg.qr(randn((20, d), source, dtype=torch.float64))[0]
        z = 3 * randn((500, d), source, dtype=torch.float64) @ plane.T
        noise = randn(z.shape, source, dtype=torch.float64)
        cases = ((0, 2), (0.1, 2), (0.5, 1), (0.5, 4))
        table.append([float(entropy(z + e * noise, bandwidth=2.0, t=t, normalisation="random-walk")) for e, t in cases])
    table = np.array(table)
    published = [[2.16, 2.07, 6.95, 1.11], [3.74, 3.71, 7.63, 3.21], [5.23, 5.20, 8.05, 4.63], [7.28, 7.39, 8.67, 7.29]]
    # the width of a normal sample moves the value of a line by 0.15
    assert np.abs(table - published).max() < 0.5
    assert (np.diff(table, axis=0) > 0).all()
    assert (np.abs(table[:, 1] / table[:, 0] - 1) < 0.05).all()
    assert table[0, 2] / table[3, 2] > 0.75  # noise 0.5 hides the dimension after one step
    assert table[0, 3] / table[3, 3] < 0.25  # and no longer after four
