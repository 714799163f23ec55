"""Convergence orders of the deterministic solvers on a mixture, and identities that hold for any step."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from clarkia import samplers
from clarkia.oracles import GaussianMixture
from clarkia.processes import EDM, RectifiedFlow, SubVariancePreserving, VariancePreserving
from clarkia.random import generator, randn
from clarkia.samplers import DDIM, DEIS, DPMSolverPP, DPMSolverPPSinglestep, Euler, Heun, UniPC

MIXTURE = GaussianMixture([0.3, 0.5, 0.2], [[-1.5, 0.5], [1.0, 1.0], [0.3, -1.2]], [0.09, 0.16, 0.25])
SOLVERS = {
    "euler": (Euler(), 1),
    "ddim": (DDIM(), 1),
    "heun": (Heun(), 2),
    "dpmpp-1": (DPMSolverPP(order=1), 1),
    "dpmpp-2m": (DPMSolverPP(), 2),
    "dpmpp-2m-exact": (DPMSolverPP(variant="exact"), 2),
    "dpmpp-3m": (DPMSolverPP(order=3), 3),
    "dpmpp-3m-exact": (DPMSolverPP(order=3, variant="exact"), 3),
    "dpmpp-3m-published": (DPMSolverPP(order=3, variant="published"), 2),
    "dpmpp-2s": (DPMSolverPPSinglestep(), 2),
    "dpmpp-2s-midpoint": (DPMSolverPPSinglestep(variant="midpoint"), 2),
    "dpmpp-3s": (DPMSolverPPSinglestep(order=3), 3),
    "unipc-1": (UniPC(order=1), 2),
    "unipc-2": (UniPC(), 3),
    "unipc-1-exact": (UniPC(order=1, variant="exact"), 2),
    "unipc-2-exact": (UniPC(variant="exact"), 3),
    "unipc-2-bh1": (UniPC(variant="bh1"), 3),
    "unipc-3": (UniPC(order=3), 4),
    "deis-1": (DEIS(order=1), 1),
    "deis-2": (DEIS(order=2), 2),
    "deis-3": (DEIS(), 3),
    "deis-2-kappa": (DEIS(order=2, basis="kappa"), 2),
    "deis-2-time": (DEIS(order=2, basis="time"), 2),
    "deis-3-time": (DEIS(basis="time"), 3),
}
PROCESSES = {"vp": VariancePreserving(), "flow": RectifiedFlow(), "edm": EDM, "sub-vp": SubVariancePreserving()}


def times(process, steps):
    """Nodes evenly spaced in ``lambda = log(alpha / sigma)`` from -2.5 to 3."""
    return process.t_of_kappa(torch.exp(-torch.linspace(-2.5, 3, steps + 1, dtype=torch.float64)))


class Problem:
    """A process, 100 starting points, and where the probability-flow equation takes them (DOP853 at 1e-12)."""

    def __init__(self, process):
        self.process, self.denoise = process, MIXTURE.denoiser(process)
        ends = times(process, 1)
        self.start = process.corrupt(
            MIXTURE.sample(100, generator=generator(0)), ends[:1].expand(100), generator=generator(1)
        )
        first = (self.start / process.sigma(ends[:1])).numpy().ravel()
        self.solution = solve_ivp(
            self.slope, (-2.5, 3.0), first, method="DOP853", rtol=1e-12, atol=1e-12, dense_output=True
        ).sol

    def slope(self, log_ratio, scaled):
        """``d(x / sigma) / d lambda = e^lambda D(x)``."""
        t = self.time(log_ratio)
        x = torch.from_numpy(scaled.reshape(100, 2)) * self.process.sigma(t)
        return np.exp(log_ratio) * self.denoise(x, t.expand(100)).numpy().ravel()

    def time(self, log_ratio):
        return self.process.t_of_kappa(torch.tensor([np.exp(-log_ratio)], dtype=torch.float64))

    def exact(self, log_ratio):
        scaled = torch.from_numpy(self.solution(log_ratio).reshape(100, 2))
        return scaled * self.process.sigma(self.time(log_ratio))

    def error(self, solver, steps):
        """Root mean square error of a run that starts with exact history, so that its first steps are not of order 1.

        Before the run proper the solver takes a few steps on the exact states, for its carry alone.
        """
        lambdas = torch.linspace(-2.5, 3, steps + 1, dtype=torch.float64)
        grid = self.process.t_of_kappa(torch.exp(-lambdas))
        carry = solver.init(self.start, self.process)
        x = self.start
        for i, (t, s) in enumerate(pairwise(grid)):
            x, carry = solver.step(self.denoise, self.process, x, t.expand(100), s.expand(100), carry)
            if i < 4:
                x = self.exact(float(lambdas[i + 1]))
        return float((x - self.exact(3.0)).square().mean().sqrt())


@pytest.fixture(params=PROCESSES.values(), ids=PROCESSES.keys(), scope="module")
def problem(request):
    return Problem(request.param)


@pytest.mark.parametrize(("solver", "order"), SOLVERS.values(), ids=SOLVERS.keys())
def test_convergence_order(problem, solver, order):
    slope = np.log2(problem.error(solver, 160) / problem.error(solver, 320))
    assert slope == pytest.approx(order, abs=0.15 if order < 4 else 0.3)


@pytest.mark.parametrize(
    "solver",
    [solver for name, (solver, _) in SOLVERS.items() if "time" not in name],
    ids=[name for name in SOLVERS if "time" not in name],
)
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
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=1e-9, atol=1e-9)


def test_euler_on_rectified_flow_is_euler_in_time():
    process, denoise = RectifiedFlow(), MIXTURE.denoiser(RectifiedFlow())
    x = start = randn((20, 2), generator(3), dtype=torch.float64)
    grid = torch.linspace(1, 0, 9, dtype=torch.float64)
    for t, s in pairwise(grid):
        t_rows = t.expand(20)
        x = x + (s - t) * process.velocity(x, denoise(x, t_rows), t_rows)
    found = samplers.sample(denoise, process, initial=start, solver=Euler(), times=grid)
    torch.testing.assert_close(found, x, rtol=1e-10, atol=1e-10)


STOCHASTIC = {
    **{
        f"dpmpp-{m}-{eta}": (DPMSolverPP(order=m, stochasticity=eta), min(m, 2), 320)
        for m in (1, 2, 3)
        for eta in (0.5, 1.0)
    },
    "2s": (DPMSolverPPSinglestep(stochasticity=1.0), 2, 320),
    "unipc-1": (UniPC(order=1, stochasticity=0.5), 2, 320),
    "unipc-2": (UniPC(stochasticity=1.0), 2, 1280),  # falls to 2 from above, and slowly
}


def end_variance(solver, process, steps, variance, last=3.0):
    """Variance of a run from lambda = -3 on normal data, exactly: every step is linear in its state and its noise.

    The state between steps is ``(x, what the carry remembers)``; its response to the start and to every noise is
    followed by pushing unit vectors through the solver itself.
    """
    grid = process.t_of_kappa(torch.exp(-torch.linspace(-3, last, steps + 1, dtype=torch.float64)))
    alpha, sigma = process.alpha(grid), process.sigma(grid)

    def denoise(x, t):
        a, s = process.alpha(t)[:, None], process.sigma(t)[:, None]
        return a * variance / (a**2 * variance + s**2) * x

    # Row 0 answers to the start, row i + 1 to the noise of step i: all begin at 0 and enter when their noise does.
    x = torch.zeros(steps + 1, 1, dtype=torch.float64)
    x[0] = 1.0
    scale = [float((alpha[0] ** 2 * variance + sigma[0] ** 2).sqrt())]
    carry = solver.init(x, process)
    for i in range(steps):
        t, s = (node.expand(steps + 1) for node in grid[i : i + 2])
        kernel, carry = solver.kernel(denoise, process, x, t, s, carry)
        x = kernel.mean.clone()
        std = kernel.std.expand(steps + 1, 1)[0, 0]
        x[i + 1] += std
        scale.append(1.0)
    return float(((x[:, 0] * torch.tensor(scale)) ** 2).sum()), float(alpha[-1] ** 2 * variance + sigma[-1] ** 2)


@pytest.mark.parametrize(("solver", "order", "steps"), STOCHASTIC.values(), ids=STOCHASTIC.keys())
def test_weak_order_of_the_stochastic_solvers(solver, order, steps):
    coarse, fine = (abs(np.subtract(*end_variance(solver, VariancePreserving(), n, 0.3))) for n in (steps // 2, steps))
    assert np.log2(coarse / fine) == pytest.approx(order, abs=0.15)


def test_the_stochastic_solver_lands_on_its_exact_variance():
    process, solver, n = VariancePreserving(), DPMSolverPP(stochasticity=1.0), 100_000
    grid = process.t_of_kappa(torch.exp(-torch.linspace(-3, 3, 21, dtype=torch.float64)))
    oracle = GaussianMixture([1.0], [[0.0]], [0.3])
    start = process.corrupt(oracle.sample(n, generator=generator(4)), grid[:1].expand(n), generator=generator(5))
    x = samplers.sample(
        oracle.denoiser(process), process, initial=start, solver=solver, times=grid, generator=generator(6)
    )
    exact, _ = end_variance(solver, process, 20, 0.3)
    assert abs(float(x.var()) - exact) < 4 * exact * (2 / n) ** 0.5  # four standard errors, false alarm 6e-5


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
