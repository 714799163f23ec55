"""Energies of whole sequences: what a corrected step draws, what it costs in nats, and what training recovers."""

import itertools
import math

import pytest
import torch

from clarkia import measures, samplers
from clarkia.measures import edlm_paper, enumerated_joint_elbo, joint_elbo, log_mean_bounds
from clarkia.objectives import ResidualNCE
from clarkia.oracles import FiniteJoint, MarkovChain
from clarkia.processes import Masked
from clarkia.random import RowBlocks, generator
from clarkia.samplers import Ancestral, AnyOrder, EnergyCorrection, counts, policies
from clarkia.samplers.energies import Counted, causal_residual, from_reward
from clarkia.testing import check_solver

COPIED = FiniteJoint(torch.eye(2, dtype=torch.float64) / 2)
BITS = Masked((2, 2))
CHAIN = MarkovChain(torch.full((3,), 1 / 3), 0.7 * torch.eye(3) + 0.1, 4)
TERNARY = Masked((3,) * 4)
TABLE = torch.rand(3, 2, 3, generator=generator(0), dtype=torch.float64) + 0.02
RAGGED = FiniteJoint(TABLE / TABLE.sum())
MIXED = Masked((3, 2, 3))


def exact_energy(law, process):
    """``-log(q(x_0 | x_t) / prod_i p0_hat)`` for whatever prediction is corrected."""

    def energy(x_0, x_t, t, log_probs):
        drawn = log_probs.gather(-1, x_0.unsqueeze(-1)).squeeze(-1).double().sum(1)
        return drawn - (law.log_prob(x_0) - law.explain(process.log_emission(x_t))[1])

    return energy


def chain_rule(law):
    """``log p(x^i | x^{<i})`` of a finite law."""
    process = Masked(law.space.num_classes)

    def token_log_probs(x):
        tokens = []
        for i in range(x.shape[1]):
            before = torch.where(torch.arange(x.shape[1]) < i, x, process.mask_state())
            log_probs = law.explain(process.log_emission(before))[0]
            tokens.append(log_probs[torch.arange(len(x)), i, x[:, i]])
        return torch.stack(tokens, 1)

    return token_log_probs


def blurred(law, process):
    """A denoiser that is wrong, and excludes no class that is possible."""
    right = law.denoiser(process)
    return lambda x_t, t, condition=None: process.log_probs(0.6 * right(x_t, t).clamp(min=-30), x_t, t)


def clean(process):
    return torch.cartesian_prod(*(torch.arange(int(count)) for count in process.counts()))


# --------------------------------------------------------------------------------------- one corrected step


@pytest.mark.parametrize("k", [1, 2, 3])
def test_of_all_candidates_of_copied_bits_only_2_to_the_minus_k_give_unequal_ones(k, monkeypatch):
    """Every combination of the uniform numbers that can matter, each once."""
    halves = torch.tensor([0.25, 0.75], dtype=torch.float64)
    every = torch.cartesian_prod(*[halves] * (2 * k + 1))
    numbers = iter([every[:, :-1].reshape(-1, k, 2), every[:, -1]])
    monkeypatch.setattr("clarkia.samplers.joint.rand", lambda shape, generator=None, device=None: next(numbers))
    x_t = BITS.prior(len(every))
    masked = torch.ones_like(x_t, dtype=torch.bool)
    correction = EnergyCorrection(exact_energy(COPIED, BITS), k)
    t = torch.ones(len(x_t))
    x = correction.reveal(x_t, masked, masked, COPIED.denoiser(BITS)(x_t, t), t)
    assert float((x[:, 0] != x[:, 1]).double().mean()) == 2.0**-k


@pytest.mark.parametrize(("k", "steps"), [(1, 1), (1, 4), (2, 2), (4, 4)])
def test_copied_bits_differ_with_probability_2_to_the_minus_k_over_t(k, steps):
    n = 100_000
    solver = Ancestral(joint=EnergyCorrection(exact_energy(COPIED, BITS), k, (1.0, 0.0)))
    x = samplers.sample(
        COPIED.denoiser(BITS), BITS, num_samples=n, solver=solver, num_steps=steps, generator=generator(k)
    )
    rate = 2.0**-k / steps
    found = float((x[:, 0] != x[:, 1]).double().mean())
    assert abs(found - rate) < 4 * math.sqrt(rate * (1 - rate) / n)  # false alarm 6e-5


def corrected_variation(k, carry_over=False, n=40_000):
    """Distance from the chain of four corrected steps; its sampling error is about 0.01."""
    joint = EnergyCorrection(causal_residual(markov_tokens, carry_over=carry_over), k, (1.0, 0.0))
    x = samplers.sample(
        CHAIN.denoiser(TERNARY), TERNARY, num_samples=n, solver=Ancestral(joint=joint), num_steps=4,
        generator=generator(3),
    )  # fmt: skip
    law = torch.bincount((x * torch.tensor([27, 9, 3, 1])).sum(1), minlength=81).double() / n
    return float((law - CHAIN.log_prob(clean(TERNARY)).exp()).abs().sum() / 2)


def test_the_law_of_the_chain_gets_nearer_with_more_candidates():
    """T = 4; k = 1 is the reference table's 0.169410."""
    found = {k: corrected_variation(k) for k in (1, 2, 4, 16)}
    assert found[1] == pytest.approx(0.169410, abs=0.012)
    assert found[1] - 0.03 > found[2] > found[4] + 0.02 > found[16] + 0.04
    assert found[16] < 0.045


def test_with_carry_over_it_does_not():
    """The visible cells behind a masked one are not looked at, and the better the choice the more that costs."""
    assert corrected_variation(16, carry_over=True, n=20_000) > corrected_variation(1) + 0.01


def markov_tokens(x):
    steps = CHAIN.transitions[0].log()[x[:, :-1], x[:, 1:]]
    return torch.cat([CHAIN.initial.log()[x[:, :1]], steps], 1)


# ------------------------------------------------------------------------------------------------ the sampler


def test_only_rows_that_reveal_a_cell_within_the_window_are_asked_for():
    counted = Counted(exact_energy(COPIED, BITS))
    correction = EnergyCorrection(counted, 3, (1.0, 0.6))
    x_t = torch.tensor([[2, 2], [2, 2], [2, 0], [2, 2]])
    revealed = torch.tensor([[True, False], [False, False], [True, False], [True, True]])
    t = torch.tensor([0.8, 0.8, 0.6, 0.5])
    log_probs = COPIED.denoiser(BITS)(x_t, t)
    x = correction.reveal(x_t, BITS.is_masked(x_t), revealed, log_probs, t, generator(0))
    assert (counted.calls, counted.rows) == (3, 6)
    assert torch.equal(x == 2, (x_t == 2) & ~revealed)
    assert x[2].tolist() == [0, 0]


@pytest.mark.parametrize("k", [1, 3])
def test_any_order_reveals_from_the_candidate_too(k):
    solver = AnyOrder(count=counts.Tokens(2), joint=EnergyCorrection(exact_energy(COPIED, BITS), k))
    n = 40_000
    x = samplers.sample(COPIED.denoiser(BITS), BITS, num_samples=n, solver=solver, generator=generator(5))
    rate = 2.0**-k
    assert abs(float((x[:, 0] != x[:, 1]).double().mean()) - rate) < 4 * math.sqrt(rate * (1 - rate) / n)


def test_a_policy_that_draws_classes_itself_cannot_be_corrected():
    solver = AnyOrder(policies.SampledConfidence(), joint=EnergyCorrection(exact_energy(COPIED, BITS)))
    with pytest.raises(ValueError, match="joint"):
        samplers.sample(COPIED.denoiser(BITS), BITS, num_samples=2, solver=solver)
    x, t = BITS.prior(2), torch.ones(2)
    with pytest.raises(ValueError, match="joint"):
        Ancestral(joint=solver.joint).kernel(COPIED.denoiser(BITS), BITS, x, t, t / 2, None)


@pytest.mark.parametrize("remask", [0.0, 2.0])
@pytest.mark.parametrize("order", ["independent", "stratified"])
def test_a_corrected_solver_keeps_the_contract(order, remask):
    solver = Ancestral(order, remask, EnergyCorrection(exact_energy(RAGGED, MIXED), 3, (1.0, 0.0)))
    check_solver(solver, MIXED, RAGGED.denoiser(MIXED), RAGGED.sample(20, generator=generator(1)))


def test_a_seeded_row_is_the_same_in_any_batch_and_with_a_cache():
    solver = Ancestral(joint=EnergyCorrection(exact_energy(RAGGED, MIXED), 3, (1.0, 0.3)))

    def drawn(start, rows, denoiser):
        source = RowBlocks(4, start, rows)
        return samplers.sample(denoiser, MIXED, num_samples=rows, solver=solver, num_steps=3, generator=source)

    whole = drawn(0, 12, RAGGED.denoiser(MIXED))
    assert torch.equal(drawn(5, 3, RAGGED.denoiser(MIXED)), whole[5:8])
    assert torch.equal(drawn(0, 12, samplers.OutputCache(RAGGED.denoiser(MIXED), MIXED)), whole)


def test_known_cells_are_held_and_seen_by_the_energy():
    """Of two equal bits one is known: every candidate agrees with it, whatever the energy prefers."""
    solver = Ancestral(joint=EnergyCorrection(from_reward(lambda x: -5.0 * x.double().sum(1)), 4, (1.0, 0.0)))
    known = (torch.tensor([[1, 0]]), torch.tensor([[True, False]]))
    x = samplers.sample(
        COPIED.denoiser(BITS), BITS, num_samples=50, known=known, solver=solver, num_steps=3, generator=generator(0)
    )
    assert bool((x == 1).all())


def test_the_best_of_many_by_a_reward_is_the_tilt():
    """One step of an independent prediction: ``p exp(r / beta)``, up to O(1 / k)."""
    law = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    process, n = Masked(3), 50_000
    reward = torch.tensor([0.0, 1.0, -0.5], dtype=torch.float64)
    tilted = (law.log() + reward / 0.5).softmax(0)
    joint = EnergyCorrection(from_reward(lambda x: reward[x][:, 0], 0.5), 64)
    x = samplers.sample(
        lambda x_t, t: process.log_probs(law.log().expand(*x_t.shape, 3), x_t), process, num_samples=n, shape=(1,),
        solver=Ancestral(joint=joint), num_steps=1, generator=generator(2),
    )  # fmt: skip
    found = torch.bincount(x[:, 0], minlength=3).double() / n
    assert float((found - tilted).abs().max()) < 0.02


def test_a_temperature_divides_the_energy():
    gap = 2.0
    process, n = Masked(2), 20_000
    x_t = torch.full((n, 1), 2)
    log_probs = torch.full((n, 1, 2), 0.5).log()
    masked = x_t == 2
    hot = EnergyCorrection(lambda x_0, *_: gap * x_0[:, 0].double(), 64, temperature=4.0)
    x = hot.reveal(x_t, masked, masked, log_probs, torch.ones(n), generator(1))
    expected = 1 / (1 + math.exp(gap / 4))
    assert abs(float(x.double().mean()) - expected) < 4 * math.sqrt(expected * (1 - expected) / n) + 0.005
    assert process.is_masked(x).sum() == 0


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_an_energy_that_is_no_energy_is_refused(bad):
    x_t, masked = torch.full((2, 1), 2), torch.ones(2, 1, dtype=torch.bool)
    log_probs = torch.full((2, 1, 2), 0.5).log()
    wrong = EnergyCorrection(lambda x_0, *_: torch.tensor([0.0, bad]))
    with pytest.raises(ValueError, match="row 1"):
        wrong.reveal(x_t, masked, masked, log_probs, torch.ones(2))
    flat = EnergyCorrection(lambda x_0, *_: torch.zeros(2, 1))
    with pytest.raises(ValueError, match="one number a row"):
        flat.reveal(x_t, masked, masked, log_probs, torch.ones(2))


@pytest.mark.parametrize(
    "options", [{"num_candidates": 0}, {"temperature": 0.0}, {"window": (0.4, 0.6)}, {"window": (1.1, 0.6)}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        EnergyCorrection(exact_energy(COPIED, BITS), **options)


# ------------------------------------------------------------------------------------------------- the energies


def test_a_causal_model_with_carry_over_is_normalised():
    tokens = chain_rule(RAGGED)
    states, denoise = product_of_masks(MIXED), blurred(RAGGED, MIXED)
    every = clean(MIXED)
    for carry_over in (True, False):
        energy = causal_residual(tokens, carry_over=carry_over)
        log_probs = denoise(states, torch.ones(len(states))).double()
        rows, columns = len(states), len(every)
        pair = torch.arange(rows * columns)
        x_t, x_0, answers = states[pair // columns], every[pair % columns], log_probs[pair // columns]
        drawn = answers.gather(-1, x_0.unsqueeze(-1)).squeeze(-1).sum(1)
        weight = torch.where(drawn > -torch.inf, drawn - energy(x_0, x_t, None, answers), -torch.inf)
        weight = weight.reshape(rows, columns)
        log_z = weight.logsumexp(1)
        if carry_over:
            torch.testing.assert_close(log_z, torch.zeros(rows, dtype=torch.float64), rtol=0, atol=1e-10)
        else:  # Z is the probability of what is visible, and the corrected law is the true posterior
            evidence = RAGGED.explain(MIXED.log_emission(states))[1]
            torch.testing.assert_close(log_z, evidence, rtol=0, atol=1e-10)


def product_of_masks(process):
    return torch.cartesian_prod(*(torch.arange(int(count) + 1) for count in process.counts()))


# --------------------------------------------------------------------------------------------- the T-step bound


@pytest.mark.parametrize("steps", [1, 2, 64])
def test_the_exact_joint_bounds_copied_bits_by_their_entropy(steps):
    denoise = COPIED.denoiser(BITS)
    x = torch.tensor([[0, 0], [1, 1]])
    joint = enumerated_joint_elbo(denoise, BITS, x, exact_energy(COPIED, BITS), num_steps=steps)
    assert joint.kind == "T-step bound"
    torch.testing.assert_close(joint.nats, torch.full((2,), -math.log(2), dtype=torch.float64), rtol=0, atol=1e-12)
    alone = measures.enumerated_elbo(denoise, BITS, x, num_steps=steps)
    expected = torch.full((2,), -math.log(2) * (1 + 1 / steps), dtype=torch.float64)
    torch.testing.assert_close(alone.nats, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_exact_joint_makes_every_bound_the_log_probability(steps):
    """Of every row, whatever the denoiser that is corrected; at zero energy it is the factorised bound."""
    x, denoise = RAGGED.states, blurred(RAGGED, MIXED)
    found = enumerated_joint_elbo(denoise, MIXED, x, exact_energy(RAGGED, MIXED), num_steps=steps)
    torch.testing.assert_close(found.nats, RAGGED.log_prob(x), rtol=0, atol=1e-10)
    nothing = enumerated_joint_elbo(denoise, MIXED, x, lambda x_0, *_: torch.zeros(len(x_0)), num_steps=steps)
    plain = measures.enumerated_elbo(denoise, MIXED, x, num_steps=steps)
    torch.testing.assert_close(nothing.nats, plain.nats, rtol=0, atol=1e-10)


def wrong_energy(x_0, x_t, t, log_probs):
    """Neither exact nor normalised, and of time as well."""
    return 0.8 * (x_0[:, 0] == x_0[:, -1]).double() * (1 + t.double()) + 0.3 * x_0[:, 1].double()


@pytest.mark.parametrize("steps", [1, 3])
def test_samples_enclose_the_bound(steps):
    denoise = blurred(RAGGED, MIXED)
    exact = enumerated_joint_elbo(denoise, MIXED, RAGGED.states, wrong_energy, num_steps=steps).nats
    assert float((exact - RAGGED.log_prob(RAGGED.states)).abs().min()) > 1e-3
    gaps = []
    for num_samples in (4, 32):
        x = RAGGED.states.repeat(100, 1)
        found = joint_elbo(
            denoise, MIXED, x, wrong_energy, num_steps=steps, num_draws=8, num_samples=num_samples,
            generator=generator(6),
        )  # fmt: skip
        assert (found.lower.kind, found.upper.kind) == ("T-step bound", "estimate")
        mean = float(exact.mean())
        assert found.lower.mean < mean + 3 * found.lower.mean_standard_error  # false alarm 1e-3
        assert found.upper.mean > mean - 3 * found.upper.mean_standard_error
        gaps.append(found.upper.mean - found.lower.mean)
    assert 0 < gaps[1] < 0.25 * gaps[0]
    assert abs(found.lower.mean - mean) < 0.05


def test_a_known_normaliser_is_not_sampled():
    energy = Counted(causal_residual(chain_rule(RAGGED), carry_over=True))
    denoise, x = blurred(RAGGED, MIXED), RAGGED.states.repeat(60, 1)
    exact = enumerated_joint_elbo(
        denoise, MIXED, RAGGED.states, causal_residual(chain_rule(RAGGED), carry_over=True), num_steps=2
    )
    found = joint_elbo(
        denoise, MIXED, x, energy, num_steps=2, num_draws=8, num_samples=32, normalised=True, generator=generator(7)
    )
    assert energy.calls == 8 * 32
    assert abs(found.lower.mean - exact.mean) < 4 * found.lower.mean_standard_error + 0.01
    # A causal model that sees only what is before a cell, held at the visible cells, is not the true posterior.
    p = RAGGED.probabilities.flatten()
    assert float(p @ exact.nats) < float(p @ p.log()) - 1e-3


def test_a_class_the_denoiser_excludes_is_impossible_whatever_the_energy():
    x = torch.tensor([[0, 0]])

    def only_ones(x_t, t, condition=None):
        return BITS.log_probs(torch.tensor([-torch.inf, 0.0], dtype=torch.float64).expand(*x_t.shape, 2), x_t)

    energy = exact_energy(COPIED, BITS)
    found = joint_elbo(only_ones, BITS, x, energy, num_steps=1, generator=generator(0))
    assert float(found.lower.nats) == -torch.inf
    assert float(edlm_paper(only_ones, BITS, x, energy, generator=generator(0)).nats) == -torch.inf


def test_the_published_figure_is_not_a_bound():
    """(log 2) / 2 for two equal fair bits, whose entropy is log 2: one draw at each count is all there is."""
    x = torch.tensor([[0, 0], [1, 1]])
    found = edlm_paper(
        COPIED.denoiser(BITS), BITS, x, exact_energy(COPIED, BITS), num_draws=4, normalised=True, generator=generator(0)
    )
    assert found.kind == "not a bound"
    torch.testing.assert_close(found.nats, torch.full((2,), -math.log(2) / 2, dtype=torch.float64), rtol=0, atol=1e-12)
    assert -found.mean < math.log(2) - 0.3


def test_the_published_figure_of_a_causal_model_is_that_models_own():
    """Every position is masked with probability t and weighs 1 / t, whatever the denoiser."""
    x = RAGGED.states.repeat(400, 1)
    denoise = blurred(RAGGED, MIXED)
    energy = causal_residual(chain_rule(RAGGED), carry_over=True)
    found = edlm_paper(denoise, MIXED, x, energy, num_draws=8, normalised=True, generator=generator(8))
    z = (found.nats - RAGGED.log_prob(x)).reshape(400, -1).mean(0)
    error = found.standard_error.reshape(400, -1).square().sum(0).sqrt() / 400
    assert float((z / error.clamp(min=1e-12)).abs().max()) < 4.2  # 18 rows: false alarm 5e-4
    unknown = edlm_paper(denoise, MIXED, x, energy, num_draws=8, num_samples=4, generator=generator(8))
    assert unknown.mean > found.mean + 3 * unknown.mean_standard_error  # the sampled normaliser flatters


def test_the_leave_one_out_pair_encloses_the_log_of_the_mean():
    """Exactly: over all samples of m of 6 states."""
    p = torch.tensor([0.3, 0.25, 0.2, 0.1, 0.1, 0.05], dtype=torch.float64)
    log_w = torch.tensor([-1.2, 0.1, -0.4, 0.6, -2.0, 0.9], dtype=torch.float64)
    log_z = float((p.log() + log_w).logsumexp(0))
    widths = []
    for m in (4, 5, 6):
        states = torch.tensor(list(itertools.product(range(6), repeat=m)))
        chance = p[states].prod(1)
        low, high = (float((chance * side).sum()) for side in log_mean_bounds(log_w[states]))
        assert low < log_z < high
        assert 0.5 < (high - log_z) / (log_z - low) < 2.0  # as far above as below, up to higher orders
        widths.append(high - low)
    assert widths[0] > widths[1] > widths[2]
    one = torch.tensor([[-torch.inf, -torch.inf, 0.3]])
    low, high = log_mean_bounds(one)
    assert float(low) == pytest.approx(0.3 - math.log(3))
    assert float(high) == torch.inf


def test_arguments_that_do_not_fit_are_refused():
    denoise, energy = RAGGED.denoiser(MIXED), exact_energy(RAGGED, MIXED)
    with pytest.raises(ValueError, match="num_samples"):
        joint_elbo(denoise, MIXED, RAGGED.states, energy, num_steps=1, num_samples=1)
    with pytest.raises(ValueError, match="masked process"):
        joint_elbo(denoise, None, RAGGED.states, energy, num_steps=1)
    long = torch.zeros(1, 20, dtype=torch.int64)
    with pytest.raises(ValueError, match="at most 65536"):
        enumerated_joint_elbo(denoise, Masked(2), long, energy, num_steps=1)


# ------------------------------------------------------------------------------------------------------ training


def test_noise_contrast_recovers_the_exact_energy():
    """One number a pair of states, 2e5 pairs: each within 4 standard errors of its log-ratio of counts."""
    law = FiniteJoint(torch.tensor([[0.4, 0.1], [0.2, 0.3]], dtype=torch.float64))
    x0 = law.sample(200_000, generator=generator(1))
    table = torch.zeros(9, 4, dtype=torch.float64, requires_grad=True)
    seen = torch.zeros(2, 9, 4, dtype=torch.float64)

    def energy(x_0, x_t, t, log_probs):
        at, cell = (x_t * torch.tensor([3, 1])).sum(1), (x_0 * torch.tensor([2, 1])).sum(1)
        with torch.no_grad():
            for side, part in enumerate((4 * at + cell).chunk(2)):
                seen[side] = torch.bincount(part, minlength=36).reshape(9, 4)
        return table[at, cell]

    objective = ResidualNCE(BITS, law.denoiser(BITS))
    optimizer = torch.optim.LBFGS([table], lr=1.0, max_iter=15, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def closure():
        optimizer.zero_grad()
        loss = objective(energy, x0, generator(2)).double().sum() / 1000
        loss.backward()
        return loss

    optimizer.step(closure)
    states, every = product_of_masks(BITS), clean(BITS)
    both = (seen > 0).all(0)
    at, cell = both.nonzero().T
    log_probs = law.denoiser(BITS)(states[at], torch.ones(len(at)))
    exact = exact_energy(law, BITS)(every[cell], states[at], None, log_probs)
    error = (1 / seen[0] + 1 / seen[1]).sqrt()[both]
    gap = (table.detach()[both] - exact).abs()
    assert both.sum() == 16  # 4 whole states, 4 with one mask and 2 candidates each, 1 with two and 4 of them
    assert float((gap / error.clamp(min=1e-9)).max()) < 4
    masked_twice = at == 8
    assert float(gap[masked_twice].max()) < 0.03
    assert float(gap.square().mean().sqrt()) < 0.02


def test_the_loss_of_a_flat_energy_is_two_log_two():
    x0 = COPIED.sample(8, generator=generator(0))
    loss = ResidualNCE(BITS, COPIED.denoiser(BITS))(lambda x_0, *_: torch.zeros(len(x_0)), x0, generator(1))
    torch.testing.assert_close(loss, torch.full((8,), 2 * math.log(2)))
