"""What a prediction means, between all its kinds and under every Gaussian process."""

import math
from itertools import permutations

import pytest
import torch

from clarkia import samplers
from clarkia.denoisers import Parametrized, retimed
from clarkia.oracles import GaussianMixture
from clarkia.processes import (
    EDM,
    GaussianPath,
    RectifiedFlow,
    SubVariancePreserving,
    VariancePreserving,
)
from clarkia.random import generator, randn

PROCESSES = {
    "vp-linear": VariancePreserving(),
    "vp-cosine": VariancePreserving("cosine"),
    "sub-vp": SubVariancePreserving(),
    "edm": EDM,
    "flow": RectifiedFlow(),
    "own": GaussianPath(lambda t: torch.cos(0.4 * math.pi * t), lambda t: torch.sin(0.4 * math.pi * t) + 0.5 * t**2),
}
KINDS = ("x0", "epsilon", "score", "velocity", "v")
MIXTURE = GaussianMixture([0.3, 0.5, 0.2], [[-1.5, 0.5], [1.0, 1.0], [0.3, -1.2]], [0.09, 0.16, 0.25])


@pytest.fixture(params=PROCESSES.values(), ids=PROCESSES.keys())
def process(request):
    return request.param


@pytest.mark.parametrize("by_element", [False, True])
@pytest.mark.parametrize(("source", "target"), list(permutations(KINDS, 2)))
def test_there_and_back(process, source, target, by_element):
    x_t, value = (randn((6, 3), generator(seed), dtype=torch.float64) for seed in (0, 1))
    t = torch.linspace(0.05, 0.95, 18, dtype=torch.float64).reshape(6, 3)
    t = t if by_element else t[:, 0]
    there = process.convert(value, x_t, t, source, target)
    torch.testing.assert_close(process.convert(there, x_t, t, target, source), value, rtol=1e-10, atol=1e-10)


def test_the_kinds_are_what_they_are_called(process):
    x0, noise = (randn((5, 2), generator(seed), dtype=torch.float64) for seed in (2, 3))
    t = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    alpha, sigma = process.alpha(t)[:, None], process.sigma(t)[:, None]
    x_t = alpha * x0 + sigma * noise
    exact = {
        "epsilon": noise,
        "score": -noise / sigma,
        "velocity": process.d_alpha(t)[:, None] * x0 + process.d_sigma(t)[:, None] * noise,
        "v": alpha * noise - sigma * x0,
    }
    for kind, value in exact.items():
        torch.testing.assert_close(process.convert(x0, x_t, t, "x0", kind), value, rtol=1e-10, atol=1e-10)


def test_loss_weights_are_the_ratios_of_the_errors(process):
    x_t, x0, wrong = (randn((5, 2), generator(seed), dtype=torch.float64) for seed in (4, 5, 6))
    t = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    for kind in KINDS:
        right, off = (process.convert(value, x_t, t, "x0", kind) for value in (x0, wrong))
        error = (right - off).square().sum(1) / (x0 - wrong).square().sum(1)
        torch.testing.assert_close(process.loss_weight(t, kind), error, rtol=1e-9, atol=1e-12)


def test_derivatives_and_the_inverse_of_the_ratio(process):
    t = torch.linspace(0.05, 0.95, 7, dtype=torch.float64, requires_grad=True)
    for value, slope in ((process.alpha(t), process.d_alpha(t)), (process.sigma(t), process.d_sigma(t))):
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value.sum(), t)
            torch.testing.assert_close(slope, gradient, rtol=1e-9, atol=1e-12)
    t = t.detach()
    torch.testing.assert_close(process.t_of_kappa(process.kappa(t)), t, rtol=1e-9, atol=1e-12)


def test_sub_vp_has_less_noise_than_vp():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    less, more = SubVariancePreserving(), VariancePreserving()
    torch.testing.assert_close(less.alpha(t), more.alpha(t))
    torch.testing.assert_close(less.sigma(t), 1 - more.alpha(t) ** 2)


@pytest.mark.parametrize("trained", PROCESSES.values(), ids=PROCESSES.keys())
def test_a_denoiser_of_one_process_serves_another(process, trained):
    t = torch.tensor([0.0, 0.1, 0.4, 0.7], dtype=torch.float64)
    x_t = process.corrupt(MIXTURE.sample(4, generator=generator(7)), t, generator=generator(8))
    own, moved = MIXTURE.denoiser(process), retimed(MIXTURE.denoiser(trained), trained, process)
    reach = process.kappa(t) <= trained.kappa(torch.ones(1, dtype=torch.float64))
    # EDM is clean below its least noise; nearer than that to t = 0 the others have times of their own
    reach &= (t == 0) | (process.kappa(t) > 0.002)
    torch.testing.assert_close(moved(x_t, t)[reach], own(x_t, t)[reach], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("kind", "process"), [("epsilon", VariancePreserving()), ("velocity", RectifiedFlow()), ("x0", EDM)]
)
def test_one_oracle_behind_three_kinds_of_network_gives_one_sample(kind, process):
    """A noise network on VP, a velocity network on a flow, a data network on EDM: the same path in common units."""

    class Network(torch.nn.Module):
        def forward(self, x_t, t):
            return process.convert(MIXTURE.denoiser(process)(x_t, t), x_t, t, "x0", kind)

    kappa = torch.exp(-torch.linspace(-2.5, 3, 13, dtype=torch.float64))
    start = randn((30, 2), generator(9), dtype=torch.float64)

    def run(process, denoiser):
        times = process.t_of_kappa(kappa)
        alpha = process.alpha(times[[0, -1]])
        x = samplers.sample(denoiser, process, initial=12 * alpha[0] * start, solver=samplers.UniPC(), times=times)
        return x / alpha[1]

    plain = run(EDM, MIXTURE.denoiser(EDM))
    torch.testing.assert_close(run(process, Parametrized(Network(), process, kind)), plain, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, t: EDM.convert(x, x, t, "noise", "x0"), "source: expected one of .*, found 'noise'"),
        (lambda x, t: EDM.convert(x, x, t, "x0", "noise"), "target: expected one of .*, found 'noise'"),
        (lambda x, t: EDM.loss_weight(t, "noise"), "kind: expected one of .*, found 'noise'"),
        (lambda x, t: Parametrized(torch.nn.Identity(), EDM, "noise"), "kind: expected one of .*, found 'noise'"),
        (lambda x, t: RectifiedFlow().convert(x, x, t + 1, "epsilon", "x0"), "epsilon: expected times with alpha > 0"),
        (lambda x, t: GaussianPath(torch.cos, torch.cos), "alpha, sigma: expected 1 and 0 at t = 0"),
        (lambda x, t: GaussianPath(torch.ones_like, lambda t: t * (1 - t)), "to increase, found a fall at t = 0.5"),
        (lambda x, t: GaussianPath(torch.log, lambda t: t), "alpha: expected finite non-negative values"),
        (lambda x, t: EDM.corrupt(x, t + 2), "t: expected times in \\[0, 1\\]"),
        (lambda x, t: EDM.corrupt(x, torch.zeros(7)), "t: expected shape"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(3, 2, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
