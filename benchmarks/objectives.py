"""What the estimators of the masked bound cost in variance, and what a small network has left to learn by noise level.

    python benchmarks/objectives.py variance [--draws 2000]
    python benchmarks/objectives.py lattice [--steps 6000]

Either writes its table to benchmarks/results/. The first takes two minutes on one core, the second one.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import time
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from clarkia.denoisers import Preconditioned
from clarkia.measures.noise_profile import noise_profile
from clarkia.objectives import Denoising, MaskedELBO, ScoreEntropy, UniformTime
from clarkia.oracles import GaussianMixture, MarkovChain
from clarkia.processes import Discrete, Masked, Uniform, VariancePreserving
from clarkia.random import generator
from clarkia.schedules import PolynomialMask

RESULTS = Path(__file__).parent / "results"
CLASSES, LENGTH, BATCH = 8, 32, 64


class Tokens(nn.Module):
    """A small residual network over all positions of a sequence at once."""

    def __init__(self, process: Discrete, width: int = 256) -> None:
        super().__init__()
        self.process = process
        self.embed = nn.Embedding(process.max_states, 16)
        self.first = nn.Linear(16 * LENGTH + 1, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU()) for _ in "ab"
        )
        self.last = nn.Linear(width, LENGTH * CLASSES)

    def forward(self, x_t: Tensor, t: Tensor, condition: None = None) -> Tensor:
        noise = 1 - self.process.alpha(t)  # so that another schedule is no other network
        h = self.first(torch.cat([self.embed(x_t).flatten(1), noise[:, None]], 1))
        for block in self.blocks:
            h = h + block(h)
        logits = self.last(h).unflatten(1, (LENGTH, CLASSES))
        if not isinstance(self.process, Masked):
            # What the cell itself shows of its class is known; without it the bound is infinite as t falls to 0.
            logits = logits + self.process.log_emission(x_t, t).to(logits.dtype)
        return self.process.log_probs(logits, x_t, t)


def variance(draws: int) -> str:
    """Variance of a batch's loss and gradient by estimator, at one network, over the draws of corruption alone."""
    sticky = 0.75 * torch.eye(CLASSES) + 0.25 / CLASSES
    chain = MarkovChain([1 / CLASSES] * CLASSES, sticky, LENGTH)
    x0 = chain.sample(BATCH, generator=generator(0))
    lines = []
    for noise, make, objectives in (
        ("masked", Masked, {name: (name, "linear") for name in ("count", "lambda", "time", "score")}),
        ("masked", Masked, {"time, k = 2": ("time", PolynomialMask(2.0)), "time, cosine": ("time", "cosine")}),
        ("uniform", Uniform, {"linear": (None, "linear"), "k = 2": (None, PolynomialMask(2.0))}),
    ):
        network = trained_tokens(make(CLASSES), chain)
        for label, (estimator, schedule) in objectives.items():
            network.process = process = make(CLASSES, schedule)
            objective = ScoreEntropy(process) if estimator is None else MaskedELBO(process, estimator)
            lines.append((f"{noise}, {label}", *moments(objective, network, x0, draws)))
    reference = {"masked": lines[0], "uniform": lines[-2]}
    head = "| estimator | nats a row | variance of a batch's loss | ratio | variance of its gradient | ratio |\n"
    head += "|---|---|---|---|---|---|\n"
    rows = []
    for name, mean, error, loss, gradient in lines:
        base = reference[name.split(",")[0]]
        rows.append(
            f"| {name} | {mean:.3f} +- {error:.3f} | {loss:.3g} | {loss / base[3]:.2f} | {gradient:.3g} "
            f"| {gradient / base[4]:.2f} |"
        )
    return (
        f"# Variance of estimators of the discrete bound\n\n{{command}}\n\nA batch of {BATCH} rows of a chain of "
        f"{CLASSES} classes and {LENGTH} cells, a network trained for 300 steps, {draws} draws of the corruption. "
        f"Ratios are to the first of its kind.\n\n" + head + "\n".join(rows) + "\n"
    )


def trained_tokens(process: Discrete, chain: MarkovChain) -> Tokens:
    """A network that has learned something."""
    torch.manual_seed(0)
    network = Tokens(process)
    objective = MaskedELBO(process) if isinstance(process, Masked) else ScoreEntropy(process)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for step in range(300):
        optimizer.zero_grad()
        objective(network, chain.sample(128, generator=generator(1, step)), generator(2, step)).mean().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
    return network


def moments(objective, network: Tokens, x0: Tensor, draws: int) -> tuple[float, float, float, float]:
    """Mean of the batch's loss and its standard error, its variance, and the summed variance of its gradient."""
    losses, first, second = [], 0.0, 0.0
    for draw in range(draws):
        network.zero_grad()
        loss = objective(network, x0, generator(3, draw)).mean()
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]).double()
        first, second = first + gradient, second + gradient.square()
        losses.append(float(loss.detach()))
    values = torch.tensor(losses, dtype=torch.float64)
    spread = float((second / draws - (first / draws) ** 2).sum() * draws / (draws - 1))
    return float(values.mean()), float(values.std()) / math.sqrt(draws), float(values.var()), spread


class Residual(nn.Module):
    """Three residual blocks of width 48 on eight numbers and the features of a noise level."""

    def __init__(self, size: int = 8, width: int = 48) -> None:
        super().__init__()
        self.register_buffer("frequency", torch.linspace(0.5, 8.0, 16))
        self.inputs, self.level = nn.Linear(size, width), nn.Linear(32, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
            for _ in range(3)
        )
        self.out = nn.Linear(width, size)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, inputs: Tensor, noise: Tensor, condition: None = None) -> Tensor:
        waves = self.frequency * noise[:, None]
        level = self.level(torch.cat([waves.cos(), waves.sin()], 1))
        h = self.inputs(inputs) + level
        for block in self.blocks:
            h = h + block(h + level)
        return self.out(h)


def lattice_law(std: float = 0.05) -> GaussianMixture:
    """25 modes on a square lattice in two dimensions, embedded in eight of unit variance."""
    axis = torch.arange(-2, 3, dtype=torch.float64) / math.sqrt(2)
    places = torch.cartesian_prod(axis, axis)
    turn = torch.randn(2, 8, generator=generator(4), dtype=torch.float64)
    return GaussianMixture([1 / 25] * 25, places @ (turn / turn.norm(dim=0)), [std**2] * 25)


def lattice(steps: int) -> str:
    """Excess risk of the predicted noise by intervals of the thousand levels of DDPM."""
    law, process = lattice_law(), VariancePreserving()
    torch.manual_seed(0)
    denoiser = Preconditioned(Residual(), process)
    objective = Denoising(process, "eps", UniformTime(process), data_std=1.0)
    optimizer = torch.optim.Adam(denoiser.parameters(), 2e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    start = time.process_time()
    for step in range(steps):
        optimizer.zero_grad()
        x0 = law.sample(250, generator=generator(5, step)).float()
        objective(denoiser, x0, generator(6, step)).mean().backward()
        optimizer.step()
        decay.step()
    seconds = time.process_time() - start
    grid = (torch.arange(0, 1000, 4, dtype=torch.float64) + 0.5) / 1000
    profile = noise_profile(
        denoiser, law, process, process.kappa(grid).log(), num_samples=2000, dtype=torch.float32, generator=generator(7)
    )
    bounds = (0, 153, 394, 624, 823, 1000)
    rows = []
    for first, last in pairwise(bounds):
        inside = (grid * 1000 >= first) & (grid * 1000 < last)
        excess, error = (
            float(profile.excess[inside].mean()),
            float(profile.standard_error[inside].square().sum().sqrt()),
        )
        floor = float(profile.floor[inside].mean())
        rows.append(f"| [{first}, {last}) | {excess:.5f} +- {error / int(inside.sum()):.5f} | {floor:.4f} |")
    return (
        "# Excess risk by noise level\n\n{command}\n\n"
        f"25 modes on a lattice in 2 of 8 dimensions, width 0.05; a residual network of width 48 and 3 blocks, "
        f"{steps} Adam steps of 250 rows in {seconds:.0f} s of one core. Excess of the predicted noise's squared error "
        "over the exact posterior's, and that floor, mean of an element.\n\n"
        "| levels of 1000 | excess | floor |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("variance", "lattice"))
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=6000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.part == "variance":
        text, command = variance(arguments.draws), f"variance --draws {arguments.draws}"
    else:
        text, command = lattice(arguments.steps), f"lattice --steps {arguments.steps}"
    machine = f"on {os.cpu_count()} cores (one used), {platform.machine()}, torch {torch.__version__}"
    text = text.replace("{command}", f"`python benchmarks/objectives.py {command}` {machine}.")
    (RESULTS / f"objectives-{arguments.part}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
