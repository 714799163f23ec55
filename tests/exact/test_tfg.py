"""Training-free guidance: its special cases written out as published, its closed form, its derivatives, its search."""

import itertools
import math

import pytest
import torch

from clarkia import samplers, schedules, steering
from clarkia.denoisers import retimed
from clarkia.oracles import GaussianMixture
from clarkia.processes import RectifiedFlow, VarianceExploding, VariancePreserving
from clarkia.random import generator
from clarkia.samplers import TFG, TFG_PRESETS
from clarkia.steering import TFG_SPACE, Knob
from clarkia.testing import check_solver

VP = VariancePreserving("cosine")
# Its first time still has signal: the published chains never reach none.
GRID = torch.linspace(0.95, 0, 9, dtype=torch.float64)
START = torch.randn(5, 3, generator=generator(1), dtype=torch.float64)
A = torch.tensor([[1.0, 0.5, -0.3], [0.2, -1.0, 0.4]], dtype=torch.float64)
Y = torch.tensor([0.7, -0.2], dtype=torch.float64)


def network():
    torch.manual_seed(0)
    return (
        torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
        .double()
        .requires_grad_(False)
    )


NETWORK = network()


def denoiser(x_t, t, condition=None):
    time = t.double().expand(len(x_t)).unsqueeze(1)
    return torch.where(time > 0, NETWORK(torch.cat([x_t, time], 1)), x_t)


def log_f(x0):
    return -(Y - x0 @ A.T).square().sum(1)


def gradient(value, x):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(value(leaf).sum(), leaf)[0]


def published(x, *, rho, mu, sigma_bar, n_iter, n_recur, draws, schedule, eta, energy, noise):
    """The algorithm in the words of its paper, over the index of a variance-preserving chain."""
    alpha, times = VP.alpha(GRID), GRID
    ab = alpha**2
    a = ab[:-1] / ab[1:]
    s = {"increase": a, "decrease": 1 - a, "constant": torch.ones_like(a)}[schedule]
    rho_t, mu_t = rho * s * len(a) / s.sum(), mu * s * len(a) / s.sum()

    def normal(*shape):
        return torch.randn(*shape, generator=noise, dtype=torch.float64)

    for i in range(len(a)):
        t = times[i].expand(len(x))
        for turn in range(n_recur):
            eps = sigma_bar * (1 - ab[i]).sqrt() * normal(len(x), draws, 3) if sigma_bar > 0 else torch.zeros(1, 1, 3)

            def smoothed(x0, eps=eps):
                values = energy((x0.unsqueeze(1) + eps).flatten(0, 1)).view(len(x0), -1)
                return values.logsumexp(1) - math.log(values.shape[1])

            x0 = denoiser(x, t).detach()
            shift = rho_t[i] * gradient(lambda state, f=smoothed, t=t: f(denoiser(state, t)), x)
            better = x0
            for _ in range(n_iter):
                better = better + mu_t[i] * gradient(smoothed, better)
            eps_hat = (x - alpha[i] * x0) / (1 - ab[i]).sqrt()
            variance = eta**2 * (1 - ab[i + 1]) / (1 - ab[i]) * (1 - a[i])
            mean = alpha[i + 1] * x0 + (1 - ab[i + 1] - variance).clamp(min=0).sqrt() * eps_hat
            x_s = mean + variance.sqrt() * normal(len(x), 3) if eta > 0 else mean
            x_s = x_s + shift / a[i].sqrt() + alpha[i + 1] * (better - x0)
            if turn + 1 < n_recur:
                x = a[i].sqrt() * x_s + (1 - a[i]).sqrt() * normal(len(x), 3)
        x = x_s
    return x


@pytest.mark.parametrize("schedule", ["increase", "decrease", "constant"])
@pytest.mark.parametrize("name", ["mpgd", "lgd", "freedom", "dps", "ugd", "all"])
def test_every_special_case_is_what_its_authors_wrote(name, schedule):
    strengths = {"rho": 0.05, "mu": 0.04, "eta": 0.7, "schedule": schedule, "times": GRID}
    options = strengths | dict(TFG_PRESETS.get(name, {"sigma_bar": 0.2, "num_draws": 3, "num_recurrences": 2}))
    found = samplers.sample(
        denoiser, VP, initial=START, times=GRID, solver=TFG(log_f, **options), generator=generator(2)
    )
    energy = (lambda x0: -(Y - x0 @ A.T).norm(dim=1)) if name == "dps" else log_f
    expected = published(
        START, rho=options["rho"], mu=options["mu"], sigma_bar=options["sigma_bar"], eta=0.7, schedule=schedule,
        n_iter=options.get("num_iterations", 4), n_recur=options["num_recurrences"],
        draws=options.get("num_draws", 1), energy=energy, noise=generator(2),
    )  # fmt: skip
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    plain = samplers.sample(
        denoiser, VP, initial=START, times=GRID, solver=TFG(log_f, **options | {"rho": 0.0, "mu": 0.0}),
        generator=generator(2),
    )  # fmt: skip
    assert float((found - plain).abs().max()) > 1e-3


def test_without_strength_it_is_the_ddim_step():
    options = {"initial": START, "times": GRID}
    found = samplers.sample(denoiser, VP, solver=TFG(log_f, rho=0, mu=0), generator=generator(3), **options)
    expected = samplers.sample(denoiser, VP, solver=samplers.DDIM(1.0), generator=generator(3), **options)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_a_step_on_a_normal_law_is_the_closed_form():
    """``DDIM(x_t, x0_hat) + rho_t J' A' r / (tau sqrt(a_t))`` with ``J = alpha_t Cov[x_0 | x_t] / sigma_t^2``."""
    tau, rho, eta = 0.4, 0.3, 0.5
    root = torch.randn(3, 3, generator=generator(4), dtype=torch.float64)
    eye = torch.eye(3, dtype=torch.float64)
    covariance, mean = root @ root.T + 0.1 * eye, torch.tensor([0.3, -1.0, 0.5], dtype=torch.float64)
    law = GaussianMixture([1.0], mean[None], covariance[None])
    t, s = (torch.full((5,), time, dtype=torch.float64) for time in (0.6, 0.5))
    solver = TFG(lambda x0: log_f(x0) / (2 * tau), rho=rho, mu=0.0, eta=eta, schedule="increase")
    found, _ = solver.kernel(law.denoiser(VP), VP, START, t, s, None)
    alpha, sigma = (float(part[0]) for part in (VP.alpha(t), VP.sigma(t)))
    total = alpha**2 * covariance + sigma**2 * eye
    x0_hat = mean + (START - alpha * mean) @ torch.linalg.solve(total, alpha * covariance)
    posterior = covariance - alpha**2 * covariance @ torch.linalg.solve(total, covariance)
    a = (alpha / float(VP.alpha(s)[0])) ** 2
    push = rho * a * ((Y - x0_hat @ A.T) @ A) @ (alpha * posterior / sigma**2) / (tau * math.sqrt(a))
    base, _ = samplers.DDIM(eta).kernel(law.denoiser(VP), VP, START, t, s, None)
    torch.testing.assert_close(found.mean, base.mean + push, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.std, base.std)


def test_both_gradients_are_derivatives():
    """Sign and chain rule against finite differences, relative error below 1e-4."""
    t, s = torch.full((5,), 0.5, dtype=torch.float64), torch.full((5,), 0.4, dtype=torch.float64)
    base, _ = TFG(log_f, rho=0.0, mu=0.0).kernel(denoiser, VP, START, t, s, None)
    kept = float(VP.alpha(t)[0] / VP.alpha(s)[0])
    by_rho, _ = TFG(log_f, rho=1.0, mu=0.0, schedule="constant").kernel(denoiser, VP, START, t, s, None)
    by_mu, _ = TFG(log_f, rho=0.0, mu=1.0, num_iterations=1, schedule="constant").kernel(
        denoiser, VP, START, t, s, None
    )

    def numerically(value, x, step=1e-4):
        columns = []
        for i in range(3):
            direction = step * torch.eye(3, dtype=torch.float64)[i]
            columns.append((value(x + direction) - value(x - direction)).detach() / (2 * step))
        return torch.stack(columns, 1)

    through = numerically(lambda x: log_f(denoiser(x, t)), START)
    clean = numerically(log_f, denoiser(START, t).detach())
    by_rho, by_mu = (law.mean - base.mean for law in (by_rho, by_mu))
    for found, expected in ((by_rho * kept, through), (by_mu / float(VP.alpha(s)[0]), clean)):
        assert float(((found - expected).abs().max() / expected.abs().max()).detach()) < 1e-4


@pytest.mark.parametrize("schedule", ["increase", "decrease", "constant"])
def test_over_the_grid_the_strengths_have_the_mean_that_was_asked_for(schedule):
    solver = TFG(lambda x0: x0.sum(1), rho=0.0, mu=0.5, num_iterations=1, schedule=schedule, times=GRID)
    pushes = []
    for t, s in itertools.pairwise(GRID):
        law, _ = solver.kernel(denoiser, VP, START, t.expand(5), s.expand(5), None)
        base, _ = TFG(log_f, rho=0.0, mu=0.0).kernel(denoiser, VP, START, t.expand(5), s.expand(5), None)
        pushes.append(float((law.mean - base.mean)[0, 0] / VP.alpha(s)))
    assert sum(pushes) / len(pushes) == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize("process", [VarianceExploding(0.01, 50.0), RectifiedFlow()])
def test_every_gaussian_process_is_guided_alike(process):
    """The same levels, the same noise: the same data."""
    options = {"rho": 0.3, "mu": 0.2, "sigma_bar": 0.1, "num_draws": 2, "num_recurrences": 2, "schedule": "decrease"}
    law = GaussianMixture([0.5, 0.5], [[1.0, 0, 0], [-1.0, 0.5, 1]], [0.2, 0.5])
    grid = torch.linspace(0.9, 0, 7, dtype=torch.float64)
    expected = samplers.sample(
        law.denoiser(VP), VP, initial=START, times=grid, solver=TFG(log_f, times=grid, **options),
        generator=generator(5),
    )  # fmt: skip
    other, scale = VP.retime(grid, process)
    found = samplers.sample(
        retimed(law.denoiser(VP), VP, process), process, initial=scale[0] * START, times=other,
        solver=TFG(log_f, times=other, **options), generator=generator(5),
    )  # fmt: skip
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)


def test_where_there_is_no_signal_only_the_mean_is_guided():
    law = GaussianMixture([1.0], [[0.0, 0, 0]], [1.0])
    flow, t, s = RectifiedFlow(), torch.ones(5, dtype=torch.float64), torch.full((5,), 0.8, dtype=torch.float64)
    found, _ = TFG(log_f, rho=1.0, mu=0.0).kernel(law.denoiser(flow), flow, START, t, s, None)
    base, _ = TFG(log_f, rho=0.0, mu=0.0).kernel(law.denoiser(flow), flow, START, t, s, None)
    torch.testing.assert_close(found.mean, base.mean)


@pytest.mark.parametrize("recurrences", [1, 2])
def test_it_keeps_the_contract_of_solvers(recurrences):
    solver = TFG(log_f, rho=0.1, mu=0.1, sigma_bar=0.1, num_recurrences=recurrences)
    law = GaussianMixture([1.0], [[0.0, 0, 0]], [1.0])
    check_solver(solver, VP, law.denoiser(VP), law.sample(6, generator=generator(0)))


def test_a_run_draws_towards_high_energy_and_holds_what_is_known():
    law = GaussianMixture([1.0], [[0.0, 0, 0]], [1.0])
    known = (torch.tensor([[0.25, 0, 0]], dtype=torch.float64), torch.tensor([[True, False, False]]))
    options = {"num_samples": 400, "num_steps": 25, "known": known, "dtype": torch.float64}
    means = []
    for rho in (0.0, 0.5):
        x = samplers.sample(law.denoiser(VP), VP, solver=TFG(log_f, rho=rho, mu=0.0), generator=generator(6), **options)
        assert bool((x[:, 0] == 0.25).all())
        means.append(float(log_f(x).mean()))
    assert means[1] > means[0] + 0.5


def test_wrong_options_are_refused():
    for name, value in (("rho", -1.0), ("num_draws", 0), ("num_recurrences", 0), ("schedule", "up"), ("eta", 2.0)):
        with pytest.raises(ValueError, match=name):
            TFG(log_f, **{name: value})
    t, s = (torch.full((5,), time, dtype=torch.float64) for time in (0.5, 0.4))
    with pytest.raises(ValueError, match="log_f"):
        TFG(lambda x0: x0).kernel(denoiser, VP, START, t, s, None)
    with pytest.raises(ValueError, match="differentiate"):
        TFG(log_f).kernel(lambda x, time: denoiser(x, time).detach(), VP, START, t, s, None)


# -------------------------------------------------------------------------------------------------- the search


def test_the_search_doubles_its_way_to_the_best_settings():
    """A hill with its top at rho = 2, mu = 0.5, sigma_bar = 0.01."""
    asked = []

    def metric(settings):
        asked.append(tuple(settings.items()))
        top = {"rho": 2.0, "mu": 0.5, "sigma_bar": 0.01}
        return -sum(abs(math.log(settings[name] / value)) for name, value in top.items())

    found = steering.search(TFG_SPACE, metric)
    assert found.settings == pytest.approx({"rho": 2.0, "mu": 0.5, "sigma_bar": 0.01})
    assert found.score == pytest.approx(0.0)
    assert len(set(asked)) == len(asked) == len(found.tried)
    assert asked[0] == (("rho", 0.25), ("mu", 0.25), ("sigma_bar", 0.001))
    # Six rounds of two settings with three knobs each, less what was known.
    assert len(asked) <= 1 + 3 + 5 * 6


def test_the_search_ends_when_nothing_gets_better_and_stays_within_bounds():
    asked = []
    found = steering.search({"n": Knob(1, 2, 4)}, lambda settings: asked.append(settings) or settings["n"])
    assert [settings["n"] for settings in asked] == [1, 2, 4]
    assert all(isinstance(settings["n"], int) for settings in asked)
    assert found.settings == {"n": 4}
    alone = steering.search({"n": Knob(1.0)}, lambda settings: -settings["n"], beam=1)
    assert (alone.settings, len(alone.tried)) == ({"n": 1.0}, 2)
    with pytest.raises(ValueError, match="space"):
        steering.search({}, lambda settings: 0.0)
    with pytest.raises(ValueError, match="Knob"):
        Knob(0.0)


def test_a_judge_that_also_guides_is_reported():
    with pytest.warns(UserWarning, match="independent"):
        steering.search({"n": Knob(1.0, most=1.0)}, lambda settings: 0.0, guide=log_f, judge=log_f)
    steering.search({"n": Knob(1.0, most=1.0)}, lambda settings: 0.0, guide=log_f, judge=schedules.uniform)
