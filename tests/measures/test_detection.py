import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, RobustScaler

from clarkia.measures.detection import TwoSampleTest, c2st, detection_score, placements
from clarkia.measures.intervals import Interval
from clarkia.measures.rows import MixedRows


def sample(rng, n):
    """Two dependent numbers with gaps and two categories that depend on them."""
    z = rng.normal(size=n)
    numeric = np.stack([z, z + 0.5 * rng.normal(size=n)], 1)
    numeric[rng.random(n) < 0.1, 1] = np.nan
    return MixedRows.build(numeric, np.stack([np.digitize(z, [-1, 0, 1]), rng.integers(-1, 3, n)], 1))


def test_placements_average_to_the_area_under_the_curve():
    rng = np.random.default_rng(1)
    ones, zeros = rng.integers(0, 9, 200) + 1, rng.integers(0, 9, 300)
    area = roc_auc_score(np.repeat([1, 0], [200, 300]), np.concatenate([ones, zeros]))
    assert placements(ones, zeros).mean() == pytest.approx(area, abs=1e-12)


@pytest.mark.parametrize("model", ["boosting", "logistic"])
def test_two_samples_of_one_law_are_a_coin_toss(model):
    rng = np.random.default_rng(2)
    found = c2st(sample(rng, 2000), sample(rng, 1500), model=model)
    # The deviation of an area between 2000 and 1500 rows is 0.0099; four of them.
    assert found.auc == pytest.approx(0.5, abs=0.04)
    assert found.rows == (2000, 1500)
    assert len(found.fold_aucs) == 5


def test_permuted_columns_are_caught_by_boosting_and_missed_by_logistic_regression():
    rng = np.random.default_rng(3)
    real = sample(rng, 1200)
    apart = sample(rng, 1200).permuted_columns(rng)
    assert c2st(real, apart).auc > 0.9
    assert c2st(real, apart, model="logistic").auc == pytest.approx(0.5, abs=0.05)


def test_a_shift_gives_the_area_of_the_likelihood_ratio():
    """Two normals of unit variance a distance d apart have the area Phi(d / sqrt 2)."""
    rng = np.random.default_rng(4)
    found = c2st(rng.normal(size=3000), rng.normal(size=3000) + 1.0, model="logistic")
    assert found.auc == pytest.approx(stats.norm.cdf(1 / np.sqrt(2)), abs=0.025)
    assert found.interval.low < stats.norm.cdf(1 / np.sqrt(2)) < found.interval.high


def test_intervals_of_one_law_hold_the_coin_toss():
    """False alarms of samples of one law: 5 % by design; without the correction for shared rows it was 20 %."""
    rng = np.random.default_rng(5)
    tests = [c2st(sample(rng, 200), sample(rng, 200), model="logistic", folds=3, seed=i) for i in range(100)]
    missed = sum(not test.interval.low < 0.5 < test.interval.high for test in tests)
    assert missed <= 11  # exceeded with probability 0.004 at a rate of 5 %


def test_the_detection_score_is_that_of_the_reference_pipeline():
    """Mean imputation, one-hot categories, robust scaling, logistic regression, three stratified folds."""
    rng = np.random.default_rng(6)
    real, synthetic = sample(rng, 400), sample(rng, 400)
    synthetic.numeric[:, 0] += 0.3
    numeric = np.concatenate([real.numeric, synthetic.numeric])
    numeric = np.where(np.isnan(numeric), np.nanmean(real.numeric, 0), numeric)
    codes = np.concatenate([real.categorical, synthetic.categorical])
    x = np.hstack([numeric, OneHotEncoder(sparse_output=False).fit(real.categorical).transform(codes)])
    y = np.repeat([0, 1], [400, 400])
    scores = []
    for train, test in StratifiedKFold(3, shuffle=True, random_state=0).split(x, y):
        model = make_pipeline(RobustScaler(), LogisticRegression()).fit(x[train], y[train])
        scores.append(max(0.5, roc_auc_score(y[test], model.predict_proba(x[test])[:, 1])) * 2 - 1)
    found = detection_score(c2st(real, synthetic, model="logistic", folds=3, seed=0))
    assert found == pytest.approx(1 - np.mean(scores), abs=1e-4)


def test_a_fold_below_one_half_is_a_coin_toss():
    folds = TwoSampleTest(0.5, (0.4, 0.6), Interval(0, 1), np.zeros(1), np.zeros(1), (1, 1))
    assert detection_score(folds) == pytest.approx(1 - (0 + 0.2) / 2)


def test_the_same_seed_gives_the_same_test():
    rng = np.random.default_rng(7)
    real, synthetic = sample(rng, 60), sample(rng, 60)
    first, second = (c2st(real, synthetic, seed=3) for _ in range(2))
    assert first.auc == second.auc
    assert first.interval == second.interval
    np.testing.assert_array_equal(first.synthetic_scores, second.synthetic_scores)


def test_categories_without_number_are_handled():
    """A column with more values than a histogram holds still tells two laws apart."""
    rng = np.random.default_rng(8)
    real, synthetic = rng.integers(0, 1000, 3000), rng.integers(0, 1000, 3000) // 2
    assert c2st(real, synthetic).auc > 0.55


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="model must be 'boosting' or 'logistic', not 'oracle'"):
        c2st(np.zeros(9), np.zeros(9), model="oracle")
    with pytest.raises(ValueError, match="needs at least 5 rows on each side"):
        c2st(np.zeros(9), np.zeros(3))
