"""Closed forms of the time grids, and optimal grids against brute force and the published bound."""

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from scipy.stats import beta as beta_law

from clarkia import samplers, schedules
from clarkia.oracles import GaussianMixture
from clarkia.processes import EDM, Masked, RectifiedFlow, VarianceExploding, VariancePreserving
from clarkia.random import RowBlocks, generator, rand
from clarkia.samplers import DPMSolverPP
from clarkia.samplers.optimal_grids import GridCosts, grid_costs, optimal_times

PROCESSES = {
    "edm": EDM,
    "vp": VariancePreserving(),
    "cosine": VariancePreserving("cosine"),
    "flow": RectifiedFlow(),
    "ve": VarianceExploding(0.02, 20.0),
}


def levels(process, times):
    """``sigma / alpha`` of the inner times."""
    return process.kappa(times[1:-1]).tolist()


def steps_of(count):
    return np.arange(count) / (count - 1)


# --------------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
def test_every_grid_has_the_levels_of_its_formula(process):
    count, low, high = 9, 0.05, 15.0
    ends = {"kappa_min": low, "kappa_max": high}
    i = steps_of(count)
    expected = {
        "log_snr": (schedules.log_snr(count, process, **ends), high ** (1 - i) * low**i),
        "karras": (
            schedules.karras(count, process, 5.0, **ends),
            (high**0.2 + i * (low**0.2 - high**0.2)) ** 5,
        ),
        # k-diffusion's form: the ramp falls from 1 to 0 and is bent before it scales the logarithm
        "polyexp": (
            schedules.polyexp(count, process, 2.0, **ends),
            np.exp((1 - i) ** 2 * (math.log(high) - math.log(low)) + math.log(low)),
        ),
        "beta": (schedules.beta(count, process, 0.6, 0.8, **ends), low + (high - low) * beta_law.ppf(1 - i, 0.6, 0.8)),
    }
    for name, (times, formula) in expected.items():
        assert times.tolist()[0] == 1
        assert times.tolist()[-1] == 0
        np.testing.assert_allclose(levels(process, times), formula[1:], rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
def test_the_cosine_grid_divides_the_angle(process):
    times = schedules.cosine(12, process)
    angle = torch.atan2(process.sigma(times), process.alpha(times))
    torch.testing.assert_close(angle.diff(), angle[:1].expand(12) / -12, rtol=1e-9, atol=1e-12)


def test_the_cosine_grid_of_the_cosine_schedule_is_uniform():
    torch.testing.assert_close(
        schedules.cosine(7, VariancePreserving("cosine")), schedules.uniform(7), rtol=0, atol=1e-12
    )


def test_grids_in_time():
    torch.testing.assert_close(schedules.quadratic(5).sqrt(), schedules.uniform(5), rtol=1e-12, atol=0)
    torch.testing.assert_close(schedules.quadratic(5, 3.0), schedules.uniform(5) ** 3, rtol=0, atol=0)
    assert schedules.quadratic(4).tolist() == [1, 0.5625, 0.25, 0.0625, 0]


def test_a_shift_multiplies_the_noise_level_of_rectified_flow():
    process, times = RectifiedFlow(), schedules.uniform(8)
    moved = schedules.shift(times, 3.0)
    np.testing.assert_allclose(levels(process, moved), 3 * np.array(levels(process, times)), rtol=1e-12)
    torch.testing.assert_close(schedules.shift(moved, 1 / 3), times, rtol=1e-12, atol=1e-15)


def test_levels_of_a_network_with_a_thousand_of_them():
    """The integer time steps of Table 2 of "Common Diffusion Noise Schedules ...", counted from 1."""
    assert (1000 * schedules.discrete(10)).tolist() == [*range(1000, 0, -100), 0]
    assert (1000 * schedules.discrete(10, spacing="leading")).tolist() == [*range(901, 0, -100), 0]
    assert (1000 * schedules.discrete(10, spacing="linspace")).tolist() == [
        1000, 889, 778, 667, 556, 445, 334, 223, 112, 1, 0,
    ]  # fmt: skip
    assert (7 * schedules.discrete(7, 7)).round().tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    assert (1000 * schedules.discrete(3)).tolist() == [1000, 667, 333, 0]


@pytest.mark.parametrize("preset", schedules.ALIGN_YOUR_STEPS)
def test_ten_steps_of_a_published_grid_are_the_published_ones(preset):
    published = schedules.ALIGN_YOUR_STEPS[preset]
    process = VarianceExploding(published[-1], published[0])
    np.testing.assert_allclose(
        process.kappa(schedules.align_your_steps(10, process, preset)), [*published[:-1], 0], rtol=1e-9
    )
    # twenty steps keep these and add their geometric means
    doubled = process.kappa(schedules.align_your_steps(20, process, preset))
    np.testing.assert_allclose(doubled[::2], [*published[:-1], 0], rtol=1e-9)
    np.testing.assert_allclose(doubled[1::2], np.sqrt(np.multiply(published[:-1], published[1:])), rtol=1e-9)
    # and other lengths follow numpy's interpolation of the logarithm
    places = np.arange(7) * 10 / 7
    formula = np.exp(np.interp(places, np.arange(11), np.log(published)))
    np.testing.assert_allclose(process.kappa(schedules.align_your_steps(7, process, preset))[:-1], formula, rtol=1e-9)


# ------------------------------------------------------------------------------------------------ dynamic programme


def cheapest(costs, moves):
    """By trying every choice of inner nodes."""
    last = len(costs) - 1
    paths = [(0, *inner, last) for inner in combinations(range(1, last), moves - 1)]
    return min((sum(costs[a, b] for a, b in pairwise(path)), path) for path in paths)


@pytest.mark.parametrize(("nodes", "moves"), [(25, 3), (12, 6), (7, 6), (25, 1), (9, 2)])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_dynamic_programme_is_brute_force(nodes, moves, seed):
    costs = rand((nodes, nodes), generator(seed))
    values, paths = schedules.shortest_paths(costs, moves)
    assert len(values) == len(paths) == moves
    for count in range(1, moves + 1):
        value, path = cheapest(costs.numpy(), count)
        assert float(values[count - 1]) == pytest.approx(value, abs=1e-12)
        assert tuple(paths[count - 1].tolist()) == path


def test_only_moves_forwards_count():
    costs = torch.full((6, 6), -100.0, dtype=torch.float64).tril()
    costs[3, 3] = costs[5, 0] = torch.nan
    costs += torch.ones(6, 6, dtype=torch.float64).triu(1) * torch.arange(6).double() ** 2
    values, paths = schedules.shortest_paths(costs, 5)
    assert values.tolist() == [25, 26, 30, 39, 55]
    assert [path.tolist() for path in paths] == [[0, 5], [0, 1, 5], [0, 1, 2, 5], [0, 1, 2, 3, 5], [0, 1, 2, 3, 4, 5]]


def test_a_forbidden_move_is_never_made():
    costs = rand((8, 8), generator(3))
    costs[0, 1:4] = torch.inf
    values, paths = schedules.shortest_paths(costs, 7)
    assert all(int(path[1]) >= 4 for path in paths[:4])
    assert values[:4].isfinite().all()
    assert values[4:].isinf().all()


def test_clusters_of_numbers_are_such_paths():
    """Bounds of the best four groups of twelve sorted numbers, by absolute distance to the middle one."""
    numbers = np.sort(np.random.default_rng(1).normal(size=12))
    costs = torch.full((13, 13), torch.inf, dtype=torch.float64)
    for left, right in combinations(range(13), 2):
        group = numbers[left:right]
        costs[left, right] = min(np.abs(group - centre).sum() for centre in group)
    values, paths = schedules.shortest_paths(costs, 4)
    assert float(values[3]) == pytest.approx(1.02393978, abs=1e-8)
    assert paths[3].tolist() == [0, 1, 2, 10, 12]


# --------------------------------------------------------------------------------------------------- optimal grids

ANGLES = 2 * math.pi * torch.arange(8, dtype=torch.float64) / 8
RING = GaussianMixture(torch.full((8,), 1 / 8), torch.stack([ANGLES.cos(), ANGLES.sin()], 1), [0.02] * 8)
VE = PROCESSES["ve"]


@pytest.fixture(scope="module")
def ring_costs():
    data = RING.sample(2000, generator=generator(0))
    return grid_costs(RING.denoiser(VE), VE, data, generator=generator(1))


def test_the_optimum_is_brute_force_over_the_bound(ring_costs):
    """25 of the nodes, three steps between them: the grid found is the best of all 253, and its cost is the bound."""
    rare = [*range(0, 144, 6), 159]
    costs = GridCosts(ring_costs.times[rare], ring_costs.costs[rare][:, rare])
    value, path = cheapest(costs.costs.numpy(), 3)
    found = costs.optimal(4)
    assert found.tolist() == [*costs.times[list(path)].tolist(), 0]
    assert costs.bound(found) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(("steps", "reference"), [(5, (42.9, 19.2, 7.4)), (8, (14.6, 7.7, 3.7))], ids=["five", "eight"])
def test_the_bound_on_a_ring_of_normals(ring_costs, steps, reference):
    """Of ``steps`` steps down to sigma = 0.02, and one more to 0 that costs nothing; 8 % for draws and nodes."""
    grids = [
        schedules.karras(steps + 1, VE),
        schedules.log_snr(steps + 1, VE),
        ring_costs.optimal(steps + 1),
    ]
    karras, log_snr, best = found = [ring_costs.bound(times) for times in grids]
    assert best < log_snr < karras
    assert found == pytest.approx(reference, rel=0.08)


def test_the_cost_of_a_normal_is_its_integral():
    """For N(0, v) and no more, everything in the bound is known in closed form.

    ``D(y) = v y / (v + kappa^2)`` with ``E y_m y_i = v + min(kappa_m, kappa_i)^2``, so with ``g = v / (v + kappa^2)``
    and ``kappa_m < kappa_i``: ``E (D_m - D_i)^2 = g_m^2 (v + kappa_m^2) + g_i^2 (v + kappa_i^2) - 2 g_m g_i (v +
    kappa_m^2) = v (g_m - g_i)``.
    """
    variance = 0.3
    oracle = GaussianMixture([1.0], [[0.0, 0.0]], [variance])
    for process in (VE, VariancePreserving()):
        data = oracle.sample(20_000, generator=generator(2))
        found = grid_costs(
            oracle.denoiser(process), process, data, kappa_min=0.05, kappa_max=10.0, generator=generator(3)
        )
        kappa = torch.logspace(1, math.log10(0.05), 160, dtype=torch.float64)
        share = variance / (variance + kappa**2)
        fine = torch.linspace(0, 1, 2001, dtype=torch.float64)
        for i, j in ((0, 159), (0, 40), (50, 51), (80, 159)):
            lam = -(kappa[i].log() + fine * (kappa[j] / kappa[i]).log())
            gap = 2 * variance * (variance / (variance + torch.exp(-2 * lam)) - share[i])  # two coordinates
            exact = float(torch.trapezoid(torch.exp(2 * lam) * gap, lam))
            # The relative standard error of a mean of 40 000 squares is 0.7 %, five of them; the trapezoid of a step
            # to the next node is too large by half the width of a node, 3 %.
            assert float(found.costs[i, j]) == pytest.approx(exact, rel=0.035 if j - i > 1 else 0.07)


def test_the_best_grid_helps_the_sampler_it_is_for_and_no_other(ring_costs):
    """Energy distance to the law, whose floor is .0006 for 4000 draws.

    Reference values of five and of eight first-order stochastic steps: .0305 (Karras) and .0195, .0094 and .0051; of
    five deterministic ones of second order: .0068 (log-SNR) and .0280.
    """
    truth = RING.sample(4000, generator=generator(4))

    def distance(solver, times):
        x = samplers.sample(
            RING.denoiser(VE), VE, num_samples=4000, shape=(2,), solver=solver, times=times,
            dtype=torch.float64, generator=generator(5),
        )  # fmt: skip
        between = [torch.cdist(a, b).mean() for a, b in ((x, truth), (x, x), (truth, truth))]
        return float(2 * between[0] - between[1] - between[2])

    ancestral = DPMSolverPP(order=1, stochasticity=1.0)
    for steps in (5, 8):
        assert distance(ancestral, ring_costs.optimal(steps + 1)) < 0.8 * distance(
            ancestral, schedules.karras(steps + 1, VE)
        )
    multistep = DPMSolverPP()
    for steps, factor in ((5, 1.7), (8, 3)):
        plain = distance(multistep, schedules.log_snr(steps + 1, VE))
        assert distance(multistep, ring_costs.optimal(steps + 1)) > factor * plain


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
def test_an_optimal_grid_of_any_length(process):
    data = RING.sample(64, generator=generator(6)).float()
    costs = grid_costs(RING.denoiser(process), process, data, num_nodes=20, generator=generator(7))
    bounds = []
    for steps in (1, 2, 3, 10, 20):
        times = costs.optimal(steps)
        assert times.shape == (steps + 1,)
        assert (float(times[0]), float(times[-1])) == (1.0, 0.0)
        assert times.dtype == torch.float64
        bounds.append(costs.bound(times))
        schedules.check_times(times)
    assert bounds[1:] == sorted(bounds[1:], reverse=True)  # more steps cost less
    once = optimal_times(RING.denoiser(process), process, data, 3, num_nodes=20, generator=generator(7))
    torch.testing.assert_close(once, costs.optimal(3), rtol=0, atol=0)


def test_noise_by_rows_and_data_of_any_shape():
    process = VariancePreserving()
    images = torch.randn(4, 1, 2, 2, generator=generator(8))

    def denoise(x_t, t, condition=None):
        assert x_t.shape == images.shape
        assert t.shape == (4,)
        return process.alpha(t).reshape(-1, 1, 1, 1) * x_t

    costs = [grid_costs(denoise, process, images, num_nodes=5, generator=RowBlocks(0, 0, 4)).costs for _ in range(2)]
    torch.testing.assert_close(costs[0], costs[1], rtol=0, atol=0)
    assert costs[0].dtype == torch.float64


DATA = torch.zeros(3, 2)


def constant(x_t, t, condition=None):
    return 0 * x_t


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: optimal_times(constant, EDM, DATA, 0), "num_steps"),
        (lambda: optimal_times(constant, EDM, DATA, 161), "num_steps: expected 1 to 160"),
        (lambda: optimal_times(constant, EDM, DATA, 2, num_nodes=1), "num_steps: expected 1 to 1"),
        (lambda: grid_costs(constant, EDM, DATA, num_nodes=1), "num_nodes"),
        (lambda: grid_costs(constant, EDM, DATA, kappa_min=90.0), "kappa_min"),
        (lambda: grid_costs(constant, Masked(3), DATA), "Gaussian process, found Masked"),
        (lambda: grid_costs(constant, VarianceExploding(rho=torch.tensor([5.0, 7.0])), DATA), "all columns"),
        (lambda: grid_costs(constant, EDM, DATA[:0]), "data"),
        (lambda: grid_costs(constant, EDM, DATA.long()), "data"),
        (lambda: grid_costs(constant, EDM, DATA[0]), "data"),
        (lambda: grid_costs(lambda x, t: x[:1], EDM, DATA), "shape"),
        (lambda: grid_costs(lambda x, t: x / 0, EDM, DATA + 1), "finite numbers"),
        (lambda: grid_costs(constant, EDM, DATA, num_nodes=4).optimal(5), "num_steps"),
        (lambda: grid_costs(constant, EDM, DATA, num_nodes=4).bound(torch.tensor([0.0, 1.0])), "decreasing"),
        (lambda: grid_costs(constant, EDM, DATA, num_nodes=4).bound(torch.ones(3, 2)), "one grid"),
    ],
)
def test_impossible_questions_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
