"""The head, the loss and the averages of HVCM against values worked out by hand."""

import math

import pytest
import torch
from torch import nn

from clarkia.measures.outliers import (
    HVCM,
    DistilledHVCM,
    DistilledHVCMLoss,
    HVCMHead,
    HVCMLoss,
    HVCMScorer,
    agreement_loss,
)
from clarkia.measures.outliers.averages import RunningAverage
from clarkia.measures.outliers.hvcm import CIFAR, IMAGENET, attribute_divergences
from clarkia.random import generator, randn
from clarkia.training import TrainingOptions


def small(**options):
    torch.manual_seed(0)
    return HVCMHead(5, 3, **{"width": 12, "groups": 4, "bottleneck": 6, **options})


def test_attributes_are_cosines():
    head = small()
    h = randn((7, 5), generator(0))
    z, logits = head(h)
    assert z.shape == (7, 4, 3)
    assert logits.shape == (7, 4)
    features = head.projection(h)
    expected = nn.functional.cosine_similarity(features[:, None], head.directions[None], dim=2)
    assert torch.allclose(z.flatten(1), expected, atol=1e-6)
    # neither the length of a feature nor that of a direction matters: gains are frozen at 1
    with torch.no_grad():
        head.directions *= 5
    assert torch.allclose(head(h)[0], z, atol=1e-6)


def test_divergences_of_two_attributes():
    """Softmax of (0, 0) against (0, log 3): (1/2, 1/2) and (1/4, 3/4)."""
    z = torch.tensor([[[0.0, 0.0]]], requires_grad=True)
    centre = torch.tensor([[[0.0, math.log(3)]]], requires_grad=True)
    to_z, to_centre = attribute_divergences(z, centre)
    assert to_z.item() == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5), abs=1e-7)
    assert to_centre.item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3), abs=1e-7)
    both = torch.autograd.grad(to_z.sum(), (z, centre), allow_unused=True, retain_graph=True)
    assert both[1] is None
    assert both[0].flatten().tolist() == pytest.approx([0.25, -0.25])
    both = torch.autograd.grad(to_centre.sum(), (z, centre), allow_unused=True)
    assert both[0] is None
    assert both[1].flatten().tolist() == pytest.approx([-0.25, 0.25])


def test_divergences_vanish_at_the_centre():
    z = randn((4, 3, 5), generator(1), dtype=torch.float64)
    for divergence in attribute_divergences(z, z + 7):  # a constant within a group is no difference
        assert float(divergence.abs().max()) < 1e-14


def test_the_terms_of_the_loss():
    """Factors 2 and .5; the second term teaches the group weights only."""
    z = torch.tensor([[[0.0, 0.0], [0.0, math.log(3)]]], requires_grad=True)
    centres = torch.tensor([[[0.0, math.log(3)], [0.0, math.log(3)]]], requires_grad=True)
    logits = torch.tensor([[0.0, math.log(4)]], requires_grad=True)
    terms = HVCMLoss(2.0, 0.5).terms(z, logits, centres)
    kx = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    kc = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert terms["density"].item() == pytest.approx((2 * kx + 0.5 * kc + 1e-5) / 2, abs=1e-7)  # the clamp's floor
    assert terms["groups"].item() == pytest.approx(2 * kx * 0.2 / 2, abs=1e-7)
    of_groups = torch.autograd.grad(terms["groups"].sum(), (z, centres, logits), allow_unused=True)
    assert of_groups[0] is None
    assert of_groups[1] is None
    # descending moves weight from the group that does not fit to the one that does
    assert of_groups[2][0, 0] > 0 > of_groups[2][0, 1]


def test_averages_are_right_from_the_first_batch():
    """After k equal batches the corrected average is their value; the published one is still ``(1 - g)^k`` random."""
    logits, labels = torch.tensor([[math.log(3), 0.0], [math.log(3), 0.0]]), torch.tensor([1, 1])
    head = HVCMHead(5, 3, width=4, groups=2, bottleneck=6, rate=0.1)
    for _ in range(3):
        head.update(logits, labels)
    assert head.weights()[1].tolist() == pytest.approx([0.75, 0.25], abs=1e-7)
    assert head.weights()[[0, 2]].tolist() == [[0.5, 0.5], [0.5, 0.5]]  # classes not seen: even
    published = HVCMHead(5, 3, width=4, groups=2, bottleneck=6, rate=0.1, bias_correction=False)
    start = published.weights().clone()
    for _ in range(3):
        published.update(logits, labels)
    expected = 0.9**3 * start[1] + (1 - 0.9**3) * torch.tensor([0.75, 0.25], dtype=torch.float64)
    assert torch.allclose(published.weights()[1], expected, atol=1e-7)
    assert torch.equal(published.weights()[0], start[0])


def test_a_running_average_of_changing_values():
    average = RunningAverage(torch.zeros(()), 0.5)
    assert float(average()) == 0
    for value in (4.0, 1.0):
        average.update(torch.tensor(value))
    # weights 1/4 and 1/2 of the two, over 3/4
    assert float(average()) == pytest.approx((0.25 * 4 + 0.5 * 1) / 0.75)
    assert set(average.state_dict()) == {"initial", "total", "mass"}


def test_weights_follow_in_training_only():
    model = HVCM(nn.Identity(), small(rate=0.5))
    batch = {"x": randn((6, 5), generator(2)), "label": torch.arange(6) % 3}
    model.eval()
    HVCMLoss()(model, batch)
    assert float(model.head.averages.mass.sum()) == 0
    model.train()
    terms = HVCMLoss()(model, batch)
    assert {name: term.shape for name, term in terms.items()} == {"density": (6,), "groups": (6,)}
    shares = model(batch["x"])[1].double().softmax(1)
    assert torch.allclose(model.head.weights()[0], shares[[0, 3]].mean(0), atol=1e-7)


def test_classes_by_the_cosine_with_centres():
    head = small()
    z = 3 * head.centres.detach()[[2, 0, 1]] + 0.01
    assert head.classify(z).tolist() == [2, 0, 1]


def test_published_sizes():
    head = HVCMHead(512, 10, **CIFAR)
    assert head.centres.shape == (10, 32, 32)
    assert sum(p.numel() for p in head.projection.parameters()) == 512 * 256 + 256
    large = HVCMHead(64, 2, **{**IMAGENET, "width": 64})
    assert [m.out_features for m in large.projection if isinstance(m, nn.Linear)] == [2048, 2048, 256]


def test_training_makes_attributes_follow_their_class():
    """Two clouds in the plane: both terms fall, classes are found both ways, a far cloud is unusual."""
    labels = torch.arange(400) % 2 + 5
    centres = torch.tensor([[2.0, 0.0], [-2.0, 0.0]])
    x = centres[labels - 5] + 0.3 * randn((400, 2), generator(3))
    options = TrainingOptions(max_steps=150, batch_size=64, learning_rate=1e-2)
    fitted = HVCMScorer(width=16, groups=4, options=options).fit(x, labels)
    assert not fitted.model.training
    for by in ("centres", "score"):
        assert float((fitted.classify(x, by=by) == labels).double().mean()) == 1
    far = torch.tensor([[0.0, 3.0]]) + 0.3 * randn((100, 2), generator(4))
    assert float(fitted.score(far).quantile(0.05)) > float(fitted.score(x).quantile(0.95))
    again = HVCMScorer(width=16, groups=4, options=options).fit(x, labels)
    assert torch.equal(again.score(far), fitted.score(far))


# ------------------------------------------------------------------------------------------ self-distillation


def test_agreement_by_hand():
    """A teacher sure by 3 to 1 of its first view and even on the second; views of their own do not count."""
    teacher = torch.tensor([[[0.04 * math.log(3), 0.0]], [[0.0, 0.0]]])
    student = torch.tensor([[[0.1 * math.log(4), 0.0]], [[0.0, 0.1 * math.log(9)]], [[0.0, 0.0]]])
    of_first = [-0.75 * math.log(0.1) - 0.25 * math.log(0.9), math.log(2)]
    of_second = [-0.5 * math.log(0.8) - 0.5 * math.log(0.2), math.log(2)]
    loss = agreement_loss(student, teacher, torch.zeros(2))
    assert loss.tolist() == pytest.approx([sum(of_first + of_second) / 4])
    # what all views of all inputs share is no news
    moved = agreement_loss(student, teacher + torch.tensor([5.0, 2.0]), torch.tensor([5.0, 2.0]))
    assert moved.tolist() == pytest.approx(loss.tolist(), rel=1e-4)


def twice(x, generator):
    """Two whole views and one of the first half of the columns."""
    half = torch.cat([x[:, :2], torch.zeros_like(x[:, 2:])], 1)
    return [x, x + 0.1 * randn(x.shape, generator), half]


def test_the_teacher_follows_and_is_not_trained():
    module = DistilledHVCM(HVCM(nn.Linear(5, 5), small(rate=0.5)), momentum=0.75)
    batch = {"x": randn((6, 5), generator(2)), "label": torch.arange(6) % 3}
    start = module.teacher.head.directions.clone()
    with torch.no_grad():
        module.student.head.directions += 1
    loss = DistilledHVCMLoss(twice, HVCMLoss())
    module.eval()
    loss(module, batch, generator(0))
    assert torch.equal(module.teacher.head.directions, start)
    assert float(module.centre.mass.sum()) == 0
    module.train()
    for _ in range(3):
        terms = loss(module, batch, generator(0))
    assert {name: term.shape for name, term in terms.items()} == {
        "density": (6,), "groups": (6,), "agreement": (6,)}  # fmt: skip
    assert torch.allclose(module.teacher.head.directions, start + (1 - 0.75**3), atol=1e-6)
    sum(term.sum() for term in terms.values()).backward()
    assert all(p.grad is None for p in module.teacher.parameters())
    assert all(p.grad is not None for p in module.student.parameters())
    # density and groups are means over the two whole views
    z, logits = zip(*[module(view) for view in twice(batch["x"], generator(0))], strict=True)
    centres = module.student.head.centres[batch["label"]]
    expected = [loss.density.terms(z[i], logits[i], centres)["density"] for i in (0, 1)]
    assert torch.allclose(terms["density"], (expected[0] + expected[1]) / 2, atol=1e-7)
    # group weights follow both views: after equal batches their average is that of the shares
    shares = torch.stack([part.double().softmax(1) for part in logits[:2]])[:, [0, 3]].mean((0, 1))
    assert torch.allclose(module.student.head.weights()[0], shares, atol=1e-6)


def test_training_with_views_finds_classes_and_strangers():
    labels = torch.arange(400) % 2
    x = torch.where(labels[:, None] == 0, 2.0, -2.0) * torch.tensor([1.0, 0.0, 1.0, 0.0])
    x = x + 0.3 * randn((400, 4), generator(3))
    options = TrainingOptions(max_steps=100, batch_size=64, learning_rate=1e-2)
    fitted = HVCMScorer(width=16, groups=4, options=options, views=twice).fit(x, labels)
    assert not fitted.model.training
    assert float((fitted.classify(x) == labels).double().mean()) == 1
    far = torch.tensor([[0.0, 3.0, 0.0, 3.0]]) + 0.3 * randn((100, 4), generator(4))
    assert float(fitted.score(far).quantile(0.05)) > float(fitted.score(x).quantile(0.95))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="width: expected a multiple of the 4 groups, found 10"):
        small(width=10)
    with pytest.raises(ValueError, match="rate: expected a share in"):
        small(rate=0.0)
    with pytest.raises(ValueError, match="module: expected an HVCM, found Linear"):
        HVCMLoss()(nn.Linear(2, 2), {})
    with pytest.raises(ValueError, match="momentum: expected a share in"):
        DistilledHVCM(HVCM(nn.Identity(), small()), momentum=1.0)
    with pytest.raises(ValueError, match="module: expected a DistilledHVCM, found HVCM"):
        DistilledHVCMLoss(twice)(HVCM(nn.Identity(), small()), {})
    with pytest.raises(ValueError, match="views: expected at least 2 views of a batch, found 1"):
        DistilledHVCMLoss(lambda x, g: [x])(DistilledHVCM(HVCM(nn.Identity(), small())), {"x": torch.zeros(2, 5)})
