"""Validity: does every synthetic row obey the table's own rules?"""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clarkia.errors import DataError
from clarkia.measures.intervals import rate_interval
from clarkia.measures.rows import MixedRows
from clarkia.reports.material import Material
from clarkia.reports.metric import Metric, metric

Constraint = Callable[[pa.Table], Any]


def _rate(name: str, bad: np.ndarray, floor: float, rows: tuple[int, int], note: str, ceiling: float | None = None):
    return metric(
        name,
        "validity",
        float(bad.mean()),
        interval=rate_interval(int(bad.sum()), len(bad)),
        floor=floor,
        ceiling=ceiling,
        rows=rows,
        note=note,
    )


def _same_type(real: pa.Field, synthetic: pa.Field) -> bool:
    """Whether two columns have one type; how the offsets of strings are stored makes no difference."""
    texts = (pa.string(), pa.large_string(), pa.string_view())
    return real.type == synthetic.type or (real.type in texts and synthetic.type in texts)


def schema_metric(real: pa.Table, synthetic: pa.Table) -> Metric:
    """Share of the real table's columns that the synthetic table has with the same Arrow type."""
    wrong = [
        name
        for name in real.column_names
        if name not in synthetic.column_names or not _same_type(real.schema.field(name), synthetic.schema.field(name))
    ]
    extra = [name for name in synthetic.column_names if name not in real.column_names]
    note = "Columns of the real table that the synthetic table has with the same type."
    if wrong:
        note += f" Not so: {', '.join(wrong[:5])}{' and others' if len(wrong) > 5 else ''}."
    if extra:
        note += f" Added: {', '.join(extra[:5])}{' and others' if len(extra) > 5 else ''}."
    share = 1 - len(wrong) / len(real.column_names)
    return metric("Columns of the right type", "validity", share, better="higher", floor=1.0, note=note)


def outside_range(real: MixedRows, other: MixedRows) -> np.ndarray:
    """Rows with a number below the smallest or above the largest of its real column."""
    low = np.where(np.isnan(real.numeric), np.inf, real.numeric).min(0, initial=np.inf)
    high = np.where(np.isnan(real.numeric), -np.inf, real.numeric).max(0, initial=-np.inf)
    return ((other.numeric < low) | (other.numeric > high)).any(1)


def unseen_category(real: MixedRows, other: MixedRows) -> np.ndarray:
    """Rows with a category that its real column never has."""
    bad = np.zeros(len(other), bool)
    for known, column in zip(real.categorical.T, other.categorical.T, strict=True):
        bad |= (column >= 0) & ~np.isin(column, known)
    return bad


def unexpected_missing(real: MixedRows, other: MixedRows) -> np.ndarray:
    """Rows with a missing cell in a column that is never missing in the real table."""
    gaps, known_gaps = (
        np.concatenate([np.isnan(rows.numeric), rows.categorical < 0], axis=1) for rows in (other, real)
    )
    return np.any(gaps & ~np.any(known_gaps, axis=0), axis=1)


def key_metrics(material: Material) -> tuple[Metric, ...]:
    """Rows whose key occurs more than once, or is a key of the real table, for every column with the role "key"."""
    metrics = []
    for column in material.coded.columns:
        made = material.tables["synthetic"]
        if column.kind != "key" or column.name not in made.column_names:
            continue
        keys = made.column(column.name).cast(column.type, safe=False).combine_chunks()
        _, codes, counts = np.unique(_dictionary_codes(keys), return_inverse=True, return_counts=True)
        real = material.tables["real"].column(column.name).combine_chunks()
        known = pc.is_in(keys, value_set=real).to_numpy(zero_copy_only=False)
        rows = (len(real), len(keys))
        metrics += [
            _rate(f"Repeated keys, {column.name}", counts[codes] > 1, 0.0, rows, "Rows whose key occurs again."),
            _rate(f"Real keys, {column.name}", known, 0.0, rows, "Rows whose key is a key of the real table."),
        ]
    return tuple(metrics)


def _dictionary_codes(values: pa.Array) -> np.ndarray:
    coded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    return coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)


def _violations(name: str, constraint: Constraint, table: pa.Table) -> np.ndarray:
    kept = constraint(table)
    if isinstance(kept, pa.Array | pa.ChunkedArray):
        kept = pc.fill_null(kept, False).to_numpy(zero_copy_only=False)
    kept = np.asarray(kept)
    if kept.shape != (table.num_rows,) or kept.dtype != bool:
        raise DataError(
            f"Constraint '{name}' must return one boolean a row ({table.num_rows}), not {kept.dtype} of shape "
            f"{kept.shape}."
        )
    return ~kept


def constraint_metrics(material: Material, constraints: Mapping[str, Constraint]) -> tuple[Metric, ...]:
    """Violation rates of declared constraints; the naive table is the real one with columns permuted."""
    real, made = material.tables["real"], material.tables["synthetic"]
    rng = material.rng("constraints")
    naive = pa.table([column.take(rng.permutation(real.num_rows)) for column in real.columns], schema=real.schema)
    return tuple(
        _rate(
            f"Violations, {name}",
            _violations(name, constraint, made),
            float(_violations(name, constraint, real).mean()),
            (real.num_rows, made.num_rows),
            "Rows that break the declared constraint.",
            float(_violations(name, constraint, naive).mean()),
        )
        for name, constraint in constraints.items()
    )


def validity_metrics(material: Material, constraints: Mapping[str, Constraint]) -> tuple[Metric, ...]:
    """Schema, ranges, categories, missing cells, keys and constraints, over all rows.

    The floor of a rate is the rate among holdout rows, where there is a holdout: rare values occur in fresh rows too.
    """
    rows_of = material.coded.rows
    real, made, fresh = rows_of["real"], rows_of["synthetic"], rows_of.get("holdout")
    rows = (len(real), len(made))
    metrics = [schema_metric(material.tables["real"], material.tables["synthetic"])]
    checks = (
        ("Rows out of range", outside_range, real.numeric.shape[1], "A number beyond the real column's extremes."),
        ("Rows with an unseen category", unseen_category, real.categorical.shape[1], "A value the real column lacks."),
        ("Rows with an unexpected gap", unexpected_missing, 1, "Missing in a column that is always filled in reality."),
    )
    for name, check, columns, note in checks:
        if columns:
            floor = 0.0 if fresh is None else float(check(real, fresh).mean())
            metrics.append(_rate(name, check(real, made), floor, rows, note))
    return (*metrics, *key_metrics(material), *constraint_metrics(material, constraints))
