"""The bounds of uniform noise and of mixture paths by enumeration and quadrature."""

import itertools
import math

import numpy as np
import pytest
import torch

from clarkia.objectives import DiscreteFlowMatching, MaskedELBO, RandomElements, ScoreEntropy
from clarkia.objectives.mixture_path import velocity_divergence
from clarkia.objectives.score_entropy import score_entropy, score_entropy_of_scores
from clarkia.oracles import MarkovChain
from clarkia.processes import Masked, MixturePath, Uniform
from clarkia.random import generator
from clarkia.schedules import PolynomialMask

K, L = 3, 2
CHAIN = MarkovChain([0.5, 0.3, 0.2], [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]], L)
EVERY = torch.tensor(list(itertools.product(range(K), repeat=L)))
SOURCE = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)


def expected(process, divergence, x, nodes, denoiser):
    """Integral over time of the expected divergence: all noisy states, Gauss-Legendre in the root of time."""
    places, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(nodes))
    v = 0.5 * (places + 1)
    t, weights = v**2, weights * v
    x_t = EVERY.repeat(nodes, 1)
    x0 = x.expand_as(x_t)
    time = t.repeat_interleave(len(EVERY))
    alpha = process.alpha(time)[:, None]
    q = (alpha * (x_t == x0) + (1 - alpha) * process.noise_probs()[x_t]).prod(1)
    nats = divergence(process, x0, x_t, denoiser(x_t, time), time).sum(1)
    return (weights.repeat_interleave(len(EVERY)) * torch.where(q > 0, q * nats, 0.0)).sum()


@pytest.mark.parametrize("schedule", ["linear", PolynomialMask(2.0)], ids=str)
@pytest.mark.parametrize("source", ["uniform", "other"])
def test_the_score_entropy_is_minus_log_p_of_each_row(schedule, source):
    process = Uniform(K, schedule) if source == "uniform" else MixturePath(K, SOURCE, schedule)
    for x in EVERY:
        value = expected(process, score_entropy, x, 400, CHAIN.denoiser(process))
        torch.testing.assert_close(value, -CHAIN.log_prob(x[None])[0], rtol=0, atol=1e-4)


def some_prediction(process, n, seed=0):
    x0, x_t = torch.randint(0, K, (2, n, 5), generator=generator(seed))
    log_probs = torch.randn(n, 5, K, generator=generator(seed + 1), dtype=torch.float64).log_softmax(-1)
    t = torch.rand(n, generator=generator(seed + 2), dtype=torch.float64) * 0.98 + 0.01
    return x0, x_t, log_probs, t


def test_the_published_closed_form_of_uniform_noise():
    """Per position ``sigma' / K sum_y (s - r log s + r log r - r)`` with the two ratios that r can be."""
    process = Uniform(K, "cosine")
    x0, x_t, log_probs, t = some_prediction(process, 400)
    alpha = process.alpha(t)[:, None]
    beta = (1 - alpha) / K
    rate = process.noising_rate(t)[:, None] / K
    p = log_probs.exp()
    p_x = p.gather(-1, x_t[..., None])[..., 0]
    s = 1 + (alpha / beta)[..., None] * p - (p_x * alpha / (alpha + beta))[..., None]
    classes = torch.arange(K)
    r_known = (beta / (alpha + beta))[..., None].expand_as(s)
    r_moved = torch.where(classes == x0[..., None], ((alpha + beta) / beta)[..., None], 1.0)
    r = torch.where((x_t == x0)[..., None], r_known, r_moved)
    bracket = s - r * s.log() + r * r.log() - r
    exact = rate * torch.where(classes == x_t[..., None], 0.0, bracket).sum(-1)
    torch.testing.assert_close(score_entropy(process, x0, x_t, log_probs, t), exact, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("process", [Uniform(K), MixturePath(K, SOURCE, "cosine"), Masked(K), Masked(K, "cosine")])
def test_raw_scores_have_the_same_divergence_as_the_prediction_they_mean(process):
    x0, x_t, log_probs, t = some_prediction(process, 300, seed=7)
    if isinstance(process, Masked):
        x_t = torch.where(torch.rand(x0.shape, generator=generator(3)) < 0.5, K, x0)
        log_probs = process.log_probs(log_probs, x_t)
    found = score_entropy_of_scores(process, x0, x_t, process.score(x_t, log_probs, t), t)
    torch.testing.assert_close(found, score_entropy(process, x0, x_t, log_probs, t), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("divergence", [score_entropy, velocity_divergence])
def test_masked_score_entropy_and_flow_matching_are_the_weighted_cross_entropy(divergence):
    process = Masked(K, "cosine")
    x0, _, logits, t = some_prediction(process, 300)
    x_t = torch.where(torch.rand(x0.shape, generator=generator(3)) < 0.5, K, x0)
    log_probs = process.log_probs(logits, x_t)
    nats = torch.where(x_t == K, -log_probs.gather(-1, x0[..., None])[..., 0], 0.0)
    exact = process.weight(t)[:, None] * nats
    torch.testing.assert_close(divergence(process, x0, x_t, log_probs, t), exact, rtol=1e-10, atol=1e-10)


def test_the_flow_bound_of_a_fair_coin_is_above_its_entropy_by_a_known_gap():
    """Its path to the data is another process than the reversed corruption, and what it costs is the gap.

    ``p0_hat`` of the other side is t / 2, so the bound is the integral of ``(1 - t / 2 - log(t / 2)) / 2``.
    """
    coin, process = MarkovChain([0.5, 0.5], torch.full((2, 2), 0.5), 1), Uniform(2)
    t = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    x0, x_t = torch.zeros(400_000, 1, dtype=torch.int64), torch.tensor([0, 1]).repeat_interleave(200_000)[:, None]
    chance = torch.cat([1 - t / 2, t / 2])
    log_probs = coin.denoiser(process)(x_t, t.repeat(2))
    nats = velocity_divergence(process, x0, x_t, log_probs, t.repeat(2))[:, 0]
    bound = float((chance * nats).sum() / 200_000)
    exact = 0.5 * (math.log(2) + 1) + 0.5 * (1 - 0.25)
    assert bound == pytest.approx(exact, abs=1e-5)
    assert bound - math.log(2) > 0.5


def test_the_exact_denoiser_minimises_both_divergences():
    process = Uniform(K)
    p = CHAIN.log_prob(EVERY).exp()
    exact = CHAIN.denoiser(process)

    def skewed(x_t, t):
        return (1.1 * exact(x_t, t)).log_softmax(-1)

    for divergence in (score_entropy, velocity_divergence):
        best, worse = (
            sum(p[i] * expected(process, divergence, x, 60, denoiser) for i, x in enumerate(EVERY))
            for denoiser in (exact, skewed)
        )
        assert float(worse - best) > 1e-4


@pytest.mark.parametrize("objective", [ScoreEntropy, DiscreteFlowMatching])
def test_drawn_losses_have_the_mean_of_the_quadrature(objective):
    process = Uniform(K, PolynomialMask(2.0))
    divergence = score_entropy if objective is ScoreEntropy else velocity_divergence
    x0 = torch.tensor([[0, 2]]).expand(100_000, 2)
    denoiser = CHAIN.denoiser(process)
    loss = objective(process)(denoiser, x0, generator(1))
    exact = float(expected(process, divergence, x0[0], 200, denoiser))
    assert abs(float(loss.mean()) - exact) < 4 * float(loss.std()) / math.sqrt(len(x0))


def test_the_bound_of_the_score_entropy():
    process = Uniform(K, PolynomialMask(2.0))
    x0 = EVERY.repeat(8000, 1)
    bound = ScoreEntropy(process).elbo(CHAIN.denoiser(process), x0, generator(2))
    gap = bound - CHAIN.log_prob(x0)
    assert bound.dtype == torch.float64
    assert abs(float(gap.mean())) < 4 * float(gap.std()) / math.sqrt(len(x0))


def test_observed_cells_are_left_out():
    process = Uniform(K)

    def denoiser(wrong):
        def denoise(x_t, t):
            logits = torch.where(t[..., None] == 0, wrong, 0.0) * (torch.arange(K) == 0)
            return logits.expand(*x_t.shape, K).log_softmax(-1)

        return denoise

    x0 = torch.zeros(2000, 4, dtype=torch.int64)
    for objective in (ScoreEntropy, DiscreteFlowMatching):
        shown = objective(process, observed=RandomElements(1.0))
        losses = [shown(denoiser(wrong), x0, generator(3)) for wrong in (0.0, -30.0)]
        assert torch.equal(*losses)
        assert float(losses[0].mean()) > 1


def test_a_coupled_source_keeps_rows_together():
    """Where the noise tells the data, a denoiser that reads it has nothing left to learn."""
    process = Uniform(K)

    def denoise(x_t, t):
        # The first cell is noise of class (data + 1) or data; the second is always noise of class data.
        return torch.where(torch.arange(K) == x_t[:, 1:, None], 0.0, -30.0).expand(*x_t.shape, K).log_softmax(-1)

    def couple(x0, generator):
        return torch.stack([(x0[:, 0] + 1) % K, x0[:, 1]], 1)

    x0 = torch.randint(0, K, (500, 1), generator=generator(4)).expand(500, 2)
    loss = DiscreteFlowMatching(process, couple=couple)(denoise, x0, generator(5))
    assert float(loss.max()) < 1e-6
    with pytest.raises(ValueError, match="couple"):
        DiscreteFlowMatching(Masked(K), couple=couple)


def test_masked_processes_take_all_three_objectives():
    process = Masked(K)
    denoiser = CHAIN.denoiser(process)
    x0 = CHAIN.sample(40_000, generator=generator(6))
    entropy = -float(CHAIN.log_prob(x0).mean())
    for objective in (MaskedELBO(process), ScoreEntropy(process), DiscreteFlowMatching(process)):
        loss = objective(denoiser, x0, generator(7)).double()
        assert abs(float(loss.mean()) - entropy) < 4 * float(loss.std()) / 200
