"""The public tables that benchmarks use: what is inferred, and that they come back."""

from pathlib import Path

import numpy as np
import pytest

from clarkia.adapters import read_table
from clarkia.codecs import TableCodec

DATA = Path(__file__).parents[3] / "shared" / "data" / "tables"
RESIDUALS = {
    "adult_train": ["fnlwgt"],
    "default": [f"BILL_AMT{k}" for k in range(1, 7)] + [f"PAY_AMT{k}" for k in range(1, 7)],
    "shoppers": [
        "Administrative_Duration", "Informational_Duration", "ProductRelated", "ProductRelated_Duration", "BounceRates",
        "ExitRates", "PageValues",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", RESIDUALS)
def test_a_public_table_comes_back_exactly(name):
    path = DATA / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    table = read_table(path)
    codec = TableCodec.fit(table)
    assert [column.name for column in codec.columns if column.residual is not None] == RESIDUALS[name]
    assert [column.name for column in codec.columns if column.level is None] == (["fnlwgt"] if name[0] == "a" else [])
    rng = np.random.default_rng(0)
    state = codec.encode(table, rng)
    assert codec.decode(state).equals(table)  # all of their numbers lie on decimal grids
    live = codec.live(state)
    for place in range(codec.num_residuals):
        z = state["numeric"][live[:, place], place]
        assert abs(z.mean()) < 0.02
        assert abs(z.std() - 1) < 0.02
    # columns drawn each alone have the columns' own values and means (four standard errors)
    shuffled = {block: rng.permuted(cells, axis=0) for block, cells in state.items() if block != "numeric"}
    shuffled["numeric"] = rng.standard_normal(state["numeric"].shape)
    drawn = codec.decode(shuffled)
    for column in codec.columns:
        real, fresh = table[column.name].drop_null(), drawn[column.name].drop_null()
        if column.residual is None:
            assert set(fresh.to_pylist()) <= set(real.to_pylist())
        else:
            x, y = real.to_numpy(), fresh.to_numpy()
            assert x.min() - np.ptp(x) <= y.min() <= y.max() <= x.max() + np.ptp(x)  # tails are exponential
            assert abs(np.median(x) - np.median(y)) <= 0.1 * x.std()
            assert (y == np.rint(y * 1e9) / 1e9).all()
