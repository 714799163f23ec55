"""From words to digits: a flow whose source is the code of a phrase, and what keeps its codes apart.

    python benchmarks/crossflow.py [--steps 2000] [--seeds 1]

Trains flows from label phrases ("the digit seven", and nine other ways to say it) to scikit-learn's 8x8 digits, half a
minute each on one core, and writes benchmarks/results/crossflow.md. What is asked: a classifier of real digits finds
the class that was said in more than 95 % of the samples with the contrastive loss and a divergence weight of 0.01; that
rises with how far the codes of classes lie apart; a weight of 1 brings it down; and a flow from noise, told the label,
is about as good at equal size. The picture, crossflow.png, has a row for each digit that was said: six answers of the
flow from phrases (weight 1, guided to twice the condition), six of the flow from noise. Its last row walks from the
code of a three to that of an eight.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from sklearn.svm import SVC
from torch import Tensor, nn

from clarkia import measures, samplers, training
from clarkia.codecs.image import write_grid
from clarkia.denoisers import Parametrized
from clarkia.guidance import classifier_free, indicator
from clarkia.measures.kernels import Gaussian
from clarkia.networks import Conditions, SourceCode, TextTrunk, VariationalEncoder, num_parameters
from clarkia.networks.conditioning import drop
from clarkia.networks.source import analogy, interpolated
from clarkia.objectives import CrossFlow, CrossModal, Denoising, LogitNormal
from clarkia.processes import RectifiedFlow
from clarkia.random import Noise, generator

RESULTS = Path(__file__).parent / "results"
SIZE, WIDTH, CLASSES, SHOWN = 64, 128, 10, 6
SCALES = (0.0, 1.0, 6.0)
"""Of guidance; weights of 1, 2 and 7."""

FLOW = RectifiedFlow()
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FORMS = ("{}", "digit {}", "the digit {}", "the number {}", "a {}", "a written {}", "a picture of {}",
         "number {} by hand", "this is a {}", "somebody wrote {}")  # fmt: skip
WORDS = sorted({word for form in FORMS for word in form.replace("{}", "").split()} | set(NAMES))
MAX_WORDS = 4


def phrases(labels: Tensor, seed: int) -> dict[str, Tensor]:
    """A phrase for each label, in one of the ten forms, as numbers of words; 0 is padding."""
    forms = torch.randint(len(FORMS), (len(labels),), generator=generator(seed))
    texts = [FORMS[form].format(NAMES[label]).split() for form, label in zip(forms, labels, strict=True)]
    words = torch.tensor([[WORDS.index(word) + 1 for word in text] + [0] * (MAX_WORDS - len(text)) for text in texts])
    return {"tokens": words, "mask": words > 0}


class Velocity(nn.Module):
    """Residual blocks with a shift by time and label; the only label of a flow between modalities is its indicator."""

    def __init__(self, label_classes: int) -> None:
        super().__init__()
        self.register_buffer("frequency", torch.linspace(0.5, 12.0, 24))
        self.condition = Conditions(label_classes=(label_classes,)).embedding(WIDTH)
        self.inputs, self.level = nn.Linear(SIZE, WIDTH), nn.Linear(48, WIDTH)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.SiLU(), nn.Linear(2 * WIDTH, WIDTH))
            for _ in range(3)
        )
        self.out = nn.Linear(WIDTH, SIZE)

    def forward(self, x_t: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        waves = self.frequency * t[:, None]
        steer = self.level(torch.cat([waves.cos(), waves.sin()], 1)) + self.condition(condition, len(x_t)).vector
        h = self.inputs(x_t)
        for block in self.blocks:
            h = h + block(h + steer)
        return self.out(h)


class Deterministic(nn.Module):
    """An encoder without a variance of its own: the mean, and a fixed spread that may be 0."""

    def __init__(self, encoder: VariationalEncoder, std: float) -> None:
        super().__init__()
        self.encoder, self.std = encoder, std

    def forward(self, source: Any) -> SourceCode:
        mean = self.encoder(source).mean
        return SourceCode(mean, torch.full_like(mean, 2 * torch.tensor(max(self.std, 1e-4)).log().item()))


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    name: str
    objective: CrossFlow
    fixed_std: float | None = None


SETTINGS = (
    Setting("contrastive, weight 0.01", CrossFlow()),
    Setting("contrastive, weight 0.1", CrossFlow(kl_weight=0.1)),
    Setting("contrastive, weight 1", CrossFlow(kl_weight=1.0)),
    Setting("contrastive, weight 10", CrossFlow(kl_weight=10.0)),
    Setting("contrastive, 0.01, published divergence", CrossFlow(divergence="published")),
    Setting("nothing aligned, weight 0.01", CrossFlow(align=None)),
    Setting("nothing aligned, weight 1", CrossFlow(align=None, kl_weight=1.0)),
    Setting("source reconstructed, weight 0.01", CrossFlow(align="reconstruct")),
    Setting("no variance", CrossFlow(align=None, kl_weight=0.0), fixed_std=0.0),
    Setting("fixed deviation 0.3", CrossFlow(align=None, kl_weight=0.0), fixed_std=0.3),
)


def flow_of(setting: Setting, data: dict[str, Tensor], steps: int, seed: int) -> CrossModal:
    """A trained flow between modalities."""
    torch.manual_seed(seed)
    trunk = TextTrunk(len(WORDS) + 1, MAX_WORDS, width=64, depth=1, heads=2, channels=16)
    encoder: nn.Module = VariationalEncoder(trunk, trunk.features, (SIZE,))
    if setting.fixed_std is not None:
        encoder = Deterministic(encoder, setting.fixed_std)  # type: ignore[arg-type]
    image = nn.Sequential(nn.Linear(SIZE, 128), nn.SiLU(), nn.Linear(128, SIZE))
    decoder = nn.Linear(SIZE, CLASSES)
    denoiser = Parametrized(Velocity(1), FLOW, "velocity")
    module = CrossModal(encoder, denoiser, image=image, decoder=decoder)
    options = training.TrainingOptions(batch_size=256, learning_rate=1e-3, max_steps=steps, ema_decay=0.995, seed=seed)
    training.fit(module, setting.objective, data, options=options, progress=False)  # type: ignore[arg-type]
    return module


def labelled(data: dict[str, Tensor], labels: Tensor, steps: int, seed: int) -> Parametrized:
    """The usual flow from noise, told the label, its network as large."""
    torch.manual_seed(seed)
    denoiser, objective = Parametrized(Velocity(CLASSES), FLOW, "velocity"), Denoising(FLOW, "flow", LogitNormal())

    def loss(module: nn.Module, batch: Any, source: Noise) -> Tensor:
        return objective(module, batch["target"], source, drop({"label": batch["label"]}, 0.1, source))

    options = training.TrainingOptions(batch_size=256, learning_rate=1e-3, max_steps=steps, ema_decay=0.995, seed=seed)
    training.fit(denoiser, loss, {"target": data["target"], "label": labels}, options=options, progress=False)
    return denoiser


@torch.no_grad()
def separation(module: CrossModal, source: dict[str, Tensor], labels: Tensor) -> float:
    """Distance of the nearest two class means of the codes over the spread of codes along the line between them."""
    z = module.encoder(source).sample(generator(30)).double()
    means = torch.stack([z[labels == label].mean(0) for label in range(CLASSES)])
    rest = z - means[labels]
    gap = means[:, None] - means[None]
    along = torch.einsum("nd,abd->nab", rest, gap / gap.norm(dim=2, keepdim=True).clamp(min=1e-12))
    ratio = gap.norm(dim=2) / 2 / along.square().mean(0).sqrt()
    return float(ratio[~torch.eye(CLASSES, dtype=torch.bool)].min())


@torch.no_grad()
def drawn(module: CrossModal, source: dict[str, Tensor], scale: float, num_steps: int = 50) -> Tensor:
    z = module.encoder(source).sample(generator(31))
    guided = indicator(module.denoiser, scale)
    return samplers.sample(guided, FLOW, initial=z, solver=samplers.Euler(), num_steps=num_steps)  # type: ignore[return-value]


COLUMNS = {
    "w = 1": ".3f", "w = 2": ".3f", "w = 7": ".3f", "separation": ".2f", "distance": ".2f", "deviation": ".2f",
    "seconds": ".0f",
}  # fmt: skip
"""What is measured; under a weight the share of samples of the class that was said."""


class Measure:
    """The classifier, and what it and the kernel distance say of samples.

    Args:
        images: all digits.
        classes: theirs.
        train: rows that may be learned from.
        test: the others.
        samples: number of samples.
    """

    def __init__(self, images: Tensor, classes: Tensor, train: Tensor, test: Tensor, samples: int) -> None:
        self.judge = SVC().fit(images[train].numpy(), classes[train].numpy())
        self.test, self.wanted = images[test], torch.arange(samples) % CLASSES
        self.real = float(self.judge.score(self.test.numpy(), classes[test].numpy()))

    def __call__(self, made: Sequence[Tensor]) -> dict[str, float]:
        """Of samples under the three weights."""
        found = dict(zip(COLUMNS, map(self.agreement, made), strict=False))
        return found | {"distance": self.distance(made[0]), "deviation": deviation(made[0], self.wanted)}

    def agreement(self, x: Tensor) -> float:
        return float((torch.from_numpy(self.judge.predict(x.numpy())) == self.wanted).double().mean())

    def distance(self, x: Tensor) -> float:
        return 1000 * float(measures.mmd2(x.double(), self.test.double(), kernel=Gaussian(8.0)))


def run(steps: int, seeds: int, samples: int, report: Callable[[str], None]) -> None:
    images, classes = load_digits(return_X_y=True)
    images, classes = torch.from_numpy(images).float(), torch.from_numpy(classes)
    scale_of = images.mean(), images.std()
    images = (images - scale_of[0]) / scale_of[1]
    order = torch.randperm(len(images), generator=generator(2))
    train, test = order[:1400], order[1400:]
    measure = Measure(images, classes, train, test, samples)
    data = {"target": images[train], **phrases(classes[train], 3)}
    data["features"] = torch.nn.functional.one_hot(classes[train], CLASSES).float()
    said = phrases(measure.wanted, 4)
    report(
        f"The classifier is right on {measure.real:.3f} of real digits. The distance (unbiased MMD^2, 1000 times) of"
    )
    report(
        f"training images to test images is {measure.distance(images[train]):.2f}. The deviation of a class is that of"
    )
    report(f"its samples from their mean, a number; of real digits {deviation(images[test], classes[test]):.2f}.\n")
    report("| flow | class found, " + " | ".join(COLUMNS) + " |\n|---|" + "---:|" * len(COLUMNS))
    kept: dict[str, CrossModal] = {}
    for setting in SETTINGS:
        found = []
        for seed in range(seeds):
            start = time.process_time()
            module = kept[setting.name] = flow_of(setting, data, steps, seed)
            seconds = time.process_time() - start
            made = [drawn(module, said, scale) for scale in SCALES]
            apart = separation(module, said, measure.wanted)
            found.append(measure(made) | {"separation": apart, "seconds": seconds})
        report(row(setting.name, found))
    found = []
    for seed in range(seeds):
        start = time.process_time()
        denoiser = labelled(data, classes[train], steps, seed)
        seconds = time.process_time() - start
        made = [from_noise(denoiser, measure.wanted, scale) for scale in SCALES]
        found.append(measure(made) | {"separation": float("nan"), "seconds": seconds})
    report(row("from noise, told the label", found))
    first = kept[SETTINGS[0].name]
    report(
        f"\n{num_parameters(first.denoiser):,} parameters of a flow, {num_parameters(first.encoder):,} of an encoder.\n"
    )
    report(arithmetic(first, measure.judge))
    mean, std = scale_of
    made = torch.cat([said_and_drawn(kept["contrastive, weight 1"], denoiser), walk(first)]) * std + mean
    pictures = (made / 16 * 255).round().clamp(0, 255).to(torch.uint8).reshape(-1, 8, 8).numpy()
    write_grid(pictures, RESULTS / "crossflow.png", columns=2 * SHOWN, scale=4, overwrite=True)


def said_and_drawn(module: CrossModal, denoiser: Parametrized) -> Tensor:
    """For each digit in turn, what the flow from phrases and the flow from noise make of it."""
    labels = torch.arange(CLASSES).repeat_interleave(SHOWN)
    ways = drawn(module, phrases(labels, 7), 1.0), from_noise(denoiser, labels, 0.0)
    return torch.stack([x.unflatten(0, (CLASSES, SHOWN)) for x in ways], 1).flatten(0, 2)


@torch.no_grad()
def walk(module: CrossModal) -> Tensor:
    """Steps between the codes of two phrases."""
    three, eight = (module.encoder(phrases(torch.tensor([label]), 8)).mean for label in (3, 8))
    codes = torch.cat([interpolated(three, eight, float(share)) for share in torch.linspace(0, 1, 2 * SHOWN)])
    return samplers.sample(indicator(module.denoiser, 0.0), FLOW, initial=codes, solver=samplers.Euler(), num_steps=50)  # type: ignore[return-value]


def from_noise(denoiser: Parametrized, labels: Tensor, scale: float) -> Tensor:
    """Samples given labels."""
    x = samplers.sample(
        classifier_free(denoiser, scale), FLOW, num_samples=len(labels), shape=(SIZE,), solver=samplers.Euler(),
        num_steps=50, condition={"label": labels}, generator=generator(32),
    )  # fmt: skip
    assert isinstance(x, Tensor)
    return x


def row(name: str, found: Sequence[dict[str, float]]) -> str:
    """The means, and of several seeds the ranges."""
    cells = []
    for column, form in COLUMNS.items():
        values = [one[column] for one in found]
        middle = f"{sum(values) / len(values):{form}}"
        cells.append(middle if len(values) == 1 else f"{middle} ({min(values):{form}} to {max(values):{form}})")
    return f"| {name} | {' | '.join(cells)} |".replace("nan", "")


def deviation(x: Tensor, labels: Tensor) -> float:
    means = torch.stack([x[labels == label].mean(0) for label in range(CLASSES)])
    return float((x - means[labels]).square().mean().sqrt())


@torch.no_grad()
def arithmetic(module: CrossModal, judge: SVC) -> str:
    """Codes added and interpolated."""
    codes = {
        label: module.encoder(phrases(torch.full((200,), label), 5)).sample(generator(33, label)) for label in range(10)
    }

    def found(z: Tensor) -> dict[int, float]:
        x = samplers.sample(indicator(module.denoiser, 0.0), FLOW, initial=z, solver=samplers.Euler(), num_steps=50)
        values = torch.from_numpy(judge.predict(x.numpy()))  # type: ignore[union-attr]
        return {label: float((values == label).double().mean()) for label in range(10)}

    lines = ["| code | class found as the first | as the second |", "|---|---:|---:|"]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        answer = found(interpolated(codes[3], codes[8], share))
        lines.append(f"| {1 - share:g} three + {share:g} eight | {answer[3]:.2f} | {answer[8]:.2f} |")
    one = module.encoder(phrases(torch.full((200,), 3), 6)).sample(generator(34))
    answer = found(analogy(codes[3], codes[8], one))
    lines.append(f"| three + eight - three, standardised | {answer[3]:.2f} | {answer[8]:.2f} |")
    answer = found(codes[3] + codes[8] - one)
    lines.append(f"| three + eight - three, as it is | {answer[3]:.2f} | {answer[8]:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--samples", type=int, default=1000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    command = f"--steps {arguments.steps} --seeds {arguments.seeds} --samples {arguments.samples}"
    lines = [
        "# From phrases to digits",
        "",
        f"`python benchmarks/crossflow.py {command}` on 1 thread, {platform.machine()}, torch {torch.__version__}.",
        "",
        f"{arguments.steps} steps of 256 rows; Euler, 50 steps; mean over {arguments.seeds} seeds, range; "
        f"{arguments.samples} samples. Separation is half the distance of the two nearest class means of codes over "
        "the deviation between them: of two classes a share Phi(separation) of codes lies on its own side.",
        "",
    ]  # fmt: skip

    def report(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    run(arguments.steps, arguments.seeds, arguments.samples, report)
    (RESULTS / "crossflow.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
