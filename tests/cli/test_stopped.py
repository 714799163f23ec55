"""What is left when a command is stopped: by Ctrl-C, by the system, or without a warning."""

import signal

import pyarrow.parquet as pq
import pytest
from command_line import people, run, start, stop, wait_for

MANY = 10_000_000  # rows, or steps: more than a test waits for
# A checkpoint after every step, so that a test need not wait a minute for one.
SAVING = (
    "import clarkia.training.options as options\n"
    "options.TrainingOptions.__init__.__kwdefaults__['checkpoint_minutes'] = 0.0"
)


def same_model(first, second):
    """Whether two model files hold the same weights."""
    from clarkia.models.files import read_model

    weights = [read_model(path).weights for path in (first, second)]
    return weights[0].keys() == weights[1].keys() and all((weights[0][k] == weights[1][k]).all() for k in weights[0])


def test_a_killed_fit_resumes_and_ends_as_if_nothing_had_happened(inside):
    pq.write_table(people(19), "people.parquet")
    fit = ("fit", "people.parquet", "--max-steps", 60)
    checkpoint = inside / "killed.clarkia.checkpoint"

    process = start(*fit, "-o", "killed.clarkia", before=SAVING)
    wait_for(checkpoint.exists, process)
    stop(process, signal.SIGKILL)
    assert checkpoint.exists()
    assert not (inside / "killed.clarkia").exists()

    run(*fit, "-o", "killed.clarkia").refuses("killed.clarkia.checkpoint", "--resume")
    assert checkpoint.exists()

    resumed = run(*fit, "-o", "killed.clarkia", "--resume")
    assert resumed.status == 0, resumed
    assert "60 steps" in resumed.out
    assert not checkpoint.exists()
    assert run(*fit, "-o", "whole.clarkia").status == 0
    assert same_model("killed.clarkia", "whole.clarkia")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_fit_keeps_its_training_and_says_so(inside, number, status):
    pq.write_table(people(19), "people.parquet")
    process = start("fit", "people.parquet", "-o", "people.clarkia", "--max-steps", MANY, before=SAVING)
    wait_for((inside / "people.clarkia.checkpoint").exists, process)
    stopped = stop(process, number)
    assert stopped.status == status
    (line,) = stopped.err.splitlines()
    assert line.startswith("Stopped: ")
    assert "people.clarkia.checkpoint" in line
    assert "--resume" in line
    left = {path.name for path in inside.iterdir()}
    assert left == {"people.parquet", "people.clarkia.checkpoint"}
    from clarkia.training.checkpoints import load_checkpoint

    load_checkpoint(inside / "people.clarkia.checkpoint")  # whole


@pytest.mark.parametrize(
    ("number", "status", "name"),
    [(signal.SIGINT, 130, "new.csv"), (signal.SIGTERM, 143, "new.csv.gz"), (signal.SIGKILL, -9, "new.parquet")],
)
def test_a_stopped_sample_leaves_no_file_under_the_final_name(shelf, inside, number, status, name):
    process = start("sample", shelf / "people.clarkia", "-o", name, "-n", MANY, "--num-steps", 1)
    least = 1 if number is signal.SIGKILL else 0  # bytes
    wait_for(lambda: any(path.stat().st_size >= least for path in inside.iterdir()), process)
    stopped = stop(process, number)
    assert stopped.status == status
    assert not (inside / name).exists()
    if number is not signal.SIGKILL:
        assert list(inside.iterdir()) == []
        assert stopped.err == f"Stopped: {name} was not written.\n"


@pytest.mark.parametrize("verb", ["sample", "impute", "score", "report"])
def test_ctrl_c_anywhere_leaves_the_old_file(shelf, inside, verb, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    def interrupted_later(*arguments, **options):
        yield from interrupted()

    data, model = shelf / "people.csv", shelf / "people.clarkia"
    monkeypatch.setattr("clarkia.models.table.TableModel.sample_batches", interrupted_later)
    monkeypatch.setattr("clarkia.models.table.TableModel.impute", interrupted)
    monkeypatch.setattr("clarkia.models.table.TableModel.score_samples", interrupted)
    rest = {"sample": [model], "report": [data, model]}.get(verb, [model, data])
    (inside / "out.csv").write_text("precious")
    stopped = run(verb, *rest, "-o", "out.csv", "--overwrite")
    assert stopped.status == 130
    assert stopped.err.startswith("Stopped: ")
    assert "written" in stopped.err
    assert [path.name for path in inside.iterdir()] == ["out.csv"]
    assert (inside / "out.csv").read_text() == "precious"
