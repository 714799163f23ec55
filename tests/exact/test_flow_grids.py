"""Grids for multistep solvers: their errors in closed form, the shortest path by brute force, and what it brings."""

import math
from itertools import combinations

import pytest
import torch

from clarkia import samplers, schedules
from clarkia.oracles import GaussianMixture
from clarkia.processes import EDM, Masked, RectifiedFlow, VarianceExploding, VariancePreserving
from clarkia.random import generator, rand, randn
from clarkia.samplers import DPMSolverPP, UniPC, exponential_weights
from clarkia.samplers.optimal_flows import FlowCosts, flow_costs, optimal_flow_times

MIXTURE = GaussianMixture([0.3, 0.5, 0.2], [[-1.5, 0.5], [1.0, 1.0], [0.3, -1.2]], [0.09, 0.16, 0.25])


@pytest.mark.parametrize("process", [VariancePreserving(), EDM, RectifiedFlow()], ids=["vp", "edm", "flow"])
def test_the_errors_of_all_steps_of_a_normal(process):
    """For N(0, v) the flow is ``y = sqrt(v + kappa^2) xi`` and ``D = v xi / sqrt(v + kappa^2)``, xi fixed on a path."""
    variance, nodes = 0.3, 12
    data = torch.zeros(50, 2, dtype=torch.float64)
    oracle = GaussianMixture([1.0], [[0.0, 0.0]], [variance])
    costs = flow_costs(
        oracle.denoiser(process), process, data, num_nodes=nodes, kappa_min=0.05, kappa_max=20.0, generator=generator(0)
    )
    kappa = torch.logspace(math.log10(20), math.log10(0.05), nodes, dtype=torch.float64)
    width = (variance + kappa**2).sqrt()
    xi = 20 * randn((50, 2), generator(0), dtype=torch.float64) / width[0]
    size = float(xi.square().mean().sqrt())
    lam = (-kappa.log()).tolist()
    for i, j, k in combinations(range(nodes), 3):
        (current, before) = exponential_weights([lam[j], lam[i]], lam[j], lam[k], variant="midpoint")[1]
        reached = kappa[k] / kappa[j] * width[j] + variance * (float(current) / width[j] + float(before) / width[i])
        expected = float((reached - width[k]).abs() * width[-1] / width[k]) * size
        # the reference is a solver of third order on four times as many nodes
        assert float(costs.inner[i, j, k]) == pytest.approx(expected, rel=0.02, abs=5e-4)
    for k in range(1, nodes):
        reached = kappa[k] / kappa[0] * width[0] + (1 - kappa[k] / kappa[0]) * variance / width[0]
        expected = float((reached - width[k]).abs() * width[-1] / width[k]) * size
        assert float(costs.first[k]) == pytest.approx(expected, rel=0.02, abs=5e-4)
        expected = abs(variance / float(width[k]) - math.sqrt(variance)) * size
        assert float(costs.last[k]) == pytest.approx(expected, rel=0.02, abs=5e-4)
    assert costs.inner[3, 3, 5].isinf()
    assert costs.inner[5, 4, 6].isinf()


@pytest.mark.parametrize(("nodes", "steps"), [(9, 4), (8, 8), (7, 2), (12, 3), (6, 1)])
def test_the_shortest_path_over_pairs_is_brute_force(nodes, steps):
    noise = generator(1)
    first, last = rand((nodes,), noise), rand((nodes,), noise)
    index = torch.arange(nodes)
    i, j, k = torch.meshgrid(index, index, index, indexing="ij")
    inner = torch.where((i < j) & (j < k), rand((nodes,) * 3, noise), torch.inf)
    costs = FlowCosts(schedules.uniform(nodes)[:-1], torch.where(index > 0, first, torch.inf), inner, last)

    def value(path):
        if len(path) == 1:
            return 0.0
        moves = zip(path, path[1:], path[2:], strict=False)
        return float(first[path[1]] + last[path[-1]] + sum(inner[move] for move in moves))

    best = min(((0, *rest) for rest in combinations(range(1, nodes), steps - 1)), key=value)
    assert costs.optimal(steps).tolist() == [*costs.times[list(best)].tolist(), 0]


@pytest.mark.parametrize("solver", [DPMSolverPP(2), UniPC(2)], ids=["2m", "unipc"])
def test_an_optimal_grid_is_far_better_than_even_ones(solver):
    """Against the best of eight grids of even spacing, on starts that the grid was not made on."""
    process = VariancePreserving()
    denoise = MIXTURE.denoiser(process)
    costs = flow_costs(denoise, process, MIXTURE.sample(200, generator=generator(2)), generator=generator(3))
    start = randn((200, 2), generator(4), dtype=torch.float64)

    def walk(solver, times):
        return samplers.sample(denoise, process, initial=start, solver=solver, times=times)

    exact = walk(UniPC(3), schedules.log_snr(400, process, kappa_min=0.003))

    def error(times):
        return float((walk(solver, times) - exact).square().sum(1).mean().sqrt())

    for steps, share in ((8, 0.75), (10, 0.75), (15, 0.85)):
        even = [
            grid(steps, process, kappa_min=least)
            for grid in (schedules.log_snr, schedules.karras)
            for least in (0.01, 0.02, 0.05, 0.1)
        ]
        assert error(costs.optimal(steps)) < share * min(error(times) for times in even)


def test_optimal_grids_of_any_length_and_data():
    process = RectifiedFlow()
    images = 0.3 * torch.randn(6, 1, 2, 2, generator=generator(5))

    def denoise(x_t, t, condition=None):
        alpha, sigma = process.coefficients(t, x_t)
        return 0.09 * alpha / (0.09 * alpha**2 + sigma**2) * x_t

    costs = flow_costs(denoise, process, images, num_nodes=10, generator=generator(6))
    for steps in (1, 2, 3, 10):
        times = costs.optimal(steps)
        assert times.shape == (steps + 1,)
        assert (float(times[0]), float(times[-1])) == (1.0, 0.0)
        schedules.check_times(times)
    once = optimal_flow_times(denoise, process, images, 4, num_nodes=10, generator=generator(6))
    torch.testing.assert_close(once, costs.optimal(4), rtol=0, atol=0)


def constant(x_t, t, condition=None):
    return 0 * x_t


DATA = torch.zeros(3, 2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: optimal_flow_times(constant, EDM, DATA, 0), "num_steps"),
        (lambda: optimal_flow_times(constant, EDM, DATA, 81), "num_steps: expected 1 to 80"),
        (lambda: flow_costs(constant, EDM, DATA, num_nodes=1), "num_nodes"),
        (lambda: flow_costs(constant, EDM, DATA, kappa_min=90.0), "kappa_min"),
        (lambda: flow_costs(constant, Masked(3), DATA), "Gaussian process, found Masked"),
        (lambda: flow_costs(constant, VarianceExploding(rho=torch.tensor([5.0, 7.0])), DATA), "all columns"),
        (lambda: flow_costs(constant, EDM, DATA[:1]), "data"),
        (lambda: flow_costs(constant, EDM, DATA.long()), "data"),
        (lambda: flow_costs(lambda x, t: x[:1], EDM, DATA), "shape"),
        (lambda: flow_costs(constant, EDM, DATA, num_nodes=4).optimal(5), "num_steps"),
    ],
)
def test_impossible_questions_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
