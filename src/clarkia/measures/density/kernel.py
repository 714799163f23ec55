"""The kernel density estimator, with a count of the rows that its value rests on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from clarkia._math.linear import whitening
from clarkia.measures.density.bandwidths import by_leaving_out, by_neighbours
from clarkia.measures.density.neighbourhoods import Neighbourhood, neighbourhoods, row_numbers
from clarkia.measures.density.profiles import profile
from clarkia.measures.inputs import features
from clarkia.oracles.smoothed import KernelSmoothed
from clarkia.random import Noise


@dataclass(frozen=True)
class KernelDensity:
    """Options of a kernel density; `fit` makes the density.

    Attributes:
        bandwidth: A positive number; ``"loo"`` for the best mean log-density of rows left out in turn; ``"nn"`` for
            the root mean square distance to the nearest row, a dimension, which in many dimensions is near the best.
        kernel: ``"gaussian"``, ``"exponential"``, ``"epanechnikov"``, ``"tophat"`` or ``"cauchy"``.
        whiten: Whether to measure distances in whitened coordinates (covariance shrunk by Ledoit and Wolf's rule),
            which is one bandwidth matrix of the data's shape. The density stays that of the original coordinates.

    Raises:
        ValueError: An unknown bandwidth rule or kernel, or a bandwidth that is not positive.
    """

    bandwidth: Literal["loo", "nn"] | float = "loo"
    kernel: str = "gaussian"
    whiten: bool = False

    def __post_init__(self) -> None:
        profile(self.kernel)
        if self.bandwidth in ("loo", "nn"):
            return
        if not isinstance(self.bandwidth, int | float) or not 0 < self.bandwidth < math.inf:
            raise ValueError(f"bandwidth: expected 'loo', 'nn' or a positive number, found {self.bandwidth!r}.")

    def fit(self, x: Any, *, generator: Noise = None) -> FittedKernelDensity:
        """Keep the rows and choose the bandwidth.

        Args:
            x: Rows, ``(n, d)``; at least two different ones where the bandwidth is chosen or rows are whitened.
            generator: Chooses the rows by which the bandwidth is judged where there are more than a thousand.

        Raises:
            ValueError: Rows that are not a finite matrix, or too few.
        """
        rows = features(x, "x")
        if (self.whiten or isinstance(self.bandwidth, str)) and not bool((rows != rows[0]).any()):
            raise ValueError(f"x: expected at least 2 different rows, found {len(rows)} equal ones.")
        mean, axes = rows.mean(0), None
        if self.whiten:
            white = whitening(rows)
            mean, axes = white.mean, white.matrix
        placed = rows - mean if axes is None else (rows - mean) @ axes
        kernel = profile(self.kernel)
        if self.bandwidth == "loo":
            bandwidth = by_leaving_out(placed, kernel, generator)
        elif self.bandwidth == "nn":
            bandwidth = by_neighbours(placed, kernel, generator)
        else:
            bandwidth = float(self.bandwidth)
        return FittedKernelDensity(rows, bandwidth, self.kernel, mean, axes)


@dataclass(frozen=True, eq=False)
class FittedKernelDensity:
    """A kernel density of given rows; made by `KernelDensity.fit`.

    Attributes:
        data: The rows, float64 ``(n, d)``.
        bandwidth: In the units of the rows, or of whitened ones.
        kernel: Name of the kernel.
        mean: Origin of the coordinates in which distances are measured, ``(d,)``.
        axes: Matrix of those coordinates, ``z = (x - mean) axes``, ``(d, d)``; None for the original ones.
    """

    data: Float64[Tensor, "n d"]
    bandwidth: float
    kernel: str
    mean: Float64[Tensor, " d"]
    axes: Float64[Tensor, "d d"] | None
    _rows: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rows", self._place(self.data))

    def log_prob(self, x: Any) -> Float64[Tensor, " m"]:
        """Log-density of ``x`` ``(m, d)``, float64 ``(m,)``, differentiable in ``x``; higher is likelier."""
        return self.neighbourhood(x).log_prob

    def effective_neighbours(self, x: Any) -> Float64[Tensor, " m"]:
        """Number of rows on which the density at ``x`` ``(m, d)`` rests, ``1 / sum_i w_i^2``, float64 ``(m,)``.

        Near 1 the value tells the distance of one row and little else. At a row of the data it counts that row: ask
        `leave_one_out` there.
        """
        return self.neighbourhood(x).effective

    def neighbourhood(self, x: Any) -> Neighbourhood:
        """Log-density at ``x`` ``(m, d)`` and how the rows share it, each ``(m,)``.

        Raises:
            ValueError: Points that are not a finite matrix of the data's width.
        """
        return self._gather(self._place(self._check(x)))

    def leave_one_out(self) -> Neighbourhood:
        """The same at every row under all others, ``(n,)``; equal rows are left out together.

        Raises:
            ValueError: All rows are equal.
        """
        numbers = row_numbers(self.data)
        if int(numbers.max()) == 0:
            raise ValueError(f"data: expected at least 2 different rows, found {len(self.data)} equal ones.")
        return self._gather(self._rows, (numbers, numbers))

    def oracle(self) -> KernelSmoothed:
        """The same law as an oracle that samples, denoises, tilts and conditions; of the Gaussian kernel only.

        At noise level k its denoiser is that of the bandwidth ``sqrt(h^2 + k^2)``: the rows' weighted mean.
        """
        if self.kernel != "gaussian":
            raise ValueError(f"kernel: expected 'gaussian' for an oracle, found {self.kernel!r}.")
        if self.axes is None:
            return KernelSmoothed(self.data, self.bandwidth)
        return KernelSmoothed(self.data, self.bandwidth * torch.linalg.inv(self.axes).mT)

    def _gather(self, queries: Tensor, numbers: tuple[Tensor, Tensor] | None = None) -> Neighbourhood:
        bandwidths = torch.tensor([self.bandwidth], dtype=torch.float64, device=queries.device)
        found = neighbourhoods(queries, self._rows, bandwidths, profile(self.kernel), numbers=numbers)
        log_det = 0.0 if self.axes is None else torch.linalg.slogdet(self.axes).logabsdet
        return Neighbourhood(found.log_prob[0] + log_det, found.effective[0], found.top[0], found.perplexity[0])

    def _check(self, x: Any) -> Float[Tensor, "m d"]:
        points = features(x, "x")
        if points.shape[1] != self.data.shape[1]:
            raise ValueError(f"x: expected {self.data.shape[1]} columns, found {points.shape[1]}.")
        return points

    def _place(self, x: Tensor) -> Tensor:
        centred = x - self.mean
        return centred if self.axes is None else centred @ self.axes
