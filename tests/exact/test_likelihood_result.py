"""Arithmetic of a likelihood, and the stratified mean with its error."""

import math

import pytest
import torch

from clarkia.measures import Likelihood
from clarkia.measures.likelihood.strata import stratified_mean
from clarkia.random import generator, rand


def test_bits_per_dimension_mean_and_perplexity():
    nats = torch.tensor([-8 * math.log(2), -4 * math.log(2)], dtype=torch.float64)
    found = Likelihood(nats, torch.tensor([0.3, 0.4]), "bound")
    assert found.bits_per_dimension(4).tolist() == pytest.approx([2.0, 1.0], abs=1e-15)
    assert found.mean == pytest.approx(-6 * math.log(2), abs=1e-15)
    assert found.mean_standard_error == pytest.approx(0.25, abs=1e-7)  # sqrt(0.09 + 0.16) / 2, from float32
    assert found.perplexity(12) == pytest.approx(2.0, abs=1e-14)  # 12 ln 2 nats in 12 tokens
    assert found.perplexity(torch.tensor([4, 2])) == pytest.approx(4.0, abs=1e-14)
    assert found.nats.dtype == found.standard_error.dtype == torch.float64


def test_two_draws_a_stratum_tell_the_error_of_the_mean():
    """``E u^2 = 1/3``; a stratum of width h around c leaves the variance ``c^2 h^2 / 3 + h^4 / 180`` to a draw."""
    rows, draws = 20_000, 16
    mean, error = stratified_mean(lambda u: u**2, rows, draws, generator(0))
    width = 2 / draws
    centres = (torch.arange(draws // 2, dtype=torch.float64) + 0.5) * width
    variance = float((centres**2 * width**2 / 3 + width**4 / 180).sum() / (draws // 2) ** 2 / 2)
    assert float(mean.var()) == pytest.approx(variance, rel=0.05)  # five standard errors of a variance
    assert float(error.square().mean()) == pytest.approx(variance, rel=0.05)
    assert abs(float(mean.mean()) - 1 / 3) < 4 * math.sqrt(variance / rows)  # false alarm 6e-5


def test_noise_beyond_the_strata_counts():
    noise = generator(1)
    _, error = stratified_mean(lambda u: rand((4000,), noise), 4000, 8, noise)
    assert float(error.square().mean()) == pytest.approx(1 / 12 / 8, rel=0.1)


def test_an_impossible_row_is_infinite_and_certain_of_it():
    mean, error = stratified_mean(lambda u: torch.full_like(u, torch.inf), 3, 4, generator(2))
    assert mean.tolist() == [torch.inf] * 3
    assert error.tolist() == [0.0] * 3
