"""Every network of images: what it takes, what it gives, what it refuses."""

import pytest
import torch

from clarkia.denoisers import Preconditioned
from clarkia.networks.conditioning import Conditions
from clarkia.networks.counts import num_parameters
from clarkia.networks.dit import DiT
from clarkia.networks.patches import patchify
from clarkia.networks.unet import UNet
from clarkia.networks.unet_blocks import group_norm
from clarkia.networks.uvit import UViT
from clarkia.processes import VariancePreserving
from clarkia.testing import check_denoiser
from small_networks import ALL, KINDS, conditions, dit, images, shaken, unet, uvit

KINDS_OF = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


@KINDS_OF
def test_every_weight_gets_a_gradient(make):
    network = shaken(make(ALL, element_noise=True)).train()
    x, noise = images()
    given = conditions()
    (network(x, noise, given).square().sum() + network(x, noise).square().sum()).backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []
    assert [name for name, parameter in network.named_parameters() if not parameter.grad.any()] == []


@KINDS_OF
def test_a_row_is_answered_alike_alone_and_among_others(make):
    network, given = shaken(make(ALL)), conditions()
    x, noise = images()
    together = network(x, noise, given)
    alone = network(x[1:2], noise[1:2], {name: value[1:2] for name, value in given.items()})
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-4)


@KINDS_OF
def test_every_part_of_a_condition_matters_and_a_dropped_one_does_not(make):
    network, given = shaken(make(ALL)), conditions()
    x, noise = images()
    answer = network(x, noise, given)
    for name, value in given.items():
        other = ~value if name == "mask" else value + 1 if value.is_floating_point() else value.flip(1) * 0
        assert (network(x, noise, {**given, name: other}) - answer).abs().max() > 1e-4, name
    dropped = network(x, noise, {**given, "present": torch.zeros(3, dtype=torch.bool)})
    torch.testing.assert_close(dropped, network(x, noise), rtol=1e-5, atol=1e-5)


@KINDS_OF
def test_the_contract_of_a_denoiser_holds_with_levels_of_elements(make):
    process = VariancePreserving()
    network = shaken(make(ALL, element_noise=True), std=0.05)
    check_denoiser(Preconditioned(network, process), process, images(rows=4)[0])


@KINDS_OF
def test_observed_elements_are_known_to_be_observed(make):
    network = shaken(make(element_noise=True))
    x, noise = images()
    levels = noise[:, None, None, None].expand_as(x).clone()
    torch.testing.assert_close(network(x, levels), network(x, noise), rtol=1e-5, atol=1e-5)
    levels[:, :, :4] = -2.3
    assert (network(x, levels) - network(x, noise)).abs().max() > 1e-3
    blind = shaken(make())
    torch.testing.assert_close(blind(x, levels), blind(x, noise), rtol=1e-5, atol=1e-5)


@KINDS_OF
def test_other_sizes_and_channels(make):
    network = shaken(make(**({"width": 48} if make is unet else {}), out_channels=5))
    x, noise = images(size=12)
    assert network(x, noise).shape == (3, 5, 12, 12)
    assert network(x[:, :, :4], noise).shape == (3, 5, 4, 12)
    assert network(x[:0], noise[:0]).shape == (0, 5, 12, 12)


def test_three_levels_take_images_of_28_pixels():
    network = shaken(UNet(1, width=8, blocks=1), std=0.1)
    assert network(torch.zeros(2, 1, 28, 28), torch.zeros(2)).shape == (2, 1, 28, 28)


@KINDS_OF
def test_times_may_be_of_double_precision(make):
    network = shaken(make(noise="sinusoid"))
    x, noise = images()
    assert network(x, noise.double()).dtype == torch.float32


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_places_are_told_apart_by_positions_alone(positions):
    network = shaken(uvit(positions=positions, convolution=False))
    x, noise = images()

    def change():
        """Of the answer when the image goes round by a row of patches and its answer back."""
        here, moved = (patchify(network(image, noise), 2) for image in (x, x.roll(2, 2)))
        return (here.roll(4, 1) - moved).abs().max()

    assert change() > 1e-3
    with torch.no_grad():
        if positions == "learned":
            network.positions.zero_()
        else:
            network._angles = lambda *_: None
    assert change() < 1e-5


@pytest.mark.parametrize(("make", "options"), [(DiT, {}), (UViT, {"convolution": False})])
@pytest.mark.parametrize("size", [(8,), (4, 4, 6)])
def test_patches_of_series_and_volumes(make, options, size):
    network = shaken(make(2, size, width=36, depth=2, heads=2, **options))
    x = torch.randn(3, 2, *size)
    assert network(x, torch.zeros(3)).shape == x.shape
    assert network(torch.cat([x, x], -1), torch.zeros(3)).shape == (3, 2, *size[:-1], 2 * size[-1])


def test_dropout_drops_while_training_only():
    network = shaken(unet(dropout=0.5))
    x, noise = images()
    assert torch.equal(network(x, noise), network(x, noise))
    network.train()
    assert not torch.equal(network(x, noise), network(x, noise))


def test_norms_have_the_largest_number_of_groups_that_divides():
    assert [group_norm(width).num_groups for width in (64, 48, 20, 33, 37)] == [32, 24, 20, 11, 1]


def test_deep_transformers_normalise_queries_and_keys_by_default():
    for make in (dit, uvit):
        assert any("norm.q" in name for name in make(depth=12, width=8).state_dict())
        assert not any("norm.q" in name for name in make(depth=12, width=8, qk_norm=False).state_dict())
        assert not any("norm.q" in name for name in make(depth=4, width=8).state_dict())


def test_fixed_positions_are_no_weights_and_fourier_features_are_kept():
    network = dit()
    assert "positions" not in network.state_dict()
    assert "noise.frequencies" in network.state_dict()
    assert num_parameters(network) == sum(p.numel() for p in network.parameters())
    network.noise.requires_grad_(False)
    frozen = num_parameters(network.noise)
    assert num_parameters(network, trainable=False) == frozen
    assert num_parameters(network, trainable=True) == num_parameters(network) - frozen


@pytest.mark.parametrize(
    ("make", "options", "sentence"),
    [
        (unet, {"attention": (3,)}, "levels from 0 to 2"),
        (dit, {"context": "both"}, "context: expected"),
        (dit, {"adaln": "none"}, "adaln: expected"),
        (dit, {"heads": 3}, "divisor of the width 32"),
        (dit, {"patch": 3}, "multiples of the patch 3"),
        (uvit, {"depth": 3}, "depth: expected an even number"),
        (uvit, {"patch": 3}, "multiples of the patch 3"),
        (uvit, {"positions": "none"}, "positions: expected"),
        (uvit, {"positions": "rotary", "heads": 16}, "heads of a multiple of 4, found 2"),
    ],
)
def test_wrong_options_are_refused(make, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(**options)


def test_wrong_images_are_refused():
    with pytest.raises(ValueError, match=r"h and w multiples of 4, found shape \(1, 2, 10, 8\)"):
        unet()(torch.zeros(1, 2, 10, 8), torch.zeros(1))
    with pytest.raises(ValueError, match="expected False for 1 axes"):
        UViT(2, (8,), width=8, heads=2)
    for make in KINDS.values():
        with pytest.raises(ValueError, match="noise: expected 2 rows"):
            make()(torch.zeros(2, 2, 8, 8), torch.zeros(3))


def test_the_sum_of_the_tokens_steers_the_blocks_of_a_unet():
    torch.manual_seed(0)
    network = unet(Conditions(token_classes=9)).eval()  # new: its cross-attention still adds nothing
    torch.nn.init.normal_(network.leave.weight)
    for block in network.middle:
        torch.nn.init.normal_(block.conv2.weight, std=0.1)
    x, noise = images()
    same, other = torch.tensor([[1, 2]] * 3), torch.tensor([[1, 5]] * 3)
    found = network(x, noise, {"tokens": same})
    assert (network(x, noise, {"tokens": other}) - found).abs().max() > 1e-3
    torch.testing.assert_close(network(x, noise, {"tokens": same.flip(1)}), found)  # a sum has no order
