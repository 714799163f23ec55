"""Inverse problems on small pictures with a fitted image model: how near, how faithful, how well calibrated?

    python benchmarks/inverse.py digits --model /somewhere/digits.clarkia --minutes 2
    python benchmarks/inverse.py mnist --model /somewhere/mnist.clarkia --minutes 30 --write

The model is read from the file where it exists, and else fitted for so many minutes and saved there. Held-out pictures
are measured with a deviation of 0.05 (points from -1 to 1): a hole in the middle, means over blocks, a blur, one bit a
point. Every method draws several pictures for each measurement. PSNR is of single draws and of their mean; a method
that answers with the mean wins the one and says nothing of what is not known, which is what the last column is about:
how often the truth, a level of grey, lies between the least and the largest of 19 draws rounded to such levels, over
the points that vary among pictures (in a hole, those of the hole). Equal levels are ordered at random, so that it is
90 % of the time if the draws are from the posterior, however many points are black. Particles are exact in the limit:
every draw is one of a group of its own, so that draws do not descend from each other.
"""

from __future__ import annotations

import argparse
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import clarkia as ck
from clarkia import operators, samplers, steering
from clarkia.guidance import linear, potential
from clarkia.models import image_parts
from clarkia.operators import Blur, Downsample, LinearOperator, Mask, Quantise
from clarkia.random import generator, rand, randn
from clarkia.samplers import DDIM, DDPM, DDRM, DPS, FlowChef, RePaint
from images import data_of

RESULTS = Path(__file__).parent / "results"
NOISE = 0.05
PARTICLES = 4
DRAWS = 19
"""Between the least and the largest of so many draws lies another one with probability 18 / 20."""

OPTIONS: dict[str, dict[str, Any]] = {
    "digits": {"width": 24, "depth": 1, "batch_size": 128, "learning_rate": 3e-3},
    "mnist": {"width": 32, "depth": 1, "learning_rate": 3e-3},
}


@dataclass(frozen=True)
class Problem:
    """Measurements of some pictures, and what there is to solve them with.

    Attributes:
        name: of the measurement.
        model: the image model.
        operator: what was measured.
        truth: the pictures, float32 ``(n, c, h, w)`` from -1 to 1.
        y: their measurements, ``(n, ...)``.
        judged: bool ``(c, h, w)``, the points over which coverage is counted.
        steps: of a run.
    """

    name: str
    model: ck.ImageModel
    operator: LinearOperator | Quantise
    truth: Tensor
    y: Tensor
    judged: Tensor
    steps: int

    @property
    def all_y(self) -> Tensor:
        """The measurement of every row: the draws of a picture stand together."""
        return self.y.repeat_interleave(DRAWS, 0)

    def draw(self, denoiser: Any, solver: Any, seed: int, **options: Any) -> Tensor:
        """Pictures ``(n DRAWS, c, h, w)`` of a guided denoiser or a solver."""
        process = self.model.process_
        return samplers.sample(
            denoiser, process, num_samples=len(self.all_y), shape=tuple(self.truth.shape[1:]), solver=solver,
            times=image_parts.times(process, self.steps), generator=generator(seed), dtype=torch.float32, **options,
        )  # type: ignore[return-value] # fmt: skip

    def steer(self, twist: Any, lead: Any, seed: int) -> Tensor:
        """Pictures ``(n DRAWS, c, h, w)``, each drawn from a group of particles."""
        process = self.model.process_
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", steering.CollapseWarning)  # of groups as small as these
            found = steering.run(
                self.model.denoiser_, process, twist, proposal=lead, num_particles=PARTICLES, groups=len(self.all_y),
                shape=tuple(self.truth.shape[1:]), times=image_parts.times(process, self.steps),
                generator=generator(seed), dtype=torch.float32,
            )  # fmt: skip
        return found.draw(generator=generator(seed, 1))  # type: ignore[return-value]


Method = Callable[[Problem, int], Tensor]
"""From a problem and a seed to draws ``(n DRAWS, c, h, w)``, those of a picture side by side."""


def guided(method: str, solver: Any = None, **options: Any) -> Method:
    def draw(problem: Problem, seed: int) -> Tensor:
        model = problem.model
        walked = {"times": image_parts.times(model.process_, problem.steps)} if method == "ddnm" else {}
        denoiser = linear(
            model.denoiser_, model.process_, problem.operator, problem.all_y, NOISE,  # type: ignore[arg-type]
            **{"method": method, "data_std": model.data_std_, **walked, **options},
        )  # fmt: skip
        return problem.draw(denoiser, solver or DDPM(), seed)

    return draw


def solved(make: Callable[[Any, Tensor], Any]) -> Method:
    return lambda problem, seed: problem.draw(problem.model.denoiser_, make(problem.operator, problem.all_y), seed)


def filtered(method: str) -> Method:
    """One draw a group of particles that a guided denoiser leads, twisted by what is foreseen of the measurement."""

    def draw(problem: Problem, seed: int) -> Tensor:
        model, operator, spread = problem.model, problem.operator, problem.model.data_std_
        y = problem.all_y.repeat_interleave(PARTICLES, 0)
        lead = linear(model.denoiser_, model.process_, operator, y, NOISE, method=method, data_std=spread)  # type: ignore[arg-type]
        twist = steering.measured(operator, y, NOISE, width="posterior", data_std=spread)  # type: ignore[arg-type]
        return problem.steer(twist, lead, seed)

    return draw


def filtered_bits(problem: Problem, seed: int) -> Tensor:
    """The same for one bit a point: what is foreseen is as uncertain as the prediction."""
    model, y = problem.model, problem.all_y.repeat_interleave(PARTICLES, 0)
    operator: Quantise = problem.operator  # type: ignore[assignment]

    def log_psi(moment: steering.Moment) -> Tensor:
        alpha, sigma = model.process_.alpha(moment.t), model.process_.sigma(moment.t)
        unsure = sigma**2 * model.data_std_**2 / (alpha**2 * model.data_std_**2 + sigma**2)
        return operator.log_likelihood(moment.prediction, y, float((NOISE**2 + unsure[0]).sqrt()))

    twist = steering.Twist(log_psi, lambda x0: operator.log_likelihood(x0, y, NOISE))
    lead = potential(model.denoiser_, model.process_, lambda x0: operator.log_likelihood(x0, y, 0.3))
    return problem.steer(twist, lead, seed)


def half_square(operator: LinearOperator, y: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x0: 0.5 * (operator.apply(x0) - y).flatten(1).square().sum(1)


def pseudo_inverse(problem: Problem, seed: int) -> Tensor:
    return problem.operator.pinv(problem.all_y)  # type: ignore[union-attr]


def hole(problem: Problem) -> tuple[Tensor, Tensor]:
    """Values and places of what is known of every row, with the noise of the measurement left in."""
    operator: Mask = problem.operator  # type: ignore[assignment]
    values = operator.adjoint(problem.all_y)
    return values, operator.measured.expand(values.shape)


def known_cells(problem: Problem, seed: int) -> Tensor:
    """Not a heuristic: the model was trained with known points at time 0."""
    return problem.draw(problem.model.denoiser_, None, seed, known=hole(problem))


def repaint(problem: Problem, seed: int) -> Tensor:
    few = Problem(**{**vars(problem), "steps": max(1, problem.steps // 10)})
    return few.draw(problem.model.denoiser_, RePaint(*hole(problem), DDPM(), jump=10, resamples=4), seed)


def quantised(noise_std: float) -> Method:
    def draw(problem: Problem, seed: int) -> Tensor:
        operator, y = problem.operator, problem.all_y
        led = potential(
            problem.model.denoiser_,
            problem.model.process_,
            lambda x0: operator.log_likelihood(x0, y, noise_std),  # type: ignore[union-attr]
        )
        return problem.draw(led, DDPM(), seed)

    return draw


LINEAR: dict[str, Method] = {
    "pseudo-inverse": pseudo_inverse,
    "DDNM": guided("ddnm"),
    "DDRM": solved(lambda operator, y: DDRM(operator, y, NOISE)),
    "DiffPIR": guided("diffpir", DDIM(eta=0.3)),
    "PiGDM": guided("pigdm"),
    "moment matching": guided("moment_matching"),
    "DPS, zeta 1": solved(lambda operator, y: DPS(operator, y, 1.0)),
    "DPS, zeta 0.3": solved(lambda operator, y: DPS(operator, y, 0.3)),
    "FlowChef": solved(lambda operator, y: FlowChef(half_square(operator, y), 0.3)),
}
LINEAR |= {
    f"particles ({PARTICLES} a draw) led by PiGDM": filtered("pigdm"),
    f"particles ({PARTICLES} a draw) led by moment matching": filtered("moment_matching"),
}
"""Methods for every linear measurement; another one is one more line."""

HOLES: dict[str, Method] = LINEAR | {"RePaint": repaint, "known points at time 0": known_cells}

BITS: dict[str, Method] = {
    "middles of the intervals": lambda problem, seed: problem.operator.centres(problem.all_y).float(),  # type: ignore[union-attr]
    "potential, the noise as it is": quantised(NOISE),
    "potential, noise 0.3": quantised(0.3),
    f"particles ({PARTICLES} a draw) led by the potential": filtered_bits,
}


def problems(name: str, model: ck.ImageModel, count: int, steps: int) -> list[tuple[Problem, dict[str, Method]]]:
    """The measurements of the first held-out pictures, and the methods for each."""
    seen, _, held, _ = data_of(name)
    every = levels(model, seen)
    truth = levels(model, held[:count])
    shape = tuple(truth.shape[1:])
    side, small = shape[1], shape[1] < 16
    outside = torch.ones(shape, dtype=torch.bool)
    outside[:, side // 4 : side - side // 4, side // 4 : side - side // 4] = False
    varying = every.std(0) > 0.1
    blur = operators.gaussian_kernel(5 if small else 9, 1.0 if small else 2.0)
    factor = 2 if small else 4
    measured: list[tuple[str, LinearOperator | Quantise, Tensor, dict[str, Method]]] = [
        ("a hole in the middle", Mask(outside), varying & ~outside, HOLES),
        (f"means over {factor} x {factor} points", Downsample(shape, factor), varying, LINEAR),
        ("a blur", Blur(shape, blur), varying, LINEAR),
        ("one bit a point", Quantise(shape, 1), varying, BITS),
    ]
    found = []
    for index, (title, operator, judged, methods) in enumerate(measured):
        noisy = operator.apply(truth)
        if isinstance(operator, Quantise):
            noisy = operator.apply(truth + NOISE * randn(truth.shape, generator(index)))
        else:
            noisy = noisy + NOISE * randn(noisy.shape, generator(index))
        found.append((Problem(title, model, operator, truth, noisy, judged, steps), methods))
    return found


def levels(model: ck.ImageModel, pictures: Any) -> Tensor:
    return model.codec_.encode(pictures).float() / 127.5 - 1


def figures(problem: Problem, draws: Tensor) -> str:
    """Cells of the table: PSNR of a draw and of the mean, the residual over the noise, coverage."""
    draws = draws.unflatten(0, (-1, DRAWS)).double()
    truth = problem.truth.double()

    def psnr(found: Tensor, exact: Tensor) -> float:
        error = (found.clamp(-1, 1) - exact).square().flatten(1).mean(1)
        return float((10 * (4 / error).log10()).mean())

    single = psnr(draws[:, 0], truth)
    mean = psnr(draws.mean(1), truth)
    operator = problem.operator
    if isinstance(operator, LinearOperator):
        gap = operator.apply(draws.flatten(0, 1)) - problem.all_y.double()
        residual = f"{float(gap.square().mean().sqrt()) / NOISE:.2f}"
    else:
        residual = f"{100 * float((operator.apply(draws.flatten(0, 1)) != problem.all_y).double().mean()):.1f} %"
    if float(draws.std(1).max()) == 0:
        return f"{single:.2f} | {mean:.2f} | {residual} | "
    return f"{single:.2f} | {mean:.2f} | {residual} | {100 * coverage(problem, draws):.1f} %"


def coverage(problem: Problem, draws: Tensor) -> float:
    """Share of the points whose rank among the draws, equal ones in random order, is neither the first nor the last."""
    grey, truth = (x.clamp(-1, 1).add(1).mul(127.5).round() for x in (draws, problem.truth.double()[:, None]))
    below, equal = (grey < truth).sum(1), (grey == truth).sum(1)
    rank = below + (rand(equal.shape, generator(5)) * (equal + 1)).floor()
    return float(((rank > 0) & (rank < DRAWS))[:, problem.judged].double().mean())


def fitted(name: str, path: Path, minutes: float) -> ck.ImageModel:
    if path.exists():
        return ck.ImageModel.load(path)
    images, labels, _, _ = data_of(name)
    model = ck.ImageModel(max_minutes=minutes, **OPTIONS[name]).fit(images, labels, progress=True)
    model.save(path)
    return model


def main(a: argparse.Namespace) -> None:
    model = fitted(a.data, a.model, a.minutes)
    for weights in model.denoiser_.parameters():
        weights.requires_grad_(False)  # gradients are wanted in the pictures alone
    threads = torch.get_num_threads()
    lines = [
        f"# Inverse problems: {a.data}",
        "",
        f"`python benchmarks/inverse.py {a.data} --minutes {a.minutes:g} --pictures {a.pictures} --steps {a.steps}` on "
        f"{threads} thread{'s' * (threads > 1)}, {platform.machine()}, torch {torch.__version__}.",
        "",
        f"A model fitted for {model.training_run_.seconds / 60:.1f} minutes, {a.pictures} held-out pictures, {DRAWS} "
        f"draws of each, {a.steps} steps. The residual of the measurement is in units of its noise (1 is right), of "
        "one bit the share of points on the wrong side; coverage of a right posterior is 90 %.",
    ]
    for problem, methods in problems(a.data, model, a.pictures, a.steps):
        if a.tasks and not any(word in problem.name for word in a.tasks):
            continue
        lines += [
            "", f"## {problem.name}", "",
            "| method | PSNR of a draw | PSNR of the mean | residual | coverage | seconds a draw |",
            "|---|---|---|---|---|---|",
        ]  # fmt: skip
        print("\n".join(lines[-4:]))
        for name, method in methods.items():
            if a.methods and name not in a.methods:
                continue
            start = time.perf_counter()
            draws = method(problem, a.seed)
            seconds = (time.perf_counter() - start) / len(draws)
            lines.append(f"| {name} | {figures(problem, draws)} | {seconds:.3f} |")
            print(lines[-1], flush=True)
    if a.write:
        (RESULTS / f"inverse-{a.data}.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=["digits", "mnist"])
    parser.add_argument("--model", type=Path, required=True, help="file of the model, made where it does not exist")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tasks", nargs="*", default=[], help="words of the measurements to do; all by default")
    parser.add_argument("--methods", nargs="*", default=[], help="names of the methods to run; all by default")
    parser.add_argument("--write", action="store_true")
    main(parser.parse_args())
