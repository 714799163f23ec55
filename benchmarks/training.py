"""Training steps a second: `training.fit` beside a plain loop with the same network, loss, optimiser and batches.

    python benchmarks/training.py [--steps 24] [--rounds 8] [--compile]

The plain loop is what one writes by hand in a page: shuffled row numbers, a generator for the noise, AdamW in its fused
form, clipping, a cosine learning rate and the moving average of the weights. Each round times one after the other, in
alternating order, so both meet the same machine; time runs from the fourth call of the loss to the last one, and a
ratio is that of one round. The noise, losses and checks of ours are those of any run. Reading from a file is timed the
same way, against the same rows in memory. `--compile` adds the time of compiled steps.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clarkia.denoisers import Preconditioned
from clarkia.networks import ResidualMLP
from clarkia.objectives import MixedDenoising
from clarkia.processes import Masked, Mixed, VarianceExploding
from clarkia.random import randn
from clarkia.spaces import Categorical, Continuous
from clarkia.spaces import Mixed as MixedSpace
from clarkia.training import ArrowSource, TrainingOptions, fit

RESULTS = Path(__file__).parent / "results" / "training.md"
WARM = 4  # calls of the loss before the clock is started


class Stopwatch:
    """A loss that notes when it is called."""

    clock = staticmethod(time.perf_counter)

    def __init__(self, loss: Callable[..., Any]) -> None:
        self.loss, self.times = loss, []

    def __call__(self, *arguments: Any) -> Any:
        self.times.append(self.clock())
        return self.loss(*arguments)

    def seconds(self) -> float:
        """Seconds a step."""
        return (self.times[-1] - self.times[WARM - 1]) / (len(self.times) - WARM)


Problem = tuple[Callable[[], nn.Module], Callable[..., Any], dict[str, Tensor], int]


def table_problem() -> Problem:
    """The network, loss, data and batch of a table of 14 columns."""
    space = MixedSpace(numeric=Continuous((6,)), category=Categorical((8,), num_classes=(3, 5, 7, 9, 12, 16, 24, 40)))
    process = Mixed(numeric=VarianceExploding(), category=Masked(space.blocks["category"].num_classes))
    objective = MixedDenoising(process, {"numeric": torch.arange(6), "category": torch.arange(6, 14)})
    noise = torch.Generator().manual_seed(0)
    classes = torch.tensor(space.blocks["category"].num_classes)
    data = {
        "numeric": torch.randn(20_000, 6, generator=noise),
        "category": (torch.rand(20_000, 8, generator=noise) * classes).long(),
    }
    return lambda: Preconditioned(ResidualMLP(space, width=384), process), objective, data, 256


class SmallUNet(nn.Module):
    """Three resolutions of 32, 64 and 96 channels with skips, 0.3 M parameters, for images of 3 x 32 x 32."""

    def __init__(self) -> None:
        super().__init__()
        widths = (32, 64, 96)
        self.noise = nn.Linear(1, 96)
        self.into = nn.Conv2d(3, 32, 3, padding=1)
        pairs = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairs)
        self.up = nn.ModuleList(nn.Conv2d(b, a, 3, padding=1) for a, b in reversed(pairs))
        self.mixing = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(8, w), nn.SiLU(), nn.Conv2d(w, w, 3, padding=1))
            for w in (*widths, *widths[1::-1])
        )
        self.out = nn.Conv2d(32, 3, 3, padding=1)

    def forward(self, x: Tensor, noise: Tensor, condition: None = None) -> Tensor:
        mixing = iter(self.mixing)
        h, skips = self.into(x), []
        h = h + next(mixing)(h)
        for down in self.down:
            skips.append(h)
            h = down(h)
            h = h + next(mixing)(h)
        h = h + F.silu(self.noise(noise[:, None]))[:, :, None, None]
        for up in self.up:
            h = up(F.interpolate(h, scale_factor=2)) + skips.pop()
            h = h + next(mixing)(h)
        return self.out(h)


def image_problem() -> Problem:
    """A small U-Net, the loss of EDM, and images."""
    images = torch.randint(0, 256, (2048, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def loss(module: nn.Module, batch: dict[str, Tensor], generator: Any) -> Tensor:
        x = batch["image"].float() / 127.5 - 1
        log_sigma = -1.2 + 1.2 * randn((len(x),), generator)
        sigma = log_sigma.exp()[:, None, None, None]
        x_t = x + sigma * randn(x.shape, generator)
        c_in = (sigma**2 + 0.25).rsqrt()
        c_skip, c_out = 0.25 * c_in**2, 0.5 * sigma * c_in
        x0_hat = c_skip * x_t + c_out * module(c_in * x_t, log_sigma / 4)
        return ((x0_hat - x) / c_out).square().mean((1, 2, 3))

    return SmallUNet, loss, {"image": images}, 16


def plain_loop(module: nn.Module, loss: Callable[..., Any], data: dict[str, Tensor], batch: int, steps: int) -> None:
    """The loop that one writes by hand."""
    rows = len(next(iter(data.values())))
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, betas=(0.9, 0.999), weight_decay=0.0, fused=True)
    average = [weight.detach().clone() for weight in module.state_dict().values()]
    weights = list(module.state_dict().values())
    noise = torch.Generator().manual_seed(0)
    module.train()
    order, start = torch.randperm(rows, generator=noise), 0
    for step in range(steps):
        if start + batch > rows:
            order, start = torch.randperm(rows, generator=noise), 0
        picked = order[start : start + batch]
        start += batch
        losses = loss(module, {name: block[picked] for name, block in data.items()}, noise)
        total = sum(part.mean() for part in losses.values()) if isinstance(losses, dict) else losses.mean()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, (step + 1) / 101) * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, weights, 1e-3)


def ours(module: nn.Module, loss: Callable[..., Any], data: Any, batch: int, steps: int, **changes: Any) -> None:
    options = TrainingOptions(batch_size=batch, max_steps=steps, validate_every=10**9, **changes)
    fit(module, loss, data, options=options, progress=False)


def compared(problem: Problem, steps: int, rounds: int) -> tuple[float, float, list[float]]:
    """Least seconds a step of the plain loop and of ours, and the ratios of speed, a round each."""
    make, loss, data, batch = problem
    best, ratios = [math.inf, math.inf], []
    for round_ in range(rounds + 1):
        seconds = [0.0, 0.0]
        for which in (0, 1) if round_ % 2 else (1, 0):
            watch = Stopwatch(loss)
            (plain_loop, ours)[which](make(), watch, data, batch, steps)
            seconds[which] = watch.seconds()
        if round_:  # the first one warms up
            ratios.append(seconds[0] / seconds[1])
            best = [min(old, new) for old, new in zip(best, seconds, strict=True)]
    return best[0], best[1], ratios


def from_file(steps: int, rounds: int) -> list[float]:
    """Speed with rows of a Parquet file of 200 000 rows over that with the same rows in memory, a round each."""
    make, objective, _, batch = table_problem()
    noise = np.random.default_rng(0)
    counts = np.array((3, 5, 7, 9, 12, 16, 24, 40))
    numbers = noise.normal(size=(200_000, 6)).astype(np.float32)
    classes = (noise.random((200_000, 8)) * counts).astype(np.int16)
    rows = pa.table({
        "numeric": pa.FixedSizeListArray.from_arrays(numbers.reshape(-1), 6),
        "category": pa.FixedSizeListArray.from_arrays(classes.reshape(-1), 8),
    })  # fmt: skip

    def loss(module: nn.Module, batch: dict[str, Tensor], generator: Any) -> Any:
        return objective(module, {"numeric": batch["numeric"], "category": batch["category"].long()}, generator)

    memory, ratios = {"numeric": torch.tensor(numbers), "category": torch.tensor(classes)}, []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        pq.write_table(rows, path, row_group_size=16_384)
        for round_ in range(rounds + 1):
            seconds = [0.0, 0.0]
            for which in (0, 1) if round_ % 2 else (1, 0):
                watch = Stopwatch(loss)
                ours(make(), watch, (memory, ArrowSource(path))[which], batch, steps)
                seconds[which] = watch.seconds()
            if round_:
                ratios.append(seconds[0] / seconds[1])
    return ratios


def compiled(problem: Problem, steps: int) -> float:
    """Seconds a step of a compiled module, after it has been compiled."""
    make, loss, data, batch = problem
    watch = Stopwatch(loss)
    ours(make(), watch, data, batch, steps, compile=True)
    return watch.seconds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--cpu", action="store_true", help="one thread and its processor time, for a busy machine")
    options = parser.parse_args()
    if options.cpu:
        torch.set_num_threads(1)
        Stopwatch.clock = staticmethod(time.process_time)
    problems = {"table, residual MLP": table_problem(), "images, small U-Net": image_problem()}
    lines = ["| problem | parameters | batch | plain, ms a step | ours, ms a step | ours / plain, speed | quartiles |"]
    lines.append("|---" * 7 + "|")
    for name, problem in problems.items():
        plain, mine, ratios = compared(problem, options.steps, options.rounds)
        low, _, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        size = sum(weight.numel() for weight in problem[0]().parameters())
        lines.append(
            f"| {name} | {size:,} | {problem[3]} | {1e3 * plain:.2f} | {1e3 * mine:.2f} | {median(ratios):.3f} | "
            f"{low:.3f} to {high:.3f} |"
        )
        print(lines[-1], flush=True)
    ratios = from_file(options.steps, options.rounds)
    extra = [f"Parquet (200 000 rows, read in the background) over memory, the table: {median(ratios):.3f}."]
    if options.compile:
        extra += [
            f"{name}, compiled: {1e3 * compiled(p, options.steps):.2f} ms a step." for name, p in problems.items()
        ]
    command = f"python benchmarks/training.py --steps {options.steps} --rounds {options.rounds}"
    machine = (
        f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    )
    flags = "".join(f" --{word}" for word in ("compile", "cpu") if getattr(options, word))
    text = "\n".join([
        "# The training loop beside a plain one", "", *__doc__.splitlines()[4:], "",
        f"`{command}{flags}` on {machine}. Milliseconds are the least of "
        f"{options.rounds} rounds, ratios their median.", "", *lines, "", *extra,
    ])  # fmt: skip
    print(text)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    main()
