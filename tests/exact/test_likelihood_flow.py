"""The density of the probability flow against the laws whose flow it is."""

import math

import pytest
import torch

from clarkia import measures
from clarkia.measures.likelihood.runge_kutta import integrate
from clarkia.oracles import GaussianMixture
from clarkia.processes import EDM, RectifiedFlow, VarianceExploding, VariancePreserving
from clarkia.random import generator

PROCESSES = {
    "vp-linear": VariancePreserving(),
    "vp-cosine": VariancePreserving("cosine"),
    "edm": EDM,
    "flow": RectifiedFlow(),
    "per-column": VarianceExploding(rho=torch.tensor([5.5, 9.0], dtype=torch.float64)),
}
MEAN = torch.tensor([0.4, -1.1], dtype=torch.float64)
FULL = torch.tensor([[0.6, 0.35], [0.35, 0.5]], dtype=torch.float64)
TWO = GaussianMixture([0.4, 0.6], [[-1.0, 0.5], [1.2, -0.3]], [[[0.3, 0.1], [0.1, 0.2]], [[0.15, 0.0], [0.0, 0.4]]])
THREE = GaussianMixture(
    [0.3, 0.5, 0.2],
    [[-1.5, 0.5, 0.0], [1.0, 1.0, -1.0], [0.3, -1.2, 0.4]],
    [
        torch.eye(3).tolist(),
        [[0.5, 0.3, 0.0], [0.3, 0.5, 0.1], [0.0, 0.1, 0.3]],
        torch.diag(torch.tensor([0.1, 0.2, 0.3])).tolist(),
    ],
)


def carried(process, mean, covariance):
    """The law that the exact flow of ``N(mean, covariance)`` makes of the prior ``N(0, sigma(1)^2)``.

    The flow is affine: ``x_0 = mean + A (x_1 - alpha_1 mean)`` with ``A = C^(1/2) (alpha_1^2 C + sigma_1^2)^(-1/2)``.
    """
    alpha, sigma = (part[0] for part in process.coefficients(torch.ones(1, dtype=torch.float64), mean[None]))
    values, vectors = torch.linalg.eigh(covariance)
    a = vectors @ torch.diag((values / (alpha**2 * values + sigma**2)).sqrt()) @ vectors.T
    return torch.distributions.MultivariateNormal(mean - a @ (alpha * mean), a @ torch.diag(sigma.expand(2) ** 2) @ a.T)


@pytest.mark.parametrize("name", PROCESSES)
def test_the_density_of_a_gaussian(name):
    """To 1e-6 that of the law the flow makes of the prior; where alpha_1 = 0 that is the Gaussian itself."""
    process = PROCESSES[name]
    covariance = torch.diag(FULL.diagonal()) if name == "per-column" else FULL
    law = GaussianMixture([1.0], MEAN[None], covariance[None])
    x = law.sample(12, generator=generator(0))
    found = measures.log_density(law.denoiser(process), process, x, tolerance=1e-8)
    assert found.kind == "exact"
    assert float(found.standard_error.max()) == 0
    torch.testing.assert_close(found.nats, carried(process, MEAN, covariance).log_prob(x), rtol=0, atol=1e-6)
    if name in ("flow", "vp-cosine"):
        torch.testing.assert_close(found.nats, law.log_prob(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("law", [TWO, THREE], ids=["2-D", "3-D"])
@pytest.mark.parametrize(
    "process",
    [RectifiedFlow(), VariancePreserving("cosine"), VarianceExploding(sigma_max=1e5)],
    ids=lambda process: type(process).__name__,
)
def test_the_density_of_a_mixture(law, process):
    """To 1e-4 at the default tolerance; a prior of width s is off by about ``|mean| / s``."""
    x = law.sample(25, generator=generator(1))
    found = measures.log_density(law.denoiser(process), process, x)
    torch.testing.assert_close(found.nats, law.log_prob(x), rtol=0, atol=1e-4)


def test_random_probes_estimate_the_density_and_their_own_error():
    process = RectifiedFlow()
    x = THREE.sample(8, generator=generator(2))
    found = measures.log_density(
        THREE.denoiser(process), process, x, trace="hutchinson", num_probes=32, generator=generator(3)
    )
    assert found.kind == "estimate"
    z = (found.nats - THREE.log_prob(x)) / found.standard_error
    assert float(z.abs().max()) < 4  # Student's t with 31 degrees of freedom, 8 rows: false alarm 3e-3
    # The sum of 8 squares of such numbers has mean 8.6: below 0.8 or above 30 about once in a thousand times.
    assert 0.8 < float((z**2).sum()) < 30
    assert float(found.standard_error.min()) > 1e-3


def test_any_shape_and_single_precision():
    """A standard normal's denoiser on small images, in float32: ``-(|x|^2 + d log 2 pi) / 2``."""
    process = RectifiedFlow()

    def denoiser(x_t, t, condition=None):
        t = t.reshape(-1, 1, 1, 1)
        return (1 - t) / ((1 - t) ** 2 + t**2) * x_t

    x = torch.randn(5, 1, 2, 3, generator=generator(4))
    found = measures.log_density(denoiser, process, x)
    expected = -0.5 * (x.double().square() + math.log(2 * math.pi)).flatten(1).sum(1)
    torch.testing.assert_close(found.nats, expected, rtol=0, atol=1e-4)
    # Its Jacobian is a multiple of the identity, so that every probe gives the trace itself.
    probes = measures.log_density(denoiser, process, x, trace="hutchinson", num_probes=2, generator=generator(5))
    torch.testing.assert_close(probes.nats, found.nats, rtol=0, atol=1e-4)
    assert float(probes.standard_error.max()) < 1e-4


def test_a_row_does_not_feel_the_rows_beside_it():
    process = RectifiedFlow()
    x = TWO.sample(9, generator=generator(6))
    together = measures.log_density(TWO.denoiser(process), process, x).nats
    alone = torch.cat([measures.log_density(TWO.denoiser(process), process, row).nats for row in x[:3].split(1)])
    torch.testing.assert_close(alone, together[:3], rtol=0, atol=1e-10)


def test_the_integrator_meets_its_tolerance_row_by_row():
    """``dy/dw = rate y``: slow and fast rows in one batch, each within a few of its tolerances."""
    rate = torch.tensor([0.1, 5.0, -30.0], dtype=torch.float64)
    calls = [0, 0, 0]

    def field(y, w, rows):
        for row in rows.tolist():
            calls[row] += 1
        return rate[rows, None] * y

    for tolerance in (1e-4, 1e-8):
        start = torch.ones(3, 1, dtype=torch.float64)
        found = integrate(field, start, 0.0, 2.0, tolerance)[:, 0]
        exact = torch.exp(2 * rate)
        assert float(((found - exact).abs() / (1 + exact)).max()) < 50 * tolerance
    assert calls[0] < 0.5 * min(calls[1:])
