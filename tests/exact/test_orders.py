"""Orders of reveal: exact laws of every policy and count, and the output cache's number of calls."""

import itertools

import pytest
import torch
from discrete_laws import product_states
from order_laws import CHAIN, PROCESS, clean_law, entropy, law_of, law_on_grid, times, variation
from scipy.stats import chisquare

from clarkia import samplers, schedules
from clarkia.oracles import FiniteJoint
from clarkia.processes import Masked
from clarkia.random import generator
from clarkia.samplers import Ancestral, counts, policies
from clarkia.samplers.any_order import AnyOrder
from clarkia.samplers.cache import OutputCache
from clarkia.samplers.counts import EntropyBudget, Equal, Factor, Scheduled, Threshold, Tokens
from clarkia.samplers.policies import Blocks, Confidence, Entropy, Margin, Position, SampledConfidence
from clarkia.samplers.remdm import ReMDM

JOINT = FiniteJoint((table := torch.rand(3, 2, 4, generator=generator(0), dtype=torch.float64)) / table.sum())
RAGGED = Masked((3, 2, 4), "cosine")
POLICIES = {
    "position": Position(),
    "confidence": Confidence(),
    "margin": Margin(),
    "entropy": Entropy(),
    "blocks": Blocks(Entropy(), 2),
    "blocks of blocks": Blocks(Blocks(Confidence(), 1), 3),
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())
@pytest.mark.parametrize(("joint", "process"), [(CHAIN, PROCESS), (JOINT, RAGGED)], ids=["chain", "ragged"])
def test_one_cell_a_call_is_exact_in_any_order_the_predictions_choose(policy, joint, process):
    law, calls = law_of(AnyOrder(policy), joint, process)
    torch.testing.assert_close(law, joint.probabilities.flatten(), rtol=0, atol=1e-12)
    assert calls == pytest.approx(len(joint.probabilities.shape), abs=1e-12)


def test_every_given_order_is_exact():
    for order in itertools.permutations(range(4)):
        law, _ = law_of(AnyOrder(Position(order)), CHAIN, PROCESS)
        torch.testing.assert_close(law, CHAIN.probabilities.flatten(), rtol=0, atol=1e-12)


def test_random_order_draws_the_joint_and_every_order_as_often():
    """Chi-square, 1e5 draws each, false alarm 1e-4."""
    n, trace = 100_000, samplers.Trace()
    x = samplers.sample(
        JOINT.denoiser(RAGGED), RAGGED, num_samples=n, solver=AnyOrder(), generator=generator(1), hooks=[trace]
    )
    found = torch.bincount(JOINT.cell(x), minlength=24)
    assert chisquare(found.numpy(), (JOINT.probabilities.flatten() * n).numpy()).pvalue > 1e-4
    moments = torch.stack([RAGGED.is_masked(state) for state in trace.states]).sum(0)  # 2, 1, 0 in order of reveal
    orders = torch.bincount((moments * torch.tensor([9, 3, 1])).sum(1), minlength=27)
    assert chisquare(orders[orders > 0].numpy()).pvalue > 1e-4
    assert int((orders > 0).sum()) == 6


def test_the_token_of_sampled_confidence_costs_entropy(monkeypatch):
    """Candidates of every partial state enumerated: total variation 0.306181, entropy 2.005169 of 3.015708."""
    law = sampled_confidence_law(monkeypatch, SampledConfidence())
    assert entropy(CHAIN.probabilities.flatten()) == pytest.approx(3.015708, abs=1e-6)
    assert variation(law, CHAIN) == pytest.approx(0.306181, abs=1e-6)
    assert entropy(law) == pytest.approx(2.005169, abs=1e-6)


def sampled_confidence_law(monkeypatch, policy):
    states = product_states((4,) * 4)
    masked = PROCESS.is_masked(states)
    rows, classes = [], []
    for index, row in enumerate(masked):
        for candidate in itertools.product(*(range(3) if cell else (0,) for cell in row.tolist())):
            rows.append(index)
            classes.append(candidate)
    rows, classes = torch.tensor(rows), torch.tensor(classes)
    x, hidden = states[rows], masked[rows]
    # predictions rounded, so that candidates that tie in exact arithmetic tie here, and the first of them comes first
    log_probs = CHAIN.denoiser(PROCESS)(x)
    tied = ((log_probs.exp() * 1e9).round() / 1e9).log()
    chance = log_probs.gather(-1, classes.unsqueeze(-1)).squeeze(-1).masked_fill(~hidden, 0.0).sum(1).exp()
    monkeypatch.setattr(policies, "choose", lambda log_probs, uniforms: classes[hidden])
    solver = AnyOrder(policy)
    carry = {"masked": torch.full((len(x),), 4.0, dtype=torch.float64), "drawn": None}
    x_s, _ = solver.step(lambda x, t: tied, PROCESS, x, times(0.5, len(x)), times(0.25, len(x)), carry)
    step = torch.zeros(len(states), len(states), dtype=torch.float64)
    step.index_put_((rows, (x_s * torch.tensor([64, 16, 4, 1])).sum(1)), chance, accumulate=True)
    law = torch.zeros(len(states), dtype=torch.float64)
    law[-1] = 1.0
    for _ in range(4):
        law = law @ step
    return clean_law(law, CHAIN)[0]


BUDGETS = {0.0: (0.0, 4), 0.7: (0.2380, 3), 1.2: (0.5040, 2), 5.0: (0.6367, 1)}


class Rounded(FiniteJoint):
    """The same law whose denoiser rounds, so that entropies that tie in exact arithmetic tie here."""

    def denoiser(self, process):
        exact = super().denoiser(process)
        return lambda x, t=None, condition=None: ((exact(x).exp() * 1e12).round() / 1e12).log()


@pytest.mark.parametrize("budget", BUDGETS)
def test_the_entropy_budget_trades_calls_for_variation(budget):
    expected, calls = BUDGETS[budget]
    law, found = law_of(AnyOrder(Entropy(), EntropyBudget(budget)), Rounded(CHAIN.probabilities), PROCESS)
    assert found == pytest.approx(calls, abs=1e-9)
    assert variation(law, CHAIN) == pytest.approx(expected, abs=5e-5 if budget else 1e-9)


def test_groups_are_counted_by_every_rule():
    """Two cells at a time by `Tokens`, `Equal` and `Scheduled` alike; the confident rules at both of their ends."""
    two, calls = law_of(AnyOrder(Position(), Tokens(2)), CHAIN, PROCESS)
    assert calls == pytest.approx(2, abs=1e-12)
    start = {"masked": torch.full((1,), 4.0, dtype=torch.float64), "drawn": None}
    for count, process, grid in (
        (Equal(), Masked((3,) * 4, "cosine"), [1.0, 0.5, 0.0]),
        (Scheduled(), PROCESS, [1.0, 0.5, 0.0]),
        (Scheduled(), Masked((3,) * 4, "cosine"), [1.0, 1 / 3, 0.0]),
    ):
        law = law_on_grid(AnyOrder(Position(), count), CHAIN, process, grid, start)
        torch.testing.assert_close(law, two, rtol=0, atol=1e-12)
    for count, exact in ((Threshold(1.0), True), (Threshold(0.0), False), (Factor(0.1), True), (Factor(9.0), False)):
        law, calls = law_of(AnyOrder(Confidence(), count), CHAIN, PROCESS)
        assert calls == pytest.approx(4 if exact else 1, abs=1e-9)
        assert variation(law, CHAIN) == pytest.approx(0.0 if exact else 0.636741, abs=1e-6)


def test_thresholds_and_factors_by_hand():
    """Confidences .97, .95, .6 in the order of the ranking: two pass .9; the products are 2 x .03, 3 x .05, 4 x .4."""
    best = torch.tensor([[0.6, 0.97, 0.95, 0.5]], dtype=torch.float64)
    log_probs = torch.stack([best, 1 - best], -1).log()
    masked = torch.tensor([[True, True, True, False]])
    view = policies.View(log_probs, masked, torch.ones(1), torch.full((1, 4), 2))
    order = Confidence().rank(view).priority.argsort(1, descending=True)
    assert order[0, :3].tolist() == [1, 2, 0]
    span = counts.Span(torch.full((1,), 0.5), torch.full((1,), 0.5))

    def number(count):
        return int(count.number(view, order, span))

    assert [number(Threshold(p)) for p in (0.5, 0.9, 0.96, 0.99)] == [3, 2, 1, 1]
    assert [number(Factor(f)) for f in (0.05, 0.14, 0.16, 1.5, 1.61)] == [1, 1, 2, 2, 3]


# ----------------------------------------------------------------------------------------------------- remasking


@pytest.mark.parametrize("eta", [0.0, 0.02, 0.3, 1.0])
@pytest.mark.parametrize("strategy", ["cap", "rescale"])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_remasking_keeps_the_marginals(eta, strategy, schedule):
    """A cell visible with probability ``alpha_t`` is visible with ``alpha_s`` after a step, for every sigma."""
    process = Masked(3, schedule)
    x = torch.tensor([[0, 3]])  # one visible cell, one masked
    log_probs = torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5]], dtype=torch.float64).log()[None]
    for t, s in itertools.pairwise((1.0, 0.9, 0.55, 0.5, 0.02, 0.0)):
        kernel, _ = ReMDM(strategy, eta).kernel(lambda x, t: log_probs, process, x, times(t, 1), times(s, 1), None)
        visible = 1 - kernel.table()[0, :, 3].exp()
        alpha, alpha_s = (float(process.alpha(times(time, 1))) for time in (t, s))
        assert float(alpha * visible[0] + (1 - alpha) * visible[1]) == pytest.approx(alpha_s, abs=1e-12)
        assert float(kernel.table().exp().sum(-1).max()) == pytest.approx(1.0, abs=1e-12)
        assert float(1 - visible[0]) == pytest.approx(
            min(eta, (1 - alpha_s) / max(alpha, 1e-9)) if strategy == "cap" else
            eta * min(1, (1 - alpha_s) / max(alpha, 1e-9)), abs=1e-12,
        )  # fmt: skip


def test_remasking_by_confidence_keeps_the_number_of_visible_cells():
    """What a row expects to lose it gets back; the cell drawn against the odds is the likeliest to go."""
    n, process = 200_000, Masked(3)
    x = torch.tensor([[0, 1, 3, 3]]).expand(n, 4)
    log_probs = process.log_probs(torch.zeros(n, 4, 3, dtype=torch.float64), x, times(0.6, n))
    carry = torch.tensor([[0.9, 0.1, 1.0, 1.0]], dtype=torch.float64).expand(n, 4)
    solver = ReMDM("confidence", 0.8)
    x_s, after = solver.step(lambda x, t: log_probs, process, x, times(0.6, n), times(0.4, n), carry, generator(2))
    visible = (x_s < 3).double().mean(0)
    odds = torch.softmax(-torch.tensor([0.9, 0.1], dtype=torch.float64), 0) * 0.8  # sigma_max is 1 at 0.4, 0.4
    torch.testing.assert_close(1 - visible[:2], odds, rtol=0, atol=4 * 0.5 / n**0.5)
    assert float(visible.sum()) == pytest.approx(2 + 2 * (0.2 / 0.6), abs=4 * 4**0.5 * 0.5 / n**0.5)
    drawn = (x < 3) | (x_s == 3)
    assert torch.equal(after[drawn], carry[drawn])
    assert float((after[~drawn] - 1 / 3).abs().max()) < 1e-12


def test_sweeps_of_exchange_move_the_law_towards_the_joint():
    """Four ancestral steps are off by 0.169410; held at three in four visible, they come closer."""
    plain = law_on_grid(ReMDM(eta=0.0), CHAIN, PROCESS, schedules.uniform(4))
    assert variation(plain, CHAIN) == pytest.approx(0.169410, abs=1e-6)
    off = []
    for sweeps in (10, 100):
        solver = ReMDM("cap", 0.2, hold=(0.75, 0.25, 0.75))
        grid = torch.cat([torch.tensor([1.0]), torch.linspace(0.75, 0.25, sweeps + 1), torch.tensor([0.0])]).double()
        two_jumps = torch.tensor([1.0, 0.75, 0.25, 0.0])
        off.append(variation(law_on_grid(solver, CHAIN, PROCESS, grid), CHAIN))
        assert off[-1] < variation(law_on_grid(ReMDM(eta=0.0, hold=solver.hold), CHAIN, PROCESS, two_jumps), CHAIN)
    assert off[1] < off[0]
    assert off[1] < 0.1694


def test_the_remasking_kernel_is_a_law_and_knows_its_divergence():
    process = Masked((3, 3))
    states = product_states((4, 4))
    x = torch.tensor([[1, 3]])
    log_probs = process.log_probs(torch.tensor([[[0.0, 0, 0], [1.0, 0.5, 0]]]).double(), x, times(0.5, 1))
    p, q = (
        ReMDM("rescale", eta).kernel(lambda x, t: log_probs, process, x, times(0.5, 1), times(0.3, 1), None)[0]
        for eta in (0.2, 0.7)
    )
    table_p, table_q = (torch.stack([k.table()[0, i, states[:, i]] for i in range(2)]).sum(0) for k in (p, q))
    for kernel, table in ((p, table_p), (q, table_q)):
        found = torch.cat([kernel.log_prob(state[None]) for state in states])
        torch.testing.assert_close(found, table, rtol=1e-12, atol=1e-12)
        assert float(table.exp().sum()) == pytest.approx(1.0, abs=1e-12)
    live = table_p > -torch.inf
    expected = float((table_p.exp() * (table_p - table_q))[live].sum())
    assert float(p.kl(q)) == pytest.approx(expected, abs=1e-12)
    assert float(p.kl(p)) == pytest.approx(0.0, abs=1e-12)
    n = 50_000
    many, _ = ReMDM("rescale", 0.7).kernel(
        lambda x, t: log_probs.expand(n, 2, 3), process, x.expand(n, 2), times(0.5, n), times(0.3, n), None
    )
    found = torch.bincount((many.sample(generator(3)) * torch.tensor([4, 1])).sum(1), minlength=16)
    live = table_q > -torch.inf
    assert int(found[~live].sum()) == 0
    assert chisquare(found[live].numpy(), (table_q[live].exp() * n).numpy()).pvalue > 1e-4  # false alarm 1e-4


# ----------------------------------------------------------------------------------------------------- the cache

CALLS = {16: 6.4525, 64: 7.5759}


@pytest.mark.parametrize("steps", CALLS)
def test_expected_calls_of_the_output_cache(steps):
    """``T (1 - (1 - 1/T)^L)`` calls a row, within three standard errors of 4e4 runs (false alarm 0.3 %)."""
    n, length, process = 40_000, 8, Masked(2)
    logits = torch.zeros(1, length, 2)
    cache = OutputCache(lambda x, t: process.log_probs(logits.expand(len(x), -1, -1), x, t), process)
    trace = samplers.Trace()
    samplers.sample(
        cache, process, num_samples=n, shape=(length,), solver=Ancestral(), num_steps=steps, generator=generator(4),
        hooks=[trace],
    )  # fmt: skip
    calls = cache.calls.double()
    expected = steps * (1 - (1 - 1 / steps) ** length)
    assert expected == pytest.approx(CALLS[steps], abs=5e-5)
    assert float(calls.mean()) == pytest.approx(expected, abs=3 * float(calls.std()) / n**0.5)
    if steps == 16:  # four rows that are called whenever one of them changed
        left = torch.stack([process.is_masked(x).sum(1) for x in trace.states])
        revealed = torch.cat([torch.full((1, n), length), left]).diff(dim=0) < 0
        calls = revealed.reshape(steps, n // 4, 4).any(2).sum(0).double()
        assert float(calls.mean()) == pytest.approx(13.9714, abs=3 * float(calls.std()) / (n // 4) ** 0.5)


@pytest.mark.parametrize(
    "solver", [Ancestral(), AnyOrder(Entropy()), ReMDM(eta=0.3)], ids=["ancestral", "any", "remdm"]
)
def test_cached_and_uncached_draws_are_the_same(solver):
    steps = {} if isinstance(solver, AnyOrder) else {"num_steps": 24}
    shown = []

    def denoise(x, t, condition=None):
        shown.append(len(x))
        return CHAIN.denoiser(PROCESS)(x, t)

    def draw(denoiser):
        x = samplers.sample(denoiser, PROCESS, num_samples=300, solver=solver, generator=generator(5), **steps)
        return x, sum(shown)

    plain, all_rows = draw(denoise)
    shown.clear()
    cache = OutputCache(denoise, PROCESS)
    cached, some_rows = draw(cache)
    assert torch.equal(plain, cached)
    assert some_rows == int(cache.calls.sum())
    assert some_rows <= all_rows * (1 if isinstance(solver, AnyOrder) else 0.6)
