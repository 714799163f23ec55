import numpy as np
import pytest
import torch

from clarkia.measures.fidelity import fidelity_scores, level_interval, level_score
from clarkia.measures.neighbours import nearest


def from_the_definition(real, synthetic):
    """Alpha-precision and beta-recall as written: 30 levels, curves, areas."""
    levels = np.arange(30) / 29
    centre = real.mean(0)
    radii = np.quantile(np.linalg.norm(real - centre, axis=1), levels)
    precision = [(np.linalg.norm(synthetic - centre, axis=1) <= r).mean() for r in radii]
    distances = np.linalg.norm(real[:, None] - synthetic[None], axis=2)
    between = np.linalg.norm(real[:, None] - real[None], axis=2)
    np.fill_diagonal(between, np.inf)
    nearest_real = between.min(1)
    owner = synthetic[distances.argmin(1)]
    from_centre = np.linalg.norm(owner - synthetic.mean(0), axis=1)
    radii = np.quantile(from_centre, levels)
    recall = [((distances.min(1) <= nearest_real) & (from_centre <= r)).mean() for r in radii]
    authentic = (distances.min(0) > nearest_real[distances.argmin(0)]).mean()
    score = lambda curve: 1 - np.abs(levels - curve).sum() / levels.sum()  # noqa: E731
    return score(np.array(precision)), score(np.array(recall)), authentic


@pytest.mark.parametrize("dimension", [3, 20])  # trees and chunked products
def test_scores_are_the_definition(dimension):
    rng = np.random.default_rng(1)
    real, synthetic = rng.normal(size=(400, dimension)), 1.3 * rng.normal(size=(300, dimension)) + 0.2
    found = fidelity_scores(real, synthetic)
    expected = from_the_definition(real, synthetic)
    np.testing.assert_allclose([found.alpha_precision, found.beta_recall, found.authenticity], expected, atol=1e-12)


def test_identical_points_score_one_and_are_not_authentic():
    points = np.random.default_rng(2).normal(size=(2000, 12))
    found = fidelity_scores(points, points.copy())
    # Each of the 30 steps of the curve is off by at most one point in 2000.
    assert found.alpha_precision == pytest.approx(1, abs=2 / 2000)
    assert found.beta_recall == pytest.approx(1, abs=2 / 2000)
    assert found.authenticity == 0.0


def test_a_fresh_normal_sample_scores_098_and_049():
    rng = np.random.default_rng(3)
    found = fidelity_scores(rng.normal(size=(4000, 5)), rng.normal(size=(4000, 5)))
    assert found.alpha_precision == pytest.approx(0.98, abs=0.02)
    assert found.beta_recall == pytest.approx(0.49, abs=0.02)
    assert found.authenticity == pytest.approx(0.5, abs=0.03)


def test_points_on_the_wrong_shell_and_a_collapsed_generator():
    rng = np.random.default_rng(4)
    real = rng.normal(size=(1000, 5))
    far = fidelity_scores(real, 10 * rng.normal(size=(1000, 5)))
    assert far.alpha_precision < 0.1
    collapsed = fidelity_scores(real, np.repeat(rng.normal(size=(1, 5)), 1000, 0))
    assert collapsed.beta_recall < 0.05


def test_ties_of_one_hot_rows_are_ties():
    """Rows at equal distance by other sums of the same terms count as equally near."""
    rng = np.random.default_rng(5)
    codes = rng.integers(0, 3, (1500, 12))
    points = np.eye(3)[codes].reshape(1500, -1) * np.sqrt(0.5)
    found = fidelity_scores(points, points[rng.permutation(1500)])
    assert found.beta_recall == pytest.approx(1, abs=0.01)


def test_copies_among_the_real_points_are_covered_by_copies():
    points = np.repeat(np.random.default_rng(8).normal(size=(300, 4)), 2, 0)
    assert fidelity_scores(points, points).beta_recall == pytest.approx(1, abs=0.01)


def test_the_level_interval_covers_the_score_and_shrinks_with_rows():
    rng = np.random.default_rng(6)
    reached = rng.integers(0, 31, 1000)
    one, four = level_interval(reached, rng), level_interval(np.tile(reached, 4), rng)
    assert one.low < level_score(reached) < one.high
    assert (four.high - four.low) / (one.high - one.low) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("dimension", [2, 30])
def test_nearest_by_enumeration_and_exact_at_copies(dimension):
    rng = np.random.default_rng(7)
    points, queries = rng.normal(size=(300, dimension)), rng.normal(size=(50, dimension))
    queries[:10] = points[:10]
    every = np.linalg.norm(queries[:, None] - points[None], axis=2)
    distance, index = nearest(queries, points)
    assert index.tolist() == every.argmin(1).tolist()
    np.testing.assert_allclose(distance, every.min(1), atol=1e-14)
    assert (distance[:10] == 0).all()
    among = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(among, np.inf)
    np.testing.assert_allclose(nearest(points, points, exclude_self=True)[0], among.min(1), rtol=1e-12)


def test_a_point_is_not_its_own_neighbour_even_among_copies():
    points = np.repeat(np.eye(12), 5, 0)
    distance, index = nearest(points, points, exclude_self=True)
    assert (distance == 0).all()
    assert (index != np.arange(60)).all()


def test_tensors_are_taken():
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert fidelity_scores(points, points).authenticity == 0.0
