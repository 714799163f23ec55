"""The exact laws of the samplers of categories, by transition matrices over all states."""

import itertools
import math

import pytest
import torch
from discrete_laws import Enumeration, chain, exact_denoiser
from scipy.stats import chisquare

from clarkia import samplers, schedules
from clarkia.processes import Masked, MixturePath, Uniform
from clarkia.random import generator
from clarkia.samplers import Ancestral, MixtureStep, Renoised, TauLeaping

CHAIN = chain()
ENTROPY = 3.0157078676
COUNTS = (3, 3, 3, 3)
MASKED, UNIFORM, MASKGIT = (
    Enumeration(CHAIN, process) for process in (Masked(COUNTS), Uniform(COUNTS), Masked(COUNTS, "cosine"))
)
TABLE = torch.rand(3, 2, generator=generator(0), dtype=torch.float64)
TABLE = TABLE / TABLE.sum()
SOURCE = torch.tensor([[0.5, 0.2, 0.3], [0.9, 0.1, 0.0]], dtype=torch.float64)
COPIED_PAIR = torch.tensor([[0.5, 0.0], [0.0, 0.5]], dtype=torch.float64)

# T: masked TV, KL(p, sampler), T-step bound, uniform TV, uniform mixture-step TV, masked TV with MaskGIT's schedule
REFERENCE = {
    1: (0.636741, 1.378741, 4.394449, 0.636741, 0.636741, 0.636741),
    2: (0.306854, 0.321977, 3.649602, 0.399687, 0.399687, 0.319280),
    4: (0.169410, 0.089418, 3.318786, 0.199654, 0.190170, 0.174455),
    8: (0.088531, 0.025064, 3.163779, 0.093324, 0.087166, 0.090979),
    16: (0.045201, 0.006852, 3.088877, 0.043543, 0.040367, 0.046823),
    32: (0.022831, 0.001818, 3.052076, 0.020842, 0.019249, None),
}


def divergence(law, sampled):
    return float((law.p * (law.p / sampled).log())[law.p > 0].sum())


def bound(law, times):
    """T-step bound: expected divergence of every step of the sampler from the step that knows the clean data."""
    states, clean = law.states, law.clean
    pairs, sources = states.repeat(len(clean), 1), clean.repeat_interleave(len(states), 0)
    known = torch.nn.functional.one_hot(sources, max(law.counts)).double().log()
    total = 0.0
    for t, s in itertools.pairwise(times.tolist()):
        knowing = law.process.kernel(pairs, law.process.log_probs(known, pairs, t), t, s)
        guessing = law.process.kernel(pairs, law.prediction(t).repeat(len(clean), 1, 1), t, s)
        weights = (law.p[:, None] * law.likelihood(t)).flatten()
        total += float(torch.where(weights > 0, weights * knowing.kl(guessing), 0.0).sum())
    return total


@pytest.mark.parametrize("steps", REFERENCE)
def test_the_reference_table_of_the_masked_chain(steps):
    variation, kl, nelbo, _, _, maskgit = REFERENCE[steps]
    times = schedules.uniform(steps)
    sampled = MASKED.sampled(Ancestral(), times)
    assert float(sampled.sum()) == pytest.approx(1, abs=1e-12)
    assert MASKED.variation(sampled) == pytest.approx(variation, abs=1e-6)
    assert divergence(MASKED, sampled) == pytest.approx(kl, abs=1e-6)
    assert bound(MASKED, times) == pytest.approx(nelbo, abs=1e-6)
    assert divergence(MASKED, sampled) <= bound(MASKED, times) - ENTROPY
    if maskgit is not None:
        assert MASKGIT.variation(MASKGIT.sampled(Ancestral(), times)) == pytest.approx(maskgit, abs=1e-6)


@pytest.mark.parametrize("steps", REFERENCE)
def test_the_reference_table_of_the_uniform_chain(steps):
    *_, ancestral, mixture, _ = REFERENCE[steps]
    times = schedules.uniform(steps)
    assert UNIFORM.variation(UNIFORM.sampled(Ancestral(), times)) == pytest.approx(ancestral, abs=1e-6)
    assert UNIFORM.variation(UNIFORM.sampled(MixtureStep(), times)) == pytest.approx(mixture, abs=1e-6)


def test_the_entropy_of_the_chain():
    assert float(-(MASKED.p * MASKED.p.log()).sum()) == pytest.approx(ENTROPY, abs=1e-10)


def test_the_uniform_bound_holds_and_tightens():
    gaps = []
    for steps in (1, 2, 4, 8):
        times = schedules.uniform(steps)
        gaps.append(bound(UNIFORM, times) - ENTROPY)
        assert divergence(UNIFORM, UNIFORM.sampled(Ancestral(), times)) <= gaps[-1] + 1e-12
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 0.2 * gaps[0]


@pytest.mark.parametrize("steps", [1, 2, 5, 16])
def test_a_copied_pair_of_bits(steps):
    """The masked sampler makes unequal bits with probability ``1 / (2T)``, and its bound is ``log 2 (1 + 1 / T)``."""
    law = Enumeration(COPIED_PAIR, Masked((2, 2)))
    times = schedules.uniform(steps)
    sampled = law.sampled(Ancestral(), times)
    assert float(sampled[1] + sampled[2]) == pytest.approx(1 / (2 * steps), abs=1e-12)
    assert bound(law, times) == pytest.approx(math.log(2) * (1 + 1 / steps), abs=1e-12)


ALONE = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
EXACT_ALONE = {
    "ancestral": Ancestral(),
    "mixture step": MixtureStep(),
    "corrected": MixtureStep(corrector=0.7),
}


@pytest.mark.parametrize("process", [Masked(3), Uniform(3, "cosine"), MixturePath(3, [0.1, 0.9, 0.0])])
@pytest.mark.parametrize("solver", EXACT_ALONE.values(), ids=EXACT_ALONE.keys())
def test_a_cell_alone_follows_its_noisy_law_exactly_at_every_step(process, solver):
    """Only drawing several cells at once goes wrong: one cell has the law ``p_t`` at each node of any grid."""
    law = Enumeration(ALONE, process)
    now = law.start()
    for t, s in itertools.pairwise((1.0, 0.7, 0.65, 0.2, 0.0)):
        now = now @ law.transition(solver, t, s)
        torch.testing.assert_close(now, law.law(s), rtol=1e-12, atol=1e-14)


def test_a_mixture_step_under_masks_is_the_ancestral_step():
    for t, s in ((1.0, 0.4), (0.7, 0.1), (0.3, 0.0)):
        torch.testing.assert_close(
            MASKED.transition(MixtureStep(), t, s), MASKED.transition(Ancestral(), t, s), rtol=1e-12, atol=1e-14
        )


@pytest.mark.parametrize("corrector", [0.0, 0.7])
@pytest.mark.parametrize("process", [Masked((3, 2)), MixturePath((3, 2), SOURCE)])
def test_a_short_mixture_step_jumps_at_the_rates_of_the_flow(process, corrector):
    """Probability over length of the step is the rate, up to an error in proportion to the length."""
    law = Enumeration(TABLE, process)
    x, t, h = law.states, torch.full((len(law.states),), 0.6, dtype=torch.float64), 1e-6
    rates = process.flow_rates(x, law.prediction(0.6), t, corrector=corrector)
    kernel, _ = MixtureStep(corrector).kernel(law.denoise, process, x, t, t - h, None)
    jumps = kernel.log_probs.exp().scatter(-1, x.unsqueeze(-1), 0.0)
    torch.testing.assert_close(jumps / h, rates, rtol=1e-5, atol=1e-9)


LEAPS = {
    "masked": (Masked((3, 2)), TauLeaping()),
    "masked, corrected": (Masked((3, 2)), TauLeaping("flow", corrector=0.5)),
    "reversal": (Uniform((3, 2)), TauLeaping()),
    "reversal, geometric": (Uniform((3, 2), "geometric"), TauLeaping()),
    "reversal, source": (MixturePath((3, 2), SOURCE, "cosine_squared"), TauLeaping()),
    "flow": (Uniform((3, 2)), TauLeaping("flow")),
    "flow, corrected": (MixturePath((3, 2), SOURCE), TauLeaping("flow", corrector=0.5)),
}


@pytest.mark.parametrize(("process", "solver"), LEAPS.values(), ids=LEAPS.keys())
def test_tau_leaping_is_of_first_order(process, solver):
    """Twice the steps, half the distance from the joint law."""
    law = Enumeration(TABLE, process)
    errors = [law.variation(law.sampled(solver, schedules.uniform(steps))) for steps in (100, 200, 400)]
    assert errors[-1] < 0.01
    for coarse, fine in itertools.pairwise(errors):
        assert 1.85 < coarse / fine < 2.15


def test_one_leap_jumps_with_the_stated_probability():
    """``1 - exp(-rate (t - s))``, and then in proportion to the rates."""
    process, x = Uniform(3), torch.tensor([[1]])
    log_probs = torch.tensor([[[0.5, 0.2, 0.3]]], dtype=torch.float64).log()
    t, s = torch.tensor([0.6], dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64)
    kernel, _ = TauLeaping("flow").kernel(lambda x, t: log_probs, process, x, t, s, None)
    leaves = 1 - math.exp(-0.8 / 0.6 * 0.1)  # weight 1 / t, and 0.8 of the prediction is elsewhere
    expected = [leaves * 0.5 / 0.8, 1 - leaves, leaves * 0.3 / 0.8]
    assert kernel.log_probs.exp()[0, 0].tolist() == pytest.approx(expected, abs=1e-12)


def renoised(law, solver, strength, times):
    """The exact law of the corrected sampler: its step, the corruption back, and the reverse kernel again."""
    now = law.start()
    for t, s in itertools.pairwise(times.tolist()):
        back = min(s + strength * (t - s), 1.0)
        now = now @ law.transition(solver, t, s) @ law.noising(law.alpha(back) / law.alpha(s))
        now = now @ law.transition(Ancestral(), back, s)
    return now[law.index(law.clean)]


def test_correction_by_fresh_noise_mends_what_was_drawn_at_once():
    for law in (MASKED, UNIFORM):
        times = schedules.uniform(8)
        plain, mended = (
            law.sampled(Ancestral(), times),
            renoised(law, Ancestral(), Renoised(Ancestral()).strength, times),
        )
        assert law.variation(mended) < 0.65 * law.variation(plain)


DRAWN = {
    "uniform ancestral": (UNIFORM, Ancestral()),
    "uniform mixture": (UNIFORM, MixtureStep(corrector=0.5)),
    "uniform leaps": (UNIFORM, TauLeaping()),
    "masked leaps": (MASKED, TauLeaping("flow", corrector=0.5)),
    "masked ancestral": (MASKED, Ancestral()),
    "uniform renoised": (UNIFORM, Renoised(MixtureStep(), 1.5)),
    "masked renoised": (MASKED, Renoised(Ancestral(), 0.8)),
}


@pytest.mark.parametrize(("law", "solver"), DRAWN.values(), ids=DRAWN.keys())
def test_draws_follow_the_exact_law_of_their_sampler(law, solver):
    n, times = 200_000, schedules.uniform(3)
    x = samplers.sample(
        law.denoise, law.process, num_samples=n, solver=solver, times=times, generator=generator(1), dtype=torch.float64
    )
    if isinstance(solver, Renoised):
        expected = renoised(law, solver.solver, solver.strength, times)
    else:
        expected = law.sampled(solver, times)
    counts = torch.bincount((x * torch.tensor([27, 9, 3, 1])).sum(1), minlength=81)
    assert float(expected.sum()) == pytest.approx(1, abs=1e-10)
    assert chisquare(counts.numpy(), (expected / expected.sum() * n).numpy()).pvalue > 1e-4  # false alarm 1e-4


@pytest.mark.parametrize("process", [Uniform((3, 2)), MixturePath((3, 2), SOURCE)])
@pytest.mark.parametrize("solver", [Ancestral(), MixtureStep(0.5), TauLeaping(), Renoised(Ancestral())])
def test_a_known_cell_conditions_the_other(process, solver):
    """With one cell held, one is left to draw, and every exact step draws it from the conditional law."""
    n = 20_000
    known = (torch.tensor([[2, 0]]), torch.tensor([[True, False]]))
    times = schedules.uniform(1 if isinstance(solver, TauLeaping) else 3)
    x = samplers.sample(
        exact_denoiser(TABLE, process), process, num_samples=n, known=known, solver=solver, times=times,
        generator=generator(2), shape=(2,),
    )  # fmt: skip
    assert bool((x[:, 0] == 2).all())
    expected = TABLE[2] / TABLE[2].sum() * n
    assert chisquare(torch.bincount(x[:, 1], minlength=2).numpy(), expected.numpy()).pvalue > 1e-4  # false alarm 1e-4


def test_the_last_step_draws_and_never_takes_the_likeliest():
    """From pure noise to clean data in one step, every sampler draws each cell from its marginal."""
    n = 20_000
    for process in (Masked((3, 2)), Uniform((3, 2))):
        for solver in (Ancestral(), MixtureStep(0.3), TauLeaping(), TauLeaping("flow", corrector=1.0)):
            x = samplers.sample(
                exact_denoiser(TABLE, process), process, num_samples=n, num_steps=1, solver=solver, shape=(2,),
                generator=generator(3),
            )  # fmt: skip
            for cell in range(2):
                expected = TABLE.sum(1 - cell) * n
                counts = torch.bincount(x[:, cell], minlength=len(expected))
                assert chisquare(counts.numpy(), expected.numpy()).pvalue > 1e-5  # false alarm 1.6e-4 in all


def test_the_kernel_of_an_ancestral_step():
    """The process's own where cells are independent; a stratified order and remasking have none of that kind."""
    law = Enumeration(TABLE, Masked((3, 2)))
    t, s = (torch.full((len(law.states),), time, dtype=torch.float64) for time in (0.7, 0.3))
    carry = Ancestral().init(law.states, law.process, generator(4))
    kernel, after = Ancestral().kernel(law.denoise, law.process, law.states, t, s, carry)
    expected = law.process.kernel(law.states, law.prediction(0.7), t, s)
    assert torch.equal(kernel.table(), expected.table())
    assert after is carry
    for solver, words in ((Ancestral("stratified"), "order"), (Ancestral(remask=1.0), "remask")):
        with pytest.raises(ValueError, match=f"{words}: expected .* for a step with a kernel"):
            solver.kernel(law.denoise, law.process, law.states, t, s, carry)


WRONG = {
    "order": (
        lambda: Ancestral("stratified").init(torch.zeros(2, 2).long(), Uniform((3, 2))),
        "'independent' for Mixt",
    ),
    "remask": (lambda: Ancestral(remask=1.0).init(torch.zeros(2, 2).long(), Uniform((3, 2))), "remask: expected 0"),
    "rates": (lambda: TauLeaping("forward"), "rates: expected 'reversal' or 'flow'"),
    "corrector": (lambda: TauLeaping(corrector=0.5), "0 with the rates of the reversal, found 0.5"),
    "negative": (lambda: MixtureStep(-0.1), "corrector: expected a non-negative number"),
    "strength": (lambda: Renoised(Ancestral(), 0.0), "strength: expected a positive number"),
    "inside": (lambda: Renoised(samplers.Mixed()), "solver: expected a solver written as stages, found Mixed"),
    "process": (lambda: MixtureStep().init(torch.zeros(2, 2), samplers), "expects a Discrete process"),
}


@pytest.mark.parametrize(("call", "words"), WRONG.values(), ids=WRONG.keys())
def test_wrong_arguments_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
