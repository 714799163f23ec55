"""What steering says of rewards and settings that it cannot use."""

import pytest
import torch

from clarkia import samplers, steering
from clarkia.oracles import FiniteJoint, GaussianMixture
from clarkia.processes import Masked, RectifiedFlow
from clarkia.random import generator
from clarkia.steering import Rewarded, Twist

LAW = GaussianMixture([1.0], [[0.0, 0.0]], [[[1.0, 0.0], [0.0, 1.0]]])
PROCESS = RectifiedFlow()


def run(potential, **options):
    options = {"num_particles": 8, "num_steps": 3, "shape": (2,), "generator": generator(0), **options}
    return steering.run(LAW.denoiser(PROCESS), PROCESS, potential, **options)


class Jumps:
    """A solver without kernels."""

    def init(self, x, process, generator=None):
        return None

    def step(self, denoise, process, x, t, s, carry, generator=None):
        return denoise(x, t), None


def first(x):
    return x[:, 0]


@pytest.mark.parametrize(
    ("reward", "said"),
    [
        (lambda x: x, r"reward: expected one number a row, a tensor of shape \(8,\), found \(8, 2\)"),
        (lambda x: 3.0, "found float"),
        (lambda x: first(x) * torch.nan, "found nan in row 0"),
        (lambda x: torch.where(torch.arange(8) == 5, torch.inf, 0.0), "found inf in row 5"),
    ],
)
def test_rewards_that_are_no_numbers(reward, said):
    for kind in ("difference", "last"):
        with pytest.raises(ValueError, match=said):
            run(Rewarded(reward, kind=kind))
    with pytest.raises(ValueError, match="log_psi"):
        run(Twist(lambda moment: moment.x, first))


def test_a_target_that_no_particle_satisfies():
    nothing = run(Rewarded(lambda x: torch.full((8,), -torch.inf)))
    assert float(nothing.log_z) == -torch.inf
    assert not bool(nothing.log_weights.isnan().any())
    for use in (nothing.draw, nothing.mean):
        with pytest.raises(ValueError, match="none of the 8 particles of group 0 satisfies the target"):
            use()


def test_some_excluded_particles_are_never_drawn():
    found = run(Rewarded(lambda x: torch.where(first(x) > 0, 0.0, -torch.inf), kind="last"), num_particles=200)
    assert bool((first(found.draw(50, generator=generator(1))) > 0).all())
    assert float(found.log_z.exp()) == pytest.approx(0.5, abs=0.12)


def test_a_collapse_is_told_and_what_to_do():
    with pytest.warns(steering.CollapseWarning, match="200 particles are worth .* use more particles"):
        run(Rewarded(lambda x: 200 * first(x), kind="last"), num_particles=200)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_particles": 0}, "num_particles: expected at least 1, found 0"),
        ({"groups": 0}, "groups: expected at least 1"),
        ({"every": 0}, "every: expected at least 1"),
        ({"ess_threshold": 1.5}, "ess_threshold: expected a share from 0 to 1"),
        ({"ess_threshold": "sometimes"}, "ess_threshold"),
        ({"resample": "residual"}, "resample: expected one of"),
        ({"window": (0.2, 0.8)}, "window: expected times"),
        ({"rows_per_call": 0}, "rows_per_call: expected at least 1"),
        ({"proposal": LAW.denoiser(PROCESS), "solver": Jumps()}, "solver: expected one whose steps"),
    ],
)
def test_settings_out_of_range(options, said):
    with pytest.raises(ValueError, match=said):
        run(Rewarded(first), **options)


def test_an_initial_state_of_another_size():
    with pytest.raises(ValueError, match=r"initial: expected a state of groups \* num_particles = 8 rows, found 5"):
        run(Rewarded(first), initial=torch.zeros(5, 2), shape=None)


@pytest.mark.parametrize("proposal", [None, lambda x, t: torch.zeros(*x.shape, 3).log_softmax(-1)])
def test_solvers_whose_rows_have_times_of_their_own(proposal):
    """A copied particle would stand at its ancestor's state and at another row's time."""
    law = FiniteJoint(torch.full((3, 3), 1 / 9, dtype=torch.float64))
    options = {"num_particles": 4, "shape": (2,), "solver": samplers.FirstHitting(), "proposal": proposal}
    with pytest.raises(ValueError, match="solver: expected one whose rows share their times"):
        steering.run(law.denoiser(Masked(3)), Masked(3), Rewarded(lambda x: x[:, 0] * 1.0), **options)


def test_a_solver_with_times_that_all_rows_share_walks_them():
    """One position a step: as many steps as positions, and none of a grid."""
    law = FiniteJoint(torch.full((3, 3), 1 / 9, dtype=torch.float64))
    options = {"num_particles": 4, "shape": (2,), "solver": samplers.AnyOrder(samplers.policies.Position())}
    found = steering.run(law.denoiser(Masked(3)), Masked(3), Rewarded(lambda x: x[:, 0] * 1.0), **options)
    assert len(found.resampled) == 2
    # Two groups, of which one knows a position: each walks its own.
    known = (torch.tensor([[0, 0], [1, 0]]), torch.tensor([[False, False], [True, False]]))
    found = steering.run(
        law.denoiser(Masked(3)), Masked(3), Rewarded(lambda x: x[:, 0] * 1.0), groups=2, known=known, **options
    )
    assert found.x[4:, 0].eq(1).all()
    assert found.x.lt(3).all()
    with pytest.raises(ValueError, match="num_steps, times: expected neither"):
        steering.run(law.denoiser(Masked(3)), Masked(3), Rewarded(lambda x: x[:, 0] * 1.0), num_steps=9, **options)


def test_kinds_that_there_are_not():
    with pytest.raises(ValueError, match="kind: expected one of"):
        Rewarded(first, kind="product")
    with pytest.raises(ValueError, match="num_draws: expected at least 1"):
        steering.Foreseen(0)
