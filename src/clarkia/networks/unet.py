"""A convolutional U-shaped network for images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from clarkia.networks.checkpointing import run
from clarkia.networks.conditioning import NO_CONDITIONS, Condition, Conditions
from clarkia.networks.embeddings import NoiseEmbedding, NoiseKind, row_level, with_element_level
from clarkia.networks.unet_blocks import ResidualBlock, group_norm, zeroed


class UNet(nn.Module):
    """Residual convolutions at several resolutions, joined by skips, with attention at the lower ones.

    Its last convolution starts at zero: a new one answers 0. It takes images of any size whose sides are multiples of
    2^(levels - 1).

    Args:
        channels: Channels of the data.
        width: Channels of the first level.
        multipliers: Width of each level as a multiple of `width`; each level halves the resolution.
        blocks: Residual blocks a level on the way down; one more on the way up.
        attention: Levels whose blocks have attention, 0 for the full resolution; None for the second (16x16 of 32x32).
        head_size: Channels of a head, fewer where there would not be four.
        dropout: Probability of dropping a feature inside a block while training.
        out_channels: Channels of the answer; None for `channels`.
        conditions: What it can be given; labels, vector and the sum of the tokens scale and shift every block, and
            the tokens are read one by one by cross-attention wherever there is attention.
        noise: How it reads the noise level, see `NoiseEmbedding`.
        element_noise: Whether elements may have levels of their own, which then are more input channels.
        checkpoint: Whether blocks are computed again on the way back, to save memory.

    Raises:
        ValueError: Attention at a level that there is not.

    Source: Diffusion Models Beat GANs on Image Synthesis (2021); Elucidating the Design Space of Diffusion-Based
    Generative Models (2022).
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int = 64,
        multipliers: Sequence[int] = (1, 2, 2),
        blocks: int = 2,
        attention: Sequence[int] | None = None,
        head_size: int = 64,
        dropout: float = 0.0,
        out_channels: int | None = None,
        conditions: Conditions = NO_CONDITIONS,
        noise: NoiseKind = "fourier",
        element_noise: bool = False,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        levels = len(multipliers)
        attention = (min(1, levels - 1),) if attention is None else tuple(attention)
        if levels < 1 or not set(attention) <= set(range(levels)):
            raise ValueError(f"attention: expected levels from 0 to {levels - 1}, found {attention}.")
        self.channels, self.divisor = channels, 2 ** (levels - 1)
        self.element_noise, self.checkpoint = element_noise, checkpoint
        steer = 4 * width
        self.noise = NoiseEmbedding(steer, kind=noise)
        self.condition = conditions.embedding(steer, std=1.0)

        def block(inputs: int, outputs: int, resample: str = "", attend: bool = False) -> ResidualBlock:
            heads = head_size if attend else None
            return ResidualBlock(inputs, outputs, steer, dropout, resample, heads, conditions.has_tokens)

        here = width * multipliers[0]
        self.enter = nn.Conv2d((2 if element_noise else 1) * channels, here, 3, padding=1)
        self.down, self.up, kept = nn.ModuleList(), nn.ModuleList(), [here]
        for level, multiplier in enumerate(multipliers):
            steps = [block(here, here, "down")] if level else []
            for _ in range(blocks):
                steps.append(block(here, width * multiplier, attend=level in attention))
                here = width * multiplier
            self.down.extend(steps)
            kept += [step.outputs for step in steps]
        self.middle = nn.ModuleList([block(here, here, attend=True), block(here, here)])
        for level, multiplier in reversed(list(enumerate(multipliers))):
            if level < levels - 1:
                self.up.append(block(here, here, "up"))
            for _ in range(blocks + 1):
                self.up.append(block(here + kept.pop(), width * multiplier, attend=level in attention))
                here = width * multiplier
        self.norm = group_norm(here)
        self.leave = zeroed(nn.Conv2d(here, channels if out_channels is None else out_channels, 3, padding=1))

    def forward(
        self, inputs: Float[Tensor, "n c h w"], noise: Tensor, condition: Condition | None = None
    ) -> Float[Tensor, "n c2 h w"]:
        """The raw answer.

        Args:
            inputs: ``(n, channels, h, w)``.
            noise: ``(n,)``, or of the inputs' shape.
            condition: What is given.

        Raises:
            ValueError: Sides that cannot be halved often enough, or a condition it does not declare.
        """
        rows = len(inputs)
        if inputs.ndim != 4 or inputs.shape[2] % self.divisor or inputs.shape[3] % self.divisor:
            raise ValueError(
                f"inputs: expected images (n, {self.channels}, h, w) with h and w multiples of {self.divisor}, "
                f"found shape {tuple(inputs.shape)}."
            )
        given = self.condition(condition, rows)
        steer = F.silu(self.noise(row_level(noise, rows)) + given.vector + given.summed())
        x = with_element_level(inputs, noise) if self.element_noise else inputs
        x = self.enter(x)
        kept = [x]
        for block in self.down:
            x = run(block, x, steer, given.tokens, given.mask, checkpointed=self.checkpoint)
            kept.append(x)
        for block in self.middle:
            x = run(block, x, steer, given.tokens, given.mask, checkpointed=self.checkpoint)
        for block in self.up:
            if not block.resample:
                x = torch.cat([x, kept.pop()], 1)
            x = run(block, x, steer, given.tokens, given.mask, checkpointed=self.checkpoint)
        return self.leave(F.silu(self.norm(x)))
