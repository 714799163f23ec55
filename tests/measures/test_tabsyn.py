import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from clarkia.measures.rows import MixedRows, Target
from clarkia.measures.tabsyn import imputation_score, log_target, tabsyn_2024


def sample(rng, n):
    z = rng.normal(size=n)
    numeric = np.stack([z + 0.4 * rng.normal(size=n), np.exp(z)], 1)
    return MixedRows.build(numeric, np.stack([(z + rng.normal(size=n) > 0), rng.integers(0, 4, n)], 1).astype(int))


def test_identical_tables_are_perfect():
    real = sample(np.random.default_rng(1), 400)
    found = tabsyn_2024(real, real)
    assert found.shape_error == 0
    assert found.trend_error == 0
    assert found.trend_error_shared == 0
    assert found.alpha_precision == pytest.approx(1, abs=2 / 400)
    assert found.beta_recall == pytest.approx(1, abs=2 / 400)
    assert found.utility is None
    assert found.dcr_share is None
    assert found.imputation is None


def test_fresh_rows_score_as_fresh_rows_do():
    rng = np.random.default_rng(2)
    real, holdout, fresh = sample(rng, 1200), sample(rng, 700), sample(rng, 1000)
    steps = []
    found = tabsyn_2024(real, fresh, holdout=holdout, target=Target(0), on_step=steps.append)
    assert found.shape_error < 0.04
    assert found.trend_error_shared < 0.06
    assert found.c2st_logistic > 0.9
    assert found.c2st_boosting_auc == pytest.approx(0.5, abs=0.06)
    assert found.beta_recall == pytest.approx(0.49, abs=0.04)
    assert found.dcr_share == pytest.approx(0.5, abs=0.06)
    assert 0.7 < found.utility < 0.9
    assert steps[0] == "Shape and Trend"
    assert steps[-1] == "Closest records"


def test_independent_columns_are_seen_by_trend_and_boosting_only():
    rng = np.random.default_rng(3)
    real = sample(rng, 1000)
    found = tabsyn_2024(real, sample(rng, 1000).permuted_columns(rng))
    assert found.shape_error < 0.06
    assert found.trend_error_shared > 0.1
    assert found.c2st_logistic > 0.85
    assert found.c2st_boosting_auc > 0.75


def test_the_regression_target_is_cut_and_logged():
    assert log_target(np.array([-3.0, 1.0, np.e, 1e9])).tolist() == pytest.approx([0, 0, 1, np.log(20000)])
    rng = np.random.default_rng(4)
    real, holdout = sample(rng, 500), sample(rng, 400)
    found = tabsyn_2024(real, real, holdout=holdout, target=Target(1, numeric=True))
    # log(max(e^z, 1)) is z above 0: it has deviation 0.58, and z is known up to 0.37.
    assert 0.1 < found.utility < 0.45


def test_imputations_are_scored_by_the_micro_average():
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 3, 400)
    draws = [np.where(rng.random(400) < 0.7, truth, rng.integers(0, 3, 400)) for _ in range(5)]
    votes = np.mean([np.eye(3)[draw] for draw in draws], 0)
    expected = roc_auc_score(np.eye(3)[truth], votes, average="micro")
    assert imputation_score(truth, draws) == pytest.approx(expected, abs=1e-12)
    assert imputation_score(truth, [truth]) == 1.0
    values = np.exp(rng.normal(size=100) + 3)
    assert imputation_score(values, [values, values]) == 0.0
