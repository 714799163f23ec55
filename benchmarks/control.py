"""What is learned beside a denoiser: labels by control, designs by their reward, signals through a forward model.

    python benchmarks/control.py ctrl | reward | dfm

ctrl: a mixture of two normals and a logistic classifier, where the best control is known by quadrature. reward: rows of
the diabetes study of which 5 % are scored; proposals are judged by a model fitted to the other scores. dfm: digits of
which only four random rows of eight were ever seen at once; whole digits drawn from such a half are judged by a
classifier of whole digits.
"""

import argparse
import math
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_diabetes, load_digits
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import cross_val_predict
from sklearn.svm import SVC
from torch import Tensor, nn

from clarkia import alignment, samplers, schedules
from clarkia.denoisers import preconditioning
from clarkia.forward_models import ThroughForward
from clarkia.networks.embeddings import NoiseEmbedding
from clarkia.objectives import Denoising, ForwardModelLoss, LogNormal
from clarkia.oracles import GaussianMixture
from clarkia.processes import VarianceExploding, VariancePreserving
from clarkia.random import generator, rand
from clarkia.training import TrainingOptions, fit

RESULTS = Path(__file__).parent / "results"
DATA_STD = 0.75  # of the pixels of digits

# ------------------------------------------------------------------------------------------------------------- control

MIXTURE = ((0.6, -1.0, 0.5), (0.4, 1.5, 0.7))


def log_class(x: Tensor, label: Tensor) -> Tensor:
    """A logistic classifier of slope 3 around 1/2."""
    return nn.functional.logsigmoid((2 * label - 1) * 3 * (x[:, 0] - 0.5))


def exact(gamma: float, label: int) -> tuple[float, float, float, float]:
    """Log Z, mean, deviation and divergence of the mixture times the classifier to the gamma, by quadrature."""
    grid = torch.linspace(-8, 9, 20001, dtype=torch.float64)
    density = sum(w * torch.exp(-0.5 * ((grid - m) / s) ** 2) / (s * math.sqrt(2 * math.pi)) for w, m, s in MIXTURE)
    factor = gamma * log_class(grid[:, None], torch.tensor(label))
    weight = density * factor.exp()
    log_z = math.log(float(weight.sum() * (grid[1] - grid[0])))
    law = weight / weight.sum()
    mean = float(law @ grid)
    return log_z, mean, float((law @ (grid - mean) ** 2) ** 0.5), float(law @ factor) - log_z


def ctrl(steps: int = 50) -> list[str]:
    """Train one correction a gamma, for both labels at once, and compare with the best there is."""
    process = VarianceExploding(0.1, 10.0)
    times = schedules.karras(steps, process)
    weights, means, stds = zip(*MIXTURE, strict=True)
    denoiser = GaussianMixture(weights, [[m] for m in means], [s**2 for s in stds]).denoiser(process)
    options = TrainingOptions(
        batch_size=256, max_steps=300, warmup_steps=20, learning_rate=1e-2, clip_norm=5.0, ema_decay=0.99
    )
    lines = [
        f"{steps} steps of the chain; a correction of 64 units, {options.max_steps} training steps of "
        f"{options.batch_size} chains. In brackets the value by quadrature, for loss that of ``-log Z``.",
        "",
        "| gamma | label | loss | log Z of the chain | gap | mean | std | effective share | s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for gamma in (1.0, 5.0):
        control = alignment.Control(log_class, 2, gamma=gamma)
        start = time.perf_counter()
        controlled = alignment.ctrl(denoiser, process, control, shape=(1,), options=options, times=times)
        seconds = time.perf_counter() - start
        for label in (1, 0):
            log_z, mean, std, _ = exact(gamma, label)
            found = alignment.control_gap(
                controlled, process, control, label, shape=(1,), times=times, num_samples=10_000,
                generator=generator(1),
            )  # fmt: skip
            x = samplers.sample(
                controlled, process, num_samples=10_000, shape=(1,), solver=samplers.DDPM(), times=times,
                condition={"control": torch.full((10_000,), label)}, generator=generator(2),
            )  # fmt: skip
            assert isinstance(x, Tensor)
            lines.append(
                f"| {gamma:g} | {label} | {found.loss:.3f} ({-log_z:.3f}) | {found.log_z:.3f} ({log_z:.3f}) "
                f"| {found.gap:.3f} | {float(x.mean()):.3f} ({mean:.3f}) | {float(x.std()):.3f} ({std:.3f}) "
                f"| {found.effective:.2f} | {seconds:.0f} |"
            )
    return lines


# --------------------------------------------------------------------------------------------------------------- reward


def reward(seeds: int = 3) -> list[str]:
    """Propose patients whose disease progresses most, from 22 scores; judged by a forest of the other 420."""
    x, y = (torch.from_numpy(part) for part in load_diabetes(return_X_y=True, scaled=False))
    x = (x - x.mean(0)) / x.std(0)
    lines = [
        "22 of 442 rows scored. The judge is a random forest fitted to the other 420; rows of the data are judged by "
        "forests that have not seen them. A line is the mean of 500 designs asked for at a target; at a*, the largest "
        "that the data support, 200 are proposed, and the best of them by the reward model are judged beside the rows "
        "that the judge ranks highest.",
        "",
        "| seed | target | by the reward model | by the judge | leak | distance | diversity | supported | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for seed in range(seeds):
        order = rand((len(x),), generator(seed)).argsort()
        scored, rest = order[:22], order[22:]
        scores = torch.full((len(x),), math.nan, dtype=torch.float64)
        scores[scored] = y[scored]
        forest = RandomForestRegressor(300, min_samples_leaf=3, random_state=seed).fit(x[rest].numpy(), y[rest].numpy())

        def judge(rows: Tensor, forest: RandomForestRegressor = forest) -> Tensor:
            return torch.from_numpy(forest.predict(rows.numpy()))

        designer = alignment.DiffusionDesigner(options=TrainingOptions(batch_size=128, max_steps=2000, ema_decay=0.99))
        model = alignment.RewardDirected(designer, alignment.Ridge(10.0), num_samples=500)
        model.fit(x, scores, generator=generator(seed, 1))
        found = model.propose(200, true_reward=judge, generator=generator(seed, 2))
        forest = RandomForestRegressor(300, min_samples_leaf=3, random_state=seed)
        unseen = cross_val_predict(forest, x[rest].numpy(), y[rest].numpy(), cv=5)
        best = torch.from_numpy(unseen).sort(descending=True).values
        for report in found.reports:
            chosen = "**a\\***" if report.target == found.target else ""
            lines.append(
                f"| {seed} | {report.target:.0f} | {report.predicted:.0f} | {report.reward:.0f} | {report.leak:.2f} "
                f"| {report.distance:.2f} | {report.diversity:.2f} | {'yes' if report.supported else 'no'} | {chosen} |"
            )
        judged = judge(found.x)  # best first by the reward model
        for name, rows, predicted in (
            ("all 200 proposals", judged, found.predicted),
            ("best 20 proposals", judged[:20], found.predicted[:20]),
        ):
            lines.append(f"| {seed} | {name} | {float(predicted.mean()):.0f} | {float(rows.mean()):.0f} | | | | | |")
        lines.append(f"| {seed} | best tenth of the rows | | {float(best[: len(best) // 10].mean()):.0f} | | | | | |")
        lines.append(f"| {seed} | all rows | | {float(best.mean()):.0f} | | | | | |")
    return lines


# ------------------------------------------------------------------------------------------------------- forward models


def see(signal: Tensor, view: Tensor) -> Tensor:
    """Four of the eight rows of a digit: views are their numbers ``(n, 4)``."""
    return signal.reshape(-1, 8, 8).take_along_dim(view[:, :, None], 1).flatten(1)


class Painter(nn.Module):
    """A digit from the rows of the context and the noisy rows of the target, each at its place.

    Rows of the context are taken over, those of the target are preconditioned, the others are the network's alone.
    """

    def __init__(self, process: VariancePreserving, width: int = 256) -> None:
        super().__init__()
        self.process = process
        self.noise = NoiseEmbedding(width, features=128)
        self.enter = nn.Linear(2 * (64 + 8), width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
            for _ in range(3)
        )
        self.leave = nn.Linear(width, 64)

    def forward(self, x_t: Tensor, t: Tensor, condition: dict[str, Tensor]) -> Tensor:
        scales = preconditioning(self.process, x_t, t, DATA_STD)
        shown, hidden = condition["context_view"], condition["target_view"]
        context, given = painted(condition["context"], shown)
        noisy, asked = painted(scales.c_in * x_t, hidden)
        h = self.enter(torch.cat([context.flatten(1), given, noisy.flatten(1), asked], 1))
        h = h + self.noise(scales.c_noise.reshape(-1).expand(len(x_t)))
        for block in self.blocks:
            h = h + block(h)
        raw = self.leave(h).unflatten(1, (8, 8))
        skipped = painted(scales.c_skip * x_t, hidden)[0] + scales.c_out.reshape(-1, 1, 1) * raw
        signal = torch.where(asked[:, :, None] > 0, skipped, DATA_STD * raw)
        return torch.where(given[:, :, None] > 0, context, signal).flatten(1)


def painted(rows: Tensor, view: Tensor) -> tuple[Tensor, Tensor]:
    """Rows at their places on an empty digit ``(n, 8, 8)``, and which places those are ``(n, 8)``."""
    empty = torch.zeros(len(rows), 8, 8)
    where = view[:, :, None].expand(-1, -1, 8)
    return empty.scatter(1, where, rows.reshape(-1, 4, 8)), empty[:, :, 0].scatter(1, view, 1.0)


def halves(n: int, seed: int, count: int) -> list[Tensor]:
    """Independent choices of four rows of eight, sorted."""
    return [rand((n, 8), generator(seed, part)).argsort(1)[:, :4].sort(1).values for part in range(count)]


def dfm() -> list[str]:
    """Train on triples of halves, draw whole digits given one half, and ask a classifier of whole digits."""
    images, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(images / 8 - 1).float()
    order = rand((len(x),), generator(0)).argsort()
    train, test = order[:1400], order[1400:]
    judge = SVC(gamma=0.03).fit(x[train].numpy(), labels[train])
    copies = x[train].repeat(30, 1)
    context, target, extra = halves(len(copies), 1, 3)
    batch = {
        "context": see(copies, context),
        "context_view": context,
        "target": see(copies, target),
        "target_view": target,
        "extra": see(copies, extra)[:, None],
        "extra_view": extra[:, None],
    }
    process = VariancePreserving("cosine")
    torch.manual_seed(0)
    denoiser = ThroughForward(Painter(process), see)
    loss = ForwardModelLoss(Denoising(process, noise=LogNormal(-0.5, 1.3), data_std=DATA_STD))
    options = TrainingOptions(batch_size=256, max_steps=3000, learning_rate=1e-3, ema_decay=0.999, warmup_steps=100)
    start = time.perf_counter()
    fit(denoiser, loss, batch, options=options, progress=False)
    seconds = time.perf_counter() - start

    draws, truth = 8, x[test]
    shown = halves(len(truth), 2, 1)[0]
    everything = torch.arange(8).expand(len(truth), 8)
    hidden = everything[~(everything[:, :, None] == shown[:, None]).any(2)].reshape(-1, 4)
    told = {"context": see(truth, shown), "context_view": shown, "target_view": hidden}
    many = {name: part.repeat_interleave(draws, 0) for name, part in told.items()}
    signals, _ = samplers.sample_signals(
        denoiser, process, num_samples=draws * len(truth), shape=(32,), condition=many, solver=samplers.DDIM(),
        num_steps=50, generator=generator(3),
    )  # fmt: skip
    with torch.no_grad():
        regression = denoiser.signal(torch.zeros(len(truth), 32), torch.ones(len(truth)), told)
    outcomes = {
        "the whole digit": truth,
        "drawn from a half": signals.clamp(-1, 1),
        "regression from a half": regression.clamp(-1, 1),
        "the half, the rest empty": (painted(told["context"] + 1, shown)[0] - 1).flatten(1),
    }
    lines = [
        f"{len(train)} digits seen through 30 triples of halves each (context, target, one held out), {len(test)} to "
        f"judge; a network of 256 units, {options.max_steps} steps, {seconds:.0f} s. Deviation: of a hidden pixel over "
        f"{draws} draws given the same half, root mean square; error: of hidden pixels from the truth, likewise; "
        "ink: deviation of hidden pixels over all digits and places.",
        "",
        "| | agreement with the truth | deviation | error | ink |",
        "|---|---|---|---|---|",
    ]
    for name, rows in outcomes.items():
        times = len(rows) // len(truth)
        right = float(np.mean(judge.predict(rows.numpy()) == labels[test].repeat(times)))
        where = hidden.repeat_interleave(times, 0)
        unseen = see(rows, where)
        deviation = float(unseen.unflatten(0, (-1, times)).var(1).mean().sqrt()) if times > 1 else 0.0
        error = float((unseen - see(truth, hidden).repeat_interleave(times, 0)).square().mean().sqrt())
        lines.append(f"| {name} | {100 * right:.1f} % | {deviation:.3f} | {error:.3f} | {float(unseen.std()):.3f} |")
    return lines


PARTS = {"ctrl": ctrl, "reward": reward, "dfm": dfm}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    part = parser.parse_args().part
    start = time.perf_counter()
    lines = PARTS[part]()
    seconds = time.perf_counter() - start
    machine = f"{torch.get_num_threads()} thread of {os.cpu_count()} cores, {platform.machine()}"
    head = f"`python benchmarks/control.py {part}`, {machine}, torch {torch.__version__}, {seconds:.0f} s."
    text = "\n".join([f"# {PARTS[part].__doc__.splitlines()[0]}", "", head, "", *lines, ""])
    print(text)
    (RESULTS / f"control-{part}.md").write_text(text)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
