"""A step of training against its definition: parts of a batch, schedules, averages kept for later."""

import math

import pytest
import torch
from torch import nn

from clarkia.random import of_batch, rand, randn
from clarkia.training import TrainingOptions, fit
from clarkia.training.checkpoints import load_checkpoint
from clarkia.training.snapshots import snapshots_of


class Regression(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1)).double()

    def forward(self, x):
        return self.layers(x).squeeze(1)


def regression():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return Regression()


DATA = {"x": torch.randn(60, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))}


def loss(network, batch, generator):
    """Noise by rows and noise that couples them, in two losses."""
    x = batch["x"]
    strata = of_batch(len(x), generator, lambda n, source: (torch.argsort(rand((n,), source)) + rand((n,), source)) / n)
    noisy = x + strata[:, None] * randn(x.shape, generator, dtype=torch.float64)
    return {"one": (network(noisy) - x[:, 0]).square(), "two": 0.1 * network(x).abs()}


def moved(steps, **changes):
    network = regression()
    options = {"batch_size": 10, "learning_rate": 0.01, "decay": "constant", "seed": 1, "ema_decay": 0.0}
    options |= {"warmup_steps": 0, "max_steps": steps, "validate_every": 1}
    summary = fit(network, loss, DATA, options=TrainingOptions(**{**options, **changes}), progress=False)
    return network, summary


@pytest.mark.parametrize("accumulate", [2, 3, 10])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(accumulate):
    """Weights after 20 steps, losses and gradient norms in float64; losses themselves are averaged in float32."""
    network, summary = moved(20)
    other, parts = moved(20, accumulate=accumulate)
    for expected, found in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
    for line, expected in zip(parts.history, summary.history, strict=True):
        assert [line[key] for key in ("one", "two", "gradient norm")] == pytest.approx(
            [expected[key] for key in ("one", "two", "gradient norm")], rel=1e-6
        )


def test_the_gradient_of_parts_of_unequal_size_is_the_mean_over_rows():
    """The loss w x has the gradient x, in whatever order the rows come; the parts have 2, 2 and 3 rows."""
    torch.manual_seed(0)
    layer = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    x = 2.0 ** torch.arange(7, dtype=torch.float64)[:, None]
    options = TrainingOptions(batch_size=7, accumulate=3, max_steps=1, clip_norm=None)
    summary = fit(layer, lambda net, batch, _: net(batch).squeeze(1), x, options=options, progress=False)
    assert summary.history[-1]["gradient norm"] == pytest.approx(127 / 7, rel=1e-6)


def test_the_inverse_square_root_is_that_of_edm2():
    """lr = ref / sqrt(max(n / n_ref, 1)), with the house's warm-up in front."""
    options = TrainingOptions(
        learning_rate=0.01, decay="inverse_sqrt", decay_steps=100, warmup_steps=9, max_steps=10**6
    )
    assert options.rate(0, 0.0) == pytest.approx(0.001, rel=1e-12)
    assert options.rate(50, 0.0) == options.rate(100, 0.0) == 0.01
    assert options.rate(400, 0.0) == pytest.approx(0.005, rel=1e-12)
    assert options.rate(70_000, 0.0) == pytest.approx(0.01 / math.sqrt(700), rel=1e-12)


def test_power_averages_are_those_of_the_weights_after_every_step(tmp_path):
    """From a checkpoint of every step: b = (1 - 1/n)^(gamma + 1), gamma of 0.1 is 6.93720."""
    path = tmp_path / "run"
    after = []

    def note(module, record):
        after.append({name: tensor.clone() for name, tensor in module.state_dict().items()})

    network = regression()
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    options = TrainingOptions(
        batch_size=10, max_steps=40, learning_rate=0.01, ema_decay=0.0, validate_every=1, ema_sigmas=(0.05, 0.1),
        snapshot_every=16, seed=1,
    )  # fmt: skip
    fit(network, loss, DATA, options=options, checkpoint=path, on_record=note, progress=False)
    assert len(after) == 40
    tensors, _ = load_checkpoint(path)
    for sigma, gamma in (("0.05", 16.97220), ("0.1", 6.93720)):
        average = start
        for step, weights in enumerate(after):
            keep = (step / (step + 1)) ** (gamma + 1)
            average = {name: keep * average[name] + (1 - keep) * weights[name] for name in weights}
            if step == 31:
                halfway = average
        for name, value in average.items():
            # gamma is known to five decimals
            torch.testing.assert_close(tensors[f"power {sigma}/{name}"], value, rtol=1e-5, atol=1e-7)
        (kept,) = [file for file in snapshots_of(path) if file.name == f"0000000032-{sigma}.safetensors"]
        for name, value in halfway.items():
            torch.testing.assert_close(load_checkpoint(kept)[0][name], value, rtol=1e-5, atol=1e-7)
    assert [file.name[:10] for file in snapshots_of(path)] == ["0000000016"] * 2 + ["0000000032"] * 2
