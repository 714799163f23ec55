import math

import pytest
import torch

from clarkia.errors import DataError
from clarkia.training import Status, TrainingOptions
from clarkia.training.batches import RowOrder, fingerprint, noise_of_step
from clarkia.training.progress import ProgressBar, describe


def test_the_learning_rate_follows_its_course():
    options = TrainingOptions(learning_rate=2.0, warmup_steps=3, max_steps=100, final_fraction=0.1)
    assert options.rate(0, 0.0) == 2.0 * 0.25
    assert options.rate(50, 0.0) == pytest.approx(2.0 * (0.1 + 0.9 * 0.5), rel=1e-12)
    assert options.rate(100, 0.0) == pytest.approx(0.2, rel=1e-12)
    timed = TrainingOptions(learning_rate=2.0, warmup_steps=0, max_steps=100, max_minutes=2.0)
    assert timed.rate(10, 40.0) == pytest.approx(1 + math.cos(math.pi / 3), rel=1e-12)
    assert TrainingOptions(learning_rate=2.0, warmup_steps=0, max_steps=100, decay="constant").rate(99, 0.0) == 2.0


@pytest.mark.parametrize(("optimizer", "peak"), [("adamw", 1e-3), ("muon", 5e-3)])
def test_each_optimizer_has_a_peak_of_its_own(optimizer, peak):
    options = {"optimizer": optimizer, "warmup_steps": 0, "max_steps": 10, "decay": "constant"}
    assert TrainingOptions(**options).rate(5, 0.0) == peak
    assert TrainingOptions(**options, learning_rate=0.25).rate(5, 0.0) == 0.25
    with pytest.raises(DataError, match="learning_rate must be a positive number"):
        TrainingOptions(**options, learning_rate=0.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"max_steps": None},
        {"max_steps": 0},
        {"max_steps": 2.5},
        {"max_minutes": math.inf},
        {"max_minutes": -1.0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"weight_decay": -1.0},
        {"betas": (0.9, 1.0)},
        {"warmup_steps": -1},
        {"decay": "linear"},
        {"final_fraction": 1.5},
        {"clip_norm": 0.0},
        {"ema_decay": 1.0},
        {"validate_every": 0},
        {"patience": 0},
        {"precision": "float16"},
        {"checkpoint_minutes": -1.0},
        {"seed": -1},
        {"accumulate": 0},
        {"accumulate": 2000},
        {"decay_steps": 0},
        {"ema_sigmas": (0.1, 0.3)},
        {"ema_sigmas": (0.1, 0.1)},
        {"snapshot_every": 5},
        {"snapshot_every": 0, "ema_sigmas": (0.1,)},
        {"compile": 1},
        {"strategy": "tensor"},
        {"timeout_minutes": 0.0},
        {"read_ahead": -1},
    ],
)
def test_an_option_out_of_range_is_named(changes):
    with pytest.raises(DataError, match=next(iter(changes))):
        TrainingOptions(**{"max_steps": 10, **changes})


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError):
        TrainingOptions(max_steps=1, learning_speed=1.0)


@pytest.mark.parametrize(("rows", "batch"), [(10, 3), (10, 10), (7, 16), (1, 4)])
def test_every_epoch_holds_every_row_equally_often(rows, batch):
    order = RowOrder(rows, batch, seed=5)
    copies = -(-batch // rows)
    steps = rows * copies * 3
    drawn = torch.cat([order.batch(step) for step in range(steps)])
    assert len(drawn) == steps * batch
    epochs = drawn.reshape(-1, rows * copies).sort(dim=1).values
    assert torch.equal(epochs, torch.arange(rows).repeat_interleave(copies).expand_as(epochs))


def test_a_batch_depends_on_the_seed_and_the_step_alone():
    order = RowOrder(50, 16, seed=1)
    forward = [order.batch(step) for step in range(9)]
    backward = [RowOrder(50, 16, seed=1).batch(step) for step in reversed(range(9))]
    assert all(torch.equal(a, b) for a, b in zip(forward, reversed(backward), strict=True))
    assert not torch.equal(RowOrder(50, 16, seed=2).batch(0), forward[0])
    assert not torch.equal(forward[0], forward[4])


def test_the_noise_of_a_step_depends_on_the_seed_and_the_step_alone():
    def draws(seed, step):
        with torch.random.fork_rng([]):
            own = torch.rand(2, generator=noise_of_step(seed, step, torch.device("cpu")))
            return (*own.tolist(), *torch.rand(2).tolist())  # the last two as a dropout layer draws them

    assert draws(1, 2) == draws(1, 2)
    different = [draws(seed, step) for seed in range(4) for step in range(5)]
    assert len({value for values in different for value in values}) == 80


def test_the_fingerprint_sees_values_names_and_types():
    base = torch.arange(6.0).reshape(3, 2)
    kinds = [base, base.T.reshape(3, 2), base.double(), base.reshape(2, 3), {"a": base}, {"b": base}]
    assert len({fingerprint(data) for data in kinds}) == len(kinds)
    assert fingerprint({"a": base, "b": base.int()}) == fingerprint({"b": base.int(), "a": base})


def test_a_status_in_words():
    status = Status(1200, 60.0, 0.25, 20.04, 185.0, {"loss": 0.51234}, 3.25)
    assert describe(status) == "step 1,200  20.0 steps/s  loss 0.5123  validation 3.2500  3:05 left"


def test_the_progress_bar_is_silent_without_a_terminal(capsys):
    with ProgressBar() as show:
        show(Status(1, 1.0, 0.5, 1.0, 1.0, {}, None))
    assert capsys.readouterr() == ("", "")
