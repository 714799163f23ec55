"""What networks do exactly: nothing at first, nothing with padding, the same with less memory, the same compiled."""

import copy
import shutil
import warnings

import pytest
import torch
import torch.nn.functional as F

from clarkia.denoisers import Preconditioned
from clarkia.networks.conditioning import Conditions
from clarkia.networks.dit import DiT
from clarkia.networks.unet_blocks import convolve_doubled
from clarkia.processes import RectifiedFlow
from clarkia.random import generator
from small_networks import ALL, KINDS, conditions, dit, images, shaken, unet, uvit

KINDS_OF = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


@KINDS_OF
def test_a_new_network_answers_zero(make):
    x, noise = images()
    assert not make(ALL)(x, noise, conditions()).any()


@pytest.mark.parametrize("adaln", ["block", "shared"])
def test_every_block_of_a_new_diffusion_transformer_is_the_identity(adaln):
    network = dit(ALL, adaln=adaln)
    x, steer = torch.randn(3, 16, 32), torch.randn(3, 32)
    tokens = torch.randn(3, 5, 32)
    modulation = steer if network.shared is None else network.shared(steer)
    for block in network.blocks:
        torch.testing.assert_close(block(x, modulation, None, tokens, None), x, rtol=0, atol=0)


@KINDS_OF
def test_padding_has_exactly_no_influence(make):
    network, given = shaken(make(ALL)), conditions()
    x, noise = images()
    tokens = torch.where(given["mask"][..., None], given["tokens"], 1e3 * torch.randn(3, 5, 6))
    assert torch.equal(network(x, noise, given), network(x, noise, {**given, "tokens": tokens}))
    longer = {
        **given,
        "tokens": F.pad(given["tokens"], (0, 0, 0, 2), value=3.0),
        "mask": F.pad(given["mask"], (0, 2), value=False),
    }
    torch.testing.assert_close(network(x, noise, longer), network(x, noise, given), rtol=1e-5, atol=1e-5)


@KINDS_OF
def test_context_with_its_positions_may_be_permuted(make):
    network, given = shaken(make(ALL)), conditions()
    x, noise = images()
    expected = network(x, noise, given)
    order = torch.tensor([3, 0, 4, 1, 2])
    permuted = {**given, "tokens": given["tokens"][:, order], "mask": given["mask"][:, order]}
    if make is not KINDS["dit, pooled"]:  # a mean knows no order
        assert (network(x, noise, permuted) - expected).abs().max() > 1e-3
    with torch.no_grad():
        network.condition.positions[:5] = network.condition.positions[:5][order]
    torch.testing.assert_close(network(x, noise, permuted), expected, rtol=1e-5, atol=1e-5)


def test_cross_attention_that_answers_zero_leaves_the_unconditional_transformer():
    network = shaken(dit(Conditions(token_size=6)))
    for block in network.blocks:
        torch.nn.init.zeros_(block.cross.out.weight)
        torch.nn.init.zeros_(block.cross.out.bias)
    bare = dit().eval()
    missing = bare.load_state_dict(network.state_dict(), strict=False)
    assert not missing.missing_keys
    x, noise = images()
    given = {"tokens": conditions()["tokens"]}
    assert torch.equal(network(x, noise, given), bare(x, noise))


def test_a_convolution_of_a_doubled_image_is_done_on_the_small_one():
    noise = generator(0)
    layer = torch.nn.Conv2d(3, 5, 3, padding=1).double()
    x = torch.randn(2, 3, 4, 6, generator=noise, dtype=torch.float64)
    expected = layer(F.interpolate(x, scale_factor=2, mode="nearest"))
    torch.testing.assert_close(convolve_doubled(x, layer), expected, rtol=1e-12, atol=1e-12)


@KINDS_OF
def test_gradients_with_less_memory_are_those_of_the_plain_network(make):
    network = shaken(make(ALL), std=0.1).train()
    saving = copy.deepcopy(network)
    saving.checkpoint = True
    x, noise = images()
    saved = []
    for each in (network, saving):
        numbers = [0]
        with torch.autograd.graph.saved_tensors_hooks(lambda t, n=numbers: (n.append(t.numel()), t)[1], lambda t: t):
            loss = each(x, noise, conditions()).square().mean()
        loss.backward()
        saved.append(sum(numbers))
    for (name, a), b in zip(network.named_parameters(), saving.parameters(), strict=True):
        assert (a.grad - b.grad).norm() <= 1e-6 * a.grad.norm(), name
    assert saved[1] < 0.6 * saved[0]


def test_dropout_is_the_same_when_computed_again():
    network = shaken(unet(dropout=0.5), std=0.1).train()
    x, noise = images()
    gradients = []
    for checkpoint in (False, True):
        network.checkpoint = checkpoint
        torch.manual_seed(5)
        network.zero_grad()
        network(x, noise).square().mean().backward()
        gradients.append([parameter.grad.clone() for parameter in network.parameters()])
    for a, b in zip(*gradients, strict=True):
        assert (a - b).norm() <= 1e-6 * a.norm()


class Rounded(torch.nn.Module):
    """A network under autocast."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, *inputs):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            raw = self.network(*inputs)
        assert raw.dtype == torch.bfloat16
        return raw.float()


@pytest.mark.parametrize("make", [unet, dit, uvit])
def test_bfloat16_predicts_within_two_percent(make):
    """Of a network that has learned a little; one of random weights amplifies any rounding."""
    torch.manual_seed(0)
    noise, process = generator(0), RectifiedFlow()
    denoiser = Preconditioned(make(), process, data_std=0.5)
    optimiser = torch.optim.Adam(denoiser.parameters(), 2e-3)

    def noisy(rows):
        x0 = 0.7 * F.interpolate(torch.randn(rows, 2, 4, 4, generator=noise), scale_factor=2.0, mode="bilinear")
        t = torch.linspace(0.05, 0.95, rows)
        return x0, process.corrupt(x0, t, generator=noise), t

    for _ in range(15):
        x0, x_t, t = noisy(8)
        optimiser.zero_grad()
        ((denoiser(x_t, t) - x0) / (0.1 + t[:, None, None, None])).square().mean().backward()
        optimiser.step()
    _, x_t, t = noisy(64)
    with torch.no_grad():
        exact = denoiser(x_t, t)
        rounded = Preconditioned(Rounded(denoiser.network), process, data_std=0.5)(x_t, t)
    error = (rounded - exact).square().flatten(1).mean(1).sqrt() / exact.square().flatten(1).mean(1).sqrt()
    assert 0 < error.square().mean().sqrt() < 0.02


@pytest.mark.parametrize(("make", "backend"), [(unet, "eager"), (dit, "aot_eager"), (uvit, "eager")])
def test_networks_are_captured_as_one_graph_with_their_gradients(make, backend):
    options = {"multipliers": (1, 2)} if make is unet else {"depth": 1 if make is dit else 2}
    network = shaken(make(ALL, checkpoint=make is dit, **options), std=0.1).train()
    x, noise = images()
    given = {**conditions(), "present": torch.tensor([True, False, True])}
    torch._dynamo.reset()
    found = torch.compile(network, backend=backend, fullgraph=True)(x, noise, given)
    torch.testing.assert_close(found, network(x, noise, given), rtol=1e-5, atol=1e-5)
    found.square().sum().backward()


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="needs a C++ compiler")
def test_a_network_compiled_in_place_answers_as_the_eager_one():
    network = shaken(DiT(2, 4, width=16, depth=1, heads=2), std=0.1)
    x, noise = images(size=4)
    names = list(network.state_dict())
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own, about the modules it imports
        eager = network(x, noise)
        network.compile()
        compiled = network(x, noise)
    assert (compiled - eager).abs().max() <= 1e-5
    assert list(network.state_dict()) == names
