"""The regimes of kernel densities in many dimensions, from their formulas and from normal rows."""

import math

import pytest
import torch
from scipy.integrate import quad

from clarkia import measures
from clarkia.measures import density
from clarkia.processes import VarianceExploding, VariancePreserving
from clarkia.random import generator, randn

TABLE = {
    0.1: (1.3708, 1.9386, 1.0386, 0.1378),
    0.2: (1.0457, 1.4788, 0.8917, 0.0854),
    0.5: (0.6521, 0.9223, 0.6224, 0.0259),
    1.0: (0.3721, 0.5262, 0.3693, 0.0040),
}


@pytest.mark.parametrize("alpha", TABLE)
def test_reference_values(alpha):
    """To the digits they are printed with."""
    found = density.kernel_regimes(alpha)
    values = (found.condensation, found.normal, found.optimal, found.divergence)
    assert values == pytest.approx(TABLE[alpha], abs=5.1e-5)
    u = found.condensation**-2
    assert 0.5 * math.log1p(u) - u / (2 * (1 + u) ** 2) == pytest.approx(alpha, abs=1e-12)
    assert found.optimal**2 == pytest.approx(found.condensation**2 * (1 - 1 / (1 + u) ** 2), abs=1e-12)


def test_reference_values_at_another_precision():
    isotropic = density.kernel_regimes(0.3)
    assert (isotropic.condensation, isotropic.normal, isotropic.optimal) == pytest.approx(
        (0.868, 1.227, 0.784), abs=1e-3
    )
    stretched = density.kernel_regimes(0.3, [4.0, 0.25, 0.25, 0.25])
    assert (stretched.condensation, stretched.normal, stretched.optimal) == pytest.approx(
        (0.761, 1.077, 0.604), abs=1e-3
    )


def test_how_many_rows_contribute():
    """All of them to a wide kernel, none at the condensation; the cost starts as ``3 u^2 / 4``."""
    spectrum = [4.0, 0.25, 0.25, 0.25]
    assert density.contributing_entropy(1e6, 0.3, spectrum) == pytest.approx(0.3, abs=1e-9)
    at = density.kernel_regimes(0.3, spectrum).condensation
    assert density.contributing_entropy(at, 0.3, spectrum) == pytest.approx(0, abs=1e-12)
    assert density.contributing_entropy(0.9 * at, 0.3, spectrum) < 0
    u = 1e-4
    assert 1 - density.contributing_entropy(u**-0.5, 1.0) == pytest.approx(0.75 * u**2, rel=2e-4)


@pytest.mark.parametrize("spectrum", [1.0, [2.0, 0.5, 0.1]])
def test_the_divergence_is_least_at_the_optimum_and_has_no_jump(spectrum):
    alpha = 0.4
    found = density.kernel_regimes(alpha, spectrum)
    at_optimum = density.kernel_divergence(found.optimal, alpha, spectrum)
    assert at_optimum == pytest.approx(found.divergence, abs=1e-12)
    for factor in (0.97, 1.03):
        assert density.kernel_divergence(factor * found.optimal, alpha, spectrum) > at_optimum
    left, right = (density.kernel_divergence(found.condensation * (1 + eps), alpha, spectrum) for eps in (-1e-9, 1e-9))
    assert left == pytest.approx(right, abs=1e-7)


def test_scale_and_subspaces():
    base, scaled = density.kernel_regimes(0.3, [2.0, 0.5]), density.kernel_regimes(0.3, [18.0, 4.5])
    assert scaled.condensation == pytest.approx(3 * base.condensation, rel=1e-12)
    assert scaled.divergence == pytest.approx(base.divergence, abs=1e-12)
    # Half of the axes without spread: as if alpha were twice as large on the others.
    flat = density.kernel_regimes(0.3, [1.0, 0.0])
    assert flat.condensation == pytest.approx(density.kernel_regimes(0.6).condensation, rel=1e-12)
    assert flat.divergence == math.inf


def test_the_free_energy_is_that_of_normal_pairs():
    """One axis, by quadrature: mean over x of ``log E_y exp(-u (x - y)^2 / 2)`` and of the squared distance."""
    u, s = 0.7, 1.3

    def mean(x):
        weight = quad(lambda y: math.exp(-0.5 * u * (x - y) ** 2 - 0.5 * y * y / s), -20, 20)[0]
        return math.log(weight / math.sqrt(2 * math.pi * s)) * math.exp(-0.5 * x * x / s) / math.sqrt(2 * math.pi * s)

    exact = quad(mean, -15, 15)[0]
    h = u**-0.5
    high = density.kernel_divergence(h, 50.0, [s])  # so many rows that h is far above the condensation
    assert high == pytest.approx(-exact + math.log(h) - 0.5 - 0.5 * math.log(s), abs=1e-9)


# ------------------------------------------------------------------------------------------------------- normal rows

MEASURED = {(32, 4096): (0.925, 0.105), (10, 2000): (0.675, None), (20, 3000): (0.800, None)}


@pytest.mark.parametrize(("d", "n"), MEASURED)
def test_normal_rows(d, n):
    """Best bandwidth and divergence as measured elsewhere, and the neighbours that the theory counts on.

    400 fresh points: the divergence's standard error is near 0.006 a dimension, its minimum is flat to about 0.05.
    """
    rows, fresh = (randn((size, d), generator(seed, d), dtype=torch.float64) for seed, size in ((0, n), (1, 400)))
    theory = density.kernel_regimes(math.log(n) / d)
    grid = torch.arange(0.45, 1.5, 0.025, dtype=torch.float64)
    found = density.density_regimes(rows, fresh, bandwidths=grid)
    best, divergence = MEASURED[d, n]
    assert found.optimal == pytest.approx(best, abs=0.051)
    entropy = 0.5 * math.log(2 * math.pi * math.e)
    loss = -found.log_prob / d - entropy
    if divergence is not None:
        assert float(loss.min()) == pytest.approx(divergence, abs=0.02)
    assert theory.optimal < found.optimal < theory.normal
    assert found.nearest == pytest.approx({32: 0.86, 10: 0.544, 20: 0.748}[d], abs=0.03)
    # The handful of rows at h_G, and tens of them at h_CLT.
    at = {h: int((grid - h).abs().argmin()) for h in (theory.condensation, theory.normal)}
    assert 2.5 < float(found.effective[at[theory.condensation]]) < 7
    assert 9 < float(found.effective[at[theory.normal]]) < 65
    assert bool((found.effective.diff() > 0).all())
    assert bool((found.top.diff() < 0).all())
    assert bool((found.perplexity >= 1).all())


def test_estimates_of_the_levels():
    """32 dimensions, 4096 rows: both estimates of ``h_G`` near that of infinitely many; Hill's is a fifth above it."""
    rows = randn((4096, 32), generator(2), dtype=torch.float64)
    found = density.density_regimes(rows, generator=generator(3), max_queries=400)
    theory = density.kernel_regimes(math.log(4096) / 32)
    assert found.theory.condensation == pytest.approx(theory.condensation, rel=0.02)
    assert found.condensation == pytest.approx(theory.condensation, rel=0.2)
    assert found.tail == pytest.approx(theory.condensation, rel=0.3)
    assert found.normal == math.sqrt(2) * found.tail
    expected = measures.gaussian_collapse(torch.linalg.eigvalsh(rows.T.cov()), 4096)
    assert found.collapse == pytest.approx(expected, rel=1e-12)  # sums in another order
    assert found.collapse > found.condensation  # a noised row is nearer to its own row than a fresh point to any


def test_levels_as_times():
    rows = randn((500, 4), generator(4), dtype=torch.float64)
    found = density.density_regimes(rows)
    for process in (VariancePreserving(), VarianceExploding()):
        times = found.times(process)
        for name, time in times.items():
            kappa = float(process.kappa(torch.tensor([time], dtype=torch.float64)))
            assert kappa == pytest.approx(getattr(found, name), rel=1e-6)


def test_the_tail_is_that_of_the_kernel_s_values():
    """Hill's estimate of the values themselves at any bandwidth is ``(h / tail)^2``."""
    rows, fresh = randn((300, 3), generator(5), dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64)
    found = density.density_regimes(rows, fresh, num_top=20)
    for h in (0.1, 0.7):
        values = -(rows.square().sum(1)) / (2 * h**2)
        assert float(density.hill_index(values, 20)) == pytest.approx((h / found.tail) ** 2, rel=1e-12)


def test_hill_of_a_power_law():
    """``U^(-1/a)`` has index a; the estimate's reciprocal has mean 1/a and error 1/a sqrt(k)."""
    a, k, draws = 1.5, 50, 2000
    uniforms = torch.rand((draws, 1000), generator=generator(6), dtype=torch.float64)
    reciprocal = 1 / density.hill_index(-uniforms.log() / a, k)
    # four standard errors (6e-5); the spread to 4 / sqrt(2 draws)
    assert float(reciprocal.mean()) == pytest.approx(1 / a, abs=4 / (a * math.sqrt(k * draws)))
    assert float(reciprocal.std()) == pytest.approx(1 / (a * math.sqrt(k)), rel=4 / math.sqrt(2 * draws) * 1.1)
