"""Distillation as a user meets it: images, embeddings, tables, students, bad input."""

import dataclasses
import math

import pytest
import torch

from clarkia import curation
from clarkia.curation.synthetic.pools import train_classifier
from clarkia.random import generator, rand, randn
from clarkia.spaces import Categorical, Continuous, Mixed
from clarkia.training import TrainingOptions

QUICK = curation.Descent(steps=3, learning_rate=0.01)


def digits(n=120, classes=3, side=8, seed=0):
    """Bars at a place that tells the class, in noise."""
    noise = generator(seed)
    labels = torch.arange(n) % classes
    x = 0.3 * rand((n, 1, side, side), noise).float()
    x[torch.arange(n), :, :, 2 * labels + 1] += 0.6
    return x, labels


def convnet():
    return curation.convnet((1, 8, 8), 3, width=8, depth=1, norm="batch", pooled=True)


def perceptron():
    return curation.perceptron(64, 3, width=32)


def test_images_as_mosaics_with_a_pool_and_calibration():
    x, labels = digits()
    pool = curation.train_pool(
        lambda: curation.convnet((1, 8, 8), 3, width=8, depth=2), x, labels, size=2,
        options=TrainingOptions(max_steps=40, batch_size=32),
    )  # fmt: skip
    method = curation.Matching(
        form=curation.Mosaic(), pool=pool, descent=QUICK, augmentation=curation.Augmentation(), calibration=1.0,
        criterion=curation.CharacteristicGap(count=64),
    )  # fmt: skip
    found = curation.distill(x, labels, per_class=2, method=method, generator=generator(0))
    assert found.x.shape == (3 * 2 * 4, 1, 8, 8)
    assert found.stored.shape == (3 * 2, 1, 8, 8)
    assert found.labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    assert 0 <= float(found.x.min()) <= float(found.x.max()) <= 1
    assert len(found.losses) == 3
    again = curation.distill(x, labels, per_class=2, method=method, generator=generator(0))
    assert torch.equal(found.x, again.x)
    published = dataclasses.replace(curation.ncfm(pool), descent=QUICK)
    assert curation.distill(x, labels, per_class=1, method=published).x.shape == (12, 1, 8, 8)


def test_students_of_a_synthetic_set_are_tested_once_after_their_last_step():
    (x, labels), (test, truth) = digits(), digits(seed=1)
    method = curation.Matching(descent=curation.Descent(steps=50, learning_rate=0.02), form=curation.Rows((0.0, 1.0)))
    found = curation.distill(x, labels, per_class=2, method=method, generator=generator(0))
    options = TrainingOptions(max_steps=100, batch_size=6, learning_rate=1e-2)
    result = curation.evaluate(found, test, truth, perceptron, options=options, trials=2, cutmix=0.5)
    assert result.accuracy.shape == (2,)
    assert result.mean > 0.9
    assert 0 <= result.interval.low <= result.mean <= result.interval.high <= 1
    assert math.isnan(curation.evaluate(found, test, truth, perceptron, options=options, trials=1).standard_deviation)


def test_noncritical_regions_of_real_crops_are_repainted():
    x, labels = digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        teacher = convnet()
    train_classifier(teacher, x, labels, TrainingOptions(max_steps=150, batch_size=32, learning_rate=1e-2))
    method = curation.Noncritical(teacher=teacher, descent=curation.Descent(steps=10, learning_rate=0.05))
    found = curation.distill(x, labels, per_class=3, method=method, generator=generator(0))
    assert found.x.shape == (9, 1, 8, 8)
    shown = curation.views(9, 4, (8, 8), seed=1)
    stored = curation.relabel(teacher, found.x, found.labels, shown)
    assert stored.distances.shape == (36, 2)
    assert stored.stored_bytes == 36 * 2 * 2
    full = curation.relabel(teacher, found.x, found.labels, shown, k=3)
    two = stored.classes[:, 0] != stored.classes[:, 1]
    assert int(two.sum()) > 10
    assert float((full.maxent() - stored.maxent())[two].abs().max()) < 5e-3  # two of three classes leave nothing open
    for told, target in ((None, "pair"), (stored, "pair"), (stored, "maxent")):
        student = convnet()
        run = curation.transfer(
            student,
            found.x,
            found.labels,
            shown,
            told,
            target=target,
            options=TrainingOptions(max_steps=5, batch_size=8),
        )
        assert run.steps == 5


def test_embeddings_and_their_nearest_tokens():
    codebook = randn((20, 6), generator(0))
    tokens, labels = torch.arange(200) % 20, (torch.arange(200) % 20) // 10
    found = curation.distill(
        codebook[tokens] + 0.01 * randn((200, 6), generator(1)), labels, per_class=4,
        method=curation.Matching(descent=QUICK), generator=generator(2),
    )  # fmt: skip
    nearest = found.nearest(codebook)
    assert bool(((nearest // 10) == found.labels).all())
    with pytest.raises(ValueError, match="codebook: expected embeddings as synthetic rows"):
        curation.SyntheticDataset({"a": codebook}, tokens, codebook, ()).nearest(codebook)


def test_tables():
    space = Mixed(age=Continuous((1,)), job=Categorical((2,), num_classes=(2, 4)))
    labels = torch.arange(100) % 2
    x = {
        "age": randn((100, 1), generator(0)) + labels[:, None],
        "job": torch.stack([labels, torch.arange(100) % 4], 1),
    }
    method = curation.Matching(form=curation.Table(space), descent=curation.Descent(steps=40, learning_rate=0.05))
    found = curation.distill(x, labels, per_class=5, method=method, generator=generator(0))
    space.check(found.x)
    assert found.x["age"].shape == (10, 1)
    assert float((found.x["job"][:, 0] == found.labels).double().mean()) > 0.8
    assert float(found.x["age"][5:].mean() - found.x["age"][:5].mean()) > 0.3
    with pytest.raises(ValueError, match="synthetic: expected rows in one tensor, found a table: encode it first"):
        curation.evaluate(found, x["age"], labels, perceptron)
    with pytest.raises(ValueError, match=r"start: expected 'real' or a set of rows for Table, found 'noise'\."):
        curation.distill(x, labels, method=curation.Matching(form=curation.Table(space), start="noise"))


X, LABELS = digits(12)
HOLE = X.clone()
HOLE[5, 0, 1, 1] = math.inf


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"x": HOLE}, "x: expected finite numbers, found NaN or infinity in row 5."),
        ({"x": X.long()}, "x: expected a floating-point tensor, found torch.int64."),
        ({"labels": LABELS[:5]}, "labels: expected shape (12,), found (5,)."),
        ({"labels": LABELS.float()}, "labels: expected whole numbers, found torch.float32."),
        ({"labels": LABELS - 1}, "labels: expected classes from 0, found -1."),
        ({"labels": 2 * LABELS}, "labels: expected rows of every class up to the largest, found none of 1."),
        ({"per_class": 0}, "per_class: expected a whole number of at least 1, found 0."),
        ({"form": curation.Rows((0.0, 0.5))}, "x: expected values in (0.0, 0.5), found"),
        ({"form": curation.Mosaic(factor=3)}, "x: expected images that divide into 3 x 3, found"),
        ({"start": "zeros"}, "start: expected 'real', 'noise' or a set of rows, found 'zeros'."),
        ({"start": X[:4]}, "start: expected 6 rows, found 4."),
        ({"calibration": 1.0}, "calibration: expected a pool with trained networks, found one without."),
        ({"batch": 1}, "batch: expected a whole number of at least 2, found 1."),
        ({"weight": 0.0}, "weight: expected a number in (0, inf], found 0.0."),
    ],
)
def test_bad_arguments_of_matching(change, sentence):
    arguments = {"x": X, "labels": LABELS, "per_class": 2, **change}
    own = {name: arguments.pop(name) for name in ("x", "labels", "per_class")}
    with pytest.raises(ValueError, match="expected") as error:
        curation.distill(
            own["x"], own["labels"], per_class=own["per_class"],
            method=curation.Matching(**{"descent": QUICK, **arguments}), generator=generator(0),
        )  # fmt: skip
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: curation.Noncritical(teacher=convnet(), keep=9), "keep: expected a whole number from 1 to 5"),
        (
            lambda: curation.distill(X, LABELS, per_class=9, method=curation.Noncritical(teacher=convnet())),
            "per_class: expected at most 4 crops of class 0, found 36 wanted.",
        ),
        (
            lambda: curation.distill(X, LABELS, per_class=1, method=curation.Noncritical(teacher=convnet(), grid=3)),
            "x: expected images that divide into 3 x 3",
        ),
        (
            lambda: curation.cam(curation.convnet((1, 8, 8), 3, width=4, depth=1), X, LABELS),
            "model: expected a Classifier whose maps are averaged over positions, found another.",
        ),
        (lambda: curation.cam(convnet(), X, LABELS + 1), "labels: expected shape (12,) with classes below 3, found"),
        (lambda: curation.convnet((1, 6, 6), 3), "shape: expected a height and width that halve 3 times, found 6 x 6."),
        (lambda: curation.noncritical_mask(X, 1.5), "threshold: expected a number in [0, 1], found 1.5."),
        (lambda: curation.ModelPool(convnet(), ()), "pairs: expected at least one pair"),
        (lambda: curation.CharacteristicGap(power=3), "power: expected a whole number from 1 to 2, found 3."),
        (
            lambda: curation.transfer(
                convnet(), X, LABELS, curation.views(12, 2, (8, 8)),
                curation.DistanceLabels(LABELS[:, None], torch.ones(12, 1), 3), options=TrainingOptions(max_steps=1),
            ),
            "stored: expected labels of 24 views, found 12.",
        ),
    ],
)  # fmt: skip
def test_bad_arguments_of_the_parts(call, sentence):
    with pytest.raises(ValueError, match="expected") as error:
        call()
    assert sentence in str(error.value)
