"""A flow from codes of one modality to another: encoder and flow trained together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from clarkia.objectives.noise import LogitNormal, NoiseLevels, draw_levels, time_of
from clarkia.processes import Gaussian, RectifiedFlow, spread
from clarkia.random import Noise, rand

Align: TypeAlias = Literal["contrastive", "reconstruct"]
Divergence: TypeAlias = Literal["normal", "published"]


class CrossModal(nn.Module):
    """All that `CrossFlow` trains.

    Args:
        encoder: ``encoder(source) -> SourceCode`` of the target's shape, such as `networks.VariationalEncoder`.
        denoiser: ``denoiser(x_t, t, condition)``, of a network with one label of one class, the indicator.
        image: For ``align="contrastive"``: ``image(target) -> (n, d)``, features projected to the size of a flat code.
        decoder: For ``align="reconstruct"``: ``decoder(z) -> (n, ...)``, compared with the source's features.

    Attributes:
        log_scale: Logarithm of the contrastive loss's inverse temperature, learned; at first that of CLIP, 1 / 0.07.
    """

    def __init__(
        self,
        encoder: nn.Module,
        denoiser: nn.Module,
        *,
        image: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.denoiser, self.image, self.decoder = encoder, denoiser, image, decoder
        self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log()) if image is not None else None


class Paired(NamedTuple):
    """The corrupted rows of one draw.

    Attributes:
        x_t: States between target and code.
        t: Their times, ``(n,)``.
        target: What each row flows to.
        z: The code each row starts from.
        null: Rows whose indicator is withheld and whose target is another row's.
    """

    x_t: Tensor
    t: Float[Tensor, " n"]
    target: Tensor
    z: Tensor
    null: Bool[Tensor, " n"]


@dataclass(frozen=True)
class CrossFlow:
    """The losses of a flow from a code ``z`` of the source to the target, straight lines between the two.

    ``x_t = alpha x_target + sigma z`` and the error of the velocity there, averaged over the numbers of a row. There is
    no other noise: a run starts from ``z`` instead of the prior and is deterministic, so all that varies in the targets
    of one source comes from the variance of its code. The flow transports the law of the codes to that of the targets;
    where codes of different sources overlap, it does not draw from the law given the source.

    Args:
        process: The path; its noise is the code.
        kl_weight: Of the divergence of the code from a standard normal law, which is an average a number of the code.
        divergence: "normal", or "published": see `SourceCode.published_divergence`.
        align: "contrastive": codes and projected features of the target find each other in the batch; "reconstruct":
            the source's features are read back from the code; None for neither.
        null_prob: Chance of a row to have its indicator withheld and to flow to the target of another row, drawn anew:
            without the indicator the flow then leads to the marginal.
        noise: Law of the noise levels.

    Raises:
        ValueError: An option out of its range.

    Source: Flowing from Words to Pixels: A Framework for Cross-Modality Evolution (2024).
    """

    process: Gaussian = field(default_factory=RectifiedFlow)
    kl_weight: float = 1e-2
    divergence: Divergence = "normal"
    align: Align | None = "contrastive"
    null_prob: float = 0.1
    noise: NoiseLevels = field(default_factory=LogitNormal)

    def __post_init__(self) -> None:
        if not 0 <= self.null_prob <= 1 or self.kl_weight < 0:
            found = f"{self.null_prob} and {self.kl_weight}"
            raise ValueError(f"null_prob, kl_weight: expected a share and a non-negative number, found {found}.")
        if self.align not in (None, *get_args(Align)) or self.divergence not in get_args(Divergence):
            raise ValueError(
                f"align, divergence: expected one of {get_args(Align)} or None and of {get_args(Divergence)}, "
                f"found {self.align!r} and {self.divergence!r}."
            )

    def __call__(self, module: CrossModal, batch: Mapping[str, Any], generator: Noise = None) -> dict[str, Tensor]:
        """The losses of every row by name, each weighted, as `training.fit` takes them.

        Args:
            module: What is trained.
            batch: "target" ``(n, ...)``; all else is the source, as the encoder takes it. For
                ``align="reconstruct"`` its "features" are what the decoder should find.
            generator: Source of randomness.

        Returns:
            "flow", "divergence" and, where something is aligned, "align", each ``(n,)``.
        """
        source = {name: part for name, part in batch.items() if name != "target"}
        target = batch["target"]
        code = module.encoder(source)
        z = code.sample(generator)
        losses = {"flow": self.flow(module.denoiser, self.paired(z, target, generator))}
        kl = code.divergence() if self.divergence == "normal" else code.published_divergence()
        losses["divergence"] = self.kl_weight * kl
        if self.align is not None:
            losses["align"] = self._aligned(module, z, target, source)
        return losses

    def paired(self, z: Tensor, target: Tensor, generator: Noise = None) -> Paired:
        """Choose the rows without indicator, give them the target of another row, and corrupt.

        Raises:
            ValueError: A code of another shape than the target; pad or project one of them.
        """
        if z.shape != target.shape:
            found = f"{tuple(z.shape)} and {tuple(target.shape)}"
            raise ValueError(f"target: expected codes and targets of one shape, found {found}; pad or project one.")
        n = len(target)
        t = time_of(self.process, draw_levels(self.noise, n, generator, device=z.device)).to(z.dtype)
        null = rand((n,), generator, device=z.device) < self.null_prob
        other = other_rows(n, generator, device=z.device)
        # Not a permutation among the rows without indicator, which would leave one alone with its own target.
        shown = torch.where(spread(null.to(z.dtype), target) > 0, target[other], target)
        alpha, sigma = self.process.coefficients(t, z)
        return Paired(alpha * shown + sigma * z, t, shown, z, null)

    def flow(self, denoiser: Any, pairs: Paired) -> Float[Tensor, " n"]:
        """Mean squared error of the velocity of every row."""
        x0_hat = denoiser(pairs.x_t, pairs.t, {"label": -pairs.null.to(torch.int64)})
        gap = x0_hat - pairs.target
        # The velocity is linear in the target, whose weight is the root of that of its squared error.
        weight = self.process.loss_weight(spread(pairs.t, gap), "velocity").to(gap.dtype)
        return (weight * gap**2).flatten(1).mean(1)

    def _aligned(self, module: CrossModal, z: Tensor, target: Tensor, source: Mapping[str, Any]) -> Tensor:
        if self.align == "reconstruct":
            if module.decoder is None:
                raise ValueError("decoder: expected a module to reconstruct the source with, found None.")
            return (module.decoder(z) - source["features"]).square().flatten(1).mean(1)
        if module.image is None or module.log_scale is None:
            raise ValueError("image: expected a module of target features to contrast codes with, found None.")
        return contrastive(z.flatten(1), module.image(target), module.log_scale.exp())


def contrastive(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], scale: Tensor | float) -> Float[Tensor, " n"]:
    """Mean of the two cross-entropies by which row i of each finds row i of the other among all, in nats.

    Args:
        a: Vectors, used by direction only.
        b: Likewise.
        scale: Inverse temperature of the cosines.

    Source: Learning Transferable Visual Models From Natural Language Supervision (2021).
    """
    logits = scale * F.normalize(a, dim=1) @ F.normalize(b, dim=1).T
    return -0.5 * (logits.log_softmax(1).diagonal() + logits.log_softmax(0).diagonal())


def other_rows(n: int, generator: Noise = None, *, device: torch.device | str | None = None) -> Int[Tensor, " n"]:
    """For every row another one, any with the same chance; its own where it is the only one."""
    if n == 1:
        return torch.zeros(1, dtype=torch.int64, device=device)
    step = (rand((n,), generator, device=device) * (n - 1)).long().clamp(max=n - 2)
    return (torch.arange(n, device=device) + 1 + step) % n
