"""The counting benchmark on generators whose behaviour is known by a formula."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from clarkia import bench
from clarkia.bench.counting import Counted, CountingReport
from clarkia.datasets import shapes
from clarkia.datasets.shapes import Judge, Scene, Thing, parse
from clarkia.datasets.shapes.grammar import negatives
from clarkia.measures.shift import wilson_interval


def layout(side, n):
    """Centres of n small things on a grid, far enough from each other for the judge to tell them apart."""
    across = math.ceil(math.sqrt(max(n, 1)))
    step = side / across
    return [((k % across + 0.5) * step, (k // across + 0.5) * step) for k in range(n)]


def rendered(captions, counts, side):
    """Pictures of so many of the things of each caption."""
    scenes = []
    for caption, n in zip(captions, counts, strict=True):
        phrase = parse(caption).first
        things = (Thing(phrase.shape, phrase.colour, "small", x, y) for x, y in layout(side, n))
        scenes.append(Scene(side, tuple(things)))
    return shapes.draw(scenes)


def exact(captions, seed, side=32):
    return rendered(captions, [parse(caption).first.count for caption in captions], side)


def always_three(captions, seed):
    return rendered(captions, [3] * len(captions), 32)


def poisson(captions, seed):
    source = np.random.default_rng([7, seed])
    counts = [min(source.poisson(parse(caption).first.count), 36) for caption in captions]
    return rendered(captions, counts, 64)


@pytest.mark.parametrize(("side", "n_max"), [(32, 8), (64, 15)])
def test_a_renderer_that_counts_is_always_right(side, n_max):
    found = bench.counting(partial(exact, side=side), Judge(side), n_max=n_max, colours=("red", "blue"), per_cell=2)
    assert found.plain.accuracy == 1
    assert found.plain.signed_error == found.plain.absolute_error == 0
    assert found.chance == pytest.approx(1 / n_max)
    assert (found.plain.confusion()[:, 1:] == np.eye(n_max, dtype=int) * 16).all()
    assert all(found.plain.hits(n) == (16, 16) for n in range(1, n_max + 1))


def test_a_renderer_of_three_is_right_where_three_are_asked_for():
    found = bench.counting(always_three, Judge(32), per_cell=1).plain
    assert [found.hits(n)[0] / found.hits(n)[1] for n in range(1, 9)] == [0, 0, 1, 0, 0, 0, 0, 0]
    assert found.signed_error == pytest.approx(np.mean([3 - n for n in range(1, 9)]))
    assert found.absolute_error == pytest.approx(np.mean([abs(3 - n) for n in range(1, 9)]))
    assert (found.confusion().sum(0) == [0, 0, 0, len(found.asked), 0, 0, 0, 0, 0]).all()


def test_a_renderer_of_poisson_numbers_follows_the_formula():
    """``e^-n n^n / n!`` for n up to 6, within 3 standard errors each (false alarm 1.6 % of six)."""
    found = bench.counting(poisson, Judge(64), n_max=6, per_cell=10).plain
    for n in range(1, 7):
        hits, total = found.hits(n)
        share = math.exp(-n) * n**n / math.factorial(n)
        assert total == 320
        assert abs(hits / total - share) < 3 * math.sqrt(share * (1 - share) / total)
        interval = found.interval(n)
        assert (interval.low, interval.high) == (wilson_interval(hits, total).low, wilson_interval(hits, total).high)
    spread = math.sqrt(3.5 / 1920)
    assert abs(found.signed_error) < 4 * spread


def test_things_of_another_colour_do_not_count():
    def mixed(captions, seed):
        scenes = [Scene(32, (Thing("circle", "red", "small", 8, 8), Thing("square", "red", "small", 24, 24)))]
        return shapes.draw(scenes * len(captions))

    found = bench.count(mixed, Judge(32), ["a red circle", "a blue circle", "two red circles", "a red square"])
    assert found.seen.tolist() == [1, 0, 1, 1]
    assert found.asked.tolist() == [1, 1, 2, 1]


# -------------------------------------------------------------------------------------------- other wordings


def test_the_four_ways_to_say_a_number():
    assert bench.refine("six red circles", "multiplicative") == "two groups of three red circles"
    assert bench.refine("five red circles", "additive") == "three and two more red circles"
    assert bench.refine("six red circles", "grid") == "six red circles in two rows of three"
    assert bench.refine("five red circles", "position") == "three red circles on the left and two on the right"
    assert bench.refine("two small red circles", "position") == "a small red circle on the left and one on the right"
    assert bench.refine("fifteen white crosses", "multiplicative") == "three groups of five white crosses"


@pytest.mark.parametrize("kind", bench.REFINEMENTS)
def test_numbers_that_cannot_be_said_so_are_left_out(kind):
    product = kind in ("multiplicative", "grid")
    for n in range(1, 16):
        caption = str(shapes.Phrase(n, "circle", "red"))
        can = n > 3 and any(n % k == 0 for k in range(2, n)) if product else n > 1
        assert (bench.refine(caption, kind) is not None) == can


@pytest.mark.parametrize("kind", bench.REFINEMENTS)
def test_only_known_words_are_used(kind):
    """With the words of the plain grammar alone the wording is a caption of the grammar, with the same number."""
    grammar = {word for word in shapes.WORDS if word not in ("groups", "more", "in", "rows", "on", "the")}
    for n in range(1, 16):
        full = bench.refine(str(shapes.Phrase(n, "square", "blue")), kind)
        assert full is None or (set(full.split()) <= set(shapes.WORDS) and len(full.split()) <= shapes.MAX_WORDS)
        plain = bench.refine(str(shapes.Phrase(n, "square", "blue")), kind, grammar)
        if plain is not None:
            said = parse(plain)
            assert said.first.count + said.second.count == n
    assert bench.refine("two red circles", kind, {"red", "circles"}) is None


def test_training_on_refined_captions():
    captions = ["six red circles", "a red circle", "two red circles and a blue square"] * 50
    found = bench.refined_captions(captions, share=0.5, seed=1)
    assert found[1::3] == captions[1::3]
    assert found[2::3] == captions[2::3]
    changed = [text for text in found[::3] if text != "six red circles"]
    assert 10 < len(changed) < 40
    assert len(set(changed)) == 4
    assert bench.refined_captions(captions, share=0.0) == captions


# ------------------------------------------------------------------------------------------------- remedies


def test_the_best_of_k_poisson_numbers():
    """The chance that one of four is right, ``1 - (1 - p)^4``; within 4 standard errors each (4e-4 of six)."""
    judge = Judge(64)
    best = bench.best_of(poisson, 4, bench.miscount(judge))
    found = bench.counting(
        poisson, judge, n_max=6, per_cell=3, remedies={"best of 4": (best, 4.0)},
    )  # fmt: skip
    chosen = found["best of 4"]
    for n in range(1, 7):
        hits, total = chosen.hits(n)
        share = 1 - (1 - math.exp(-n) * n**n / math.factorial(n)) ** 4
        assert abs(hits / total - share) < 4 * math.sqrt(share * (1 - share) / total)
    assert chosen.cost == 4
    text = found.to_markdown()
    assert "| best of 4 |" in text
    assert "Chance" in text
    assert found.plot().axes


def test_refined_settings_stand_beside_the_plain_one_on_the_same_captions():
    def tongue_tied(captions, seed):
        """Draws plain captions, and nothing but one thing for any other."""
        plain = ["rows" not in caption for caption in captions]
        texts = [c if p else "a red circle" for c, p in zip(captions, plain, strict=True)]
        return exact(texts, seed)

    found = bench.counting(tongue_tied, Judge(32), colours=("red",), per_cell=1, refinements=["grid", "additive"],
                           vocabulary=set(shapes.WORDS) - {"more", "and"})  # fmt: skip
    assert found["grid"].accuracy == 0
    assert sorted(set(found["grid"].asked.tolist())) == [4, 6, 8]
    assert found.plain.among(set(found["grid"].captions)).accuracy == 1
    assert found.skipped == ("additive",)
    assert "additive" in found.to_markdown()


def test_a_report_names_what_it_lacks():
    one = CountingReport((Counted("plain", np.array([1]), np.array([1])),))
    with pytest.raises(ValueError, match="name: expected one of"):
        one["guided"]
    with pytest.raises(ValueError, match="kind: expected one of"):
        bench.refine("two red circles", "rhyme")
    with pytest.raises(ValueError, match="expected one phrase"):
        bench.refine("two red circles and a blue square", "grid")
    assert negatives("two red circles", "count")
    assert torch.is_tensor(exact(["a red circle"], 0))
