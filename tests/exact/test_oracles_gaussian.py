"""Continuous oracles against each other, against quadrature and against Tweedie's formula."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from clarkia.oracles import GaussianMixture, KernelSmoothed, MixtureOfLowRank
from clarkia.oracles.smoothed import BLOCK
from clarkia.processes import EDM, RectifiedFlow, VarianceExploding, VariancePreserving
from clarkia.random import generator

D, DOUBLE = 6, torch.float64
NOISE = generator(0)


def randn(*shape):
    return torch.randn(shape, generator=NOISE, dtype=DOUBLE)


FULL = GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [0.8, -0.4]], [[[0.5, 0.3], [0.3, 0.4]], [[0.2, -0.1], [-0.1, 0.3]]])
POINTS = randn(7, D)
SMOOTH = KernelSmoothed(POINTS, 0.4)
SHARES = torch.tensor([0.05, 0.1, 0.2, 0.3, 0.1, 0.15, 0.1], dtype=DOUBLE)
ROOT = 0.5 * randn(D, D)
BASES = [randn(D, 3), randn(D, 2), randn(D, 3)]
LOW = MixtureOfLowRank([0.2, 0.3, 0.5], BASES, randn(3, D))
PAIRS = {
    "kernel": (SMOOTH, GaussianMixture([1 / 7] * 7, POINTS, [0.16] * 7)),
    "kernel-columns": (
        KernelSmoothed(POINTS, torch.linspace(0.2, 0.8, D, dtype=DOUBLE), weights=SHARES),
        GaussianMixture(SHARES, POINTS, (torch.linspace(0.2, 0.8, D, dtype=DOUBLE) ** 2).expand(7, D)),
    ),
    "kernel-matrix": (
        KernelSmoothed(POINTS, ROOT, weights=SHARES),
        GaussianMixture(SHARES, POINTS, (ROOT @ ROOT.T).expand(7, D, D)),
    ),
    "low-rank": (LOW, GaussianMixture(LOW.weights, LOW.means, torch.stack([basis @ basis.T for basis in BASES]))),
}
PROCESSES = {
    "edm": EDM,
    "vp": VariancePreserving(),
    "flow": RectifiedFlow(),
    "columns": VarianceExploding(rho=3.0 + torch.arange(D).double()),
}
TIMES = {
    "row": torch.linspace(0.2, 0.95, 5, dtype=DOUBLE),
    "element": 0.2 + 0.7 * torch.rand(5, D, generator=generator(1), dtype=DOUBLE),
}


def noisy(law, process, t):
    return process.corrupt(law.sample(5, generator=generator(2)), t, generator=generator(3))


def agree(law, mixture, process, t, rtol=1e-10, atol=1e-10):
    x_t = noisy(mixture, process, t)
    torch.testing.assert_close(
        law.noisy_log_prob(process, x_t, t), mixture.noisy_log_prob(process, x_t, t), rtol=rtol, atol=atol
    )
    torch.testing.assert_close(law.denoiser(process)(x_t, t), mixture.denoiser(process)(x_t, t), rtol=rtol, atol=atol)


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
@pytest.mark.parametrize("times", TIMES)
def test_every_oracle_is_the_mixture_it_stands_for(pair, process, times):
    agree(*pair, process, TIMES[times])


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
@pytest.mark.parametrize("reward", ["slope", "scalar", "diagonal", "matrix", "inwards"])
def test_tilts_of_every_oracle(pair, reward):
    slope = randn(D)
    half = randn(D, D)
    quadratic = {
        "slope": None,
        "scalar": 0.7,
        "diagonal": torch.linspace(0.0, 2.0, D),
        "matrix": half @ half.T,
        "inwards": -0.01 * (half @ half.T),  # grows away from the origin, but slower than every component falls
    }[reward]
    law, mixture = (part.tilt(slope, quadratic) for part in pair)
    torch.testing.assert_close(law.log_z, mixture.log_z, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(law.weights, mixture.weights, rtol=1e-8, atol=1e-10)
    agree(law, mixture, VariancePreserving(), TIMES["row"], rtol=1e-8, atol=1e-8)
    agree(law, mixture, RectifiedFlow(), TIMES["element"], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
@pytest.mark.parametrize("noise", [0.3, [0.5, 0.01], [0.0, 0.4]], ids=str)
def test_posteriors_of_every_oracle(pair, noise):
    operator, y = randn(2, D), randn(2)
    law, mixture = (part.posterior(operator, y, noise) for part in pair)
    torch.testing.assert_close(law.log_z, mixture.log_z, rtol=1e-8, atol=1e-8)
    agree(law, mixture, VariancePreserving(), TIMES["row"], rtol=1e-8, atol=1e-8)
    agree(law, mixture, RectifiedFlow(), TIMES["element"], rtol=1e-8, atol=1e-8)


LAWS = {"mixture": PAIRS["kernel-matrix"][1], **{name: pair[0] for name, pair in PAIRS.items()}}


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
@pytest.mark.parametrize("times", TIMES)
def test_the_score_is_the_gradient(law, process, times):
    """Tweedie's formula: the gradient of the noisy log-density is the score that the denoiser means."""
    t = TIMES[times]
    x_t = noisy(law, process, t).requires_grad_()
    (gradient,) = torch.autograd.grad(law.noisy_log_prob(process, x_t, t).sum(), x_t)
    with torch.no_grad():
        score = process.score(x_t, law.denoiser(process)(x_t, t), t)
    torch.testing.assert_close(gradient, score, rtol=1e-8, atol=1e-8)


def test_noise_of_its_own_in_each_column():
    """A schedule a column and a full covariance: the noisy law by its own covariance matrix."""
    process = VarianceExploding(rho=torch.tensor([2.0, 9.0], dtype=DOUBLE))
    t = torch.full((5,), 0.4, dtype=DOUBLE)
    x_t = noisy(FULL, process, t)
    variance = torch.diag(process.sigma(t[:1, None])[0] ** 2)
    parts = [
        torch.distributions.MultivariateNormal(FULL.means[k], FULL.covariances[k] + variance).log_prob(x_t)
        + FULL.weights[k].log()
        for k in range(2)
    ]
    expected = torch.logsumexp(torch.stack(parts), 0)
    torch.testing.assert_close(FULL.noisy_log_prob(process, x_t, t), expected, rtol=1e-10, atol=1e-10)


def grid(law, size=500, reach=8.0):
    axis = torch.linspace(-reach, reach, size, dtype=DOUBLE)
    x0 = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    return x0, law.log_prob(x0) + 2 * (axis[1] - axis[0]).log()


QUADRATICS = [0.8, [1.5, -0.4], [[1.0, 0.6], [0.6, 0.1]], [[-0.3, 0.2], [0.2, -0.5]]]
PLANE = {"mixture": FULL, "kernel": KernelSmoothed([[0.0, 0.5], [1.0, -1.0], [-0.5, 0.2]], [0.4, 0.7])}


@pytest.mark.parametrize("law", PLANE.values(), ids=PLANE.keys())
@pytest.mark.parametrize("quadratic", QUADRATICS, ids=str)
def test_a_quadratic_tilt_by_quadrature(law, quadratic):
    slope = torch.tensor([0.6, -0.3], dtype=DOUBLE)
    matrix = torch.tensor(quadratic, dtype=DOUBLE)
    matrix = matrix if matrix.ndim == 2 else torch.diag(matrix.expand(2))

    def reward(x):
        return x @ slope - 0.5 * ((x @ matrix) * x).sum(1)

    tilted = law.tilt(slope, quadratic)
    x0, log_p = grid(law)
    assert float(tilted.log_z) == pytest.approx(float(torch.logsumexp(log_p + reward(x0), 0)), abs=1e-8)
    points = law.sample(6, generator=generator(4))
    expected = law.log_prob(points) + reward(points) - tilted.log_z
    torch.testing.assert_close(tilted.log_prob(points), expected, rtol=1e-9, atol=1e-9)
    process, t = RectifiedFlow(), torch.tensor([0.5, 0.3], dtype=DOUBLE)
    weights = log_p + reward(x0) - 0.5 * (((points[0] - process.alpha(t) * x0) / process.sigma(t)) ** 2).sum(1)
    found = tilted.denoiser(process)(points[:1], t[None])[0]
    torch.testing.assert_close(found, weights.softmax(0) @ x0, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("pair", list(PAIRS.values())[:3], ids=list(PAIRS)[:3])
def test_an_observed_element_conditions_the_kernels(pair):
    law, mixture = pair
    t = torch.where(torch.rand(5, D, generator=generator(5)) < 0.4, 0.0, TIMES["element"])
    agree(law, mixture, VariancePreserving(), t)
    x = mixture.sample(5, generator=generator(6))
    torch.testing.assert_close(law.log_prob(x), mixture.log_prob(x), rtol=1e-10, atol=1e-10)
    assert torch.equal(law.denoiser(EDM)(x, torch.zeros(5)), x)


@pytest.mark.parametrize("observed", [(0,), (1, 4), (0, 2, 5)])
def test_up_to_rank_observed_elements_condition_the_subspaces(observed):
    """Where the observed elements have a density, the answer is the full mixture's."""
    three = MixtureOfLowRank([0.4, 0.6], [BASES[0], BASES[2]], LOW.means[[0, 2]])
    mixture = GaussianMixture(three.weights, three.means, three.bases @ three.bases.mT)
    t = TIMES["element"].clone()
    t[:, list(observed)] = 0.0
    agree(three, mixture, VariancePreserving(), t, rtol=1e-8, atol=1e-8)


def test_more_observed_elements_than_the_rank_tell_everything():
    """Four exact numbers of a point on a subspace of rank 3 or less leave neither subspace nor point open."""
    component = torch.arange(5) % 3
    z = randn(5, 3)
    x0 = LOW.means[component] + torch.einsum("ndr,nr->nd", LOW.bases[component], z)
    t = TIMES["element"].clone()
    t[:, [0, 1, 3, 4]] = 0.0
    x_t = VariancePreserving().corrupt(x0, t, generator=generator(7))
    denoise = LOW.denoiser(VariancePreserving())
    torch.testing.assert_close(denoise(x_t, t), x0, rtol=1e-8, atol=1e-8)
    assert torch.equal(denoise(x0, torch.zeros(5, dtype=DOUBLE)), x0)
    # off every subspace the nearest one answers, and the law says that this cannot be
    astray = torch.where(t == 0, x_t + 1e-3 * randn(5, D), x_t)
    assert float((denoise(astray, t) - x0)[t > 0].abs().max()) < 0.1
    assert LOW.noisy_log_prob(VariancePreserving(), astray, t).tolist() == [-torch.inf] * 5
    assert bool(LOW.noisy_log_prob(VariancePreserving(), x_t, t).isfinite().all())


def test_the_smaller_subspace_through_an_observed_point_wins():
    """A law on a line is infinitely denser where it passes than one on a plane through it, whatever the weights."""
    line, plane = [[1.0], [0.0], [1.0]], [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
    law = MixtureOfLowRank([0.01, 0.99], [line, plane])
    x_t, t = (
        torch.tensor([[0.7, 0.0, 0.1], [0.7, 0.2, 0.1]], dtype=DOUBLE),
        torch.tensor([[0.0, 0.0, 0.9]] * 2).double(),
    )
    answer = law.denoiser(RectifiedFlow())(x_t, t)
    torch.testing.assert_close(answer[:, 2], torch.tensor([0.7, 0.0], dtype=DOUBLE), rtol=0, atol=1e-12)


def effective_rank(law, process, sigma, points, seed):
    """Mean over points of the smallest r whose singular values hold 0.99 of the Jacobian's Frobenius norm."""
    noise = generator(seed)
    t = process.t_of_kappa(torch.tensor([sigma], dtype=DOUBLE))
    x_t = process.corrupt(law.sample(points, generator=noise), t.expand(points), generator=noise)
    denoise = law.denoiser(process)
    jacobian = torch.autograd.functional.jacobian(lambda x: denoise(x, t.expand(points)).sum(0), x_t).transpose(0, 1)
    energy = torch.linalg.svdvals(jacobian).square().cumsum(1)
    return float(((energy / energy[:, -1:]).sqrt() < 0.99).sum(1).double().mean() + 1)


@pytest.mark.parametrize(("sigma", "rank"), [(0.1, 7.0), (0.5, 7.1), (1.0, 9.3), (2.0, 13.6), (5.0, 14.0)])
def test_the_rank_of_the_denoiser_on_two_subspaces(sigma, rank):
    """Rank of one subspace at little noise, of both together at much: the reference table, n = 48, K = 2, d = 7.

    The subspaces are orthogonal. The reference is given to 0.1; the standard error of 400 points is at most 0.11.
    """
    ranks = []
    for seed in range(4):
        noise = generator(8, seed)
        axes = torch.linalg.qr(torch.randn(48, 14, generator=noise, dtype=DOUBLE)).Q
        law = MixtureOfLowRank([0.5, 0.5], [axes[:, :7], axes[:, 7:]])
        ranks.append(effective_rank(law, VarianceExploding(0.01, 10.0), sigma, 100, seed))
    assert sum(ranks) / 4 == pytest.approx(rank, abs=0.3)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
def test_draws_have_the_moments(law):
    """Means and covariances within four standard errors, false alarm below 3e-3 a law."""
    mixture = next((pair[1] for pair in PAIRS.values() if pair[0] is law), law)
    n = 40_000
    x = law.sample(n, generator=generator(9))
    assert float(((x.mean(0) - mixture.mean) / mixture.covariance.diagonal().sqrt()).abs().max()) < 4 / n**0.5
    gap = x - mixture.mean
    products = gap.unsqueeze(2) * gap.unsqueeze(1)
    error = (products.mean(0) - mixture.covariance) / (products.std(0) / n**0.5)
    assert float(error.abs().max()) < 4


class Largest(TorchDispatchMode):
    """Size of the largest tensor that is made."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.size = max(self.size, result.untyped_storage().nbytes() // result.element_size())
        return result


@pytest.mark.parametrize("bandwidth", [0.2, torch.eye(64, dtype=DOUBLE) * 0.2])
def test_no_table_of_queries_by_points_by_columns_is_made(bandwidth):
    points = torch.randn(2_000, 64, generator=generator(10), dtype=DOUBLE)
    law = KernelSmoothed(points, bandwidth)
    n = 3_000
    x_t, t = points[:1].expand(n, 64) + 0.3, torch.full((n,), 0.5, dtype=DOUBLE)
    with Largest() as largest:
        law.denoiser(EDM)(x_t, t)
    assert largest.size <= BLOCK < n * 2_000


def test_far_points_do_not_lose_digits():
    """Data far from the origin: the answer moves with the data."""
    t = TIMES["row"]
    x_t = noisy(SMOOTH, EDM, t)
    moved = KernelSmoothed(POINTS + 1e5, 0.4).denoiser(EDM)(x_t + 1e5, t) - 1e5
    torch.testing.assert_close(moved, SMOOTH.denoiser(EDM)(x_t, t), rtol=0, atol=1e-8)
