"""Several losses at once: their gradients, their norms, the region they act in and what stays outside."""

import pytest
import torch

from clarkia import samplers
from clarkia.guidance import Term, composite
from clarkia.guidance.composite import cosine_distance, cross_entropy, squared_distance
from clarkia.oracles import GaussianMixture
from clarkia.processes import EDM, RectifiedFlow, VariancePreserving
from clarkia.random import generator, randn
from clarkia.samplers.region import HeldOutside, dilated, pasted, started

PROCESSES = {"edm": EDM, "flow": RectifiedFlow(), "vp": VariancePreserving()}
FLOW = PROCESSES["flow"]
MIXTURE = GaussianMixture(
    [0.5, 0.5], [[-1.0, 0.0, 1.0], [1.0, 0.5, 0.0]], [[[0.5, 0.1, 0.0], [0.1, 0.3, 0.0], [0.0, 0.0, 0.4]]] * 2
)
A = torch.tensor([[1.0, 0.5, 0.0]], dtype=torch.float64)
B = torch.tensor([[0.0, 1.0, -1.0], [2.0, 0.0, 1.0]], dtype=torch.float64)
Y, Z = torch.tensor([0.7], dtype=torch.float64), torch.tensor([-0.3, 1.2], dtype=torch.float64)


def linear(operator):
    return squared_distance(lambda x0: x0 @ operator.T)


FIRST = Term(linear(A), Y, weight=1.5)
SECOND = Term(lambda x0: (x0**4).sum(1), weight=lambda t: 0.2 + t)


def states(process, n=16, t=0.4):
    x0 = MIXTURE.sample(n, generator=generator(0))
    time = torch.full((n,), t, dtype=torch.float64)
    return process.corrupt(x0, time, generator=generator(1)), time


def shift(terms, process=FLOW, **options):
    plain, guided = composite(MIXTURE.denoiser(process), process, terms, **options).both(*states(process))
    return guided - plain


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("apart", [False, True])
def test_the_gradient_of_the_sum_is_the_sum_of_the_gradients(name, apart):
    process = PROCESSES[name]
    both = shift([FIRST, SECOND], process, listen=(lambda pull: None) if apart else None)
    torch.testing.assert_close(both, shift([FIRST], process) + shift([SECOND], process), rtol=0, atol=1e-10)
    assert float(both.abs().max()) > 1e-3


@pytest.mark.parametrize("name", PROCESSES)
def test_quadratic_terms_of_a_normal_law_are_one_linear_guidance(name):
    """``x0_hat + Cov S' W (y - S x0_hat)`` with all operators stacked in S and the terms' weights in W."""
    process = PROCESSES[name]
    covariance = torch.tensor([[0.5, 0.1, 0.0], [0.1, 0.3, 0.2], [0.0, 0.2, 0.4]], dtype=torch.float64)
    law = GaussianMixture([1.0], [[0.3, -0.2, 0.5]], covariance[None])
    x_t, t = states(process)
    terms = [Term(linear(A), Y, weight=1.5), Term(linear(B), Z, weight=0.4)]
    plain, guided = composite(law.denoiser(process), process, terms).both(x_t, t)
    alpha, sigma = (float(part[0]) for part in (process.alpha(t), process.sigma(t)))
    eye = torch.eye(3, dtype=torch.float64)
    posterior = torch.linalg.inv(torch.linalg.inv(covariance) + alpha**2 / sigma**2 * eye)
    stacked, wanted = torch.cat([A, B]), torch.cat([Y, Z])
    weights = torch.tensor([1.5, 0.4, 0.4], dtype=torch.float64)
    expected = plain + ((wanted - plain @ stacked.T) * weights) @ stacked @ posterior
    torch.testing.assert_close(guided, expected, rtol=0, atol=1e-10)


def test_the_gradient_is_that_of_the_state_and_not_of_the_forecast():
    """Against central differences of the loss through the denoiser."""
    x_t, t = states(FLOW, 4)
    denoiser = MIXTURE.denoiser(FLOW)
    slope = torch.zeros_like(x_t)
    for j in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[j] = 1e-5
        slope[:, j] = (SECOND.of(denoiser(x_t + step, t)) - SECOND.of(denoiser(x_t - step, t))) / 2e-5
    plain, guided = composite(denoiser, FLOW, [SECOND]).both(x_t, t)
    torch.testing.assert_close(guided - plain, -(0.4**2 / 0.6) * 0.6 * slope, rtol=1e-6, atol=1e-8)


def test_the_skip_form_is_a_step_on_the_forecast():
    x_t, t = states(FLOW)
    plain, guided = composite(MIXTURE.denoiser(FLOW), FLOW, [FIRST], skip=True).both(x_t, t)
    torch.testing.assert_close(guided, plain + 1.5 * (Y - plain @ A.T) @ A, rtol=0, atol=1e-12)


def test_a_decoder_is_differentiated_through():
    rotation = torch.linalg.qr(randn((3, 3), generator(2), dtype=torch.float64))[0]
    decoded = shift([FIRST], decode=lambda x: x @ rotation.T)
    torch.testing.assert_close(decoded, shift([Term(linear(A @ rotation), Y, weight=1.5)]), rtol=0, atol=1e-12)


# --------------------------------------------------------------------------------------------- norms and windows


@pytest.mark.parametrize("how", ["unit", "match_eps"])
def test_normalised_gradients_have_the_norm_asked_for(how):
    pulls = []
    terms = [Term(linear(A), Y, weight=3.0, normalise=how), Term(linear(B), Z, normalise="none")]
    moved = shift(terms, listen=pulls.append)
    x_t, t = states(FLOW)
    eps = FLOW.epsilon(x_t, MIXTURE.denoiser(FLOW)(x_t, t), t).norm(dim=1)
    wanted = 3 * (eps if how == "match_eps" else torch.ones_like(eps))
    torch.testing.assert_close(pulls[0].norms[:, 0], wanted, rtol=0, atol=1e-10)
    alone = shift(terms[:1])
    torch.testing.assert_close(alone.norm(dim=1), 0.4**2 / 0.6 * wanted, rtol=0, atol=1e-10)
    torch.testing.assert_close(moved, alone + shift(terms[1:]), rtol=0, atol=1e-10)


def test_terms_that_fight_are_seen_to_fight():
    pulls = []
    up, across = (
        torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64),
        torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64),
    )
    far = torch.tensor([50.0], dtype=torch.float64)
    terms = [Term(linear(up), far), Term(linear(up), -far), Term(linear(across), far)]
    composite(MIXTURE.denoiser(FLOW), FLOW, terms, skip=True, listen=pulls.append)(*states(FLOW))
    expected = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(pulls[0].cosines, expected.expand(16, 3, 3), rtol=0, atol=1e-12)
    assert pulls[0].t.tolist() == [0.4] * 16
    torch.testing.assert_close(pulls[0].losses[:, 0] - pulls[0].losses[:, 1],
                               -100 * MIXTURE.denoiser(FLOW)(*states(FLOW))[:, 0], rtol=0, atol=1e-8)  # fmt: skip


def test_outside_its_window_a_term_does_nothing_and_asks_no_gradient():
    calls = []

    def loss(x0):
        calls.append(len(x0))
        return x0.sum(1)

    late = Term(loss, window=(0.0, 0.3))
    assert float(shift([late]).abs().max()) == 0
    assert calls == []
    assert torch.equal(shift([FIRST, late], listen=lambda pull: None), shift([FIRST], listen=lambda pull: None))
    x_t, _ = states(FLOW)
    t = torch.linspace(0.1, 0.8, 16, dtype=torch.float64)
    plain, guided = composite(MIXTURE.denoiser(FLOW), FLOW, [late]).both(x_t, t)
    assert torch.equal((guided != plain).any(1), t <= 0.3)


def test_nothing_pulls_where_the_state_tells_nothing():
    x_t, t = states(FLOW, t=1.0)
    plain, guided = composite(MIXTURE.denoiser(FLOW), FLOW, [SECOND]).both(x_t, t)
    assert torch.equal(plain, guided)


# --------------------------------------------------------------------------------------------------- the region


REGION = torch.tensor([True, False, False])


def test_a_region_alone_bounds_the_pull():
    x_t, t = states(FLOW)
    plain, guided = composite(MIXTURE.denoiser(FLOW), FLOW, [FIRST, SECOND], region=REGION).both(x_t, t)
    everywhere = composite(MIXTURE.denoiser(FLOW), FLOW, [FIRST, SECOND])(x_t, t)
    assert torch.equal(guided[:, 1:], plain[:, 1:])
    torch.testing.assert_close(guided[:, 0], everywhere[:, 0], rtol=0, atol=1e-12)


def test_outside_the_region_the_run_ends_in_the_reference_bit_for_bit():
    reference = MIXTURE.sample(10, generator=generator(3))
    initial, times = started(FLOW, reference, 0.8, num_steps=12, generator=generator(4))
    guided = composite(MIXTURE.denoiser(FLOW), FLOW, [FIRST], region=REGION, reference=reference)
    held = HeldOutside(FLOW, reference, REGION, generator=generator(5))
    free = composite(MIXTURE.denoiser(FLOW), FLOW, [FIRST], region=REGION)
    for denoiser, hooks in ((guided, []), (free, [held])):
        x = samplers.sample(denoiser, FLOW, initial=initial, times=times, hooks=hooks)
        assert torch.equal(x[:, 1:], reference[:, 1:])
        assert bool((x[:, 0] != reference[:, 0]).all())


@pytest.mark.parametrize("name", PROCESSES)
def test_a_forecast_held_at_the_reference_is_region_blending_with_the_noise_of_the_start(name):
    process = PROCESSES[name]
    reference = MIXTURE.sample(10, generator=generator(3))
    initial, times = started(process, reference, 0.7, num_steps=9, generator=generator(4))
    alpha, sigma = process.coefficients(torch.full((10,), 0.7, dtype=torch.float64), reference)
    eps = (initial - alpha * reference) / sigma
    denoiser = MIXTURE.denoiser(process)
    held = composite(denoiser, process, [FIRST], region=REGION, reference=reference)
    free = composite(denoiser, process, [FIRST], region=REGION)
    hook = HeldOutside(process, reference, REGION, eps=eps)
    one = samplers.sample(held, process, initial=initial, times=times, solver=samplers.Euler())
    two = samplers.sample(free, process, initial=initial, times=times, solver=samplers.Euler(), hooks=[hook])
    torch.testing.assert_close(one, two, rtol=0, atol=1e-10)


def test_fresh_noise_outside_is_the_reference_at_the_noise_reached():
    """Mean and deviation of 20000 rows, each to four standard errors."""
    reference = torch.tensor([[1.0, -2.0, 3.0]], dtype=torch.float64)
    trace = samplers.Trace()
    samplers.sample(
        MIXTURE.denoiser(FLOW), FLOW, num_samples=20_000, shape=(3,), num_steps=2, solver=samplers.Euler(),
        hooks=[HeldOutside(FLOW, reference, REGION, generator=generator(6)), trace], generator=generator(7),
        dtype=torch.float64,
    )  # fmt: skip
    half, end = trace.states
    torch.testing.assert_close(half[:, 1:].mean(0), reference[0, 1:] / 2, rtol=0, atol=4 * 0.5 / 20_000**0.5)
    torch.testing.assert_close(half[:, 1:].std(0), torch.full((2,), 0.5).double(), rtol=0, atol=4 * 0.5 / 40_000**0.5)
    assert torch.equal(end[:, 1:], reference[:, 1:].expand(20_000, 2))


def test_a_share_of_a_region_is_between():
    share = torch.tensor([1.0, 0.25, 0.0])
    x, y = torch.full((1, 3), 8.0), torch.zeros(1, 3)
    assert pasted(x, y, share).tolist() == [[8.0, 2.0, 0.0]]


def test_a_region_grows_along_rows_columns_and_diagonals():
    region = torch.zeros(2, 7, 7, dtype=torch.bool)
    region[0, 3, 3] = True
    grown = dilated(region, 2)
    assert int(grown.sum()) == 25
    assert grown[0, 1:6, 1:6].all()
    assert torch.equal(dilated(region, 0), region)


def test_a_start_is_the_noised_reference():
    reference = MIXTURE.sample(5, generator=generator(3))
    initial, times = started(FLOW, reference, 0.6, num_steps=3, generator=generator(8))
    noise = randn(reference.shape, generator(8), dtype=torch.float64)
    torch.testing.assert_close(initial, 0.4 * reference + 0.6 * noise, rtol=0, atol=1e-12)
    torch.testing.assert_close(times, torch.tensor([0.6, 0.4, 0.2, 0.0], dtype=torch.float64))


# ---------------------------------------------------------------------------------------------------- the losses


def test_losses_by_hand():
    x = torch.tensor([[3.0, 4.0], [0.0, 2.0]], dtype=torch.float64)
    target = torch.tensor([1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(cosine_distance(lambda x0: x0)(x, target), torch.tensor([0.4, 1.0], dtype=torch.float64))
    assert squared_distance()(x, target).tolist() == [10.0, 2.5]
    assert squared_distance(where=torch.tensor([0.0, 1.0]))(x, target).tolist() == [8.0, 2.0]
    logits = torch.log(torch.tensor([[1.0, 3.0], [4.0, 1.0]], dtype=torch.float64))
    lost = cross_entropy(lambda x0: logits)(x, torch.tensor(1))
    torch.testing.assert_close(lost.exp(), torch.tensor([4 / 3, 5.0], dtype=torch.float64))
    maps = logits[:, :, None].expand(2, 2, 3)
    twice = cross_entropy(lambda x0: maps)(x, torch.tensor([1, 1, 0]))
    torch.testing.assert_close(twice.exp(), torch.tensor([(4 / 3) ** 2 * 4, 25 * 1.25], dtype=torch.float64))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Term(linear(A), Y, window=(0.5, 0.2)), "window"),
        (lambda: Term(linear(A), Y, normalise="twice"), "normalise"),
        (lambda: composite(MIXTURE.denoiser(FLOW), FLOW, []), "terms"),
        (lambda: composite(MIXTURE.denoiser(FLOW), FLOW, [FIRST], reference=torch.zeros(3)), "region"),
        (lambda: started(FLOW, torch.zeros(1, 3), 0.0), "strength"),
    ],
)
def test_wrong_arguments_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
