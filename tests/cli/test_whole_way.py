"""What a user does, from a table to a report, through the command line alone."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import people, run

from clarkia.adapters import read_table

FIT = ("--max-steps", 2)


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_from_a_table_to_a_report(inside):
    pq.write_table(people(200), "people.parquet")
    pq.write_table(people(100, seed=1), "holdout.parquet")

    fitted = run("fit", "people.parquet", "-o", "people.clarkia", "--target", "income", "--max-steps", 2)
    assert fitted.status == 0, fitted
    assert "200 rows, 6 columns" in fitted.out
    assert "made afresh" in fitted.out  # the key
    assert "clarkia sample people.clarkia" in fitted.out
    assert fitted.err == ""

    assert run("sample", "people.clarkia", "-o", "new.parquet").status == 0
    new = pq.read_table("new.parquet")
    assert new.num_rows == 200
    assert new.schema.equals(pq.read_table("people.parquet").schema)

    page = ("-o", "report.html", "--json", "report.json")
    compared = run(
        "report", "people.parquet", "new.parquet", "--holdout", "holdout.parquet", "--target", "income", *page
    )
    assert compared.status == 0, compared
    figures = json.loads((inside / "report.json").read_text())
    assert figures["protocol"] == "clarkia-1"
    assert figures["target"] == "income"
    assert "<html" in (inside / "report.html").read_text()
    assert sorted(path.name for path in inside.iterdir()) == [
        *("holdout.parquet", "new.parquet", "people.clarkia", "people.parquet", "report.html", "report.json"),
    ]


def test_a_report_draws_from_a_model_in_place_of_a_table(shelf, inside):
    made = run("report", shelf / "people.csv", shelf / "people.clarkia", "--json", "report.json")
    assert made.status == 0, made
    figures = json.loads((inside / "report.json").read_text())
    assert figures["rows"]["synthetic"] == 60
    assert figures["target"] == "income"  # the model's own


def test_a_report_follows_the_protocol_of_the_papers(shelf, inside):
    arguments = (shelf / "people.csv", shelf / "people.csv", "--protocol", "tabsyn-2024", "--json", "report.json")
    assert run("report", *arguments).status == 0
    assert json.loads((inside / "report.json").read_text())["protocol"] == "tabsyn-2024"


@pytest.mark.parametrize("name", ["new.csv", "new.csv.gz", "new.parquet", "new.arrow", "new.feather"])
def test_rows_come_in_every_format_and_are_the_same_in_all(shelf, inside, name):
    assert run("sample", shelf / "people.clarkia", "-o", name, "-n", 30, "--seed", 5).status == 0
    assert run("sample", shelf / "people.clarkia", "-o", "other.parquet", "-n", 30, "--seed", 5).status == 0
    assert read_table(inside / name).to_pydict() == pq.read_table("other.parquet").to_pydict()


def test_the_seed_fixes_the_rows_and_few_are_the_first_of_many(shelf, inside):
    for name, rows, seed in [("a", 5, 1), ("b", 40, 1), ("c", 5, 2)]:
        assert run("sample", shelf / "people.clarkia", "-o", f"{name}.csv", "-n", rows, "--seed", seed).status == 0
    assert rows_of("b.csv")[:5] == rows_of("a.csv")
    assert rows_of("c.csv") != rows_of("a.csv")


def test_samples_meet_conditions(shelf, inside):
    where = "age between 30 and 40 and income = '>50K'"
    done = run("sample", shelf / "people.clarkia", "-o", "new.csv", "-n", 50, "--where", where, "--given", "sex=Female")
    assert done.status == 0, done
    for row in rows_of("new.csv"):
        assert 30 <= int(row["age"]) <= 40
        assert row["income"] == ">50K"
        assert row["sex"] == "Female"


def test_an_empty_given_asks_for_a_missing_cell_and_complete_fills_all(shelf, inside):
    assert run("sample", shelf / "people.clarkia", "-o", "holes.csv", "-n", 20, "--given", "sex=").status == 0
    assert {row["sex"] for row in rows_of("holes.csv")} == {""}
    assert run("sample", shelf / "people.clarkia", "-o", "full.csv", "-n", 200, "--complete").status == 0
    assert all(row["sex"] and row["hours"] for row in rows_of("full.csv"))


def test_without_an_output_a_few_rows_are_shown_and_nothing_is_written(shelf, inside):
    shown = run("sample", shelf / "people.clarkia")
    assert shown.status == 0
    assert "income" in shown.out
    assert len(shown.out.splitlines()) == 12  # titles, a line, ten rows
    assert list(inside.iterdir()) == []


def test_impute_fills_the_holes_and_touches_nothing_else(shelf, inside):
    before = read_table(shelf / "people.csv")
    done = run("impute", shelf / "people.clarkia", shelf / "people.csv", "-o", "full.csv")
    assert done.status == 0, done
    after = read_table(inside / "full.csv")
    holes = before["sex"].null_count + before["hours"].null_count
    assert f"{holes} empty cells" in done.out
    for name in before.column_names:
        assert after[name].null_count == 0
        for old, new in zip(before[name].to_pylist(), after[name].to_pylist(), strict=True):
            assert old is None or old == new


def test_score_adds_a_column_and_ranks_the_unusual_rows(shelf, inside):
    done = run("score", shelf / "people.clarkia", shelf / "people.csv", "-o", "scored.parquet", "--top", 3)
    assert done.status == 0, done
    scored = pq.read_table("scored.parquet")
    assert scored.drop_columns("log_density").equals(read_table(shelf / "people.csv"))
    scores = scored["log_density"].to_numpy()
    ranked = [line.split()[0] for line in done.out.splitlines()[-3:]]
    assert ranked == [str(row + 1) for row in np.argsort(scores)[:3]]


def test_inspect_shows_a_model_and_a_table(shelf):
    model = run("inspect", shelf / "people.clarkia")
    assert model.status == 0, model
    for words in ("60", "2 steps", "parameters", "income", "made afresh", "Female, Male"):
        assert words in model.out
    table = run("inspect", shelf / "people.csv", "--role", "age=categorical")
    assert table.status == 0
    assert "60 rows, 6 columns" in table.out
    (age,) = (line for line in table.out.splitlines() if line.startswith("age"))
    assert "categorical" in age


def test_fit_sets_rows_aside_for_the_report(inside):
    pq.write_table(people(100), "people.parquet")
    done = run("fit", "people.parquet", "-o", "people.clarkia", "--holdout-share", 0.2, "--max-steps", 1)
    assert done.status == 0, done
    train, holdout = pq.read_table("people.train.parquet"), pq.read_table("people.holdout.parquet")
    assert (train.num_rows, holdout.num_rows) == (80, 20)
    together = pa.concat_tables([train, holdout]).sort_by("id")
    assert together.equals(people(100))
    assert "--holdout people.holdout.parquet" in done.out
    assert "80" in run("inspect", "people.clarkia").out


def test_roles_and_network_are_obeyed(inside):
    pq.write_table(people(19), "people.parquet")
    options = ("--role", "id=drop", "--role", "age=categorical", "--network", "tabdiff", "--max-steps", 1)
    assert run("fit", "people.parquet", "-o", "people.clarkia", *options).status == 0
    shown = run("inspect", "people.clarkia").out
    assert "tabdiff" in shown
    assert any(line.split()[:2] == ["age", "categorical"] for line in shown.splitlines())
    assert any(line.split()[:2] == ["id", "drop"] for line in shown.splitlines())


def test_overwrite_replaces_what_was_there(shelf, inside):
    (inside / "new.csv").write_text("precious")
    assert run("sample", shelf / "people.clarkia", "-o", "new.csv", "-n", 3, "--overwrite").status == 0
    assert len(rows_of("new.csv")) == 3


def test_quotes_newlines_and_other_scripts_survive(inside):
    names = ['say "hi"', "two\nlines", "a,b", "čaj ☕ 茶", " spaced ", "'", "\\", "=1+1"]
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            'the "name", said': pa.array(rng.choice(names, 160), mask=rng.random(160) < 0.2),
            "größe\n(cm)": pa.array(rng.normal(170, 10, 160)),
        }
    )
    with open("odd.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table.column_names)
        writer.writerows(zip(*table.to_pydict().values(), strict=True))
    assert run("fit", "odd.csv", "-o", "odd.clarkia", "--max-steps", 1).status == 0
    assert run("sample", "odd.clarkia", "-o", "new.csv", "-n", 500).status == 0
    new = rows_of("new.csv")
    assert list(new[0]) == table.column_names
    assert {row['the "name", said'] for row in new} == {*names, ""}
    where = '"the ""name"", said" = \'two\nlines\''
    assert run("sample", "odd.clarkia", "-o", "lines.csv", "-n", 5, "--where", where).status == 0
    assert {row['the "name", said'] for row in rows_of("lines.csv")} == {"two\nlines"}
    shown = run("sample", "odd.clarkia", "-n", 30)
    assert shown.status == 0
    assert "two\\nlines" in shown.out  # one row stays one line
