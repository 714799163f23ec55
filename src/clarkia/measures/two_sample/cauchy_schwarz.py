"""Cauchy-Schwarz divergences from Gaussian Gram matrices, in log-sum-exp."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from clarkia._math.pairwise import CHUNK, median_distance, row_log_means
from clarkia.measures.inputs import features, lazy_pair, pair
from clarkia.measures.kernels import Gaussian


def cauchy_schwarz(
    x: Tensor | np.ndarray, y: Tensor | np.ndarray, bandwidth: float | None = None, *, chunk: int = CHUNK
) -> Float64[Tensor, ""]:
    """``-log( (int p q)^2 / (int p^2 int q^2) )`` of the laws p and q of two samples, each smoothed.

    ``log mean K_xx + log mean K_yy - 2 log mean K_xy`` with a Gaussian kernel estimates the divergence of the laws
    after adding noise ``N(0, bandwidth^2 / 2 I)`` to both. Lower is better; never negative, 0 for equal sets, and above
    0 for two finite samples of one law, the more so the smaller the bandwidth. Differentiable.

    Args:
        x: Features ``(n, d)``.
        y: Features ``(m, d)``.
        bandwidth: Of the kernel, in units of the features; by default the median distance of the pooled rows.
        chunk: Rows of a block on either side.

    Returns:
        A float64 number, in nats.

    Raises:
        ValueError: Different widths, values that are not finite, a bandwidth that is not positive.

    Source: The Cauchy-Schwarz divergence and Parzen windowing: Connections to graph theory and Mercer kernels (2006).
    """
    x, y = lazy_pair(x, y)
    kernel = Gaussian(median_distance(x, y) if bandwidth is None else bandwidth)
    own_x, own_y, cross = (_log_mean(row_log_means(kernel.log, a, b, chunk=chunk)) for a, b in ((x, x), (y, y), (x, y)))
    return own_x + own_y - 2 * cross


def conditional_cauchy_schwarz(
    inputs: Tensor | np.ndarray,
    y: Tensor | np.ndarray,
    z: Tensor | np.ndarray,
    *,
    input_bandwidth: float | None = None,
    output_bandwidth: float | None = None,
    chunk: int = CHUNK,
) -> Float64[Tensor, ""]:
    """Divergence of two conditional laws ``p(y | x)`` and ``q(z | x)`` observed at the same inputs.

    With the Gram matrix K of the inputs and L of the outputs,
    ``log S(L_yy) + log S(L_zz) - 2 log S(L_zy)``, ``S(L) = sum_j sum_i K_ji L_ji / (sum_i K_ji)^2``. Lower is better; 0
    for equal outputs; an estimate may be slightly negative. Differentiable.

    Args:
        inputs: ``(n, d)``.
        y: Outputs of the first law, ``(n, e)``.
        z: Outputs of the second law at the same inputs, ``(n, e)``.
        input_bandwidth: Of K; by default the inputs' median distance.
        output_bandwidth: Of L; by default the median distance of all outputs.
        chunk: Rows of a block on either side.

    Returns:
        A float64 number, in nats.

    Raises:
        ValueError: Numbers of rows or widths that do not fit, values that are not finite.

    Source: The Conditional Cauchy-Schwarz Divergence with Applications to Time-Series Data and Sequential Decision
    Making (2023).
    """
    inputs = features(inputs, "inputs")
    y, z = pair(y, z, ("y", "z"))
    for rows, name in ((y, "y"), (z, "z")):
        if len(rows) != len(inputs):
            raise ValueError(f"{name}: expected {len(inputs)} rows as inputs has, found {len(rows)}.")
    k = Gaussian(median_distance(inputs) if input_bandwidth is None else input_bandwidth)
    outputs = Gaussian(median_distance(y, z) if output_bandwidth is None else output_bandwidth)
    width = inputs.shape[1]

    def both(a: Tensor, b: Tensor) -> Tensor:
        return k.log(a[:, :width], b[:, :width]) + outputs.log(a[:, width:], b[:, width:])

    density = row_log_means(k.log, inputs, inputs, chunk=chunk)

    def log_s(first: Tensor, second: Tensor) -> Tensor:
        rows, others = torch.cat([inputs, first], 1), torch.cat([inputs, second], 1)
        return (row_log_means(both, rows, others, chunk=chunk) - 2 * density).logsumexp(0)

    return log_s(y, y) + log_s(z, z) - 2 * log_s(z, y)


def cauchy_schwarz_dependence(
    x: Tensor | np.ndarray,
    t: Tensor | np.ndarray,
    *,
    x_bandwidth: float | None = None,
    t_bandwidth: float | None = None,
    chunk: int = CHUNK,
) -> Float64[Tensor, ""]:
    """How far two paired variables are from independent: the divergence of their joint law from the product.

    ``log mean_ij K_ij Q_ij + log (mean K mean Q) - 2 log mean_i (mean_j K_ij mean_j Q_ij)`` with Gram matrices K of x
    and Q of t. Never negative; 0 in the population exactly for independent (smoothed) variables. Differentiable.

    Args:
        x: ``(n, d)``.
        t: ``(n, e)``, row i beside row i of x.
        x_bandwidth: Of K; by default the median distance.
        t_bandwidth: Of Q; by default the median distance.
        chunk: Rows of a block on either side.

    Returns:
        A float64 number, in nats.

    Raises:
        ValueError: Different numbers of rows, values that are not finite.

    Source: Cauchy-Schwarz Divergence Information Bottleneck for Regression (2024).
    """
    x, t = features(x, "x"), features(t, "t")
    if len(x) != len(t):
        raise ValueError(f"t: expected {len(x)} rows as x has, found {len(t)}.")
    k = Gaussian(median_distance(x) if x_bandwidth is None else x_bandwidth)
    q = Gaussian(median_distance(t) if t_bandwidth is None else t_bandwidth)
    width = x.shape[1]

    def both(a: Tensor, b: Tensor) -> Tensor:
        return k.log(a[:, :width], b[:, :width]) + q.log(a[:, width:], b[:, width:])

    joined = torch.cat([x, t], 1)
    joint = row_log_means(both, joined, joined, chunk=chunk)
    of_x, of_t = row_log_means(k.log, x, x, chunk=chunk), row_log_means(q.log, t, t, chunk=chunk)
    return _log_mean(joint) + _log_mean(of_x) + _log_mean(of_t) - 2 * _log_mean(of_x + of_t)


def _log_mean(logs: Tensor) -> Tensor:
    return logs.logsumexp(0) - float(np.log(len(logs)))
