"""Tokens with times of their own: the law of the times, exact posteriors, labels of a predictor, and the sampler."""

import itertools
import math

import pytest
import torch
from scipy.stats import poisson

from clarkia import samplers
from clarkia.networks.time_predictor import ScaledEmbedding, TimePredictor, element_policy
from clarkia.objectives.element_time import ElementTimeDenoising, time_labels
from clarkia.oracles import MarkovChain
from clarkia.oracles.embedding import Embedded
from clarkia.processes import Masked, RectifiedFlow, VariancePreserving
from clarkia.processes.token_embedding import FixedEmbedding, TokenEmbeddingGaussian
from clarkia.random import generator, rand
from clarkia.samplers.element_time import ElementTime, doubled
from clarkia.schedules.element_time import PoissonElementTime
from clarkia.schedules.search import search_times
from clarkia.schedules.square_root import SquareRootVP

DOUBLE = torch.float64
K, L, E = 3, 4, 2
CHAIN = MarkovChain([0.5, 0.3, 0.2], [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]], L)
VECTORS = torch.randn(K, E, generator=generator(0), dtype=DOUBLE)
TEXT = VariancePreserving(SquareRootVP())


# ----------------------------------------------------------------------------------------------- the law of times


@pytest.mark.parametrize(
    ("t", "mean", "at_zero", "at_end"),
    [(0.25, 0.494, 0.158, 0.158), (0.5, 0.678, 0.171, 0.511), (0.75, 0.741, None, 0.623)],
)
def test_the_reference_distribution(t, mean, at_zero, at_end):
    law = PoissonElementTime().law(torch.tensor([t]))[0]
    counts = torch.arange(100, dtype=DOUBLE)
    assert float(law.sum()) == pytest.approx(1.0, abs=1e-9)
    assert float(law @ counts) / 99 == pytest.approx(mean, abs=0.005)
    assert float(law[-1]) == pytest.approx(at_end, abs=0.005)
    if at_zero is not None:
        assert float(law[0]) == pytest.approx(at_zero, abs=0.005)


@pytest.mark.parametrize("times", [PoissonElementTime(), PoissonElementTime(20, 1.0, 0.5), PoissonElementTime(7, 3.0)])
def test_draws_follow_the_law(times):
    """Chi-square of the counts that are expected at least ten times; false alarm 1e-4."""
    n = 40_000
    for t in (0.0, 0.1, 0.6, 1.0):
        row = torch.tensor([t], dtype=DOUBLE)
        tau = times.quantile(rand((1, n), generator(1)), row)[0]
        counts = torch.bincount(tau, minlength=times.max_tau + 1).double()
        expected = n * times.law(row)[0]
        common = expected >= 10
        square = ((counts - expected) ** 2 / expected.clamp(min=1e-9))[common].sum()
        degrees = int(common.sum()) - 1
        assert float(square) < degrees + 4 * math.sqrt(2 * max(degrees, 1)) + 8
        assert float(counts[~common].sum()) < 4 * math.sqrt(n) * 0.5 + float(expected[~common].sum())


def test_without_spreading_to_itself_it_is_a_poisson_count():
    """A standard deviation of sqrt(lambda) leaves the count as it is, here at t with rate M t = 16 = 4^2."""
    times = PoissonElementTime(99, 1.0, 0.25)
    law = times.law(torch.tensor([16 / 99], dtype=DOUBLE))[0]
    torch.testing.assert_close(law[:60], torch.from_numpy(poisson.pmf(range(60), 16)), rtol=1e-9, atol=1e-12)


def test_no_spread_is_one_time_for_all():
    times = PoissonElementTime(99, 1.0, 0.0)
    tau = times.quantile(rand((3, 50), generator(2)), torch.tensor([0.1, 0.5, 1.0]))
    assert tau.unique(dim=1).flatten().tolist() == [10, 50, 99]  # round half to even of 9.9, 49.5, 99


def test_labels_follow_the_losses_and_have_the_mean_of_the_law():
    times, length = PoissonElementTime(), 4000
    t = torch.tensor([0.2, 0.5, 0.9], dtype=DOUBLE)
    losses = torch.rand(3, length, generator=generator(3))
    labels = time_labels(times, losses, t, torch.ones(3, length, dtype=torch.bool))
    in_order = labels.gather(1, losses.argsort(1))
    assert bool((in_order.diff(dim=1) >= 0).all())
    law = times.law(t) @ torch.arange(100, dtype=DOUBLE) / 99
    torch.testing.assert_close(labels.mean(1), law, rtol=0.01, atol=0)


def test_padding_has_no_say_in_the_labels():
    times, t = PoissonElementTime(), torch.tensor([0.3], dtype=DOUBLE)
    real = torch.tensor([[True, True, False, True, False]])
    losses = torch.tensor([[0.3, 0.1, -5.0, 0.2, 99.0]])
    found = time_labels(times, losses, t, real)
    alone = time_labels(times, losses[:, [0, 1, 3]], t, torch.ones(1, 3, dtype=torch.bool))
    assert torch.equal(found[real], alone[0])


# --------------------------------------------------------------------------------------------------- the process


def test_the_schedule():
    t = torch.linspace(1e-6, 0.99, 400, dtype=DOUBLE)
    schedule = SquareRootVP()
    torch.testing.assert_close(TEXT.alpha(t) ** 2 + TEXT.sigma(t) ** 2, torch.ones_like(t))
    torch.testing.assert_close(TEXT.alpha(t) ** 2, 1 - (t + 1e-4).sqrt())
    torch.testing.assert_close(schedule.t_of_kappa(TEXT.kappa(t)), t, rtol=1e-9, atol=1e-12)
    h = 1e-7
    for function, derivative in ((TEXT.alpha, TEXT.d_alpha), (TEXT.sigma, TEXT.d_sigma)):
        slope = (function(t[5:] + h) - function(t[5:] - h)) / (2 * h)
        torch.testing.assert_close(derivative(t[5:]), slope, rtol=1e-5, atol=1e-6)
    ends = torch.tensor([0.0, 1e-15, 1.0], dtype=DOUBLE)
    assert TEXT.alpha(ends).tolist() == pytest.approx([1.0, math.sqrt(0.99), 1e-4])
    assert TEXT.sigma(ends).tolist() == pytest.approx([0.0, 0.1, 1.0])


@pytest.mark.parametrize("noise_scale", [1.0, 6.5])
def test_the_oracle_of_tokens_at_times_of_their_own_is_bayes_by_enumeration(noise_scale):
    process = TokenEmbeddingGaussian(TEXT, FixedEmbedding(VECTORS), noise_scale)
    n = 12
    t = torch.rand(n, L, generator=generator(4), dtype=DOUBLE) * 0.9 + 0.01
    x = CHAIN.sample(n, generator=generator(5))
    z = process.corrupt(x, t, generator=generator(6))
    found = CHAIN.denoiser(process)(z, t).exp()
    every = torch.tensor(list(itertools.product(range(K), repeat=L)))
    alpha, sigma = TEXT.alpha(t), TEXT.sigma(t) * noise_scale
    gap = z[:, None] - alpha[:, None, :, None] * VECTORS[every]
    log_joint = CHAIN.log_prob(every) - 0.5 * (gap / sigma[:, None, :, None]).square().sum((2, 3))
    weight = log_joint.softmax(1)
    exact = torch.stack([(weight[:, :, None] * (every == k)).sum(1) for k in range(K)], -1)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-10)


def test_one_time_for_all_tokens_is_ordinary_diffusion_of_embeddings():
    process = TokenEmbeddingGaussian(TEXT, FixedEmbedding(VECTORS))
    t = torch.rand(9, generator=generator(7), dtype=DOUBLE) * 0.8 + 0.1
    z = process.corrupt(CHAIN.sample(9, generator=generator(8)), t, generator=generator(9))
    law = Embedded(CHAIN, VECTORS)
    torch.testing.assert_close(CHAIN.denoiser(process)(z, t), law.class_denoiser(TEXT)(z, t), rtol=0, atol=1e-10)
    assert torch.equal(z, TEXT.corrupt(VECTORS[CHAIN.sample(9, generator=generator(8))], t, generator=generator(9)))


def test_times_zero_and_one_alone_are_masks():
    """One-hot vectors and no signal at t = 1: the posterior is that of masked diffusion."""
    process = TokenEmbeddingGaussian(RectifiedFlow(), FixedEmbedding(torch.eye(K, dtype=DOUBLE)))
    masked = Masked(K)
    x = CHAIN.sample(40, generator=generator(10))
    hidden = torch.rand(x.shape, generator=generator(11)) < 0.5
    z = process.corrupt(x, hidden.double(), generator=generator(12))
    assert torch.equal(z[~hidden], torch.eye(K, dtype=DOUBLE)[x[~hidden]])
    exact = CHAIN.denoiser(masked)(torch.where(hidden, K, x))
    torch.testing.assert_close(CHAIN.denoiser(process)(z, hidden.double()).exp(), exact.exp(), rtol=0, atol=1e-12)


# ------------------------------------------------------------------------------------------------- the objective


def process_of(embedding):
    return TokenEmbeddingGaussian(TEXT, embedding, 2.0)


def test_losses_and_their_gradients():
    torch.manual_seed(0)
    embedding, predictor = ScaledEmbedding(K, 8), TimePredictor(8, width=16, heads=2, max_length=L)
    network = torch.nn.Linear(16, 8)
    inputs = []

    def denoise(z, t, condition=None):
        assert t.shape == z.shape[:2]
        inputs.append(z.detach())
        return network(z)

    objective = ElementTimeDenoising(process_of(embedding), PoissonElementTime(), embedding.logits, predictor)
    x0 = CHAIN.sample(64, generator=generator(13))
    losses = objective(denoise, x0, generator(14))
    assert {name: part.shape for name, part in losses.items()} == dict.fromkeys(("vectors", "tokens", "times"), (64,))
    first, second = inputs
    assert float(first[..., 8:].abs().max()) == 0
    shown = second[..., 8:].abs().amax((1, 2)) > 0
    assert 10 < int(shown.sum()) < 54
    torch.testing.assert_close(second[shown][..., 8:], network(first)[shown].detach())
    losses["times"].mean().backward()
    assert network.weight.grad is None  # the predictor's loss trains the predictor alone
    assert embedding.weight.grad is None
    assert float(predictor.out.weight.grad.abs().max()) > 0


def test_an_exact_denoiser_has_the_losses_of_its_posterior():
    process = TokenEmbeddingGaussian(TEXT, FixedEmbedding(VECTORS))
    classes = CHAIN.denoiser(process)

    def denoise(z, t):
        return classes(z, t).exp() @ VECTORS

    objective = ElementTimeDenoising(
        process, PoissonElementTime(), lambda x: x @ VECTORS.T, self_condition=0.0, label_smoothing=0.0
    )
    x0 = CHAIN.sample(4000, generator=generator(15))
    exact = objective(denoise, x0, generator(16))["vectors"].mean()
    for wrong in (lambda z, t: 0.9 * denoise(z, t), lambda z, t: denoise(z, t) + 0.1):
        assert float(objective(wrong, x0, generator(16))["vectors"].mean()) > float(exact)


def test_padding_counts_in_no_loss():
    objective = ElementTimeDenoising(
        TokenEmbeddingGaussian(TEXT, FixedEmbedding(VECTORS)),
        PoissonElementTime(),
        lambda x: x @ VECTORS.T,
        self_condition=0.0,
        padding=2,
    )
    x0 = torch.tensor([[0, 1, 2, 2]]).expand(50, 4)

    def denoiser(wrong):
        return lambda z, t: torch.where(torch.arange(4)[:, None] < 2, 0.5, wrong) * torch.ones_like(z)

    one, two = (objective(denoiser(wrong), x0, generator(17)) for wrong in (0.0, 50.0))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_label_smoothing_is_that_of_torch():
    objective = ElementTimeDenoising(
        TokenEmbeddingGaussian(TEXT, FixedEmbedding(VECTORS)), PoissonElementTime(), lambda x: x @ VECTORS.T
    )
    x0_hat, x0 = torch.randn(5, L, E, generator=generator(18), dtype=DOUBLE), CHAIN.sample(5)
    exact = torch.nn.functional.cross_entropy(
        (x0_hat @ VECTORS.T).flatten(0, 1), x0.flatten(), label_smoothing=0.1, reduction="none"
    )
    torch.testing.assert_close(objective._nats(x0_hat, x0).flatten(), exact)


# --------------------------------------------------------------------------------------------------- the sampler


def oracle_denoiser(process):
    classes = CHAIN.denoiser(process)

    def denoise(x_t, t):
        time = t if t.ndim == 1 else t[..., 0]
        return classes(x_t, time).exp() @ VECTORS

    return denoise


def test_one_time_for_all_without_fresh_noise_is_the_deterministic_sampler():
    denoiser = oracle_denoiser(TokenEmbeddingGaussian(TEXT, FixedEmbedding(VECTORS)))
    initial = torch.randn(50, L, E, generator=generator(19), dtype=DOUBLE)
    found, plain = (
        samplers.sample(denoiser, TEXT, initial=initial, solver=solver, num_steps=20)
        for solver in (ElementTime(fresh=False), samplers.DDIM())
    )
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-9)


def test_observed_tokens_stay_and_lead_the_others():
    process = TokenEmbeddingGaussian(TEXT, FixedEmbedding(VECTORS))
    n = 500
    values = VECTORS[torch.zeros(n, L, dtype=torch.int64)]
    mask = torch.zeros(n, L, E, dtype=torch.bool)
    mask[:, 0] = True
    seen = []

    def policy(x0_hat, t):
        seen.append(float(t[0]))
        return (t[:, None] * torch.linspace(0.5, 1.0, L)).expand(n, L)

    z = samplers.sample(
        oracle_denoiser(process),
        TEXT,
        known=(values, mask),
        solver=ElementTime(policy),
        num_steps=10,
        generator=generator(20),
        dtype=DOUBLE,
    )
    assert torch.equal(z[:, 0], values[:, 0])
    assert seen == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0])


def test_tokens_are_noised_to_the_times_of_the_policy():
    """With a prediction of zero the state after a step is nothing but the policy's noise."""
    n, states = 4000, []

    def denoise(x_t, t):
        states.append((x_t, t))
        return torch.zeros_like(x_t)

    def policy(x0_hat, t):
        return torch.tensor([0.2, 0.7]).expand(n, 2) if len(states) == 1 else torch.tensor([0.5, 0.1]).expand(n, 2)

    solver = ElementTime(policy)
    samplers.sample(
        denoise, TEXT, num_samples=n, shape=(2, E), solver=solver, num_steps=3, generator=generator(21), dtype=DOUBLE
    )
    for (x_t, t), expected in zip(states[1:], ([0.2, 0.7], [0.2, 0.1]), strict=True):  # the first may not rise again
        assert t[0, :, 0].tolist() == pytest.approx(expected)
        std = x_t.std((0, 2))
        torch.testing.assert_close(std, TEXT.sigma(torch.tensor(expected, dtype=DOUBLE)), rtol=0.04, atol=0)


def test_self_conditioning_shows_the_last_prediction():
    n, seen = 6, []

    def network(inputs, t):
        seen.append((inputs, t))
        return torch.full((n, L, E), float(len(seen)))

    initial = torch.cat([torch.randn(n, L, E, generator=generator(22)), torch.zeros(n, L, E)], -1)
    end = samplers.sample(
        doubled(network), TEXT, initial=initial, solver=ElementTime(self_condition=True), num_steps=3,
        generator=generator(23),
    )  # fmt: skip
    assert [float(inputs[0, 0, -1]) for inputs, _ in seen] == [0.0, 1.0, 2.0]
    assert all(t.shape == (n, L) for _, t in seen)
    assert torch.equal(end[..., :E], torch.full((n, L, E), 3.0))


def test_a_predictor_is_a_policy():
    torch.manual_seed(0)
    predictor = TimePredictor(E, width=8, heads=2, max_length=L, source_size=5)
    source, mask = torch.randn(3, 4, 5), torch.tensor([[True] * 2 + [False] * 2] * 3)
    policy = element_policy(predictor, source, mask)
    times = policy(torch.randn(3, L, E), torch.full((3,), 0.5, dtype=DOUBLE))
    assert times.shape == (3, L)
    assert bool(((times >= 0) & (times <= 1)).all())
    changed = source.clone()
    changed[:, 2:] += 1  # behind the mask
    x0_hat = torch.randn(3, L, E)
    torch.testing.assert_close(
        policy(x0_hat, torch.ones(3)), element_policy(predictor, changed, mask)(x0_hat, torch.ones(3))
    )


# ---------------------------------------------------------------------------------------------------- the search


def test_the_search_finds_a_grid_near_the_best_and_never_a_worse_one_than_uniform():
    best = torch.tensor([1.0, 0.9, 0.6, 0.2, 0.0], dtype=DOUBLE)
    tried = []

    def objective(times):
        tried.append(times)
        assert bool((times.diff() < 0).all())
        assert (float(times[0]), float(times[-1])) == (1.0, 0.0)
        return float((times - best).square().sum())

    found = search_times(objective, 4, num_random=10, num_guided=20, seed=0)
    assert len(tried) == 31
    uniform = float((torch.linspace(1, 0, 5, dtype=DOUBLE) - best).square().sum())
    assert found.value == float(found.values.min()) <= uniform
    assert found.value < 0.2 * uniform
    assert float(found.values[:11].min()) > found.value  # the model adds to luck
    assert torch.equal(search_times(objective, 4, num_random=2, num_guided=2).times, found.times) is False


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_grids_that_are_drawn_to_an_end_still_decrease(end):
    def objective(times):
        assert bool((times.diff() < 0).all())
        return float((times - end).abs().sum())

    assert search_times(objective, 6, num_random=5, num_guided=8, seed=1).value < 2


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PoissonElementTime(0), "max_tau"),
        (lambda: SquareRootVP(0.0), "offset"),
        (lambda: TokenEmbeddingGaussian(TEXT, FixedEmbedding(VECTORS), 0.0), "noise_scale"),
        (lambda: ElementTime(falling=False, fresh=False), "fresh"),
        (lambda: ElementTime().init(torch.zeros(2, 3), TEXT), "states"),
        (lambda: search_times(lambda t: 0.0, 1), "num_steps"),
        (lambda: search_times(lambda t: math.nan, 3), "finite"),
    ],
)
def test_wrong_arguments(make, words):
    with pytest.raises(ValueError, match=words):
        make()
