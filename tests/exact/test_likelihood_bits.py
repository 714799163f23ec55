"""Bits per dimension by three routes against laws whose density is known."""

import math

import pytest
import torch
from scipy.integrate import quad

from clarkia import measures
from clarkia.measures import likelihood
from clarkia.oracles import GaussianMixture
from clarkia.processes import EDM, RectifiedFlow, VarianceExploding, VariancePreserving
from clarkia.random import generator

TWO = GaussianMixture([0.4, 0.6], [[-1.0, 0.5], [1.2, -0.3]], [[[0.3, 0.1], [0.1, 0.2]], [[0.15, 0.0], [0.0, 0.4]]])
PROCESSES = {
    "vp-linear": VariancePreserving(),
    "vp-cosine": VariancePreserving("cosine"),
    "edm": EDM,
    "flow": RectifiedFlow(),
    "per-column": VarianceExploding(rho=torch.tensor([5.5, 9.0], dtype=torch.float64)),
}


@pytest.mark.parametrize("name", PROCESSES)
def test_the_log_density_of_a_mixture_from_errors_alone(name):
    """Three points, 12,000 replicates: within 4 standard errors (2e-4 together) and 1e-4 nats for the ends."""
    process = PROCESSES[name]
    points = torch.tensor([[0.4, -1.1], [1.5, 0.2], [-0.8, -1.0]], dtype=torch.float64)
    found = likelihood.immse_log_density(
        TWO.denoiser(process), process, points.repeat(12_000, 1), generator=generator(0)
    )
    assert found.kind == "estimate"
    nats, error = (part.reshape(12_000, 3) for part in (found.nats, found.standard_error))
    of_mean = error.square().sum(0).sqrt() / 12_000
    assert bool(((nats.mean(0) - TWO.log_prob(points)).abs() < 4 * of_mean + 1e-4).all())
    assert float(of_mean.max()) < 0.01
    # the stated errors are the replicates' spread, to 4 / sqrt(2 * 12,000) of it and what their own noise adds
    honest = (nats.std(0) / error.square().mean(0).sqrt() - 1).abs()
    assert float(honest.max()) < 0.1


def test_what_lies_beyond_a_process_s_ends():
    """A narrow process, ratios from 0.04 to 400: the excess is held constant below and falls as ``1 / g^2`` above.

    What that leaves of the two tails by quadrature, 0.012 and 0.028 nats, is found within 4 standard errors (1e-4);
    without the ends it would be 0.18 and 0.30.
    """
    law, process = GaussianMixture([1.0], [[3.0]], [0.25]), VarianceExploding(sigma_min=0.05, sigma_max=5.0)
    x = torch.tensor([[3.0], [4.5]], dtype=torch.float64)
    found = likelihood.immse_log_density(
        law.denoiser(process), process, x.repeat(20_000, 1), scale=1.5, generator=generator(12)
    )
    nats, error = (part.reshape(20_000, 2) for part in (found.nats, found.standard_error))
    for column, point in enumerate((3.0, 4.5)):

        def excess(g, point=point):
            own, other = (((point - m) ** 2 + v**2 * g) / (1 + g * v) ** 2 for m, v in ((3.0, 0.25), (0.0, 2.25)))
            return 0.5 * (own - other)

        below = quad(excess, 0, 0.04)[0] - 0.04 * excess(0.04)
        above = quad(excess, 400, math.inf)[0] - 400 * excess(400)
        gap = nats.mean(0)[column] - law.log_prob(x)[column]
        assert float(gap) == pytest.approx(
            below + above, abs=4 * float(error[:, column].square().sum().sqrt()) / 20_000
        )
        assert abs(below + above) < 0.03


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_a_normal_law_compared_with_itself_has_no_error(scale):
    """The reference law's own density is exact, whatever is drawn."""
    law = GaussianMixture([1.0], [[0.0, 0.0, 0.0]], [scale**2])
    x = law.sample(20, generator=generator(1))
    process = RectifiedFlow()
    found = likelihood.immse_log_density(
        law.denoiser(process), process, x, num_draws=2, scale=scale, generator=generator(2)
    )
    torch.testing.assert_close(found.nats, law.log_prob(x), rtol=0, atol=1e-9)


def test_another_reference_law_gives_the_same_answer():
    x = TWO.sample(1, generator=generator(3)).expand(4000, 2)
    process = VariancePreserving("cosine")
    found = [
        likelihood.immse_log_density(TWO.denoiser(process), process, x, scale=scale, generator=generator(4))
        for scale in (0.6, 2.0)
    ]
    error = math.hypot(*(one.mean_standard_error for one in found))
    assert abs(found[0].mean - found[1].mean) < 4 * error  # false alarm 6e-5


def test_a_worse_denoiser_is_never_better_on_average():
    """Its excess error is what it loses: for ``x0_hat`` shrunk by c, half the integral of ``(1-c)^2 E|x0_hat|^2``."""
    law = GaussianMixture([1.0], [[0.0]], [1.0])
    process, c = RectifiedFlow(), 0.9
    x = law.sample(20_000, generator=generator(5))
    exact = law.denoiser(process)

    def shrunk(x_t, t):
        # as good as exact at low noise, where an error has infinite weight
        weak = (t > 0.5).to(x_t.dtype)[:, None]
        return exact(x_t, t) * (1 - (1 - c) * weak)

    found = likelihood.immse_log_density(shrunk, process, x, num_draws=8, generator=generator(6))
    entropy = 0.5 * math.log(2 * math.pi * math.e)
    # E x0_hat^2 = g / (1 + g), and t > 1/2 is g < 1: half the integral is (1 - log 2) / 2
    loss = 0.5 * (1 - c) ** 2 * (1 - math.log(2))
    error = math.hypot(found.mean_standard_error, 1 / math.sqrt(2 * 20_000))
    assert -found.mean == pytest.approx(entropy + loss, abs=4 * error)


@pytest.mark.parametrize("method", ["ode", "elbo", "immse"])
def test_three_routes_to_the_same_bits(method):
    """The bound of an exact denoiser is the value; per point within 4 standard errors and 1e-4 nats."""
    process = VariancePreserving("cosine")
    x = TWO.sample(200, generator=generator(7))
    found = measures.likelihood.bits_per_dim(
        TWO.denoiser(process), process, x, method=method, tolerance=1e-6, generator=generator(8)
    )
    exact = -TWO.log_prob(x) / (2 * math.log(2))
    assert found.kind == {"ode": "exact", "elbo": "bound", "immse": "estimate"}[method]
    assert not found.dequantised
    assert found.method == method
    if method == "ode":
        torch.testing.assert_close(found.bits, exact, rtol=0, atol=1e-4 / (2 * math.log(2)))
    assert abs(found.mean - float(exact.mean())) < 4 * found.mean_standard_error + 3e-4  # false alarm 6e-5
    assert found.sampling_error == pytest.approx(float(exact.std()) / math.sqrt(200), rel=0.2)


def test_bytes_scaled_to_minus_one_and_one():
    """``log2(127.5) = 6.9944`` bits are those of the scale."""
    levels = torch.tensor([[0, 255, 100]])
    x, noise = likelihood.from_levels(levels, 256, dtype=torch.float64)
    torch.testing.assert_close(x, levels.double() / 127.5 - 1)
    assert noise.shift == pytest.approx(6.9944, abs=5e-5)
    assert noise.shift == pytest.approx(math.log2(127.5), abs=1e-12)
    noisy, log_density = noise(x.expand(1000, 3), generator(9))
    gap = (noisy - x).abs().max()
    assert 0.99 / 255 < float(gap) <= 1 / 255
    torch.testing.assert_close(log_density, torch.full((1000,), 3 * math.log(127.5), dtype=torch.float64))


def test_the_bits_of_levels():
    """A normal law on eight levels: an upper bound on the entropy of its bins, above it by Jensen's gap.

    Both sides by quadrature; 4 standard errors over 4000 rows of one level (6e-5).
    """
    law, process = GaussianMixture([1.0], [[0.1]], [0.16]), RectifiedFlow()
    x, noise = likelihood.from_levels(torch.tensor([[5]]), 8, dtype=torch.float64)
    found = likelihood.bits_per_dim(
        law.denoiser(process),
        process,
        x.expand(500, 1),
        dequantise=noise,
        num_dequantisations=4,
        generator=generator(10),
    )
    assert (found.kind, found.dequantised) == ("bound", True)
    inside = x + noise.bin_width * (torch.arange(1001, dtype=torch.float64)[:, None] / 1000 - 0.5)
    density = law.log_prob(inside)
    mean = -float(torch.trapezoid(density, dx=1e-3)) / math.log(2) + noise.shift
    assert abs(found.mean - mean) < 4 * float(found.bits.std()) / math.sqrt(500) + 1e-5
    mass = -math.log2(float(torch.trapezoid(density.exp(), dx=1e-3)) * noise.bin_width)
    assert found.mean > mass
    # errors are those of four noises
    assert float(found.standard_error.mean()) == pytest.approx(float(found.bits.std()), rel=0.15)


def test_a_learned_dequantisation_is_tighter():
    """Noise from the law's own density within the bin loses nothing: the bits are those of the bin's mass."""
    law, process = GaussianMixture([1.0], [[0.1]], [0.16]), RectifiedFlow()
    x, uniform = likelihood.from_levels(torch.tensor([[6]]), 8, dtype=torch.float64)
    half, std = 0.5 * uniform.bin_width, 0.4
    low, high = (torch.special.ndtr((x[0, 0] + end - 0.1) / std) for end in (-half, half))

    def learned(rows, noise):
        u = torch.rand(rows.shape, generator=noise, dtype=torch.float64)
        noisy = 0.1 + std * torch.special.ndtri(low + u * (high - low))
        return noisy, law.log_prob(noisy) - (high - low).log()

    found = likelihood.bits_per_dim(
        law.denoiser(process), process, x.expand(50, 1), dequantise=learned, tolerance=1e-8, generator=generator(11)
    )
    expected = torch.full((50,), -math.log2(float(high - low)), dtype=torch.float64)
    torch.testing.assert_close(found.bits, expected, rtol=0, atol=1e-6)
