"""Four estimators of the masked bound by enumeration: one number, one gradient."""

import itertools
import math

import numpy as np
import pytest
import torch

from clarkia import measures
from clarkia.objectives import MaskedELBO, RandomSpans, ScoreEntropy
from clarkia.oracles import FiniteJoint, MarkovChain
from clarkia.processes import Masked
from clarkia.random import generator
from clarkia.schedules import PolynomialMask

K, L = 3, 4
CHAIN = MarkovChain([1 / 3] * 3, 0.7 * torch.eye(3) + 0.1, L)
EVERY = torch.tensor(list(itertools.product(range(K), repeat=L)))
MASKS = torch.tensor(list(itertools.product([False, True], repeat=L)))
NODES = 48


class Wrong(torch.nn.Module):
    """A denoiser of no law: free logits for each partly masked state."""

    def __init__(self, process):
        super().__init__()
        table = torch.randn((K + 1) ** L, L, K, generator=generator(0), dtype=torch.float64)
        self.process, self.table = process, torch.nn.Parameter(table)

    def forward(self, x_t, t, condition=None):
        place = (x_t * (K + 1) ** torch.arange(L)).sum(1)
        return self.process.log_probs(self.table[place], x_t)


def enumerated(objective, denoiser, x0, observed=None):
    """The expected loss of one row: every draw that the uniform numbers can mean, times how likely it is."""
    shown = torch.zeros(L, dtype=torch.bool) if observed is None else observed
    free = int((~shown).sum())
    if objective.estimator == "count":
        orders = list(itertools.permutations(range(L)))
        own = (torch.tensor(orders, dtype=torch.float64) + 0.5) / L
        u = (torch.arange(free, dtype=torch.float64) + 0.5) / free
        own, u = own.repeat(free, 1), u.repeat_interleave(len(orders))
        chance = torch.full((len(u),), 1 / len(u), dtype=torch.float64)
    else:
        nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(NODES))
        u, weights = 0.5 * (nodes + 1), 0.5 * weights
        masks = MASKS[~(MASKS & shown).any(1)]
        t = 1 - u
        level = t if objective.estimator == "lambda" else 1 - objective.process.alpha(t)
        count = masks.sum(1)
        chance = weights[:, None] * level[:, None] ** count * (1 - level[:, None]) ** (free - count)
        # A number of 0 masks a cell at any level, one next to 1 at none.
        own = torch.where(masks, 0.0, 1 - 2**-53).double().repeat(NODES, 1)
        u, chance = u.repeat_interleave(len(masks)), chance.flatten()
    rows = x0.expand(len(u), L)
    seen = None if observed is None else observed.expand(len(u), L)
    draw = objective.corruption(rows, u, own, seen)
    return (chance * objective.value(denoiser, rows, draw, seen)).sum()


CASES = [("count", "linear"), ("lambda", "linear"), ("time", "linear"), ("score", "linear")] + [
    (estimator, schedule)
    for estimator in ("time", "score", "count", "lambda")
    for schedule in ("cosine", "cosine_late", "cosine_squared", PolynomialMask(2.0))
]


@pytest.mark.parametrize(("estimator", "schedule"), CASES, ids=str)
def test_with_the_exact_denoiser_every_estimator_is_minus_log_p_of_each_row(estimator, schedule):
    process = Masked(K, schedule)
    objective = MaskedELBO(process, estimator)
    denoiser = CHAIN.denoiser(process)
    for x in EVERY[:: 7 if schedule != "linear" else 1]:
        exact = -CHAIN.log_prob(x[None])[0]
        torch.testing.assert_close(enumerated(objective, denoiser, x), exact, rtol=0, atol=1e-10)


@pytest.mark.parametrize("schedule", ["linear", "cosine", PolynomialMask(2.0)], ids=str)
def test_all_estimators_have_one_value_and_one_gradient_at_a_wrong_denoiser(schedule):
    process = Masked(K, schedule)
    x = torch.tensor([0, 2, 1, 1])
    found = {}
    for estimator in ("count", "lambda", "time", "score"):
        denoiser = Wrong(process)
        loss = enumerated(MaskedELBO(process, estimator), denoiser, x)
        (gradient,) = torch.autograd.grad(loss, denoiser.table)
        found[estimator] = (loss.detach(), gradient)
    assert float(found["count"][1].abs().max()) > 0.01
    for value, gradient in found.values():
        torch.testing.assert_close(value, found["count"][0], rtol=0, atol=1e-10)
        torch.testing.assert_close(gradient, found["count"][1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("estimator", ["count", "lambda", "time", "score"])
def test_with_observed_cells_the_loss_is_minus_log_p_of_the_others_given_them(estimator):
    process = Masked(K)
    objective = MaskedELBO(process, estimator)
    observed = torch.tensor([True, False, False, True])
    for x in EVERY[::5]:
        given = CHAIN.explain(process.log_emission(torch.where(observed, x, K)[None]))[1][0]
        exact = given - CHAIN.log_prob(x[None])[0]
        value = enumerated(objective, CHAIN.denoiser(process), x, observed)
        torch.testing.assert_close(value, exact, rtol=0, atol=1e-10)


def test_the_count_form_shows_a_timed_denoiser_the_level_it_would_have_had():
    """Under a uniform level lambda the nats weigh 1 / lambda; so c = 2 of 4 has the mean level 2 / 5."""
    process = Masked(K, "cosine")
    n = 100_000
    own = torch.rand(n, L, generator=generator(1), dtype=torch.float64)
    draw = MaskedELBO(process).corruption(
        torch.zeros(n, L, dtype=torch.int64), torch.full((n,), 0.3).double(), own, None
    )
    assert bool((draw.masked.sum(1) == 2).all())
    level = 1 - process.alpha(draw.t)
    assert abs(float(level.mean()) - 0.4) < 4 * float(level.std()) / math.sqrt(n)
    beta = 2 * 3 / (25 * 6)  # the variance of Beta(2, 3)
    assert float(level.var()) == pytest.approx(beta, rel=0.02)


@pytest.mark.parametrize("estimator", ["count", "lambda", "time", "score"])
def test_drawn_losses_have_the_enumerated_mean(estimator):
    process = Masked(K)
    x0 = torch.tensor([[0, 2, 1, 1]]).expand(10_000, L)
    denoiser = Wrong(process).requires_grad_(False)
    exact = float(enumerated(MaskedELBO(process, "count"), denoiser, x0[0]))
    bound = -MaskedELBO(process, estimator).elbo(denoiser, x0, generator(3))
    assert bound.dtype == torch.float64
    assert abs(float(bound.mean()) - exact) < 4 * float(bound.std()) / math.sqrt(len(x0))
    cycled = measures.elbo(denoiser, process, x0[:1], num_draws=400, generator=generator(4))
    assert abs(float(cycled.nats[0]) + exact) < 4 * float(cycled.standard_error[0])


def test_the_mean_is_the_count_bound_over_the_cells():
    process, x0 = Masked(K), EVERY
    bound, mean = (
        MaskedELBO(process, "count", reduction)(Wrong(process), x0, generator(5)) for reduction in ("bound", "mean")
    )
    torch.testing.assert_close(mean, bound / L)


def test_counts_are_stratified_over_the_batch():
    seen = []

    def denoise(x_t, t):
        seen.append((x_t == K).sum(1))
        return torch.full((*x_t.shape, K), -math.log(K))

    MaskedELBO(Masked(K))(denoise, torch.zeros(40, L, dtype=torch.int64), generator(6))
    assert torch.bincount(seen[0]).tolist() == [0, 10, 10, 10, 10]


def test_positions_of_several_axes_and_class_counts():
    process = Masked((2, 3))
    joint = FiniteJoint(torch.tensor([[0.2, 0.1, 0.3], [0.1, 0.1, 0.2]], dtype=torch.float64))
    x0 = torch.tensor([[1, 2]]).expand(40_000, 2)
    bound = MaskedELBO(process).elbo(joint.denoiser(process), x0, generator(7))
    assert abs(float(bound.mean()) - math.log(0.2)) < 4 * float(bound.std()) / 200
    image = torch.zeros(3, 2, 2, dtype=torch.int64)
    flat = Masked(2)
    loss = MaskedELBO(flat)(lambda x_t, t: flat.log_probs(torch.zeros(*x_t.shape, 2), x_t), image, generator(8))
    torch.testing.assert_close(loss, torch.full((3,), 4 * math.log(2)))


def test_spans_show_beginnings_ends_or_both():
    x0 = torch.zeros(3000, 7, dtype=torch.int64)
    for kind, ends in (("prefix", (None, False)), ("suffix", (False, None)), ("infill", (None, None))):
        hidden = ~RandomSpans((kind,), 1.0)(x0, generator(9))
        assert bool(hidden.any(1).all())
        assert int(hidden.int().diff(dim=1).abs().sum(1).max()) <= 2
        for end, shown in zip((0, -1), ends, strict=True):
            if shown is False:
                assert bool(hidden[:, end].all()), kind
        lengths = torch.bincount(hidden.sum(1), minlength=8)[1:]
        if kind != "infill":
            assert ((lengths - 3000 / 7) ** 2 / (3000 / 7)).sum() < 27.9  # chi-square of 6, false alarm 1e-4
    shown = RandomSpans(probability=0.5)(x0, generator(10)).any(1).double().mean()
    assert 0.3 < float(shown) < 0.5


def test_observed_cells_are_shown_at_time_zero_and_cost_nothing():
    process, seen = Masked(K), {}

    def denoise(x_t, t):
        seen.update(x_t=x_t, t=t)
        return process.log_probs(torch.zeros(*x_t.shape, K), x_t)

    x0 = torch.randint(0, K, (200, 6), generator=generator(11))
    loss = MaskedELBO(process, observed=RandomSpans(probability=1.0))(denoise, x0, generator(12))
    shown = seen["t"] == 0
    assert torch.equal(seen["x_t"][shown], x0[shown])
    torch.testing.assert_close(loss, (~shown).sum(1) * math.log(K), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MaskedELBO(Masked(3), "dse"), "estimator"),
        (lambda: MaskedELBO(Masked(3), reduction="sum"), "reduction"),
        (lambda: MaskedELBO(Masked(3), "score", "mean"), "bound"),
        (lambda: MaskedELBO(Masked((2, 2), PolynomialMask(torch.tensor([1.0, 2.0])))), "schedule a position"),
        (lambda: RandomSpans(("middle",)), "kinds"),
        (lambda: RandomSpans(probability=2.0), "probability"),
        (lambda: MaskedELBO(Masked(2))(None, torch.tensor([[2]])), "x0"),
        (lambda: MaskedELBO(Masked(2, "geometric"), "time").elbo(None, torch.tensor([[1]])), "from 1 to 0"),
        (lambda: ScoreEntropy(Masked(2, "geometric")).elbo(None, torch.tensor([[1]])), "at t = 1"),
        (lambda: RandomSpans()(torch.zeros(2, 3, 4)), "sequences"),
    ],
)
def test_wrong_arguments(make, words):
    with pytest.raises(ValueError, match=words):
        make()
