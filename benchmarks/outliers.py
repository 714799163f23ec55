"""Outliers: what the small experiments of the papers give here.

    python benchmarks/outliers.py [--part digits|products] [--seeds 3]

Digits: seven random classes of scikit-learn's 8 x 8 digits are usual, the other three unusual; a 128-64 ReLU network is
trained on the seven and its last hidden layer scored, beside a network of the same layers trained with the HVCM loss.

Products: twelve classes in 24 dimensions, each with a place, four directions of variation and a scale of its own; the
unusual rows are displaced by two scales in a random direction. Eight classes are learned from, four are new and come
with 32 usual rows each. A bank of as many rows is used in training.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from clarkia.measures.outliers import (
    Energy,
    GroupedGaussians,
    HVCMScorer,
    Mahalanobis,
    MaximumSoftmax,
    NearestNeighbours,
    ResidualDetector,
    ResidualFlow,
)
from clarkia.measures.outliers.trained import mlp
from clarkia.measures.scores import auroc, fpr_at_recall
from clarkia.random import generator, rand, randn
from clarkia.training import TrainingOptions, fit

RESULTS = Path(__file__).parent / "results"
Row = tuple[float, float]


def classifier(x: Tensor, codes: Tensor, classes: int, seed: int) -> tuple[nn.Module, nn.Module]:
    """A 128-64 ReLU network and its last layer, trained by cross-entropy."""
    torch.manual_seed(seed)
    body, head = mlp(x.shape[1]), nn.Linear(64, classes)

    def loss(module: nn.Module, batch: Mapping[str, Tensor], noise: torch.Generator) -> Tensor:
        return F.cross_entropy(module(batch["x"]), batch["label"], reduction="none")

    options = TrainingOptions(max_steps=1000, batch_size=128, learning_rate=1e-3, seed=seed)
    fit(nn.Sequential(body, head), loss, {"x": x, "label": codes}, options=options, progress=False)
    return body, head


def digits(seed: int) -> dict[str, Row]:
    """AUROC and FPR at 95 % recall of every scorer."""
    data, target = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    usual_classes = np.sort(rng.permutation(10)[:7])
    usual = rng.permutation(np.flatnonzero(np.isin(target, usual_classes)))
    train, held = usual[: len(usual) * 7 // 10], usual[len(usual) * 7 // 10 :]
    test = np.concatenate([held, np.flatnonzero(~np.isin(target, usual_classes))])
    unusual = ~np.isin(target[test], usual_classes)
    x, labels = torch.from_numpy(data / 16).float(), torch.from_numpy(np.searchsorted(usual_classes, target))
    body, head = classifier(x[train], labels[train], 7, seed)
    with torch.no_grad():
        h = body(x)
        logits = head(h)
    scorers = {
        "maximum softmax": (MaximumSoftmax(), logits),
        "energy": (Energy(), logits),
        "nearest neighbours, k = 10": (NearestNeighbours(10), h),
        "Mahalanobis": (Mahalanobis(), h),
        **{f"grouped Gaussians, G = {g}": (GroupedGaussians(g, 0.1), h) for g in (1, 4, 8, 16, 64)},
        "grouped Gaussians, G = 1, normalised": (GroupedGaussians(1, 0.1, normalised=True), h),
    }
    found = {}
    for name, (scorer, features) in scorers.items():
        scores = scorer.fit(features[train], labels[train]).score(features[test])
        found[name] = (auroc(unusual, scores, draws=1).value, fpr_at_recall(unusual, scores, draws=1).value)
    for width, groups in ((128, 16), (128, 1)):
        options = TrainingOptions(max_steps=2000, batch_size=128, learning_rate=1e-3, weight_decay=1e-4, seed=seed)
        fitted = HVCMScorer(width=width, groups=groups, options=options).fit(x[train], labels[train])
        scores = fitted.score(x[test])
        right = float((fitted.classify(x[held]) == labels[held]).double().mean())
        print(f"  seed {seed}, HVCM, D = {width}, G = {groups}: accuracy on usual rows {right:.3f}")
        name = f"HVCM, D = {width}, G = {groups}"
        found[name] = (auroc(unusual, scores, draws=1).value, fpr_at_recall(unusual, scores, draws=1).value)
    return found


def product_rows(seed: int, *, classes: int = 12, width: int = 24, each: int = 400) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, classes and which rows are unusual."""
    noise = generator(seed)
    scales = 0.7 + 0.7 * rand((classes,), noise)
    centres = 4 * randn((classes, width), noise, dtype=torch.float64)
    ways = randn((classes, 4, width), noise, dtype=torch.float64) / 2
    labels = torch.arange(classes * each) % classes
    steps = torch.einsum("nk,nkd->nd", randn((len(labels), 4), noise, dtype=torch.float64), ways[labels])
    x = centres[labels] + scales[labels, None] * steps
    unusual = torch.arange(len(labels)) // classes % 2 == 1
    directions = F.normalize(randn((len(labels), width), noise, dtype=torch.float64), dim=1)
    return torch.where(unusual[:, None], x + 2 * scales[labels, None] * directions, x), labels, unusual


def products(seed: int) -> dict[str, Row]:
    """Mean AUROC and FPR over the four new classes."""
    x, labels, unusual = product_rows(seed)
    known, shots = labels < 8, 32
    options = TrainingOptions(max_steps=1000, batch_size=256, learning_rate=1e-3, weight_decay=5e-4, seed=seed)
    detectors = {
        "residuals, Gaussian": ResidualDetector(Mahalanobis(), shots=shots),
        "residuals, nearest neighbours": ResidualDetector(NearestNeighbours(10), shots=shots),
        "residuals, constraint + flow as published": ResidualDetector(ResidualFlow(options=options), shots=shots),
        "squared residuals, Euclidean matching, constraint without ReLU + flow of 2 blocks": ResidualDetector(
            ResidualFlow(blocks=2, relu=False, options=options), shots=shots, metric="euclidean", kind="squared"
        ),
    }
    models = {
        name: detector.fit(x[known], labels[known], unusual=unusual[known], generator=generator(seed, 1))
        for name, detector in detectors.items()
    }
    direct = Mahalanobis().fit(x[known & ~unusual])
    rows: dict[str, list[Row]] = {}
    for new in range(8, 12):
        own = (labels == new).nonzero().squeeze(1)
        usual = own[~unusual[own]]
        reference, rest = x[usual[:shots]], torch.cat([usual[shots:], own[unusual[own]]])
        scores = {
            "features, Gaussian": direct.score(x[rest]),
            "distance to the nearest reference": NearestNeighbours(1).fit(reference).score(x[rest]),
            **{name: model.score(x[rest], reference=reference) for name, model in models.items()},
        }
        for name, values in scores.items():
            marks = unusual[rest]
            row = auroc(marks, values, draws=1).value, fpr_at_recall(marks, values, draws=1).value
            rows.setdefault(name, []).append(row)
    return {name: tuple(np.mean(values, 0).tolist()) for name, values in rows.items()}  # type: ignore[misc]


def table(rows: list[dict[str, Row]]) -> str:
    lines = ["| scorer | AUROC | standard error | FPR at 95 % recall |", "|---|---|---|---|"]
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        error = values[:, 0].std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
        lines.append(f"| {name} | {values[:, 0].mean():.3f} | {error:.3f} | {values[:, 1].mean():.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("digits", "products"), default="digits")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    start = time.monotonic()
    experiment = {"digits": digits, "products": products}[arguments.part]
    text = table([experiment(seed) for seed in range(arguments.seeds)])
    command = f"python benchmarks/outliers.py --part {arguments.part} --seeds {arguments.seeds}"
    machine = f"{os.cpu_count()} cores (one used), {platform.machine()}, torch {torch.__version__}"
    title = {"digits": "three unseen classes of digits", "products": "four new classes with 32 usual rows each"}
    seconds = time.monotonic() - start
    body = f"# Outliers: {title[arguments.part]}\n\n`{command}` on {machine}, {seconds:.0f} s.\n\n{text}\n"
    (RESULTS / f"outliers-{arguments.part}.md").write_text(body)
    print(body)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
