"""The program itself: help, version, startup, and how it ends."""

import io
import json
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import asdict

import pytest
import typer
from command_line import run

from clarkia.cli import main
from clarkia.cli.app import app
from clarkia.cli.errors import sentence
from clarkia.cli.rows import cell_text
from clarkia.cli.terminal import printable
from clarkia.errors import DataError

VERBS = sorted(typer.main.get_command(app).commands)
HEAVY = {"torch", "pandas", "pyarrow", "numpy", "scipy", "sklearn", "matplotlib", "jinja2"}


def test_the_verbs_are_those_promised():
    told = "bench compare demo fit impute inspect methods predict report sample score"
    assert told.split() == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_an_example(verb):
    shown = run(verb, "--help")
    assert shown.status == 0
    assert f"Example: clarkia {verb}" in shown.out
    assert shown.err == ""


def test_without_a_verb_all_are_listed():
    for shown in (run(), run("--help")):
        assert shown.status == 0
        for verb in VERBS:
            assert f" {verb} " in shown.out


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert run("--version").out == f"clarkia {version('clarkia')}\n"


def test_methods_are_those_of_the_registry():
    from clarkia.cite import METHODS

    assert json.loads(run("methods", "--json").out) == [asdict(method) for method in METHODS]
    table = run("methods").out
    for method in METHODS:
        assert f"{method.title} ({method.year})" in table
        assert method.public_name in table
        assert method.proof in table


def test_help_imports_nothing_heavy():
    program = "import sys; from clarkia.cli import main; main(['fit', '--help']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(eval(done.stdout.splitlines()[-1]))
    assert not HEAVY & loaded


def test_nobody_reading_is_not_a_defect():
    program = "import sys; from clarkia.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "methods"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_values_cannot_take_hold_of_the_terminal():
    assert printable("a\x1b[31mb\n\u202ec") == "a\\x1b[31mb\\n\\u202ec"
    assert printable("ž ☕") == "ž ☕"
    assert cell_text("x" * 1000) == "x" * 23 + "…"
    assert cell_text(None) == cell_text(float("nan")) == ""


def test_markup_in_a_name_is_only_text(inside):
    run("inspect", "[red]no[/red].csv").refuses("[red]no[/red].csv")


def test_sentences_speak_of_options():
    error = DataError("Column 'a b' is odd; correct it, or declare roles={'a b': 'drop'}.")
    assert sentence(error) == "Column 'a b' is odd; correct it, or add --role 'a b=drop'."


def test_a_program_may_call_main_twice():
    out = io.StringIO()
    with redirect_stdout(out):
        assert main(["--version"]) == main(["--version"]) == 0
    assert len(out.getvalue().splitlines()) == 2


@pytest.mark.parametrize("verb", ["sample", "impute", "score"])
def test_the_bar_moves_with_the_work_and_ends_at_all_rows(shelf, inside, verb, monkeypatch):
    moves = []
    monkeypatch.setattr("clarkia.cli.terminal.Counter.add", lambda self, rows: moves.append(rows))
    data = [shelf / "people.csv"] if verb != "sample" else []
    assert run(verb, shelf / "people.clarkia", *data, "-o", "out.csv").status == 0
    assert len(moves) > 10
    assert sum(moves) == pytest.approx(60, rel=0.1)
