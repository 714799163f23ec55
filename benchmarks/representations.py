"""What the measures of representations say about small networks trained on scikit-learn's 8 x 8 digits.

    python benchmarks/representations.py [PART ...]

Parts: information, complexity, codes, filters, shortcuts, probes, moments, codec, landmarks, correspondence; all
without arguments.
Each trains its networks from fixed seeds and writes its table; tables of parts that are not run again are kept.
"""

import argparse
import inspect
import json
import os
import platform
import time
from pathlib import Path

import torch

from representations_classifiers import codes, complexity, filters, information, shortcuts
from representations_denoisers import codec, correspondence, landmarks, moments, probes

RESULTS = Path(__file__).parent / "results"
PARTS = {
    part.__name__: part
    for part in (
        *(information, complexity, codes, filters, shortcuts),
        *(probes, moments, codec, landmarks, correspondence),
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)}")
    names = parser.parse_args().parts or list(PARTS)
    file = RESULTS / "representations.json"
    tables = {}
    for name in names:
        start = time.perf_counter()
        head, lines = PARTS[name]()
        rows = [f"| {' | '.join(str(cell) for cell in line)} |" for line in lines]
        text = "\n".join([f"| {head} |", "|" + "---|" * (head.count("|") + 1), *rows])
        tables[name] = {
            "about": inspect.cleandoc(PARTS[name].__doc__ or ""),
            "table": text,
            "seconds": round(time.perf_counter() - start, 1),
        }
        print(text, tables[name]["seconds"], sep="\n", flush=True)
    written = json.loads(file.read_text()) if file.exists() else {}  # another part may have been run meanwhile
    tables = written | tables
    file.write_text(json.dumps(tables, indent=1) + "\n")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}"
    parts = [f"## {name}\n\n{t['about']}\n\n{t['table']}\n\n{t['seconds']} s." for name, t in sorted(tables.items())]
    title = f"# Measures of representations\n\n`python benchmarks/representations.py` on {machine}, one thread.\n\n"
    (RESULTS / "representations.md").write_text(title + "\n\n".join(parts) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
