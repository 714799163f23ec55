"""Every kind of input that cannot be used: one sentence, exit status 2, and nothing written or lost."""

import json
import os
import zipfile

import pyarrow.parquet as pq
import pytest
from command_line import people, run

TABLES = {
    "empty file": ("", ["bad.csv", "empty"]),
    "header only": ("a,b\n", ["bad.csv", "header", "no rows"]),
    "one row": ("a,b\n1,2\n", ["bad.csv", "one row"]),
    "one column": ("a\n1\n2\n3\n", ["bad.csv", "one column", "'a'"]),
    "all-null column": ("a,b\n1,\n2,\n3,\n", ["bad.csv", "'b'", "no value", "--role b=drop"]),
    "duplicate column names": ("a,b,a\n1,2,3\n4,5,6\n", ["bad.csv", "'a'", "more than once"]),
    "ragged rows": ("a,b\n1,2\n3,4,5\n6,7\n", ["bad.csv", "3"]),
    "mixed types": ("a,b\n1,2\n2,3\n3,x\n4,5\n5,6\n", ["bad.csv", "'b'", "row 3", "'x'", "--role b=categorical"]),
    "infinity": ("a,b\n1,2\n2,inf\n3,4.5\n", ["bad.csv", "'b'", "row 2", "infinite"]),
    "minus infinity": ("a,b\n1,2\n2,-inf\n3,4.5\n", ["bad.csv", "'b'", "row 2", "infinite"]),
    "huge number": ("a,b\n1,2\n2,1e308\n3,4.5\n", ["bad.csv", "'b'", "row 2", "1e+308"]),
    "nothing to learn": ("a,b\n1,2\n1,2\n1,2\n", ["bad.csv", "constant"]),
}


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("verb", [("fit", "-o", "bad.clarkia", "--max-steps", 1), ("inspect",)], ids=["fit", "inspect"])
def test_a_table_that_cannot_be_used(inside, kind, verb):
    text, words = TABLES[kind]
    (inside / "bad.csv").write_text(text)
    verb, *options = verb
    run(verb, "bad.csv", *options).refuses(*words)
    assert [path.name for path in inside.iterdir()] == ["bad.csv"]


def test_a_file_that_is_no_table_is_named(inside):
    (inside / "bad.parquet").write_bytes(b"PAR1 not really")
    (inside / "folder.csv").mkdir()
    (inside / "latin.csv").write_bytes("a,b\ncaf\xe9,1\nth\xe9,2\n".encode("latin-1"))
    (inside / "table.xlsx").write_bytes(b"PK")
    for name in ("bad.parquet", "folder.csv", "latin.csv", "table.xlsx", "absent.csv"):
        run("fit", name, "-o", "m.clarkia", "--max-steps", 1).refuses(name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--given", "sex=Elf"], ["'sex'", "'Elf'", "Female"]),
        (["--given", "sexx=Male"], ["'sexx'", "'sex'"]),
        (["--given", "sex"], ["--given", "COLUMN=VALUE"]),
        (["--given", "sex=Male", "--given", "sex=Female"], ["--given", "'sex'", "twice"]),
        (["--where", "agee > 30"], ["'agee'", "'age'"]),
        (["--where", "income = 'lots'"], ["'income'", "'lots'"]),
        (["--where", "age between 200 and 300"], ["age", "200"]),
        (["--where", "age > 50 and age < 40"], ["'age'"]),
        (["--where", "sex = 'Male' and sex = 'Female'"], ["sex", "Male", "Female"]),
        (["--where", "age is missing"], ["'age'", "missing"]),
        (["--where", "age >"], ["position"]),
        (["--where", "age > 'old'"], ["'age'", "'old'"]),
        (["--where", " "], ["--where", "empty"]),
        (["--given", "age="], ["'age'", "missing"]),
        (["-n", "0"], ["-n"]),
        (["-n", "many"], ["-n", "integer"]),
    ],
)
def test_a_condition_that_cannot_be_met(shelf, inside, options, words):
    run("sample", shelf / "people.clarkia", "-o", "new.csv", *options).refuses(*words)
    assert list(inside.iterdir()) == []


def test_options_that_cannot_be_used(shelf, inside):
    data = shelf / "people.csv"
    run("fit", data, "-o", "m.clarkia", "--target", "wealth").refuses("'wealth'", "income")
    run("fit", data, "-o", "m.clarkia", "--role", "wealth=real").refuses("'wealth'")
    run("fit", data, "-o", "m.clarkia", "--role", "age=number").refuses("'number'", "integer")
    run("fit", data, "-o", "m.clarkia", "--role", "age").refuses("--role", "COLUMN=ROLE")
    run("fit", data, "-o", "m.clarkia", "--max-minutes", "0").refuses("max_minutes")
    run("fit", data, "-o", "m.clarkia", "--network", "resnet").refuses("--network", "mlp")
    run("fit", data).refuses("-o", "clarkia fit --help")
    run("report", data, data, "--target", "wealth").refuses("'wealth'")
    run("report", data, data, "--protocol", "2020").refuses("--protocol", "clarkia-1")
    run("sample").refuses("MODEL", "clarkia sample --help")
    run("smaple").refuses("smaple", "clarkia --help")
    run("sample", "--steps").refuses("--steps", "clarkia sample --help")
    assert list(inside.iterdir()) == []


VERBS = {
    "sample": ["-n", 2],
    "impute": ["people.csv", "-o", "out.csv"],
    "score": ["people.csv"],
    "inspect": [],
}


def damage(kind, source, path):
    """Write a model file that cannot be used."""
    data = source.read_bytes()
    if kind == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "tampered":
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    elif kind == "newer":
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                member = old.read(name)
                if name == "model.json":
                    member = json.dumps({**json.loads(member), "format": 999}).encode()
                new.writestr(name, member)
    elif kind == "text":
        path.write_text("hello")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("kind", "word"),
    [("truncated", "damaged"), ("tampered", "damaged"), ("newer", "newer"), ("text", "not a"), ("absent", "no model")],
)
def test_a_model_that_cannot_be_used(shelf, inside, verb, kind, word):
    (inside / "people.csv").write_bytes((shelf / "people.csv").read_bytes())
    damage(kind, shelf / "people.clarkia", inside / "bad.clarkia")
    run(verb, "bad.clarkia", *VERBS[verb]).refuses("bad.clarkia", word)
    assert not (inside / "out.csv").exists()


def test_a_table_is_not_taken_for_a_model_nor_a_model_for_a_table(shelf):
    run("sample", shelf / "people.csv").refuses("people.csv", "table, not a model")
    run("impute", shelf / "people.clarkia", shelf / "people.clarkia", "-o", "out.csv").refuses("people.clarkia")


def test_rows_that_a_model_cannot_read(shelf, inside):
    (inside / "elf.csv").write_text(
        "id,age,sex,hours,born,income\nP1,30,Male,40.5,1990-01-01,>50K\nP2,31,Elf,1,1990-01-01,>50K\n"
    )
    (inside / "short.csv").write_text("id,sex,hours,born,income\nP1,Male,40.5,1990-01-01,>50K\n")
    (inside / "words.csv").write_text("id,age,sex,hours,born,income\nP1,old,Male,40.5,1990-01-01,>50K\n")
    head, *rows = (shelf / "people.csv").read_text().splitlines()
    (inside / "scored.csv").write_text("\n".join([f"{head},log_density", *(f"{row},1" for row in rows)]))
    model = shelf / "people.clarkia"
    run("score", model, "elf.csv").refuses("elf.csv", "'sex'", "row 2", "'Elf'")
    run("impute", model, "elf.csv", "-o", "out.csv").refuses("elf.csv", "'sex'", "row 2", "'Elf'")
    run("score", model, "short.csv").refuses("short.csv", "'age'")
    run("score", model, "words.csv").refuses("words.csv", "'age'", "row 1", "'old'")
    run("score", model, "scored.csv", "-o", "out.csv").refuses("scored.csv", "'log_density'")
    assert not (inside / "out.csv").exists()


def outputs(shelf):
    """Every verb that writes, with all but the name of its output."""
    data, model = shelf / "people.csv", shelf / "people.clarkia"
    return {
        "fit": (["fit", data, "--max-steps", 1, "-o"], "out.clarkia"),
        "sample": (["sample", model, "-n", 3, "-o"], "out.csv"),
        "impute": (["impute", model, data, "-o"], "out.csv"),
        "score": (["score", model, data, "-o"], "out.csv"),
        "report": (["report", data, data, "-o"], "out.html"),
        "report as JSON": (["report", data, data, "--json"], "out.json"),
    }


WRITERS = ["fit", "sample", "impute", "score", "report", "report as JSON"]


@pytest.mark.parametrize("writer", WRITERS)
def test_an_output_that_exists_is_refused_before_any_work(shelf, inside, writer, monkeypatch):
    monkeypatch.setattr("clarkia.adapters.read_table", lambda path: pytest.fail("there was work"))
    monkeypatch.setattr("clarkia.models.table.TableModel.load", lambda path: pytest.fail("there was work"))
    command, name = outputs(shelf)[writer]
    (inside / name).write_text("precious")
    run(*command, name).refuses(name, "--overwrite")
    assert (inside / name).read_text() == "precious"
    (inside / "folder").mkdir()
    run(*command, "folder/missing/" + name).refuses("folder/missing", "does not exist")
    os.symlink("nowhere", inside / f"link-{name}")
    run(*command, f"link-{name}").refuses(f"link-{name}")


@pytest.mark.parametrize("writer", WRITERS)
def test_a_folder_that_cannot_be_written_is_refused_before_any_work(shelf, inside, writer, monkeypatch):
    monkeypatch.setattr("clarkia.adapters.read_table", lambda path: pytest.fail("there was work"))
    monkeypatch.setattr("clarkia.models.table.TableModel.load", lambda path: pytest.fail("there was work"))
    # A superuser may write anywhere; the system's answer stands in for that of one who may not.
    allowed = os.access
    monkeypatch.setattr("os.access", lambda path, mode, **rest: str(path) != "locked" and allowed(path, mode, **rest))
    command, name = outputs(shelf)[writer]
    (inside / "locked").mkdir()
    run(*command, f"locked/{name}").refuses(f"locked/{name}", "not writable")
    assert list((inside / "locked").iterdir()) == []


@pytest.mark.parametrize("writer", ["sample", "impute", "score"])
@pytest.mark.parametrize("name", ["out.xlsx", "out", "out.csv.zip", "folder.d"])
def test_an_unknown_kind_of_table_is_refused_before_any_work(shelf, inside, writer, name, monkeypatch):
    monkeypatch.setattr("clarkia.models.table.TableModel.load", lambda path: pytest.fail("there was work"))
    command, _ = outputs(shelf)[writer]
    run(*command, name).refuses(name, ".parquet")
    assert list(inside.iterdir()) == []


def test_a_model_may_not_be_called_like_a_table(shelf, inside):
    run("fit", shelf / "people.csv", "-o", "people.csv").refuses("people.csv", "people.clarkia")


def test_a_failed_command_with_overwrite_leaves_the_old_file(shelf, inside):
    (inside / "out.csv").write_text("precious")
    (inside / "elf.csv").write_text("id,age,sex,hours,born,income\nP1,30,Elf,40.5,1990-01-01,>50K\n")
    run("impute", shelf / "people.clarkia", "elf.csv", "-o", "out.csv", "--overwrite").refuses("'Elf'")
    run("sample", shelf / "people.clarkia", "-o", "out.csv", "--where", "sex = 'Elf'", "--overwrite").refuses("'Elf'")
    assert (inside / "out.csv").read_text() == "precious"


def test_a_full_disk_is_told_and_leaves_the_old_file(shelf, inside, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    (inside / "out.parquet").write_text("precious")
    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    run("sample", shelf / "people.clarkia", "-o", "out.parquet", "-n", 3, "--overwrite").refuses("out.parquet", "space")
    assert [path.name for path in inside.iterdir()] == ["out.parquet"]
    assert (inside / "out.parquet").read_text() == "precious"


@pytest.mark.parametrize("defect", [RuntimeError("a defect"), OSError("a defect")], ids=["program", "system"])
def test_a_defect_of_the_program_is_not_hidden(shelf, monkeypatch, defect):
    def broken(*arguments, **options):
        raise defect

    monkeypatch.setattr("clarkia.models.table.TableModel.sample_batches", broken)
    with pytest.raises(type(defect), match="a defect"):
        run("sample", shelf / "people.clarkia")


def test_people_are_what_the_tests_think():
    table = people(60)
    assert table["sex"].null_count > 0
    assert table["hours"].null_count > 0
