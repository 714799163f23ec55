"""A household survey of a country that does not exist, with a law that is known to the last digit.

Each row is a household. The columns are drawn one after the other, each from a table or an equation below:

    region                 string
    type          | region                          string
    size          | type                            whole number, 1 to 8
    age           | type                            whole number, 18 to 95, of the person who answers
    education     | region, generation              ordered category
    employed      | generation, education           yes or no
    income        | education, employed, generation real, euros a month; 0, or log-normal
    rent          | region, size, generation, income  euros and cents a month; 0 for owners, or log-normal
    savings       | generation, income              whole euros; 0, a round sum, or log-normal
    cars          | region, size, income            whole number, 0 to 4
    satisfaction  | income, owner                   whole number, 1 to 5
    survey_date   | region                          a day of 2024; each region has its season, few answer on Sundays

Three columns have holes. Income is refused more often by the employed and the educated, satisfaction is skipped more
often by the young: both depend on what is still seen (missing at random). Savings are refused most often by those who
have more than 10,000 euros: that depends on the very number that is missing (missing not at random).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from ..errors import DataError
from .laws import Amount, Array, Conditional, Evidence, Law, Table, choose, finite, mixture, normalised

REGIONS = ("Capital", "Coast", "Hills", "Lakes", "Plains")
TYPES = ("single", "couple", "family", "single parent", "shared")
EDUCATION = ("primary", "secondary", "bachelor", "master")
SIZES, AGES, CARS, MARKS = tuple(range(1, 9)), tuple(range(18, 96)), tuple(range(5)), tuple(range(1, 6))
DAYS = tuple(pd.date_range("2024-03-01", "2024-11-30", unit="s"))
GENERATIONS = (30, 45, 65)  # ages at which the next one begins

# One letter for each axis. The generation (g), the bands of the amounts (i, o, v) have no column of their own.
AXES = {
    "region": "r",
    "type": "t",
    "size": "s",
    "age": "a",
    "education": "e",
    "employed": "w",
    "income": "i",
    "rent": "o",
    "savings": "v",
    "cars": "c",
    "satisfaction": "f",
    "survey_date": "d",
}
VALUES = {
    "region": REGIONS,
    "type": TYPES,
    "size": SIZES,
    "age": AGES,
    "education": EDUCATION,
    "employed": (False, True),
    "cars": CARS,
    "satisfaction": MARKS,
    "survey_date": DAYS,
}
# Bands of income: none, up to 1,500, up to 3,000, more. Of rent: owner, tenant. Of savings: none, some, over 10,000.
INCOME_EDGES, RENT_EDGES, SAVINGS_EDGES = (0.0, 1500.0, 3000.0), (0.0,), (0.0, 10_000.0)


def _column(values: Any) -> Array:
    """A vector that runs along the first of two axes."""
    return np.asarray(values, dtype=np.float64)[:, None]


def _bumps(points: Any, *parts: tuple[float, float, float]) -> Array:
    """A sum of bells (weight, centre, width) over points."""
    points = np.asarray(points, dtype=np.float64)
    bells = [weight / width * np.exp(-0.5 * ((points - centre) / width) ** 2) for weight, centre, width in parts]
    return np.sum(bells, axis=0)


def _law() -> Law:
    region = np.array([0.20, 0.24, 0.16, 0.18, 0.22])
    kind = np.array(
        [
            [0.40, 0.22, 0.18, 0.08, 0.12],
            [0.30, 0.32, 0.24, 0.07, 0.07],
            [0.26, 0.36, 0.28, 0.07, 0.03],
            [0.28, 0.33, 0.28, 0.08, 0.03],
            [0.24, 0.34, 0.31, 0.08, 0.03],
        ]
    )
    size = np.array(
        [
            [1.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.000, 0.000],
            [0.00, 1.00, 0.00, 0.00, 0.00, 0.00, 0.000, 0.000],
            [0.00, 0.00, 0.38, 0.40, 0.15, 0.05, 0.015, 0.005],
            [0.00, 0.55, 0.33, 0.10, 0.02, 0.00, 0.000, 0.000],
            [0.00, 0.40, 0.33, 0.17, 0.07, 0.03, 0.000, 0.000],
        ]
    )
    age = normalised(
        [
            _bumps(AGES, (0.5, 29, 7), (0.5, 71, 11)),
            _bumps(AGES, (0.4, 33, 8), (0.6, 63, 11)),
            _bumps(AGES, (1, 42, 8)),
            _bumps(AGES, (1, 39, 9)),
            _bumps(AGES, (1, 25, 5)),
        ]
    )
    generation = np.eye(4)[np.searchsorted(GENERATIONS, AGES, side="right")]
    schooling = np.array(
        [[0.08, 0.50, 0.30, 0.12], [0.10, 0.44, 0.28, 0.18], [0.18, 0.52, 0.19, 0.11], [0.40, 0.44, 0.11, 0.05]]
    )
    schooled = np.array(
        [[0.6, 0.8, 1.3, 1.9], [0.9, 1.0, 1.1, 1.1], [1.1, 1.0, 0.9, 0.8], [1, 1, 1, 1], [1.3, 1.1, 0.8, 0.6]]
    )
    education = normalised(schooled[:, None, :] * schooling[None])
    at_work = expit(_column([0.4, 0.9, 0.4, -3.2]) + 0.5 * np.arange(4))
    tables = {
        "region": Table("r", region),
        "type": Table("rt", kind),
        "size": Table("ts", size),
        "age": Table("ta", age),
        "generation": Table("ag", generation),
        "education": Table("rge", education),
        "employed": Table("gew", np.stack([1 - at_work, at_work], axis=-1)),
        "cars": Table("rsic", _cars()),
        "satisfaction": Table("iof", _satisfaction()),
        "survey_date": Table("rd", _survey_date()),
    }
    missing = {
        "income": Table("ew", np.array([[0.03, 0.05], [0.04, 0.08], [0.05, 0.12], [0.08, 0.18]])),
        "savings": Table("v", np.array([0.05, 0.08, 0.22])),
        "satisfaction": Table("g", np.array([0.12, 0.08, 0.05, 0.03])),
    }
    return Law(tables, {"income": _income(), "rent": _rent(), "savings": _savings()}, missing)


def _income() -> Amount:
    """Euros a month, log-normal around a median that rises with education; some of those without work have none."""
    steps = np.arange(4)[:, None, None]
    out_of_work = np.log(900) + 0.12 * steps + np.array([-0.3, 0.0, 0.1, 0.35])
    in_work = np.log(1600) + 0.25 * steps + np.array([-0.15, 0.1, 0.2, 0.0])
    none = np.zeros((4, 2, 4, 1))
    none[:, 0, :, 0] = [0.45, 0.40, 0.25, 0.02]
    mu = np.concatenate([out_of_work, in_work], axis=1)
    return Amount("ewg", "i", mu, 0.42, (0.0,), none, INCOME_EDGES)


def _rent() -> Amount:
    """Euros and cents a month, log-normal around a median of region, size and income; owners pay none."""
    dear = np.array([0.45, 0.10, -0.10, 0.00, -0.20]).reshape(5, 1, 1, 1)
    space = 0.25 * np.log(SIZES).reshape(1, 8, 1, 1)
    means = np.array([-0.10, -0.05, 0.05, 0.25])
    mu = np.broadcast_to(np.log(620) + dear + space + means, (5, 8, 4, 4))
    owner = expit(_column([-2.0, -0.3, 0.5, 0.9]) + np.array([-0.5, -0.2, 0.2, 0.7]))
    return Amount("rsgi", "o", mu, 0.22, (0.0,), np.broadcast_to(owner[..., None], (5, 8, 4, 4, 1)), RENT_EDGES, 0.01)


def _savings() -> Amount:
    """Whole euros, log-normal with a heavy tail; many have none, and many name a round sum."""
    mu = np.log(2500) + 0.45 * np.arange(4)[:, None] + np.array([-0.5, 0.0, 0.6, 1.3])
    none = _column([1.2, 1.1, 1.0, 0.8]) * np.array([0.50, 0.35, 0.18, 0.07])
    round_sums = np.broadcast_to([0.04, 0.03, 0.025], (4, 4, 3))
    atoms = np.concatenate([none[..., None], round_sums], axis=-1)
    return Amount("gi", "v", mu, 1.3, (0.0, 1000.0, 5000.0, 10_000.0), atoms, SAVINGS_EDGES, 1.0)


def _cars() -> Array:
    """Poisson, cut off at four: few in the capital, more for large and for wealthy households."""
    lift = np.array([-1.1, -0.3, 0.0, -0.1, 0.1]).reshape(5, 1, 1, 1)
    log_rate = lift + 0.35 * np.log(SIZES).reshape(1, 8, 1, 1) + np.array([-0.9, -0.4, 0.1, 0.4]).reshape(1, 1, 4, 1)
    factorials = np.array([1, 1, 2, 6, 24])
    return normalised(np.exp(log_rate * np.array(CARS)) / factorials)


def _satisfaction() -> Array:
    """A bell over the marks that moves up with income and with a home of one's own."""
    centre = 3.0 + np.array([-0.9, -0.3, 0.3, 0.7]).reshape(4, 1, 1) + np.array([0.5, 0.0]).reshape(1, 2, 1)
    return normalised(np.exp(-0.5 * ((np.array(MARKS) - centre) / 1.1) ** 2))


def _survey_date() -> Array:
    """A season for each region, and the habits of the week."""
    week = np.array([1.0, 1.0, 1.0, 1.0, 1.1, 0.6, 0.2])[[day.weekday() for day in DAYS]]
    return normalised([week * _bumps(range(len(DAYS)), (1, centre, 40)) for centre in (40, 90, 140, 190, 235)])


LAW = _law()


def household(n: int, seed: int = 0) -> pd.DataFrame:
    """Draw a survey of independent households.

    Args:
        n: number of rows.
        seed: fixes the draw.

    Returns:
        A frame with the columns of this module in their order. Strings: region, type. Ordered category: education.
        bool: employed. int64: size, age, cars. Int64 with holes: savings, satisfaction. float64: rent, to the cent, and
        income, with holes. datetime64[s]: survey_date.

    Raises:
        DataError: n is negative.
    """
    if n < 0:
        raise DataError(f"the number of households must not be negative, not {n}")
    rng = np.random.default_rng(seed)
    codes: dict[str, Array] = {}
    data: dict[str, Any] = {}

    def parents(axes: str) -> tuple[Array, ...]:
        return tuple(codes[axis] for axis in axes)

    for column, axis in AXES.items():
        if column in LAW.amounts:
            amount = LAW.amounts[column]
            data[column] = amount.draw(parents(amount.axes), rng)
            codes[axis] = amount.bands_of(data[column])
            continue
        table = LAW.tables[column]
        given = parents(table.axes[:-1])
        rows = table.probabilities[given] if given else np.broadcast_to(table.probabilities, (n, len(VALUES[column])))
        codes[axis] = choose(rows, rng)
        data[column] = pd.Index(VALUES[column]).take(codes[axis])
        if column == "age":
            codes["g"] = np.searchsorted(GENERATIONS, data[column], side="right")
    data["education"] = pd.Categorical.from_codes(codes["e"], categories=list(EDUCATION), ordered=True)
    data["rent"] = np.round(data["rent"], 2)
    types = {
        "region": "str",
        "type": "str",
        "savings": "Int64",
        "satisfaction": "Int64",
        "survey_date": "datetime64[s]",
    }
    frame = pd.DataFrame(data).astype(types)
    for column, table in LAW.missing.items():
        hole = rng.random(n) < table.probabilities[parents(table.axes)]
        frame[column] = frame[column].mask(hole)
    return frame


def household_log_prob(frame: pd.DataFrame) -> Array:
    """The exact log-density of each household, in nats.

    A density in income (per euro), a probability in everything else. A missing cell counts as the fact that it is
    missing, summed over the values it may hide.

    Args:
        frame: the columns of `household`, in any order.

    Returns:
        float64 of shape (n,); minus infinity for a row that the survey cannot hold.

    Raises:
        DataError: a column is missing or unknown.
    """
    _check_columns(frame.columns)
    if absent := [column for column in AXES if column not in frame.columns]:
        raise DataError(f"the survey needs the column {absent[0]!r}")
    log_prob = np.empty(len(frame))
    holes = frame[list(AXES)].isna().to_numpy()
    patterns, pattern_of = np.unique(holes, axis=0, return_inverse=True)
    for number in range(len(patterns)):
        rows = np.flatnonzero(pattern_of == number)
        with np.errstate(divide="ignore"):
            log_prob[rows] = np.log(LAW.total(_evidence(frame.iloc[rows])))
    return log_prob


def household_conditional(column: str, given: Mapping[str, Any] | None = None) -> Conditional:
    """The exact law of one column given the values of any others.

    Args:
        column: a column of `household`.
        given: values by column. A list, tuple, set or range of values of a finite column says that it holds one of
            them; None says that a cell is missing. What is not named is summed over. With the column itself given as
            None, the law is that of the values that hide behind the holes, else of those reported.

    Returns:
        Probabilities over the values of a finite column; mean, standard deviation and distribution function of a
        number; and the probability that the cell is missing.

    Raises:
        DataError: a column is unknown, or the given values cannot occur together.
    """
    given = dict(given or {})
    _check_columns([column, *given])
    hidden = column in given and given[column] is None
    if hidden:
        del given[column]
    sets = {name: value for name, value in given.items() if isinstance(value, list | tuple | set | frozenset | range)}
    single = {name: [value] for name, value in given.items() if name not in sets}
    if column in single:
        raise DataError(f"the law of {column!r} was asked for, and its value given")
    evidence = _evidence(pd.DataFrame(single, dtype=object, index=[0]))
    for name, values in sets.items():
        if name in LAW.amounts:
            raise DataError(f"{name!r} takes one value, not several: its values are not a finite list")
        evidence.allowed[AXES[name]] = (_codes(name, pd.Series(list(values))) == _column(range(len(VALUES[name])))).any(
            1
        )
        if name in LAW.missing:
            evidence.missing[name] = False
    keep = AXES[column]
    if column in LAW.amounts:
        keep = "".join(axis for axis in LAW.amounts[column].axes if axis not in evidence.codes) + keep
    chance = float(LAW.total(evidence)[0])
    if chance == 0:
        raise DataError(f"no household of the survey has {given}")
    missing = 0.0
    if column in LAW.missing:
        evidence.missing[column] = True
        missing = float(LAW.total(evidence)[0]) / chance
        evidence.missing[column] = hidden
    weights = LAW.total(evidence, keep)[0]
    if column in VALUES:
        return finite(VALUES[column], weights, missing)
    return mixture(LAW.amounts[column], _spread(weights, LAW.amounts[column], evidence), missing)


def _spread(weights: Array, amount: Amount, evidence: Evidence) -> Array:
    """Weights over the free parents, put into their place among all parents."""
    whole = np.zeros((*amount.mu.shape, len(amount.edges) + 1))
    whole[tuple(int(evidence.codes[axis][0]) if axis in evidence.codes else slice(None) for axis in amount.axes)] = (
        weights
    )
    return whole


def _evidence(frame: pd.DataFrame) -> Evidence:
    """What the columns of a frame say; each of them is either missing in all rows or in none."""
    evidence = Evidence({}, {}, {}, {}, np.ones(len(frame), dtype=bool))
    possible = evidence.possible
    for column in map(str, frame.columns):
        values, axis = frame.loc[:, column], AXES[column]
        hole = bool(values.isna().any())
        if column in LAW.missing:
            evidence.missing[column] = hole
        elif hole:
            possible &= False
        if hole:
            continue
        if column in LAW.amounts:
            amounts = values.to_numpy(dtype=np.float64)
            evidence.amounts[column] = amounts
            evidence.codes[axis] = LAW.amounts[column].bands_of(amounts)
            continue
        codes = _codes(column, values)
        possible &= codes >= 0
        evidence.codes[axis] = np.maximum(codes, 0)
        if column == "age":
            evidence.codes["g"] = np.searchsorted(GENERATIONS, np.asarray(AGES)[evidence.codes[axis]], side="right")
    return evidence


def _codes(column: str, values: pd.Series) -> Array:
    """Positions of the values among those of a finite column, -1 where they are none of them."""
    if column == "survey_date":
        return pd.DatetimeIndex(DAYS).get_indexer(pd.DatetimeIndex(values))
    return pd.Index(VALUES[column], dtype=object).get_indexer(pd.Index(values, dtype=object))


def _check_columns(columns: Any) -> None:
    for column in columns:
        if column not in AXES:
            raise DataError(f"the survey has no column {column!r}; it has {', '.join(AXES)}")
