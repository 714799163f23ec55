import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist

from clarkia.measures.features import min_max, one_hot, plain, rank_normal, tree_matrix
from clarkia.measures.rows import MixedRows, num_classes, stream, subsample

nan = np.nan


def test_arrays_and_tensors_become_rows():
    numbers = MixedRows.of(torch.ones(3, 2, requires_grad=True))
    assert numbers.numeric.shape == (3, 2)
    assert numbers.numeric.dtype == np.float64
    assert MixedRows.of(torch.tensor([1, 2])).categorical.tolist() == [[1], [2]]
    assert MixedRows.of(np.array([True, False])).categorical.tolist() == [[1], [0]]
    assert MixedRows.of(numbers) is numbers
    assert MixedRows.build(None, [0, 1]).numeric.shape == (2, 0)


def test_unusable_rows_are_refused():
    with pytest.raises(ValueError, match="same number of rows, not 2 and 3"):
        MixedRows.build(np.zeros(2), np.zeros(3, int))
    with pytest.raises(ValueError, match="Numeric column 1 holds an infinite value"):
        MixedRows.of(np.array([[0.0, np.inf]]))
    with pytest.raises(ValueError, match="-1 for missing"):
        MixedRows.of(np.array([-2]))
    with pytest.raises(ValueError, match="one- or two-dimensional"):
        MixedRows.of(np.zeros((2, 2, 2)))


def test_permuted_columns_keep_every_marginal_and_break_dependence():
    rng = np.random.default_rng(1)
    z = rng.normal(size=5000)
    rows = MixedRows.build(np.stack([z, z], 1), (z > 0).astype(int))
    apart = rows.permuted_columns(rng)
    np.testing.assert_array_equal(np.sort(apart.numeric, 0), np.sort(rows.numeric, 0))
    assert abs(np.corrcoef(apart.numeric.T)[0, 1]) < 0.06


def test_subsamples_keep_the_order_and_streams_differ_by_purpose():
    rows = MixedRows.of(np.arange(100.0))
    cut = subsample(rows, 30, stream(0, "a")).numeric[:, 0]
    assert len(cut) == 30
    assert (np.diff(cut) > 0).all()
    assert subsample(rows, 100, stream(0, "a")) is rows
    assert stream(0, "a").random() == stream(0, "a").random() != stream(0, "b").random()
    assert stream(0, "a").random() != stream(1, "a").random()


def test_one_hot_has_a_column_for_missing_and_none_for_the_unknown():
    found = one_hot(np.array([[-1, 0], [1, 1], [2, 0]]), np.array([2, 2]))
    assert found.tolist() == [[1, 0, 0, 0, 1, 0], [0, 0, 1, 0, 0, 1], [0, 0, 0, 0, 1, 0]]


def test_rank_normal_distances():
    """A differing category is at distance 1, whether or not the reference has it; so is a gap against a number."""
    reference = MixedRows.build(np.array([0.0, 1, 2, 3]), np.array([0, 1, 0, 1]))
    other = MixedRows.build(np.array([1.0, 1.0, nan]), np.array([1, 7, 1]))
    a, b = rank_normal(reference, other)
    score = stats.norm.ppf([1 / 8, 3 / 8, 5 / 8, 7 / 8])
    np.testing.assert_allclose(a[:, 0], score)
    distance = cdist(a, b)
    assert distance[1, 0] == pytest.approx(0.0)
    assert distance[1, 1] == pytest.approx(1.0)
    assert distance[1, 2] == pytest.approx(np.hypot(1.0, score[1]))


def test_rank_normal_scores_ignore_monotone_changes_and_bound_extremes():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=200), rng.normal(size=100) * 10
    plain_scores = rank_normal(MixedRows.of(x), MixedRows.of(y))
    bent = rank_normal(MixedRows.of(np.exp(x)), MixedRows.of(np.exp(y)))
    for first, second in zip(plain_scores, bent, strict=True):
        np.testing.assert_allclose(first, second)
    assert np.abs(plain_scores[1]).max() == pytest.approx(-stats.norm.ppf(0.5 / 200))


def test_min_max_and_plain_impute_the_reference_mean():
    reference = MixedRows.build(np.array([0.0, 4.0, nan, 5.0]), np.array([0, 0, 1, -1]))
    other = MixedRows.build(np.array([10.0, nan]), np.array([2, -1]))
    a, b = min_max(reference, other)
    np.testing.assert_allclose(a[:, 0], [0, 0.8, 0.6, 1])
    np.testing.assert_allclose(b[:, 0], [2, 0.6])
    np.testing.assert_allclose(plain(reference, other)[1][:, 0], [10, 3])
    assert a[:, 1:].sum() == 4
    assert b[:, 1:].sum() == 1  # category 2 is none of the reference's


def test_tree_matrix_marks_categories_and_gathers_the_rare_ones():
    rng = np.random.default_rng(3)
    codes = np.concatenate([np.arange(400), rng.integers(0, 50, 4000), [-1]])
    (matrix,), categorical = tree_matrix(MixedRows.build(np.zeros(len(codes)), codes))
    assert categorical.tolist() == [False, True]
    column = matrix[:, 1]
    assert np.isnan(column[-1])
    assert len(np.unique(column[:-1])) == 251
    frequent = column[:50]
    assert len(np.unique(frequent)) == 50
    assert num_classes(MixedRows.of(codes)).tolist() == [400]
