"""The judge of coloured shapes against the scenes drawn, without and with noise, and what drawing and judging cost.

    python benchmarks/coloured_shapes.py [--scenes 1000] [--noisy 400]

A scene is right when shapes, colours and sizes are those drawn, as multisets, and every centre is within 0.2 points of
its own. Speeds are of the processor's time on one thread, the best of three runs over 1000 examples.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from clarkia.datasets import ColouredShapes
from clarkia.datasets.shapes import LENIENT, LEVELS, STRICT, Judge, Scenes, scatter
from clarkia.datasets.shapes.render import render, to_bytes

RESULTS = Path(__file__).parent / "results"
SETTINGS = ((32, 4), (32, 8), (64, 10), (64, 15))
NOISES = (0.0, 0.05, 0.1, 0.2, 0.3)
TOLERANCE = 0.2


def right(true: Scenes, seen: Scenes, tolerance: float = TOLERANCE) -> tuple[np.ndarray, float]:
    """Which scenes are fully right, and the largest error of a centre among things that were found."""
    found, largest = np.zeros(len(true), bool), 0.0
    for row in range(len(true)):
        unseen = list(seen.scene(row).things)
        fully = len(unseen) == len(true.scene(row).things)
        for thing in true.scene(row).things:
            alike = [
                one for one in unseen if (one.shape, one.colour, one.size) == (thing.shape, thing.colour, thing.size)
            ]
            if not alike:
                fully = False
                continue
            errors = [max(abs(one.x - thing.x), abs(one.y - thing.y)) for one in alike]
            best = int(np.argmin(errors))
            if errors[best] < 2:
                largest = max(largest, errors[best])
            fully &= errors[best] < tolerance
            unseen.remove(alike[best])
        found[row] = fully
    return found, largest


def accuracy(scenes: int, noisy: int) -> list[str]:
    """The table of errors."""
    lines = [
        "| side | things | noise | scenes | fully right | count right | count right, lenient | error of a centre |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for side, count in SETTINGS:
        for noise in NOISES:
            n = noisy if noise else scenes
            true = scatter(side, count, range(n))
            pictures = render(true)
            if noise:
                rng = np.random.default_rng(0)
                pictures = pictures + np.float32(noise) * rng.standard_normal(pictures.shape).astype(np.float32)
            else:
                pictures = to_bytes(pictures)
            seen = Judge(side, STRICT)(pictures)
            good, largest = right(true, seen)
            counts = [(judged.present.sum(1) == count).sum() for judged in (seen, Judge(side, LENIENT)(pictures))]
            lines.append(
                f"| {side} | {count} | {noise} | {n} | {good.sum()} ({good.mean():.1%}) "
                f"| {counts[0]} ({counts[0] / n:.1%}) | {counts[1]} ({counts[1] / n:.1%}) | {largest:.3f} |"
            )
    return lines


def per_second(function: Callable[[], object], n: int = 1000) -> str:
    """Examples a second of the processor's time, the best of three runs."""
    seconds = []
    for _ in range(3):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return f"{n / min(seconds):,.0f}"


def speeds() -> list[str]:
    """The table of speeds."""
    lines = ["| side | level | scenes | pictures from scenes | whole batches | judged |", "|---|---|---|---|---|---|"]
    rows = torch.arange(1000)
    for side in (32, 64):
        for level in LEVELS:
            data, judge = ColouredShapes(side, level), Judge(side)
            scenes, pictures = data.scenes(rows), data.images(rows)
            steps = (
                lambda data=data: data.scenes(rows),
                lambda scenes=scenes: to_bytes(render(scenes)),
                lambda data=data: data.rows(rows),
                lambda judge=judge, pictures=pictures: judge(pictures),
            )
            lines.append(f"| {side} | {level} | {' | '.join(per_second(step) for step in steps)} |")
    return lines


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--noisy", type=int, default=400)
    options = parser.parse_args()
    torch.set_num_threads(1)
    text = "\n".join(
        [
            "# Coloured shapes: the judge, and what drawing costs",
            "",
            f"`python benchmarks/coloured_shapes.py --scenes {options.scenes} --noisy {options.noisy}` on "
            f"{os.cpu_count()} cores (one used), {platform.machine()}, torch {torch.__version__}.",
            "",
            "## Errors of the judge",
            "",
            "Things of independent shapes, colours and sizes (`scatter`); normal noise on points from -1 to 1.",
            "The lenient threshold lets a fifth of the smallest thing count, where the strict asks for 45 %.",
            "",
            *accuracy(options.scenes, options.noisy),
            "",
            "## Speed, examples a second of one core",
            "",
            *speeds(),
            "",
        ]
    )
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "coloured_shapes.md").write_text(text)


if __name__ == "__main__":
    main()
