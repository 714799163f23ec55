"""Coloured shapes as a data set: addressable, of the law it claims, in all its representations."""

import numpy as np
import pytest
import torch
from scipy import stats

from clarkia._math.counters import uniforms
from clarkia.datasets import ColouredShapes
from clarkia.datasets.shapes import EMPTY_TOKEN, LEVELS, MAX_WORDS, WORDS, Judge, Law, caption, default_law, texts
from clarkia.datasets.shapes.geometry import CIRCUMRADII
from clarkia.datasets.shapes.scenes import RADII, Scene


def test_numbers_of_a_counter_are_uniform_and_independent():
    numbers = uniforms(5, np.arange(2000), np.arange(20))
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(numbers.T) - np.eye(20)).max() < 0.1
    np.testing.assert_array_equal(uniforms(5, [17, 3], [4]), numbers[[17, 3], 4:5])
    assert not (uniforms(5, [0], np.arange(9), stream=1) == uniforms(5, [0], np.arange(9))).any()


@pytest.mark.parametrize("level", LEVELS)
def test_an_example_is_a_function_of_its_number(level):
    data = ColouredShapes(32, level, seed=1)
    rows = torch.tensor([5, 70, 3, 10**12])
    batch = data.rows(rows)
    assert batch["image"].dtype == torch.uint8
    assert batch["image"].shape == (4, 3, 32, 32)
    for place, row in enumerate(rows.tolist()):
        example = data.example(row)
        assert torch.equal(example["image"], batch["image"][place])
        assert example["caption"] == data.captions([row])[0] == caption(example["scene"])
        assert texts(batch["tokens"][place : place + 1].numpy()) == [example["caption"]]
        assert int(batch["mask"][place].sum()) == len(example["caption"].split())
    assert batch["tokens"].shape == (4, MAX_WORDS)
    assert len(WORDS) == len(set(WORDS))


def test_another_seed_gives_other_scenes():
    one, two = (ColouredShapes(seed=seed).images(range(50)) for seed in (0, 1))
    assert (one != two).flatten(1).any(1).all()


@pytest.mark.parametrize("side", [32, 64])
def test_things_keep_their_distance(side):
    for level in ("count", "full"):
        scenes = ColouredShapes(side, level).scenes(range(300))
        circle = np.where(scenes.present, RADII[side][scenes.size] * CIRCUMRADII[scenes.shape], np.nan)
        for centre in (scenes.x, scenes.y):
            assert np.nanmin(centre - circle) >= 0.5
            assert np.nanmax(centre + circle) <= side - 0.5
        apart = np.hypot(*(centre[:, :, None] - centre[:, None] for centre in (scenes.x, scenes.y)))
        gaps = apart - circle[:, :, None] - circle[:, None]
        gaps[:, np.eye(gaps.shape[1], dtype=bool)] = np.nan
        assert np.nanmin(gaps) >= 1.5


def test_every_count_shape_and_colour_is_equally_likely_and_can_be_drawn():
    for side, most in ((32, 8), (64, 15)):
        law = default_law("count", side)
        np.testing.assert_allclose(law.marginal("count", "colour", "shape"), 1 / (most * 32))
    hardest = default_law("count", 32).given(count="eight", shape="triangle")
    scenes = ColouredShapes(32, "count", law=hardest).scenes(range(20))
    assert (scenes.present.sum(1) == 8).all()


def test_scenes_follow_the_law():
    """A chi-square test a level with 2500 scenes; false alarm 1e-3 each at a fixed seed."""
    for level in ("colour", "count"):
        data = ColouredShapes(32, level, seed=4)
        scenes = data.scenes(range(2500))
        key = np.stack([scenes.present.sum(1) - 1, scenes.colour[:, 0], scenes.shape[:, 0]], 1)
        axes = ("count", "colour", "shape") if level == "count" else ("colour", "shape")
        expected = data.law.marginal(*axes).ravel() * 2500
        sizes = data.law.marginal(*axes).shape
        found = np.bincount(np.ravel_multi_index(key[:, -len(sizes) :].T, sizes), minlength=expected.size)
        assert stats.chisquare(found, expected).pvalue > 1e-3


def test_a_law_can_be_biased_and_held_out():
    law = default_law("colour", 32)
    pairs = np.ones((4, 8))
    pairs[0, 0] = 0
    held = law.biased({("shape", "colour"): pairs})
    assert held.marginal("colour", "shape")[0, 0] == 0
    np.testing.assert_allclose(held.marginal("shape", "colour").sum(), 1)
    np.testing.assert_allclose(held.marginal("shape", "colour"), held.marginal("colour", "shape").T)
    three = held.biased({"size": [1, 2]}).marginal("shape", "size", "colour")
    np.testing.assert_allclose(three[1, :, 3], np.array([1, 2]) / 3 / 31)
    captions = ColouredShapes(32, "colour", law=held).captions(range(500))
    assert "a red circle" not in captions
    assert "a red square" in captions
    assert set(ColouredShapes(32, "colour", law=law.given(colour="red", shape="cross")).captions(range(9))) == {
        "a red cross"
    }
    np.testing.assert_allclose(
        law.biased({"size": [3, 1], ("colour", "size"): np.ones((8, 2))}).marginal("size"), [0.75, 0.25]
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ColouredShapes(48), "size: expected 32 or 64"),
        (lambda: ColouredShapes(level="many"), "level: expected one of single"),
        (lambda: ColouredShapes(seed=-1), "seed"),
        (lambda: ColouredShapes(length=0), "length"),
        (lambda: ColouredShapes(law=default_law("count", 32)), "law: expected one of single"),
        (lambda: ColouredShapes().images([-1]), "indices"),
        (lambda: ColouredShapes().images([0.5]), "indices"),
        (lambda: ColouredShapes().images(3), "indices"),
        (lambda: Law("single", 32, np.ones((2, 8, 4))), "a sum of one"),
        (lambda: Law("single", 32, np.ones((8, 4)) / 32), "expected shape"),
        (lambda: Law("binding", 32, np.ones((2, 8, 4, 2, 8, 4)) / 4096), "what cannot be"),
        (lambda: default_law("colour", 32).biased({"hue": [1]}), "axis: expected one of size, colour, shape"),
        (lambda: default_law("colour", 32).biased({"size": [-1, 1]}), "none below zero"),
        (lambda: default_law("colour", 32).biased({"size": [0, 0]}), "left"),
        (lambda: default_law("colour", 32).given(colour="pink"), "found 'pink'"),
        (lambda: caption(Scene(32, ())), "nobody has described"),
        (lambda: Judge(16), "side: expected 32 or 64"),
        (lambda: Judge(32, 2.0), "least_area"),
        (lambda: Judge(32)(torch.zeros(1, 3, 16, 16)), "expected shape"),
        (lambda: Judge(32)(torch.full((2, 3, 32, 32), torch.nan)), "row 0"),
        (lambda: Judge(32).satisfies(torch.zeros(2, 3, 32, 32), ["a circle"]), "captions: expected 2"),
        (lambda: Judge(32).count(torch.zeros(2, 3, 32, 32), colour="pink"), "colour: expected one of red"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_slots_are_a_state_of_their_space_and_hold_the_scene():
    data = ColouredShapes(32, "count")
    slots = data.slots(range(40))
    data.slot_space.check(slots)
    scenes = data.scenes(range(40))
    assert torch.equal(slots["count"] + 1, torch.from_numpy(scenes.present.sum(1)))
    for row in range(40):
        n = int(slots["count"][row]) + 1
        assert (slots["shape"][row, n:] == 4).all()
        assert (slots["shape"][row, :n] < 4).all()
        found = (slots["position"][row, :n].double() + 1) * 16
        true = np.stack([scenes.x[row, :n], scenes.y[row, :n]], -1)
        assert set(map(tuple, found.numpy().round(3))) == set(map(tuple, true.round(3)))
        rows = np.floor(found[:, 1].numpy())
        assert (np.diff(rows) >= 0).all()


def test_tokens_are_things_in_raster_order():
    data = ColouredShapes(32, "binding")
    tokens, slots = data.tokens(range(30)), data.slots(range(30))
    assert tokens.shape == (30, 2)
    assert torch.equal(tokens, (slots["shape"] * 8 + slots["colour"]) * 2 + slots["size"])
    assert EMPTY_TOKEN == 64
    assert (ColouredShapes(32, "count").tokens(range(30)) == EMPTY_TOKEN).any()


def test_a_source_has_a_length_and_a_fingerprint_of_all_that_matters():
    data = ColouredShapes(length=123)
    assert len(data) == 123
    others = [ColouredShapes(length=123), ColouredShapes(seed=1, length=123), ColouredShapes(64, length=123)]
    law = default_law("single", 32).biased({"size": [2, 1]})
    others += [
        ColouredShapes(level="colour", length=123),
        ColouredShapes(law=law, length=123),
        ColouredShapes(length=9),
    ]
    prints = [other.fingerprint() for other in others]
    assert prints[0] == data.fingerprint()
    assert len(set(prints)) == len(prints)


def test_no_rows_are_no_rows():
    data = ColouredShapes(32, "full")
    assert {name: len(part) for name, part in data.rows([]).items()} == {"image": 0, "tokens": 0, "mask": 0}
    assert len(Judge(32)(data.images([]))) == 0
    assert Judge(32).count(torch.full((2, 3, 32, 32), -0.75)).tolist() == [0, 0]
