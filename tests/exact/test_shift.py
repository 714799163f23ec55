"""The shift harness: known tables are recovered, intervals cover, p-values are uniform, posteriors are exact."""

import json
import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats

from clarkia.errors import DataError
from clarkia.measures.shift import (
    CLEAN,
    DenoisingClassifier,
    Manifest,
    Outcome,
    Prototypes,
    Report,
    Scenario,
    SimilarityClassifier,
    Suite,
    TorchClassifier,
    ask,
    cluster_bootstrap,
    corrupt,
    mcnemar,
    rank_correlation,
    shift_sizes,
    wilson_interval,
)
from clarkia.measures.shift.corruptions import SEVERITIES, blur, contrast, invert, jpeg, occlude, rotate
from clarkia.oracles import GaussianMixture
from clarkia.processes import EDM
from clarkia.random import generator, rand, randn

DOMAINS, CLASSES, EACH = ("photo", "sketch", "scan"), 4, 100
RIGHT = {"photo": 90, "sketch": 55, "scan": 20}  # of each class of the domain


class Stub:
    """Answers row numbers, right for the first so many rows of every domain and class."""

    def __init__(self, labels, right, invalid=0):
        self.labels, self.right, self.invalid = labels, right, invalid

    def predict_proba(self, x):
        rows = np.asarray(x).astype(int).reshape(-1)
        rank = rows % EACH
        ok = rank < self.right[rows]
        answer = np.where(ok, self.labels[rows], (self.labels[rows] + 1) % CLASSES)
        table = np.full((len(rows), CLASSES), 0.1 / (CLASSES - 1))
        table[np.arange(len(rows)), answer] = 0.9
        table[rank >= EACH - self.invalid] = np.nan
        return table


@pytest.fixture
def data():
    n = len(DOMAINS) * CLASSES * EACH
    domains = np.repeat(DOMAINS, CLASSES * EACH)
    labels = np.tile(np.repeat(np.arange(CLASSES), EACH), len(DOMAINS))
    return np.arange(n), domains, labels


def test_a_known_table_is_recovered(data):
    rows, domains, labels = data
    stub = Stub(labels, np.array([RIGHT[d] for d in domains]), invalid=10)
    report = Suite(Manifest.draw(domains, labels), rows).run({"stub": stub})
    found = report["stub", "clean"]
    assert {name: a.value for name, a in found.by_domain.items()} == {d: r / 100 for d, r in RIGHT.items()}
    assert found.by_class[0].value == pytest.approx(0.55)
    assert found.accuracy.value == found.macro == pytest.approx(0.55)
    assert found.worst_domain[0] == "scan"
    assert found.invalid_rate == pytest.approx(0.1)
    assert found.valid_accuracy.value == pytest.approx(0.55 / 0.9)
    assert found.accuracy.rows == 1200
    # all say 0.9 and 55 of 90 valid ones are right; confidence does not vary
    assert found.calibration_error >= 0.9 - 0.55 / 0.9 - 1e-12
    assert math.isnan(found.confidence_correlation)


def test_a_constant_answer_is_right_as_often_as_its_class():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    manifest = Manifest.draw(np.repeat("all", 100), labels)

    class Constant:
        def predict_proba(self, x):
            return np.tile([0.0, 1.0, 0.0], (len(x), 1))

    found = Suite(manifest, labels).run({"one": Constant()})["one", "clean"]
    assert found.accuracy.value == 0.3
    assert found.balanced_accuracy == pytest.approx(1 / 3)


def test_every_classifier_and_run_is_asked_the_same_rows(data, tmp_path):
    _, domains, labels = data
    manifest = Manifest.draw(domains, labels, num_samples=7, seed=3)
    assert len(manifest.rows) == 7 * 12
    cells = Counter(zip(manifest.domains, manifest.labels, strict=True))
    assert cells == {(domain, label): 7 for domain in DOMAINS for label in range(CLASSES)}
    assert manifest == Manifest.draw(domains, labels, num_samples=7, seed=3)
    assert manifest != Manifest.draw(domains, labels, num_samples=7, seed=4)
    manifest.save(tmp_path / "m.json")
    assert Manifest.load(tmp_path / "m.json") == manifest
    (tmp_path / "bad.json").write_text(json.dumps({"rows": [1]}))
    with pytest.raises(DataError, match="expected a manifest"):
        Manifest.load(tmp_path / "bad.json")
    shots, rest = manifest.split_shots(2)
    assert len(shots.rows) == 24
    assert sorted(shots.rows + rest.rows) == list(manifest.rows)
    with pytest.raises(ValueError, match="shots: expected less than 7"):
        manifest.split_shots(7)


def test_rows_chosen_by_failure_are_marked(data):
    rows, domains, labels = data
    one = Stub(labels, np.array([RIGHT[d] for d in domains]))
    other = Stub(labels, np.full(len(rows), 60))
    report = Suite(Manifest.draw(domains, labels), rows).run(
        {"one": one, "other": other}, [CLEAN, Scenario("hard", failures_of="one")]
    )
    assert report["one", "hard"].accuracy.value == 0
    assert report["one", "hard"].conditional
    assert not report["one", "clean"].conditional
    # ranks 20..59 of the scans and 55..59 of the sketches are right for the other: 45 of 10 + 45 + 80
    assert report["other", "hard"].accuracy.value == pytest.approx(45 / 135)
    with pytest.raises(ValueError, match="without a look at the answers"):
        report.compare("one", "other", "hard")
    with pytest.raises(ValueError, match="expected one of"):
        report["one", "unknown"]
    assert "hard (conditional)" in str(report)


def test_answers_are_written_line_by_line(data, tmp_path):
    rows, domains, labels = data
    stub = Stub(labels, np.full(len(rows), 50), invalid=1)
    report = Suite(Manifest.draw(domains, labels, class_names=list("abcd")), rows).run({"stub": stub})
    report.save(tmp_path / "answers.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert len(lines) == 1200
    assert lines[0] == {
        "classifier": "stub", "scenario": "clean", "conditional": False, "row": 0, "domain": "photo", "label": "a",
        "answer": "a", "confidence": 0.9,
    }  # fmt: skip
    assert lines[99]["answer"] is lines[99]["confidence"] is None


def test_relative_robustness_is_the_distance_from_the_trend():
    """Clean .6 .7 .8 .9; shifted on the line .5 x + .1 but for a fifth 0.1 above it: residuals of least squares."""
    clean, shifted = np.array([0.6, 0.7, 0.8, 0.9, 0.75]), np.array([0.4, 0.45, 0.5, 0.55, 0.575])
    n, outcomes = 1000, []
    for name, levels in (("clean", clean), ("far", shifted)):
        for index, level in enumerate(levels):
            answers = (np.arange(n) >= round(level * n)).astype(int)
            zeros = np.zeros(n, dtype=int)
            outcomes.append(
                Outcome(str(index), name, False, np.arange(n), np.repeat("d", n), zeros, answers, np.ones(n))
            )
    report = Report(tuple(outcomes), ("a", "b"))
    found = report.relative_robustness("far")
    assert list(found.values()) == pytest.approx([-0.02, -0.02, -0.02, -0.02, 0.08], abs=1e-12)
    assert report.drop("0", "far") == pytest.approx(0.2)


def test_wilson_interval_by_its_equation():
    """Its ends solve ``(p - h/n)^2 = z^2 p (1 - p) / n``."""
    z = stats.norm.ppf(0.975)
    for hits, n in ((0, 10), (3, 10), (50, 80), (10, 10)):
        found = wilson_interval(hits, n)
        for p in (found.low, found.high):
            assert (p - hits / n) ** 2 == pytest.approx(z**2 * p * (1 - p) / n, abs=1e-12)
    assert (wilson_interval(0, 0).low, wilson_interval(0, 0).high) == (0, 1)


@pytest.mark.parametrize("size", [1, 5])
def test_the_bootstrap_over_clusters_covers(size):
    """120 clusters of rows that stand or fall together: 93 to 97 % of 500 intervals hold the mean 0.7.

    The standard error of a coverage of 0.95 is 0.0097, so that the band is two of them: false alarm 4 %, seed fixed.
    """
    rng, held = np.random.default_rng(size + 10), 0
    for seed in range(500):
        right = np.repeat(rng.random(120) < 0.7, size)
        found = cluster_bootstrap(right, np.repeat(np.arange(120), size), seed=seed, draws=500)
        held += found.low <= 0.7 <= found.high
    assert 0.93 <= held / 500 <= 0.97


def test_rows_of_one_cluster_are_not_independent():
    right = np.repeat(np.random.default_rng(0).random(50) < 0.5, 20)
    alone, together = cluster_bootstrap(right), cluster_bootstrap(right, np.repeat(np.arange(50), 20))
    ratio = (together.high - together.low) / (alone.high - alone.low)
    assert ratio == pytest.approx(math.sqrt(20), rel=0.15)


def test_mcnemar_by_the_binomial_law():
    first, second = np.array([1] * 8 + [0] * 2 + [1] * 5, bool), np.array([0] * 8 + [1] * 2 + [1] * 5, bool)
    found = mcnemar(first, second, mid=False)
    assert (found.only_first, found.only_second) == (8, 2)
    assert found.p_value == pytest.approx(stats.binomtest(2, 10).pvalue)
    assert mcnemar(first, second).p_value == pytest.approx(found.p_value - stats.binom.pmf(2, 10, 0.5))
    assert mcnemar(first, first).p_value == 1
    assert mcnemar([1, 0], [0, 1]).p_value == pytest.approx(1)


def test_p_values_of_equal_classifiers_are_uniform():
    """Two stubs of accuracy 0.7 on 2000 rows, 1000 times: steps of the law are below 0.04, so KS stays within 0.05.

    Without ties p is uniform to half a step; the deviation of 1000 draws exceeds 0.06 in less than 0.2 % of seeds.
    """
    rng = np.random.default_rng(1)
    values = [mcnemar(*(rng.random((2, 2000)) < 0.7)).p_value for _ in range(1000)]
    assert stats.kstest(values, "uniform").statistic < 0.06


def test_adapters_answer_with_probabilities():
    logits = torch.tensor([[0.0, math.log(3)], [math.log(9), 0.0]])
    assert TorchClassifier(lambda x: x).predict_proba(logits).flatten().tolist() == pytest.approx(
        [0.25, 0.75, 0.9, 0.1]
    )
    names = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    found = SimilarityClassifier(lambda x: x, names, temperature=0.5).predict_proba([[3.0, 0.0], [1.0, 1.0]])
    assert found[0].tolist() == pytest.approx([1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))])
    assert found[1].tolist() == pytest.approx([0.5, 0.5])
    answers = ask(TorchClassifier(lambda x: x), logits, 2)
    assert answers.labels.tolist() == [1, 0]
    with pytest.raises(ValueError, match="predict_proba: expected shape"):
        ask(TorchClassifier(lambda x: x), logits, 3)

    class Wrong:
        def predict_proba(self, x):
            return np.array([[0.5, 0.5], [0.9, 0.2]])

    with pytest.raises(ValueError, match=r"probabilities that sum to one, found .* in row 1"):
        ask(Wrong(), logits, 2)


def test_prototypes_learn_a_shifted_domain():
    """Inverted rows: the base is always wrong there, two examples a class put it right."""
    labels = np.tile([0, 1], 100)
    x = np.where(labels, 1.0, -1.0)[:, None] + 0.1 * np.random.default_rng(0).normal(size=(200, 1))
    x[100:] *= -1
    domains = np.repeat(["plain", "inverted"], 100)
    base = TorchClassifier(lambda rows: torch.cat([-rows, rows], 1))
    learner = Prototypes(lambda rows: rows, base, 2)
    report = Suite(Manifest.draw(domains, labels), torch.from_numpy(x)).run(
        {"learner": learner}, [CLEAN, Scenario("two", shots=2)]
    )
    before, after = (report["learner", s].by_domain for s in ("clean", "two"))
    assert {d: a.value for d, a in before.items()} == {"plain": 1, "inverted": 0}
    assert {d: a.value for d, a in after.items()} == {"plain": 1, "inverted": 1}
    assert report["learner", "two"].accuracy.rows == 192
    with pytest.raises(ValueError, match="expected a classifier with a method adapt"):
        Suite(Manifest.draw(domains, labels), torch.from_numpy(x)).run({"base": base}, [Scenario("two", shots=2)])


def test_a_denoiser_that_knows_its_classes_gives_their_posterior():
    """Two normal classes: the integral of signal-to-noise times error over its logarithm is the log-density.

    The levels reach from 0.02 to 60, beyond which classes 2 apart differ by less than 2 / 60^2; 25 levels and 400 draws
    leave an error of a few hundredths of a nat.
    """
    means, variances = torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), torch.tensor([[1.0, 1.0], [1.0, 0.4]])
    laws = [GaussianMixture([1.0], m[None], v[None]) for m, v in zip(means, variances, strict=True)]

    def denoiser(x_t, t, condition):
        return laws[int(condition[0])].denoiser(EDM)(x_t, t)

    levels = tuple(torch.logspace(math.log10(0.02), math.log10(60), 25, dtype=torch.float64).tolist())
    classifier = DenoisingClassifier(denoiser, EDM, 2, levels, num_draws=400, generator=generator(0))
    x = 2 * randn((20, 2), generator(1), dtype=torch.float64)
    found = classifier.log_likelihoods(x)
    expected = torch.stack([law.log_prob(x) for law in laws], 1)
    gap = (found[:, 1] - found[:, 0]) - (expected[:, 1] - expected[:, 0])
    assert float(gap.abs().max()) < 0.15
    assert torch.equal(found.argmax(1)[gap.abs() > 0.2], expected.argmax(1)[gap.abs() > 0.2])
    posterior = expected.softmax(1)
    classifier = DenoisingClassifier(denoiser, EDM, 2, levels, num_draws=400, generator=generator(0))
    assert float((classifier.predict_proba(x) - posterior).abs().max()) < 0.04


# ------------------------------------------------------------------------------------------------ corruptions


def test_corruptions_of_known_images():
    flat = torch.full((2, 3, 8, 8), 0.3, dtype=torch.float64)
    for kind in ("blur", "contrast"):
        assert torch.allclose(corrupt(flat, kind, 5), flat, atol=1e-12)
    image = rand((3, 9, 8), generator(0))
    assert torch.allclose(invert(invert(image)), image)
    assert torch.allclose(contrast(image, 0.0), image.mean((1, 2), keepdim=True).expand_as(image))
    assert torch.allclose(blur(image, 1e-3), image, atol=1e-12)
    assert torch.allclose(rotate(image, 0.0), image, atol=1e-12)
    square = rand((1, 8, 8), generator(1))
    assert torch.allclose(rotate(square, 90.0), torch.rot90(square, 1, (1, 2)), atol=1e-9)
    turned = rotate(rand((1, 1, 6, 10), generator(2)), 180.0)
    assert torch.allclose(turned, rand((1, 1, 6, 10), generator(2)).flip(2, 3), atol=1e-9)
    noisy = corrupt(torch.full((4, 100, 100), 0.5), "noise", 1, generator=generator(3))
    # variance .01, 40 000 pixels, cutting at five deviations: four standard errors of a variance
    assert float(noisy.var()) == pytest.approx(0.01, abs=4 * 0.01 * math.sqrt(2 / 40_000))
    covered = occlude(torch.zeros(50, 10, 10), 0.5, generator=generator(4))
    assert covered.flatten(1).sum(1).tolist() == [12.5] * 50
    assert len({tuple(c.flatten().tolist()) for c in covered}) > 10


def test_jpeg_rounds_cosine_coefficients():
    """A flat block has one coefficient, 8 (255 x - 128), in steps of 16 at quality 50: steps of 2 / 255 in grey."""
    grey = torch.tensor([0.5, 0.503, 0.51]).repeat_interleave(64).reshape(3, 8, 8)
    found = jpeg(grey, 50)
    for before, after in zip(grey[:, 0, 0].tolist(), found[:, 0, 0].tolist(), strict=True):
        assert after == pytest.approx((round((255 * before - 128) / 2) * 2 + 128) / 255, abs=1e-6)
    image = rand((2, 3, 13, 17), generator(5))
    losses = [float((jpeg(image, q) - image).square().mean()) for q in (95, 50, 10)]
    assert losses == sorted(losses)
    assert float((jpeg(image, 100) - image).abs().max()) < 8 * 0.5 / 255 * 2
    assert jpeg(image, 50).shape == image.shape


@pytest.mark.parametrize("kind", SEVERITIES)
def test_severity_is_monotone(kind):
    steps = torch.linspace(0, 0.8, 16)  # brighter to the right, so that a turn is seen more the further it goes
    x = (blur(rand((40, 16, 16), generator(6)), 1.0) * 0.2 + steps).clamp(0, 1)
    found = [float((corrupt(x, kind, s, generator=generator(7)) - x).square().mean()) for s in range(1, 6)]
    assert found == sorted(found)
    assert found[0] > 0


# ------------------------------------------------------------------------------------------------ sizes


def test_sizes_of_shifts_of_a_normal_law():
    """Shifts of length 1 and 3 and a law of its own: the Frechet distance is their square, up to its floor."""
    x = randn((4 * 1500, 2), generator(8), dtype=torch.float64)
    domains = np.repeat(["source", "same", "near", "far"], 1500)
    x[3000:4500, 0] += 1
    x[4500:, 0] += 3
    found = shift_sizes(x, domains, "source")
    assert list(found) == ["same", "near", "far"]
    assert [found[d].frechet for d in found] == pytest.approx([0, 1, 9], abs=0.25)
    assert found["same"].mmd2 == pytest.approx(0, abs=3e-3)
    assert found["same"].mmd2 < found["near"].mmd2 < found["far"].mmd2
    assert rank_correlation([1, 2, 3, 4], [1, 3, 2, 9]) == pytest.approx(0.8)
    assert rank_correlation([1, 2, 2, 4], [5, 6, 7, 8]) == pytest.approx(stats.spearmanr([1, 2, 2, 4], [5, 6, 7, 8])[0])
    assert math.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))
