"""Embeddings of sets: what they may depend on, how their noise shrinks, and the closed forms they are held against."""

import math

import pytest
import torch

from clarkia import curation
from clarkia.curation.sets.groups import halves, mixed, padded
from clarkia.random import generator, rand, randn
from clarkia.training import TrainingOptions

KINDS = ["pooled", "attention"]


def encoder(kind, seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return curation.SetEncoder(3, 5, kind=kind, width=16, **options).double()


@pytest.mark.parametrize("kind", KINDS)
def test_order_and_copies_of_the_whole_set_change_nothing(kind):
    net, x = encoder(kind), randn((4, 11, 3), generator(0), dtype=torch.float64)
    z = net(x)
    torch.testing.assert_close(net(x[:, torch.randperm(11, generator=generator(1))]), z, atol=1e-10, rtol=0)
    torch.testing.assert_close(net(torch.cat([x, x], 1)), z, atol=1e-10, rtol=0)
    torch.testing.assert_close(net(x.repeat_interleave(3, 1)), z, atol=1e-10, rtol=0)
    # one point more than the others is a change of the distribution
    assert float((net(torch.cat([x, x[:, :1]], 1)) - z).detach().abs().min()) > 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_not_seen(kind):
    net, groups = encoder(kind), [randn((n, 3), generator(n), dtype=torch.float64) for n in (1, 7, 4)]
    x, present = padded(groups)
    x[~present] = 1e3
    together = net(x, present)
    for group, z in zip(groups, together, strict=True):
        torch.testing.assert_close(net(group[None])[0], z, atol=1e-10, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_twice_the_points_halve_the_variance(kind):
    """3000 sets of 100 and of 200 draws: the ratio of variances is within 10 % of 2 (its standard error is 3 %).

    Attention costs the square of the points, so its sets have 30 and 60; the false alarm is 1e-3.
    """
    net, traces = encoder(kind, depth=1), []
    for n in (100, 200) if kind == "pooled" else (30, 60):
        sets = randn((3000, n, 3), generator(n), dtype=torch.float64) + 1.0
        with torch.no_grad():
            z = torch.cat([net(part) for part in sets.split(500)])
        traces.append(float(z.T.cov().trace()))
    assert 1.8 < traces[0] / traces[1] < 2.2


def test_halves_are_disjoint_and_share_out_every_group():
    groups = [torch.arange(n, dtype=torch.float64)[:, None] + 100 * n for n in (4, 9, 12, 5)]
    x, present = padded(groups)
    for most in (2, 50):
        first, there, second, wanted = halves(x, present.sum(1), most, generator(0))
        for index, group in enumerate(groups):
            a, b = first[index][there[index], 0].tolist(), second[index][wanted[index], 0].tolist()
            assert len(a) == min(most, len(group) // 2)
            assert len(b) == min(most, len(group) - len(group) // 2)
            assert not set(a) & set(b)
            assert len(set(a)) == len(a)
            assert set(a) | set(b) <= set(group[:, 0].tolist())
    counts = torch.zeros(9)
    for seed in range(900):  # every point is as often in the first half: 400 times, standard error 15
        chosen = halves(x[1:2], present[1:2].sum(1), 50, generator(1, seed))[0][0, :4, 0] - 900
        counts[chosen.long()] += 1
    assert bool(((counts - 400).abs() < 4 * 15).all())


def test_mixtures_have_uniform_weights_and_keep_their_halves_apart():
    """Shares of the first of two sources are uniform on [0, 1] (Dirichlet of ones): mean 1/2, variance 1/12."""
    g, n = 3000, 64
    group = torch.arange(g, dtype=torch.float64)
    first, second = (sign * (1 + group)[:, None, None].expand(g, n, 1) for sign in (1, -1))
    there = torch.ones(g, n, dtype=torch.bool)
    a, b = mixed(first, there, second, there, generator(0), sources=2)
    assert bool((a > 0).all())
    assert bool((b < 0).all())
    for row in range(g):
        assert len({*a[row, :, 0].tolist(), *(-b[row, :, 0]).tolist()}) <= 2
    # the source of the first point has the size-biased share: mean 2/3 of a uniform one, over the other 63 points
    shares = (a[:, 1:, 0] == a[:, :1, 0]).double().mean(1)
    assert float(shares.mean()) == pytest.approx(2 / 3, abs=4 * 0.25 / g**0.5)


def test_transport_between_normal_laws_by_hand():
    one, two = torch.zeros(2), torch.tensor([3.0, 4.0])
    s1, s2 = torch.diag(torch.tensor([1.0, 4.0])), torch.diag(torch.tensor([9.0, 1.0]))
    # commuting covariances: the distance of the roots, (1 - 3)^2 + (2 - 1)^2, beside 25 of the means
    assert float(curation.gaussian_wasserstein(one, s1, two, s2)) == pytest.approx(math.sqrt(30), rel=1e-12)
    mean, covariance = curation.gaussian_geodesic(one, s1, two, s2, 0.5)
    torch.testing.assert_close(mean, torch.tensor([1.5, 2.0], dtype=torch.float64))
    torch.testing.assert_close(covariance, torch.diag(torch.tensor([4.0, 2.25], dtype=torch.float64)))


def test_the_distance_grows_evenly_along_the_geodesic():
    roots = randn((2, 3, 3), generator(0), dtype=torch.float64)
    s1, s2 = roots @ roots.mT + 0.1 * torch.eye(3, dtype=torch.float64)
    m1, m2 = randn((2, 3), generator(1), dtype=torch.float64)
    whole = float(curation.gaussian_wasserstein(m1, s1, m2, s2))
    for share in (0.0, 0.2, 0.7, 1.0):
        law = curation.gaussian_geodesic(m1, s1, m2, s2, share)
        assert float(curation.gaussian_wasserstein(m1, s1, *law)) == pytest.approx(share * whole, abs=1e-6)
        assert float(curation.gaussian_wasserstein(*law, m2, s2)) == pytest.approx((1 - share) * whole, abs=1e-6)


def test_a_short_training_finds_the_parameters_of_the_groups():
    """Normal groups on a line: a straight-line fit from the vector to mean and log-deviation of groups never seen."""
    noise = generator(0)
    centre, spread = 4 * rand((400, 1, 1), noise) - 2, torch.exp(rand((400, 1, 1), noise) - 1)
    groups = centre + spread * randn((400, 80, 1), noise, dtype=torch.float64)
    options = TrainingOptions(max_steps=250, batch_size=32, learning_rate=5e-3, ema_decay=0.98)
    found = curation.fit_distribution_embedding(
        groups[:300], latent=4, width=32, set_size=40, num_targets=8, options=options
    )
    z = found.embed(groups).double()
    z = torch.cat([z, torch.ones(400, 1)], 1)
    for truth, least in ((centre, 0.95), (spread.log(), 0.7)):
        truth = truth.flatten()
        weight = torch.linalg.lstsq(z[:300], truth[:300, None]).solution[:, 0]
        error = (truth[300:] - z[300:] @ weight).square().mean()
        assert float(1 - error / truth[300:].var()) > least
    drawn = found.sample(found.embed(groups[300:301])[0], 2000, generator=generator(1))
    assert float(drawn.mean()) == pytest.approx(float(centre[300]), abs=0.4)
    again = found.sample(found.embed(groups[300:301])[0], 2000, generator=generator(1))
    assert torch.equal(drawn, again)
    middle = found.interpolate(*found.embed(groups[300:302]), 0.0, 2000, generator=generator(1))
    torch.testing.assert_close(middle, drawn, atol=1e-4, rtol=1e-3)


GROUPS = randn((6, 8, 2), generator(0))


@pytest.mark.parametrize(
    ("groups", "options", "sentence"),
    [
        ([], {}, "groups: expected a sequence of matrices (points, numbers), found none."),
        (3, {}, "groups: expected a sequence of matrices (points, numbers), found int."),
        ([GROUPS[0], GROUPS[1][:3]], {}, "groups[1]: expected at least 4 points of 2 numbers, found (3, 2)."),
        ([GROUPS[0], GROUPS[1][:, :1]], {}, "groups[1]: expected at least 4 points of 2 numbers, found (8, 1)."),
        (torch.full((2, 5, 2), math.nan), {}, "groups[0]: expected finite features, found nan in row 0, column 0."),
        (torch.ones(2, 5, 2), {}, "groups: expected points that differ, found one and the same."),
        (GROUPS, {"latent": 0}, "latent: expected a whole number of at least 1, found 0."),
        (GROUPS, {"kind": "sum"}, "kind: expected one of ['pooled', 'attention'], found 'sum'."),
        (GROUPS, {"mixing": 1.5}, "mixing: expected a number in [0, 1], found 1.5."),
    ],
)
def test_bad_arguments(groups, options, sentence):
    with pytest.raises(ValueError, match="expected") as error:
        curation.fit_distribution_embedding(groups, options=TrainingOptions(max_steps=1), **options)
    assert sentence in str(error.value)
