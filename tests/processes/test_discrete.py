"""Discrete processes: the contract, composition of noise, schedules, and what is refused."""

import pytest
import torch
from scipy.stats import chisquare

from clarkia import samplers, schedules, testing
from clarkia.oracles import FiniteJoint
from clarkia.processes import Discrete, Masked, Mixed, MixturePath, RectifiedFlow, Uniform
from clarkia.random import RowBlocks, generator
from clarkia.samplers import Ancestral, Heun, MixtureStep, Renoised, TauLeaping

COUNTS = (3, 2)
SOURCE = [[0.5, 0.2, 0.3], [0.9, 0.1, 0.0]]
BY_COLUMN = schedules.PolynomialMask(torch.tensor([1.0, 2.0]), 1e-3, 1e-5)
PROCESSES = {
    "masked": Masked(COUNTS),
    "masked squared cosine": Masked(COUNTS, "cosine_squared"),
    "uniform": Uniform(COUNTS),
    "uniform geometric": Uniform(COUNTS, "geometric"),
    "uniform by column": Uniform(COUNTS, BY_COLUMN),
    "learned": Uniform(COUNTS, schedules.LearnedPolynomialMask(2).requires_grad_(False)),
    "source": MixturePath(COUNTS, SOURCE, "cosine_late"),
    "sparse source": MixturePath(3, [0.0, 1.0, 0.0]),
}
LEVELS = torch.tensor([[0, 1], [2, 0], [1, 1], [2, 1], [0, 0], [1, 0]])
JOINT = FiniteJoint([[0.1, 0.2], [0.3, 0.1], [0.1, 0.2]])
SOLVERS = [Ancestral(), TauLeaping(), TauLeaping("flow", 0.5), MixtureStep(), MixtureStep(0.5), Renoised(TauLeaping())]


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
def test_processes_keep_the_contract(process):
    testing.check_process(process, LEVELS)
    assert isinstance(process, Discrete)


@pytest.mark.parametrize("shape", [(), (3,), (2, 4, 4)])
@pytest.mark.parametrize("make", [Masked, Uniform])
def test_blocks_of_any_shape(make, shape):
    testing.check_process(make(4), torch.randint(0, 4, (5, *shape), generator=generator(0)))


def test_discrete_blocks_of_a_mixed_process():
    process = Mixed(numeric=RectifiedFlow(), levels=PROCESSES["source"], words=Masked(4))
    noise = generator(1)
    x0 = {
        "numeric": torch.randn(6, 3, generator=noise),
        "levels": LEVELS,
        "words": torch.randint(0, 4, (6, 5), generator=noise),
    }
    testing.check_process(process, x0)

    def denoise(x_t, t, condition=None):
        logits = {name: torch.zeros(*x_t[name].shape, process.blocks[name].max_classes) for name in ("levels", "words")}
        answer = {name: process.blocks[name].log_probs(part, x_t[name], t[name]) for name, part in logits.items()}
        return {"numeric": x_t["numeric"], **answer}

    times = {name: torch.full((6,), 0.4) for name in x0}
    assert set(denoise(x0, times)) == set(x0)
    for solver in SOLVERS:
        x = samplers.sample(
            denoise, process, num_samples=4, shape={"numeric": (3,), "levels": (2,), "words": (5,)}, num_steps=3,
            solver=samplers.Mixed(Heun(), solver), generator=RowBlocks(0, 0, 4),
        )  # fmt: skip
        assert bool((x["levels"] < torch.tensor(COUNTS)).all())
        assert bool((x["words"] < 4).all())


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["masked", "uniform", "uniform by column", "source"])
def test_solvers_keep_the_contract(name, solver):
    process = PROCESSES[name]
    x0 = JOINT.sample(20, generator=generator(2))
    testing.check_denoiser(flat_denoiser(process), process, x0)
    testing.check_solver(solver, process, flat_denoiser(process), x0)


def flat_denoiser(process):
    return lambda x, t, condition=None: process.log_probs(torch.zeros(*x.shape, process.max_classes), x, t)


def test_rows_do_not_depend_on_the_batch():
    process = PROCESSES["source"]
    for solver in SOLVERS:
        whole, part = (
            samplers.sample(
                flat_denoiser(process), process, num_samples=rows, shape=(2,), num_steps=3, solver=solver,
                generator=RowBlocks(3, start, rows),
            )
            for start, rows in ((0, 1500), (1010, 40))
        )  # fmt: skip
        assert torch.equal(whole[1010:1050], part)


FAULTS = {
    "one-hot": lambda process: lambda x, t: process.log_probs(torch.zeros(*x.shape, 3), x),
    "normalised": lambda process: lambda x, t: flat_denoiser(process)(x, t) + 0.1,
    "impossible": lambda process: lambda x, t: torch.full((*x.shape, 3), 1 / 3).log(),
}


@pytest.mark.parametrize(("words", "fault"), FAULTS.items())
def test_a_broken_denoiser_is_caught(words, fault):
    process = PROCESSES["uniform"]
    with pytest.raises(AssertionError, match=words):
        testing.check_denoiser(fault(process), process, LEVELS)


class Broken:
    """A process with one method replaced."""

    def __init__(self, process, **methods):
        self._process, self._methods = process, methods

    def __getattr__(self, name):
        return self._methods.get(name) or getattr(self._process, name)


BREAKS = {
    "rates must lead back": {"rates": lambda x, p, t: 2 * PROCESSES["uniform"].rates(x, p, t)},
    "score must lead back": {"score": lambda x, p, t: PROCESSES["uniform"].score(x, p, 0.9 * t)},
    "float64": {"log_emission": lambda x, t: PROCESSES["uniform"].log_emission(x, t).float()},
    "one-hot at t = 0": {"log_emission": lambda x, t: PROCESSES["uniform"].log_emission(x, 0.9 * t + 0.1)},
    "not negative": {"rates": lambda x, p, t: PROCESSES["uniform"].rates(x, p, t) - 0.1},
}


@pytest.mark.parametrize(("words", "methods"), BREAKS.items())
def test_a_broken_process_is_caught(words, methods):
    with pytest.raises(AssertionError, match=words):
        testing.check_process(Broken(PROCESSES["uniform"], **methods), LEVELS)


@pytest.mark.parametrize("name", ["masked", "source", "uniform by column"])
def test_noise_upon_noise_is_noise(name):
    """Corrupting to s and on to t draws from the same law as corrupting to t."""
    process, n = PROCESSES[name], 50_000
    x0 = torch.tensor([[2, 1]]).expand(n, 2)
    twice = process.renoise(process.corrupt(x0, 0.3, generator=generator(4)), 0.3, 0.7, generator=generator(5))
    alpha = process.alpha(torch.tensor([0.7], dtype=torch.float64)).expand(1, 2)[0]
    for cell, noise in enumerate(process.noise_probs().expand(2, -1)):
        law = (1 - alpha[cell]) * noise
        law[x0[0, cell]] += alpha[cell]
        counts = torch.bincount(twice[:, cell], minlength=len(law))
        assert counts[law == 0].sum() == 0
        assert chisquare(counts[law > 0].numpy(), (law[law > 0] * n).numpy()).pvalue > 1e-5  # false alarm 6e-5 in all
    assert torch.equal(process.renoise(x0, 0.0, 0.0), x0)


def test_the_prior_is_the_source():
    n = 50_000
    drawn = PROCESSES["source"].prior(n, generator=generator(6))
    for cell, noise in enumerate(torch.tensor(SOURCE, dtype=torch.float64)):
        counts = torch.bincount(drawn[:, cell], minlength=3)
        assert counts[noise == 0].sum() == 0
        assert chisquare(counts[noise > 0].numpy(), (noise[noise > 0] * n).numpy()).pvalue > 1e-4  # false alarm 2e-4
    assert tuple(Uniform(4).prior(3, (2, 5)).shape) == (3, 2, 5)
    assert PROCESSES["sparse source"].prior(2, (3,)).tolist() == [[1] * 3] * 2


def test_a_class_the_source_never_brings_is_certain():
    """Carrying over what is certain is a mixture path's mask rule: class 0 can only be data."""
    process = PROCESSES["sparse source"]
    x_t = torch.tensor([[0, 1, 2]])
    log_probs = process.log_probs(torch.zeros(1, 3, 3), x_t)
    assert log_probs.exp()[0].tolist() == [[1, 0, 0], [pytest.approx(1 / 3)] * 3, [0, 0, 1]]
    kernel = process.kernel(x_t, log_probs, 0.9, 0.1)
    assert kernel.table()[0, [0, 2]].exp().tolist() == [[1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    "schedule", [schedules.SquaredCosineMask(), schedules.GeometricMask(), schedules.GeometricMask(1e-3, 5.0)]
)
def test_schedules_invert_and_differentiate(schedule):
    t = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    moving = t.clone().requires_grad_()
    (slope,) = torch.autograd.grad(schedule.alpha(moving).sum(), moving)
    torch.testing.assert_close(slope, schedule.d_alpha(t), rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(schedule.t_of_alpha(schedule.alpha(t)), t, rtol=1e-9, atol=1e-9)


def test_the_ends_of_the_schedules():
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert schedules.SquaredCosineMask().alpha(ends).tolist() == [1, 0]
    geometric = torch.exp(-torch.tensor([1e-4, 20.0], dtype=torch.float64))
    torch.testing.assert_close(schedules.GeometricMask().alpha(ends), geometric, rtol=1e-12, atol=0)
    assert float(Uniform(3, "geometric").alpha(ends)[0]) == 1  # a process takes t = 0 itself as clean


ZEROS = torch.zeros(4, 2, dtype=torch.int64)
FLAT = torch.zeros(4, 2, 3)
PATH, MASKS = Uniform(COUNTS), Masked(COUNTS)
WRONG = {
    "class": (lambda: PATH.corrupt(LEVELS + 1, 0.5), "x0: expected classes from 0 to 1"),
    "noise class": (lambda: PATH.corrupt(ZEROS, 0.5, noise=ZEROS + 2), "noise: expected classes from 0 to 1"),
    "noise shape": (
        lambda: PATH.corrupt(ZEROS, 0.5, noise=ZEROS[:2]),
        r"noise: expected shape \(4, 2\), found \(2, 2\)",
    ),
    "time": (lambda: PATH.corrupt(ZEROS, 1.5), r"t: expected times in \[0, 1\]"),
    "time shape": (lambda: PATH.corrupt(ZEROS, torch.zeros(3)), r"\(4,\) or \(4, 2\), found \(3,\)"),
    "state": (lambda: PATH.kernel(ZEROS + 2, FLAT, 0.5, 0.1), "x_t: expected classes from 0 to 1"),
    "mask state": (lambda: MASKS.kernel(ZEROS + 3, FLAT, 0.5, 0.1), "x_t: expected classes from 0 to 2"),
    "prediction": (lambda: PATH.kernel(ZEROS, FLAT[:, :1], 0.5, 0.1), r"prediction: expected shape \(4, 2, 3\)"),
    "masked prediction": (lambda: MASKS.kernel(ZEROS, FLAT[..., :2], 0.5, 0.1), "prediction: expected shape"),
    "kernel time": (lambda: PATH.kernel(ZEROS, FLAT, 1.2, 0.1), r"t: expected times in \[0, 1\]"),
    "kernel end": (lambda: MASKS.kernel(ZEROS, FLAT, 0.5, -0.1), r"s: expected times in \[0, 1\]"),
    "upwards": (lambda: PATH.kernel(ZEROS, FLAT, 0.5, 0.75), "s: expected times at most t, found 0.25 above"),
    "logits": (lambda: PATH.log_probs(torch.zeros(4, 2, 4), ZEROS), r"logits: expected shape \(4, 2, 3\)"),
    "score": (lambda: PATH.log_probs_from_score(ZEROS, torch.zeros(4, 2), 0.5), "score: expected shape"),
    "rates": (lambda: MASKS.log_probs_from_rates(ZEROS, torch.zeros(4, 2), 0.5), "rates: expected shape"),
    "corrector": (lambda: PATH.flow_rates(ZEROS, FLAT, 0.5, corrector=-1.0), "corrector: expected a non-negative"),
    "emission": (lambda: MASKS.log_emission(ZEROS, torch.zeros(3)), "t: expected shape"),
    "sum": (lambda: MixturePath(3, [0.5, 0.5, 0.5]), "source: .* found sum 1.5"),
    "negative": (lambda: MixturePath(3, [1.5, -0.5, 0.0]), "minimum -0.5"),
    "source shape": (lambda: MixturePath(3, [0.5, 0.5]), r"source: expected shape \(3,\) or \(m, 3\), found \(2,\)"),
    "source rows": (lambda: MixturePath(COUNTS, [1.0, 0.0, 0.0]), r"source: expected shape \(2, 3\), found \(3,\)"),
    "lacking": (lambda: MixturePath(COUNTS, [[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]), "classes a position lacks"),
    "prior": (lambda: Uniform(3).prior(4), "shape: expected the shape of one data point"),
    "prior rows": (lambda: PATH.prior(4, (3,)), r"shape: expected \(2,\) as the source has, found \(3,\)"),
    "schedule": (lambda: Uniform(3, "cosinus"), "schedule: expected one of .*'geometric'.* found 'cosinus'"),
    "schedule kind": (lambda: Uniform(3, 0.5), "an object with alpha, d_alpha and t_of_alpha, found float"),
    "counts": (lambda: Uniform(0), "num_classes: expected at least one class"),
    "geometric": (lambda: schedules.GeometricMask(1.0, 0.5), "0 < sigma_min < sigma_max"),
}


@pytest.mark.parametrize(("call", "words"), WRONG.values(), ids=WRONG.keys())
def test_wrong_arguments_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
