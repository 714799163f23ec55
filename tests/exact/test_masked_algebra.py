"""The masked kernel, bound and samplers against brute-force enumeration."""

import itertools
import math

import pytest
import torch
from scipy.stats import chisquare, kstest

from clarkia import samplers, schedules
from clarkia.oracles import FiniteJoint
from clarkia.processes import Masked, MaskedKernel, Mixed, VariancePreserving
from clarkia.random import generator
from clarkia.samplers import Ancestral

TABLE = torch.rand(3, 2, 4, generator=generator(0), dtype=torch.float64)
JOINT = FiniteJoint(TABLE / TABLE.sum())
COPIED_PAIR = FiniteJoint([[0.5, 0.0], [0.0, 0.5]])
SCHEDULES = {
    "linear": "linear",
    "cosine": "cosine",
    "cosine_late": "cosine_late",
    "per-column": schedules.PolynomialMask(
        k=torch.tensor([1.0, 1.7, 3.0], dtype=torch.float64), eps_max=1e-3, eps_min=1e-5
    ),
}


def partial_states(counts):
    """Every state with masks, ``(prod (K_j + 1), m)``."""
    return torch.tensor(list(itertools.product(*(range(count + 1) for count in counts))))


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_the_kernel_is_the_posterior_by_enumeration(schedule):
    """``p(x_s | x_t)`` of one position from the joint law of ``x_0 -> x_s -> x_t``, all five states enumerated."""
    process = Masked((4, 4, 4), schedule)
    t, s = torch.tensor([0.8], dtype=torch.float64), torch.tensor([0.35], dtype=torch.float64)
    prior = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    x_t = torch.full((1, 3), 4)
    prediction = prior.log().expand(1, 3, 4)
    alpha_t, alpha_s = (
        process.alpha(time).expand(1, 3) if process.alpha(time).ndim == 2 else process.alpha(time).expand(3)[None]
        for time in (t, s)
    )
    for position in range(3):
        visible_s, visible_t = float(alpha_s[0, position]), float(alpha_t[0, position])
        # joint of (x_s = masked, x_t = masked) and (x_s = k, x_t = masked)
        stays = 1 - visible_s
        moves = prior * visible_s * (1 - visible_t / visible_s)
        law = torch.cat([moves, torch.tensor([stays], dtype=torch.float64)])
        law = law / law.sum()
        for target in range(5):
            kernel = process.kernel(x_t, prediction, t, s)
            x_s = x_t.clone()
            x_s[0, position] = target
            others = kernel.log_prob(x_t) - torch.log(kernel.stay.expand(1, 3)[:, position])
            found = (kernel.log_prob(x_s) - others).exp()
            assert float(found) == pytest.approx(float(law[target]), abs=1e-12)


def test_a_visible_cell_never_moves():
    process = Masked((3, 2, 4))
    x_t = torch.tensor([[1, 2, 4]])
    prediction = JOINT.denoiser(process)(x_t)
    kernel = process.kernel(x_t, prediction, torch.tensor([0.9]), torch.tensor([0.2]))
    assert kernel.log_prob(torch.tensor([[0, 2, 4]])).tolist() == [-torch.inf]
    assert kernel.log_prob(torch.tensor([[3, 2, 4]])).tolist() == [-torch.inf]
    draws = process.kernel(x_t.expand(500, 3), prediction.expand(500, 3, 4), 0.9, 0.0).sample(generator(1))
    assert (draws[:, 0] == 1).all()
    assert (draws[:, 1] < 2).all()


def kernels(seed):
    process = Masked((3, 2, 4))
    x_t = torch.tensor([[3, 2, 1]])
    logits = torch.randn(1, 3, 4, generator=generator(seed), dtype=torch.float64)
    return process.kernel(x_t, process.log_probs(logits, x_t), torch.tensor([0.9 - 0.1 * seed]), torch.tensor([0.3]))


def test_masked_divergence_by_enumeration():
    p, q = kernels(0), kernels(1)
    states = partial_states((3, 2, 4))
    log_p, log_q = (
        MaskedKernel(
            *(part.expand(len(states), *part.shape[1:]) for part in (k.x_t, k.masked, k.stay.expand(1, 3), k.log_probs))
        ).log_prob(states)
        for k in (p, q)
    )
    assert float(log_p.exp().sum()) == pytest.approx(1.0, abs=1e-12)
    expected = torch.where(log_p > -torch.inf, log_p.exp() * (log_p - log_q), 0.0).sum()
    torch.testing.assert_close(p.kl(q).sum(), expected, rtol=1e-12, atol=1e-12)


def test_masked_kernel_draws_follow_its_law():
    kernel = kernels(0)
    n = 100_000
    many = MaskedKernel(
        *(
            part.expand(n, *part.shape[1:])
            for part in (kernel.x_t, kernel.masked, kernel.stay.expand(1, 3), kernel.log_probs)
        )
    )
    states = partial_states((3, 2, 4))
    strides = torch.tensor([15, 5, 1])
    counts = torch.bincount((many.sample(generator(3)) * strides).sum(1), minlength=len(states))
    one = MaskedKernel(
        *(
            part.expand(len(states), *part.shape[1:])
            for part in (kernel.x_t, kernel.masked, kernel.stay.expand(1, 3), kernel.log_probs)
        )
    )
    law = one.log_prob(states).exp()
    assert counts[law == 0].sum() == 0
    live = law > 0
    assert chisquare(counts[live].numpy(), (law[live] * n).numpy()).pvalue > 1e-4  # false alarm 1e-4


def test_a_mixed_kernel_is_the_product_of_its_parts():
    process = Mixed(numeric=VariancePreserving(), levels=Masked((3, 2)))
    noise = generator(4)
    x_t = {"numeric": torch.randn(6, 2, generator=noise), "levels": torch.tensor([[3, 1]]).expand(6, 2)}
    prediction = {
        "numeric": torch.randn(6, 2, generator=noise),
        "levels": process.blocks["levels"].log_probs(torch.randn(6, 2, 3, generator=noise), x_t["levels"]),
    }
    t, s = {"numeric": torch.full((6,), 0.7), "levels": torch.full((6, 2), 0.5)}, torch.full((6,), 0.2)
    kernel, other = (
        process.kernel(x_t, {**prediction, "numeric": prediction["numeric"] + gap}, t, s) for gap in (0, 0.3)
    )
    x_s = kernel.sample(noise)
    parts = [process.blocks[name].kernel(x_t[name], prediction[name], t[name], s) for name in x_t]
    torch.testing.assert_close(
        kernel.log_prob(x_s), sum(part.log_prob(x_s[name]) for part, name in zip(parts, x_t, strict=True))
    )
    torch.testing.assert_close(kernel.kl(other), parts[0].kl(other.kernels["numeric"]))
    assert float(kernel.kl(other).min()) > 0


def test_the_bound_of_the_exact_denoiser_is_the_likelihood():
    """The bound over all sets of masked positions, weight ``(n-1)! (m-n)! / m!``, is ``-log p(x)`` for each x."""
    process = Masked((3, 2, 4))
    denoise = JOINT.denoiser(process)
    mask = process.mask_state()
    bound = torch.zeros(len(JOINT.states), dtype=torch.float64)
    for hidden in itertools.product([False, True], repeat=3):
        n = sum(hidden)
        if n == 0:
            continue
        hidden = torch.tensor(hidden)
        x_t = torch.where(hidden, mask, JOINT.states)
        cross_entropy = -denoise(x_t).gather(-1, JOINT.states.unsqueeze(-1)).squeeze(-1)
        bound += math.factorial(n - 1) * math.factorial(3 - n) / math.factorial(3) * (cross_entropy * hidden).sum(1)
    torch.testing.assert_close(bound, -JOINT.log_prob(JOINT.states), rtol=1e-10, atol=1e-10)


def ancestral_law(joint, process, times):
    """Exact law of the textbook sampler over all partial states, by the kernel's own probabilities."""
    counts = joint.probabilities.shape
    states = partial_states(counts)
    prediction = joint.denoiser(process)(states)
    law = torch.zeros(len(states), dtype=torch.float64)
    law[-1] = 1.0  # the last state has every cell masked
    size = len(states)
    left, reached = states.repeat_interleave(size, 0), states.repeat(size, 1)
    answers = prediction.repeat_interleave(size, 0)
    for t, s in itertools.pairwise(times):
        law = law @ process.kernel(left, answers, t, s).log_prob(reached).exp().reshape(size, size)
    clean = (states < torch.tensor(counts)).all(1)
    return law[clean]


@pytest.mark.parametrize("steps", [1, 2, 5, 16])
def test_a_copied_pair_differs_once_in_two_t(steps):
    law = ancestral_law(COPIED_PAIR, Masked((2, 2)), schedules.uniform(steps))
    assert float(law[1] + law[2]) == pytest.approx(1 / (2 * steps), abs=1e-12)


CHAIN_TV = {
    ("linear", 1): 0.636741,
    ("linear", 2): 0.306854,
    ("linear", 4): 0.169410,
    ("cosine", 2): 0.319280,
    ("cosine", 4): 0.174455,
}


def chain():
    step = torch.full((3, 3), 0.1, dtype=torch.float64) + 0.7 * torch.eye(3, dtype=torch.float64)
    table = torch.full((3,), 1 / 3, dtype=torch.float64)
    for _ in range(3):
        table = table.unsqueeze(-1) * step
    return FiniteJoint(table)


@pytest.mark.parametrize(("schedule", "steps"), CHAIN_TV.keys())
def test_the_reference_table_of_the_chain(schedule, steps):
    """Total variation of the ancestral sampler's exact law on a chain of four ternary variables."""
    joint = chain()
    law = ancestral_law(joint, Masked((3,) * 4, schedule), schedules.uniform(steps))
    assert float((law - joint.probabilities.flatten()).abs().sum() / 2) == pytest.approx(
        CHAIN_TV[schedule, steps], abs=1e-6
    )


def draw(joint, process, solver, steps, n, seed):
    x = samplers.sample(
        joint.denoiser(process), process, num_samples=n, solver=solver, num_steps=steps, generator=generator(seed)
    )
    return torch.bincount(joint.cell(x), minlength=joint.probabilities.numel())


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("steps", [1, 3])
def test_independent_order_samples_the_textbook_law(schedule, steps):
    process = Masked((3, 2, 4), schedule)
    law = ancestral_law(JOINT, process, schedules.uniform(steps))
    counts = draw(JOINT, process, Ancestral(), steps, 100_000, 5)
    assert chisquare(counts.numpy(), (law / law.sum() * 100_000).numpy()).pvalue > 1e-4  # false alarm 1e-4


def test_remasking_from_an_exact_denoiser_keeps_the_law():
    """With a fine grid every cell is drawn nearly alone, so remasking must leave the table's own law."""
    counts = draw(JOINT, Masked((3, 2, 4)), Ancestral(remask=40.0), 100, 10_000, 6)
    assert chisquare(counts.numpy(), (JOINT.probabilities.flatten() * 10_000).numpy()).pvalue > 1e-4


def test_stratified_order_is_exact_with_one_step_a_cell():
    assert draw(COPIED_PAIR, Masked((2, 2)), Ancestral("stratified"), 2, 20_000, 7)[1:3].sum() == 0
    counts = draw(JOINT, Masked((3, 2, 4)), Ancestral("stratified"), 3, 100_000, 8)
    assert chisquare(counts.numpy(), (JOINT.probabilities.flatten() * 100_000).numpy()).pvalue > 1e-4


def test_stratified_order_is_a_uniform_one_and_never_reveals_two_at_once():
    """Every one of the 6 orders of three cells is as likely, and each step of 3 reveals exactly one."""
    process = Masked((3, 2, 4))
    trace = samplers.Trace()
    samplers.sample(
        JOINT.denoiser(process), process, num_samples=6_000, solver=Ancestral("stratified"), num_steps=3,
        hooks=[trace], generator=generator(9),
    )  # fmt: skip
    masked = torch.stack([process.is_masked(x) for x in trace.states])
    assert torch.equal(masked.sum(-1), torch.tensor([2, 1, 0])[:, None].expand(3, 6_000))
    moments = masked.sum(0)  # 0, 1 or 2 steps that each cell stayed masked
    orders = torch.bincount(moments[:, 0] * 3 + moments[:, 1], minlength=9)
    assert chisquare(orders[orders > 0].numpy()).pvalue > 1e-4
    assert (orders > 0).sum() == 6


def test_stratified_order_on_a_finer_grid_still_reveals_one_at_a_time():
    """Moments lie ``1 / L`` apart, so no step shorter than that meets two, wherever the grid's nodes fall."""
    process = Masked((3, 2, 4))
    trace = samplers.Trace()
    samplers.sample(
        JOINT.denoiser(process), process, num_samples=6_000, solver=Ancestral("stratified"), num_steps=4,
        hooks=[trace], generator=generator(10),
    )  # fmt: skip
    left = torch.stack([process.is_masked(x).sum(1) for x in trace.states])
    revealed = -torch.cat([torch.full((1, 6_000), 3), left]).diff(dim=0)
    assert int(revealed.max()) == 1
    x = torch.tensor([[3, 1, 4]]).expand(20_000, 3)  # two of three masked
    moments, _ = Ancestral("stratified").init(x, process, generator(11))
    assert all(kstest(moments[:, cell].numpy(), "uniform").pvalue > 1e-4 for cell in (0, 2))
    torch.testing.assert_close((moments[:, 0] - moments[:, 2]).abs(), torch.full((20_000,), 0.5).double())


def test_score_rates_and_their_inverse():
    """``score = alpha / (1 - alpha) p0_hat`` is the ratio of the noisy law's probabilities; its inverse is exact."""
    process = Masked((3, 2, 4), SCHEDULES["per-column"])
    x_t = partial_states((3, 2, 4))
    t = torch.full((len(x_t),), 0.6, dtype=torch.float64)
    log_probs = JOINT.denoiser(process)(x_t)
    score = process.score(x_t, log_probs, t)
    alpha = process.alpha(t[:1])[0]
    visible = ~process.is_masked(x_t)
    log_law = JOINT.noisy_log_prob(process, x_t) + torch.where(visible, alpha.log(), torch.log1p(-alpha)).sum(1)
    strides = torch.tensor([15, 5, 1])
    for position, count in enumerate((3, 2, 4)):
        rows = (~visible[:, position]).nonzero().flatten()
        for k in range(count):
            x_k = x_t[rows].clone()
            x_k[:, position] = k
            ratio = (log_law[(x_k * strides).sum(1)] - log_law[rows]).exp()
            torch.testing.assert_close(score[rows, position, k], ratio, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(process.log_probs_from_score(x_t, score, t), log_probs, rtol=1e-10, atol=1e-12)
    rates = process.rates(x_t, log_probs, t).sum(-1)
    torch.testing.assert_close(rates, process.weight(t).expand(x_t.shape) * ~visible, rtol=1e-10, atol=1e-12)
