import pytest
import torch

from clarkia.denoisers import Preconditioned
from clarkia.networks import Bfloat16, ResidualMLP, TabDiffNet, TokenTransformer
from clarkia.networks.mlp import _SmoothRows
from clarkia.processes import Masked
from clarkia.processes.mixture_path import Uniform
from clarkia.random import generator
from clarkia.spaces import Categorical, Continuous, Mixed

SPACE = Mixed(numeric=Continuous((2,)), levels=Categorical((3,), num_classes=(5, 2, 4)))
SPACES = {
    "mixed": SPACE,
    "numbers alone": Mixed(numeric=Continuous((2,))),
    "categories alone": Mixed(levels=Categorical((3,), num_classes=(5, 2, 4))),
    "two categorical blocks": Mixed(
        numeric=Continuous((1,)),
        levels=Categorical((2,), num_classes=(2, 3)),
        wide=Categorical((1,), num_classes=(300,)),
    ),
}


def state(space, rows=6):
    noise = generator(0)
    x, levels = {}, {}
    for name, block in space.blocks.items():
        shape = (rows, *block.shape)
        if isinstance(block, Continuous):
            x[name], levels[name] = torch.randn(shape, generator=noise), torch.randn(shape, generator=noise)
        else:
            classes = torch.rand(shape, generator=noise) * (torch.tensor(block.counts) + 1)
            x[name], levels[name] = classes.long(), torch.rand(shape, generator=noise)
    return x, levels


@pytest.mark.parametrize("make", [ResidualMLP, TabDiffNet])
@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_every_block_is_answered_in_its_shape_and_every_weight_gets_a_gradient(make, space):
    network = make(space)
    for parameter in network.parameters():  # heads that start at zero would hide what lies before them
        torch.nn.init.normal_(parameter, std=0.1)
    raw = network(*state(space))
    for name, block in space.blocks.items():
        classes = () if isinstance(block, Continuous) else (block.max_classes,)
        assert raw[name].shape == (6, *block.shape, *classes)
    sum(block.square().sum() for block in raw.values()).backward()
    unused = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert not unused


@pytest.mark.parametrize("make", [ResidualMLP, TabDiffNet])
def test_a_row_is_answered_alike_alone_and_among_others(make):
    network = make(SPACE).eval()
    x, noise = state(SPACE)
    together = network(x, noise)
    alone = network({k: v[2:3] for k, v in x.items()}, {k: v[2:3] for k, v in noise.items()})
    for name in together:
        torch.testing.assert_close(together[name][2:3], alone[name], rtol=1e-5, atol=1e-5)


def test_classes_that_do_not_exist_get_a_constant_zero():
    network = ResidualMLP(SPACE)
    torch.nn.init.normal_(network.heads["levels"].weight.free)
    logits = network(*state(SPACE))["levels"]
    assert (logits[:, 1, 2:] == 0).all()
    assert (logits[:, 2, 4:] == 0).all()
    assert (logits[:, 0] != 0).all()


def test_one_noise_level_a_row_is_that_level_for_each_cell():
    network = ResidualMLP(SPACE)
    torch.nn.init.normal_(network.heads["numeric"].weight)
    x, noise = state(SPACE)
    by_row = noise["numeric"][:, 0]
    once = network(x, noise | {"numeric": by_row})["numeric"]
    each = network(x, noise | {"numeric": by_row[:, None].expand(-1, 2)})["numeric"]
    assert torch.equal(once, each)


def test_ordered_rows_start_as_smooth_curves_and_can_become_anything():
    rows = _SmoothRows([41, 7], [40, 0], 64, 1.0)
    start = rows().detach()
    steps = start[1:40] - start[:39]
    assert steps.norm(dim=1).mean() < 0.6 * start[:40].norm(dim=1).mean()  # independent rows would give sqrt 2
    assert (start[41:, None] - start[None, 41:]).norm(dim=-1)[0, 1:].mean() > 9.0  # sqrt(2 * 64) = 11.3
    target = torch.randn(48, 64, generator=generator(1))
    optimizer = torch.optim.Adam(rows.parameters(), lr=0.3)
    for _ in range(300):
        optimizer.zero_grad()
        loss = (rows() - target).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 1e-3


def test_bfloat16_is_a_rounding_of_float32():
    network = ResidualMLP(SPACE)
    torch.nn.init.normal_(network.heads["numeric"].weight)
    plain, rounded = network(*state(SPACE)), Bfloat16(network)(*state(SPACE))
    assert rounded["numeric"].dtype == torch.float32
    gap = (plain["numeric"] - rounded["numeric"]).abs().max() / plain["numeric"].abs().max()
    assert 0 < gap < 0.03


def test_bfloat16_takes_a_network_of_one_block_and_keeps_what_it_says_of_time():
    network = TokenTransformer(5, 8, width=16, depth=1, heads=2)
    torch.nn.init.normal_(network.head.weight)
    x = torch.randint(6, (3, 8), generator=generator(0))
    plain, rounded = network(x), Bfloat16(network)(x)
    assert rounded.dtype == torch.float32
    assert 0 < (plain - rounded).abs().max() < 0.03 * plain.abs().max()
    assert Bfloat16(network).time_independent
    timed = TokenTransformer(5, 8, width=16, depth=1, heads=2, time_conditioning=True)
    assert not Bfloat16(timed).time_independent
    assert Preconditioned(Bfloat16(network), Masked(5)).time_independent
    assert not Preconditioned(timed, Masked(5)).time_independent
    assert not Preconditioned(network, Uniform(5)).time_independent


def test_tabdiff_has_the_published_size():
    adult = Mixed(numeric=Continuous((6,)), levels=Categorical((9,), num_classes=(9, 16, 7, 15, 6, 5, 2, 42, 2)))
    count = sum(parameter.numel() for parameter in TabDiffNet(adult).parameters())
    assert 10.3e6 < count < 10.9e6
