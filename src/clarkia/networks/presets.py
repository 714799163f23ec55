"""Published sizes of networks, one row each, as the keyword arguments that make them.

`DiT(4, 32, out_channels=8, conditions=Conditions(label_classes=(1000,)), **DIT["XL/2"])` is the network as published:
it reads times in [0, 1]. For a network that reads ``c_noise`` leave out ``noise``.
"""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]

_DIT_AS_PUBLISHED: Row = {"noise": "sinusoid", "qk_norm": False}
_UVIT_AS_PUBLISHED: Row = {"noise": "sinusoid", "noise_layers": False, "qk_norm": False}

DIT: dict[str, Row] = {
    f"{name}/{patch}": {"patch": patch, "depth": depth, "width": width, "heads": heads, **_DIT_AS_PUBLISHED}
    for name, depth, width, heads in (("S", 12, 384, 6), ("B", 12, 768, 12), ("L", 24, 1024, 16), ("XL", 28, 1152, 16))
    for patch in (2, 4, 8)
}
"""Source: Scalable Diffusion Models with Transformers (2023)."""

UVIT: dict[str, Row] = {
    f"{name}/{patch}": {"patch": patch, "depth": depth, "width": width, "heads": heads, **_UVIT_AS_PUBLISHED}
    for name, depth, width, heads in (("S", 12, 512, 8), ("M", 16, 768, 12), ("L", 20, 1024, 16), ("H", 28, 1152, 16))
    for patch in (2, 4)
}
"""Source: All are Worth Words: A ViT Backbone for Diffusion Models (2023)."""

UNET: dict[str, Row] = {
    "ddpmpp32": {"width": 128, "multipliers": (2, 2, 2), "blocks": 4, "attention": (1,), "dropout": 0.13},
    "adm64": {"width": 192, "multipliers": (1, 2, 3, 4), "blocks": 3, "attention": (1, 2, 3), "dropout": 0.1},
}
"""For 32x32 and 64x64 images. Source: Elucidating the Design Space of Diffusion-Based Generative Models (2022)."""
