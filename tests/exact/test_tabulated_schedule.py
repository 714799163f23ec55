import math

import pytest
import torch

from clarkia.processes import VariancePreserving
from clarkia.schedules import TabulatedVP
from clarkia.testing import check_process

SIGNAL = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)


def test_the_table_is_met_at_its_levels():
    schedule = TabulatedVP.from_signal(SIGNAL)
    t = torch.arange(1001, dtype=torch.float64) / 1000
    torch.testing.assert_close(schedule.alpha(t)[1:] ** 2, SIGNAL, rtol=1e-12, atol=0)
    torch.testing.assert_close(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones_like(t), rtol=1e-14, atol=0)
    assert (schedule.alpha(t[:1]), schedule.sigma(t[:1])) == (1.0, 0.0)


def test_inverse_and_derivatives_between_levels():
    schedule = TabulatedVP.from_signal(SIGNAL)
    t = (torch.arange(1000, dtype=torch.float64) + 0.37) / 1000
    kappa = schedule.sigma(t) / schedule.alpha(t)
    torch.testing.assert_close(schedule.t_of_kappa(kappa), t, rtol=1e-11, atol=0)
    step = 1e-7
    for scale, slope in ((schedule.alpha, schedule.d_alpha), (schedule.sigma, schedule.d_sigma)):
        numeric = (scale(t + step) - scale(t - step)) / (2 * step)
        torch.testing.assert_close(slope(t), numeric, rtol=1e-6, atol=1e-7)
    assert float(schedule.t_of_kappa(torch.tensor(1e6, dtype=torch.float64))) > 1


def test_a_last_level_without_signal():
    schedule = TabulatedVP.from_signal([0.9, 0.5, 0.0])
    one = torch.ones(1, dtype=torch.float64)
    assert (float(schedule.alpha(one)), float(schedule.sigma(one))) == (0.0, 1.0)
    assert float(schedule.t_of_kappa(one * math.inf)) == 1.0


def test_the_contract_of_processes():
    check_process(VariancePreserving(TabulatedVP.from_signal(SIGNAL)), torch.randn(5, 3))


@pytest.mark.parametrize("signal", [[0.5, 0.9], [1.0, 0.5], [0.5, -0.1], [[0.5]]])
def test_tables_that_are_none(signal):
    with pytest.raises(ValueError, match="alpha_squared"):
        TabulatedVP.from_signal(signal)
    with pytest.raises(ValueError, match="angles"):
        TabulatedVP(torch.tensor([0.0, 0.5, 0.4]))
