"""Several losses at once: each with a weight, a window of times and a norm, in a region, the rest left as it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clarkia._math.regions import pasted
from clarkia.denoisers import Denoiser
from clarkia.guidance.gradients import tweedie_factor
from clarkia.guidance.guided import Guided
from clarkia.processes import Gaussian
from clarkia.processes.times import spread

Normalise: TypeAlias = Literal["none", "unit", "match_eps"]


@dataclass(frozen=True, eq=False)
class Term:
    """One loss of a composite.

    Args:
        loss: ``loss(x0_hat)``, or ``loss(x0_hat, target)`` where a target is given, a number a row ``(n,)``;
            differentiable, such as `cosine_distance`, `squared_distance` or `cross_entropy` of a network.
        target: What it is compared with.
        weight: lambda, a number, or a function of the times ``(n,)``.
        window: Times ``(low, high)`` within which the term acts; decoders and classifiers make little sense of
            forecasts from much noise, and need not be asked where little is left to change.
        normalise: What is done to its gradient, row by row: "none"; "unit", norm 1; "match_eps", the norm of the
            predicted noise.

    Raises:
        ValueError: A window outside [0, 1], or another way to normalise.
    """

    loss: Callable[..., Tensor]
    target: Any = None
    weight: float | Callable[[Tensor], Tensor] = 1.0
    window: tuple[float, float] = (0.0, 1.0)
    normalise: Normalise = "none"

    def __post_init__(self) -> None:
        low, high = self.window
        if not 0 <= low <= high <= 1:
            raise ValueError(f"window: expected 0 <= low <= high <= 1, found {self.window}.")
        if self.normalise not in get_args(Normalise):
            raise ValueError(f"normalise: expected one of {get_args(Normalise)}, found {self.normalise!r}.")

    def of(self, x0_hat: Tensor) -> Float[Tensor, " n"]:
        """The loss of every row."""
        return self.loss(x0_hat) if self.target is None else self.loss(x0_hat, self.target)

    def share(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Lambda at the time of every row, 0 outside the window."""
        low, high = self.window
        weight = self.weight(t) if callable(self.weight) else torch.full_like(t, self.weight)
        return torch.where((t >= low) & (t <= high), weight, 0.0)


@dataclass(frozen=True)
class Pull:
    """What the terms did at one evaluation; terms that pull in opposite directions have cosines near -1.

    Attributes:
        t: Times, ``(n,)``.
        losses: Of each row and term, ``(n, K)``; 0 where a term does not act on any row.
        norms: Of the terms' gradients, weighted and normalised, ``(n, K)``.
        cosines: Between them, ``(n, K, K)``; 0 where either is 0.
    """

    t: Tensor
    losses: Tensor
    norms: Tensor
    cosines: Tensor


def composite(
    denoiser: Denoiser,
    process: Gaussian,
    terms: Sequence[Term],
    *,
    region: Tensor | None = None,
    reference: Tensor | None = None,
    decode: Callable[[Tensor], Tensor] | None = None,
    skip: bool = False,
    listen: Callable[[Pull], None] | None = None,
) -> Guided:
    """A denoiser pulled by several losses of what it forecasts, in a region alone where one is given.

    ``x0_hat + (sigma^2 / alpha) sum_k g_k`` with ``g_k = -lambda_k(t) grad_{x_t} L_k(decode(x0_hat))``, normalised if
    asked. With a Gaussian law and quadratic losses this is the linear guidance of all their operators stacked. Where
    alpha is 0 the state tells nothing of the data, and nothing pulls.

    This is a mechanism for any losses. The library ships no recogniser of faces or persons, nor a tool that exchanges
    them.

    Args:
        denoiser: Of one continuous block.
        process: The corruption.
        terms: The losses.
        region: bool or from 0 to 1, broadcastable against a state: where to change; None for everywhere.
        reference: A clean state: outside the region the forecast is its own, so that a run that starts from it
            (`samplers.started`) ends in it there exactly. None leaves the forecast outside unguided.
        decode: From latents to what the losses look at; gradients go through it.
        skip: Take gradients with respect to the forecast instead of the state and add ``sum_k g_k`` itself: no backward
            pass through the denoiser, and no curvature.
        listen: Called with a `Pull` at each evaluation at which a term acts.

    Raises:
        ValueError: No term, or a reference without a region.

    Source: LDFaceNet: Latent Diffusion-based Network for High-Fidelity Deepfake Generation (2024), its mechanism alone.
    """
    if not terms:
        raise ValueError("terms: expected at least one, found none.")
    if reference is not None and region is None:
        raise ValueError("region: expected one beside a reference, found None; a reference holds outside a region.")

    def both(x_t: Tensor, t: Tensor, condition: Any = None) -> tuple[Tensor, Tensor]:
        row_t = t if t.ndim == 1 else t.flatten(1).amax(1)
        reached = (tweedie_factor(process, x_t, t) > 0).expand(x_t.shape).flatten(1).any(1)
        shares = torch.stack([torch.where(reached, term.share(row_t), 0.0) for term in terms], 1)
        if not bool((shares != 0).any()):
            plain = denoiser(x_t, t, condition)
            return plain, _held(plain, region, reference)
        with torch.enable_grad():
            state = x_t.detach().requires_grad_()
            x0_hat = denoiser(state, t, condition)
            moved = x0_hat.detach().requires_grad_() if skip else state
            forecast = moved if skip else x0_hat
            seen = forecast if decode is None else decode(forecast)
            eps = process.epsilon(x_t, x0_hat.detach(), t)
            pull = _pull(terms, shares, seen, moved, eps, row_t, listen)
        plain = x0_hat.detach()
        if not skip:
            pull = tweedie_factor(process, x_t, t) * pull
        guided = plain + (pull if region is None else region * pull)
        return plain, _held(guided, region, reference)

    return Guided(both)


def _pull(
    terms: Sequence[Term],
    shares: Tensor,
    seen: Tensor,
    moved: Tensor,
    eps: Tensor,
    t: Tensor,
    listen: Callable[[Pull], None] | None,
) -> Tensor:
    """The sum of the terms' gradients; one backward pass where none must be looked at by itself."""
    acting = [bool(share.any()) for share in shares.T]
    losses = [
        term.of(seen) if acts else shares.new_zeros(len(shares)) for term, acts in zip(terms, acting, strict=True)
    ]
    if listen is None and all(term.normalise == "none" for term in terms):
        total = sum((share * loss).sum() for share, loss in zip(shares.T, losses, strict=True))
        assert isinstance(total, Tensor)
        return -torch.autograd.grad(total, moved)[0]
    gradients = []
    for term, acts, share, loss in zip(terms, acting, shares.T, losses, strict=True):
        if not acts:
            gradients.append(torch.zeros_like(moved))
            continue
        gradient = -torch.autograd.grad(loss.sum(), moved, retain_graph=True)[0]
        gradients.append(spread(share.to(gradient.dtype), moved) * _normalised(gradient, term.normalise, eps))
    if listen is not None:
        listen(_described(t, torch.stack([loss.detach() for loss in losses], 1), gradients))
    return sum(gradients)  # type: ignore[return-value]


def _normalised(gradient: Tensor, how: Normalise, eps: Tensor) -> Tensor:
    if how == "none":
        return gradient
    norm = _norm(gradient)
    wanted = _norm(eps) if how == "match_eps" else torch.ones_like(norm)
    return gradient * spread(torch.where(norm > 0, wanted / torch.where(norm > 0, norm, 1.0), 0.0), gradient)


def _norm(x: Tensor) -> Float[Tensor, " n"]:
    return x.flatten(1).norm(dim=1)


def _described(t: Tensor, losses: Tensor, gradients: Sequence[Tensor]) -> Pull:
    flat = torch.stack([gradient.flatten(1).double() for gradient in gradients], 1)
    norms = flat.norm(dim=2)
    unit = flat / torch.where(norms > 0, norms, 1.0)[..., None]
    return Pull(t, losses, norms, unit @ unit.mT)


def _held(x0_hat: Tensor, region: Tensor | None, reference: Tensor | None) -> Tensor:
    """The forecast inside a region and the reference outside, which is kept bit for bit."""
    return x0_hat if region is None or reference is None else pasted(x0_hat, reference, region)


# ------------------------------------------------------------------------------------------------------- losses


def cosine_distance(features: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss ``1 - cos`` between the features ``(n, d)`` of a forecast and a target's ``(d,)`` or ``(n, d)``."""
    return lambda x0, target: 1 - F.cosine_similarity(features(x0), target.expand_as(features(x0)), dim=1)


def squared_distance(
    features: Callable[[Tensor], Tensor] | None = None, *, where: Tensor | None = None
) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss ``|features(x0) - target|^2 / 2``, the points themselves without features.

    Args:
        features: ``features(x0) -> (n, ...)``.
        where: Weights broadcastable against the features, such as what lies outside a region.
    """

    def loss(x0: Tensor, target: Tensor) -> Tensor:
        error = (x0 if features is None else features(x0)) - target
        weighed = error**2 if where is None else where * error**2
        return weighed.flatten(1).sum(1) / 2

    return loss


def cross_entropy(logits: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss ``-log p(target)`` of a network's logits ``(n, K, ...)``, summed over positions.

    The target is a class, ``()``, or a map of classes ``(...)`` or ``(n, ...)``, int64.
    """

    def loss(x0: Tensor, target: Tensor) -> Tensor:
        answer = logits(x0)
        wanted = target.expand(len(answer), *answer.shape[2:])
        return F.cross_entropy(answer, wanted, reduction="none").reshape(len(answer), -1).sum(1)

    return loss
