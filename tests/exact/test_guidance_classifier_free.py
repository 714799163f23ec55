"""Classifier-free guidance of normals in closed form, CFG++ as a schedule, several conditions at once."""

import math
from itertools import pairwise

import pytest
import torch
from scipy.integrate import quad

from clarkia import guidance, samplers, schedules
from clarkia.guidance import classifier_free, classifier_free_plus_plus, compose, noise_interval, plus_plus_scale
from clarkia.oracles import FiniteJoint, GaussianMixture
from clarkia.processes import EDM, Masked, Mixed, RectifiedFlow, VarianceExploding, VariancePreserving
from clarkia.random import generator, randn
from clarkia.samplers import DDIM, Euler, Heun

PROCESSES = {"edm": EDM, "vp": VariancePreserving(), "cosine": VariancePreserving("cosine"), "flow": RectifiedFlow()}


def normal(mean, std):
    return GaussianMixture([1.0], [[mean]], [std**2])


def closed_form(mu_c, s_c, mu_u, s_u, w):
    """Mean and deviation at which the guided equation ends, from the integral of its linear terms."""

    def shrink(s):
        return (s_c**2 / (s_c**2 + s**2)) ** (w / 2) * (s_u**2 / (s_u**2 + s**2)) ** ((1 - w) / 2)

    def drift(s):
        return w * mu_c * s / (s_c**2 + s**2) + (1 - w) * mu_u * s / (s_u**2 + s**2)

    return quad(lambda s: shrink(s) * drift(s), 0, math.inf)[0], s_c**w * s_u ** (1 - w)


def test_guided_normals_end_where_the_closed_form_says():
    """From N(1, .5) and N(0, 1) at w = 3: mean 1.500 and deviation .125, not the product's 1.200 and .316."""
    mean, std = closed_form(1.0, 0.5, 0.0, 1.0, 3.0)
    assert (round(mean, 3), round(std, 3)) == (1.5, 0.125)
    guided = classifier_free(normal(1.0, 0.5).denoiser(EDM), 2.0, unconditional=normal(0.0, 1.0).denoiser(EDM))
    # The map from noise to data is affine: two starts tell all of it.
    start = 80 * torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    low, high = samplers.sample(guided, EDM, initial=start, solver=Heun(), times=schedules.karras(400, EDM))[:, 0]
    assert float(0.5 * (low + high)) == pytest.approx(mean, abs=1e-2)
    assert float(0.5 * (high - low)) == pytest.approx(std, abs=1e-3)


@pytest.mark.parametrize("case", [(0.4, 0.8, -0.3, 1.1, 1.7), (1.0, 0.5, 0.5, 0.4, 2.0), (1.0, 0.5, 0.0, 1.0, 0.3)])
def test_other_normals_too(case):
    mean, std = closed_form(*case)
    mu_c, s_c, mu_u, s_u, w = case
    process = VarianceExploding(0.002, 2000.0)
    guided = classifier_free(
        normal(mu_c, s_c).denoiser(process), w - 1, unconditional=normal(mu_u, s_u).denoiser(process)
    )
    start = 2000 * torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    times = schedules.karras(400, process)
    low, high = samplers.sample(guided, process, initial=start, solver=Heun(), times=times)[:, 0]
    assert float(0.5 * (low + high)) == pytest.approx(mean, abs=2e-3)
    assert float(0.5 * (high - low)) == pytest.approx(std, abs=1e-3)


# ----------------------------------------------------------------------------------------------------- CFG++


def random_denoisers():
    """A conditional and an unconditional network."""
    torch.manual_seed(0)
    networks = [
        torch.nn.Sequential(torch.nn.Linear(3, 32), torch.nn.Tanh(), torch.nn.Linear(32, 3)).double() for _ in range(2)
    ]
    return [lambda x, t, c=None, network=network: network(x) for network in networks]


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize("scale", [0.0, 0.6, 1.0])
def test_cfg_plus_plus_is_a_schedule_of_guidance(process, scale):
    """Denoise with the guided answer, noise with the unconditional noise: the same numbers to 1e-10."""
    conditional, free = random_denoisers()
    times = schedules.log_snr(12, process)
    start = process.prior(5, (3,), generator=generator(0), dtype=torch.float64)
    x = start
    with torch.no_grad():
        for t, s in pairwise(times):
            t, s = t.expand(5), s.expand(5)
            d_u, d_c = free(x, t), conditional(x, t)
            alpha, sigma = process.coefficients(s, x)
            x = alpha * (d_u + scale * (d_c - d_u)) + sigma * process.epsilon(x, d_u, t)
    guided = classifier_free_plus_plus(conditional, process, times, scale, unconditional=free)
    for solver in (Euler(), DDIM(eta=0.0)):
        found = samplers.sample(guided, process, initial=start, solver=solver, times=times)
        torch.testing.assert_close(found, x, rtol=0, atol=1e-10)


def test_the_weight_of_cfg_plus_plus_is_the_formula_and_knows_its_node_in_any_precision():
    process, times = VariancePreserving(), schedules.uniform(1000)
    weight = plus_plus_scale(process, times, 0.6)
    kappa = process.kappa(times)
    expected = 0.6 / (1 - kappa[1:] / kappa[:-1]) - 1
    torch.testing.assert_close(weight(times[:-1]), expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(weight(times[:-1].float()), expected, rtol=1e-9, atol=0)
    assert float(weight(times[-2:-1])) == pytest.approx(0.6 - 1)  # the last step leads to no noise at all


def test_cfg_plus_plus_has_no_limit_of_small_steps():
    """Of a pair of normals the deviation falls with the number of steps; plain guidance has a limit."""
    laws = [normal(1.0, 0.5), normal(0.0, 1.0)]
    start = 80 * torch.tensor([[-1.0], [1.0]], dtype=torch.float64)

    def deviation(steps, wrap):
        times = schedules.karras(steps, EDM)
        conditional, free = (law.denoiser(EDM) for law in laws)
        low, high = samplers.sample(wrap(conditional, free, times), EDM, initial=start, solver=Euler(), times=times)
        return float(0.5 * (high - low))

    plus = [
        deviation(n, lambda c, u, times: classifier_free_plus_plus(c, EDM, times, 0.6, unconditional=u))
        for n in (20, 50, 200)
    ]
    plain = [deviation(n, lambda c, u, times: classifier_free(c, 1.0, unconditional=u)) for n in (200, 400)]
    assert plus[0] > plus[1] > plus[2]
    assert plus[2] < 1e-3  # collapsed
    assert plain[0] == pytest.approx(plain[1], rel=0.05)


# --------------------------------------------------------------------------------------------------- interval


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_an_interval_of_noise_levels(process):
    low, high = noise_interval(process, 0.3, 3.0)
    levels = process.kappa(torch.tensor([low, high], dtype=torch.float64))
    torch.testing.assert_close(levels, torch.tensor([0.3, 3.0], dtype=torch.float64))
    assert noise_interval(process) == (0.0, 1.0)


def test_outside_the_interval_the_other_term_is_not_asked_for():
    asked = []

    def other(x, t):
        asked.append(float(t[0]))
        return torch.zeros_like(x)

    process = VarianceExploding(0.01, 20.0)
    low, high = noise_interval(process, 0.3, 3.0)
    guided = classifier_free(lambda x, t, c=None: torch.ones_like(x), 2.0, unconditional=other, interval=(low, high))
    times = schedules.karras(40, process)
    samplers.sample(guided, process, num_samples=2, shape=(1,), solver=Euler(), times=times)
    assert 0 < len(asked) < 20
    assert all(low <= t <= high for t in asked)


# ------------------------------------------------------------------------------------------ several conditions

LABELLED = {1: normal(1.0, 0.7), 2: normal(-0.5, 0.7), 3: normal(0.2, 0.7), None: normal(0.0, 0.7)}


def told(x, t, condition=None):
    return LABELLED[condition].denoiser(PROCESSES["vp"])(x, t)


def test_conditions_of_one_width_shift_the_mean_by_their_weighted_sum():
    """Scores add: base 0, plus 1.5 (1 - 0) and -0.5 (-0.5 - 0)."""
    x, t = randn((6, 1), generator(1), dtype=torch.float64), torch.full((6,), 0.4, dtype=torch.float64)
    composed = compose(told, [1, 2], [1.5, -0.5])
    exact = normal(1.5 + 0.25, 0.7).denoiser(PROCESSES["vp"])(x, t)
    torch.testing.assert_close(composed(x, t), exact, rtol=1e-10, atol=1e-10)
    # base 0.2: 0.2 + 1.5 (1 - 0.2)
    negative = compose(told, [1], [1.5], negative=3)
    torch.testing.assert_close(negative(x, t), normal(1.4, 0.7).denoiser(PROCESSES["vp"])(x, t), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(negative.both(x, t)[0], told(x, t, 3))


def test_one_condition_is_classifier_free_guidance():
    x, t = randn((6, 1), generator(2), dtype=torch.float64), torch.full((6,), 0.7, dtype=torch.float64)
    torch.testing.assert_close(compose(told, [1], [1.0])(x, t), told(x, t, 1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(compose(told, [1], [3.5])(x, t), classifier_free(told, 2.5)(x, t, 1))


def test_both_answers_are_known():
    x, t = randn((6, 1), generator(3), dtype=torch.float64), torch.full((6,), 0.7, dtype=torch.float64)
    plain, guided = classifier_free(told, 2.0).both(x, t, 1)
    assert torch.equal(plain, told(x, t, 1))
    torch.testing.assert_close(guided, 3 * told(x, t, 1) - 2 * told(x, t))


def test_composed_categories_are_normalised_products():
    process = Masked((4,))
    laws = {
        None: FiniteJoint([0.25, 0.25, 0.25, 0.25]),
        "a": FiniteJoint([0.4, 0.3, 0.3, 0.0]),
        "b": FiniteJoint([0.1, 0.6, 0.2, 0.1]),
    }

    def denoise(x, t, condition=None):
        return laws[condition].denoiser(process)(x, t)

    x, t = torch.tensor([[4], [2]]), torch.full((2,), 0.5)
    found = compose(denoise, ["a", "b"], [1.0, 2.0])(x, t).exp()
    p, a, b = (laws[key].probabilities for key in (None, "a", "b"))
    exact = p * (a / p) * (b / p) ** 2
    torch.testing.assert_close(found[0, 0], exact / exact.sum())
    assert found[1, 0].tolist() == [0.0, 0.0, 1.0, 0.0]  # a visible cell stays
    assert float(found[0, 0, 3]) == 0  # excluded by a wanted condition


def test_conditions_that_exclude_everything_leave_a_law():
    process = Masked((2,))
    laws = {None: FiniteJoint([0.5, 0.5]), "a": FiniteJoint([1.0, 0.0]), "b": FiniteJoint([0.0, 1.0])}

    def denoise(x, t, condition=None):
        return laws[condition].denoiser(process)(x, t)

    found = compose(denoise, ["a", "b"], [1.0, 1.0])(torch.tensor([[2]]), torch.ones(1)).exp()
    torch.testing.assert_close(found.sum(), torch.ones((), dtype=found.dtype))


def test_mixed_states_are_composed_block_by_block():
    process = Mixed(numeric=VariancePreserving(), levels=Masked((3,)))

    def denoise(x, t, condition=None):
        shift = 0.0 if condition is None else condition
        logits = shift * torch.tensor([1.0, 2.0, 3.0]).expand(*x["levels"].shape, 3)
        return {"numeric": x["numeric"] + shift, "levels": process.blocks["levels"].log_probs(logits, x["levels"])}

    x = {"numeric": torch.zeros(2, 1), "levels": torch.tensor([[3], [1]])}
    found = compose(denoise, [1.0, 2.0], [1.0, -0.25])(x, torch.full((2,), 0.5))
    torch.testing.assert_close(found["numeric"], torch.full((2, 1), 0.5))
    torch.testing.assert_close(found["levels"][0, 0], (0.5 * torch.tensor([1.0, 2.0, 3.0])).log_softmax(0))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: compose(told, [], []), "conditions, weights"),
        (lambda: compose(told, [1], [1.0, 2.0]), "conditions, weights"),
        (lambda: plus_plus_scale(EDM, schedules.uniform(4), 1.5), "scale: expected"),
        (lambda: plus_plus_scale(EDM, torch.tensor([0.1, 0.9]), 0.5), "times: expected"),
        (
            lambda: plus_plus_scale(EDM, torch.ones(3, 2) * torch.tensor([[1.0], [0.5], [0.0]]), 0.5),
            "times: expected one",
        ),
        (lambda: noise_interval(EDM, 3.0, 0.3), "low, high: expected"),
    ],
)
def test_wrong_arguments_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_guidance_answers_are_told_apart():
    assert isinstance(classifier_free(told, 1.0), guidance.Guided)
