"""The denoising loss of a mixed space, and its evidence lower bound, from one corrupted draw a row."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.objectives.draws import Times, count_times, independent_times, observed_columns, stratified
from clarkia.processes import Gaussian, Masked, VarianceExploding
from clarkia.processes import Mixed as MixedProcess
from clarkia.random import Noise, rand
from clarkia.schedules import PolynomialMask

Denoiser = Callable[..., dict[str, Tensor]]


@dataclass(frozen=True)
class MixedDenoising:
    """Masked cross-entropy plus EDM-weighted squared error of the Gaussian blocks, at one shared time a row.

    A share of the rows has random columns observed: they are shown clean, at time zero, and left out of the loss, so
    that one denoiser learns the law of any columns given any others.

    Args:
        process: a mixed process over blocks of shape (p,).
        columns: by block, (p,) index of the data column that each position belongs to.
        subset_probability: share of rows with observed columns.

    Sources: TabDiff: a Mixed-type Diffusion Model for Tabular Data Generation (2024); the count form of the masked
    bound, Your Absorbing Discrete Diffusion Secretly Models the Conditional Distributions of Clean Data (2024).
    """

    process: MixedProcess
    columns: dict[str, Tensor]
    subset_probability: float = 0.5

    def __call__(
        self, denoiser: Denoiser, x0: dict[str, Tensor], generator: Noise = None, condition: Any = None
    ) -> dict[str, Tensor]:
        """Loss of every row by block, each (n,); their sum is what training minimises.

        A condition is handed to the denoiser where it is not None.
        """
        times = self._draw(x0, self.subset_probability, generator)
        _, t, prediction = self._denoise(denoiser, x0, times, generator, condition)
        losses = {}
        for name, block in self.process.blocks.items():
            if isinstance(block, Masked):
                losses[name] = self._masked_bound(name, block, x0[name], prediction[name], times)
            elif isinstance(block, Gaussian):
                error = (prediction[name] - x0[name]).square() * _edm_weight(block.sigma(t[name]))
                error = torch.where(self._part(times.observed, name), 0.0, error).sum(1)
                losses[name] = error * times.continuous_weight.to(error.dtype)
            else:
                raise ValueError(f"process: expected a masked or a Gaussian block {name!r}, found {block!r}.")
        return losses | self._schedule_gradient(losses, times)

    def elbo(
        self, denoiser: Denoiser, x0: dict[str, Tensor], generator: Noise = None, condition: Any = None
    ) -> Float[Tensor, " n"]:
        """One unbiased draw of every row's evidence lower bound on log p(x0), float64 nats (n,).

        The Gaussian terms are those of the continuous-time reverse process from N(0, sigma_max^2) down to sigma_min
        and a Gaussian decoder of that width.

        Raises:
            ValueError: A continuous block whose process is not variance exploding.

        Sources: Variational Diffusion Models (2021); Simplified and Generalized Masked Diffusion for Discrete Data
        (2024).
        """
        times = self._draw(x0, 0.0, generator)
        x_t, t, prediction = self._denoise(denoiser, x0, times, generator, condition)
        bound = torch.zeros_like(times.row)
        for name, block in self.process.blocks.items():
            if isinstance(block, Masked):
                bound -= self._masked_bound(name, block, x0[name], prediction[name], times).double()
            elif isinstance(block, VarianceExploding):
                cells = (part[name].double() for part in (x0, x_t, prediction, t))
                fixed, drawn = _exploding_bound(block, *cells)
                bound -= fixed + drawn * times.continuous_weight
            else:
                raise ValueError(f"process: expected a variance-exploding block {name!r}, found {block!r}.")
        return bound

    # ------------------------------------------------------------------------------------------- corruption

    def _draw(self, x0: dict[str, Tensor], subset_probability: float, generator: Noise) -> Times:
        first = next(iter(x0.values()))
        n, device = len(first), first.device
        masked = {name: isinstance(block, Masked) for name, block in self.process.blocks.items()}
        column = torch.cat([self.columns[name] for name in masked]).to(device)
        observed = observed_columns(n, column, subset_probability, generator)
        if subset_probability > 0:
            # One row in four that shows columns shows their categories alone: a range query knows no more of them.
            numbers_too = rand((n, 1), generator, device=device) < 0.75
            continuous = torch.cat([torch.full((len(self.columns[name]),), not masked[name]) for name in masked])
            observed &= numbers_too | ~continuous.to(device)
        if all(_is_linear(block) for block in self.process.blocks.values() if isinstance(block, Masked)):
            maskable = torch.cat([torch.full((len(self.columns[name]),), masked[name]) for name in masked])
            return count_times(observed, maskable.to(device), generator)
        row = stratified(n, generator, device=device)
        return independent_times(observed, self._visible(row).detach(), row, generator)

    def _denoise(
        self, denoiser: Denoiser, x0: dict[str, Tensor], times: Times, generator: Noise, condition: Any = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        x_t, t = {}, {}
        for name, block in self.process.blocks.items():
            observed = self._part(times.observed, name)
            if isinstance(block, Masked):
                t[name] = torch.where(observed, 0.0, times.row[:, None])
                x_t[name] = torch.where(self._part(times.masked, name), block.mask_state(x0[name].device), x0[name])
            else:
                t[name] = torch.where(observed, 0.0, times.row[:, None]).to(x0[name].dtype)
                x_t[name] = block.corrupt(x0[name], t[name], generator=generator)
        prediction = denoiser(x_t, t) if condition is None else denoiser(x_t, t, condition)
        return x_t, t, prediction

    def _part(self, whole: Tensor, name: str) -> Tensor:
        """The columns of a tensor over all positions that belong to one block."""
        names = list(self.process.blocks)
        return torch.split(whole, [len(self.columns[key]) for key in names], dim=1)[names.index(name)]

    def _visible(self, row: Float[Tensor, " n"]) -> Float[Tensor, "n p"]:
        """Probability that each position is still visible; one for continuous positions."""
        parts = []
        for name, block in self.process.blocks.items():
            t = row[:, None].expand(-1, len(self.columns[name]))
            parts.append(block.alpha(t) if isinstance(block, Masked) else torch.ones_like(t))
        return torch.cat(parts, dim=1)

    # ------------------------------------------------------------------------------------------------ terms

    def _masked_bound(self, name: str, block: Masked, x0: Tensor, log_probs: Tensor, times: Times) -> Tensor:
        masked = self._part(times.masked, name)
        nats = torch.where(masked, -log_probs.gather(-1, x0[..., None])[..., 0], 0.0)
        if times.masked_weight is not None:
            return nats.sum(1) * times.masked_weight.to(nats.dtype)
        return (nats * block.weight(times.row[:, None].expand_as(nats))).sum(1).to(nats.dtype)

    def _schedule_gradient(self, losses: dict[str, Tensor], times: Times) -> dict[str, Tensor]:
        """A term of value zero whose gradient is that of the mask draw with respect to a learned mask schedule.

        The score-function estimator with the batch mean as baseline is unbiased and asks nothing of the network; the
        published straight-through Gumbel-softmax draw is neither.
        """
        visible = self._visible(times.row)
        if not visible.requires_grad:
            return {}
        log_q = torch.where(times.masked, torch.log1p(-visible.clamp(max=1 - 1e-12)), visible.log())
        log_q = torch.where(times.observed, 0.0, log_q).sum(1)
        total = sum(losses.values()).detach()  # type: ignore[union-attr]
        return {"schedule": (total - total.mean()) * (log_q - log_q.detach())}


def _is_linear(block: Masked) -> bool:
    """Whether a cell's mask time is uniform in [0, 1]."""
    schedule = block.schedule
    return isinstance(schedule, PolynomialMask) and (schedule.k, schedule.eps_max, schedule.eps_min) == (1.0, 0.0, 0.0)


def _edm_weight(sigma: Tensor) -> Tensor:
    """1 / c_out^2 for unit data variance: the loss of the best constant guess is one at every noise level."""
    return torch.where(sigma > 0, 1.0 + sigma.clamp(min=1e-12).pow(-2), 0.0)


def _exploding_bound(
    block: VarianceExploding, x0: Tensor, x_t: Tensor, x0_hat: Tensor, t: Tensor
) -> tuple[Tensor, Tensor]:
    """Terms of the negative bound of each row: what does not depend on the draw, and what does.

    Prior and decoder are closed forms. So is the diffusion term of a standard normal's denoiser, x_t / (1 + sigma^2):
    its integral over all noise levels is added and its value at the drawn one subtracted, a control variate that takes
    most of the variance, because at little noise every denoiser agrees with it.
    """
    ends = torch.tensor([1.0, 1e-300], dtype=torch.float64, device=x0.device)[:, None].expand(-1, x0.shape[1])
    largest, smallest = block.sigma(ends)
    sigma = block.sigma(t)
    reference = x_t / (1.0 + sigma.square())
    excess = (x0 - x0_hat).square() - (x0 - reference).square()
    prior = 0.5 * (x0 / largest).square()
    decoder = 0.5 * math.log(2 * math.pi) + 0.5 + smallest.log()
    standard_normal = _normal_diffusion(x0, largest.square()) - _normal_diffusion(x0, smallest.square())
    return (prior + decoder + standard_normal).sum(1), (excess * block.d_sigma(t) * sigma.pow(-3)).sum(1)


def _normal_diffusion(x0: Tensor, variance: Tensor) -> Tensor:
    """Antiderivative of (v^2 x0^2 + v) / (1 + v)^2 / (2 v^2), the reference's diffusion term at noise variance v."""
    inverse = 1.0 / (1.0 + variance)
    return 0.5 * ((1.0 - x0.square()) * inverse - torch.log1p(1.0 / variance))
