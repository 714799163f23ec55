"""What the measures of representations say about denoisers; see representations.py."""

import time

import numpy as np
import torch
from torch import Tensor, nn

from clarkia.measures import representations as r
from clarkia.processes import EDM
from clarkia.random import generator, rand
from representations_digits import IMAGES, TEST, TRAIN, Table, X, Y, denoiser, train


class UNet(nn.Module):
    """Two resolutions, 8 x 8 and 4 x 4: residual blocks of 3 x 3 filters down, in the middle and up, told the level."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.level = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, 2 * width))
        self.first, self.lower = nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, 2 * width, 3, 2, padding=1)
        self.down, self.deep, self.middle = Residual(width), Residual(2 * width), Residual(2 * width)
        self.rise, self.up = Residual(2 * width), Residual(width)
        self.higher, self.last = nn.ConvTranspose2d(2 * width, width, 2, 2), nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x: Tensor, noise: Tensor, condition: None = None) -> Tensor:
        level = self.level(noise.reshape(-1, 1))[:, :, None, None]
        h = self.first(x)
        h = self.down(h + level[:, : h.shape[1]])
        low = self.rise(self.middle(self.deep(self.lower(h) + level)))
        return self.last(self.up(h + self.higher(low)))


class Residual(nn.Module):
    """Two normalised convolutions around which the maps also go as they are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        parts = [
            part
            for _ in range(2)
            for part in (nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1))
        ]
        self.body = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def probes() -> Table:
    """Ridge probes of a U-Net denoiser's blocks by noise level, maps averaged to 2 x 2, cross-fitted; and the best.

    The best block and level are scored on a third of the digits that took no part in the choice; so are pixels and
    other poolings.
    """
    net = denoiser(1500, UNet)
    blocks = ("down", "deep", "middle", "rise", "up")
    layers = [f"network.{name}" for name in blocks]
    levels = [0.0, 0.1, 0.3, 0.6, 1.0, 2.0]
    lines: list[tuple[object, ...]] = []
    best: list[tuple[object, ...]] = []
    for pool in (1, 2, 4):
        found = r.denoiser_features(net, EDM, IMAGES, levels, layers, pool=pool, num_draws=4, generator=generator(6))
        grid = r.probe_grid(found, Y, kind="ridge", num_folds=3)
        if pool == 2:
            lines += [
                (f"level {level}", *(f"{grid.cells[level, layer].score:.4f}" for layer in layers)) for level in levels
            ]
        best.append((f"kept apart, {pool} x {pool}: {grid.best[1].split('.')[1]} at {grid.best[0]}", _kept(grid)))
    pixels = {kind: r.probe_grid({"pixels": X}, Y, kind=kind, num_folds=3) for kind in ("ridge", "logistic")}
    best += [(f"kept apart, pixels, {kind}", _kept(grid)) for kind, grid in pixels.items()]
    return f"Probe accuracy | {' | '.join(blocks)}", [*lines, *((*line, *[""] * 4) for line in best)]


def _kept(grid: r.ProbeGrid) -> str:
    return f"{grid.score:.4f} [{grid.interval.low:.4f}, {grid.interval.high:.4f}]"


def moments() -> Table:
    """A linear head on the mean token against a moment probe, on the frozen denoiser's last block."""
    net = denoiser()
    tokens = r.denoiser_features(
        net, EDM, IMAGES, 0.3, "network.blocks.2", pool=lambda h: h.flatten(2).mT, generator=generator(7)
    )[0.3, "network.blocks.2"]
    tokens = (tokens - tokens[TRAIN].mean((0, 1))) / tokens[TRAIN].std((0, 1))
    lines = []
    for name, make in (
        ("linear", lambda: nn.Sequential(Mean(), nn.Linear(32, 10))),
        ("moment", lambda: r.MomentProbe(32, 10, hidden=64)),
    ):
        scores = []
        for seed in range(3):
            torch.manual_seed(seed)
            head = train(make(), tokens[TRAIN], Y[TRAIN], 400)
            with torch.no_grad():
                scores.append(float((head(tokens[TEST]).argmax(1) == Y[TEST]).double().mean()))
        lines.append((name, f"{np.mean(scores):.4f}", f"{np.std(scores, ddof=1):.4f}"))
    return "Head on 64 tokens of 32 | accuracy | deviation over 3 seeds", lines


class Mean(nn.Module):
    """The mean token."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens.mean(1)


def codec() -> Table:
    """Bits a value of the stored features of test digits against the accuracy of a fixed head on what is read back.

    128 features a digit (32 channels in four quarters of the image); errors in variances of a feature. The head and the
    learned codec have seen the other 1,200 digits; the weights of the learned codec are not counted.
    """
    net = denoiser()
    found = r.denoiser_features(net, EDM, IMAGES, 0.3, "network.blocks.1", pool=2, generator=generator(8))
    features = found[0.3, "network.blocks.1"]
    centre, scale = features[TRAIN].mean(0), features[TRAIN].std(0)
    torch.manual_seed(0)
    head = train(nn.Linear(features.shape[1], 10), (features[TRAIN] - centre) / scale, Y[TRAIN], 600, rate=1e-2)
    known, stored = features[TRAIN], features[TEST]
    errors = []

    def task(back: Tensor) -> float:
        errors.append(float(((back - stored) / scale).square().mean()))
        with torch.no_grad():
            return float((head((back - centre) / scale).argmax(1) == Y[TEST]).double().mean())

    whole = task(stored)
    lines: list[tuple[object, ...]] = [("uncoded", "32", "0", f"{whole:.4f}", "")]
    names = {1: "one quantiser", 32: "one a channel"}
    codecs: dict[str, r.FeatureCodec | r.LearnedCodec] = {
        f"{kind}, {names[groups]}, {bits} bits": r.FeatureCodec(kind=kind, bits=bits, groups=groups)
        for kind in ("uniform", "lloyd", "quantile") for groups in names for bits in (2, 3, 4, 6)
    }  # fmt: skip
    for trade_off in (3, 10, 30, 100, 1000):
        codecs[f"learned, trade-off {trade_off}"] = r.train_feature_codec(known, trade_off=trade_off)
    curve = r.rate_task_curve(codecs, stored, task)
    rates: dict[str, list[tuple[float, float]]] = {}
    for (name, point), error in zip(curve.items(), errors[1:], strict=True):
        lines.append(
            (name, f"{point.bits:.3f}", f"{error:.3g}", f"{point.quality:.4f}", f"{point.quality - whole:+.4f}")
        )
        rates.setdefault(name.rpartition(",")[0], []).append((point.bits, -float(np.log(error))))
    one = rates.pop("uniform, one quantiser")
    for name, points in rates.items():
        saved = r.average_saving(*zip(*points, strict=True), *zip(*one, strict=True))
        lines.append(
            (f"bits that {name} saves over uniform, one quantiser, at equal error", f"{100 * saved:.1f} %", *[""] * 3)
        )
    return "Codec | bits a value | squared error | accuracy | against uncoded", lines


def landmarks() -> Table:
    """Time and error of approximate spectra of points of a cube of eight dimensions in 32: 4,000, and 200,000."""
    z = torch.zeros(200_000, 32, dtype=torch.float64)
    z[:, :8] = 2 * rand((len(z), 8), generator(9)) - 1
    lines = []
    plain: list[tuple[str, dict[str, int | None]]] = [("all", {"landmarks": None})]
    near = [(f"{m} landmarks", {"landmarks": m}) for m in (250, 500, 1000)]
    waves = [(f"{m} frequencies", {"frequencies": m}) for m in (128, 512)]
    for bandwidth in (0.5, 1.0, None, 3.0):
        for rows, ways in ((4000, [*plain, *near, *waves]), (200_000, waves[:1])):
            for name, options in ways:
                start = time.perf_counter()
                found = r.diffusion_spectral_entropy(
                    z[:rows], bandwidth=bandwidth, max_samples=len(z), generator=generator(10), **options
                )
                seconds = time.perf_counter() - start
                error = "" if found.error is None else f"{found.error:.4f}"
                lines.append((rows, f"{found.bandwidth:.2f}", name, f"{float(found):.4f}", error, f"{seconds:.2f}"))
    return "Points | bandwidth | spectrum of | bits | error reported | seconds", lines


def correspondence() -> Table:
    """Points of deformed digits found again in the digits: by a denoiser's maps, by patches of pixels, and by both.

    Turned by up to 30 degrees, scaled by up to 20 %, bent, and of another contrast; up to eight points with ink, right
    within a tenth of the image's side. Level chosen on 150 training digits; the rest are 500 test digits.
    """
    net = denoiser()
    chosen, tables = None, {}
    for level in (0.0, 0.1, 0.3, 0.6, 1.0):
        tables[level] = _found(net, TRAIN[:150], level, 12)
        chosen = level if chosen is None or tables[level][0].pooled > tables[chosen][0].pooled else chosen
    assert chosen is not None
    names = ("denoiser", "patches", "both")
    lines: list[tuple[object, ...]] = [
        (f"training digits, level {level}", *(f"{score.pooled:.3f}" for score in scores))
        for level, scores in tables.items()
    ]
    scores = _found(net, TEST[:500], chosen, 13)
    lines.append((f"test digits, level {chosen}", *(f"{score.pooled:.3f}" for score in scores)))
    lines.append(("the same, mean over digits", *(f"{score.per_image:.3f}" for score in scores)))
    rng = np.random.default_rng(0)
    correct = [score.correct.sum(1).double().numpy() for score in scores]
    gains = []
    for _ in range(1000):  # digits anew
        rows = rng.integers(0, 500, 500)
        hits = [part[rows].sum() for part in correct]
        gains.append((hits[2] - max(hits[:2])) / scores[0].correct[rows].numel())
    both = r.agreement(scores[0].correct, scores[1].correct)
    low, high = np.quantile(gains, [0.025, 0.975])
    lines.append(("both over the better one, of all eight points a digit, 95 %", "", "", f"{low:+.3f} to {high:+.3f}"))
    lines.append(
        (
            "right: both, only the denoiser, only patches",
            f"{both.both:.3f}",
            f"{both.only_first:.3f}",
            f"{both.only_second:.3f}",
        )
    )
    return f"PCK at 0.1 | {' | '.join(names)}", lines


def _found(net: nn.Module, rows: Tensor, level: float, seed: int) -> tuple[r.KeypointScore, ...]:
    """Scores of the denoiser's maps, of 5 x 5 patches, and of both."""
    plain = IMAGES[rows]
    bent, points, truth, seen = _deformed(plain, generator(seed))
    layers = [f"network.blocks.{i}" for i in range(3)]
    maps = []
    for images in (bent, plain):
        found = r.denoiser_features(net, EDM, images, level, layers, pool="none", num_draws=4, generator=generator(14))
        patches = nn.functional.unfold(images + 1, 5, padding=2).unflatten(2, (8, 8))
        maps.append((r.stack_maps([found[level, name] for name in layers], (8, 8)), patches))
    answers: list[list[Tensor]] = [[], [], []]
    for i in range(len(rows)):
        tokens = []
        for kind in (0, 1):
            pair = [side[kind][i].double().flatten(1).T for side in maps]
            tokens.append(r.co_pca(pair[0], pair[1], 16))
        for way, parts in enumerate(([tokens[0]], [tokens[1]], tokens)):
            fused = [r.fuse([part[side] for part in parts]).T.unflatten(1, (8, 8)) for side in (0, 1)]
            answers[way].append(r.correspond(fused[0], fused[1], points[i], (8, 8), (8, 8)))
    size = torch.full((len(rows),), 8.0)
    first, second, third = (r.pck(torch.stack(part), truth, size, visible=seen) for part in answers)
    return first, second, third


def _deformed(x: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Deformed images, eight points in each, where these are in the originals, and which of them are on ink there."""
    n = len(x)
    turn, scale, contrast = rand((3, n), source)
    turn, scale = (2 * turn - 1) * np.pi / 6, 0.8 + 0.4 * scale
    wave, phase = 0.15 * (2 * rand((n, 2), source) - 1), 2 * np.pi * rand((n, 2), source)
    rotation = torch.stack([turn.cos(), -turn.sin(), turn.sin(), turn.cos()], 1).reshape(n, 2, 2) / scale[:, None, None]

    def origin(place: Tensor) -> Tensor:
        """Where in the original a place (n, k, 2) in [-1, 1]^2 of the deformed image shows."""
        return place @ rotation.mT + wave[:, None] * torch.sin(3 * place.flip(2) + phase[:, None])

    line = (torch.arange(8, dtype=torch.float64) + 0.5) / 4 - 1
    places = torch.stack(torch.meshgrid(line, line, indexing="xy"), 2).reshape(1, 64, 2).expand(n, -1, -1)
    grid = origin(places).reshape(n, 8, 8, 2)
    bent = nn.functional.grid_sample(x.double() + 1, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    ink = bent.flatten(1) * ((grid.flatten(1, 2).abs() < 1).all(2))
    index = (ink + 0.01 * rand((n, 64), source)).topk(8, 1).indices
    points = places.gather(1, index[:, :, None].expand(-1, -1, 2))
    truth, seen = origin(points), ink.gather(1, index) > 0.5
    bent = bent * (0.7 + 0.6 * contrast)[:, None, None, None] - 1
    return bent.float(), 4 * (points + 1), 4 * (truth + 1), seen
