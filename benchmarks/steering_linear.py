"""Inverse problems whose posterior is known: how far from it do the heuristics of guidance end?

    python benchmarks/steering_linear.py [--runs 3] [--write]

The law is a mixture of three normals in the plane, measured along one line with noise. Each sampler draws 4000 points
in 200 ancestral steps from the exact denoiser, so that all of its error is the heuristic's; the figure is the sliced
Wasserstein distance to 4000 exact draws of the posterior (the floor is such draws against others). Beside it stands
what an independent implementation of the same formulas measured once. FlowChef walks rectified flow with a certain
measurement, as it was made for.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clarkia import samplers, schedules
from clarkia.guidance import flowchef, linear, potential
from clarkia.operators import Dense
from clarkia.processes import RectifiedFlow
from clarkia.random import generator
from clarkia.samplers import DDPM, DDRM, DPS, Euler, FlowChef

sys.path.append(str(Path(__file__).parents[1] / "tests" / "exact"))
from mix_three import LAW, LINE, PROCESS, Y, distance_to_posterior

RESULTS = Path(__file__).parent / "results" / "steering-linear.md"
ROWS, STEPS = 4000, 200
TIMES = schedules.karras(STEPS, PROCESS)
OPERATOR = Dense(LINE)
NOISES = (0.3, 1.0)
FLOW = RectifiedFlow()

Sampler = Callable[[float, int], Tensor]


def drawn(denoiser: Any, seed: int, solver: Any = None) -> Tensor:
    return samplers.sample(
        denoiser, PROCESS, num_samples=ROWS, shape=(2,), solver=solver or DDPM(), times=TIMES,
        generator=generator(seed), dtype=torch.float64,
    )  # type: ignore[return-value] # fmt: skip


def led(method: str, **options: Any) -> Sampler:
    return lambda noise, seed: drawn(
        linear(LAW.denoiser(PROCESS), PROCESS, OPERATOR, Y, noise, method=method, **options),  # type: ignore[arg-type]
        seed,
    )


# What is drawn, and what was measured before at noise 0.3 and at noise 1.
ROWS_OF_TABLE: dict[str, tuple[Sampler, tuple[float | None, float | None]]] = {
    "floor: exact draws": (lambda noise, seed: LAW.posterior(LINE, Y, noise).sample(ROWS, generator=generator(seed)),
                           (0.04, 0.065)),
    "denoiser of the exact posterior": (
        lambda noise, seed: drawn(LAW.posterior(LINE, Y, noise).denoiser(PROCESS), seed), (0.05, 0.05)),
    "no guidance": (lambda noise, seed: drawn(LAW.denoiser(PROCESS), seed), (1.20, 0.78)),
    "DPS, zeta 1": (led("dps"), (0.58, 0.57)),
    "DPS as released, zeta 0.1": (
        lambda noise, seed: drawn(LAW.denoiser(PROCESS), seed, DPS(OPERATOR, Y, 0.1)), (0.25, 0.78)),
    "PiGDM, deviation 1": (led("pigdm"), (0.18, 0.34)),
    "PiGDM, deviation 2": (led("pigdm", data_std=2.0), (0.26, 0.16)),
    "moment matching": (led("moment_matching"), (0.30, 0.12)),
    "DDNM": (led("ddnm", times=TIMES), (0.18, 0.59)),
    "DiffPIR, lambda 7": (led("diffpir"), (None, None)),
    "DiffPIR, lambda 1": (led("diffpir", strength=1.0), (None, None)),
    "DDRM": (lambda noise, seed: drawn(LAW.denoiser(PROCESS), seed, DDRM(OPERATOR, Y, noise)), (None, None)),
}  # fmt: skip


def heuristics(runs: int) -> list[str]:
    lines = [
        "| sampler | noise 0.3 | before | noise 1 | before | seconds a run |",
        "|---|---|---|---|---|---|",
    ]
    for name, (sampler, known) in ROWS_OF_TABLE.items():
        start = time.perf_counter()
        cells = []
        for noise, before in zip(NOISES, known, strict=True):
            found = [distance_to_posterior(sampler(noise, seed), noise, 1000 + 10 * seed) for seed in range(runs)]
            cells += [spread(found), "" if before is None else f"{before:g}"]
        seconds = (time.perf_counter() - start) / (runs * len(NOISES))
        lines.append(f"| {name} | {' | '.join(cells)} | {seconds:.1f} |")
        print(lines[-1], flush=True)
    return lines


def loss(x0: Tensor) -> Tensor:
    return 0.5 * OPERATOR.apply(x0).sub(Y.to(x0)).square().sum(1)


def chefs(runs: int) -> list[str]:
    """FlowChef, its form as guidance, and the gradient through the denoiser that it leaves out."""
    denoiser = LAW.denoiser(FLOW)
    variants: dict[str, tuple[Any, Any, tuple[float | None, float | None]]] = {
        "none": (denoiser, Euler(), (2.4, 1.34)),
        "FlowChef, s = 0.08": (denoiser, FlowChef(loss, 0.08), (0.024, 0.31)),
        "FlowChef, s = 0.3": (denoiser, FlowChef(loss, 0.3), (0.003, 0.29)),
        "the prediction alone moved, s = 0.3": (flowchef(denoiser, FLOW, loss, step=0.3), Euler(), (None, None)),
        "gradient through the denoiser, s = 0.3": (denoiser, Through(0.3), (None, 1.1)),
        "gradient through the denoiser, s = 1": (denoiser, Through(1.0), (None, 4.3)),
        "DPS's guidance at noise 0.3": (
            potential(denoiser, FLOW, lambda x0: -loss(x0) / 0.3**2), Euler(), (None, None)),
    }  # fmt: skip
    lines = [
        "| sampler | residual | before | distance | before |",
        "|---|---|---|---|---|",
    ]
    for name, (guided, solver, known) in variants.items():
        residuals, distances = [], []
        for seed in range(runs):
            x = samplers.sample(
                guided, FLOW, num_samples=ROWS, shape=(2,), solver=solver, num_steps=100, generator=generator(seed),
                dtype=torch.float64,
            )  # fmt: skip
            residuals.append(float((2 * loss(x)).mean().sqrt()))  # type: ignore[arg-type]
            distances.append(distance_to_posterior(x, 0.0, 1000 + 10 * seed))
        cells = [spread(residuals, 4), *known[:1], spread(distances), *known[1:]]
        shown = ["" if cell is None else f"{cell:g}" if isinstance(cell, float) else cell for cell in cells]
        lines.append(f"| {name} | {' | '.join(shown)} |")
        print(lines[-1], flush=True)
    return lines


class Through:
    """FlowChef's move with the gradient of ``loss(x0_hat(x_t))`` in the noisy state."""

    def __init__(self, move: float) -> None:
        self.move = move

    def init(self, x: Tensor, process: Any, generator: Any = None) -> None:
        return None

    def step(self, denoise: Any, process: Any, x: Tensor, t: Tensor, s: Tensor, carry: Any, generator: Any = None):
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            x0_hat = denoise(leaf, t)
            (slope,) = torch.autograd.grad(loss(x0_hat).sum(), leaf)
        velocity = process.velocity(x, x0_hat.detach(), t)
        moved = x - self.move * slope if float(s[0]) > 0 else x
        return moved + (s - t).reshape(-1, 1) * velocity, None


def spread(found: list[float], digits: int = 2) -> str:
    """The mean, and the range where there are several."""
    mean = f"{sum(found) / len(found):.{digits}f}"
    return mean if len(found) == 1 else f"{mean} ({min(found):.{digits}f} to {max(found):.{digits}f})"


def main(runs: int, write: bool) -> None:
    threads = torch.get_num_threads()
    machine = f"{threads} thread{'s' * (threads > 1)}, {platform.machine()}, torch {torch.__version__}"
    lines = [
        "# Guidance by one measurement of three normals",
        "",
        f"`python benchmarks/steering_linear.py --runs {runs}` on {machine}.",
        "",
        f"Sliced Wasserstein distance (200 directions) of {ROWS} samples to as many exact draws of the posterior, mean "
        f'and range of {runs} runs; {STEPS} ancestral steps, noise from 20 to 0.01. "Before" is one run of an '
        "independent implementation.",
        "",
        *heuristics(runs),
        "",
        "## FlowChef",
        "",
        "Rectified flow, 100 steps of Euler, a certain measurement: root mean square of what is left of it, and the "
        "distance to the posterior.",
        "",
        *chefs(runs),
    ]
    if write:
        RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    a = parser.parse_args()
    main(a.runs, a.write)
