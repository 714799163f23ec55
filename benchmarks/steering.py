"""What steering is exact, and what it costs: particles and heuristics against closed forms.

    python benchmarks/steering.py posteriors
    python benchmarks/steering.py tilts
    python benchmarks/steering.py overhead

`posteriors` are of mixtures in 2, 8 and 64 dimensions given a few noisy projections, `tilts` of finite and of mixed
laws. A method that is declared exact must be as near to the truth as another sample of the truth is.
"""

from __future__ import annotations

import argparse
import platform
import time
import warnings
from pathlib import Path

import numpy as np
import torch

import clarkia as ck
from clarkia import guidance, samplers, schedules, steering
from clarkia.guidance.guided import Guided
from clarkia.measures import sliced_wasserstein
from clarkia.operators import Dense
from clarkia.oracles import FiniteJoint, GaussianMixture, MixedJoint
from clarkia.processes import Masked, Mixed, RectifiedFlow, VarianceExploding
from clarkia.random import generator
from clarkia.steering import CollapseWarning, Foreseen, Rewarded, Twist

RESULTS = Path(__file__).parent / "results"
PARTICLES, STEPS, NOISE, RUNS = 4096, 200, 0.3, 8
SOLVER = samplers.DPMSolverPP(order=2, stochasticity=1.0)  # its steps have densities, and an error of second order


def mixture(d: int) -> tuple[GaussianMixture, torch.Tensor, torch.Tensor]:
    """Three normals of random covariances, and what was measured of a point of theirs."""
    source = np.random.default_rng(d)
    roots = source.normal(size=(3, d, d)) / np.sqrt(d)
    covariances = 0.5 * roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(d)
    law = GaussianMixture([0.5, 0.3, 0.2], source.normal(size=(3, d)) * 1.5, covariances)
    rows = torch.from_numpy(source.normal(size=({2: 1, 8: 3, 64: 8}[d], d)) / np.sqrt(d))
    point = law.sample(1, generator=generator(d))
    return law, rows, (point @ rows.mT)[0] + NOISE * torch.from_numpy(source.normal(size=len(rows)))


def posteriors(write: bool) -> None:
    """Sliced W2 to the exact posterior and the error of log Z, by method, over several runs."""
    # From 20 on, a start without the law's own spread is .05 nats off in 64 dimensions.
    process = VarianceExploding(sigma_min=0.01, sigma_max=80.0)
    times = schedules.karras(STEPS, process)
    lines = [
        f"## Posteriors of mixtures given noisy projections, {PARTICLES} particles, {STEPS} steps",
        "",
        f"Means of {RUNS} runs: sliced W2 to draws of the posterior (the floor is between two samples of it), and the "
        "error of log Z in nats with its deviation from run to run. A run of few particles errs by its deviation; only "
        "the mean of Z, not of its logarithm, is free of bias.",
        "",
        "| method | declared | d = 2 | d = 8 | d = 64 |",
        "|---|---|---|---|---|",
    ]
    cells: dict[tuple[str, str], list[str]] = {}
    for d in (2, 8, 64):
        law, rows, y = mixture(d)
        truth = law.posterior(rows, y, NOISE)
        real = truth.sample(PARTICLES, generator=generator(1))
        floor = [far(truth.sample(PARTICLES, generator=generator(2, run)), real) for run in range(RUNS)]
        cells.setdefault(("floor", ""), []).append(f"{np.mean(floor):.3f}")
        operator, plain = Dense(rows), law.denoiser(process)

        def guided(method: str, operator=operator, y=y, plain=plain, law=law) -> Guided:
            spread = float(law.covariance.diagonal().mean().sqrt())
            options = {"data_std": spread} if method in ("pigdm", "dps") else {}
            return guidance.linear(plain, process, operator, y, NOISE, method=method, **options)

        common = {"times": times, "shape": (d,), "dtype": torch.float64}
        exact = both_of(plain, truth.denoiser(process))
        tools = {
            "exact twist and proposal": (exact_twist(law, truth, process, rows, y), exact),
            "twisted, prediction widened by kappa": (steering.measured(operator, y, NOISE), None),
            "twisted, proposal PiGDM": (
                steering.measured(operator, y, NOISE, width="posterior"),
                guided("pigdm"),
            ),
            "twisted, proposal moment matching": (
                steering.measured(operator, y, NOISE, width="posterior"),
                guided("moment_matching"),
            ),
            "annealed likelihood, gamma 2": steering.annealed(operator, y, NOISE),
            "annealed likelihood, gamma 0 (published)": steering.annealed(operator, y, NOISE, gamma=0.0),
            "importance weights of plain samples": (Rewarded(likelihood(rows, y), kind="last"), None),
        }
        for name, (potential, proposal) in tools.items():
            distances, errors = [], []
            for run in range(RUNS):
                noise = generator(3, run)
                found = quiet(plain, process, potential, proposal=proposal, solver=SOLVER, generator=noise, **common)
                distances.append(far(found.draw(PARTICLES, generator=generator(4, run)), real))
                errors.append(float(found.log_z - truth.log_z))
            cell = f"{np.mean(distances):.3f}, {np.mean(errors):+.3f} ± {np.std(errors, ddof=1):.3f}"
            cells.setdefault((name, "exact"), []).append(cell)
            print(d, name, cell, flush=True)
        for method in ("pigdm", "moment_matching", "ddnm", "dps"):
            drawn = samplers.sample(
                guided(method), process, num_samples=PARTICLES, solver=samplers.DDPM(), generator=generator(3), **common
            )
            cells.setdefault((f"guidance alone: {method}", "heuristic"), []).append(f"{far(drawn, real):.3f}")
    lines += [f"| {name} | {kind} | {' | '.join(values)} |" for (name, kind), values in cells.items()]
    report("posteriors", lines, write)


def both_of(plain, guided) -> Guided:
    return Guided(lambda x, t, condition=None: (plain(x, t), guided(x, t)))


def far(x, y) -> float:
    return float(sliced_wasserstein(x, y))


def likelihood(rows: torch.Tensor, y: torch.Tensor):
    def log_density(x):
        gap = (y - x.double() @ rows.mT) / NOISE
        return -0.5 * gap.square().sum(1) - len(y) * np.log(NOISE * np.sqrt(2 * np.pi))

    return log_density


def exact_twist(law, tilted, process, rows, y) -> Twist:
    def log_psi(moment):
        return tilted.log_z + (
            tilted.noisy_log_prob(process, moment.x, moment.t) - law.noisy_log_prob(process, moment.x, moment.t)
        )

    return Twist(log_psi, likelihood(rows, y))


def quiet(denoiser, process, potential, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        return steering.run(denoiser, process, potential, **{"num_particles": PARTICLES, **options})


def tilts(write: bool) -> None:
    """Total variation to the exact tilt and the error of log Z, of a finite and of a mixed law."""
    source = np.random.default_rng(7)
    law = FiniteJoint(source.dirichlet(np.full(27, 0.5)).reshape(3, 3, 3))
    prize = torch.from_numpy(source.normal(size=(3, 3, 3)))
    tilted, process = law.tilt(2 * prize), Masked(3)
    reward = lambda x: prize.flatten()[law.cell(x)]  # noqa: E731
    lines = [
        "## Tilted laws of 3 x 3 x 3 classes, and of classes with numbers",
        "",
        f"{PARTICLES} and 20,000 particles; total variation to the tilt, and error of log Z. Between as many draws of "
        f"the tilt and itself it is {floor_of(tilted, PARTICLES):.3f} and {floor_of(tilted, 20_000):.3f}.",
        "",
        f"| method | {PARTICLES} | 20,000 |",
        "|---|---|---|",
    ]
    options = {"num_steps": 3, "solver": samplers.Ancestral("stratified"), "shape": (3,)}
    plain = law.denoiser(process)
    exact = both_of(plain, tilted.denoiser(process))
    ways = {
        f"{kind}, {copies}": ({"potential": Rewarded(reward, 2.0, kind, Foreseen(16)), "ess_threshold": copies})
        for kind in ("difference", "max", "sum", "last")
        for copies in ("always", 0.5)
    }
    ways["difference, exact proposal"] = {"potential": Rewarded(reward, 2.0), "proposal": exact}
    for name, way in ways.items():
        found = [
            quiet(plain, process, num_particles=n, generator=generator(1), **way, **options)
            for n in (PARTICLES, 20_000)
        ]
        cells = [f"{variation(f, law, tilted):.3f}, {float(f.log_z - tilted.log_z):+.3f}" for f in found]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines.append(f"| plain samples | {0.5 * float((law.probabilities - tilted.probabilities).abs().sum()):.3f} | |")
    lines += ["", *mixed_tilt()]
    report("tilts", lines, write)


def variation(found, law, tilted) -> float:
    shares = torch.zeros(27, dtype=torch.float64).index_add_(0, law.cell(found.x), found.log_weights.exp().flatten())
    return float((shares - tilted.probabilities.flatten()).abs().sum() / 2)


def floor_of(law, n: int) -> float:
    shares = torch.bincount(law.sample_cells(n, generator=generator(5)), minlength=27) / n
    return float((shares - law.probabilities.flatten()).abs().sum() / 2)


def mixed_tilt() -> list[str]:
    """Class shares and the mean of the number under an exponential tilt of both."""
    law = MixedJoint([0.5, 0.3, 0.2], [[-1.5], [0.0], [2.0]], [[[0.3]], [[0.2]], [[0.4]]])
    prize = torch.tensor([0.0, 1.0, 0.5], dtype=torch.float64)
    tilted = law.tilt(prize, slope=[0.7])
    process = Mixed.from_blocks({law.categorical: Masked(3), law.numeric: RectifiedFlow()})
    reward = lambda x: prize[x[law.categorical][:, 0]] + 0.7 * x[law.numeric][:, 0].double()  # noqa: E731
    plain = law.denoiser(process)
    exact = both_of(plain, tilted.denoiser(process))
    truth = tilted.sample(400_000, generator=generator(6))
    real = torch.bincount(truth[law.categorical][:, 0], minlength=3) / 400_000
    lines = [
        "| mixed law, 400 steps | total variation of classes | error of the mean | error of log Z |",
        "|---|---|---|---|",
    ]
    for name, proposal in (("difference", None), ("difference, exact proposal", exact)):
        found = quiet(
            plain, process, Rewarded(reward, look=Foreseen(4)), proposal=proposal, num_steps=400, shape=law.space,
            dtype=torch.float64, generator=generator(7),
        )  # fmt: skip
        weights = found.log_weights.exp()[0]
        shares = torch.zeros(3, dtype=torch.float64).index_add_(0, found.x[law.categorical][:, 0], weights)
        off = float((weights * found.x[law.numeric][:, 0]).sum() - truth[law.numeric].mean())
        apart = float((shares - real).abs().sum() / 2)
        lines.append(f"| {name} | {apart:.3f} | {off:+.3f} | {float(found.log_z - tilted.log_z):+.3f} |")
    return lines


def overhead(write: bool) -> None:
    """Time of the filter beyond that of the same calls of the network, at 64 particles."""
    process, data = RectifiedFlow(), np.zeros((64, 32, 32, 3), np.uint8)
    model = ck.ImageModel(max_steps=1, width=64, validation_share=0.0).fit(data)
    lines = [
        "## Cost of the filter beyond the network, 64 particles of 32 x 32 x 3, 24 steps",
        "",
        "| what | seconds | beyond the network |",
        "|---|---|---|",
    ]
    reward = lambda x: x.flatten(1).mean(1)  # noqa: E731
    options = {"shape": (3, 32, 32), "num_steps": 24}
    calls = 0

    def counted(x, t, condition=None):
        nonlocal spent, calls
        start = time.perf_counter()
        answer = model.denoiser_(x, t)
        spent += time.perf_counter() - start
        calls += 1
        return answer

    for name, potential in (
        ("difference", Rewarded(reward, 10.0)),
        ("difference, 4 draws", Rewarded(reward, 10.0, look=Foreseen(4, data_std=0.5))),
    ):
        for _ in range(2):
            spent, calls = 0.0, 0
            start = time.perf_counter()
            quiet(counted, process, potential, num_particles=64, generator=generator(1), **options)
            whole = time.perf_counter() - start
        lines.append(f"| {name} | {whole:.2f} ({calls} calls) | {100 * (whole / spent - 1):.2f} % |")
    report("overhead", lines, write)


def report(part: str, lines: list[str], write: bool) -> None:
    threads = torch.get_num_threads()
    machine = f"{threads} thread{'s' * (threads > 1)}, {platform.machine()}, torch {torch.__version__}"
    text = "\n".join([f"`python benchmarks/steering.py {part}` on {machine}.", "", *lines]) + "\n"
    print(text)
    if write:
        (RESULTS / f"steering-{part}.md").write_text(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["posteriors", "tilts", "overhead"])
    parser.add_argument("--write", action="store_true")
    a = parser.parse_args()
    {"posteriors": posteriors, "tilts": tilts, "overhead": overhead}[a.part](a.write)
