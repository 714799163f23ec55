"""A transformer over patches to which everything is a token, with long skips from its first to its last blocks."""

from __future__ import annotations

from math import prod
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from clarkia.networks.attention import SelfAttention, rotary
from clarkia.networks.checkpointing import run
from clarkia.networks.conditioning import NO_CONDITIONS, Condition, Conditions, Embedded
from clarkia.networks.embeddings import NoiseEmbedding, NoiseKind, row_level, with_element_level
from clarkia.networks.patches import coordinates, grid_of, patchify, unpatchify

Positions = Literal["learned", "rotary"]


class UViT(nn.Module):
    """A vision transformer with long skips; noise level, condition and context are tokens in front of the patches.

    An image to be edited is a context like any other: its patches, cut by `patches.patchify`, as embedded tokens.

    Args:
        channels: Channels of the data.
        size: Side of a square image, or the lengths of any number of axes; others are taken too in use.
        patch: Side of a patch; divides the lengths.
        width: Features of a token; a multiple of the heads.
        depth: Number of blocks beside the one in the middle; half of them lie before it. Even.
        heads: Number of heads.
        expansion: Hidden features of a block as a multiple of the width.
        out_channels: Channels of the answer; None for `channels`.
        conditions: What it can be given; labels and vector make one token together, every context token another.
        positions: ``"learned"``, interpolated for other sizes; or ``"rotary"`` along each axis, for sizes that vary;
            these need heads of a multiple of twice as many features as there are axes.
        skips: Whether the last blocks read the outputs of the first; without, it learns more slowly.
        convolution: Whether a 3x3 convolution follows on the assembled image (two axes only).
        qk_norm: Whether queries and keys are normalised; None for networks of 12 blocks and more.
        noise: How it reads the noise level, see `NoiseEmbedding`.
        noise_layers: Whether two layers follow the features of the noise level.
        element_noise: Whether elements may have levels of their own, which then are more input channels.
        checkpoint: Whether blocks are computed again on the way back, to save memory.

    Raises:
        ValueError: Sizes that do not divide each other, or an odd depth.

    Source: All are Worth Words: A ViT Backbone for Diffusion Models (2023); Efficient Scaling of Diffusion Transformers
    for Text-to-Image Generation (2024).
    """

    def __init__(
        self,
        channels: int,
        size: int | tuple[int, ...],
        *,
        patch: int = 2,
        width: int = 512,
        depth: int = 12,
        heads: int = 8,
        expansion: int = 4,
        out_channels: int | None = None,
        conditions: Conditions = NO_CONDITIONS,
        positions: Positions = "learned",
        skips: bool = True,
        convolution: bool = True,
        qk_norm: bool | None = None,
        noise: NoiseKind = "fourier",
        noise_layers: bool = True,
        element_noise: bool = False,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if depth < 0 or depth % 2:
            raise ValueError(f"depth: expected an even number, found {depth}.")
        if positions not in ("learned", "rotary"):
            raise ValueError(f"positions: expected 'learned' or 'rotary', found {positions!r}.")
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        if convolution and len(self.size) != 2:
            raise ValueError(f"convolution: expected False for {len(self.size)} axes, found True.")
        self.patch, self.element_noise, self.checkpoint = patch, element_noise, checkpoint
        outputs = channels if out_channels is None else out_channels
        cells = patch ** len(self.size)
        self.patches = nn.Linear((2 if element_noise else 1) * channels * cells, width)
        self.noise = NoiseEmbedding(width, kind=noise, features=256 if noise_layers else width, layers=noise_layers)
        self.condition = conditions.embedding(width, std=1.0)
        self.has_vector = conditions.has_vector
        self.heading = nn.Parameter(torch.empty(2 if self.has_vector else 1, width))
        grid = grid_of(self.size, patch)
        self.positions = nn.Parameter(torch.empty(width, *grid)) if positions == "learned" else None
        self.head_size = width // heads
        if positions == "rotary" and self.head_size % (2 * len(self.size)):
            raise ValueError(f"heads: expected heads of a multiple of {2 * len(self.size)}, found {self.head_size}.")
        normed = depth >= 12 if qk_norm is None else qk_norm
        self.first = nn.ModuleList(_Block(width, heads, expansion * width, False, normed) for _ in range(depth // 2))
        self.middle = _Block(width, heads, expansion * width, False, normed)
        self.final = nn.ModuleList(_Block(width, heads, expansion * width, skips, normed) for _ in range(depth // 2))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, outputs * cells)
        self.smooth = nn.Conv2d(outputs, outputs, 3, padding=1) if convolution else None
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
        size = tuple(inputs.shape[2:])
        x, mask = self._sequence(inputs, noise, self.condition(condition, len(inputs)))
        before = x.shape[1] - prod(grid_of(size, self.patch))
        angles = self._angles(size, before, x.device)
        kept = []
        for block in self.first:
            x = run(block, x, None, mask, angles, checkpointed=self.checkpoint)
            kept.append(x)
        x = run(self.middle, x, None, mask, angles, checkpointed=self.checkpoint)
        for block in self.final:
            x = run(block, x, kept.pop(), mask, angles, checkpointed=self.checkpoint)
        image = unpatchify(self.out(self.norm(x[:, before:])), self.patch, size)
        return image if self.smooth is None else self.smooth(image)

    def _sequence(self, inputs: Tensor, noise: Tensor, given: Embedded) -> tuple[Tensor, Tensor | None]:
        """All tokens, [noise, labels and vector, context, patches], and which of them are real."""
        rows = len(inputs)
        patches = self.patches(
            patchify(with_element_level(inputs, noise) if self.element_noise else inputs, self.patch)
        )
        if self.positions is not None:
            patches = patches + self._placed(self.positions, tuple(inputs.shape[2:]))
        heads = [self.noise(row_level(noise, rows)).to(self.heading.dtype)]
        if self.has_vector:
            heads.append(given.vector)
        parts = [torch.stack(heads, 1) + self.heading]
        if given.tokens is not None:
            parts.append(given.tokens)
        parts.append(patches)
        # Under autocast parts differ in type; concatenation takes the widest.
        x = torch.cat(parts, 1)
        if given.mask is None:
            return x, None
        return x, F.pad(given.mask, (len(heads), patches.shape[1]), value=True)

    def _placed(self, positions: Tensor, size: tuple[int, ...]) -> Float[Tensor, "l width"]:
        """Learned positions, interpolated linearly for another size."""
        if size != self.size:
            mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
            positions = F.interpolate(positions[None], grid_of(size, self.patch), mode=mode, align_corners=False)[0]
        return positions.flatten(1).T

    def _angles(self, size: tuple[int, ...], before: int, device: torch.device) -> Tensor | None:
        """Rotary angles, an equal share of a head for each axis; tokens before the patches are not turned."""
        if self.positions is not None:
            return None
        places = coordinates(grid_of(size, self.patch)).to(device)
        angles = rotary(places, self.head_size // len(size)).flatten(1)
        return F.pad(angles, (0, 0, before, 0))

    def _initialise(self) -> None:
        # The published deviation at the published width of 512; narrower layers need more to pass a signal on.
        std = 0.02 * (512 / self.heading.shape[1]) ** 0.5
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for table in (self.heading,) if self.positions is None else (self.heading, self.positions):
            nn.init.trunc_normal_(table, std=std)
        nn.init.zeros_(self.out.weight)  # a new network answers 0, as the preconditioning wants
        if self.smooth is not None:
            # The identity: of one channel it has nine weights, and at zero all learning would wait for them.
            nn.init.dirac_(self.smooth.weight)
            if self.smooth.bias is not None:
                nn.init.zeros_(self.smooth.bias)


class _Block(nn.Module):
    """Attention and two layers behind layer norms; with a skip, a linear map of both first."""

    def __init__(self, width: int, heads: int, hidden: int, skip: bool, qk_norm: bool) -> None:
        super().__init__()
        self.skip = nn.Linear(2 * width, width) if skip else None
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, bias=False, qk_norm=qk_norm)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor, kept: Tensor | None, mask: Tensor | None, angles: Tensor | None) -> Tensor:
        if self.skip is not None and kept is not None:
            x = self.skip(torch.cat([x, kept], -1))
        x = x + self.attention(self.norm1(x), mask, angles)
        return x + self.down(F.gelu(self.up(self.norm2(x))))
