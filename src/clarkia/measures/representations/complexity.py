"""How deep is a feature computed: the share of it that linear readouts find in a network's layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia.measures.fields.checks import check_count
from clarkia.measures.inputs import features
from clarkia.random import Noise, rand, randn

PENALTIES = torch.logspace(-6, 4, 21, dtype=torch.float64)  # over the mean variance of the columns


@dataclass(frozen=True, eq=False)
class VComplexity:
    """Complexity of k features over l layers.

    Attributes:
        value: One minus the mean over layers of what a readout explains, float64 ``(k,)``: 0 for a feature that can be
            read off everywhere, near 1 for one that appears at the end.
        readable: Share of each feature's variance that a linear readout explains on rows it was not fitted on, at
            least 0, by layer ``(k,)``.
    """

    value: Float64[Tensor, " k"]
    readable: Mapping[str, Float64[Tensor, " k"]]


def v_complexity(layers: Mapping[str, Any], z: Any, *, generator: Noise = None) -> VComplexity:
    """Complexity of features, from linear readouts of every layer.

    ``K(z) = 1 - mean_l R^2_l``, with ``R^2_l`` the V-information of layer l about z for linear normal predictors, of z
    with unit variance. A ridge readout is fitted on a third of the rows, its penalty chosen on another, its R^2 taken
    on the last.

    Args:
        layers: Features ``(n, d_l)`` of the layers in question, by name, the same rows in each; more rows than columns.
        z: The features whose complexity is asked for, ``(n,)`` or ``(n, k)``.
        generator: Source of the split.

    Returns:
        One complexity a feature, and the readouts behind it.

    Raises:
        ValueError: No layers, rows that do not fit or are too few, values that are not finite, a constant feature.

    Source: Understanding Visual Feature Reliance through the Lens of Complexity (2024).
    """
    if not layers:
        raise ValueError("layers: expected at least one layer, found none.")
    target = torch.as_tensor(z)
    target = features(target.unsqueeze(1) if target.ndim == 1 else target, "z").detach()
    n = len(target)
    if n < 9:
        raise ValueError(f"z: expected at least 9 rows, three a third, found {n}.")
    order = rand((n,), generator).argsort().to(target.device)
    thirds = (order[: n // 3], order[n // 3 : 2 * n // 3], order[2 * n // 3 :])
    flat = (target.amax(0) - target.amin(0)) == 0
    if bool(flat.any()):
        raise ValueError(f"z: expected features that vary, found a constant one in column {int(flat.int().argmax())}.")
    readable = {}
    for name, layer in layers.items():
        x = features(layer, f"layers[{name!r}]").detach()
        if len(x) != n:
            raise ValueError(f"layers[{name!r}]: expected {n} rows as z has, found {len(x)}.")
        readable[name] = readout(x, target, thirds).clamp(min=0.0)
    return VComplexity(1 - torch.stack(list(readable.values())).mean(0), readable)


def readout(
    x: Float64[Tensor, "n d"], z: Float64[Tensor, "n k"], thirds: tuple[Tensor, Tensor, Tensor]
) -> Float64[Tensor, " k"]:
    """R^2 of a ridge readout of z from x on the last third; may be negative.

    Args:
        x: What is read.
        z: What is looked for.
        thirds: Rows to fit on, to choose the penalty on (one for each column of z), and to score on.
    """
    fit, choose, score = thirds
    centre, mean = x[fit].mean(0), z[fit].mean(0)
    u, s, vt = torch.linalg.svd(x[fit] - centre, full_matrices=False)
    scale = s.square().mean().clamp(min=torch.finfo(s.dtype).tiny)  # bounds a layer that is constant
    projected = u.T @ (z[fit] - mean)
    # All penalties at once: (penalty, component, 1) weights on one decomposition.
    shrink = (s / (s.square() + PENALTIES.to(s.device)[:, None] * scale)).unsqueeze(2)
    inner = (x[choose] - centre) @ vt.T
    missed = (inner @ (shrink * projected) - (z[choose] - mean)).square().sum(1)
    best = missed.argmin(0)
    weights = shrink[best, :, 0].T * projected
    left = (z[score] - mean - ((x[score] - centre) @ vt.T) @ weights).square().sum(0)
    return 1 - left / (z[score] - z[score].mean(0)).square().sum(0)


def redundancy(
    activations: Any, z: Any, *, share: float = 0.5, num_masks: int = 50, generator: Noise = None
) -> Float64[Tensor, " k"]:
    """How much of features is left in a layer when random channels are taken out of it.

    The mean over masks of ``CKA(A mask, z) / CKA(A, z)``, with the linear kernel alignment CKA.

    Args:
        activations: The layer A, ``(n, d)``.
        z: Features, ``(n,)`` or ``(n, k)``.
        share: Part of the channels that a mask keeps.
        num_masks: Number of random masks.
        generator: Source of the masks.

    Returns:
        One number a feature: near 1 for one that many channels carry, lower for one that few do.

    Raises:
        ValueError: Rows that do not fit, values that are not finite, a share outside (0, 1), no masks.

    Source: Understanding Visual Feature Reliance through the Lens of Complexity (2024).
    """
    a, z = _same_rows(activations, z)
    if not 0 < share < 1:
        raise ValueError(f"share: expected a number between 0 and 1, found {share}.")
    whole = linear_cka(a, z)
    kept = max(1, round(share * a.shape[1]))
    total = torch.zeros_like(whole)
    for _ in range(check_count(num_masks, "num_masks")):
        index = rand((a.shape[1],), generator).argsort()[:kept].to(a.device)
        total += linear_cka(a[:, index], z)
    return total / num_masks / whole


def linear_cka(a: Float64[Tensor, "n d"], z: Float64[Tensor, "n k"]) -> Float64[Tensor, " k"]:
    """Linear centred kernel alignment of a layer with each of k features alone, in [0, 1]."""
    a, z = a - a.mean(0), z - z.mean(0)
    inner = a.T @ z
    # The kernel of one feature is z z', of norm |z|^2; the layer's norm comes from its smaller Gram matrix.
    gram = a.T @ a if a.shape[1] <= len(a) else a @ a.T
    return inner.square().sum(0) / (gram.norm() * z.square().sum(0))


def importance(
    codes: Float64[Tensor, "n k"], dictionary: Float64[Tensor, "k d"], head: Float64[Tensor, "classes d"]
) -> Float64[Tensor, "classes k"]:
    """What each feature of a dictionary does to each logit of a linear head: ``E|dy/dz z| = E|z_i| |w . D_i|``.

    Args:
        codes: Features z of the data.
        dictionary: Atoms D, with activations ``z D``.
        head: Weights of the head on the activations.

    Source: Understanding Visual Feature Reliance through the Lens of Complexity (2024).
    """
    return (head @ dictionary.T).abs() * codes.abs().mean(0)


def sensitivity(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    noise: float = 0.1,
    num_draws: int = 100,
    generator: Noise = None,
) -> Float64[Tensor, " k"]:
    """Variance of features under normal noise on the input, averaged over the data.

    Args:
        function: Inputs to features ``(n, k)``.
        x: Inputs with n rows.
        noise: Standard deviation of the noise.
        num_draws: Draws, at least 2.
        generator: Source of the noise.

    Raises:
        ValueError: A noise that is negative, too few draws, or features that are not finite rows.

    Source: Understanding Visual Feature Reliance through the Lens of Complexity (2024).
    """
    if not noise >= 0:
        raise ValueError(f"noise: expected a standard deviation of at least 0, found {noise}.")
    mean = square = torch.zeros((), dtype=torch.float64)
    for draw in range(check_count(num_draws, "num_draws", least=2)):
        found = function(x + noise * randn(x.shape, generator, dtype=x.dtype, device=x.device))
        value = features(found, "function").detach()
        step = value - mean  # Welford's recursion: no difference of large squares
        mean = mean + step / (draw + 1)
        square = square + step * (value - mean)
    return (square / (num_draws - 1)).mean(0)


def _same_rows(a: Any, z: Any) -> tuple[Tensor, Tensor]:
    a, z = features(a, "activations").detach(), torch.as_tensor(z)
    z = features(z.unsqueeze(1) if z.ndim == 1 else z, "z").detach()
    if len(a) != len(z):
        raise ValueError(f"z: expected {len(a)} rows as the activations have, found {len(z)}.")
    return a, z
