"""Guidance by linear measurements: exact where a row of the table is, and each row's own formula elsewhere."""

import pytest
import torch
from mix_three import LAW, LINE, PROCESS, Y, distance_to_posterior

from clarkia import samplers, schedules
from clarkia.guidance import METHODS, linear
from clarkia.operators import Dense
from clarkia.oracles import GaussianMixture
from clarkia.processes import EDM, Masked, Mixed, RectifiedFlow, VariancePreserving
from clarkia.random import generator, randn
from clarkia.samplers import DDPM

D, C, N = 5, 2, 9
ROOT = randn((D, D), generator(0), dtype=torch.float64)
NORMAL = GaussianMixture([1.0], randn((1, D), generator(1), dtype=torch.float64), (ROOT @ ROOT.T / D)[None])
MATRIX = randn((C, D), generator(2), dtype=torch.float64)
MEASURED = torch.tensor([0.7, -0.4], dtype=torch.float64)
PROCESSES = {"edm": EDM, "vp": VariancePreserving(), "flow": RectifiedFlow()}
each_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
each_method = pytest.mark.parametrize("method", METHODS)
EXACT = {"iterations": 50, "tolerance": 1e-14}


def states(process, times=None):
    t = torch.linspace(0.05, 0.95, N, dtype=torch.float64) if times is None else times
    return process.corrupt(NORMAL.sample(N, generator=generator(3)), t, generator=generator(4)), t


@each_process
@pytest.mark.parametrize("noise_std", [0.0, 0.05, 1.0])
def test_moment_matching_is_the_posterior_of_a_normal_law(process, noise_std):
    x_t, t = states(process)
    guided = linear(
        NORMAL.denoiser(process), process, Dense(MATRIX), MEASURED, noise_std, method="moment_matching", **EXACT
    )
    with torch.no_grad():
        found = guided(x_t, t)
    assert not found.requires_grad
    exact = NORMAL.posterior(MATRIX, MEASURED, noise_std).denoiser(process)(x_t, t)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-8)


@each_process
def test_moment_matching_with_elements_at_times_of_their_own(process):
    """Some observed, the others at two levels, a measurement a row."""
    t = torch.full((N, D), 0.6, dtype=torch.float64)
    t[:, 1], t[:, 3] = 0.0, 0.2
    x_t, _ = states(process, t)
    y = randn((N, C), generator(5), dtype=torch.float64)
    guided = linear(NORMAL.denoiser(process), process, Dense(MATRIX), y, 0.3, method="moment_matching", **EXACT)
    found = guided(x_t, t)
    assert torch.equal(found[:, 1], x_t[:, 1])
    for row in range(N):
        exact = NORMAL.posterior(MATRIX, y[row], 0.3).denoiser(process)(x_t[row : row + 1], t[row : row + 1])
        torch.testing.assert_close(found[row : row + 1], exact, rtol=0, atol=1e-8)


@each_process
@pytest.mark.parametrize("t", [0.3, 1.0])
@pytest.mark.parametrize("method", ["pigdm", "moment_matching"])
def test_independent_normals_of_the_named_deviation(process, t, method):
    """Their posterior is PiGDM's, and at the start of pure noise, where alpha may be 0, the law's own."""
    law = GaussianMixture([1.0], torch.ones(1, D) * 0.4, [0.8**2])
    x_t = process.corrupt(
        law.sample(N, generator=generator(6)), torch.full((N,), t, dtype=torch.float64), generator=generator(7)
    )
    time = torch.full((N,), t, dtype=torch.float64)
    guided = linear(law.denoiser(process), process, Dense(MATRIX), MEASURED, 0.2, method=method, data_std=0.8, **EXACT)
    exact = law.posterior(MATRIX, MEASURED, 0.2).denoiser(process)(x_t, time)
    torch.testing.assert_close(guided(x_t, time), exact, rtol=0, atol=1e-8)


@each_process
def test_dps_is_the_gradient_of_the_likelihood_of_the_prediction(process):
    """By finite differences through a network."""
    torch.manual_seed(0)
    body = torch.nn.Sequential(torch.nn.Linear(D, 24), torch.nn.Tanh(), torch.nn.Linear(24, D)).double()
    x_t, t = states(process)
    with torch.no_grad():
        found = linear(lambda x, t: body(x), process, Dense(MATRIX), MEASURED, 0.5, method="dps", scale=0.6)(x_t, t)
        alpha, sigma = process.coefficients(t, x_t)
        slopes = torch.zeros_like(x_t)
        for column in range(D):
            step = torch.zeros_like(x_t)
            step[:, column] = 1e-5
            up, down = (((body(x_t + sign * step) @ MATRIX.T - MEASURED) / 0.5).square().sum(1) for sign in (1, -1))
            slopes[:, column] = -0.5 * (up - down) / 2e-5
        expected = body(x_t) + 0.6 * sigma**2 / alpha * slopes
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@each_process
@pytest.mark.parametrize("method", ["dps", "pigdm"])
def test_a_backward_pass_is_the_posterior_covariance(process, method):
    """Of a mixture, against its covariance from second differences of the log-density."""
    x_t = process.corrupt(
        LAW.sample(4, generator=generator(8)), t := torch.full((4,), 0.4, dtype=torch.float64), generator=generator(9)
    )
    alpha, sigma = (float(part) for part in process.coefficients(t[:1], x_t[:1]))
    jacobian = torch.func.vmap(torch.func.jacrev(lambda x: LAW.denoiser(process)(x[None], t[:1])[0]))(x_t)
    covariance = sigma**2 / alpha * jacobian
    x0_hat = LAW.denoiser(process)(x_t, t)
    a = torch.tensor(LINE, dtype=torch.float64)
    r2 = sigma**2 * 4 / (alpha**2 * 4 + sigma**2) if method == "pigdm" else 0.0
    u = (Y - x0_hat @ a.T) / (r2 * 1.25 + 0.09)
    expected = x0_hat + torch.einsum("nij,nj->ni", covariance, u @ a)
    found = linear(LAW.denoiser(process), process, Dense(LINE), Y, 0.3, method=method, data_std=2.0)(x_t, t)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


# ------------------------------------------------------------------------------------- rows without a gradient


def prediction(x, t, condition=None):
    return torch.where(t.reshape(len(x), -1) > 0, 0.5 * x + 0.1, x)


@each_process
def test_ddnm_replaces_what_is_measured(process):
    x_t, t = states(process)
    operator = Dense(MATRIX)
    found = linear(prediction, process, operator, MEASURED, 0.0, method="ddnm")(x_t, t)
    torch.testing.assert_close(operator.apply(found), MEASURED.expand(N, C))
    x0_hat = prediction(x_t, t)
    null = torch.eye(D, dtype=torch.float64) - torch.linalg.pinv(MATRIX) @ MATRIX
    torch.testing.assert_close(found @ null, x0_hat @ null)


@each_process
@pytest.mark.parametrize("known_grid", [False, True])
def test_noisy_ddnm_holds_back_each_singular_direction(process, known_grid):
    times, noise_std = schedules.uniform(20), 2.0
    t = times[1:-1][::2][:N]
    x_t, _ = states(process, t)
    options = {"times": times} if known_grid else {}
    found = linear(prediction, process, Dense(MATRIX), MEASURED, noise_std, method="ddnm", **options)(x_t, t)
    level = times[2:][::2][:N] if known_grid else t
    u, values, v_t = torch.linalg.svd(MATRIX, full_matrices=False)
    x0_hat = prediction(x_t, t)
    share = (process.kappa(level)[:, None] * values / noise_std).clamp(max=1)
    assert bool((share < 1).any())
    assert bool((share == 1).any())
    expected = x0_hat + ((MEASURED - x0_hat @ MATRIX.T) @ u * share / values) @ v_t
    torch.testing.assert_close(found, expected)


@each_process
@pytest.mark.parametrize("noise_std", [0.0, 0.4])
def test_diffpir_minimises_its_two_squares(process, noise_std):
    """``|y - A x|^2 / noise^2 + strength |x - x0_hat|^2 / kappa^2`` has no slope there, also at pure noise."""
    x_t, t = states(process, torch.linspace(0.2, 1.0, N, dtype=torch.float64))
    found = linear(prediction, process, Dense(MATRIX), MEASURED, noise_std, method="diffpir", strength=5.0)(x_t, t)
    alpha, sigma = process.coefficients(t, x_t)
    pull = (MEASURED - found @ MATRIX.T) @ MATRIX
    slope = pull - noise_std**2 * 5.0 * alpha**2 / sigma**2 * (found - prediction(x_t, t))
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-8)


def test_flowchef_goes_down_the_squared_residual():
    x_t, t = states(EDM)
    found = linear(prediction, EDM, Dense(MATRIX), MEASURED, 0.2, method="flowchef", scale=0.15)(x_t, t)
    x0_hat = prediction(x_t, t)
    torch.testing.assert_close(found, x0_hat + 0.15 * (MEASURED - x0_hat @ MATRIX.T) @ MATRIX)


# ------------------------------------------------------------------------------------------------- all rows


@each_method
@each_process
def test_observed_elements_stay_and_pure_noise_is_finite(process, method):
    x_t, _ = states(process)
    guided = linear(NORMAL.denoiser(process), process, Dense(MATRIX), MEASURED, 0.4, method=method)
    t = torch.tensor([0.0, 1.0, 0.5] * 3, dtype=torch.float64)
    plain, led = guided.both(x_t, t)
    torch.testing.assert_close(plain, NORMAL.denoiser(process)(x_t, t))
    assert torch.equal(led[::3], x_t[::3])
    assert bool(led.isfinite().all())
    assert bool((led != plain)[2::3].all())
    cells = torch.full((N, D), 0.5, dtype=torch.float64)
    cells[:, :2], cells[:, 2] = 0.0, 1.0
    plain, led = guided.both(x_t, cells)
    assert torch.equal(led[:, :2], x_t[:, :2])
    assert bool(led.isfinite().all())
    assert bool((led != plain)[:, 3:].all())


@each_method
@each_process
def test_one_time_for_all_is_one_time_for_each_element(process, method):
    """By singular values, and by conjugate gradients."""
    x_t, t = states(process)
    guided = linear(NORMAL.denoiser(process), process, Dense(MATRIX[:1]), MEASURED[:1], 0.4, method=method, **EXACT)
    # one measurement, so that the noisy form of DDNM without singular values differs by its norm alone
    if method == "ddnm":
        guided = linear(NORMAL.denoiser(process), process, Dense(MATRIX[:1]), MEASURED[:1], 0.0, method=method)
    torch.testing.assert_close(guided(x_t, t[:, None].expand(N, D).clone()), guided(x_t, t), rtol=0, atol=1e-8)


def test_other_blocks_are_led_through_their_covariance():
    """Two blocks of one normal law, the first measured: both are the posterior's, the categories stay."""
    vp = VariancePreserving()
    process = Mixed(a=vp, b=vp, levels=Masked((2,)))

    def denoise(x, t, condition=None):
        whole = NORMAL.denoiser(vp)(torch.cat([x["a"], x["b"]], 1), t)
        levels = process.blocks["levels"].log_probs(torch.zeros(*x["levels"].shape, 2), x["levels"])
        return {"a": whole[:, :3], "b": whole[:, 3:], "levels": levels}

    x_t, t = states(vp)
    state = {"a": x_t[:, :3], "b": x_t[:, 3:], "levels": torch.full((N, 1), 2)}
    matrix = MATRIX.clone()
    matrix[:, 3:] = 0
    exact = NORMAL.posterior(matrix, MEASURED, 0.3).denoiser(vp)(x_t, t)
    options = {"method": "moment_matching", "block": "a", **EXACT}
    found = linear(denoise, process, Dense(matrix[:, :3]), MEASURED, 0.3, **options)(state, t)
    torch.testing.assert_close(torch.cat([found["a"], found["b"]], 1), exact, rtol=0, atol=1e-8)
    assert torch.equal(found["levels"], denoise(state, t)["levels"])
    with pytest.raises(ValueError, match=r"block: expected one of \['a', 'b'\], found None"):
        linear(denoise, process, Dense(matrix[:, :3]), MEASURED, 0.3)


@pytest.mark.parametrize(
    ("method", "options", "between"),
    [
        (None, {}, (1.05, 1.35)),
        ("dps", {}, (0.45, 0.75)),
        ("pigdm", {}, (0.12, 0.26)),
        ("pigdm", {"data_std": 2.0}, (0.18, 0.34)),
        ("moment_matching", {}, (0.22, 0.38)),
        ("ddnm", {}, (0.12, 0.26)),
    ],
)
def test_heuristics_on_three_normals(method, options, between):
    """Distances to the posterior at noise 0.3, published 1.20, .58, .18, .26, .30, .18; an exact sampler has .05."""
    times = schedules.karras(200, PROCESS)
    denoiser = LAW.denoiser(PROCESS)
    if method == "ddnm":
        options = {"times": times}
    guided = denoiser if method is None else linear(denoiser, PROCESS, Dense(LINE), Y, 0.3, method=method, **options)
    x = samplers.sample(
        guided, PROCESS, num_samples=1500, shape=(2,), solver=DDPM(), times=times, generator=generator(20),
        dtype=torch.float64,
    )  # fmt: skip
    assert between[0] < distance_to_posterior(x, 0.3) < between[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "pgdm"}, "method: expected one of"),
        ({"noise_std": -1.0}, "noise_std: expected"),
        ({"noise_std": 0.0, "method": "dps"}, "noise_std: expected a positive number for 'dps'"),
        ({"data_std": 0.0}, "data_std: expected"),
        ({"strength": -1.0, "method": "diffpir"}, "strength: expected"),
        ({"y": torch.zeros(3)}, "y: expected a floating tensor"),
        ({"block": "numeric"}, "block: expected one of"),
        (
            {"operator": Dense([[1.0, 0.0], [1.0, 0.0]]), "y": torch.tensor([0.0, 1.0]), "noise_std": 0.0},
            "distance 0.7",
        ),
    ],
)
def test_wrong_arguments_are_refused(options, words):
    arguments = {"operator": Dense(MATRIX), "y": MEASURED, "noise_std": 0.1, **options}
    with pytest.raises(ValueError, match=words):
        linear(prediction, EDM, **arguments)


def test_as_many_measurements_as_rows():
    x_t, t = states(EDM)
    guided = linear(prediction, EDM, Dense(MATRIX), MEASURED.expand(4, C), 0.1, method="ddnm")
    with pytest.raises(ValueError, match="one for each of 9 rows, found 4"):
        guided(x_t, t)
