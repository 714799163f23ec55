"""Digits and their labels in one latent: joint samples, samples given a label, labels given an image.

    python benchmarks/multitask.py [--steps 4000]

Trains a joint and a plain model of equal size on scikit-learn's digits, two and a half minutes each on one core, and
writes benchmarks/results/multitask.md. What is asked: the head's label agrees with a classifier of the image on more
than 90 % of joint samples, so does the label that was given, and the joint model's kernel distance is within 10 % of
the plain one's.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.svm import SVC
from torch import Tensor, nn

from clarkia import measures, samplers
from clarkia.denoisers import Preconditioned
from clarkia.measures.kernels import Gaussian
from clarkia.networks.multihead import MultiHead
from clarkia.objectives import Denoising, UniformTime
from clarkia.objectives.multitask import JointDenoiser, MultiTaskELBO
from clarkia.processes import VariancePreserving
from clarkia.processes.aggregated import AggregatedGaussian, ClassEncoder, identity
from clarkia.random import generator
from clarkia.samplers.aggregated import given_classes, sample_jointly
from clarkia.training.ema import PowerAverage, write

RESULTS = Path(__file__).parent / "results"
SIZE, WIDTH = 64, 320
DRAWS = 4
PROCESS = VariancePreserving("cosine")
NOISE = UniformTime(PROCESS)
GRID = torch.cat([torch.linspace(0.99, 0.01, 150, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])
"""Levels that training reaches: what a network says beyond them is anybody's guess."""


class Backbone(nn.Module):
    """Residual blocks with a shift by the noise level."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequency", torch.linspace(0.3, 6.0, 24))
        self.inputs, self.level = nn.Linear(SIZE, WIDTH), nn.Linear(48, WIDTH)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.SiLU(), nn.Linear(2 * WIDTH, WIDTH))
            for _ in range(3)
        )

    def forward(self, inputs: Tensor, noise: Tensor, condition: None = None) -> Tensor:
        waves = self.frequency * noise[:, None]
        level = self.level(torch.cat([waves.cos(), waves.sin()], 1))
        h = self.inputs(inputs)
        for block in self.blocks:
            h = h + block(h + level)
        return h


def fit(module: nn.Module, loss, data: dict[str, Tensor], steps: int) -> float:
    """Train, leave the averaged weights in place, and return the seconds it took."""
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    average = PowerAverage(module, 0.1)
    start = time.process_time()
    for step in range(steps):
        rows = torch.randint(0, len(data["image"]), (256,), generator=generator(0, step))
        optimizer.zero_grad()
        loss({name: part[rows] for name, part in data.items()}, generator(1, step)).backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        decay.step()
        average.update(step)
    write(module.state_dict(), average.weights)
    return time.process_time() - start


def run(steps: int, samples: int, share: float) -> str:
    images, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(images).float()
    images = (images - images.mean()) / images.std()
    order = torch.randperm(len(images), generator=generator(2))
    train, test = order[:1400], order[1400:]
    data = {"image": images[train], "label": torch.from_numpy(labels)[train]}
    process = PROCESS
    aggregated = AggregatedGaussian(
        process,
        {"image": identity, "label": ClassEncoder.random(10, (SIZE,), generator=generator(3))},
        {"image": 1.0, "label": share},
    )
    torch.manual_seed(0)
    heads = MultiHead(Backbone(), {"image": nn.Linear(WIDTH, SIZE), "label": nn.Linear(WIDTH, 10)})
    joint = JointDenoiser(heads, aggregated, main="image", classes=("label",))
    objective = MultiTaskELBO(aggregated, {"image": 1.0, "label": 0.3}, noise=NOISE)
    joint_seconds = fit(joint, lambda x, g: sum(part.mean() for part in objective(joint, x, g).values()), data, steps)
    torch.manual_seed(0)
    plain = Preconditioned(Plain(), process)
    loss = Denoising(process, noise=NOISE, data_std=1.0)
    plain_seconds = fit(plain, lambda x, g: loss(plain, x["image"], g).mean(), {"image": data["image"]}, steps)

    x = {"image": images[test], "label": torch.from_numpy(labels)[test]}
    agreements, distances = measure(joint, plain, aggregated, data, x, samples)
    nats = head_nats(joint, aggregated, x)
    return (
        f"# Digits and labels in one latent\n\n{{command}}\n\n{steps} steps of 256 rows: {joint_seconds:.0f} s the "
        f"joint model, {plain_seconds:.0f} s the plain one. The label's share is {share}. Mean of {DRAWS} draws of "
        f"{samples} samples and its standard error over the draws.\n\n| share of samples | |\n|---|---|\n"
        + "".join(f"| {name} | {cell(values, '.3f')} |\n" for name, values in agreements.items())
        + "\n| kernel distance to test images (unbiased MMD^2, 1000 times) | |\n|---|---|\n"
        + "".join(f"| {name} | {cell([1000 * x for x in values], '.2f')} |\n" for name, values in distances.items())
        + "\nAsked: more than 0.9 of the joint samples and of those given a label, and a distance of the joint model "
        "of at most 1.1 times the plain one's.\n\nNats of the label's head on test images by t = "
        + ", ".join(f"{place:.2f}: {value:.3f}" for place, value in nats.items())
        + f" (a guess costs {2.303:.3f}).\n"
    )


def measure(
    joint: JointDenoiser,
    plain: Preconditioned,
    process: AggregatedGaussian,
    data: dict[str, Tensor],
    test: dict[str, Tensor],
    samples: int,
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Agreements of labels with a classifier, and distances of images to test images, a number a draw."""
    judge = SVC().fit(data["image"].numpy(), data["label"].numpy())
    seeds = range(DRAWS)
    drawn = [
        sample_jointly(joint, process, samples, (SIZE,), classes=("label",), times=GRID, generator=generator(4, seed))
        for seed in seeds
    ]
    wanted = torch.arange(samples) % 10
    known = {"label": wanted}
    imputed, given = (
        [
            sample_jointly(denoiser, process, samples, (SIZE,), given=known, times=GRID, generator=generator(5, seed))
            for seed in seeds
        ]
        for denoiser in (joint, given_classes(joint, process, "image", known))
    )
    found = sample_jointly(
        joint,
        process,
        len(test["label"]),
        (SIZE,),
        given={"image": test["image"]},
        classes=("label",),
        times=GRID[::3],
        generator=generator(6),
    )["label"]
    single = [
        samplers.sample(
            plain,
            process.process,
            num_samples=samples,
            shape=(SIZE,),
            solver=samplers.DDPM(),
            times=GRID,
            generator=generator(7, seed),
        )
        for seed in seeds
    ]
    agreements = {
        "joint: label of the head against a classifier of the image": [
            agreement(judge, part["image"], part["label"]) for part in drawn
        ],
        "given a label, by Bayes' rule: the classifier finds it": [
            agreement(judge, part["image"], wanted) for part in given
        ],
        "given a label, imputed alone: the classifier finds it": [
            agreement(judge, part["image"], wanted) for part in imputed
        ],
        "given a test image, imputed alone: the label is right": [float((found == test["label"]).double().mean())],
        "the classifier on test images": [float(judge.score(test["image"].numpy(), test["label"].numpy()))],
    }
    distances = {
        "joint": [distance(part["image"], test["image"]) for part in drawn],
        "given labels, by Bayes' rule": [distance(part["image"], test["image"]) for part in given],
        "given labels, imputed alone": [distance(part["image"], test["image"]) for part in imputed],
        "plain model of equal size": [distance(x, test["image"]) for x in single],
        "training images": [distance(data["image"], test["image"])],
    }
    return agreements, distances


@torch.no_grad()
def head_nats(joint: JointDenoiser, process: AggregatedGaussian, x: dict[str, Tensor]) -> dict[float, float]:
    """What the label's head is wrong by, by time."""
    nats = {}
    for place in torch.linspace(0.05, 0.95, 10).tolist():
        t = torch.full((len(x["label"]),), place)
        z = process.corrupt(x, t, generator=generator(8))
        nats[place] = float(-joint(z, t)["label"].gather(1, x["label"][:, None]).mean())
    return nats


def cell(values: list[float], form: str) -> str:
    """The mean, and its standard error where there are several."""
    numbers = torch.tensor(values, dtype=torch.float64)
    mean = f"{float(numbers.mean()):{form}}"
    return mean if len(values) == 1 else f"{mean} ± {float(numbers.std()) / len(values) ** 0.5:{form}}"


class Plain(nn.Module):
    """The same backbone with one head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = Backbone(), nn.Linear(WIDTH, SIZE)

    def forward(self, inputs: Tensor, noise: Tensor, condition: None = None) -> Tensor:
        return self.head(self.backbone(inputs, noise))


def agreement(judge: SVC, images: Tensor, labels: Tensor) -> float:
    return float((torch.from_numpy(judge.predict(images.numpy())) == labels).double().mean())


def distance(x: Tensor, y: Tensor) -> float:
    return float(measures.mmd2(x.double(), y.double(), kernel=Gaussian(8.0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--share", type=float, default=0.5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    text = run(arguments.steps, arguments.samples, arguments.share)
    machine = f"on {os.cpu_count()} cores (one used), {platform.machine()}, torch {torch.__version__}"
    command = f"--steps {arguments.steps} --samples {arguments.samples} --share {arguments.share}"
    text = text.replace("{command}", f"`python benchmarks/multitask.py {command}` {machine}.")
    (RESULTS / "multitask.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
