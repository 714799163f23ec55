"""Blended concepts: the price of a call, what its rule comes down to, and the predictions that rules lead to."""

import math

import pytest
import torch

from clarkia import samplers, schedules
from clarkia.guidance import blend
from clarkia.guidance.blend_rules import RULES, BlackScholes, call_price, lowest, own_volatility, step_deviation
from clarkia.oracles import GaussianMixture
from clarkia.processes import EDM, RectifiedFlow, VariancePreserving
from clarkia.random import generator, rand, randn

MEANS = torch.tensor([[-2.0, 0.0], [2.0, 1.0]], dtype=torch.float64)
LAWS = [GaussianMixture([1.0], [mean.tolist()], [0.2]) for mean in MEANS]
BOTH = GaussianMixture([0.5, 0.5], MEANS.tolist(), [0.2, 0.2])
FLOW = RectifiedFlow()
CONCEPTS = [torch.tensor([[0.0]], dtype=torch.float64), torch.tensor([[1.0]], dtype=torch.float64)]


def denoise(x_t, t, condition=None):
    """Under a condition c the two laws' predictions at shares 1 - c and c; under none the mixture's."""
    if condition is None:
        return BOTH.denoiser(FLOW)(x_t, t)
    first, second = (law.denoiser(FLOW)(x_t, t) for law in LAWS)
    return torch.lerp(first, second, condition.expand(len(x_t), 1))


def score(x0_hat):
    """How near a forecast is to each mean."""
    return torch.exp(-torch.cdist(x0_hat.double(), MEANS) / 4)


def states(n=64, t=0.6):
    return randn((n, 2), generator(0), dtype=torch.float64), torch.full((n,), t, dtype=torch.float64)


# ------------------------------------------------------------------------------------------------------- the price


def test_the_price_of_the_textbook():
    assert float(call_price(torch.tensor(42.0), 40, 0.1, 0.2, 0.5)) == pytest.approx(4.7594, abs=1e-4)


def test_a_price_without_spread_is_what_the_right_is_worth():
    spots = torch.tensor([30.0, 50.0])
    worth = call_price(spots, 40, 0.1, 0.0, 0.5)
    torch.testing.assert_close(worth, torch.tensor([0.0, 50 - 40 * math.exp(-0.05)], dtype=torch.float64))
    torch.testing.assert_close(call_price(spots, 40, 0.1, 1e-9, 0.5), worth)


def test_the_published_price_is_nothing_at_any_spot():
    """``S phi(d1) = K exp(-r T) phi(d2)``: what is left is rounding."""
    spots = torch.linspace(1, 100, 2000, dtype=torch.float64)
    for volatility, time in ((0.05, 50), (0.2, 1), (0.02, 99)):
        price = call_price(spots, 100, 0.01, volatility, time, published=True)
        assert bool((price.abs() <= 1e-11 * spots).all())


def test_what_the_published_price_decides_is_decided_by_rounding():
    """Of neighbouring spots about 40 % are in the wrong order; how many exactly is up to the exponential's last bit."""
    spots = torch.linspace(60, 100, 4001, dtype=torch.float64)
    swapped = call_price(spots, 100, 0.01, 0.05, 50, published=True).diff() <= 0
    assert 0.25 < float(swapped.double().mean()) < 0.75
    assert not bool((call_price(spots, 100, 0.01, 0.05, 50).diff() <= 0).any())


def test_with_all_else_equal_the_cheapest_call_is_the_lowest_score():
    """The same choice on 10^4 random pairs at random steps, whatever the volatility."""
    scores = 100 * (1 - rand((10_000, 2), generator(1)))
    history = scores.new_empty(0, *scores.shape)
    for volatility in (1e-3, 0.02, 0.2, 1.0):
        for i in (0, 37, 99):
            rule = BlackScholes(volatility)
            assert torch.equal(rule(i, 100, scores, history), lowest(i, 100, scores, history))


def test_prices_that_underflow_are_compared_by_their_spots():
    scores = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    assert float(call_price(scores, 100, 0.01, 0.01, 1).max()) == 0
    chosen = BlackScholes(0.01)(99, 100, scores, scores.new_empty(0, 2, 2))
    assert chosen.tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_a_volatility_of_its_own_makes_another_decision():
    """A concept at 60 that has jumped about is dearer than one at 62 that has stood still."""
    jumpy, still = [55.0, 70.0, 50.0], [61.8, 61.9, 62.0]
    history = torch.tensor([jumpy, still], dtype=torch.float64).T[:, None, :]
    scores = torch.tensor([[60.0, 62.0]], dtype=torch.float64)
    assert own_volatility(3, 10, scores, history).tolist() == [[0.0, 1.0]]
    assert lowest(3, 10, scores, history).tolist() == [[1.0, 0.0]]
    assert own_volatility(1, 10, scores, history[:1]).tolist() == [[1.0, 0.0]]  # one increment has no deviation


def test_the_published_volatility_is_the_deviation_of_a_step():
    process, times = VariancePreserving("cosine"), schedules.uniform(20)
    alpha_t, alpha_s = (process.alpha(part) ** 2 for part in (times[:-1], times[1:]))
    variance = (1 - alpha_s) / (1 - alpha_t) * (1 - alpha_t / alpha_s)
    torch.testing.assert_close(step_deviation(process, times) ** 2, variance, rtol=1e-9, atol=1e-12)
    chosen = BlackScholes(step_deviation(EDM, times))(3, 20, torch.rand(5, 3) + 1, torch.empty(0, 5, 3))
    assert chosen.sum(1).tolist() == [1] * 5


def test_the_schedules_of_the_other_rules():
    scores, none = torch.ones(2, 3), torch.empty(0, 2, 3)
    followed = {
        name: [int(RULES[name](i, 100, scores, none)[0].argmax()) for i in range(100)]
        for name in ("alternate", "switch")
    }
    assert followed["alternate"][:5] == [0, 1, 2, 0, 1]
    assert followed["switch"] == [0] * 7 + [1] * 10 + [0] * 83
    assert RULES["sum"](0, 100, scores, none).tolist() == [[pytest.approx(1 / 3)] * 3] * 2


# ------------------------------------------------------------------------------------------------- the prediction


def test_a_sum_is_the_sum():
    x, t = states()
    plain, guided = blend(denoise, CONCEPTS, "sum", scale=2.0).both(x, t)
    parts = [denoise(x, t, condition) for condition in CONCEPTS]
    torch.testing.assert_close(plain, denoise(x, t), rtol=0, atol=0)
    torch.testing.assert_close(guided, plain + 3 * sum((part - plain) / 2 for part in parts), rtol=0, atol=1e-12)


def test_conditions_are_interpolated_where_predictions_are_summed():
    x, t = states()

    def squared(x_t, t, condition=None):
        return denoise(x_t, t, None if condition is None else condition**2)

    guided = blend(squared, CONCEPTS, "interpolate", scale=0.0)(x, t)
    torch.testing.assert_close(guided, denoise(x, t, torch.full((1, 1), 0.25, dtype=x.dtype)), rtol=0, atol=1e-12)
    assert not torch.allclose(guided, blend(squared, CONCEPTS, "sum", scale=0.0)(x, t))


def test_every_row_follows_the_concept_that_lags_in_it():
    x, t = states()
    blended = blend(denoise, CONCEPTS, "lowest", scorer=score, scale=1.5, num_steps=10)
    plain, guided = blended.both(x, t)
    lagging = score(plain).argmin(1, keepdim=True).double()
    assert 0 < float(lagging.mean()) < 1
    torch.testing.assert_close(guided, plain + 2.5 * (denoise(x, t, lagging) - plain), rtol=0, atol=1e-12)
    named = [{"vector": condition, "same": torch.ones(1, 1)} for condition in CONCEPTS]

    def of_name(x_t, t, condition=None):
        return denoise(x_t, t, None if condition is None else condition["vector"])

    again = blend(of_name, named, "lowest", scorer=score, scale=1.5, num_steps=10)(x, t)
    torch.testing.assert_close(again, guided, rtol=0, atol=0)


def run(rule, solver=None, num_steps=8, **options):
    blended = blend(denoise, CONCEPTS, rule, scorer=score, scale=0.5, num_steps=num_steps, **options)
    x = samplers.sample(
        blended, FLOW, num_samples=40, shape=(2,), num_steps=num_steps, solver=solver or samplers.Euler(),
        generator=generator(2), dtype=torch.float64,
    )  # fmt: skip
    return x, blended.both


def test_the_published_idea_is_to_follow_the_lowest_score():
    """Whole runs agree bit for bit."""
    (x, one), (y, other) = run("black_scholes"), run("lowest")
    assert torch.equal(x, y)
    assert torch.equal(torch.stack(one.weights), torch.stack(other.weights))


def test_each_step_of_a_run_is_known_by_its_time():
    seen = []

    def rule(i, N, scores, history):
        seen.append((i, N, len(history)))
        return lowest(i, N, scores, history)

    _, record = run(rule)
    assert seen == [(i, 8, i) for i in range(8)]
    assert [len(part) for part in (record.scores, record.weights)] == [8, 8]
    assert float(torch.stack(record.scores).max()) > 1  # from 0 to 100


def test_a_solver_that_asks_twice_at_a_time_leaves_one_note():
    seen = []

    def rule(i, N, scores, history):
        seen.append((i, len(history)))
        return lowest(i, N, scores, history)

    _, record = run(rule, samplers.Heun())
    assert all(i == length for i, length in seen)
    assert len(seen) == 15
    assert len(record.weights) == 8


def test_the_next_run_starts_afresh_and_may_have_other_rows():
    blended = blend(denoise, CONCEPTS, "volatility", scorer=score, num_steps=6)
    first, second = (
        samplers.sample(
            blended, FLOW, num_samples=n, shape=(2,), num_steps=6, solver=samplers.Euler(), generator=generator(3),
            dtype=torch.float64,
        )
        for n in (5, 9)
    )  # fmt: skip
    assert first.shape == (5, 2)
    assert second.shape == (9, 2)
    assert [len(scores) for scores in blended.both.scores] == [9] * 6


def test_a_blend_reaches_both_laws_and_a_single_concept_one():
    """With one concept at scale 0 the blend is that concept's law: means to 0.15, four standard errors of 150 rows."""
    one = blend(denoise, CONCEPTS[:1], "alternate", scale=0.0, num_steps=50)
    x = samplers.sample(one, FLOW, num_samples=150, shape=(2,), generator=generator(4), dtype=torch.float64)
    torch.testing.assert_close(x.mean(0), MEANS[0], rtol=0, atol=0.15)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rule": "cheapest"}, "rule: expected one of"),
        ({"rule": "lowest"}, "scorer"),
        ({"rule": "sum", "conditions": []}, "conditions"),
        ({"rule": "sum", "num_steps": 3, "times": schedules.uniform(3)}, "num_steps, times"),
    ],
)
def test_wrong_arguments_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        blend(denoise, **{"conditions": CONCEPTS, **options})


def test_wrong_answers_are_refused():
    x, t = states(4)
    with pytest.raises(ValueError, match="scorer: expected scores in"):
        blend(denoise, CONCEPTS, "lowest", scorer=lambda x0: torch.zeros(4, 2))(x, t)
    with pytest.raises(ValueError, match="rule: expected weights"):
        blend(denoise, CONCEPTS, lambda i, N, scores, history: scores)(x, t)
    with pytest.raises(ValueError, match="expected numbers to average"):
        blend(denoise, [torch.tensor([[1]]), torch.tensor([[2]])], "interpolate")(x, t)
    with pytest.raises(ValueError, match="expected tensors or dicts"):
        blend(denoise, ["a circle", "a cross"], lambda i, N, s, h: torch.eye(2)[[0, 1, 0, 1]])(x, t)
    blended = blend(denoise, CONCEPTS, "sum", num_steps=10)
    blended(x, torch.ones(4, dtype=x.dtype))
    with pytest.raises(ValueError, match="rows that the run began with"):
        blended(x[:2], t[:2])
