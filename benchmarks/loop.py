"""What a sampling loop costs beside the network: ours and diffusers', a network of a million parameters, 1024 rows.

    pip install diffusers
    python benchmarks/loop.py [--steps 20] [--rounds 30]

Each round times, one after the other, the bare network calls and every loop around them, so all meet the same machine.
Beside that, every loop is timed around a network that answers at once, which measures the overhead without the noise
of the large numbers; the share is that time over a bare call's. Our coefficients of a grid are kept for the next batch;
the first run on a grid is timed by itself.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from clarkia import samplers, schedules
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
    deis,
    exponential,
)
from peers import Peer, training_betas

RESULTS = Path(__file__).parent / "results" / "loop.md"
ROWS, WIDTH, HIDDEN = 1024, 64, 640
PROCESS = VariancePreserving()


class Network(nn.Module):
    """Four layers, 1.0 M parameters; the time is one more input."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(WIDTH + 1, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU(),
            nn.Linear(HIDDEN, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN // 4), nn.SiLU(),
            nn.Linear(HIDDEN // 4, WIDTH),
        )  # fmt: skip

    def forward(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        return self.layers(torch.cat([x, t.unsqueeze(1)], 1))


class Instant(nn.Module):
    """Answers with the same numbers at once."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        return self.answer


SOLVERS: dict[str, tuple[Any, Peer | None]] = {
    "Euler()": (Euler(), Peer("EulerDiscrete")),
    "DDIM()": (DDIM(), Peer("DDIM")),
    "DDPM()": (DDPM(), Peer("DDPM")),
    "Heun()": (Heun(), Peer("HeunDiscrete")),
    "DPMSolverPP(1)": (DPMSolverPP(1), Peer("DPMSolverMultistep", (("solver_order", 1),))),
    "DPMSolverPP(2)": (DPMSolverPP(2), Peer("DPMSolverMultistep", (("solver_order", 2),))),
    "DPMSolverPP(2, stochasticity=1)": (
        DPMSolverPP(2, stochasticity=1.0),
        Peer("DPMSolverMultistep", (("algorithm_type", "sde-dpmsolver++"),)),
    ),
    "DPMSolverPP(3)": (DPMSolverPP(3), Peer("DPMSolverMultistep", (("solver_order", 3),))),
    "DPMSolverPPSinglestep(2)": (DPMSolverPPSinglestep(2), None),
    "DPMSolverPPSinglestep(3)": (DPMSolverPPSinglestep(3), None),
    "UniPC(2)": (UniPC(2), Peer("UniPCMultistep", (("solver_order", 2),))),
    "UniPC(3)": (UniPC(3), Peer("UniPCMultistep", (("solver_order", 3),))),
    "DEIS(2)": (DEIS(2), Peer("DEISMultistep", (("solver_order", 2),))),
    "DEIS(3)": (DEIS(3), Peer("DEISMultistep", (("solver_order", 3),))),
    "SASolver()": (SASolver(), Peer("SASolver")),
}


def forget() -> None:
    """Make our next run the first one on its grid, which computes the coefficients of its steps."""
    exponential._shared_factors.cache_clear()
    deis._shared_weights.cache_clear()


def calls_of(solver: Any, steps: int) -> int:
    """Evaluations of a run; the last step takes one."""
    stages = {Heun: 2, DPMSolverPPSinglestep: getattr(solver, "order", 1)}.get(type(solver), 1)
    return stages * (steps - 1) + 1


@torch.no_grad()
def bare(network: nn.Module, x: Tensor, calls: int) -> None:
    t = torch.full((1,), 0.5).expand(len(x))
    for _ in range(calls):
        network(x, t)


def our_loop(solver: Any, x: Tensor, times: Tensor) -> Callable[[nn.Module], Any]:
    return lambda network: samplers.sample(
        network, PROCESS, initial=x, solver=solver, times=times, generator=generator(0)
    )


def their_loop(peer: Peer, x: Tensor, steps: int) -> Callable[[nn.Module], Any]:
    """The loop of a diffusers pipeline: the network is told the time step, the scheduler steps."""
    scheduler = peer.make(training_betas(PROCESS))

    @torch.no_grad()
    def walk(network: nn.Module) -> Tensor:
        scheduler.set_timesteps(steps)
        noise = generator(0)
        stochastic = {"generator": noise} if peer.scheduler in ("DDPM", "SASolver") or "sde" in peer.name else {}
        sample = x * scheduler.init_noise_sigma
        for timestep in scheduler.timesteps:
            scaled = scheduler.scale_model_input(sample, timestep)
            answer = network(scaled, (timestep / 1000).float().expand(len(x)))
            sample = scheduler.step(answer, timestep, sample, return_dict=False, **stochastic)[0]
        return sample

    return walk


def seconds(work: Callable[[], Any], clock: Callable[[], float]) -> float:
    began = clock()
    work()
    return clock() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--cpu", action="store_true", help="one thread and its processor time, for a busy machine")
    parser.add_argument("--only", nargs="+", default=None, help="solvers, by the start of their names")
    parser.add_argument("--profile", action="store_true", help="say where the time of each of our loops goes")
    options = parser.parse_args()
    chosen = {name: pair for name, pair in SOLVERS.items() if not options.only or name.startswith(tuple(options.only))}
    clock = time.process_time if options.cpu else time.perf_counter
    if options.cpu:
        torch.set_num_threads(1)
    network = Network().eval()
    parameters = sum(weight.numel() for weight in network.parameters())
    x = randn((ROWS, WIDTH), generator(1))
    times = schedules.karras(options.steps, PROCESS)
    instant = Instant(0.5 * x)
    loops: dict[str, tuple[int, Callable[[nn.Module], Any], Callable[[nn.Module], Any] | None]] = {}
    for name, (solver, peer) in chosen.items():
        theirs = None if peer is None else their_loop(peer, x, options.steps)
        loops[name] = (calls_of(solver, options.steps), our_loop(solver, x, times), theirs)
    if options.profile:
        return profile(loops, instant)

    bare_call: list[float] = []
    whole: dict[tuple[str, str], list[float]] = {}
    alone: dict[tuple[str, str], list[float]] = {}
    first: dict[str, list[float]] = {}
    for round_ in range(options.rounds + 2):
        for name, (calls, our, their) in loops.items():
            one = seconds(lambda: bare(network, x, options.steps), clock) / options.steps
            for side, loop in (("ours", our), ("theirs", their)):
                if loop is None:
                    continue
                taken = seconds(lambda: loop(network), clock) / calls  # noqa: B023
                empty = seconds(lambda: loop(instant), clock) / calls  # noqa: B023
                if side == "ours":
                    forget()
                    first.setdefault(name, []).append(seconds(lambda: loop(instant), clock) / calls)  # noqa: B023
                if round_ > 1:  # the first two warm up
                    whole.setdefault((name, side), []).append(taken / one - 1)
                    alone.setdefault((name, side), []).append(empty)
            if round_ > 1:
                bare_call.append(one)
    step = min(bare_call)
    drawing = min(seconds(lambda: randn(x.shape, generator(0)), clock) for _ in range(200))
    titles = "solver", "ours, us a call", "share", "measured whole", "on a new grid", "diffusers, us a call", "share"
    lines = [f"| {' | '.join(titles)} | measured whole |", "|---" * 8 + "|"]
    for name in loops:
        cells = []
        for side in ("ours", "theirs"):
            if (name, side) in alone:
                mine = min(alone[name, side])
                cells += [f"{1e6 * mine:.0f}", f"{mine / step:.2%}", f"{median(whole[name, side]):+.1%}"]
            else:
                cells += ["", "", ""]
            if side == "ours":
                cells.append(f"{1e6 * min(first[name]):.0f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    import diffusers

    command = (
        f"python benchmarks/loop.py --steps {options.steps} --rounds {options.rounds}{' --cpu' if options.cpu else ''}"
    )
    machine = f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}"
    threads = f"{torch.get_num_threads()} threads"
    text = "\n".join([
        "# The sampling loop beside the network", "", *__doc__.splitlines()[5:], "",
        f"`{command}` on {machine}, {threads}, diffusers {diffusers.__version__}.", "",
        f"A bare call of the network ({parameters:,} parameters, {ROWS} rows of {WIDTH}) takes {1e3 * step:.2f} ms "
        f"(least of {len(bare_call)}). Times are a call of the network, the least of {options.rounds} rounds; "
        "whole runs "
        f"the median of theirs. Drawing the noise of a stochastic step alone takes {1e6 * drawing:.0f} us "
        f"({drawing / step:.1%}). The goal is a share under 2 % and not above diffusers'.", "", *lines,
    ])  # fmt: skip
    print(text)
    if not options.only:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text + "\n")


def profile(loops: dict[str, tuple[int, Callable[[nn.Module], Any], Any]], instant: nn.Module) -> None:
    """The functions that an empty run of each of our loops spends its time in."""
    import cProfile
    import pstats

    for name, (calls, our, _) in loops.items():
        our(instant)
        watch = cProfile.Profile()
        watch.enable()
        for _ in range(20):
            our(instant)
        watch.disable()
        print(f"\n== {name}, {20 * calls} calls")
        pstats.Stats(watch).sort_stats("cumulative").print_stats(25)


if __name__ == "__main__":
    main()
