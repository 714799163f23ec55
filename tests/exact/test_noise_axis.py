"""Noise levels and weights: quantiles, times, and every published loss as a row of one table."""

import math

import pytest
import torch
from scipy.stats import kstest, norm

from clarkia.objectives import LogitNormal, LogNormal, Shifted, UniformTime, weights
from clarkia.objectives.noise import draw_levels, time_of
from clarkia.processes import EDM, RectifiedFlow, VarianceExploding, VariancePreserving
from clarkia.random import generator

N = 20_000


def test_logit_normal_times_are_log_normal_ratios():
    """Times drawn as a sigmoid of a normal number, against the law of noise levels. False alarm 1e-4."""
    times = torch.sigmoid(0.3 + 0.7 * torch.randn(N, generator=generator(0), dtype=torch.float64))
    ratio = RectifiedFlow().kappa(times).log()
    assert kstest(ratio.numpy(), norm(0.3, 0.7).cdf).pvalue > 1e-4
    drawn = draw_levels(LogitNormal(0.3, 0.7), N, generator(1))
    assert kstest(drawn.numpy(), norm(0.3, 0.7).cdf).pvalue > 1e-4
    u = torch.rand(9, generator=generator(2), dtype=torch.float64)
    assert torch.equal(LogitNormal(0.3, 0.7).quantile(u), LogNormal(0.3, 0.7).quantile(u))


def test_a_shift_of_three_moves_the_median_time_from_a_half_to_three_quarters():
    flow, half = RectifiedFlow(), torch.tensor([0.5], dtype=torch.float64)
    plain, shifted = LogitNormal(), Shifted(LogitNormal(), 3.0)
    assert float(time_of(flow, plain.quantile(half))) == pytest.approx(0.5, abs=1e-12)
    assert float(time_of(flow, shifted.quantile(half))) == pytest.approx(0.75, abs=1e-12)
    u = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    torch.testing.assert_close(shifted.quantile(u) - plain.quantile(u), torch.full_like(u, math.log(3)))
    t = time_of(flow, plain.quantile(u))
    torch.testing.assert_close(time_of(flow, shifted.quantile(u)), 3 * t / (1 + 2 * t), rtol=1e-12, atol=0)


@pytest.mark.parametrize("process", [EDM, RectifiedFlow(), VariancePreserving(), VariancePreserving("cosine")])
def test_uniform_times_come_back_as_they_were(process):
    u = torch.linspace(0.001, 0.999, 333, dtype=torch.float64)
    torch.testing.assert_close(time_of(process, UniformTime(process).quantile(u)), u, rtol=1e-9, atol=0)


def test_a_schedule_a_column_has_levels_a_column():
    process = VarianceExploding(rho=torch.tensor([3.0, 7.0], dtype=torch.float64))
    u = torch.tensor([0.2, 0.7], dtype=torch.float64)
    levels = UniformTime(process).quantile(u)
    assert levels.shape == (2, 2)
    torch.testing.assert_close(time_of(process, levels), u[:, None].expand(2, 2))


def test_a_batch_has_one_level_in_each_equal_share_of_the_law():
    u = norm(-1.2, 1.2).cdf(draw_levels(LogNormal(), 50, generator(3)).numpy())
    assert sorted((u * 50).astype(int)) == list(range(50))


def test_levels_that_a_process_lacks_are_its_ends():
    for process in (EDM, VariancePreserving(), RectifiedFlow()):
        t = time_of(process, torch.tensor([-60.0, 60.0], dtype=torch.float64))
        assert 0 < float(t[0]) < 1e-6
        assert float(t[1]) == pytest.approx(1.0)
    assert float(EDM.sigma(time_of(EDM, torch.tensor([-60.0], dtype=torch.float64)))) == pytest.approx(0.002)


# ------------------------------------------------------------------------------------------------------ weights

T = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)


def errors(process, kind):
    """The ratio of the squared error of another prediction to that of ``x0_hat``, from the conversions themselves."""
    x0, x_t = torch.randn(2, len(T), generator=generator(4), dtype=torch.float64)
    x0_hat = x0 + torch.randn(len(T), generator=generator(5), dtype=torch.float64)
    if kind == "network":  # F of EDM's preconditioning with data_std 0.7
        c_out = 0.7 * process.sigma(T) / (process.sigma(T) ** 2 + 0.49 * process.alpha(T) ** 2).sqrt()
        return c_out**-2
    values = [process.convert(x, x_t, T, "x0", kind) for x in (x0, x0_hat)]
    return ((values[1] - values[0]) / (x0_hat - x0)) ** 2


ROWS = {
    "x0": (VariancePreserving(), "x0", lambda snr: 1),
    "eps": (VariancePreserving(), "epsilon", lambda snr: 1),
    "eps of EDM": (EDM, "epsilon", lambda snr: 1),
    "v": (VariancePreserving("cosine"), "v", lambda snr: 1),
    "flow": (RectifiedFlow(), "velocity", lambda snr: 1),
    "edm": (EDM, "network", lambda snr: 1),
    "edm of a flow": (RectifiedFlow(), "network", lambda snr: 1),
    "min_snr": (VariancePreserving(), "epsilon", lambda snr: snr.clamp(max=5) / snr),
    "min_snr of v": (VariancePreserving(), "v", lambda snr: snr.clamp(max=5) / (snr + 1)),
    "p2": (VariancePreserving(), "epsilon", lambda snr: 1 / (1 + snr)),
}


@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_the_loss_in_its_own_parametrisation(row):
    process, kind, published = ROWS[row]
    s = process.kappa(T)
    weight = weights.WEIGHTS[row.split()[0]](0.7)(s)
    torch.testing.assert_close(weight, errors(process, kind) * published(s**-2), rtol=1e-10, atol=0)


def test_the_two_free_rows_follow_their_parameters():
    s = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    torch.testing.assert_close(weights.min_snr(2.0)(s), torch.tensor([2.0, 1.0, 0.01], dtype=torch.float64))
    torch.testing.assert_close(weights.p2(3.0, 0.5)(s), s**-2 / (3 + s**-2).sqrt())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LogNormal(std=0.0), "positive std"),
        (lambda: LogitNormal(mean=math.nan), "finite mean"),
        (lambda: Shifted(LogNormal(), 0.0), "positive"),
        (lambda: weights.min_snr(0.0), "gamma"),
        (lambda: weights.p2(k=0.0), "k:"),
    ],
)
def test_wrong_numbers_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
