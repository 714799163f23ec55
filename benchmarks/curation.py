"""What curation achieves: rows selected for a task, sets distilled to a few rows, groups embedded.

    OMP_NUM_THREADS=1 python benchmarks/curation.py select|ring|digits|digits1|noncritical|sets|predictive

Each part takes up to about two minutes on one core (noncritical: 15 on a busy one) and records its table in
results/curation-PART.md. Intervals are 95 % by Student's t over seeds.
"""

import math
import os
import platform
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from scipy import stats
from sklearn.datasets import load_digits

from clarkia import curation, measures
from clarkia._math.neighbours import k_nearest
from clarkia.curation.refinement.crops import Crops, candidate_crops, choose_crops, only, tiles
from clarkia.curation.refinement.noncritical import SHIFT
from clarkia.curation.synthetic.pools import new_model, train_classifier
from clarkia.curation.synthetic.result import SyntheticDataset, accuracy_of
from clarkia.random import generator, rand, randn
from clarkia.training import TrainingOptions

RESULTS = Path(__file__).parent / "results"
Row = tuple[str, ...]


def interval(values: list[float], digits: int = 3) -> str:
    """Mean and half-width of its interval."""
    x = torch.tensor(values, dtype=torch.float64)
    half = stats.t.ppf(0.975, len(x) - 1) * float(x.std()) / math.sqrt(len(x))
    return f"{float(x.mean()):.{digits}f} ± {half:.{digits}f}"


# --------------------------------------------------------------------------------------------------- select


def clusters(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """4000 candidates in 32 dimensions from ten clusters and a loud coordinate; 200 targets from three of them."""
    noise = generator(seed)
    centres = 2 * randn((10, 32), noise, dtype=torch.float64)
    label = torch.randint(0, 10, (4000,), generator=noise)
    target = torch.multinomial(torch.tensor([0.6, 0.3, 0.1]), 200, replacement=True, generator=noise)
    sets = [centres[part] + randn((len(part), 32), noise, dtype=torch.float64) for part in (label, target)]
    for rows in sets:
        rows[:, 0] = 30 * randn((len(rows),), noise, dtype=torch.float64)
    return *sets, label


def select() -> list[Row]:
    """Shares of the three target clusters, of weight 0.6, 0.3 and 0.1, in the selected rows."""
    table = [("rule", "rows", "share of cluster 0", "of 1", "of 2", "inside", "transport cost", "seconds")]
    for rule, size in (("random", 400), ("mean", 400), ("nearest", 400), ("transport", 400), ("transport", None)):
        found = []
        for seed in range(3):
            candidates, target, label = clusters(seed)
            start = time.perf_counter()
            chosen = curation.select(candidates, target, size=size, rule=rule, generator=generator(seed))
            seconds = time.perf_counter() - start
            shares = [float((label[chosen.indices] == k).double().mean()) for k in range(3)]
            found.append([len(chosen.indices), *shares, sum(shares), chosen.distance, seconds])
        columns = list(zip(*found, strict=True))
        name = rule if size else "transport, size found"
        table.append((name, f"{sum(columns[0]) / 3:.0f}", *(interval(list(column)) for column in columns[1:])))
    return table


# ------------------------------------------------------------------------------------------------ distillation


def disc_and_ring(noise: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Two classes of one mean: a disc of scale 0.4 and a ring of radius 2, 1000 points each."""
    angle, radius = 2 * math.pi * rand((1000,), noise), 2 + 0.15 * randn((1000,), noise)
    ring = radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    return torch.cat([0.4 * randn((1000, 2), noise), ring]).float(), torch.arange(2).repeat_interleave(1000)


def ring() -> list[Row]:
    """Accuracy of the nearest of 20 synthetic points, started in the middle, and the mean radius of the ring's ten."""
    criteria = {
        "means": curation.MeanGap(),
        "characteristic functions": curation.CharacteristicGap(count=256),
        "characteristic functions, squared": curation.CharacteristicGap(count=256, power=2),
        "characteristic functions, learned frequencies": curation.AdversarialGap(count=64, bound=2.0),
    }
    table = [("matched", "accuracy, four seeds", "lowest", "highest", "radius of the ring's points")]
    for name, criterion in criteria.items():
        accuracy, radius = [], []
        for seed in range(4):
            noise = generator(seed)
            (x, labels), (test, truth) = disc_and_ring(noise), disc_and_ring(noise)
            method = curation.Matching(
                pool=curation.FixedFeatures(), unit=False, criterion=criterion, start=0.5 * randn((20, 2), noise),
                descent=curation.Descent(steps=800, learning_rate=0.03), weight=1.0,
            )  # fmt: skip
            found = curation.distill(x, labels, per_class=10, method=method, generator=generator(seed))
            nearest = found.labels[k_nearest(test, found.x, 1)[1][:, 0]]
            accuracy.append(float((nearest == truth).double().mean()))
            radius.append(float(found.x[10:].norm(dim=1).mean()))
        table.append((name, interval(accuracy), f"{min(accuracy):.3f}", f"{max(accuracy):.3f}", interval(radius)))
    return table


def digits(per_class: int = 10) -> list[Row]:
    """Accuracy of a perceptron of 128 units on half of the 8x8 digits, trained on a few rows a class."""
    source = load_digits()
    x, labels = torch.tensor(source.data / 16).float(), torch.tensor(source.target)
    options = TrainingOptions(max_steps=400, batch_size=min(64, 10 * per_class), learning_rate=3e-3, ema_decay=0.9)
    criteria = {
        "random rows": None,
        "means": curation.MeanGap(),
        "characteristic functions, scale 1": curation.CharacteristicGap(count=64),
        "characteristic functions, scale 5": curation.CharacteristicGap(count=64, scale=5.0),
    }
    table = [(f"{per_class} a class", "accuracy, three splits")]
    for name, criterion in criteria.items():
        accuracy = []
        for seed in range(3):
            order = torch.randperm(len(x), generator=generator(seed))
            train, test = order[:900], order[900:]
            steps = 400 if criterion else 0
            method = curation.Matching(
                form=curation.Rows((0.0, 1.0)), criterion=criterion or curation.MeanGap(), weight=1.0,
                descent=curation.Descent(steps=steps, learning_rate=0.02),
            )  # fmt: skip
            found = curation.distill(
                x[train], labels[train], per_class=per_class, method=method, generator=generator(seed)
            )
            judged = curation.evaluate(
                found, x[test], labels[test], lambda: curation.perceptron(64, 10, width=128), options=options, trials=2,
                seed=10 * seed,
            )  # fmt: skip
            accuracy.append(judged.mean)
        table.append((name, interval(accuracy)))
    return table


def noncritical() -> list[Row]:
    """Accuracy on half of the digits, at 32x32 pixels, of students trained on five images a class of the other half.

    Rows differ in what the images are and in what is said of their views, 30 views an image. Digits are not mirrored,
    and a crop counts where the teacher ranks its class first: five of a thousand classes are less than one of ten.
    """
    source = load_digits()
    every, truth = torch.tensor(source.images / 16).float()[:, None], torch.tensor(source.target)
    every = torch.nn.functional.interpolate(every, (32, 32), mode="bilinear", align_corners=False)
    make = lambda: curation.convnet((1, 32, 32), 10, width=16, depth=3, norm="batch", pooled=True)  # noqa: E731
    taught = TrainingOptions(max_steps=300, batch_size=64, learning_rate=1e-2, ema_decay=0.98)
    student = TrainingOptions(max_steps=300, batch_size=50, learning_rate=1e-2, ema_decay=0.98)
    results: dict[str, list[float]] = {}
    for seed in range(5):
        order = torch.randperm(len(every), generator=generator(seed))
        (x, test), (labels, answer) = ((part[order[:900]], part[order[900:]]) for part in (every, truth))
        teacher = new_model(make, seed)
        train_classifier(teacher, x, labels, replace(taught, seed=seed))
        results.setdefault("the teacher, 900 images", []).append(accuracy_of(teacher, test, answer))
        method = curation.Noncritical(
            teacher=teacher, descent=curation.Descent(steps=150, learning_rate=0.05, schedule="cosine"),
            scale=(0.25, 1.0), among=1, statistics_weight=0.1, augment=replace(SHIFT, flip=False),
        )  # fmt: skip
        full = curation.distill(x, labels, per_class=5, method=method, generator=generator(seed))
        sets = {kind: _mosaics(teacher, x, labels, kind, seed) for kind in ("random", "most certain", "least certain")}
        shown = curation.views(50, 30, (32, 32), seed=seed, mirror=False)
        for name, images in [*sets.items(), ("least certain, refined", full)]:
            stored = curation.relabel(teacher, images.x, images.labels, shown, k=10)
            judged = _student(make, images, shown, stored, "maxent", replace(student, seed=seed), test, answer)
            results.setdefault(f"crops {name}; all ten probabilities", []).append(judged)
        pair = curation.relabel(teacher, full.x, full.labels, shown)
        for name, stored, target in (
            ("classes alone", None, "pair"), ("two distances, squared", pair, "pair"),
            ("two distances, completed", pair, "maxent"),
        ):  # fmt: skip
            judged = _student(make, full, shown, stored, target, replace(student, seed=seed), test, answer)
            results.setdefault(f"crops least certain, refined; {name}", []).append(judged)
    return [("images; labels", "accuracy, five splits"), *((name, interval(found)) for name, found in results.items())]


def _mosaics(teacher, x, labels, kind: str, seed: int) -> SyntheticDataset:
    """Five mosaics a class without refinement."""
    keep = 5 if kind == "random" else 1
    found = candidate_crops(teacher, x, labels, keep=keep, among=1, scale=(0.25, 1.0), generator=generator(seed))
    if kind == "random":
        noise = rand((len(found.image),), generator(seed, 1))
        found = Crops(found.image, found.box, found.evidence, noise, torch.ones_like(found.plausible))
    chosen = only(found, choose_crops(found, labels, 20, certain=kind == "most certain"))
    images = tiles(teacher, x, labels, chosen, 2)[0]
    return SyntheticDataset(images, torch.arange(10).repeat_interleave(5), images, ())


def _student(make, images, shown, stored, target, options, test, truth) -> float:
    model = new_model(make, 100 + options.seed)
    curation.transfer(model, images.x, images.labels, shown, stored, target=target, options=options)
    return accuracy_of(model, test, truth)


# ------------------------------------------------------------------------------------------------------ sets


def normal_laws(count: int, noise: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Means uniform in [0, 5]^2 and inverse-Wishart covariances with ten degrees of freedom, of mean about 0.7."""
    root = randn((count, 10, 2), noise, dtype=torch.float64)
    return 5 * rand((count, 2), noise), 5 * torch.linalg.inv(root.mT @ root)


def sets() -> list[Row]:
    """Groups of 200 draws of normal laws in the plane, embedded in eight numbers, against the laws' W2 distances."""
    noise = generator(0)
    means, covariances = normal_laws(2300, noise)
    roots = torch.linalg.cholesky(covariances)
    groups = means[:, None] + randn((2300, 200, 2), noise, dtype=torch.float64) @ roots.mT
    start = time.perf_counter()
    options = TrainingOptions(max_steps=1500, batch_size=64, learning_rate=1e-2, ema_decay=0.995)
    found = curation.fit_distribution_embedding(
        groups[:2000], latent=8, width=64, set_size=48, num_targets=48, options=options
    )
    seconds = time.perf_counter() - start
    z = found.embed(groups).double()
    table = [("quantity", "value", "95 % interval")]
    design = torch.cat([z, torch.ones(len(z), 1)], 1)
    for name, truth in (("mean", means), ("log-variance", covariances.diagonal(dim1=1, dim2=2).log())):
        weight = torch.linalg.lstsq(design[:2000], truth[:2000]).solution
        residual = (truth[2000:] - design[2000:] @ weight).square()
        spread = (truth[2000:] - truth[2000:].mean(0)).square()
        table.append((f"R2 of a linear fit to the {name}, 300 new groups", *_bootstrap_r2(residual, spread)))
    laws = list(zip(means[2000:2100], covariances[2000:2100], strict=True))
    w2 = torch.tensor([
        [float(curation.gaussian_wasserstein(*laws[i], *laws[j])) for j in range(100)] for i in range(100)
    ])  # fmt: skip
    ranks = []
    for draw in range(200):
        rows = torch.randint(0, 100, (100,), generator=generator(1, draw)) if draw else torch.arange(100)
        i, j = torch.triu_indices(100, 100, 1)
        a, b = rows[i], rows[j]
        a, b = a[a != b], b[a != b]
        ranks.append(stats.spearmanr((z[2000 + a] - z[2000 + b]).norm(dim=1), w2[a, b])[0])
    low, high = torch.tensor(ranks[1:]).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    table.append(("Spearman of latent distance and W2, 100 new groups", f"{ranks[0]:.3f}", f"{low:.3f} to {high:.3f}"))
    errors = []
    for k in range(0, 40, 2):
        drawn = found.interpolate(z[2000 + k].float(), z[2001 + k].float(), 0.5, 1000, generator=generator(2, k))
        middle = curation.gaussian_geodesic(*laws[k], *laws[k + 1], 0.5)
        gap = curation.gaussian_wasserstein(drawn.mean(0), drawn.T.cov(), *middle)
        errors.append(float(gap / w2[k, k + 1]))
    mean, half = interval(errors).split(" ± ")
    table.append(("W2 of latent midpoint to McCann's, over the pair's W2, 20 pairs", mean, f"± {half}"))
    own = []
    for k in range(20):
        drawn = found.sample(z[2000 + k].float(), 1000, generator=generator(3, k))
        own.append(float(curation.gaussian_wasserstein(drawn.mean(0), drawn.T.cov(), *laws[k])))
    mean, half = interval(own).split(" ± ")
    table.append(("W2 of 1000 new points to their group's law, 20 groups", mean, f"± {half}"))
    table.append(("seconds of training, 1500 steps", f"{seconds:.0f}", ""))
    return table


def _bootstrap_r2(residual: torch.Tensor, spread: torch.Tensor) -> tuple[str, str]:
    draws = []
    for draw in range(500):
        rows = torch.randint(0, len(residual), (len(residual),), generator=generator(4, draw))
        draws.append(float((1 - residual[rows].sum(0) / spread[rows].sum(0)).mean()))
    low, high = torch.tensor(draws).quantile(torch.tensor([0.025, 0.975])).tolist()
    return f"{float((1 - residual.sum(0) / spread.sum(0)).mean()):.3f}", f"{low:.3f} to {high:.3f}"


def predictive() -> list[Row]:
    """Held-out log-loss of points given 100 points of their group, against the exact posterior predictive.

    Normal groups with a normal-inverse-gamma prior: variance InverseGamma(4, 3), mean N(0, 2 variance).
    """
    noise, (a, b, kappa) = generator(0), (4.0, 3.0, 0.5)
    count, n, held = 4100, 200, 20
    gamma = torch.distributions.Gamma(torch.tensor(a, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        variance = b / gamma.sample((count, 1))
    centre = (variance / kappa).sqrt() * randn((count, 1), noise, dtype=torch.float64)
    groups = centre + variance.sqrt() * randn((count, n + held), noise, dtype=torch.float64)
    options = TrainingOptions(max_steps=1500, batch_size=64, learning_rate=5e-3, ema_decay=0.995)
    found = curation.fit_distribution_embedding(
        groups[:4000, :n, None], latent=8, width=64, set_size=100, num_targets=16, options=options
    )
    seen, new = groups[4000:, :100], groups[4000:, n:]
    scaled = ((new - found.mean) / found.deviation).float()
    learned = torch.stack([
        math.log(found.deviation)
        - measures.log_density(found.given(z), found.process, x[:, None], tolerance=1e-3).nats.mean()
        for z, x in zip(found.embed(seen[:, :, None]), scaled, strict=True)
    ])  # fmt: skip
    mean, scatter = seen.mean(1), seen.var(1, correction=0) * 100
    kappa_n, a_n = kappa + 100, a + 50
    b_n = b + 0.5 * scatter + 0.5 * kappa * 100 * mean**2 / kappa_n
    location, scale = 100 * mean / kappa_n, (b_n * (kappa_n + 1) / (a_n * kappa_n)).sqrt()
    law = torch.distributions.StudentT(2 * a_n, location[:, None], scale[:, None])
    exact = -law.log_prob(new).mean(1)
    excess = (learned - exact).tolist()
    table = [("log-loss of a held-out point, nats", "mean over 100 groups")]
    table += [
        ("exact posterior predictive (Student's t)", interval(exact.tolist())),
        ("learned", interval(learned.tolist())),
    ]
    return [*table, ("excess", interval(excess, 4))]


# ----------------------------------------------------------------------------------------------------- record

PARTS = {
    "select": select, "ring": ring, "digits": digits, "digits1": lambda: digits(1),
    "noncritical": noncritical, "sets": sets, "predictive": predictive,
}  # fmt: skip


def main() -> None:
    """Run one part and record its table."""
    part = sys.argv[1] if len(sys.argv) == 2 else ""
    if part not in PARTS:
        raise SystemExit(f"usage: python benchmarks/curation.py {'|'.join(PARTS)}")
    start = time.perf_counter()
    table = PARTS[part]()
    seconds = time.perf_counter() - start
    head, *rows = ["| " + " | ".join(row) + " |" for row in table]
    purpose = (digits if part == "digits1" else PARTS[part]).__doc__ or ""
    command = f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '')} python benchmarks/curation.py {part}"
    text = "\n".join([
        f"# Curation: {part}", "",
        f"`{command}`, {seconds:.0f} seconds "
        f"on {platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} thread(s).", "",
        " ".join(purpose.split()), "", head, "|" + "---|" * len(table[0]), *rows, "",
    ])  # fmt: skip
    (RESULTS / f"curation-{part}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
