"""Time outside the network of masked diffusion over long sequences: first-hitting against a thousand ancestral steps.

    python benchmarks/first_hitting.py [--length 1024] [--classes 50000] [--steps 1000] [--rows 1]

The denoiser is free: one table of Zipf's law for all cells, shown as a view. The textbook sampler, which draws a class
or the mask for every cell in every step, is timed over a few steps and scaled up; the two others run in whole. All in
seconds of the processor, on one thread.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path

import torch
from torch import Tensor

from clarkia import samplers
from clarkia.processes import Masked
from clarkia.random import generator
from clarkia.samplers.first_hitting import FirstHitting

RESULTS = Path(__file__).parent / "results"


class Table:
    """The same log-probabilities at every cell; answers with a view and counts its calls and their seconds."""

    def __init__(self, classes: int) -> None:
        weights = 1 / torch.arange(1, classes + 1, dtype=torch.float64)
        self.log_probs = (weights / weights.sum()).log()
        self.calls, self.seconds = 0, 0.0

    def __call__(self, x_t: Tensor, t: Tensor, condition: None = None) -> Tensor:
        start = time.process_time()
        answer = self.log_probs.expand(*x_t.shape, -1)
        self.calls, self.seconds = self.calls + 1, self.seconds + time.process_time() - start
        return answer


def textbook_step(x: Tensor, log_probs: Tensor, t: float, s: float, noise: torch.Generator) -> Tensor:
    """One ancestral step of linear alpha as published: a Gumbel race of all classes and the mask in every cell."""
    classes = log_probs.shape[-1]
    weights = torch.empty(*x.shape, classes + 1, dtype=torch.float64)
    weights[..., :classes] = log_probs.exp() * (t - s)
    weights[..., classes] = s
    race = torch.rand(weights.shape, generator=noise, dtype=torch.float64).log_().neg_().div_(weights)
    return torch.where(x == classes, race.argmin(-1), x)


def run(solver: samplers.Solver, rows: int, length: int, classes: int, steps: int | None) -> tuple[float, int, Tensor]:
    """Seconds outside the denoiser, calls and samples."""
    table = Table(classes)
    start = time.process_time()
    x = samplers.sample(
        table,
        Masked(classes),
        num_samples=rows,
        shape=(length,),
        solver=solver,
        num_steps=steps,
        generator=generator(0),
    )
    return time.process_time() - start - table.seconds, table.calls, x  # type: ignore[return-value]


def textbook(rows: int, length: int, classes: int, steps: int, timed: int) -> float:
    """Seconds of the textbook sampler, from a few of its steps; every step costs the same, whatever is masked."""
    table, noise = Table(classes), generator(0)
    x = torch.full((rows, length), classes)
    textbook_step(x[:, :8], table(x[:, :8], x), 1.0, 0.9, noise)
    start = time.process_time()
    for index in range(timed):
        x = textbook_step(x, table(x, x), 1 - index / steps, 1 - (index + 1) / steps, noise)
    return (time.process_time() - start) / timed * steps


def distance(x: Tensor, classes: int) -> tuple[float, float]:
    """Share of the ten likeliest classes, drawn and in Zipf's law."""
    return float((x < 10).double().mean()), float(Table(classes).log_probs.exp()[:10].sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--classes", type=int, default=50_000)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--timed", type=int, default=3, help="steps of the textbook sampler that are timed")
    a = parser.parse_args()
    torch.set_num_threads(1)
    sizes = (a.rows, a.length, a.classes)
    run(FirstHitting(), a.rows, 16, a.classes, None)  # warm
    hitting, calls, x = run(FirstHitting(), *sizes, None)
    ancestral, ancestral_calls, y = run(samplers.Ancestral(), *sizes, a.steps)
    published = textbook(*sizes, a.steps, a.timed)
    lines = []
    for name, seconds, asked, drawn in (
        (f"textbook ancestral, {a.steps} steps (from {a.timed})", published, a.steps, None),
        (f"`Ancestral()`, {a.steps} steps", ancestral, ancestral_calls, y),
        ("`FirstHitting()`", hitting, calls, x),
    ):
        share = "" if drawn is None else "{:.3f} ({:.3f})".format(*distance(drawn, a.classes))
        lines.append(f"| {name} | {asked} | {seconds:.3f} | {seconds / hitting:.1f} | {share} |")
    command = f"python benchmarks/first_hitting.py --length {a.length} --classes {a.classes} --steps {a.steps}"
    command += f" --rows {a.rows}"
    machine = f"{os.cpu_count()} cores (one used), {platform.machine()}, torch {torch.__version__}"
    table = "\n".join(
        [
            "| sampler | calls of the denoiser | seconds outside it | over first-hitting | ten likeliest classes |",
            "|---|---|---|---|---|",
            *lines,
        ]
    )
    print(table)
    RESULTS.mkdir(exist_ok=True)
    words = (
        f"Sequences of {a.length} cells with {a.classes} classes: {a.rows}. The last column is the share of the ten "
        "likeliest\n"
        "classes among the cells drawn, in brackets under the law."
    )
    (RESULTS / "first_hitting.md").write_text(
        f"# First-hitting sampling, time outside the network\n\n`{command}` on {machine}.\n\n{words}\n\n{table}\n"
    )


if __name__ == "__main__":
    main()
