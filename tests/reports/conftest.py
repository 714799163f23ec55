import pytest
from report_tables import ROWS, draw, permuted

from clarkia.reports import table_report


@pytest.fixture(scope="session")
def fresh():
    """Report on a table of fresh rows: as good as a generator can be."""
    return table_report(draw(ROWS, 1), draw(ROWS, 2), holdout=draw(ROWS, 3), target="buyer")


@pytest.fixture(scope="session")
def unrelated():
    """Report on a table that has the real columns and no dependence."""
    return table_report(draw(ROWS, 1), permuted(draw(ROWS, 2)), holdout=draw(ROWS, 3), target="buyer")
