"""Oracles of categories under masks, uniform noise and noisy embeddings, against sums over all sequences."""

import itertools

import pytest
import torch
from scipy.stats import chisquare

from clarkia.oracles import Embedded, FiniteJoint, MarkovChain, MixtureOfProducts
from clarkia.processes import EDM, Masked, MixturePath, RectifiedFlow, Uniform, VariancePreserving
from clarkia.random import generator

K, L, DOUBLE = 3, 5, torch.float64
NOISE = generator(0)


def simplex(*shape):
    table = torch.rand(shape, generator=NOISE, dtype=DOUBLE)
    return table / table.sum(-1, keepdim=True)


SEQUENCES = torch.tensor(list(itertools.product(range(K), repeat=L)))
INITIAL, STEP, STEPS = simplex(K), simplex(K, K), simplex(L - 1, K, K)
TABLE = simplex(K**L).reshape((K,) * L)
SHARES, PRODUCTS = simplex(4), simplex(4, L, K)
LAWS = {
    "chain": MarkovChain(INITIAL, STEP, L),
    "uneven chain": MarkovChain(INITIAL, STEPS, L),
    "joint": FiniteJoint(TABLE),
    "products": MixtureOfProducts(SHARES, PRODUCTS),
}


def chain_table(initial, steps):
    table = initial
    for step in steps:
        table = table.unsqueeze(-1) * step
    return table.flatten()


PROBABILITIES = {  # of all sequences, by the definition of each law
    "chain": chain_table(INITIAL, STEP.expand(L - 1, K, K)),
    "uneven chain": chain_table(INITIAL, STEPS),
    "joint": TABLE.flatten(),
    "products": torch.stack([PRODUCTS[:, i, SEQUENCES[:, i]] for i in range(L)]).prod(0).T @ SHARES,
}
VECTORS = torch.randn(K, 2, generator=NOISE, dtype=DOUBLE)


class Seen:
    """Twenty noisy strings under one corruption, and what each shows of each class by the corruption's definition."""

    def __init__(self, kind, times):
        noise = generator(1)
        rows = 20
        x0 = torch.randint(K, (rows, L), generator=noise)
        t = torch.rand((rows, L) if times == "element" else (rows,), generator=noise, dtype=DOUBLE)
        t = torch.where(t < 0.2, 0.0, t) if times == "element" else t
        self.t, time = t, t if times == "element" else t[:, None].expand(rows, L)
        classes = torch.arange(K)
        if kind == "masked":
            process = Masked(K)
            self.x_t = process.corrupt(x0, t, generator=noise)
            self.emission = ((self.x_t.unsqueeze(-1) == classes) | (self.x_t.unsqueeze(-1) == K)).double()
        elif kind in ("uniform", "path"):
            source = (
                torch.tensor([0.2, 0.5, 0.3], dtype=DOUBLE) if kind == "path" else torch.full((K,), 1 / K, dtype=DOUBLE)
            )
            process = MixturePath(K, source) if kind == "path" else Uniform(K)
            self.x_t = process.corrupt(x0, t, generator=noise)
            alpha = (1 - time).unsqueeze(-1)
            self.emission = alpha * (self.x_t.unsqueeze(-1) == classes) + (1 - alpha) * source[self.x_t].unsqueeze(-1)
        else:
            process = VariancePreserving()
            wide = t if times == "row" else t.unsqueeze(-1).expand(rows, L, 2)
            self.x_t = process.corrupt(VECTORS[x0], wide, generator=noise)
            alpha, sigma = (part[..., None, None] for part in (process.alpha(time), process.sigma(time)))
            gap = self.x_t.unsqueeze(2) - alpha * VECTORS
            density = torch.distributions.Normal(0.0, torch.where(sigma > 0, sigma, 1.0)).log_prob(gap).sum(-1).exp()
            self.emission = torch.where(sigma[..., 0] > 0, density, (gap == 0).all(-1).double())
        self.process = process

    def posterior(self, probabilities):
        """Class and pair probabilities, and the log-probability of what is seen."""
        likelihood = self.emission[:, torch.arange(L), SEQUENCES].prod(-1)  # (rows, sequences)
        weights = likelihood * probabilities
        total = weights.sum(1, keepdim=True)
        one_hot = torch.nn.functional.one_hot(SEQUENCES, K).double()
        pairs = torch.einsum("slj,slk->sljk", one_hot[:, :-1], one_hot[:, 1:])
        shares = weights / total
        return torch.einsum("ns,slk->nlk", shares, one_hot), torch.einsum("ns,sljk->nljk", shares, pairs), total.log()


KINDS = ["masked", "uniform", "path", "embedded"]


def close(found, expected, tolerance=1e-12):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("times", ["row", "element"])
def test_the_posterior_by_summing_over_all_sequences(name, kind, times):
    law, seen = LAWS[name], Seen(kind, times)
    classes, _, evidence = seen.posterior(PROBABILITIES[name])
    denoise, noisy = law.denoiser(seen.process), law.noisy_log_prob
    if kind == "embedded":
        embedded = Embedded(law, VECTORS)
        denoise, noisy = embedded.class_denoiser(seen.process), embedded.noisy_log_prob
        mean = embedded.denoiser(seen.process)(seen.x_t, seen.t)
        time = seen.t.reshape(20, -1, 1).expand(20, L, 2)
        close(mean, torch.where(time > 0, classes @ VECTORS, seen.x_t))
    close(denoise(seen.x_t, seen.t).exp(), classes)
    close(noisy(seen.process, seen.x_t, seen.t), evidence.squeeze(1))


@pytest.mark.parametrize("name", ["chain", "uneven chain"])
@pytest.mark.parametrize("kind", KINDS)
def test_pairs_of_neighbours_by_summing_over_all_sequences(name, kind):
    seen = Seen(kind, "element")
    found = LAWS[name].explain_pairs(seen.emission.log()).exp()
    close(found, seen.posterior(PROBABILITIES[name])[1])


@pytest.mark.parametrize("name", LAWS)
def test_the_law_and_its_draws(name):
    law, probabilities = LAWS[name], PROBABILITIES[name]
    close(law.log_prob(SEQUENCES).exp(), probabilities)
    n = 50_000
    x = law.sample(n, generator=generator(2))
    law.space.check(x)
    counts = torch.bincount((x * K ** torch.arange(L - 1, -1, -1)).sum(1), minlength=K**L)
    assert chisquare(counts.numpy(), (n * probabilities).numpy()).pvalue > 1e-4  # false alarm 1e-4
    if name != "joint":
        one_hot = torch.nn.functional.one_hot(SEQUENCES, K).double()
        close(law.marginals, torch.einsum("s,slk->lk", probabilities, one_hot))


@pytest.mark.parametrize("kind", KINDS)
def test_draws_of_whole_sequences_given_evidence(kind):
    seen, n = Seen(kind, "row"), 50_000
    chain = LAWS["uneven chain"]
    x = chain.sample_posterior(seen.emission[3:4].log().expand(n, L, K), generator=generator(3))
    weights = seen.emission[3, torch.arange(L), SEQUENCES].prod(-1) * PROBABILITIES["uneven chain"]
    expected = n * weights / weights.sum()
    counts = torch.bincount((x * K ** torch.arange(L - 1, -1, -1)).sum(1), minlength=K**L)
    assert int(counts[expected == 0].sum()) == 0
    common = expected > 5  # the rest is pooled into one cell
    found, wanted = (torch.cat([part[common], part[~common].sum()[None]]) for part in (counts.double(), expected))
    some = wanted > 0
    assert chisquare(found[some].numpy(), wanted[some].numpy()).pvalue > 1e-4  # false alarm 1e-4


@pytest.mark.parametrize("name", LAWS)
def test_tilts_and_posteriors_are_laws_of_the_same_kind(name):
    law, noise = LAWS[name], generator(4)
    shape = (K,) * L if name == "joint" else (L, K)
    reward = torch.randn(shape, generator=noise, dtype=DOUBLE)
    reward[(0,) * len(shape)] = -torch.inf
    gain = reward.flatten() if name == "joint" else reward[torch.arange(L), SEQUENCES].sum(1)
    pairs = []
    if "chain" in name:
        pairs = [torch.randn(L - 1, K, K, generator=noise, dtype=DOUBLE)]
        gain = gain + pairs[0][torch.arange(L - 1), SEQUENCES[:, :-1], SEQUENCES[:, 1:]].sum(1)
    tilted = law.tilt(reward, *pairs)
    weights = PROBABILITIES[name] * gain.exp()
    close(tilted.log_z, weights.sum().log())
    close(tilted.log_prob(SEQUENCES).exp(), weights / weights.sum())
    assert type(tilted) is type(law)
    seen = Seen("uniform", "element")
    close(tilted.denoiser(seen.process)(seen.x_t, seen.t).exp(), seen.posterior(weights / weights.sum())[0])
    if not pairs:
        posterior = law.posterior(reward)
        close(posterior.log_z, tilted.log_z)
        close(posterior.log_prob(SEQUENCES), tilted.log_prob(SEQUENCES))


def test_evidence_is_a_posterior():
    """Conditioning on seen cells as a likelihood or as a noisy state is the same."""
    seen = Seen("uniform", "row")
    chain = LAWS["chain"]
    posterior = chain.posterior(seen.emission[0].log())
    close(posterior.marginals, chain.denoiser(seen.process)(seen.x_t, seen.t)[0].exp())
    close(posterior.log_z, chain.noisy_log_prob(seen.process, seen.x_t, seen.t)[0])


def test_a_reward_without_a_way_on_excludes_what_leads_there():
    chain = MarkovChain([0.5, 0.5], [[1.0, 0.0], [0.3, 0.7]], 3)
    reward = torch.zeros(3, 2, dtype=DOUBLE)
    reward[2, 0] = -torch.inf  # ends in class 1, so it was there all the time
    tilted = chain.tilt(reward)
    close(tilted.log_z.exp(), torch.tensor(0.5 * 0.7 * 0.7, dtype=DOUBLE))
    assert tilted.sample(50, generator=generator(5)).tolist() == [[1, 1, 1]] * 50


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("process", [VariancePreserving(), RectifiedFlow(), EDM], ids=["vp", "flow", "edm"])
@pytest.mark.parametrize("times", ["row", "token", "element"])
def test_the_score_of_noisy_embeddings_is_the_gradient(name, process, times):
    law = Embedded(LAWS[name], VECTORS)
    shape = {"row": (6,), "token": (6, L), "element": (6, L, 2)}[times]
    t = 0.2 + 0.6 * torch.rand(shape, generator=generator(6), dtype=DOUBLE)
    wide = t.reshape(*shape, *(1,) * (3 - len(shape))).expand(6, L, 2)
    x_t = process.corrupt(law.sample(6, generator=generator(7)), wide, generator=generator(8)).requires_grad_()
    (gradient,) = torch.autograd.grad(law.noisy_log_prob(process, x_t, t).sum(), x_t)
    with torch.no_grad():
        score = process.score(x_t, law.denoiser(process)(x_t, t), wide)
    torch.testing.assert_close(gradient, score, rtol=1e-8, atol=1e-8)


def test_embeddings_of_a_law_are_a_law():
    chain = LAWS["chain"]
    tables = torch.randn(L, K, 2, generator=generator(9), dtype=DOUBLE)
    law = Embedded(chain, tables)
    classes = chain.sample(8, generator=generator(10))
    x = law.sample(8, generator=generator(10))
    law.space.check(x)
    assert torch.equal(x, law.embed(classes))
    close(law.log_prob(x), chain.log_prob(classes))
    assert law.log_prob(x + 0.1).tolist() == [-torch.inf] * 8
    reward = torch.randn(L, K, generator=generator(11), dtype=DOUBLE)
    tilted = law.tilt(reward)
    close(tilted.log_prob(x), law.log_prob(x) + reward[torch.arange(L), classes].sum(1) - tilted.log_z)
    close(law.posterior(reward).log_z, chain.tilt(reward).log_z)
    # an observed vector that no class has says nothing: the other tokens answer, and it comes back as it is
    t = torch.zeros(8, L, dtype=DOUBLE)
    t[:, 1:] = 0.5
    x_t = RectifiedFlow().corrupt(x, t.unsqueeze(-1).expand(8, L, 2), generator=generator(12))
    x_t[:, 0] = 7.0
    answer = law.denoiser(RectifiedFlow())(x_t, t)
    assert bool(answer.isfinite().all())
    assert bool((answer[:, 0] == 7.0).all())
    assert law.noisy_log_prob(RectifiedFlow(), x_t, t).tolist() == [-torch.inf] * 8


def test_impossible_strings_have_no_likelihood_and_still_an_answer():
    """A chain that never goes from 0 to 2 is shown just that: the answer is the softened chain's, by enumeration."""
    initial = torch.tensor([0.6, 0.4, 0.0], dtype=DOUBLE)
    step = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.5, 0.3], [0.0, 0.6, 0.4]], dtype=DOUBLE)
    chain, process = MarkovChain(initial, step, L), Masked(K)
    x_t = torch.tensor([[3, 0, 2, 3, 1], [2, 3, 3, 3, 3], [3, 0, 3, 3, 3]])
    assert chain.noisy_log_prob(process, x_t).isfinite().tolist() == [False, False, True]
    soft = chain_table(*((1 - 1e-12) * part + 1e-12 / K for part in (initial, step.expand(L - 1, K, K))))
    seen = Seen("masked", "row")
    seen.emission = ((x_t.unsqueeze(-1) == torch.arange(K)) | (x_t.unsqueeze(-1) == K)).double()
    classes, pairs, _ = seen.posterior(soft)
    torch.testing.assert_close(chain.denoiser(process)(x_t).exp(), classes, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(chain.explain_pairs(seen.emission.log()).exp(), pairs, rtol=1e-9, atol=1e-11)
    drawn = chain.sample_posterior(seen.emission.log(), generator=generator(13))
    assert torch.equal(drawn[x_t < K], x_t[x_t < K])


@pytest.mark.parametrize("name", ["joint", "products"])
def test_impossible_rows_are_answered_position_by_position(name):
    table = torch.tensor([[[0.5, 0.0], [0.0, 0.0]], [[0.0, 0.2], [0.1, 0.2]]])
    products = MixtureOfProducts([0.5, 0.5], [[[1.0, 0.0]] * 3, [[0.0, 1.0], [0.4, 0.6], [0.0, 1.0]]])
    law = FiniteJoint(table) if name == "joint" else products
    marginal = table.sum((0, 2)) if name == "joint" else torch.tensor([0.7, 0.3])
    answer = law.denoiser(Masked(2) if name == "products" else Masked((2, 2, 2)))(torch.tensor([[0, 2, 1]])).exp()
    close(answer[0, 1], marginal.double(), 1e-7)
    assert answer[0, [0, 2]].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    never = FiniteJoint([[0.5, 0.5], [0.0, 0.0]])
    assert never.denoiser(Masked((2, 2)))(torch.tensor([[1, 2]])).exp().tolist() == [[[0.0, 1.0], [0.5, 0.5]]]


def test_evidence_beyond_the_range_of_doubles():
    """A chain that never moves, and tokens whose likelihood ratios of e^800 and e^1000 contradict each other."""
    chain = MarkovChain(simplex(K), torch.eye(K), 4)
    evidence = torch.randn(6, 4, K, generator=generator(14), dtype=DOUBLE)
    evidence[:, 0, 0] += 800.0
    evidence[:, 1, 1] += 1_000.0
    evidence[:3, 2, 0] += 199.0
    evidence[3:, 3, 2] += 999.0
    log_probs, log_z = chain.explain(evidence)
    exact = chain.initial.log() + evidence.sum(1)
    torch.testing.assert_close(log_z, exact.logsumexp(1), rtol=1e-13, atol=0)
    for position in range(4):
        torch.testing.assert_close(log_probs[:, position], exact.log_softmax(1), rtol=1e-12, atol=1e-11)
    products = MixtureOfProducts(chain.initial, torch.eye(K).unsqueeze(1).expand(K, 4, K))
    log_probs, log_z = products.explain(evidence)
    torch.testing.assert_close(log_z, exact.logsumexp(1), rtol=1e-13, atol=0)
    torch.testing.assert_close(log_probs[:, 0], exact.log_softmax(1), rtol=1e-12, atol=1e-11)


def test_long_strings_of_many_classes():
    """Two hundred positions of a thousand classes: with equal components the positions are independent."""
    noise = generator(15)
    table = torch.rand(1, 200, 1_000, generator=noise, dtype=DOUBLE)
    table = table / table.sum(-1, keepdim=True)
    law, process = MixtureOfProducts([0.3, 0.7], table.expand(2, -1, -1)), Uniform(1_000)
    x_t = process.corrupt(law.sample(4, generator=noise), torch.full((4,), 0.4), generator=noise)
    t = torch.full((4,), 0.4, dtype=DOUBLE)
    likelihood = process.log_emission(x_t, t).exp() * table
    close(law.denoiser(process)(x_t, t).exp(), likelihood / likelihood.sum(-1, keepdim=True))
    close(law.noisy_log_prob(process, x_t, t), likelihood.sum(-1).log().sum(-1))
    steps = MarkovChain(table[0, 0], table[0, 0].expand(1_000, 1_000), 30)
    close(
        steps.denoiser(process)(x_t[:, :30], t).exp(),
        process.log_emission(x_t[:, :30], t).add(table[0, 0].log()).softmax(-1),
        1e-11,
    )


def test_positions_with_different_class_counts():
    table = torch.rand(2, 3, 4, generator=generator(16), dtype=DOUBLE)
    counts = (3, 2, 4)
    table = table * (torch.arange(4) < torch.tensor(counts).unsqueeze(1))
    table = table / table.sum(-1, keepdim=True)
    products = MixtureOfProducts([0.4, 0.6], table, num_classes=counts)
    joint = FiniteJoint(
        sum(
            share * torch.einsum("a,b,c->abc", part[0, :3], part[1, :2], part[2])
            for share, part in zip((0.4, 0.6), table, strict=True)
        )
    )
    for process in (Masked(counts), Uniform(counts)):
        x_t = process.corrupt(
            joint.sample(40, generator=generator(17)), torch.full((40,), 0.5), generator=generator(18)
        )
        t = torch.full((40,), 0.5, dtype=DOUBLE)
        close(products.denoiser(process)(x_t, t).exp(), joint.denoiser(process)(x_t, t).exp())
        close(products.noisy_log_prob(process, x_t, t), joint.noisy_log_prob(process, x_t, t))


def test_one_position_is_a_chain_too():
    chain = MarkovChain(INITIAL, STEP, 1)
    close(chain.denoiser(Masked(K))(torch.tensor([[K]])).exp()[0, 0], INITIAL)
    close(chain.tilt(torch.ones(1, K)).log_z, torch.tensor(1.0, dtype=DOUBLE))
    assert chain.sample(4, generator=generator(19)).shape == (4, 1)
    assert chain.explain_pairs(torch.zeros(2, 1, K, dtype=DOUBLE)).shape == (2, 0, K, K)
