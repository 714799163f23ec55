"""clarkia compare, as a user runs it."""

import json

import numpy as np
import pytest
from command_line import run


@pytest.fixture
def arrays(tmp_path):
    for seed, name in enumerate(("real", "made", "held")):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(seed).normal(size=(80, 2)))
    return tmp_path


def test_arrays(arrays):
    result = run(
        "compare", arrays / "real.npy", arrays / "made.npy", "--holdout", arrays / "held.npy",
        "-o", arrays / "r.html", "--json", arrays / "r.json",
    )  # fmt: skip
    assert result.status == 0, result.err
    assert "Two-sample AUC, boosting" in result.out
    assert json.loads((arrays / "r.json").read_text())["kind"] == "array"
    assert (arrays / "r.html").read_text().startswith("<!doctype html>")


def test_texts_by_line(tmp_path):
    for seed, name in enumerate(("real", "made")):
        words = np.random.default_rng(seed).choice(["sun", "sea", "rain"], (40, 4))
        (tmp_path / f"{name}.txt").write_text("\n".join(" ".join(line) for line in words))
    result = run("compare", tmp_path / "real.txt", tmp_path / "made.txt")
    assert result.status == 0, result.err
    assert "Text report" in result.out


def test_tables_get_the_report_on_tables(tmp_path):
    for seed, name in enumerate(("real", "made")):
        rng = np.random.default_rng(seed)
        lines = [f"{rng.normal():.3f},{rng.choice(['x', 'y'])}" for _ in range(60)]
        (tmp_path / f"{name}.csv").write_text("a,b\n" + "\n".join(lines))
    result = run("compare", tmp_path / "real.csv", tmp_path / "made.csv")
    assert result.status == 0, result.err
    assert "Table report, protocol clarkia-1" in result.out


def test_what_is_refused(arrays):
    real, made = arrays / "real.npy", arrays / "made.npy"
    run("compare", real, arrays / "none.npy").refuses("none.npy", "no such file")
    (arrays / "t.csv").write_text("a,b\n1,2\n")
    run("compare", real, arrays / "t.csv").refuses("not of one kind")
    np.save(arrays / "wide.npy", np.zeros((40, 5)))
    run("compare", real, arrays / "wide.npy").refuses("expected 2 columns", "found 5")
    (arrays / "r.html").write_text("mine")
    run("compare", real, made, "-o", arrays / "r.html").refuses("r.html exists already", "--overwrite")
    assert (arrays / "r.html").read_text() == "mine"
