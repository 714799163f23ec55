"""Translation by tokens with times of their own against tokens that all keep one time.

    python benchmarks/neodiff.py train --law own [--steps 3000]
    python benchmarks/neodiff.py train --law one [--steps 3000]
    python benchmarks/neodiff.py compare [--trials 40]

The language is synthetic: every letter is substituted and every word reversed, 10,000 pairs. Two models of one size are
trained, three minutes each on one core, and kept in the folder of temporary files; the last command decodes test
sentences in ten steps by several policies, searches a grid of times on validation sentences, and writes
benchmarks/results/neodiff.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from clarkia import samplers, schedules
from clarkia.networks.time_predictor import ScaledEmbedding, TimePredictor, element_policy
from clarkia.objectives.element_time import ElementTimeDenoising
from clarkia.processes import VariancePreserving
from clarkia.processes.token_embedding import TokenEmbeddingGaussian
from clarkia.random import generator
from clarkia.samplers.element_time import ElementTime, doubled, together
from clarkia.schedules.element_time import PoissonElementTime
from clarkia.schedules.search import search_times
from clarkia.schedules.square_root import SquareRootVP

RESULTS = Path(__file__).parent / "results"
CACHE = Path(tempfile.gettempdir()) / "clarkia-neodiff"
LETTERS, LENGTH, SIZE, WIDTH = 16, 14, 32, 64
SPACE = LETTERS
LAWS = {"own": PoissonElementTime(), "one": PoissonElementTime(rate=1.0, spread=0.0)}
TRAIN, VALIDATION, TEST = slice(0, 10_000), slice(10_000, 10_300), slice(10_300, 11_300)


def pairs(n: int = 11_300) -> tuple[Tensor, Tensor]:
    """Sentences of words of one to five letters, and their translations."""
    noise = generator(0)
    source = torch.randint(0, LETTERS, (n, LENGTH), generator=noise)
    gaps = torch.rand(n, LENGTH, generator=noise) < 0.3
    gaps[:, 0] = gaps[:, -1] = False
    gaps[:, 1:] &= ~gaps[:, :-1]
    source[gaps] = SPACE
    codebook = torch.cat([torch.randperm(LETTERS, generator=noise), torch.tensor([SPACE])])
    place = torch.arange(LENGTH).expand(n, LENGTH)
    start = torch.cummax(torch.where(source == SPACE, place, -1), 1).values + 1
    flipped = torch.where(source.flip(1) == SPACE, place, -1)
    end = LENGTH - 2 - torch.cummax(flipped, 1).values.flip(1)
    mirror = torch.where(source == SPACE, place, start + end - place)
    return source, codebook[source.gather(1, mirror)]


class Translator(nn.Module):
    """A small transformer over the source and the noisy target, with a time for each token of the latter."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = ScaledEmbedding(LETTERS + 1, SIZE)
        self.source, self.target = nn.Embedding(LETTERS + 1, WIDTH), nn.Linear(2 * SIZE, WIDTH)
        self.places = nn.Parameter(0.02 * torch.randn(2 * LENGTH, WIDTH))
        self.time = nn.Sequential(nn.Linear(16, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.register_buffer("frequency", torch.linspace(0.5, 8.0, 8))
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.out = nn.Linear(WIDTH, SIZE)
        self.predictor = TimePredictor(SIZE, width=WIDTH, heads=4, max_length=LENGTH, source_size=WIDTH)

    def forward(self, inputs: Tensor, t: Tensor, condition: dict[str, Tensor]) -> Tensor:
        waves = 3.14 * self.frequency * t.expand(inputs.shape[:2]).unsqueeze(-1)
        target = self.target(inputs) + self.time(torch.cat([waves.cos(), waves.sin()], -1).to(inputs.dtype))
        h = torch.cat([self.source(condition["tokens"]), target], 1) + self.places
        return self.out(self.layers(h)[:, LENGTH:])


def train(law: str, steps: int) -> None:
    """Fit one model and keep its weights."""
    source, target = pairs()
    torch.manual_seed(0)
    model = Translator()
    process = TokenEmbeddingGaussian(VariancePreserving(SquareRootVP()), model.embedding, noise_scale=2.0)
    objective = ElementTimeDenoising(
        process, LAWS[law], model.embedding.logits, model.predictor, lambda x: (model.source(x["tokens"]),)
    )
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
    start = time.process_time()
    for step in range(steps):
        rows = torch.randint(0, TRAIN.stop, (128,), generator=generator(1, step))
        losses = objective(model, target[rows], generator(2, step), {"tokens": source[rows]})
        optimizer.zero_grad()
        sum(part.mean() for part in losses.values()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 500 == 499:
            print(step + 1, {name: round(float(part.mean().detach()), 4) for name, part in losses.items()}, flush=True)
    CACHE.mkdir(exist_ok=True)

    record = {"steps": str(steps), "seconds": f"{time.process_time() - start:.0f}"}
    save_file(model.state_dict(), CACHE / f"neodiff-{law}.safetensors", metadata=record)


def load(law: str) -> Translator:
    model = Translator()
    model.load_state_dict(load_file(CACHE / f"neodiff-{law}.safetensors"))
    return model.eval()


@torch.no_grad()
def accuracy(
    model: Translator, policy, rows: slice, times: Tensor, seed: int, fresh: bool = True
) -> tuple[float, float]:
    """Shares of whole sentences and of tokens that come out right."""
    source, target = (part[rows] for part in pairs())
    process = VariancePreserving(SquareRootVP())
    noise = process.prior(len(source), (LENGTH, SIZE), generator=generator(seed))
    z = samplers.sample(
        doubled(model),
        process,
        initial=torch.cat([noise, torch.zeros_like(noise)], -1),
        solver=ElementTime(policy, fresh=fresh, self_condition=True),
        times=times,
        condition={"tokens": source},
        generator=generator(seed, 1),
    )
    found = model.embedding.logits(z[..., :SIZE]).argmax(-1)  # type: ignore[index]
    right = found == target
    return float(right.all(1).double().mean()), float(right.double().mean())


def own_policy(model: Translator, rows: slice):
    return element_policy(model.predictor, model.source(pairs()[0][rows]))


def compare(trials: int) -> str:
    """The table of policies, and what a search of the times adds."""
    models = {law: load(law) for law in LAWS}
    uniform = schedules.uniform(10)
    lines = []
    for label, law, policy, fresh in (
        ("own times, fresh noise", "own", own_policy, True),
        ("own times, noise kept", "own", own_policy, False),
        ("the same model, one time", "own", None, True),
        ("one time, fresh noise", "one", None, True),
        ("one time, noise kept", "one", None, False),
    ):
        chosen = together if policy is None else policy(models[law], TEST)
        runs = [accuracy(models[law], chosen, TEST, uniform, seed, fresh) for seed in (3, 4, 5)]
        sentences, tokens = (sum(part) / len(runs) for part in zip(*runs, strict=True))
        lines.append(f"| {label} | {sentences:.3f} | {tokens:.4f} |")
    policy = own_policy(models["own"], VALIDATION)

    def failures(times: Tensor) -> float:
        return -sum(accuracy(models["own"], policy, VALIDATION, times, seed)[1] for seed in (6, 7)) / 2

    found = search_times(failures, 10, num_random=trials // 2, num_guided=trials - trials // 2, seed=0)
    test = [
        accuracy(models["own"], own_policy(models["own"], TEST), TEST, times, 8) for times in (uniform, found.times)
    ]
    return (
        "# Tokens with times of their own\n\n{command}\n\n"
        f"Sentences of {LENGTH} letters, 10,000 training pairs; ten steps; {TEST.stop - TEST.start} test sentences, "
        "three seeds.\n\n| decoding | whole sentences | tokens |\n|---|---|---|\n" + "\n".join(lines) + "\n\n"
        f"Search of the ten steps' times by {trials} trials on {VALIDATION.stop - VALIDATION.start} validation "
        f"sentences: tokens {-float(found.values[0]):.4f} on the uniform grid, {-found.value:.4f} on the best. On test "
        f"sentences {test[0][1]:.4f} and {test[1][1]:.4f} of the tokens, {test[0][0]:.3f} and {test[1][0]:.3f} of the "
        "sentences. "
        f"The grid: {', '.join(f'{float(t):.2f}' for t in found.times)}.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("train", "compare"))
    parser.add_argument("--law", choices=tuple(LAWS), default="own")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--trials", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.part == "train":
        train(arguments.law, arguments.steps)
        return
    machine = f"on {os.cpu_count()} cores (one used), {platform.machine()}, torch {torch.__version__}"
    text = compare(arguments.trials).replace(
        "{command}", f"`python benchmarks/neodiff.py compare --trials {arguments.trials}` {machine}."
    )
    (RESULTS / "neodiff.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
