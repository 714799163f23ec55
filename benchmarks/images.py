"""Image models on two cores: are class-conditional samples recognised, do captioned scenes show what was asked?

    python benchmarks/images.py digits --minutes 3
    python benchmarks/images.py mnist --minutes 30
    python benchmarks/images.py shapes --minutes 30
    OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 benchmarks/images.py shapes --minutes 30

`digits` are the 8x8 digits of scikit-learn; `mnist` reads ../shared/data/images. The judge of digits is a small
convolutional network trained on real digits that the model's figures are not computed on; Frechet distances are on its
last hidden layer, and the floor is real against real. `shapes` are procedural scenes with an exact judge. Under
torchrun the processes share the fit, and the first one does the rest.
"""

from __future__ import annotations

import argparse
import gzip
import platform
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import clarkia as ck
from clarkia import measures
from clarkia.codecs.image import write_grid
from clarkia.datasets import ColouredShapes
from clarkia.datasets import shapes as judges
from clarkia.datasets.shapes import Level
from clarkia.networks import num_parameters
from clarkia.shards import Shard

ROOT = Path(__file__).parents[1]
IMAGES = ROOT.parent / "shared" / "data" / "images"
RESULTS = Path(__file__).parent / "results"

LEVELS: tuple[Level, ...] = ("single", "colour", "two", "binding")
TRAINED, ASKED = 80_000, 400
SHARES = {"single": 0.15, "colour": 0.2, "two": 0.3, "binding": 0.35}
"""Of the training scenes, where there are these levels: what two things take, one of them teaches too."""

SHOWN = 0.5
"""Guidance of the pictures in the results."""

SHAPES = {"width": 32, "depth": 1, "subset_probability": 0.0}


class Judge(nn.Module):
    """A convolutional classifier; its hidden layer is what distances are measured in."""

    def __init__(self, side: int, classes: int = 10):
        super().__init__()
        left = -(-side // 4)
        self.body = nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2, ceil_mode=True)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2, ceil_mode=True), nn.Flatten()),
            *(nn.Dropout(0.3), nn.Linear(64 * left**2, 64), nn.ReLU()),
        )
        self.head = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def floats(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images)[:, None].float() / 127.5 - 1


def trained_judge(images: np.ndarray, labels: np.ndarray, epochs: int) -> Judge:
    torch.manual_seed(0)
    judge, x, y = Judge(images.shape[1]), floats(images), torch.from_numpy(labels)
    steps = epochs * len(x) // 128
    optimiser = torch.optim.Adam(judge.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        rows = torch.randint(len(x), (128,))
        loss = nn.functional.cross_entropy(judge(x[rows]), y[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return judge.eval()


@torch.no_grad()
def judged(judge: Judge, images: np.ndarray) -> tuple[np.ndarray, Tensor]:
    """Classes and hidden features."""
    hidden = torch.cat([judge.body(part) for part in floats(images).split(512)])
    return judge.head(hidden).argmax(1).numpy(), hidden.double()


def data_of(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training and held-out pictures with their classes."""
    if name == "digits":
        from sklearn.datasets import load_digits

        found = load_digits()
        images, labels = (found.images / 16 * 255).round().astype(np.uint8), found.target
        order = np.random.default_rng(0).permutation(len(images))
        images, labels, cut = images[order], labels[order], 1200
    else:
        with gzip.open(IMAGES / "mnist10k-images.gz") as file:
            images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28).copy()
        with gzip.open(IMAGES / "mnist10k-labels.gz") as file:
            labels = np.frombuffer(file.read(), np.uint8, offset=8).astype(np.int64)
        cut = 9000
    return images[:cut], labels[:cut], images[cut:], labels[cut:]


def numbers(name: str, minutes: float, guidance: tuple[float, ...], write: bool, save: str | None) -> None:
    images, labels, held, held_labels = data_of(name)
    judge = trained_judge(images, labels, 60 if name == "digits" else 8)
    told, real = judged(judge, held)
    right = float((told == held_labels).mean())
    options = {"width": 24, "depth": 1, "batch_size": 128} if name == "digits" else {"width": 32, "depth": 1}
    model = ck.ImageModel(max_minutes=minutes, **options)
    model.fit(images, labels, progress=True)
    if Shard.here().index:  # the other processes have helped to fit, which was all
        return
    if save:
        model.save(save, overwrite=True)
    seen = model.training_run_.steps * model.batch_size
    some = judged(judge, images[: len(held)])[1]
    run = model.training_run_
    lines = [
        f"# Image model: {name}",
        "",
        f"`{command(name, minutes)}` on {machine()}.",
        "",
        f"{num_parameters(model.denoiser_):,} parameters, {run.steps:,} steps of {model.batch_size} in "
        f"{run.seconds:.0f} s ({seen / run.seconds:.0f} pictures a second). The judge is "
        f"right on {100 * right:.1f} % of {len(held)} real ones.",
        "",
        "| samples | recognised as their class | Frechet distance | floor | seconds a sample |",
        "|---|---|---|---|---|",
    ]
    floor = float(measures.frechet_distance(real, some))
    count = 50
    for weight in guidance:
        start = time.perf_counter()
        drawn = [model.sample(count, given={"class": digit}, guidance_scale=weight, seed=digit) for digit in range(10)]
        seconds = (time.perf_counter() - start) / (10 * count)
        told, made = judged(judge, np.concatenate(drawn))
        recognised = float((told == np.repeat(np.arange(10), count)).mean())
        distance = float(measures.frechet_distance(real, made))
        cells = f"{100 * recognised:.1f} % | {distance:.2f} | {floor:.2f} | {seconds:.3f}"
        lines.append(f"| given a class, guidance {weight:g} | {cells} |")
    free = model.sample(10 * count, seed=99)
    lines.append(
        f"| given nothing | | {float(measures.frechet_distance(real, judged(judge, free)[1])):.2f} | {floor:.2f} | |"
    )
    lines += ["", *filled_in(model, judge, held[:200], held_labels[:200], free)]
    report(f"images-{name}", lines, write)
    if write:
        shown = np.concatenate(
            [model.sample(10, given={"class": digit}, guidance_scale=guidance[-1]) for digit in range(10)]
        )
        write_grid(shown, RESULTS / f"images-{name}.png", columns=10, scale=2, overwrite=True)


def filled_in(model: ck.ImageModel, judge: Judge, truth: np.ndarray, labels: np.ndarray, free: np.ndarray) -> list[str]:
    """How near the lower half of held-out pictures comes when it is filled in, and what the whole is taken for."""
    side = truth.shape[1]
    hole = np.zeros((side, side), bool)
    hole[side // 2 :] = True
    drawn = {
        "given the upper half": model.impute(truth, hole),
        "given the upper half and the class": model.impute(truth, hole, given={"class": labels.tolist()}),
        "given the class": model.sample(len(truth), given={"class": labels.tolist()}),
        "given nothing": free[: len(truth)],
    }
    lines = ["| lower half of held-out pictures | mean difference, points of 255 | recognised |", "|---|---|---|"]
    for name, pictures in drawn.items():
        whole = np.where(hole, pictures, truth)
        far = np.abs(whole.astype(float) - truth)[:, hole].mean()
        lines.append(f"| {name} | {far:.1f} | {100 * (judged(judge, whole)[0] == labels).mean():.1f} % |")
    return lines


def shapes(levels: tuple[Level, ...], minutes: float, steps: int, write: bool, save: str | None) -> None:
    """Train on captioned scenes of all levels together; ask for captions of scenes that were not trained on."""
    shares = SHARES if set(levels) == set(SHARES) else dict.fromkeys(levels, 1 / len(levels))
    parts = [scenes((level,), range(round(shares[level] * TRAINED))) for level in levels]
    pictures, captions = np.concatenate([part[0] for part in parts]), [text for part in parts for text in part[1]]
    model = ck.ImageModel(max_minutes=minutes, **SHAPES)
    model.fit(pictures, captions=captions, progress=True)
    if Shard.here().index:  # the other processes have helped to fit, which was all
        return
    if save:
        model.save(save, overwrite=True)
    run = model.training_run_
    real, asked, names = scenes(levels, range(TRAINED, TRAINED + ASKED))
    lines = [
        f"# Image model: coloured shapes of 32 x 32 points, levels {', '.join(levels)}",
        "",
        f"`{command('shapes', minutes)} --steps {steps}` on {machine()}.",
        "",
        f"{num_parameters(model.denoiser_):,} parameters ({SHAPES}), trained on the levels in shares of {shares}: "
        f"{run.steps:,} steps of {model.batch_size} in "
        f"{run.seconds:.0f} s ({run.steps * model.batch_size / run.seconds:.0f} pictures a second). "
        f"{len(asked)} captions of scenes that were not trained on, {steps} solver steps. The judge is strict where a "
        "thing needs 45 % of the smallest area, lenient at a fifth.",
        "",
        "| pictures | captions | judge | " + " | ".join(judges.FIGURES[:-1]) + " |",
        "|---|---|---|" + "---|" * (len(judges.FIGURES) - 1),
        *judged_scenes("real", real, asked, names),
    ]
    shown: list[int] = []
    for weight in (0.0, SHOWN, 1.0, 2.0, 4.0):
        drawn = model.sample(len(asked), given={"caption": asked}, guidance_scale=weight, num_steps=steps)
        lines += judged_scenes(f"guidance {weight:g}", drawn.transpose(0, 3, 1, 2), asked, names)
        if weight == SHOWN:
            columns = len(asked) // len(levels)
            shown = [level * columns + column for level in range(len(levels)) for column in range(8)]
            if write:
                grid = RESULTS / "images-shapes.png"
                write_grid(drawn[shown], grid, columns=8, scale=3, layout="last", overwrite=True)
    rows = [shown[at : at + 8] for at in range(0, len(shown), 8)]
    lines += ["", f"The pictures, by row, at guidance {SHOWN:g}:", ""]
    lines += [f"- {'; '.join(asked[place] for place in row)}" for row in rows]
    report("images-shapes", lines, write)


def scenes(levels: tuple[Level, ...], numbers: range) -> tuple[np.ndarray, list[str], list[str]]:
    """Pictures uint8 ``(n, 3, 32, 32)`` of so many scenes in all, their captions and their levels."""
    rows = np.arange(numbers.start, numbers.start + len(numbers) // len(levels))
    data = [ColouredShapes(size=32, level=level) for level in levels]
    images = np.concatenate([part.images(rows).numpy() for part in data])
    return images, [text for part in data for text in part.captions(rows)], list(np.repeat(levels, len(rows)))


def judged_scenes(name: str, pictures: np.ndarray, captions: list[str], levels: list[str]) -> list[str]:
    """A line of the table a level and threshold."""
    cells: dict[tuple[str, float], dict[str, str]] = {}
    for rate in judges.report(pictures, captions, levels=levels):
        cells.setdefault((rate.level, rate.least_area), {})[rate.figure] = f"{100 * rate.rate:.1f} %"
    return [
        f"| {name} | {level} | {'strict' if area == judges.STRICT else 'lenient'} | "
        + " | ".join(found.get(figure, "") for figure in judges.FIGURES[:-1])
        + " |"
        for (level, area), found in cells.items()
    ]


def command(name: str, minutes: float) -> str:
    """What was called, as it can be called again."""
    count = Shard.here().count
    start = f"OMP_NUM_THREADS=1 torchrun --nproc-per-node {count}" if count > 1 else "python"
    return f"{start} benchmarks/images.py {name} --minutes {minutes:g}"


def machine() -> str:
    threads, processes = torch.get_num_threads(), Shard.here().count
    several = f"{processes} processes of " if processes > 1 else ""
    return f"{several}{threads} thread{'s' * (threads > 1)}, {platform.machine()}, torch {torch.__version__}"


def report(name: str, lines: list[str], write: bool) -> None:
    text = "\n".join(lines) + "\n"
    print(text)
    if write:
        (RESULTS / f"{name}.md").write_text(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["digits", "mnist", "shapes"])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--levels", nargs="+", default=LEVELS)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--save", metavar="FILE", help="keep the model, for the benchmarks that ask it")
    parser.add_argument("--write", action="store_true")
    a = parser.parse_args()
    if a.part == "shapes":
        shapes(tuple(a.levels), a.minutes, a.steps, a.write, a.save)
    else:
        numbers(a.part, a.minutes, (0.0, 1.0), a.write, a.save)
