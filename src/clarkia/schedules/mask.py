"""Mask schedules over t in [0, 1]: the probability ``alpha`` that a position is still visible."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from clarkia.schedules.columns import against, like


class _PolynomialMaskForm:
    """The arithmetic of a polynomial mask, whether its exponent is given or learned."""

    k: float | Tensor
    eps_max: float
    eps_min: float

    def alpha(self, t: Tensor) -> Tensor:
        """Probability of being unmasked; ``(n,)`` or, with a ``k`` a column, ``(n, columns)``."""
        k = like(self.k, t)
        return 1 - ((1 - self.eps_max - self.eps_min) * against(t, k) ** k + self.eps_min)

    def d_alpha(self, t: Tensor) -> Tensor:
        """Derivative of that probability."""
        k = like(self.k, t)
        return -(1 - self.eps_max - self.eps_min) * k * against(t, k) ** (k - 1)

    def t_of_alpha(self, alpha: Tensor) -> Tensor:
        """Time at which that probability is ``alpha``."""
        k = like(self.k, alpha)
        level = (1 - against(alpha, k) - self.eps_min) / (1 - self.eps_max - self.eps_min)
        return level.clamp(min=0) ** (1 / k)


@dataclass(frozen=True, eq=False)
class PolynomialMask(_PolynomialMaskForm):
    """Visible with probability ``1 - ((1 - eps_max - eps_min) t^k + eps_min)``; linear at ``k = 1``.

    Args:
        k: Exponent, a number or a tensor with one a column.
        eps_max: Probability of being visible at t = 1.
        eps_min: Probability of being masked towards t = 0.
    """

    k: float | Tensor = 1.0
    eps_max: float = 0.0
    eps_min: float = 0.0

    def __post_init__(self) -> None:
        if not bool((torch.as_tensor(self.k) > 0).all()):
            raise ValueError(f"k: expected positive numbers, found {self.k}.")
        if min(self.eps_max, self.eps_min) < 0 or self.eps_max + self.eps_min >= 1:
            raise ValueError(f"eps: expected eps_max, eps_min >= 0 with sum < 1, found {self.eps_max}, {self.eps_min}.")


class LearnedPolynomialMask(nn.Module, _PolynomialMaskForm):
    """`PolynomialMask` with a trained ``k = softplus(kappa) + 1`` a column; ``kappa`` starts at -6, ``k`` at 1.00248.

    Args:
        num_columns: Number of columns.
        eps_max: Probability of being visible at t = 1.
        eps_min: Probability of being masked towards t = 0.

    Source: TabDiff: a Mixed-type Diffusion Model for Tabular Data Generation (2024).
    """

    def __init__(self, num_columns: int, eps_max: float = 1e-3, eps_min: float = 1e-5) -> None:
        super().__init__()
        self.eps_max, self.eps_min = eps_max, eps_min
        self.raw = nn.Parameter(torch.full((num_columns,), -6.0))

    @property
    def k(self) -> Tensor:  # type: ignore[override]
        """Exponent of each column, above 1."""
        return softplus(self.raw) + 1


@dataclass(frozen=True)
class CosineMask:
    """``alpha = 1 - cos(pi (1 - t) / 2)``, MaskGIT's, which reveals few positions first; ``late`` is its mirror image.

    Args:
        late: Use ``alpha = cos(pi t / 2)`` instead, which reveals most positions first.

    Source: MaskGIT: Masked Generative Image Transformer (2022).
    """

    late: bool = False

    def alpha(self, t: Tensor) -> Tensor:
        """Probability of being unmasked."""
        return torch.sin(0.5 * math.pi * (1 - t)) if self.late else 1 - torch.sin(0.5 * math.pi * t)

    def d_alpha(self, t: Tensor) -> Tensor:
        """Derivative of that probability."""
        return -0.5 * math.pi * torch.sin(0.5 * math.pi * (t if self.late else 1 - t))

    def t_of_alpha(self, alpha: Tensor) -> Tensor:
        """Time at which that probability is ``alpha``."""
        return (2 / math.pi) * (torch.acos(alpha) if self.late else torch.asin(1 - alpha))


@dataclass(frozen=True)
class SquaredCosineMask:
    """``alpha = cos(pi t / 2)^2``, slow at both ends.

    Source: Improved Denoising Diffusion Probabilistic Models (2021), without its offset.
    """

    def alpha(self, t: Tensor) -> Tensor:
        """Probability of being unmasked, exactly 0 at t = 1."""
        return torch.sin(0.5 * math.pi * (1 - t)) ** 2

    def d_alpha(self, t: Tensor) -> Tensor:
        """Derivative of that probability."""
        return -0.5 * math.pi * torch.sin(math.pi * t)

    def t_of_alpha(self, alpha: Tensor) -> Tensor:
        """Time at which that probability is ``alpha``."""
        return (2 / math.pi) * torch.acos(alpha.sqrt())


@dataclass(frozen=True)
class GeometricMask:
    """``alpha = exp(-sigma)`` with the total noise ``sigma = sigma_min^(1 - t) sigma_max^t``, SEDD's.

    It never reaches its ends: a share ``1 - exp(-sigma_min)`` is noise towards t = 0 (a process takes t = 0 itself as
    clean), and ``exp(-sigma_max)`` is still clean at t = 1.

    Args:
        sigma_min: Total noise towards t = 0.
        sigma_max: Total noise at t = 1.

    Source: Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution (2024).
    """

    sigma_min: float = 1e-4
    sigma_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(
                f"sigma_min, sigma_max: expected 0 < sigma_min < sigma_max, found {self.sigma_min}, {self.sigma_max}."
            )

    def alpha(self, t: Tensor) -> Tensor:
        """Probability of being unmasked."""
        return torch.exp(-self._total(t))

    def d_alpha(self, t: Tensor) -> Tensor:
        """Derivative of that probability."""
        total = self._total(t)
        return -math.log(self.sigma_max / self.sigma_min) * total * torch.exp(-total)

    def t_of_alpha(self, alpha: Tensor) -> Tensor:
        """Time at which that probability is ``alpha``; 0 where the schedule never gets so high, above 1 so low."""
        ratio = math.log(self.sigma_max / self.sigma_min)
        return ((-alpha.log()).log() - math.log(self.sigma_min)).div(ratio).clamp(min=0)

    def _total(self, t: Tensor) -> Tensor:
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** t
