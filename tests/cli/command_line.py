"""What the tests of the command line share."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

from clarkia.cli import main

SECONDS = 120  # after which a program that should have done something is taken for stuck


@dataclass(frozen=True)
class Result:
    """What a command left: its exit status and what it printed."""

    status: int
    out: str
    err: str

    def refuses(self, *words: str) -> str:
        """Assert that the command gave one sentence on standard error, with these words, and the exit status 2."""
        assert self.status == 2, self
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("Error: ")
        assert lines[0].endswith(".")
        for word in words:
            assert word in lines[0], (word, lines[0])
        return lines[0]


def run(*arguments: object) -> Result:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main([str(argument) for argument in arguments])
    return Result(status, out.getvalue(), err.getvalue())


def start(*arguments: object, before: str = "") -> subprocess.Popen:
    """Start a command as a program of its own, after some lines of Python."""
    program = f"{before}\nimport sys\nfrom clarkia.cli import main\nsys.exit(main())"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(happened: Callable[[], object], process: subprocess.Popen) -> None:
    """Wait until something has happened that a running program does."""
    for _ in range(SECONDS * 100):
        if happened():
            return
        if process.poll() is not None:
            pytest.fail(f"the program ended too early:\n{process.communicate()[1]}")
        time.sleep(0.01)
    process.kill()
    pytest.fail("the program did nothing")


def stop(process: subprocess.Popen, number: signal.Signals) -> Result:
    """Send a signal to a program and wait for its end."""
    process.send_signal(number)
    out, err = process.communicate(timeout=SECONDS)
    return Result(process.returncode, out, err)


def people(rows: int, seed: int = 0) -> pa.Table:
    """A small table of every common kind of column, with missing cells in two."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 80, rows)
    sex = rng.choice(["Female", "Male"], rows)
    hours = np.where(sex == "Male", 42.0, 38.0) + np.round(rng.normal(0, 5, rows), 1)
    income = np.where(age + rng.normal(0, 20, rows) > 50, ">50K", "<=50K")
    return pa.table(
        {
            "id": pa.array([f"P{row:05d}" for row in range(rows)]),
            "age": pa.array(age),
            "sex": pa.array(sex, mask=rng.random(rows) < 0.1),
            "hours": pa.array(hours, mask=rng.random(rows) < 0.2),
            "born": pa.array((np.datetime64("2020-01-01") - 365 * age).astype("datetime64[D]")),
            "income": pa.array(income),
        }
    )
