"""Several modalities corrupted as one: their encodings are added up in a latent that a Gaussian process makes noisy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.processes.gaussian import Gaussian
from clarkia.processes.kernels import GaussianKernel
from clarkia.processes.times import check_step, check_time, spread
from clarkia.random import Noise, randn

Encoder: TypeAlias = Callable[[Tensor], Tensor]
"""From a modality ``(n, ...)`` to the latent's shape; classes come as int64, or as log-probabilities to average."""


class AggregatedGaussian:
    """``z_t = alpha sum_i W_i(t) E_i(x_i) + sigma eps``: one latent for modalities that enter it at their own times.

    A modality enters by weights ``w_1 ... w_T`` over T steps: each step of the corruption first adds ``w_n E(x)`` and
    then shrinks and blurs the whole, so ``W(n / T)`` is the sum of ``w_k / alpha((k - 1) / T)`` over ``k <= n``. A
    weight that comes late is lost on the way to the data: such a modality is decided early in the reverse pass, and has
    to be read off while it is there.

    Args:
        process: The Gaussian process of the noise.
        encoders: By modality, how it becomes a latent; fixed, or normalised so that it cannot shrink to nothing.
        shares: By modality a number, its constant share ``W``, or weights ``(T,)`` with the same T for all. The main
            one usually has 1.0, others 0.1 to 1 of it.

    Raises:
        ValueError: Shares of other modalities or of different lengths.

    Source: Diffusion Models for Multi-Task Generative Modeling (2024).
    """

    def __init__(
        self, process: Gaussian, encoders: Mapping[str, Encoder], shares: Mapping[str, float | Tensor]
    ) -> None:
        if set(encoders) != set(shares):
            raise ValueError(f"shares: expected one for each of {sorted(encoders)}, found {sorted(shares)}.")
        self.process, self.encoders = process, MappingProxyType(dict(encoders))
        tables = {name: torch.as_tensor(share, dtype=torch.float64) for name, share in shares.items()}
        lengths = {len(table) for table in tables.values() if table.ndim == 1}
        if len(lengths) > 1 or any(table.ndim > 1 for table in tables.values()):
            raise ValueError(f"shares: expected numbers or weights of one length, found lengths {sorted(lengths)}.")
        self.num_steps = lengths.pop() if lengths else 1
        starts = torch.arange(self.num_steps, dtype=torch.float64) / self.num_steps
        alpha = torch.where(starts > 0, process.alpha(starts), 1.0)
        self._totals = {
            name: (table / alpha).cumsum(0) if table.ndim else table.expand(self.num_steps)
            for name, table in tables.items()
        }

    @property
    def constant(self) -> bool:
        """Whether all modalities are in the latent from the start, so that its clean signal is one and the same."""
        return all(bool((total == total[0]).all()) for total in self._totals.values())

    def share(self, name: str, t: Tensor) -> Tensor:
        """``W(t)`` of a modality, float64 of the shape of ``t``; at t = 0 that of the first step."""
        # A time that is n / T but for the rounding of single precision belongs to step n.
        step = torch.ceil(t.double() * self.num_steps - 1e-3).long().clamp(1, self.num_steps)
        return self._totals[name].to(t.device)[step - 1]

    def signal(self, x: Mapping[str, Tensor], t: Tensor) -> Float[Tensor, "n ..."]:
        """``sum_i W_i(t) E_i(x_i)``, what the noise is added to, in the precision of the encodings.

        Args:
            x: By modality data, or what is predicted of them.
            t: Times ``(n,)``.
        """
        total = None
        for name, encode in self.encoders.items():
            if name not in x:
                raise ValueError(f"x: expected the modalities {sorted(self.encoders)}, found no {name!r}.")
            code = encode(x[name])
            part = spread(self.share(name, t), code).to(code.dtype) * code
            total = part if total is None else total + part
        assert total is not None
        return total

    def corrupt(self, x: Mapping[str, Tensor], t: Tensor, *, generator: Noise = None) -> Float[Tensor, "n ..."]:
        """Draw ``z_t`` given the data.

        Raises:
            ValueError: A time outside [0, 1], or a modality that is not there.
        """
        check_time(t)
        return self.process.corrupt(self.signal(x, t), t, generator=generator)

    def prior(
        self,
        num_samples: int,
        shape: Sequence[int],
        *,
        generator: Noise = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Float[Tensor, "n ..."]:
        """Draw pure noise ``(num_samples, *shape)``."""
        return self.process.prior(num_samples, shape, generator=generator, dtype=dtype, device=device)

    def kernel(
        self, z_t: Float[Tensor, "n ..."], prediction: Mapping[str, Tensor], t: Tensor, s: Tensor, *, eta: float = 1.0
    ) -> GaussianKernel:
        """The step from t to s that takes the predicted modalities for the data over the whole step.

        Args:
            z_t: Latent at time t.
            prediction: By modality ``x_hat``, or log-probabilities of classes.
            t: Times ``(n,)``.
            s: Times to go to, at most t.
            eta: 1 for the posterior ``q(z_s | z_t, x)``, 0 for the deterministic step with the same marginals.
        """
        start, end = spread(t, z_t), spread(s, z_t, "s")
        check_step(start, end)
        decay, weight, std = (part.to(z_t.dtype) for part in self.process.step_weights(start, end, eta=eta))
        before, after = self.signal(prediction, t), self.signal(prediction, s)
        # What enters between s and t has left the latent at s; of a constant signal nothing does.
        leaving = decay * self.process.alpha(start).to(z_t.dtype) * (after - before)
        return GaussianKernel(decay * z_t + weight * after + leaving, std)


@dataclass(frozen=True, eq=False)
class ClassEncoder:
    """Classes as vectors of a latent's shape.

    Args:
        vectors: ``(K, *shape)``.
    """

    vectors: Tensor

    @classmethod
    def random(cls, num_classes: int, shape: Sequence[int], *, generator: Noise = None) -> ClassEncoder:
        """Fixed random vectors whose numbers have mean square one."""
        vectors = randn((num_classes, *shape), generator)
        axes = tuple(range(1, vectors.ndim))
        return cls(vectors / vectors.square().mean(axes, keepdim=True).sqrt())

    def __call__(self, x: Tensor) -> Tensor:
        """The vector of each class ``(n,)``, or the mean vector under log-probabilities ``(n, K)``."""
        vectors = self.vectors.to(x.device)
        if not x.is_floating_point():
            return vectors[x]
        with torch.autocast(x.device.type, enabled=False):  # as exact as the vectors of classes themselves
            return torch.tensordot(x.exp().to(vectors.dtype), vectors, 1)


def identity(x: Any) -> Any:
    """The encoder of a modality that has the latent's shape already."""
    return x
