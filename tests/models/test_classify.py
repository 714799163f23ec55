"""What fitted models say of labels: pictures, texts after a beginning, a column given all others."""

import numpy as np
import pandas as pd
import pytest
import torch

import clarkia as ck
from clarkia.models.classify import classify_images, classify_texts, predict_column

QUARTERS = 400


@pytest.fixture(scope="module")
def quarters():
    """Pictures of which one quarter is bright, the class, in two brightnesses, with noise."""
    source = np.random.default_rng(0)
    label, large = source.integers(4, size=QUARTERS), source.random(QUARTERS) < 0.5
    images = source.integers(0, 60, (QUARTERS, 8, 8))
    for row, (quarter, bright) in enumerate(zip(label, large, strict=True)):
        down, right = divmod(quarter, 2)
        images[row, 4 * down : 4 * down + 4, 4 * right : 4 * right + 4] += 180 if bright else 100
    return images.astype(np.uint8), label, large


@pytest.fixture(scope="module")
def model(quarters):
    images, labels, large = quarters
    options = {"width": 16, "depth": 1, "batch_size": 32, "learning_rate": 5e-3, "subset_probability": 0.0}
    fitted = ck.ImageModel(max_steps=160, max_minutes=None, **options)
    return fitted.fit(images[:300], labels[:300], attributes={"bright": large[:300].tolist()})


def test_pictures_are_classified_by_how_well_they_are_restored(model, quarters):
    images, labels, large = quarters
    found = classify_images(model, images[300:], num_draws=16)
    assert list(found.columns) == [0, 1, 2, 3]
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found.idxmax(axis=1) == labels[300:]).mean() > 0.75  # one in four would be right by chance
    bright = classify_images(model, images[300:], "bright", num_draws=16)
    assert (bright.idxmax(axis=1) == large[300:]).mean() > 0.8
    again = classify_images(model, images[300:340], num_draws=16)  # in another batch
    np.testing.assert_allclose(again, found[:40], atol=1e-3)


def test_candidates_priors_and_stages(model, quarters):
    images, labels, large = quarters
    two = classify_images(model, images[:12], candidates=[3, 1], num_draws=8)
    assert list(two.columns) == [3, 1]
    sure = classify_images(model, images[:12], candidates=[3, 1], prior={3: 1.0, 1: 0.0}, num_draws=8)
    assert (sure[3] == 1).all()
    first = images[labels == 0][:30]
    told = classify_images(model, first, "bright", given={"class": 0}, num_draws=16)
    assert (told.idxmax(axis=1) == large[labels == 0][:30]).mean() > 0.8
    staged = classify_images(model, images[300:], stages=((4, 2), (16, 1)))
    np.testing.assert_allclose(staged.sum(axis=1), 1)
    assert (staged.idxmax(axis=1) == labels[300:]).mean() > 0.75


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"attribute": "colour"}, "the model was not told 'colour'"),
        ({"attribute": "caption"}, "give the captions"),
        ({"candidates": [3]}, "at least two"),
        ({"candidates": [3, 17]}, "there was no 17"),
        ({"prior": {3: 1.0}}, "prior: expected"),
    ],
)
def test_what_cannot_be_asked_of_pictures(model, quarters, arguments, words):
    with pytest.raises(ck.DataError, match=words):
        classify_images(model, quarters[0][:2], **arguments)


# ----------------------------------------------------------------------------------------------------------- texts

CORPUS = {"ab: ": "abababababab", "xy: ": "xyxyxyxyxyxy"}


@pytest.fixture(scope="module")
def texts():
    lines = [begin + body for begin, body in CORPUS.items()] * 100
    options = {"width": 32, "depth": 1, "max_steps": 150, "max_minutes": None, "learning_rate": 5e-3}
    return ck.TextModel(documents=True, subset_probability=0.5, **options).fit(lines)


def test_texts_tell_how_they_began(texts):
    found = classify_texts(texts, ["abababababab", "xyxyxyxyxyxy"], list(CORPUS), num_draws=16)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert found["ab: "][0] > 0.9
    assert found["xy: "][1] > 0.9


def test_what_cannot_be_asked_of_texts(texts):
    for arguments, words in (
        ((["ab"], ["ab: "]), "at least two"),
        ((["ab", ""], list(CORPUS)), "text 1 is empty"),
        ((["q"], list(CORPUS)), "text 0"),
        ((["ab" * 40], list(CORPUS)), "text 0: has 81 tokens"),
    ):
        with pytest.raises(ck.DataError, match=words):
            classify_texts(texts, *arguments)


# ---------------------------------------------------------------------------------------------------------- tables


@pytest.fixture(scope="module")
def table():
    """A colour that a number depends on: red at 0, blue at 4, both of deviation 1; red in 3 of 4 rows."""
    source = np.random.default_rng(0)
    blue = source.random(3000) < 0.25
    frame = pd.DataFrame({
        "colour": np.where(blue, "blue", "red"),
        "number": 4.0 * blue + source.standard_normal(3000),
        "fixed": "one",
    })  # fmt: skip
    options = {"width": 32, "depth": 2, "batch_size": 256, "max_steps": 500, "max_minutes": None, "groups": 1}
    return ck.TableModel(subset_probability=0.8, learning_rate=5e-3, **options).fit(frame), frame


def test_a_class_given_the_rest_is_bayes_rule(table):
    """Of two normal laws: the log odds are a line in the number."""
    model, frame = table
    asked = pd.DataFrame({"number": [-1.0, 1.0, 2.0, 3.0, 5.0]})
    found = predict_column(model, asked, "colour")
    assert set(found.columns) == {"blue", "red"}
    np.testing.assert_allclose(found.sum(axis=1), 1)
    exact = 1 / (1 + 3 * np.exp(8 - 4 * asked["number"]))
    assert np.abs(found["blue"] - exact).max() < 0.12  # of a minute network
    assert (found["blue"].diff()[1:] > 0).all()
    whole = predict_column(model, frame[:50], "colour")
    assert (whole.idxmax(axis=1) == frame["colour"][:50]).mean() > 0.9
    empty = predict_column(model, pd.DataFrame({"number": [np.nan, np.nan]}), "colour")
    assert empty["red"][0] == pytest.approx(0.75, abs=0.08)


def test_a_number_given_the_rest_has_a_mean_and_quantiles(table):
    model, _ = table
    found = predict_column(model, pd.DataFrame({"colour": ["red", "blue"]}), "number", draws=400, seed=1)
    assert list(found.columns) == ["mean", "std", "5%", "50%", "95%"]
    assert found["mean"].tolist() == pytest.approx([0.0, 4.0], abs=0.5)
    assert found["std"].tolist() == pytest.approx([1.0, 1.0], abs=0.5)
    assert (found["5%"] < found["50%"]).all()
    assert (found["50%"] < found["95%"]).all()


def test_what_cannot_be_asked_of_tables(table):
    model, frame = table
    with pytest.raises(ck.DataError, match="constant"):
        predict_column(model, frame[:2], "fixed")
    with pytest.raises(ck.DataError, match="colr"):
        predict_column(model, frame[:2], "colr")
    with pytest.raises(ck.DataError, match="green"):
        predict_column(model, pd.DataFrame({"colour": ["green"]}), "number")
    assert torch.get_num_threads() >= 1
