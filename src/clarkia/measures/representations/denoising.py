"""Features of a denoiser: its layers' outputs at chosen noise levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from clarkia.measures.extractors import Extractor
from clarkia.measures.fields.checks import check_count
from clarkia.measures.representations.tap import Inputs, Pool, activations, check_layers, module_fingerprint, pool_name
from clarkia.processes import Gaussian, Process
from clarkia.random import Noise, generator
from clarkia.spaces import State, num_rows


def noised(process: Process, x: State, level: float, *, noise: Noise = None, condition: Any = None) -> tuple[Any, ...]:
    """What a denoiser is called with at a noise level.

    Args:
        process: The process.
        x: Clean data with n rows.
        level: For a Gaussian process the ratio sigma / alpha (0 is clean); for any other the time in [0, 1].
        noise: Source of randomness.
        condition: Handed over as it is; None for none.

    Returns:
        ``(x_t, t)`` with times ``(n,)`` (the shape of the data where a schedule has a parameter a column), and the
        condition where there is one.

    Raises:
        ValueError: A level that the process does not reach.
    """
    rows = num_rows(x)
    first = x if isinstance(x, Tensor) else next(iter(x.values()))
    t = torch.as_tensor([level], dtype=torch.float64, device=first.device)
    if isinstance(process, Gaussian) and level > 0:
        t = process.t_of_kappa(t)
    if not bool(((t >= 0) & (t <= 1)).all()) or level < 0:
        raise ValueError(f"levels: expected noise levels that the process reaches, found {level}.")
    t = t.expand(rows) if t.numel() == 1 else t.expand(first.shape)
    x_t = process.corrupt(x, t, generator=noise)  # type: ignore[arg-type]
    t = t.to(first.dtype) if first.is_floating_point() else t.float()
    return (x_t, t) if condition is None else (x_t, t, condition)


def denoiser_features(
    denoiser: nn.Module,
    process: Process,
    x: State,
    levels: float | Sequence[float],
    layers: str | Sequence[str],
    *,
    pool: Pool = "mean",
    num_draws: int = 1,
    condition: Any = None,
    chunk: int = 256,
    generator: Noise = None,
) -> dict[tuple[float, str], Tensor]:
    """Outputs of a denoiser's layers on data noised to chosen levels.

    Args:
        denoiser: ``denoiser(x_t, t)``, a module.
        process: The process it is made for.
        x: Clean data with n rows.
        levels: Ratios sigma / alpha of a Gaussian process (0 is clean), times of any other.
        layers: Names as in ``denoiser.named_modules()``; ``""`` is the prediction.
        pool: How an output becomes a row, as in `activations`.
        num_draws: Noise draws that the features are averaged over; features depend on the draw, 4 to 8 calm them.
        condition: Condition with n rows, or None.
        chunk: Rows of a pass.
        generator: Source of the noise; one of the same seed gives the same features.

    Returns:
        By level and layer ``(n, d)``.

    Raises:
        ValueError: An unknown layer, a level that the process does not reach, no draws.

    Source: Diffusion Models Beat GANs on Image Classification (2023).
    """
    names, num_draws = check_layers(denoiser, layers), check_count(num_draws, "num_draws")
    found = {}
    for level in check_noise_levels(levels):
        draws = [
            activations(denoiser, _inputs(process, x, level, generator, condition), names, pool=pool, chunk=chunk)
            for _ in range(num_draws)
        ]
        for name in names:
            found[level, name] = (
                torch.stack([draw[name] for draw in draws]).mean(0) if num_draws > 1 else draws[0][name]
            )
    return found


def denoiser_tap(
    denoiser: nn.Module,
    process: Process,
    level: float,
    layers: str | Sequence[str],
    *,
    pool: Pool = "mean",
    num_draws: int = 1,
    chunk: int = 256,
    seed: int = 0,
) -> Extractor:
    """Make a feature extractor of a denoiser's layers at one noise level: clean data in, features out.

    Args:
        denoiser: ``denoiser(x_t, t)``, a module.
        process: The process it is made for.
        level: Ratio sigma / alpha of a Gaussian process (0 is clean), time of any other.
        layers: One name or several, set side by side.
        pool: How an output becomes a row, as in `activations`.
        num_draws: Noise draws that the features are averaged over.
        chunk: Rows of a pass.
        seed: Fixes the noise: the same batch has the same features.

    Returns:
        The extractor; its fingerprint covers the weights as they are now, the level, the layers, the pooling, the
        draws and the seed.

    Raises:
        ValueError: An unknown layer, a level that is no noise level, no draws.

    Source: Diffusion Models Beat GANs on Image Classification (2023).
    """
    names, (level,) = check_layers(denoiser, layers), check_noise_levels(level)
    check_count(num_draws, "num_draws")

    def extract(batch: State) -> Tensor:
        found = denoiser_features(
            denoiser, process, batch, level, names, pool=pool, num_draws=num_draws, chunk=chunk,
            generator=generator(seed),
        )  # fmt: skip
        return torch.cat([found[level, name].flatten(1) for name in names], 1)

    words = (type(process).__name__, repr(level), *names, pool_name(pool), str(num_draws), str(seed))
    title = f"{type(denoiser).__name__}[{', '.join(names)}] at level {level:g}"
    return Extractor(extract, title, module_fingerprint(denoiser, *words))


def check_noise_levels(levels: Any) -> tuple[float, ...]:
    """Noise levels as numbers; raises ``ValueError`` unless they are distinct, finite and not negative."""
    values = torch.as_tensor(levels, dtype=torch.float64).reshape(-1)
    if not len(values) or not bool((values.isfinite() & (values >= 0)).all()) or len(values.unique()) < len(values):
        raise ValueError(f"levels: expected distinct finite numbers of at least 0, found {values.tolist()}.")
    return tuple(values.tolist())


def _inputs(process: Process, x: State, level: float, noise: Noise, condition: Any) -> Inputs:
    if isinstance(x, Mapping):
        x = dict(x)
    return noised(process, x, level, noise=noise, condition=condition)
