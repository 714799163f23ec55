"""Characteristic functions: their gaps, and the distance against kernels and quadrature."""

import math

import pytest
import torch

from clarkia.measures import two_sample
from clarkia.measures.kernels import Gaussian
from clarkia.measures.two_sample import GaussianFrequencies, LearnedFrequencies
from clarkia.measures.two_sample.characteristic import gaps
from clarkia.random import generator, randn

F64 = torch.float64


def sets(n=40, m=30, d=3, seed=0):
    noise = generator(seed)
    return randn((n, d), noise, dtype=F64), 0.6 * randn((m, d), noise, dtype=F64) + 0.5


def test_gaps_add_up_to_the_squared_modulus():
    x, y = sets()
    t = randn((500, 3), generator(1), dtype=F64)
    phi_x, phi_y = (torch.exp(1j * (z @ t.T)).mean(0) for z in (x, y))
    amplitude, phase = gaps(x, y, t, chunk=7)
    torch.testing.assert_close(amplitude, (phi_x.abs() - phi_y.abs()).square(), atol=1e-14, rtol=0)
    products = 2 * (phi_x.abs() * phi_y.abs() - phi_x.real * phi_y.real - phi_x.imag * phi_y.imag)
    torch.testing.assert_close(phase, products, atol=1e-12, rtol=0)
    torch.testing.assert_close(amplitude + phase, (phi_x - phi_y).abs().square(), atol=1e-12, rtol=0)


def test_power_two_is_the_discrepancy_of_a_gaussian_kernel():
    """Frequencies N(0, 0.7^2 I) and a kernel of bandwidth 1/0.7; 5 Monte-Carlo standard errors: false alarm 6e-7."""
    x, y = sets()
    kernel = float(two_sample.mmd2(x, y, kernel=Gaussian(1 / 0.7), unbiased=False))
    t = 0.7 * randn((400_000, 3), generator(2), dtype=F64)
    parts = torch.cat([sum(gaps(x, y, some)) for some in t.split(20_000)])
    error = float(parts.std()) / len(parts) ** 0.5
    assert abs(float(parts.mean()) - kernel) < 5 * error
    assert error < 3e-4
    found = two_sample.characteristic_distance(x, y, frequencies=t[:1000], power=2)
    assert float(found) == pytest.approx(float(parts[:1000].mean()), abs=1e-13)
    drawn = two_sample.characteristic_distance(
        x, y, frequencies=GaussianFrequencies(0.7), n_frequencies=50_000, power=2, generator=generator(3)
    )
    assert float(drawn) == pytest.approx(kernel, abs=5 * error * 8**0.5)


def test_normal_laws_by_quadrature():
    """N(0, I) and N((1, 0), diag(0.5, 2)), frequencies N(0, I): 0.13175 squared and 0.2248 for the modulus.

    The characteristic functions are known, so a grid over t is exact; the measure itself runs on 20,000 rows.
    """
    grid = torch.linspace(-7, 7, 281, dtype=F64)
    t = torch.cartesian_prod(grid, grid)
    weight = torch.exp(-0.5 * t.square().sum(1))
    weight = weight / weight.sum()
    phi_x = torch.exp(-0.5 * t.square().sum(1)) + 0j
    phi_y = torch.exp(1j * t[:, 0] - 0.25 * t[:, 0].square() - t[:, 1].square())
    modulus = (phi_x - phi_y).abs()
    assert float((weight * modulus.square()).sum()) == pytest.approx(0.13175, abs=5e-6)
    limit = float((weight * modulus).sum()) / math.sqrt(2)
    assert limit == pytest.approx(0.2248, abs=6e-5)
    noise = generator(4)
    x = randn((20_000, 2), noise, dtype=F64)
    y = randn((20_000, 2), noise, dtype=F64) * torch.tensor([0.5, 2.0]).sqrt() + torch.tensor([1.0, 0.0])
    found = two_sample.characteristic_distance(
        x, y, frequencies=GaussianFrequencies(1.0), n_frequencies=2000, generator=noise
    )
    # 2000 frequencies: standard error 0.13 / sqrt(2000) = 0.003; rows add about 0.005 / sqrt(2)
    assert float(found) == pytest.approx(limit, abs=0.013)


def test_alpha_and_beta_weigh_amplitude_and_phase():
    """A shift changes phases only; a change of scale about 0 amplitudes only (for a symmetric set)."""
    x, _ = sets()
    symmetric = torch.cat([x, -x])
    t = 0.3 * randn((200, 3), generator(5), dtype=F64)

    def distance(y, alpha, beta):
        return float(two_sample.characteristic_distance(symmetric, y, frequencies=t, alpha=alpha, beta=beta, power=2))

    assert distance(symmetric + 0.5, 1.0, 0.0) == pytest.approx(0, abs=1e-14)
    assert distance(symmetric + 0.5, 0.0, 1.0) > 0.05
    # low frequencies: both functions are positive
    near = 0.1 * t
    assert float(gaps(symmetric, 1.5 * symmetric, near)[1].max()) < 1e-15
    assert float(gaps(symmetric, 1.5 * symmetric, near)[0].max()) > 1e-5


def test_equal_moments_are_told_apart():
    """N(0, 1) and a coin of +-1: a distance of means and covariances sees nothing."""
    coin = torch.tensor([[-1.0], [1.0]], dtype=F64).repeat(500, 1)
    x = torch.special.ndtri((torch.arange(1000, dtype=F64) + 0.5) / 1000)[:, None]
    x = x / x.square().mean().sqrt()  # variance exactly 1, as the coin's
    assert float(two_sample.frechet_distance(x, coin)) == pytest.approx(0, abs=1e-12)
    found = two_sample.characteristic_distance(x, coin, frequencies=GaussianFrequencies(1.0), generator=generator(6))
    assert float(found) > 0.05


def test_learned_frequencies_find_the_difference():
    """Two laws that differ in one of ten columns: learned frequencies on held-out halves exceed random ones."""
    noise = generator(7)
    x, y = randn((1000, 10), noise, dtype=F64), randn((1000, 10), noise, dtype=F64)
    y[:, 0] = 0.2 * y[:, 0] + torch.where(y[:, 1] > 0, 1.0, -1.0) * 0.98
    y[:, 1] = randn((1000,), noise, dtype=F64)
    random = two_sample.characteristic_distance(
        x, y, frequencies=GaussianFrequencies(0.5), n_frequencies=256, generator=noise
    )
    learned = two_sample.characteristic_distance(
        x, y, frequencies=LearnedFrequencies(), n_frequencies=64, generator=noise
    )
    assert float(learned) > 2 * float(random)
    # and no difference is found where there is none: |phi_X - phi_Y|^2 is about 2/500 on halves
    same = two_sample.characteristic_distance(
        x, randn((1000, 10), noise, dtype=F64), frequencies=LearnedFrequencies(), n_frequencies=64,
        generator=noise,
    )  # fmt: skip
    assert float(same) < 0.09  # sqrt(4/1000 / 2) = 0.045, twice


def test_equal_sets_are_at_zero_with_a_gradient():
    x, _ = sets()
    z = x.clone().requires_grad_()
    for power in (1, 2):
        value = two_sample.characteristic_distance(z, x, power=power, n_frequencies=50, generator=generator(8))
        (slope,) = torch.autograd.grad(value, z)
        assert float(value.detach()) == 0
        assert bool((slope == 0).all())


def test_finite_samples_of_one_law_are_apart_by_the_floor():
    """``E|phi_X - phi_Y|^2 = (1/n + 1/m) E(1 - |phi|^2)``: 60 repetitions, 4 standard errors, false alarm 2e-4."""
    t = randn((300, 2), generator(9), dtype=F64)
    share = float((1 - torch.exp(-t.square().sum(1))).mean())
    values = torch.tensor(
        [
            float(
                two_sample.characteristic_distance(
                    randn((200, 2), generator(10, i), dtype=F64),
                    randn((100, 2), generator(11, i), dtype=F64),
                    frequencies=t,
                    power=2,
                )
            )
            for i in range(60)
        ]
    )
    assert abs(float(values.mean()) - (1 / 200 + 1 / 100) * share) < 4 * float(values.std()) / 60**0.5
