"""The report on a synthetic table: every figure with its interval, its floor and its ceiling."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from clarkia.adapters.frames import to_arrow
from clarkia.errors import DataError
from clarkia.measures.pairs import pair_errors
from clarkia.reports.columns import CodedTables, code_tables, require_column, type_columns
from clarkia.reports.groups.joint import detection_metrics, fidelity_metrics
from clarkia.reports.groups.marginals import column_floors, marginal_metrics
from clarkia.reports.groups.pairs import pair_floor, pair_metrics
from clarkia.reports.groups.privacy import privacy_metrics
from clarkia.reports.groups.utility import utility_metrics
from clarkia.reports.groups.validity import Constraint, validity_metrics
from clarkia.reports.material import Material, gather, locate
from clarkia.reports.metric import Metric
from clarkia.reports.profiles import ColumnProfile, PairProfile, profile_columns
from clarkia.reports.progress import Step, progress_of
from clarkia.reports.report import Report
from clarkia.reports.summary import Finding, summarise
from clarkia.reports.tabsyn import tabsyn_metrics

PROTOCOLS = ("clarkia-1", "tabsyn-2024")
MAX_CLASSES = 30  # the time of boosting grows with every class of the target
MIN_ROWS = 30  # cross-validation, quantiles and attacks say nothing about fewer


@dataclass(frozen=True, eq=False)
class TableReport(Report):
    """How a synthetic table compares with the real one.

    Attributes:
        protocol: "clarkia-1" or "tabsyn-2024".
        metrics: All figures, by group.
        columns: Every compared column.
        pairs: Every pair of columns.
        findings: What the figures say, in words, the headline first.
        rows: Numbers of rows given, by table.
        rows_used: Numbers of rows in use, by table.
        left_out: Names of the columns no measure looked at, with the reason.
        target: Name of the predicted column, or None.
        seed: Seed of everything random.
    """

    protocol: str
    metrics: tuple[Metric, ...]
    columns: tuple[ColumnProfile, ...]
    pairs: PairProfile
    findings: tuple[Finding, ...]
    rows: Mapping[str, int]
    rows_used: Mapping[str, int]
    left_out: Mapping[str, str]
    target: str | None
    seed: int

    @property
    def title(self) -> str:
        """What the report is on."""
        return f"Table report, protocol {self.protocol}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the plots as plain values."""
        return {
            "protocol": self.protocol,
            "findings": [finding.to_dict() for finding in self.findings],
            "metrics": [metric.to_dict() for metric in self.metrics],
            "columns": [column.to_dict() for column in self.columns],
            "pairs": self.pairs.to_dict(),
            "rows": dict(self.rows),
            "rows_used": dict(self.rows_used),
            "left_out": dict(self.left_out),
            "target": self.target,
            "seed": self.seed,
        }

    def page(self) -> str:
        """Return the report as one self-contained HTML page."""
        from clarkia.reports.html import render_html

        return render_html(self)


def _as_table(frame: Any, word: str) -> pa.Table:
    if isinstance(frame, pa.Table):
        return frame
    from clarkia.adapters.frames import to_arrow

    try:
        return to_arrow(frame)
    except TypeError as error:
        raise DataError(
            f"The {word} table must be a pyarrow table or a data frame, not {type(frame).__name__}."
        ) from error


def _clarkia_metrics(
    material: Material,
    constraints: Mapping[str, Constraint],
    floors: dict[str, np.ndarray],
    pairs: PairProfile,
    step: Step,
) -> tuple[Metric, ...]:
    steps: tuple[tuple[str, Callable[[], tuple[Metric, ...]]], ...] = (
        ("Single columns", lambda: marginal_metrics(material, floors)),
        ("Pairs of columns", lambda: pair_metrics(material, pairs.errors, pairs.floor)),
        ("Two-sample tests", lambda: detection_metrics(material)),
        ("Precision and recall", lambda: fidelity_metrics(material)),
        ("Utility", lambda: utility_metrics(material)),
        ("Validity", lambda: validity_metrics(material, constraints)),
        ("Privacy", lambda: privacy_metrics(material)),
    )
    metrics: list[Metric] = []
    for name, compute in steps:
        step(name)
        metrics += compute()
    return tuple(metrics)


def _check(tables: dict[str, pa.Table], protocol: str, names: Sequence[str], max_rows: int) -> None:
    if protocol not in PROTOCOLS:
        raise DataError(f"Protocol '{protocol}' is unknown; the protocols are {' and '.join(PROTOCOLS)}.")
    if max_rows < MIN_ROWS:
        raise DataError(f"max_rows must be at least {MIN_ROWS}, not {max_rows}.")
    for word, table in tables.items():
        if table.num_rows < MIN_ROWS:
            raise DataError(f"The {word} table needs at least {MIN_ROWS} rows for a report, not {table.num_rows}.")
    for name in names:
        require_column(name, tables["real"].column_names, "target or sensitive")


def _check_imputations(imputations: dict[str, pa.Table], tables: dict[str, pa.Table], target: str | None) -> None:
    if imputations and ("holdout" not in tables or target is None):
        raise DataError("Imputed tables need a holdout and a target to compare with; give both.")
    for word, table in imputations.items():
        if table.num_rows != tables["holdout"].num_rows:
            raise DataError(
                f"The table '{word}' has {table.num_rows} rows but the holdout has {tables['holdout'].num_rows}; "
                "impute the holdout's rows in their order."
            )


def _check_targets(coded: CodedTables, target: str | None, sensitive: Sequence[str]) -> None:
    for name in [*sensitive, *([] if target is None else [target])]:
        if name not in coded.names:
            raise DataError(f"Column '{name}' is left out of the report and cannot be a target or sensitive.")
        if len(coded.names) < 2:
            raise DataError(f"Column '{name}' is the only one compared; a target or sensitive column needs others.")
    if target is None:
        return
    column = locate(coded, target)
    for word, rows in coded.rows.items():
        known = len(column.split(rows)[1])
        if known < MIN_ROWS:
            raise DataError(f"The target '{target}' has {known} values in the {word} table; it needs {MIN_ROWS}.")
    classes = 0 if column.numeric else len(np.unique(column.split(coded.rows["real"])[1]))
    if classes > MAX_CLASSES:
        raise DataError(
            f"The target '{target}' has {classes} categories; a report predicts at most {MAX_CLASSES}: choose another "
            "target, or give it the role 'numeric'."
        )


def table_report(
    real: Any,
    synthetic: Any,
    *,
    holdout: Any = None,
    target: str | None = None,
    protocol: str = "clarkia-1",
    roles: Mapping[str, str] | None = None,
    constraints: Mapping[str, Constraint] | None = None,
    sensitive: Sequence[str] | None = None,
    imputed: Sequence[Any] | None = None,
    seed: int = 0,
    max_rows: int = 100_000,
    progress: bool = False,
) -> TableReport:
    """Compare a synthetic table with the real one it was learned from.

    Args:
        real: The training table: a pyarrow table or a pandas or polars frame.
        synthetic: The synthetic table, with the same columns.
        holdout: Real rows the generator did not see: needed for privacy attacks, and better floors everywhere.
        target: Column to predict for the utility metrics.
        protocol: "clarkia-1", or "tabsyn-2024" for figures that compare with the TabSyn and TabDiff papers.
        roles: Roles by column name ("numeric", "categorical", "key", "drop", ...) where the type does not say it,
            such as categories coded as integers.
        constraints: Functions by name that take a pyarrow table and return one boolean a row: true where it holds.
        sensitive: Columns for attribute inference; the target when not given.
        imputed: Holdout tables with the target column imputed, for the imputation metric of "tabsyn-2024".
        seed: Seed of folds, subsamples and bootstrap.
        max_rows: Number of rows of every table that the measures use at most, drawn at random with ``seed``.
        progress: Show a progress bar.

    Returns:
        A report with ``to_text()``, ``to_dict()``, ``to_json()`` and ``to_html(path)``.

    Raises:
        DataError: A table, a column, a role or an argument cannot be used; the message says which and what to do.
    """
    given = {"real": real, "synthetic": synthetic} | ({} if holdout is None else {"holdout": holdout})
    tables = {word: to_arrow(frame, roles) for word, frame in given.items()}
    wanted = tuple(sensitive) if sensitive is not None else (() if target is None else (target,))
    _check(tables, protocol, [*wanted, *([] if target is None else [target])], max_rows)
    with progress_of(progress, 9) as step:
        columns = type_columns(tables["real"], roles)
        imputations = {f"imputed {i}": to_arrow(table, roles) for i, table in enumerate(imputed or ())}
        _check_imputations(imputations, tables, target)
        coded = code_tables(columns, tables | imputations)
        _check_targets(coded, target, wanted)
        material = gather(tables, coded, target=target, sensitive=wanted, max_rows=max_rows, seed=seed)
        step("Floors")
        floors = column_floors(material)
        pairs = PairProfile(coded.names, pair_errors(material.real, material.synthetic), pair_floor(material))
        if protocol == "clarkia-1":
            metrics = _clarkia_metrics(material, constraints or {}, floors, pairs, step)
        else:
            cells = [material.target.values(coded.rows[word]) for word in imputations] if material.target else []
            metrics = tabsyn_metrics(material, imputed=cells, on_step=step)
        step("Columns")
        profiles = profile_columns(material, floors)
    return TableReport(
        protocol=protocol,
        metrics=metrics,
        columns=profiles,
        pairs=pairs,
        findings=summarise(metrics, profiles, pairs, target=target, holdout=holdout is not None),
        rows={word: table.num_rows for word, table in tables.items()},
        rows_used={word: min(table.num_rows, max_rows) for word, table in tables.items()},
        left_out={c.name: c.kind for c in columns if c.name not in coded.names},
        target=target,
        seed=seed,
    )
