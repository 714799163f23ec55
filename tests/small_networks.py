"""Small networks of every kind, and inputs for them."""

import torch

from clarkia.networks.conditioning import Conditions
from clarkia.networks.dit import DiT
from clarkia.networks.unet import UNet
from clarkia.networks.uvit import UViT
from clarkia.random import generator

ALL = Conditions(label_classes=(3, 5), vector_size=4, token_size=6, max_tokens=7)
NONE = Conditions()


def unet(conditions=NONE, **options):
    settings = {"width": 16, "blocks": 1, "head_size": 8, **options}
    return UNet(2, conditions=conditions, **settings)


def dit(conditions=NONE, **options):
    return DiT(2, 8, **{"width": 32, "depth": 2, "heads": 2, "conditions": conditions, **options})


def uvit(conditions=NONE, **options):
    return UViT(2, 8, **{"width": 32, "depth": 2, "heads": 2, "conditions": conditions, **options})


KINDS = {
    "unet": unet,
    "dit": dit,
    "dit, pooled": lambda *a, **k: dit(*a, **{"context": "pooled", **k}),
    "dit, tokens": lambda *a, **k: dit(*a, **{"context": "tokens", **k}),
    "dit, shared": lambda *a, **k: dit(*a, **{"adaln": "shared", **k}),
    "uvit": uvit,
    "uvit, rotary": lambda *a, **k: uvit(*a, **{"positions": "rotary", **k}),
}


def shaken(network, seed=0, std=0.2):
    """The network with random numbers in all its parameters: what starts at zero would hide what lies before it."""
    noise = generator(seed)
    for parameter in network.parameters():
        with torch.no_grad():
            parameter.copy_(std * torch.randn(parameter.shape, generator=noise))
    return network.eval()


def images(rows=3, size=8, channels=2, dtype=torch.float32):
    noise = generator(1)
    x = torch.randn(rows, channels, size, size, generator=noise, dtype=dtype)
    return x, 0.5 * torch.randn(rows, generator=noise, dtype=dtype)


def conditions(rows=3):
    noise = generator(2)
    return {
        "label": torch.tensor([[0, 4], [2, -1], [1, 1]])[:rows],
        "vector": torch.randn(rows, 4, generator=noise),
        "tokens": torch.randn(rows, 5, 6, generator=noise),
        "mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 1, 0, 1]], dtype=torch.bool)[:rows],
    }
