"""Guidance by potentials and classifiers: exact where the potential is, and the gradient it says it is."""

import pytest
import torch

from clarkia.guidance import classifier, potential
from clarkia.oracles import GaussianMixture, MixedJoint
from clarkia.processes import EDM, Masked, Mixed, RectifiedFlow, VariancePreserving
from clarkia.random import generator, randn

LAW = GaussianMixture(
    [0.5, 0.3, 0.2],
    [[-1.0, 0.5], [1.0, 1.0], [0.3, -1.2]],
    [[[0.5, 0.2], [0.2, 0.3]], [[0.2, 0.0], [0.0, 0.6]], [[0.4, -0.1], [-0.1, 0.2]]],
)
PROCESSES = {"edm": EDM, "vp": VariancePreserving(), "flow": RectifiedFlow()}
each = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)


def states(process, rows=12):
    """Noisy draws of the law at many times."""
    t = torch.linspace(0.05, 0.95, rows, dtype=torch.float64)
    return process.corrupt(LAW.sample(rows, generator=generator(0)), t, generator=generator(1)), t


def network(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(2, 24), torch.nn.Tanh(), torch.nn.Linear(24, 2)).double()


def finite_differences(function, x, width=1e-5):
    """Central differences of a function of one number a row."""
    slopes = torch.zeros_like(x)
    for column in range(x.shape[1]):
        step = torch.zeros_like(x)
        step[:, column] = width
        slopes[:, column] = (function(x + step) - function(x - step)) / (2 * width)
    return slopes


@each
@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_guidance_by_the_exact_classifier_is_the_denoiser_of_the_class(process, wanted):
    of_class = GaussianMixture([1.0], LAW.means[wanted : wanted + 1], LAW.covariances[wanted : wanted + 1])

    def log_prob(x_t, t):
        joint = LAW.weights[wanted].log() + of_class.noisy_log_prob(process, x_t, t)
        return joint - LAW.noisy_log_prob(process, x_t, t)

    x_t, t = states(process)
    with torch.no_grad():  # as in a sampling run
        guided = classifier(LAW.denoiser(process), process, log_prob)(x_t, t)
    torch.testing.assert_close(guided, of_class.denoiser(process)(x_t, t), rtol=0, atol=1e-10)


@each
def test_a_potential_that_is_the_exact_mean_of_a_reward_gives_the_tilted_denoiser(process):
    tilted = LAW.tilt([0.8, -0.4], 0.3)

    def log_h(x_t, t):
        return tilted.noisy_log_prob(process, x_t, t) - LAW.noisy_log_prob(process, x_t, t)

    x_t, t = states(process)
    guided = potential(LAW.denoiser(process), process, log_h, at="x_t")
    torch.testing.assert_close(guided(x_t, t), tilted.denoiser(process)(x_t, t), rtol=0, atol=1e-10)
    plain, _ = guided.both(x_t, t)
    torch.testing.assert_close(plain, LAW.denoiser(process)(x_t, t))


@each
def test_the_gradient_runs_through_the_denoiser(process):
    """With respect to the noisy state, by finite differences, and not with respect to the prediction."""
    body = network()

    def denoise(x, t, condition=None):
        return body(x)

    def log_h(x0):
        return -(x0[:, 0] * x0[:, 1] - 0.3).square() + x0[:, 0].sin()

    x_t, t = states(process)
    with torch.no_grad():
        guided = potential(denoise, process, log_h, scale=0.7)(x_t, t)
        alpha, sigma = process.coefficients(t, x_t)
        slopes = finite_differences(lambda x: log_h(body(x)), x_t)
        expected = body(x_t) + 0.7 * sigma**2 / alpha * slopes
    assert not guided.requires_grad
    torch.testing.assert_close(guided, expected, rtol=1e-6, atol=1e-6)


def test_nothing_is_led_where_a_state_is_observed_or_pure_noise():
    process, body = RectifiedFlow(), network()
    x_t = randn((4, 2), generator(2), dtype=torch.float64)

    def log_h(x0):
        return x0.sum(1)

    guided = potential(lambda x, t, c=None: torch.where(t.reshape(-1, 1) > 0, body(x), x), process, log_h)
    t = torch.tensor([0.0, 0.5, 1.0, 0.0], dtype=torch.float64)
    plain, led = guided.both(x_t, t)
    assert torch.equal(led[[0, 2, 3]], plain[[0, 2, 3]])
    assert torch.equal(led[[0, 3]], x_t[[0, 3]])
    assert not torch.equal(led[1], plain[1])
    # times by element
    cells = torch.tensor([[0.0, 0.5]] * 4, dtype=torch.float64)
    plain, led = potential(lambda x, t, c=None: torch.where(t > 0, body(x), x), process, log_h).both(x_t, cells)
    assert torch.equal(led[:, 0], x_t[:, 0])
    assert bool((led[:, 1] != plain[:, 1]).all())


def test_numbers_are_led_and_categories_are_not():
    """On a mixed state with the exact potential: the tilted law's numbers, and the plain probabilities."""
    law = MixedJoint([0.5, 0.3, 0.2], [[-1.5], [0.3], [1.6]], 0.35**2)
    process = Mixed(numeric=VariancePreserving(), levels=Masked((3,)))
    tilted = law.tilt(reward=[0.2, -0.4, 0.7], slope=[0.9])

    def log_h(x_t, t):
        return tilted.noisy_log_prob(process, x_t, t) - law.noisy_log_prob(process, x_t, t)

    n = 8
    t = {
        "numeric": torch.linspace(0.1, 0.9, n, dtype=torch.float64),
        "levels": torch.full((n,), 0.7, dtype=torch.float64),
    }
    x_t = process.corrupt(law.sample(n, generator=generator(3)), t, generator=generator(4))
    plain, led = potential(law.denoiser(process), process, log_h, at="x_t").both(x_t, t)
    exact = tilted.denoiser(process)(x_t, t)
    torch.testing.assert_close(led["numeric"], exact["numeric"], rtol=0, atol=1e-10)
    assert torch.equal(led["levels"], plain["levels"])


def test_a_potential_of_both_blocks_of_a_prediction():
    """Probabilities that depend on the numbers lead them: of masked cells, by the chain rule."""
    process = Mixed(numeric=VariancePreserving(), levels=Masked((3,)))
    slopes = torch.tensor([1.0, -0.5, 0.2], dtype=torch.float64)

    def denoise(x, t, condition=None):
        logits = x["numeric"][..., None] * slopes
        return {"numeric": 0.5 * x["numeric"], "levels": process.blocks["levels"].log_probs(logits, x["levels"])}

    x_t = {"numeric": randn((3, 1), generator(5), dtype=torch.float64), "levels": torch.tensor([[3], [3], [0]])}
    t = torch.full((3,), 0.6, dtype=torch.float64)
    guided = potential(denoise, process, lambda p: p["levels"][:, 0, 0] + p["numeric"][:, 0])
    plain, led = guided.both(x_t, t)
    alpha, sigma = process.blocks["numeric"].coefficients(t, x_t["numeric"])
    probabilities = (x_t["numeric"] * slopes).softmax(1)
    chain = torch.where(x_t["levels"] == 3, slopes[0] - (probabilities * slopes).sum(1, keepdim=True), 0.0)
    torch.testing.assert_close(led["numeric"] - plain["numeric"], sigma**2 / alpha * (0.5 + chain))
    assert torch.equal(led["levels"], plain["levels"])


def test_conditions_arrive():
    seen = []

    def denoise(x, t, condition=None):
        seen.append(condition)
        return x

    x, t = torch.zeros(2, 1), torch.full((2,), 0.5)
    for at, log_h in (("x0_hat", lambda x0: x0.sum(1)), ("x_t", lambda x, t: x.sum(1))):
        potential(denoise, EDM, log_h, at=at)(x, t, "given")
    assert seen == ["given", "given"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x, t: potential(lambda x, t: x, EDM, torch.sum, at="x_s"), "at: expected"),
        (lambda x, t: potential(lambda x, t: x, Masked((3,)), torch.sum), "process: expected one with a Gaussian"),
        (lambda x, t: potential(lambda x, t: x, EDM, lambda x0: x0)(x, t), "expected one number a row"),
        (lambda x, t: potential(lambda x, t: x, EDM, lambda x0: x0.detach().sum(1))(x, t), "can be differentiated"),
        (lambda x, t: potential(lambda x, t: x.detach(), EDM, lambda x0: x0.sum(1))(x, t), "can be differentiated"),
    ],
)
def test_wrong_arguments_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call(torch.zeros(2, 3), torch.full((2,), 0.5))
