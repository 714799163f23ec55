"""Guidance of categories: each class of each cell is weighed by what is expected of a factor if the cell has it."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from clarkia.denoisers import Denoiser
from clarkia.guidance import estimates
from clarkia.guidance.estimates import LogFactor, settled
from clarkia.guidance.guided import Guided
from clarkia.processes import Discrete
from clarkia.random import Noise

METHODS = ("exact", "enumerate", "mc", "predictor", "taylor")


def categorical(
    denoiser: Denoiser,
    process: Discrete,
    log_factor: LogFactor,
    method: Literal["exact", "enumerate", "mc", "predictor", "taylor"] = "mc",
    *,
    scale: float = 1.0,
    num_draws: int = 64,
    smoothing: float | None = 1.0,
    generator: Noise = None,
) -> Guided:
    """A denoiser of the law ``p(x_0) l(x_0)^scale``: ``p0_g[i, j]`` is ``p0_hat[i, j] E[l | x_t, x_0^i = j]``.

    With the exact expectation this is the tilted law's own denoiser, under masks (whose clock does not depend on
    content) as under any other noise. What is drawn or enumerated takes the cells for independent given ``x_t``, as the
    prediction does; the particle filter, with this denoiser as its proposal, removes the rest. Cells that are certain
    stay as they are.

    Args:
        denoiser: Of one discrete block.
        process: Its corruption.
        log_factor: The logarithm of l, in the form that the method asks for.
        method: ``"exact"``: ``log_factor(x_t, t) -> (n, ..., K)`` is the logarithm of the expectation itself.
            ``"enumerate"``: ``log_factor(x_0) -> (n,)`` of clean classes is summed over all rows (small spaces only).
            ``"mc"``: the same averaged over rows drawn from the prediction.
            ``"predictor"``: ``log_factor(x_t, t) -> (n,)`` knows noisy rows, as a classifier trained on them does,
            and is asked for every class of every uncertain cell.
            ``"taylor"``: ``log_factor(one_hot, t) -> (n,)`` takes floating rows ``(n, ..., states)``, and one gradient
            stands for all candidates. The states are the classes and, under masks, the mask after them.
        scale: Power of the factor.
        num_draws: Rows drawn by ``"mc"``.
        smoothing: Draws of average weight that each class is credited with by ``"mc"``. Above 0 no class is lost that
            the prediction allows, which a proposal needs; None takes the bare shares of the weight.
        generator: Source of the draws: None or a `torch.Generator`.

    Returns:
        A denoiser that also tells the unguided answer, at the cost of one evaluation.

    Raises:
        ValueError: An unknown method, fewer than one draw, a negative smoothing; in use, a factor of another shape, NaN
            or plus infinity, a space too large to enumerate, or (without masks, by predictor or gradient) a time where
            alpha is 0 and nothing distinguishes the candidates.

    Source: TFG-Flow: Training-free Guidance in Multimodal Generative Flow (2025); by predictor and by gradient,
    Unlocking Guidance for Discrete State-Space Diffusion and Flow Models (2024).
    """
    if method not in METHODS:
        raise ValueError(f"method: expected one of {list(METHODS)}, found {method!r}.")
    if num_draws < 1:
        raise ValueError(f"num_draws: expected at least 1, found {num_draws}.")
    if smoothing is not None and not smoothing >= 0:
        raise ValueError(f"smoothing: expected None or a number from 0 on, found {smoothing}.")
    drawing = {"num_draws": num_draws, "smoothing": smoothing or None, "generator": generator}
    estimate = estimates.parts(method, log_factor, process, scale, drawing)

    def both(x_t: Tensor, t: Tensor, condition: Any = None) -> tuple[Tensor, Tensor]:
        plain = denoiser(x_t, t, *(() if condition is None else (condition,)))
        return plain, settled(estimate(x_t, t, plain), plain)

    return Guided(both)
