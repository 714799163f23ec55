"""Shift: classifiers of digits across domains, curves of subgroups, and a robust regression.

    python benchmarks/shift.py [--part digits|subgroups|regression] [--seed 2]

Digits: logistic regression and a diffusion classifier (a conditional denoiser of 8 x 8 digits) on clean, turned,
blurred, inverted and noisy digits, with and without two labelled examples a class.

Subgroups: zoos of 80 logistic models, 10 sizes of 20 to 6000 rows times 8 penalties of 1e-3 to 10, on 150 core columns
and one shortcut, at four agreements of the shortcut with the class; majority and minority accuracy in closed form.

Regression: a heavy-tailed procedural target; the Cauchy-Schwarz bottleneck beside squared error, clean, attacked by one
step along the sign of the gradient, and with a tenth of the training targets made gross outliers.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from clarkia.datasets import linear_accuracies, spurious
from clarkia.denoisers import Preconditioned
from clarkia.measures import shift
from clarkia.measures.shift.corruptions import blur, gaussian_noise, invert, rotate
from clarkia.processes import EDM
from clarkia.random import generator, randn
from clarkia.training import TrainingOptions, fit

RESULTS = Path(__file__).parent / "results"
ZOOS = 10


# -------------------------------------------------------------------------------------------------- digits


class Network(nn.Module):
    """Three hidden layers over pixels, noise level and class."""

    def __init__(self, classes: int = 10, width: int = 384) -> None:
        super().__init__()
        self.embed = nn.Embedding(classes, 32)
        layers: list[nn.Module] = []
        for before in (64 + 17 + 32, width, width):
            layers += [nn.Linear(before, width), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 64))

    def forward(self, x: Tensor, noise: Tensor, condition: Tensor) -> Tensor:
        angles = noise[:, None] * torch.arange(1, 9)
        told = torch.cat([x, noise[:, None], angles.sin(), angles.cos(), self.embed(condition)], 1)
        return self.layers(told)


def diffusion_classifier(x: Tensor, labels: Tensor, seed: int) -> shift.DenoisingClassifier:
    """Train a conditional denoiser of centred pixels; classes by its errors at 12 levels."""
    torch.manual_seed(seed)
    denoiser = Preconditioned(Network(), EDM, data_std=0.4)

    def loss(module: nn.Module, batch: Any, noise: torch.Generator) -> Tensor:
        x0 = batch["x"]
        kappa = torch.exp(-1.0 + 1.2 * randn((len(x0),), noise))
        t = EDM.t_of_kappa(kappa.double()).float()
        x_t = x0 + kappa[:, None] * randn(x0.shape, noise)
        weight = (kappa**2 + 0.4**2) / (kappa * 0.4) ** 2
        return weight * (module(x_t, t, batch["label"]) - x0).square().mean(1)

    options = TrainingOptions(max_steps=2500, batch_size=128, learning_rate=1e-3, seed=seed)
    fit(denoiser, loss, {"x": x - 0.5, "label": labels}, options=options, progress=False)
    levels = tuple(torch.logspace(-0.9, 0.5, 12, dtype=torch.float64).tolist())
    return shift.DenoisingClassifier(denoiser, EDM, 10, levels, num_draws=2, generator=generator(seed))


class Pixels:
    """A classifier of flat pixels, asked with images."""

    def __init__(self, classifier: Any, shift_by: float = 0.0, numpy: bool = False) -> None:
        self.classifier, self.shift_by, self.numpy = classifier, shift_by, numpy

    def predict_proba(self, x: Tensor) -> Any:
        flat = x.flatten(1).float() - self.shift_by
        return self.classifier.predict_proba(flat.numpy() if self.numpy else flat)


def digits(seed: int) -> str:
    data, target = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(data))
    images, labels = torch.from_numpy(data[order] / 16).float().reshape(-1, 8, 8), target[order]
    train = slice(0, 900)
    linear = LogisticRegression(max_iter=1000).fit(images[train].flatten(1).numpy(), labels[train])
    diffusion = diffusion_classifier(images[train].flatten(1), torch.from_numpy(labels[train]), seed)
    flat = lambda x: x.flatten(1)  # noqa: E731
    classifiers = {
        "logistic": shift.Prototypes(flat, Pixels(linear, numpy=True), 10),
        "diffusion": shift.Prototypes(flat, Pixels(diffusion, 0.5), 10),
    }
    changes = {
        "rotate 20": lambda x, g: rotate(x, 20.0),
        "blur": lambda x, g: blur(x, 1.0),
        "invert": lambda x, g: invert(x),
        "noise .01": lambda x, g: gaussian_noise(x, 0.01, generator=g),
        "noise .04": lambda x, g: gaussian_noise(x, 0.04, generator=g),
    }
    scenarios = [shift.CLEAN, *(shift.Scenario(name, change) for name, change in changes.items())]
    scenarios += [shift.Scenario.corrupted("noise", s) for s in range(1, 6)]
    scenarios += [shift.Scenario.corrupted("rotation", s) for s in range(1, 6)]
    scenarios += [shift.Scenario("invert, two shots", changes["invert"], shots=2)]
    test = images[900:]
    manifest = shift.Manifest.draw(np.repeat("digits", len(test)), labels[900:], num_samples=25, seed=seed)
    report = shift.Suite(manifest, test, seed=seed).run(classifiers, scenarios)
    every = [test] + [change(test, generator(seed)) for change in changes.values()]
    names = ["clean", *changes]
    embedded = torch.cat([part.flatten(1) for part in every])
    sizes = shift.shift_sizes(embedded, np.repeat(names, len(test)), "clean")
    lines = [
        "```",
        str(report),
        "```",
        "",
        "| domain | MMD^2 | Frechet | drop, logistic | drop, diffusion |",
        "|---|---|---|---|---|",
    ]
    drops = {c: [report.drop(c, name) for name in changes] for c in classifiers}
    for index, name in enumerate(changes):
        size = sizes[name]
        lines.append(f"| {name} | {size.mmd2:.4f} | {size.frechet:.3f} | {drops['logistic'][index]:.3f} | "
                     f"{drops['diffusion'][index]:.3f} |")  # fmt: skip
    for c, values in drops.items():
        ranks = [
            shift.rank_correlation([getattr(sizes[n], kind) for n in changes], values) for kind in ("mmd2", "frechet")
        ]
        gain = report.drop(c, "invert") - report.drop(c, "invert, two shots")
        lines.append(f"\n{c}: Spearman of drop with MMD^2 {ranks[0]:.2f}, with Frechet {ranks[1]:.2f}; two shots")
        lines.append(f"a class bring back {gain:.3f} of {report.drop(c, 'invert'):.3f} on inverted digits.")
    test_of = report.compare("logistic", "diffusion", "clean")
    lines.append(
        f"\nMcNemar on clean digits: {test_of.only_first} against {test_of.only_second}, p = {test_of.p_value:.3f}."
    )
    return "\n".join(lines)


# ----------------------------------------------------------------------------------------------- subgroups


def zoo(agreement: float, core: float, shortcut: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Majority and minority accuracy of logistic models of 10 sizes times 8 penalties, in closed form."""
    strengths: dict[str, Any] = {"core_strength": core, "shortcut_strength": shortcut}
    found = []
    for index, (n, penalty) in enumerate(product(np.geomspace(20, 6000, 10), np.geomspace(1e-3, 10, 8))):
        data = spurious(round(n), agreement, seed=1000 * seed + index, **strengths)
        if len(np.unique(data.y)) == 2:
            model = LogisticRegression(C=penalty, max_iter=500).fit(data.x, data.y)
            found.append(linear_accuracies(model.coef_, float(model.intercept_[0]), **strengths))
    majority, minority = np.array(found).T
    return majority, minority


def quartiles(values: list[float]) -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def subgroups(seed: int) -> str:
    lines = [
        "Median and quartiles over zoos. b2 of one zoo hangs on its few worst models: on how far they reach down.",
        "",
        "| core | shortcut | agreement | least majority | b2 | R2 of the line | probit b2 | moon, line, arch | r |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    settings = [(c, s, p) for c, s in ((0.3, 1.5), (0.15, 0.75)) for p in (0.5, 0.7, 0.85, 0.95)]
    for core, shortcut, agreement in [*settings, (0.1, 3.0, 0.95)]:
        zoos = [zoo(agreement, core, shortcut, seed + index) for index in range(ZOOS)]
        curves = [shift.subgroup_curve(*accuracies, draws=2) for accuracies in zoos]
        least = [float(majority[curve.kept].min()) for (majority, _), curve in zip(zoos, curves, strict=True)]
        shapes = [curve.shape for curve in curves]
        cells = [
            quartiles(least),
            quartiles([curve.raw.coefficients[2] for curve in curves]),
            quartiles([curve.raw.r2_linear for curve in curves]),
            quartiles([curve.probit.coefficients[2] for curve in curves]),
            ", ".join(str(shapes.count(shape)) for shape in ("moon", "line", "arch")),
            quartiles([curve.correlation for curve in curves]),
        ]
        lines.append(f"| {core} | {shortcut} | {agreement} | {' | '.join(cells)} |")
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------- regression


class Regression(nn.Module):
    """An encoder and a head of two layers each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = 128
        self.encoder = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
                                     nn.Linear(hidden, hidden))  # fmt: skip
        self.head = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        t = self.encoder(x)
        return t, self.head(t)


def regression_rows(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Eight standard normal columns; a smooth target of unit scale with noise of three degrees of freedom."""
    noise = generator(seed)
    x = randn((n, 8), noise)
    clean = x[:, 0] + 0.5 * (2 * x[:, 1]).sin() + 0.5 * x[:, 2] * x[:, 3] + 0.3 * x[:, 4].square() - 0.3
    heavy = randn((n,), noise) / (randn((n, 3), noise).square().mean(1)).sqrt()
    return x, (clean + 0.2 * heavy)[:, None]


def regression(seed: int) -> str:
    x, y = regression_rows(3000, 10 * seed)
    test_x, test_y = regression_rows(3000, 10 * seed + 1)
    spoiled = y.clone()
    hit = torch.rand(len(y), generator=generator(seed)) < 0.1
    spoiled[hit] += 10 * (1 + torch.rand((int(hit.sum()), 1), generator=generator(seed, 1)))
    losses = {"squared error": None, "bottleneck, beta 0": 0.0, "bottleneck, beta .01": 0.01}
    lines = [
        "| loss | clean RMSE | RMSE under a step of 0.3 | RMSE, tenth of the targets spoiled |",
        "|---|---|---|---|",
    ]
    for name, beta in losses.items():
        row = []
        for target in (y, spoiled):
            torch.manual_seed(seed)
            module = Regression(8)

            def loss(module: nn.Module, batch: Any, noise: torch.Generator, beta: Any = beta) -> Tensor:
                t, y_hat = module(batch["x"])
                squared = (y_hat - batch["y"]).square().mean()
                if beta is None:
                    return squared.reshape(1)
                # A small squared error ties down what the divergence leaves free.
                value = shift.Bottleneck(beta)(batch["x"], batch["y"], y_hat, t).float() + 1e-3 * squared.clamp(max=1)
                return value.reshape(1)

            options = TrainingOptions(max_steps=600, batch_size=128, learning_rate=1e-3, seed=seed)
            fit(module, loss, {"x": x, "y": target}, options=options, progress=False)
            with torch.no_grad():
                row.append(float((module(test_x)[1] - test_y).square().mean().sqrt()))
            if target is y:
                moved = test_x.clone().requires_grad_()
                (slope,) = torch.autograd.grad((module(moved)[1] - test_y).square().mean(), moved)
                with torch.no_grad():
                    row.append(float((module(test_x + 0.3 * slope.sign())[1] - test_y).square().mean().sqrt()))
        lines.append(f"| {name} | {row[0]:.3f} | {row[1]:.3f} | {row[2]:.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("digits", "subgroups", "regression"), default="digits")
    parser.add_argument("--seed", type=int, default=2)
    arguments = parser.parse_args()
    start = time.monotonic()
    text = {"digits": digits, "subgroups": subgroups, "regression": regression}[arguments.part](arguments.seed)
    command = f"python benchmarks/shift.py --part {arguments.part} --seed {arguments.seed}"
    machine = f"{os.cpu_count()} cores (one used), {platform.machine()}, torch {torch.__version__}"
    body = f"# Shift: {arguments.part}\n\n`{command}` on {machine}, {time.monotonic() - start:.0f} s.\n\n{text}\n"
    (RESULTS / f"shift-{arguments.part}.md").write_text(body)
    print(body)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
