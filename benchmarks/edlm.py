"""Masked diffusion of characters, its autoregressive twin, and what an energy of whole sequences gives back.

    python benchmarks/edlm.py [--text tinyshakespeare.txt] [--minutes 10] [--nce-minutes 4] [--length 64]

A masked transformer trains for ``--minutes``, then its twin of the same size with causal attention for as many steps on
as many characters; an energy head trains on the masked one. Then: bits a character on the test text; the negative
log-likelihood of samples under a scorer that none of them has seen, an interpolated n-gram model of the training text,
with L / 4 steps, with and without correction, and with 4 L steps; the T-step bound of the corrected sampler from both
sides beside the published figure. The text: its first 90 % to train, then 5 % to validate, then 5 % to test.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clarkia import measures, samplers, training
from clarkia.denoisers import Preconditioned
from clarkia.measures.likelihood.joint import edlm_paper, joint_elbo
from clarkia.networks.autoregressive import Autoregressive
from clarkia.networks.energy import EnergyHead
from clarkia.networks.tokens import TokenTransformer
from clarkia.objectives.masked import MaskedELBO
from clarkia.objectives.residual_nce import ResidualNCE
from clarkia.processes import Masked
from clarkia.random import generator
from clarkia.samplers import Ancestral
from clarkia.samplers.energies import Counted, causal_residual
from clarkia.samplers.joint import Energy, EnergyCorrection
from clarkia.training import TrainingOptions

RESULTS = Path(__file__).parent / "results"
TEXT = Path(__file__).parents[2] / "shared" / "data" / "text" / "tinyshakespeare.txt"


class NGrams:
    """Witten-Bell interpolated n-grams: the scorer."""

    def __init__(self, text: Tensor, classes: int, order: int) -> None:
        self.classes, self.order = classes, order
        self.counts: list[dict[tuple[int, ...], Counter[int]]] = [defaultdict(Counter) for _ in range(order)]
        symbols = text.tolist()
        for size, table in enumerate(self.counts):
            for end in range(size, len(symbols)):
                table[tuple(symbols[end - size : end])][symbols[end]] += 1
        self.totals = [{context: table[context].total() for context in table} for table in self.counts]

    def nats(self, rows: Tensor) -> Tensor:
        """Mean negative log-probability a character of each row, ``(n,)``, each from its own beginning."""
        answers = []
        for row in rows.tolist():
            logs = [math.log(self._probability(row[max(0, i - self.order + 1) : i], row[i])) for i in range(len(row))]
            answers.append(-sum(logs) / len(row))
        return torch.tensor(answers)

    def _probability(self, context: list[int], symbol: int) -> float:
        p = 1.0 / self.classes
        for size in range(len(context) + 1):
            key = tuple(context[len(context) - size :])
            total = self.totals[size].get(key)
            if total is None:
                break
            seen = self.counts[size][key]
            p = (seen[symbol] + len(seen) * p) / (total + len(seen))
        return p


@dataclass(frozen=True)
class Text:
    """Windows of training text and whole chunks of validation and test text, as classes."""

    train: Tensor
    valid: Tensor
    test: Tensor
    stream: Tensor
    characters: str


def read(path: Path, length: int) -> Text:
    """The text cut in three, in characters that the training part has."""
    whole = path.read_text()
    cuts = [int(0.9 * len(whole)), int(0.95 * len(whole))]
    characters = "".join(sorted(set(whole[: cuts[0]])))
    codes = torch.tensor([max(characters.find(one), 0) for one in whole], dtype=torch.uint8)
    train, valid, test = codes[: cuts[0]], codes[cuts[0] : cuts[1]], codes[cuts[1] :]
    valid, test = (part[: len(part) // length * length].reshape(-1, length).long() for part in (valid, test))
    return Text(train.unfold(0, length, 4).contiguous(), valid, test, train.long(), characters)


def fit(module: Any, loss: Any, data: Tensor, **budget: Any) -> training.TrainingRun:
    """One training run; windows travel as bytes."""
    options = TrainingOptions(
        batch_size=32, learning_rate=2e-3, betas=(0.9, 0.98), weight_decay=0.01, warmup_steps=100,
        validate_every=10**9, **budget,
    )  # fmt: skip

    def step(part: Any, x: Any, noise: Any) -> Tensor:
        return loss(part, x.long(), noise)

    return training.fit(module, step, data, options=options, progress=False)


def network(a: argparse.Namespace, classes: int, **options: Any) -> TokenTransformer:
    """The same size for both twins."""
    torch.manual_seed(0)
    return TokenTransformer(classes, a.length, width=a.width, depth=a.depth, heads=a.width // 32, **options)


def entropy(rows: Tensor) -> float:
    """Mean entropy of a sequence's own characters, nats: low where samples repeat themselves."""
    counts = torch.stack([torch.bincount(row, minlength=256) for row in rows]).double()
    shares = counts / counts.sum(1, keepdim=True)
    return -float(torch.special.xlogy(shares, shares).sum(1).mean())


@dataclass(frozen=True)
class Bench:
    """What is compared."""

    text: Text
    process: Masked
    denoiser: Any
    ar: Autoregressive
    scorer: NGrams
    rows: int

    def line(self, name: str, x: Tensor, calls: str, seconds: float) -> tuple[str, float]:
        """A row of the table of samples, and its score."""
        score = self.scorer.nats(x)
        error = float(score.std()) / math.sqrt(len(score))
        with torch.no_grad():
            own = -float(self.ar.log_prob(x).mean()) / x.shape[1]
        cells = f"{float(score.mean()):.3f} ± {error:.3f} | {own:.3f} | {entropy(x):.3f} | {calls} | {seconds:.0f}"
        print(f"{name}: {cells}", flush=True)
        return f"| {name} | {cells} |", float(score.mean())

    def sampled(self, name: str, steps: int, joint: EnergyCorrection | None, counted: Counted | None):
        """The line of a sampler."""
        length, start = self.text.test.shape[1], time.process_time()
        x = samplers.sample(
            self.denoiser, self.process, num_samples=self.rows, shape=(length,), num_steps=steps,
            solver=Ancestral(joint=joint), generator=generator(1),
        )  # fmt: skip
        calls = f"{steps}" if counted is None else f"{steps} + {counted.rows / self.rows:.0f}"
        return self.line(name, x, calls, time.process_time() - start)  # type: ignore[arg-type]


def train(a: argparse.Namespace, text: Text, process: Masked) -> tuple[Any, Autoregressive, EnergyHead | None, str]:
    """The twins and the energy head."""
    classes = len(text.characters)
    denoiser = Preconditioned(network(a, classes), process)
    run = fit(denoiser, MaskedELBO(process), text.train, max_minutes=a.minutes, max_steps=a.steps)
    print(f"masked: {run.steps} steps in {run.seconds:.0f} s", flush=True)
    ar = Autoregressive(network(a, classes, causal=True))
    twin = fit(ar, lambda part, x, noise: -part.token_log_probs(x).sum(1), text.train, max_steps=run.steps)
    print(f"autoregressive: {twin.steps} steps in {twin.seconds:.0f} s", flush=True)
    words = f"{run.steps} steps of 32 windows each ({run.seconds:.0f} s and {twin.seconds:.0f} s)"
    if not a.nce_minutes:
        return denoiser, ar, None, words
    head = EnergyHead(denoiser.network)  # type: ignore[arg-type]
    most = max(a.steps // 4, 1) if a.steps else None  # one of its steps costs several of the others
    nce = fit(head, ResidualNCE(process, denoiser), text.train, max_minutes=a.nce_minutes, max_steps=most)
    print(f"energy head: {nce.steps} steps in {nce.seconds:.0f} s, {nce.history[-1]}", flush=True)
    return denoiser, ar, head, words + f"; energy head {nce.steps} steps ({nce.seconds:.0f} s)"


def likelihoods(bench: Bench, energies: dict[str, tuple[Energy, bool]], rows: int) -> list[str]:
    """Bits a character of the test text."""
    test = bench.text.test
    scale = test.shape[1] * math.log(2)
    masked = measures.elbo(bench.denoiser, bench.process, test, num_draws=16, generator=generator(2))
    with torch.no_grad():
        causal = torch.cat([bench.ar.log_prob(part) for part in test.split(256)])
    lines = [
        f"| masked | bound | {-masked.mean / scale:.3f} ± {masked.mean_standard_error / scale:.3f} |",
        f"| autoregressive twin | exact | {-float(causal.mean()) / scale:.3f} |",
        f"| n-gram scorer | exact | {float(bench.scorer.nats(test).mean()) / math.log(2):.3f} |",
    ]
    few, steps = test[:rows], test.shape[1] // 4
    plain = measures.elbo(bench.denoiser, bench.process, few, num_draws=64, num_steps=steps, generator=generator(3))
    lines.append(f"| masked, {steps} steps, first {rows} chunks | {plain.kind} | {-plain.mean / scale:.3f} |")
    for name, (energy, normalised) in energies.items():
        given = {"num_draws": 16, "num_samples": 8, "normalised": normalised, "generator": generator(4)}
        found = joint_elbo(bench.denoiser, bench.process, few, energy, num_steps=steps, **given)
        paper = edlm_paper(bench.denoiser, bench.process, few, energy, **given)
        sides = f"{-found.lower.mean / scale:.3f} (other side {-found.upper.mean / scale:.3f})"
        lines.append(f"| masked + {name}, {steps} steps | {found.lower.kind} | {sides} |")
        lines.append(f"| masked + {name}, as published | {paper.kind} | {-paper.mean / scale:.3f} |")
    for line in lines:
        print(line, flush=True)
    return lines


def samples(bench: Bench, energies: dict[str, Energy], a: argparse.Namespace) -> tuple[list[str], str]:
    """Scores of samples, and the share of the gap that correction closes."""
    few, many = a.length // 4, 4 * a.length
    lines = [bench.line("test text", bench.text.test[: bench.rows], "", 0.0)[0]]
    start = time.process_time()
    twin = bench.ar.sample(bench.rows, generator(1))
    lines.append(bench.line("autoregressive twin", twin, f"{a.length}", time.process_time() - start)[0])
    line, best = bench.sampled(f"masked, {many} steps", many, None, None)
    line_plain, plain = bench.sampled(f"masked, {few} steps", few, None, None)
    lines += [line, line_plain]
    closed = {}
    for name, energy in energies.items():
        for k, end in ((8, 0.6), (8, 0.0), (16, 0.0)):
            counted = Counted(energy)
            title = f"{few} steps + {name}, k = {k}, window 1 to {end}"
            line, score = bench.sampled(title, few, EnergyCorrection(counted, k, (1.0, end)), counted)
            lines.append(line)
            closed[title] = (plain - score) / (plain - best)
    words = "; ".join(f"{title}: {100 * share:.0f} %" for title, share in closed.items())
    return lines, f"Share of the gap between {few} and {many} steps that is closed: {words}."


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--minutes", type=float, default=10.0, help="training of the masked model; its twin as long")
    parser.add_argument("--nce-minutes", type=float, default=4.0, help="training of the energy head; 0 for none")
    parser.add_argument("--steps", type=int, default=None, help="most steps of each training, a quarter of the head")
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--rows", type=int, default=128, help="samples of each sampler")
    parser.add_argument("--order", type=int, default=6, help="of the n-gram scorer")
    a = parser.parse_args()
    torch.set_num_threads(1)
    text = read(a.text, a.length)
    process = Masked(len(text.characters))
    denoiser, ar, head, words = train(a, text, process)
    bench = Bench(text, process, denoiser, ar, NGrams(text.stream, len(text.characters), a.order), a.rows)
    carried, whole = (causal_residual(ar.token_log_probs, carry_over=flag) for flag in (True, False))
    energies: dict[str, tuple[Energy, bool]] = {"causal, carry-over": (carried, True), "causal": (whole, False)}
    if head is not None:
        energies["energy head"] = (head, False)
    bits = likelihoods(bench, energies, min(48, len(text.test)))
    table, closed = samples(bench, {name: energy for name, (energy, _) in energies.items()}, a)
    command = f"python benchmarks/edlm.py --minutes {a.minutes:g} --nce-minutes {a.nce_minutes:g} --length {a.length}"
    command += f" --width {a.width} --depth {a.depth} --rows {a.rows}" + (f" --steps {a.steps}" if a.steps else "")
    size = sum(parameter.numel() for parameter in ar.parameters())
    machine = f"{os.cpu_count()} cores (one thread, shared), {platform.machine()}, torch {torch.__version__}"
    head_bits = ["| model | kind | bits a character, test |", "|---|---|---|"]
    head_table = [
        "| samples | n-gram nats a character | twin's nats | sequence entropy | calls a sequence | seconds |",
        "|---|---|---|---|---|---|",
    ]
    body = "\n".join([*head_bits, *bits, "", *head_table, *table, "", closed])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "edlm.md").write_text(
        f"# Masked diffusion of characters, its autoregressive twin and energy correction\n\n`{command}` on {machine}."
        f"\n\nTwins of {size:,} weights: {words}. Calls are those of the denoiser + of the energy, a sequence.\n\n"
        f"{body}\n"
    )


if __name__ == "__main__":
    main()
