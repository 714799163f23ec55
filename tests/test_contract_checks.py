"""The checks shipped to users pass on the library's own parts and fail on each broken promise."""

import functools
import inspect
from dataclasses import dataclass

import pytest
import torch

from clarkia import samplers, testing
from clarkia.measures import two_sample
from clarkia.oracles import FiniteJoint, GaussianMixture, MixedJoint
from clarkia.processes import EDM, Masked, Mixed, RectifiedFlow
from clarkia.random import generator, randn
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


SYMMETRIC = {"symmetric": True}
DISTANCE = {"symmetric": True, "on_equal_sets": 0.0, "differentiable": True}
MEASURES = {
    two_sample.frechet_distance: ({}, DISTANCE),
    two_sample.mmd2: ({}, {"symmetric": True, "differentiable": True}),
    two_sample.kid: ({"size": 24, "subsets": 2}, SYMMETRIC),  # all rows: other subsets in another order otherwise
    two_sample.cmmd: ({}, DISTANCE),
    two_sample.mmd_permutation_test: ({"permutations": 5}, {"ordered": True}),
    two_sample.mmd_linear_test: ({}, SYMMETRIC | {"ordered": True}),
    two_sample.energy_distance: ({}, DISTANCE),
    two_sample.characteristic_distance: ({"n_frequencies": 16}, DISTANCE),
    two_sample.cauchy_schwarz: ({}, DISTANCE),
    two_sample.wasserstein_1d: ({}, DISTANCE),
    two_sample.sliced_wasserstein: ({"n_projections": 20}, DISTANCE),
    two_sample.max_sliced_wasserstein: ({"steps": 3}, DISTANCE),
    two_sample.sinkhorn_divergence: ({"blur": 1.0}, DISTANCE),
    two_sample.exact_wasserstein: ({}, DISTANCE),
    two_sample.prdc: ({"k": 3}, {}),
    two_sample.soft_precision_recall: ({"k": 3}, {}),
    two_sample.alpha_precision: ({"k": 3}, {}),
    two_sample.vendi_ratio: ({}, {"on_equal_sets": 1.0, "differentiable": True}),
}
MORE = {
    "biased discrepancy": (functools.partial(two_sample.mmd2, unbiased=False), DISTANCE),
    "p = 1": (functools.partial(two_sample.sinkhorn_divergence, blur=0.5, p=1), DISTANCE),
    "nuclear": (functools.partial(two_sample.frechet_distance, path="nuclear"), DISTANCE),
    "learned": (
        functools.partial(
            two_sample.characteristic_distance, frequencies=two_sample.LearnedFrequencies(2), n_frequencies=8
        ),
        {"ordered": True, "differentiable": True},
    ),
}
CHECKED = {f.__name__: (functools.partial(f, **options), facts) for f, (options, facts) in MEASURES.items()} | MORE


@pytest.mark.parametrize("width", [3, 40])  # distances from differences, and from products
@pytest.mark.parametrize("name", CHECKED)
def test_two_sample_measures(name, width):
    measure, facts = CHECKED[name]
    x, y = (randn((24, width), generator(seed), dtype=torch.float64) for seed in (8, 9))
    testing.check_measure(measure, x, 1.3 * y + 0.2, **facts)


def test_no_measure_of_two_sets_is_left_out():
    public = [getattr(two_sample, name) for name in two_sample.__all__]
    functions = [each for each in public if inspect.isfunction(each)]
    assert {f for f in functions if list(inspect.signature(f).parameters)[:2] == ["x", "y"]} == set(MEASURES)


def careless(x, y, chunk=5):
    """The distance of the means, without a look at the rows; each fault below is one more."""
    x, y = (torch.as_tensor(rows) for rows in (x, y))
    known = x.ndim == 2 and x.shape[1:] == y.shape[1:] and 0 not in (*x.shape, *y.shape)
    if not (known and bool((x.sum() + y.sum()).isfinite())):
        raise ValueError("y: expected the same columns.")
    return (x.double().mean(0) - y.double().mean(0)).square().sum()


NOISE = generator(10)
MISTAKES = {
    "finite": lambda x, y: careless(x, y) / 0.0,
    "same seed": lambda x, y: careless(x, y) + randn((1,), NOISE),
    "must be 0": lambda x, y: careless(x, y) + 1e-3,
    "exchanged": lambda x, y: careless(x, y) * torch.as_tensor(x).std(),
    "order of the rows": lambda x, y: careless(x, y) * (1 + torch.as_tensor(x)[0, 0] + torch.as_tensor(y)[0, 0]),
    "chunk": lambda x, y, chunk=5: careless(x, y) * chunk,
    "float32": lambda x, y: careless(x, y) + 1e-6 * (torch.as_tensor(x).dtype == torch.float32),
    "arrays": lambda x, y: careless(x, y) * (1 if isinstance(x, torch.Tensor) else 2),
    "alone": lambda x, y: careless(x.copy_(x.flip(0)) if isinstance(x, torch.Tensor) else x, y),
    "different widths": lambda x, y: careless(x[:, :2], y[:, :2]),
    "a NaN": lambda x, y: careless(x, torch.as_tensor(y).nan_to_num()),
    "no row": lambda x, y: careless(x, y) if len(y) else torch.zeros(()),
    "one row": lambda x, y: careless(x, y) * (1 if len(x) > 1 else torch.nan),
    "gradients": lambda x, y: careless(x, y).sqrt(),
}


@pytest.mark.parametrize(("words", "mistake"), MISTAKES.items())
def test_a_broken_measure_is_caught(words, mistake):
    x, y = (randn((12, 3), generator(seed), dtype=torch.float64) for seed in (11, 12))
    promises = {"symmetric": True, "on_equal_sets": 0.0, "differentiable": True}
    testing.check_measure(careless, x, y, **promises)
    with pytest.raises(AssertionError, match=words):
        testing.check_measure(mistake, x, y, **promises)
