"""Rules, rewards and particles at the estimators, on a table of known law and on models that are hardly trained."""

import contextlib
import itertools
import math
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

import clarkia as ck
from clarkia.codecs import TableCodec
from clarkia.codecs.constraints import RuleEncoding, parse_rules
from clarkia.errors import DataError
from clarkia.oracles import FiniteJoint
from clarkia.processes import Masked, Mixed
from clarkia.processes.times import block_time
from clarkia.random import generator
from clarkia.steering import CollapseWarning

SHAPE = (3, 4, 2)  # classes of the columns x, y and kind
KINDS = ("a", "b")


def law():
    table = torch.rand(SHAPE, generator=generator(2), dtype=torch.float64) ** 2
    return table / table.sum()


def known_model(constraints=None):
    """A table model whose denoiser is the exact one of three columns of known law."""
    cells = list(itertools.product(*map(range, SHAPE)))
    rows = [cell for cell in cells for _ in range(50)]
    frame = pd.DataFrame({"x": [r[0] for r in rows], "y": [r[1] for r in rows], "kind": [KINDS[r[2]] for r in rows]})
    table = pa.Table.from_pandas(frame, preserve_index=False)
    codec = TableCodec.fit(table)
    assert [column.level for column in codec.columns] == [("levels", place) for place in range(3)]
    process = Mixed(levels=Masked(SHAPE))
    exact = FiniteJoint(law()).denoiser(process.blocks["levels"])

    def denoiser(x_t, t, condition=None):
        return {"levels": exact(x_t["levels"], block_time(t, "levels"))}

    encoding = RuleEncoding(codec.schema, standing=parse_rules(constraints))
    model = ck.TableModel()
    model._like = frame.head(0)
    return model._fitted(codec, encoding, process, denoiser, 10, [])


def tilted(weight):
    """The law times a weight of (x, y, kind), normalised."""
    exact = law().numpy() * np.array([weight(*cell) for cell in itertools.product(*map(range, SHAPE))]).reshape(SHAPE)
    return exact / exact.sum()


def frequencies(frame):
    found = np.zeros(SHAPE)
    np.add.at(found, (frame.x, frame.y, frame.kind.map(KINDS.index)), 1 / len(frame))
    return found


def assert_close(found, exact, rows, allowed=0.0):
    """Each frequency within 4.5 standard errors: with 24 cells a right sampler fails one time in 6,000."""
    assert found[exact == 0].sum() == 0
    assert (np.abs(found - exact) <= allowed + 4.5 * np.sqrt(exact * (1 - exact) / rows)).all()


RULES = {
    "x + y <= 2": lambda x, y, kind: x + y <= 2,
    "x < y": lambda x, y, kind: x < y,
    "if kind = 'a' then y > 1": lambda x, y, kind: kind == 1 or y > 1,
}


@pytest.mark.parametrize("rule", RULES)
def test_rejected_rows_have_the_conditional_law(rule):
    drawn = known_model().sample(4000, constraints=[rule], exactness="exact")
    assert_close(frequencies(drawn), tilted(RULES[rule]), 4000)


@pytest.mark.parametrize("rule", RULES)
def test_particles_have_the_conditional_law(rule):
    """With 16 particles the bias is below 1/16 of a cell's share at the most; the error allowed adds a tenth of it."""
    drawn = known_model().sample(2000, constraints=[rule])
    exact = tilted(RULES[rule])
    assert_close(frequencies(drawn), exact, 2000, allowed=0.1 * exact)


def test_a_reward_tilts_the_law():
    drawn = known_model().sample(2000, reward=lambda frame: frame.x - 0.5 * frame.y, reward_scale=1.2)
    exact = tilted(lambda x, y, kind: math.exp(1.2 * (x - 0.5 * y)))
    assert_close(frequencies(drawn), exact, 2000, allowed=0.1 * exact)
    plain = known_model().sample(2000, reward=lambda frame: frame.x, reward_scale=0.0)
    assert_close(frequencies(plain), law().numpy(), 2000)


def test_a_reward_of_columns_is_in_standard_deviations():
    x = np.arange(3.0)
    share = law().numpy().sum((1, 2))
    mean = share @ x
    deviation = math.sqrt(share @ (x - mean) ** 2)
    drawn = known_model().sample(2000, reward="2 * x + 7", reward_scale=-1.0)
    exact = tilted(lambda x, y, kind: math.exp(-x / deviation))
    # 1,024 plain rows find the deviation to 3 %.
    assert_close(frequencies(drawn), exact, 2000, allowed=0.15 * exact)


def test_conditions_rules_and_a_reward_together():
    drawn = known_model().sample(
        2000, given={"kind": "b"}, where="y >= 1", constraints=["x <= y", lambda frame: frame.x + frame.y < 5],
        reward=lambda frame: frame.y.to_numpy(),
    )  # fmt: skip
    exact = tilted(lambda x, y, kind: (kind == 1) * (y >= 1) * (x <= y) * (x + y < 5) * math.exp(y))
    assert_close(frequencies(drawn), exact, 2000, allowed=0.1 * exact)


def test_a_linked_column_is_filled_in_with_its_law_given_the_others():
    """Of six combinations of x and y, those that go with what is known, each as likely as the exact law says."""
    pairs = [(0, "p"), (0, "q"), (0, "r"), (1, "p"), (1, "r"), (2, "q")]
    rows = [(*pair, kind) for place, pair in enumerate(pairs) for kind in KINDS for _ in range(20 - place)]
    frame = pd.DataFrame(rows, columns=["x", "y", "kind"])
    table = pa.Table.from_pandas(frame, preserve_index=False)
    encoding = RuleEncoding.fit(table, parse_rules(["linked(x, y)"]))
    codec = TableCodec.fit(encoding.forward(table), encoding.roles({}))
    assert codec.space.blocks["levels"].counts == (2, 6)
    share = law().flatten()[:12].reshape(2, 6) / law().flatten()[:12].sum()  # of kind and of the pair, "0, p" first
    process = Mixed(levels=Masked((2, 6)))
    exact = FiniteJoint(share).denoiser(process.blocks["levels"])

    def denoiser(x_t, t, condition=None):
        return {"levels": exact(x_t["levels"], block_time(t, "levels"))}

    model = ck.TableModel()
    model._like = frame.head(0)
    model = model._fitted(codec, encoding, process, denoiser, 10, [])
    some = 3000
    filled = model.impute(pd.DataFrame({"x": [0] * some, "y": [None] * some, "kind": ["b"] * some}))
    assert (filled.x == 0).all()
    wanted = (share[1, :3] / share[1, :3].sum()).numpy()
    assert_close(filled.y.value_counts(normalize=True).reindex(["p", "q", "r"]).to_numpy(), wanted, some)
    filled = model.impute(pd.DataFrame({"x": [None] * some, "y": ["p"] * some, "kind": [None] * some}))
    assert (filled.y == "p").all()
    joint = share[:, [0, 3]] / share[:, [0, 3]].sum()
    found = [[((filled.kind == kind) & (filled.x == x)).mean() for x in (0, 1)] for kind in KINDS]
    assert_close(np.array(found), joint.numpy(), some)


def test_standing_rules_hold_without_being_asked_for():
    drawn = known_model(["x + y <= 2"]).sample(4000)
    assert_close(frequencies(drawn), tilted(RULES["x + y <= 2"]), 4000)
    assert (known_model(["x + y <= 2"]).sample(200, reward="x").eval("x + y") <= 2).all()


def test_the_best_of_the_particles():
    best = known_model().sample(300, reward="x", constraints=["x < y"], exactness="heuristic")
    exact = tilted(RULES["x < y"])
    assert (best.x < best.y).all()
    assert best.x.mean() > (exact.sum((1, 2)) @ np.arange(3)) + 0.3


@pytest.mark.parametrize("exactness", ["exact", "asymptotic"])
def test_a_steered_row_depends_on_the_seed_and_its_number_alone(exactness):
    options = {"constraints": ["x + y >= 4"], "exactness": exactness, "num_particles": 4}
    model = known_model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)  # the rule is rare and the particles are few
        many = model.sample(300, seed=3, **options)
        assert model.sample(7, seed=3, **options).equals(many[:7])
        parts = model.sample_batches(200, seed=3, start=100, rows_per_batch=64, **options)
        assert pa.concat_tables(parts).to_pandas().equals(many[100:].reset_index(drop=True))
    assert not model.sample(300, seed=4, constraints=["x + y <= 4"], exactness=exactness).equals(many)


def test_what_cannot_be_is_given_up_with_an_estimate():
    model = known_model()
    with pytest.raises(DataError, match=r"none of [\d,]+ plain draws meets them, an acceptance below"):
        model.sample(50, constraints=["x > y + 3"], exactness="exact")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        with pytest.raises(DataError, match=r"none of 1,024 plain draws meets them, an acceptance below 0\.003"):
            model.sample(50, constraints=["x > y + 3"])


def test_collapsed_weights_are_warned_of():
    with pytest.warns(CollapseWarning, match=r"are worth .* \(ESS\).*num_particles.*reward_scale"):
        known_model().sample(50, reward=lambda frame: np.random.default_rng(0).random(len(frame)), reward_scale=1000.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reward": lambda frame: frame.x * np.nan}, "not finite, the first is nan"),
        ({"reward": lambda frame: frame.x + np.inf}, "not finite, the first is inf"),
        ({"reward": lambda frame: 1.0}, r"one number each, shape \(80,\), found shape \(\)"),
        ({"reward": lambda frame: frame[["x", "y"]]}, r"found shape \(80, 2\)"),
        ({"reward": lambda frame: list(frame.kind)}, "a number each"),
        ({"reward": 3}, "a function of what is drawn"),
        ({"reward": "x + nope"}, "no column 'nope'"),
        ({"reward": "x", "exactness": "exact"}, "'exact' is for conditions"),
        ({"exactness": "heuristic"}, "give a reward"),
        ({"exactness": "precise"}, "expected one of exact"),
        ({"num_particles": 0}, "num_particles"),
        ({"reward": "x", "reward_scale": math.nan}, "reward_scale"),
        ({"constraints": "x < y"}, "list of rules"),
        ({"constraints": ["x < nope"]}, "no column 'nope'"),
        ({"constraints": [3]}, "functions that say"),
        ({"constraints": [lambda frame: frame.x]}, "true or false each"),
        ({"constraints": ["x = 1", "x = 2"]}, "No cell satisfies both"),
        ({"constraints": ["x determines y"]}, "fit the model with it"),
    ],
)
def test_wishes_that_cannot_be_are_refused(options, words):
    with pytest.raises(DataError, match=words):
        known_model().sample(5, **options)


# ------------------------------------------------------------------------------- models that are hardly trained


def spending(rows=240, seed=0):
    rng = np.random.default_rng(seed)
    city = rng.choice(["Paris", "Lyon", "Bonn"], rows)
    start = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 300, rows), unit="D")
    frame = pd.DataFrame(
        {
            "id": np.arange(rows) + 100,
            "country": np.where(city == "Bonn", "DE", "FR"),
            "city": city,
            "rent": np.round(rng.lognormal(6, 0.5, rows), 2),
            "food": np.round(rng.lognormal(5, 0.5, rows), 2),
            "start": start,
            "end": start + pd.to_timedelta(rng.integers(0, 30, rows), unit="D"),
        }
    )
    return frame.assign(total=np.round(frame.rent + frame.food, 2))


CONSTRAINTS = ["total = rent + food", "start <= end", "city determines country", "if city = 'Bonn' then rent < 3000"]


@pytest.fixture(scope="module")
def spent():
    return ck.TableModel(width=32, depth=1, max_steps=30, max_minutes=None, constraints=CONSTRAINTS).fit(spending())


def keeps(frame):
    whole = np.isclose(frame.total, frame.rent + frame.food, rtol=0, atol=1e-9) & (frame.start <= frame.end)
    return whole & (frame.country == np.where(frame.city == "Bonn", "DE", "FR"))


def test_a_model_keeps_the_rules_it_was_fitted_with(spent, tmp_path):
    frame = spending()
    drawn = spent.sample(500)
    assert list(drawn.columns) == list(frame.columns)
    assert (drawn.dtypes == frame.dtypes).all()
    assert keeps(drawn).all()
    spent.save(tmp_path / "spent.clarkia")
    assert ck.load(tmp_path / "spent.clarkia").sample(500).equals(drawn)


def test_columns_that_rules_make_can_be_asked_for(spent):
    drawn = spent.sample(40, where="total > 600 and country = 'FR'", constraints=["rent > 2 * food"])
    assert keeps(drawn).all()
    assert (drawn.total > 600).all()
    assert (drawn.country == "FR").all()
    assert (drawn.rent > 2 * drawn.food).all()
    assert (drawn.id == np.arange(40) + drawn.id[0]).all()


def test_imputation_follows_the_rules(spent):
    frame = spending().iloc[:6].copy()
    frame.loc[0, "food"] = frame.loc[1, "total"] = np.nan
    frame.loc[2, "country"] = frame.loc[3, "city"] = None
    frame.loc[4, ["rent", "total"]] = np.nan
    frame.loc[5, ["start", "end"]] = pd.NaT
    filled = spent.impute(frame)
    truth = spending().iloc[:6]
    assert keeps(filled).all()
    assert filled.food[0] == truth.food[0]
    assert filled.total[1] == truth.total[1]
    assert filled.country[2] == truth.country[2]
    for name in frame:
        there = frame[name].notna()
        assert (filled[name][there] == frame[name][there]).all()
    frame.loc[1, "total"] = 1.0
    with pytest.raises(DataError, match="is broken in one row, first in row 2"):
        spent.impute(frame)


def test_rows_that_break_a_rule_have_no_density(spent):
    rows = spending().iloc[:4].copy()
    rows.loc[1, "total"] += 1
    rows.loc[2, "country"] = "IT"
    scores = spent.score_samples(rows)
    assert np.isfinite(scores).tolist() == [True, False, False, True]


def test_predictions_of_columns_in_rules(spent):
    rows = spending().iloc[:3]
    told = spent.predict(rows, "food", draws=4)
    assert told["mean"].tolist() == pytest.approx(rows.food.tolist())
    shares = spent.predict(rows.drop(columns="country"), "country", draws=4)
    assert shares.to_numpy().sum(1) == pytest.approx(1)
    assert all(shares.loc[row, country] == 1 for row, country in enumerate(rows.country))
    with pytest.raises(DataError, match="no target"):
        spent.predict(rows)


def test_a_rule_that_training_rows_break_is_refused():
    with pytest.raises(DataError, match="broken in"):
        ck.TableModel(constraints=["rent < food"]).fit(spending())


def grey(pictures):
    return pictures.reshape(len(pictures), -1).mean(1) / 10


def test_pictures_are_steered():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (40, 8, 8)).astype(np.uint8)
    model = ck.ImageModel(width=8, depth=1, max_steps=2, max_minutes=None).fit(pictures, [0, 1] * 20)
    plain = model.sample(12, given={"class": 1}, num_steps=6)
    bright = model.sample(12, given={"class": 1}, num_steps=6, reward=grey)
    assert grey(bright).mean() > grey(plain).mean() + 0.3
    middle = float(np.median(grey(plain)))
    for exactness in ("exact", "asymptotic"):
        kept = model.sample(9, num_steps=6, constraints=[lambda x: grey(x) > middle], exactness=exactness)
        assert (grey(kept) > middle).all()
        again = model.sample(
            4, num_steps=6, constraints=[lambda x: grey(x) > middle], exactness=exactness, images_per_batch=20
        )
        assert (again == kept[:4]).mean() > 0.99
    with pytest.raises(DataError, match="one number each"):
        model.sample(2, num_steps=2, reward=lambda x: x)
    seen, network = [], model.denoiser_.forward
    model.denoiser_.forward = lambda x, *told: seen.append(len(x)) or network(x, *told)
    for options in (
        {"reward": grey, "num_particles": 8},
        {"constraints": [lambda x: x.mean((1, 2)) > 255], "num_particles": 2},
    ):
        with contextlib.suppress(DataError):  # impossible, which takes every retry and the estimate of how few
            model.sample(3, num_steps=2, images_per_batch=5, **options)
    assert max(seen) == 5
    found = model.classify(pictures[:3], num_draws=8)
    assert found.shape == (3, 2)


def test_texts_are_steered():
    model = ck.TextModel(length=8, width=16, depth=1, max_steps=3, max_minutes=None).fit(["abcd", "bcda", "dabc"] * 20)

    def letters(texts):
        return [text.count("a") for text in texts]

    assert np.mean(letters(model.sample(20, reward=letters))) > np.mean(letters(model.sample(20))) + 0.5
    assert all("ab" in text for text in model.sample(10, constraints=["ab"]))
    assert all("ab" in text for text in model.sample(10, constraints=["ab"], exactness="exact"))
    assert model.sample(3, constraints=["ab"]) == model.sample(10, constraints=["ab"])[:3]
    with pytest.raises(DataError, match="no regular expression"):
        model.sample(1, constraints=["("])
    with pytest.raises(DataError, match="acceptance below"):
        model.sample(2, constraints=["z"], num_particles=1)
    assert model.classify(["b"], ["a", "c"], num_draws=8).shape == (1, 2)
