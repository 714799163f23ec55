"""Rules, rewards and predictions on the command line."""

import numpy as np
import pytest
from command_line import run
from pyarrow import csv


@pytest.fixture(scope="module")
def spending(tmp_path_factory, quick_validation):
    """A folder with spending.csv and spending.clarkia, which keeps a sum and has hardly been trained."""
    folder = tmp_path_factory.mktemp("spending")
    rng = np.random.default_rng(0)
    rent, food = np.round(rng.lognormal(6, 0.4, 80), 2), np.round(rng.lognormal(5, 0.4, 80), 2)
    lines = [
        f"{city},{a},{b},{a + b:.2f}" for city, a, b in zip(rng.choice(["Bonn", "Lyon"], 80), rent, food, strict=True)
    ]
    (folder / "spending.csv").write_text("\n".join(["city,rent,food,total", *lines]))
    rule = ("--constraint", "total = rent + food")
    result = run("fit", folder / "spending.csv", "-o", folder / "spending.clarkia", *rule, "--max-steps", 2)
    assert result.status == 0, result
    return folder


def drawn(path):
    return csv.read_csv(path).to_pandas()


def test_rules_at_the_fit_and_at_the_draw(spending, inside):
    model = spending / "spending.clarkia"
    assert "total = rent + food" in run("inspect", model).out
    result = run(
        "sample", model, "-n", 30, "-o", "some.csv", "--constraint", "total > 300", "--constraint", "rent > food"
    )
    assert result.status == 0, result
    rows = drawn("some.csv")
    assert len(rows) == 30
    assert np.allclose(rows.total, rows.rent + rows.food)
    assert (rows.total > 300).all()
    assert (rows.rent > rows.food).all()
    result = run("sample", model, "-n", 20, "-o", "exact.csv", "--where", "total > 300", "--exactness", "exact")
    assert result.status == 0, result
    assert (drawn("exact.csv").total > 300).all()


def test_a_model_with_linked_columns_is_reported_on(inside):
    lines = [f"{city},{country},{size}" for city, country in (("Bonn", "D"), ("Lyon", "F")) for size in range(30)]
    (inside / "t.csv").write_text("\n".join(["city,country,size", *lines]))
    rule = ("--constraint", "city determines country")
    result = run("fit", "t.csv", "-o", "t.clarkia", *rule, "--max-steps", 2)
    assert result.status == 0, result
    assert "city & country" not in result.out.split("Try next")[1]
    assert run("report", "t.csv", "t.clarkia", "-o", "t.html").status == 0


def test_more_and_less_of_a_column(spending, inside):
    model = spending / "spending.clarkia"
    for option in ("--maximize", "--minimize"):
        result = run("sample", model, "-n", 40, "-o", f"{option[2:]}.csv", option, "total - food", "--particles", 8)
        assert result.status == 0, result
    assert drawn("maximize.csv").rent.mean() > 1.2 * drawn("minimize.csv").rent.mean()


def test_a_reward_from_a_file_of_the_user(spending, inside):
    (inside / "units.py").write_text("from dataclasses import dataclass\n\n@dataclass\nclass Unit:\n    size: float\n")
    mine = [
        "from __future__ import annotations",
        "from dataclasses import dataclass",
        "from units import Unit",
        "@dataclass",
        "class Price:",
        "    unit: Unit",
        "def cheap(table):",
        "    return -table['rent'].to_numpy() / Price(Unit(200)).unit.size",
    ]
    (inside / "mine.py").write_text("\n".join(mine))
    result = run(
        "sample", spending / "spending.clarkia", "-n", 20, "--maximize", "mine.py:cheap", "--exactness", "heuristic"
    )
    assert result.status == 0, result
    assert "rent" in result.out


def test_predictions_are_written(spending, inside):
    model, data = spending / "spending.clarkia", spending / "spending.csv"
    assert run("predict", model, data, "--column", "city", "-o", "city.csv", "--draws", 4).status == 0
    shares = drawn("city.csv")
    assert list(shares.columns) == ["Bonn", "Lyon"]
    assert np.allclose(shares.sum(axis=1), 1)
    assert "mean" in run("predict", model, data, "--column", "rent", "--draws", 2).out
    assert run("predict", "--help").status == 0


def test_rules_that_are_not_built_in_are_kept_in_what_is_filled_in(inside):
    rows = [f"{sex},{beard},{size}" for sex, beard in (("F", "no"), ("M", "yes"), ("M", "no")) for size in range(20)]
    (inside / "t.csv").write_text("\n".join(["sex,beard,size", *rows]))
    rule = ("--constraint", "if sex = 'F' then beard = 'no'")
    assert run("fit", "t.csv", "-o", "t.clarkia", *rule, "--max-steps", 2).status == 0
    (inside / "holes.csv").write_text("sex,beard,size\n" + "F,,3\n" * 40)
    assert run("impute", "t.clarkia", "holes.csv", "-o", "filled.csv").status == 0
    assert (drawn("filled.csv").beard == "no").all()
    assert run("predict", "t.clarkia", "holes.csv", "--column", "beard", "-o", "told.csv", "--draws", 4).status == 0
    assert (drawn("told.csv")["no"] == 1).all()
    (inside / "wrong.csv").write_text("sex,beard,size\nF,no,3\nF,yes,3\n")
    run("impute", "t.clarkia", "wrong.csv", "-o", "w.csv").refuses("is broken in one row, first in row 2")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--constraint", "total >"], ["position", "a column or a number"]),
        (["--constraint", "nope > 3"], ["no column 'nope'"]),
        (["--constraint", " "], ["--constraint is empty"]),
        (
            ["--constraint", "total > 1e7", "--exactness", "exact", "--num-steps", 2],
            ["plain draws", "acceptance below"],
        ),
        (["--maximize", "city"], ["cannot calculate"]),
        (["--maximize", "rent", "--minimize", "food"], ["both given"]),
        (["--maximize", "rent", "--exactness", "exact"], ["'exact' is for conditions"]),
        (["--maximize", "nowhere.py:f"], ["no file nowhere.py"]),
        (["--maximize", "bad.py:f"], ["bad.py fails", "ZeroDivisionError"]),
        (["--maximize", "fine.py:g"], ["has no function g"]),
        (["--maximize", "fine.py:f"], ["one number each"]),
    ],
)
def test_wishes_that_cannot_be_are_refused(spending, inside, arguments, words):
    (inside / "bad.py").write_text("1 / 0")
    (inside / "fine.py").write_text("def f(table):\n    return 1.0\n")
    run("sample", spending / "spending.clarkia", "-n", 5, *arguments).refuses(*words)


def test_rules_that_the_table_breaks_are_refused(spending, inside):
    result = run("fit", spending / "spending.csv", "-o", "m.clarkia", "--constraint", "total = rent", "--max-steps", 2)
    result.refuses("'total = rent' is broken in 80 of 80 rows, first in row 1")


def test_options_of_other_kinds_are_refused(shelf, inside):
    (inside / "text.txt").write_text("abc " * 400)
    run("fit", "text.txt", "-o", "t.clarkia", "--constraint", "a < b").refuses("--constraint is for tables")
    run("predict", shelf / "people.clarkia", shelf / "people.csv", "--prefix", "a").refuses("--prefix is for texts")
