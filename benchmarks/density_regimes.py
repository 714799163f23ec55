"""Kernel densities of normal rows: the theory of many dimensions beside what a finite sample gives.

    python benchmarks/density_regimes.py [--queries 400]

For each dimension and number of rows: the bandwidths of the theory (h_G, h_CLT and the best one), the best bandwidth
and its divergence a dimension as measured on fresh points, the neighbour distance, the effective number of rows at
h_G and h_CLT, both data-driven estimates of h_G, and what Scott's rule loses against the best.
"""

import argparse
import math
import os
import platform
import time
from pathlib import Path

import torch

from clarkia.measures import density
from clarkia.random import generator, randn

RESULTS = Path(__file__).parent / "results"
SIZES = ((10, 2000), (20, 3000), (32, 4096), (64, 8192), (40, 20_000))


def row(d: int, n: int, queries: int) -> str:
    """One line of the table."""
    data, fresh = (randn((size, d), generator(0, d, size), dtype=torch.float64) for size in (n, queries))
    theory = density.kernel_regimes(math.log(n) / d)
    grid = torch.arange(0.4, 1.8, 0.025, dtype=torch.float64)
    start = time.perf_counter()
    found = density.density_regimes(data, fresh, bandwidths=grid)
    seconds = time.perf_counter() - start
    loss = -found.log_prob / d - 0.5 * math.log(2 * math.pi * math.e)
    scott = n ** (-1 / (d + 4))
    at = {
        name: int((grid - h).abs().argmin())
        for name, h in (("G", theory.condensation), ("CLT", theory.normal), ("scott", scott))
    }
    return (
        f"| {d} | {n} | {theory.condensation:.3f} | {theory.normal:.3f} | {theory.optimal:.3f} "
        f"| {found.optimal:.3f} | {found.nearest:.3f} | {float(loss.min()):.3f} | {theory.divergence:.3f} "
        f"| {float(found.effective[at['G']]):.1f} | {float(found.effective[at['CLT']]):.0f} "
        f"| {found.condensation:.3f} | {found.tail:.3f} | {found.collapse:.3f} "
        f"| {scott:.3f} | {float(loss[at['scott']] - loss.min()):.3f} | {seconds:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=400)
    arguments = parser.parse_args()
    head = (
        "| d | rows | h_G | h_CLT | best, theory | best, measured | neighbour | KL/d | KL/d, theory | rows at h_G "
        "| rows at h_CLT | h_G by five rows | h_G by Hill | collapse | Scott | Scott's loss/d | s |"
    )
    text = "\n".join(
        [
            "# Kernel densities of normal rows",
            "",
            f"`python benchmarks/density_regimes.py --queries {arguments.queries}` on {os.cpu_count()} cores "
            f"({platform.machine()}), torch {torch.__version__}, {torch.get_num_threads()} thread(s).",
            "",
            head,
            "|" + "---|" * 17,
            *(row(d, n, arguments.queries) for d, n in SIZES),
            "",
        ]
    )
    print(text)
    (RESULTS / "density_regimes.md").write_text(text)


if __name__ == "__main__":
    main()
