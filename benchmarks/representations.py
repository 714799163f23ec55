"""What the measures of representations say about small networks trained on scikit-learn's 8 x 8 digits.

    python benchmarks/representations.py [PART ...]

Parts: information, complexity, codes, filters, shortcuts, probes, moments, codec, landmarks; all without arguments.
Each trains its networks from fixed seeds and writes its table; tables of parts that are not run again are kept.
"""

import argparse
import functools
import inspect
import itertools
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from clarkia.denoisers import Preconditioned
from clarkia.measures import representations as r
from clarkia.processes import EDM
from clarkia.random import generator, rand, randn
from clarkia.training import TrainingOptions, fit

RESULTS = Path(__file__).parent / "results"
DIGITS = load_digits()
X = torch.tensor(DIGITS.data / 16, dtype=torch.float32)
Y = torch.tensor(DIGITS.target)
ORDER = torch.randperm(len(X), generator=generator(0))
TRAIN, TEST = ORDER[:1200], ORDER[1200:]
Table = tuple[str, list[tuple[object, ...]]]


def train(net: nn.Module, x: Tensor, y: Tensor, steps: int, *, rate: float = 3e-3, **options: object) -> nn.Module:
    """A classifier by cross-entropy on batches of 128."""

    def loss(module: nn.Module, batch: dict[str, Tensor], _noise: torch.Generator) -> Tensor:
        return nn.functional.cross_entropy(module(batch["x"]), batch["y"], reduction="none")

    settings = TrainingOptions(batch_size=128, learning_rate=rate, max_steps=steps, warmup_steps=0, ema_decay=0.0)
    fit(net, loss, {"x": x, "y": y}, options=settings, **{"progress": False, **options})  # type: ignore[arg-type]
    return net


def mlp(widths: list[int], seed: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers[:-1])


def accuracy(net: nn.Module, rows: Tensor) -> float:
    with torch.no_grad():
        return float((net(X[rows]).argmax(1) == Y[rows]).double().mean())


class ConvDenoiser(nn.Module):
    """Three residual blocks of 3 x 3 filters over the 8 x 8 pixels, told the noise level."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.level = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width))
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1),
                          nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1))
            for _ in range(3)
        )  # fmt: skip
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x: Tensor, noise: Tensor, condition: None = None) -> Tensor:
        h = self.first(x) + self.level(noise.reshape(-1, 1))[:, :, None, None]
        for block in self.blocks:
            h = h + block(h)
        return self.last(h)


IMAGES = (2 * X - 1).reshape(-1, 1, 8, 8)


@functools.cache
def denoiser(steps: int = 600) -> Preconditioned:
    """A denoiser of the training digits; levels log-normal, the loss weighted as EDM's."""
    torch.manual_seed(0)
    std = float(IMAGES.std())
    net = Preconditioned(ConvDenoiser(), EDM, data_std=std)

    def loss(module: nn.Module, x: Tensor, noise: torch.Generator) -> Tensor:
        level = torch.exp(1.2 * randn((len(x),), noise) - 0.8).clamp(min=0.01)
        t = EDM.t_of_kappa(level.double()).float()
        error = (module(EDM.corrupt(x, t, generator=noise), t) - x).square().flatten(1).mean(1)
        return (level**2 + std**2) / (level * std) ** 2 * error

    options = TrainingOptions(batch_size=64, learning_rate=3e-3, max_steps=steps, warmup_steps=20, ema_decay=0.99)
    fit(net, loss, IMAGES[TRAIN], options=options, progress=False)
    return net


def information() -> Table:
    """DSMI with the labels of held-out digits while a network learns true or random labels; five seeds.

    At the median bandwidth of each moment, and at that of the moment before training.
    """
    lines = []
    for frozen in (False, True):
        for name in ("true", "random"):
            slopes, ends = [], []
            for seed in range(5):
                y = Y[TRAIN] if name == "true" else Y[TRAIN][torch.randperm(1200, generator=generator(seed))]
                net = mlp([64, 64, 64, 10], seed)
                numbers, bandwidth = [], None
                for step in range(5):
                    if step:
                        train(net, X[TRAIN], y, 100, rate=1e-3)
                    z = r.activations(net, X[TEST], "3")["3"]
                    found = r.diffusion_spectral_mutual_information(
                        z, Y[TEST], bandwidth=bandwidth, generator=generator(1)
                    )
                    numbers.append(found.value)
                    bandwidth = found.bandwidth if frozen else None
                slopes.append(np.polyfit(np.arange(5) * 100, numbers, 1)[0] * 1000)
                ends.append((numbers[0], numbers[-1]))
            first, last = np.mean(ends, 0)
            error = np.std(slopes, ddof=1) / 5**0.5
            label = f"{name} labels, bandwidth {'frozen' if frozen else 'of the moment'}"
            lines.append((label, f"{first:.3f}", f"{last:.3f}", f"{np.mean(slopes):+.3f} ± {error:.3f}"))
    return "DSMI(Z; Y) of the last hidden layer | before | after 400 steps | bits per 1,000 steps", lines


def complexity() -> Table:
    """Complexity of features of a network of five hidden layers, and of the atoms of its last layer."""
    net = train(mlp([64, *[64] * 5, 10], 0), X[TRAIN], Y[TRAIN], 800)
    names = ["1", "3", "5", "7", "9"]
    layers = r.activations(net, X, names)
    z = torch.stack([X.mean(1), (Y % 2).float()], 1).double()
    found = r.v_complexity(layers, z, generator=generator(2))
    atoms = r.learn_dictionary(layers["9"], 20)
    k = r.v_complexity(layers, atoms.codes, generator=generator(3)).value
    weight = r.importance(atoms.codes, atoms.atoms, net[10].weight.detach().double()).mean(0)
    rank = spearmanr(k.numpy(), weight.numpy())
    read = [[f"{float(part[i]):.2f}" for part in found.readable.values()] for i in (0, 1)]
    return "Feature | complexity | readable in layer 1 | 2 | 3 | 4 | 5", [
        ("pixel mean", f"{float(found.value[0]):.3f}", *read[0]),
        ("parity of the class", f"{float(found.value[1]):.3f}", *read[1]),
        ("rank correlation with importance, 20 atoms", f"{rank.statistic:.2f} (p = {rank.pvalue:.2g})", *[""] * 5),
    ]


def codes() -> Table:
    """Redundancy of the training digits' codes and what neighbours in codes say of held-out digits."""
    lines = []
    for width in (4, 8, 16, 32, 64, 128):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 10))
        net = train(net, X[TRAIN], Y[TRAIN], 600, rate=1e-2)
        own, other = (r.activation_codes(net, X[rows]) for rows in (TRAIN, TEST))
        kept = own.varying()
        own, other = own.select(kept), other.select(kept)
        near = own.knn_accuracy(Y[TRAIN], other, Y[TEST])
        cluster = own.cluster_accuracy(Y[TRAIN])
        lines.append((width, f"{own.redundancy():.4f}", f"{near:.3f}", f"{cluster:.3f}", f"{accuracy(net, TEST):.3f}"))
    return "Width of the hidden layer | redundancy | 9-NN on codes | K-means | network", lines


def filters() -> Table:
    """Filters of a convolutional denoiser before and after training."""
    torch.manual_seed(0)
    before, after = r.conv_filters(ConvDenoiser()), r.conv_filters(denoiser())
    return "Layer | filters | entropy before | entropy after | threshold | random before | random after", [
        (b.name, b.num_filters, f"{b.entropy:.4f}", f"{a.entropy:.4f}", f"{b.threshold:.4f}", b.random, a.random)
        for b, a in zip(before, after, strict=True)
    ]


def shortcuts() -> Table:
    """Shortcut bias at equal loudness and with the shortcut 32 times louder; mean (least, greatest) of three seeds.

    Networks of width 64, 2,000 steps of plain gradient descent at rate 0.01; the first two lines are solved exactly.
    """
    kinds: dict[str, Callable[[int], nn.Module]] = {
        "linear network": lambda seed: mlp([100, 64, 1], seed, nn.Identity),
        "one ReLU layer": lambda seed: mlp([100, 64, 1], seed),
        "one tanh layer": lambda seed: mlp([100, 64, 1], seed, nn.Tanh),
        "four ReLU layers": lambda seed: mlp([100, 64, 64, 64, 64, 1], seed),
    }
    lines = []
    for name in ("least squares", "logistic regression", *kinds):
        means, cells = [], []
        for ratio in (1.0, 32.0):
            law = r.ShortcutLaw(loudness=(ratio, 1.0))
            bias = []
            for seed in range(3):
                x, y, _ = law.sample(3200, generator=generator(4, seed))
                if name in kinds:
                    net = _descend(kinds[name](seed), x.float(), y.float(), generator(5, seed))
                    bias.append(r.shortcut_bias(lambda x, net=net: net(x.float())[:, 0], law).bias)
                    continue
                w = torch.linalg.lstsq(x, y.double()[:, None], driver="gelsd").solution[:, 0]
                if name == "logistic regression":
                    # In the span of the two directions, where the problem is small and strictly convex.
                    basis = torch.linalg.qr(law.embed(torch.eye(2, dtype=torch.float64)).T)[0]
                    fitted = LogisticRegression(C=np.inf, solver="newton-cholesky").fit(x @ basis, y)
                    w = basis @ torch.from_numpy(fitted.coef_[0])
                bias.append(r.shortcut_bias(lambda x, w=w: x @ w, law).bias)
            means.append(float(np.mean(bias)))
            cells.append(f"{means[-1]:+.3f} ({min(bias):+.2f}, {max(bias):+.2f})")
        lines.append((name, *cells, f"{means[1] - means[0]:+.3f}"))
    return "Classifier | bias, ratio 1 | bias, ratio 32 | rise", lines


def _descend(net: nn.Module, x: Tensor, y: Tensor, source: torch.Generator) -> nn.Module:
    """2,000 steps of plain stochastic gradient descent on the logistic loss."""
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    for _ in range(2000):
        rows = torch.randint(len(x), (64,), generator=source)
        loss = nn.functional.softplus(-y[rows] * net(x[rows])[:, 0]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


def probes() -> Table:
    """Logistic probes of a denoiser's layers by noise level, cross-fitted, and the best on digits kept apart."""
    net = denoiser()
    layers = [f"network.blocks.{i}" for i in range(3)]
    levels = [0.0, 0.1, 0.3, 0.6, 1.0, 2.0]
    found = r.denoiser_features(net, EDM, IMAGES, levels, layers, pool=2, num_draws=4, generator=generator(6))
    grid = r.probe_grid(found, Y, kind="logistic", num_folds=3)
    raw = r.probe_grid({"pixels": X}, Y, kind="logistic", num_folds=3)
    lines: list[tuple[object, ...]] = [
        (f"level {level}", *(f"{grid.cells[level, layer].score:.4f}" for layer in layers)) for level in levels
    ]
    kept = f"{grid.score:.4f} [{grid.interval.low:.4f}, {grid.interval.high:.4f}]"
    lines.append((f"best on digits kept apart: {grid.best[1]} at {grid.best[0]}", kept, "", ""))
    pixels = f"{raw.score:.4f} [{raw.interval.low:.4f}, {raw.interval.high:.4f}]"
    lines.append(("pixels on the same digits", pixels, "", ""))
    return "Probe accuracy | block 0 | block 1 | block 2", lines


def moments() -> Table:
    """A linear head on the mean token against a moment probe, on the frozen denoiser's last block."""
    net = denoiser()
    tokens = r.denoiser_features(
        net, EDM, IMAGES, 0.3, "network.blocks.2", pool=lambda h: h.flatten(2).mT, generator=generator(7)
    )[0.3, "network.blocks.2"]
    tokens = (tokens - tokens[TRAIN].mean((0, 1))) / tokens[TRAIN].std((0, 1))
    lines = []
    for name, make in (
        ("linear", lambda: nn.Sequential(Mean(), nn.Linear(32, 10))),
        ("moment", lambda: r.MomentProbe(32, 10, hidden=64)),
    ):
        scores = []
        for seed in range(3):
            torch.manual_seed(seed)
            head = train(make(), tokens[TRAIN], Y[TRAIN], 400)
            with torch.no_grad():
                scores.append(float((head(tokens[TEST]).argmax(1) == Y[TEST]).double().mean()))
        lines.append((name, f"{np.mean(scores):.4f}", f"{np.std(scores, ddof=1):.4f}"))
    return "Head on 64 tokens of 32 | accuracy | deviation over 3 seeds", lines


class Mean(nn.Module):
    """The mean token."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens.mean(1)


def codec() -> Table:
    """Bits a value of stored features against the accuracy of a fixed head on what is read back."""
    net = denoiser()
    found = r.denoiser_features(net, EDM, IMAGES, 0.3, "network.blocks.1", pool=2, generator=generator(8))
    features = found[0.3, "network.blocks.1"]
    centre, scale = features[TRAIN].mean(0), features[TRAIN].std(0)
    head = train(nn.Linear(features.shape[1], 10), (features[TRAIN] - centre) / scale, Y[TRAIN], 600, rate=1e-2)

    def task(back: Tensor) -> float:
        with torch.no_grad():
            return float((head((back[TEST] - centre) / scale).argmax(1) == Y[TEST]).double().mean())

    lines: list[tuple[object, ...]] = [("uncoded", "32", "0", f"{task(features):.4f}")]
    codecs = {(kind, bits): r.FeatureCodec(kind=kind, bits=bits) for kind in ("uniform", "lloyd", "quantile")
              for bits in (1, 2, 3, 4, 6, 8)}  # fmt: skip
    curve = r.rate_task_curve(codecs, features, task)
    for (kind, bits), point in curve.items():
        lines.append((f"{kind}, {bits} bits", f"{point.bits:.3f}", f"{point.error:.3g}", f"{point.quality:.4f}"))
    uniform, lloyd = ([curve[kind, b] for b in (2, 3, 4, 6, 8)] for kind in ("uniform", "lloyd"))
    saved = r.average_saving(*_rates(lloyd), *_rates(uniform))
    lines.append(("bits that lloyd saves over uniform at equal error", f"{100 * saved:.1f} %", "", ""))
    return "Codec | bits a value | squared error | accuracy", lines


def _rates(points: list[r.RatePoint]) -> tuple[list[float], list[float]]:
    return [point.bits for point in points], [-float(np.log(point.error)) for point in points]


def landmarks() -> Table:
    """Time and error of the Nystrom spectrum of 4,000 points of a cube of eight dimensions in 32."""
    z = torch.zeros(4000, 32, dtype=torch.float64)
    z[:, :8] = 2 * rand((4000, 8), generator(9)) - 1
    lines = []
    for bandwidth in (0.5, 1.0, None):
        for count in (None, 250, 500, 1000):
            start = time.perf_counter()
            found = r.diffusion_spectral_entropy(z, bandwidth=bandwidth, landmarks=count, generator=generator(10))
            seconds = time.perf_counter() - start
            error = "" if found.error is None else f"{found.error:.4f}"
            lines.append((f"{found.bandwidth:.2f}", count or "all", f"{float(found):.4f}", error, f"{seconds:.2f}"))
    return "Bandwidth | landmarks | bits | error reported | seconds", lines


PARTS = {part.__name__: part for part in (information, complexity, codes, filters, shortcuts, probes, moments, codec,
                                          landmarks)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)}")
    names = parser.parse_args().parts or list(PARTS)
    file = RESULTS / "representations.json"
    tables = json.loads(file.read_text()) if file.exists() else {}
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
    file.write_text(json.dumps(tables, indent=1) + "\n")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}"
    parts = [f"## {name}\n\n{t['about']}\n\n{t['table']}\n\n{t['seconds']} s." for name, t in sorted(tables.items())]
    title = f"# Measures of representations\n\n`python benchmarks/representations.py` on {machine}, one thread.\n\n"
    (RESULTS / "representations.md").write_text(title + "\n\n".join(parts) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
