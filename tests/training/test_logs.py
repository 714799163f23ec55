import csv
import itertools

import pytest
import toy_training as toy

from clarkia.errors import DataError
from clarkia.training import CSVLog, Status, TensorBoardLog, TrainingOptions, fit


def run(log, checkpoint=None, *, objective=toy.loss, resume=False, **changes):
    network = toy.module()
    options = TrainingOptions(**{**toy.OPTIONS, "checkpoint_minutes": 0, **changes})
    arguments = {"checkpoint": checkpoint, "resume": resume, "progress": False, "log": [log]}
    return fit(network, objective, toy.data(), options=options, validate=toy.validate, **arguments)


def killed_at(step):
    """A loss whose run ends without a word: nothing is saved after the last checkpoint."""
    calls = itertools.count(1)

    def objective(network, batch, generator):
        if next(calls) == step:
            raise MemoryError
        return toy.loss(network, batch, generator)

    return objective


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_holds_a_line_a_report(tmp_path):
    summary = run(CSVLog(tmp_path / "log.csv"), tmp_path / "checkpoint")
    lines = read(tmp_path / "log.csv")
    assert list(lines[0]) == [
        *("step", "seconds", "steps_per_second", "learning_rate", "validation"),
        *("square", "size", "gradient norm"),
    ]
    assert [int(line["step"]) for line in lines] == list(range(1, 61))
    validated = {int(line["step"]): float(line["validation"]) for line in lines if line["validation"]}
    assert validated == {line["step"]: line["validation"] for line in summary.history}
    assert float(lines[-1]["learning_rate"]) == TrainingOptions(**toy.OPTIONS).rate(59, 0.0)
    squares = [float(line["square"]) for line in lines[:20]]
    assert sum(squares) / 20 == pytest.approx(summary.history[0]["square"], rel=1e-12)


def test_a_table_goes_on_after_a_crash(tmp_path):
    run(CSVLog(tmp_path / "whole.csv"), tmp_path / "whole")
    log = CSVLog(tmp_path / "parts.csv")
    with pytest.raises(MemoryError):
        run(log, tmp_path / "parts", objective=killed_at(33))
    last = read(tmp_path / "parts.csv")[-1]["step"]
    with open(tmp_path / "parts.csv", "a") as file:  # later than the checkpoint, and cut off in writing
        file.write("40,9,9,9,,9,9,9\r\n41,0.1,2")
    run(log, tmp_path / "parts", resume=True)
    whole, parts = read(tmp_path / "whole.csv"), read(tmp_path / "parts.csv")
    assert int(last) == 32
    names = [name for name in whole[0] if name not in ("seconds", "steps_per_second")]
    assert [[line[name] for name in names] for line in parts] == [[line[name] for name in names] for line in whole]


def test_a_table_of_something_else_is_left_alone(tmp_path):
    path = tmp_path / "log.csv"
    run(CSVLog(path), max_steps=3)
    with pytest.raises(DataError, match=r"log.csv holds the log of another run: resume it, or delete the file"):
        run(CSVLog(path), max_steps=3)
    for text in ("name,age\nAda,36\n", "step,seconds,steps_per_second,learning_rate,validation\nx,1,2,3,4\n"):
        path.write_text(text)
        with pytest.raises(DataError, match=r"log.csv is not the log of a training run"):
            run(CSVLog(path), max_steps=3, resume=True)
        assert path.read_text() == text
    with pytest.raises(DataError, match="does not exist; create it first"):
        run(CSVLog(tmp_path / "nowhere" / "log.csv"), max_steps=3)
    other = "step,seconds,steps_per_second,learning_rate,validation,loss\n0,0,1,0,,1\n"
    path.write_text(other)
    with pytest.raises(DataError, match=r"has the columns .*'loss'\], not .*choose another file"):
        run(CSVLog(path), tmp_path / "checkpoint", max_steps=3, resume=True)


def test_a_validation_shares_the_line_of_its_step(tmp_path):
    with CSVLog(tmp_path / "log.csv").open(0, resume=False) as tell:
        tell(Status(5, 1.0, 0.1, 5.0, None, {"loss": 0.5}, None, learning_rate=0.25))
        tell(Status(5, 2.0, 0.1, 2.5, None, {"loss": 0.5}, 3.0, validated=True, learning_rate=0.25))
        tell(Status(6, 2.5, 0.1, 2.4, None, {"loss": 0.4}, 3.0, learning_rate=0.125))
    text = (tmp_path / "log.csv").read_text().splitlines()
    assert text[1:] == ["5,2.0,2.5,0.25,3.0,0.5", "6,2.5,2.4,0.125,,0.4"]


def test_tensorboard_shows_each_step_once_after_a_crash(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = TensorBoardLog(tmp_path / "board")
    with pytest.raises(MemoryError):
        run(log, tmp_path / "checkpoint", objective=killed_at(33), checkpoint_minutes=0.0)
    summary = run(log, tmp_path / "checkpoint", resume=True)
    events = accumulator.EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss/square")] == list(range(1, 61))
    assert [event.step for event in events.Scalars("validation")] == [20, 40, 60]
    assert events.Scalars("validation")[-1].value == pytest.approx(summary.history[-1]["validation"], rel=1e-6)
    assert {"training/learning_rate", "training/steps_per_second"} <= set(events.Tags()["scalars"])
    with pytest.raises(DataError, match="board holds the log of another run"):
        run(log)


def test_samples_can_be_drawn_from_the_averaged_weights(tmp_path):
    import torch

    seen = []

    def look(network, record):
        assert not network.training
        assert not torch.is_grad_enabled()
        torch.manual_seed(0)  # a careless user
        seen.append((record["step"], toy.validate(network)))

    network = toy.module()
    options = TrainingOptions(**toy.OPTIONS)
    arguments = {"options": options, "validate": toy.validate, "progress": False}
    summary = fit(network, toy.loss, toy.data(), on_record=look, **arguments)
    assert seen == [(line["step"], line["validation"]) for line in summary.history]
    plain = toy.module()
    fit(plain, toy.loss, toy.data(), **arguments)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), plain.parameters(), strict=True))
