"""Coloured shapes: coverages against every sample, the judge against the scenes drawn, captions against enumeration."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from clarkia.datasets.shapes import (
    LENIENT,
    LEVELS,
    STRICT,
    Caption,
    ColouredShapes,
    Judge,
    Phrase,
    Scene,
    Thing,
    claims,
    contradicts,
    draw,
    negatives,
    parse,
    report,
    scatter,
    stack,
)
from clarkia.datasets.shapes.geometry import coverage
from clarkia.datasets.shapes.grammar import KINDS, RELATIONS
from clarkia.datasets.shapes.render import render, to_bytes
from clarkia.datasets.shapes.truth import satisfied

SETTINGS = [(32, 4), (32, 8), (64, 10), (64, 15)]
GENERATOR = np.random.default_rng(0)


def inside(shape, u, v):
    """The definition of the unit shapes, a sample at a time."""
    match shape:
        case 0:
            return u * u + v * v <= 1
        case 1:
            return max(abs(u), abs(v)) <= 0.886
        case 2:
            return v <= 0.779 and v >= -1.559 + 1.732 * abs(u)
        case _:
            return (abs(u) <= 0.36 and abs(v) <= 1.15) or (abs(v) <= 0.36 and abs(u) <= 1.15)


def test_coverage_counts_the_samples_inside():
    k, patch = 12, 15
    shape, radius = np.arange(k) % 4, np.where(np.arange(k) < 6, 2.5, 4.0)
    x, y = GENERATOR.uniform(6.9, 8.1, (2, k))
    found = coverage(shape, radius, x, y, patch)
    samples = (np.arange(4 * patch) + 0.5) / 4
    for i in range(k):
        grid = [[inside(shape[i], (a - x[i]) / radius[i], (b - y[i]) / radius[i]) for a in samples] for b in samples]
        np.testing.assert_array_equal(found[i], np.array(grid).reshape(patch, 4, patch, 4).sum((1, 3)))


def test_areas_are_those_of_the_shapes():
    areas = np.pi, 1.772**2, (0.779 + 1.559) ** 2 / 1.732, 4 * 0.36 * 1.15 * 2 - 0.72**2
    for shape, area in enumerate(areas):
        x, y = GENERATOR.uniform(14, 15, (2, 300))
        counts = coverage(np.full(300, shape), np.full(300, 6.0), x, y, 29)
        assert counts.sum((1, 2)).mean() / 16 / 36 == pytest.approx(area, rel=0.003)


def errors(true, seen):
    """Scenes that the judge got wrong: another multiset of things, or one further off than 0.2 points."""
    wrong = 0
    for row in range(len(true)):
        unseen = list(seen.scene(row).things)
        for thing in true.scene(row).things:
            near = [
                other
                for other in unseen
                if (other.shape, other.colour, other.size) == (thing.shape, thing.colour, thing.size)
                and max(abs(other.x - thing.x), abs(other.y - thing.y)) < 0.2
            ]
            if not near:
                break
            unseen.remove(near[0])
        else:
            wrong += bool(unseen)
            continue
        wrong += 1
    return wrong


@pytest.mark.parametrize(("side", "count"), SETTINGS)
def test_the_judge_makes_no_errors(side, count):
    true = scatter(side, count, range(60))
    assert (true.present.sum(1) == count).all()
    assert errors(true, Judge(side)(to_bytes(render(true)))) == 0


@pytest.mark.parametrize(("side", "count"), SETTINGS)
def test_the_judge_under_noise(side, count):
    """40 scenes a setting: at least 97 % right at 0.1; counts right in at least 97 % at 0.1 and 0.2, and at 0.3."""
    true = scatter(side, count, range(40), seed=1)
    pictures = render(true)
    noise = np.random.default_rng(2).standard_normal(pictures.shape).astype(np.float32)
    assert errors(true, Judge(side)(pictures + 0.1 * noise)) <= 1
    for level in (0.1, 0.2, 0.3):
        seen = Judge(side)(pictures + np.float32(level) * noise)
        assert (seen.present.sum(1) == count).mean() >= 0.97


@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("level", LEVELS)
def test_examples_are_what_their_captions_say(side, level):
    data = ColouredShapes(side, level, seed=3)
    rows = range(50)
    captions, scenes = data.captions(rows), data.scenes(rows)
    for judged in (scenes, Judge(side)(data.images(rows)), Judge(side, LENIENT)(data.images(rows))):
        assert satisfied(judged, claims(captions)).all()
    assert all(str(parse(caption)) == caption for caption in captions)
    told = [(row, wrong) for row in rows for kind in KINDS for wrong in negatives(captions[row], kind)]
    assert len(told) > 50
    assert not satisfied(scenes.take([row for row, _ in told]), claims([wrong for _, wrong in told])).any()


def things_of_a_small_world():
    """Captions over two shapes and two colours, and all scenes of two or three such things in a row or a column."""
    phrases = [
        Phrase(count, shape, colour)
        for count in (1, 2)
        for shape in ("circle", "square")
        for colour in ("red", "blue", None)
    ]
    captions = [Caption(one) for one in phrases]
    for one, two in itertools.product(phrases[:6], repeat=2):
        captions += [Caption(one, two, relation) for relation in (None, "left of", "right of", "above")]
    kinds = list(itertools.product(("circle", "square"), ("red", "blue")))
    scenes = []
    for n in (1, 2, 3, 4):
        for chosen in itertools.product(kinds, repeat=n):
            for heights in {tuple(range(n)), tuple(reversed(range(n)))}:
                things = [
                    Thing(shape, colour, "small", 4.0 + 8 * i, 4.0 + 8 * heights[i])
                    for i, (shape, colour) in enumerate(chosen)
                ]
                scenes.append(Scene(32, tuple(things)))
    return captions, scenes


def test_captions_contradict_each_other_where_no_scene_fits_both():
    captions, scenes = things_of_a_small_world()
    arrays = stack(scenes)
    true = np.stack([satisfied(arrays, claims([caption] * len(scenes))) for caption in captions])
    for i, j in np.random.default_rng(0).integers(len(captions), size=(3000, 2)):
        if contradicts(captions[i], captions[j]):
            assert not (true[i] & true[j]).any(), (str(captions[i]), str(captions[j]))
        elif captions[i].relation is None or captions[j].relation is None:
            # Two relations at once may need an arrangement that is not among these.
            assert (true[i] & true[j]).any(), (str(captions[i]), str(captions[j]))


def naive(scene, caption):
    """All ways to deal things out to the phrases, tried one by one."""
    along = {"left of": (0, 1), "right of": (0, -1), "above": (1, 1), "below": (1, -1)}

    def fits(thing, phrase):
        return all(getattr(phrase, name) in (None, getattr(thing, name)) for name in ("shape", "colour", "size"))

    for choice in itertools.product(range(len(caption.phrases)), repeat=len(scene.things)):
        dealt = [[t for t, c in zip(scene.things, choice, strict=True) if c == p] for p in range(len(caption.phrases))]
        if any(len(group) != phrase.count for group, phrase in zip(dealt, caption.phrases, strict=True)):
            continue
        if not all(fits(t, phrase) for group, phrase in zip(dealt, caption.phrases, strict=True) for t in group):
            continue
        if caption.relation is None:
            return True
        axis, sign = along[caption.relation]
        places = [[sign * (t.x, t.y)[axis] for t in group] for group in dealt]
        if max(places[0]) + 2 < min(places[1]):
            return True
    return False


def test_truth_is_that_of_every_way_to_deal_things_out():
    captions, scenes = things_of_a_small_world()
    drawn = np.random.default_rng(1).integers((len(scenes), len(captions)), size=(20000, 2))
    totals = [sum(phrase.count for phrase in caption.phrases) for caption in captions]
    pairs = [(i, j) for i, j in drawn if len(scenes[i].things) == totals[j]]
    found = satisfied(stack([scenes[i] for i, _ in pairs]), claims([captions[j] for _, j in pairs]))
    expected = [naive(scenes[i], captions[j]) for i, j in pairs]
    assert sum(expected) > 100
    assert found.tolist() == expected


PLACES = scatter(64, 15, [0])


def like(n):
    """A scene of n red circles."""
    things = [Thing("circle", "red", "small", PLACES.x[0, j], PLACES.y[0, j]) for j in range(n)]
    return Scene(64, tuple(things))


def test_a_report_reproduces_generators_of_known_skill():
    """An exact one is always right; one that always draws three, at three only; one that draws Poisson(n) things is
    right with probability e^-n n^n / n!, here within four standard errors (false alarm 6e-5 a number)."""
    rng, per = np.random.default_rng(0), 60
    counts = np.repeat(np.arange(1, 7), per)
    captions = [str(Caption(Phrase(int(n), "circle", "red"))) for n in counts]
    levels = [str(n) for n in counts]
    exact = report(draw([like(int(n)) for n in counts[::per]]), captions[::per], side=64, levels=levels[::per])
    assert {rate.rate for rate in exact} == {1.0}
    three = report(draw([like(3)] * 6), captions[::per], side=64, levels=levels[::per])
    assert {(rate.level, rate.rate) for rate in three if rate.figure == "count" and rate.level != "all"} == {
        (str(n), float(n == 3)) for n in range(1, 7)
    }
    drawn = np.minimum(rng.poisson(counts), 15)
    found = report(draw([like(int(n)) for n in drawn]), captions, side=64, levels=levels, thresholds=(STRICT,))
    for rate in found:
        if rate.figure == "count" and rate.level != "all":
            chance = stats.poisson.pmf(int(rate.level), int(rate.level))
            assert abs(rate.rate - chance) < 4 * np.sqrt(chance * (1 - chance) / per)
            assert rate.low < rate.rate < rate.high


def test_wilson_intervals():
    pictures = draw([like(1), like(2), like(2), like(2)])
    rate = next(one for one in report(pictures, ["two red circles"] * 4, side=64) if one.figure == "right")
    z, p, n = stats.norm.ppf(0.975), 0.75, 4
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    assert (rate.hits, rate.n) == (3, 4)
    assert (rate.low, rate.high) == pytest.approx((centre - half, centre + half), abs=1e-12)


def test_things_that_touch_are_one_thing():
    apart = Scene(32, (Thing("circle", "red", "large", 9, 16), Thing("circle", "red", "large", 20, 16)))
    touching = Scene(32, (Thing("circle", "red", "large", 11, 16), Thing("circle", "red", "large", 18, 16)))
    assert Judge(32).count(draw([apart, touching])).tolist() == [2, 1]


def test_realism_falls_with_noise():
    pictures = torch.from_numpy(render(scatter(32, 4, range(20))))
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    clean, noisy = (Judge(32).realism(pictures + level * noise) for level in (0.0, 0.3))
    assert clean.min() > -0.08
    assert noisy.max() < -0.25


def test_relations_by_centre():
    scene = Scene(
        32,
        (
            Thing("circle", "red", "small", 6, 6),
            Thing("square", "blue", "small", 20, 7.5),
            Thing("cross", "red", "small", 6, 20),
        ),
    )
    judge = Judge(32)
    seen = judge(draw(scene))
    assert judge.relation(seen, {"shape": "circle"}, {"colour": "blue"}).tolist() == [[True, False, False, False]]
    assert judge.relation(seen, {"shape": "circle"}, {"shape": "cross"}).tolist() == [[False, False, True, False]]
    assert judge.relation(seen, {"colour": "red"}, {"colour": "blue"}).tolist() == [[True, False, False, False]]
    assert not judge.relation(seen, {"colour": "green"}, {"colour": "blue"}).any()
    assert judge.colours(seen).tolist() == [[2, 0, 1, 0, 0, 0, 0, 0]]
    assert RELATIONS == ("left of", "right of", "above", "below")
