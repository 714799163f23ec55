"""The command line as torchrun starts it: two processes that fit together, and that draw apart."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import launched
import numpy as np
import pyarrow.parquet as pq
import pytest
from command_line import SECONDS, people, run

from clarkia.adapters import read_table
from clarkia.models.files import read_model

SCRIPT = str(Path(launched.__file__))
FITS = {
    "people": ("people.parquet", "--max-steps", 8, "--holdout-share", 0.2),
    "photos": ("photos.npy", "--max-steps", 3),
    "book": ("book.txt", "--max-steps", 3, "--length", 12, "--companion"),
}
NUMBER = ("-n", 5, "--num-steps", 2)


def put_data(folder):
    pq.write_table(people(40), folder / "people.parquet")
    np.save(folder / "photos.npy", np.random.default_rng(0).integers(0, 256, (30, 8, 8)).astype(np.uint8))
    (folder / "book.txt").write_text("It was the best of times, it was the worst of times. " * 40)


def texts(command):
    return [str(word) for word in command]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """A folder in which two processes have fitted all kinds of models and drawn from them, and what was printed.

    In the last fit one of them was killed.
    """
    folder = tmp_path_factory.mktemp("together")
    put_data(folder)
    commands = [texts(("fit", *fit, "-o", f"{name}.clarkia")) for name, fit in FITS.items()]
    commands += [texts(("sample", f"{name}.clarkia", *NUMBER, "-o", f"{name}-drawn")) for name in FITS]
    commands.append(texts(("fit", "people.parquet", "-o", "lost.clarkia", "--max-steps", 10**7)))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, SCRIPT, json.dumps(commands)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert (folder / "status").exists(), done.stderr
    return folder, done


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A folder in which one process has fitted the same models."""
    folder = tmp_path_factory.mktemp("alone")
    put_data(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        launched.hasten(patch.setitem)
        for name, fit in FITS.items():
            result = run("fit", *fit, "-o", f"{name}.clarkia")
            assert result.status == 0, result
    return folder


@pytest.mark.parametrize("name", FITS)
def test_the_model_of_two_processes_is_that_of_one(together, alone, name):
    both, one = (read_model(folder / f"{name}.clarkia") for folder in (together[0], alone))
    assert both.weights.keys() == one.weights.keys()
    # The optimiser makes a whole step of a gradient that is nothing but rounding, so a few weights are a step apart.
    apart = sum(float((both.weights[key] - weight).double().square().sum()) for key, weight in one.weights.items())
    size = sum(float(weight.double().square().sum()) for weight in one.weights.values())
    assert apart < 1e-10 * size
    for run_of in {"training", "companion"} & one.config.keys():
        runs = both.config.pop(run_of), one.config.pop(run_of)
        if runs[1] is not None:
            assert runs[0]["steps"] == runs[1]["steps"]
            assert runs[0]["best_validation"] == pytest.approx(runs[1]["best_validation"], rel=1e-5)
    assert both.config == one.config


def test_one_process_speaks_and_writes(together, alone):
    folder, done = together
    assert done.stderr.startswith("Error: another process of this fit"), done.stderr
    assert len(re.findall(r"^Trained for ", done.stdout, re.MULTILINE)) == 3
    assert done.stdout.count("people.parquet: 40 rows") == 2  # the lost fit is the other
    assert len(re.findall(r"^\d (?:row|picture|text)s? in ", done.stdout, re.MULTILINE)) == 3
    left = {path.name for path in folder.iterdir() if path.is_file() and "-whole" not in path.name}
    assert left == {path.name for path in alone.iterdir()} | {"status", "lost.clarkia.checkpoint"}
    for part in ("train", "holdout"):
        assert (folder / f"people.{part}.parquet").read_bytes() == (alone / f"people.{part}.parquet").read_bytes()


@pytest.mark.parametrize("name", FITS)
def test_what_two_processes_draw_is_what_one_draws(together, name):
    folder, _ = together
    result = run("sample", folder / f"{name}.clarkia", *NUMBER, "-o", folder / f"{name}-whole.parquet")
    assert result.status == 0, result
    names = sorted(path.name for path in (folder / f"{name}-drawn").iterdir())
    assert names == ["part-00000-of-00002.parquet", "part-00001-of-00002.parquet"]
    assert read_table(folder / f"{name}-drawn").equals(read_table(folder / f"{name}-whole.parquet"))


def test_a_fit_that_loses_a_process_ends_with_a_sentence(together):
    folder, done = together
    assert (folder / "status").read_text() == "1"
    (line,) = (line for line in done.stderr.splitlines() if "another process" in line)
    assert line.startswith("Error: another process of this fit has stopped")
    assert line.endswith("is kept in lost.clarkia.checkpoint; the same command with --resume continues it.")
    assert done.returncode != 0
    assert (folder / "lost.clarkia.checkpoint").exists()
    assert not (folder / "lost.clarkia").exists()


def test_python_runs_the_program_as_a_module():
    command = [sys.executable, "-m", "clarkia", "sample", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Example: clarkia sample" in shown.stdout
    assert "--shard" in shown.stdout
