"""The digits, and what the benchmarks of representations train on them: classifiers and denoisers."""

import functools
import itertools

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from clarkia.denoisers import Preconditioned
from clarkia.processes import EDM
from clarkia.random import generator, randn
from clarkia.training import TrainingOptions, fit

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
