"""Guidance of mixed rows: first the categories are drawn, then the numbers follow a gradient given that draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.denoisers import Denoiser
from clarkia.guidance.draws import checked, joint_draws, relative_weights, repeated
from clarkia.guidance.estimates import masses, settled
from clarkia.guidance.gradients import evaluated
from clarkia.guidance.guided import Guided
from clarkia.processes import Discrete, Mixed
from clarkia.processes.times import Time
from clarkia.random import Noise, categorical


@dataclass(frozen=True, eq=False)
class Weighed:
    """Rows of categories drawn from a prediction and weighed at its numbers.

    Attributes:
        draws: By categorical block, int64 ``(n, m, ...)``.
        log_weights: float64 ``(n, m)``.
    """

    draws: dict[str, Tensor]
    log_weights: Float[Tensor, "n m"]

    def chosen(self, generator: Noise = None) -> dict[str, Tensor]:
        """One of the rows in proportion to its weight, by block ``(n, ...)``."""
        pick = categorical(relative_weights(self.log_weights).log(), generator)
        rows = torch.arange(len(pick), device=pick.device)
        return {name: draws[rows, pick] for name, draws in self.draws.items()}

    def guided(self, prediction: Mapping[str, Tensor], smoothing: float | None) -> dict[str, Tensor]:
        """The guided log-probabilities of each block; see `estimates.masses`."""
        weights = relative_weights(self.log_weights)
        return {
            name: settled(masses(draws, weights, prediction[name], smoothing), prediction[name])
            for name, draws in self.draws.items()
        }


def weighed(
    process: Mixed,
    log_factor: Callable[[dict[str, Tensor]], Tensor],
    prediction: Mapping[str, Tensor],
    num_draws: int,
    generator: Noise = None,
) -> Weighed:
    """Draw rows of categories from a prediction and weigh each, beside the predicted numbers, by a factor."""
    draws = {
        name: joint_draws(prediction[name], num_draws, generator)
        for name, part in process.blocks.items()
        if isinstance(part, Discrete)
    }
    numbers = {name: repeated(prediction[name].detach(), num_draws) for name in prediction if name not in draws}
    rows = len(next(iter(prediction.values())))
    with torch.no_grad():
        values = log_factor(numbers | {name: block.flatten(0, 1) for name, block in draws.items()})
    return Weighed(draws, checked(values, rows * num_draws, "log_factor").view(rows, num_draws))


def mixed(
    denoiser: Denoiser,
    process: Mixed,
    log_factor: Callable[[dict[str, Tensor]], Tensor],
    *,
    scale: float = 1.0,
    num_draws: int = 64,
    smoothing: float | None = 1.0,
    generator: Noise = None,
) -> Guided:
    """A denoiser of mixed rows that is drawn towards a factor of the clean data, by its values and its gradient.

    The categories are guided as by ``categorical(..., method="mc")``, weighed beside the predicted numbers. One of the
    drawn rows is taken, and given its categories each number moves by ``(sigma_t^2 / alpha_t)`` times the gradient of
    the log-factor of ``x0_hat`` with respect to ``x_t``. It is a heuristic: exact where the log-factor is linear in
    numbers that are normal given categories that are known.

    Args:
        denoiser: Of a mixed process; differentiable in the numbers.
        process: The process.
        log_factor: ``log_factor(x_0) -> (n,)`` of clean rows, differentiable in the numbers.
        scale: Power of the factor.
        num_draws: Rows of categories drawn a row.
        smoothing: As in `categorical`.
        generator: Source of the draws: None or a `torch.Generator`.

    Returns:
        A denoiser that also tells the unguided answer.

    Raises:
        ValueError: Fewer than one draw; in use, a factor of another shape, NaN or plus infinity, or not differentiable.

    Source: TFG-Flow: Training-free Guidance in Multimodal Generative Flow (2025).
    """
    if num_draws < 1:
        raise ValueError(f"num_draws: expected at least 1, found {num_draws}.")

    def worth(x0: dict[str, Tensor]) -> Tensor:
        return scale * log_factor(x0)

    def both(x_t: dict[str, Tensor], t: Time, condition: Any = None) -> tuple[Any, Any]:
        here = evaluated(denoiser, process, x_t, t, condition)
        plain = here.plain
        rows = weighed(process, worth, plain, num_draws, generator)
        chosen = rows.chosen(generator)
        with torch.enable_grad():
            value = worth({**{name: here.prediction[name] for name in here.leaves}, **chosen})
        # A factor of the categories alone leads no numbers.
        guided = here.moved(here.pulled(value)) if value.requires_grad else dict(plain)
        return plain, {**guided, **rows.guided(plain, smoothing)}

    return Guided(both)
