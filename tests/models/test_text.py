"""What a user does with a text model, on texts that are small and fit in seconds."""

import math
import random

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import clarkia as ck
from clarkia import samplers
from clarkia.errors import DataError

SMALL = {"width": 64, "depth": 2, "max_minutes": None, "batch_size": 64, "learning_rate": 1e-2}
WORDS = ("red", "tan", "shy", "old", "big")
THINGS = ("cat", "dog", "owl", "ant")


def sentences(n, seed=0):
    source = random.Random(seed)
    return [f"{source.choice(WORDS)} {source.choice(THINGS)}." for _ in range(n)]


@pytest.fixture(scope="module")
def model():
    return ck.TextModel(**SMALL, max_steps=400, companion=True, subset_probability=0.5).fit(sentences(2000))


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    """A model of windows of one long text, hardly trained."""
    path = tmp_path_factory.mktemp("book") / "book.txt"
    path.write_text(" ".join(sentences(400)), encoding="utf-8")
    return ck.TextModel(**SMALL, length=24, max_steps=5).fit(path), path


def test_what_it_writes_are_sentences_like_those_it_read(model):
    possible = {f"{word} {thing}." for word in WORDS for thing in THINGS}
    written = model.sample(100, seed=1)
    assert np.mean([text in possible for text in written]) > 0.9
    assert len(set(written)) > 10


def test_prompts_are_kept_and_completed(model):
    begun = model.sample(20, prefix="shy ", seed=2)
    assert all(text.startswith("shy ") for text in begun)
    assert np.mean([text[4:-1] in THINGS for text in begun]) > 0.8
    filled = model.sample(20, infill="[*3] cat.", seed=3)
    assert all(text.endswith(" cat.") for text in filled)
    assert np.mean([text[:3] in WORDS for text in filled]) > 0.8
    placed = model.sample(5, at={4: "owl"}, seed=4)
    assert all(text[4:7] == "owl" for text in placed)


def test_a_text_depends_on_the_seed_and_its_number_alone(model):
    whole = model.sample(40, seed=4)
    assert model.sample(40, seed=4, texts_per_batch=7) == whole
    assert model.sample(5, seed=4) == whole[:5]
    assert model.sample(40, seed=5) != whole


@pytest.mark.parametrize("solver", [samplers.FirstHitting(), samplers.AnyOrder()])
def test_solvers_that_find_their_own_times(model, solver):
    texts = model.sample(3, prefix=sentences(1)[0][:4], solver=solver, seed=1)
    assert len(texts) == 3
    assert all(text.startswith(sentences(1)[0][:4]) for text in texts)
    with pytest.raises(ValueError, match="expected neither with a solver that finds its own times"):
        model.sample(3, solver=solver, num_steps=5)


def test_a_reward_beside_a_solver_that_finds_its_own_times(model):
    solver = samplers.AnyOrder()
    texts = model.sample(
        40, reward=lambda texts: 2.0 * np.char.startswith(texts, "shy"), num_particles=16, solver=solver
    )
    assert np.mean([text.startswith("shy") for text in texts]) > 0.4  # a fifth of plain texts, .65 of the tilt


def test_the_companion_chooses_better_sentences_in_few_steps(model):
    """In two steps most letters are drawn at once and do not know of each other."""
    possible = {f"{word} {thing}." for word in WORDS for thing in THINGS}

    def right(correction):
        drawn = model.sample(200, num_steps=2, correction=correction, seed=5)
        return np.mean([text in possible for text in drawn])

    assert right(8) > right(1) + 0.1


def test_scores_are_those_of_the_law(model):
    """Twenty sentences are equally likely: log 20 nats each, and a bound lies below."""
    texts = [f"{word} {thing}." for word in WORDS for thing in THINGS]
    scores = model.score_samples(texts, num_draws=64)
    assert scores.shape == (20,)
    assert -math.log(20) - 1.0 < scores.mean() < -math.log(20) + 0.2
    assert model.score_samples(["dog red."])[0] < scores.min() - 1
    assert model.score(texts[:2]) == pytest.approx(model.score_samples(texts[:2]).mean())


def test_saving_and_loading_change_nothing(model, tmp_path):
    path = tmp_path / "sentences.clarkia"
    model.save(path)
    again = ck.load(path)
    assert isinstance(again, ck.TextModel)
    assert again.sample(5, prefix="old", correction=2, num_steps=4) == model.sample(
        5, prefix="old", correction=2, num_steps=4
    )
    assert again.companion_run_.best_validation == model.companion_run_.best_validation
    assert again.get_params() == model.get_params()
    with pytest.raises(DataError, match="not 'table'"):
        ck.TableModel.load(path)


def test_it_is_a_scikit_learn_estimator(model):
    fresh = clone(model)
    assert fresh.get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        fresh.sample(1)


def test_a_long_text_is_windows(windows):
    fitted, path = windows
    assert fitted.codec_.length == 24
    assert [len(text) for text in fitted.sample(3)] == [24, 24, 24]
    text = path.read_text()
    scores = fitted.score_samples([text[:100], text[:7]])  # five windows, the last one shorter, and one short window
    assert scores[0] < scores[1] < 0
    assert fitted.bits_per_token([text[:100]]) == pytest.approx(-scores[0] / 100 / math.log(2))


@pytest.mark.parametrize("tokens", ["byte", "bpe"])
def test_other_tokens(tokens):
    texts = [f"é {text}" for text in sentences(50)]
    fitted = ck.TextModel(**{**SMALL, "max_steps": 3}, tokens=tokens, vocabulary=300).fit(texts)
    drawn = fitted.sample(2, prefix="é red", seed=1)
    assert all(text.startswith("é red") for text in drawn)
    assert fitted.score_samples(texts[:2]).shape == (2,)


def test_samples_are_written_while_training(tmp_path):
    ck.TextModel(**{**SMALL, "max_steps": 2}).fit(sentences(40), samples=tmp_path / "seen")
    assert (tmp_path / "seen" / "step-0000002.txt").read_text().strip()


def test_what_cannot_be_fitted_is_said(tmp_path):
    for options, message in (
        ({"tokens": "word"}, "tokens: expected one of char, byte, bpe"),
        ({"width": 100_000}, "width"),
        ({"length": 0}, "length"),
        ({"device": "abacus"}, "device"),
    ):
        with pytest.raises(DataError, match=message):
            ck.TextModel(**{**SMALL, "max_steps": 1, **options}).fit(sentences(20))
    (tmp_path / "latin.txt").write_bytes("caf\xe9".encode("latin-1") * 100)
    with pytest.raises(DataError, match="UTF-8"):
        ck.TextModel(**SMALL, max_steps=1).fit(tmp_path / "latin.txt")
    with pytest.raises(DataError, match="fewer than a window"):
        ck.TextModel(**SMALL, max_steps=1, length=100).fit("short")
    with pytest.raises(DataError, match="there is no such"):
        ck.TextModel(**SMALL, max_steps=1).fit(tmp_path / "nowhere.txt")


def test_what_cannot_be_asked_is_said(model, windows):
    with pytest.raises(DataError, match="prefix"):
        model.sample(1, prefix="ünknown")
    with pytest.raises(DataError, match="prefix"):
        model.sample(1, prefix="o" * 100)
    with pytest.raises(DataError, match="infill"):
        model.sample(1, infill="no hole")
    with pytest.raises(DataError, match="fitted without a companion"):
        windows[0].sample(1, correction=4)
    with pytest.raises(DataError, match="expected positive numbers"):
        model.sample(-1)
    with pytest.raises(DataError, match="text 1 is empty"):
        windows[0].score_samples(["red", ""])
    with pytest.raises(DataError, match="put it into a list"):
        model.score_samples("red cat.")
    assert model.sample(0) == []
