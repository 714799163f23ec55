"""Benchmarks of blending, filtering and editing: their tasks, and their verdicts on scenes whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from clarkia.bench.blending import OUTCOMES, Blended, BlendingReport, _judged, mixable, scorer_of
from clarkia.bench.editing import EditingReport, boxed, tasks
from clarkia.bench.editing import _judged as edited
from clarkia.bench.filtering import FilteringReport, Transferred
from clarkia.bench.heads import Head, soiled, trained_head
from clarkia.bench.sheets import sheet
from clarkia.datasets.shapes import COLOURS, SHAPES, Judge, Scene, Thing, draw
from clarkia.datasets.shapes.scenes import GROUND, Scenes
from clarkia.denoisers import Preconditioned
from clarkia.errors import DataError
from clarkia.networks import Conditions, DiT
from clarkia.processes import RectifiedFlow
from clarkia.random import generator, randn


def scene(*things):
    places = ((8.0, 8.0), (23.0, 23.0))
    return Scene(32, tuple(Thing(*thing, "large", *place) for thing, place in zip(things, places, strict=False)))


def test_outcomes_of_a_blend_are_told_by_what_is_there():
    red, blue, green, cross = ("circle", "red"), ("circle", "blue"), ("circle", "green"), ("cross", "red")
    pictures = draw([scene(red, blue), scene(red), scene(blue, green), scene(green), scene(cross)])
    found = _judged("sum", Judge(), [pictures], [("a red circle", "a blue circle")], 0.5, 2)
    assert found.outcomes == dict(zip(OUTCOMES, (1, 1, 1, 1, 1), strict=True))
    assert found.things == pytest.approx(7 / 5)
    assert len(found.pictures) == 2
    report = BlendingReport((found,), (("a red circle", "a blue circle"),), 1.0)
    assert "| sum | 20.0 %" in report.to_markdown()
    assert len(report.plot().axes) == 1


def test_a_forecast_is_scored_by_the_heads_chance_of_each_phrase():
    logits = torch.full((2, 32), -30.0)
    logits[0, SHAPES.index("cross") * 8 + COLOURS.index("green")] = 0.0
    logits[1, SHAPES.index("circle") * 8 + COLOURS.index("red")] = 30.0
    scores = scorer_of(lambda x: logits, ["a green cross", "a circle"])(torch.zeros(2, 3, 32, 32))
    torch.testing.assert_close(scores, torch.tensor([[0.5, 1e-3], [1e-3, 1.0]], dtype=torch.float64))


def test_captions_are_mixed_where_they_enter_the_network():
    torch.manual_seed(0)
    network = DiT(3, 8, width=32, depth=1, heads=2, conditions=Conditions(token_classes=9, max_tokens=4))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    denoiser = Preconditioned(network, RectifiedFlow(), data_std=0.5).eval()
    mixing = mixable(denoiser)
    x, t = randn((3, 3, 8, 8), generator(0)), torch.full((3,), 0.5)
    captions = [{"tokens": torch.tensor([[a, b, 0, 0]] * 3), "mask": torch.tensor([[True, True, False, False]] * 3)}
                for a, b in ((2, 3), (2, 5))]  # fmt: skip
    one = mixing(x, t, {"parts": captions, "weights": torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])})
    apart = [denoiser(x, t, caption) for caption in captions]
    torch.testing.assert_close(one[0], apart[0][0])
    torch.testing.assert_close(one[1], apart[1][1])
    assert not torch.allclose(one[2], apart[0][2])
    assert not torch.allclose(one[2], 0.5 * (apart[0][2] + apart[1][2]), atol=1e-6)
    torch.testing.assert_close(mixing(x, t), denoiser(x, t))
    torch.testing.assert_close(mixing(x, t, captions[0]), apart[0])


# -------------------------------------------------------------------------------------------------------- editing


def test_a_box_holds_the_whole_of_its_thing_and_nothing_of_the_other():
    task = tasks(32, 40, colour="blue", shape="triangle", seed=3)
    assert task.pictures.shape == (40, 3, 32, 32)
    for row in range(40):
        _, other = task.scenes.scene(row).things
        beside = draw(Scene(32, (other,)))
        box = task.box[row, 0]
        assert torch.equal(task.pictures[row][:, ~box], beside[0][:, ~box])
        assert bool((beside[0][:, box].float() / 127.5 - 1 - float(GROUND)).abs().max() < 0.01)
    assert "blue" not in {COLOURS[code] for code in task.scenes.colour.ravel()}
    assert task.captions()[0].startswith("a blue triangle and ")
    others = tasks(32, 30, colour=None, shape=None)
    assert (others.colour != others.scenes.colour[:, 0]).all()
    assert len(set(others.colour.tolist())) == 8


def true_edit(task):
    first = np.arange(task.scenes.shape.shape[1]) == 0
    return Scenes(
        32,
        np.where(first, task.shape[:, None], task.scenes.shape),
        np.where(first, task.colour[:, None], task.scenes.colour),
        *(task.scenes.size, task.scenes.x, task.scenes.y),
    )


def test_the_true_edit_is_right_and_doing_nothing_is_not():
    task = tasks(32, 30, colour="blue", shape="triangle", seed=3)
    wanted = true_edit(task)
    right = edited("both", Judge(), task, draw([wanted.scene(row) for row in range(30)]), 0.0, 3)
    assert right.colour.all()
    assert right.shape.all()
    assert right.others.all()
    assert right.outside == 0
    still = edited("nothing", Judge(), task, task.pictures, float("nan"), 3)
    assert not still.colour.any()
    assert not still.shape.any()
    assert still.others.all()
    gone = draw([Scene(32, wanted.scene(row).things[:1]) for row in range(30)])
    assert not edited("both", Judge(), task, gone, 0.0, 3).others.any()
    report = EditingReport((right, still), task.pictures[:3])
    assert "| both | 100.0 %" in report.to_markdown()
    assert len(report.plot().axes) == 3


def test_a_head_sees_the_box_on_plain_ground():
    task = tasks(32, 2, colour="blue", shape="triangle", seed=3)
    seen = []
    boxed(lambda x: seen.append(x), task.box)(torch.ones(2, 3, 32, 32))
    assert torch.equal(seen[0] == 1, task.box.expand(2, 3, 32, 32))
    assert float(seen[0].min()) == float(GROUND)


def test_heads_learn_in_seconds():
    """More than half of eight colours are right after sixty steps."""
    head = trained_head("colour", 32, steps=60, examples=800)
    pictures = draw([scene(("circle", colour)) for colour in COLOURS]).float() / 127.5 - 1
    assert int((head(pictures).argmax(1) == torch.arange(8)).sum()) > 3
    assert not any(parameter.requires_grad for parameter in head.parameters())
    assert Head(32)(pictures).shape == (8, 32)
    speckled = soiled(pictures, generator(1))
    assert speckled.shape == pictures.shape
    assert float((speckled - pictures).abs().max()) > 0.05


# ------------------------------------------------------------------------------------------------------ filtering


def test_whose_colour_was_taken():
    cue, asked = np.array([0, 0, 1, 2]), np.array([1, 2, 3, 3])
    pictures = draw([scene(("circle", "red"))] * 4)
    one = Transferred("unfiltered", cue, asked, np.array([0, 2, 5, -1]), np.array([True, True, True, False]), pictures)
    assert one.confusion("cue")[0].tolist() == [1, 0, 1, 0, 0, 0, 0, 0, 0]
    assert one.confusion("asked")[3].tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 1]
    text = FilteringReport((one, replace(one, name="grayscale")), pictures).to_markdown()
    assert "| unfiltered | 25.0 % (4.6 to 69.9) | 25.0 % (4.6 to 69.9) | 25.0 % | 75.0 % | 75.0 % | 4 |" in text
    assert "grayscale, by caption's colour:" in text


def test_a_sheet_has_a_row_a_name():
    figure = sheet(
        {"one": torch.zeros(3, 3, 8, 8, dtype=torch.uint8), "two": torch.zeros(3, 3, 8, 8, dtype=torch.uint8)}
    )
    assert [panel.get_ylabel() for panel in figure.axes] == ["one", "two"]


def test_pairs_are_read_from_a_line():
    from clarkia.cli.bench_pictures import _pair

    assert _pair("a red circle + a blue cross") == ("a red circle", "a blue cross")
    for text in ("a red circle", "a red circle + a blue", "a red circle and a cross + a cross"):
        with pytest.raises(DataError):
            _pair(text)


def test_a_blend_counts_its_pictures():
    one = Blended("sum", dict.fromkeys(OUTCOMES, 3), 1.0, 0.5, -0.1, torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    assert one.total == 15
