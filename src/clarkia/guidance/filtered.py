"""Keeping the structure of one picture and taking the appearance of another, by filters before and within a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.denoisers import Denoiser
from clarkia.guidance.filters import Filter, band
from clarkia.guidance.guided import Guided
from clarkia.processes.times import spread
from clarkia.random import Noise, rand


def filtered(
    denoiser: Denoiser,
    filters: Mapping[str, Filter],
    *,
    strength: Callable[[Float[Tensor, " n"]], Float[Tensor, " n"]] | None = None,
) -> Guided:
    """A denoiser that sees its picture conditions through filters.

    Structure and appearance are two conditions of the denoiser; filters that delete the appearance of the one and the
    structure of the other leave no doubt which of them says what. Reconstructed: no code was published.

    Args:
        denoiser: Whose condition is a dict with pictures ``(n, c, h, w)`` under some names.
        filters: By name of a condition, what it goes through, anew at every evaluation: a filter that draws should be
            applied beforehand.
        strength: Share of the filtered picture, from 0 to 1, as a function of the times ``(n,)``, such as stronger
            while there is much noise; None filters fully at all times.

    Returns:
        The denoiser; its plain prediction is that under the conditions as they are.

    Raises:
        ValueError: In use, a filter of a condition that is not given.

    Source: FilterPrompt: Guiding Image Transfer in Diffusion Models (2024).
    """

    def both(x_t: Tensor, t: Tensor, condition: Any = None) -> tuple[Tensor, Tensor]:
        given = {} if condition is None else dict(condition)
        missing = set(filters) - set(given)
        if missing:
            raise ValueError(f"condition: expected {', '.join(sorted(missing))} to filter, found {sorted(given)}.")
        seen = dict(given)
        for name, change in filters.items():
            seen[name] = change(given[name])
            if strength is not None:
                share = spread(strength(t).to(given[name].dtype), given[name])
                seen[name] = given[name] + share * (seen[name] - given[name])
        return denoiser(x_t, t, condition), denoiser(x_t, t, seen)

    return Guided(both)


def filtered_rows(
    condition: Mapping[str, Tensor], filters: Mapping[str, Filter], probability: float, generator: Noise = None
) -> dict[str, Tensor]:
    """Show some rows of a training batch their conditions through filters, each condition by a chance of its own.

    A network that has only seen whole pictures does not know what to make of filtered ones.

    Args:
        condition: Pictures ``(n, c, h, w)`` by name, and whatever else.
        filters: By name of a condition.
        probability: Chance of each row and filter.
        generator: Source of randomness.
    """
    shown = dict(condition)
    for name, change in filters.items():
        picture = condition[name]
        chosen = rand((len(picture),), generator, device=picture.device) < probability
        shown[name] = torch.where(spread(chosen, picture), change(picture), picture)
    return shown


def lowband(
    denoiser: Denoiser,
    reference: Float[Tensor, "... c h w"],
    cutoff: float,
    until: float = 0.5,
    *,
    strength: float = 1.0,
    through: Filter | None = None,
) -> Guided:
    """A denoiser whose forecasts have the coarse structure of a reference while there is much noise.

    ``x0_hat + k L (reference - x0_hat)`` with the projection L onto the waves of at most `cutoff` periods a side: a
    linear guidance with ``A = L``. With ``k = 1`` the low band of the forecast is exactly the reference's.

    Args:
        denoiser: Of pictures ``(n, c, h, w)``.
        reference: The structure's picture, one for all rows or one each.
        cutoff: Periods a side.
        until: Share of the time axis, from t = 1 down, in which this is done; published 0.4 to 0.6 of the steps.
        strength: k.
        through: A second projection that commutes with the first, such as `filters.luma`, which leaves the colour free.

    Raises:
        ValueError: A share outside [0, 1].

    Source: FilterPrompt: Guiding Image Transfer in Diffusion Models (2024).
    """
    if not 0 <= until <= 1:
        raise ValueError(f"until: expected a share from 0 to 1, found {until}.")
    low = band(cutoff)

    def both(x_t: Tensor, t: Tensor, condition: Any = None) -> tuple[Tensor, Tensor]:
        plain = denoiser(x_t, t, condition)
        gap = low(reference.to(plain.dtype) - plain)
        gap = gap if through is None else through(gap)
        share = strength * (spread(t, x_t) >= 1 - until).to(plain.dtype)
        return plain, plain + share * gap

    return Guided(both)
