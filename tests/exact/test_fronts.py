"""Fronts, the volumes they dominate and the knob sweeps they come from, against enumeration and an exact law."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from clarkia.guidance import classifier_free
from clarkia.measures import fronts
from clarkia.oracles import GaussianMixture
from clarkia.processes import RectifiedFlow
from clarkia.random import generator, rand, randn
from clarkia.samplers import DDIM, sample


def by_inclusion_exclusion(points):
    """Volume of the union of the boxes from 0 to the points."""
    total = 0.0
    for size in range(1, len(points) + 1):
        for chosen in itertools.combinations(points.tolist(), size):
            total -= (-1) ** size * math.prod(min(axis) for axis in zip(*chosen, strict=True))
    return total


def dominated(points, index, tolerance):
    return any(
        all(a >= b for a, b in zip(other, points[index], strict=True))
        and any(a > b + tolerance for a, b in zip(other, points[index], strict=True))
        for other in points
    )


# ------------------------------------------------------------------------------------------------------- the front


@pytest.mark.parametrize("d", [1, 2, 3, 5])
@pytest.mark.parametrize("tolerance", [0.0, 1.0])
def test_the_front_is_what_no_point_dominates(d, tolerance):
    """Among whole numbers there are ties and equal points."""
    for seed in range(20):
        points = torch.randint(5, (30, d), generator=generator(seed)).double()
        expected = [not dominated(points.tolist(), i, tolerance) for i in range(len(points))]
        assert fronts.pareto_mask(points, tolerance=tolerance).tolist() == expected


def test_the_front_of_four_points():
    points = torch.tensor([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0], [1.5, 1.5]])
    assert fronts.pareto_mask(points).tolist() == [True, True, True, False]
    assert fronts.pareto_mask(points, tolerance=0.5).all()


def test_a_large_front_goes_through_in_blocks():
    """Points on a sphere do not dominate one another; shrunk ones are dominated."""
    directions = randn((3000, 3), generator(0), dtype=torch.float64).abs()
    sphere = directions / directions.norm(dim=1, keepdim=True)
    mask = fronts.pareto_mask(torch.cat([sphere, 0.9 * sphere]))
    assert mask.tolist() == [True] * 3000 + [False] * 3000


def test_the_probability_of_being_on_the_front():
    """One axis: the point with the larger draw. ``P(a > b) = Phi(gap / sqrt(2) s)``, four standard errors (6e-5)."""
    points, error = torch.tensor([[1.0], [0.0]]), torch.full((2, 1), 0.8)
    draws = fronts.normal_replicates(points, error, num_draws=20_000, generator=generator(1))
    share = fronts.front_probability(draws)
    expected = stats.norm.cdf(1 / (math.sqrt(2) * 0.8))
    assert float(share.sum()) == pytest.approx(1)
    assert float(share[0]) == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 20_000))


# ------------------------------------------------------------------------------------------------------ the volume


def test_reference_volumes():
    four = torch.tensor([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0], [1.5, 1.5]])
    assert float(fronts.hypervolume(four, [0.0, 0.0])) == 6
    turned = torch.tensor([[1.0, 2.0, 3.0], [2.0, 3.0, 1.0], [3.0, 1.0, 2.0]])
    assert float(fronts.hypervolume(turned, torch.zeros(3))) == 13
    angle = torch.linspace(0, math.pi / 2, 2001, dtype=torch.float64)
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    found = fronts.hypervolume(circle, [0.0, 0.0])
    assert found.method == "staircase"
    assert round(found.value, 4) == 0.7852  # below pi / 4 by half of every step's corner, pi / 16000
    assert found.value == pytest.approx(math.pi / 4 - math.pi / 16000, abs=1e-7)


@pytest.mark.parametrize("d", [2, 3, 4, 5])
def test_all_routes_agree(d):
    for seed in range(5):
        points = rand((8, d), generator(seed, d))
        exact = by_inclusion_exclusion(points)
        methods = [None, "slicing", *(["staircase"] if d == 2 else ["sweep"] if d == 3 else [])]
        for method in methods:
            assert float(fronts.hypervolume(points, [0.0] * d, method=method)) == pytest.approx(exact, abs=1e-12)
        shift = torch.full((d,), 0.2, dtype=torch.float64)
        assert float(fronts.hypervolume(points + 3, 3 - shift)) == pytest.approx(
            by_inclusion_exclusion(points + shift), abs=1e-12
        )


@pytest.mark.parametrize("d", [2, 3, 4])
def test_what_the_volume_ignores_and_what_it_rewards(d):
    points, origin = rand((12, d), generator(2, d)), [0.0] * d
    value = float(fronts.hypervolume(points, origin))
    assert float(fronts.hypervolume(points.flip(0), origin)) == pytest.approx(value, abs=1e-14)
    inside = torch.cat([points, 0.9 * points, points])
    assert float(fronts.hypervolume(inside, origin)) == pytest.approx(value, abs=1e-14)
    below = torch.cat([points, points * torch.tensor([-1.0] + [9.0] * (d - 1))])
    assert float(fronts.hypervolume(below, origin)) == pytest.approx(value, abs=1e-14)
    on_front = int(fronts.pareto_mask(points).nonzero()[0])
    better = points.clone()
    better[on_front, 0] += 0.1
    assert float(fronts.hypervolume(better, origin)) > value
    assert float(fronts.hypervolume(points, [2.0] * d)) == 0


def test_drawn_volumes_and_their_errors():
    """Over 200 repetitions the scores are standard normal: mean 0 within 4.5 / sqrt(200) (7e-6), spread within a
    quarter of 1 (4.9 of its errors)."""
    points = rand((8, 5), generator(3))
    exact = by_inclusion_exclusion(points)
    found = [
        fronts.hypervolume(points, [0.0] * 5, method="monte-carlo", num_draws=500, generator=generator(4, i))
        for i in range(200)
    ]
    scores = np.array([(one.value - exact) / one.standard_error for one in found])
    assert abs(scores.mean()) < 4.5 / math.sqrt(200)
    assert 0.75 < scores.std() < 1.25
    assert found[0].standard_error < 0.03 * exact


def test_large_fronts_on_many_axes_are_drawn():
    directions = randn((60, 4), generator(5), dtype=torch.float64).abs()
    sphere = directions / directions.norm(dim=1, keepdim=True)
    drawn = fronts.hypervolume(sphere, [0.0] * 4, generator=generator(6), num_draws=20_000)
    exact = fronts.hypervolume(sphere, [0.0] * 4, method="slicing")
    assert (drawn.method, exact.method) == ("monte-carlo", "slicing")
    assert abs(drawn.value - exact.value) < 4 * drawn.standard_error  # false alarm 6e-5


def test_intervals_of_a_volume():
    """One point (a, b) with normal errors: the volume is the product of two normal numbers."""
    points, error = torch.tensor([[2.0, 3.0]]), torch.tensor([[0.1, 0.0]])
    draws = fronts.normal_replicates(points, error, num_draws=4000, generator=generator(7))
    interval = fronts.hypervolume_interval(draws, [0.0, 0.0])
    assert interval.low == pytest.approx(6 - 1.96 * 0.3, abs=0.05)
    assert interval.high == pytest.approx(6 + 1.96 * 0.3, abs=0.05)


# -------------------------------------------------------------------------------------------------- the indicators


def test_indicators_by_hand():
    ours, theirs = torch.tensor([[1.0, 3.0], [3.0, 1.0]]), torch.tensor([[2.0, 2.5], [3.5, 0.0]])
    assert fronts.epsilon_indicator(ours, theirs) == 1  # (2, 2.5) needs (1, 3) to gain 1 on the first axis
    assert fronts.epsilon_indicator(theirs, ours) == 1  # (3, 1) needs (3.5, 0) to gain 1 on the second
    assert fronts.epsilon_indicator(ours + 1, ours) == -1
    goals = torch.tensor([[0.5, 2.0], [2.5, 0.5], [3.2, 0.0], [9.0, 9.0]])
    assert fronts.attainment([ours, theirs], goals).tolist() == [1, 0.5, 0.5, 0]


def test_the_knee_is_the_corner():
    corner = torch.tensor([[0.0, 10.0], [9.0, 8.0], [8.0, 8.5], [7.0, 7.0], [9.5, 4.0], [10.0, 0.0]])
    assert fronts.knee(corner) == 1
    assert fronts.knee(corner * torch.tensor([100.0, 0.01]) - 7) == 1
    three = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.5, 0.5], [0.6, 0.3, 0.2]])
    assert fronts.knee(three) == 3
    assert fronts.knee(torch.tensor([[1.0, 1.0], [0.0, 0.5]])) == 0
    straight = torch.tensor([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]])
    assert fronts.knee(straight) == 1


def test_groups_have_fronts_of_their_own():
    groups = {"north": torch.tensor([[2.0, 2.0], [1.0, 1.0]]), "south": torch.tensor([[1.0, 1.0], [1.0, 3.0]])}
    found = fronts.group_fronts(groups, [0.0, 0.0])
    assert found.groups == ("north", "south")
    assert found.masks.tolist() == [[True, False], [False, True]]
    assert found.hypervolumes.tolist() == [4, 3]
    assert found.gap == 1


def test_agreement_within_a_condition():
    """Orthogonal directions share nothing; the mean is over different samples."""
    axes = torch.eye(3, dtype=torch.float64) * torch.tensor([1.0, 2.0, 3.0])
    assert fronts.conditional_diversity(axes) == pytest.approx(1)
    assert fronts.conditional_diversity(torch.ones(4, 2)) == pytest.approx(0, abs=1e-15)
    assert fronts.conditional_diversity(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])) == pytest.approx(2 / 3)
    assert fronts.conditional_realism(5 * axes, axes[:2]) == pytest.approx(2 / 3)


# --------------------------------------------------------------------------------------------------------- the sweep

FLOW = RectifiedFlow()
CENTRES = torch.tensor([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]], dtype=torch.float64)
CLASSES = [GaussianMixture([1.0], centre[None], [1.0]) for centre in CENTRES]
LAW = GaussianMixture([1 / 3] * 3, CENTRES, [1.0] * 3)


def class_posterior(samples, label):
    """Exact probability of the class that was asked for."""
    logits = torch.stack([law.log_prob(samples) for law in CLASSES], 1)
    return logits.softmax(1)[:, label].mean()


def class_denoiser(shrink=1.0):
    """The exact denoiser of a class, or one that is pulled to the mean as an under-trained network is."""
    one, every = [law.denoiser(FLOW) for law in CLASSES], LAW.denoiser(FLOW)

    def denoise(x_t, t, condition=None):
        return shrink * (every(x_t, t) if condition is None else one[condition](x_t, t))

    return denoise


def guided_sampler(shrink=1.0):
    def make(setting):
        denoiser = classifier_free(class_denoiser(shrink), setting["scale"])

        def draw(label, n, noise):
            return sample(
                lambda x_t, t: denoiser(x_t, t, label),
                FLOW,
                num_samples=n,
                shape=(2,),
                solver=DDIM(),
                num_steps=20,
                generator=noise,
                dtype=torch.float64,
            )

        return draw

    return make


AXES = {
    "consistency": fronts.PerCondition(class_posterior),
    "diversity": fronts.PerCondition(lambda samples, label: torch.logdet(samples.T.cov())),
}


def test_guidance_trades_diversity_for_consistency():
    """Of exact denoisers: consistency rises and diversity falls with every step of the weight."""
    swept = fronts.sweep(guided_sampler(), {"scale": range(9)}, [0, 1, 2], AXES, per_condition=200, seed=1)
    consistency, diversity = swept.values.T
    assert bool((consistency.diff() > 0).all())
    assert bool((diversity.diff() < 0).all())
    assert stats.spearmanr(consistency, diversity).statistic < -0.9
    assert bool(swept.mask.all())
    # Without guidance the class's own law, narrowed by the sampler's 20 steps, which are linear: x_s = shrink x_t.
    t = torch.linspace(1, 0, 21, dtype=torch.float64)
    shrink = t[1:] / t[:-1]
    shrink = shrink + (1 - t[1:] - (1 - t[:-1]) * shrink) * (1 - t[:-1]) / ((1 - t[:-1]) ** 2 + t[:-1] ** 2)
    log_det = 4 * float(shrink.log().sum()) - 3 / 200  # the log of a sample covariance of 200 rows is that much low
    # nine runs of 200: 2 / sqrt(1800), fourfold (6e-5)
    assert float(diversity[0]) == pytest.approx(log_det, abs=4 * 2 / math.sqrt(1800))

    worse = fronts.sweep(guided_sampler(0.7), {"scale": range(9)}, [0, 1, 2], AXES, per_condition=200, seed=1)
    worst = {"consistency": 0.5, "diversity": -6.0}
    good, bad = (one.hypervolume_interval(worst) for one in (swept, worse))
    assert bad.high < good.low
    assert good.low <= swept.hypervolume(worst).value <= good.high

    frame = swept.frame()
    assert list(frame.columns) == [
        "scale", "consistency", "diversity", "consistency_se", "diversity_se", "on_front", "front_share",
    ]  # fmt: skip
    assert frame["scale"].tolist() == list(range(9))
    np.testing.assert_allclose(frame["consistency_se"], swept.draws[:, :, 0].std(1) / math.sqrt(3))


def test_a_sweep_repeats_its_noise_and_turns_axes_that_shrink():
    """Both settings see the same numbers, so their difference has no noise; every combination of knobs is there."""

    def make(setting):
        return lambda condition, n, noise: setting["add"] + condition + randn((n, 1), noise, dtype=torch.float64)

    axes = {
        "mean": fronts.PerCondition(lambda samples, condition: samples.mean() - condition),
        "cost": fronts.Pooled(lambda samples: torch.cat(list(samples)).mean(), better="lower"),
    }
    swept = fronts.sweep(make, {"add": [0.0, 1.0], "unused": ["a", "b"]}, [0.0, 2.0], axes, per_condition=5)
    assert [tuple(one.values()) for one in swept.settings] == [(0.0, "a"), (0.0, "b"), (1.0, "a"), (1.0, "b")]
    torch.testing.assert_close(swept.draws[2] - swept.draws[0], torch.ones(3, 2, dtype=torch.float64))
    assert bool(swept.mask.all())  # more costs more
    assert bool((swept.draws[0, 0] != swept.draws[0, 1]).all())
    best = swept.hypervolume({"mean": -9.0, "cost": 9.0}).value
    mean, cost = swept.values[[0, 2]].T
    corners = torch.stack([mean + 9, 9 - cost], 1)
    assert best == pytest.approx(by_inclusion_exclusion(corners), abs=1e-12)
