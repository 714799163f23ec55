"""The demonstration: everything once, each step a command that is shown."""

from command_line import run

from clarkia.models import load

QUICK = ("-n", 100, "--max-steps", 1)


def test_the_demo_makes_everything_and_says_where_it_is(inside, monkeypatch):
    monkeypatch.setattr("clarkia.cli.demo._HOLDOUT", 100)
    monkeypatch.setattr("clarkia.cli.demo._INCOMPLETE", 20)
    done = run("demo", *QUICK)
    assert done.status == 0, done
    assert done.err == ""
    made = {path.name for path in (inside / "demo").iterdir()}
    assert made == {
        *("household.csv", "holdout.csv", "incomplete.csv", "household.clarkia", "synthetic.csv", "masters.csv"),
        *("imputed.csv", "scored.csv", "report.html", "report.json"),
    }
    for name in made:
        assert f"demo/{name}" in done.out
    for verb in ("fit", "sample", "impute", "score", "report"):
        assert f"$ clarkia {verb} demo/" in done.out
    assert load(inside / "demo" / "household.clarkia").n_rows_ == 100

    (inside / "demo" / "household.csv").write_text("precious")
    before = {path: path.read_bytes() for path in (inside / "demo").iterdir()}
    run("demo", "--folder", "demo", *QUICK).refuses("demo/", "--overwrite")
    assert {path: path.read_bytes() for path in (inside / "demo").iterdir()} == before


def test_a_second_demo_takes_another_folder(inside, monkeypatch):
    (inside / "demo").mkdir()
    (inside / "demo-2").write_text("mine")
    monkeypatch.setattr("clarkia.cli.demo._run", lambda verb, *arguments: None)
    monkeypatch.setattr("clarkia.cli.demo._check_condition", lambda path, condition: None)
    assert run("demo", *QUICK).status == 0
    assert (inside / "demo-3" / "household.csv").exists()
    assert (inside / "demo-2").read_text() == "mine"
    assert list((inside / "demo").iterdir()) == []
