"""What a user does with a table model, on models that are small and fit in seconds."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import clarkia as ck
from clarkia import samplers
from clarkia.codecs import Between, NotMissing
from clarkia.errors import DataError

SMALL = {"width": 64, "depth": 1, "max_minutes": None}


def people(n=1200, seed=0):
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 80, n)
    job = np.where(rng.random(n) < (age - 10) / 80, "office", "field")
    pay = np.round(np.exp(rng.normal(7.5 + 0.01 * age + 0.3 * (job == "office"), 0.4)), 2)
    frame = pd.DataFrame(
        {
            "id": np.arange(1000, 1000 + n),
            "age": age,
            "job": pd.Categorical(job, ["field", "office"]),
            "pay": np.where(rng.random(n) < 0.15, np.nan, pay),
            "joined": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), unit="D"),
            "remote": rng.random(n) < 0.4,
            "country": "NL",
        }
    )
    return frame.astype({"age": "int32"})


@pytest.fixture(scope="module")
def frame():
    return people()


@pytest.fixture(scope="module")
def model(frame):
    return ck.TableModel(**SMALL, max_steps=120, target="job").fit(frame)


def test_samples_look_like_the_table_they_come_from(model, frame):
    drawn = model.sample(700, seed=3)
    assert list(drawn.columns) == list(frame.columns)
    assert (drawn.dtypes == frame.dtypes).all()
    assert drawn["age"].between(18, 79).all()
    assert set(drawn["job"].unique()) == {"field", "office"}
    assert drawn["id"].is_unique
    assert not drawn["id"].isin(frame["id"]).any()
    assert (drawn["country"] == "NL").all()
    assert 0.05 < drawn["pay"].isna().mean() < 0.3
    assert (drawn["pay"].dropna().round(2) == drawn["pay"].dropna()).all()


def test_a_row_depends_on_the_seed_and_its_number_alone(model):
    alone, among = model.sample(30, seed=5), model.sample(1500, seed=5).head(30)
    pd.testing.assert_frame_equal(alone, among)
    batches = pa.concat_tables(model.sample_batches(1500, seed=5, rows_per_batch=400)).to_pandas()
    same = (batches["age"].to_numpy() == model.sample(1500, seed=5)["age"].to_numpy()).mean()
    assert same > 0.995  # a matrix product rounds differently for another batch, which may move a draw across an edge
    assert not model.sample(30, seed=6)["age"].equals(alone["age"])


def test_what_is_given_is_what_comes_out(model):
    given = {"job": "office", "age": 40, "remote": True, "pay": None}
    drawn = model.sample(50, given=given)
    assert (drawn["job"] == "office").all()
    assert (drawn["age"] == 40).all()
    assert drawn["remote"].all()
    assert drawn["pay"].isna().all()


@pytest.mark.parametrize(
    ("where", "check"),
    [
        ("age between 30 and 39", lambda d: d["age"].between(30, 39)),
        ("pay > 3000 and age < 30", lambda d: (d["pay"] > 3000) & (d["age"] < 30)),
        ("job in ('office') and remote = true", lambda d: (d["job"] == "office") & d["remote"]),
        ("joined >= '2021-06-01' and pay is not missing", lambda d: (d["joined"] >= "2021-06-01") & d["pay"].notna()),
    ],
)
def test_conditions_as_text_hold_in_every_row(model, where, check):
    assert check(model.sample(300, where=where)).all()


def test_conditions_as_objects_and_lists_combine_with_text(model):
    drawn = model.sample(60, given={"age": Between(50, None), "pay": NotMissing()}, where="age <= 55")
    assert drawn["age"].between(50, 55).all()
    assert drawn["pay"].notna().all()
    assert set(model.sample(60, given={"age": [20, 21]})["age"]) <= {20, 21}


def test_a_complete_sample_has_no_missing_cell_and_keeps_the_others(model):
    plain, complete = model.sample(400, seed=2), model.sample(400, seed=2, complete=True)
    assert not complete.isna().any().any()
    known = plain["pay"].notna()
    assert known.any()
    pd.testing.assert_frame_equal(plain[known].drop(columns="country"), complete[known].drop(columns="country"))


def test_imputation_fills_every_hole_and_touches_nothing_else(model, frame):
    rng = np.random.default_rng(1)
    holes = frame.head(200).copy()
    for name in ("job", "pay", "joined"):
        holes.loc[rng.random(200) < 0.5, name] = None
    filled = model.impute(holes)
    assert not filled.isna().any().any()
    for name in ("job", "pay", "joined", "age"):
        there = holes[name].notna()
        assert (filled.loc[there, name] == holes.loc[there, name]).all()
    assert filled["id"].equals(holes["id"])
    other = model.impute(holes, seed=1)
    assert not other["pay"].equals(filled["pay"])


def test_scores_are_finite_repeatable_and_lowest_for_what_does_not_belong(model, frame):
    usual = model.score_samples(frame.head(100))
    assert usual.shape == (100,)
    assert np.isfinite(usual).all()
    np.testing.assert_array_equal(usual, model.score_samples(frame.head(100)))
    odd = frame.head(100).assign(pay=9e6)
    assert np.median(model.score_samples(odd)) < np.quantile(usual, 0.05)
    assert model.score(frame.head(100)) == pytest.approx(usual.mean())


def test_a_saved_model_draws_the_same_rows(model, tmp_path):
    path = tmp_path / "people.clarkia"
    model.save(path)
    again = ck.load(path)
    pd.testing.assert_frame_equal(model.sample(64, seed=9), again.sample(64, seed=9))
    assert again.get_params() == model.get_params()
    assert again.training_run_.steps == 120
    with pytest.raises(DataError, match="exists"):
        model.save(path)


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
def test_frames_come_back_as_they_went_in(frame, kind, tmp_path):
    table = pa.Table.from_pandas(frame.drop(columns="country"), preserve_index=False)
    if kind == "polars":
        polars = pytest.importorskip("polars")
        given = polars.from_arrow(table)
    else:
        given = table.to_pandas() if kind == "pandas" else table
    model = ck.TableModel(**SMALL, max_steps=3).fit(given)
    model.save(tmp_path / "m.clarkia")
    for fitted in (model, ck.load(tmp_path / "m.clarkia")):
        assert type(fitted.sample(4)) is type(given)
    if kind == "polars":
        assert model.sample(4).schema == given.schema


def test_it_keeps_the_habits_of_an_estimator(frame):
    model = ck.TableModel(**SMALL, max_steps=2, seed=4)
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        model.sample(3)
    assert model.set_params(depth=2).depth == 2
    assert model.fit(frame) is model
    assert list(model.feature_names_in_) == list(frame.columns)
    with pytest.raises(TypeError):
        ck.TableModel(depht=3)


@pytest.mark.parametrize(
    "options",
    [
        {"schedule": "learned"},
        {"network": "tabdiff", "width": 32},
        {"groups": 1},
        {"subset_probability": 0.0},
        {"precision": "float32", "validation_share": 0.0},
    ],
    ids=str,
)
def test_every_setting_fits_samples_and_scores(frame, options):
    model = ck.TableModel(**(SMALL | {"max_steps": 8} | options)).fit(frame)
    assert len(model.sample(20)) == 20
    assert np.isfinite(model.score_samples(frame.head(5), num_draws=2)).all()
    if options == {"schedule": "learned"}:
        raw = [parameter for name, parameter in model.denoiser_.named_parameters() if "schedules" in name]
        assert any((parameter - parameter.flatten()[0].round()).abs().max() > 0 for parameter in raw)


def test_tabdiffs_own_sampler_and_guidance_run_on_a_fitted_model(model):
    solver = samplers.Mixed(samplers.Heun(churn=1.0), samplers.Ancestral(remask=1.0))
    assert len(model.sample(20, solver=solver, num_steps=10)) == 20
    plain = model.sample(600, given={"job": "office"})
    guided = model.sample(600, given={"job": "office"}, guidance_scale=4.0)
    assert guided["age"].mean() > plain["age"].mean()  # the old are the likelier to sit in an office


def test_the_same_seed_fits_the_same_model_and_a_resumed_one_too(frame, tmp_path):
    options = SMALL | {"max_steps": 12, "precision": "float32"}
    first = ck.TableModel(**options).fit(frame).sample(16)
    pd.testing.assert_frame_equal(first, ck.TableModel(**options).fit(frame).sample(16))
    path = tmp_path / "fit.checkpoint"

    def stop(status):
        if status.step >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ck.TableModel(**options).fit(frame, checkpoint=path, progress=stop)
    resumed = ck.TableModel(**options).fit(frame, checkpoint=path, resume=True)
    pd.testing.assert_frame_equal(first, resumed.sample(16))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        ({"given": {"jov": "office"}}, "'job'"),
        ({"given": {"job": "sea"}}, "sea"),
        ({"where": "age between 300 and 400"}, "age"),
        ({"where": "age >"}, "position"),
        ({"given": {"remote": None}}, "missing"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(model, ask, message):
    with pytest.raises(DataError, match=message):
        model.sample(5, **ask)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "unet"}, "network"),
        ({"target": "salary"}, "salary"),
        ({"subset_probability": 2.0}, "subset_probability"),
        ({"groups": 0}, "groups"),
        ({"max_steps": -1}, "max_steps"),
        ({"roles": {"salary": "real"}}, "salary"),
    ],
)
def test_settings_out_of_range_are_refused_before_any_work(frame, options, message):
    with pytest.raises(DataError, match=message):
        ck.TableModel(**(SMALL | options)).fit(frame)


def test_a_model_that_never_saw_an_observed_column_warns_of_queries(frame):
    model = ck.TableModel(**SMALL, max_steps=2, subset_probability=0.0).fit(frame)
    model.sample(3)
    with pytest.warns(UserWarning, match="subset_probability"):
        model.sample(3, given={"job": "office"})
    with pytest.warns(UserWarning, match="subset_probability"):
        model.impute(frame.head(3))


def test_a_table_without_numbers_and_one_without_categories_fit():
    rng = np.random.default_rng(0)
    words = pd.DataFrame({name: rng.choice(list("abc"), 300) for name in "xy"})
    numbers = pd.DataFrame({name: rng.normal(size=90) for name in "xy"})
    for frame in (words, numbers, numbers.head(3), words.head(2)):
        assert len(ck.TableModel(**SMALL, max_steps=3).fit(frame).sample(5)) == 5
