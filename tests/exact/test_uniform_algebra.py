"""Mixture paths, uniform noise among them: scores, rates, kernels and their inverses by enumeration."""

import itertools

import pytest
import torch
from discrete_laws import Enumeration, product_states
from scipy.stats import chisquare

from clarkia import schedules
from clarkia.processes import CategoricalKernel, Masked, MixturePath, Uniform
from clarkia.random import generator

COUNTS = (3, 2, 4)
TABLE = torch.rand(*COUNTS, generator=generator(0), dtype=torch.float64)
TABLE = TABLE / TABLE.sum()
SOURCE = torch.tensor([[0.5, 0.2, 0.3, 0.0], [0.9, 0.1, 0.0, 0.0], [0.1, 0.4, 0.2, 0.3]], dtype=torch.float64)
SPARSE = torch.tensor([[0.5, 0.0, 0.5, 0.0], [0.9, 0.1, 0.0, 0.0], [0.1, 0.4, 0.0, 0.5]], dtype=torch.float64)
BY_COLUMN = schedules.PolynomialMask(torch.tensor([1.0, 1.7, 3.0], dtype=torch.float64), 1e-3, 1e-5)
PATHS = {
    "uniform": Uniform(COUNTS),
    "uniform geometric": Uniform(COUNTS, "geometric"),
    "uniform by column": Uniform(COUNTS, BY_COLUMN),
    "source": MixturePath(COUNTS, SOURCE, "cosine_squared"),
    "sparse source": MixturePath(COUNTS, SPARSE),
}
MASKS = {"masked": Masked(COUNTS), "masked by column": Masked(COUNTS, BY_COLUMN)}
T, S = 0.6, 0.35


def at(time, like):
    return torch.full((len(like),), time, dtype=torch.float64)


def same_classes(found, expected):
    torch.testing.assert_close(found.exp(), expected, rtol=1e-12, atol=1e-12)


def changes(law, position):
    """For every state and class of a position: the state with that class, by index."""
    base = law.states.clone()
    base[:, position] = 0
    return law.index(base).unsqueeze(1) + law.strides[position] * torch.arange(law.sizes[position])


@pytest.mark.parametrize("process", PATHS.values(), ids=PATHS.keys())
def test_the_concrete_score_is_the_ratio_of_noisy_probabilities(process):
    """``s_y = p_t(x with i -> y) / p_t(x)`` at every state that noise can have brought, and its inverse everywhere."""
    law = Enumeration(TABLE, process)
    prediction, p = law.prediction(T), law.law(T)
    score = process.score(law.states, prediction, at(T, law.states))
    for position in range(3):
        ratios = p[changes(law, position)] / p.unsqueeze(1)
        brought = law.noise[position][law.states[:, position]] > 0
        found = score[:, position, : law.sizes[position]]
        torch.testing.assert_close(found[brought], ratios[brought], rtol=1e-12, atol=1e-12)
        assert (score[~brought][:, position].sum(-1) == 1).all()
    back = process.log_probs_from_score(law.states, score, at(T, law.states))
    same_classes(back, prediction.exp())


def test_the_uniform_score_in_its_published_form():
    """``1 + alpha / beta p0(y) - p0(x) alpha / (alpha + beta)`` with ``beta = (1 - alpha) / K``."""
    process, alpha = Uniform(3), 1 - T
    beta = (1 - alpha) / 3
    x = torch.tensor([[0, 1, 2]])
    p0 = torch.rand(1, 3, 3, generator=generator(1), dtype=torch.float64).softmax(-1)
    expected = 1 + alpha / beta * p0 - p0.gather(-1, x[..., None]) * alpha / (alpha + beta)
    expected = torch.where(x[..., None] == torch.arange(3), 1.0, expected)
    torch.testing.assert_close(process.score(x, p0.log(), at(T, x)), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("process", [*PATHS.values(), *MASKS.values()], ids=[*PATHS, *MASKS])
def test_the_reverse_rates_lead_back_to_the_prediction(process):
    law = Enumeration(TABLE, process)
    prediction = law.prediction(T)
    rates = process.rates(law.states, prediction, at(T, law.states))
    same_classes(process.log_probs_from_rates(law.states, rates, at(T, law.states)), prediction.exp())


@pytest.mark.parametrize("process", [*PATHS.values(), *MASKS.values()], ids=[*PATHS, *MASKS])
@pytest.mark.parametrize("corrector", [None, 0.0, 0.7])
def test_reverse_rates_carry_the_noisy_law_backwards(process, corrector):
    """Kolmogorov's equation: what flows into a state minus what flows out is ``-d p_t / dt``, whatever the corrector.

    None: the rates of the reversed corruption. Else: those of the mixture-path velocity.
    """
    law = Enumeration(TABLE, process)
    prediction, time, p = law.prediction(T), at(T, law.states), law.law(T)
    if corrector is None:
        rates = process.rates(law.states, prediction, time)
    else:
        rates = process.flow_rates(law.states, prediction, time, corrector=corrector)
    assert float(rates.min()) == 0
    change = -p * rates.sum((1, 2))
    for position, classes in enumerate(law.counts if corrector is None else law.sizes):
        flux = p.unsqueeze(1) * rates[:, position, :classes]
        change.index_add_(0, changes(law, position)[:, :classes].flatten(), flux.flatten())
    torch.testing.assert_close(change, -law.slope(T), rtol=1e-10, atol=1e-12)
    assert float(law.slope(T).abs().max()) > 1e-3


def brute_posterior(law, t, s):
    """``p(x_s^i = j | x_t)`` from the joint law of ``x_0 -> x_s -> x_t``, ``(states, m, max states)``."""
    weights = law.p * law.likelihood(t).T
    weights = weights / weights.sum(1, keepdim=True)
    kept = law.alpha(t) / law.alpha(s)
    answer = torch.zeros(len(law.states), len(law.counts), max(law.sizes), dtype=torch.float64)
    for i, (pi, first, whole) in enumerate(
        zip(law.noise, law.emissions(law.alpha(s)), law.emissions(law.alpha(t)), strict=True)
    ):
        second = kept[i] * torch.eye(law.sizes[i], dtype=torch.float64) + (1 - kept[i]) * pi  # q(x_t | x_s)
        for row, x in enumerate(law.states[:, i].tolist()):
            for j in range(law.sizes[i]):
                ratio = second[j, x] * first[:, j] / torch.where(whole[:, x] > 0, whole[:, x], 1.0)
                answer[row, i, j] = (weights[row] * ratio[law.clean[:, i]]).sum()
    return answer


def analytic_step(law, score, t, s):
    """SEDD's step from the score: ``(exp(-h Q) score)_j exp(h Q)[x, j]`` with the rate matrix ``Q = pi 1' - I``."""
    answer = torch.zeros(len(law.states), len(law.counts), max(law.sizes), dtype=torch.float64)
    h = (law.alpha(s) / law.alpha(t)).log()
    for i, (pi, size) in enumerate(zip(law.noise, law.sizes, strict=True)):
        q = pi[:, None] - torch.eye(size, dtype=torch.float64)
        forward, backward = torch.linalg.matrix_exp(h[i] * q), torch.linalg.matrix_exp(-h[i] * q)
        s_i = score[:, i, :size] @ backward.T
        answer[:, i, :size] = s_i * forward[law.states[:, i]]
    return answer


@pytest.mark.parametrize("process", [*PATHS.values(), *MASKS.values()], ids=[*PATHS, *MASKS])
def test_one_finite_step_three_ways(process):
    """The kernel from the prediction, the analytic step from the score, and Bayes' rule over all states agree."""
    law = Enumeration(TABLE, process)
    prediction = law.prediction(T)
    time, end = at(T, law.states), at(S, law.states)
    kernel = process.kernel(law.states, prediction, time, end)
    table = kernel.table()[..., : max(law.sizes)].exp()
    torch.testing.assert_close(table, brute_posterior(law, T, S), rtol=1e-12, atol=1e-12)
    score = process.score(law.states, prediction, time)
    noise = torch.stack([torch.nn.functional.pad(pi, (0, max(law.sizes) - len(pi))) for pi in law.noise])
    brought = noise.expand(len(law.states), -1, -1).gather(-1, law.states.unsqueeze(-1)).squeeze(-1) > 0
    score = torch.nn.functional.pad(score, (0, max(law.sizes) - score.shape[-1]))
    score = score.scatter(-1, law.states.unsqueeze(-1), 1.0)
    torch.testing.assert_close(analytic_step(law, score, T, S)[brought], table[brought], rtol=1e-12, atol=1e-12)
    same_classes(process.log_probs_from_kernel(law.states, kernel, time, end), prediction.exp())


def test_the_step_to_clean_data_draws_from_the_prediction_and_that_from_pure_noise_ignores_the_state():
    process = MixturePath(COUNTS, SOURCE)
    law = Enumeration(TABLE, process)
    half, prediction = law.prediction(0.5), law.prediction(1.0)
    last = process.kernel(law.states, half, 0.5, 0.0).table().exp()
    torch.testing.assert_close(last, half.exp(), rtol=1e-12, atol=1e-14)
    first = process.kernel(law.states, prediction, 1.0, 0.4).table().exp()
    torch.testing.assert_close(first, 0.6 * prediction.exp() + 0.4 * SOURCE, rtol=1e-12, atol=1e-14)
    still = process.kernel(law.states, prediction, 1.0, 1.0).table().exp()
    assert torch.equal(still.argmax(-1), law.states)
    assert torch.equal(still.sum(-1), torch.ones(len(law.states), 3, dtype=torch.float64))


def kernel_at(seed):
    process = Uniform(COUNTS)
    x_t = torch.tensor([[2, 1, 0]])
    logits = torch.randn(1, 3, 4, generator=generator(seed), dtype=torch.float64)
    return process.kernel(x_t, process.log_probs(logits, x_t), 0.9 - 0.1 * seed, 0.3)


def test_categorical_probabilities_and_divergence_by_enumeration():
    p, q, states = kernel_at(2), kernel_at(3), product_states(COUNTS)
    log_p, log_q = (CategoricalKernel(k.log_probs.expand(len(states), -1, -1)).log_prob(states) for k in (p, q))
    assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(p.kl(q)[0], (log_p.exp() * (log_p - log_q)).sum(), rtol=1e-12, atol=1e-12)
    assert p.log_prob(torch.tensor([[3, 1, 0]])).tolist() == [-torch.inf]  # a class the position lacks
    assert p.log_prob(torch.tensor([[4, 1, 0]])).tolist() == [-torch.inf]  # a state that is none


def test_categorical_draws_follow_their_law():
    states, n = product_states(COUNTS), 100_000
    kernel = kernel_at(2)
    draws = CategoricalKernel(kernel.log_probs.expand(n, -1, -1)).sample(generator(4))
    counts = torch.bincount((draws * torch.tensor([8, 4, 1])).sum(1), minlength=24)
    law = CategoricalKernel(kernel.log_probs.expand(24, -1, -1)).log_prob(states).exp()
    assert chisquare(counts.numpy(), (law / law.sum() * n).numpy()).pvalue > 1e-4  # false alarm 1e-4


@pytest.mark.parametrize("process", [PATHS["sparse source"], PATHS["uniform by column"]])
def test_corruption_follows_its_law(process):
    law, n = Enumeration(TABLE, process), 100_000
    x0 = law.clean[torch.multinomial(law.p, n, replacement=True, generator=generator(5))]
    counts = torch.bincount(law.index(process.corrupt(x0, T, generator=generator(6))), minlength=24)
    expected = law.law(T)
    assert chisquare(counts.numpy(), (expected / expected.sum() * n).numpy()).pvalue > 1e-4  # false alarm 1e-4


def test_a_coupled_source_replaces_what_noise_replaces():
    """With the state given as noise, a cell is ``x_0`` with probability alpha and that state's class otherwise."""
    process, n = Uniform(COUNTS), 50_000
    x0, x1 = torch.tensor([[0, 0, 3]]).expand(n, 3), torch.tensor([[2, 1, 1]]).expand(n, 3)
    x_t = process.corrupt(x0, 0.3, noise=x1, generator=generator(7))
    clean = x_t == x0
    assert bool((clean | (x_t == x1)).all())
    counts = torch.bincount((clean.long() * torch.tensor([4, 2, 1])).sum(1), minlength=8)
    expected = [0.7 ** sum(bits) * 0.3 ** (3 - sum(bits)) * n for bits in itertools.product((0, 1), repeat=3)]
    assert chisquare(counts.numpy(), expected).pvalue > 1e-4  # false alarm 1e-4
    assert torch.equal(process.corrupt(x0, 1.0, noise=x1), x1)
    assert torch.equal(process.corrupt(x0, 0.0, noise=x1), x0)


def test_where_there_is_no_signal_scores_and_rates_mean_nothing():
    for process in (PATHS["uniform"], MASKS["masked"]):
        x_t = process.prior(2, generator=generator(8))
        prediction = process.log_probs(torch.zeros(2, 3, 4, dtype=torch.float64), x_t)
        with pytest.raises(ValueError, match="score: expected times with alpha > 0"):
            process.log_probs_from_score(x_t, process.score(x_t, prediction, at(1.0, x_t)), at(1.0, x_t))
    x_t = torch.zeros(1, 3, dtype=torch.int64)
    rates = PATHS["uniform"].rates(x_t, torch.full((1, 3, 4), 0.25).log(), at(1.0, x_t))
    assert rates[0, 0].tolist() == [0.0, torch.inf, torch.inf, pytest.approx(0.25)]  # the last class is lacking there
    with pytest.raises(ValueError, match="rates: expected times with alpha > 0"):
        PATHS["uniform"].log_probs_from_rates(x_t, rates, at(1.0, x_t))
    for process in (PATHS["uniform"], MASKS["masked"]):
        x_t = process.prior(2, generator=generator(9))
        kernel = process.kernel(x_t, process.log_probs(torch.zeros(2, 3, 4), x_t), 0.5, 0.5)
        with pytest.raises(ValueError, match="s: expected a step that may"):
            process.log_probs_from_kernel(x_t, kernel, 0.5, 0.5)
