"""Guidance by any differentiable function: potentials of the noisy state or of the prediction, and classifiers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from clarkia.denoisers import Denoiser
from clarkia.guidance.gradients import Evaluated, continuous_blocks, evaluated, mapped
from clarkia.guidance.guided import Guided
from clarkia.processes import Process
from clarkia.processes.times import Time
from clarkia.spaces import State, num_rows


def potential(
    denoiser: Denoiser,
    process: Process,
    log_h: Callable[..., Tensor],
    *,
    at: Literal["x0_hat", "x_t"] = "x0_hat",
    scale: float = 1.0,
) -> Guided:
    """A denoiser led by the gradient of a function: ``x0_hat + (sigma^2 / alpha) scale grad log h``.

    It samples ``p(x_0) h_0(x_0)`` exactly if ``h_t(x_t)`` is the mean of ``h_0(x_0)`` given ``x_t``. A function of the
    prediction stands in for that mean, and is right only as far as the prediction is certain; the gradient then runs
    through the denoiser, which costs one backward pass. Categories keep their probabilities: only numbers are led.
    Elements at t = 0 stay as they are, and where alpha is 0, at the start of a run of pure noise, nothing is led.

    Args:
        denoiser: The denoiser.
        process: Its process, Gaussian or mixed with a Gaussian block.
        log_h: ``log_h(x0_hat) -> (n,)``, of a prediction; or ``log_h(x_t, t) -> (n,)``, of a noisy state. It is
            differentiable; for a mixed process predictions and states are dicts.
        at: Which of the two it is.
        scale: Factor of the gradient.

    Returns:
        The guided denoiser; it knows its plain answer as well.

    Raises:
        ValueError: A process without continuous blocks or an unknown ``at``; in use, a function that is not one number
            a row or that cannot be differentiated.

    Source: Diffusion Posterior Sampling for General Noisy Inverse Problems (2023); Score-Based Generative Modeling
    through Stochastic Differential Equations (2021).
    """
    if at not in ("x0_hat", "x_t"):
        raise ValueError(f"at: expected 'x0_hat' or 'x_t', found {at!r}.")
    continuous_blocks(process)

    def of_prediction(x_t: State, t: Time, condition: Any = None) -> tuple[Any, Any]:
        here = evaluated(denoiser, process, x_t, t, condition)
        with torch.enable_grad():
            value = one_a_row(log_h(here.prediction), x_t)
        return here.plain, here.moved(here.pulled(value), scale)

    def of_state(x_t: State, t: Time, condition: Any = None) -> tuple[Any, Any]:
        plain = mapped(denoiser(x_t, t, *(() if condition is None else (condition,))), lambda _, block: block.detach())
        # The denoiser need not be differentiated: the function's own state carries the gradient.
        here = evaluated(lambda x, time: x, process, x_t, t)
        with torch.enable_grad():
            value = one_a_row(log_h(here.x_t, t), x_t)
        answered = Evaluated(process, here.x_t, t, plain, here.leaves)
        return plain, answered.moved(here.pulled(value), scale)

    return Guided(of_prediction if at == "x0_hat" else of_state)


def classifier(
    denoiser: Denoiser, process: Process, log_prob: Callable[[Any, Any], Tensor], *, scale: float = 1.0
) -> Guided:
    """A denoiser led by a classifier of noisy states: `potential` at ``x_t`` with ``log p(c | x_t, t)``.

    With the exact classifier and scale 1 it is the denoiser of the data of the class.

    Args:
        denoiser: The denoiser.
        process: Its process.
        log_prob: ``log_prob(x_t, t) -> (n,)``, log-probability of the wanted class at a noisy state.
        scale: Factor of the gradient; above 1 the class is exaggerated.

    Raises:
        ValueError: As `potential`.

    Source: Diffusion Models Beat GANs on Image Synthesis (2021).
    """
    return potential(denoiser, process, log_prob, at="x_t", scale=scale)


def one_a_row(value: Any, x_t: State) -> Tensor:
    """A function's value, checked to be one number a row."""
    if not isinstance(value, Tensor) or value.shape != (num_rows(x_t),):
        found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"log_h, loss: expected one number a row, shape ({num_rows(x_t)},), found {found}.")
    return value
