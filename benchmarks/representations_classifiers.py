"""What the measures of representations say about classifiers; see representations.py."""

import itertools
from collections.abc import Callable

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from clarkia.measures import representations as r
from clarkia.random import generator
from representations_digits import TEST, TRAIN, ConvDenoiser, Table, X, Y, accuracy, denoiser, mlp, train


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
