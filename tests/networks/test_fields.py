"""The transformer over the cells of a mixed space, alone, as a denoiser and inside a table model."""

import numpy as np
import pandas as pd
import pytest
import torch

import clarkia as ck
from clarkia.denoisers import Preconditioned
from clarkia.networks.conditioning import Conditions
from clarkia.networks.fields import FieldTransformer
from clarkia.processes import EDM, Masked
from clarkia.processes import Mixed as MixedProcess
from clarkia.random import generator
from clarkia.spaces import Categorical, Continuous, Mixed
from clarkia.testing import check_denoiser

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


def network(space=SPACE, **options):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        made = FieldTransformer(space, width=32, depth=2, heads=4, **options).eval()
        for name, parameter in made.named_parameters():
            if name.startswith("heads") or "modulation" in name:
                torch.nn.init.normal_(parameter, std=0.3)
    return made


def state(space=SPACE, rows=6):
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


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_new_network_answers_zero_in_every_shape_and_every_weight_gets_a_gradient(space):
    new = FieldTransformer(space, width=32, depth=2, heads=4)(*state(space))
    assert all(bool((block == 0).all()) for block in new.values())
    made = network(space)
    raw = made(*state(space))
    for name, block in space.blocks.items():
        classes = () if isinstance(block, Continuous) else (block.max_classes,)
        assert raw[name].shape == (6, *block.shape, *classes)
    sum(block.square().sum() for block in raw.values()).backward()
    assert [name for name, parameter in made.named_parameters() if parameter.grad is None] == []


def test_at_the_start_every_block_is_the_identity():
    new = FieldTransformer(SPACE, width=32, depth=2, heads=4)
    h, c = torch.randn(3, 5, 32), torch.randn(3, 1, 32)
    assert torch.equal(new.blocks[0](h, c), h)


def test_classes_that_do_not_exist_get_a_constant_zero():
    logits = network()(*state())["levels"]
    assert bool((logits[:, 1, 2:] == 0).all())
    assert bool((logits[:, 2, 4:] == 0).all())
    assert bool((logits[:, 0] != 0).all())


def test_a_row_is_answered_alike_alone_and_among_others():
    made, (x, noise) = network(), state()
    together = made(x, noise)
    alone = made({k: v[2:3] for k, v in x.items()}, {k: v[2:3] for k, v in noise.items()})
    for name in together:
        torch.testing.assert_close(together[name][2:3], alone[name], rtol=1e-4, atol=1e-5)


def test_one_noise_level_a_row_is_that_level_for_each_cell_and_observed_cells_are_told_apart():
    made, (x, noise) = network(), state()
    by_row = {name: level[:, 0] for name, level in noise.items()}
    by_cell = {name: level[:, :1].expand_as(level) for name, level in noise.items()}
    once = made(x, by_row)
    for name, each in made(x, by_cell).items():
        torch.testing.assert_close(once[name], each, rtol=1e-5, atol=1e-5)
    shown = by_cell["numeric"].clone()
    shown[:, 1] = -2.3
    assert not torch.allclose(made(x, by_cell | {"numeric": shown})["numeric"], once["numeric"], atol=1e-3)


def test_a_class_has_a_row_of_its_own_at_each_position():
    embed = network().requires_grad_(False).tokens["levels"]
    token = embed(torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1))[0] - embed.column
    assert float(torch.pdist(token).min()) > 0.1
    last = embed(torch.tensor([[5, 2, 4]]), torch.zeros(1))[0] - embed.column
    torch.testing.assert_close(last, embed.table.weight[[5, 8, 13]])


def test_every_cell_sees_every_other_and_the_mask_is_a_state_like_any():
    made, (x, noise) = network(), state()
    base = made(x, noise)
    masked = made({**x, "levels": torch.tensor([5, 2, 4]).expand(6, 3)}, noise)
    assert not torch.allclose(base["numeric"], masked["numeric"], atol=1e-3)
    moved = made({**x, "numeric": x["numeric"] + 1.0}, noise)
    assert not torch.allclose(base["levels"], moved["levels"], atol=1e-3)


def test_a_condition_is_read_and_its_absence_too():
    made, (x, noise) = network(conditions=Conditions(label_classes=(3,), token_classes=4)), state()
    given = {"label": torch.arange(6) % 3, "tokens": torch.arange(12).reshape(6, 2) % 4}
    told = made(x, noise, given)["numeric"]
    assert not torch.allclose(told, made(x, noise)["numeric"], atol=1e-3)
    dropped = made(x, noise, given | {"present": torch.zeros(6, dtype=torch.bool)})["numeric"]
    torch.testing.assert_close(dropped, made(x, noise)["numeric"], rtol=1e-5, atol=1e-5)


def test_checkpointed_gradients_are_the_plain_ones():
    gradients = []
    for checkpoint in (False, True):
        made = network(checkpoint=checkpoint).train()
        sum(block.square().sum() for block in made(*state()).values()).backward()
        gradients.append([parameter.grad.clone() for parameter in made.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again, rtol=1e-5, atol=1e-5)


def test_it_is_a_denoiser():
    process = MixedProcess(numeric=EDM, levels=Masked((5, 2, 4)))
    x, _ = state()
    clean = {**x, "levels": torch.minimum(x["levels"], torch.tensor([4, 1, 3]))}
    check_denoiser(Preconditioned(network(), process), process, clean)


def test_a_block_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="space"):
        FieldTransformer(Mixed(image=Continuous((2, 2))))
    with pytest.raises(ValueError, match="heads"):
        FieldTransformer(SPACE, width=30, heads=4)


def test_a_table_model_runs_on_it():
    rng = np.random.default_rng(0)
    kind = rng.random(400) < 0.3
    size = np.round(rng.normal(np.where(kind, 4.0, 0.0), 1.0), 3)
    frame = pd.DataFrame({"kind": np.where(kind, "a", "b"), "size": size, "count": rng.integers(0, 5, 400)})
    model = ck.TableModel(
        network="fields",
        width=32,
        depth=2,
        max_steps=200,
        max_minutes=None,
        batch_size=200,
        validation_share=0.0,
        learning_rate=3e-3,
    ).fit(frame)
    drawn = model.sample(300, seed=1, num_steps=12)
    assert abs((drawn["kind"] == "a").mean() - 0.3) < 0.12
    means = drawn.groupby("kind", observed=True)["size"].mean()
    assert means["a"] - means["b"] > 2.5
    holes = frame.head(10).assign(kind=None)
    filled = model.impute(holes)
    assert filled["kind"].notna().all()
    assert np.isfinite(model.score_samples(frame.head(5), num_draws=2)).all()
