"""Rules where cells are filled in and columns are predicted: exact laws, and models that are hardly trained."""

import itertools

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

import clarkia as ck
from clarkia.codecs import TableCodec
from clarkia.codecs.constraints import RuleEncoding, parse_rules
from clarkia.errors import DataError
from clarkia.models.classify import predict_column
from clarkia.models.questions import Question
from clarkia.oracles import FiniteJoint
from clarkia.processes import Masked, Mixed
from clarkia.processes.times import block_time

SEXES, BEARDS, AGES = ("F", "M"), ("no", "yes"), ("old", "young")
LAW = np.array([[[0.10, 0.15], [0.20, 0.05]], [[0.10, 0.10], [0.05, 0.25]]])  # of sex, beard and age
RULE = "if sex = 'F' then beard = 'no'"
ROWS = 4000


def known_model(*constraints, law=LAW):
    """A table model whose denoiser is the exact one of three columns of known law."""
    cells = list(itertools.product(SEXES, BEARDS, AGES))
    frame = pd.DataFrame([cell for cell in cells for _ in range(50)], columns=["sex", "beard", "age"])
    codec = TableCodec.fit(pa.Table.from_pandas(frame, preserve_index=False))
    process = Mixed(levels=Masked((2, 2, 2)))
    exact = FiniteJoint(torch.tensor(law)).denoiser(process.blocks["levels"])

    def denoiser(x_t, t, condition=None):
        return {"levels": exact(x_t["levels"], block_time(t, "levels"))}

    model = ck.TableModel()
    model._like = frame.head(0)
    encoding = RuleEncoding(codec.schema, standing=parse_rules(list(constraints)))
    return model._fitted(codec, encoding, process, denoiser, 10, [])


def rows(n=ROWS, **columns):
    return pd.DataFrame({name: [value] * n for name, value in columns.items()})


def assert_close(share, exact, n=ROWS):
    """Within 4.5 standard errors: a right sampler fails one time in 150,000."""
    assert abs(share - exact) <= 4.5 * np.sqrt(exact * (1 - exact) / n)


# ------------------------------------------------------------------------------------------- rules that stand


def test_cells_are_filled_in_with_their_law_given_a_rule_that_stands():
    model = known_model(RULE)
    filled = model.impute(rows(sex="F", beard=None, age=None))
    assert (filled.beard == "no").all()
    assert_close((filled.age == "old").mean(), 0.10 / 0.25)
    assert (model.impute(rows(200, beard="yes")).sex == "M").all()
    filled = model.impute(rows(sex=None, beard=None, age="old"))
    kept = LAW.copy()
    kept[0, 1] = 0
    assert not ((filled.sex == "F") & (filled.beard == "yes")).any()
    assert_close((filled.sex == "F").mean(), kept[0, :, 0].sum() / kept[:, :, 0].sum())


def test_rows_that_break_a_rule_that_stands_are_refused():
    frame = rows(5000, sex="F", beard="no", age=None)
    frame.loc[[4200, 4900], "beard"] = "yes"
    words = r"is broken in 2 of 5,000 rows, first in row 4201 \(sex = F, beard = yes\)"
    with pytest.raises(DataError, match=words):
        known_model(RULE).impute(frame)
    with pytest.raises(DataError, match=words):
        known_model(RULE).predict(frame, "age", draws=16)


def test_a_row_that_can_hardly_keep_a_rule_is_named():
    never = LAW.copy()
    never[0, 0] = 0
    frame = rows(3, sex="M", beard=None)
    frame.loc[1, "sex"] = "F"
    model = known_model(RULE, law=never / never.sum())
    with pytest.raises(DataError, match=r"Row 2: none of 1,024 draws keeps the rule .if sex = 'F' then"):
        model.impute(frame)
    with pytest.raises(DataError, match=r"Row 2: none of 1,024 draws"):
        model.predict(frame[["sex"]], "beard", draws=4)
    with pytest.raises(DataError, match=r"None of 4,096 draws keeps the rule"):
        model.impute(rows(5000, sex="F", beard=None))


def test_predictions_keep_rules_that_stand():
    model = known_model(RULE)
    told = model.predict(pd.DataFrame({"sex": ["F", "M"], "age": ["old", "old"]}), "beard", draws=400)
    assert list(told.columns) == ["no", "yes"]
    assert told["no"][0] == 1
    assert_close(told["yes"][1], 0.05 / 0.15, 400)


def test_what_a_rule_does_not_touch_is_predicted_at_once():
    """The age of rows whose sex and beard are known is exact; where a beard is not known, the rule counts."""
    model = known_model(RULE)
    frame = pd.DataFrame({"sex": ["M", "F", "F", "M"], "beard": ["yes", None, "no", "no"]})
    told = model.predict(frame, "age", draws=2000)["old"]
    assert told[[0, 2, 3]].tolist() == pytest.approx([0.05 / 0.30, 0.10 / 0.25, 0.5])
    assert told[1] != 0.10 / 0.25
    assert_close(told[1], 0.10 / 0.25, 2000)
    assert predict_column(model, frame, "age")["old"][1] == pytest.approx(0.30 / 0.50)


def test_draws_of_one_seed_are_not_those_of_another():
    model, frame = known_model(RULE), rows(128, age="old")
    first, second = (model.predict(frame, "beard", draws=64, seed=seed) for seed in (0, 64))
    assert not first[64:].reset_index(drop=True).equals(second[:64])
    assert first.equals(model.predict(frame, "beard", draws=64, seed=0))


# ----------------------------------------------------------------------------- models that are hardly trained


def people(n=300):
    rng = np.random.default_rng(0)
    day = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 60, n), unit="D")
    low = rng.integers(0, 9, n)
    frame = pd.DataFrame(
        {
            "id": np.arange(n) + 100,
            "yes": rng.random(n) < 0.5,
            "flag": rng.integers(0, 2, n),
            "day": day.date,
            "kind": rng.choice(list("abcdefgh"), n),
            "rent": np.round(rng.lognormal(6, 0.5, n), 2),
            "food": np.round(rng.lognormal(5, 0.5, n), 2),
            "low": low,
            "high": low + rng.integers(0, 5, n),
            "place": rng.choice(["Bonn", "Lyon", "Atlantis"], n),
        }
    )
    frame["rent"] = frame.rent.where(rng.random(n) > 0.2)
    country, code = {"Bonn": "DE", "Lyon": "FR", "Atlantis": None}, {"Bonn": 1, "Lyon": 2, "Atlantis": None}
    frame["country"], frame["code"] = frame.place.map(country), frame.place.map(code).astype("Int64")
    return frame.assign(total=np.round(frame.rent + frame.food, 2))


BUILT_IN = ["total = rent + food", "low <= high", "place determines country, code"]


@pytest.fixture(scope="module")
def fitted():
    options = {"width": 16, "depth": 1, "max_steps": 20, "max_minutes": None, "roles": {"flag": "categorical"}}
    return ck.TableModel(constraints=BUILT_IN, **options).fit(people()), ck.TableModel(**options).fit(people())


@pytest.mark.parametrize("column", ["yes", "flag", "day", "kind", "food", "total", "low"])
def test_answers_have_the_same_form_with_rules_and_without(fitted, column):
    ruled, plain = fitted
    asked = people().query("place != 'Atlantis'").reset_index(drop=True).head(4)
    asked = asked.drop(columns=["total", "high"]).assign(rent=1.5)
    found, other = (model.predict(asked, column, draws=8) for model in (ruled, plain))
    assert list(found.columns) == list(other.columns)
    assert found.index.equals(other.index)
    assert found.notna().all(axis=None)
    assert type(found.iloc[0, 0]) is type(other.iloc[0, 0])
    if column in ("yes", "flag", "day", "kind"):  # of which no rule speaks
        pd.testing.assert_frame_equal(found, predict_column(ruled, _told(ruled, asked), column, draws=8))


def _told(model, frame):
    whole = pa.Table.from_pandas(frame.assign(total=frame.rent + frame.food, high=99), preserve_index=False)
    return model.rules_.forward(whole).drop_columns(["high - low"])


def test_probabilities_are_of_all_values(fitted):
    """Also of a linked column, and where a draw has no value it counts for none of them."""
    frame = people().head(5)
    assert list(fitted[0].predict(frame.drop(columns="code"), "country", draws=2).columns) == ["DE", "FR"]
    frame = pd.DataFrame({"place": ["Atlantis", "Bonn", None], "kind": ["a", "b", "c"]})
    told = fitted[0].predict(frame, "country", draws=8)
    assert told.loc[0].isna().all()
    assert told.loc[1].tolist() == [1, 0]
    assert told.loc[2].sum() == pytest.approx(1)
    numbers = fitted[0].predict(frame, "code", draws=8)
    assert list(numbers.columns) == ["mean", "std", "5%", "50%", "95%"]
    assert numbers.loc[0].isna().all()
    assert numbers.loc[1].tolist() == [1, 0, 1, 1, 1]


def test_keys_and_constants_are_not_predicted(fitted):
    with pytest.raises(DataError, match="a constant or a key"):
        fitted[0].predict(people().head(1), "id")
    with pytest.raises(DataError, match=r"no column 'knd'; the nearest"):
        fitted[0].predict(people().head(1), "knd")


def test_the_lower_column_of_an_order_is_predicted_without_the_other(fitted):
    with pytest.raises(DataError, match=r"'low' cannot be predicted from 'high', .*; leave 'high' out"):
        fitted[0].predict(people().head(2), "low", draws=4)
    assert fitted[0].predict(people().head(2).drop(columns="high"), "low", draws=4)["mean"].notna().all()


def test_rows_of_training_are_taken_though_cells_are_missing(fitted):
    frame = people().head(60)
    assert (frame.place == "Atlantis").any()
    filled = fitted[0].impute(frame)
    empty = frame.place == "Atlantis"
    assert filled.country.isna().equals(empty)
    assert filled.drop(columns=["country", "code"]).notna().all(axis=None)
    assert np.allclose(filled.total, filled.rent + filled.food)


def test_rows_are_named_by_their_number_in_the_frame(fitted):
    frame = pd.concat([people()] * 14, ignore_index=True)[["rent", "food", "total", "kind"]].ffill()
    frame["total"] = np.round(frame.rent + frame.food, 2)
    for change, words in (
        ({"total": 1.0}, r"broken in one row, first in row 4151 "),
        ({"rent": None, "food": None}, "Row 4151: 'total' is there"),
        ({"kind": "z"}, "row 4151"),
    ):
        wrong = frame.copy()
        wrong.loc[4150, list(change)] = list(change.values())
        with pytest.raises(DataError, match=words):
            fitted[0].impute(wrong)
        if "kind" in change:
            with pytest.raises(DataError, match=words):
                fitted[0].predict(wrong, "place", draws=4)


def test_a_rule_that_is_asked_for_again_wants_its_cells_to_be_there(fitted):
    model = fitted[0]
    assert model.sample(300).rent.isna().any()
    drawn = model.sample(300, constraints=BUILT_IN[:1])
    assert drawn[["total", "rent", "food"]].notna().all(axis=None)
    drawn = model.sample(300, constraints=BUILT_IN[2:3])
    assert drawn.country.notna().all()
    standing = ck.TableModel(width=16, depth=1, max_steps=2, max_minutes=None, constraints=["rent + low > 1"])
    standing.fit(people()[["rent", "low", "kind"]])
    assert standing.sample(200).rent.isna().any()
    assert standing.sample(200, constraints=["rent + low > 1"]).rent.notna().all()


def test_a_model_keeps_linked_rules_that_share_a_column(tmp_path):
    rules = ["place determines country", "country determines code"]
    options = {"width": 16, "depth": 1, "max_steps": 2, "max_minutes": None}
    model = ck.TableModel(constraints=rules, **options).fit(people()[["place", "country", "code", "kind"]])
    known = {("Bonn", "DE", 1), ("Lyon", "FR", 2), ("Atlantis", None, None)}
    drawn = model.sample(100)
    cells = drawn[["place", "country", "code"]].astype(object)
    assert set(cells.where(cells.notna(), None).itertuples(index=False, name=None)) == known
    assert model.sample(50, constraints=rules).notna().all(axis=None)
    model.save(tmp_path / "m.clarkia")
    assert ck.load(tmp_path / "m.clarkia").sample(100).equals(drawn)


def test_a_sum_that_is_asked_for_has_the_digits_of_plain_rows():
    plain = pa.table({"total": [0.15, 7.35], "a": [0.1, 4.9]})
    wish = Question.of(RuleEncoding(plain.schema), plain, constraints=["total = 1.5 * a"], plain=lambda: plain).wish
    rows = pa.table({"total": [7.0, 7.35], "a": [4.9, 4.9]})
    assert wish.kept(rows).tolist() == [False, True]
    assert wish.kept(rows.slice(0, 1)).tolist() == [False]


def test_a_cell_that_a_rule_wants_empty_stays_so():
    frame = pd.DataFrame({"age": np.arange(40) % 20, "food": np.arange(40) % 7})
    frame["job"] = np.where(frame.age < 12, None, np.array(["cook", "nurse"])[frame.food % 2])
    options = {"width": 16, "depth": 1, "max_steps": 2, "max_minutes": None, "roles": {"food": "integer"}}
    model = ck.TableModel(constraints=["if age < 12 then job is missing"], **options).fit(frame)
    filled = model.impute(frame.assign(job=None))
    assert (filled.job.isna() == (frame.age < 12)).all()
    assert model.predict(frame.head(1)[["age"]], "job", draws=4).isna().all(axis=None)
