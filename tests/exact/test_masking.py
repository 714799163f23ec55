"""Complementary masks and what is never masked."""

import itertools
import math

import pytest
import torch

from clarkia import measures
from clarkia.objectives.masked import MaskedELBO
from clarkia.objectives.masking import ComplementaryMasking, Given, Prompt, complementary
from clarkia.oracles import FiniteJoint
from clarkia.processes import Masked
from clarkia.random import generator

TABLE = torch.rand(3, 2, 3, generator=generator(0), dtype=torch.float64) + 0.02
LAW = FiniteJoint(TABLE / TABLE.sum())
PROCESS = Masked((3, 2, 3))


def blurred(x_t, t, condition=None):
    """Wrong, and differently so at every time."""
    log_probs = LAW.denoiser(PROCESS)(x_t, t).clamp(min=-30)
    share = t.double() if t.ndim > 1 else t.double()[:, None]
    return PROCESS.log_probs((0.4 + 0.5 * share.unsqueeze(-1)) * log_probs, x_t)


def test_every_cell_that_is_not_observed_is_masked_in_exactly_one_copy():
    observed = torch.rand(50, 4, generator=generator(1)) < 0.3
    draw = complementary(Masked(3), observed, generator(2))
    first, second = draw.masked.chunk(2)
    assert torch.equal(first ^ second, ~observed)
    assert not (first & second).any()
    assert bool(first.any(1)[~observed.all(1)].all())
    cells, count = (~observed).sum(1).repeat(2), draw.masked.sum(1)
    expected = torch.where(count == cells, 2.0, cells / count.clamp(min=1))
    torch.testing.assert_close(draw.weight[:, 0].float(), expected)
    assert bool(((draw.t >= 0) & (draw.t <= 1)).all())


def test_sets_of_a_size_are_alike_and_levels_follow_their_count():
    """Counts uniform from 1 to L and its complements from 0 to L - 1; the level of count c of mean c / (L + 1)."""
    n, length = 40_000, 3
    draw = complementary(Masked(3), torch.zeros(n, length, dtype=torch.bool), generator(3))
    for copy in range(2):
        masked, level = draw.masked.chunk(2)[copy], draw.t.chunk(2)[copy]
        for chosen in itertools.product([False, True], repeat=length):
            c = sum(chosen)
            share = float((masked == torch.tensor(chosen)).all(1).double().mean())
            p = 1 / length / math.comb(length, c) if c != (0, length)[copy] else 0.0
            assert abs(share - p) <= 4.5 * math.sqrt(p * (1 - p) / n)  # 14 sets: false alarm 1e-4
        for c in range(1, length + 1 - copy):
            levels = level[masked.sum(1) == c]
            deviation = math.sqrt(c * (length + 1 - c) / (length + 1) ** 2 / (length + 2) / len(levels))
            assert abs(float(levels.mean()) - c / (length + 1)) < 4 * deviation


def test_pairs_are_the_bound_with_less_variance_than_two_draws():
    x = LAW.states.repeat(300, 1)
    exact = measures.enumerated_elbo(blurred, PROCESS, LAW.states).nats
    pairs = -ComplementaryMasking(PROCESS)(blurred, x, generator(4)).double().reshape(300, -1)
    z = (pairs.mean(0) - exact) / (pairs.std(0) / math.sqrt(300))
    assert float(z.abs().max()) < 4.2  # 18 rows: false alarm 5e-4
    draws = [-MaskedELBO(PROCESS)(blurred, x, generator(5 + i)).double() for i in range(2)]
    twice = ((draws[0] + draws[1]) / 2).reshape(300, -1)
    assert float(pairs.var(0).mean()) < 0.75 * float(twice.var(0).mean())


def test_given_cells_are_conditions():
    """``-log p(x^2, x^3 | x^1)`` of an exact denoiser."""
    given = Given(torch.tensor([True, False, False]))
    x = LAW.states.repeat(200, 1)
    nats = ComplementaryMasking(PROCESS, given)(LAW.denoiser(PROCESS), x, generator(6)).double().reshape(200, -1)
    first = LAW.probabilities.sum((1, 2)).log()[LAW.states[:, 0]]
    z = (nats.mean(0) - (first - LAW.log_prob(LAW.states))) / (nats.std(0) / math.sqrt(200))
    assert float(z.abs().max()) < 4.2


def test_a_prompt_ends_with_its_first_separator():
    x = torch.tensor([[1, 2, 9, 3, 9, 4], [9, 1, 1, 1, 1, 1], [1, 2, 3, 4, 5, 6]])
    shown = Prompt(9)(x)
    assert shown.int().tolist() == [[1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0], [0] * 6]


@pytest.mark.parametrize("rows", [1, 3])
def test_rows_that_are_all_observed_cost_nothing(rows):
    everything = torch.ones(rows, 3, dtype=torch.bool)
    assert not complementary(PROCESS, everything, generator(0)).masked.any()
    loss = ComplementaryMasking(PROCESS, Given(everything[0]))(blurred, LAW.states[:rows], generator(1))
    assert torch.equal(loss, torch.zeros(rows))
