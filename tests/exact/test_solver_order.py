"""Convergence orders of the deterministic solvers on a mixture, and identities that hold for any step."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from clarkia import samplers
from clarkia.oracles import GaussianMixture
from clarkia.processes import EDM, RectifiedFlow, VariancePreserving
from clarkia.random import generator, randn
from clarkia.samplers import DPMSolverPP, Euler, Heun

MIXTURE = GaussianMixture([0.3, 0.5, 0.2], [[-1.5, 0.5], [1.0, 1.0], [0.3, -1.2]], [0.09, 0.16, 0.25])
SOLVERS = {
    "euler": (Euler(), 1),
    "heun": (Heun(), 2),
    "dpmpp-2m": (DPMSolverPP(), 2),
    "dpmpp-2m-midpoint": (DPMSolverPP(variant="midpoint"), 2),
    "dpmpp-1": (DPMSolverPP(order=1), 1),
}
PROCESSES = {"vp": VariancePreserving(), "flow": RectifiedFlow(), "edm": EDM}


def times(process, steps):
    """Nodes evenly spaced in ``lambda = log(alpha / sigma)`` from -2.5 to 3."""
    return process.t_of_kappa(torch.exp(-torch.linspace(-2.5, 3, steps + 1, dtype=torch.float64)))


@pytest.fixture(params=PROCESSES.values(), ids=PROCESSES.keys(), scope="module")
def problem(request):
    """A process, 100 starting points, and where the probability-flow equation takes them (DOP853 at 1e-12)."""
    process = request.param
    ends = times(process, 1)
    start = process.corrupt(MIXTURE.sample(100, generator=generator(0)), ends[:1].expand(100), generator=generator(1))
    denoise = MIXTURE.denoiser(process)

    def slope(log_ratio, scaled):
        """``d(x / sigma) / d lambda = e^lambda D(x)``."""
        t = process.t_of_kappa(torch.tensor([np.exp(-log_ratio)], dtype=torch.float64))
        x = torch.from_numpy(scaled.reshape(100, 2)) * process.sigma(t)
        return np.exp(log_ratio) * denoise(x, t.expand(100)).numpy().ravel()

    first = (start / process.sigma(ends[:1])).numpy().ravel()
    solution = solve_ivp(slope, (-2.5, 3.0), first, method="DOP853", rtol=1e-12, atol=1e-12)
    return process, start, torch.from_numpy(solution.y[:, -1].reshape(100, 2)) * process.sigma(ends[1:])


@pytest.mark.parametrize(("solver", "order"), SOLVERS.values(), ids=SOLVERS.keys())
def test_convergence_order(problem, solver, order):
    process, start, reference = problem
    errors = []
    for steps in (80, 160, 320):
        x = samplers.sample(
            MIXTURE.denoiser(process), process, initial=start, solver=solver, times=times(process, steps)
        )
        errors.append(float((x - reference).square().mean().sqrt()))
    slopes = np.diff(-np.log2(errors))
    assert slopes[-1] == pytest.approx(order, abs=0.15), errors


@pytest.mark.parametrize("solver", [Euler(), Heun(), DPMSolverPP()], ids=["euler", "heun", "dpmpp"])
def test_the_same_grid_of_ratios_gives_the_same_path_under_any_process(solver):
    """VP, rectified flow and EDM differ only in units: ``x / alpha`` agrees node for node."""
    start = randn((50, 2), generator(2), dtype=torch.float64)
    ends = []
    for process in PROCESSES.values():
        grid = times(process, 12)
        alpha = process.alpha(grid[[0, -1]])
        x = samplers.sample(
            MIXTURE.denoiser(process), process, initial=12 * alpha[0] * start, solver=solver, times=grid
        )
        ends.append(x / alpha[1])
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ends[2], ends[0], rtol=1e-9, atol=1e-9)


def test_euler_on_rectified_flow_is_euler_in_time():
    process, denoise = RectifiedFlow(), MIXTURE.denoiser(RectifiedFlow())
    x = start = randn((20, 2), generator(3), dtype=torch.float64)
    grid = torch.linspace(1, 0, 9, dtype=torch.float64)
    for t, s in pairwise(grid):
        t_rows = t.expand(20)
        x = x + (s - t) * process.velocity(x, denoise(x, t_rows), t_rows)
    found = samplers.sample(denoise, process, initial=start, solver=Euler(), times=grid)
    torch.testing.assert_close(found, x, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("stochasticity", [0.5, 1.0])
def test_the_stochastic_solver_has_second_weak_order(stochasticity):
    """For normal data the mean and variance of 2M follow exact linear recursions; the variance converges at order 2."""
    process, mean, variance = VariancePreserving(), 0.7, 0.3
    solver = DPMSolverPP(stochasticity=stochasticity)

    def end_variance(steps):
        grid = process.t_of_kappa(torch.exp(-torch.linspace(-3, 3, steps + 1, dtype=torch.float64)))
        alpha, sigma = process.alpha(grid), process.sigma(grid)
        gain = alpha * variance / (alpha**2 * variance + sigma**2)  # D = mean + gain (x - alpha mean)
        covariance = torch.diag(torch.tensor([float(alpha[0] ** 2 * variance + sigma[0] ** 2), 0.0]).double())
        for i in range(steps):
            decay, weight, std = process.step_weights(grid[i], grid[i + 1], eta=stochasticity)
            slope = solver._slope_weight(process, grid[i - 1], grid[i], grid[i + 1]) if i else torch.zeros(())
            # state (x, D_previous), both centred
            step = torch.stack(
                [torch.stack([decay + (weight + slope) * gain[i], -slope]), torch.stack([gain[i], 0 * decay])]
            )
            covariance = step @ covariance @ step.T
            covariance[0, 0] += std**2
        return float(covariance[0, 0]) - float(alpha[-1] ** 2 * variance + sigma[-1] ** 2)

    errors = [abs(end_variance(steps)) for steps in (80, 160, 320)]
    assert np.log2(errors[1] / errors[2]) == pytest.approx(2, abs=0.15)
    # and the sampler itself lands on that variance: four standard errors, false alarm 6e-5
    grid = process.t_of_kappa(torch.exp(-torch.linspace(-3, 3, 21, dtype=torch.float64)))
    oracle = GaussianMixture([1.0], [[mean]], [variance])
    start = process.corrupt(
        oracle.sample(100_000, generator=generator(4)), grid[:1].expand(100_000), generator=generator(5)
    )
    x = samplers.sample(
        oracle.denoiser(process), process, initial=start, solver=solver, times=grid, generator=generator(6)
    )
    exact = end_variance(20) + float(process.alpha(grid[-1]) ** 2 * variance + process.sigma(grid[-1]) ** 2)
    assert abs(float(x.var()) - exact) < 4 * exact * (2 / 100_000) ** 0.5


def test_churn_keeps_the_marginals_and_is_stochastic():
    """From the exact noisy law, churned Heun on a fine grid must end on the mixture's own mean and covariance."""
    for process in (EDM, VariancePreserving()):
        n = 20_000
        denoise = MIXTURE.denoiser(process)
        x = samplers.sample(
            denoise, process, num_samples=n, shape=(2,), solver=Heun(churn=10.0), num_steps=40,
            generator=generator(7), dtype=torch.float64,
        )  # fmt: skip
        # four standard errors (kurtosis below the normal's) and 1 % for the grid
        deviation = (MIXTURE.covariance.diagonal() / n).sqrt()
        assert bool(((x.mean(0) - MIXTURE.mean).abs() < 4 * deviation + 0.01).all())
        torch.testing.assert_close(x.T.cov(), MIXTURE.covariance, rtol=0.04, atol=0.02)
        start = randn((200, 2), generator(8), dtype=torch.float64)
        runs = [
            samplers.sample(
                denoise, process, initial=start, solver=Heun(churn=10.0), num_steps=20, generator=generator(seed)
            )
            for seed in (9, 10)
        ]
        assert float((runs[0] - runs[1]).abs().mean()) > 0.05
