"""The parts of a diffusers pipeline as what samplers, guidance and measures take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clarkia.adapters.diffusers.denoiser import PretrainedDenoiser, denoiser_of
from clarkia.processes import Gaussian


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A pipeline taken apart.

    Attributes:
        denoiser: Of its network.
        process: The process the network was trained under.
        shape: Channels, height and width of what the network sees: latents or pixels.
        autoencoder: Turns pictures into latents and back; None where the network sees pixels.
    """

    denoiser: PretrainedDenoiser
    process: Gaussian
    shape: tuple[int, int, int]
    autoencoder: Any = None

    @torch.no_grad()
    def decode(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """The pictures, from -1 to 1, of what the network made."""
        if self.autoencoder is None:
            return x
        scale, shift = self._scale()
        return self.autoencoder.decode(x / scale + shift).sample

    @torch.no_grad()
    def encode(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """What the network would see of pictures from -1 to 1: the means of their latents."""
        if self.autoencoder is None:
            return images
        scale, shift = self._scale()
        return (self.autoencoder.encode(images).latent_dist.mode() - shift) * scale

    def _scale(self) -> tuple[float, float]:
        config = self.autoencoder.config
        return getattr(config, "scaling_factor", None) or 1.0, getattr(config, "shift_factor", None) or 0.0


def from_pipeline(pipeline: Any, **options: Any) -> Pretrained:
    """Take a diffusers pipeline apart.

    Prompts are not embedded here: pass what the pipeline's ``encode_prompt`` gives as ``condition={"tokens": ...}``.

    Args:
        pipeline: One with a ``unet`` or ``transformer``, a ``scheduler``, and perhaps a ``vae``.
        options: Further arguments of `PretrainedDenoiser`, such as ``nothing``.

    Raises:
        ValueError: A pipeline without a network that is known.

    Example:
        parts = from_pipeline(pipeline)
        x = samplers.sample(parts.denoiser, parts.process, num_samples=4, shape=parts.shape, condition=condition)
        images = parts.decode(x)
    """
    network = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    if network is None:
        raise ValueError(f"pipeline: expected a unet or a transformer, found neither in {type(pipeline).__name__}.")
    denoiser = denoiser_of(network, pipeline.scheduler, **options)
    size = network.config.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    shape = (network.config.in_channels, height, width)
    return Pretrained(denoiser, denoiser.process, shape, getattr(pipeline, "vae", None))
