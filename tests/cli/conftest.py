from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import people, run


@pytest.fixture(scope="session", autouse=True)
def quick_validation() -> Iterator[None]:
    """Look at few rows when a fit is validated: these tests do not ask how good a model is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clarkia.models.table_fit.VALIDATION_DRAWS", 64)
        yield


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory, quick_validation: None) -> Path:
    """A folder with people.csv and people.clarkia, a model of it that has hardly been trained; for reading only."""
    from pyarrow import csv

    folder = tmp_path_factory.mktemp("shelf")
    csv.write_csv(people(60), folder / "people.csv")
    result = run("fit", folder / "people.csv", "-o", folder / "people.clarkia", "--max-steps", 2, "--target", "income")
    assert result.status == 0, result
    return folder


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
