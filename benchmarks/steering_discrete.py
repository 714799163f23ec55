"""Guided categories and mixed rows: what particles remove on known laws, and what guidance buys on networks.

    python benchmarks/steering_discrete.py joint        a minute
    python benchmarks/steering_discrete.py molecules    three minutes
    python benchmarks/steering_discrete.py slots [--level full] [--minutes 6]

Each writes its section of benchmarks/results/steering-discrete.md. `steering_digits.py` writes two more.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clarkia import guidance, samplers, steering
from clarkia.datasets import ColouredShapes
from clarkia.denoisers import Preconditioned
from clarkia.guidance import TFGFlow
from clarkia.networks import FieldTransformer
from clarkia.objectives import MixedDenoising
from clarkia.oracles import FiniteJoint, MixedJoint
from clarkia.processes import Masked, Mixed, RectifiedFlow, VarianceExploding
from clarkia.random import generator
from clarkia.samplers import AnyOrder, Euler, Moved, policies
from clarkia.spaces import Categorical, Continuous
from clarkia.spaces import Mixed as MixedSpace
from clarkia.training import TrainingOptions, fit

PAGE = Path(__file__).parent / "results" / "steering-discrete.md"
TITLE = "# Steering of categories, of mixed rows and of digits\n"


def write(section: str, command: str, body: str) -> None:
    """Put one section into the page in place of what was there."""
    page = PAGE.read_text() if PAGE.exists() else TITLE
    machine = f"{torch.get_num_threads()} thread of {os.cpu_count()} cores (shared), {platform.machine()}"
    text = f"\n## {section}\n\n`{command}`, {machine}, torch {torch.__version__}.\n\n{body.strip()}\n"
    old = re.compile(rf"\n## {re.escape(section)}\n.*?(?=\n## |\Z)", re.DOTALL)
    page = old.sub(lambda _: text, page) if old.search(page) else page + text
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page)
    print(text, flush=True)


def variation(found: Tensor, target: Tensor) -> float:
    return float((found - target.flatten()).abs().sum() / 2)


# ------------------------------------------------------------------------------------------------- a known joint

CLOCK = Masked((3, 3, 3))


def seeded(seed: int, concentration: float) -> tuple[FiniteJoint, Tensor]:
    """A random joint of three ternary tokens and twice a normal reward."""
    rng = np.random.default_rng(seed)
    law = FiniteJoint(rng.dirichlet(np.full(27, concentration)).reshape(3, 3, 3))
    return law, torch.from_numpy(2 * rng.normal(size=(3, 3, 3)))


def one_by_one(denoise: Callable[..., Tensor]) -> Tensor:
    """The exact law of drawing one token after the other in every order, by recursion over partial states."""
    states = torch.cartesian_prod(*(torch.arange(4),) * 3)
    log_probs = denoise(states, torch.full((64,), 0.5, dtype=torch.float64)).double()
    masked, place = states == 3, torch.tensor([16, 4, 1])
    step = torch.diag((~masked.any(1)).double())
    for i in range(3):
        rows = masked[:, i].nonzero().squeeze(1)
        for j in range(3):
            step[rows, rows + (j - 3) * place[i]] += log_probs[rows, i, j].exp() / masked[rows].sum(1)
    law = torch.eye(64, dtype=torch.float64)[-1] @ torch.linalg.matrix_power(step, 3)
    return law[~masked.any(1)]


def joint(args: argparse.Namespace) -> str:
    lines = ["| law | guided, mean (most) | not guided, mean |", "|---|---|---|"]
    for name, concentration in (("Dirichlet(1)", 1.0), ("Dirichlet(.3)", 0.3)):
        gaps = []
        for seed in range(200):
            law, reward = seeded(seed, concentration)
            target = law.tilt(reward).probabilities
            guided = guidance.categorical(law.denoiser(CLOCK), CLOCK, worth(law, reward), "enumerate")
            gaps.append((variation(one_by_one(guided), target), variation(law.probabilities.flatten(), target)))
        guided, plain = np.array(gaps).T
        lines.append(f"| {name}, 200 joints | {guided.mean():.3f} ({guided.max():.3f}) | {plain.mean():.3f} |")
    law, reward = seeded(7, 0.5)
    target = law.tilt(reward)
    guided = guidance.categorical(law.denoiser(CLOCK), CLOCK, worth(law, reward), "enumerate")
    exact, nothing = variation(one_by_one(guided), target.probabilities), law.probabilities.flatten()
    lines += [
        "",
        f"The joint of generator seed 7, Dirichlet(.5): not guided {variation(nothing, target.probabilities):.3f}, "
        f"guided {exact:.4f} by recursion over all orders; log Z {float(target.log_z):.4f}. Reference: .616, .138, "
        "1.4663; with particles .007 and 1.4645.",
        "",
        "| proposal | potential | N | TV | log Z | effective size at the end | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for proposal in ("none", "enumerated", "64 draws", "16 draws"):
        for kind in ("last", "difference"):
            for n in (1000, 20_000):
                lines.append(particle_line(law, reward, target, proposal, kind, n))
    return "\n".join(lines)


def worth(law: FiniteJoint, reward: Tensor) -> Callable[[Tensor], Tensor]:
    table = reward.flatten()
    return lambda x: table[law.cell(x)]


def particle_line(law: FiniteJoint, reward: Tensor, target: FiniteJoint, proposal: str, kind: Any, n: int) -> str:
    """A row of the table: one run of the filter."""
    factor, denoiser = worth(law, reward), law.denoiser(CLOCK)
    options: dict[str, Any] = {"method": "enumerate"}
    if proposal.endswith("draws"):
        options = {"num_draws": int(proposal.split()[0]), "generator": generator(11)}
    guided = None if proposal == "none" else guidance.categorical(denoiser, CLOCK, factor, **options)
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", steering.CollapseWarning)
        particles = steering.run(
            denoiser, CLOCK, steering.Rewarded(factor, kind=kind), proposal=guided, num_particles=n,
            solver=AnyOrder(policies.Position()), generator=generator(7),
        )  # fmt: skip
    seconds = time.process_time() - start
    found = torch.zeros(27, dtype=torch.float64).index_add(0, law.cell(particles.x), particles.log_weights[0].exp())
    distance, log_z = variation(found, target.probabilities), float(particles.log_z[0])
    size = float(particles.ess[-1, 0]) / n
    return f"| {proposal} | {kind} | {n} | {distance:.4f} | {log_z:.4f} | {size:.2f} N | {seconds:.1f} |"


# --------------------------------------------------------------------------------------------- small molecules

MOLECULES = MixedJoint(
    [[0.35, 0.15], [0.1, 0.4]],
    torch.tensor([[[-1.0, 1.0], [-0.5, 1.5]], [[-1.5, 0.5], [-0.8, 0.8]]]),
    0.15 * torch.ones(2, 2, 2),
    numeric="places",
    categorical="types",
)
FLOW = Mixed(places=RectifiedFlow(), types=Masked((2, 2)))
SLOPE = torch.tensor([-1.0, 1.0], dtype=torch.float64)
WANTED = torch.tensor([[2.6, 1.5], [2.0, 2.4]], dtype=torch.float64)
TAU = 0.2


def length_loss(x: dict[str, Tensor]) -> Tensor:
    """How far a bond is from the length that its types ask for."""
    return 0.5 * (x["places"] @ SLOPE - WANTED[x["types"][:, 0], x["types"][:, 1]]).square()


def molecules(args: argparse.Namespace) -> str:
    target = MOLECULES.tilt(
        -WANTED.square() / (2 * TAU), WANTED.unsqueeze(-1) * SLOPE / TAU, torch.outer(SLOPE, SLOPE) / TAU
    )
    denoiser, n = MOLECULES.denoiser(FLOW), 20_000
    options: dict[str, Any] = {"shape": {"places": (2,)}, "dtype": torch.float64}
    exact = float(length_loss(target.sample(200_000, generator=generator(0))).mean())
    cells = target.categories.probabilities
    spread = guidance.loss_spread(denoiser, FLOW, length_loss, MOLECULES.sample(500, generator=generator(1)))

    def gap(x: dict[str, Tensor], weights: Tensor) -> tuple[float, float]:
        law = torch.zeros(4, dtype=torch.float64).index_add(0, MOLECULES.categories.cell(x["types"]), weights)
        return variation(law, cells), float((weights * length_loss(x)).sum())

    lines = [
        f"Two atoms of two types on a line, tilted by exp(-loss / {TAU}): log Z {float(target.log_z):.4f}, mean loss "
        f"of the tilt {exact:.4f}; `loss_spread` proposes the temperature {spread:.3f}. Walked as published (100 steps "
        f"of Euler, K = 512, {n // 4} rows); the tilt is not what it aims at, the loss is.",
        "",
        "| temperature | rho = mu | TV of the types from the tilt's | mean loss |",
        "|---|---|---|---|",
    ]
    for temperature, rho in ((None, 0.0), (TAU, 0.0), (TAU, 0.005), (TAU, 0.02), (TAU, 0.08), (spread, 0.02)):
        walk = samplers.Mixed(numeric=Euler())
        solver = walk if temperature is None else Moved(TFGFlow(FLOW, length_loss, temperature, rho=rho), walk)
        x = samplers.sample(
            denoiser, FLOW, num_samples=n // 4, num_steps=100, solver=solver, generator=generator(2), **options
        )
        distance, loss = gap(x, torch.full((n // 4,), 4 / n, dtype=torch.float64))
        name = "not guided" if temperature is None else f"{temperature:.3f}"
        lines.append(f"| {name} | {rho:g} | {distance:.3f} | {loss:.4f} |")
    lines += [
        "",
        f'As the proposal of {n} particles, K = 16, two descents, the potential "difference":',
        "",
        "| proposal | steps | TV of the types | log Z | mean loss | effective size at the end |",
        "|---|---|---|---|---|---|",
    ]
    for steps in (20, 100):
        for name, mu, schedule in (
            ("none", 0.0, "constant"), ("mu = 0.05, constant", 0.05, "constant"),
            ("mu = 0.5, by variance", 0.5, "variance"), ("gradient of the log-factor", 0.0, "mixed"),
        ):  # fmt: skip
            guided = None
            if schedule == "mixed":
                guided = guidance.mixed(
                    denoiser, FLOW, lambda x: -length_loss(x) / TAU, num_draws=16, generator=generator(3)
                )
            elif mu:
                guide = TFGFlow(
                    FLOW, length_loss, TAU, mu=mu, num_draws=16, num_iterations=2, smoothing=1.0, schedule=schedule
                )
                guided = guidance.tfg_mixed(denoiser, guide, generator=generator(3))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", steering.CollapseWarning)
                particles = steering.run(
                    denoiser, FLOW, steering.Rewarded(lambda x: -length_loss(x) / TAU), proposal=guided,
                    num_particles=n, num_steps=steps, generator=generator(4), **options,
                )  # fmt: skip
            distance, loss = gap(particles.x, particles.log_weights[0].exp())
            size = float(particles.ess[-1, 0]) / n
            cell = f"{distance:.4f} | {float(particles.log_z[0]):.4f} | {loss:.4f} | {size:.2f} N"
            lines.append(f"| {name} | {steps} | {cell} |")
    return "\n".join(lines)


# --------------------------------------------------------------------------------------- slots of coloured shapes

SIDE = 32
RADII = torch.tensor([2.5, 4.0, 0.0])
UNIT_AREAS = torch.tensor([3.1416, 3.1400, 3.1558, 2.7936, 0.0])  # circle, square, triangle, cross, nothing
WANTED_AREA = {"two": 100.0, "full": 160.0}


def area(x: dict[str, Tensor]) -> Tensor:
    """Points of the picture that things cover, if none lies on another."""
    return (UNIT_AREAS[x["shape"]] * RADII[x["size"]] ** 2).sum(1)


def valid(x: dict[str, Tensor]) -> Tensor:
    """Empty slots agree and come last, things lie within the picture and apart from each other (to half a point)."""
    empty = x["shape"] == 4
    agree = (empty == (x["size"] == 2)).all(1) & (empty[:, 1:] >= empty[:, :-1]).all(1)
    factors = torch.tensor([1.0, 1.253, 1.56, 1.21, 0.0])
    reach = factors[x["shape"]] * RADII[x["size"]]
    centre = (x["position"].view(*empty.shape, 2) + 1) * SIDE / 2
    inside = ((centre >= reach[..., None] - 0.5) & (centre <= SIDE - reach[..., None] + 0.5)).all(2) | empty
    gap = torch.cdist(centre, centre) - reach[:, :, None] - reach[:, None, :]
    both = ~empty[:, :, None] & ~empty[:, None, :] & ~torch.eye(empty.shape[1], dtype=torch.bool)
    return agree & inside.all(1) & ((gap > -0.5) | ~both).all(2).all(1)


def trained(args: argparse.Namespace) -> tuple[Any, Mixed, dict[str, Tensor], str]:
    """A denoiser of slots, its process, its data and what to say of it."""
    data = ColouredShapes(SIDE, args.level)
    m, rows = data.num_slots, data.slots(range(20_000))
    x0 = {"shape": rows["shape"], "size": rows["size"], "position": rows["position"].flatten(1)}
    process = Mixed(shape=Masked((5,) * m), size=Masked((3,) * m), position=VarianceExploding(0.002, 80.0))
    space = MixedSpace(
        shape=Categorical((m,), num_classes=5),
        size=Categorical((m,), num_classes=3),
        position=Continuous((2 * m,)),
    )
    torch.manual_seed(0)
    denoiser = Preconditioned(FieldTransformer(space, width=96, depth=3), process, data_std=0.5)
    columns = {"shape": torch.arange(m), "size": m + torch.arange(m), "position": 2 * m + torch.arange(2 * m)}
    options = TrainingOptions(
        batch_size=128, learning_rate=1.5e-3, max_minutes=args.minutes, validate_every=10**9, ema_decay=0.995
    )
    loss = MixedDenoising(process, columns, subset_probability=0.0)
    run = fit(denoiser, loss, x0, options=options, progress=False)
    size = sum(p.numel() for p in denoiser.parameters())
    words = (
        f"A field transformer of {size:,} weights on {m} slots of {len(x0['size'])} scenes, {run.steps} steps of 128 "
        f"in {run.seconds:.0f} s."
    )
    return denoiser, process, x0, words


def slots(args: argparse.Namespace) -> str:
    denoiser, process, x0, words = trained(args)
    wanted, n, k = WANTED_AREA[args.level], args.rows, 8

    def off(x: dict[str, Tensor]) -> Tensor:
        return (area(x) - wanted).abs()

    def line(name: str, draw: Callable[[], dict[str, Tensor]]) -> str:
        start = time.process_time()
        x = draw()
        seconds, count = time.process_time() - start, (x["shape"] < 4).sum(1).double().mean()
        share = 100 * float(valid(x).double().mean())
        return f"| {name} | {float(off(x).mean()):.1f} | {share:.0f} % | {float(count):.2f} | {seconds:.0f} |"

    def sampled(one: Any) -> Any:
        walk = samplers.Mixed(numeric=samplers.DPMSolverPP(order=2))
        return samplers.sample(one, process, num_samples=n, solver=walk, generator=generator(6), **grid)

    def filtered(temperature: float) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", steering.CollapseWarning)
            particles = steering.run(
                denoiser, process, steering.Rewarded(lambda x: -off(x) / temperature), num_particles=k,
                groups=n // 4, generator=generator(7), rows_per_call=1024, **grid,
            )  # fmt: skip
        return particles.draw(generator=generator(8))

    grid: dict[str, Any] = {"shape": {"position": tuple(x0["position"].shape[1:])}, "num_steps": 60}
    spread = guidance.loss_spread(denoiser, process, off, {name: x[:200] for name, x in x0.items()}, num_draws=64)
    lines = [
        f"{words} Wanted: a total area of {wanted:g} points (data: mean {float(area(x0).mean()):.0f}, deviation "
        f"{float(area(x0).std()):.0f}); {n} rows, with particles {n // 4}, 60 steps, K = 256. `loss_spread` proposes "
        f"{spread:.1f}. Asked: an error at least three times smaller at 90 % valid or as many as without guidance.",
        "",
        "| sampler | mean error of the area | valid | mean number of things | seconds |",
        "|---|---|---|---|---|",
        line("data", lambda: {name: x[:n] for name, x in x0.items()}),
        line("not guided", lambda: sampled(denoiser)),
    ]
    for temperature in (40.0, 20.0, 10.0, 5.0, 2.5):
        guide = TFGFlow(process, off, temperature, num_draws=256)
        guided = guidance.tfg_mixed(denoiser, guide, generator=generator(5))
        lines.append(line(f"temperature {temperature:g}", lambda one=guided: sampled(one)))
    with_particles = (
        line(f"{k} particles, temperature {value:g}", lambda v=value: filtered(v)) for value in (20.0, 10.0, 5.0)
    )
    return "\n".join([*lines, *with_particles])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=("joint", "molecules", "slots"))
    parser.add_argument("--level", choices=tuple(WANTED_AREA), default="two", help="of the scenes with slots")
    parser.add_argument("--minutes", type=float, default=4.0, help="training of the slots' denoiser")
    parser.add_argument("--rows", type=int, default=400, help="scenes drawn by each sampler")
    args = parser.parse_args()
    torch.set_num_threads(1)
    titles = {
        "joint": "A joint of three tokens",
        "molecules": "Small molecules",
        "slots": f"Slots of coloured shapes, {args.level}",
    }
    options = f" --level {args.level} --minutes {args.minutes:g} --rows {args.rows}" if args.part == "slots" else ""
    body = {"joint": joint, "molecules": molecules, "slots": slots}[args.part](args)
    write(titles[args.part], f"python benchmarks/steering_discrete.py {args.part}{options}", body)


if __name__ == "__main__":
    main()
