"""Two-sample measures against the packages that people use: agreement, time and memory.

    python benchmarks/measures.py [--rows 50000] [--pair-rows 5000] [--width 2048] [--only NAME ...]

Every run is a process of its own; its memory is the peak above what the two feature matrices take. Where a package is
not installed its published formula stands in, written out in NumPy and SciPy as the package computes it. Packages that
hold an ``n x m`` matrix are compared at ``--pair-rows`` rows and clarkia is timed alone at ``--rows``.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from clarkia._math.linear import ledoit_wolf
from clarkia._math.pairwise import k_nearest
from clarkia.measures import kernels, two_sample
from clarkia.measures.inputs import some_rows
from clarkia.measures.two_sample.sliced import random_directions
from clarkia.random import generator

RESULTS = Path(__file__).parent / "results"
BANDWIDTH, EPS, SUBSETS, SIZE = 60.0, 2000.0, 100, 1000
Values = Callable[[np.ndarray, np.ndarray], list[float]]


def data(rows: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of non-negative features with unequal columns, float32 as networks give them."""
    rng = np.random.default_rng(0)
    scale = np.linspace(0.2, 1.5, width, dtype=np.float32)
    x, y = (rng.standard_normal((rows, width), dtype=np.float32) for _ in range(2))
    np.maximum(x, 0, out=x)
    np.maximum(y + np.float32(0.05), 0, out=y)
    x *= scale
    y *= scale * np.float32(1.02)
    return x, y


def frechet_peer(x: np.ndarray, y: np.ndarray) -> list[float]:
    """clean-fid and torch-fidelity: a general matrix root of the product of the covariances."""
    from scipy import linalg

    (mu1, sigma1), (mu2, sigma2) = (
        (np.mean(z, axis=0, dtype=np.float64), np.cov(z.astype(np.float64), rowvar=False)) for z in (x, y)
    )
    root = linalg.sqrtm(sigma1.dot(sigma2))
    diff = mu1 - mu2
    return [float(diff.dot(diff) + np.trace(sigma1) + np.trace(sigma2) - 2 * np.trace(np.real(root)))]


def kid_peer(x: np.ndarray, y: np.ndarray) -> list[float]:
    """torch-fidelity: whole Gram matrices of every subset (the same subsets as clarkia draws)."""
    noise, total = generator(1), 0.0
    first, second = torch.arange(len(x)), torch.arange(len(y))
    size = min(SIZE, len(x) // 2)
    for _ in range(SUBSETS):
        a, b = x[some_rows(first, size, noise)].astype(np.float64), y[some_rows(second, size, noise)].astype(np.float64)
        xx, yy, xy = ((p @ q.T / x.shape[1] + 1) ** 3 for p, q in ((a, a), (b, b), (a, b)))
        own = (xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (size * (size - 1))
        total += own - 2 * xy.sum() / size**2
    return [float(total / SUBSETS)]


def kid_ours(x: np.ndarray, y: np.ndarray) -> list[float]:
    size = min(SIZE, len(x) // 2)
    return [two_sample.kid(torch.from_numpy(x), torch.from_numpy(y), size=size, generator=generator(1)).value]


def mmd_peer(x: np.ndarray, y: np.ndarray) -> list[float]:
    """scikit-learn's whole kernel matrices."""
    from sklearn.metrics.pairwise import rbf_kernel

    gamma, (n, m) = 0.5 / BANDWIDTH**2, (len(x), len(y))
    x, y = x.astype(np.float64), y.astype(np.float64)
    own = [(g.sum() - np.trace(g)) / (k * (k - 1)) for g, k in ((rbf_kernel(z, gamma=gamma), len(z)) for z in (x, y))]
    return [float(own[0] + own[1] - 2 * rbf_kernel(x, y, gamma=gamma).sum() / (n * m))]


def energy_peer(x: np.ndarray, y: np.ndarray) -> list[float]:
    """scikit-learn's whole distance matrices."""
    from sklearn.metrics import pairwise_distances

    x, y = x.astype(np.float64), y.astype(np.float64)
    return [float(2 * pairwise_distances(x, y).mean() - pairwise_distances(x).mean() - pairwise_distances(y).mean())]


def prdc_peer(x: np.ndarray, y: np.ndarray) -> list[float]:
    """prdc: three whole distance matrices, radii by partition, strict inequalities."""
    from sklearn.metrics import pairwise_distances

    k = 5
    x, y = x.astype(np.float64), y.astype(np.float64)
    radius_x, radius_y = (np.partition(pairwise_distances(z, metric="euclidean"), k, axis=-1)[:, k] for z in (x, y))
    gap = pairwise_distances(x, y, metric="euclidean")
    return [
        float((gap < radius_x[:, None]).any(axis=0).mean()),
        float((gap < radius_y[None]).any(axis=1).mean()),
        float((gap < radius_x[:, None]).sum(axis=0).mean() / k),
        float((gap.min(axis=1) < radius_x).mean()),
    ]


def prdc_ours(x: np.ndarray, y: np.ndarray) -> list[float]:
    found = two_sample.prdc(x, y)
    return [found.precision, found.recall, found.density, found.coverage]


def sliced_peer(x: np.ndarray, y: np.ndarray) -> list[float]:
    """POT (or its formula): all projections at once, sorted, paired."""
    directions = random_directions(200, x.shape[1], generator=generator(2)).numpy()
    x, y = x.astype(np.float64), y.astype(np.float64)
    try:
        import ot

        return [float(ot.sliced_wasserstein_distance(x, y, projections=directions.T, p=2))]
    except ImportError:
        gap = np.sort(x @ directions.T, axis=0) - np.sort(y @ directions.T, axis=0)
        return [float((np.abs(gap) ** 2).mean(0).mean() ** 0.5)]


def sinkhorn_peer(x: np.ndarray, y: np.ndarray) -> list[float]:
    """POT's sinkhorn_log: log-domain iterations on the whole cost matrix, the plan's cost plus its entropy."""
    from scipy.special import logsumexp

    x, y = x.astype(np.float64), y.astype(np.float64)
    cost = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T
    scaled, (n, m) = -cost / EPS, cost.shape
    u, v = np.zeros(n), np.zeros(m)
    for _ in range(1000):
        v = -np.log(m) - logsumexp(scaled + u[:, None], axis=0)
        u = -np.log(n) - logsumexp(scaled + v, axis=1)
        if np.abs(np.exp(scaled + u[:, None] + v).sum(0) - 1 / m).sum() < 1e-9:
            break
    plan = np.exp(scaled + u[:, None] + v)
    return [float((plan * cost).sum() + EPS * (plan * np.log(plan * n * m)).sum())]


def sinkhorn_ours(x: np.ndarray, y: np.ndarray) -> list[float]:
    blur = (EPS / 2) ** 0.5
    return [float(two_sample.sinkhorn_divergence(x, y, blur, debias=False, tolerance=1e-9))]


def vendi_peer(x: np.ndarray, y: np.ndarray) -> list[float]:
    """vendi-score's dual: eigenvalues of the second moments of unit rows."""
    from scipy import linalg
    from sklearn.preprocessing import normalize

    rows = normalize(x.astype(np.float64), axis=1)
    values = linalg.eigvalsh(rows.T @ rows / len(rows))
    values = values[values > 0]
    return [float(np.exp(-(values * np.log(values)).sum()))]


def neighbours_peer(x: np.ndarray, y: np.ndarray) -> list[float]:
    """scikit-learn's brute-force neighbours."""
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(x.astype(np.float64))
    return found.kneighbors(y.astype(np.float64))[0].mean(0).tolist()


def shrinkage_peer(x: np.ndarray, y: np.ndarray) -> list[float]:
    """scikit-learn's Ledoit-Wolf covariance."""
    from sklearn.covariance import ledoit_wolf as peer

    return [float(np.trace(peer(x.astype(np.float64))[0])), float(np.linalg.norm(peer(y.astype(np.float64))[0]))]


def shrinkage_ours(x: np.ndarray, y: np.ndarray) -> list[float]:
    return [float(ledoit_wolf(torch.from_numpy(x)).trace()), float(ledoit_wolf(torch.from_numpy(y)).norm())]


@dataclass(frozen=True)
class Comparison:
    """A measure, its peer, and whether the peer (or the task itself) is quadratic in the rows."""

    ours: Values
    peer: Values
    package: str
    quadratic: bool = False
    most_rows: int | None = None


COMPARISONS = {
    "frechet": Comparison(
        lambda x, y: [float(two_sample.frechet_distance(x, y))], frechet_peer, "torch-fidelity, clean-fid"
    ),
    "kid": Comparison(kid_ours, kid_peer, "torch-fidelity"),
    "mmd": Comparison(
        lambda x, y: [float(two_sample.mmd2(x, y, kernel=kernels.Gaussian(BANDWIDTH)))], mmd_peer, "scikit-learn", True
    ),
    "energy": Comparison(lambda x, y: [float(two_sample.energy_distance(x, y))], energy_peer, "scikit-learn", True),
    "prdc": Comparison(prdc_ours, prdc_peer, "prdc", True),
    "sliced": Comparison(
        lambda x, y: [float(two_sample.sliced_wasserstein(x, y, n_projections=200, generator=generator(2)))],
        sliced_peer,
        "POT",
    ),
    "sinkhorn": Comparison(sinkhorn_ours, sinkhorn_peer, "POT", True, 2000),
    "vendi": Comparison(lambda x, y: [float(two_sample.vendi(x))], vendi_peer, "vendi-score"),
    "neighbours": Comparison(
        lambda x, y: k_nearest(torch.from_numpy(y), torch.from_numpy(x), 5)[0].mean(0).tolist(),
        neighbours_peer,
        "scikit-learn",
        True,
    ),
    "ledoit-wolf": Comparison(shrinkage_ours, shrinkage_peer, "scikit-learn"),
}


def peak() -> float:
    """Largest memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child(name: str, side: str, rows: int, width: int) -> None:
    """One run: values, seconds and memory on standard output."""
    comparison = COMPARISONS[name]
    x, y = data(rows, width)
    function = comparison.ours if side == "ours" else comparison.peer
    function(x[:64], y[:64])  # imports and first calls are not timed
    before, start = peak(), time.perf_counter()
    values = function(x, y)
    seconds = time.perf_counter() - start
    print(json.dumps({"values": values, "seconds": seconds, "mib": peak() - before}))


def run(name: str, side: str, rows: int, width: int) -> dict:
    """The child process's answer."""
    command = [sys.executable, __file__, "--child", name, side, "--rows", str(rows), "--width", str(width)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} ({side}, {rows} rows): {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def gap(ours: list[float], peer: list[float]) -> float:
    """Largest relative difference."""
    return max(abs(a - b) / max(abs(b), 1e-12) for a, b in zip(ours, peer, strict=True))


def compare(name: str, rows: int, pair_rows: int, width: int) -> list[str]:
    """Lines of the table of one measure."""
    comparison = COMPARISONS[name]
    shared = pair_rows if comparison.quadratic else rows
    shared = min(shared, comparison.most_rows or shared)
    ours, peer = run(name, "ours", shared, width), run(name, "peer", shared, width)
    lines = [
        f"| {name} | {comparison.package} | {shared:,} | {gap(ours['values'], peer['values']):.1e} "
        f"| {ours['seconds']:.2f} | {peer['seconds']:.2f} | {peer['seconds'] / ours['seconds']:.2f} "
        f"| {ours['mib']:.0f} | {peer['mib']:.0f} |"
    ]
    if comparison.quadratic and comparison.most_rows is None and rows > shared:
        alone = run(name, "ours", rows, width)
        whole = 8 * rows**2 / 2**20
        lines.append(
            f"| {name} | (one matrix n x m: {whole:,.0f} MiB) | {rows:,} | | {alone['seconds']:.2f} | | "
            f"| {alone['mib']:.0f} | |"
        )
    return lines


def main() -> None:
    """Run every comparison and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--pair-rows", type=int, default=5_000)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--only", nargs="+", choices=COMPARISONS, default=list(COMPARISONS))
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="also write results/measures.md")
    options = parser.parse_args()
    if options.child:
        child(*options.child, options.rows, options.width)
        return
    table = [
        "| measure | peer | rows | gap | clarkia, s | peer, s | ratio | clarkia, MiB | peer, MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(table))
    for name in options.only:
        for line in compare(name, options.rows, options.pair_rows, options.width):
            table.append(line)
            print(line, flush=True)
    if options.write:
        machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, Python {sys.version[:6]}"
        arguments = f"--rows {options.rows} --pair-rows {options.pair_rows} --width {options.width}"
        text = (
            "# Two-sample measures against other packages\n\n"
            f"`python benchmarks/measures.py {arguments}` on {machine}. "
            f"Features of width {options.width}; memory is the peak above the features; "
            "ratio is peer over clarkia; gap is relative.\n\n" + "\n".join(table) + "\n"
        )
        (RESULTS / "measures.md").write_text(text)


if __name__ == "__main__":
    main()
