"""Particles of a linear measurement against the exact posteriors of mixtures."""

import math
import warnings

import pytest
import torch

from clarkia import guidance, samplers, schedules, steering
from clarkia.measures import sliced_wasserstein
from clarkia.operators import Dense, Mask
from clarkia.oracles import GaussianMixture
from clarkia.processes import RectifiedFlow, VarianceExploding
from clarkia.random import generator
from clarkia.samplers.solver import run as run_stages
from clarkia.steering.measurements import Seen

LAW = GaussianMixture(
    [0.5, 0.3, 0.2],
    [[-2.0, 0.0], [2.0, 1.0], [0.0, -3.0]],
    [[[0.5, 0.2], [0.2, 0.3]], [[0.2, 0.0], [0.0, 0.6]], [[0.4, -0.1], [-0.1, 0.2]]],
)
ROW, Y = torch.tensor([[1.0, 0.5]], dtype=torch.float64), torch.tensor([0.6], dtype=torch.float64)
PROCESS = VarianceExploding(sigma_min=0.01, sigma_max=20.0)
TIMES = schedules.karras(200, PROCESS)
LOG_Z = {0.3: -4.8167, 1.0: -2.7684}
SAMPLES = 4000


def run(potential, proposal=None, seed=0, **options):
    options = {"times": TIMES, "num_particles": SAMPLES} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", steering.CollapseWarning)
        return steering.run(
            LAW.denoiser(PROCESS), PROCESS, potential, proposal=proposal, shape=(2,), dtype=torch.float64,
            generator=generator(seed), **options,
        )  # fmt: skip


def distance(particles, noise_std):
    truth = LAW.posterior(ROW, Y, noise_std).sample(SAMPLES, generator=generator(50))
    return float(sliced_wasserstein(particles.draw(SAMPLES, generator=generator(51)), truth))


@pytest.mark.parametrize("noise_std", LOG_Z)
@pytest.mark.parametrize(("width", "data_std"), [("kappa", 1.0), ("posterior", 1.0)])
def test_twisted_particles_reach_the_posterior(noise_std, width, data_std):
    """The marks of the published comparison: .1 nats and a distance of .2, of which .05 is between two samples."""
    found = run(steering.measured(Dense(ROW), Y, noise_std, width=width, data_std=data_std))
    assert float(found.log_z) == pytest.approx(LOG_Z[noise_std], abs=0.1)
    assert distance(found, noise_std) < 0.2


@pytest.mark.parametrize("noise_std", [0.3])
def test_a_guided_proposal_leaves_the_posterior_as_it_is(noise_std):
    process = PROCESS
    guided = guidance.linear(LAW.denoiser(process), process, Dense(ROW), Y, noise_std, method="pigdm")
    found = run(steering.measured(Dense(ROW), Y, noise_std, width="posterior"), guided)
    assert float(found.log_z) == pytest.approx(LOG_Z[noise_std], abs=0.1)
    assert distance(found, noise_std) < 0.2


@pytest.mark.parametrize("noise_std", LOG_Z)
def test_annealed_particles_reach_the_posterior(noise_std):
    found = run(*steering.annealed(Dense(ROW), Y, noise_std), seed=1)
    assert float(found.log_z) == pytest.approx(LOG_Z[noise_std], abs=0.1)
    assert distance(found, noise_std) < 0.2
    assert int(found.resampled.sum()) <= 4


def test_the_published_path_loses_nearly_all_its_particles():
    """Without annealing the weights rest on a handful of ancestors: -45 and one ancestor were published."""
    found = run(*steering.annealed(Dense(ROW), Y, 0.3, gamma=0.0))
    assert float(found.log_z) < -20
    assert int(found.num_ancestors) < 20


def test_the_weighted_mean_of_a_normal_law_is_its_kalman_mean():
    """Within 3 standard errors of as many independent draws as the weights are worth."""
    law = GaussianMixture([1.0], [[0.5, -1.0, 0.0]], [[[1.0, 0.3, 0.0], [0.3, 0.5, 0.2], [0.0, 0.2, 0.8]]])
    matrix = torch.tensor([[1.0, 0.0, 1.0], [0.0, 2.0, -1.0]], dtype=torch.float64)
    y, posterior = torch.tensor([1.0, -1.0], dtype=torch.float64), None
    posterior = law.posterior(matrix, y, 0.4)
    # Three times the noise: at twice, weights of this law have tails that a few particles rule (log Z to .2, not .05).
    potential, proposal = steering.annealed(Dense(matrix), y, 0.4, gamma=3.0)
    found = steering.run(
        law.denoiser(PROCESS), PROCESS, potential, proposal=proposal, num_particles=4096, shape=(3,),
        times=schedules.karras(400, PROCESS), dtype=torch.float64, generator=generator(2),
    )  # fmt: skip
    error = (found.mean()[0] - posterior.mean).abs()
    deviation = posterior.covariance.diagonal().sqrt()
    assert bool((error < 3 * deviation / math.sqrt(float(found.num_ancestors)) + 0.01).all())
    assert float(found.log_z) == pytest.approx(float(posterior.log_z), abs=0.1)


@pytest.mark.parametrize("order", [1, 2])
def test_the_weight_of_the_best_proposal_does_not_depend_on_its_draw(order):
    """What a particle weighs after a step is the same for all draws from one place."""
    solver, denoise = samplers.DPMSolverPP(order, stochasticity=1.0), LAW.denoiser(PROCESS)
    _, proposal = steering.annealed(Dense(ROW), Y, 0.3, solver=solver)
    x = torch.tensor([[0.4, -1.0]], dtype=torch.float64).expand(5, 2).clone()
    t, s = torch.full((5,), 0.6, dtype=torch.float64), torch.full((5,), 0.5, dtype=torch.float64)
    before = (denoise(x, t + 0.1) + 0.2, t + 0.1)  # a prediction of the step before, which the second order reads
    x_s, carry, ratio = proposal.step(denoise, PROCESS, x, t, s, (before,), generator(3))
    assert len(x_s.unique(dim=0)) == 5
    assert len(carry) == order - 1
    kappa = PROCESS.kappa(s)
    after = proposal.seen.log_density(x_s, torch.zeros(5, dtype=torch.float64), 0.09 + 4 * kappa**2)
    moment = steering.Moment(x, t, s, denoise(x, t), PROCESS, (before,))
    assert torch.allclose(ratio + after, proposal.ahead(moment), rtol=0, atol=1e-10)
    # The draws have the mean and the spread of the product of the step and the likelihood.
    many = 200_000
    wide = [part[:1].expand(many, *part.shape[1:]) for part in (x, t, s)]
    history = tuple(part[:1].expand(many, *part.shape[1:]) for part in before)
    drawn = proposal.step(denoise, PROCESS, *wide, (history,), generator(4))[0]
    step, _ = run_stages(solver.stages(PROCESS, x[:1], t[:1], s[:1], (tuple(part[:1] for part in before),)), denoise)
    variance = (torch.eye(2, dtype=torch.float64) * step.std**2).tolist()
    prior = GaussianMixture([1.0], step.mean.tolist(), [variance])
    truth = prior.posterior(ROW, Y, float((0.09 + 4 * kappa[0] ** 2).sqrt()))
    scale = truth.covariance.diagonal().sqrt()
    assert bool(((drawn.mean(0) - truth.mean).abs() < 4 * scale / math.sqrt(many)).all())
    assert torch.allclose(drawn.T.cov(), truth.covariance, atol=4 * 1.5 * float(scale.max()) ** 2 / math.sqrt(many))


def test_solvers_that_ask_twice_a_step_are_refused():
    """What a particle weighs is wanted before its step, with one prediction at hand."""
    solver = samplers.DPMSolverPPSinglestep(stochasticity=1.0)
    potential, proposal = steering.annealed(Dense(ROW), Y, 0.3, solver=solver)
    with pytest.raises(ValueError, match="solver: expected one with a single evaluation a step"):
        steering.run(LAW.denoiser(PROCESS), PROCESS, potential, proposal=proposal, num_particles=4, shape=(2,))


def test_densities_along_the_directions_that_are_seen():
    matrix = torch.randn(3, 4, generator=generator(5), dtype=torch.float64)
    matrix[2] = matrix[0] - matrix[1]  # of rank 2
    y, x = torch.randn(3, generator=generator(6)).double(), torch.randn(6, 4, generator=generator(7)).double()
    weight = torch.linspace(0.0, 2.0, 6, dtype=torch.float64)
    found = Seen.of(Dense(matrix), y, 0.5).log_density(x, weight)
    for row in range(6):
        covariance = weight[row] * matrix @ matrix.T + 0.25 * torch.eye(3, dtype=torch.float64)
        law = torch.distributions.MultivariateNormal(matrix @ x[row], covariance)
        assert float(found[row]) == pytest.approx(float(law.log_prob(y)), abs=1e-10)


def test_a_flow_starts_where_nothing_is_seen():
    """At t = 1 a flow's state has no signal: the first likelihood is flat, and nothing is infinite."""
    process = RectifiedFlow()
    for potential, proposal in (
        steering.annealed(Dense(ROW), Y, 0.3),
        (steering.measured(Dense(ROW), Y, 0.3), None),
    ):
        found = steering.run(
            LAW.denoiser(process), process, potential, proposal=proposal, num_particles=2000, num_steps=200,
            shape=(2,), dtype=torch.float64, generator=generator(8),
        )  # fmt: skip
        assert float(found.log_z) == pytest.approx(LOG_Z[0.3], abs=0.2)


def test_a_measurement_a_group():
    y = torch.tensor([[0.6], [-1.5]], dtype=torch.float64).repeat_interleave(SAMPLES, 0)
    found = run(steering.measured(Dense(ROW), y, 0.3), groups=2)
    truth = [float(LAW.posterior(ROW, one, 0.3).log_z) for one in y[::SAMPLES]]
    assert found.log_z.tolist() == pytest.approx(truth, abs=0.1)


def test_what_cannot_be_weighed():
    with pytest.raises(ValueError, match="noise_std: expected a positive number, found 0"):
        steering.measured(Dense(ROW), Y, 0.0)
    with pytest.raises(ValueError, match="width: expected"):
        steering.measured(Dense(ROW), Y, 0.3, width="wide")
    with pytest.raises(ValueError, match="gamma: expected a non-negative number"):
        steering.annealed(Dense(ROW), Y, 0.3, gamma=-1)
    with pytest.raises(ValueError, match="y: expected"):
        steering.annealed(Dense(ROW), torch.zeros(3), 0.3)
    potential, proposal = steering.annealed(Mask(torch.tensor([True, False])), torch.zeros(1), 0.3)
    known = (torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[True, False]]))
    with pytest.raises(ValueError, match="one time a row"):
        run(potential, proposal, num_particles=4, known=known)
