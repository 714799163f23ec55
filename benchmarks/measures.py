"""Two-sample measures against the packages that people use: agreement, time and memory.

    python benchmarks/measures.py [--rows 50000] [--pair-rows 5000] [--alone ROWS] [--width 2048] [--only ...] [--write]

Every run is a process of its own; its memory is the peak above what it held with the two float32 feature matrices. The
peers (`measures_peers.py`) are timed in float64, in which values agree, and once more on the float32 features as they
come. Those that hold an ``n x m`` matrix run at ``--pair-rows`` rows; clarkia is then timed alone, at ``--rows`` or
``--alone`` rows, beside what the peer would take there: its figures times the square of the ratio of the rows.
"""

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

import measures_peers as peers
from clarkia._math.linear import ledoit_wolf
from clarkia._math.neighbours import k_nearest
from clarkia.measures import kernels, two_sample
from clarkia.random import generator

RESULTS = Path(__file__).parent / "results" / "measures.md"
Values = Callable[[np.ndarray, np.ndarray], list[float]]


def data(rows: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of non-negative features with unequal columns, float32 as networks give them."""
    rng = np.random.default_rng(0)
    scale = np.linspace(0.2, 1.5, width, dtype=np.float32)
    x, y = (rng.standard_normal((rows, width), dtype=np.float32) for _ in range(2))
    np.maximum(x, 0, out=x)
    y += np.float32(0.05)
    np.maximum(y, 0, out=y)
    x *= scale
    y *= scale * np.float32(1.02)
    return x, y


def kid(x: np.ndarray, y: np.ndarray) -> list[float]:
    size = min(peers.SIZE, len(x) // 2)
    return [two_sample.kid(x, y, size=size, subsets=peers.SUBSETS, generator=generator(1)).value]


def prdc(x: np.ndarray, y: np.ndarray) -> list[float]:
    found = two_sample.prdc(x, y, peers.NEIGHBOURS)
    return [found.precision, found.recall, found.density, found.coverage]


def sliced(x: np.ndarray, y: np.ndarray) -> list[float]:
    return [float(two_sample.sliced_wasserstein(x, y, n_projections=peers.LINES, generator=generator(2)))]


def sinkhorn(x: np.ndarray, y: np.ndarray, tolerance: float = 1e-9) -> list[float]:
    blur = (peers.EPS / 2) ** 0.5
    return [float(two_sample.sinkhorn_divergence(x, y, blur, debias=False, tolerance=tolerance))]


def neighbours(x: np.ndarray, y: np.ndarray) -> list[float]:
    return k_nearest(torch.from_numpy(y), torch.from_numpy(x), peers.NEIGHBOURS)[0].mean(0).tolist()


def shrinkage(x: np.ndarray, y: np.ndarray) -> list[float]:
    return [float(ledoit_wolf(torch.from_numpy(x)).trace()), float(ledoit_wolf(torch.from_numpy(y)).norm())]


@dataclass(frozen=True)
class Comparison:
    """A measure and its peer.

    Attributes:
        ours: Numbers of clarkia.
        peer: Numbers of the package, `measures_peers`.
        package: Its name on the index.
        module: Which module of it has to import.
        quadratic: Whether the peer holds a matrix of all pairs.
        most_rows: Beside the peer, whatever was asked for.
        alone: Rows that clarkia runs at alone, where all of them would take too long.
    """

    ours: Values
    peer: Callable[[np.ndarray, np.ndarray, type], list[float]]
    package: str
    module: str
    quadratic: bool = False
    most_rows: int | None = None
    alone: int | None = None

    def label(self) -> str:
        """The package and its version, or that its formula stands in."""
        try:
            number = version(self.package)
        except PackageNotFoundError:
            return f"{self.package} (its formula)"
        return f"{self.package} {number}" if peers.module(self.module) else f"{self.package} (its formula)"


SKLEARN = "scikit-learn", "sklearn"
COMPARISONS = {
    "frechet": Comparison(
        lambda x, y: [float(two_sample.frechet_distance(x, y))],
        peers.frechet,
        "torch-fidelity",
        "torch_fidelity.metric_fid",
    ),
    "kid": Comparison(kid, peers.kid, "torch-fidelity", "torch_fidelity.metric_kid"),
    "sliced": Comparison(sliced, peers.sliced, "POT", "ot"),
    "vendi": Comparison(
        lambda x, y: [float(two_sample.vendi(x))], peers.vendi, "vendi-score", "vendi_score.vendi"
    ),
    "ledoit-wolf": Comparison(shrinkage, peers.shrinkage, *SKLEARN),
    "mmd": Comparison(
        lambda x, y: [float(two_sample.mmd2(x, y, kernel=kernels.Gaussian(peers.BANDWIDTH)))],
        peers.mmd,
        *SKLEARN,
        quadratic=True,
        alone=20_000,
    ),
    "energy": Comparison(
        lambda x, y: [float(two_sample.energy_distance(x, y))], peers.energy, *SKLEARN, quadratic=True, alone=20_000
    ),
    "prdc": Comparison(prdc, peers.prdc, "prdc", "prdc", quadratic=True, alone=20_000),
    "neighbours": Comparison(neighbours, peers.neighbours, *SKLEARN, most_rows=10_000),
    "sinkhorn": Comparison(sinkhorn, peers.sinkhorn, "POT", "ot", quadratic=True, most_rows=2000, alone=4000),
    "exact": Comparison(
        lambda x, y: [float(two_sample.exact_wasserstein(x, y))], peers.exact, "POT", "ot", quadratic=True,
        most_rows=2000, alone=2000,
    ),
}  # fmt: skip


def memory(field: str) -> float:
    """``VmRSS`` (held now) or ``VmHWM`` (the peak since `reset`) of this process, in MiB."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = re.search(rf"{field}:\s+(\d+) kB", status.read_text())
    return int(found[1]) / 1024 if found else 0.0


def reset() -> None:
    """Let the peak start from what is held now."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def child(name: str, side: str, rows: int, width: int) -> None:
    """One run: values, seconds and memory on standard output."""
    comparison = COMPARISONS[name]
    x, y = data(rows, width)
    types = {"float64": np.float64, "float32": np.float32}
    function = comparison.ours if side == "clarkia" else partial(comparison.peer, dtype=types[side])
    function(x[:64], y[:64])  # imports and first calls are not timed
    reset()
    before, start = memory("VmRSS"), time.perf_counter()
    values = function(x, y)
    seconds = time.perf_counter() - start
    print(json.dumps({"values": values, "seconds": seconds, "mib": max(0.0, memory("VmHWM") - before)}))


def run(name: str, side: str, rows: int, width: int) -> dict:
    """The child process's answer."""
    command = [sys.executable, __file__, "--child", name, side, "--rows", str(rows), "--width", str(width)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} ({side}, {rows} rows): {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def gap(ours: list[float], peer: list[float]) -> float:
    """Largest relative difference."""
    return max(abs(a - b) / max(abs(b), 1e-12) for a, b in zip(ours, peer, strict=True))


def line(name: str, peer: str, rows: int, ours: dict, theirs: dict, measured: bool = True) -> str:
    """One row of the table."""
    sign = "" if measured else "~"
    found = f"{gap(ours['values'], theirs['values']):.1e}" if measured else ""
    return (
        f"| {name} | {peer} | {rows:,} | {found} | {ours['seconds']:.2f} | {sign}{theirs['seconds']:.2f} "
        f"| {theirs['seconds'] / ours['seconds']:.2f} | {ours['mib']:.0f} | {sign}{theirs['mib']:.0f} |"
    )


def compare(name: str, rows: int, pair_rows: int, width: int, most: int | None = None) -> list[str]:
    """Lines of the table of one measure; ``most`` rows alone, or as many as a few minutes allow."""
    comparison = COMPARISONS[name]
    shared = min(pair_rows if comparison.quadratic else rows, comparison.most_rows or rows)
    ours, theirs, single = (run(name, side, shared, width) for side in ("clarkia", "float64", "float32"))
    label = comparison.label()
    lines = [
        line(name, label, shared, ours, theirs),
        line(name, f"{label}, float32", shared, ours, single),
    ]
    alone = min(most or comparison.alone or rows, rows)
    if comparison.quadratic and alone > shared:
        growth = (alone / shared) ** 2
        projected = {"seconds": growth * theirs["seconds"], "mib": growth * theirs["mib"]}
        lines.append(line(name, f"{label}, projected", alone, run(name, "clarkia", alone, width), projected, False))
    return lines


TABLE = (
    "| measure | peer | rows | gap | clarkia, s | peer, s | ratio | clarkia, MiB | peer, MiB |\n"
    "|---|---|---|---|---|---|---|---|---|"
)
HEADING = """# Two-sample measures against other packages

`OMP_NUM_THREADS={threads} python benchmarks/measures.py {arguments}` on {machine}.

Features of width {width}, float32. Memory is the peak above what the process held with the features; gap is the
relative difference of the values; ratio is the peer's time over clarkia's. A peer without a note ran in float64, one
with "float32" on the features as they are, where its values may miss 1e-6. "(its formula)" says that the package did
not import and that its formula was written out. Figures behind a "~" are projected: the peer's at fewer rows (the line
above) times the square of the ratio of the rows, because its matrices do not fit.
"""


def written(lines: list[str], heading: str, old: str) -> str:
    """The results with new lines in place of the old ones of the same measures."""
    fresh = {row.split("|")[1].strip() for row in lines}
    kept = [row for row in old.splitlines() if row.startswith("| ") and row.split("|")[1].strip() in COMPARISONS]
    rows = [row for row in kept if row.split("|")[1].strip() not in fresh] + lines
    order = list(COMPARISONS)
    rows.sort(key=lambda row: order.index(row.split("|")[1].strip()))
    return "\n".join([heading, TABLE, *rows]) + "\n"


def main() -> None:
    """Run every comparison and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--pair-rows", type=int, default=5_000)
    parser.add_argument("--alone", type=int, help="rows of the runs of clarkia alone; by default a few minutes' worth")
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--only", nargs="+", choices=COMPARISONS, default=list(COMPARISONS))
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="also write results/measures.md, line by line")
    options = parser.parse_args()
    if options.child:
        child(*options.child, options.rows, options.width)
        return
    heading = HEADING.format(
        threads=os.environ.get("OMP_NUM_THREADS", os.cpu_count()),
        arguments=f"--rows {options.rows} --pair-rows {options.pair_rows} --width {options.width}",
        machine=f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, NumPy {np.__version__}, "
        f"Python {platform.python_version()}",
        width=options.width,
    )
    print(TABLE)
    for name in options.only:
        lines = compare(name, options.rows, options.pair_rows, options.width, options.alone)
        print("\n".join(lines), flush=True)
        if options.write:
            RESULTS.write_text(written(lines, heading, RESULTS.read_text() if RESULTS.exists() else ""))


if __name__ == "__main__":
    main()
