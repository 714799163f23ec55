"""Particles against closed forms: normalisers, tilted laws, and what must not depend on how they are run."""

import math
import warnings

import numpy as np
import pytest
import torch

from clarkia import samplers, schedules, steering
from clarkia.guidance.guided import Guided
from clarkia.oracles import FiniteJoint, GaussianMixture, MixedJoint
from clarkia.processes import Masked, Mixed, RectifiedFlow, VarianceExploding
from clarkia.random import RowBlocks, generator
from clarkia.steering import Foreseen, Rewarded, Twist

SCALE = 2.0


def joint():
    """The law and the reward of the published comparison, 3 x 3 x 3."""
    noise = np.random.default_rng(7)
    table = noise.dirichlet(np.full(27, 0.5)).reshape(3, 3, 3)
    return FiniteJoint(table), torch.from_numpy(noise.normal(size=(3, 3, 3)))


LAW, REWARD = joint()
TILTED = LAW.tilt(SCALE * REWARD)
PROCESS = Masked(3)
ONE_A_STEP = {"num_steps": 3, "solver": samplers.Ancestral("stratified"), "shape": (3,)}


def reward(x):
    return REWARD.flatten()[LAW.cell(x)]


def variation(particles, target):
    """Total variation of the weighted particles to the target."""
    found = torch.zeros(27, dtype=torch.float64)
    found.index_add_(0, LAW.cell(particles.x), particles.log_weights.exp().flatten() / particles.groups)
    return float((found - target.probabilities.flatten()).abs().sum() / 2)


def steered(potential, particles=20_000, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", steering.CollapseWarning)
        return steering.run(
            LAW.denoiser(PROCESS), PROCESS, potential, num_particles=particles, **{**ONE_A_STEP, **options}
        )


def test_the_reference_tilt():
    assert float(TILTED.log_z) == pytest.approx(1.4663, abs=1e-4)
    assert 0.5 * float((TILTED.probabilities - LAW.probabilities).abs().sum()) == pytest.approx(0.616, abs=1e-3)


# Allowed: three times the largest distance of several published runs of the same size, and for the normaliser four
# times its deviation over seeds.
@pytest.mark.parametrize(
    ("kind", "far", "off"),
    [("difference", 0.045, 0.06), ("max", 0.09, 0.06), ("sum", 0.22, 0.2), ("last", 0.033, 0.04)],
)
def test_every_kind_of_steering_reaches_the_tilt(kind, far, off):
    potential = Rewarded(reward, SCALE, kind, Foreseen(16))
    found = steered(potential, ess_threshold="always", generator=generator(1))
    assert variation(found, TILTED) < far
    assert float(found.log_z) == pytest.approx(float(TILTED.log_z), abs=off)


@pytest.mark.parametrize("kind", ["difference", "max", "sum", "last"])
@pytest.mark.parametrize("threshold", ["always", "never", 0.5])
def test_weights_are_kept_between_copies(kind, threshold):
    """The standard error of a weighted mean of 20,000 bounds the distance; the plain law is .616 away."""
    found = steered(Rewarded(reward, SCALE, kind, Foreseen(16)), ess_threshold=threshold, generator=generator(2))
    assert variation(found, TILTED) < (0.22 if kind == "sum" else 0.03)
    assert float(found.log_z) == pytest.approx(float(TILTED.log_z), abs=0.2 if kind == "sum" else 0.06)


def exact_twist(law, tilted, process):
    """``log E[exp(reward) | x_t]``, by the two laws' densities of the same noisy state."""

    def log_psi(moment):
        ratio = tilted.noisy_log_prob(process, moment.x, moment.t) - law.noisy_log_prob(process, moment.x, moment.t)
        return tilted.log_z + ratio

    return log_psi


def exactly_twisted():
    return Twist(exact_twist(LAW, TILTED, PROCESS), lambda x: SCALE * reward(x))


def guided(plain, other):
    return Guided(lambda x, t, condition=None: (plain(x, t), other(x, t)))


def test_an_exact_twist_and_proposal_leave_nothing_to_chance():
    """Every particle weighs exactly Z, whatever it is: the evidence has no variance."""
    proposal = guided(LAW.denoiser(PROCESS), TILTED.denoiser(PROCESS))
    found = steered(exactly_twisted(), 7, groups=3, proposal=proposal, ess_threshold="never")
    assert torch.allclose(found.log_z, TILTED.log_z.expand(3), rtol=0, atol=1e-10)
    assert torch.allclose(found.log_weights, torch.full((3, 7), -math.log(7), dtype=torch.float64), atol=1e-10)


@pytest.mark.parametrize("copies", ["always", "never"])
def test_a_wrong_proposal_is_paid_for(copies):
    """Particles that follow a law they should not are weighted back to the one they should."""
    other = FiniteJoint(LAW.probabilities.flip(0) * 0.5 + 0.5 / 27)
    proposal = guided(LAW.denoiser(PROCESS), other.denoiser(PROCESS))
    none = Twist(lambda moment: torch.zeros(len(moment.x)), lambda x: torch.zeros(len(x)))
    found = steered(none, proposal=proposal, ess_threshold=copies, generator=generator(3))
    assert variation(found, LAW) < 0.03
    assert float(found.log_z) == pytest.approx(0, abs=0.05)


def test_normalisers_are_unbiased():
    """Means of exp(log_z) over 4,000 groups of 4, within 4 standard errors (false alarm 1 in 15,000 a case)."""
    truth = float(TILTED.log_z.exp())
    for kind in ("difference", "max", "last"):
        found = steered(Rewarded(reward, SCALE, kind), 4, groups=4000, generator=generator(4)).log_z.exp()
        assert abs(float(found.mean()) - truth) < 4 * float(found.std()) / math.sqrt(4000)


MIXTURE = GaussianMixture([0.6, 0.4], [[-1.0, 0.0], [2.0, 1.0]], [[[0.4, 0.1], [0.1, 0.3]], [[0.2, 0.0], [0.0, 0.5]]])
OPERATOR, Y, NOISE = torch.tensor([[1.0, 0.5]], dtype=torch.float64), torch.tensor([0.6], dtype=torch.float64), 0.5
POSTERIOR = MIXTURE.posterior(OPERATOR, Y, NOISE)


def log_likelihood(x):
    gap = (Y - x.double() @ OPERATOR.mT)[:, 0] / NOISE
    return -0.5 * gap**2 - math.log(NOISE * math.sqrt(2 * math.pi))


@pytest.mark.parametrize("process", [VarianceExploding(), RectifiedFlow()], ids=["exploding", "flow"])
def test_twisted_particles_of_a_mixture(process):
    """With the exact twist and proposal only the steps' own error is left, which halves with them."""
    proposal = guided(MIXTURE.denoiser(process), POSTERIOR.denoiser(process))
    twist = Twist(exact_twist(MIXTURE, POSTERIOR, process), log_likelihood)
    gaps = []
    for steps in (100, 200):
        times = schedules.karras(steps, process) if isinstance(process, VarianceExploding) else None
        found = steering.run(
            MIXTURE.denoiser(process),
            process,
            twist,
            num_particles=4096,
            proposal=proposal,
            generator=generator(5),
            shape=(2,),
            dtype=torch.float64,
            **({"num_steps": steps} if times is None else {"times": times}),
        )
        gaps.append(abs(float(found.log_z) - float(POSTERIOR.log_z)))
        error = (found.mean() - POSTERIOR.mean)[0].abs().max()
        assert float(error) < 0.06
    assert max(gaps) < 0.05


def test_a_mixed_law_is_tilted_in_both_blocks():
    """Steps of first order are .04 off here; the rest is three standard errors of 4,096 particles."""
    pi = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    law = MixedJoint(pi, [[-1.5], [0.0], [2.0]], [[[0.3]], [[0.2]], [[0.4]]])
    prize = torch.tensor([0.0, 1.0, 0.5], dtype=torch.float64)
    tilted = law.tilt(prize, slope=[0.7])
    categories, numbers = law.categorical, law.numeric
    process = Mixed.from_blocks({categories: Masked(3), numbers: RectifiedFlow()})
    value = lambda x: prize[x[categories][:, 0]] + 0.7 * x[numbers][:, 0].double()  # noqa: E731
    for proposal in (None, guided(law.denoiser(process), tilted.denoiser(process))):
        found = steering.run(
            law.denoiser(process),
            process,
            Rewarded(value, look=Foreseen(2)),
            num_particles=4096,
            proposal=proposal,
            num_steps=150,
            shape=law.space,
            dtype=torch.float64,
            generator=generator(6),
        )
        weights = found.log_weights.exp()[0]
        shares = torch.zeros(3, dtype=torch.float64).index_add_(0, found.x[categories][:, 0], weights)
        truth = tilted.sample(200_000, generator=generator(7))
        assert float(found.log_z) == pytest.approx(float(tilted.log_z), abs=0.05)
        assert float((shares - torch.bincount(truth[categories][:, 0], minlength=3) / 200_000).abs().sum() / 2) < 0.03
        mean = float((weights * found.x[numbers][:, 0]).sum())
        assert mean == pytest.approx(float(truth[numbers].mean()), abs=0.12)


@pytest.mark.parametrize("scheme", ["systematic", "stratified", "multinomial"])
def test_particles_are_copied_in_proportion_to_their_weights(scheme):
    log_weights = torch.tensor([[0.1, 0.0, 0.35, 0.05, 0.5]], dtype=torch.float64).log().expand(20_000, 5)
    chosen = steering.ancestors(log_weights, scheme, generator(8))
    counts = torch.nn.functional.one_hot(chosen, 5).sum(1).double()
    expected = 5 * log_weights[0].exp()
    assert torch.all((counts.mean(0) - expected).abs() <= 4 * counts.std(0) / math.sqrt(20_000))
    assert float(counts[:, 1].max()) == 0
    if scheme == "systematic":
        assert torch.all((counts - expected).abs() < 1)


def test_effective_sizes():
    assert float(steering.effective_size(torch.zeros(7, dtype=torch.float64))) == pytest.approx(7)
    assert float(steering.effective_size(torch.tensor([0.0, -torch.inf, -torch.inf]))) == 1
    assert float(steering.effective_size(torch.full((3,), -torch.inf))) == 0
    # Scaled by a constant of any size.
    assert float(steering.effective_size(torch.tensor([1e4, 1e4], dtype=torch.float64))) == pytest.approx(2)


def test_groups_do_not_mix_and_do_not_depend_on_each_other():
    potential = Rewarded(reward, SCALE)
    noise = lambda rows: RowBlocks(3, 0, rows, block=8)  # noqa: E731
    both = steered(potential, 8, groups=5, generator=noise(40), ess_threshold=0.9)
    alone = steered(potential, 8, groups=1, generator=noise(8), ess_threshold=0.9)
    assert torch.equal(both.group(0), alone.x)
    assert torch.equal(both.log_z[:1], alone.log_z)
    assert bool(both.resampled.any())
    assert 0 <= int(both.ancestry.min()) <= int(both.ancestry.max()) < 8


def test_parts_of_the_particles_are_the_whole():
    potential = exactly_twisted()
    proposal = guided(LAW.denoiser(PROCESS), TILTED.denoiser(PROCESS))
    runs = [steered(potential, 50, proposal=proposal, generator=generator(9), rows_per_call=rows) for rows in (None, 7)]
    assert torch.equal(runs[0].x, runs[1].x)


def test_no_call_is_larger_than_what_was_allowed():
    """Of the model and of a proposal that is a denoiser of its own."""
    seen = []

    def counted(denoiser):
        def asked(x, t, *condition):
            seen.append(len(x))
            return denoiser(x, t, *condition)

        return asked

    law, tilted = (counted(joint.denoiser(PROCESS)) for joint in (LAW, TILTED))
    steering.run(law, PROCESS, Rewarded(reward), num_particles=50, proposal=tilted, rows_per_call=7, **ONE_A_STEP)
    assert max(seen) == 7


def test_a_condition_a_group():
    seen = []

    def denoiser(x, t, condition=None):
        seen.append(condition)
        return LAW.denoiser(PROCESS)(x, t)

    labels = torch.tensor([4, 5])
    steering.run(denoiser, PROCESS, Rewarded(reward), num_particles=3, groups=2, condition=labels, **ONE_A_STEP)
    assert all(torch.equal(given, torch.tensor([4, 4, 4, 5, 5, 5])) for given in seen)
    seen.clear()
    steering.run(denoiser, PROCESS, Rewarded(reward), num_particles=3, condition=labels[:1], **ONE_A_STEP)
    assert all(torch.equal(given, torch.tensor([4, 4, 4])) for given in seen)


def test_known_cells_stay_and_the_rest_is_the_tilt_given_them():
    known = (torch.tensor([[2, 0, 0]]), torch.tensor([[True, False, False]]))
    found = steered(Rewarded(reward, SCALE), known=known, generator=generator(10))
    assert bool((found.x[:, 0] == 2).all())
    given = torch.zeros_like(TILTED.probabilities)
    given[2] = TILTED.probabilities[2] / TILTED.probabilities[2].sum()
    assert variation(found, FiniteJoint(given)) < 0.03


def test_each_step_asks_the_denoiser_once():
    """Weighing, copying and following a guided denoiser use the prediction that the step needs anyway."""
    calls = []

    def both(x, t, condition=None):
        calls.append(len(x))
        return LAW.denoiser(PROCESS)(x, t), TILTED.denoiser(PROCESS)(x, t)

    def denoiser(x, t, condition=None):
        calls.append(len(x))
        return LAW.denoiser(PROCESS)(x, t)

    options = {"num_particles": 16, **ONE_A_STEP, "ess_threshold": "always"}
    steering.run(denoiser, PROCESS, Rewarded(reward, look=Foreseen(2)), **options)
    assert calls == [16, 16, 16]
    calls.clear()
    steering.run(denoiser, PROCESS, exactly_twisted(), proposal=Guided(both), **options)
    assert calls == [16, 16, 16]


def test_draws_of_particles_are_a_function_of_the_noise_and_of_their_weights():
    found = steered(Rewarded(reward, SCALE), 50, groups=3, generator=generator(11), ess_threshold="never")
    draws = [found.draw(120, generator=RowBlocks(1, 0, 150, block=50)) for _ in range(2)]
    assert torch.equal(*draws)
    assert draws[0].shape == (360, 3)
    many = found.draw(20_000, generator=generator(12))
    shares = torch.bincount(LAW.cell(many[:20_000]), minlength=27) / 20_000
    weights = torch.zeros(27, dtype=torch.float64).index_add_(0, LAW.cell(found.group(0)), found.log_weights[0].exp())
    assert float((shares - weights).abs().max()) < 0.02
