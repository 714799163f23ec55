"""The bounds of categories against log-probabilities, by enumeration and by draws."""

import itertools
import math

import numpy as np
import pytest
import torch
from discrete_laws import chain, exact_denoiser, product_states

from clarkia import measures, schedules
from clarkia.measures.likelihood.discrete import prior_divergence, rate_divergence
from clarkia.oracles import FiniteJoint
from clarkia.processes import Masked, MixturePath, Uniform
from clarkia.random import RowBlocks, generator

CHAIN = FiniteJoint(chain())
ENTROPY = 3.0157078676
TABLE = torch.rand(3, 2, 3, generator=generator(0), dtype=torch.float64) + 0.02
RAGGED = FiniteJoint(TABLE / TABLE.sum())
PER_POSITION = schedules.PolynomialMask(k=torch.tensor([1.0, 1.7, 3.0], dtype=torch.float64))


def blurred(process, law):
    """A denoiser that is wrong, and differently so at every time and in every state."""
    right = law.denoiser(process)

    def denoise(x_t, t, condition=None):
        seen = (0.8 * t.double() ** 3 + 0.1 * (x_t == 0).double().sum(1)).reshape(-1, 1, 1)
        return process.log_probs((1 - seen) * right(x_t, t).clamp(min=-30), x_t, t)

    return denoise


# ---------------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize("schedule", ["linear", "cosine", "cosine_late"])
def test_the_masked_bound_is_the_log_probability_of_every_row(schedule):
    process = Masked((3,) * 4, schedule)
    found = measures.enumerated_elbo(CHAIN.denoiser(process), process, CHAIN.states, num_nodes=32)
    assert found.kind == "bound"
    torch.testing.assert_close(found.nats, CHAIN.log_prob(CHAIN.states), rtol=0, atol=1e-10)


@pytest.mark.parametrize("schedule", ["linear", PER_POSITION])
def test_so_it_is_with_counts_and_schedules_of_their_own(schedule):
    process = Masked((3, 2, 3), schedule)
    found = measures.enumerated_elbo(RAGGED.denoiser(process), process, RAGGED.states)
    tolerance = 1e-10 if schedule == "linear" else 1e-7  # broken powers of t
    torch.testing.assert_close(found.nats, RAGGED.log_prob(RAGGED.states), rtol=0, atol=tolerance)


def test_without_time_the_weights_are_those_of_the_subsets():
    """``Gamma(c) Gamma(L - c + 1) / Gamma(L + 1)`` for a set of c masked cells, of a denoiser that is no law's."""
    process = Masked((3, 2, 3))
    denoise = blurred(process, RAGGED)

    def timeless(x_t, t, condition=None):
        return denoise(x_t, torch.zeros(len(x_t)))

    expected = torch.zeros(len(RAGGED.states), dtype=torch.float64)
    for hidden in itertools.product([False, True], repeat=3):
        c = sum(hidden)
        if c:
            x_t = torch.where(torch.tensor(hidden), process.mask_state(), RAGGED.states)
            nats = timeless(x_t, None).gather(-1, RAGGED.states[..., None])[..., 0]
            weight = math.gamma(c) * math.gamma(3 - c + 1) / math.gamma(4)
            expected += weight * torch.where(torch.tensor(hidden), nats, 0.0).sum(1)
    found = measures.enumerated_elbo(timeless, process, RAGGED.states, num_nodes=3).nats
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


T_STEP = {1: 4.394449, 2: 3.649602, 4: 3.318786, 8: 3.163779, 16: 3.088877, 32: 3.052076}
DIVERGENCE = {1: 1.378741, 2: 0.321977, 4: 0.089418, 8: 0.025064, 16: 0.006852, 32: 0.001818}


@pytest.mark.parametrize("steps", T_STEP)
def test_the_t_step_bound_of_the_reference_chain(steps):
    process = Masked((3,) * 4)
    found = measures.enumerated_elbo(CHAIN.denoiser(process), process, CHAIN.states, num_steps=steps)
    assert found.kind == "T-step bound"
    p = CHAIN.probabilities.flatten()
    assert float(-(p * p.log()).sum()) == pytest.approx(ENTROPY, abs=1e-9)
    bound = -float(p @ found.nats)
    assert bound == pytest.approx(T_STEP[steps], abs=1e-6)
    # The bound holds: the sampler of T steps is nearer to the data than it says.
    assert DIVERGENCE[steps] <= bound - ENTROPY


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_the_t_step_bound_of_copied_bits(steps):
    law = FiniteJoint([[0.5, 0.0], [0.0, 0.5]])
    process = Masked((2, 2))
    x = torch.tensor([[0, 0], [1, 1]])
    found = measures.enumerated_elbo(law.denoiser(process), process, x, num_steps=steps)
    expected = torch.full((2,), -math.log(2) * (1 + 1 / steps), dtype=torch.float64)
    torch.testing.assert_close(found.nats, expected, rtol=0, atol=1e-12)


def test_four_losses_of_absorbing_diffusion_are_one_bound():
    """Score entropy and cross-entropy by time, cross-entropy by masking probability and by masked count, in
    expectation over all masks and 40 Gauss-Legendre nodes: 1e-10."""
    process = Masked((3, 2, 3), "cosine")
    x, log_p = RAGGED.states, RAGGED.log_prob(RAGGED.states)
    denoise = RAGGED.denoiser(process)
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(40))
    levels, weights = 0.5 * (nodes + 1), 0.5 * weights
    losses = torch.zeros(4, len(x), dtype=torch.float64)
    for hidden in itertools.product([False, True], repeat=3):
        c, hidden = sum(hidden), torch.tensor(hidden)
        x_t = torch.where(hidden, process.mask_state(), x)
        log_probs = denoise(x_t)
        nats = torch.where(hidden, -log_probs.gather(-1, x[..., None])[..., 0], 0.0).sum(1)
        if not c:
            continue
        for u, weight in zip(levels, weights, strict=True):
            t = u.expand(len(x))
            alpha = process.alpha(u[None])
            chance = (1 - alpha) ** c * alpha ** (3 - c)
            score = process.score(x_t, log_probs, t)
            odds = alpha / (1 - alpha)
            at_truth = score.gather(-1, x[..., None])[..., 0]
            entropy = score.sum(-1) - odds * at_truth.log() + odds * (odds.log() - 1)
            sigma = -process.d_alpha(u[None]) / alpha
            losses[0] += weight * chance * sigma * torch.where(hidden, entropy, 0.0).sum(1)
            losses[1] += weight * chance * process.weight(u[None]) * nats
            losses[2] += weight * u**c * (1 - u) ** (3 - c) / u * nats
        losses[3] += 3 / c / (3 * math.comb(3, c)) * nats
    torch.testing.assert_close(losses, -log_p.expand(4, -1), rtol=0, atol=1e-10)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "geometric"])
def test_counts_draw_the_bound_whatever_the_schedule(schedule):
    process = Masked((3,) * 4, schedule)
    x = CHAIN.states[:27].repeat(60, 1)
    found = measures.elbo(CHAIN.denoiser(process), process, x, num_draws=8, generator=generator(1))
    z = (found.nats - CHAIN.log_prob(x)).reshape(60, 27).mean(0) / (
        found.standard_error.reshape(60, 27).square().sum(0).sqrt() / 60
    )
    assert float(z.abs().max()) < 4.2  # 27 rows of 60 replicates: false alarm 1e-3


def test_counts_and_times_agree_and_counts_are_sharper():
    process = Masked((3,) * 4)
    x = CHAIN.sample(1500, generator=generator(2))
    for denoiser in (CHAIN.denoiser(process), blurred(process, CHAIN)):
        exact = measures.enumerated_elbo(denoiser, process, CHAIN.states).nats[CHAIN.cell(x)]
        errors = []
        for estimator in ("count", "time"):
            found = measures.elbo(
                denoiser, process, x, num_draws=16, estimator=estimator, generator=generator(3)
            )  # fmt: skip
            # four standard errors of the mean over rows: false alarm 6e-5 each
            assert abs(found.mean - float(exact.mean())) < 4 * found.mean_standard_error
            stated = float(found.standard_error.square().mean().sqrt())
            assert float((found.nats - exact).square().mean().sqrt()) == pytest.approx(stated, rel=0.1)
            errors.append(found.mean_standard_error)
        assert errors[0] < 0.7 * errors[1]


def test_counts_ask_a_denoiser_of_time_at_the_level_of_their_count():
    """A level drawn given the count, not the share of masked cells; one row, whose error shows in its mean."""
    process = Masked((3, 2, 3))
    denoiser, x = blurred(process, RAGGED), torch.tensor([[0, 1, 2]])
    exact = measures.enumerated_elbo(denoiser, process, x)
    found = measures.elbo(denoiser, process, x.expand(4000, 3), num_draws=12, generator=generator(11))
    assert abs(found.mean - exact.mean) < 4 * found.mean_standard_error  # false alarm 6e-5
    assert found.mean_standard_error < 0.005


def test_a_schedule_a_position_is_drawn_by_time():
    process = Masked((3, 2, 3), PER_POSITION)
    denoiser = blurred(process, RAGGED)
    x = RAGGED.states.repeat(150, 1)
    exact = measures.enumerated_elbo(denoiser, process, RAGGED.states)
    found = measures.elbo(denoiser, process, x, num_draws=16, generator=generator(4))
    assert abs(found.mean - exact.mean) < 4 * found.mean_standard_error  # false alarm 6e-5


@pytest.mark.parametrize("process", [Masked((3, 2, 3), "cosine"), Uniform((3, 2, 3))], ids=["masked", "uniform"])
@pytest.mark.parametrize("steps", [1, 7])
def test_the_t_step_bound_is_drawn_step_by_step(process, steps):
    denoiser = blurred(process, RAGGED)
    x = RAGGED.states.repeat(150, 1)
    exact = measures.enumerated_elbo(denoiser, process, RAGGED.states, num_steps=steps)
    found = measures.elbo(denoiser, process, x, num_draws=8, num_steps=steps, generator=generator(5))
    assert found.kind == "T-step bound"
    assert abs(found.mean - exact.mean) < 4 * found.mean_standard_error + 1e-9  # false alarm 6e-5


def test_single_categories_and_grids_of_them():
    law = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    process = Masked(3)

    def denoiser(x_t, t, condition=None):
        return process.log_probs(law.log().expand(*x_t.shape, 3), x_t)

    for x in (torch.tensor([0, 1, 2]), torch.tensor([[[0, 1], [2, 2]]])):
        expected = law.log()[x].reshape(len(x), -1).sum(1)
        torch.testing.assert_close(measures.enumerated_elbo(denoiser, process, x).nats, expected, rtol=0, atol=1e-10)
        drawn = measures.elbo(denoiser, process, x, num_draws=4, generator=generator(6))
        assert bool(((drawn.nats - expected).abs() <= 4 * drawn.standard_error + 1e-12).all())
    assert float(measures.elbo(denoiser, process, torch.tensor([0, 1, 2])).standard_error.max()) < 1e-12


def test_a_seeded_row_is_the_same_in_any_batch():
    process = Masked((3,) * 4)
    x = CHAIN.sample(6, generator=generator(7))
    whole = measures.elbo(CHAIN.denoiser(process), process, x, generator=RowBlocks(3, 0, 6)).nats
    part = measures.elbo(CHAIN.denoiser(process), process, x[2:5], generator=RowBlocks(3, 2, 3)).nats
    torch.testing.assert_close(part, whole[2:5], rtol=0, atol=1e-12)


# -------------------------------------------------------------------------------------------- mixture paths


SOURCE = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.4, 0.0], [0.1, 0.1, 0.8]], dtype=torch.float64)
PATHS = {
    "uniform": Uniform((3, 2, 3)),
    "uniform-cosine": Uniform((3, 2, 3), "cosine"),
    "geometric": Uniform((3, 2, 3), "geometric"),
    "source": MixturePath((3, 2, 3), SOURCE),
}


@pytest.mark.parametrize("path", PATHS)
def test_the_bound_of_a_mixture_path_is_the_log_probability(path):
    """100 nodes: 1e-6, but 1e-4 where already as t falls to 0 one cell in 1e4 is noise."""
    process = PATHS[path]
    found = measures.enumerated_elbo(
        exact_denoiser(RAGGED.probabilities, process), process, RAGGED.states, num_nodes=100
    )
    tolerance = 1e-4 if path == "geometric" else 1e-6
    torch.testing.assert_close(found.nats, RAGGED.log_prob(RAGGED.states), rtol=0, atol=tolerance)


def test_the_uniform_bound_of_the_chain():
    """400 nodes."""
    process = Uniform((3,) * 3)
    law = FiniteJoint(chain(3))
    found = measures.enumerated_elbo(exact_denoiser(law.probabilities, process), process, law.states, num_nodes=400)
    torch.testing.assert_close(found.nats, law.log_prob(law.states), rtol=0, atol=1e-6)


@pytest.mark.parametrize("path", ["uniform", "source"])
def test_a_mixture_path_is_drawn_by_time(path):
    process = PATHS[path]
    denoiser = exact_denoiser(RAGGED.probabilities, process)
    x = RAGGED.sample(3000, generator=generator(8))
    found = measures.elbo(denoiser, process, x, num_draws=16, generator=generator(9))
    exact = RAGGED.log_prob(x)
    assert abs(found.mean - float(exact.mean())) < 4 * found.mean_standard_error + 1e-5  # false alarm 6e-5
    stated = float(found.standard_error.square().mean().sqrt())
    assert float((found.nats - exact).square().mean().sqrt()) == pytest.approx(stated, rel=0.1)


def test_the_reconstruction_is_drawn_as_it_is_summed(monkeypatch):
    """Handing over at t = 0.3, where the reconstruction is a large part of the bound."""
    monkeypatch.setattr("clarkia.measures.likelihood.discrete.LEAST_TIME", 0.3)
    process = PATHS["source"]
    denoiser = exact_denoiser(RAGGED.probabilities, process)
    exact = measures.enumerated_elbo(denoiser, process, RAGGED.states)
    for num_draws in (2, 16):
        x = RAGGED.states.repeat(200, 1)
        found = measures.elbo(denoiser, process, x, num_draws=num_draws, generator=generator(12))
        assert abs(found.mean - exact.mean) < 4 * found.mean_standard_error  # false alarm 6e-5
        assert found.mean_standard_error < 0.1


def test_steps_of_uniform_noise_approach_the_bound_from_below():
    process = PATHS["uniform"]
    denoiser = exact_denoiser(RAGGED.probabilities, process)
    p = RAGGED.probabilities.flatten()
    found = [measures.enumerated_elbo(denoiser, process, RAGGED.states, num_steps=steps) for steps in (2, 8, 32)]
    bounds, exact = [float(p @ each.nats) for each in found], float(p @ p.log())
    assert bounds[0] < bounds[1] < bounds[2] < exact
    assert exact - bounds[2] < 0.3 * (exact - bounds[1])


def test_the_integrand_is_the_score_entropy_of_uniform_noise():
    """Per cell ``sigma'/K sum_y (s_y - r_y log s_y + r_y log r_y - r_y)``, r from the two published cases."""
    k, process = 3, Uniform((3, 3, 3))
    law = FiniteJoint(chain(3))
    x_t = product_states((3, 3, 3))
    x = law.sample(len(x_t), generator=generator(10))
    t = torch.linspace(0.05, 0.95, len(x_t), dtype=torch.float64)
    log_probs = exact_denoiser(law.probabilities, process)(x_t, t)
    s = process.score(x_t, log_probs, t)
    alpha = 1 - t
    beta, sigma = t / k, 1 / alpha
    expected = torch.zeros(len(x_t), dtype=torch.float64)
    for cell, y in itertools.product(range(3), range(k)):
        clean = x_t[:, cell] == x[:, cell]
        at_truth = torch.where(x[:, cell] == y, (alpha + beta) / beta, 1.0)
        r = torch.where(clean, beta / (alpha + beta), at_truth)
        s_y = s[:, cell, y]
        term = sigma / k * (s_y - r * s_y.log() + r * r.log() - r)
        expected += torch.where(x_t[:, cell] == y, 0.0, term)
    torch.testing.assert_close(rate_divergence(process, x, x_t, log_probs, t), expected, rtol=1e-9, atol=1e-10)


def test_data_left_at_the_end_cost_their_divergence_from_noise():
    """Half of the data still there: ``KL(0.5 delta + 0.5 pi || pi)`` a cell, by summing over the classes."""
    half = schedules.PolynomialMask(eps_max=0.5)
    process = MixturePath((3, 2, 3), SOURCE, half)
    expected = torch.zeros(len(RAGGED.states), dtype=torch.float64)
    for cell, count in enumerate((3, 2, 3)):
        for y in range(count):
            pi = SOURCE[cell, y]
            q = 0.5 * (RAGGED.states[:, cell] == y).double() + 0.5 * pi
            expected += q * (q / pi).log()
    torch.testing.assert_close(prior_divergence(process, RAGGED.states), expected, rtol=0, atol=1e-12)
    found = measures.enumerated_elbo(exact_denoiser(RAGGED.probabilities, process), process, RAGGED.states)
    p = RAGGED.probabilities.flatten()
    assert float(p @ found.nats) < float(p @ p.log()) - 0.05
