"""The cells that conditions speak of, drawn from oracles whose conditional law is a table."""

import itertools
import math

import pytest
import torch

from clarkia.errors import DataError
from clarkia.models.queries import Clue, known_cells
from clarkia.oracles import FiniteJoint, MixedJoint
from clarkia.processes import Masked, Mixed, VarianceExploding
from clarkia.random import RowBlocks, generator
from clarkia.spaces import Mixed as MixedSpace

SHAPE = (3, 4, 2)


def joint():
    table = torch.rand(SHAPE, generator=generator(2), dtype=torch.float64) ** 3
    return FiniteJoint(table / table.sum())


def clue(position, allowed, classes):
    share = torch.tensor([1.0 if k in allowed else 0.0 for k in range(classes)], dtype=torch.float64)
    unbounded = torch.full((classes,), torch.inf, dtype=torch.float64)
    return Clue(f"column {position}", ("levels", position), None, share.log(), -unbounded, unbounded)


def draw(law, clues, rows, seed=0):
    process = Mixed(levels=Masked(SHAPE))

    def denoiser(x_t, t, condition=None):
        return {"levels": law.denoiser(process.blocks["levels"])(x_t["levels"], t["levels"])}

    space = MixedSpace(levels=law.space)
    clues = sorted(clues, key=lambda c: not c.is_value)
    return known_cells(clues, denoiser, process, space, rows, RowBlocks(seed, 0, rows))


@pytest.mark.parametrize(
    "allowed",
    [({0, 2}, {1, 3}, {0, 1}), ({1}, {0, 1, 2}, {1}), ({0, 1}, {2}, {0, 1}), ({0, 2}, {0, 3}, {1})],
    ids=str,
)
def test_bounded_columns_have_their_joint_law_given_all_conditions(allowed):
    law, rows = joint(), 40_000
    values, mask = draw(law, [clue(i, allow, SHAPE[i]) for i, allow in enumerate(allowed)], rows)
    assert mask["levels"].all()
    exact = torch.zeros(SHAPE, dtype=torch.float64)
    for cell in itertools.product(*allowed):
        exact[cell] = law.log_prob(torch.tensor([cell])).exp()[0]
    exact = (exact / exact.sum()).flatten()
    strides = torch.tensor([SHAPE[1] * SHAPE[2], SHAPE[2], 1])
    found = torch.bincount((values["levels"] * strides).sum(1), minlength=len(exact)).double()
    possible = exact > 0
    assert found[~possible].sum() == 0
    statistic = ((found - rows * exact) ** 2 / (rows * exact))[possible].sum()
    freedom = int(possible.sum()) - 1
    # Above this a chi-square is one time in about 10,000 (Wilson and Hilferty's cube).
    assert statistic < max(freedom, 1) * (1 + 3.72 * math.sqrt(2 / (9 * max(freedom, 1)))) ** 3


def test_columns_without_conditions_stay_unknown():
    values, mask = draw(joint(), [clue(1, {0, 2}, 4)], 500)
    assert not mask["levels"][:, [0, 2]].any()
    assert (values["levels"][:, 0] == 3).all()
    assert set(values["levels"][:, 1].tolist()) == {0, 2}


def test_a_row_of_the_answer_does_not_depend_on_the_others():
    clues = [clue(0, {0, 2}, 3), clue(1, {1, 3}, 4)]
    few, many = draw(joint(), clues, 20, seed=4), draw(joint(), clues, 1500, seed=4)
    assert torch.equal(few[0]["levels"], many[0]["levels"][:20])


def test_conditions_that_cannot_meet_are_refused():
    table = torch.zeros(SHAPE, dtype=torch.float64)
    table[0, 0, 0] = table[1, 1, 1] = 0.5
    with pytest.raises(DataError, match="Hardly any row"):
        draw(FiniteJoint(table), [clue(0, {0, 2}, 3), clue(1, {1, 2}, 4)], 50)


def test_a_bounded_residual_lies_between_its_bounds_and_a_stated_one_is_exact():
    law = MixedJoint(torch.tensor([0.5, 0.5]), torch.zeros(2, 1), torch.ones(2, 1, 1))
    process = Mixed(numeric=VarianceExploding(), levels=Masked((2,)))
    low, high = torch.tensor([-0.5, 0.25]), torch.tensor([1.0, 0.25])
    share = torch.tensor([0.4, 1.0])
    bounded = Clue("x", ("levels", 0), 0, share.double().log(), low.double(), high.double())
    values, mask = known_cells([bounded], law.denoiser(process), process, law.space, 20_000, generator(0))
    assert mask["numeric"].all()
    first = values["levels"][:, 0] == 0
    assert abs(float(first.double().mean()) - 0.4 / 1.4) < 4 * math.sqrt(0.2 / 20_000)
    residual = values["numeric"][first, 0]
    assert (residual >= -0.5).all()
    assert (residual <= 1.0).all()
    density = [math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) for z in (-0.5, 1.0)]
    mass = 0.5 * (math.erf(1 / math.sqrt(2)) + math.erf(0.5 / math.sqrt(2)))
    assert abs(float(residual.mean()) - (density[0] - density[1]) / mass) < 4 * 0.43 / math.sqrt(len(residual))
    assert (values["numeric"][~first, 0] == 0.25).all()
