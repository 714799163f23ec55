"""Solvers and grids against diffusers' schedulers and k-diffusion's formulas, all on the same exact denoisers.

    pip install diffusers
    python benchmarks/solvers.py [--problem mixture digits] [--rows 200]

Every sampler walks the probability-flow equation of DDPM's process from the same noise. Its error is the root mean
squared distance of its samples from the exact solution of that equation, which bounds the Wasserstein-2 distance of
its law from the data's. Three questions: do methods that are meant to be the same agree; who is closer where both have
a method, on the same levels and evaluations; and how close does either side get with whatever it offers.
"""

import argparse
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.optimize import linear_sum_assignment
from torch import Tensor

import peers
from clarkia import samplers, schedules
from clarkia.oracles import GaussianMixture, KernelSmoothed
from clarkia.processes import VariancePreserving
from clarkia.random import generator, randn
from clarkia.samplers import (
    DDIM,
    DDPM,
    DEIS,
    DPMSolverPP,
    DPMSolverPPSinglestep,
    Euler,
    Heun,
    SASolver,
    UniPC,
)
from clarkia.samplers.optimal_flows import FlowCosts, flow_costs
from clarkia.samplers.optimal_grids import GridCosts, grid_costs
from peers import Peer

RESULTS = Path(__file__).parent / "results" / "solvers.md"
EVALUATIONS = (5, 8, 10, 15, 20)
PROCESS = VariancePreserving()
ONE = torch.ones(1, dtype=torch.float64)
KAPPA_MAX = float(PROCESS.kappa(ONE))
KAPPA_MIN = float(PROCESS.kappa(ONE / peers.LEVELS))  # of diffusers' table, and so of its Karras grid

# ---------------------------------------------------------------------------------------------------- problems


@dataclass(frozen=True, eq=False)
class Problem:
    """A law, its exact denoiser, where samplers start and where they should arrive."""

    name: str
    law: Any
    denoise: Callable[..., Tensor]
    start: Tensor
    exact: Tensor

    def predict(self, x: Tensor, kappa: float) -> Tensor:
        """The denoiser at a level instead of a time."""
        t = PROCESS.t_of_kappa(torch.tensor([kappa], dtype=torch.float64)).clamp(max=1.0)
        return self.denoise(x.double(), t.expand(len(x)))

    def exploding(self, y: Tensor, kappa: float) -> Tensor:
        """The same in variance-exploding units."""
        return self.predict(y / math.sqrt(1 + kappa**2), kappa)

    def error(self, x: Tensor) -> float:
        """Root mean squared distance from the exact solution."""
        return float((x - self.exact).square().sum(1).mean().sqrt())

    def typical(self, x: Tensor) -> float:
        """Median distance, which rows that end in another mode do not move."""
        return float((x - self.exact).square().sum(1).sqrt().median())


def make(name: str, rows: int) -> Problem:
    if name == "mixture":
        means = [[-1.5, 0.5], [1.0, 1.0], [0.3, -1.2]]
        law: Any = GaussianMixture([0.3, 0.5, 0.2], means, [0.09, 0.16, 0.25])
        width = 2
    else:
        from sklearn.datasets import load_digits

        law = KernelSmoothed(load_digits().data[:1200] / 8 - 1, 0.15)
        width = 64
    denoise = law.denoiser(PROCESS)
    start = randn((rows, width), generator(0), dtype=torch.float64)
    return Problem(name, law, denoise, start, exact_solution(denoise, start))


def exact_solution(denoise: Callable[..., Tensor], start: Tensor, least: float = 1e-3) -> Tensor:
    """The probability-flow equation to the end: ``d(x / sigma) / d lambda = e^lambda D``, then half a step to 0."""

    def slope(lam: float, scaled: np.ndarray) -> np.ndarray:
        t = PROCESS.t_of_kappa(torch.tensor([math.exp(-lam)], dtype=torch.float64)).clamp(max=1.0)
        x = torch.from_numpy(scaled.reshape(start.shape)) * PROCESS.sigma(t)
        return math.exp(lam) * denoise(x, t.expand(len(x))).numpy().ravel()

    first = (start / PROCESS.sigma(ONE)).numpy().ravel()
    solution = solve_ivp(slope, (-math.log(KAPPA_MAX), -math.log(least)), first, "DOP853", rtol=1e-8, atol=1e-8)
    t = PROCESS.t_of_kappa(least * ONE)
    x = torch.from_numpy(solution.y[:, -1].reshape(start.shape)) * PROCESS.sigma(t)
    # y = x / alpha moves by half of kappa^2 times the score from here to 0, a whole one being D - y.
    return 0.5 * (x / PROCESS.alpha(t) + denoise(x, t.expand(len(x))))


# ------------------------------------------------------------------------------------------------- the two sides


def ours(problem: Problem, solver: Any, times: Tensor, noise: torch.Generator | None = None) -> Tensor:
    return samplers.sample(  # type: ignore[return-value]
        problem.denoise, PROCESS, initial=problem.start, solver=solver, times=times, generator=noise
    )


def theirs(problem: Problem, peer: Peer, times: Tensor | None = None, steps: int | None = None) -> Tensor:
    kappas = None if times is None else PROCESS.kappa(times)
    scheduler = peer.make(peers.training_betas(PROCESS))
    return peers.walk(scheduler, problem.predict, problem.start, kappas=kappas, steps=steps)[0].double()


def formula(problem: Problem, name: str, times: Tensor) -> Tensor:
    kappas = PROCESS.kappa(times).tolist()
    return peers.K_DIFFUSION[name][0](problem.exploding, problem.start * math.sqrt(1 + kappas[0] ** 2), kappas)


def steps_within(solver: Any, evaluations: int) -> int:
    """Steps that a solver can make in so many evaluations; the last one, to 0, always takes one."""
    stages = {Heun: 2, DPMSolverPPSinglestep: getattr(solver, "order", 1)}.get(type(solver), 1)
    return (evaluations - 1) // stages + 1


SOLVERS = {
    "Euler": Euler(),
    "Heun": Heun(),
    "DPMSolverPP(2)": DPMSolverPP(2),
    "DPMSolverPP(2, exact)": DPMSolverPP(2, variant="exact"),
    "DPMSolverPP(3)": DPMSolverPP(3),
    "DPMSolverPPSinglestep(2)": DPMSolverPPSinglestep(2),
    "DPMSolverPPSinglestep(3)": DPMSolverPPSinglestep(3),
    "UniPC(1)": UniPC(1),
    "UniPC(2)": UniPC(2),
    "UniPC(2, exact)": UniPC(2, variant="exact"),
    "UniPC(3, exact)": UniPC(3, variant="exact"),
    "UniPC(3)": UniPC(3),
    "UniPC(4)": UniPC(4),
    "DEIS(2)": DEIS(2),
    "DEIS(3)": DEIS(3),
    "DEIS(3, kappa)": DEIS(3, basis="kappa"),
    "DEIS(3, time)": DEIS(3, basis="time"),
    "SASolver(tau=0)": SASolver(tau=0.0),
}


def grids(flow: FlowCosts, bounds: dict[float, GridCosts]) -> Iterator[tuple[str, Callable[[int], Tensor]]]:
    """Our grids by name, as functions of the number of steps."""
    yield "uniform", schedules.uniform
    yield "quadratic", schedules.quadratic
    yield "cosine", lambda n: schedules.cosine(n, PROCESS)
    yield "optimal_flow_times", flow.optimal
    for least, bound in bounds.items():
        ends = {"kappa_min": least}
        yield f"log_snr {least:.2g}", lambda n, ends=ends: schedules.log_snr(n, PROCESS, **ends)
        yield f"polyexp(1.6) {least:.2g}", lambda n, ends=ends: schedules.polyexp(n, PROCESS, 1.6, **ends)
        yield f"karras {least:.2g}", lambda n, ends=ends: schedules.karras(n, PROCESS, **ends)
        yield f"optimal_times {least:.2g}", bound.optimal


# -------------------------------------------------------------------------------------------- the three questions

LOWER = ("lower_order_final", False)
SAME = (  # name, ours, diffusers', k-diffusion's, whether they are meant to be one method, whether the walk goes to 0
    ("Euler (DDIM)", Euler(), Peer("EulerDiscrete"), "sample_euler", True, True),
    ("Heun", Heun(), Peer("HeunDiscrete"), "sample_heun", True, True),
    ("DPM-Solver++ 2M, midpoint", DPMSolverPP(2),
     Peer("DPMSolverMultistep", (("solver_order", 2),)), "sample_dpmpp_2m", True, True),
    ("DPM-Solver++ 2M, exact", DPMSolverPP(2, variant="exact"),
     Peer("DPMSolverMultistep", (("solver_order", 2), ("solver_type", "heun"))), None, True, True),
    ("DPM-Solver++ 3M, published", DPMSolverPP(3, variant="published"),
     Peer("DPMSolverMultistep", (("solver_order", 3), ("solver_type", "heun"), LOWER)),
     "sample_dpmpp_3m_sde(eta=0)", True, True),
    ("UniPC 2, bh2", UniPC(2), Peer("UniPCMultistep", (("solver_order", 2),)), None, True, True),
    ("UniPC 2, bh1", UniPC(2, variant="bh1"),
     Peer("UniPCMultistep", (("solver_order", 2), ("solver_type", "bh1"), LOWER)), None, True, False),
    ("UniPC 3, bh2", UniPC(3, variant="bh2"), Peer("UniPCMultistep", (("solver_order", 3), LOWER)), None, True, False),
    ("DEIS 2", DEIS(2), Peer("DEISMultistep", (("solver_order", 2), LOWER)), None, True, False),
    ("DEIS 3", DEIS(3), Peer("DEISMultistep", (("solver_order", 3), LOWER)), None, True, False),
    ("DPM-Solver++ 2S, midpoint", DPMSolverPPSinglestep(2, variant="midpoint"),
     Peer("DPMSolverSinglestep", (("solver_order", 2), ("final_sigmas_type", "zero"))),
     "sample_dpmpp_2s_ancestral(eta=0)", True, True),
    ("default 2M", DPMSolverPP(2), Peer("DPMSolverMultistep"), "sample_dpmpp_2m", False, True),
    ("default 3M", DPMSolverPP(3), Peer("DPMSolverMultistep", (("solver_order", 3),)),
     "sample_dpmpp_3m_sde(eta=0)", False, True),
    ("default UniPC 2", UniPC(2), Peer("UniPCMultistep"), None, False, True),
    ("default UniPC 3", UniPC(3), Peer("UniPCMultistep", (("solver_order", 3),)), None, False, True),
    ("default 3S", DPMSolverPPSinglestep(3),
     Peer("DPMSolverSinglestep", (("solver_order", 3), ("final_sigmas_type", "zero"))), None, False, True),
)  # fmt: skip


def same_levels(problem: Problem, spaced: str) -> Iterator[dict[str, Any]]:
    """Both sides on the same levels: error of ours, of theirs, and how far the two are apart."""
    for name, solver, peer, k_name, identical, closed in SAME:
        for count in EVALUATIONS:
            single = isinstance(solver, DPMSolverPPSinglestep)
            if single and (spaced != "log_snr" or (count - 1) % solver.order):
                continue  # their single steps put the inner evaluations on levels of the grid itself
            steps = count if single else steps_within(solver, count)
            grid = getattr(schedules, spaced)(steps + (not closed), PROCESS, kappa_min=KAPPA_MIN)
            grid = grid if closed else grid[:-1]
            own_grid = torch.cat([grid[: -1 : solver.order], grid[-1:]]) if single else grid
            x = ours(problem, solver, own_grid)
            found = {"diffusers": theirs(problem, peer, grid)}
            if k_name is not None:
                found["k-diffusion"] = formula(problem, k_name, own_grid)
            for side, other in found.items():
                yield {
                    "method": name if closed else f"{name}, to {KAPPA_MIN:.2g}", "grid": spaced, "evaluations": count,
                    "against": side, "ours": problem.error(x), "theirs": problem.error(other),
                    "apart": float((x - other).abs().amax(1).quantile(0.95) / x.abs().max()), "identical": identical,
                }  # fmt: skip


def tables(problem: Problem) -> Iterator[tuple[str, float]]:
    """Largest difference from the schedulers that know only a table of levels, noise for noise."""
    times = schedules.log_snr(10, PROCESS, kappa_min=KAPPA_MIN)
    for name, solver, kind, options in (
        ("DDIM(0)", DDIM(0.0), "DDIM", {"set_alpha_to_one": True}),
        ("DDIM(0.5)", DDIM(0.5), "DDIM", {"set_alpha_to_one": True, "step": {"eta": 0.5}}),
        ("DDIM(1)", DDIM(1.0), "DDIM", {"set_alpha_to_one": True, "step": {"eta": 1.0}}),
        ("DDPM(small)", DDPM("small"), "DDPM", {"variance_type": "fixed_small"}),
        ("DDPM(large)", DDPM("large"), "DDPM", {"variance_type": "fixed_large"}),
    ):
        mine = ours(problem, solver, times, generator(3))
        noise = generator(3)
        other = peers.walk_table(kind, PROCESS, problem.denoise, problem.start, times, generator=noise, **options)
        yield name, float((mine - other).abs().max())


Found = tuple[str, int, float, float]


def ranked(found: Iterator[Found]) -> dict[int, list[tuple[float, float, str]]]:
    """Root mean squared error, median error and name of all methods of one side, by number of evaluations."""
    by_count: dict[int, list[tuple[float, float, str]]] = {count: [] for count in EVALUATIONS}
    for name, count, error, typical in found:
        if math.isfinite(error):
            by_count[count].append((error, typical, name))
    return by_count


def all_ours(problem: Problem) -> Iterator[Found]:
    data = problem.law.sample(400, generator=generator(1))
    flow = flow_costs(problem.denoise, PROCESS, data, generator=generator(2))
    bounds = {
        least: grid_costs(problem.denoise, PROCESS, data, kappa_min=least, generator=generator(2))
        for least in (KAPPA_MIN, 0.02, 0.05, 0.1)
    }
    for grid_name, grid in grids(flow, bounds):
        for name, solver in SOLVERS.items():
            for count in EVALUATIONS:
                x = ours(problem, solver, grid(steps_within(solver, count)))
                yield f"{name} on {grid_name}", count, problem.error(x), problem.typical(x)


def all_theirs(problem: Problem) -> Iterator[Found]:
    for peer in peers.every_peer(KAPPA_MAX):
        for count in EVALUATIONS:
            steps = (count + 1) // 2 if peer.scheduler == "HeunDiscrete" else count
            try:
                x = theirs(problem, peer, steps=steps)
            except (ValueError, IndexError, AssertionError, TypeError) as error:
                print(f"  {peer.name} at {count}: {type(error).__name__}: {error}", flush=True)
                continue
            yield f"diffusers {peer.name}", count, problem.error(x), problem.typical(x)
    for grid_name in ("karras", "log_snr"):
        for least in (KAPPA_MIN, 0.02, 0.05, 0.1):
            for name, (_, stages) in peers.K_DIFFUSION.items():
                for count in EVALUATIONS:
                    steps = (count - 1) // stages + 1
                    times = getattr(schedules, grid_name)(steps, PROCESS, kappa_min=least)
                    x = formula(problem, name, times)
                    yield f"k-diffusion {name}, {grid_name} {least:.2g}", count, problem.error(x), problem.typical(x)


# ------------------------------------------------------------------------------------------- stochastic samplers


def laws(rows: int) -> list[str]:
    """Wasserstein-2 distances of empirical laws, stochastic samplers on the mixture; a fresh sample is the floor."""
    problem = make("mixture", rows)
    truth = problem.law.sample(rows, generator=generator(11))

    def distance(x: Tensor) -> float:
        cost = torch.cdist(x.double(), truth).square().numpy()
        return float(np.sqrt(cost[linear_sum_assignment(cost)].mean()))

    lines = ["| | " + " | ".join(str(count) for count in EVALUATIONS) + " |", "|---" * 6 + "|"]
    floor = distance(problem.law.sample(rows, generator=generator(12)))
    sde = (("algorithm_type", "sde-dpmsolver++"), ("use_karras_sigmas", True))
    rows_of: dict[str, Callable[[int], Tensor]] = {}
    for name, solver in (
        ("DDPM", DDPM()),
        ("DPMSolverPP(2, stochasticity=1)", DPMSolverPP(2, stochasticity=1.0)),
        ("DPMSolverPP(3, stochasticity=1)", DPMSolverPP(3, stochasticity=1.0)),
        ("DPMSolverPP(2, stochasticity=1, exact)", DPMSolverPP(2, stochasticity=1.0, variant="exact")),
        ("SASolver()", SASolver()),
    ):
        rows_of[f"ours, {name}"] = lambda n, s=solver: ours(
            problem, s, schedules.karras(n, PROCESS, kappa_min=KAPPA_MIN), generator(13)
        )
    for order in (1, 2):
        peer = Peer("DPMSolverMultistep", (*sde, ("solver_order", order)))
        rows_of[f"diffusers {peer.name}"] = lambda n, p=peer: peers.walk(
            p.make(peers.training_betas(PROCESS)), problem.predict, problem.start, steps=n, generator=generator(13)
        )[0]
    peer = Peer("SASolver", (("use_karras_sigmas", True),))
    rows_of[f"diffusers {peer.name}"] = lambda n: peers.walk(
        peer.make(peers.training_betas(PROCESS)), problem.predict, problem.start, steps=n, generator=generator(13)
    )[0]
    for name, draw in rows_of.items():
        lines.append(f"| {name} | " + " | ".join(f"{distance(draw(count)):.4f}" for count in EVALUATIONS) + " |")
    return [*lines, f"| a fresh sample of the law | {floor:.4f} |" + " |" * 4]


# ------------------------------------------------------------------------------------------------------- report


def report(problem: Problem, quick: bool) -> list[str]:
    lines = [f"## {problem.name}", ""]
    found = [row for spaced in ("log_snr", "karras") for row in same_levels(problem, spaced)]
    lines += ["### The same levels", "",
              "diffusers is given float64 levels; its multistep DPM-Solver rounds states to float32.", "",
              "Error of ours / error of theirs; in brackets the largest difference of a coordinate over the largest "
              "one, for 95 % of the rows, where the two are meant to be one method.", ""]  # fmt: skip
    header = " | ".join(str(count) for count in EVALUATIONS)
    lines += [f"| method | grid | against | {header} |", "|---" * (3 + len(EVALUATIONS)) + "|"]
    for key in dict.fromkeys((row["method"], row["grid"], row["against"]) for row in found):
        cells = dict.fromkeys(EVALUATIONS, "")
        for row in found:
            if (row["method"], row["grid"], row["against"]) == key:
                apart = f" ({row['apart']:.0e})" if row["identical"] else ""
                cells[row["evaluations"]] = f"{row['ours']:.4g} / {row['theirs']:.4g}{apart}"
        lines.append(f"| {' | '.join(key)} | {' | '.join(cells.values())} |")
    meant = [row for row in found if row["identical"]]
    apart = max(row["apart"] for row in meant)
    worse = [row for row in meant if row["ours"] > row["theirs"] * 1.001]
    lines += ["", f"Of {len(meant)} cells of methods meant to be one, ours is farther from the exact solution in "
              f"{len(worse)}, and the two differ by at most {apart:.1e}."]  # fmt: skip
    lines += [f"- {row['method']} on {row['grid']} at {row['evaluations']} against {row['against']}" for row in worse]
    lines += ["", "Of the defaults, ours is farther in"]
    for method in dict.fromkeys(row["method"] for row in found if not row["identical"]):
        rows = [row for row in found if row["method"] == method]
        lines.append(f"- {method}: {sum(row['ours'] > row['theirs'] * 1.001 for row in rows)} of {len(rows)} cells")
    lines += ["", "### Noise for noise", "", "Largest difference of a coordinate in 10 steps from diffusers' "
              "schedulers that know only a table.", "", "| method | difference |", "|---|---|"]  # fmt: skip
    lines += [f"| {name} | {difference:.1e} |" for name, difference in tables(problem)]
    if quick:
        return lines
    mine, other = ranked(all_ours(problem)), ranked(all_theirs(problem))
    lines += ["", "### The best of either side", "", f"{len(mine[10])} pairs of solver and grid of ours, "
              f"{len(other[10])} of theirs; ours are optimised on other noise than they are judged on."]  # fmt: skip
    for measure, place in (("Root mean squared error", 0), ("Median error", 1)):
        lines += ["", f"| {measure} at | ours | | theirs | | ratio |", "|---" * 6 + "|"]
        for count in EVALUATIONS:
            ahead = min(mine[count], key=lambda found: found[place])
            behind = min(other[count], key=lambda found: found[place])
            lines.append(f"| {count} | {ahead[place]:.4g} | {ahead[2]} | {behind[place]:.4g} | {behind[2]} | "
                         f"{ahead[place] / behind[place]:.2f} |")  # fmt: skip
    for side, found in (("ours", mine), ("theirs", other)):
        lines += ["", f"The next at 10 evaluations, {side}:", ""]
        lines += [f"- {error:.4g} {name}" for error, _, name in sorted(found[10])[1:8]]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problem", nargs="+", default=["mixture", "digits"], choices=["mixture", "digits"])
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="leave out the search for the best of either side")
    parser.add_argument("--no-laws", action="store_true", help="leave out the stochastic samplers")
    options = parser.parse_args()
    import diffusers

    began = time.perf_counter()
    lines = []
    for name in options.problem:
        lines += [*report(make(name, options.rows), options.quick), ""]
    if not options.no_laws:
        lines += ["## Stochastic samplers on the mixture", "", "Wasserstein-2 distance of 1000 draws from 1000 of the "
                  "law, Karras grids.", "", *laws(1000), ""]  # fmt: skip
    command = f"python benchmarks/solvers.py --problem {' '.join(options.problem)} --rows {options.rows}"
    machine = f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}"
    head = ["# Solvers and grids against diffusers and k-diffusion", "", *__doc__.splitlines()[5:], "",
            f"`{command}` on {machine}, diffusers {diffusers.__version__}, "
            f"{time.perf_counter() - began:.0f} s.", ""]  # fmt: skip
    text = "\n".join([*head, *lines])
    print(text)
    if not options.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    main()
