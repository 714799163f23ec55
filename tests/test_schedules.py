import pytest
import torch

from clarkia import schedules
from clarkia.processes import EDM, Masked, RectifiedFlow, VarianceExploding, VariancePreserving
from clarkia.schedules import (
    CosineMask,
    CosineVP,
    LearnedPolynomialMask,
    LearnedPowerMean,
    LinearVP,
    PolynomialMask,
    PowerMean,
)

T = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
COLUMNS = torch.tensor([1.0, 1.5, 3.0], dtype=torch.float64)


@pytest.mark.parametrize(
    "schedule",
    [
        PolynomialMask(),
        PolynomialMask(COLUMNS, 1e-3, 1e-5),
        CosineMask(),
        CosineMask(late=True),
        LearnedPolynomialMask(3).double(),
    ],
)
def test_mask_schedules_invert_and_differentiate(schedule):
    t = T.clone().requires_grad_()
    alpha = schedule.alpha(t)
    (slope,) = torch.autograd.grad(alpha.sum(), t)
    expected = schedule.d_alpha(T)
    torch.testing.assert_close(slope, expected.sum(-1) if expected.ndim == 2 else expected, rtol=1e-9, atol=1e-9)
    back = schedule.t_of_alpha(alpha.detach())
    torch.testing.assert_close(back, T[:, None].expand_as(back) if back.ndim == 2 else T, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("schedule", [LinearVP(), CosineVP()])
def test_vp_schedules_invert_and_differentiate(schedule):
    t = T.clone().requires_grad_()
    for value, derivative in ((schedule.alpha, schedule.d_alpha), (schedule.sigma, schedule.d_sigma)):
        (slope,) = torch.autograd.grad(value(t).sum(), t)
        torch.testing.assert_close(slope, derivative(T), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(schedule.alpha(T) ** 2 + schedule.sigma(T) ** 2, torch.ones_like(T), rtol=1e-12, atol=0)
    torch.testing.assert_close(schedule.t_of_kappa(schedule.sigma(T) / schedule.alpha(T)), T, rtol=1e-9, atol=1e-9)


def test_power_mean_differentiates_and_meets_its_ends():
    t = T.clone().requires_grad_()
    schedule = PowerMean()
    (slope,) = torch.autograd.grad(schedule.sigma(t).sum(), t)
    torch.testing.assert_close(slope, schedule.d_sigma(T), rtol=1e-9, atol=0)
    ends = schedule.sigma(torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([0.002, 80.0], dtype=torch.float64), rtol=1e-9, atol=0)


def test_a_column_of_a_tensor_schedule_is_that_of_its_own_number():
    t = torch.rand(5, 3, dtype=torch.float64)
    for kind, name in ((PowerMean, "sigma"), (PolynomialMask, "alpha")):
        keyword = "rho" if kind is PowerMean else "k"
        together = kind(**{keyword: COLUMNS + 4})
        for time in (t, t[:, 0]):
            values = getattr(together, name)(time)
            assert values.shape == (5, 3)
            for column in range(3):
                single = kind(**{keyword: float(COLUMNS[column] + 4)})
                alone = getattr(single, name)(time[:, column] if time.ndim == 2 else time)
                torch.testing.assert_close(values[:, column], alone, rtol=1e-12, atol=0)


def test_gradients_reach_learned_schedules():
    """Rho through the noisy state, k through the weight of the bound."""
    power, mask = LearnedPowerMean(2), LearnedPolynomialMask(2)
    t = torch.full((8,), 0.4)
    VarianceExploding(schedule=power).corrupt(torch.zeros(8, 2), t).square().sum().backward()
    assert power.raw.grad.abs().min() > 0
    Masked((3, 3), mask).weight(torch.tensor([[0.4, 0.0]])).sum().backward()
    assert mask.raw.grad[0].abs() > 0
    assert mask.raw.grad[1] == 0  # t = 0: nothing is masked, and no NaN comes back
    gradient = torch.autograd.grad(mask.alpha(torch.tensor([0.0, 1.0])).sum(), mask.raw)[0]
    assert gradient.isfinite().all()


@pytest.mark.parametrize(
    "process",
    [EDM, VariancePreserving(), VariancePreserving("cosine"), RectifiedFlow(), VarianceExploding(rho=COLUMNS + 6)],
)
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_grids_fall_from_one_to_zero(process, steps):
    grids = (
        schedules.uniform(steps),
        schedules.quadratic(steps),
        schedules.quadratic(steps, 0.5),
        schedules.discrete(steps, 10),
        schedules.discrete(steps, 1000, "linspace"),
        schedules.shift(schedules.uniform(steps), 3.0),
        schedules.log_snr(steps, process),
        schedules.polyexp(steps, process, 0.7),
        schedules.karras(steps, process),
        schedules.beta(steps, process),
        schedules.cosine(steps, process),
        schedules.align_your_steps(steps, process),
    )
    for grid in grids:
        assert grid.shape == (steps + 1,)
        assert grid.dtype == torch.float64
        assert (float(grid[0]), float(grid[-1])) == (1.0, 0.0)
        assert bool((grid[1:] < grid[:-1]).all())


def test_grids_are_even_where_they_say():
    """EDM: 80 to 0.002 evenly in the seventh root; log-SNR: evenly in the logarithm, any process."""
    root = EDM.sigma(schedules.karras(18, EDM)[:-2]) ** (1 / 7)
    assert float(root.diff().diff().abs().max()) < 1e-6
    for process in (EDM, VariancePreserving()):
        level = process.log_snr(schedules.log_snr(20, process)[:-2])
        assert float(level.diff().diff().abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: schedules.uniform(0), "num_steps"),
        (lambda: schedules.karras(5, Masked(3)), "Gaussian process, found Masked"),
        (lambda: schedules.karras(5, EDM, kappa_min=90.0), "kappa_min"),
        (lambda: schedules.karras(5, EDM, kappa_min=0.0), "kappa_min"),
        (lambda: schedules.log_snr(5, EDM, kappa_max=float("inf")), "kappa_max"),
        (lambda: schedules.karras(5, EDM, rho=0.0), "rho"),
        (lambda: schedules.polyexp(5, EDM, -1.0), "rho"),
        (lambda: schedules.beta(5, EDM, 0.0), "a: expected"),
        (lambda: schedules.beta(5, EDM, 1.0, float("nan")), "b: expected"),
        (lambda: schedules.beta(0, EDM), "num_steps"),
        (lambda: schedules.cosine(5, Masked(3)), "Gaussian process, found Masked"),
        (lambda: schedules.cosine(0, EDM), "num_steps"),
        (lambda: schedules.quadratic(5, 0.0), "power"),
        (lambda: schedules.discrete(0), "num_steps"),
        (lambda: schedules.discrete(11, 10), "at most 10"),
        (lambda: schedules.discrete(5, 10, "even"), "spacing"),
        (lambda: schedules.shift(schedules.uniform(3), 0.0), "scale"),
        (lambda: schedules.shift(torch.tensor([0.0, 1.0]), 2.0), "decreasing"),
        (lambda: schedules.align_your_steps(10, EDM, "sd3"), "preset"),
        (lambda: schedules.align_your_steps(0, EDM), "num_steps"),
        (lambda: schedules.interpolated(3, EDM, [1.0]), "levels"),
        (lambda: schedules.interpolated(3, EDM, [1.0, 2.0]), "levels"),
        (lambda: schedules.interpolated(3, EDM, [1.0, 0.0]), "levels"),
        (lambda: schedules.shortest_paths(torch.zeros(3, 4), 1), "square"),
        (lambda: schedules.shortest_paths(torch.zeros(1, 1), 1), "square"),
        (lambda: schedules.shortest_paths(torch.zeros(3, 3), 3), "max_moves"),
        (lambda: schedules.shortest_paths(torch.full((3, 3), torch.nan), 1), "NaN"),
        (lambda: PowerMean(sigma_min=2.0, sigma_max=1.0), "sigma_min"),
        (lambda: PowerMean(rho=-1.0), "rho"),
        (lambda: PolynomialMask(k=0.0), "k:"),
        (lambda: PolynomialMask(eps_max=0.7, eps_min=0.4), "eps"),
        (lambda: LinearVP(beta_min=0.0), "beta"),
        (lambda: schedules.check_times(torch.tensor([1.0, 0.5, 0.6, 0.0])), "at step 1"),
        (lambda: schedules.check_times(torch.tensor([1.0, 1.0, 0.0])), "repetition at step 0"),
        (lambda: schedules.check_times(torch.tensor([1.5, 0.0])), r"\[0, 1\]"),
        (lambda: schedules.check_times(torch.tensor([1.0])), "shape"),
    ],
)
def test_impossible_schedules_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
