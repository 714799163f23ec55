"""Refinement outside the evidence: saliency, masks, feature statistics, views, and labels in two numbers."""

import math

import pytest
import torch
from torch import nn

from clarkia import curation
from clarkia.curation.refinement.crops import Crops, candidate_crops, choose_crops, tiles
from clarkia.curation.refinement.saliency import mean_inside
from clarkia.curation.views import crop, crop_boxes, inside, mixed_boxes, paste
from clarkia.random import generator, rand, randn


def images(n=8, c=1, side=8, seed=0):
    return rand((n, c, side, side), generator(seed)).float()


def teacher(seed=0, norm="batch"):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = curation.convnet((1, 8, 8), 3, width=6, depth=1, norm=norm, pooled=True)
    with torch.no_grad():
        model(images(64, seed=9))
    return model.eval()


LABELS = torch.arange(8) % 3


# ------------------------------------------------------------------------------------------------- saliency


class Corners(nn.Module):
    """Two maps of two by two: the means of the image's quarters, and their negatives."""

    def forward(self, x):
        quarters = nn.functional.avg_pool2d(x, x.shape[2] // 2)
        return torch.cat([quarters, -quarters], 1)


def test_activation_maps_by_hand():
    head = nn.Linear(2, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    model = curation.Classifier(Corners(), head)
    x = torch.zeros(2, 1, 4, 4)
    x[:, :, :2, :2], x[:, :, 2:, 2:] = 4.0, 1.0
    maps = curation.cam(model, x, torch.tensor([0, 1]))
    # class 0 sees 4, 0, 0, 1 in the quarters; bilinear enlargement keeps the corners, and the peak is scaled to 1
    assert maps[0, 0, 0, 0] == 1
    assert maps[0, 0, 3, 3] == pytest.approx(0.25)
    assert maps[0, 0, 0, 3] == 0
    faint = curation.cam(model, torch.cat([x[:1], 0.1 * x[:1]]), torch.tensor([0, 0]))
    torch.testing.assert_close(faint[0], faint[1])  # each map is on its own scale
    # class 1 sees only negative evidence: nothing is critical
    assert torch.equal(maps[1], torch.zeros(1, 4, 4))


def test_mean_inside_a_box_counts_parts_of_pixels():
    maps, box = rand((5, 1, 6, 7), generator(0)), crop_boxes(5, (0.1, 0.9), generator(1))
    fine = 64
    large = maps.repeat_interleave(fine, 2).repeat_interleave(fine, 3)
    covered = inside(box, large.shape[2:])
    plain = (large * covered).sum((1, 2, 3)) / covered.sum((1, 2, 3))
    torch.testing.assert_close(mean_inside(maps, box), plain, atol=0.01, rtol=0)
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(5, 4).double()
    torch.testing.assert_close(mean_inside(maps, whole), maps.mean((1, 2, 3)))


# ----------------------------------------------------------------------------------------------- refinement


@pytest.mark.parametrize("rule", ["adam", "gradient"])
def test_what_is_critical_stays_bit_for_bit(rule):
    descent = curation.Descent(steps=20, learning_rate=0.1, rule=rule, schedule="cosine")
    saliency = rand((8, 1, 8, 8), generator(1)).float()
    shift = curation.Augmentation(brightness=0, saturation=0, contrast=0, cutout=0, flip=True)
    found = curation.refine(
        teacher(), images(), LABELS, saliency, descent=descent, augment=shift, generator=generator(2)
    ).x
    critical = saliency >= 0.5
    assert torch.equal(found[critical], images()[critical])
    assert float((found != images())[~critical].double().mean()) > 0.9
    all_critical = curation.refine(teacher(), images(), LABELS, torch.ones(8, 1, 8, 8), descent=descent).x
    assert torch.equal(all_critical, images())


@pytest.mark.parametrize("rule", ["adam", "gradient"])
def test_without_evidence_it_is_plain_descent_by_half_the_step(rule):
    model = teacher()
    statistics = curation.FeatureStatistics.of_batch_norm(model)

    def loss(x, step):
        logits, distance = statistics.distance(model, x)
        return nn.functional.cross_entropy(logits, LABELS) + 0.01 * distance

    rate = 0.01 if rule == "adam" else 4.0
    plain = curation.masked_optimise(
        images(), loss, descent=curation.Descent(steps=15, learning_rate=rate, rule=rule), bounds=(0.0, 1.0)
    ).x
    found = curation.refine(
        model, images(), LABELS, torch.zeros(8, 1, 8, 8), threshold=0.5,
        descent=curation.Descent(steps=15, learning_rate=2 * rate, rule=rule),
    ).x  # fmt: skip
    assert torch.equal(found, plain)
    assert float((plain - images()).abs().max()) > 1e-4


def test_refinement_lowers_what_it_minimises():
    model = teacher()
    with torch.no_grad():
        model.head.weight.mul_(20)  # an opinion strong enough to be followed
    found = curation.refine(
        model, images(), LABELS, torch.zeros(8, 1, 8, 8), statistics_weight=0.1,
        descent=curation.Descent(steps=100, learning_rate=0.05, schedule="cosine"),
    )  # fmt: skip
    assert found.losses[-1] < 0.8 * found.losses[0]
    assert float(found.x.min()) >= 0
    assert float(found.x.max()) <= 1


def test_feature_statistics_are_those_of_batch_norm():
    model = teacher()
    running = curation.FeatureStatistics.of_batch_norm(model)
    x = images(32, seed=3)
    recorded = curation.FeatureStatistics.record(model, running.layers, x)
    norm = next(part for part in model.modules() if isinstance(part, nn.BatchNorm2d))
    norm.momentum = 1.0
    model.train()
    with torch.no_grad():
        model(x)
    model.eval()
    torch.testing.assert_close(recorded.means[0], norm.running_mean)
    torch.testing.assert_close(recorded.variances[0], norm.running_var * (32 * 64 - 1) / (32 * 64))
    assert float(recorded.distance(model, x)[1].detach()) < 1e-5
    gap = (recorded.means[0] - running.means[0]).norm() + (recorded.variances[0] - running.variances[0]).norm()
    assert float(running.distance(model, x)[1].detach()) == pytest.approx(float(gap), rel=1e-4)
    with pytest.raises(ValueError, match="expected batch norm layers with running statistics, found none"):
        curation.FeatureStatistics.of_batch_norm(teacher(norm="instance"))
    with pytest.raises(ValueError, match="layers: expected names of the model's layers, found"):
        curation.FeatureStatistics.record(model, ["maps.99"], x)


# ---------------------------------------------------------------------------------------------------- crops


def test_crops_of_most_evidence_are_kept_and_the_least_certain_chosen():
    model, x = teacher(), images(12)
    labels = torch.arange(12) % 3
    every = candidate_crops(model, x, labels, crops=4, keep=4, among=3, generator=generator(1))
    kept = candidate_crops(model, x, labels, crops=4, keep=1, among=3, generator=generator(1))
    for image in range(12):
        own = every.image == image
        assert int(own.sum()) == 4
        assert float(kept.evidence[image]) == pytest.approx(float(every.evidence[own].max()))
    expected = nn.functional.cross_entropy(
        model(crop(x[kept.image], kept.box, (8, 8))), labels[kept.image], reduction="none"
    )
    torch.testing.assert_close(kept.loss, expected.detach())
    chosen = choose_crops(kept, labels, 2)
    for label in range(3):
        own = kept.loss[labels[kept.image] == label]
        assert set(kept.loss[chosen[2 * label : 2 * label + 2]].tolist()) == set(own.topk(2).values.tolist())
    with pytest.raises(ValueError, match="per_class: expected at most 4 crops of class 0, found 5 wanted"):
        choose_crops(kept, labels, 5)


def test_crops_the_teacher_takes_for_other_classes_come_last():
    found = Crops(
        torch.arange(4), torch.zeros(4, 4), torch.ones(4), torch.tensor([1.0, 9.0, 2.0, 3.0]),
        torch.tensor([True, False, True, True]),
    )  # fmt: skip
    labels = torch.zeros(4, dtype=torch.int64)
    assert choose_crops(found, labels, 2).tolist() == [3, 2]
    assert choose_crops(found, labels, 4).tolist() == [3, 2, 0, 1]
    assert choose_crops(found, labels, 2, certain=True).tolist() == [0, 2]


def test_tiles_are_crops_at_a_smaller_size_with_their_own_scale_of_evidence():
    model, x, labels = teacher(), images(4), torch.zeros(4, dtype=torch.int64)
    whole = Crops(
        torch.arange(4), torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(4, 4).double(), torch.ones(4), torch.ones(4),
        torch.ones(4).bool(),
    )  # fmt: skip
    mosaic, saliency = tiles(model, x, labels, whole, 2)
    torch.testing.assert_close(mosaic[0, :, :4, 4:], nn.functional.avg_pool2d(x[1], 2))
    peaks = saliency.reshape(1, 2, 4, 2, 4).amax((2, 4))
    assert bool(((peaks == 1) | (peaks == 0)).all())


# ---------------------------------------------------------------------------------------------------- views


def test_crops_by_hand():
    x = images(3)
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(3, 4).double()
    torch.testing.assert_close(crop(x, whole, (8, 8)), x)
    quarter = torch.tensor([[0.5, 0.0, 0.5, 0.5]]).expand(3, 4).double()
    torch.testing.assert_close(crop(x, quarter, (4, 4)), x[:, :, 4:, :4])
    box = crop_boxes(2000, (0.2, 0.6), generator(0))
    area = box[:, 2] * box[:, 3]
    assert 0.2 - 1e-9 < float(area.min()) < 0.21
    assert 0.59 < float(area.max()) < 0.6 + 1e-9
    assert bool((box >= 0).all())
    assert float((box[:, :2] + box[:, 2:]).max()) <= 1 + 1e-12


def test_a_pasted_box_is_counted_in_pixels():
    x, other, box = torch.zeros(300, 1, 32, 24), torch.ones(300, 1, 32, 24), mixed_boxes(300, (32, 24), generator(0))
    seen, share = paste(x, other, box)
    torch.testing.assert_close(share, 1 - seen.mean((1, 2, 3)))
    torch.testing.assert_close(share.double(), 1 - box[:, 2] * box[:, 3])
    assert float(share.min()) < 0.3
    assert float(share.max()) > 0.98


def test_views_are_a_function_of_the_seed():
    x = images(5)
    first, again, other = (curation.views(5, 3, (8, 8), seed=seed) for seed in (4, 4, 5))
    epoch, row = torch.tensor([0, 2, 2]), torch.tensor([1, 0, 4])
    assert torch.equal(first.show(x, epoch, row)[0], again.show(x, epoch, row)[0])
    assert not torch.equal(first.show(x, epoch, row)[0], other.show(x, epoch, row)[0])
    shown, share = first.show(x, epoch, row)
    for index, (e, i) in enumerate(zip(epoch, row, strict=True)):
        alone, own_share = first.show(x, e[None], i[None])
        torch.testing.assert_close(alone[0], shown[index])
        assert own_share[0] == share[index]
    plain = curation.views(5, 3, (8, 8), seed=4, mirror=False)
    assert bool(first.mirrored.any())
    assert not bool(plain.mirrored.any())
    assert torch.equal(first.crop, plain.crop)
    assert torch.equal(first.partner, plain.partner)


# --------------------------------------------------------------------------------------------------- labels


def test_two_classes_are_restored_from_a_pair_of_distances():
    logits = 3 * randn((50, 2), generator(0), dtype=torch.float64)
    pair = (torch.zeros(50, dtype=torch.int64), torch.ones(50, dtype=torch.int64))
    labels = curation.DistanceLabels.from_teacher(logits, pair, dtype=torch.float32)
    assert float((labels.maxent() - logits.softmax(1)).abs().max()) < 1e-6
    alone = curation.DistanceLabels.from_teacher(logits, (pair[0], pair[0]), dtype=torch.float64)
    torch.testing.assert_close(alone.maxent(), logits.softmax(1))  # the other class takes what is left


def test_a_pair_keeps_both_log_probabilities_to_half_precision():
    logits = 3 * randn((200, 10), generator(0), dtype=torch.float64)
    own, pasted = torch.arange(200) % 10, (torch.arange(200) // 10) % 10
    labels = curation.DistanceLabels.from_teacher(logits, (own, pasted))
    assert labels.stored_bytes == 200 * 2 * 2
    soft = labels.maxent()
    torch.testing.assert_close(soft.sum(1), torch.ones(200, dtype=torch.float64))
    for classes in (own, pasted):
        exact = logits.log_softmax(1).gather(1, classes[:, None])
        stored = -labels.distances[:, [0]] if classes is own else -labels.distances[:, [1]]
        torch.testing.assert_close(stored.double(), exact, rtol=1e-3, atol=0)
        torch.testing.assert_close(soft.log().gather(1, classes[:, None]), exact, rtol=2e-3, atol=2e-3)
    # of all distributions with these two probabilities it has the largest entropy: the rest are equal
    rest = torch.ones(200, 10, dtype=torch.bool).scatter(1, labels.classes, False)
    for row in range(200):
        others = soft[row][rest[row]]
        assert float(others.max() - others.min()) < 1e-12


def test_all_classes_are_full_soft_labels():
    logits = 3 * randn((20, 7), generator(0), dtype=torch.float64)
    labels = curation.DistanceLabels.from_teacher(logits, k=7, dtype=torch.float64)
    torch.testing.assert_close(labels.maxent(), logits.softmax(1))
    student = randn((20, 7), generator(1), dtype=torch.float64)
    entropy = nn.functional.cross_entropy(student, logits.softmax(1), reduction="none")
    torch.testing.assert_close(labels.soft_cross_entropy(student), entropy)
    one = curation.DistanceLabels.from_teacher(logits, k=1, dtype=torch.float64)
    assert torch.equal(one.classes[:, 0], logits.argmax(1))


def test_the_student_that_is_the_teacher_has_no_loss_and_no_gradient():
    logits = randn((30, 5), generator(0), dtype=torch.float64)
    pair = (torch.arange(30) % 5, torch.arange(30) % 3)
    labels = curation.DistanceLabels.from_teacher(logits, pair, dtype=torch.float64)
    student = logits.clone().requires_grad_()
    loss = labels.loss(student)
    loss.sum().backward()
    assert float(loss.detach().abs().max()) < 1e-24
    assert float(student.grad.abs().max()) < 1e-12
    other = randn((30, 5), generator(1), dtype=torch.float64)
    log_probs, told = -other.log_softmax(1), -logits.log_softmax(1)
    for row in range(30):
        a, b = pair[0][row], pair[1][row]
        expected = (log_probs[row, a] - told[row, a]) ** 2
        expected = expected + (0 if a == b else (log_probs[row, b] - told[row, b]) ** 2)
        assert float(labels.loss(other)[row]) == pytest.approx(float(expected))
    share = rand((30,), generator(2))
    mixed = curation.mixed_label_loss(other, *pair, share, labels, weight=0.5)
    rows = torch.arange(30)
    plain = share * log_probs[rows, pair[0]] + (1 - share) * log_probs[rows, pair[1]]
    torch.testing.assert_close(mixed, plain + 0.5 * labels.loss(other))


def test_a_student_that_matches_stored_distances_becomes_the_teacher_on_them():
    """Gradient descent on the pair's loss alone reaches the stored probabilities, and `maxent` all but its spread."""
    logits = randn((4, 3), generator(0), dtype=torch.float64)
    pair = (torch.tensor([0, 1, 2, 0]), torch.tensor([1, 2, 0, 2]))
    labels = curation.DistanceLabels.from_teacher(logits, pair, dtype=torch.float64)
    found = curation.masked_optimise(
        torch.zeros(4, 3, dtype=torch.float64), lambda x, step: labels.loss(x).sum(),
        descent=curation.Descent(steps=500, learning_rate=0.05, schedule="cosine"),
    ).x  # fmt: skip
    torch.testing.assert_close(found.softmax(1), logits.softmax(1), atol=0.02, rtol=0)  # three classes: two fix all


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "pair, k: expected one of the two, found both or neither."),
        ({"k": 4}, "k: expected a whole number from 1 to 3, found 4."),
        ({"pair": (torch.zeros(2).long(), torch.full((2,), 3))}, "pair: expected classes from 0 to 2, found others."),
        ({"logits": torch.full((2, 3), math.nan), "k": 1}, "logits: expected numbers of shape (n, classes)"),
        ({"logits": torch.ones(3), "k": 1}, "logits: expected numbers of shape (n, classes), found (3,)"),
    ],
)
def test_labels_refuse_what_is_none(arguments, sentence):
    arguments = {"logits": torch.ones(2, 3), **arguments}
    with pytest.raises(ValueError, match="expected") as error:
        curation.DistanceLabels.from_teacher(arguments.pop("logits"), arguments.pop("pair", None), **arguments)
    assert sentence in str(error.value)
