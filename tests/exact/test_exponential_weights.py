"""The weights of exponential integrators against quadrature, and the identities between the solvers built on them."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from clarkia import samplers
from clarkia.oracles import GaussianMixture
from clarkia.processes import EDM, RectifiedFlow, VariancePreserving
from clarkia.random import generator, randn
from clarkia.samplers import (
    DDIM,
    DDPM,
    DEIS,
    DPMSolverPP,
    DPMSolverPPSinglestep,
    Euler,
    Heun,
    RungeKutta,
    SASolver,
    UniPC,
    exponential_weights,
)
from clarkia.samplers.exponential import REACH, exponential_moments

MIXTURE = GaussianMixture([0.3, 0.5, 0.2], [[-1.5, 0.5], [1.0, 1.0], [0.3, -1.2]], [0.09, 0.16, 0.25])


def number(value):
    return torch.tensor([value], dtype=torch.float64)


@pytest.mark.parametrize("c", [1e-9, 1e-4, 0.3, 0.999, 1.0, 1.001, 4.0, 30.0, -1e-6, -0.5, -3.0])
def test_moments_are_those_of_the_exponential_density(c):
    mass = quad(lambda u: math.exp(c * (u - 1)), 0, 1, epsabs=0, epsrel=1e-13)[0]
    for k, moment in enumerate(exponential_moments(c, 4)):
        exact = quad(lambda u, k=k: u**k * math.exp(c * (u - 1)), 0, 1, epsabs=0, epsrel=1e-13)[0] / mass
        assert float(moment) == pytest.approx(exact, rel=1e-11)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0, 2.5])
@pytest.mark.parametrize("nodes", [(0.3,), (0.3, -0.2), (0.3, -0.2, -1.1), (0.3, -0.2, -1.1, -1.2), (0.3, -0.2, 0.9)])
def test_a_polynomial_prediction_is_integrated_exactly(nodes, eta):
    """Variation of constants: ``x / sigma e^(eta lambda)`` grows with ``(1 + eta) e^((1 + eta) l) D(l)``."""
    start, end = 0.3, 0.9
    coefficients = np.arange(1, len(nodes) + 1) / 3.0
    decay, weights, noise = exponential_weights(nodes, start, end, eta)
    found = sum(float(w) * np.polyval(coefficients, node) for w, node in zip(weights, nodes, strict=True))
    c = 1 + eta
    exact = quad(
        lambda place: c * math.exp(c * (place - end)) * np.polyval(coefficients, place),
        start,
        end,
        epsabs=0,
        epsrel=1e-13,
    )
    assert found == pytest.approx(exact[0], rel=1e-12)
    assert float(decay) == pytest.approx(math.exp(-eta * (end - start)), rel=1e-14)
    assert float(noise) == pytest.approx(math.sqrt(1 - math.exp(-2 * eta * (end - start))), abs=1e-12)


def test_nodes_at_infinity_drop_out_and_the_prediction_at_hand_stands_in():
    inf = math.inf
    for start, end in ((-inf, 0.5), (0.1, inf), (-inf, inf)):
        decay, weights, noise = exponential_weights([start, -inf], start, end, 1.0)
        assert [float(w) for w in weights] == [1.0, 0.0]
        assert (float(decay), float(noise)) == (0.0, 1.0)
    two = exponential_weights([0.1, -0.4], 0.1, 0.5)[1]
    three = exponential_weights([0.1, -0.4, -inf], 0.1, 0.5)[1]
    assert [float(w) for w in three] == pytest.approx([*map(float, two), 0.0], rel=1e-14)
    # a corrector from alpha = 0 knows the prediction at its end alone
    weights = exponential_weights([-inf, 0.5], -inf, 0.5)[1]
    assert [float(w) for w in weights] == [0.0, 1.0]
    # a repeated node counts once
    weights = exponential_weights([0.1, 0.1, -0.4], 0.1, 0.5)[1]
    assert [float(w) for w in weights] == pytest.approx([float(two[0]), 0.0, float(two[1])], rel=1e-13)


def test_an_observed_element_does_not_move():
    t = torch.tensor([[0.0, 0.5], [0.4, 0.0]], dtype=torch.float64)
    x = randn((2, 2), generator(0), dtype=torch.float64)
    for process in (VariancePreserving(), RectifiedFlow(), EDM):
        for solver in (DPMSolverPP(order=3), DPMSolverPPSinglestep(), UniPC(), DEIS(), SASolver(), DDIM(0.5), DDPM()):
            carry, state, time = solver.init(x, process), x, t
            for factor in (0.5, 0.25, 0.0):
                state, carry = solver.step(lambda x, t: 0.3 * x, process, state, time, factor * t, carry)
                time = factor * t
            assert bool((state == x)[t == 0].all())
            assert bool((state != x)[t > 0].all())


@pytest.mark.parametrize("process", [VariancePreserving(), VariancePreserving("cosine"), RectifiedFlow(), EDM])
def test_the_one_node_samplers_are_one_family(process):
    """DDIM(1) = DDPM = DPM-Solver++(1) at stochasticity 1, and DDIM(0) = Euler, given the same noise."""
    denoise = MIXTURE.denoiser(process)
    start = randn((30, 2), generator(0), dtype=torch.float64) * process.sigma(number(1.0))

    def run(solver):
        return samplers.sample(denoise, process, initial=start, solver=solver, num_steps=7, generator=generator(1))

    ancestral = run(DDPM())
    torch.testing.assert_close(run(DDIM(1.0)), ancestral, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(run(DPMSolverPP(order=1, stochasticity=1.0)), ancestral, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(run(UniPC(order=1)).mean(), run(UniPC(order=1)).mean())
    for same in (DDIM(0.0), DPMSolverPP(order=1), DEIS(order=1)):
        torch.testing.assert_close(run(same), run(Euler()), rtol=1e-10, atol=1e-10)
    # between the ends the two etas are different families
    assert float((run(DDIM(0.5)) - run(DPMSolverPP(order=1, stochasticity=0.5))).abs().max()) > 1e-3


@pytest.mark.parametrize("process", [VariancePreserving(), RectifiedFlow(), EDM])
def test_the_large_variance_is_that_of_the_forward_step(process):
    x = randn((5, 2), generator(0), dtype=torch.float64)
    t, s = number(0.7).expand(5), number(0.4).expand(5)
    kernel, _ = DDPM("large").kernel(lambda x, t: 0.2 * x, process, x, t, s, None)
    small, _ = DDPM().kernel(lambda x, t: 0.2 * x, process, x, t, s, None)
    ratio = process.alpha(t) / process.alpha(s)
    assert float(kernel.std.flatten()[0]) ** 2 == pytest.approx(
        float((process.sigma(t) ** 2 - ratio**2 * process.sigma(s) ** 2)[0]), rel=1e-12
    )
    torch.testing.assert_close(kernel.mean, small.mean)
    last, _ = DDPM("large").kernel(lambda x, t: 0.2 * x, process, x, t, 0 * t, None)
    assert float(last.std.abs().max()) == 0
    torch.testing.assert_close(last.mean, 0.2 * x)


DETERMINISTIC = [
    Euler(), Heun(), DPMSolverPP(order=2), DPMSolverPP(order=3), DPMSolverPPSinglestep(order=3), UniPC(order=3), DEIS(),
]  # fmt: skip


@pytest.mark.parametrize("solver", DETERMINISTIC, ids=lambda solver: type(solver).__name__)
@pytest.mark.parametrize("process", [VariancePreserving(), RectifiedFlow(), EDM])
def test_data_at_one_point_contract_by_the_ratio_of_the_noise(process, solver):
    """With ``x0_hat = c`` every exponential method is exact, whatever the grid."""
    c = torch.tensor([0.7, -1.3], dtype=torch.float64)
    grid = torch.tensor([0.95, 0.7, 0.55, 0.2, 0.05], dtype=torch.float64)
    start = randn((4, 2), generator(0), dtype=torch.float64)
    end = samplers.sample(lambda x, t: c.expand_as(x), process, initial=start, solver=solver, times=grid)
    alpha, sigma = process.alpha(grid), process.sigma(grid)
    exact = alpha[-1] * c + sigma[-1] / sigma[0] * (start - alpha[0] * c)
    torch.testing.assert_close(end, exact, rtol=1e-10, atol=1e-10)


def test_ddim_on_normal_data_multiplies_by_the_published_factors():
    variance, mean = 0.3, 0.7
    oracle = GaussianMixture([1.0], [[mean]], [variance])
    sigma = torch.tensor([20.0, 5.0, 1.0, 0.3, 0.1], dtype=torch.float64)
    grid = EDM.t_of_kappa(sigma)
    start = randn((6, 1), generator(0), dtype=torch.float64)
    end = samplers.sample(oracle.denoiser(EDM), EDM, initial=mean + start, solver=DDIM(), times=grid)
    factor = ((variance + sigma[:-1] * sigma[1:]) / (variance + sigma[:-1] ** 2)).prod()
    torch.testing.assert_close(end, mean + factor * start, rtol=1e-10, atol=1e-10)


def test_third_order_weights_in_divided_differences():
    """The 3M update as it is usually written, with the factor 2 on ``phi_3`` that released code lacks."""
    lambdas = [0.4, -0.3, -1.4]
    h, c = 0.7, 0.7 * (1 + 0.5)
    weights = exponential_weights(lambdas, lambdas[0], 1.1, 0.5)[1]
    published = exponential_weights(lambdas, lambdas[0], 1.1, 0.5, "published")[1]
    d = np.array([0.3, -1.2, 0.8])
    r0, r1 = 0.7 / h, 1.1 / h
    d10, d11 = (d[0] - d[1]) / r0, (d[1] - d[2]) / r1
    d1, d2 = d10 + r0 / (r0 + r1) * (d10 - d11), (d10 - d11) / (r0 + r1)
    phi2 = 1 + math.expm1(-c) / c
    phi3 = phi2 / c - 0.5
    for found, factor in ((weights, 2), (published, 1)):
        exact = -math.expm1(-c) * d[0] + phi2 * d1 - factor * phi3 * d2
        assert float(sum(w * v for w, v in zip(found, d, strict=True))) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("process", [VariancePreserving(), RectifiedFlow(), EDM, VariancePreserving("cosine")])
def test_the_reference_integrator_meets_its_tolerance(process):
    pytest.importorskip("torchdiffeq")
    start = randn((20, 2), generator(3), dtype=torch.float64) * process.sigma(number(1.0))
    denoise = MIXTURE.denoiser(process)
    loose, tight = (
        samplers.sample(denoise, process, initial=start, solver=RungeKutta(tol, tol), num_steps=1)
        for tol in (1e-5, 1e-9)
    )
    assert float((loose - tight).abs().max()) < 1e-3
    fine = samplers.sample(denoise, process, initial=start, solver=UniPC(order=3), num_steps=400)
    assert float((fine - tight).square().mean().sqrt()) < 5e-3


def test_a_stochastic_step_is_a_kernel():
    """The kernel's own draw under its own generator is the step, and its density is that of the noise drawn."""
    process, x = VariancePreserving(), randn((6, 2), generator(0), dtype=torch.float64)
    denoise = MIXTURE.denoiser(process)
    solvers = [DDPM(), DDPM("large"), DDIM(0.5), DPMSolverPP(stochasticity=1.0), UniPC(stochasticity=0.5)]
    solvers += [SASolver(noisy=(0.0, math.inf)), DPMSolverPPSinglestep(stochasticity=0.7)]
    for solver in solvers:
        carry = solver.init(x, process)
        t, s = number(0.8).expand(6), number(0.6).expand(6)
        kernel, _ = solver.kernel(denoise, process, x, t, s, carry)
        x_s, _ = solver.step(denoise, process, x, t, s, carry, generator(5))
        torch.testing.assert_close(kernel.sample(generator(5)), x_s, rtol=1e-13, atol=1e-13)
        z = (x_s - kernel.mean) / kernel.std
        density = -0.5 * (z**2).sum(1) - 2 * kernel.std.flatten()[0].log() - math.log(2 * math.pi)
        torch.testing.assert_close(kernel.log_prob(x_s), density, rtol=1e-10, atol=1e-10)
        assert float(kernel.kl(kernel).abs().max()) < 1e-12


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DPMSolverPP(order=4), "order: expected 1, 2 or 3, found 4"),
        (lambda: DPMSolverPP(stochasticity=-1), "stochasticity"),
        (lambda: DPMSolverPP(variant="x"), "variant: expected None, 'exact' or 'published', found 'x'"),
        (lambda: DPMSolverPPSinglestep(order=1), "order"),
        (lambda: UniPC(order=5), "order"),
        (lambda: DDIM(eta=1.5), "eta: expected a number from 0 to 1, found 1.5"),
        (lambda: DDPM(variance="medium"), "variance"),
        (lambda: DEIS(basis="x"), "basis"),
        (lambda: SASolver(tau=math.nan), "tau"),
        (lambda: SASolver(noisy=(2.0, 1.0)), "noisy"),
        (lambda: RungeKutta(rtol=0), "rtol"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_three_nodes_are_used_as_far_as_they_reach():
    """Even steps in lambda: the sum of absolute shares is 1 + 4 m1 + 2 m2, which passes 4.5 at a step of 1.715."""
    for h, used in ((0.01, 3), (1.0, 3), (1.71, 3), (1.72, 2), (5.0, 2)):
        nodes = [0.0, -h, -2 * h]
        weights = exponential_weights(nodes, 0.0, h, 0.0, "midpoint", REACH)[1]
        expected = exponential_weights(nodes[:used], 0.0, h, 0.0, "midpoint")[1]
        np.testing.assert_allclose(weights, [*expected, 0.0][:3], rtol=0, atol=0)
    h = np.array([1.0, 2.0])
    together = exponential_weights([0 * h, -h, -2 * h], 0 * h, h, 0.0, "midpoint", REACH)[1]
    for index, step in enumerate((1.0, 2.0)):
        alone = exponential_weights([0.0, -step, -2 * step], 0.0, step, 0.0, "midpoint", REACH)[1]
        np.testing.assert_allclose([weight[index] for weight in together], alone, rtol=1e-14)
