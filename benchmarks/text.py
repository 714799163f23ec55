"""A text model of tinyshakespeare: bits a character beside its autoregressive twin, and what it writes.

    python benchmarks/text.py [--minutes 30] [--threads 1] [--write]

Both networks have the same size and train for the same minutes on the same first 95 % of the text; the rest is to test.
The masked model's figure is an upper bound, the companion's is exact, both on windows of the same length, each from its
own beginning.
"""

from __future__ import annotations

import argparse
import math
import platform
from pathlib import Path

import torch

import clarkia as ck
from clarkia import measures
from clarkia.adapters.texts import TextSource
from clarkia.networks import num_parameters
from clarkia.random import generator

ROOT = Path(__file__).parents[1]
TEXT = ROOT.parent / "shared" / "data" / "text" / "tinyshakespeare.txt"
RESULTS = Path(__file__).parent / "results"
OPTIONS = {"width": 128, "depth": 3, "length": 64, "batch_size": 16, "subset_probability": 0.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="of each of the two trainings")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--model", type=Path, help="where the fitted model is saved")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    whole = TEXT.read_text()
    cut = int(0.95 * len(whole))
    model = ck.TextModel(max_minutes=a.minutes, companion=True, **OPTIONS)
    model.fit(whole[:cut], progress=True)
    if a.model:
        model.save(a.model, overwrite=True)
    lines = report(model, whole[cut:], f"python benchmarks/text.py --minutes {a.minutes:g} --threads {a.threads}")
    print("\n".join(lines))
    if a.write:
        (RESULTS / "text.md").write_text("\n".join(lines) + "\n")


def report(model: ck.TextModel, test: str, command: str) -> list[str]:
    """The lines of the result."""
    source = TextSource(test, model.codec_, places="tiles")
    rows = source.rows(torch.arange(len(source)))["tokens"]
    scale = rows.shape[1] * math.log(2)
    masked = measures.elbo(model.denoiser_, model.process_, rows, num_draws=16, generator=generator(2))
    with torch.no_grad():
        causal = -sum(float(model.companion_.log_prob(part).sum()) for part in rows.split(256)) / len(rows) / scale
    bound = -masked.mean / scale
    run, twin = model.training_run_, model.companion_run_
    threads = torch.get_num_threads()
    machine = f"{threads} thread{'s' * (threads > 1)}, {platform.machine()}, torch {torch.__version__}"
    pieces = {
        "from nothing, a character a step": model.sample(4, seed=1),
        'prompt "ROMEO:"': model.sample(2, prefix="ROMEO:\n", seed=2),
        'from "KING" to "death."': model.sample(2, prefix="KING ", suffix=" death.\n", seed=3),
        "16 steps": model.sample(2, num_steps=16, seed=4),
        "16 steps, the companion choosing among 8": model.sample(2, num_steps=16, correction=8, seed=4),
    }
    return [
        "# Text model: characters of tinyshakespeare",
        "",
        f"`{command}` on {machine}.",
        "",
        f"{num_parameters(model.denoiser_):,} and {num_parameters(model.companion_):,} parameters ({OPTIONS}); "
        f"{run.steps:,} steps of {model.batch_size} windows in {run.seconds:.0f} s, and {twin.steps:,} in "
        f"{twin.seconds:.0f} s for the companion.",
        "",
        "| model | bits a character of the test text |",
        "|---|---|",
        f"| masked diffusion, bound | {bound:.3f} ± {masked.mean_standard_error / scale:.3f} |",
        f"| autoregressive companion, exact | {causal:.3f} |",
        f"| difference | {bound - causal:.3f} |",
        "",
        "What it writes, windows of 64 characters as they come:",
        *(f"\n{title}:\n\n```text\n" + "\n---\n".join(texts) + "\n```" for title, texts in pieces.items()),
    ]


if __name__ == "__main__":
    main()
