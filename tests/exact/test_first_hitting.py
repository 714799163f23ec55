"""First-hitting sampling: the joint law by enumeration over orders, and the law of its moments."""

import itertools
import math

import pytest
import torch
from order_laws import CHAIN, PAIR, PROCESS, law_on_grid, variation
from scipy.stats import beta, chisquare, kstest

from clarkia import samplers, schedules
from clarkia.oracles import FiniteJoint
from clarkia.processes import Masked
from clarkia.random import generator
from clarkia.samplers.first_hitting import FirstHitting

JOINT = FiniteJoint((table := torch.rand(3, 2, 4, generator=generator(0), dtype=torch.float64)) / table.sum())


def law_over_orders(solver, joint, process):
    """The solver's law given the moments of each order of the cells, averaged over all orders."""
    length = len(joint.probabilities.shape)
    laws = []
    for order in itertools.permutations(range(length)):
        moments = torch.zeros(1, length, dtype=torch.float64)
        moments[0, list(order)] = torch.linspace(0.9, 0.1, length, dtype=torch.float64)
        start = process.mask_state().expand(1, length)
        grid = solver.own_times(start, process, moments)[:, 0]
        laws.append(law_on_grid(solver, joint, process, grid, moments))
    return torch.stack(laws).mean(0)


@pytest.mark.parametrize(("joint", "process"), [(CHAIN, PROCESS), (JOINT, Masked((3, 2, 4), "cosine"))])
def test_the_law_is_the_joint(joint, process):
    law = law_over_orders(FirstHitting(), joint, process)
    torch.testing.assert_close(law, joint.probabilities.flatten(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("group", "mismatch"), [(1, 0.0), (2, 0.5)])
def test_a_copied_pair(group, mismatch):
    """One cell a call never breaks the copy; two at once are independent fair bits."""
    law = law_over_orders(FirstHitting(group), PAIR, Masked((2, 2)))
    assert float(law[1] + law[2]) == pytest.approx(mismatch, abs=1e-12)


def test_groups_cost_their_total_correlation():
    """All four cells of the chain at once are four independent marginals; four groups of one cost nothing."""
    assert variation(law_over_orders(FirstHitting(4), CHAIN, PROCESS), CHAIN) == pytest.approx(0.636741, abs=1e-6)
    assert variation(law_over_orders(FirstHitting((1, 1, 1, 1)), CHAIN, PROCESS), CHAIN) < 1e-12
    two, grown = (variation(law_over_orders(FirstHitting(g), CHAIN, PROCESS), CHAIN) for g in (2, (1, 3)))
    assert 0.05 < two < 0.636741
    assert 0.05 < grown < 0.636741


SCHEDULES = {"linear": "linear", "cosine": "cosine", "short of 1": schedules.PolynomialMask(k=2.0, eps_max=0.1)}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_moments_are_order_statistics(schedule):
    """The j-th largest of the ``L`` levels ``1 - alpha`` is Beta(L - j + 1, j) on the levels below that of t = 1."""
    n, length = 20_000, 5
    process = Masked(7, schedule)
    x = process.prior(n, (length,))
    solver = FirstHitting()
    moments = solver.init(x, process, generator(1))
    grid = solver.own_times(x, process, moments)
    assert grid.shape == (length + 1, n)
    assert float(grid[-1].abs().max()) == 0
    highest = float(1 - process.alpha(torch.ones(1, dtype=torch.float64)))
    levels = (1 - process.alpha(grid[:-1])) / highest
    for j in range(1, length + 1):
        assert kstest(levels[j - 1].numpy(), beta(length - j + 1, j).cdf).pvalue > 1e-4  # false alarm 1e-4 each
    # the recursion u' = u V^(1/n): each next level over the one before, to the power of the cells left, is uniform
    ratio = (levels[2] / levels[1]) ** (length - 2)
    assert kstest(ratio.numpy(), "uniform").pvalue > 1e-4


def test_draws_follow_the_joint():
    """2e5 draws in the one loop, with a schedule a position; chi-square with a false alarm of 1e-4."""
    process = Masked((3, 2, 4), schedules.PolynomialMask(k=torch.tensor([1.0, 1.7, 3.0], dtype=torch.float64)))
    n = 200_000
    x = samplers.sample(JOINT.denoiser(process), process, num_samples=n, solver=FirstHitting(), generator=generator(2))
    counts = torch.bincount(JOINT.cell(x), minlength=24)
    assert chisquare(counts.numpy(), (JOINT.probabilities.flatten() * n).numpy()).pvalue > 1e-4


def test_known_cells_give_the_conditional_law():
    n = 100_000
    known = (torch.tensor([[1, 0, 2]]), torch.tensor([[False, True, False]]))
    process = Masked((3, 2, 4))
    x = samplers.sample(
        JOINT.denoiser(process), process, num_samples=n, known=known, solver=FirstHitting(), generator=generator(3)
    )
    assert bool((x[:, 1] == 0).all())
    law = JOINT.probabilities[:, 0].flatten() / JOINT.probabilities[:, 0].sum()
    counts = torch.bincount(x[:, 0] * 4 + x[:, 2], minlength=12)
    assert chisquare(counts.numpy(), (law * n).numpy()).pvalue > 1e-4  # false alarm 1e-4


def test_a_denoiser_that_knows_the_time_is_asked_at_the_moments():
    """A pair whose second cell follows p(t) at the time t of its reveal: its share is the mean of p over the moments.

    With one cell and linear alpha the moment is uniform, so a class with probability t has share 1/2; at the later of
    two moments, density ``2 (1 - t)``, it is 1/3.
    """

    def denoise(x, t, condition=None):
        p = t.double().reshape(-1, 1).expand(x.shape)
        return process.log_probs(torch.stack([p, 1 - p], -1).log(), x)

    n = 40_000
    for length in (1, 2):
        process = Masked((2,) * length)
        steps = samplers.Trace()
        x = samplers.sample(
            denoise, process, num_samples=n, solver=FirstHitting(), generator=generator(4), hooks=[steps]
        )
        last = steps.states[-2] if length == 2 else process.prior(n)
        drawn = x[process.is_masked(last)]
        share = float((drawn == 0).double().mean())
        assert share == pytest.approx(1 / (length + 1), abs=4 * 0.5 / math.sqrt(n))
