"""Digits steered without training: the strength of guidance against what it costs, restoration, staged search.

    python benchmarks/steering_digits.py labels [--minutes 2]     training-free guidance by a classifier, and its search
    python benchmarks/steering_digits.py tokens [--minutes 3]     binary digits: anchored decoding and staged search

Each writes its section of benchmarks/results/steering-discrete.md.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from sklearn.datasets import load_digits
from sklearn.svm import SVC
from torch import Tensor, nn

from clarkia import measures, samplers, schedules, steering
from clarkia.denoisers import Preconditioned
from clarkia.networks import TokenTransformer
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


def budget(minutes: float) -> dict[str, Any]:
    """One training run."""
    options = TrainingOptions(batch_size=128, learning_rate=1e-3, max_minutes=minutes, validate_every=10**9)
    return {"options": options, "progress": False}


def labels(args: argparse.Namespace) -> str:
    x, y, x_judge, y_judge = digits()
    process = VariancePreserving("cosine")
    torch.manual_seed(0)
    denoiser = Preconditioned(Blocks(), process, data_std=0.75)
    loss = Denoising(process, noise=UniformTime(process), data_std=0.75)
    run = fit(denoiser, loss, torch.cat([x, x_judge]), **budget(args.minutes))
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


def psnr(found: Tensor, truth: Tensor) -> float:
    error = (found.float() - truth.float()).square().mean(1).clamp(min=1e-3)
    return float((10 * (1 / error).log10()).mean())


def tokens(args: argparse.Namespace) -> str:
    x, y, x_judge, y_judge = digits()
    pictures, names = torch.cat([x, x_judge[:-200]]), torch.cat([y, y_judge[:-200]])
    train, test, truth = (pictures > 0).long(), (x_judge[-200:] > 0).long(), y_judge[-200:]
    torch.manual_seed(0)
    denoiser = Preconditioned(TokenTransformer(2, 64, width=96, depth=3, heads=3), BITS)
    run = fit(denoiser, MaskedELBO(BITS), train, **budget(args.minutes))
    judge = SVC(probability=False).fit(train.numpy(), names.numpy())
    lines = [
        f"A transformer of {sum(p.numel() for p in denoiser.parameters()):,} weights on digits as 64 bits, {run.steps} "
        f"steps of 128 in {run.seconds:.0f} s; the judge, a support vector machine on the bits, is right for "
        f"{100 * float(judge.score(test.numpy(), truth.numpy())):.0f} % of the 200 test digits.",
        "",
        f"Restored from means of blocks with noise {NOISE}, 16 steps, 100 iterations:",
        "",
        "| measurement | decoding | PSNR, dB | the judge finds the digit | seconds |",
        "|---|---|---|---|---|",
    ]
    for name, operator in (("4 means of 4 x 4", BLOCKS), ("16 means of 2 x 2", LINES)):
        lines += restored(denoiser, judge, name, operator, test, truth)
    return "\n".join([*lines, "", *searched(denoiser, x, y, judge)])


def restored(denoiser: Any, judge: Any, name: str, operator: Tensor, test: Tensor, truth: Tensor) -> list[str]:
    y = CODES[test].squeeze(-1) @ operator.T + NOISE * randn((len(test), len(operator)), generator(6))

    def log_likelihood(codes: Tensor) -> Tensor:
        return -(y - codes.squeeze(-1) @ operator.T.to(codes)).square().sum(1) / (2 * NOISE**2)

    ways: dict[str, Any] = {"without the measurement": None}
    for relaxation in ("soft", "quantized"):
        for select in ("posterior", "prior"):
            ways[f"{relaxation}, ranked by the {select}"] = Anchored(log_likelihood, CODES, relaxation, select=select)
    ways["soft, drawn"] = Anchored(log_likelihood, CODES, draw="sample")
    lines = []
    for way, solver in ways.items():
        start = time.process_time()
        found = samplers.sample(
            denoiser, BITS, num_samples=len(test), shape=(64,), num_steps=16, solver=solver, generator=generator(7)
        )
        right = float((torch.from_numpy(judge.predict(found.numpy())) == truth).double().mean())
        seconds = time.process_time() - start
        lines.append(f"| {name} | {way} | {psnr(found, test):.1f} | {100 * right:.0f} % | {seconds:.0f} |")
        print(lines[-1], flush=True)
    return lines


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
    parser.add_argument("--minutes", type=float, default=2.0, help="training of the denoiser")
    parser.add_argument("--rows", type=int, default=400, help="digits drawn by each setting")
    args = parser.parse_args()
    torch.set_num_threads(1)
    titles = {"labels": "Digits, training-free guidance", "tokens": "Digits as bits"}
    command = f"python benchmarks/steering_digits.py {args.part} --minutes {args.minutes:g}"
    write(titles[args.part], command, {"labels": labels, "tokens": tokens}[args.part](args))


if __name__ == "__main__":
    main()
