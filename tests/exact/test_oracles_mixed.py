"""Numbers and categories together: uniform noise by enumeration, tilts by quadrature, Bayes' rule."""

import itertools

import pytest
import torch

from clarkia.oracles import GaussianMixture, MixedJoint
from clarkia.processes import EDM, Masked, Mixed, RectifiedFlow, Uniform
from clarkia.random import generator

DOUBLE = torch.float64
WEIGHTS = torch.tensor([[0.1, 0.2, 0.15], [0.25, 0.05, 0.25]], dtype=DOUBLE)
MEANS = torch.randn(2, 3, 2, generator=generator(0), dtype=DOUBLE)
COVARIANCES = torch.tensor([[0.4, 0.2], [0.2, 0.3]], dtype=DOUBLE) * torch.linspace(0.5, 2, 6, dtype=DOUBLE).reshape(
    2, 3, 1, 1
)
LAW = MixedJoint(WEIGHTS, MEANS, COVARIANCES)
CELLS = list(itertools.product(range(2), range(3)))


@pytest.mark.parametrize("discrete", [Masked((2, 3)), Uniform((2, 3))], ids=["masked", "uniform"])
@pytest.mark.parametrize("times", ["row", "element"])
def test_the_denoiser_by_enumerating_the_categories(discrete, times):
    process, noise = Mixed(numeric=RectifiedFlow(), levels=discrete), generator(1)
    t = 0.1 + 0.8 * torch.rand((8, 2) if times == "element" else (8,), generator=noise, dtype=DOUBLE)
    clock = {"numeric": t, "levels": t.flip(-1)}
    x_t = process.corrupt(LAW.sample(8, generator=noise), clock, generator=noise)
    emission = discrete.log_emission(x_t["levels"], clock["levels"])
    log_weights, means = [], []
    for cell in CELLS:
        one = GaussianMixture([1.0], MEANS[cell][None], COVARIANCES[cell][None])
        shown = emission[:, 0, cell[0]] + emission[:, 1, cell[1]]
        log_weights.append(one.noisy_log_prob(RectifiedFlow(), x_t["numeric"], t) + shown + WEIGHTS[cell].log())
        means.append(one.denoiser(RectifiedFlow())(x_t["numeric"], t))
    log_weights = torch.stack(log_weights, 1)
    shares = log_weights.softmax(1)
    answer = LAW.denoiser(process)(x_t, clock)
    torch.testing.assert_close(answer["numeric"], torch.einsum("nk,knd->nd", shares, torch.stack(means)))
    table = shares.reshape(8, 2, 3)
    torch.testing.assert_close(answer["levels"][:, 0, :2].exp(), table.sum(2), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(answer["levels"][:, 1].exp(), table.sum(1), rtol=1e-10, atol=1e-12)
    assert bool((answer["levels"][:, 0, 2] == -torch.inf).all())
    found = LAW.noisy_log_prob(process, x_t, clock)
    torch.testing.assert_close(found, log_weights.logsumexp(1), rtol=1e-10, atol=1e-10)


def test_one_clock_for_all_blocks():
    process = Mixed(numeric=EDM, levels=Uniform((2, 3)))
    x_t = process.corrupt(LAW.sample(5, generator=generator(2)), torch.full((5,), 0.4), generator=generator(3))
    t = torch.full((5,), 0.4, dtype=DOUBLE)
    one, two = (LAW.denoiser(process)(x_t, clock) for clock in (t, {"numeric": t, "levels": t}))
    assert all(torch.equal(one[name], two[name]) for name in one)


SLOPES = {
    "shared": torch.tensor([0.7, -0.4], dtype=DOUBLE),
    "each": torch.randn(2, 3, 2, generator=generator(4), dtype=DOUBLE),
}


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("quadratic", [None, 0.6])
@pytest.mark.parametrize("table", [False, True])
def test_a_tilt_by_numbers_and_categories_together(slope, quadratic, table):
    slope = SLOPES[slope]
    reward = torch.randn(2, 3, generator=generator(5), dtype=DOUBLE) if table else None
    if table:
        reward[1, 1] = -torch.inf
    tilted = LAW.tilt(reward, slope, quadratic)
    gain = torch.zeros(2, 3) if reward is None else reward

    def worth(cell, x):
        bend = 0.0 if quadratic is None else 0.5 * quadratic * x.square().sum(-1)
        return gain[cell] + x @ slope.expand(2, 3, 2)[cell] - bend

    axis = torch.linspace(-9, 9, 400, dtype=DOUBLE)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    area = 2 * (axis[1] - axis[0]).log()
    parts = []
    for cell in CELLS:
        one = GaussianMixture([1.0], MEANS[cell][None], COVARIANCES[cell][None])
        parts.append(torch.logsumexp(one.log_prob(grid) + worth(cell, grid), 0) + WEIGHTS[cell].log() + area)
    assert float(tilted.log_z) == pytest.approx(float(torch.logsumexp(torch.stack(parts), 0)), abs=1e-8)
    x = LAW.sample(30, generator=generator(6))
    cells = map(tuple, x["levels"].tolist())
    gained = torch.stack([worth(cell, number) for cell, number in zip(cells, x["numeric"], strict=True)])
    expected = LAW.log_prob(x) + gained - tilted.log_z
    torch.testing.assert_close(tilted.log_prob(x), expected, rtol=1e-9, atol=1e-9)
    process, t = Mixed(numeric=EDM, levels=Masked((2, 3))), torch.full((30,), 0.5, dtype=DOUBLE)
    answer = tilted.denoiser(process)(process.corrupt(x, t, generator=generator(7)), t)
    assert bool(answer["numeric"].isfinite().all())


def test_a_posterior_with_evidence_on_both():
    likelihood = torch.randn(2, 3, generator=generator(8), dtype=DOUBLE)
    posterior = LAW.posterior([1.0, -1.0], 0.3, 0.5, log_likelihood=likelihood)
    x = LAW.sample(20, generator=generator(9))
    gap = torch.tensor(0.3, dtype=DOUBLE) - x["numeric"] @ torch.tensor([1.0, -1.0], dtype=DOUBLE)
    shown = torch.distributions.Normal(0.0, torch.tensor(0.5, dtype=DOUBLE)).log_prob(gap)
    shown = shown + likelihood[x["levels"][:, 0], x["levels"][:, 1]]
    expected = LAW.log_prob(x) + shown - posterior.log_z
    torch.testing.assert_close(posterior.log_prob(x), expected, rtol=1e-9, atol=1e-9)


def test_the_score_of_the_numbers_is_the_gradient():
    process, t = Mixed(numeric=EDM, levels=Uniform((2, 3))), torch.full((6,), 0.4, dtype=DOUBLE)
    x_t = process.corrupt(LAW.sample(6, generator=generator(10)), t, generator=generator(11))
    x_t["numeric"].requires_grad_()
    (gradient,) = torch.autograd.grad(LAW.noisy_log_prob(process, x_t, t).sum(), x_t["numeric"])
    with torch.no_grad():
        score = EDM.score(x_t["numeric"], LAW.denoiser(process)(x_t, t)["numeric"], t)
    torch.testing.assert_close(gradient, score, rtol=1e-9, atol=1e-9)
