"""How long exact draws, sampled draws and exact predictions of the oracles take.

    python benchmarks/oracles.py [--rows 1000000]

A Gaussian mixture in three dimensions and a table of five columns (three numbers, two categories) are drawn exactly;
the mixture is drawn again through 50 steps of `samplers.sample` in blocks of rows; then one prediction of data smoothed
by a kernel (10,000 points of 64 columns, 1,000 queries) and of a Markov chain (64 positions of 100 classes).
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from clarkia import oracles, processes, samplers
from clarkia.random import generator

RESULTS = Path(__file__).parent / "results"
BLOCK = 8_192
NOISE = generator(0)


def mixture() -> oracles.GaussianMixture:
    """Four components with full covariances in three dimensions."""
    root = 0.4 * torch.randn(4, 3, 3, generator=NOISE, dtype=torch.float64)
    covariances = root @ root.mT + 0.05 * torch.eye(3, dtype=torch.float64)
    means = 2 * torch.randn(4, 3, generator=NOISE, dtype=torch.float64)
    return oracles.GaussianMixture([0.1, 0.2, 0.3, 0.4], means, covariances)


def table() -> oracles.MixedJoint:
    """Three numbers and two categories with five and four classes."""
    weights = torch.rand(5, 4, generator=NOISE, dtype=torch.float64)
    root = 0.5 * torch.randn(5, 4, 3, 3, generator=NOISE, dtype=torch.float64)
    means = 2 * torch.randn(5, 4, 3, generator=NOISE, dtype=torch.float64)
    return oracles.MixedJoint(weights / weights.sum(), means, root @ root.mT)


def by_steps(law: oracles.GaussianMixture, rows: int, solver: samplers.Solver) -> torch.Tensor:
    """Draws through the sampling loop, one core a block of rows."""
    process = processes.VariancePreserving()

    def block(start: int) -> torch.Tensor:
        return samplers.sample(  # type: ignore[return-value]
            law.denoiser(process), process, num_samples=min(BLOCK, rows - start), shape=law.space, solver=solver,
            num_steps=50, generator=generator(1, start), dtype=torch.float64,
        )  # fmt: skip

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(block, range(0, rows, BLOCK)))
    torch.set_num_threads(threads)
    return torch.cat(parts)


def smoothed() -> Callable[[], torch.Tensor]:
    data = torch.randn(10_000, 64, generator=NOISE, dtype=torch.float64)
    denoise = oracles.KernelSmoothed(data, 0.15).denoiser(processes.EDM)
    x_t, t = torch.randn(1_000, 64, generator=NOISE, dtype=torch.float64), torch.full((1_000,), 0.5).double()
    return lambda: denoise(x_t, t)


def chain() -> Callable[[], torch.Tensor]:
    step = torch.rand(100, 100, generator=NOISE, dtype=torch.float64)
    law = oracles.MarkovChain(torch.full((100,), 0.01), step / step.sum(1, keepdim=True), 64)
    process = processes.Uniform(100)
    t = torch.full((1_000,), 0.5, dtype=torch.float64)
    x_t = process.corrupt(law.sample(1_000, generator=NOISE), t, generator=NOISE)
    return lambda: law.denoiser(process)(x_t, t)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    gaussians, columns = mixture(), table()
    work = {
        f"mixture, three dimensions: {rows:,} exact draws": lambda: gaussians.sample(rows, generator=NOISE),
        f"five mixed columns: {rows:,} exact draws": lambda: columns.sample(rows, generator=NOISE),
        f"mixture: {rows:,} draws by 50 steps of DPMSolverPP": lambda: by_steps(
            gaussians, rows, samplers.DPMSolverPP()
        ),
        f"mixture: {rows:,} draws by 50 steps of Heun": lambda: by_steps(gaussians, rows, samplers.Heun()),
        "smoothed data: a prediction of 1,000 rows, 10,000 points of 64 columns": smoothed(),
        "Markov chain: a prediction of 1,000 rows, 64 positions of 100 classes": chain(),
    }
    lines = []
    for name, call in work.items():
        lines.append(f"| {name} | {seconds(call):.2f} |")
        print(lines[-1], flush=True)
    command = f"python benchmarks/oracles.py --rows {rows}"
    machine = f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}"
    text = "\n".join(["| | seconds |", "|---|---|", *lines])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "oracles.md").write_text(f"# Time of the oracles\n\n`{command}` on {machine}, float64.\n\n{text}\n")


if __name__ == "__main__":
    main()
