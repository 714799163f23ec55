"""Solvers on pictures without a network: the exact denoiser of 1200 digits under a kernel."""

import pytest
import torch

from clarkia import samplers, schedules
from clarkia.oracles import KernelSmoothed
from clarkia.processes import VarianceExploding
from clarkia.random import generator
from clarkia.samplers import DDIM, DPMSolverPP, Heun, UniPC

VE = VarianceExploding(0.03, 40.0)


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    denoise = KernelSmoothed(load_digits().data[:1200] / 8 - 1, 0.15).denoiser(VE)
    start = VE.prior(400, (64,), generator=generator(0), dtype=torch.float64)

    def walk(solver, times):
        return samplers.sample(denoise, VE, initial=start, solver=solver, times=times)

    exact = walk(UniPC(3), schedules.log_snr(300, VE))

    def error(solver, steps):
        """Median over the rows of the root mean squared difference of a picture's points."""
        x = walk(solver, schedules.log_snr(steps, VE))
        return float((x - exact).square().mean(1).sqrt().median())

    return error


def test_errors_at_ten_and_twenty_evaluations(digits):
    """Reference values made with other noise: medians of 400 rows, which may be a third apart."""
    reference = {
        DDIM(): (0.043, 0.020),
        DPMSolverPP(): (0.010, 0.002),
        UniPC(): (0.007, 0.003),
    }
    for solver, expected in reference.items():
        for steps, value in zip((10, 20), expected, strict=True):
            assert digits(solver, steps) == pytest.approx(value, rel=0.35), (solver, steps)
    assert digits(Heun(), 10) == pytest.approx(0.016, rel=0.35)  # 19 evaluations


def test_the_order_of_the_solvers_at_few_evaluations(digits):
    """Two nodes beat one; two evaluations a step do not pay for themselves below twenty."""
    for solver in (DPMSolverPP(), UniPC()):
        assert digits(solver, 5) < 0.5 * digits(DDIM(), 5)
        assert digits(solver, 10) < 0.5 * digits(DDIM(), 10)
        assert digits(solver, 9) < 0.5 * digits(Heun(), 5)
        assert digits(solver, 19) < 0.5 * digits(Heun(), 10)
