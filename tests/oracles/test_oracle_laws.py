"""Oracles against numerical integration, enumeration, and each other."""

import itertools

import pytest
import torch

from clarkia.oracles import FiniteJoint, GaussianMixture, MixedJoint
from clarkia.processes import EDM, Masked, Mixed, RectifiedFlow, VariancePreserving
from clarkia.random import generator

FULL = GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [0.8, -0.4]], [[[0.5, 0.3], [0.3, 0.4]], [[0.2, -0.1], [-0.1, 0.3]]])
DIAGONAL = GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [0.8, -0.4]], [[0.5, 0.3], [0.2, 0.4]])
PROCESSES = [EDM, VariancePreserving(), VariancePreserving("cosine"), RectifiedFlow()]


def grid(law, size=400, reach=6.0):
    """Points of a square grid and the law's probability of each."""
    axis = torch.linspace(-reach, reach, size, dtype=torch.float64)
    x0 = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    return x0, law.log_prob(x0) + 2 * (axis[1] - axis[0]).log()


def integrated(law, process, x_t, t, reward=None):
    """``E[x_0 | x_t]`` on the grid, elements at t = 0 fixed at their value, under the law reweighed by exp(reward)."""
    x0, log_p = grid(law)
    log_p = log_p + (0 if reward is None else reward(x0))
    alpha, sigma = process.alpha(t), process.sigma(t)
    log_w = log_p - 0.5 * (((x_t - alpha * x0) / sigma) ** 2).sum(1)
    return torch.softmax(log_w, 0) @ x0


@pytest.mark.parametrize("law", [FULL, DIAGONAL], ids=["full", "diagonal"])
@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("times", [(0.5, 0.5), (0.3, 0.8), (1.0, 0.4)])
def test_the_mixture_denoiser_by_integration(law, process, times):
    t = torch.tensor(times, dtype=torch.float64)
    x_t = process.corrupt(law.sample(3, generator=generator(0)), t.expand(3, 2), generator=generator(1))
    found = law.denoiser(process)(x_t, t.expand(3, 2))
    for row in range(3):
        torch.testing.assert_close(found[row], integrated(law, process, x_t[row], t), rtol=1e-6, atol=1e-6)
    if times[0] == times[1]:
        torch.testing.assert_close(law.denoiser(process)(x_t, t[:1].expand(3)), found, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("process", PROCESSES)
def test_an_observed_number_conditions_the_other(process):
    """At t = 0 an element is exact evidence: the answer is that of the posterior given a noiseless measurement."""
    t = torch.tensor([[0.0, 0.6]], dtype=torch.float64)
    x_t = torch.tensor([[0.7, 0.9]], dtype=torch.float64)
    found = FULL.denoiser(process)(x_t, t)
    assert found[0, 0] == x_t[0, 0]
    conditional = FULL.posterior([1.0, 0.0], 0.7, 0.0)
    one = GaussianMixture(conditional.weights, conditional.means[:, 1:], conditional.covariances[:, 1:, 1:])
    torch.testing.assert_close(found[:, 1:], one.denoiser(process)(x_t[:, 1:], t[0, 1:]), rtol=1e-8, atol=1e-8)
    both = torch.zeros(1, 2, dtype=torch.float64)
    assert torch.equal(FULL.denoiser(process)(x_t, both), x_t)
    assert torch.equal(FULL.denoiser(process)(x_t, both[:, 0]), x_t)


@pytest.mark.parametrize("process", PROCESSES[1:])
def test_pure_noise_says_nothing(process):
    x_t = torch.randn(4, 2, generator=generator(2), dtype=torch.float64)
    one = torch.ones(4, dtype=torch.float64)
    tolerance = 1e-10 if float(process.alpha(one[0])) == 0 else 0.05
    torch.testing.assert_close(FULL.denoiser(process)(x_t, one), FULL.mean.expand(4, 2), rtol=0, atol=tolerance)


@pytest.mark.parametrize("law", [FULL, DIAGONAL], ids=["full", "diagonal"])
def test_mixture_density_and_draws(law):
    x0, log_p = grid(law)
    assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-8)
    torch.testing.assert_close(log_p.exp() @ x0, law.mean, rtol=1e-8, atol=1e-8)
    draws = law.sample(100_000, generator=generator(3))
    assert float((draws.mean(0) - law.mean).abs().max()) < 4 / 100_000**0.5
    torch.testing.assert_close(draws.T.cov(), law.covariance, rtol=0.03, atol=0.02)
    x_t, t = draws[:5], torch.full((5,), 0.3, dtype=torch.float64)
    at_zero = law.noisy_log_prob(EDM, x_t, 0 * t)
    torch.testing.assert_close(at_zero, law.log_prob(x_t), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("law", [FULL, DIAGONAL], ids=["full", "diagonal"])
def test_tilt_by_a_linear_reward(law):
    slope = torch.tensor([0.8, -0.5], dtype=torch.float64)
    tilted = law.tilt(slope)
    x0, log_p = grid(law)
    assert float(tilted.log_z) == pytest.approx(float(torch.logsumexp(log_p + x0 @ slope, 0)), abs=1e-8)
    points = law.sample(6, generator=generator(4))
    torch.testing.assert_close(
        tilted.log_prob(points), law.log_prob(points) + points @ slope - tilted.log_z, rtol=1e-10, atol=1e-10
    )
    t = torch.tensor([0.5, 0.3], dtype=torch.float64)
    found = tilted.denoiser(RectifiedFlow())(points[:1], t[None])
    expected = integrated(law, RectifiedFlow(), points[0], t, reward=lambda x: x @ slope)
    torch.testing.assert_close(found[0], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("operator", "y", "noise"), [([1.0, -2.0], 0.4, 0.3), ([[1.0, 0.5], [0.0, 1.0]], [0.2, -0.3], [0.5, 0.2])]
)
def test_posterior_of_a_linear_measurement(operator, y, noise):
    def log_likelihood(x):
        matrix = torch.atleast_2d(torch.tensor(operator, dtype=torch.float64))
        std = torch.tensor(noise, dtype=torch.float64).expand(len(matrix))
        return torch.distributions.Normal(x @ matrix.T, std).log_prob(torch.tensor(y, dtype=torch.float64)).sum(1)

    posterior = FULL.posterior(operator, y, noise)
    x0, log_p = grid(FULL)
    assert float(posterior.log_z) == pytest.approx(float(torch.logsumexp(log_p + log_likelihood(x0), 0)), abs=1e-8)
    points = FULL.sample(6, generator=generator(5))
    expected = FULL.log_prob(points) + log_likelihood(points) - posterior.log_z
    torch.testing.assert_close(posterior.log_prob(points), expected, rtol=1e-9, atol=1e-9)
    t = torch.tensor([0.4, 0.4], dtype=torch.float64)
    found = posterior.denoiser(EDM)(points[:1], t[:1])
    torch.testing.assert_close(
        found[0], integrated(FULL, EDM, points[0], t, reward=log_likelihood), rtol=1e-6, atol=1e-6
    )


TABLE = torch.rand(3, 2, 4, generator=generator(6), dtype=torch.float64)
TABLE[0, 1] = 0  # some combinations are impossible
JOINT = FiniteJoint(TABLE / TABLE.sum())


def enumerated(joint, x_t):
    """Posterior of each position by summing the table, ``(m, K_max)``."""
    counts = joint.probabilities.shape
    p0 = torch.zeros(len(counts), max(counts), dtype=torch.float64)
    for cell in itertools.product(*(range(count) for count in counts)):
        if all(seen in (value, count) for seen, value, count in zip(x_t, cell, counts, strict=True)):
            for position, value in enumerate(cell):
                p0[position, value] += joint.probabilities[cell]
    return p0 / p0.sum(1, keepdim=True)


def test_the_joint_denoiser_by_enumeration():
    process = Masked((3, 2, 4))
    states = list(itertools.product(range(4), range(3), range(5)))
    possible = [x for x in states if not (x[0] == 0 and x[1] == 1)]
    found = JOINT.denoiser(process)(torch.tensor(possible)).exp()
    expected = torch.stack([enumerated(JOINT, x) for x in possible])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_an_impossible_row_is_answered_by_the_marginals():
    process = Masked((3, 2, 4))
    found = JOINT.denoiser(process)(torch.tensor([[0, 1, 4]])).exp()[0]
    torch.testing.assert_close(found[2], JOINT.probabilities.sum((0, 1)), rtol=1e-12, atol=0)
    assert found[0].tolist() == [1, 0, 0, 0]
    assert found[1].tolist() == [0, 1, 0, 0]


def test_joint_law_and_tilt():
    torch.testing.assert_close(JOINT.log_prob(JOINT.states).exp(), JOINT.probabilities.flatten(), rtol=1e-12, atol=0)
    reward = torch.randn(3, 2, 4, generator=generator(7), dtype=torch.float64)
    tilted = JOINT.tilt(reward)
    assert float(tilted.log_z) == pytest.approx(float((JOINT.probabilities * reward.exp()).sum().log()), abs=1e-12)
    expected = JOINT.probabilities * reward.exp() / tilted.log_z.exp()
    torch.testing.assert_close(tilted.probabilities, expected, rtol=1e-12, atol=0)
    likelihood = torch.tensor([0.2, 0.9, 0.4], dtype=torch.float64).log()[:, None, None].expand(3, 2, 4)
    posterior = JOINT.posterior(likelihood)
    evidence = (JOINT.probabilities.sum((1, 2)) * torch.tensor([0.2, 0.9, 0.4], dtype=torch.float64)).sum()
    assert float(posterior.log_z) == pytest.approx(float(evidence.log()), abs=1e-12)
    seen = JOINT.noisy_log_prob(Masked((3, 2, 4)), torch.tensor([[3, 2, 4], [1, 2, 4]])).exp()
    assert seen.tolist() == pytest.approx([1.0, float(JOINT.probabilities[1].sum())], abs=1e-12)


COVARIANCES = torch.tensor([[0.4, 0.2], [0.2, 0.3]], dtype=torch.float64) * torch.tensor(
    [1.0, 0.5, 2.0, 1.5, 0.7, 1.2]
).reshape(2, 3, 1, 1)
MEANS = torch.randn(2, 3, 2, generator=generator(8), dtype=torch.float64)
WEIGHTS = torch.tensor([[0.1, 0.2, 0.15], [0.25, 0.05, 0.25]], dtype=torch.float64)
BOTH = MixedJoint(WEIGHTS, MEANS, COVARIANCES)
BOTH_PROCESS = Mixed(numeric=EDM, levels=Masked((2, 3)))


@pytest.mark.parametrize("levels", [(2, 3), (0, 3), (2, 1), (1, 2)])
@pytest.mark.parametrize("times", [(0.5, 0.5), (0.0, 0.6), (1.0, 0.4)])
def test_the_mixed_denoiser_is_a_mixture_over_the_compatible_cells(levels, times):
    t = torch.tensor([times], dtype=torch.float64)
    x_t = {"numeric": torch.tensor([[0.4, -0.2]], dtype=torch.float64), "levels": torch.tensor([levels])}
    clock = {"numeric": t, "levels": t[:, 1]}
    answer = BOTH.denoiser(BOTH_PROCESS)(x_t, clock)
    cells = [
        cell for cell in itertools.product(range(2), range(3))
        if all(seen in (value, count) for seen, value, count in zip(levels, cell, (2, 3), strict=True))
    ]  # fmt: skip
    weights = torch.stack([WEIGHTS[cell] for cell in cells]).double()
    mixture = GaussianMixture(
        weights / weights.sum(),
        torch.stack([MEANS[cell] for cell in cells]),
        torch.stack([COVARIANCES[cell] for cell in cells]),
    )
    torch.testing.assert_close(answer["numeric"], mixture.denoiser(EDM)(x_t["numeric"], t), rtol=1e-10, atol=1e-10)
    log_weights = torch.tensor(
        [
            float(WEIGHTS[cell].log())
            + float(
                GaussianMixture([1.0], MEANS[cell][None], COVARIANCES[cell][None]).noisy_log_prob(
                    EDM, x_t["numeric"], t
                )
            )
            for cell in cells
        ],
        dtype=torch.float64,
    )
    shares = log_weights.softmax(0)
    for position in range(2):
        for value in range((2, 3)[position]):
            expected = sum(share for share, cell in zip(shares, cells, strict=True) if cell[position] == value)
            assert float(answer["levels"][0, position, value].exp()) == pytest.approx(float(expected), abs=1e-8)
    noisy = BOTH.noisy_log_prob(BOTH_PROCESS, x_t, clock)
    torch.testing.assert_close(noisy[0], log_weights.logsumexp(0), rtol=1e-6, atol=1e-6)


def test_mixed_density_and_draws():
    x = BOTH.sample(60_000, generator=generator(9))
    BOTH.space.check(x)
    cells = BOTH.categories.cell(x["levels"])
    share = torch.bincount(cells, minlength=6) / 60_000
    assert float((share - WEIGHTS.flatten()).abs().max()) < 4 * 0.5 / 60_000**0.5
    for cell in range(6):
        rows = x["numeric"][cells == cell]
        torch.testing.assert_close(rows.T.cov(), COVARIANCES.reshape(6, 2, 2)[cell], rtol=0.1, atol=0.05)
    few = {name: block[:5] for name, block in x.items()}
    expected = torch.stack(
        [
            WEIGHTS[tuple(row)].log()
            + torch.distributions.MultivariateNormal(MEANS[tuple(row)], COVARIANCES[tuple(row)]).log_prob(number)
            for row, number in zip(few["levels"].tolist(), few["numeric"], strict=True)
        ]
    )
    torch.testing.assert_close(BOTH.log_prob(few), expected, rtol=1e-7, atol=1e-7)


def test_mixed_tilt_and_posterior():
    reward = torch.randn(2, 3, generator=generator(10), dtype=torch.float64)
    tilted = BOTH.tilt(reward)
    x = BOTH.sample(6, generator=generator(11))
    gain = reward[x["levels"][:, 0], x["levels"][:, 1]]
    torch.testing.assert_close(tilted.log_prob(x), BOTH.log_prob(x) + gain - tilted.log_z, rtol=1e-10, atol=1e-10)
    posterior = BOTH.posterior([1.0, 1.0], 0.5, 0.4)
    likelihood = torch.distributions.Normal(x["numeric"].sum(1), 0.4).log_prob(torch.tensor(0.5, dtype=torch.float64))
    expected = BOTH.log_prob(x) + likelihood - posterior.log_z
    torch.testing.assert_close(posterior.log_prob(x), expected, rtol=1e-6, atol=1e-6)


def test_a_mixed_row_that_cannot_be_is_answered_by_the_table():
    law = MixedJoint([[0.5, 0.0], [0.0, 0.5]], [[[0.0], [0.0]], [[1.0], [1.0]]], 0.1)
    process = Mixed(numeric=EDM, levels=Masked((2, 2)))
    answer = law.denoiser(process)(
        {"numeric": torch.zeros(1, 1, dtype=torch.float64), "levels": torch.tensor([[0, 1]])}, torch.full((1,), 0.5)
    )
    assert answer["numeric"].isfinite().all()
    assert answer["levels"].exp().tolist() == [[[1.0, 0.0], [0.0, 1.0]]]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GaussianMixture([0.5, 0.6], [[0.0], [1.0]], [1.0, 1.0]), "sum 1.1"),
        (lambda: GaussianMixture([1.5, -0.5], [[0.0], [1.0]], [1.0, 1.0]), "minimum -0.5"),
        (lambda: GaussianMixture([1.0], [[0.0, 0.0]], [[[1.0, 2.0], [2.0, 1.0]]]), "eigenvalue -1 in component 0"),
        (lambda: GaussianMixture([1.0], [[0.0, 0.0]], [[[1.0, 0.5], [0.2, 1.0]]]), "symmetric"),
        (lambda: GaussianMixture([0.5, 0.5], [[0.0]], [1.0]), "weights"),
        (lambda: GaussianMixture([1.0], [0.0], [1.0]), "means"),
        (lambda: FULL.tilt([1.0]), "slope"),
        (lambda: FULL.posterior([1.0], 0.0, 1.0), "operator"),
        (lambda: FiniteJoint([[0.5, 0.4]]), "sum 0.9"),
        (lambda: FiniteJoint(1.0), "one axis"),
        (lambda: JOINT.tilt(torch.zeros(3, 2)), "reward"),
        (lambda: JOINT.tilt(torch.full((3, 2, 4), -torch.inf)), "some possible cell"),
        (lambda: JOINT.log_prob(torch.tensor([[3, 0, 0]])), "classes from 0 to 2"),
        (lambda: MixedJoint([0.5, 0.5], [[0.0]], 1.0), "means"),
        (lambda: GaussianMixture([1.0], [[0.0]], [0.0]).log_prob(torch.zeros(1, 1)), "noise or variance"),
    ],
)
def test_impossible_laws_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
