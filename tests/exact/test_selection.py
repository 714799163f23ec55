"""Selection by optimal transport: the whitened distance, the layers, the automatic size, weights and counts."""

import importlib

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from clarkia import curation
from clarkia._math.transport import sinkhorn
from clarkia.curation.selection.transport import MOST, distance_to, reweighted, transport
from clarkia.random import generator, randn

module = importlib.import_module("clarkia.curation.selection.select")


def normal(*shape, seed=0):
    return randn(shape, generator(seed, *shape), dtype=torch.float64)


def test_the_whitened_distance_is_the_angle_in_the_metric_of_the_inverse_covariance():
    x, y = normal(40, 5) @ normal(5, 5), normal(30, 5, seed=1) @ normal(5, 5)
    stack = torch.cat([x, y]).numpy()
    centred = stack - stack.mean(0)
    inner = centred @ np.linalg.inv(centred.T @ centred / len(stack)) @ centred.T
    cosine = inner / np.sqrt(np.outer(inner.diagonal(), inner.diagonal()))
    found = curation.whitened_distance(x, y, shrinkage=0.0).numpy()
    np.testing.assert_allclose(found, np.sqrt(2 - 2 * cosine[:40, 40:]), atol=1e-10)


def test_no_affine_map_changes_the_whitened_distance():
    x, y = normal(40, 5), normal(30, 5, seed=1)
    matrix = normal(5, 5, seed=2) @ torch.diag(torch.logspace(-2, 2, 5, dtype=torch.float64))
    shift = normal(1, 5, seed=3)
    plain = curation.whitened_distance(x, y, shrinkage=0.0)
    mapped = curation.whitened_distance(x @ matrix + shift, y @ matrix + shift, shrinkage=0.0)
    # A covariance squares the condition of the map, here 2e4, and rounding is so much larger.
    assert float((plain - mapped).abs().max()) < 1e-6
    # the regularisation is relative, so the unit of the features does not matter even with it
    scaled = curation.whitened_distance(1e-6 * x, 1e-6 * y)
    assert float((curation.whitened_distance(x, y) - scaled).abs().max()) < 1e-10


def test_small_directions_survive():
    """Two groups differ in a direction a hundred-thousandth as wide as the widest."""
    x = normal(200, 3) * torch.tensor([1.0, 1e-3, 1e-6], dtype=torch.float64)
    x[:100, 2] += 1e-5
    x[100:, 2] -= 1e-5

    def contrast(near):
        return float(near[:50, 50:].mean() - near[:50, :50].mean())

    assert contrast(curation.whitened_distance(x[::2], x[1::2])) > 0.5
    # drowned by the published regularisation of 1e-5, which is absolute, and by its covariance in half precision
    centred = x - x.mean(0)
    covariance = x.T.cov(correction=0)
    root = torch.linalg.inv(torch.linalg.cholesky(covariance + 1e-5 * torch.eye(3))).T
    unit = torch.nn.functional.normalize(centred @ root, dim=1)
    assert contrast(torch.cdist(unit[::2], unit[1::2])) < 0.05
    half = centred.half()
    assert float(half.T[2] @ half[:, 2] / 200) < 0.5 * float(covariance[2, 2])


def test_more_features_than_rows():
    near = curation.whitened_distance(normal(6, 30), normal(5, 30, seed=1))
    assert near.shape == (6, 5)
    assert bool(near.isfinite().all())
    assert float(near.std()) > 1e-3  # a pseudo-inverse would put all pairs at one distance


def test_a_row_at_the_joint_mean_is_at_a_right_angle_to_all_others():
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([[0.0, 1.0], [0.0, -1.0], [0.0, 0.0]], dtype=torch.float64)
    near = curation.whitened_distance(x, y)
    torch.testing.assert_close(near[2], torch.full((3,), 2**0.5, dtype=torch.float64))
    torch.testing.assert_close(near[:, 2], torch.full((3,), 2**0.5, dtype=torch.float64))


def test_copies_of_the_targets_are_selected():
    target = normal(20, 6, seed=1)
    candidates = torch.cat([normal(50, 6), target, normal(30, 6, seed=2)])
    found = curation.select(candidates, target, size=20, blur=0.01)
    assert found.indices.tolist() == list(range(50, 70))
    assert found.distance < 0.01


def test_little_blur_gives_the_optimal_assignment():
    f, g = module.unit_rows(normal(50, 4), normal(50, 4, seed=1))
    cost = torch.cdist(f, g).numpy()
    best = cost[linear_sum_assignment(cost)].mean()
    assert distance_to(f, g, 0.01) == pytest.approx(best, rel=0.01)


def brute_layers(x, y, size, cut):
    """Take whole layers while they fit, one by one, then the best rows of the next by a function of its rows."""
    order = torch.argsort(torch.cdist(y, x), dim=1)
    taken = set()
    for layer in order.T.tolist():
        new = sorted(set(layer) - taken)
        if len(taken) + len(new) > size:
            values = cut(new)
            keep = sorted(range(len(new)), key=lambda i: values[i])[: size - len(taken)]
            return sorted(taken | {new[i] for i in keep})
        taken |= set(new)
    return sorted(taken)


@pytest.mark.parametrize("size", [1, 6, 20, 41, 60])
def test_layers_are_those_of_the_plain_algorithm(size):
    x, y = normal(60, 3), normal(7, 3, seed=1)
    f, g = curation.whitened_features(x, y)
    by_potential = brute_layers(f, g, size, lambda new: transport(f[new], g, 0.1).potential.tolist())
    assert curation.select(x, y, size=size).indices.tolist() == by_potential
    assert len(by_potential) == size


def test_the_last_layer_cut_by_distance():
    """Two targets, three rows to take: layer one whole, then of layer two the row nearer to its target."""
    angle = torch.tensor([0.0, 0.10, 3.0, 3.25, 1.5], dtype=torch.float64)
    x = torch.stack([angle.cos(), angle.sin()], 1)
    y = x[[0, 2]]
    found = curation.select(x, y, size=3, rule="nearest", whiten=False)
    assert found.indices.tolist() == [0, 1, 2]  # the row at 0.10 is 0.10 from its target, that at 3.25 is 0.25
    mean = curation.select(x, y, size=1, rule="mean", whiten=False)
    assert mean.indices.tolist() == [4]  # between the two


def test_rows_of_low_potential_are_nearer_and_those_of_high_potential_farther():
    """The published tie-break keeps the rows whose mass raises the cost most; here it is the other way round."""
    x, y = normal(300, 4), normal(80, 4, seed=1) + 1.0
    f, g = module.unit_rows(x, y)
    potential = transport(f, g, 0.1).potential
    order = torch.argsort(potential)
    low, high = (distance_to(f[rows], g, 0.1) for rows in (order[:100], order[-100:]))
    assert low < distance_to(f, g, 0.1) < high
    # it is the derivative of the cost with respect to a row's mass
    mass, step = torch.full((300,), 1 / 300, dtype=torch.float64), 1e-4
    move = torch.zeros(300, dtype=torch.float64)
    move[order[0]], move[order[-1]] = step, -step
    cost = torch.cdist(f, g)
    up, down = (float(sinkhorn(cost, 0.01, a=mass + sign * move, tolerance=1e-10).cost) for sign in (1, -1))
    expected = float(potential[order[0]] - potential[order[-1]])
    assert (up - down) / (2 * step) == pytest.approx(expected, rel=1e-3)


def test_weights_bring_the_selection_nearer():
    x, y = module.unit_rows(normal(150, 4), normal(60, 4, seed=1) + 1.0)
    weights = reweighted(transport(x, y, 0.1).potential)
    cost = torch.cdist(x, y)
    assert float(weights.mean()) == pytest.approx(1, abs=1e-12)
    assert float(sinkhorn(cost, 0.01, a=weights / 150).cost) < float(sinkhorn(cost, 0.01).cost) - 0.01
    torch.testing.assert_close(reweighted(transport(x, y, 0.1).potential + 7.0), weights)


@pytest.mark.parametrize("options", [{"size": 40}, {"size": None, "folds": 2}])
def test_weights_belong_to_their_rows_whatever_the_order_of_the_pool(options):
    x, y = normal(120, 3), normal(30, 3, seed=1) + 0.5
    order = torch.randperm(120, generator=generator(5))
    plain = curation.select(x, y, generator=generator(6), **options)
    mixed = curation.select(x[order], y, generator=generator(6), **options)
    by_row = dict(zip(plain.indices.tolist(), plain.weights.tolist(), strict=True))
    assert {int(order[i]) for i in mixed.indices} == set(by_row)
    for index, weight in zip(mixed.indices, mixed.weights, strict=True):
        assert float(weight) == pytest.approx(by_row[int(order[index])], abs=1e-9)
    assert float(plain.weights.std()) > 0.01


def test_growing_stops_after_the_best_set_and_keeps_it():
    x, y = module.unit_rows(normal(200, 3), normal(40, 3, seed=1) + 1.0)
    near, others = y[:10], y[10:]
    kept, curve = module._grow(x, near, others, 0.1, None)
    order = torch.argsort(torch.cdist(near, x), dim=1)
    similar = torch.cdist(near, x).square() < 2
    expected = []
    for depth in range(1, 200):
        rows = [int(i) for j in range(10) for i in order[j, :depth] if similar[j, i]]
        expected.append(distance_to(x[sorted(set(rows))], others, 0.1))
        if expected[-1] >= min(expected[:-1], default=9.0):
            break
    assert curve == pytest.approx(expected, abs=1e-12)
    assert len(curve) > 2
    assert curve[-1] >= curve[-2]  # the set that stopped it is not nearer, and not the one kept
    assert distance_to(x[kept], others, 0.1) == pytest.approx(min(curve), abs=1e-12)


def test_large_sets_are_represented_by_a_part():
    x, y = module.unit_rows(normal(MOST + 500, 3), normal(50, 3, seed=1))
    found = transport(x, y, 0.2, generator(0))
    whole = sinkhorn(torch.cdist(x, y), 0.04)
    assert found.distance == pytest.approx(float(whole.cost), abs=0.01)
    gap = found.potential - whole.f
    assert float((gap - gap.mean()).abs().max()) < 0.06
    assert float(torch.corrcoef(torch.stack([found.potential, whole.f]))[0, 1]) > 0.99


def test_repetition_counts():
    # scaled to 10 slots with one target row of the largest weight: 3.75, 1.25, 1.25 and 3.75
    assert curation.repetition_counts(torch.tensor([3.0, 1.0, 1.0]), 10, num_targets=1).tolist() == [4, 1, 1, 4]
    # equal fractions: the earlier rows get the two slots that are left
    assert curation.repetition_counts(torch.ones(3), 5).tolist() == [2, 2, 1]
    assert curation.repetition_counts(torch.tensor([0.0, 1.0]), 7).tolist() == [0, 7]
    assert int(curation.repetition_counts(normal(1000).abs(), 12345, num_targets=10).sum()) == 12345
