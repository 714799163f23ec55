"""Digits steered without training: the strength of guidance against what it costs, restoration, staged search.

    python benchmarks/steering_digits.py labels [--minutes 2]     training-free guidance by a classifier, and its search
    python benchmarks/steering_digits.py tokens [--steps 3000]    binary digits: anchored decoding and staged search

Each writes its section of benchmarks/results/steering-discrete.md.
"""

from __future__ import annotations

import argparse
import time
import warnings
from functools import partial
from typing import Any

import torch
from sklearn.datasets import load_digits
from sklearn.svm import SVC
from torch import Tensor, nn

from clarkia import measures, samplers, schedules, steering
from clarkia.denoisers import Preconditioned
from clarkia.objectives import Denoising, MaskedELBO, UniformTime
from clarkia.processes import Masked, VariancePreserving
from clarkia.random import generator, randn
from clarkia.samplers import TFG, Anchored
from clarkia.training import TrainingOptions, fit
from steering_discrete import write

WANTED = 3


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pictures in [-1, 1] and labels: one half to guide with, the other to judge with."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.from_numpy(images).float() / 8 - 1, torch.from_numpy(labels)
    order = torch.randperm(len(x), generator=generator(0))
    half = len(x) // 2
    return x[order[:half]], y[order[:half]], x[order[half:]], y[order[half:]]


def classifier(x: Tensor, y: Tensor) -> nn.Module:
    """A small network, trained on clean digits alone."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Dropout(0.2), nn.Linear(128, 10))
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.05)
    for step in range(800):
        rows = torch.randint(len(x), (128,), generator=generator(2, step))
        noise = 0.2 * torch.randn(128, 64, generator=generator(3, step))
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x[rows] + noise), y[rows]).backward()
        optimizer.step()
    return network.eval().requires_grad_(False)


class Blocks(nn.Module):
    """Residual blocks with a shift by the noise level."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.register_buffer("frequency", torch.linspace(0.3, 6.0, 24))
        self.inputs, self.level, self.outputs = nn.Linear(64, width), nn.Linear(48, width), nn.Linear(width, 64)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
            for _ in range(3)
        )

    def forward(self, inputs: Tensor, noise: Tensor, condition: None = None) -> Tensor:
        waves = self.frequency * noise.reshape(-1, 1)
        h = self.inputs(inputs)
        level = self.level(torch.cat([waves.cos(), waves.sin()], 1))
        for block in self.blocks:
            h = h + block(h + level)
        return self.outputs(h)


def budget(**limit: Any) -> dict[str, Any]:
    """One training run."""
    options = TrainingOptions(batch_size=128, learning_rate=1e-3, validate_every=10**9, **limit)
    return {"options": options, "progress": False}


def labels(args: argparse.Namespace) -> str:
    x, y, x_judge, y_judge = digits()
    process = VariancePreserving("cosine")
    torch.manual_seed(0)
    denoiser = Preconditioned(Blocks(), process, data_std=0.75)
    loss = Denoising(process, noise=UniformTime(process), data_std=0.75)
    run = fit(denoiser, loss, torch.cat([x, x_judge]), **budget(max_minutes=args.minutes))
    guide, judge = classifier(x, y), SVC().fit(x_judge.numpy(), y_judge.numpy())
    others = x_judge[y_judge == WANTED]
    grid = torch.linspace(0.99, 0, 51, dtype=torch.float64)

    def log_f(clean: Tensor) -> Tensor:
        return guide(clean).log_softmax(1)[:, WANTED]

    def sampled(rows: int, seed: int, **options: Any) -> Tensor:
        return samplers.sample(
            denoiser, process, num_samples=rows, shape=(64,), times=grid, generator=generator(seed),
            solver=TFG(log_f, times=grid, **options),
        )  # fmt: skip

    def judged(clean: Tensor) -> tuple[float, float, float]:
        own = float((guide(clean).argmax(1) == WANTED).double().mean())
        found = float((torch.from_numpy(judge.predict(clean.numpy())) == WANTED).double().mean())
        return found, own, float(measures.frechet_distance(clean.double(), others.double()))

    lines = [
        f"A denoiser of {sum(p.numel() for p in denoiser.parameters()):,} weights, {run.steps} steps of 128 in "
        f"{run.seconds:.0f} s; a classifier trained on one half of the clean digits guides towards {WANTED}s, a "
        "support vector machine trained on the other half judges. The distance is Fréchet's, of the 64 points, "
        f"to the judge's {len(others)} own {WANTED}s, among {args.rows} rows; 50 steps, mu = rho / 4.",
        "",
        "| setting | the judge agrees | the guide agrees | distance |",
        "|---|---|---|---|",
    ]
    for rho in (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 4.0):
        found, own, distance = judged(sampled(args.rows, 4, rho=rho, mu=rho / 4, sigma_bar=0.01))
        lines.append(f"| rho {rho:g} | {100 * found:.0f} % | {100 * own:.0f} % | {distance:.2f} |")
    for name in ("mpgd", "lgd", "freedom", "ugd"):
        options = {"rho": 1.0, "mu": 0.25} | dict(samplers.TFG_PRESETS[name])
        found, own, distance = judged(sampled(args.rows, 4, **options))
        lines.append(f"| {name}, rho 1, mu .25 | {100 * found:.0f} % | {100 * own:.0f} % | {distance:.2f} |")

    def metric(settings: dict[str, float]) -> float:
        share, _, distance = judged(sampled(64, 5, num_iterations=2, **settings))
        return share - 0.02 * distance

    best = steering.search(steering.TFG_SPACE, metric, guide=guide, judge=judge)
    found, own, distance = judged(sampled(args.rows, 4, num_iterations=2, **best.settings))
    words = ", ".join(f"{name} {value:g}" for name, value in best.settings.items())
    lines.append(f"| searched: {words} | {100 * found:.0f} % | {100 * own:.0f} % | {distance:.2f} |")
    lines += [
        "",
        f"The search made {len(best.tried)} trials of 64 rows; its score is the judge's share - 0.02 distance.",
    ]
    return "\n".join(lines)


# --------------------------------------------------------------------------------------------------- binary digits

BITS = Masked(2)
AVERAGES = torch.kron(torch.eye(2), torch.ones(1, 4)) / 4
BLOCKS = torch.kron(AVERAGES, AVERAGES)
"""From 64 points to the four means of 4 x 4."""
LINES = torch.kron(torch.kron(torch.eye(4), torch.ones(1, 2)) / 2, torch.kron(torch.eye(4), torch.ones(1, 2)) / 2)
"""To the 16 means of 2 x 2."""
CODES = torch.tensor([[-1.0], [1.0]])
NOISE = 0.1
PARTICLES = 32


class Bits(nn.Module):
    """Residual blocks on bits and masks; 1600 digits are few, hence the dropout."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.inputs, self.outputs = nn.Linear(3 * 64, width), nn.Linear(width, 2 * 64)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Dropout(0.3),
                nn.Linear(2 * width, width),
            )
            for _ in range(3)
        )  # fmt: skip

    def forward(self, x: Tensor, t: Tensor, condition: None = None) -> Tensor:
        h = self.inputs(nn.functional.one_hot(x, 3).float().flatten(1))
        for block in self.blocks:
            h = h + block(h)
        return self.outputs(h).view(-1, 64, 2)


def psnr(found: Tensor, truth: Tensor) -> float:
    error = (found.float() - truth.float()).square().mean(1).clamp(min=1e-3)
    return float((10 * (1 / error).log10()).mean())


def tokens(args: argparse.Namespace) -> str:
    x, y, x_judge, y_judge = digits()
    pictures, names = torch.cat([x, x_judge[:-200]]), torch.cat([y, y_judge[:-200]])
    train, test, truth = (pictures > 0).long(), (x_judge[-200:] > 0).long(), y_judge[-200:]
    torch.manual_seed(0)
    denoiser = Preconditioned(Bits(), BITS)
    run = fit(denoiser, MaskedELBO(BITS), train, **budget(max_steps=args.steps))
    judge = SVC().fit(train.numpy(), names.numpy())
    bound = float(MaskedELBO(BITS)(denoiser, test.repeat(8, 1), generator=generator(5)).detach().mean())
    lines = [
        f"A perceptron of {sum(p.numel() for p in denoiser.parameters()):,} weights on digits as 64 bits, {run.steps} "
        f"steps of 128 in {run.seconds:.0f} s, {bound:.1f} nats a test digit; the judge, a support vector machine on "
        f"the bits, is right for {100 * float(judge.score(test.numpy(), truth.numpy())):.0f} % of the 200 test digits.",
        "",
        f"Restored from means of blocks with noise {NOISE}, 16 steps, 100 iterations. What bounds the share of digits "
        "found is what the means tell: the last line of each reads the digit off them, by a support vector machine "
        f"fitted to measurements, and restores nothing. One of {PARTICLES} particles in 64 steps is close to a draw "
        "from the network's own posterior.",
        "",
        "| measurement | decoding | PSNR, dB | the judge finds the digit | seconds |",
        "|---|---|---|---|---|",
    ]
    for name, operator in (("4 means of 4 x 4", BLOCKS), ("16 means of 2 x 2", LINES)):
        lines += restored(denoiser, judge, name, operator, test, truth)
        share = read_off(operator, train, names, test, truth)
        lines.append(f"| {name} | read off the means | | {100 * share:.0f} % | |")
    return "\n".join([*lines, "", *searched(denoiser, x, y, judge)])


def measured(bits: Tensor, operator: Tensor, seed: int) -> Tensor:
    return CODES[bits].squeeze(-1) @ operator.T + NOISE * randn((len(bits), len(operator)), generator(seed))


def read_off(operator: Tensor, train: Tensor, names: Tensor, test: Tensor, truth: Tensor) -> float:
    """How often the digit is known from its measurement alone."""
    reader = SVC(C=10).fit(measured(train.repeat(4, 1), operator, 9).numpy(), names.repeat(4).numpy())
    return float(reader.score(measured(test, operator, 6).numpy(), truth.numpy()))


def restored(denoiser: Any, judge: Any, name: str, operator: Tensor, test: Tensor, truth: Tensor) -> list[str]:
    y = measured(test, operator, 6)

    def log_likelihood(codes: Tensor) -> Tensor:
        return -(y - codes.squeeze(-1) @ operator.T.to(codes)).square().sum(1) / (2 * NOISE**2)

    def decoded(solver: Any) -> Tensor:
        return samplers.sample(
            denoiser, BITS, num_samples=len(test), shape=(64,), num_steps=16, solver=solver, generator=generator(7)
        )

    ways: dict[str, Any] = {"without the measurement": lambda: decoded(None)}
    for relaxation in ("soft", "quantized"):
        for select in ("posterior", "prior"):
            solver = Anchored(log_likelihood, CODES, relaxation, select=select)
            ways[f"{relaxation}, ranked by the {select}"] = partial(decoded, solver)
    ways["soft, drawn"] = partial(decoded, Anchored(log_likelihood, CODES, draw="sample"))
    ways["soft, anchors below 0.2 masked again"] = partial(decoded, Anchored(log_likelihood, CODES, remask_below=0.2))
    ways[f"one of {PARTICLES} particles"] = lambda: particle(denoiser, y, operator)
    lines = []
    for way, restore in ways.items():
        start = time.process_time()
        found = restore()
        right = float((torch.from_numpy(judge.predict(found.numpy())) == truth).double().mean())
        seconds = time.process_time() - start
        lines.append(f"| {name} | {way} | {psnr(found, test):.1f} | {100 * right:.0f} % | {seconds:.0f} |")
        print(lines[-1], flush=True)
    return lines


def particle(denoiser: Any, y: Tensor, operator: Tensor) -> Tensor:
    """A point of each posterior, by particles weighed as if the predicted bits were independent of each other."""
    y, operator = y.repeat_interleave(PARTICLES, 0).double(), operator.T.double()

    def log_normal(p: Tensor) -> Tensor:
        """Of the means, given the probabilities of the bits."""
        variance = (4 * p * (1 - p)) @ operator.square() + NOISE**2
        misfit = (y - (2 * p - 1) @ operator).square() / variance
        return -(misfit + variance.log()).sum(1) / 2

    twist = steering.Twist(lambda moment: log_normal(moment.prediction[..., 1].double().exp()),
                           lambda x0: log_normal(x0.double()))  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", steering.CollapseWarning)  # of groups as small as these
        found = steering.run(
            denoiser, BITS, twist, num_particles=PARTICLES, groups=len(y) // PARTICLES, shape=(64,), num_steps=64,
            generator=generator(7),
        )  # fmt: skip
    return found.draw(generator=generator(8))


def searched(denoiser: Any, x: Tensor, y: Tensor, judge: Any) -> list[str]:
    """Plain drafts, the best of several, and staged search at as many rows through the network."""
    guide, grid, groups = classifier((x > 0).float(), y), schedules.uniform(16), 40

    def reward(bits: Tensor) -> Tensor:
        return guide(bits.float()).log_softmax(1)[:, WANTED].double()

    ways = {
        "plain": ([1] * 4, {}),
        "best of 8": ([8] * 4, {}),
        "staged 8, 8, 4, 4": ([8, 8, 4, 4], {"resample_at": {1, 2}, "scale": 2.0}),
        "staged 8, 8, 4, 4, by gains": (
            [8, 8, 4, 4], {"resample_at": {1, 2}, "scale": 2.0, "potential": "difference"}
        ),
    }  # fmt: skip
    lines = [
        f"Searched for {WANTED}s, 16 steps in four stages, the reward a classifier's log-probability on clean bits, "
        f"{groups} searches each, the best survivor counts:",
        "",
        "| search | the judge agrees | the guide agrees | reward | different results | rows through the network |",
        "|---|---|---|---|---|---|",
    ]
    for name, (widths, options) in ways.items():
        best, cost = [], 0
        for seed in range(groups):
            stages = steering.SamplerStages(denoiser, BITS, grid, [4] * 4, shape=(64,), seed=seed)
            found = steering.staged_search(stages, reward, widths, generator=generator(8, seed), **options)  # type: ignore[arg-type]
            best.append(found.x[found.best])
        entering = [widths[0], *widths[:-1]]
        cost = sum(4 * width for width in entering)
        cost += sum(entering[s] for s in options.get("resample_at", ())) + sum(
            entering[s] for s in options.get("cluster_at", ())
        )
        rows = torch.stack(best)  # type: ignore[arg-type]
        own = float((guide(rows.float()).argmax(1) == WANTED).double().mean())
        right = float((torch.from_numpy(judge.predict(rows.numpy())) == WANTED).double().mean())
        different = len(rows.unique(dim=0))
        cells = f"{100 * right:.0f} % | {100 * own:.0f} % | {float(reward(rows).mean()):.2f} | {different} | {cost}"
        lines.append(f"| {name} | {cells} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=("labels", "tokens"))
    parser.add_argument("--minutes", type=float, default=2.0, help="training of the denoiser of numbers")
    parser.add_argument("--steps", type=int, default=3000, help="training of the denoiser of bits")
    parser.add_argument("--rows", type=int, default=400, help="digits drawn by each setting")
    args = parser.parse_args()
    torch.set_num_threads(1)
    titles = {"labels": "Digits, training-free guidance", "tokens": "Digits as bits"}
    budgeted = f"--minutes {args.minutes:g}" if args.part == "labels" else f"--steps {args.steps}"
    command = f"python benchmarks/steering_digits.py {args.part} {budgeted}"
    write(titles[args.part], command, {"labels": labels, "tokens": tokens}[args.part](args))


if __name__ == "__main__":
    main()
