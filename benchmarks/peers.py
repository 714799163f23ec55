"""Other people's samplers on our denoisers: diffusers' schedulers as they are, k-diffusion's formulas written out.

Every one is given the exact denoiser as a function of ``(x, kappa)``, ``x`` in variance-preserving units and ``kappa =
sigma / alpha`` the level that the sampler itself says it is at, so none suffers from rounding a time to an integer.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clarkia.processes import VariancePreserving

Predict = Callable[[Tensor, float], Tensor]

# --------------------------------------------------------------------------------------------------- diffusers

LEVELS = 1000
EXPLODING = ("EulerDiscrete", "HeunDiscrete", "LMSDiscrete", "EDMDPMSolverMultistep")


def training_betas(process: VariancePreserving) -> np.ndarray:
    """The process as a table of a thousand levels, which is how diffusers wants it."""
    times = torch.arange(LEVELS + 1, dtype=torch.float64) / LEVELS
    kept = process.alpha(times) ** 2
    return (1 - kept[1:] / kept[:-1]).numpy()


@dataclass(frozen=True)
class Peer:
    """A scheduler of diffusers and its options."""

    scheduler: str
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        words = [
            str(key) if value is True else f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in self.options
        ]
        return " ".join([self.scheduler, *words])

    def make(self, betas: np.ndarray | None) -> Any:
        import diffusers

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options: dict[str, Any] = dict(self.options)
            if not self.scheduler.startswith("EDM"):
                options["trained_betas"] = betas
                exact = self.scheduler != "HeunDiscrete"  # which knows only noise prediction
                options["prediction_type"] = "sample" if exact else "epsilon"
            if self.scheduler in ("DDIM", "DDPM"):
                options["clip_sample"] = False
            return getattr(diffusers, f"{self.scheduler}Scheduler")(**options)


def evaluations(peer: Peer, steps: int) -> int:
    """Evaluations of the denoiser in so many steps."""
    return 2 * steps - 1 if peer.scheduler == "HeunDiscrete" else steps


def place(scheduler: Any, kappas: Tensor) -> None:
    """Make a scheduler walk our levels instead of its own, ``(steps + 1,)``."""
    steps = len(kappas) - 1
    scheduler.set_timesteps(steps)
    if type(scheduler).__name__.startswith("HeunDiscrete"):
        kappas = torch.cat([kappas[:1], kappas[1:-1].repeat_interleave(2), kappas[-1:]])
    scheduler.sigmas = kappas  # in float64, where its own are float32
    scheduler.timesteps = torch.arange(len(kappas) - 1, 0, -1, dtype=torch.float32)


def walk(
    scheduler: Any, predict: Predict, x: Tensor, *, steps: int | None = None, kappas: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, int]:  # fmt: skip
    """Sample with a scheduler on its own levels (``steps`` of them) or on ours; the sample and its evaluations.

    Args:
        scheduler: One with levels in ``sigmas``.
        predict: ``predict(x, kappa) -> x0_hat``.
        x: The start, in variance-preserving units.
        steps: Number of steps of its own grid, or
        kappas: our levels.
        generator: Noise of a stochastic one.
    """
    kind = type(scheduler).__name__.removesuffix("Scheduler")
    if kappas is None:
        scheduler.set_timesteps(steps)
    else:
        place(scheduler, kappas)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    sigmas = scheduler.sigmas.double()
    x = x * torch.sqrt(1 + sigmas[0] ** 2) if kind in EXPLODING else x
    noise = {"generator": generator} if generator is not None else {}
    for index, timestep in enumerate(scheduler.timesteps):
        sigma = float(sigmas[index])
        scale = math.sqrt(1 + sigma**2)
        if kind in EXPLODING:
            scheduler.scale_model_input(x, timestep)  # it complains where this is not called
            answer = predict(x / scale, sigma)
            if kind == "HeunDiscrete":
                answer = (x - answer) / sigma
            elif kind.startswith("EDM"):  # its own network lies inside a preconditioning
                std = scheduler.config.sigma_data
                total = sigma**2 + std**2
                answer = (answer - std**2 / total * x) / (sigma * std / math.sqrt(total))
        else:
            answer = predict(x, sigma)
        x = scheduler.step(answer, timestep, x, return_dict=False, **noise)[0]
    return x, len(scheduler.timesteps)


def walk_table(
    kind: str, process: VariancePreserving, denoise: Callable[[Tensor, Tensor], Tensor], x: Tensor, times: Tensor,
    generator: torch.Generator | None = None, step: dict[str, Any] | None = None, **options: Any,
) -> Tensor:  # fmt: skip
    """DDIM's or DDPM's scheduler, which know only a table: a table with exactly the levels of our grid."""
    import diffusers

    inner = times[:-1].flip(0)
    kept = process.alpha(inner) ** 2
    betas = 1 - kept / torch.cat([torch.ones(1, dtype=torch.float64), kept[:-1]])
    scheduler = getattr(diffusers, f"{kind}Scheduler")(
        num_train_timesteps=len(inner), trained_betas=betas.numpy(), clip_sample=False, prediction_type="sample",
        timestep_spacing="leading", **options,
    )  # fmt: skip
    scheduler.alphas_cumprod = kept  # in full precision
    scheduler.set_timesteps(len(inner))
    noise = {"generator": generator} if generator is not None else {}
    for time, timestep in zip(times[:-1], scheduler.timesteps, strict=True):
        answer = denoise(x, time.expand(len(x)))
        x = scheduler.step(answer, int(timestep), x, return_dict=False, **noise, **(step or {}))[0]
    return x


GRIDS: tuple[tuple[tuple[str, Any], ...], ...] = (
    (),
    (("timestep_spacing", "trailing"),),
    (("timestep_spacing", "leading"),),
    (("use_karras_sigmas", True),),
    (("use_exponential_sigmas", True),),
    (("use_beta_sigmas", True),),
)
LU = (("use_lu_lambdas", True),)


def every_peer(kappa_max: float) -> Iterator[Peer]:
    """Deterministic schedulers of diffusers, each with every grid it offers and its options of order and kind."""
    for grid in (*GRIDS, LU):
        for order in (1, 2, 3):
            for kind in ("midpoint", "heun") if order == 2 else ("midpoint",):
                for final in (True, False):
                    options = (("solver_order", order), ("solver_type", kind), ("lower_order_final", final))
                    yield Peer("DPMSolverMultistep", options + grid)
    for grid in GRIDS:
        for order in (2, 3):
            for kind in ("bh1", "bh2"):
                yield Peer("UniPCMultistep", (("solver_order", order), ("solver_type", kind), *grid))
            yield Peer("DEISMultistep", (("solver_order", order), *grid))
            if grid != (("timestep_spacing", "trailing"),) and grid != (("timestep_spacing", "leading"),):
                yield Peer("DPMSolverSinglestep", (("solver_order", order), ("final_sigmas_type", "zero"), *grid))
        for scheduler in ("EulerDiscrete", "HeunDiscrete", "LMSDiscrete"):
            yield Peer(scheduler, grid)
    for schedule in ("karras", "exponential"):
        for order in (2, 3):
            for kind in ("midpoint", "heun") if order == 2 else ("midpoint",):
                for least in (0.002, 0.01, 0.02, 0.05, 0.1):
                    ends = (("sigma_min", least), ("sigma_max", kappa_max), ("sigma_schedule", schedule))
                    options = (*ends, ("solver_order", order), ("solver_type", kind))
                    yield Peer("EDMDPMSolverMultistep", options)


# ------------------------------------------------------------------------------------------------- k-diffusion
# Each takes ``denoise(y, sigma)`` in variance-exploding units, the start and the levels, the last one 0.


def euler(denoise: Predict, y: Tensor, sigmas: Sequence[float]) -> Tensor:
    for sigma, lower in pairwise(sigmas):
        y = y + (lower - sigma) * (y - denoise(y, sigma)) / sigma
    return y


def heun(denoise: Predict, y: Tensor, sigmas: Sequence[float]) -> Tensor:
    for sigma, lower in pairwise(sigmas):
        slope = (y - denoise(y, sigma)) / sigma
        ahead = y + (lower - sigma) * slope
        if lower > 0:
            slope = (slope + (ahead - denoise(ahead, lower)) / lower) / 2
        y = y + (lower - sigma) * slope
    return y


def dpm_2(denoise: Predict, y: Tensor, sigmas: Sequence[float]) -> Tensor:
    for sigma, lower in pairwise(sigmas):
        slope = (y - denoise(y, sigma)) / sigma
        if lower > 0:
            middle = math.sqrt(sigma * lower)
            inside = y + (middle - sigma) * slope
            slope = (inside - denoise(inside, middle)) / middle
        y = y + (lower - sigma) * slope
    return y


def dpmpp_2s(denoise: Predict, y: Tensor, sigmas: Sequence[float]) -> Tensor:
    for sigma, lower in pairwise(sigmas):
        clean = denoise(y, sigma)
        if lower > 0:
            middle = math.sqrt(sigma * lower)
            inside = middle / sigma * y + (1 - middle / sigma) * clean
            clean = denoise(inside, middle)
        y = lower / sigma * y + (1 - lower / sigma) * clean
    return y


def dpmpp_2m(denoise: Predict, y: Tensor, sigmas: Sequence[float]) -> Tensor:
    before, last = None, 0.0
    for sigma, lower in pairwise(sigmas):
        clean = denoise(y, sigma)
        used = clean
        if before is not None and lower > 0:
            r = math.log(last / sigma) / math.log(sigma / lower)
            used = (1 + 1 / (2 * r)) * clean - before / (2 * r)
        y = lower / sigma * y + (1 - lower / sigma) * used
        before, last = clean, sigma
    return y


def dpmpp_3m(denoise: Predict, y: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Its stochastic 3M with the noise switched off."""
    answers: list[Tensor] = []
    steps: list[float] = []
    for sigma, lower in pairwise(sigmas):
        clean = denoise(y, sigma)
        if lower == 0:
            return clean
        h = math.log(sigma / lower)
        y = math.exp(-h) * y - math.expm1(-h) * clean
        phi_2 = math.expm1(-h) / h + 1
        phi_3 = phi_2 / h - 0.5
        if len(steps) > 1:
            r0, r1 = steps[-1] / h, steps[-2] / h
            d10, d11 = (clean - answers[-1]) / r0, (answers[-1] - answers[-2]) / r1
            d1 = d10 + (d10 - d11) * r0 / (r0 + r1)
            d2 = (d10 - d11) / (r0 + r1)
            y = y + phi_2 * d1 - phi_3 * d2
        elif steps:
            y = y + phi_2 * (clean - answers[-1]) * h / steps[-1]
        answers.append(clean)
        steps.append(h)
    return y


def lms(denoise: Predict, y: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Adams-Bashforth of order 4 on the slope over sigma."""
    slopes: list[Tensor] = []
    for index, (sigma, lower) in enumerate(pairwise(sigmas)):
        slopes = [(y - denoise(y, sigma)) / sigma, *slopes[:3]]
        nodes = [sigmas[index - j] for j in range(len(slopes))]
        for j, slope in enumerate(slopes):
            others = [node for k, node in enumerate(nodes) if k != j]
            basis = np.poly1d(others, r=True) / np.prod([nodes[j] - other for other in others])
            integral = basis.integ()
            y = y + float(integral(lower) - integral(sigma)) * slope
    return y


K_DIFFUSION: dict[str, tuple[Callable[..., Tensor], int]] = {
    "sample_euler": (euler, 1),
    "sample_heun": (heun, 2),
    "sample_dpm_2": (dpm_2, 2),
    "sample_dpmpp_2s_ancestral(eta=0)": (dpmpp_2s, 2),
    "sample_dpmpp_2m": (dpmpp_2m, 1),
    "sample_dpmpp_3m_sde(eta=0)": (dpmpp_3m, 1),
    "sample_lms": (lms, 1),
}
"""Name, function, and evaluations of a step other than the last, which takes one."""
