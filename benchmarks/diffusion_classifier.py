"""A generator as a classifier: digits by a conditional denoiser beside a network trained to tell them apart.

    python benchmarks/diffusion_classifier.py --write

The 8x8 digits of scikit-learn, 1200 to train on and 597 to test. The discriminative network is the same U-Net with a
pooled linear head in the place of its last convolution, trained for the same processor time. Then: how many evaluations
does the diffusion classifier need, with noise shared by all classes and with noise of its own for each?
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn

import clarkia as ck
from clarkia.codecs.image import to_float
from clarkia.measures import diffusion_classifier
from clarkia.measures.shift import wilson_interval
from clarkia.models.classify import LOG_SNR
from clarkia.networks import UNet, num_parameters
from clarkia.networks.conditioning import Conditions
from clarkia.random import generator

RESULTS = Path(__file__).parent / "results"
OPTIONS = {"width": 20, "depth": 1, "batch_size": 64, "learning_rate": 3e-3, "subset_probability": 0.0}
STAGES = ((4, 4), (16, 2), (64, 1))
SUBSET, PAIRED, UNPAIRED = 150, 64, 128
DRAWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Discriminative(nn.Module):
    """The denoiser's network with a head on the mean of its last features."""

    def __init__(self, width: int, features: int = 32):
        super().__init__()
        self.body = UNet(
            1, width=width, multipliers=(1, 2), blocks=1, attention=[0, 1], out_channels=features,
            conditions=Conditions(label_classes=(10,)), element_noise=True,
        )  # fmt: skip
        nn.init.normal_(self.body.leave.weight, std=0.05)
        self.head = nn.Linear(features, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x, torch.zeros(len(x))).mean((2, 3)))


def discriminative(x: Tensor, y: Tensor, seconds: float) -> tuple[Discriminative, int]:
    """Trained for so many seconds of the processor, the rate falling to zero, with weights averaged."""
    torch.manual_seed(0)
    model = Discriminative(OPTIONS["width"])
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99))
    optimiser = torch.optim.Adam(model.parameters(), OPTIONS["learning_rate"])
    start, steps = time.process_time(), 0
    while (spent := time.process_time() - start) < seconds:
        optimiser.param_groups[0]["lr"] = OPTIONS["learning_rate"] * (1 - spent / seconds)
        rows = torch.randint(len(x), (OPTIONS["batch_size"],))
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        average.update_parameters(model)
        steps += 1
    return average.module.eval(), steps


def cell(right: np.ndarray | Tensor) -> str:
    hits, n = int(np.asarray(right).sum()), len(right)
    interval = wilson_interval(hits, n)
    return f"{100 * hits / n:.1f} % ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def right_after(errors: Tensor, draws: int, truth: Tensor) -> np.ndarray:
    """Whether the classes are right from evenly spread draws of ``(n, c, m)``, over all ways to spread them."""
    step = errors.shape[2] // draws
    answers = [errors[:, :, start::step].mean(2).argmin(1) == truth for start in range(step)]
    return torch.stack(answers).double().mean(0).numpy()


def main(steps: int, write: bool) -> None:
    digits = load_digits()
    images, labels = (digits.images / 16 * 255).round().astype(np.uint8), digits.target
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order], labels[order]
    start = time.process_time()
    model = ck.ImageModel(max_steps=steps, max_minutes=None, **OPTIONS).fit(images[:1200], labels[:1200])
    seconds = time.process_time() - start
    x, y = to_float(model.codec_.encode(images)), torch.from_numpy(labels)
    other, other_steps = discriminative(x[:1200], y[:1200], seconds)
    held, truth = x[1200:], y[1200:]
    with torch.no_grad():
        told = (other(held).argmax(1) == truth).numpy()
    classes = {"label": torch.arange(10)[:, None]}

    def ask(rows: int, seed: int, condition: dict[str, Tensor] = classes, **options: object):
        return diffusion_classifier(
            model.denoiser_, model.process_, held[:rows], condition, log_snr_range=LOG_SNR, generator=generator(seed),
            **options,
        )  # fmt: skip

    start = time.process_time()
    pruned = ask(len(held), 1, stages=STAGES)
    pruning = time.process_time() - start
    found = (pruned.labels == truth).numpy()
    shared = ask(SUBSET, 2, num_draws=PAIRED, antithetic=False)
    pairs = ask(SUBSET, 2, num_draws=PAIRED)
    each = [
        ask(SUBSET, 10 + k, {"label": torch.tensor([[k]])}, num_draws=UNPAIRED, antithetic=False) for k in range(10)
    ]
    own = torch.cat([one.errors for one in each], 1)
    lines = [
        "# A generator as a classifier: digits",
        "",
        f"`python benchmarks/diffusion_classifier.py --steps {steps}` on {torch.get_num_threads()} thread, "
        f"{platform.machine()}, torch {torch.__version__}.",
        "",
        "| 597 held-out digits | parameters | steps | processor seconds | accuracy |",
        "|---|---:|---:|---:|---:|",
        f"| diffusion classifier, stages {STAGES} | {num_parameters(model.denoiser_):,} | {steps:,} | {seconds:.0f} "
        f"| {cell(found)} |",
        f"| discriminative network | {num_parameters(other):,} | {other_steps:,} | {seconds:.0f} | {cell(told)} |",
        "",
        f"The gap is {100 * (told.mean() - found.mean()):+.1f} points. Stages took "
        f"{pruned.evaluations / len(held):.0f} evaluations a digit instead of {10 * STAGES[-1][0]}, "
        f"{pruning / len(held):.2f} s.",
        "",
        f"Accuracy on the first {SUBSET} of them by draws a class, averaged over all evenly spread choices of the "
        "draws made:",
        "",
        "| draws | shared noise | shared, in opposite pairs | noise of their own |",
        "|---:|---:|---:|---:|",
    ]
    few = truth[:SUBSET]
    halves = pairs.errors.unflatten(2, (-1, 2)).mean(3)
    ways: dict[str, dict[int, float]] = {
        "shared": {draws: right_after(shared.errors, draws, few).mean() for draws in DRAWS if draws <= PAIRED},
        "pairs": {draws: right_after(halves, draws // 2, few).mean() for draws in DRAWS if 1 < draws <= PAIRED},
        "own": {draws: right_after(own, draws, few).mean() for draws in DRAWS},
    }
    for draws in DRAWS:
        cells = [f"{100 * way[draws]:.1f} %" if draws in way else "–" for way in ways.values()]
        lines.append(f"| {draws} | {' | '.join(cells)} |")
    best = ways["own"][UNPAIRED]
    enough = min((draws for draws, share in ways["shared"].items() if share >= best), default=None)
    lines += [
        "",
        f"What {UNPAIRED} draws of noise of their own reach, {100 * best:.1f} %, "
        + (f"{enough} shared ones do: 1/{UNPAIRED // enough} of the evaluations." if enough else "no shared ones do."),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if write:
        (RESULTS / "diffusion-classifier.md").write_text(text)
        plot(ways).savefig(RESULTS / "diffusion-classifier.png", dpi=120)


def plot(ways: dict[str, dict[int, float]]) -> Figure:
    """Accuracy by draws a class, a line a way to draw the noise."""
    figure = Figure(figsize=(5.5, 3.5), layout="constrained")
    axes = figure.add_subplot(
        xlabel="evaluations a class", ylabel="accuracy, %", xscale="log", xticks=DRAWS, xticklabels=DRAWS
    )
    axes.minorticks_off()
    names = {"shared": "noise shared by all classes", "pairs": "shared, in opposite pairs", "own": "noise of its own"}
    for name, label in names.items():
        axes.plot(ways[name].keys(), [100 * share for share in ways[name].values()], marker="o", label=label)
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--write", action="store_true")
    a = parser.parse_args()
    main(a.steps, a.write)
