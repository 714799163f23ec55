"""Areas and rates of detection scores against counting by hand, brute force and scikit-learn."""

import math
from itertools import pairwise, product

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from clarkia.measures.scores import aupr, aupro, auroc, fpr_at_recall

UNUSUAL = [1, 0, 1, 0, 0, 1]
SCORES = [5, 4, 3, 3, 1, 0]


def test_six_rows_by_hand():
    """Pairs won: row 0 beats 3, row 2 beats one and ties one, row 5 none: 4.5 of 9; other values from the list."""
    assert auroc(UNUSUAL, SCORES).value == pytest.approx(4.5 / 9, abs=1e-15)
    assert aupr(UNUSUAL, SCORES).value == pytest.approx((1 + 2 / 4 + 3 / 6) / 3, abs=1e-15)
    assert fpr_at_recall(UNUSUAL, SCORES, recall=1 / 3).value == 0
    assert fpr_at_recall(UNUSUAL, SCORES, recall=0.5).value == pytest.approx(2 / 3)
    assert fpr_at_recall(UNUSUAL, SCORES).value == 1


def test_unusual_is_the_positive_side():
    scores, unusual = np.arange(40.0), np.arange(40) >= 30
    assert [m(unusual, scores).value for m in (auroc, aupr, fpr_at_recall)] == [1, 1, 0]
    assert [m(unusual, -scores).value for m in (auroc, fpr_at_recall)] == [0, 1]


def test_twenty_unusual_rows_may_miss_one():
    """0.95 times 20 is 19 although the double 0.95 is not 19 / 20."""
    unusual = np.arange(40) >= 20
    scores = np.where(unusual, 100.0 + np.arange(40), np.arange(40.0))
    scores[20] = -1  # the one that may be missed
    assert fpr_at_recall(unusual, scores).value == 0
    scores[21] = -2  # two are too many: the threshold falls to -1, below all usual rows
    assert fpr_at_recall(unusual, scores).value == 1


@pytest.mark.parametrize("levels", [7, 100_000])
def test_agreement_with_scikit_learn(levels):
    rng = np.random.default_rng(levels)
    unusual = rng.random(500) < 0.3
    scores = rng.integers(0, levels, 500) + levels / 5 * unusual
    assert auroc(unusual, scores).value == pytest.approx(roc_auc_score(unusual, scores), abs=1e-12)
    assert aupr(unusual, scores).value == pytest.approx(average_precision_score(unusual, scores), abs=1e-12)
    fpr, tpr, _ = roc_curve(unusual, scores, drop_intermediate=False)
    assert fpr_at_recall(unusual, scores).value == pytest.approx(fpr[(tpr >= 0.95).argmax()], abs=1e-12)


def test_infinite_scores_are_the_last_word():
    assert auroc([1, 0, 0], [math.inf, 1, -math.inf]).value == 1


def test_the_interval_of_the_area_covers():
    """Normal scores a shift of 1 apart: the area is Phi(1/sqrt 2); 95 % of intervals hold it.

    300 tables of 40 + 60 rows: coverage within 4 standard errors of 0.95 below (percentile intervals run short by one
    to two points at this size) and never all; false-alarm rate below 1e-3.
    """
    rng = np.random.default_rng(0)
    truth = 0.5 * (1 + math.erf(0.5))
    unusual = np.arange(100) < 40
    held = 0
    for seed in range(300):
        found = auroc(unusual, rng.normal(size=100) + unusual, seed=seed).interval
        held += found.low <= truth <= found.high
    assert 0.95 - 0.02 - 4 * math.sqrt(0.05 * 0.95 / 300) < held / 300 < 0.99


def per_region_overlap(masks, maps, max_fpr):
    """The definition, threshold by threshold and region by region."""
    regions = []
    for index, mask in enumerate(masks):
        names, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [(index, names == name) for name in range(1, count + 1)]
    points = [(0.0, 0.0)]
    for threshold in sorted(set(maps.ravel().tolist()), reverse=True):
        caught = maps >= threshold
        points.append((caught[~masks].mean(), np.mean([caught[i][where].mean() for i, where in regions])))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= max_fpr or x1 == x0:
            continue
        end = min(x1, max_fpr)
        area += (end - x0) * (y0 + y0 + (y1 - y0) * (end - x0) / (x1 - x0)) / 2
    return area / max_fpr


@pytest.mark.parametrize(("levels", "max_fpr"), list(product([6, 10_000], [0.05, 0.3, 1.0])))
def test_overlap_of_regions_by_its_definition(levels, max_fpr):
    rng = np.random.default_rng(levels)
    masks = np.zeros((4, 12, 10), dtype=bool)
    masks[0, 1:4, 1:4] = masks[0, 8, 8] = masks[1, 5:7, 2:9] = True
    masks[2, 2, 2] = masks[2, 3, 3] = True  # corners touch: one region
    masks[3] = False
    maps = rng.integers(0, levels, masks.shape) + 0.4 * levels * masks
    found = aupro(masks, maps, max_fpr=max_fpr)
    assert found.value == pytest.approx(per_region_overlap(masks, maps, max_fpr), abs=1e-12)
    assert found.interval.low <= found.value <= found.interval.high


def test_a_small_region_counts_as_much_as_a_large_one():
    """A region of 100 pixels found and one of 1 missed: half, although 99 % of the pixels are found."""
    masks = np.zeros((1, 30, 30), dtype=bool)
    masks[0, :10, :10] = masks[0, 20, 20] = True
    maps = np.zeros(masks.shape)
    maps[0, :10, :10] = 2
    maps[0, 20, 20] = -1
    rest = np.flatnonzero(~masks.ravel())
    maps.ravel()[rest] = np.linspace(0, 1, len(rest))
    assert aupro(masks, maps).value == pytest.approx(0.5, abs=1e-12)
    assert aupro(masks, np.where(masks, 2, maps)).value == pytest.approx(1, abs=1e-12)
    assert aupro(masks, np.zeros(masks.shape)).value == pytest.approx(0.15, abs=1e-12)  # chance: max_fpr / 2


def test_the_coarse_ladder_of_the_resamples_changes_nothing_visible():
    """One image only: every resample is that image, so the interval is the coarse value itself."""
    rng = np.random.default_rng(3)
    masks = np.zeros((1, 120, 120), dtype=bool)
    masks[0, 20:40, 20:50] = masks[0, 90:95, 90:92] = True
    found = aupro(masks, rng.normal(size=masks.shape) + masks)
    assert found.interval.low == pytest.approx(found.value, abs=2e-3)
    assert found.interval.high == found.interval.low


@pytest.mark.parametrize("measure", [auroc, aupr, fpr_at_recall])
@pytest.mark.parametrize(
    ("unusual", "scores", "sentence"),
    [
        ([1, 1], [0.0, 1.0], "unusual: expected unusual and usual rows, found 2 of 2 unusual."),
        ([0, 0], [0.0, 1.0], "unusual: expected unusual and usual rows, found 0 of 2 unusual."),
        ([0, 2], [0.0, 1.0], "unusual: expected booleans or zeros and ones, found 2."),
        ([0, 1], [0.0, math.nan], "scores: expected numbers, found a NaN in row 1."),
        ([0, 1], [0.0], "scores: expected one number for each of unusual"),
        ([], [], "unusual: expected unusual and usual rows, found 0 of 0 unusual."),
    ],
)
def test_bad_scores_are_named(measure, unusual, scores, sentence):
    with pytest.raises(ValueError, match=sentence.replace("(", r"\(")):
        measure(unusual, scores)


def test_bad_maps_are_named():
    masks, maps = np.zeros((2, 4, 4), dtype=bool), np.zeros((2, 4, 4))
    with pytest.raises(ValueError, match="masks: expected unusual and usual rows"):
        aupro(masks, maps)
    masks[0, 0, 0] = True
    with pytest.raises(ValueError, match="maps: expected the shape"):
        aupro(masks, maps[:, :3])
    with pytest.raises(ValueError, match="max_fpr: expected a share"):
        aupro(masks, maps, max_fpr=0)
    with pytest.raises(ValueError, match="recall: expected a share"):
        fpr_at_recall([0, 1], [0, 1], recall=0)
