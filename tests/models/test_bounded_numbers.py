"""Bounds on several numeric columns, against a pair of normal numbers whose conditional laws are known."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from scipy.stats import multivariate_normal, norm, truncnorm

import clarkia as ck
from clarkia.codecs import TableCodec
from clarkia.codecs.constraints import RuleEncoding
from clarkia.errors import DataError
from clarkia.models import steered
from clarkia.processes import Mixed, VarianceExploding
from clarkia.processes.times import block_time, spread

CORRELATION = 0.9


def pair_model():
    """A table model of columns a and b, standard normal of correlation .9, with the exact denoiser.

    Its codings map each column, of one group, to itself up to the spacing of 4,000 quantiles.
    """
    grid = norm.ppf((np.arange(4000) + 0.5) / 4000)
    frame = pd.DataFrame({"a": grid, "b": np.random.default_rng(0).permutation(grid)})
    codec = TableCodec.fit(pa.Table.from_pandas(frame, preserve_index=False), groups=1)
    assert [(column.level, column.residual) for column in codec.columns] == [(None, 0), (None, 1)]
    process = Mixed(numeric=VarianceExploding())
    covariance = torch.tensor([[1.0, CORRELATION], [CORRELATION, 1.0]], dtype=torch.float64)

    def denoiser(x_t, t, condition=None):
        x = x_t["numeric"].double()
        noise = process.blocks["numeric"].sigma(spread(block_time(t, "numeric").double(), x).expand_as(x))
        noisy = covariance + torch.diag_embed(noise.square().clamp(min=1e-10))
        return {
            "numeric": torch.linalg.solve(noisy, x[..., None])[..., 0].to(x_t["numeric"].dtype) @ covariance.float()
        }

    model = ck.TableModel()
    model._like = frame.head(0)
    return model._fitted(codec, RuleEncoding(codec.schema), process, denoiser, 10, [])


MODEL = pair_model()


def exact(low_a, low_b, draws=4_000_000):
    rows = multivariate_normal([0, 0], [[1, CORRELATION], [CORRELATION, 1]], seed=1).rvs(draws)
    return rows[(rows[:, 0] > low_a) & (rows[:, 1] > low_b)]


@pytest.mark.parametrize(("low_a", "low_b"), [(-100.0, -100.0), (1.0, -100.0), (-0.5, 0.8), (1.0, 1.0)])
def test_bounds_on_both_leave_the_law_of_the_pair_given_both(low_a, low_b):
    found = MODEL.sample(4000, where=f"a > {low_a} and b > {low_b}").to_numpy()
    truth = exact(low_a, low_b)
    assert (found > [low_a, low_b]).all()
    # Four standard errors, and a hundredth for the steps of the solver.
    margin = 4 * truth.std(0) / np.sqrt(len(found)) + 0.01
    assert (np.abs(found.mean(0) - truth.mean(0)) < margin).all()
    assert abs(np.corrcoef(found.T)[0, 1] - np.corrcoef(truth.T)[0, 1]) < 0.03


def test_a_bound_beside_a_stated_value_keeps_the_law_given_the_value():
    found = MODEL.sample(4000, given={"a": 1.5}, where="b > 1").b.to_numpy()
    mean, deviation = CORRELATION * 1.5, np.sqrt(1 - CORRELATION**2)
    truth = truncnorm((1 - mean) / deviation, np.inf, mean, deviation)
    assert abs(found.mean() - truth.mean()) < 4 * truth.std() / np.sqrt(4000) + 0.01
    assert abs(found.std() - truth.std()) < 0.02


def test_what_no_draw_meets_is_drawn_within_its_bounds_with_a_warning():
    with pytest.warns(UserWarning, match="without regard to the other columns"):
        found = MODEL.sample(50, given={"a": 1.5}, where="b < -1")
    assert (found.a == 1.5).all()
    assert (found.b < -1).all()


def test_rows_are_the_same_alone_and_among_others():
    where = "a > 0 and b > 0.5"
    many = MODEL.sample(300, where=where, seed=2)
    parts = MODEL.sample_batches(100, where=where, seed=2, start=200, rows_per_batch=33)
    assert pa.concat_tables(parts).to_pandas().equals(many[200:].reset_index(drop=True))


def test_hardly_more_rows_are_drawn_than_are_needed():
    """A row that is kept with probability p takes 1 / p draws; copies that double take at most twice that and one."""
    for share in (0.99, 0.9, 0.5, 0.1, 0.03):
        made = 0

        def draw(attempt, copies, rows, share=share):
            nonlocal made
            made += copies * len(rows)
            source = np.random.default_rng((attempt, copies, *rows[:1]))
            return source.random(copies * len(rows)) < share

        found = steered.tried(draw, lambda points: points, 4096, together=4096)
        assert found.good.all()
        assert found.points.all()
        assert made == found.made < (2 / share + 1) * 4096


def test_rare_rows_are_found_and_impossible_ones_given_up():
    def draw(share):
        def drawn(attempt, copies, rows):
            return np.random.default_rng((attempt, *rows[:1])).random(copies * len(rows)) < share

        return drawn

    assert steered.tried(draw(0.005), lambda points: points, 2000, together=4096).good.all()
    none = steered.tried(draw(0.0), lambda points: points, 50, together=4096)
    assert not none.good.any()
    assert none.made < 3 * steered.HOPELESS
    few = steered.tried(draw(0.1), lambda points: points, 1000, together=4096, most=2)
    assert few.good.mean() == pytest.approx(0.19, abs=0.06)
    assert few.made < 2000


@pytest.mark.parametrize("exactness", ["asymptotic", "heuristic"])
def test_an_excluded_row_stays_excluded_when_rewards_are_made_small(exactness):
    """Rows without the cell are excluded by minus infinity, which a negative scale must not turn round."""
    found = MODEL.sample(
        200,
        reward=lambda frame: np.where(frame.a < 0, -np.inf, frame.a),
        reward_scale=-1.0,
        num_particles=16,
        exactness=exactness,
    )
    assert (found.a > 0).mean() > 0.99
    assert found.a.mean() < (0.6 if exactness == "asymptotic" else 0.3)  # the half-normal law has .8


def test_what_contradicts_itself_is_refused_at_once():
    with pytest.raises(DataError, match="'a' was asked to be; leave one of them out"):
        MODEL.sample(3, given={"a": None}, complete=True)
    with pytest.raises(DataError, match="num_steps: expected a positive whole number"):
        MODEL.sample(3, num_steps=0)
