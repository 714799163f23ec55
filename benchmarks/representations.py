"""What the measures of representations say about small networks trained on scikit-learn's 8 x 8 digits.

    python benchmarks/representations.py [PART ...]

Parts: information, complexity, codes, filters, shortcuts, probes, moments, codec, landmarks, correspondence; all
without arguments.
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
def denoiser(steps: int = 600, network: type[nn.Module] = ConvDenoiser) -> Preconditioned:
    """A denoiser of the training digits; levels log-normal, the loss weighted as EDM's."""
    torch.manual_seed(0)
    std = float(IMAGES.std())
    net = Preconditioned(network(), EDM, data_std=std)

    def loss(module: nn.Module, x: Tensor, noise: torch.Generator) -> Tensor:
        level = torch.exp(1.2 * randn((len(x),), noise) - 0.8).clamp(min=0.01)
        t = EDM.t_of_kappa(level.double()).float()
        error = (module(EDM.corrupt(x, t, generator=noise), t) - x).square().flatten(1).mean(1)
        return (level**2 + std**2) / (level * std) ** 2 * error

    options = TrainingOptions(batch_size=64, learning_rate=3e-3, max_steps=steps, warmup_steps=20, ema_decay=0.99)
    fit(net, loss, IMAGES[TRAIN], options=options, progress=False)
    return net


def information() -> Table:
    """DSMI with the labels of held-out digits while a network learns true or random labels; mean of five seeds.

    The last hidden layer, until the labels are learned by heart: as it is, at the median bandwidth of each moment, and
    with rows of unit length, at the bandwidth of the first moment.
    """
    moments = (0, 100, 400, 1000, 2000, 3000)
    lines = []
    for labels in ("true", "random"):
        values: dict[str, list[float]] = {"bandwidth of the moment": [], "unit rows, bandwidth of the first moment": []}
        fitted = []
        for seed in range(5):
            y = Y[TRAIN] if labels == "true" else Y[TRAIN][torch.randperm(1200, generator=generator(seed))]
            net, frozen = mlp([64, 64, 64, 10], seed), None
            for before, step in itertools.pairwise((0, *moments)):
                if step:
                    train(net, X[TRAIN], y, step - before, rate=1e-3)
                z = r.activations(net, X[TEST], "3")["3"].double()
                plain = r.diffusion_spectral_mutual_information(z, Y[TEST], generator=generator(1))
                unit = r.diffusion_spectral_mutual_information(
                    nn.functional.normalize(z, dim=1), Y[TEST], bandwidth=frozen, generator=generator(1)
                )
                frozen = unit.bandwidth
                for part, found in zip(values.values(), (plain, unit), strict=True):
                    part.append(found.value)
            with torch.no_grad():
                fitted.append(float((net(X[TRAIN]).argmax(1) == y).double().mean()))
        for way, found in values.items():
            course = np.array(found).reshape(5, len(moments))
            rise = course[:, -1] - course[:, 0]
            change = f"{rise.mean():+.3f} ± {rise.std(ddof=1) / 5**0.5:.3f}"
            lines.append(
                (f"{labels} labels, {way}", *(f"{v:.3f}" for v in course.mean(0)), change, f"{np.mean(fitted):.3f}")
            )
    head = " | ".join(f"step {step}" if step else "before" for step in moments)
    return f"DSMI(Z; Y) in bits | {head} | change | training labels known by heart", lines


def complexity() -> Table:
    """Complexity of features of a network of five hidden layers, and of the atoms of its last layer; three seeds.

    What the pixels alone let a linear readout say bounds the complexity from above wherever no layer loses it.
    """
    names = ["1", "3", "5", "7", "9"]
    found: dict[str, list[list[float]]] = {}
    ranks = []
    for seed in range(3):
        net = train(mlp([64, *[64] * 5, 10], seed), X[TRAIN], Y[TRAIN], 800)
        layers = r.activations(net, X, names)
        z = torch.stack([X.mean(1), (Y % 2).float()], 1).double()
        _record(found, ("pixel mean", "parity of the class"), X, layers, z)
        atoms = r.learn_dictionary(layers["9"], 20)
        k = r.v_complexity(layers, atoms.codes, generator=generator(3)).value
        weight = r.importance(atoms.codes, atoms.atoms, net[10].weight.detach().double()).mean(0)
        ranks.append(spearmanr(k.numpy(), weight.numpy()).statistic)
        source = generator(11, seed)
        (x, total), (other, answer) = (_pairs(rows, n, source) for rows, n in ((TRAIN, 20_000), (TEST, 4000)))
        for task, target in (("the sum", total), ("its parity", total % 2)):
            net = train(mlp([128, *[64] * 5, 19], seed), x, target, 3000)
            z = (answer % 2).double()[:, None]
            name = f"parity of the sum of two digits, network trained on {task}"
            _record(found, (name,), other, r.activations(net, other, names), z)
    lines: list[tuple[object, ...]] = []
    for name, rows in found.items():
        table = np.array(rows)
        value = f"{table[:, 0].mean():.3f} ({table[:, 0].min():.2f}, {table[:, 0].max():.2f})"
        lines.append((name, value, *(f"{v:.2f}" for v in table[:, 1:].mean(0))))
    cell = ", ".join(f"{rank:.2f}" for rank in ranks)
    lines.append(("rank correlation with importance, 20 atoms", cell, *[""] * 6))
    return "Feature | complexity: mean (least, greatest) | readable in the pixels | layer 1 | 2 | 3 | 4 | 5", lines


def _record(
    found: dict[str, list[list[float]]], names: tuple[str, ...], x: Tensor, layers: dict[str, Tensor], z: Tensor
) -> None:
    """Complexity of features, and what is readable in the pixels and each layer."""
    result = r.v_complexity(layers, z, generator=generator(2))
    pixels = r.v_complexity({"pixels": x}, z, generator=generator(2)).readable["pixels"]
    for i, name in enumerate(names):
        parts = [float(part[i]) for part in (pixels, *result.readable.values())]
        found.setdefault(name, []).append([float(result.value[i]), *parts])


def _pairs(rows: Tensor, count: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two digits side by side, and their sum."""
    first, second = rows[torch.randint(0, len(rows), (2, count), generator=source)]
    return torch.cat([X[first], X[second]], 1), Y[first] + Y[second]


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

    Networks of width 64 by stochastic gradient descent on batches of 64, at a rate that falls from 0.01 to 0 by a
    cosine; the first two lines are solved exactly.
    """
    laws = [r.ShortcutLaw(loudness=(ratio, 1.0)) for ratio in (1.0, 32.0) for _ in range(3)]
    drawn = [law.sample(3200, generator=generator(4, i % 3)) for i, law in enumerate(laws)]
    lines = []
    for name in ("least squares", "logistic regression"):
        bias = []
        for law, (x, y, _) in zip(laws, drawn, strict=True):
            w = torch.linalg.lstsq(x, y.double()[:, None], driver="gelsd").solution[:, 0]
            if name == "logistic regression":
                # In the span of the two directions, where the problem is small and strictly convex.
                basis = torch.linalg.qr(law.embed(torch.eye(2, dtype=torch.float64)).T)[0]
                fitted = LogisticRegression(C=np.inf, solver="newton-cholesky").fit(x @ basis, y)
                w = basis @ torch.from_numpy(fitted.coef_[0])
            bias.append(r.shortcut_bias(lambda x, w=w: x @ w, law).bias)
        lines.append((name, "", *_rise(bias)))
    x, y = (torch.stack([part[i] for part in drawn]).float() for i in (0, 1))
    kinds: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
        "linear network": (1, lambda h: h),
        "one ReLU layer": (1, torch.relu),
        "one tanh layer": (1, torch.tanh),
        "four ReLU layers": (4, torch.relu),
    }
    for name, (depth, activation) in kinds.items():
        for steps in (2000, 20_000):
            nets = _descend(Side([100, *[64] * depth, 1], activation), x, y, steps)
            with torch.no_grad():
                bias = [
                    r.shortcut_bias(lambda v, i=i, nets=nets: nets(v.float().expand(6, -1, -1))[i], law).bias
                    for i, law in enumerate(laws)
                ]
            lines.append((name, steps, *_rise(bias)))
    return "Classifier | steps | bias, ratio 1 | bias, ratio 32 | rise", lines


def _rise(bias: list[float]) -> tuple[str, ...]:
    soft, loud = bias[:3], bias[3:]
    cells = [f"{np.mean(part):+.3f} ({min(part):+.2f}, {max(part):+.2f})" for part in (soft, loud)]
    return *cells, f"{np.mean(loud) - np.mean(soft):+.3f}"


class Side(nn.Module):
    """Six networks side by side, the first three begun as the last three."""

    def __init__(self, widths: list[int], activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.activation = activation
        parts = [[layer for layer in mlp(widths, seed) if isinstance(layer, nn.Linear)] for seed in (0, 1, 2)] * 2
        layers = list(zip(*parts, strict=True))
        self.weights = nn.ParameterList(torch.stack([part.weight.detach().T for part in layer]) for layer in layers)
        self.biases = nn.ParameterList(torch.stack([part.bias.detach()[None] for part in layer]) for layer in layers)

    def forward(self, x: Tensor) -> Tensor:
        """Numbers ``(6, n)`` of inputs ``(6, n, d)``."""
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, self.activation(x) if i else x, weight)
        return x[..., 0]


def _descend(nets: Side, x: Tensor, y: Tensor, steps: int) -> Side:
    """Plain stochastic gradient descent of each on the logistic loss of its own data."""
    optimizer, source = torch.optim.SGD(nets.parameters(), 0.01), generator(5)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = torch.randint(x.shape[1], (64,), generator=source)
        loss = nn.functional.softplus(-y[:, rows] * nets(x[:, rows])).mean(1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        falling.step()
    return nets


class UNet(nn.Module):
    """Two resolutions, 8 x 8 and 4 x 4: residual blocks of 3 x 3 filters down, in the middle and up, told the level."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.level = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, 2 * width))
        self.first, self.lower = nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, 2 * width, 3, 2, padding=1)
        self.down, self.deep, self.middle = Residual(width), Residual(2 * width), Residual(2 * width)
        self.rise, self.up = Residual(2 * width), Residual(width)
        self.higher, self.last = nn.ConvTranspose2d(2 * width, width, 2, 2), nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x: Tensor, noise: Tensor, condition: None = None) -> Tensor:
        level = self.level(noise.reshape(-1, 1))[:, :, None, None]
        h = self.first(x)
        h = self.down(h + level[:, : h.shape[1]])
        low = self.rise(self.middle(self.deep(self.lower(h) + level)))
        return self.last(self.up(h + self.higher(low)))


class Residual(nn.Module):
    """Two normalised convolutions around which the maps also go as they are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        parts = [
            part
            for _ in range(2)
            for part in (nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1))
        ]
        self.body = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def probes() -> Table:
    """Ridge probes of a U-Net denoiser's blocks by noise level, maps averaged to 2 x 2, cross-fitted; and the best.

    The best block and level are scored on a third of the digits that took no part in the choice; so are pixels and
    other poolings.
    """
    net = denoiser(1500, UNet)
    blocks = ("down", "deep", "middle", "rise", "up")
    layers = [f"network.{name}" for name in blocks]
    levels = [0.0, 0.1, 0.3, 0.6, 1.0, 2.0]
    lines: list[tuple[object, ...]] = []
    best: list[tuple[object, ...]] = []
    for pool in (1, 2, 4):
        found = r.denoiser_features(net, EDM, IMAGES, levels, layers, pool=pool, num_draws=4, generator=generator(6))
        grid = r.probe_grid(found, Y, kind="ridge", num_folds=3)
        if pool == 2:
            lines += [
                (f"level {level}", *(f"{grid.cells[level, layer].score:.4f}" for layer in layers)) for level in levels
            ]
        best.append((f"kept apart, {pool} x {pool}: {grid.best[1].split('.')[1]} at {grid.best[0]}", _kept(grid)))
    pixels = {kind: r.probe_grid({"pixels": X}, Y, kind=kind, num_folds=3) for kind in ("ridge", "logistic")}
    best += [(f"kept apart, pixels, {kind}", _kept(grid)) for kind, grid in pixels.items()]
    return f"Probe accuracy | {' | '.join(blocks)}", [*lines, *((*line, *[""] * 4) for line in best)]


def _kept(grid: r.ProbeGrid) -> str:
    return f"{grid.score:.4f} [{grid.interval.low:.4f}, {grid.interval.high:.4f}]"


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
    """Bits a value of the stored features of test digits against the accuracy of a fixed head on what is read back.

    128 features a digit (32 channels in four quarters of the image); errors in variances of a feature. The head and the
    learned codec have seen the other 1,200 digits; the weights of the learned codec are not counted.
    """
    net = denoiser()
    found = r.denoiser_features(net, EDM, IMAGES, 0.3, "network.blocks.1", pool=2, generator=generator(8))
    features = found[0.3, "network.blocks.1"]
    centre, scale = features[TRAIN].mean(0), features[TRAIN].std(0)
    torch.manual_seed(0)
    head = train(nn.Linear(features.shape[1], 10), (features[TRAIN] - centre) / scale, Y[TRAIN], 600, rate=1e-2)
    known, stored = features[TRAIN], features[TEST]
    errors = []

    def task(back: Tensor) -> float:
        errors.append(float(((back - stored) / scale).square().mean()))
        with torch.no_grad():
            return float((head((back - centre) / scale).argmax(1) == Y[TEST]).double().mean())

    whole = task(stored)
    lines: list[tuple[object, ...]] = [("uncoded", "32", "0", f"{whole:.4f}", "")]
    names = {1: "one quantiser", 32: "one a channel"}
    codecs: dict[str, r.FeatureCodec | r.LearnedCodec] = {
        f"{kind}, {names[groups]}, {bits} bits": r.FeatureCodec(kind=kind, bits=bits, groups=groups)
        for kind in ("uniform", "lloyd", "quantile") for groups in names for bits in (2, 3, 4, 6)
    }  # fmt: skip
    for trade_off in (3, 10, 30, 100, 1000):
        codecs[f"learned, trade-off {trade_off}"] = r.train_feature_codec(known, trade_off=trade_off)
    curve = r.rate_task_curve(codecs, stored, task)
    rates: dict[str, list[tuple[float, float]]] = {}
    for (name, point), error in zip(curve.items(), errors[1:], strict=True):
        lines.append(
            (name, f"{point.bits:.3f}", f"{error:.3g}", f"{point.quality:.4f}", f"{point.quality - whole:+.4f}")
        )
        rates.setdefault(name.rpartition(",")[0], []).append((point.bits, -float(np.log(error))))
    one = rates.pop("uniform, one quantiser")
    for name, points in rates.items():
        saved = r.average_saving(*zip(*points, strict=True), *zip(*one, strict=True))
        lines.append(
            (f"bits that {name} saves over uniform, one quantiser, at equal error", f"{100 * saved:.1f} %", *[""] * 3)
        )
    return "Codec | bits a value | squared error | accuracy | against uncoded", lines


def landmarks() -> Table:
    """Time and error of approximate spectra of points of a cube of eight dimensions in 32: 4,000, and 200,000."""
    z = torch.zeros(200_000, 32, dtype=torch.float64)
    z[:, :8] = 2 * rand((len(z), 8), generator(9)) - 1
    lines = []
    plain: list[tuple[str, dict[str, int | None]]] = [("all", {"landmarks": None})]
    near = [(f"{m} landmarks", {"landmarks": m}) for m in (250, 500, 1000)]
    waves = [(f"{m} frequencies", {"frequencies": m}) for m in (128, 512)]
    for bandwidth in (0.5, 1.0, None, 3.0):
        for rows, ways in ((4000, [*plain, *near, *waves]), (200_000, waves[:1])):
            for name, options in ways:
                start = time.perf_counter()
                found = r.diffusion_spectral_entropy(
                    z[:rows], bandwidth=bandwidth, max_samples=len(z), generator=generator(10), **options
                )
                seconds = time.perf_counter() - start
                error = "" if found.error is None else f"{found.error:.4f}"
                lines.append((rows, f"{found.bandwidth:.2f}", name, f"{float(found):.4f}", error, f"{seconds:.2f}"))
    return "Points | bandwidth | spectrum of | bits | error reported | seconds", lines


def correspondence() -> Table:
    """Points of deformed digits found again in the digits: by a denoiser's maps, by patches of pixels, and by both.

    Turned by up to 30 degrees, scaled by up to 20 %, bent, and of another contrast; up to eight points with ink, right
    within a tenth of the image's side. Level chosen on 150 training digits; the rest are 500 test digits.
    """
    net = denoiser()
    chosen, tables = None, {}
    for level in (0.0, 0.1, 0.3, 0.6, 1.0):
        tables[level] = _found(net, TRAIN[:150], level, 12)
        chosen = level if chosen is None or tables[level][0].pooled > tables[chosen][0].pooled else chosen
    assert chosen is not None
    names = ("denoiser", "patches", "both")
    lines: list[tuple[object, ...]] = [
        (f"training digits, level {level}", *(f"{score.pooled:.3f}" for score in scores))
        for level, scores in tables.items()
    ]
    scores = _found(net, TEST[:500], chosen, 13)
    lines.append((f"test digits, level {chosen}", *(f"{score.pooled:.3f}" for score in scores)))
    lines.append(("the same, mean over digits", *(f"{score.per_image:.3f}" for score in scores)))
    rng = np.random.default_rng(0)
    correct = [score.correct.sum(1).double().numpy() for score in scores]
    gains = []
    for _ in range(1000):  # digits anew
        rows = rng.integers(0, 500, 500)
        hits = [part[rows].sum() for part in correct]
        gains.append((hits[2] - max(hits[:2])) / scores[0].correct[rows].numel())
    both = r.agreement(scores[0].correct, scores[1].correct)
    low, high = np.quantile(gains, [0.025, 0.975])
    lines.append(("both over the better one, of all eight points a digit, 95 %", "", "", f"{low:+.3f} to {high:+.3f}"))
    lines.append(
        (
            "right: both, only the denoiser, only patches",
            f"{both.both:.3f}",
            f"{both.only_first:.3f}",
            f"{both.only_second:.3f}",
        )
    )
    return f"PCK at 0.1 | {' | '.join(names)}", lines


def _found(net: nn.Module, rows: Tensor, level: float, seed: int) -> tuple[r.KeypointScore, ...]:
    """Scores of the denoiser's maps, of 5 x 5 patches, and of both."""
    plain = IMAGES[rows]
    bent, points, truth, seen = _deformed(plain, generator(seed))
    layers = [f"network.blocks.{i}" for i in range(3)]
    maps = []
    for images in (bent, plain):
        found = r.denoiser_features(net, EDM, images, level, layers, pool="none", num_draws=4, generator=generator(14))
        patches = nn.functional.unfold(images + 1, 5, padding=2).unflatten(2, (8, 8))
        maps.append((r.stack_maps([found[level, name] for name in layers], (8, 8)), patches))
    answers: list[list[Tensor]] = [[], [], []]
    for i in range(len(rows)):
        tokens = []
        for kind in (0, 1):
            pair = [side[kind][i].double().flatten(1).T for side in maps]
            tokens.append(r.co_pca(pair[0], pair[1], 16))
        for way, parts in enumerate(([tokens[0]], [tokens[1]], tokens)):
            fused = [r.fuse([part[side] for part in parts]).T.unflatten(1, (8, 8)) for side in (0, 1)]
            answers[way].append(r.correspond(fused[0], fused[1], points[i], (8, 8), (8, 8)))
    size = torch.full((len(rows),), 8.0)
    first, second, third = (r.pck(torch.stack(part), truth, size, visible=seen) for part in answers)
    return first, second, third


def _deformed(x: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Deformed images, eight points in each, where these are in the originals, and which of them are on ink there."""
    n = len(x)
    turn, scale, contrast = rand((3, n), source)
    turn, scale = (2 * turn - 1) * np.pi / 6, 0.8 + 0.4 * scale
    wave, phase = 0.15 * (2 * rand((n, 2), source) - 1), 2 * np.pi * rand((n, 2), source)
    rotation = torch.stack([turn.cos(), -turn.sin(), turn.sin(), turn.cos()], 1).reshape(n, 2, 2) / scale[:, None, None]

    def origin(place: Tensor) -> Tensor:
        """Where in the original a place (n, k, 2) in [-1, 1]^2 of the deformed image shows."""
        return place @ rotation.mT + wave[:, None] * torch.sin(3 * place.flip(2) + phase[:, None])

    line = (torch.arange(8, dtype=torch.float64) + 0.5) / 4 - 1
    places = torch.stack(torch.meshgrid(line, line, indexing="xy"), 2).reshape(1, 64, 2).expand(n, -1, -1)
    grid = origin(places).reshape(n, 8, 8, 2)
    bent = nn.functional.grid_sample(x.double() + 1, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    ink = bent.flatten(1) * ((grid.flatten(1, 2).abs() < 1).all(2))
    index = (ink + 0.01 * rand((n, 64), source)).topk(8, 1).indices
    points = places.gather(1, index[:, :, None].expand(-1, -1, 2))
    truth, seen = origin(points), ink.gather(1, index) > 0.5
    bent = bent * (0.7 + 0.6 * contrast)[:, None, None, None] - 1
    return bent.float(), 4 * (points + 1), 4 * (truth + 1), seen


PARTS = {part.__name__: part for part in (information, complexity, codes, filters, shortcuts, probes, moments, codec,
                                          landmarks, correspondence)}  # fmt: skip


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
