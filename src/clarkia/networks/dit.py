"""A transformer over patches whose layer norms are steered by noise level and condition."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from clarkia.networks.attention import CrossAttention, SelfAttention
from clarkia.networks.checkpointing import run
from clarkia.networks.conditioning import NO_CONDITIONS, Condition, Conditions
from clarkia.networks.embeddings import NoiseEmbedding, NoiseKind, row_level, with_element_level
from clarkia.networks.patches import fixed_positions, grid_of, patchify, unpatchify

Context = Literal["cross", "pooled", "tokens"]
Modulation = Literal["block", "shared"]


class DiT(nn.Module):
    """A diffusion transformer with adaptive layer norms that start as the identity: a new one answers 0.

    Args:
        channels: Channels of the data.
        size: Side of a square image, or the lengths of any number of axes; others are taken too in use.
        patch: Side of a patch; divides the lengths.
        width: Features of a token; a multiple of the heads and of twice the number of axes.
        depth: Number of blocks.
        heads: Number of heads.
        expansion: Hidden features of a block as a multiple of the width.
        out_channels: Channels of the answer; None for `channels`.
        conditions: What it can be given; labels and vectors steer the layer norms.
        context: How it reads tokens: ``"cross"`` attention in every block, whose output starts at zero; their mean
            ``"pooled"`` into the layer norms; or ``"tokens"`` in front of the patches.
        adaln: ``"block"``, modulations of each block's own; ``"shared"``, one for all and an offset a block, which
            saves 6 width^2 parameters a block.
        qk_norm: Whether queries and keys are normalised; None for networks of 12 blocks and more.
        noise: How it reads the noise level, see `NoiseEmbedding`.
        element_noise: Whether elements may have levels of their own, which then are more input channels.
        checkpoint: Whether blocks are computed again on the way back, to save memory.

    Raises:
        ValueError: Sizes that do not divide each other, or an unknown option.

    Source: Scalable Diffusion Models with Transformers (2023); PixArt-alpha: Fast Training of Diffusion Transformer
    for Photorealistic Text-to-Image Synthesis (2023).
    """

    positions: Tensor

    def __init__(
        self,
        channels: int,
        size: int | tuple[int, ...],
        *,
        patch: int = 2,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        expansion: int = 4,
        out_channels: int | None = None,
        conditions: Conditions = NO_CONDITIONS,
        context: Context = "cross",
        adaln: Modulation = "block",
        qk_norm: bool | None = None,
        noise: NoiseKind = "fourier",
        element_noise: bool = False,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if context not in ("cross", "pooled", "tokens"):
            raise ValueError(f"context: expected 'cross', 'pooled' or 'tokens', found {context!r}.")
        if adaln not in ("block", "shared"):
            raise ValueError(f"adaln: expected 'block' or 'shared', found {adaln!r}.")
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        self.patch, self.width, self.context = patch, width, context
        self.element_noise, self.checkpoint = element_noise, checkpoint
        self.register_buffer("positions", fixed_positions(grid_of(self.size, patch), width), persistent=False)
        cells = patch ** len(self.size)
        self.patches = nn.Linear((2 if element_noise else 1) * channels * cells, width)
        self.noise = NoiseEmbedding(width, kind=noise)
        self.condition = conditions.embedding(width, std=1.0)
        self.shared = nn.Linear(width, 6 * width) if adaln == "shared" else None
        cross = conditions.has_tokens and context == "cross"
        normed = depth >= 12 if qk_norm is None else qk_norm
        self.blocks = nn.ModuleList(
            _Block(width, heads, expansion * width, cross=cross, shared=adaln == "shared", qk_norm=normed)
            for _ in range(depth)
        )
        self.last = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, (channels if out_channels is None else out_channels) * cells)
        self._initialise()

    def forward(
        self, inputs: Float[Tensor, "n c ..."], noise: Tensor, condition: Condition | None = None
    ) -> Float[Tensor, "n c2 ..."]:
        """The raw answer.

        Args:
            inputs: ``(n, channels, ...)``; every length a multiple of the patch.
            noise: ``(n,)``, or of the inputs' shape.
            condition: What is given.

        Raises:
            ValueError: Lengths that the patch does not divide, or a condition it does not declare.
        """
        rows, size = len(inputs), tuple(inputs.shape[2:])
        given = self.condition(condition, rows)
        steer = self.noise(row_level(noise, rows)) + given.vector
        if self.context == "pooled":
            steer = steer + given.pooled()
        steer = F.silu(steer)
        x = self.patches(patchify(with_element_level(inputs, noise) if self.element_noise else inputs, self.patch))
        x = x + self._positions(size)
        tokens, mask, before, mixed = given.tokens, given.mask, 0, None
        if self.context == "tokens" and tokens is not None:
            before = tokens.shape[1]
            x = torch.cat([tokens.to(x.dtype), x], 1)
            mixed = None if mask is None else F.pad(mask, (0, x.shape[1] - before), value=True)
        modulation = steer if self.shared is None else self.shared(steer)
        for block in self.blocks:
            x = run(block, x, modulation, mixed, tokens, mask, checkpointed=self.checkpoint)
        shift, scale = self.last(steer).unsqueeze(1).chunk(2, -1)
        return unpatchify(self.out(_modulated(x[:, before:], shift, scale)), self.patch, size)

    def _positions(self, size: tuple[int, ...]) -> Tensor:
        if size == self.size:
            return self.positions
        grid, trained = grid_of(size, self.patch), grid_of(self.size, self.patch)
        return fixed_positions(grid, self.width, trained).to(self.positions)

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.noise.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
        blocks = [block for block in self.blocks if isinstance(block, _Block)]
        zeros = [self.shared, self.last, self.out, *(block.modulation for block in blocks)]
        zeros += [block.cross.out for block in blocks if block.cross is not None]
        for module in zeros:
            for parameter in () if module is None else module.parameters():
                nn.init.zeros_(parameter)


class _Block(nn.Module):
    """Attention, attention to the context, two layers; each behind a steered norm and, but for the second, a gate."""

    def __init__(self, width: int, heads: int, hidden: int, *, cross: bool, shared: bool, qk_norm: bool) -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads, qk_norm=qk_norm)
        self.cross = CrossAttention(width, heads, qk_norm=qk_norm) if cross else None
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.modulation = _Offset(6 * width) if shared else nn.Linear(width, 6 * width)

    def forward(
        self, x: Tensor, steer: Tensor, mixed: Tensor | None, tokens: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        b1, c1, g1, b2, c2, g2 = self.modulation(steer).unsqueeze(1).chunk(6, -1)
        x = torch.addcmul(x, g1, self.attention(_modulated(x, b1, c1), mixed))
        if self.cross is not None:
            x = x + self.cross(_normed(x), tokens, mask)
        hidden = F.gelu(self.up(_modulated(x, b2, c2)), approximate="tanh")
        return torch.addcmul(x, g2, self.down(hidden))


class _Offset(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(size))

    def forward(self, shared: Tensor) -> Tensor:
        return shared + self.offset


def _normed(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, _normed(x), 1.0 + scale)
