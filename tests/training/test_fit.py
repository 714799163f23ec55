import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import toy_training as toy
from safetensors.torch import load_file
from torch import nn

from clarkia.errors import DataError
from clarkia.training import TrainingOptions, fit
from clarkia.training.checkpoints import load_checkpoint, save_checkpoint
from clarkia.training.ema import WeightAverage
from clarkia.training.interrupts import deferred_interrupt
from clarkia.training.snapshots import snapshots_of
from clarkia.training.strategies import compiled_in_place

HERE = Path(__file__).parent


def same_checkpoints(one, other):
    """Weights, averages, best weights, moments and counters, bit for bit; only the clock may differ."""
    (tensors, record), (others, other_record) = load_checkpoint(one), load_checkpoint(other)
    assert tensors.keys() == others.keys()
    assert any(name.startswith("best/") for name in tensors)
    assert any(name.endswith("/exp_avg_sq") for name in tensors)
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)
    for lines in (record["history"], other_record["history"]):
        for line in lines:
            del line["seconds"]
    for mapping in (record, other_record):
        del mapping["seconds"], mapping["options"]
    assert record == other_record
    assert record["step"] == 60
    return True


def interrupted_at(step):
    calls = itertools.count(1)

    def objective(network, batch, generator):
        if next(calls) == step:
            raise KeyboardInterrupt
        return toy.loss(network, batch, generator)

    return objective


@pytest.mark.parametrize("step", [31, 41])
def test_an_interrupted_run_resumes_to_the_same_bits(tmp_path, step):
    toy.run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        toy.run(tmp_path / "parts", objective=interrupted_at(step))
    assert load_checkpoint(tmp_path / "parts")[1]["step"] == step - 1
    toy.run(tmp_path / "parts", resume=True)
    assert same_checkpoints(tmp_path / "whole", tmp_path / "parts")


def test_a_killed_process_resumes_to_the_same_bits(tmp_path):
    arguments = [sys.executable, str(HERE / "toy_training.py"), str(tmp_path / "parts"), str(torch.get_num_threads())]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        steps = [int(process.stdout.readline()) for _ in range(5)]
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert steps[-1] - 1 <= load_checkpoint(tmp_path / "parts")[1]["step"] < 60
    toy.run(tmp_path / "whole")
    toy.run(tmp_path / "parts", resume=True)
    assert same_checkpoints(tmp_path / "whole", tmp_path / "parts")


def test_control_c_ends_the_step_and_saves(tmp_path):
    def objective(network, batch, generator):
        os.kill(os.getpid(), signal.SIGINT)
        return toy.loss(network, batch, generator)

    with pytest.raises(KeyboardInterrupt):
        toy.run(tmp_path / "checkpoint", objective=objective)
    assert load_checkpoint(tmp_path / "checkpoint")[1]["step"] == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_request_to_end_ends_the_step_and_saves(tmp_path):
    def objective(network, batch, generator):
        os.kill(os.getpid(), signal.SIGTERM)
        return toy.loss(network, batch, generator)

    with pytest.raises(SystemExit) as ended:
        toy.run(tmp_path / "checkpoint", objective=objective)
    assert ended.value.code == 128 + signal.SIGTERM
    assert load_checkpoint(tmp_path / "checkpoint")[1]["step"] == 1
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_second_ctrl_c_acts_at_once_unless_it_is_an_echo():
    with deferred_interrupt(grace=60.0) as asked:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert asked.number == signal.SIGINT
    with deferred_interrupt() as asked:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_global_generator_is_left_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    toy.run(None, max_steps=3)
    assert torch.equal(torch.rand(3), expected)


def test_adamw_and_the_average_follow_their_formulas():
    """Two steps on one weight matrix and one bias against the written-out algorithm, in float64."""
    torch.manual_seed(0)
    layer = nn.Linear(2, 1, dtype=torch.float64)
    weights = [layer.weight.detach().clone(), layer.bias.detach().clone()]
    options = TrainingOptions(
        batch_size=4, learning_rate=0.1, weight_decay=0.3, max_steps=2, warmup_steps=1, clip_norm=0.5, ema_decay=0.15
    )
    x = torch.randn(4, 2, dtype=torch.float64)
    fit(layer, lambda net, batch, _: net(batch).squeeze(1).square(), x, options=options, progress=False)

    first, second = [torch.zeros_like(w) for w in weights], [torch.zeros_like(w) for w in weights]
    average = [w.clone() for w in weights]
    rates = [0.1 * 0.5 * 1.0, 0.1 * 1.0 * 0.5]  # warm-up 1/2 then 1; cosine at 0 and at half of the budget
    for step, rate in enumerate(rates):
        error = x @ weights[0].T + weights[1]
        gradients = [2 * error.T @ x / 4, 2 * error.mean(dim=0)]
        norm = sum(g.square().sum() for g in gradients).sqrt()
        gradients = [g * min(1.0, float(0.5 / norm)) for g in gradients]
        decay = min(0.15, (1 + step) / (10 + step))
        for i, gradient in enumerate(gradients):
            first[i] = 0.9 * first[i] + 0.1 * gradient
            second[i] = 0.999 * second[i] + 0.001 * gradient**2
            unbiased = first[i] / (1 - 0.9 ** (step + 1)), second[i] / (1 - 0.999 ** (step + 1))
            shrunk = weights[i] * (1 - rate * (0.3 if i == 0 else 0.0))
            weights[i] = shrunk - rate * unbiased[0] / (unbiased[1].sqrt() + 1e-8)
            average[i] = decay * average[i] + (1 - decay) * weights[i]
    # The clipping coefficient of torch has 1e-6 added to the norm, and losses are averaged in float32.
    torch.testing.assert_close(layer.weight.detach(), average[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(layer.bias.detach(), average[1], rtol=1e-5, atol=1e-6)


def test_the_average_restores_the_weights_and_follows_integers():
    network = toy.module()
    average = WeightAverage(network, 0.999)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
        network.norm.num_batches_tracked += 5
    average.update(0)
    own = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with average.applied():
        inside = network.layers[0].weight.detach().clone()
    torch.testing.assert_close(inside, before["layers.0.weight"] + 0.9)
    assert average.weights["norm.num_batches_tracked"] == 5
    assert all(torch.equal(own[name], tensor) for name, tensor in network.state_dict().items())


def test_the_best_averaged_weights_are_kept():
    values = iter([3.0, 1.0, 2.0, 5.0])
    seen = []

    def validate(network):
        assert not network.training
        assert not torch.is_grad_enabled()
        seen.append(network.layers[0].weight.detach().clone())
        return next(values)

    network = toy.module()
    options = TrainingOptions(**{**toy.OPTIONS, "validate_every": 10, "patience": 2})
    summary = fit(network, toy.loss, toy.data(), options=options, validate=validate, progress=False)
    assert (summary.stopped, summary.steps, summary.best_step, summary.best_validation) == ("patience", 40, 20, 1.0)
    assert torch.equal(network.layers[0].weight, seen[1])
    assert not network.training
    assert [line["step"] for line in summary.history] == [10, 20, 30, 40]
    assert {"square", "size", "gradient norm", "seconds", "validation"} <= summary.history[0].keys()


def test_patience_carries_over(tmp_path):
    values = {10: 3.0, 20: 1.0, 30: 2.0, 40: 1.5, 50: 0.5}
    options = TrainingOptions(**{**toy.OPTIONS, "validate_every": 10, "patience": 2})

    def run(objective, done):
        scripted = (value for step, value in values.items() if step > done)
        arguments = {"options": options, "checkpoint": tmp_path / "checkpoint", "resume": True, "progress": False}
        return fit(toy.module(), objective, toy.data(), validate=lambda _: next(scripted), **arguments)

    with pytest.raises(KeyboardInterrupt):
        run(interrupted_at(36), done=0)
    summary = run(toy.loss, done=30)
    assert (summary.stopped, summary.steps, summary.best_step, summary.best_validation) == ("patience", 40, 20, 1.0)


def test_training_learns_and_reports():
    statuses = []
    summary = toy.run(None, max_steps=400, validate_every=100, progress=statuses.append)[1]
    validations = [line["validation"] for line in summary.history]
    assert summary.best_validation == min(validations)
    assert summary.best_validation < 0.7 * toy.data(100)["y"].square().mean()
    assert statuses[-1].step == 400
    assert statuses[-1].fraction == 1.0
    assert statuses[-1].losses.keys() == {"square", "size", "gradient norm"}


def test_a_budget_of_minutes_ends_the_run_and_carries_over(tmp_path):
    summary = toy.run(tmp_path / "timed", max_steps=None, max_minutes=0.01)[1]
    assert summary.stopped == "max_minutes"
    assert 0.6 <= summary.seconds < 3
    again = toy.run(tmp_path / "timed", max_steps=None, max_minutes=0.01, resume=True)[1]
    assert again.steps == summary.steps
    assert again.seconds >= 0.6


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_weights():
    seen = set()

    def objective(network, batch, generator):
        seen.add(network.layers[0](batch["x"]).dtype)
        return toy.loss(network, batch, generator)

    network = toy.run(None, objective=objective, precision="bfloat16", max_steps=3)[0]
    assert seen == {torch.bfloat16}
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())


def test_a_loss_that_is_not_finite_is_named_with_its_step():
    calls = itertools.count(1)

    def objective(network, batch, generator):
        losses = toy.loss(network, batch, generator)
        if next(calls) == 17:
            losses["size"] = losses["size"] / 0
        return losses

    with pytest.raises(FloatingPointError, match=r"the loss 'size' is inf at training step 17$"):
        toy.run(None, objective=objective)


def test_a_gradient_that_is_not_finite_is_named_with_its_step():
    def objective(network, batch, generator):
        zero = network(batch["x"]).squeeze(1) * 0
        return zero.sqrt()

    with pytest.raises(FloatingPointError, match=r"the gradient norm is (nan|inf) at training step 1$"):
        toy.run(None, objective=objective)


def test_a_validation_that_is_not_finite_is_named_with_its_step():
    options = TrainingOptions(max_steps=5, validate_every=2)
    with pytest.raises(FloatingPointError, match=r"the validation value is nan at training step 2$"):
        fit(toy.module(), toy.loss, toy.data(), options=options, validate=lambda _: float("nan"), progress=False)


def test_a_poisoned_run_does_not_replace_its_checkpoint(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        toy.run(tmp_path / "checkpoint", objective=interrupted_at(11))

    def poisoned(network, batch, generator):
        return toy.loss(network, batch, generator)["square"] * torch.nan

    with pytest.raises(FloatingPointError):
        toy.run(tmp_path / "checkpoint", resume=True, objective=poisoned, checkpoint_minutes=0)
    tensors, record = load_checkpoint(tmp_path / "checkpoint")
    assert record["step"] == 10
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_checkpoints_are_refused_with_a_reason(tmp_path):
    path = tmp_path / "checkpoint"
    toy.run(path, max_steps=2)
    with pytest.raises(DataError, match="holds an unfinished run: resume it, or delete the file"):
        toy.run(path)
    with pytest.raises(DataError, match="made with seed=3, not 4"):
        toy.run(path, resume=True, seed=4)
    with pytest.raises(DataError, match="made with batch_size=48, not 8"):
        toy.run(path, resume=True, batch_size=8)
    with pytest.raises(DataError, match=r"made with ema_sigmas=\(\), not \(0.1,\)"):
        toy.run(path, resume=True, ema_sigmas=(0.1,))
    options = TrainingOptions(**toy.OPTIONS)
    with pytest.raises(DataError, match="made on different data"):
        fit(toy.module(), toy.loss, toy.data(150), options=options, checkpoint=path, resume=True, progress=False)
    other = toy.module()
    other.layers[3] = nn.Linear(32, 2)
    reason = (
        r"different network: 'layers.3.weight' is \(1, 32\) float32 in the file and \(2, 32\) float32 in the network"
    )
    with pytest.raises(DataError, match=reason):
        fit(other, toy.loss, toy.data(), options=options, checkpoint=path, resume=True, progress=False)
    with pytest.raises(DataError, match=r"different network: 'weight' is missing in the file"):
        fit(nn.Linear(3, 1), toy.loss, toy.data(), options=options, checkpoint=path, resume=True, progress=False)
    with pytest.raises(DataError, match="does not exist; create it first"):
        toy.run(tmp_path / "nowhere" / "checkpoint")


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "checkpoint"
    toy.run(path, max_steps=2)
    whole = path.read_bytes()
    for damaged in (b"", b"not a checkpoint", whole[: len(whole) // 2], whole[:-1], b"\xff" * 8 + whole[8:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="is not a readable checkpoint"):
            toy.run(path, resume=True)
    path.write_bytes(whole.replace(b'\\"format\\": 1', b'\\"format\\": 9'))
    with pytest.raises(DataError, match=r"newer clarkia \(format 9, this one reads 1\); upgrade clarkia"):
        toy.run(path, resume=True)


def test_a_checkpoint_with_moments_of_another_shape_is_refused(tmp_path):
    path = tmp_path / "checkpoint"
    toy.run(path, max_steps=2)
    tensors, record = load_checkpoint(path)
    tensors["optimizer/layers.0.bias/exp_avg"] = torch.zeros(5)
    save_checkpoint(path, tensors, record)
    with pytest.raises(DataError, match=r"different network: 'exp_avg' is \(5,\) float32 in the file and \(32,\)"):
        toy.run(path, resume=True)


def test_snapshots_follow_a_run_through_a_crash(tmp_path):
    changes = {"ema_sigmas": (0.05, 0.1), "snapshot_every": 20}
    toy.run(tmp_path / "whole", **changes)
    with pytest.raises(DataError, match="snapshots are kept beside the checkpoint; give a checkpoint"):
        toy.run(None, **changes)
    with pytest.raises(KeyboardInterrupt):
        toy.run(tmp_path / "parts", objective=interrupted_at(31), **changes)
    later = tmp_path / "parts.snapshots" / "0000000040-0.1.safetensors"
    later.write_text("of a step that is going to be done again")
    with pytest.raises(KeyboardInterrupt):
        toy.run(tmp_path / "parts", objective=interrupted_at(2), resume=True, **changes)
    assert not later.exists()
    toy.run(tmp_path / "parts", resume=True, **changes)
    pairs = list(zip(snapshots_of(tmp_path / "whole"), snapshots_of(tmp_path / "parts"), strict=True))
    assert len(pairs) == 6
    assert all(one.name == other.name and one.read_bytes() == other.read_bytes() for one, other in pairs)
    (tmp_path / "parts").unlink()
    with pytest.raises(DataError, match=r"parts.snapshots holds the snapshots of another run"):
        toy.run(tmp_path / "parts", **changes)


def test_a_compiled_module_is_called_while_training_and_keeps_its_names(tmp_path, monkeypatch):
    calls = []

    def compiled(module):
        def call(*arguments):
            calls.append(module)
            return module._call_impl(*arguments)

        module._compiled_call_impl = call

    monkeypatch.setattr(nn.Module, "compile", compiled)
    toy.run(tmp_path / "plain")
    assert calls == []
    network, _ = toy.run(tmp_path / "compiled", compile=True)
    assert len(calls) == 60 + 3  # steps and validations
    assert same_checkpoints(tmp_path / "plain", tmp_path / "compiled")
    assert network._compiled_call_impl is None
    container = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.ModuleList([nn.Linear(1, 1)])})
    assert compiled_in_place(container) == [container["a"], container["b"][0]]


def test_resume_without_a_checkpoint_starts(tmp_path):
    assert toy.run(tmp_path / "new", resume=True, max_steps=2)[1].steps == 2
    assert load_file(tmp_path / "new")


@pytest.mark.parametrize(
    ("data", "reason"),
    [(torch.zeros(0, 2), "no rows"), ({"a": torch.zeros(2), "b": torch.zeros(3)}, "same number of rows")],
)
def test_unusable_data_are_refused(data, reason):
    with pytest.raises(ValueError, match=reason):
        fit(toy.module(), toy.loss, data, options=TrainingOptions(max_steps=1), progress=False)


def test_a_loss_without_rows_is_refused():
    with pytest.raises(ValueError, match="must have one value a row"):
        toy.run(None, objective=lambda network, batch, _: network(batch["x"]).mean())
