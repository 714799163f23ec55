"""A law of mixed tables, and what can go wrong with samples of it."""

import numpy as np
import pyarrow as pa

ROWS = 400
REGIONS = np.array(["north", "east", "south", "west"])


def draw(n, seed, *, first_key=None):
    """Draw rows of a small survey: dates, numbers with gaps, categories and a key, all tied to one hidden number."""
    rng = np.random.default_rng([n, seed])
    z = rng.normal(size=n)
    start = rng.integers(0, 1000, n)
    income = np.round(np.exp(0.6 * z + 7 + 0.2 * rng.normal(size=n)), 2)
    first_key = 1_000_000 * seed if first_key is None else first_key
    return pa.table(
        {
            "id": pa.array(first_key + np.arange(n)),
            "age": pa.array(np.clip(40 + 12 * z + 3 * rng.normal(size=n), 18, 95).astype(int)),
            "income": pa.array(income, mask=rng.random(n) < 0.08),
            "start": pa.array(np.datetime64("2020-01-01") + start),
            "end": pa.array(np.datetime64("2020-01-01") + start + rng.integers(1, 400, n)),
            "region": pa.array(REGIONS[rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])]),
            "buyer": pa.array(z + 0.5 * rng.normal(size=n) > 0.3),
        }
    )


def permuted(table, seed=0):
    """Return the table with every column permuted on its own."""
    rng = np.random.default_rng([seed, 7])
    return pa.table([column.take(rng.permutation(len(column))) for column in table.columns], schema=table.schema)
