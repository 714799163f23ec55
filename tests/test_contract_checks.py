"""The checks shipped to users pass on the library's own parts and fail on each broken promise."""

from dataclasses import dataclass

import pytest
import torch

from clarkia import samplers, testing
from clarkia.oracles import FiniteJoint, GaussianMixture, MixedJoint
from clarkia.processes import EDM, Masked, Mixed, RectifiedFlow
from clarkia.random import generator
from clarkia.samplers import Ancestral, DPMSolverPP, Euler, Heun

MIXTURE = GaussianMixture([0.4, 0.6], [[-1.0, 0.0], [1.0, 0.5]], [[[0.3, 0.1], [0.1, 0.2]]] * 2)
JOINT = FiniteJoint([[0.1, 0.2], [0.3, 0.1], [0.1, 0.2]])
BOTH = MixedJoint([0.5, 0.5], [[-1.0], [1.0]], 0.2)
BOTH_PROCESS = Mixed(numeric=EDM, levels=Masked((2,)))


def test_oracles_are_denoisers():
    testing.check_denoiser(MIXTURE.denoiser(EDM), EDM, MIXTURE.sample(20, generator=generator(0)))
    testing.check_denoiser(MIXTURE.denoiser(RectifiedFlow()), RectifiedFlow(), MIXTURE.sample(20).float())
    testing.check_denoiser(JOINT.denoiser(Masked((3, 2))), Masked((3, 2)), JOINT.sample(20, generator=generator(1)))
    testing.check_denoiser(BOTH.denoiser(BOTH_PROCESS), BOTH_PROCESS, BOTH.sample(20, generator=generator(2)))


@pytest.mark.parametrize("solver", [Euler(), Heun(), Heun(churn=5.0), DPMSolverPP(), DPMSolverPP(stochasticity=1.0)])
@pytest.mark.parametrize("process", [EDM, RectifiedFlow()])
def test_gaussian_solvers(solver, process):
    testing.check_solver(solver, process, MIXTURE.denoiser(process), MIXTURE.sample(20, generator=generator(3)))


@pytest.mark.parametrize("order", ["independent", "stratified"])
@pytest.mark.parametrize("remask", [0.0, 2.0])
def test_masked_and_mixed_solvers(order, remask):
    solver, process = Ancestral(order, remask=remask), Masked((3, 2))
    testing.check_solver(solver, process, JOINT.denoiser(process), JOINT.sample(20, generator=generator(4)))
    mixed = samplers.Mixed(Heun(churn=remask), solver)
    testing.check_solver(mixed, BOTH_PROCESS, BOTH.denoiser(BOTH_PROCESS), BOTH.sample(20, generator=generator(5)))


@dataclass
class Broken(samplers.Staged):
    """Euler with one of several faults."""

    fault: str
    seen: int = 0

    def init(self, x, process, generator=None):
        return None

    def stages(self, process, x, t, s, carry, generator=None):
        x0_hat = yield x, t
        if self.fault == "drifts":
            return process.kernel(x, x0_hat, t, s, eta=0.0).mean + 0.1, None
        if self.fault == "remembers":
            self.seen += 1
        return process.kernel(x, x0_hat, t, s, eta=0.0).mean, None


@pytest.mark.parametrize(("fault", "words"), [("drifts", "no length"), ("remembers", "nothing on itself")])
def test_a_broken_solver_is_caught(fault, words):
    with pytest.raises(AssertionError, match=words):
        testing.check_solver(Broken(fault), EDM, MIXTURE.denoiser(EDM), MIXTURE.sample(6, generator=generator(6)))


FAULTS = {
    "at t = 0": lambda x, t, exact: exact + 1e-3,
    "finite": lambda x, t, exact: exact / 0.0,
    "beside it": lambda x, t, exact: torch.where(_zero(t, x), x, exact + x.mean()),
    "shape": lambda x, t, exact: exact[:, :1],
}


def _zero(t, x):
    return (t if t.shape == x.shape else t[:, None]) == 0


@pytest.mark.parametrize(("words", "fault"), FAULTS.items())
def test_a_broken_denoiser_is_caught(words, fault):
    exact = MIXTURE.denoiser(EDM)
    with pytest.raises(AssertionError, match=words):
        testing.check_denoiser(lambda x, t: fault(x, t, exact(x, t)), EDM, MIXTURE.sample(20, generator=generator(7)))


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("normalised", lambda answer: answer + 0.1),
        ("NaN", lambda answer: answer * torch.nan),
        ("one-hot", lambda answer: JOINT.probabilities.log().logsumexp(1).expand(20, 2, 3).log_softmax(-1)),
    ],
)
def test_broken_log_probabilities_are_caught(words, fault):
    process = Masked((3, 3))
    exact = FiniteJoint(torch.full((3, 3), 1 / 9)).denoiser(process)
    with pytest.raises(AssertionError, match=words):
        testing.check_denoiser(lambda x, t: fault(exact(x, t)), process, torch.zeros(20, 2, dtype=torch.int64))


def test_a_broken_process_is_caught():
    class Noisy:
        def corrupt(self, x0, t, *, generator=None):
            return x0 + 1e-3

    with pytest.raises(AssertionError, match="return x0 exactly"):
        testing.check_process(Noisy(), torch.zeros(4, 2))
