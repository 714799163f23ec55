"""Anchored decoding against the exact posterior of a small code grid, and against its own limits."""

import math

import pytest
import torch

from clarkia import samplers
from clarkia.oracles import MarkovChain
from clarkia.processes import Masked
from clarkia.random import generator, randn
from clarkia.samplers import Anchored
from clarkia.testing import check_solver

K, L, D, M, DRAWS, NOISE = 8, 5, 3, 8, 40, 0.1
CODES = torch.tensor([[2.0 * (k >> bit & 1) - 1 for bit in range(D)] for k in range(K)], dtype=torch.float64)
STEP = torch.exp(-(torch.arange(K)[:, None] - torch.arange(K)).abs().double())
CHAIN = MarkovChain(torch.full((K,), 1 / K, dtype=torch.float64), STEP / STEP.sum(1, keepdim=True), L)
PROCESS = Masked((K,) * L)
EVERY = torch.cartesian_prod(*(torch.arange(K),) * L)
FIVE = torch.linspace(1, 0, 6, dtype=torch.float64)


class Problem:
    """Measurements of code sequences of the chain through random linear decoders, one a row."""

    def __init__(self, rows=DRAWS, noise=NOISE, seed=0):
        source = generator(seed)
        self.noise = noise
        self.truth = CHAIN.sample(rows, generator=source)
        self.decoder = randn((rows, M, L * D), source, dtype=torch.float64) / math.sqrt(L * D)
        self.y = self.measured(CODES[self.truth]) + noise * randn((rows, M), source, dtype=torch.float64)

    def measured(self, codes):
        return (self.decoder @ codes.flatten(1).unsqueeze(-1)).squeeze(-1)

    def log_likelihood(self, codes):
        return -(self.y - self.measured(codes)).square().sum(1) / (2 * self.noise**2)

    def log_posterior(self):
        """Of all 32768 sequences, ``(rows, 32768)``."""
        outcomes = CODES[EVERY].flatten(1) @ self.decoder.mT
        misfit = (self.y[:, None] - outcomes).square().sum(2)
        return CHAIN.log_prob(EVERY) - misfit / (2 * self.noise**2)

    def decoded(self, seed=1, **options):
        solver = Anchored(self.log_likelihood, CODES, **options)
        return samplers.sample(
            CHAIN.denoiser(PROCESS), PROCESS, num_samples=len(self.y), solver=solver, times=FIVE,
            generator=generator(seed),
        )  # fmt: skip


PROBLEM = Problem()
LOG_POSTERIOR = PROBLEM.log_posterior()
BEST = LOG_POSTERIOR.max(1)


def right(x):
    return float((x == EVERY[BEST.indices]).double().mean())


def gap(x):
    place = (x * torch.tensor([K**power for power in reversed(range(L))])).sum(1)
    values = LOG_POSTERIOR.gather(1, place[:, None]).squeeze(1)
    return BEST.values - values


def test_ranking_by_the_posterior_finds_more_of_the_likeliest_tokens():
    """Reference over 40 draws, each within .05 of its own draws: .85, .70, .58, .49, and .15 without a measurement."""
    found = {
        (relaxation, select): right(PROBLEM.decoded(relaxation=relaxation, select=select))
        for relaxation in ("soft", "quantized")
        for select in ("posterior", "prior")
    }
    prior = right(samplers.sample(CHAIN.denoiser(PROCESS), PROCESS, num_samples=DRAWS, generator=generator(2)))
    for relaxation in ("soft", "quantized"):
        assert found[relaxation, "posterior"] > found[relaxation, "prior"]
    references = {("soft", "posterior"): 0.85, ("soft", "prior"): 0.70, ("quantized", "posterior"): 0.58,
                  ("quantized", "prior"): 0.49}  # fmt: skip
    for name, value in references.items():
        assert found[name] == pytest.approx(value, abs=0.1)
    assert prior == pytest.approx(0.15, abs=0.06)
    assert found["soft", "posterior"] > found["quantized", "posterior"] > 2 * prior
    assert float(gap(PROBLEM.decoded()).median()) < 1e-9


def prior_decode():
    """Greedy decoding of the prediction alone, surest cells first, one a step."""
    x = PROCESS.prior(DRAWS)
    for _ in range(L):
        log_probs = CHAIN.denoiser(PROCESS)(x, None)
        best = log_probs.max(-1)
        cell = best.values.masked_fill(x != K, -math.inf).argmax(1, keepdim=True)
        x = x.scatter(1, cell, best.indices.gather(1, cell))
    return x


def test_with_a_strong_tie_or_a_vague_measurement_it_decodes_the_prediction():
    vague = Problem()
    vague.noise = math.inf
    solver = Anchored(vague.log_likelihood, CODES)
    x = PROCESS.prior(DRAWS)
    x[:, 2] = PROBLEM.truth[:, 2]
    prior = CHAIN.denoiser(PROCESS)(x, None)
    torch.testing.assert_close(solver.fitted(prior), prior, rtol=0, atol=1e-6)
    assert torch.equal(vague.decoded(), prior_decode())
    # Adam's first step has the same length whatever the gradient; a strong tie takes it back.
    solver = Anchored(PROBLEM.log_likelihood, CODES, kl=1e6, num_iterations=300, learning_rate=0.003)
    torch.testing.assert_close(solver.fitted(prior).exp(), prior.exp(), rtol=0, atol=0.003)
    free = Anchored(PROBLEM.log_likelihood, CODES, kl=0.0, num_iterations=300, learning_rate=0.003)
    assert float((free.fitted(prior).exp() - prior.exp()).abs().max()) > 0.1


@pytest.mark.parametrize("relaxation", ["soft", "quantized"])
def test_the_gradient_is_that_of_the_codes_decoded(relaxation):
    """Straight through: ``d loss / d q`` at the code shown, times how the expectation moves; finite differences."""
    solver = Anchored(PROBLEM.log_likelihood, CODES, relaxation, kl=0.0)
    logits = randn((DRAWS, L, K), generator(3), dtype=torch.float64)
    leaf = logits.clone().requires_grad_()
    (found,) = torch.autograd.grad(solver.loss(logits.log_softmax(-1) * 0, leaf).sum(), leaf)
    p = logits.softmax(-1)
    shown = p @ CODES
    if relaxation == "quantized":
        shown = shown.sign()  # the nearest of all corners
    step, slopes = 1e-5, torch.zeros_like(shown)
    for i in range(L):
        for j in range(D):
            move = torch.zeros_like(shown)
            move[:, i, j] = step
            change = PROBLEM.log_likelihood(shown - move) - PROBLEM.log_likelihood(shown + move)
            slopes[:, i, j] = change / (2 * step)
    by_class = slopes @ CODES.T
    expected = p * (by_class - (p * by_class).sum(-1, keepdim=True))
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5


def test_the_loss_is_the_divergence_from_the_prediction_less_the_likelihood():
    x = PROCESS.prior(DRAWS)
    x[:, 1] = 3
    prior = CHAIN.denoiser(PROCESS)(x, None)
    shift = randn(prior.shape, generator(4), dtype=torch.float64)
    fitted = (prior + shift).log_softmax(-1)
    divergence = torch.where(prior > -math.inf, fitted.exp() * (fitted - prior), 0.0).sum((1, 2))
    solver = Anchored(PROBLEM.log_likelihood, CODES, kl=2.0)
    expected = 2 * divergence - PROBLEM.log_likelihood(fitted.exp() @ CODES)
    torch.testing.assert_close(solver.loss(prior, shift), expected, rtol=1e-10, atol=1e-10)
    best = Anchored(PROBLEM.log_likelihood, CODES, keep_best=True, learning_rate=1.0)
    last = Anchored(PROBLEM.log_likelihood, CODES, learning_rate=1.0)
    kept, ended = (
        one.loss(prior, torch.where(prior > -math.inf, one.fitted(prior) - prior, 0.0)) for one in (best, last)
    )
    assert bool((kept <= ended + 1e-9).all())


def test_every_step_anchors_its_share_and_known_tokens_stay():
    counts = []

    def counting(x_t, t, condition=None):
        counts.append(PROCESS.is_masked(x_t).sum(1).tolist())
        return CHAIN.denoiser(PROCESS)(x_t, t)

    solver = Anchored(PROBLEM.log_likelihood, CODES, num_iterations=2)
    x = samplers.sample(counting, PROCESS, num_samples=DRAWS, solver=solver, times=FIVE)
    assert [row[0] for row in counts] == [5, 4, 3, 2, 1]
    assert bool((x < K).all())
    counts.clear()
    known = (PROBLEM.truth, torch.tensor([[True, False, False, True, False]]))
    x = samplers.sample(counting, PROCESS, known=known, solver=solver, num_steps=2)
    assert [row[0] for row in counts] == [3, 1]
    assert torch.equal(x[:, [0, 3]], PROBLEM.truth[:, [0, 3]])


class Recorded:
    """The exact denoiser, and the states it was asked for."""

    def __init__(self):
        self.states = []

    def __call__(self, x_t, t, condition=None):
        self.states.append(x_t)
        return CHAIN.denoiser(PROCESS)(x_t, t)


def reviewed(x, **options):
    """What a step leaves masked before it reveals anything."""
    denoiser, t = Recorded(), torch.full((len(x),), 0.8, dtype=torch.float64)
    solver = Anchored(PROBLEM.log_likelihood, CODES, **options)
    solver.step(denoiser, PROCESS, x, t, t / 2, None)
    return PROCESS.is_masked(denoiser.states[-1])


def test_an_anchor_is_doubted_from_all_the_others():
    """Without iterations its probability is the prior's, given all visible cells but itself, by enumeration."""
    x = PROCESS.corrupt(torch.randint(K, (DRAWS, L), generator=generator(5)), 0.3, generator=generator(6))
    masked, log_prior = PROCESS.is_masked(x), CHAIN.log_prob(EVERY)
    alike = (x[:, None] == EVERY) | masked[:, None]  # (rows, sequences, cells)
    probability = torch.zeros(DRAWS, L, dtype=torch.float64)
    for i in range(L):
        others = alike[:, :, [j for j in range(L) if j != i]].all(2) * log_prior.exp()
        probability[:, i] = (others * alike[:, :, i]).sum(1) / others.sum(1)
    for threshold in (0.05, 0.2):
        expected = masked | (probability < threshold)
        assert 0.2 < float((expected & ~masked).sum() / (~masked).sum()) < 0.9
        assert torch.equal(reviewed(x, num_iterations=0, remask_below=threshold), expected)


def test_anchors_that_the_posterior_excludes_are_doubted_and_those_it_is_sure_of_stay():
    """All cells likeliest but for one, of which the law given the others and the measurement is enumerated."""
    row, cell = torch.arange(DRAWS), torch.arange(DRAWS) % L
    for shift, excluded in ((4, True), (0, False)):
        x = EVERY[BEST.indices]
        x[row, cell] = (x[row, cell] + shift) % K
        alike = (x[:, None] == EVERY).scatter(2, cell.view(-1, 1, 1).expand(-1, len(EVERY), 1), True).all(2)
        given_others = LOG_POSTERIOR.masked_fill(~alike, -math.inf).softmax(1)
        probability = (given_others * (x[:, None] == EVERY).all(2)).sum(1)
        assert bool(((probability < 0.01) if excluded else (probability > 0.99)).all())
        doubted = float(reviewed(x, remask_below=0.2)[row, cell].double().mean())
        assert doubted > 0.85 if excluded else doubted < 0.1
        assert not bool(reviewed(x).any())


def test_a_wrong_anchor_is_undone_and_nothing_is_masked_at_the_end():
    row, cell = torch.arange(DRAWS), torch.arange(DRAWS) % L
    likeliest = EVERY[BEST.indices]
    start = PROCESS.prior(DRAWS)
    start[row, cell] = (likeliest[row, cell] + 4) % K

    def decoded(**options):
        denoiser, solver = Recorded(), Anchored(PROBLEM.log_likelihood, CODES, **options)
        x = samplers.sample(denoiser, PROCESS, initial=start, solver=solver, times=FIVE)
        assert bool((x < K).all())
        return x, len(denoiser.states)

    (kept, calls), (mended, more_calls) = decoded(), decoded(remask_below=0.5)
    assert (calls, more_calls) == (5, 20)
    assert torch.equal(kept[row, cell], start[row, cell])
    assert float((mended != start)[row, cell].double().mean()) > 0.85
    assert right(mended) > right(kept) + 0.3
    assert float(gap(mended).median()) < 1e-9
    decoded(remask_below=1.0, num_iterations=5)  # takes all back before every step
    known = (start, start < K)
    solver = Anchored(PROBLEM.log_likelihood, CODES, remask_below=1.0, num_iterations=5)
    x = samplers.sample(CHAIN.denoiser(PROCESS), PROCESS, known=known, solver=solver, times=FIVE)
    assert torch.equal(x[row, cell], start[row, cell])


def test_without_doubt_nothing_changes():
    plain = PROBLEM.decoded()
    assert torch.equal(PROBLEM.decoded(remask_below=0.0), plain)
    assert torch.equal(PROBLEM.decoded(remask_below=1e-30), plain)  # reviewed, and all kept
    assert right(PROBLEM.decoded(remask_below=0.5)) >= right(plain)


@pytest.mark.parametrize(
    "options",
    [{"relaxation": "gumbel"}, {"select": "random"}, {"draw": "sample"}, {"keep_best": True}, {"remask_below": 0.5}],
)
def test_every_option_keeps_the_contract_and_uses_the_measurement(options):
    law = lambda codes: -(codes - 1).square().sum((1, 2))  # noqa: E731
    solver = Anchored(law, CODES, num_iterations=20, **options)
    check_solver(solver, PROCESS, CHAIN.denoiser(PROCESS), CHAIN.sample(6, generator=generator(0)))
    assert right(PROBLEM.decoded(**options)) > 0.3


def test_wrong_options_are_refused():
    for name, value in (("relaxation", "hard"), ("select", "best"), ("draw", "max"), ("kl", -1.0),
                        ("remask_below", -0.1), ("remask_below", 1.5), ("remask_below", math.nan)):  # fmt: skip
        with pytest.raises(ValueError, match=name):
            Anchored(PROBLEM.log_likelihood, CODES, **{name: value})
    with pytest.raises(ValueError, match="codes"):
        Anchored(PROBLEM.log_likelihood, CODES[:4]).init(PROCESS.prior(2), PROCESS)
    with pytest.raises(ValueError, match="log_likelihood"):
        Anchored(lambda codes: codes.sum(), CODES).fitted(torch.zeros(2, L, K))
