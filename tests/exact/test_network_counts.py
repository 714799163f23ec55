"""Published numbers of parameters, and multiply-adds by formula."""

import pytest
import torch

from clarkia.networks.conditioning import Conditions
from clarkia.networks.counts import flops, num_parameters
from clarkia.networks.dit import DiT
from clarkia.networks.presets import DIT, UNET, UVIT
from clarkia.networks.sizes import dit_matrices, dit_multiply_adds, matched, uvit_matrices, uvit_multiply_adds
from clarkia.networks.unet import UNet
from clarkia.networks.uvit import UViT

IMAGENET = Conditions(label_classes=(1000,))


@pytest.mark.parametrize(
    ("name", "published"), [("S/2", 32_865_056), ("B/2", 130_315_808), ("L/2", 457_840_672), ("XL/2", 674_834_720)]
)
def test_diffusion_transformers_have_the_published_numbers_of_parameters(name, published):
    with torch.device("meta"):
        assert num_parameters(DiT(4, 32, out_channels=8, conditions=IMAGENET, **DIT[name])) == published


@pytest.mark.parametrize(
    ("name", "channels", "conditions", "published"),
    [
        ("S/2", 3, Conditions(), 44_255_328),
        ("L/2", 4, IMAGENET, 286_763_172),
        ("H/2", 4, IMAGENET, 500_832_164),
    ],
)
def test_vision_transformers_with_long_skips_have_the_published_numbers(name, channels, conditions, published):
    with torch.device("meta"):
        whole = UViT(channels, 32, conditions=conditions, **UVIT[name])
        bare = UViT(channels, 32, conditions=conditions, convolution=False, **UVIT[name])
    assert num_parameters(whole) == published
    assert published - num_parameters(bare) == 9 * channels**2 + channels


def test_the_unet_for_64_pixels_has_the_published_size():
    with torch.device("meta"):
        network = UNet(3, conditions=IMAGENET, **UNET["adm64"])
    assert round(num_parameters(network) / 1e6, 1) == 295.9


def matrices(module):
    return sum(parameter.numel() for parameter in module.parameters() if parameter.ndim == 2)


CAPTIONS = Conditions(token_size=5)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("conditions", [Conditions(), CAPTIONS])
def test_blocks_of_diffusion_transformers_cost_what_the_formulas_say(shared, conditions):
    width, depth, cross = 24, 3, conditions.has_tokens
    adaln = "shared" if shared else "block"
    network = DiT(2, 8, width=width, depth=depth, heads=2, conditions=conditions, adaln=adaln)
    assert matrices(network.blocks) == dit_matrices(width, depth, cross=cross, shared=shared)
    x, noise = torch.zeros(1, 2, 8, 8), torch.zeros(1)
    given = {"tokens": torch.zeros(1, 7, 5)} if cross else None
    patches, context = 16, 7 if cross else 0
    outside = patches * 8 * width * 2 + 256 * width + width**2 + 2 * width**2 + context * 5 * width
    outside += 6 * width**2 if shared else 0
    expected = dit_multiply_adds(width, depth, patches, context, shared=shared)
    assert flops(network, x, noise, given) == expected + outside


@pytest.mark.parametrize("skips", [False, True])
def test_blocks_of_vision_transformers_cost_what_the_formulas_say(skips):
    width, depth, context = 24, 4, 7
    network = UViT(2, 8, width=width, depth=depth, heads=2, conditions=CAPTIONS, skips=skips, convolution=False)
    blocks = matrices(network.first) + matrices(network.middle) + matrices(network.final)
    assert blocks == uvit_matrices(width, depth, skips=skips)
    given = {"tokens": torch.zeros(1, context, 5)}
    found = flops(network, torch.zeros(1, 2, 8, 8), torch.zeros(1), given)
    outside = 16 * 8 * width * 2 + 256 * width + width**2 + context * 5 * width
    assert found == uvit_multiply_adds(width, depth, 16, 1 + context, skips=skips) + outside


def test_multiply_adds_of_a_convolution():
    layer = torch.nn.Conv2d(3, 5, 3, padding=1)
    assert flops(layer, torch.zeros(2, 3, 8, 8)) == 2 * 64 * 9 * 3 * 5


BACKBONES = {
    "cross": lambda width: DiT(3, 16, width=width, depth=6, heads=4, conditions=CAPTIONS),
    "long skips": lambda width: UViT(3, 16, width=width, depth=6, heads=4, conditions=CAPTIONS),
}


@pytest.mark.parametrize("build", BACKBONES.values(), ids=BACKBONES)
@pytest.mark.parametrize("target", [2e6, 8e6])
def test_a_width_is_found_that_meets_a_number_of_parameters(build, target):
    network = matched(target, build, multiple=4)
    distance = abs(num_parameters(network) - target)
    assert distance / target < 0.04  # widths of 100 and more in steps of 4: half a step is 2 percent, its square 4
    width = network.patches.out_features
    assert all(abs(num_parameters(build(other)) - target) >= distance for other in (width - 4, width + 4))
    assert not any(parameter.is_meta for parameter in network.parameters())


def test_a_target_out_of_reach_is_refused():
    with pytest.raises(ValueError, match="parameters: expected at most those of width 64"):
        matched(1e9, BACKBONES["cross"], largest=64)
