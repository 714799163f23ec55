"""TFG-Flow: mixed rows steered by a loss of clean rows, with nothing trained for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from clarkia.denoisers import Denoiser
from clarkia.guidance.guided import Guided
from clarkia.guidance.mixed_blocks import weighed
from clarkia.guidance.slopes import slopes
from clarkia.processes import Gaussian, Mixed, spread
from clarkia.processes.times import Time, block_time
from clarkia.random import Noise, randn
from clarkia.spaces import num_rows

Loss = Callable[[dict[str, Tensor]], Tensor]
"""``loss(x_0) -> (n,)`` of clean rows, differentiable in their numbers."""


@dataclass(frozen=True, eq=False)
class TFGFlow:
    """One guided step of TFG-Flow: where it moves the numbers to, and what it predicts there.

    Draw K rows of categories from the prediction and weigh each by ``exp(-loss / temperature)`` beside the predicted
    numbers. Their shares of the weight are the guided categories. Given one of them, `num_iterations` times each: the
    noisy numbers descend the loss of what is predicted from them, by rho; then what is predicted from where they have
    got to descends the loss itself, by mu. Gradients are scaled down, row by row, to a root mean square of at most
    `clip`.

    Args:
        process: The mixed process.
        loss: ``loss(x_0) -> (n,)``.
        temperature: Of the weights, in units of the loss; `loss_spread` proposes one.
        rho: Step of the noisy numbers, in their units; 0 leaves them where they are.
        mu: Step of the predicted numbers; None for rho.
        num_draws: K.
        num_iterations: Descents of each kind.
        clip: Largest root mean square of a gradient.
        noise: The predicted numbers are shown to the loss with noise of this times ``sigma_t``.
        schedule: ``"constant"``: both steps are the same at all times, as published. ``"variance"``: they are those at
            the noise end, times ``sigma^2 / (alpha^2 + sigma^2)``, the variance that noise leaves of unit data. So a
            proposal stays within the width of its steps, however many there are.
        smoothing: As in `categorical`; None as published.
        project: Applied to every gradient, ``project(slope) -> slope``, such as `zero_mean`.

    Raises:
        ValueError: A temperature or clip that is not positive, fewer than one draw, negative steps.

    Source: TFG-Flow: Training-free Guidance in Multimodal Generative Flow (2025).
    """

    process: Mixed
    loss: Loss
    temperature: float
    rho: float = 0.0
    mu: float | None = None
    num_draws: int = 512
    num_iterations: int = 4
    clip: float = 1.0
    noise: float = 0.0
    schedule: Literal["constant", "variance"] = "constant"
    smoothing: float | None = None
    project: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        for name in ("temperature", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, found {getattr(self, name)}.")
        for name, least in (("num_draws", 1), ("num_iterations", 0), ("rho", 0), ("noise", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name}: expected at least {least}, found {getattr(self, name)}.")
        if self.mu is not None and self.mu < 0:
            raise ValueError(f"mu: expected at least 0, found {self.mu}.")
        if self.schedule not in ("constant", "variance"):
            raise ValueError(f"schedule: expected 'constant' or 'variance', found {self.schedule!r}.")

    def __call__(
        self, denoise: Callable[[Any, Any], Any], x_t: Mapping[str, Tensor], t: Time, generator: Noise = None
    ) -> tuple[Any, Any, Any]:
        """The unguided prediction, the state with its numbers moved, and the guided prediction.

        Args:
            denoise: ``denoise(x_t, t) -> prediction``.
            x_t: The noisy rows.
            t: Their time.
            generator: Source of randomness.
        """
        x_t = dict(x_t)
        plain = denoise(x_t, t)
        rows = weighed(self.process, lambda x0: -self.loss(x0) / self.temperature, plain, self.num_draws, generator)
        chosen = rows.chosen(generator)
        numbers = {name: x_t[name] for name, part in self.process.blocks.items() if isinstance(part, Gaussian)}
        paces = {name: self._pace(name, x, t) for name, x in numbers.items()}

        def ahead(moving: dict[str, Tensor]) -> Tensor:
            answer = denoise({**x_t, **moving}, t)
            return self.loss({**{name: answer[name] for name in moving}, **chosen})

        moved = self._descended(ahead, numbers, paces, self.rho)
        there = {**x_t, **moved}
        answer = denoise(there, t) if self.rho > 0 and self.num_iterations else plain
        shifts = {name: self._blur(name, x, t, generator) for name, x in numbers.items()}

        def at_rest(clean: dict[str, Tensor]) -> Tensor:
            return self.loss({**{name: x + shifts[name] for name, x in clean.items()}, **chosen})

        start = {name: answer[name].detach() for name in numbers}
        ends = self._descended(at_rest, start, paces, self.rho if self.mu is None else self.mu)
        return plain, there, {**ends, **rows.guided(plain, self.smoothing)}

    def _descended(
        self, loss: Loss, blocks: dict[str, Tensor], paces: dict[str, Tensor], step: float
    ) -> dict[str, Tensor]:
        """The blocks after the descents."""
        for _ in range(self.num_iterations if step > 0 else 0):
            found = slopes(loss, blocks, "loss")
            blocks = {name: x - step * paces[name] * self._tamed(found[name]) for name, x in blocks.items()}
        return blocks

    def _pace(self, name: str, x: Tensor, t: Time) -> Tensor:
        """How fast each element descends at its time; observed ones do not."""
        part, time = self.process.blocks[name], block_time(t, name)
        assert isinstance(part, Gaussian)
        alpha, sigma = part.coefficients(time, x)
        pace = torch.ones_like(sigma) if self.schedule == "constant" else sigma**2 / (alpha**2 + sigma**2)
        return torch.where(spread(time, x) > 0, pace, 0.0)

    def _tamed(self, slope: Tensor) -> Tensor:
        slope = slope if self.project is None else self.project(slope)
        size = slope.flatten(1).square().mean(1).sqrt().reshape(-1, *(1,) * (slope.ndim - 1))
        return slope * (self.clip / torch.where(size > 0, size, self.clip)).clamp(max=1)

    def _blur(self, name: str, x: Tensor, t: Time, generator: Noise) -> Tensor | float:
        if self.noise == 0:
            return 0.0
        part = self.process.blocks[name]
        assert isinstance(part, Gaussian)
        sigma = part.coefficients(block_time(t, name), x)[1]
        return self.noise * sigma * randn(x.shape, generator, dtype=x.dtype, device=x.device)


def tfg_mixed(denoiser: Denoiser, guide: TFGFlow, *, generator: Noise = None) -> Guided:
    """TFG-Flow as a denoiser, which any solver of mixed rows can walk and a particle filter can take as its proposal.

    The categories and the predicted numbers are those of the guide. Where it moves the noisy numbers, this shows only
    in what is predicted from there; `samplers.Moved` walks from the moved state itself, as published. As a proposal
    give the guide a `smoothing` above 0, so that it excludes no class that the target allows.

    Args:
        denoiser: Of the mixed process; differentiable in the numbers where rho is not 0.
        guide: What to do at each step.
        generator: Source of the draws: None or a `torch.Generator`.

    Source: TFG-Flow: Training-free Guidance in Multimodal Generative Flow (2025).
    """

    def both(x_t: dict[str, Tensor], t: Time, condition: Any = None) -> tuple[Any, Any]:
        given = () if condition is None else (condition,)
        plain, _, guided = guide(lambda x, time: denoiser(x, time, *given), x_t, t, generator)
        return plain, guided

    return Guided(both)


def loss_spread(
    denoiser: Denoiser,
    process: Mixed,
    loss: Loss,
    x0: dict[str, Tensor],
    *,
    num_draws: int = 512,
    time: float = 0.5,
    generator: Noise = None,
) -> float:
    """A temperature of the order of the losses: the median difference of two draws' losses at one time.

    Two draws of the same row, or of rows that are worth the same, say nothing of that order and do not count.

    Args:
        denoiser: Of the mixed process.
        process: The process.
        loss: ``loss(x_0) -> (n,)`` of clean rows.
        x0: Some clean rows, of the data or of the model, to be corrupted.
        num_draws: Rows of categories drawn for each.
        time: Where on the way, in (0, 1].
        generator: Source of randomness.

    Raises:
        ValueError: No two draws differ, so that the loss does not tell categories apart.

    Source: TFG-Flow: Training-free Guidance in Multimodal Generative Flow (2025).
    """
    floats = [x.dtype for x in x0.values() if x.is_floating_point()]
    t = torch.full((num_rows(x0),), time, dtype=floats[0] if floats else None)
    prediction = denoiser(process.corrupt(x0, t, generator=generator), t)
    losses = -weighed(process, lambda x: -loss(x), prediction, num_draws, generator).log_weights
    first, second = torch.triu_indices(num_draws, num_draws, 1)
    gaps = (losses[:, first] - losses[:, second]).abs()
    apart = gaps[gaps.isfinite() & (gaps > 1e-12 * losses.abs().amax())]
    if not len(apart):
        raise ValueError(f"loss: expected one that tells categories apart at time {time}, found no two that differ.")
    return float(apart.median())


def zero_mean(slope: Tensor) -> Tensor:
    """A gradient ``(n, atoms, ...)`` less its mean over atoms: a step along it leaves the centre where it is."""
    return slope - slope.mean(1, keepdim=True)
