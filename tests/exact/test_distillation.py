"""The parts of distillation by matching: forms, augmentations, distances, pools, and what matching finds."""

import math

import pytest
import torch
import torch.nn.functional as F

from clarkia import curation
from clarkia._math.neighbours import k_nearest
from clarkia.curation.synthetic.augment import shifted
from clarkia.curation.synthetic.forms import assemble, take_apart
from clarkia.curation.synthetic.pools import interpolated
from clarkia.random import generator, rand, randn
from clarkia.spaces import Categorical, Continuous, Mixed


def images(n=8, c=3, side=8, seed=0):
    return rand((n, c, side, side), generator(seed)).float()


# --------------------------------------------------------------------------------------------------- forms


def test_mosaics_are_assembled_and_taken_apart():
    x = images(8, 2, 4)
    mosaic = assemble(x, 2)
    assert mosaic.shape == (2, 2, 8, 8)
    assert torch.equal(mosaic[1, :, :4, 4:], x[5])
    assert torch.equal(mosaic[1, :, 4:, :4], x[6])
    assert torch.equal(take_apart(mosaic, 2), x)
    assert torch.equal(take_apart(assemble(images(9, 1, 4), 3), 3), images(9, 1, 4))


def test_a_mosaic_shows_smaller_images_at_full_size():
    form = curation.Mosaic(factor=2)
    flat = torch.linspace(0, 1, 8)[:, None, None, None].expand(8, 1, 8, 8)
    parameters = form.start(flat)
    assert parameters["x"].shape == (2, 1, 8, 8)
    torch.testing.assert_close(form.view(parameters), flat)
    # a ramp is linear, so averaging and interpolating keep it away from the edges
    ramp = torch.arange(8.0).expand(4, 1, 8, 8)
    torch.testing.assert_close(form.view(form.start(ramp))[..., 1:-1], ramp[..., 1:-1])


SPACE = Mixed(size=Continuous((2,)), kind=Categorical((2,), num_classes=(2, 3)))


def table(n=6):
    kind = torch.stack([torch.arange(n) % 2, torch.arange(n) % 3], 1)
    return {"size": randn((n, 2), generator(0)), "kind": kind}


def test_a_table_is_numbers_and_probabilities():
    form, x = curation.Table(SPACE), table()
    parameters = form.start(form.check(x))
    view, real = form.view(parameters), form.real(x)
    assert view.shape == real.shape == (6, 2 + 2 * 3)
    torch.testing.assert_close(view[:, :2], x["size"])
    odds = math.exp(3.0)
    torch.testing.assert_close(view[0, 2:], torch.tensor([odds / (odds + 1), 1 / (odds + 1), 0.0, odds, 1, 1]).div(
        torch.tensor([1, 1, 1, odds + 2, odds + 2, odds + 2])
    ))  # fmt: skip
    assert torch.equal(real[:, 2:].reshape(6, 2, 3).argmax(2), x["kind"])


def test_categories_are_drawn_from_their_probabilities_at_the_end():
    """20,000 draws of each of two cells, within four standard errors (false alarm 3e-4)."""
    form, n = curation.Table(SPACE), 20_000
    logits = torch.tensor([[0.2, -0.3, 9.0], [0.0, 1.0, -1.0]]).expand(n, 2, 3)
    found = form.finish({"size": torch.zeros(n, 2), "kind": logits}, generator(0))["kind"]
    expected = torch.stack([F.softmax(torch.tensor([0.2, -0.3, -math.inf]), 0), F.softmax(logits[0, 1], 0)])
    share = F.one_hot(found, 3).double().mean(0)
    assert bool(((share - expected).abs() <= 4 * (expected * (1 - expected) / n).sqrt()).all())


# -------------------------------------------------------------------------------------------- augmentations


def test_shifts_bring_in_zeros():
    x = torch.arange(1.0, 5.0).expand(2, 1, 4, 4)
    shift = torch.tensor([1, -2]).reshape(2, 1, 1, 1)
    assert shifted(x, shift, 3)[0, 0, 0].tolist() == [0, 1, 2, 3]
    assert shifted(x, shift, 3)[1, 0, 0].tolist() == [3, 4, 0, 0]
    assert shifted(x.mT, shift, 2)[0, 0, :, 0].tolist() == [0, 1, 2, 3]


def test_augmentation_is_one_draw_for_all_rows_or_one_a_row():
    x = images(1).expand(5, -1, -1, -1)
    augment = curation.Augmentation(flip=True)
    together = augment(x, generator(3))
    assert torch.equal(together, together[:1].expand_as(x))
    assert float((together - x).abs().max()) > 0.05
    apart = augment(x, generator(3), by_row=True)
    assert float((apart - apart[:1]).flatten(1).abs().amax(1)[1:].min()) > 0.01
    still = curation.Augmentation(brightness=0, saturation=0, contrast=0, crop=0, cutout=0)
    assert torch.equal(still(x, generator(0)), x)


def test_gradients_flow_through_every_change():
    x = images().requires_grad_()
    curation.Augmentation(cutout=0.0, crop=0.0)(x, generator(1)).sum().backward()
    assert bool((x.grad != 0).all())
    only = {"brightness": 0.0, "saturation": 0.0, "contrast": 0.0, "crop": 0.0, "cutout": 0.0}
    mask = curation.Augmentation(**{**only, "cutout": 0.5})(torch.ones(400, 1, 8, 8), generator(2), by_row=True)
    hidden = (mask == 0).double().flatten(1).mean(1)
    assert float(hidden.max()) == 16 / 64  # a square of half the side where it lies inside
    assert 0.1 < float(hidden.mean()) < 16 / 64
    grey = curation.Augmentation(**{**only, "saturation": 2.0})(images(), generator(4))
    torch.testing.assert_close(grey.mean(1), images().mean(1))  # colours move about their grey
    flat = curation.Augmentation(**{**only, "contrast": 1.0})(images(), generator(5))
    torch.testing.assert_close(flat.mean((1, 2, 3)), images().mean((1, 2, 3)))


# ------------------------------------------------------------------------------------------------ distances


def test_the_criterion_is_the_mean_modulus_of_the_difference():
    real = [randn((30, 3), generator(0), dtype=torch.float64), randn((20, 3), generator(1), dtype=torch.float64)]
    made = [randn((5, 3), generator(2), dtype=torch.float64), randn((6, 3), generator(3), dtype=torch.float64)]
    t = randn((50, 3), generator(4), dtype=torch.float64)

    def phi(x):
        return torch.exp(1j * (x @ t.T)).mean(0)

    modulus = torch.stack([(phi(a) - phi(b)).abs().mean() for a, b in zip(real, made, strict=True)]).mean()
    found = curation.CharacteristicGap().at(t, real, made)
    assert float(found) == pytest.approx(float(modulus) / 2**0.5, rel=1e-12)
    squared = torch.stack([(phi(a) - phi(b)).abs().square().mean() for a, b in zip(real, made, strict=True)]).mean()
    assert float(curation.CharacteristicGap(power=2).at(t, real, made)) == pytest.approx(float(squared), rel=1e-12)
    means = torch.stack([(a.mean(0) - b.mean(0)).square().sum() for a, b in zip(real, made, strict=True)]).mean()
    assert float(curation.MeanGap().begin()(real, made, generator(0))) == pytest.approx(float(means), rel=1e-12)


def test_adversarial_frequencies_find_a_difference_that_random_ones_average_away():
    """The sets differ in one of eight columns; the distance grows as the network learns."""
    real, made = randn((2, 400, 8), generator(0), dtype=torch.float64)
    made[:, 3] *= 0.1
    gap, source = curation.AdversarialGap(count=64, learning_rate=0.01).begin(), generator(1)
    values = [float(gap([real], [made], source)) for _ in range(150)]
    assert sum(values[-10:]) > 1.5 * sum(values[:10])


# ---------------------------------------------------------------------------------------------------- pools


def test_pools_mix_parameters_and_keep_trained_buffers():
    def make(seed):
        torch.manual_seed(seed)
        return curation.convnet((1, 8, 8), 3, width=4, depth=2, norm="batch", pooled=True)

    initial, trained = make(0), make(1)
    trained(images(16, 1))
    mixed = interpolated(initial, initial.state_dict(), trained.state_dict(), 0.25)
    weights = zip(mixed.parameters(), initial.parameters(), trained.parameters(), strict=True)
    for own, first, last in weights:
        torch.testing.assert_close(own, 0.25 * first + 0.75 * last)
        assert not own.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(mixed.buffers(), trained.buffers(), strict=True))
    pool = curation.ModelPool(initial, ((initial.state_dict(), trained.state_dict()),))
    drawn = pool.draw(generator(0))
    with torch.no_grad():
        torch.testing.assert_close(drawn.logits(images(4, 1)), trained.eval()(images(4, 1)))
        assert float((drawn.features(images(4, 1)) - trained.features(images(4, 1))).abs().max()) > 1e-3


def test_each_of_several_layers_adds_its_distance():
    """Mean matching by hand: the loss of two layers is the sum of the losses of each, and so is the step."""
    x, labels = images(12, 1).double(), torch.arange(12) % 2
    functions = {"square": lambda x: x.flatten(1).square(), "sum": lambda x: x.sum(3)}
    functions["both"] = lambda x: (functions["square"](x), functions["sum"](x))
    losses = {}
    for name, function in functions.items():
        method = curation.Matching(
            pool=curation.FixedFeatures(function), criterion=curation.MeanGap(), weight=3.0,
            descent=curation.Descent(steps=1, learning_rate=0.1),
        )  # fmt: skip
        losses[name] = curation.distill(x, labels, per_class=2, method=method, generator=generator(1)).losses[0]
    assert losses["both"] == pytest.approx(losses["square"] + losses["sum"], rel=1e-9)
    assert min(losses.values()) > 0.01


def test_a_pool_gives_the_outputs_of_its_layers():
    torch.manual_seed(2)
    model = curation.convnet((1, 8, 8), 3, width=4, depth=2, norm="none")
    pool = curation.ModelPool(model, ((model.state_dict(), model.state_dict()),), layers=("maps.3", "maps.7"))
    x = images(5, 1).requires_grad_()
    first, last = pool.draw(generator(0)).features(x)
    half = model.maps[:4](x)
    torch.testing.assert_close(first, half.flatten(1))
    torch.testing.assert_close(last, model.maps[4:](half).flatten(1))
    (slope,) = torch.autograd.grad(first.sum() + last.sum(), x)
    assert bool((slope != 0).any())
    with pytest.raises(ValueError, match=r"^layers: expected distinct layer names"):
        curation.ModelPool(model, pool.pairs, layers=("maps.9",))


def test_random_features_are_new_at_every_draw_and_the_same_within_one():
    pool, source, x = curation.RandomFeatures(width=16), generator(0), images().flatten(1)
    first, second = pool.draw(source).features, pool.draw(source).features
    assert torch.equal(first(x), first(x))
    assert float((first(x) - second(x)).abs().max()) > 0.1


# --------------------------------------------------------------------------------------- what matching finds


def disc_and_ring(n, noise):
    """Two classes of one mean: a disc of scale 0.4 and a ring of radius 2."""
    angle, radius = 2 * math.pi * rand((n,), noise), 2 + 0.15 * randn((n,), noise)
    ring = radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    return torch.cat([0.4 * randn((n, 2), noise), ring]).float(), torch.arange(2).repeat_interleave(n)


def test_classes_of_one_mean_are_told_apart_by_characteristic_functions_only():
    noise = generator(0)
    (x, labels), (test, truth) = disc_and_ring(1000, noise), disc_and_ring(1000, noise)
    start, accuracy = 0.5 * randn((20, 2), noise), {}
    for name, criterion in (("mean", curation.MeanGap()), ("all", curation.CharacteristicGap(count=256))):
        method = curation.Matching(
            pool=curation.FixedFeatures(), unit=False, criterion=criterion, start=start,
            descent=curation.Descent(steps=500, learning_rate=0.03), weight=1.0,
        )  # fmt: skip
        found = curation.distill(x, labels, per_class=10, method=method, generator=generator(1))
        accuracy[name] = float((found.labels[k_nearest(test, found.x, 1)[1][:, 0]] == truth).double().mean())
    assert accuracy["mean"] < 0.85
    assert accuracy["all"] > 0.99
    assert 1.95 < float(found.x[10:].norm(dim=1).mean()) < 2.05
