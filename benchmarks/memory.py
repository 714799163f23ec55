"""Peak memory of fitting 1,000,000 rows of 20 columns and of sampling as many to Parquet, through the command line.

    python benchmarks/memory.py [--rows 1000000] [--steps 100] [--num-steps 24]

Memory does not depend on the number of training or solver steps, so few of either will do.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

RESULTS = Path(__file__).parent / "results"
MEASURE = "import resource, sys; from clarkia.cli import main; code = main() or 0; \
print('PEAK', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"


def table(rows: int) -> pa.Table:
    """Ten numeric and ten categorical columns that depend on one hidden number, some with holes."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=rows)
    columns = {}
    for i in range(10):
        value = hidden * rng.normal() + rng.normal(size=rows)
        kinds = (value, np.exp(value).round(2), (10 * value).astype(np.int64), np.where(value < 0, 0.0, value))
        columns[f"number {i}"] = pa.array(kinds[i % 4], mask=rng.random(rows) < 0.05 * (i % 3))
        classes = (3, 12, 40, 300, 5000)[i % 5]
        codes = ((rng.random(rows) ** 3 + 0.2 * (hidden > 0)) * classes).astype(int) % classes
        columns[f"class {i}"] = pa.array([f"c{k}" for k in range(classes)]).take(pa.array(codes))
    return pa.table(columns)


def clarkia(*arguments: str) -> dict[str, float]:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", MEASURE, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    peak = next(int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("PEAK"))
    return {"peak memory (GiB)": peak / 2**20, "seconds": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--num-steps", type=int, default=24)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data, model, out = (str(Path(folder) / name) for name in ("data.parquet", "m.clarkia", "out.parquet"))
        pq.write_table(table(options.rows), data)
        found = {
            "fit": clarkia("fit", data, "-o", model, "--max-steps", str(options.steps)),
            "sample": clarkia(
                "sample", model, "-o", out, "-n", str(options.rows), "--num-steps", str(options.num_steps)
            ),
        }
        found["rows written"] = {"rows": pq.read_metadata(out).num_rows}
    command = "python " + " ".join(sys.argv)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}"
    print(json.dumps(found, indent=1))
    RESULTS.mkdir(exist_ok=True)
    record = {"command": command, "machine": machine, "results": found}
    (RESULTS / "memory.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
