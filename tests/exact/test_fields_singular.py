"""Data on lower-dimensional sets: how they are noticed, and what fitting noise does."""

import math

import pytest
import torch

from clarkia import measures
from clarkia.random import generator, randn


def rand(n, seed):
    return torch.rand(n, generator=generator(seed), dtype=torch.float64)


def figure_eight(n, seed):
    """A curve in three dimensions."""
    angle = 2 * math.pi * rand(n, seed)
    return torch.stack([angle.sin(), angle.sin() * angle.cos(), 0.3 * angle.cos()], 1)


def on_a_plane(n, d, q, seed):
    return randn((n, q), generator(seed, 0), dtype=torch.float64) @ randn(
        (q, d), generator(seed, 1), dtype=torch.float64
    )


def principal_sine(x, truth, q):
    leading = torch.linalg.svd(x - x.mean(0), full_matrices=False)[2][:q].T
    basis = torch.linalg.svd(truth - truth.mean(0), full_matrices=False)[2][:q].T
    return float(measures.subspace_error(leading.unsqueeze(0), basis.unsqueeze(0)))


# ------------------------------------------------------------------------------------------------------------- PPCA


def test_the_fitted_noise_of_rows_on_a_plane():
    """0 on the plane, where the likelihood has no bound; the perturbation's own variance after it."""
    n, d, q = 2000, 8, 3
    x = on_a_plane(n, d, q, 0)
    assert measures.ppca_noise(x, q) < 1e-25 * float(x.square().sum())
    assert measures.ppca_noise(x, q - 1) > 1e-3
    for noise in (0.01, 0.1):
        found = measures.ppca_noise(x + noise * randn((n, d), generator(1), dtype=torch.float64), q)
        # mean of n (d - q) squares, less the q + 1 degrees of freedom of the fit: three standard errors, 0.3 %
        degrees = (n - 1 - q) * (d - q)
        assert abs(found * n * (d - q) / degrees - noise**2) < 3 * noise**2 * (2 / degrees) ** 0.5


def test_the_plane_is_found_to_noise_over_root_n():
    n, d, q, noise = 500, 8, 3, 0.1

    def error(n, noise, trials=10):
        squares = 0.0
        for seed in range(trials):
            x = on_a_plane(n, d, q, 10 + seed)
            blurred = x + noise * randn((n, d), generator(30 + seed), dtype=torch.float64)
            squares += principal_sine(blurred, x, q) ** 2 / trials
        return squares**0.5

    base = error(n, noise)
    # ten trials know the root mean square to about a quarter: a factor of 4 is found within 1.8
    assert error(16 * n, noise) == pytest.approx(base / 4, rel=0.8)
    assert error(n, noise / 4) == pytest.approx(base / 4, rel=0.05)  # the same draws, to first order proportional
    assert error(n, 0.0) < 1e-7


# ----------------------------------------------------------------------------------------------------------- report


@pytest.mark.parametrize("d", [1, 2, 5, 10])
def test_a_density_is_not_called_singular(d):
    mixing = randn((d, d), generator(2), dtype=torch.float64) + 2 * torch.eye(d, dtype=torch.float64)
    for x in (randn((800, d), generator(3), dtype=torch.float64), rand(800 * d, 4).reshape(800, d)):
        found = measures.singularity_report(x @ mixing, generator=generator(5))
        assert (found.rank, found.rank_deficiency, found.repeated_rows) == (d, 0, 0.0)
        assert float(found.tied.max()) == 0
        assert found.starting_noise == 0


@pytest.mark.parametrize(("q", "d"), [(1, 1), (2, 2), (3, 3)])
def test_the_local_dimension_of_a_uniform_cube(q, d):
    x = rand(3000 * d, 6).reshape(3000, d)
    found = measures.singularity_report(x, generator=generator(7))
    assert found.local_dimension == pytest.approx(q, rel=0.12)


def test_a_curve_has_one_dimension_in_a_full_rank():
    found = measures.singularity_report(figure_eight(150, 8), generator=generator(9))
    assert found.rank == 3
    assert found.local_dimension == pytest.approx(1, abs=0.25)
    assert found.full_dimension > 2
    # n^(-b / (2 (b + q))) = 150^(-1/3) = 0.19 at smoothness 2, down to the grid
    assert found.starting_noise == 0.1
    rough = measures.singularity_report(figure_eight(150, 8), smoothness=1.0, generator=generator(9))
    assert rough.starting_noise == 0.2  # 150^(-1/4) = 0.29
    # 4000^(-1/3) = 0.063
    assert measures.singularity_report(figure_eight(4000, 8), generator=generator(9)).starting_noise == 0.05


def test_columns_that_determine_each_other():
    x = on_a_plane(300, 6, 4, 10)
    found = measures.singularity_report(x, generator=generator(11))
    assert (found.rank, found.rank_deficiency) == (4, 2)
    assert found.starting_noise > 0
    constant = torch.cat([randn((300, 2), generator(12), dtype=torch.float64), torch.full((300, 1), 0.1).double()], 1)
    found = measures.singularity_report(constant, generator=generator(13))
    assert (found.rank, found.rank_deficiency) == (2, 1)
    assert found.tied.tolist() == [0, 0, 1]


def test_ties_and_copies_are_counted():
    x = torch.tensor([[1.0, 5.0], [1.0, 6.0], [2.0, 6.0], [1.0, 5.0], [3.0, 9.0]])
    found = measures.singularity_report(x)
    assert found.tied.tolist() == pytest.approx([0.6, 0.8])
    assert found.repeated_rows == pytest.approx(0.4)
    assert found.starting_noise > 0
    quantised = (2 * randn((500, 2), generator(14), dtype=torch.float64)).round()
    assert measures.singularity_report(quantised, generator=generator(15)).starting_noise > 0
    constant = measures.singularity_report(torch.ones(5, 2))
    assert (constant.rank, constant.local_dimension, constant.repeated_rows) == (0, 0.0, 1.0)


# -------------------------------------------------------------------------------------------------------- selection


def test_the_noise_with_the_nearest_samples_is_chosen():
    """A stand-in for a fit whose samples are off by ``|noise - 0.1|``: the distance finds 0.1."""
    truth = figure_eight(400, 16)
    asked = []

    def sample(noise):
        asked.append(noise)
        return figure_eight(400, 17) + 3 * abs(noise - 0.1)

    found = measures.choose_instance_noise(sample, truth, levels=[0.0, 0.05, 0.1, 0.2])
    assert (found.noise, found.levels, asked) == (0.1, (0.0, 0.05, 0.1, 0.2), [0.0, 0.05, 0.1, 0.2])
    assert found.distances.shape == (4,)
    assert int(found.distances.argmin()) == 2
    spread = float(truth.var(0).mean().sqrt())
    default = measures.choose_instance_noise(sample, truth)
    assert default.levels == pytest.approx([spread * level for level in (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)])
