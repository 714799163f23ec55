"""Conditional mean and standard deviation of a bivariate normal: closed form, exact denoiser, trained model.

    python benchmarks/conditioning.py [--rows 50000] [--steps 4000]

Correlation 0.9, the question x2 | x1 = 2, whose answer is mean 1.8 and standard deviation 0.436.
"""

import argparse
import math
import os
import platform
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import clarkia as ck
from clarkia import oracles, processes, samplers
from clarkia.random import generator

RESULTS = Path(__file__).parent / "results"
CORRELATION, GIVEN = 0.9, 2.0


def oracle(draws: int) -> np.ndarray:
    """x2 given x1 from the exact denoiser with the known cell at zero noise."""
    covariance = torch.tensor([[[1.0, CORRELATION], [CORRELATION, 1.0]]], dtype=torch.float64)
    law = oracles.GaussianMixture(torch.ones(1), torch.zeros(1, 2), covariance)
    process = processes.VarianceExploding()
    known = torch.tensor([[GIVEN, 0.0]], dtype=torch.float64), torch.tensor([[True, False]])
    drawn = samplers.sample(
        law.denoiser(process), process, num_samples=draws, known=known, num_steps=50, generator=generator(0)
    )
    return drawn[:, 1].numpy()  # type: ignore[index]


def trained(rows: int, steps: int, draws: int) -> np.ndarray:
    """x2 given x1 from a model fitted to a sample."""
    rng = np.random.default_rng(0)
    x = rng.multivariate_normal([0, 0], [[1, CORRELATION], [CORRELATION, 1]], rows)
    model = ck.TableModel(max_steps=steps, max_minutes=None, patience=None)
    model.fit(pd.DataFrame(x, columns=["x1", "x2"]), progress=True)
    return model.sample(draws, given={"x1": GIVEN})["x2"].to_numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--steps", type=int, default=4_000)
    parser.add_argument("--draws", type=int, default=20_000)
    arguments = parser.parse_args()
    mean, sd = CORRELATION * GIVEN, math.sqrt(1 - CORRELATION**2)
    lines = [f"| closed form | {mean:.4f} | {sd:.4f} | | |"]
    found = {
        "exact denoiser": oracle(arguments.draws),
        "trained model": trained(arguments.rows, arguments.steps, arguments.draws),
    }
    for name, x2 in found.items():
        middle, spread = float(x2.mean()), float(x2.std())
        off = middle / mean - 1, spread / sd - 1
        lines.append(f"| {name} | {middle:.4f} | {spread:.4f} | {off[0]:+.1%} | {off[1]:+.1%} |")
    command = f"python benchmarks/conditioning.py --rows {arguments.rows} --steps {arguments.steps}"
    machine = f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}"
    table = "\n".join(["| | mean | standard deviation | mean off | sd off |", "|---|---|---|---|---|", *lines])
    print(table)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "conditioning.md").write_text(f"# x2 | x1 = 2\n\n`{command}` on {machine}.\n\n{table}\n")


if __name__ == "__main__":
    main()
