import numpy as np
import pytest
from scipy.spatial.distance import cdist

from clarkia.measures.features import rank_normal
from clarkia.measures.privacy import (
    attribute_inference,
    closer_share,
    closer_to_real,
    closest_record_distances,
    exact_copies,
    membership_attack,
    outlier_ratio,
    row_ids,
)
from clarkia.measures.rows import MixedRows, Target, concatenate


def sample(rng, n):
    z = rng.normal(size=n)
    numeric = np.stack([z + 0.3 * rng.normal(size=n), rng.exponential(size=n), rng.normal(size=n)], 1)
    return MixedRows.build(numeric, np.stack([np.digitize(z, [-1, 0, 1]), rng.integers(0, 5, n)], 1))


def with_copies(rng, real, n, share):
    """Fresh rows of which a share are verbatim copies of real rows."""
    copies = real[rng.choice(len(real), int(share * n), replace=False)]
    return concatenate([copies, sample(rng, n - len(copies))])


def test_closest_records_by_enumeration():
    rng = np.random.default_rng(1)
    real, holdout, synthetic = (
        MixedRows.build(rng.normal(size=(n, 3)), rng.integers(-1, [3, 40], (n, 2))) for n in (2500, 300, 150)
    )
    width = np.ptp(real.numeric, axis=0)

    def distances(to):
        numeric = np.abs(synthetic.numeric[:, None] - to.numeric[None]) / width
        return numeric.sum(2) + 2 * (synthetic.categorical[:, None] != to.categorical[None]).sum(2)

    to_real, to_holdout = closest_record_distances(real, synthetic, holdout)
    np.testing.assert_allclose(to_real, distances(real).min(1), atol=1e-12)
    np.testing.assert_allclose(to_holdout, distances(holdout).min(1), atol=1e-12)
    assert (to_holdout > 2).any()  # some nearest rows differ in a category


def test_fresh_rows_are_as_close_to_either_half():
    rng = np.random.default_rng(2)
    n = 2000
    halves = rng.normal(size=(n, 5)), rng.normal(size=(n, 5))
    fresh = rng.normal(size=(n, 5))
    share = closer_share(*closest_record_distances(halves[0], fresh, halves[1])).mean()
    assert share == pytest.approx(0.5, abs=1.5 / np.sqrt(n))
    assert closer_to_real(*halves, fresh).mean() == pytest.approx(0.5, abs=1.5 / np.sqrt(n))


def test_ties_of_coarse_columns_are_split_evenly():
    """Four columns of three values: every distance is 0 on both sides, and the strict rule sees perfect privacy."""
    rng = np.random.default_rng(3)
    real, holdout, fresh = (rng.integers(0, 3, (3000, 4)) for _ in range(3))
    distances = closest_record_distances(real, fresh, holdout)
    assert closer_share(*distances).mean() == 0.5
    assert closer_share(*distances, ties="strict").mean() == 0.0
    assert closer_to_real(real, holdout, fresh).mean() == 0.5
    with pytest.raises(ValueError, match="ties must be 'split' or 'strict', not 'even'"):
        closer_share(*distances, ties="even")


def test_distances_that_differ_by_rounding_are_ties():
    distance = np.array([0.1 + 0.2, 1.0, 0.0])
    assert closer_share(distance, np.array([0.3, 1.0 + 1e-6, 0.0])).tolist() == [0.5, 1.0, 0.5]


def test_the_half_rule_hardly_sees_ten_percent_of_copies():
    rng = np.random.default_rng(4)
    real, holdout = sample(rng, 2000), sample(rng, 2000)
    copied = with_copies(rng, real, 2000, 0.1)
    assert closer_to_real(real, holdout, copied).mean() == pytest.approx(0.55, abs=1.5 / np.sqrt(2000))


def test_ten_percent_of_copies_are_counted():
    rng = np.random.default_rng(5)
    real = sample(rng, 1000)
    found = exact_copies(real, with_copies(rng, real, 1000, 0.1))
    assert found.copied.mean() == pytest.approx(0.1)
    assert found.copied[:100].all()
    assert (found.copied == found.unique).all()  # continuous rows occur once
    assert found.expected == 0.0
    assert exact_copies(real, sample(rng, 1000)).copied.sum() == 0


def test_copies_by_chance_are_what_leaving_one_out_expects():
    """Rows of a finite law: fresh rows repeat real ones as often as one real row repeats the others."""
    rng = np.random.default_rng(6)
    law = rng.dirichlet(np.full(4000, 0.5))
    real, fresh = rng.choice(4000, 3000, p=law), rng.choice(4000, 20_000, p=law)
    found = exact_copies(real, fresh)
    assert found.copied.mean() == pytest.approx(found.expected, abs=0.03)
    assert found.unique.mean() == pytest.approx(found.expected_unique, abs=0.03)
    assert found.expected > 0.4


def test_missing_cells_equal_missing_cells():
    rows = MixedRows.build(
        np.array([[np.nan, 1.0], [np.nan, 1.0], [0.0, 1.0], [0.0, np.nan]]), np.array([-1, -1, 0, 0])
    )
    ids = row_ids(rows)
    assert ids[0] == ids[1]
    assert len(set(ids.tolist())) == 3


def test_the_membership_attack_is_blind_on_fresh_rows():
    rng = np.random.default_rng(7)
    found = membership_attack(sample(rng, 3000), sample(rng, 3000), sample(rng, 3000))
    error = np.sqrt((1 / 1500 + 1 / 1500) / 12)  # of an area under independent scores
    assert found.auc == pytest.approx(0.5, abs=3 * error)
    assert found.auc_interval.high - found.auc_interval.low == pytest.approx(3.92 * error, rel=0.15)
    assert found.tpr == pytest.approx(0.01, abs=0.012)
    assert len(found.members) == len(found.others) == 1500


def test_the_membership_attack_finds_ten_percent_of_copies():
    rng = np.random.default_rng(8)
    real = sample(rng, 3000)
    found = membership_attack(real, sample(rng, 3000), with_copies(rng, real, 3000, 0.1))
    assert found.auc_interval.low > 0.5
    assert found.auc == pytest.approx(0.55, abs=0.03)
    assert found.tpr_interval.low > 0.05
    assert found.tpr == pytest.approx(0.109, abs=0.03)


def test_the_membership_attack_finds_every_copied_row():
    rng = np.random.default_rng(9)
    real = sample(rng, 500)
    found = membership_attack(real, sample(rng, 500), real)
    assert found.auc == 1.0
    assert found.tpr == 1.0


def test_true_positives_at_tied_scores_are_shared():
    """All distances tie on coarse rows: an attack that cannot rank finds what it wrongly accuses."""
    rng = np.random.default_rng(10)
    found = membership_attack(*(rng.integers(0, 2, (800, 3)) for _ in range(3)))
    assert found.auc == 0.5
    assert found.tpr == pytest.approx(0.01)


def test_outliers_are_safe_with_fresh_rows_and_exposed_by_copies():
    rng = np.random.default_rng(11)
    real, holdout = sample(rng, 3000), sample(rng, 3000)
    fresh = outlier_ratio(real, holdout, sample(rng, 3000))
    assert len(fresh) == 150
    assert fresh.mean() == pytest.approx(0.5, abs=4 * fresh.std() / np.sqrt(150))
    assert outlier_ratio(real, holdout, real).mean() == 0.0
    tenth = outlier_ratio(real, holdout, with_copies(rng, real, 3000, 0.5)).mean()
    assert tenth < 0.35


def test_the_outliers_are_the_loneliest_rows():
    """Only the twenty rows farthest from all others were copied, and they are all that is looked at."""
    rng = np.random.default_rng(14)
    real, holdout, made = rng.normal(size=(3, 1000, 2))
    (points,) = rank_normal(MixedRows.of(real))
    apart = cdist(points, points)
    np.fill_diagonal(apart, np.inf)
    lonely = np.argsort(-apart.min(1))[:20]
    assert outlier_ratio(real, holdout, np.concatenate([real[lonely], made[20:]]), share=0.02).tolist() == [0.0] * 20
    assert outlier_ratio(real, made, made).tolist() == [0.5] * 50


@pytest.mark.parametrize("column", [Target(0), Target(1, numeric=True)])
def test_attributes_are_inferred_from_copies_alone(column):
    rng = np.random.default_rng(12)
    real, holdout = sample(rng, 2000), sample(rng, 2000)
    fresh = attribute_inference(real, holdout, sample(rng, 2000), column)
    assert fresh.interval.low < 0 < fresh.interval.high
    copied = attribute_inference(real, holdout, real, column)
    assert copied.synthetic == 1.0
    assert copied.gain == pytest.approx(1 - copied.holdout)
    assert copied.interval.low > 0.2


def test_a_user_s_own_split_with_the_same_seed_does_not_disturb_the_attack():
    """The measures draw from streams of their own, or every copied row would be among the attacked ones."""
    rng = np.random.default_rng(13)
    real, holdout = sample(rng, 4000), sample(rng, 1000)
    copies = real[np.random.default_rng(0).choice(4000, 200, replace=False)]
    found = membership_attack(real, holdout, concatenate([copies, sample(rng, 1800)]), seed=0)
    assert found.tpr == pytest.approx(0.06, abs=0.04)  # one in twenty was copied


def test_a_small_holdout_is_refused():
    with pytest.raises(ValueError, match="at least 4 holdout rows, not 3"):
        membership_attack(np.zeros(9), np.zeros(3), np.zeros(9))
