"""Solvers of inverse problems: DDRM, DPS's released form, RePaint and FlowChef, each at its own formulas."""

import math
from itertools import pairwise

import pytest
import torch
from mix_three import LAW, LINE, Y, distance_to_posterior

from clarkia import samplers
from clarkia.guidance import flowchef
from clarkia.operators import Blur, Dense, Downsample, Mask
from clarkia.oracles import GaussianMixture
from clarkia.processes import EDM, RectifiedFlow, VarianceExploding, VariancePreserving
from clarkia.random import generator, randn
from clarkia.samplers import DDIM, DDPM, DDRM, DPS, Euler, FlowChef, Heun, RePaint
from clarkia.testing import check_solver

PROCESSES = {"edm": EDM, "vp": VariancePreserving(), "flow": RectifiedFlow()}
each_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
MATRIX = torch.tensor([[1.0, 0.5, 0.0, 0.0], [0.0, 0.1, 0.1, 0.0], [1.0, 0.6, 0.1, 0.0]], dtype=torch.float64)
CLEAN = torch.tensor([0.5, -0.3, 0.8, 0.1], dtype=torch.float64)


def half_way(x, t, condition=None):
    """A denoiser with a gradient: observed elements stay."""
    return torch.where(t.reshape(len(x), -1) > 0, 0.5 * x + 0.1 * x.sin(), x)


SOLVERS = {
    "ddrm": DDRM(Dense(MATRIX), torch.zeros(3), 0.1),
    "dps": DPS(Dense(MATRIX), torch.ones(3), 0.1),
    "repaint": RePaint(torch.zeros(1, 4), torch.tensor([[True, False, False, True]]), jump=3, resamples=2),
    "flowchef": FlowChef(lambda x0: (x0 - 1).square().sum(1), 0.1, inner=2),
}


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
@each_process
def test_the_contract_of_a_solver(solver, process):
    check_solver(solver, process, half_way, randn((6, 4), generator(0)))


# ------------------------------------------------------------------------------------------------------ DDRM


@each_process
@pytest.mark.parametrize("noise_std", [0.0, 0.1])
@pytest.mark.parametrize(("t", "s"), [(1.0, 0.6), (0.6, 0.3), (0.3, 0.02), (0.02, 0.0)])
def test_ddrm_is_the_published_step_direction_by_direction(process, noise_std, t, s):
    """In the full singular basis, the unmeasured directions included."""
    eta, eta_b, n = 0.85, 0.9, 6
    y = (MATRIX @ CLEAN).expand(n, 3)
    x = process.corrupt(CLEAN.expand(n, 4), torch.full((n,), t, dtype=torch.float64), generator=generator(1))
    times = [torch.full((n,), time, dtype=torch.float64) for time in (t, s)]
    solver = DDRM(Dense(MATRIX), y, noise_std, eta, eta_b)
    found, _ = solver.step(half_way, process, x, *times, False, generator(2))

    u, values, v_t = torch.linalg.svd(MATRIX)
    assert float(values[2]) < 1e-12  # the third row is nearly the sum of the others
    (alpha_t, sigma_t), (alpha_s, sigma_s) = (map(float, process.coefficients(time[:1], x[:1, :1])) for time in times)
    x0, bar, z = (part @ v_t.T for part in (half_way(x, times[0]), x, randn((n, 4), generator(2), dtype=torch.float64)))
    epsilon = (bar - alpha_t * x0) / sigma_t
    datum = y @ u / values.clamp_min(1e-9)
    expected = torch.empty_like(x0)
    for i in range(4):
        value = float(values[i]) if i < 2 else 0.0
        calm = math.sqrt(1 - eta**2)
        if value == 0:
            mean, variance = alpha_s * x0[:, i] + calm * sigma_s * epsilon[:, i], eta**2 * sigma_s**2
        elif sigma_s / alpha_s < noise_std / value:
            gap = calm * sigma_s * (datum[:, i] - x0[:, i]) * value / noise_std
            mean, variance = alpha_s * x0[:, i] + gap, eta**2 * sigma_s**2
        else:
            mean = alpha_s * ((1 - eta_b) * x0[:, i] + eta_b * datum[:, i])
            variance = sigma_s**2 - (alpha_s * eta_b * noise_std / value) ** 2
        expected[:, i] = mean + math.sqrt(max(variance, 0.0)) * z[:, i]
    torch.testing.assert_close(found @ v_t.T, expected, rtol=0, atol=1e-9)


@each_process
def test_ddrm_keeps_the_law_of_the_noisy_state(process):
    """Given the data, and over measurements: mean ``alpha x_0`` and deviation sigma, at the start and after steps.

    100 000 rows, five standard errors of 24 numbers: a false alarm in 70 000. Added is a hundredth of sigma, two of the
    mean, for unmeasured directions, which start from a prior that is centred at 0 and not at ``alpha x_0``.
    """
    n, noise_std = 100_000, 0.1
    y = MATRIX[:2] @ CLEAN + noise_std * randn((n, 2), generator(3), dtype=torch.float64)
    solver = DDRM(Dense(MATRIX[:2]), y, noise_std, eta=0.7)
    x = process.prior(n, (4,), generator=generator(4), dtype=torch.float64)
    carry = solver.init(x, process)
    v_t, noise = torch.linalg.svd(MATRIX[:2])[2], generator(5)
    for t, s in ((1.0, 0.5), (0.5, 0.2), (0.2, 0.05)):
        t, s = (torch.full((n,), time, dtype=torch.float64) for time in (t, s))
        x, carry = solver.step(lambda x, t: CLEAN.expand(n, 4), process, x, t, s, carry, noise)
        alpha, sigma = (float(part) for part in process.coefficients(s[:1], x[:1, :1]))
        if float(t[0]) == 1 and process is EDM:
            continue  # unmeasured directions come from a prior that is not quite centred at the data
        gap = (x - alpha * CLEAN) @ v_t.T
        assert float(gap.mean(0).abs().max()) < 5 * sigma / math.sqrt(n) + 0.02 * sigma
        assert float((gap.std(0) / sigma - 1).abs().max()) < 5 / math.sqrt(2 * n) + 0.01


def test_ddrm_starts_from_the_prior_shifted_to_the_measurement():
    """What the denoiser is first asked: ``N(yb, sigma^2 - noise^2 / a^2)`` in each measured direction, given y.

    100 000 rows, five standard errors; the noise is not small beside the prior's.
    """
    n, noise_std, process = 100_000, 0.3, VarianceExploding(0.01, 1.5)
    y, asked = torch.tensor([2.0, 0.1], dtype=torch.float64), []
    operator = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.5, 0.0]], dtype=torch.float64)
    samplers.sample(
        lambda x, t: (asked.append(x), x)[1], process, num_samples=n, shape=(4,), num_steps=2, generator=generator(19),
        solver=DDRM(Dense(operator), y, noise_std), dtype=torch.float64,
    )  # fmt: skip
    mean = torch.tensor([2.0, 0.0, 0.2, 0.0], dtype=torch.float64)
    std = (1.5**2 - torch.tensor([0.3, 0.0, 0.6, 0.0], dtype=torch.float64) ** 2).sqrt()
    assert bool(((asked[0].mean(0) - mean).abs() < 5 * std / math.sqrt(n)).all())
    assert bool(((asked[0].std(0) / std - 1).abs() < 5 / math.sqrt(2 * n)).all())


@pytest.mark.parametrize(
    "operator",
    [
        Mask(torch.rand(1, 6, 6, generator=generator(6)) < 0.5),
        Downsample((1, 6, 6), 2),
        Blur((1, 6, 6), [0.2, 0.6, 0.2]),
    ],
    ids=["mask", "downsample", "blur"],
)
@each_process
def test_ddrm_reproduces_a_certain_measurement(operator, process):
    truth = randn((1, 1, 6, 6), generator(7), dtype=torch.float64)
    y = operator.apply(truth)
    x = samplers.sample(
        lambda x, t: 0.3 * x.clamp(-1, 1), process, num_samples=3, shape=(1, 6, 6), solver=DDRM(operator, y, 0.0),
        num_steps=8, generator=generator(8), dtype=torch.float64,
    )  # fmt: skip
    torch.testing.assert_close(operator.apply(x), y.expand(3, *y.shape[1:]))


def test_ddrm_refuses_what_it_cannot_do():
    known = (torch.zeros(1, 4), torch.tensor([[True, False, False, False]]))
    with pytest.raises(ValueError, match="put known elements into the operator"):
        samplers.sample(half_way, EDM, num_samples=2, solver=SOLVERS["ddrm"], known=known)
    with pytest.raises(ValueError, match="eta, eta_b: expected"):
        DDRM(Dense(MATRIX), torch.zeros(3), 0.1, eta=1.5)
    with pytest.raises(ValueError, match="give noise_std > 0"):
        DDRM(Dense([[1.0], [1.0]]), torch.tensor([0.0, 1.0]), 0.0)


# ------------------------------------------------------------------------------------------------------- DPS


@each_process
@pytest.mark.parametrize("solver", [DDPM(), Euler(), Heun(), Heun(churn=2.0)], ids=["ddpm", "euler", "heun", "churn"])
def test_dps_is_a_plain_step_and_the_slope_of_a_norm(process, solver):
    """The slope by finite differences through the denoiser, in the noisy state and not in the prediction."""
    n, y = 5, torch.tensor([1.0, 0.0, -0.5], dtype=torch.float64)
    x = process.corrupt(CLEAN.expand(n, 4), torch.full((n,), 0.5, dtype=torch.float64), generator=generator(9))
    t, s = (torch.full((n,), time, dtype=torch.float64) for time in (0.5, 0.4))
    with torch.no_grad():
        plain, _ = solver.step(half_way, process, x, t, s, None, generator(10))
        found, _ = DPS(Dense(MATRIX), y, 0.3, solver).step(half_way, process, x, t, s, None, generator(10))
    assert not found.requires_grad
    slopes = torch.zeros_like(x)
    for column in range(4):
        step = torch.zeros_like(x)
        step[:, column] = 1e-6
        up, down = ((half_way(x + sign * step, t) @ MATRIX.T - y).norm(dim=1) for sign in (1, -1))
        slopes[:, column] = (up - down) / 2e-6
    torch.testing.assert_close(found, plain - 0.3 * slopes, rtol=0, atol=1e-8)


def test_dps_evaluates_once_and_needs_a_gradient():
    calls = []

    def counted(x, t, condition=None):
        calls.append(1)
        return half_way(x, t)

    samplers.sample(counted, EDM, num_samples=2, shape=(4,), solver=SOLVERS["dps"], num_steps=5)
    assert len(calls) == 5
    with pytest.raises(ValueError, match="denoiser: expected one that can be differentiated"):
        samplers.sample(
            lambda x, t: half_way(x, t).detach(), EDM, num_samples=2, shape=(4,), solver=SOLVERS["dps"], num_steps=2
        )
    with pytest.raises(ValueError, match="scale: expected"):
        DPS(Dense(MATRIX), torch.zeros(3), -1.0)


# --------------------------------------------------------------------------------------------------- RePaint

PAIR = GaussianMixture([1.0], [[0.0, 0.0]], [[[1.0, 0.9], [0.9, 1.0]]])


@pytest.mark.parametrize(
    ("jump", "resamples", "mean", "std"),
    [(1, 1, 0.933, 0.546), (1, 5, 1.271, 0.424), (1, 10, 1.312, 0.409), (10, 20, 1.325, 0.410)],
)
def test_repaint_of_a_bivariate_normal(jump, resamples, mean, std):
    """``x_2 | x_1 = 1.5`` is N(1.350, .436); replacement and its repetitions end where they are known to.

    4000 rows: a standard error is .009 of the mean and .006 of the deviation; allowed are four of each and the error
    of the published figures, about the same.
    """
    process = VariancePreserving("cosine")
    solver = RePaint(torch.tensor([[1.5, 0.0]]), torch.tensor([[True, False]]), DDPM(), jump, resamples)
    x = samplers.sample(
        PAIR.denoiser(process), process, num_samples=4000, shape=(2,), solver=solver, num_steps=100 // jump,
        generator=generator(11), dtype=torch.float64,
    )  # fmt: skip
    assert bool((x[:, 0] == 1.5).all())
    assert float(x[:, 1].mean()) == pytest.approx(mean, abs=0.04)
    assert float(x[:, 1].std()) == pytest.approx(std, abs=0.03)


def test_repaint_walks_its_inner_steps_again_and_again():
    asked = []

    def noted(x, t, condition=None):
        asked.append(round(float(t[0]), 6))
        return half_way(x, t)

    solver = RePaint(torch.zeros(1, 4), torch.tensor([[True, False, False, False]]), Euler(), jump=2, resamples=3)
    samplers.sample(noted, RectifiedFlow(), num_samples=2, shape=(4,), solver=solver, num_steps=2)
    assert asked == [1.0, 0.75] * 3 + [0.5, 0.25] * 3


def test_renoising_is_the_forward_process():
    """One step at x_0 known, twice: the state at s is the process's own, whatever came before.

    50 000 rows of a denoiser that knows the data, five standard errors.
    """
    n, process = 50_000, VariancePreserving()
    solver = RePaint(torch.zeros(1, 1), torch.tensor([[False]]), DDPM(), jump=1, resamples=4)
    t, s = (torch.full((n,), time, dtype=torch.float64) for time in (0.5, 0.3))
    x = process.corrupt(torch.full((n, 1), 0.7, dtype=torch.float64), t, generator=generator(12))
    x, _ = solver.step(lambda x, t: torch.full_like(x, 0.7), process, x, t, s, None, generator(13))
    alpha, sigma = (float(part) for part in process.coefficients(s[:1], x[:1]))
    assert float(x.mean()) == pytest.approx(0.7 * alpha, abs=5 * sigma / math.sqrt(n))
    assert float(x.std()) == pytest.approx(sigma, rel=5 / math.sqrt(2 * n))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: RePaint(torch.zeros(1, 4), torch.zeros(1, 3, dtype=torch.bool)), "known: expected"),
        (lambda: RePaint(torch.zeros(1, 4), torch.zeros(1, 4)), "known: expected booleans"),
        (lambda: RePaint(torch.zeros(1, 4), torch.zeros(1, 4, dtype=torch.bool), jump=0), "jump, resamples: expected"),
        (lambda: SOLVERS["repaint"].init(torch.zeros(2, 5), EDM), "values: expected one row or 2"),
        (lambda: FlowChef(torch.sum, 0.0), "move, inner, until: expected"),
        (lambda: flowchef(half_way, EDM, torch.sum, until=2.0), "step, inner, until: expected"),
        (
            lambda: samplers.sample(half_way, EDM, num_samples=2, shape=(4,), solver=FlowChef(torch.sum)),
            "loss: expected one differentiable number a row",
        ),
        (
            lambda: flowchef(half_way, EDM, lambda x: x)(torch.zeros(2, 4), torch.full((2,), 0.5)),
            "loss: expected one number a row",
        ),
    ],
)
def test_wrong_arguments_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# -------------------------------------------------------------------------------------------------- FlowChef

FLOW = RectifiedFlow()
SKEWED = GaussianMixture([1.0], [[0.4, -0.2]], [[[0.8, 0.3], [0.3, 0.5]]])
ROW = torch.tensor([[1.0, 0.5]], dtype=torch.float64)


def squared(x0):
    return 0.5 * (x0 @ ROW.T - Y).square().sum(1)


def affine_run(move, steps, inner=1):
    """Matrix and shift of the whole sampler on a normal law, by matrices alone."""
    m, covariance, eye = SKEWED.means[0], SKEWED.covariances[0], torch.eye(2, dtype=torch.float64)
    matrix, shift = eye, torch.zeros(2, dtype=torch.float64)
    times = torch.linspace(1, 0, steps + 1, dtype=torch.float64).tolist()
    for t, s in pairwise(times):
        gain = (1 - t) * covariance @ torch.linalg.inv((1 - t) ** 2 * covariance + t**2 * eye)
        keep, offset = gain, m - (1 - t) * gain @ m  # x0_hat = keep x + offset
        velocity, drift = (eye - keep) / t, -offset / t
        down, up = eye, torch.zeros(2, dtype=torch.float64)
        for _ in range(inner if s > 0 else 0):
            # x <- x - move A'(A (x - t v) - y), the velocity of the state before the moves held fixed
            lead = down - t * velocity, up - t * drift
            down = down - move * ROW.T @ ROW @ lead[0]
            up = up - move * ROW.T @ (ROW @ lead[1] - Y)
        step, push = down + (s - t) * velocity, up + (s - t) * drift
        matrix, shift = step @ matrix, step @ shift + push
    return matrix, shift


@pytest.mark.parametrize(("move", "inner"), [(0.08, 1), (0.3, 1), (0.1, 3)])
def test_flowchef_on_a_normal_law_is_an_affine_map(move, inner):
    """A trajectory to 1e-6, and the moments of 20 000 samples within three standard errors (seeds fixed)."""
    n, steps = 20_000, 40
    matrix, shift = affine_run(move, steps, inner)
    start = randn((n, 2), generator(14), dtype=torch.float64)
    x = samplers.sample(
        SKEWED.denoiser(FLOW), FLOW, initial=start, solver=FlowChef(squared, move, inner), num_steps=steps
    )
    torch.testing.assert_close(x[:1], start[:1] @ matrix.T + shift, rtol=0, atol=1e-6)
    covariance = matrix @ matrix.T
    variance = covariance.diagonal()
    assert bool(((x.mean(0) - shift).abs() < 3 * (variance / n).sqrt()).all())
    error = ((variance[:, None] * variance + covariance**2) / n).sqrt()
    assert bool(((torch.cov(x.T) - covariance).abs() < 3 * error).all())


def test_flowchef_guidance_moves_the_prediction_alone():
    """The state then moves by a share (t - s) / t of what the solver of that name moves it."""
    x, t, s = (
        randn((6, 2), generator(15), dtype=torch.float64),
        *(torch.full((6,), v, dtype=torch.float64) for v in (0.6, 0.5)),
    )
    denoise = SKEWED.denoiser(FLOW)
    plain, led = flowchef(denoise, FLOW, squared, step=0.2).both(x, t)
    torch.testing.assert_close(led, plain - 0.2 * (plain @ ROW.T - Y) @ ROW)
    as_solver, _ = FlowChef(squared, 0.2).step(denoise, FLOW, x, t, s, None)
    guided, _ = Euler().step(flowchef(denoise, FLOW, squared, step=0.2), FLOW, x, t, s, None)
    free, _ = Euler().step(denoise, FLOW, x, t, s, None)
    torch.testing.assert_close(guided - free, (as_solver - free) * (0.1 / 0.6))


def test_flowchef_may_end_early():
    x, denoise = randn((6, 2), generator(16), dtype=torch.float64), SKEWED.denoiser(FLOW)
    late, early = (torch.full((6,), time, dtype=torch.float64) for time in (0.3, 0.6))
    guided = flowchef(denoise, FLOW, squared, until=0.5)
    assert torch.equal(guided(x, late), denoise(x, late))
    assert not torch.equal(guided(x, early), denoise(x, early))
    solver = FlowChef(squared, until=0.5)
    torch.testing.assert_close(
        solver.step(denoise, FLOW, x, late, 0.5 * late, None)[0],
        Euler().step(denoise, FLOW, x, late, 0.5 * late, None)[0],
    )


@pytest.mark.parametrize(
    ("move", "residual", "distance"),
    [
        (None, (2.2, 2.6), (1.2, 1.5)),
        (0.08, (0.015, 0.035), (0.22, 0.42)),
        (0.3, (0.0015, 0.005), (0.2, 0.4)),
    ],
)
def test_flowchef_satisfies_the_measurement_and_does_not_sample_the_posterior(move, residual, distance):
    """On three normals with a certain measurement: published residuals 2.4, .024, .003 and distances 1.34, .31, .29."""
    solver = Euler() if move is None else FlowChef(squared, move)
    x = samplers.sample(
        LAW.denoiser(FLOW), FLOW, num_samples=2000, shape=(2,), solver=solver, num_steps=100, generator=generator(17),
        dtype=torch.float64,
    )  # fmt: skip
    gap = float((x @ torch.tensor(LINE, dtype=torch.float64).T - Y).square().mean().sqrt())
    assert residual[0] < gap < residual[1]
    assert distance[0] < distance_to_posterior(x, 0.0) < distance[1]


def test_a_process_with_its_own_slope():
    """Of variance-exploding noise a move is a move; of variance-preserving noise the velocity decides how far."""
    x, denoise = randn((4, 4), generator(18), dtype=torch.float64), half_way
    t, s = (torch.full((4,), time, dtype=torch.float64) for time in (0.5, 0.4))
    target = CLEAN

    def loss(x0):
        return 0.5 * (x0 - target).square().sum(1)

    process = VarianceExploding(0.01, 20.0)
    found, _ = FlowChef(loss, 0.2).step(denoise, process, x, t, s, None)
    free, _ = Euler().step(denoise, process, x, t, s, None)
    torch.testing.assert_close(found, free - 0.2 * (half_way(x, t) - target))
    vp = VariancePreserving()
    found, _ = FlowChef(loss, 0.2).step(denoise, vp, x, t, s, None)
    free, _ = DDIM().step(denoise, vp, x, t, s, None)
    assert bool(found.isfinite().all())
    assert float(loss(found).sum()) < float(loss(free).sum()) + 1.0
