"""Ranks of a denoiser's Jacobian, directions to move along, and subspaces found from few points."""

import math

import pytest
import torch

from clarkia import measures
from clarkia._math.jacobians import jacobian
from clarkia.oracles import GaussianMixture
from clarkia.processes import EDM, VariancePreserving
from clarkia.random import generator, randn

AMBIENT, DIM = 48, 7


def bases(count, dim, seed, ambient=AMBIENT):
    return torch.linalg.qr(randn((count, ambient, dim), generator(seed), dtype=torch.float64))[0]


def level(process, sigma, n):
    return process.t_of_kappa(torch.tensor([sigma], dtype=torch.float64)).expand(n)


@pytest.fixture(name="low_rank", scope="module")
def a_mixture_of_two_planes():
    plane = bases(1, 2 * DIM, 0).reshape(AMBIENT, 2, DIM).movedim(1, 0)  # orthogonal to each other
    return GaussianMixture([0.5, 0.5], torch.zeros(2, AMBIENT, dtype=torch.float64), plane @ plane.mT)


# ------------------------------------------------------------------------------------------------------------- rank


@pytest.mark.parametrize(
    ("sigma", "expected", "margin"),
    [(0.1, 7.0, 0.0), (0.5, 7.1, 0.3), (1.0, 9.3, 1.0), (2.0, 13.6, 0.5), (5.0, 14.0, 0.1), (20.0, 14.0, 0.0)],
)
def test_ranks_of_a_mixture_of_two_planes(low_rank, sigma, expected, margin):
    """From the dimension of one plane, where the noise leaves no doubt which, to that of both."""
    n = 60
    t = level(EDM, sigma, n)
    x_t = EDM.corrupt(low_rank.sample(n, generator=generator(1)), t, generator=generator(2))
    ranks = measures.jacobian_rank(low_rank.denoiser(EDM), EDM, x_t, t)
    assert ranks.dtype == torch.int64
    assert float(ranks.double().mean()) == pytest.approx(expected, abs=margin)


def test_the_rank_from_products_alone(low_rank):
    t = level(EDM, 0.1, 5)
    x_t = EDM.corrupt(low_rank.sample(5, generator=generator(3)), t, generator=generator(4))
    found = measures.jacobian_rank(low_rank.denoiser(EDM), EDM, x_t, t, components=12, generator=generator(5))
    assert found.tolist() == [DIM] * 5


def test_effective_rank_by_hand():
    values = torch.tensor([[3.0, 4.0, 0.0], [5.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]).sort(1, True).values
    assert measures.effective_rank(values, 0.79).tolist() == [1, 1, 0, 2]
    assert measures.effective_rank(values, 0.81).tolist() == [2, 1, 0, 2]
    assert measures.effective_rank(values, 0.99).tolist() == [2, 1, 0, 3]


# ------------------------------------------------------------------------------------------------------- directions


def test_directions_are_the_leading_right_singular_vectors(low_rank):
    denoise = low_rank.denoiser(EDM)
    t = level(EDM, 1.0, 4)
    x_t = EDM.corrupt(low_rank.sample(4, generator=generator(6)), t, generator=generator(7))
    found = measures.semantic_directions(denoise, EDM, x_t, t, 3)
    u, s, vt = torch.linalg.svd(jacobian(denoise, x_t, t))
    torch.testing.assert_close((found.vectors * vt[:, :3]).sum(2).abs(), torch.ones(4, 3, dtype=torch.float64))
    torch.testing.assert_close(found.gains, s[:, :3], rtol=1e-9, atol=1e-9)
    assert float(found.leaks.abs().max()) == 0
    # the effect is the left vector times the gain: cause and effect differ for a Jacobian that is not symmetric
    moved = denoise(x_t + 1e-5 * found.vectors[:, 0], t) - denoise(x_t - 1e-5 * found.vectors[:, 0], t)
    effect = moved / 2e-5 / found.gains[:, :1]
    torch.testing.assert_close(
        (effect * u[:, :, 0]).sum(1).abs(), torch.ones(4, dtype=torch.float64), rtol=1e-6, atol=0
    )


def mixing(x_t, t):
    """A linear map whose Jacobian is not symmetric, on states of shape (2, 3)."""
    return (x_t.flatten(1) @ randn((6, 6), generator(8), dtype=x_t.dtype)).reshape(x_t.shape)


def test_directions_cause_what_left_vectors_do_not():
    x_t = torch.zeros(1, 2, 3, dtype=torch.float64)
    found = measures.semantic_directions(mixing, EDM, x_t, 0.5, 1)
    matrix = randn((6, 6), generator(8), dtype=torch.float64).T
    assert float(found.gains) == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)), rel=1e-10)
    left = torch.linalg.svd(matrix)[0][:, 0]
    assert float((matrix @ left).norm()) < 0.95 * float(found.gains)


def test_masked_directions_leave_the_rest_alone():
    x_t = torch.zeros(2, 2, 3, dtype=torch.float64)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    found = measures.semantic_directions(mixing, EDM, x_t, 0.5, 3, mask=mask, protected=3)
    assert float(found.leaks.max()) < 1e-9
    assert float(found.gains.min()) > 1e-3
    vectors = found.vectors.flatten(2)
    torch.testing.assert_close(vectors @ vectors.mT, torch.eye(3, dtype=torch.float64).expand(2, 3, 3))
    # nothing in the complement of the rest's directions moves the masked part more
    matrix = randn((6, 6), generator(8), dtype=torch.float64).T
    inside, outside = matrix[mask.flatten()], matrix[~mask.flatten()]
    free = torch.linalg.svd(outside)[2][3:]
    best = torch.linalg.svdvals(inside @ free.T)
    torch.testing.assert_close(found.gains[0], best, rtol=1e-9, atol=1e-9)
    open_ = measures.semantic_directions(mixing, EDM, x_t, 0.5, 3, mask=mask, protected=0)
    assert float(open_.leaks.max()) > 0.1
    assert bool((open_.gains[0] > best - 1e-12).all())


def test_large_states_need_products_only():
    """A state of 600 elements and a map of rank 4: the same answer as from its factors."""
    left, right = bases(1, 4, 9, 600)[0], bases(1, 4, 10, 600)[0]
    sizes = torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64)

    def low_rank_map(x_t, t):
        return (x_t.flatten(1) @ right * sizes @ left.T).reshape(x_t.shape)

    x_t = torch.zeros(1, 20, 30, dtype=torch.float64)
    found = measures.semantic_directions(low_rank_map, EDM, x_t, 0.5, 3, generator=generator(11))
    torch.testing.assert_close(found.gains[0], sizes[:3], rtol=1e-9, atol=1e-9)
    overlap = (found.vectors.flatten(2)[0] * right.T[:3]).sum(1).abs()
    torch.testing.assert_close(overlap, torch.ones(3, dtype=torch.float64), rtol=1e-9, atol=1e-9)


# -------------------------------------------------------------------------------------------------------- subspaces


def cluster(plane, per_cluster, seed):
    """Points on each plane, ``(K per_cluster, d)``."""
    weights = randn((len(plane), per_cluster, plane.shape[2]), generator(seed), dtype=torch.float64)
    return (weights @ plane.mT).flatten(0, 1)


def recovered(per_cluster, count, seed, **options):
    plane = bases(count, 6, 100 + seed)
    x = cluster(plane, per_cluster, 200 + seed)
    if options.pop("near", False):
        options["initial"] = plane + 0.05 * randn(plane.shape, generator(300 + seed), dtype=torch.float64)
    found = measures.recover_subspaces(x, count, 6, generator=generator(400 + seed), **options)
    return float(measures.subspace_error(found.bases, plane).max()) < 1e-6


@pytest.mark.parametrize(("count", "options"), [(1, {}), (2, {"near": True})])
def test_the_phase_transition(count, options):
    """Six dimensions need six points: recovery never below and always from there on."""
    for per_cluster, expected in ((5, 0), (6, 1), (8, 1)):
        rate = sum(recovered(per_cluster, count, seed, **options) for seed in range(10)) / 10
        assert rate == expected


def test_random_starts_need_more_points():
    """Each start may get stuck: with ten of them success rises slowly (0.15 at 7, 0.5 at 18, 0.95 at 30 points).

    20 trials each: four standard errors of a rate of one half are 0.45, false alarm below 1e-4.
    """
    rates = [
        sum(recovered(per_cluster, 2, seed, restarts=10, num_iterations=40) for seed in range(12)) / 12
        for per_cluster in (7, 18, 32)
    ]
    assert rates == sorted(rates)
    assert rates[0] < 0.6
    assert rates[2] > 0.7


def test_recovery_by_hand():
    axes = torch.eye(3, dtype=torch.float64)
    x = torch.stack([2 * axes[0], -axes[0], axes[1], 3 * axes[1]])
    found = measures.recover_subspaces(x, 2, 1, generator=generator(12))
    assert found.explained == pytest.approx(1, abs=1e-12)
    assert found.counts.tolist() == [2, 2]
    assert found.identifiable.tolist() == [True, True]
    assert found.assignment[0] == found.assignment[1] != found.assignment[2] == found.assignment[3]
    true = axes[:, :2].T.reshape(2, 3, 1)
    assert float(measures.subspace_error(found.bases, true).max()) < 1e-6
    alone = measures.recover_subspaces(x[[0, 2]], 2, 1, generator=generator(13))
    assert not bool(alone.identifiable.any())
    # one subspace: PCA without centring
    points = randn((30, 5), generator(14), dtype=torch.float64) + 2
    one = measures.recover_subspaces(points, 1, 2)
    leading = torch.linalg.svd(points)[2][:2].T
    assert float(measures.subspace_error(one.bases, leading.unsqueeze(0))) < 1e-9
    assert one.explained == pytest.approx(float((points @ leading).square().sum() / points.square().sum()), rel=1e-10)


def test_subspace_error_is_the_sine_of_the_angle():
    for angle in (1e-9, 0.3, math.pi / 2):
        line = torch.tensor([[[1.0], [0.0]]], dtype=torch.float64)
        other = torch.tensor([[[math.cos(angle)], [math.sin(angle)]]], dtype=torch.float64)
        assert float(measures.subspace_error(line, other)) == pytest.approx(math.sin(angle), rel=1e-6)
    plane = bases(3, 2, 15)
    mixed = plane[[2, 0, 1]] @ torch.linalg.qr(randn((3, 2, 2), generator(16), dtype=torch.float64))[0]
    assert float(measures.subspace_error(mixed, plane).max()) < 1e-12
    worse = mixed.clone()
    worse[1] = bases(1, 2, 17)[0]  # the partner of the first true plane
    error = measures.subspace_error(worse, plane)
    assert (error > 1e-3).tolist() == [True, False, False]


def test_ranks_and_directions_under_another_process():
    process = VariancePreserving()
    oracle = GaussianMixture([1.0], [[0.0, 0.0, 0.0]], [[4.0, 1.0, 0.0]])
    t = level(process, 0.5, 2)
    x_t = torch.zeros(2, 3, dtype=torch.float64)
    assert measures.jacobian_rank(oracle.denoiser(process), process, x_t, t).tolist() == [2, 2]
    found = measures.semantic_directions(oracle.denoiser(process), process, x_t, t, 1)
    torch.testing.assert_close(found.vectors[:, 0].abs(), torch.eye(3, dtype=torch.float64)[:1].expand(2, 3))
