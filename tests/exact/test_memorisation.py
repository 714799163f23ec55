"""Copies of training rows, found by distances, against known shares, enumeration and laws without copies."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist

from clarkia.measures.memorisation import copy_test, longest_shared_spans, membership_gap, memorisation, span_copies
from clarkia.measures.memorisation.cells import from_distances, rank_z
from clarkia.measures.memorisation.neighbours import find_neighbours
from clarkia.random import generator, rand, randn


def normal(n, d, *path):
    return randn((n, d), generator(0, n, d, *path), dtype=torch.float64)


def with_copies(train, fresh, share):
    """The fresh rows of which the first share are training rows."""
    count = int(share * len(fresh))
    return torch.cat([train[:count], fresh[count:]])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_copied_rows_show_in_every_number(share):
    """A share p of copies: DCR share ``p + (1 - p) / 2``, within four binomial errors (6e-5)."""
    n, d = 1500, 6
    train, holdout = normal(n, d, 1), normal(n, d, 2)
    found = memorisation(train, holdout, with_copies(train, normal(n, d, 3), share), generator=generator(1))
    expected = share + (1 - share) / 2
    error = 4 * math.sqrt((1 - share) / 4 / n)
    assert found.closer.value == pytest.approx(expected, abs=error)
    assert found.closer.null == 0.5
    assert found.closer.interval.low <= found.closer.value <= found.closer.interval.high
    assert (found.closer.interval.low > 0.5) == (share > 0)
    assert found.exact.value == share
    assert found.exact.null == 0
    assert found.copied.value >= share
    assert found.copied.null < 0.05
    assert found.authentic.value == pytest.approx((1 - share) * found.authentic.null, abs=0.06)
    assert (found.copy_test.p_value < 1e-6) == (share > 0)
    assert (found.quantiles[0] == 0) == (share > 0.01)
    assert found.calibrated.value == (0 if share == 1 else pytest.approx(found.calibrated.null, rel=0.2 + share))
    assert found.near is None
    assert found.membership is None


def test_what_is_reported_by_enumeration():
    train, holdout, generated = normal(80, 3, 1), normal(70, 3, 2), normal(60, 3, 3)
    train[7] = train[8]
    found = memorisation(train, holdout, generated, decimals=0, generator=generator(2))
    rows = np.unique(train.numpy(), axis=0)
    own = cdist(rows, rows)
    np.fill_diagonal(own, np.inf)
    for points, of in ((generated, "value"), (holdout, "null")):
        far = np.sort(cdist(points.numpy(), rows), 1)
        nearest = cdist(points.numpy(), rows).argmin(1)
        assert getattr(found.copied, of) == pytest.approx((far[:, 0] / far[:, 1] < 1 / 3).mean(), abs=1e-12)
        assert getattr(found.calibrated, of) == pytest.approx(np.median(far[:, 0] / far[:, :50].mean(1)), abs=1e-12)
        assert getattr(found.authentic, of) == pytest.approx((far[:, 0] > own.min(1)[nearest]).mean(), abs=1e-12)
        quantiles = found.quantiles if of == "value" else found.holdout_quantiles
        np.testing.assert_allclose(quantiles, np.quantile(far[:, 0], found.levels), atol=1e-12)
        rounded = {tuple(row) for row in train.round().numpy() + 0.0}
        share = np.mean([tuple(row) in rounded for row in points.round().numpy() + 0.0])
        assert getattr(found.near, of) == pytest.approx(share, abs=1e-12)


def test_repeated_training_rows_do_not_hide_their_copies():
    """A copy of a row that training holds twice has a second neighbour at 0 unless the two count as one."""
    train = normal(200, 4, 1)
    train[100:] = train[:100]
    found = memorisation(train, normal(200, 4, 2), train[:100], generator=generator(3))
    assert found.copied.value == 1
    assert found.authentic.value == 0
    assert found.exact.value == 1


def test_ties_count_half():
    """Categories: every distance is 0 on both sides."""
    rows = torch.tensor([[0.0], [1.0]]).repeat(50, 1)
    found = memorisation(rows, rows, rows, generator=generator(4))
    assert found.closer.value == 0.5
    assert found.copy_test.statistic == 0


def test_sets_of_different_size_are_made_equal():
    """Ten times more training than held-out rows: fresh rows would be nearer to training with probability 10/11."""
    found = memorisation(normal(4000, 3, 1), normal(400, 3, 2), normal(2000, 3, 3), generator=generator(5))
    # 2000 rows and two sets of 400: four standard errors of about 0.02
    assert found.closer.value == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize(("d", "null"), [(1, 1 / 3), (2, 0.39), (8, 0.58), (32, 0.77)])
def test_authenticity_of_fresh_rows(d, null):
    """A third on a line; the others as computed elsewhere for a thousand normal rows.

    The error over 4000 fresh rows is 0.008 and over the training rows near 0.01; both fourfold.
    """
    (fresh,) = find_neighbours(normal(1000, d, 1), normal(4000, d, 2))
    assert fresh.authentic.mean() == pytest.approx(null, abs=0.05)


# --------------------------------------------------------------------------------------------------- the rank test


def test_a_complete_copier_s_statistic():
    """Every generated row nearer than every held-out one, a thousand each, one cell: -38.72."""
    zeros = np.zeros(1000, int)
    found = from_distances((np.arange(1000.0), 1000 + np.arange(1000.0)), (zeros, zeros), 1)
    assert found.statistic == pytest.approx(-38.72, abs=5e-3)
    assert found.statistic == pytest.approx(-0.5e6 / math.sqrt(1e6 * 2001 / 12), abs=1e-10)
    assert found.standard_error == 1


def test_the_rank_statistic_is_scipy_s():
    rng = np.random.default_rng(0)
    for high in (5, 10**6):  # with many ties, and almost none
        first, second = rng.integers(high, size=40).astype(float), rng.integers(high, size=60).astype(float)
        expected = stats.mannwhitneyu(first, second, method="asymptotic", use_continuity=False).pvalue
        assert 2 * stats.norm.sf(abs(rank_z(first, second))) == pytest.approx(expected, rel=1e-9)


def test_cells_are_weighted_by_held_out_rows():
    rng = np.random.default_rng(1)
    g, h = rng.normal(size=110), rng.normal(size=100)
    g_cell, h_cell = np.repeat([0, 1, 2], [50, 50, 10]), np.repeat([0, 1, 2], [30, 50, 20])
    found = from_distances((g, h), (g_cell, h_cell), 3)
    z = [rank_z(g[g_cell == c], h[h_cell == c]) for c in (0, 1)]
    assert found.statistic == pytest.approx((0.3 * z[0] + 0.5 * z[1]) / 0.8, abs=1e-12)
    assert found.standard_error == pytest.approx(math.hypot(0.3, 0.5) / 0.8, abs=1e-12)
    assert found.judged == pytest.approx(0.8)
    assert math.isnan(found.z[2])
    nothing = from_distances((g, h), (g_cell, h_cell), 3, 100)
    assert math.isnan(nothing.statistic)
    assert nothing.judged == 0


def test_the_rank_test_of_fresh_rows():
    """200 repetitions: p-values are uniform (Kolmogorov-Smirnov at 1e-4)."""
    p = []
    for seed in range(200):
        train, holdout, generated = (normal(n, 3, seed) for n in (150, 151, 152))
        p.append(copy_test(train, holdout, generated, generator=generator(seed)).p_value)
    assert stats.kstest(p, "uniform").pvalue > 1e-4


def test_many_columns_go_by_their_leading_axes():
    """A hundred columns of which sixty vary: a rotation of them changes nothing."""
    base = torch.cat([normal(700, 60, 1), torch.zeros(700, 40)], 1)
    turn = torch.linalg.qr(normal(100, 100, 2)).Q
    plain, turned = (
        copy_test(*rows.split([300, 200, 200]), num_cells=1, generator=generator(6)) for rows in (base, base @ turn)
    )
    assert plain.statistic == pytest.approx(turned.statistic, abs=1e-9)
    copied = copy_test(base[:300], base[300:500], base[:200], generator=generator(7))
    assert copied.statistic < -5


# -------------------------------------------------------------------------------------------------------- membership


def test_membership_of_shifted_scores():
    """Normal scores a shift v apart: AUC ``Phi(v / sqrt 2)``; four standard errors (6e-5)."""
    n, v = 4000, 0.5
    train, holdout = normal(n, 1, 1)[:, 0] + v, normal(n, 1, 2)[:, 0]
    found = membership_gap(train, holdout, generator=generator(8))
    exact = stats.norm.cdf(v / math.sqrt(2))
    assert found.auc == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / n))
    assert found.gap == pytest.approx(v, abs=4 * math.sqrt(2 / n))
    assert found.auc_interval.low < found.auc < found.auc_interval.high
    half = 0.5 * (found.gap_interval.high - found.gap_interval.low)
    assert half == pytest.approx(1.96 * math.sqrt(2 / n), rel=0.15)
    reported = memorisation(normal(50, 2, 1), normal(50, 2, 2), normal(50, 2, 3), scores=(train, holdout))
    assert reported.membership.auc == found.auc


# ------------------------------------------------------------------------------------------------------------- texts


def longest(text, references):
    """By trying every run."""
    for size in range(len(text), 0, -1):
        if any(text[i : i + size] in one for i in range(len(text) - size + 1) for one in references):
            return size
    return 0


def test_the_longest_shared_run_by_enumeration():
    """Random words over small alphabets share runs of every length; references of one text must not be joined."""
    for seed in range(40):
        letters = "ab" if seed % 2 else "abcde"
        draws = rand((14, 30), generator(seed))
        words = ["".join(letters[int(u * len(letters))] for u in row)[: 1 + 2 * i] for i, row in enumerate(draws)]
        words = [words[i] for i in torch.randperm(14, generator=generator(seed)).tolist()]
        texts, references = [*words[:6], ""], words[6:]
        expected = [longest(text, references) for text in texts]
        assert longest_shared_spans(texts, references).tolist() == expected
        codes = [[ord(letter) * 1000 for letter in word] for word in [*texts, *references]]
        assert longest_shared_spans(codes[:7], codes[7:]).tolist() == expected


def test_runs_end_where_texts_end():
    assert longest_shared_spans(["abcd", "xyz", "😀é"], ["ab", "cd", "é😀é"]).tolist() == [2, 0, 2]
    assert longest_shared_spans(["aaaa"], ["aaa"]).tolist() == [3]


def test_copied_passages():
    train = ["the quick brown fox jumps over the lazy dog", "colourless green ideas sleep furiously"]
    holdout = ["a stitch in time saves nine", "make hay while the sun shines"]
    generated = ["see the quick brown fox jumps over", "nothing of the kind at all here"]
    found = span_copies(train, holdout, generated, generator=generator(9))
    assert found.generated[0] == pytest.approx(30 / 34)  # "the quick brown fox jumps over" of 34
    assert found.generated[1] < 0.3
    assert (found.copied.value, found.copied.null) == (0.5, 0)
    assert found.copied.interval.low > 0
