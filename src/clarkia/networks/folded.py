"""A network at a lower resolution: the points of a patch become channels, and back."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from clarkia.networks.conditioning import Condition


class Folded(nn.Module):
    """Hands patches of points to a network as channels, which costs it ``patch^2`` times less a layer.

    Args:
        network: Takes and answers images of ``channels * patch^2`` channels and sides divided by `patch`.
        patch: Side of a patch; divides the sides of the images.

    Raises:
        ValueError: A patch below 1.

    Source: Simple diffusion: End-to-end diffusion for high resolution images (2023).
    """

    def __init__(self, network: nn.Module, patch: int) -> None:
        super().__init__()
        if patch < 1:
            raise ValueError(f"patch: expected a positive number, found {patch}.")
        self.network, self.patch = network, patch

    def forward(
        self, inputs: Float[Tensor, "n c h w"], noise: Tensor, condition: Condition | None = None
    ) -> Float[Tensor, "n c h w"]:
        """The raw answer.

        Args:
            inputs: Images.
            noise: ``(n,)``, or of the inputs' shape.
            condition: What is given.

        Raises:
            ValueError: Sides that the patch does not divide.
        """
        if any(side % self.patch for side in inputs.shape[2:]):
            raise ValueError(f"inputs: expected sides divided by {self.patch}, found shape {tuple(inputs.shape)}.")
        if noise.ndim > 1:
            noise = F.pixel_unshuffle(noise.expand_as(inputs), self.patch)
        return F.pixel_shuffle(self.network(F.pixel_unshuffle(inputs, self.patch), noise, condition), self.patch)
