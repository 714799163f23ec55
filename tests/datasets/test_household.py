import itertools

import numpy as np
import pandas as pd
import pytest
from numpy.polynomial.legendre import leggauss
from scipy import stats

from clarkia.datasets import household, household_conditional, household_log_prob
from clarkia.datasets.household import AXES, EDUCATION, GENERATIONS, LAW, REGIONS, TYPES, VALUES
from clarkia.errors import DataError

FINITE = list(VALUES)


@pytest.fixture(scope="module")
def survey():
    return household(100_000, seed=11)


@pytest.fixture(scope="module")
def rows():
    return household(300, seed=2)


def probability(rows):
    return np.exp(household_log_prob(pd.DataFrame(rows)))


def written_out(row):
    """The probability of a row by the equations of the module's description, factor by factor, holes enumerated."""
    table = {name: table.probabilities for name, table in LAW.tables.items()}
    r, t, e = REGIONS.index(row["region"]), TYPES.index(row["type"]), EDUCATION.index(row["education"])
    s, a, w, c = row["size"] - 1, row["age"] - 18, int(row["employed"]), row["cars"]
    g = sum(row["age"] >= start for start in GENERATIONS)
    d = (row["survey_date"] - pd.Timestamp("2024-03-01")).days
    base = table["region"][r] * table["type"][r, t] * table["size"][t, s] * table["age"][t, a]
    base *= table["education"][r, g, e] * table["employed"][g, e, w] * table["survey_date"][r, d]

    def rounded(amount, state, value):
        law = stats.lognorm(amount.sigma, scale=np.exp(amount.mu[state]))
        atoms = amount.atom_probabilities[state]
        half = amount.step / 2
        smooth = (law.cdf(value + half) - law.cdf(value - half)) if value > 0 else 0.0
        return (1 - atoms.sum()) * smooth + sum(p for p, atom in zip(atoms, amount.atoms, strict=True) if atom == value)

    income, rent, savings = (LAW.amounts[name] for name in ("income", "rent", "savings"))
    refuses = LAW.missing["income"].probabilities[e, w]
    if pd.isna(row["income"]):
        incomes = [(i, refuses * income.below(np.inf)[e, w, g, i]) for i in range(4)]
    elif row["income"] == 0:
        incomes = [(0, (1 - refuses) * income.atom_probabilities[e, w, g, 0])]
    else:
        density = stats.lognorm(income.sigma, scale=np.exp(income.mu[e, w, g])).pdf(row["income"])
        band = 1 + (row["income"] > 1500) + (row["income"] > 3000)
        incomes = [(band, (1 - refuses) * (1 - income.atom_probabilities[e, w, g, 0]) * density)]
    total = 0.0
    for i, p_income in incomes:
        p_rent = rounded(rent, (r, s, g, i), row["rent"])
        hides = LAW.missing["savings"].probabilities
        if pd.isna(row["savings"]):
            p_savings = sum(hides[v] * savings.below(np.inf)[g, i, v] for v in range(3))
        else:
            band = int(row["savings"] > 0) + (row["savings"] > 10_000)
            p_savings = (1 - hides[band]) * rounded(savings, (g, i), row["savings"])
        skips = LAW.missing["satisfaction"].probabilities[g]
        if pd.isna(row["satisfaction"]):
            p_mark = skips
        else:
            p_mark = (1 - skips) * table["satisfaction"][i, int(row["rent"] > 0), row["satisfaction"] - 1]
        total += p_income * p_rent * p_savings * table["cars"][r, s, i, c] * p_mark
    return base * total


def test_every_table_is_a_law():
    for table in LAW.tables.values():
        assert (table.probabilities >= 0).all()
        np.testing.assert_allclose(table.probabilities.sum(axis=-1), 1.0, rtol=0, atol=1e-14)


def test_the_log_density_is_the_product_of_the_written_out_factors(rows):
    expected = [np.log(written_out(row)) for row in rows.to_dict("records")]
    assert rows[["income", "savings", "satisfaction"]].isna().to_numpy().any(axis=1).sum() > 30
    np.testing.assert_allclose(household_log_prob(rows), expected, rtol=0, atol=2e-6)  # differences of two cdfs


def test_the_order_of_rows_and_columns_does_not_matter(rows):
    shuffled = rows.sample(frac=1, random_state=0)[list(reversed(rows.columns))]
    np.testing.assert_allclose(household_log_prob(shuffled), household_log_prob(rows)[shuffled.index], rtol=1e-14)
    assert household_log_prob(rows).dtype == np.float64


@pytest.mark.parametrize("column", [*FINITE, "income"])
def test_a_column_sums_out_of_the_joint_law(rows, column):
    """Over all values of one column, holes included, the density adds up to that of the other columns (a chain)."""
    row = rows.dropna().iloc[3].to_dict()
    row.update(type="family", size=5)
    order = [name for name in AXES if name != column] + [column]
    if column == "income":
        nodes, weights = leggauss(60)
        sides = np.log([1e-2, 1500, 3000, 1e6])
        points = [(a + b) / 2 + (b - a) / 2 * nodes for a, b in itertools.pairwise(sides)]
        values = [0.0, None, *np.exp(np.concatenate(points))]
        scale = np.concatenate([(b - a) / 2 * weights for a, b in itertools.pairwise(sides)])
        scale = np.concatenate([[1.0, 1.0], scale * values[2:]])
    else:
        values = [*VALUES[column], *([None] if column in LAW.missing else [])]
        scale = np.ones(len(values))
    total = (probability([{**row, column: value} for value in values]) * scale).sum()
    assert total == pytest.approx(chain(row, order[:-1]), rel=1e-9)


def chain(row, order):
    """The probability of some columns of a row as a product of conditional laws, one column after the other."""
    product, known = 1.0, {}
    for name in order:
        law = household_conditional(name, known)
        if pd.isna(row[name]):
            product *= law.missing
        elif law.values is not None:
            product *= (1 - law.missing) * law.probabilities[list(law.values).index(row[name])]
        else:
            step = LAW.amounts[name].step
            half = step / 2 or 1e-3
            change = law.cdf(row[name] + half) - law.cdf(row[name] - half)
            product *= (1 - law.missing) * change / (1.0 if step or row[name] == 0 else 2 * half)
        known[name] = None if pd.isna(row[name]) else row[name]
    return product


@pytest.mark.parametrize("number", range(6))
def test_the_log_density_is_a_chain_of_conditional_laws(rows, number):
    picked = rows[rows.isna().any(axis=1)] if number % 2 else rows
    row = picked.iloc[number].to_dict()
    order = np.random.default_rng(number).permutation(list(AXES)).tolist()
    assert chain(row, order) == pytest.approx(probability([row])[0], rel=1e-5)  # a difference quotient for the income


def test_half_a_country_sums_to_its_share():
    """All of type, size, age, education and work at once, 24,960 rows, with all three holes in the others."""
    fixed = {"region": "Lakes", "rent": 0.0, "cars": 1, "survey_date": pd.Timestamp("2024-07-01")}
    holes = {"income": None, "savings": None, "satisfaction": None}
    free = ["type", "size", "age", "education", "employed"]
    grid = pd.DataFrame(itertools.product(*(VALUES[name] for name in free)), columns=free).assign(**fixed)
    grid = grid.assign(income=np.nan, savings=pd.array([pd.NA] * len(grid), "Int64"))
    grid = grid.assign(satisfaction=pd.array([pd.NA] * len(grid), "Int64"))
    total = np.exp(household_log_prob(grid)).sum()
    assert total == pytest.approx(chain({**fixed, **holes}, [*fixed, *holes]), rel=1e-10)


@pytest.mark.parametrize("column", ["education", "size", "satisfaction", "employed"])
def test_a_conditional_law_is_that_of_the_enumerated_joint_law(column):
    """Cars, education, size, mark and work enumerated (1,920 rows and holes) with everything else observed."""
    known = {"region": "Coast", "type": "family", "age": 33, "income": 0.0, "rent": 512.5, "savings": 1000}
    known["survey_date"] = pd.Timestamp("2024-06-03")
    free = ["education", "size", "cars", "satisfaction", "employed"]
    marks = (*VALUES["satisfaction"], pd.NA)
    lists = [marks if name == "satisfaction" else VALUES[name] for name in free]
    grid = pd.DataFrame(itertools.product(*lists), columns=free).assign(**known)
    grid["satisfaction"] = grid["satisfaction"].astype("Int64")
    grid["p"] = np.exp(household_log_prob(grid))
    law = household_conditional(column, known)
    reported = grid.dropna().groupby(column)["p"].sum().reindex(list(law.values)).to_numpy()
    np.testing.assert_allclose(law.probabilities, reported / reported.sum(), rtol=1e-10, atol=1e-15)
    missing = grid.loc[grid["satisfaction"].isna(), "p"].sum() / grid["p"].sum()
    assert law.missing == pytest.approx(missing if column == "satisfaction" else 0.0, rel=1e-10)
    some = household_conditional(column, {**known, "cars": [0, 2]})
    among = grid[grid["cars"].isin([0, 2])].dropna().groupby(column)["p"].sum().reindex(list(law.values)).to_numpy()
    np.testing.assert_allclose(some.probabilities, among / among.sum(), rtol=1e-10, atol=1e-15)


def test_the_conditional_income_is_that_of_the_integrated_joint_law(rows):
    row = rows.dropna().iloc[8].to_dict()
    law = household_conditional("income", {name: value for name, value in row.items() if name != "income"})
    nodes, weights = leggauss(200)
    sides = np.log([1e-2, 1500, 3000, 1e6])
    points = np.exp(np.concatenate([(a + b) / 2 + (b - a) / 2 * nodes for a, b in itertools.pairwise(sides)]))
    scale = points * np.concatenate([(b - a) / 2 * weights for a, b in itertools.pairwise(sides)])
    points, scale = np.append(points, 0.0), np.append(scale, 1.0)
    mass = probability([{**row, "income": value} for value in points]) * scale
    mass /= mass.sum()
    mean = mass @ points
    assert law.mean == pytest.approx(mean, rel=1e-8)
    assert law.sd == pytest.approx(np.sqrt(mass @ (points - mean) ** 2), rel=1e-7)
    assert law.cdf(3000.0) == pytest.approx(mass[points < 3000].sum(), rel=1e-8)
    assert law.cdf([0.0, 1e9]).tolist() == pytest.approx([mass[-1], 1.0], rel=1e-8)


# Seventeen chi-square tests at 1e-5 each: a false alarm in 5,000 changes of the seed.
GIVEN = [{}, {"region": "Capital", "employed": True}, {"age": range(65, 96)}]


def rows_with(survey, given):
    keep = pd.Series(True, index=survey.index)
    for name, value in given.items():
        keep &= survey[name].isin(list(value)) if isinstance(value, range) else survey[name] == value
    return survey[keep]


COUNTED = ["region", "type", "size", "education", "cars", "satisfaction"]


@pytest.mark.parametrize(
    ("column", "given"), [(column, given) for given in GIVEN for column in COUNTED if column not in given]
)
def test_frequencies_are_those_of_the_law(survey, column, given):
    law = household_conditional(column, given)
    cells = rows_with(survey, given)[column].dropna()
    counts = cells.value_counts().reindex(list(law.values)).fillna(0).to_numpy(dtype=float)
    expected = law.probabilities * len(cells)
    assert not counts[expected == 0].any()
    # Cells that expect fewer than five rows are counted together.
    small = expected < 5
    counts = np.append(counts[~small], counts[small].sum())
    expected = np.append(expected[~small], expected[small].sum())
    if expected[-1] == 0:
        counts, expected = counts[:-1], expected[:-1]
    assert len(counts) < 2 or stats.chisquare(counts, expected).pvalue > 1e-5


@pytest.mark.parametrize("given", [{}, {"type": "family", "education": "master"}, {"satisfaction": 1}])
@pytest.mark.parametrize("column", ["age", "income", "rent", "savings"])
def test_numbers_follow_the_distribution_function_of_the_law(survey, column, given):
    """Kolmogorov and Smirnov on the randomised transform of at most 2,000 cells; false-alarm rate 1e-5 a test."""
    law = household_conditional(column, given)
    cells = rows_with(survey, given)[column].dropna().to_numpy(dtype=float)
    few = cells[:2000]
    before = law.cdf(few - (1e-9 if column == "income" else 0.01))
    uniform = before + np.random.default_rng(0).random(len(few)) * (law.cdf(few) - before)
    assert stats.kstest(uniform, "uniform").pvalue > 1e-5
    if column != "savings":  # whose mean converges too slowly
        assert abs(cells.mean() - law.mean) < 4.5 * law.sd / np.sqrt(len(cells))


@pytest.mark.parametrize("column", ["income", "savings", "satisfaction"])
def test_holes_have_their_rates(survey, column):
    """Two-sided binomial tests at 1e-5; false-alarm rate 4e-4 for all of them."""
    groups = itertools.product(*(VALUES[name] for name in ("education", "employed")))
    for given in [{}, *({"education": e, "employed": w} for e, w in groups)]:
        among = rows_with(survey, given)
        chance = household_conditional(column, given).missing
        assert stats.binomtest(int(among[column].isna().sum()), len(among), chance).pvalue > 1e-5


def test_what_hides_behind_the_holes():
    """Savings hide when they are large; a hidden income is like one that is seen, given what its hiding depends on."""
    seen, hidden = household_conditional("savings"), household_conditional("savings", {"savings": None})
    assert hidden.mean > 1.5 * seen.mean
    assert hidden.missing == seen.missing
    known = {"education": "bachelor", "employed": True, "cars": 2, "region": "Hills"}
    seen, hidden = household_conditional("income", known), household_conditional("income", {**known, "income": None})
    assert hidden.mean == pytest.approx(seen.mean, rel=1e-12)
    del known["employed"]
    seen, hidden = household_conditional("income", known), household_conditional("income", {**known, "income": None})
    assert hidden.mean > 1.02 * seen.mean


def test_a_survey_looks_like_one():
    survey = household(50, seed=3)
    assert list(survey.columns) == list(AXES)
    types = "str str int64 int64 category bool float64 float64 Int64 int64 Int64 datetime64[s]"
    assert [str(dtype) for dtype in survey.dtypes] == types.split()
    assert survey["education"].cat.ordered
    assert (survey["rent"] == survey["rent"].round(2)).all()
    pd.testing.assert_frame_equal(survey, household(50, seed=3))
    assert not survey.equals(household(50, seed=4))
    assert household(0).dtypes.equals(survey.dtypes)
    assert len(household_log_prob(household(0))) == 0


def test_impossible_rows_have_no_probability(rows):
    row = rows.dropna().iloc[0].to_dict()
    assert np.isfinite(household_log_prob(pd.DataFrame([row])))
    for changes in (
        {"region": "Atlantis"},
        {"region": None},
        {"type": "single", "size": 2},
        {"age": 17},
        {"income": -5.0},
        {"rent": 400.005},
        {"cars": 9},
        {"survey_date": pd.Timestamp("2023-01-01")},
        {"employed": True, "income": 0.0},
    ):
        assert household_log_prob(pd.DataFrame([{**row, **changes}])) == -np.inf


def test_questions_that_make_no_sense_are_refused(rows):
    with pytest.raises(DataError, match="has no column 'wage'"):
        household_conditional("wage")
    with pytest.raises(DataError, match="has no column 'wage'"):
        household_conditional("income", {"wage": 3})
    with pytest.raises(DataError, match="no household of the survey has"):
        household_conditional("income", {"type": "single", "size": 3})
    with pytest.raises(DataError, match="was asked for, and its value given"):
        household_conditional("income", {"income": 3.0})
    with pytest.raises(DataError, match="one value, not several"):
        household_conditional("age", {"income": [1.0, 2.0]})
    with pytest.raises(DataError, match="needs the column 'cars'"):
        household_log_prob(rows.drop(columns="cars"))
    with pytest.raises(DataError, match="must not be negative"):
        household(-1)
