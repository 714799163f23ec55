"""Residuals, the shell, order statistics and the flow of ResAD++ against exact values."""

import math

import pytest
import torch

from clarkia.measures.outliers import (
    CouplingFlow,
    GroupedGaussians,
    HypersphereConstraint,
    NearestNeighbours,
    ResidualDetector,
    ResidualFeatures,
    ResidualFlow,
    Shell,
    VectorQuantiser,
    anomaly_maps,
    closeness,
    contraction_loss,
    image_scores,
    match_order_statistics,
    preservation_loss,
    radius,
    sinusoidal_positions,
)
from clarkia.measures.outliers.hypersphere import barrier
from clarkia.measures.outliers.maps import pool_mask, smooth
from clarkia.measures.outliers.residual_flow import flow_terms
from clarkia.measures.outliers.residuals import class_whitening, draw_bank
from clarkia.random import generator, randn
from clarkia.training import TrainingOptions

QUICK = TrainingOptions(max_steps=60, batch_size=64, learning_rate=3e-3)


def rows(n, d, seed):
    return randn((n, d), generator(seed), dtype=torch.float64)


# ------------------------------------------------------------------------------------------------ residuals


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_row_of_the_bank_has_no_residual(metric):
    bank = rows(50, 6, 0)
    assert float(ResidualFeatures(bank, metric)(bank).abs().max()) == 0
    # also where angles do not tell rows apart: multiples of one row, and the row of zeros
    bank = torch.tensor([[1.0, 1.0], [2.0, 2.0], [0.0, 0.0], [5.0, 5.0]])
    assert float(ResidualFeatures(bank, metric)(bank).abs().max()) == 0


def test_residuals_by_hand():
    """(3, 1) has the angle of (4, 1.5) nearly and the place of (2, 2) more nearly than that of (9, 3)."""
    bank, x = torch.tensor([[9.0, 3.0], [2.0, 2.0]]), torch.tensor([[3.0, 1.0]])
    assert ResidualFeatures(bank)(x).tolist() == [[-6.0, -2.0]]
    assert ResidualFeatures(bank, "euclidean")(x).tolist() == [[1.0, -1.0]]
    assert ResidualFeatures(bank, "euclidean", "squared")(x).tolist() == [[1.0, 1.0]]


def test_a_common_shift_is_invisible_to_euclidean_matching_only():
    bank, x, shift = rows(20, 4, 1), rows(200, 4, 2), torch.tensor([5.0, -3.0, 2.0, 8.0], dtype=torch.float64)
    moved = ResidualFeatures(bank + shift, "euclidean")(x + shift)
    assert torch.allclose(moved, ResidualFeatures(bank, "euclidean")(x), atol=1e-12)
    turned = ResidualFeatures(bank + shift)(x + shift) - ResidualFeatures(bank)(x)
    assert float((turned.abs().max(1).values > 1e-6).double().mean()) > 0.5


def test_matches_are_those_of_all_pairs():
    bank, x = rows(30, 5, 3), rows(40, 5, 4)
    cosine = torch.nn.functional.cosine_similarity(x[:, None], bank, dim=2)
    assert torch.equal(ResidualFeatures(bank)(x), x - bank[cosine.argmax(1)])
    items, banked = torch.arange(40) % 5, torch.arange(30) % 7
    others = cosine.masked_fill(items[:, None] == banked, -2)
    assert torch.equal(ResidualFeatures(bank)(x, own=(items, banked)), x - bank[others.argmax(1)])


def test_banks_are_drawn_among_usual_rows_of_each_class():
    labels, usual = torch.arange(60) % 3, torch.arange(60) < 45
    seen = torch.stack([draw_bank(labels, usual, 4, generator=generator(s)) for s in range(200)])
    assert bool((labels[seen] == torch.arange(3)[:, None]).all())
    assert bool(usual[seen].all())
    assert all(len(set(bank.tolist())) == 4 for draw in seen for bank in draw)
    # each of 15 rows of a class is in 4/15 of the draws: 4.5 standard errors for 45 counts, false alarm 3e-4
    counts = torch.bincount(seen.flatten(), minlength=45)
    p = 4 / 15
    assert float((counts - 200 * p).abs().max()) < 4.5 * math.sqrt(200 * p * (1 - p))
    with pytest.raises(ValueError, match="shots: expected fewer than 15"):
        draw_bank(labels, usual, 15)


def test_two_rows_say_that_one_direction_varies_and_half_of_the_rest():
    """Of (1, 0) and (-1, 0), S = diag(2, 0); half of it and half of its mean variance is diag(1.5, 0.5)."""
    common = class_whitening(torch.tensor([[4.0, 7.0], [2.0, 7.0]], dtype=torch.float64))
    assert common.mean.tolist() == [3, 7]
    expected = [[1.5**-0.5, 0.0], [0.0, 0.5**-0.5]]
    assert torch.allclose(common.matrix, torch.tensor(expected, dtype=torch.float64), atol=1e-12)
    with pytest.raises(ValueError, match="reference: expected usual rows that differ"):
        class_whitening(torch.ones(4, 2, dtype=torch.float64))


def test_whitening_takes_place_and_scale_of_a_class_away():
    """Also from residuals by cosine; a turned class has residuals turned alike."""
    detector = ResidualDetector(shots=8, kind="signed")
    bank, x, shift = 2 * rows(8, 5, 12), 3 * rows(60, 5, 13), 9 * rows(1, 5, 14)
    e = detector.residuals(x, bank)
    assert torch.allclose(detector.residuals(7 * x + shift, 7 * bank + shift), e, atol=1e-10)
    turn = torch.linalg.qr(rows(5, 5, 15)).Q
    assert torch.allclose(detector.residuals(x @ turn, bank @ turn), e @ turn, atol=1e-10)


# ------------------------------------------------------------------------------------------------ the shell


def test_radius_and_barrier():
    assert float(radius(torch.tensor([[0.96, 0.0]]))) == pytest.approx(0.4, abs=1e-7)
    zero = torch.zeros(1, 3, requires_grad=True)
    assert torch.autograd.grad(radius(zero).sum(), zero)[0].tolist() == [[0.0, 0.0, 0.0]]
    at_bound = barrier(torch.zeros((), dtype=torch.float64))
    assert float(at_bound) == pytest.approx(math.log(2), abs=1e-15)
    far = torch.tensor(0.9 - 0.4, dtype=torch.float64, requires_grad=True)
    assert float(barrier(far).detach()) == pytest.approx(1.60598, abs=5e-6)
    # the weight is held fast: the slope is exp(1/2) times the logistic function
    (slope,) = torch.autograd.grad(barrier(far), far)
    assert float(slope) == pytest.approx(math.exp(0.5) / (1 + math.exp(-0.5)))


def test_the_shell_of_a_batch():
    radii = torch.tensor([0.1, 0.3, 0.9])
    none, far, near = torch.tensor([0, 0, 0]).bool(), torch.tensor([0, 0, 1]).bool(), torch.tensor([0, 1, 1]).bool()
    assert (Shell.of(radii, none).outer, Shell.of(radii, far).outer) == (0.4, 0.4)
    assert Shell.of(radii, near).outer == pytest.approx(0.27)
    assert Shell.of(radii, near).inner == pytest.approx(0.99 * 0.27)


def test_contraction_adds_the_means_of_both_sides():
    shell = Shell(0.396, 0.4)
    inside = torch.tensor([0.396, 0.398, 0.4], dtype=torch.float64)
    assert float(contraction_loss(inside, shell)) == 0
    one = contraction_loss(torch.tensor([0.9, 0.398], dtype=torch.float64), shell)
    assert float(one) == pytest.approx(1.60598, abs=5e-6)  # the mean is over the row outside alone
    two = contraction_loss(torch.tensor([0.9, 0.9, 0.196], dtype=torch.float64), shell)
    within = math.exp(0.2) * math.log1p(math.exp(0.2))
    assert float(two) == pytest.approx(1.605984 + within, abs=1e-5)


def test_unusual_rows_that_stay_far_cost_nothing():
    shell, e = Shell(0.396, 0.4), 5 * rows(6, 3, 5)
    assert float(preservation_loss(e, e, shell)) == pytest.approx(0, abs=1e-12)
    near = torch.tensor([[0.3, 0.4]], dtype=torch.float64)  # radius sqrt(1.5) - 1, bound 0.5
    gap = 0.5 - (math.sqrt(1.5) - 1)
    expected = math.exp(gap) * math.log1p(math.exp(gap))
    assert float(preservation_loss(near, near, shell)) == pytest.approx(expected, abs=1e-12)
    turned = preservation_loss(-e, e, shell)
    assert float(turned) == pytest.approx(float(4 * e.square().mean()) + 2, rel=1e-12)
    assert float(preservation_loss(e[:0], e[:0], shell)) == 0


def test_the_map_keeps_its_shape():
    torch.manual_seed(0)
    assert HypersphereConstraint(5)(torch.randn(9, 5)).shape == (9, 5)
    assert HypersphereConstraint(5, spatial=True)(torch.randn(2, 5, 4, 3)).shape == (2, 5, 4, 3)


# ------------------------------------------------------------------------------------------------ matching


def test_order_statistics():
    x, reference = rows(2 * 30, 3, 6).reshape(2, 30, 3), 2 + rows(2 * 30, 3, 7).reshape(2, 30, 3)
    assert torch.equal(match_order_statistics(x, reference, 1.0), x)
    replaced = match_order_statistics(x, reference, 0.0)
    assert torch.equal(replaced.sort(1).values, reference.sort(1).values)
    assert torch.equal(replaced.argsort(1), x.argsort(1))
    between = match_order_statistics(x, reference)
    expected = 0.4 * x.sort(1).values + 0.6 * reference.sort(1).values
    assert torch.equal(between.argsort(1), x.argsort(1))
    assert torch.allclose(between.sort(1).values, expected, atol=1e-14)
    with pytest.raises(ValueError, match="keep: expected a share"):
        match_order_statistics(x, reference, 1.5)
    with pytest.raises(ValueError, match="reference: expected the shape"):
        match_order_statistics(x, reference[:, 1:])


def test_the_quantiser_on_two_codes():
    quantiser = VectorQuantiser(torch.tensor([[0.0, 0.0], [4.0, 0.0]]))
    x = torch.tensor([[1.0, 0.0], [3.0, 2.0]], requires_grad=True)
    assert quantiser(x).tolist() == [[0.0, 0.0], [4.0, 0.0]]
    assert torch.autograd.grad(quantiser(x).sum(), x)[0].tolist() == [[1.0, 1.0], [1.0, 1.0]]  # straight through
    loss = quantiser.loss(x)
    assert loss.tolist() == pytest.approx([1.25 * 1 / 2, 1.25 * 5 / 2])
    to_x, to_codes = torch.autograd.grad(loss.sum(), (x, quantiser.codes))
    assert to_codes.tolist() == [[-1.0, 0.0], [1.0, -2.0]]
    assert to_x.tolist() == [[0.25, 0.0], [-0.25, 0.5]]  # a quarter: the rows commit
    codes = VectorQuantiser.codes_of(torch.tensor([[1.0], [1.0], [2.0]]), 8, generator=generator(0))
    assert sorted(codes.flatten().tolist()) == [1.0, 2.0]


# ------------------------------------------------------------------------------------------------ the flow


def shaken(width, condition=0, **options):
    """A flow with random weights everywhere, in float64."""
    torch.manual_seed(1)
    flow = CouplingFlow(width, condition=condition, **options).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return flow


@pytest.mark.parametrize("width", [2, 5, 16])
def test_the_untrained_flow_is_the_standard_normal(width):
    x = rows(20, width, 8)
    flow = CouplingFlow(width).double()
    normal = -0.5 * x.square().sum(1) - 0.5 * width * math.log(2 * math.pi)
    assert torch.allclose(flow.log_prob(x), normal, atol=1e-12)
    usual, other = flow.log_probs(x)
    assert torch.allclose(usual, normal / width, atol=1e-12)
    z = flow(x)[0]
    expected = -0.5 * (z - 1).square().sum(1) - 0.5 * width * math.log(2 * math.pi)
    assert torch.allclose(other, expected / width, atol=1e-12)
    assert torch.allclose(flow.log_prob(x, mean=1.0), expected, atol=1e-12)


@pytest.mark.parametrize(("width", "condition"), [(2, 0), (5, 3)])
def test_the_flow_inverts_and_knows_its_determinant(width, condition):
    flow = shaken(width, condition, blocks=4)
    x, c = rows(6, width, 9), rows(6, condition, 10) if condition else None
    z, log_det = flow(x, c)
    assert torch.allclose(flow.inverse(z, c), x, atol=1e-9)
    for row in range(6):
        one = None if c is None else c[row : row + 1]
        jacobian = torch.autograd.functional.jacobian(lambda y, one=one: flow(y[None], one)[0][0], x[row])
        assert float(torch.linalg.slogdet(jacobian)[1]) == pytest.approx(float(log_det[row].detach()), abs=1e-9)


def test_the_flow_integrates_to_one():
    """On a grid of the plane, step 0.05 to +-12."""
    flow = shaken(2, blocks=3)
    axis = torch.arange(-12, 12, 0.05, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        assert float(flow.log_prob(grid).exp().sum() * 0.05**2) == pytest.approx(1, abs=2e-3)


def test_scales_stay_within_the_clamp():
    flow = CouplingFlow(2, blocks=1).double()
    with torch.no_grad():
        flow.networks[0][2].bias[0] = 1e6
    assert float(flow(rows(1, 2, 11))[1].detach()) == pytest.approx(1.9, abs=1e-4)


def test_positions_are_told_apart():
    codes = sinusoidal_positions(7, 9)
    assert codes.shape == (63, 256)
    assert float(torch.cdist(codes, codes).fill_diagonal_(1).min()) > 0.5
    assert torch.equal(codes[:9, :128], codes[:1, :128].expand(9, -1))  # one row of the map
    with pytest.raises(ValueError, match="dimensions: expected a positive multiple of 4"):
        sinusoidal_positions(2, 2, 6)


def test_the_terms_of_the_flow():
    """One usual row at (-1, -3) nats, one unusual at (-2, -1); boundary -0.5."""
    usual, other = torch.tensor([-1.0, -2.0]), torch.tensor([-3.0, -1.0])
    marks = torch.tensor([False, True])
    terms = flow_terms(usual, other, marks, -0.5, both=True)
    softplus = lambda x: math.log1p(math.exp(x))  # noqa: E731
    assert terms["likelihood"].item() == pytest.approx(softplus(1) + softplus(1))
    p, q = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-1))
    assert terms["focal"].item() == pytest.approx((-((1 - p) ** 2) * math.log(p) - (1 - q) ** 2 * math.log(q)) / 2)
    # the usual row is 0.5 below the boundary; the unusual one 1.4 below its own, -0.6: nothing to push
    assert terms["boundary"].item() == pytest.approx(softplus(0.5))
    first = flow_terms(usual, other, marks, -0.5, both=False)
    assert [first[name].item() for name in ("likelihood", "focal", "boundary")] == pytest.approx([softplus(1), 0, 0])
    pushed = flow_terms(usual, other, marks, -2.5, both=True)["boundary"]
    assert pushed.item() == pytest.approx(softplus(-2 + 2.6))  # the usual row is above, the unusual one too


# ------------------------------------------------------------------------------------------------ scores


def test_maps_of_two_levels():
    """Constant levels of 1 x 1 and 2 x 2: S1 = 2 - (e^-1 + e^-2), S2 = mean of .2 and .6."""
    levels = [torch.full((1, 1, 1), -2.0), torch.full((1, 2, 2), -5.0)]
    close = closeness(levels, [-1.0, -3.0], (4, 4))
    assert close.flatten().tolist() == pytest.approx([math.exp(-1) + math.exp(-2)] * 16)
    found = anomaly_maps(close, [torch.full((1, 1, 1), 0.2), torch.full((1, 2, 2), 0.6)], 2.0)
    expected = 0.5 * (2 - math.exp(-1) - math.exp(-2) + 0.4)
    assert found.flatten().tolist() == pytest.approx([expected] * 16)
    peaks = torch.zeros(1, 3, 3, dtype=torch.float64)
    peaks[0, 1, 1], peaks[0, 0, 0] = 4, 2
    assert (image_scores(peaks).item(), image_scores(peaks, 2).item()) == (4, 3)
    assert float(smooth(peaks, 4.0).sum()) == pytest.approx(6)


def test_a_marked_pixel_marks_its_cell():
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, 0, 3] = True
    assert pool_mask(mask, (2, 2)).tolist() == [[[False, True], [False, False]]]


def product_classes(n, classes, seed):
    """Classes at random places, each with a variation of its own; a third of the rows are displaced."""
    labels = torch.arange(n) % classes
    centres = 4 * rows(classes, 6, seed)
    unusual = torch.arange(n) // classes % 3 == 0
    x = centres[labels] + 0.5 * rows(n, 6, seed + 1)
    x[unusual] += 3 * torch.nn.functional.normalize(rows(int(unusual.sum()), 6, seed + 2), dim=1)
    return x, labels, unusual


def test_the_detector_of_rows():
    x, labels, unusual = product_classes(360, 6, 20)
    detector = ResidualDetector(ResidualFlow(blocks=2, options=QUICK), shots=8, rounds=2)
    model = detector.fit(x, labels, unusual=unusual, generator=generator(0))
    new, one, marks = product_classes(300, 1, 30)
    reference = new[~marks & (one == 0)][:8]
    fitted = model.reference(reference)
    scores = fitted.score(new)
    assert torch.allclose(fitted.score(new[5:9]), scores[5:9], atol=1e-6)
    assert torch.equal(model.score(new, reference=reference), scores)
    # the largest density of the reference, each row matched with the others, is the frozen constant
    white = class_whitening(reference).apply(reference)
    left = ResidualFeatures(white, kind="squared")(white, own=(torch.arange(8), torch.arange(8)))
    assert fitted.densities[0].maximum == pytest.approx(float(fitted.densities[0].log_probs(left)[0].max()), abs=1e-6)


def test_any_scorer_is_a_density_of_residuals():
    x, labels, unusual = product_classes(360, 6, 20)
    detector = ResidualDetector(GroupedGaussians(), shots=8, rounds=2)
    model = detector.fit(x, labels, unusual=unusual, generator=generator(0))
    new, _, marks = product_classes(300, 1, 30)
    bank = new[~marks][:8]
    common = class_whitening(bank)
    left = ResidualFeatures(common.apply(bank), kind="squared")(common.apply(new))
    assert torch.equal(model.score(new, reference=bank), model.densities[0].score(left))


def test_nothing_is_trained_on_rows_of_its_own_bank():
    """Of 6 usual rows and a bank of 4, two residuals are left in each of 3 rounds; the unusual row is none of them."""
    seen = []

    class Recorder:
        def fit(self, features, labels=None):
            seen.append(features)
            return NearestNeighbours(1).fit(features)

    x, unusual = rows(7, 3, 40), torch.arange(7) == 6
    detector = ResidualDetector(Recorder(), shots=4, rounds=3, whiten=False)
    detector.fit(x, unusual=unusual, generator=generator(5))
    assert seen[0].shape == (6, 3)
    assert float(seen[0].sum(1).min()) > 0


def test_the_detector_of_maps():
    """Levels of 4 x 4 and 2 x 2: scores and maps come out, and an image's do not depend on the others."""
    torch.manual_seed(2)
    levels = [torch.randn(24, 4, 4, 4), torch.randn(24, 6, 2, 2)]
    masks = torch.zeros(24, 8, 8, dtype=torch.bool)
    masks[::4, :3, :3] = True
    levels[0][::4, :, :2, :2] += 3
    quick = TrainingOptions(max_steps=15, batch_size=8, learning_rate=1e-3)
    detector = ResidualDetector(ResidualFlow(blocks=2, codes=16, options=quick), shots=3, rounds=1, sigma=1.0)
    model = detector.fit(levels, torch.arange(24) % 2, unusual=masks, generator=generator(1))
    fitted = model.reference([level[1:4] for level in levels])
    maps = fitted.maps(levels, (8, 8))
    assert maps.shape == (24, 8, 8)
    assert fitted.score(levels).shape == (24,)
    assert torch.allclose(fitted.maps([level[4:6] for level in levels], (8, 8)), maps[4:6], atol=1e-5)
    plain = ResidualDetector(GroupedGaussians(), shots=3, rounds=1).fit(levels, unusual=masks, generator=generator(2))
    assert plain.reference([level[1:4] for level in levels]).maps(levels).shape == (24, 4, 4)
