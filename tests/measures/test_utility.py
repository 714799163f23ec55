import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from clarkia.measures.rows import MixedRows, Target
from clarkia.measures.utility import (
    bootstrap_scores,
    calibration_error,
    importance_correlation,
    log_loss,
    macro_auc,
    r2,
    rmse,
    train_and_test,
)


def labelled(rng, n, shift=1.5):
    """Two normals a distance apart under a fair label, and two columns of noise."""
    y = rng.integers(0, 2, n)
    return MixedRows.build(np.stack([shift * y + rng.normal(size=n), rng.normal(size=n)], 1), rng.integers(0, 4, n)), y


def test_scores_are_scikit_learn_s():
    rng = np.random.default_rng(1)
    for k in (2, 4):
        y = rng.integers(0, k, 300)
        p = rng.dirichlet(np.ones(k), 300) + 0.3 * np.eye(k)[y]
        p /= p.sum(1, keepdims=True)
        expected = metrics.roc_auc_score(y, p[:, 1] if k == 2 else p, multi_class="ovr")
        assert macro_auc(p, y) == pytest.approx(expected, abs=1e-12)
        assert log_loss(p, y) == pytest.approx(metrics.log_loss(y, p), abs=1e-12)
    value = rng.normal(size=300)
    guess = value + rng.normal(size=300)
    assert r2(guess, value) == pytest.approx(metrics.r2_score(value, guess))
    assert rmse(guess, value) == pytest.approx(metrics.root_mean_squared_error(value, guess))


def test_calibration_of_right_and_of_overconfident_probabilities():
    rng = np.random.default_rng(2)
    p = rng.uniform(0.5, 1, 100_000)
    y = (rng.random(100_000) < p).astype(int)
    assert calibration_error(np.stack([1 - p, p], 1), y) < 0.01
    sure = np.tile([0.0, 1.0], (100_000, 1))
    assert calibration_error(sure, y) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("model", ["boosting", "linear"])
def test_a_model_reaches_the_area_of_the_likelihood_ratio(model):
    """Bayes' area for two normals a distance d apart is Phi(d / sqrt 2)."""
    rng = np.random.default_rng(3)
    found = train_and_test(*labelled(rng, 3000), *labelled(rng, 3000), model=model)
    # The area's standard error is about 0.007; boosting loses about as much to noise.
    assert found.task == "classification"
    area = macro_auc(found.predictions, found.target)
    assert area == pytest.approx(stats.norm.cdf(1.5 / np.sqrt(2)), abs=0.03)
    np.testing.assert_allclose(found.predictions.sum(1), 1)


def test_permuted_labels_teach_nothing():
    rng = np.random.default_rng(4)
    x, y = labelled(rng, 2000)
    found = train_and_test(x, rng.permutation(y), *labelled(rng, 2000))
    assert log_loss(found.predictions, found.target) == pytest.approx(np.log(2), abs=0.05)


@pytest.mark.parametrize("model", ["boosting", "linear"])
def test_regression_finds_the_noise_level(model):
    rng = np.random.default_rng(5)

    def sample(n):
        x = rng.normal(size=(n, 2))
        return x, 2 * x[:, 0] + 0.5 * rng.normal(size=n)

    found = train_and_test(*sample(3000), *sample(2000), model=model)
    assert found.task == "regression"
    assert rmse(found.predictions, found.target) == pytest.approx(0.5, abs=0.05)
    assert r2(found.predictions, found.target) == pytest.approx(1 - 0.25 / 4.25, abs=0.015)


def test_importance_is_that_of_the_column_that_matters():
    rng = np.random.default_rng(6)
    found = train_and_test(*labelled(rng, 1500), *labelled(rng, 1500), importances=True)
    assert found.importances.argmax() == 0
    assert np.abs(found.importances[1:]).max() < 0.05
    assert importance_correlation(found, found) == pytest.approx(1.0)


def test_a_class_the_training_rows_never_show_is_improbable_but_possible():
    rng = np.random.default_rng(7)
    x, y = labelled(rng, 400)
    x_test, y_test = labelled(rng, 400)
    y_test[0] = 2
    found = train_and_test(x, y, x_test, y_test, model="linear")
    assert found.predictions.shape == (400, 3)
    assert (found.predictions > 0).all()
    assert (found.predictions[:, 2] < 1 / 400).all()
    alone = train_and_test(x, np.zeros(400, int), x_test, y_test)
    assert (alone.predictions.argmax(1) == 0).all()


def test_missing_cells_are_features_too():
    rng = np.random.default_rng(8)
    y = rng.integers(0, 2, 600)
    x = MixedRows.build(np.where(y == 1, np.nan, 1.0))
    found = train_and_test(x, y, x, y)
    assert macro_auc(found.predictions, found.target) == 1.0


def test_bootstrap_scores_have_the_sampling_error_and_share_resamples():
    rng = np.random.default_rng(9)
    found = train_and_test(*labelled(rng, 800), *labelled(rng, 1000), model="linear")
    draws = bootstrap_scores(log_loss, found, found)
    np.testing.assert_array_equal(draws[:, 0], draws[:, 1])
    terms = -np.log(found.predictions[np.arange(1000), found.target])
    assert draws[:, 0].std() == pytest.approx(terms.std() / np.sqrt(1000), rel=0.2)


def test_a_target_leaves_its_column_and_its_gaps():
    rows = MixedRows.build(np.array([[1.0, 2.0], [np.nan, 3.0]]), np.array([[0, 1], [1, -1]]))
    features, y = Target(0, numeric=True).split(rows)
    assert features.numeric.tolist() == [[2.0]]
    assert y.tolist() == [1.0]
    features, y = Target(1).split(rows)
    assert features.categorical.tolist() == [[0]]
    assert y.tolist() == [1]


def test_an_unknown_model_is_refused():
    with pytest.raises(ValueError, match="model must be 'boosting' or 'linear', not 'forest'"):
        train_and_test(np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3), model="forest")
