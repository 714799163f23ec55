"""One backbone, a head for each of several modalities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


class MultiHead(nn.Module):
    """A backbone whose output is read by one head a modality.

    Args:
        backbone: ``backbone(inputs, noise, condition) -> h``.
        heads: By modality, a module from h to its raw output: of a continuous modality its numbers, of a class logits.
    """

    def __init__(self, backbone: nn.Module, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.backbone, self.heads = backbone, nn.ModuleDict(heads)

    def forward(self, inputs: Tensor, noise: Tensor, condition: Any = None) -> dict[str, Tensor]:
        """Raw outputs by modality.

        Args:
            inputs: Noisy latent, scaled to unit variance.
            noise: c_noise, ``(n,)``.
            condition: Handed to the backbone.
        """
        h = self.backbone(inputs, noise, condition)
        return {name: head(h) for name, head in self.heads.items()}
