"""Translation by tokens with times of their own against tokens that all keep one time.

    python benchmarks/neodiff.py train --law own [--dialects 2] [--steps 2000]
    python benchmarks/neodiff.py train --law mild [--dialects 2] [--steps 2000]
    python benchmarks/neodiff.py train --law one [--dialects 2] [--steps 2000]
    python benchmarks/neodiff.py compare [--dialects 2] [--trials 40]

The language is synthetic: every letter is substituted and every word of one to four letters reversed, 10,000 pairs.
With two dialects a sentence is translated by one of two tables of letters, nobody says by which, and a translation is
right where all of it is in one of them: then the tokens have to agree with each other, which one dialect does not ask.
Three models of one size are trained, under the published law of times (own), a narrower one (mild) and one time a row
(one), four minutes each on one core, and kept in the folder of temporary files; the last command decodes test sentences
in ten steps by several policies, searches a grid of times on validation sentences, and writes
benchmarks/results/neodiff.md (neodiff-plain.md for one dialect). What is asked: own times above one time in whole
sentences at equal steps, and a searched grid no worse than the uniform one on validation sentences.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from functools import cache
from pathlib import Path

import torch
from safetensors import safe_open
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
LAWS = {
    "own": PoissonElementTime(),
    "mild": PoissonElementTime(rate=1.0, spread=0.5),
    "one": PoissonElementTime(rate=1.0, spread=0.0),
}
TRAIN, VALIDATION, TEST = slice(0, 10_000), slice(10_000, 10_300), slice(10_300, 11_300)


@cache
def pairs(dialects: int, n: int = 11_300) -> tuple[Tensor, Tensor]:
    """Sentences ``(n, L)`` of words of one to four letters, and their translations ``(n, dialects, L)``."""
    noise = generator(0)
    source = torch.randint(0, LETTERS, (n, LENGTH), generator=noise)
    lengths = torch.randint(1, 5, (n, LENGTH), generator=noise)
    gaps = (lengths + 1).cumsum(1) - 1
    for row, gap in zip(source, gaps, strict=True):
        row[gap[gap < LENGTH]] = SPACE
    place = torch.arange(LENGTH).expand(n, LENGTH)
    start = torch.cummax(torch.where(source == SPACE, place, -1), 1).values + 1
    flipped = torch.where(source.flip(1) == SPACE, place, -1)
    end = LENGTH - 2 - torch.cummax(flipped, 1).values.flip(1)
    mirror = source.gather(1, torch.where(source == SPACE, place, start + end - place))
    tables = [torch.randperm(LETTERS, generator=noise) for _ in range(dialects)]
    return source, torch.stack([torch.cat([table, torch.tensor([SPACE])])[mirror] for table in tables], 1)


class Translator(nn.Module):
    """A small transformer over the noisy target with the source beside it, token by token, and a time for each."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = ScaledEmbedding(LETTERS + 1, SIZE)
        self.source, self.target = nn.Embedding(LETTERS + 1, WIDTH), nn.Linear(2 * SIZE, WIDTH)
        self.places = nn.Parameter(torch.randn(LENGTH, WIDTH))
        self.time = nn.Sequential(nn.Linear(16, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.register_buffer("frequency", torch.linspace(0.5, 8.0, 8))
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.out = nn.Linear(WIDTH, SIZE)
        self.predictor = TimePredictor(SIZE, width=WIDTH, heads=4, max_length=LENGTH, source_size=WIDTH)

    def forward(self, inputs: Tensor, t: Tensor, condition: dict[str, Tensor]) -> Tensor:
        waves = 3.14 * self.frequency * t.expand(inputs.shape[:2]).unsqueeze(-1)
        target = self.target(inputs) + self.time(torch.cat([waves.cos(), waves.sin()], -1).to(inputs.dtype))
        return self.out(self.layers(self.source(condition["tokens"]) + target + self.places))


def train(law: str, dialects: int, steps: int) -> None:
    """Fit one model and keep its weights."""
    source, target = pairs(dialects)
    spoken = torch.randint(0, dialects, (len(source),), generator=generator(9))
    target = target[torch.arange(len(source)), spoken]
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
    save_file(model.state_dict(), CACHE / f"neodiff-{law}-{dialects}.safetensors", metadata=record)


def load(law: str, dialects: int) -> tuple[Translator, dict[str, str]]:
    """A model, and the steps and seconds it was trained."""
    model, path = Translator(), CACHE / f"neodiff-{law}-{dialects}.safetensors"
    model.load_state_dict(load_file(path))
    with safe_open(path, "pt") as file:
        return model.eval(), file.metadata()


@torch.no_grad()
def accuracy(
    model: Translator, policy, rows: slice, dialects: int, times: Tensor, seed: int, fresh: bool = True
) -> tuple[float, float]:
    """Shares of whole sentences and of tokens that come out right, each sentence in the dialect it comes nearest to."""
    source, target = (part[rows] for part in pairs(dialects))
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
    right = (found.unsqueeze(1) == target).double().mean(2).amax(1)
    return float((right == 1).double().mean()), float(right.mean())


def own_policy(model: Translator, rows: slice):
    return element_policy(model.predictor, model.source(pairs(1)[0][rows]))


def policies(models: dict[str, Translator], dialects: int) -> str:
    """The table of policies on test sentences."""
    lines = []
    for label, law, own, fresh, steps in (
        ("own times, fresh noise", "own", True, True, 10),
        ("own times, noise kept", "own", True, False, 10),
        ("the same model, one time, fresh noise", "own", False, True, 10),
        ("narrower own times, fresh noise", "mild", True, True, 10),
        ("narrower own times, noise kept", "mild", True, False, 10),
        ("the same model, one time, fresh noise", "mild", False, True, 10),
        ("one time, fresh noise", "one", False, True, 10),
        ("one time, noise kept", "one", False, False, 10),
        ("own times, one step", "own", True, True, 1),
        ("narrower own times, one step", "mild", True, True, 1),
        ("one time, one step", "one", False, True, 1),
    ):
        model = models[law]
        chosen, times = own_policy(model, TEST) if own else together, schedules.uniform(steps)
        runs = [accuracy(model, chosen, TEST, dialects, times, seed, fresh) for seed in (3, 4, 5)]
        sentences, tokens = (torch.tensor(part, dtype=torch.float64) for part in zip(*runs, strict=True))
        error = float(sentences.std()) / len(runs) ** 0.5
        lines.append(f"| {label} | {float(sentences.mean()):.3f} ± {error:.3f} | {float(tokens.mean()):.4f} |")
    return "| decoding | whole sentences | tokens |\n|---|---|---|\n" + "\n".join(lines) + "\n\n"


def search(model: Translator, dialects: int, trials: int) -> str:
    """What a search of the times by whole validation sentences adds on test sentences."""
    policy, uniform = own_policy(model, VALIDATION), schedules.uniform(10)

    def failures(times: Tensor) -> float:
        return -sum(accuracy(model, policy, VALIDATION, dialects, times, seed)[0] for seed in (6, 7)) / 2

    found = search_times(failures, 10, num_random=trials // 2, num_guided=trials - trials // 2, seed=0)
    policy = own_policy(model, TEST)
    test = [
        sum(accuracy(model, policy, TEST, dialects, times, seed)[0] for seed in (8, 9, 10)) / 3
        for times in (uniform, found.times)
    ]
    return (
        f"Search of the ten steps' times by {trials} trials on {VALIDATION.stop - VALIDATION.start} validation "
        f"sentences, whole sentences: {-float(found.values[0]):.3f} on the uniform grid, {-found.value:.3f} on the "
        f"best; on test sentences {test[0]:.3f} and {test[1]:.3f}. "
        f"The grid: {', '.join(f'{float(t):.2f}' for t in found.times)}.\n"
    )


def compare(dialects: int, trials: int) -> str:
    """The table of policies, and what a search of the times adds."""
    models, trained = {}, []
    for law in LAWS:
        models[law], record = load(law, dialects)
        trained.append(f"{record['steps']} steps in {record['seconds']} s ({law})")
    asked = (
        "Asked: own times above one time in whole sentences at equal steps, and a searched grid no worse than the "
        "uniform one on validation sentences.\n\n"
    )
    return (
        "# Tokens with times of their own\n\n{command}\n\n"
        f"Sentences of {LENGTH} letters, {dialects} {'dialects' if dialects > 1 else 'dialect'}, 10,000 training "
        f"pairs; trained {', '.join(trained)}; {TEST.stop - TEST.start} test sentences, three seeds.\n\n"
        + asked
        + policies(models, dialects)
        + search(models["own"], dialects, trials)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("train", "compare"))
    parser.add_argument("--law", choices=tuple(LAWS), default="own")
    parser.add_argument("--dialects", type=int, choices=(1, 2), default=2)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--trials", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.part == "train":
        train(arguments.law, arguments.dialects, arguments.steps)
        return
    machine = f"on {os.cpu_count()} cores (one used), {platform.machine()}, torch {torch.__version__}"
    command = f"--dialects {arguments.dialects} --trials {arguments.trials}"
    text = compare(arguments.dialects, arguments.trials).replace(
        "{command}", f"`python benchmarks/neodiff.py compare {command}` {machine}."
    )
    (RESULTS / ("neodiff.md" if arguments.dialects == 2 else "neodiff-plain.md")).write_text(text)
    print(text)


if __name__ == "__main__":
    main()
