"""From which noise level down the best answer for a data set is one of its rows."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from clarkia import measures
from clarkia.oracles import GaussianMixture
from clarkia.processes import EDM, VarianceExploding
from clarkia.random import generator, randn


def test_the_share_of_the_own_row_among_three():
    """Rows at -1, 0 and 1: median share, number of rows and copies, each by quadrature over the noise."""
    data = torch.tensor([[-1.0], [0.0], [1.0]])
    levels, n = [1.0, 0.6, 0.3], 20_000
    found = measures.collapse_level(data, noise_levels=levels, num_samples=n, generator=generator(0))

    def weights(y, level):
        logits = -((y - np.array([-1.0, 0.0, 1.0])) ** 2) / (2 * level**2)
        return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()

    def density(z):
        return math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)

    for index, level in enumerate(levels):
        z = np.linspace(-8, 8, 4001)
        mass = np.array([density(value) for value in z])
        shares, effective, copied = [], 0.0, 0.0
        for row in range(3):
            w = np.array([weights(row - 1 + level * value, level) for value in z])
            shares.append(w[:, row])
            effective += np.trapezoid(-np.log((w**2).sum(1)) * mass, z) / 3
            gaps = np.sort(np.abs((w @ np.array([-1.0, 0.0, 1.0]))[:, None] - np.array([-1.0, 0.0, 1.0])), 1)
            copied += np.trapezoid((gaps[:, 0] < gaps[:, 1] / 3) * mass, z) / 3
        every, masses = np.concatenate(shares), np.tile(mass, 3) / (3 * mass.sum())
        below = masses[every < float(found.own_share[index])].sum()
        # four standard errors each (false alarm 6e-5); the grid is finer than that
        assert below == pytest.approx(0.5, abs=4 * 0.5 / n**0.5 + 1e-3)
        assert float(found.effective_rows[index].log()) == pytest.approx(effective, abs=4 * 0.6 / n**0.5)
        assert float(found.copied[index]) == pytest.approx(copied, abs=4 * 0.5 / n**0.5 + 1e-3)
    assert quad(density, -8, 8)[0] == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("n", "d"), [(4096, 32), (500, 16)])
def test_the_collapse_of_normal_data(n, d):
    """``sqrt(1 / (n^(2/d) - 1))`` in the limit of many dimensions; at these sizes within a sixth above it."""
    data = randn((n, d), generator(1), dtype=torch.float64)
    theory = 1 / math.sqrt(n ** (2 / d) - 1)
    found = measures.collapse_level(
        data, noise_levels=torch.logspace(0.5, -0.5, 21), num_samples=300, generator=generator(2)
    )
    assert measures.gaussian_collapse(torch.ones(d), n) == pytest.approx(theory, rel=1e-10)
    assert found.gaussian_collapse == pytest.approx(theory, rel=0.03)
    assert 0.97 * theory < found.collapse < 1.17 * theory
    assert bool((found.own_share.diff() > -0.02).all())
    assert bool((found.effective_rows.diff() <= 0).all())
    # far above, all rows count; far below, one does
    assert float(found.own_share[0]) < 0.01
    assert float(found.own_share[-1]) > 0.99
    assert float(found.copied[-1]) == 1


def test_the_levels_of_two_groups():
    """Groups at +-m e_1 with variance v: the spread along e_1 is ``m^2 + v``, which is where they part."""
    d, m = 16, 4.0
    sign = 2.0 * (torch.arange(1000) % 2).double() - 1
    data = 0.5 * randn((1000, d), generator(3), dtype=torch.float64)
    data[:, 0] += m * sign
    found = measures.collapse_level(data, generator=generator(4), num_samples=50)
    assert found.speciation == pytest.approx(math.sqrt(m**2 + 0.25), rel=0.02)
    assert found.collapse < found.speciation
    # the information about the row: one bit of the group, and a half log(1 + v / k^2) a dimension within it
    within = 0.5 / math.sqrt((1000 / 2) ** (2 / d) - 1)
    assert found.collapse == pytest.approx(within, rel=0.2)


def test_anisotropic_gaussian_collapse_solves_its_equation():
    variances = torch.tensor([4.0, 1.0, 0.1, 0.0], dtype=torch.float64)
    level = measures.gaussian_collapse(variances, 100)
    assert 0.5 * float(torch.log1p(variances / level**2).sum()) == pytest.approx(math.log(100), rel=1e-10)
    assert measures.gaussian_collapse(9 * variances, 100) == pytest.approx(3 * level, rel=1e-10)


def test_a_denoiser_that_copies_and_one_that_does_not():
    """The posterior mean of the rows copies below the collapse, that of the law they come from does not."""
    d, n = 16, 500
    law = GaussianMixture([1.0], [[0.0] * d], [1.0])
    rows = law.sample(n, generator=generator(5))
    heart = GaussianMixture([1 / n] * n, rows, [1e-8] * n)
    levels = [1.0, 0.5, 0.2]
    run = {"noise_levels": levels, "num_samples": 200}
    exact = measures.collapse_level(rows, generator=generator(6), **run)
    learned = measures.collapse_level(rows, heart.denoiser(EDM), EDM, generator=generator(6), **run)
    general = measures.collapse_level(rows, law.denoiser(EDM), EDM, generator=generator(6), **run)
    torch.testing.assert_close(learned.copied, exact.copied, rtol=0, atol=1e-12)
    assert exact.copied.tolist()[0] < 0.9 < 0.99 < exact.copied.tolist()[2]
    torch.testing.assert_close(general.own_share, exact.own_share)
    # at noise 0.5 the law's own answer still lies well off the row; at 0.2 no answer can be told from a copy
    assert float(general.copied[1]) < 0.1
    assert float(exact.copied[1]) > 0.9


def test_repeated_rows_count_once():
    data = randn((100, 3), generator(7), dtype=torch.float64)
    levels = {"noise_levels": [1.0, 0.3, 0.1], "num_samples": 50}
    once = measures.collapse_level(data, generator=generator(8), **levels)
    twice = measures.collapse_level(torch.cat([data, data]), generator=generator(8), **levels)
    torch.testing.assert_close(once.own_share, twice.own_share)
    assert once.gaussian_collapse == twice.gaussian_collapse


def test_no_crossing_is_no_number():
    data = randn((50, 2), generator(9), dtype=torch.float64)
    assert math.isnan(measures.collapse_level(data, noise_levels=[3.0, 2.0], generator=generator(10)).collapse)
    assert math.isnan(measures.collapse_level(data, noise_levels=[1e-4, 1e-5], generator=generator(10)).collapse)
    process = VarianceExploding(sigma_min=0.5, sigma_max=2.0)
    with pytest.raises(ValueError, match="noise_levels: expected ratios"):
        measures.collapse_level(data, lambda x, t: x, process, noise_levels=[3.0])
