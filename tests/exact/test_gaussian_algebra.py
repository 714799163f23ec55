"""Conversions between what a prediction may mean, and transitions, against Bayes' rule."""

import pytest
import torch

from clarkia.oracles import GaussianMixture
from clarkia.processes import EDM, GaussianKernel, RectifiedFlow, VarianceExploding, VariancePreserving
from clarkia.random import generator, randn
from clarkia.schedules import LearnedPowerMean

PROCESSES = {
    "vp-linear": VariancePreserving(),
    "vp-cosine": VariancePreserving("cosine"),
    "edm": EDM,
    "per-column": VarianceExploding(rho=torch.tensor([5.5, 7.0, 12.0], dtype=torch.float64)),
    "learned": VarianceExploding(schedule=LearnedPowerMean(3).double().requires_grad_(False)),
    "flow": RectifiedFlow(),
}
MIXTURE = GaussianMixture(
    [0.3, 0.5, 0.2],
    [[-1.5, 0.5, 0.0], [1.0, 1.0, -1.0], [0.3, -1.2, 0.4]],
    [
        torch.eye(3).tolist(),
        [[0.5, 0.3, 0.0], [0.3, 0.5, 0.1], [0.0, 0.1, 0.3]],
        torch.diag(torch.tensor([0.1, 0.2, 0.3])).tolist(),
    ],
)


@pytest.fixture(params=PROCESSES.values(), ids=PROCESSES.keys())
def process(request):
    return request.param


@pytest.fixture
def point(process):
    noise = generator(0)
    t = torch.rand(40, 3, generator=noise, dtype=torch.float64) * 0.98 + 0.01
    x_t = process.corrupt(MIXTURE.sample(40, generator=noise), t, generator=noise)
    return x_t, MIXTURE.denoiser(process)(x_t, t), t


@pytest.mark.parametrize("meaning", ["epsilon", "score", "velocity"])
def test_conversions_round_trip(process, point, meaning):
    x_t, x0_hat, t = point
    there = getattr(process, meaning)(x_t, x0_hat, t)
    back = getattr(process, f"x0_from_{meaning}")(x_t, there, t)
    torch.testing.assert_close(back, x0_hat, rtol=1e-10, atol=1e-10)


def test_the_score_is_the_gradient_of_the_noisy_log_density(process, point):
    x_t, x0_hat, t = point
    x_t = x_t.requires_grad_()
    (gradient,) = torch.autograd.grad(MIXTURE.noisy_log_prob(process, x_t, t).sum(), x_t)
    torch.testing.assert_close(process.score(x_t.detach(), x0_hat, t), gradient, rtol=1e-8, atol=1e-9)


def test_the_velocity_of_a_known_path_is_its_time_derivative(process):
    noise = generator(1)
    x0, eps = (randn((20, 3), noise, dtype=torch.float64) for _ in range(2))
    t, h = torch.linspace(0.1, 0.9, 20, dtype=torch.float64), 1e-6
    path = [
        process.coefficients(t + gap, x0)[0] * x0 + process.coefficients(t + gap, x0)[1] * eps for gap in (-h, 0, h)
    ]
    velocity = process.velocity(path[1], x0, t)
    torch.testing.assert_close(velocity, (path[2] - path[0]) / (2 * h), rtol=1e-6, atol=1e-6)


def test_the_stochastic_kernel_is_bayes_rule(process):
    """``q(x_s | x_t, x_0)`` from the two Gaussian factors ``q(x_s | x_0)`` and ``q(x_t | x_s)``."""
    x0, x_t = (randn((30, 3), generator(seed), dtype=torch.float64) for seed in (2, 3))
    t, s = torch.linspace(0.3, 0.99, 30, dtype=torch.float64), torch.linspace(0.05, 0.9, 30, dtype=torch.float64)
    s = torch.minimum(s, 0.9 * t)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = process.coefficients(t, x0), process.coefficients(s, x0)
    ratio = alpha_t / alpha_s
    forward = sigma_t**2 - ratio**2 * sigma_s**2
    precision = 1 / sigma_s**2 + ratio**2 / forward
    mean = (alpha_s * x0 / sigma_s**2 + ratio * x_t / forward) / precision
    kernel = process.kernel(x_t, x0, t, s)
    torch.testing.assert_close(kernel.mean, mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(kernel.std.expand(30, 3), precision.rsqrt().expand(30, 3), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0, 2.0])
def test_every_stochasticity_keeps_the_marginal(process, eta):
    """For data at one point, any eta carries ``N(alpha_t x0, sigma_t^2)`` to ``N(alpha_s x0, sigma_s^2)``."""
    x0 = torch.full((1, 3), 0.7, dtype=torch.float64)
    t, s = torch.tensor([0.8], dtype=torch.float64), torch.tensor([0.3], dtype=torch.float64)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = process.coefficients(t, x0), process.coefficients(s, x0)
    base = process.kernel(alpha_t * x0, x0, t, s, eta=eta)
    slope = process.kernel(alpha_t * x0 + 1, x0, t, s, eta=eta).mean - base.mean
    torch.testing.assert_close(base.mean, (alpha_s * x0).expand(1, 3), rtol=1e-10, atol=1e-10)
    variance = slope**2 * sigma_t**2 + base.std**2
    torch.testing.assert_close(variance, (sigma_s**2).expand(1, 3), rtol=1e-9, atol=1e-12)


def test_kernels_at_the_ends(process):
    """From alpha = 0 and to sigma = 0 the step is finite, and to 0 it is the prediction."""
    x, x0 = (randn((5, 3), generator(seed), dtype=torch.float64) for seed in (4, 5))
    one, zero = torch.ones(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    for eta in (0.0, 1.0):
        assert torch.isfinite(process.kernel(x, x0, one, 0.5 * one, eta=eta).mean).all()
        end = process.kernel(x, x0, one, zero, eta=eta)
        torch.testing.assert_close(end.mean, x0, rtol=1e-12, atol=1e-12)
        assert float(end.std.abs().max()) == 0
        assert torch.equal(process.kernel(x, x0, zero, zero, eta=eta).mean, x)


def test_kernel_density_and_divergence():
    mean, std = torch.tensor([[0.3, -1.0]], dtype=torch.float64), torch.tensor([[0.5, 2.0]], dtype=torch.float64)
    kernel = GaussianKernel(mean, std)
    x = torch.tensor([[1.0, 0.5]], dtype=torch.float64)
    expected = torch.distributions.Normal(mean, std).log_prob(x).sum(1)
    torch.testing.assert_close(kernel.log_prob(x), expected, rtol=1e-12, atol=0)
    other = GaussianKernel(mean + 0.4, 1.5 * std)
    rows = GaussianKernel(mean.expand(200_000, 2), std)
    draws = rows.sample(generator(6))
    gaps = rows.log_prob(draws) - other.log_prob(draws)
    # four standard errors: false alarm 6e-5
    assert abs(float(gaps.mean() - kernel.kl(other))) < 4 * float(gaps.std()) / 200_000**0.5
    normals = (torch.distributions.Normal(k.mean, k.std) for k in (kernel, other))
    torch.testing.assert_close(kernel.kl(other), torch.distributions.kl_divergence(*normals).sum(1), rtol=1e-12, atol=0)


def test_a_certain_element_has_a_point_mass():
    certain = GaussianKernel(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 1.0]]))
    assert torch.isfinite(certain.log_prob(torch.tensor([[1.0, 5.0]]))).all()
    assert certain.log_prob(torch.tensor([[1.1, 5.0]])).tolist() == [-torch.inf]
    moved = GaussianKernel(torch.tensor([[1.5, 2.0]]), torch.tensor([[0.0, 1.0]]))
    assert certain.kl(moved).tolist() == [torch.inf]
    assert certain.kl(certain).tolist() == [0.0]
