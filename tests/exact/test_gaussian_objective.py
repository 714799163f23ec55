"""The denoising loss of every Gaussian process against closed forms."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from clarkia.denoisers import Preconditioned
from clarkia.objectives import Denoising, LevelBalance, LogNormal, RandomBoxes, RandomElements, UniformTime
from clarkia.objectives.weights import WEIGHTS
from clarkia.oracles import GaussianMixture
from clarkia.processes import EDM, RectifiedFlow, VarianceExploding, VariancePreserving
from clarkia.random import generator

PROCESSES = {"edm": EDM, "vp": VariancePreserving(), "flow": RectifiedFlow()}


@dataclass(frozen=True)
class At:
    """All rows at one noise level."""

    log_ratio: float

    def quantile(self, u):
        return torch.full_like(u, self.log_ratio)


class Zero(nn.Module):
    """A network as it is before training."""

    def forward(self, inputs, noise, condition=None):
        return torch.zeros_like(inputs)


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("level", [-4.0, -2.0, -0.7, 0.5, 3.0])
def test_an_untrained_network_has_edm_loss_one_at_every_level(name, level):
    """A million numbers, each term a chi-square of variance 2: within 0.5 %, which is 3.5 standard errors."""
    process = PROCESSES[name]
    x0 = 0.5 * torch.randn(100, 10_000, generator=generator(0))
    loss = Denoising(process, noise=At(level))(Preconditioned(Zero(), process, data_std=0.5), x0, generator(1))
    assert float(loss.mean()) == pytest.approx(1.0, abs=0.005)


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("level", [-2.0, 1.0])
def test_the_loss_of_a_normal_law_is_its_weighted_posterior_variance(name, weight, level):
    process, variance, n = PROCESSES[name], 0.4, 40_000
    x0 = variance**0.5 * torch.randn(n, 2, generator=generator(2), dtype=torch.float64)
    oracle = GaussianMixture([1.0], [[0.0, 0.0]], [variance]).denoiser(process)
    loss = Denoising(process, weight, At(level), data_std=0.7)(oracle, x0, generator(3))
    s = torch.tensor([math.exp(level)], dtype=torch.float64)
    expected = float(WEIGHTS[weight](0.7)(s) * variance * s**2 / (variance + s**2))
    assert abs(float(loss.mean()) - expected) < 4 * float(loss.std()) / math.sqrt(n)


def test_a_weight_of_ones_own():
    x0 = torch.randn(64, 3, generator=generator(2))
    denoiser = Preconditioned(Zero(), EDM, data_std=0.5)
    named, own = (Denoising(EDM, weight)(denoiser, x0, generator(4)) for weight in ("eps", lambda s: 3 / s**2))
    torch.testing.assert_close(own, 3 * named)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("level", [-40.0, -9.0, 9.0, 40.0])
@pytest.mark.parametrize("name", PROCESSES)
def test_no_level_overflows(name, weight, level):
    denoiser = Preconditioned(nn.Sequential(nn.Identity()), PROCESSES[name], data_std=0.5)
    denoiser.network.forward = lambda inputs, noise, condition=None: torch.sin(3 * inputs)
    x0 = torch.randn(32, 3, generator=generator(5), requires_grad=True)
    loss = Denoising(PROCESSES[name], weight, At(level))(denoiser, x0, generator(6))
    assert bool(loss.isfinite().all())
    assert bool(torch.autograd.grad(loss.sum(), x0)[0].isfinite().all())


def test_times_are_those_of_the_levels():
    seen = []

    def denoise(x_t, t):
        seen.append(t)
        return x_t

    Denoising(EDM, noise=LogNormal(0.0, 1.0))(denoise, torch.zeros(1000, 2), generator(7))
    ratios = EDM.kappa(seen[0].double()).log()
    assert float(ratios.mean()) == pytest.approx(0.0, abs=0.01)
    assert float(ratios.std()) == pytest.approx(1.0, abs=0.01)


def test_observed_elements_are_clean_and_cost_nothing():
    x0 = torch.randn(500, 6, generator=generator(8))
    seen = {}

    def denoise(x_t, t):
        seen.update(x_t=x_t, t=t)
        return torch.where(t == 0, x_t + 100.0, x_t)  # wrong only where it is observed

    shown = RandomElements(0.5)
    loss = Denoising(EDM, "x0", At(0.0), observed=shown)(denoise, x0, generator(9))
    clean = seen["t"] == 0
    assert seen["t"].shape == x0.shape
    assert torch.equal(seen["x_t"][clean], x0[clean])
    assert 0.2 < float(clean.float().mean()) < 0.3  # half the rows show half of their elements
    noise = (seen["x_t"] - x0).square()
    expected = noise.sum(1) / (~clean).sum(1).clamp(min=1)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-6)


def test_a_row_that_is_all_observed_costs_nothing():
    def everything(x0, generator):
        return torch.ones_like(x0, dtype=torch.bool)

    x0 = torch.randn(4, 3, generator=generator(8))
    assert Denoising(EDM, observed=everything)(lambda x_t, t: x_t, x0, generator(0)).tolist() == [0.0] * 4


def test_boxes_hide_a_box_of_all_channels_or_what_is_around_one():
    shown = RandomBoxes(1.0)(torch.zeros(4000, 3, 5, 7), generator(10))
    hidden = ~shown[:, 0]
    inside, around = is_box(hidden), is_box(~hidden)
    assert bool((inside | around).all())
    assert bool(hidden.any((1, 2)).all())
    # A side is whole with a chance of 1/2, or as a span of 5 (2 in 25) or 7 points (2 in 49).
    rows, columns = 0.5 + 0.5 * 2 / 25, 0.5 + 0.5 * 2 / 49
    assert hidden.all((1, 2)).double().mean().item() == pytest.approx(rows * columns, abs=0.025)
    assert (inside & ~around).double().mean().item() > 0.08  # holes that do not touch the edge
    assert (around & ~inside).double().mean().item() > 0.08
    upper = torch.zeros(5, 7, dtype=torch.bool)
    upper[:2] = True  # as the box that is shown, or as what is around the hidden rows 2 to 4
    chance = 2 * 0.5 * (0.5 * 2 / 25) * columns
    assert (shown[:, 0] == upper).all((1, 2)).double().mean().item() == pytest.approx(chance, abs=0.008)


def is_box(region):
    rows, columns = region.any(2), region.any(1)
    whole = (region == rows[:, :, None] & columns[:, None, :]).all(2).all(1)
    return whole & (rows.int().diff(dim=1).abs().sum(1) <= 2) & (columns.int().diff(dim=1).abs().sum(1) <= 2)


def test_a_condition_is_handed_on():
    seen = []

    def denoise(x_t, t, condition=None):
        seen.append(condition)
        return x_t

    condition = {"label": torch.zeros(4, dtype=torch.int64)}
    loss = Denoising(EDM)
    loss(denoise, torch.zeros(4, 2), generator(0), condition)
    loss(denoise, torch.zeros(4, 2), generator(0))
    assert seen[0] is condition
    assert seen[1] is None


def test_a_schedule_a_column():
    process = VarianceExploding(rho=torch.tensor([3.0, 9.0], dtype=torch.float64))
    seen = {}

    def denoise(x_t, t):
        seen["t"] = t
        return x_t

    x0 = torch.zeros(200, 2, dtype=torch.float64)
    loss = Denoising(process, "eps", UniformTime(process))(denoise, x0, generator(11))
    torch.testing.assert_close(seen["t"][:, 0], seen["t"][:, 1])
    assert float(loss.mean()) == pytest.approx(1.0, abs=4 * math.sqrt(1 / 200))


def test_the_balance_learns_the_logarithm_of_the_loss():
    """The minimum of E[L / exp(u) + u] is u = log E[L | level], and the balanced loss is then 1 + u."""
    balance = LevelBalance(seed=0)
    optimizer = torch.optim.LBFGS(balance.parameters(), max_iter=150, line_search_fn="strong_wolfe")
    levels = torch.linspace(-5, 3, 64)
    losses = torch.exp(1.5 * torch.sin(levels))

    def mean():
        optimizer.zero_grad()
        value = balance(losses, levels).mean()
        value.backward()
        return value

    optimizer.step(mean)
    with torch.no_grad():
        torch.testing.assert_close(balance.level(levels), losses.log(), rtol=0, atol=0.05)
        torch.testing.assert_close(balance(losses, levels), 1 + losses.log(), rtol=0, atol=0.05)


def test_a_balanced_loss_and_the_plain_one_beside_it():
    x0 = torch.randn(32, 2, generator=generator(12))
    balance = LevelBalance()
    objective = Denoising(EDM, balance=balance)
    denoiser = Preconditioned(Zero(), EDM, data_std=0.5)
    plain, levels = objective.with_levels(denoiser, x0, generator(13))
    torch.testing.assert_close(plain, Denoising(EDM)(denoiser, x0, generator(13)))
    torch.testing.assert_close(objective(denoiser, x0, generator(13)), balance(plain, levels))
    process = VarianceExploding(rho=torch.tensor([3.0, 9.0]))
    with pytest.raises(ValueError, match="one noise level a row"):
        Denoising(process, noise=UniformTime(process), balance=balance)(denoiser, x0, generator(13))


@pytest.mark.parametrize(("wrong", "words"), [({"weight": "snr"}, "weight"), ({"data_std": 0.0}, "data_std")])
def test_wrong_arguments(wrong, words):
    with pytest.raises(ValueError, match=words):
        Denoising(EDM, **wrong)


def test_what_observed_returns_is_checked():
    with pytest.raises(ValueError, match="bool"):
        Denoising(EDM, observed=lambda x0, generator: x0)(lambda x_t, t: x_t, torch.zeros(2, 2), generator(0))
