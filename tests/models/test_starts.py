"""Samples drawn in parts by several processes are those that one process draws."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from test_queries import SHAPE, clue, draw

import clarkia as ck
from clarkia.codecs.table.options import CodingOptions
from clarkia.errors import DataError
from clarkia.oracles import FiniteJoint
from clarkia.shards import Shard

COUNTS = (1, 2, 3, 5)
ROWS = 1301  # more than a block of noise, and every part but the first of two begins inside one


def people(rows):
    rng = np.random.default_rng(0)
    age = rng.integers(2, 8, rows) * 10
    return pd.DataFrame(
        {
            "id": np.arange(rows),
            "age": age,
            "pay": np.where(rng.random(rows) < 0.3, np.nan, np.round(rng.normal(20, 4, rows), 1)),
            "job": rng.choice(["office", "field", "sea"], rows),
            "town": [f"town {number}" for number in rng.integers(0, 10, rows)],
        }
    )


@pytest.fixture(scope="module")
def table():
    with pytest.MonkeyPatch.context() as patch:
        # Half of the towns are in the rare bucket, whose values are drawn last.
        patch.setattr("clarkia.codecs.table.codec.CodingOptions", lambda: CodingOptions(max_levels=8, kept_mass=0.45))
        return ck.TableModel(width=32, depth=1, groups=2, max_steps=5, validation_share=0).fit(people(600))


def parts(model, n, count, **asked):
    for index in range(count):
        share = Shard(index, count).share(n)
        yield from model.sample_batches(share.stop - share.start, start=share.start, seed=3, **asked)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"complete": True},
        {"given": {"job": ["sea", "field"]}},
        # Two conditions are met by trial and error, which takes some rows longer than others.
        {"where": "age > 40 and job in ('sea', 'field') and pay > 18", "complete": True},
        # Some rows are drawn whole by the query and need no sampler, unless it is there for rows beside them.
        {"where": "age > 40 and pay between 16 and 22 and job is not missing and town is not missing"},
    ],
    ids=["plain", "complete", "given", "where", "all-asked"],
)
def test_rows_do_not_depend_on_the_number_of_parts(table, asked):
    n = 25 if asked else ROWS
    whole = table.sample(n, seed=3, num_steps=6, **asked)
    for count in (3, n) if asked else COUNTS:
        drawn = pa.concat_tables(parts(table, n, count, num_steps=6, **asked)).to_pandas()
        pd.testing.assert_frame_equal(drawn, whole, check_dtype=False)


def test_rows_from_a_number_on_are_those_of_the_whole(table):
    whole = table.sample(1100, seed=3, num_steps=4)
    later = pa.concat_tables(table.sample_batches(80, start=1020, seed=3, num_steps=4, rows_per_batch=30)).to_pandas()
    pd.testing.assert_frame_equal(later, whole.iloc[1020:].reset_index(drop=True), check_dtype=False)
    assert list(table.sample_batches(0, start=10)) == []


def test_pictures_do_not_depend_on_the_number_of_parts():
    pictures = np.random.default_rng(0).integers(0, 256, (40, 8, 8)).astype(np.uint8)
    model = ck.ImageModel(width=16, depth=1, max_steps=1, max_minutes=None).fit(pictures)
    whole = model.sample(23, seed=3, num_steps=2)
    for count in COUNTS:
        drawn = np.concatenate(list(parts(model, 23, count, num_steps=2)))
        assert drawn.shape == whole.shape
        assert (drawn == whole).mean() > 0.999  # sums in another order may round
    with pytest.raises(DataError, match="from -1 on"):
        model.sample_batches(3, start=-1)


def test_texts_do_not_depend_on_the_number_of_parts():
    text = "It was the best of times, it was the worst of times. " * 40
    options = {"width": 16, "depth": 1, "length": 12, "max_steps": 1, "max_minutes": None}
    model = ck.TextModel(**options, companion=True).fit(text)
    for asked in ({}, {"prefix": "It ", "correction": 2, "num_steps": 3}):
        whole = model.sample(37, seed=3, **asked)
        for count in COUNTS:
            assert [text for batch in parts(model, 37, count, **asked) for text in batch] == whole
    with pytest.raises(DataError, match="found 3, -1, None, 1 and 64"):
        model.sample_batches(3, start=-1)


def test_numbers_out_of_range_are_refused(table):
    for options in ({"start": -1}, {"rows_per_batch": 0}):
        with pytest.raises(DataError, match="n, start and rows_per_batch"):
            table.sample_batches(3, **options)


def test_a_candidate_that_rules_a_condition_out_is_drawn_again_whatever_the_other_rows():
    joint = torch.zeros(SHAPE, dtype=torch.float64)
    joint[0, 0, 0] = joint[2, 1, 0] = 0.5
    law, asked = FiniteJoint(joint), [clue(0, {0, 2}, 3), clue(1, {1, 2}, 4)]
    for seed in range(4):
        for rows in (1, 20):
            values, _ = draw(law, asked, rows, seed=seed)
            assert values["levels"][:, :2].tolist() == [[2, 1]] * rows
