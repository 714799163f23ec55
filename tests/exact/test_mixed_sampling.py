"""The lock-step sampler on categories with a Gaussian each, against the exact law and TabDiff's known defect."""

import pytest
import torch

from clarkia import samplers, schedules
from clarkia.oracles import MixedJoint
from clarkia.processes import EDM, Masked, Mixed, VarianceExploding
from clarkia.random import generator
from clarkia.samplers import Ancestral, DPMSolverPP, Euler, Heun

WEIGHTS, MEANS, STD = [0.5, 0.3, 0.2], torch.tensor([[-1.5], [0.3], [1.6]], dtype=torch.float64), 0.35
ORACLE = MixedJoint(WEIGHTS, MEANS, STD**2)
ROWS = 50_000


def bayes_share(x):
    """Share of rows whose class is the most likely one given their number; 0.9806 under the exact law."""
    log_density = torch.tensor(WEIGHTS).log() - 0.5 * ((x["numeric"] - MEANS[:, 0]) / STD) ** 2
    return float((log_density.argmax(1) == x["levels"][:, 0]).double().mean())


def draw(process, solver, steps, seed=0, rows=ROWS):
    return samplers.sample(
        ORACLE.denoiser(process), process, num_samples=rows, shape=ORACLE.space, solver=solver,
        times=schedules.karras(steps, EDM), generator=generator(seed), dtype=torch.float64,
    )  # fmt: skip


@pytest.mark.parametrize(("steps", "share", "std"), [(25, 0.967, 0.375), (50, 0.9755, 0.360)])
@pytest.mark.parametrize("churn", [0.0, 1.0])
def test_tabdiff_sampler_has_its_published_defect_and_no_other(steps, share, std, churn):
    """Updating columns independently costs 1.4 and 0.5 points of agreement at 25 and 50 steps, whatever the churn."""
    process = Mixed(numeric=EDM, levels=Masked((3,)))
    x = draw(process, samplers.Mixed(Heun(churn=churn), Ancestral(remask=churn)), steps)
    # reference values are given to 0.001; four standard errors of 50,000 rows are 0.003
    assert bayes_share(x) == pytest.approx(share, abs=0.001 + 0.003)
    counts = torch.bincount(x["levels"][:, 0], minlength=3) / ROWS
    assert float((counts - torch.tensor(WEIGHTS)).abs().sum() / 2) < 0.004 + 0.004  # the defect, four standard errors
    within = torch.cat([x["numeric"][x["levels"][:, 0] == k] - MEANS[k] for k in range(3)])
    assert float(within.std()) == pytest.approx(std, abs=0.008)


def test_the_exact_law_itself_passes():
    assert bayes_share(ORACLE.sample(ROWS, generator=generator(1))) == pytest.approx(0.9806, abs=0.0025)


def test_the_same_with_other_schedules():
    numeric = VarianceExploding(rho=torch.tensor([12.0], dtype=torch.float64))
    process = Mixed(numeric=numeric, levels=Masked((3,), schedules.PolynomialMask(k=torch.tensor([2.0]))))
    x = draw(process, samplers.Mixed(Heun(churn=1.0), Ancestral(remask=1.0)), 50)
    assert bayes_share(x) == pytest.approx(0.9755, abs=0.005)


def test_one_evaluation_a_step_does_no_worse():
    process = Mixed(numeric=EDM, levels=Masked((3,)))
    for numeric in (DPMSolverPP(), Euler()):
        assert bayes_share(draw(process, samplers.Mixed(numeric), 50)) > 0.9755 - 0.004


@pytest.mark.parametrize("order", ["independent", "stratified"])
def test_two_categories_and_two_numbers(order):
    """A table of 2 x 3 combinations, full covariances: every cell's share, mean and covariance with a fine grid."""
    noise = generator(2)
    table = torch.tensor([[0.1, 0.2, 0.15], [0.25, 0.05, 0.25]])
    means = 2 * torch.randn(2, 3, 2, generator=noise, dtype=torch.float64)
    covariance = torch.tensor([[0.3, 0.15], [0.15, 0.2]]).expand(2, 3, 2, 2)
    oracle = MixedJoint(table, means, covariance, numeric="x", categorical="c")
    process = Mixed(x=EDM, c=Masked((2, 3)))
    n = 10_000
    state = samplers.sample(
        oracle.denoiser(process), process, num_samples=n, shape=oracle.space, num_steps=100,
        solver=samplers.Mixed(DPMSolverPP(), Ancestral(order)), generator=noise, dtype=torch.float64,
    )  # fmt: skip
    cells = oracle.categories.cell(state["c"])
    share = torch.bincount(cells, minlength=6) / n
    assert float((share - table.flatten()).abs().max()) < 0.005 + 4 * 0.0043  # steps, and four standard errors
    for k in range(6):
        rows = state["x"][cells == k]
        assert float((rows.mean(0) - means.reshape(6, 2)[k]).abs().max()) < 0.05 + 4 * (0.3 / len(rows)) ** 0.5
