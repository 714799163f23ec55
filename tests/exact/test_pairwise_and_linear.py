"""Sums over pairs, neighbours, covariances and roots against plain formulas and scikit-learn."""

import math

import pytest
import torch
from sklearn.covariance import ledoit_wolf as sklearn_ledoit_wolf

from clarkia._math import linear, neighbours, pairwise
from clarkia.random import generator, rand, randn

F64 = torch.float64


def normal(n, d, seed):
    return randn((n, d), generator(seed), dtype=F64)


@pytest.mark.parametrize("d", [1, 5, 32, 33, 300])
def test_squared_distances(d):
    """From differences to the last digits, from products to 1e-15 of the squared norms, a far mean included."""
    x, y = normal(20, d, 0) + 1e4, normal(30, d, 1) + 1e4
    exact = (x[:, None] - y[None]).square().sum(2)
    torch.testing.assert_close(pairwise.squared_distances(x, y), exact, rtol=1e-12, atol=0)
    torch.testing.assert_close(pairwise.distances(x, y), exact.sqrt(), rtol=1e-12, atol=0)
    torch.testing.assert_close(pairwise.paired_squared_distances(x, y[:20]), exact.diagonal(), rtol=1e-13, atol=0)


@pytest.mark.parametrize("d", [3, 60])
def test_gradients_where_rows_coincide(d):
    x = normal(4, d, 2)
    z = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(pairwise.distances(z, x[:1]).sum(), z)
    assert bool((slope[0].abs() < 1e-6).all())
    gap = x[1:] - x[:1]
    torch.testing.assert_close(slope[1:], gap / gap.norm(dim=1, keepdim=True), atol=1e-12, rtol=1e-10)


def test_means_over_pairs_in_blocks():
    x, y = normal(37, 3, 3), normal(23, 3, 4)
    table = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
    own = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    for chunk in (1, 8, 100):
        assert float(pairwise.pair_mean(pairwise.distances, x, y, chunk=chunk)) == pytest.approx(
            float(table.mean()), rel=1e-13
        )
        for symmetric in (True, False):
            options = {"chunk": chunk, "symmetric": symmetric}
            assert float(pairwise.pair_mean(pairwise.distances, x, x, **options)) == pytest.approx(
                float(own.mean()), rel=1e-13
            )
            shifted = pairwise.pair_mean(lambda a, b: pairwise.distances(a, b) + 1, x, x, exclude_self=True, **options)
            assert float(shifted) == pytest.approx(float(own.sum()) / (37 * 36) + 1, rel=1e-13)
        torch.testing.assert_close(
            pairwise.row_means(pairwise.distances, x, y, chunk=chunk), table.mean(1), rtol=1e-13, atol=0
        )
        logs = pairwise.row_log_means(lambda a, b: -1000 * pairwise.distances(a, b), x, y, chunk=chunk)
        torch.testing.assert_close(logs, (-1000 * table).logsumexp(1) - math.log(23), rtol=1e-13, atol=0)
    with pytest.raises(ValueError, match="chunk"):
        pairwise.pair_mean(pairwise.distances, x, y, chunk=0)


def test_blocks_are_not_kept_for_the_gradient():
    """The backward pass needs no more memory than a few blocks: saved tensors do not grow with the number of pairs."""
    saved = []
    x = normal(400, 2, 5).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        value = pairwise.pair_mean(pairwise.squared_distances, x, normal(400, 2, 6), chunk=50)
    assert max(saved, default=0) < 50 * 50
    (slope,) = torch.autograd.grad(value, x)
    torch.testing.assert_close(slope, 2 * (x.detach() - normal(400, 2, 6).mean(0)) / 400, atol=1e-14, rtol=1e-9)


@pytest.fixture(params=["library", "blocks"])
def k_nearest(request, monkeypatch):
    """The search of either kind of machine; blocks are those of an accelerator."""
    if request.param == "blocks":
        monkeypatch.setattr(neighbours, "_search_on_cpu", neighbours._search_in_blocks)
        monkeypatch.setattr(neighbours, "SEARCH_QUERIES", 7)
        monkeypatch.setattr(neighbours, "SEARCH_POINTS", 16)
    return neighbours.k_nearest


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("d", [2, 40])
def test_nearest_neighbours(k_nearest, d, k):
    x, y = normal(50, d, 7), normal(45, d, 8)
    values, order = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").sort(1)
    found, indices = k_nearest(x, y, k)
    torch.testing.assert_close(found, values[:, :k], rtol=1e-12, atol=0)
    assert bool((indices == order[:, :k]).all())
    own, itself = k_nearest(x, x, k, exclude_self=True)
    values, order = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").sort(1)
    torch.testing.assert_close(own, values[:, 1 : k + 1], rtol=1e-12, atol=0)
    assert bool((itself == order[:, 1 : k + 1]).all())


def test_neighbours_that_coincide_are_at_distance_zero(k_nearest):
    x = (normal(10, 80, 9) + 1e3).repeat(2, 1)
    found, indices = k_nearest(x, x, 2, exclude_self=True)
    assert bool((found[:, 0] == 0).all())
    assert bool((found[:, 1] > 1).all())
    assert indices[:, 0].tolist() == [*range(10, 20), *range(10)]
    for k in (0, 20):
        with pytest.raises(ValueError, match="k: expected 1 to 19"):
            k_nearest(x, x, k, exclude_self=True)


def test_a_row_is_not_its_own_neighbour_among_many_copies(k_nearest):
    x = torch.eye(3, dtype=torch.float64).repeat(30, 1)
    found, indices = k_nearest(x, x, 2, exclude_self=True)
    assert bool((found == 0).all())
    assert bool((indices != torch.arange(90)[:, None]).all())


def test_neighbours_far_from_the_origin(k_nearest):
    """What all rows have in common costs no digits."""
    x, y = normal(200, 60, 11), normal(300, 60, 12)
    near = k_nearest(x, y, 3)[1]
    assert k_nearest(x + 1e7, y + 1e7, 3)[1].equal(near)


def test_median_distance():
    x = torch.tensor([[0.0], [1.0], [3.0]])  # distances 1, 2, 3
    assert pairwise.median_distance(x) == 2
    assert pairwise.median_distance(torch.tensor([[0.0], [1.0], [3.0], [7.0]])) == 3.5  # 1 2 3 4 6 7
    assert pairwise.median_distance(torch.tensor([[0.0]] * 9 + [[5.0]])) == pytest.approx(1.0)  # mean 9 * 5 / 45
    for d in (1, 64):
        assert pairwise.median_distance(torch.full((5, d), 0.1)) == 1.0
    rows = normal(3000, 50, 10)
    assert pairwise.median_distance(rows) == pairwise.median_distance(rows)
    assert pairwise.median_distance(rows) == pytest.approx(10, rel=0.02)  # sqrt(2 d)


def test_covariance_and_shrinkage():
    for n, d in ((30, 5), (8, 20), (2, 3)):
        x = normal(n, d, 11) * torch.linspace(0.5, 3, d) + 7
        matrix, share = sklearn_ledoit_wolf(x.numpy())
        torch.testing.assert_close(linear.ledoit_wolf(x), torch.from_numpy(matrix), atol=1e-12, rtol=1e-10)
        assert linear.ledoit_wolf_shrinkage(x) == pytest.approx(share, abs=1e-10)
    x = normal(30, 5, 12)
    torch.testing.assert_close(linear.covariance(x), x.T.cov(), atol=1e-14, rtol=1e-12)
    with pytest.raises(ValueError, match="2 rows"):
        linear.covariance(x[:1])


def test_whitening():
    x = normal(60, 4, 13) @ normal(4, 4, 14) + 3
    white = linear.whitening(x, shrinkage=0.0).apply(x)
    torch.testing.assert_close(linear.covariance(white), torch.eye(4, dtype=F64), atol=1e-11, rtol=0)
    torch.testing.assert_close(white.mean(0), torch.zeros(4, dtype=F64), atol=1e-12, rtol=0)
    shrunk = linear.whitening(x)
    torch.testing.assert_close(
        shrunk.matrix @ linear.ledoit_wolf(x) @ shrunk.matrix, torch.eye(4, dtype=F64), atol=1e-10, rtol=0
    )
    flat = torch.cat([x, torch.full((60, 1), 2.0)], 1)  # a constant column goes to 0
    assert float(linear.whitening(flat, shrinkage=0.0).apply(flat)[:, 4].abs().max()) < 1e-12
    with pytest.raises(ValueError, match="shrinkage"):
        linear.whitening(x, shrinkage=1.5)


def test_trace_of_the_root_of_a_product():
    a, b = (linear.covariance(normal(20, 4, seed)) for seed in (15, 16))
    general = torch.linalg.eigvals(a @ b)  # the same eigenvalues, through a general solver
    assert float(linear.trace_sqrt_product(a, b)) == pytest.approx(float(general.real.sqrt().sum()), rel=1e-12)
    root = linear.square_root(a)
    torch.testing.assert_close(root @ root, a, atol=1e-13, rtol=1e-12)

    def symmetric(a, b):
        return linear.trace_sqrt_product((a + a.T) / 2, (b + b.T) / 2)

    assert torch.autograd.gradcheck(symmetric, (a.requires_grad_(), b.requires_grad_()))
    eye = torch.eye(4, dtype=F64, requires_grad=True)  # equal eigenvalues: tr (A)^{1/2} has slope I / 2 at I
    (slope,) = torch.autograd.grad(linear.trace_sqrt_product(eye, torch.eye(4, dtype=F64)), eye)
    torch.testing.assert_close(slope, torch.eye(4, dtype=F64) / 2, atol=1e-13, rtol=0)


def test_low_rank_roots_do_not_pick_up_rounding():
    """Rank 3 of 200: 197 eigenvalues of rounding would add 197 * 1e-8 each way."""
    x, y = normal(4, 200, 17), normal(4, 200, 18)
    centred = [(z - z.mean(0)) / 3**0.5 for z in (x, y)]
    exact = float(torch.linalg.svdvals(centred[0] @ centred[1].T).sum())
    assert float(linear.trace_sqrt_product(*(linear.covariance(z) for z in (x, y)))) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_sums_over_blocks_are_those_of_all_rows(dtype, monkeypatch):
    """Blocks of 3 rows; rows of single precision are taken for the numbers they are."""
    monkeypatch.setattr(pairwise, "NUMBERS", 15)
    x, y = ((normal(n, 5, 20 + n) + 1e3).to(dtype) for n in (31, 17))
    exact = x.double()
    assert [len(block) for _, block in pairwise.blocks(x)] == [3] * 10 + [1]
    assert [first for first, _ in pairwise.blocks(x)] == list(range(0, 31, 3))
    torch.testing.assert_close(pairwise.mean_row(x), exact.mean(0), rtol=1e-14, atol=0)
    torch.testing.assert_close(pairwise.mean_row(x, y), torch.cat([x, y]).double().mean(0), rtol=1e-14, atol=0)
    centre = y[0].double()
    assert pairwise.reach(x, centre) == pytest.approx(float((exact - centre).square().sum(1).max()), rel=1e-14)
    mean, scatter = linear.moments(x)
    torch.testing.assert_close(mean, exact.mean(0), rtol=1e-14, atol=0)
    torch.testing.assert_close(scatter, 30 * exact.T.cov(), rtol=1e-10, atol=0)
    torch.testing.assert_close(linear.product_sum([exact[:9], exact[9:]]), exact.T @ exact, rtol=1e-13, atol=0)


@pytest.mark.parametrize("d", [7, 256, 600])
def test_sum_of_symmetric_products(d):
    """The triangle that is not multiplied out is the mirror of the other, in gradients as well."""
    x = normal(30, d, 21).requires_grad_()
    found = linear.product_sum([x[:11], x[11:]])
    torch.testing.assert_close(found.detach(), x.detach().T @ x.detach(), rtol=1e-12, atol=1e-12)
    weights = normal(d, d, 25)
    (slope,) = torch.autograd.grad((found * weights).sum(), x)
    torch.testing.assert_close(slope, x.detach() @ (weights + weights.T), rtol=1e-11, atol=1e-11)


def test_median_distance_of_several_sets():
    """As of the sets in one, the rows drawn included."""
    x, y = normal(150, 3, 22), normal(140, 3, 23).float()
    pooled = torch.cat([x, y])
    assert pairwise.median_distance(x, y) == pairwise.median_distance(pooled)
    for noise in (lambda: None, lambda: generator(24)):
        drawn = pairwise.median_distance(x, y, generator=noise(), max_rows=50)
        assert drawn == pairwise.median_distance(pooled, generator=noise(), max_rows=50)
        assert drawn != pairwise.median_distance(x, y)


def test_draws_need_no_global_state():
    state = torch.random.get_rng_state()
    pairwise.median_distance(rand((2500, 3), generator(19)))
    assert bool((torch.random.get_rng_state() == state).all())
