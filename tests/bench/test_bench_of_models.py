"""The benchmarks on a model that has hardly been trained, from Python and from the command line."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import clarkia as ck
from clarkia import bench
from clarkia.bench.self_bench import domain_gap
from clarkia.datasets import ColouredShapes
from clarkia.datasets.shapes import Judge

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))
from command_line import run

LEVELS = ("single", "colour", "count", "two", "binding")


@pytest.fixture(scope="module")
def scenes():
    data = [ColouredShapes(level=level) for level in LEVELS]
    pictures = np.concatenate([part.images(range(60)).numpy() for part in data])
    return pictures, [text for part in data for text in part.captions(range(60))]


@pytest.fixture(scope="module")
def model(scenes):
    options = {"network": "dit", "width": 16, "depth": 1, "patch": 8, "max_minutes": None, "subset_probability": 0.0}
    return ck.ImageModel(max_steps=3, **options).fit(scenes[0], captions=scenes[1])


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "scenes.clarkia"
    model.save(path)
    return path


# --------------------------------------------------------------------------------------------------- matching


def test_matching_of_a_perfect_and_of_a_blind_model(model, scenes, monkeypatch):
    """A denoiser that knows the picture of every caption is never wrong; one that does not listen ties: it is."""
    pictures = torch.from_numpy(scenes[0]).float() / 127.5 - 1
    tokens = model.descriptions_.given({"caption": list(scenes[1])}, len(scenes[1]))["tokens"]
    table = {tuple(row): picture for row, picture in zip(tokens.tolist(), pictures, strict=True)}

    def knowing(x_t, t, condition=None):
        return torch.stack([table.get(tuple(row), torch.zeros(3, 32, 32)) for row in condition["tokens"].tolist()])

    last = {caption: row for row, caption in enumerate(scenes[1])}  # the picture that the table has of it
    rows = [last[scenes[1][row]] for row in (0, 61, 122, 183, 244)]
    captions = [scenes[1][row] for row in rows]
    monkeypatch.setattr(model, "denoiser_", Module(knowing))
    found = bench.matching(model, scenes[0][rows], captions, num_draws=4)
    assert found.accuracy == 1
    assert set(found.kinds) == {"shape", "colour", "count"}
    assert found.hits("colour")[1] == 3
    assert 0 < found.chance < 0.5
    assert "| colour | 100.0 % " in found.to_markdown()
    assert found.plot().axes

    monkeypatch.setattr(model, "denoiser_", Module(lambda x_t, t, condition=None: torch.zeros_like(x_t)))
    assert bench.matching(model, scenes[0][rows], captions, num_draws=4).accuracy == 0
    with pytest.raises(ValueError, match="captions: expected 5"):
        bench.matching(model, scenes[0][rows], captions[:2])


class Module(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function, self.nothing = function, torch.nn.Parameter(torch.zeros(()))

    def forward(self, x_t, t, condition=None):
        return self.function(x_t, t, condition)


# -------------------------------------------------------------------------------------------------- self-bench


def test_every_model_is_asked_about_the_pictures_of_every_model(model):
    captions = ["a red circle", "a blue square", "two green crosses"]
    done = []
    found = bench.self_bench(
        {"one": model, "two": model}, captions, Judge(32), per_caption=2, num_steps=2, num_draws=4, progress=done.append
    )
    assert [(pair.generator, pair.classifier) for pair in found.pairs] == [
        (first, second) for first in ("one", "two") for second in ("one", "two")
    ]
    assert found.drawn["one"][1] == 6
    own, other = found.pair("one", "one"), found.pair("one", "two")
    assert own.gap == 0
    torch.testing.assert_close(own.report.errors, other.report.errors)  # the same model, the same noise
    assert own.hits()[1] == 6 * 3  # a shape, a colour and a number each
    assert math.isnan(found.correlation)
    assert "| one | two |" in found.to_markdown()
    assert found.plot().axes
    assert sum(done) > 0


def test_pictures_of_another_palette_are_another_domain(scenes):
    half = torch.from_numpy(scenes[0])[torch.randperm(300, generator=torch.Generator().manual_seed(0))]
    assert domain_gap(half[:150], half[150:]) < 0.3
    assert domain_gap(half[:150], 255 - half[150:]) > 0.9


# ---------------------------------------------------------------------------------------------------- steering


def test_steering_towards_the_right_number_of_a_denoiser_that_draws_any(model):
    """Particles chosen by the judge are no worse than the plain sample; the mechanics, on a model without skill."""
    judge = Judge(32)
    draw = bench.steered(model, 4, bench.miscount(judge), num_steps=3)
    pictures = draw(["two red circles", "a blue square"], 0)
    assert pictures.shape == (2, 3, 32, 32)
    assert pictures.dtype == torch.uint8
    torch.testing.assert_close(pictures, draw(["two red circles", "a blue square"], 0))


def test_trade_offs_of_a_model(model):
    found = bench.pareto_of_model(
        model, ["a red circle", "a blue square"], Judge(32), {"guidance": [0.0, 2.0], "steps": [2]},
        per_condition=3, num_seeds=2,
    )  # fmt: skip
    assert found.sweep.axes == ("consistency", "diversity", "realism", "cost")
    assert found.sweep.values[:, 3].tolist() == [2, 4]
    assert bool((found.sweep.values[:, 1] >= 1).all())
    with pytest.raises(ValueError, match="knobs among"):
        bench.pareto_of_model(model, ["a red circle"], Judge(32), {"colour": [1]})


# ------------------------------------------------------------------------------------------------ command line


@pytest.mark.parametrize("what", ["counting", "matching", "self", "pareto"])
def test_every_benchmark_writes_its_table_and_its_picture(file, tmp_path, what):
    options = {
        "counting": ("--n-max", 2, "--guidance", 1, "--best-of", 2, "--steer", 2, "--num-steps", 1),
        "matching": ("-n", 1), "self": ("-n", 1, "--num-steps", 1),
        "pareto": ("-n", 1, "--guidance", 0, "--guidance", 2, "--num-steps", 1),
    }[what]  # fmt: skip
    result = run("bench", what, file, "-o", tmp_path / "out", *options)
    assert result.status == 0, result
    text = (tmp_path / "out" / f"{what}.md").read_text()
    assert text.startswith("| ")
    with Image.open(tmp_path / "out" / f"{what}.png") as picture:
        assert picture.size[0] > 300
    if what == "counting":
        assert all(f"| {name} |" in text for name in ("plain", "guidance 1", "best of 2", "steered 2"))
        run("bench", what, file, "-o", tmp_path / "out").refuses("exists already", "--overwrite")


def test_a_model_without_captions_is_refused(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 255, (20, 8, 8)).astype(np.uint8)
    plain = ck.ImageModel(width=8, depth=1, max_steps=1, max_minutes=None).fit(pictures)
    plain.save(tmp_path / "plain.clarkia")
    run("bench", "counting", tmp_path / "plain.clarkia", "-o", tmp_path).refuses("without captions")
    grey = ck.ImageModel(width=8, depth=1, max_steps=1, max_minutes=None).fit(pictures, captions=["a thing"] * 20)
    grey.save(tmp_path / "grey.clarkia")
    run("bench", "pareto", tmp_path / "grey.clarkia", "-o", tmp_path).refuses("32 or 64 points")


def test_the_help_has_an_example():
    result = run("bench", "--help")
    assert result.status == 0
    assert "clarkia bench counting" in result.out
