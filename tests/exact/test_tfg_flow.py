"""TFG-Flow against its paper's steps written out, and on a law of small molecules against the tilt in closed form."""

import math

import pytest
import torch

from clarkia import guidance, samplers, steering
from clarkia.guidance import TFGFlow
from clarkia.oracles import MixedJoint
from clarkia.processes import Masked, Mixed, RectifiedFlow, VariancePreserving
from clarkia.random import generator
from clarkia.samplers import Euler, Moved

# Two atoms of two types on a line: where they are depends on what they are.
TYPES = torch.tensor([[0.35, 0.15], [0.1, 0.4]], dtype=torch.float64)
PLACES = torch.tensor([[[-1.0, 1.0], [-0.5, 1.5]], [[-1.5, 0.5], [-0.8, 0.8]]], dtype=torch.float64)
MOLECULES = MixedJoint(TYPES, PLACES, 0.15 * torch.ones(2, 2, 2), numeric="places", categorical="types")
FLOW = Mixed(places=RectifiedFlow(), types=Masked((2, 2)))
DENOISER = MOLECULES.denoiser(FLOW)

# The property: a charge-weighted length, wanted near a value that depends on the types.
SLOPE = torch.tensor([-1.0, 1.0], dtype=torch.float64)
WANTED = torch.tensor([[2.6, 1.5], [2.0, 2.4]], dtype=torch.float64)
TAU = 0.2


def loss(x):
    wanted = WANTED[x["types"][:, 0], x["types"][:, 1]]
    return 0.5 * (x["places"] @ SLOPE - wanted).square()


def tilted():
    """``exp(-loss / tau)``: the square taken apart into what each combination gets, a slope and a curvature."""
    return MOLECULES.tilt(
        -WANTED.square() / (2 * TAU), WANTED.unsqueeze(-1) * SLOPE / TAU, torch.outer(SLOPE, SLOPE) / TAU
    )


def noisy(n, time, seed=0):
    t = torch.full((n,), time, dtype=torch.float64)
    return FLOW.corrupt(MOLECULES.sample(n, generator=generator(seed)), t, generator=generator(seed + 1)), t


# ---------------------------------------------------------------------------------------------------- one step


def clipped(slope):
    """The paper's ``g min(1, c / rms(g))`` of every row, c = 1."""
    return torch.stack([g * min(1.0, 1.0 / float(g.square().mean().sqrt())) for g in slope])


def slope_of(function, x):
    leaf = x.detach().requires_grad_()
    return torch.autograd.grad(function(leaf).sum(), leaf)[0]


@pytest.mark.parametrize(("rho", "mu"), [(0.02, None), (0.0, 0.05), (0.03, 0.01)])
def test_a_step_is_the_published_one(rho, mu):
    """Its draws of rows are read off, everything after them is written out; times run from 0 to 1 there."""
    (x_t, t), s, draws = noisy(40, 0.6), torch.full((40,), 0.5, dtype=torch.float64), 64
    guide = TFGFlow(FLOW, loss, TAU, rho=rho, mu=mu, num_draws=draws, num_iterations=4)
    plain, moved, guided = guide(DENOISER, x_t, t, generator(3))

    noise = generator(3)
    rows = guidance.draws.joint_draws(plain["types"], draws, noise)
    x1 = plain["places"].repeat_interleave(draws, 0)
    losses = loss({"places": x1, "types": rows.flatten(0, 1)}).view(40, draws)
    w = torch.softmax(-losses / TAU, 1)
    share = torch.stack([(w.unsqueeze(2) * (rows == j)).sum(1) for j in range(2)], 2)
    masked = x_t["types"] == 2
    torch.testing.assert_close(guided["types"].exp()[masked], share[masked], rtol=0, atol=1e-12)

    pick = torch.searchsorted(w.cumsum(1), torch.rand(40, 1, generator=noise, dtype=torch.float64)).squeeze(1)
    chosen = rows[torch.arange(40), pick.clamp(max=draws - 1)]
    x = x_t["places"]
    for _ in range(4):
        x = x - rho * clipped(
            slope_of(lambda y: loss({"places": DENOISER({**x_t, "places": y}, t)["places"], "types": chosen}), x)
        )
    x1 = DENOISER({**x_t, "places": x}, t)["places"].detach()
    for _ in range(4):
        x1 = x1 - (rho if mu is None else mu) * clipped(slope_of(lambda y: loss({"places": y, "types": chosen}), x1))
    torch.testing.assert_close(moved["places"], x, rtol=0, atol=1e-12)
    torch.testing.assert_close(guided["places"], x1, rtol=0, atol=1e-12)

    walked, _ = Moved(guide, samplers.Mixed(numeric=Euler())).step(
        DENOISER, FLOW, x_t, t, s, {"places": None, "types": (torch.zeros(40, 2, dtype=torch.float64), False)},
        generator(3),
    )  # fmt: skip
    data_time, dt = 1 - 0.6, 0.1
    torch.testing.assert_close(walked["places"], x + dt * (x1 - x) / (1 - data_time), rtol=0, atol=1e-12)


def test_a_token_is_unmasked_with_probability_h_and_none_is_left():
    """The released step unmasks with ``h / (1 + h)`` and leaves 1 in n + 1 of them masked."""
    n, h = 40_000, 0.25
    x_t = {"places": torch.zeros(n, 2, dtype=torch.float64), "types": torch.full((n, 2), 2)}
    t, s = (torch.full((n,), time, dtype=torch.float64) for time in (0.8, 0.6))
    solver = Moved(TFGFlow(FLOW, loss, TAU, num_draws=8), samplers.Mixed(numeric=Euler()))
    x_s, _ = solver.step(DENOISER, FLOW, x_t, t, s, solver.init(x_t, FLOW, generator(0)), generator(1))
    rate = float((x_s["types"] != 2).double().mean())
    assert abs(rate - h) < 4 * math.sqrt(h * (1 - h) / (2 * n))  # false alarm 6e-5
    assert abs(rate - h / (1 + h)) > 0.04
    done = samplers.sample(
        DENOISER, FLOW, num_samples=500, shape={"places": (2,)}, solver=solver, num_steps=10, generator=generator(2),
        dtype=torch.float64,
    )  # fmt: skip
    assert bool((done["types"] < 2).all())


def test_of_categories_alone_it_is_categorical_guidance_by_draws():
    x_t, t = noisy(30, 0.7)
    guide = TFGFlow(FLOW, loss, TAU, num_draws=128)
    found = guidance.tfg_mixed(DENOISER, guide, generator=generator(5)).both(x_t, t)
    numbers = found[0]["places"].repeat_interleave(128, 0)
    alone = guidance.categorical(
        lambda x, time: DENOISER({**x_t, "types": x}, time)["types"], FLOW.blocks["types"],
        lambda x: -loss({"places": numbers, "types": x}) / TAU, "mc", num_draws=128, smoothing=None,
        generator=generator(5),
    )  # fmt: skip
    torch.testing.assert_close(found[1]["types"], alone(x_t["types"], t), rtol=0, atol=1e-12)
    assert torch.equal(found[1]["places"], found[0]["places"])


def test_observed_elements_stay():
    x_t, _ = noisy(20, 0.7)
    t = {
        "places": torch.tensor([[0.0, 0.7]] * 20, dtype=torch.float64),
        "types": torch.full((20, 2), 0.7, dtype=torch.float64),
    }
    guide = TFGFlow(FLOW, loss, TAU, rho=0.1, mu=0.1, noise=0.1)
    _, moved, guided = guide(DENOISER, x_t, t, generator(0))
    assert torch.equal(moved["places"][:, 0], x_t["places"][:, 0])
    assert torch.equal(guided["places"][:, 0], x_t["places"][:, 0])
    assert float((moved["places"][:, 1] - x_t["places"][:, 1]).abs().max()) > 0.01
    assert torch.equal(moved["types"], x_t["types"])


def test_gradients_less_their_mean_leave_the_centre():
    x_t, t = noisy(20, 0.7)
    lopsided = lambda x: loss(x) + x["places"][:, 0]  # noqa: E731
    still = TFGFlow(FLOW, lopsided, TAU, rho=0.05, project=guidance.zero_mean)
    free = TFGFlow(FLOW, lopsided, TAU, rho=0.05)
    centre = x_t["places"].mean(1)
    torch.testing.assert_close(still(DENOISER, x_t, t, generator(0))[1]["places"].mean(1), centre)
    assert float((free(DENOISER, x_t, t, generator(0))[1]["places"].mean(1) - centre).abs().max()) > 0.01


def test_recurrence_walks_every_step_anew():
    solver = Moved(TFGFlow(FLOW, loss, TAU, rho=0.02, num_draws=64), samplers.Mixed(numeric=Euler()), 2)
    options = {"num_samples": 300, "shape": {"places": (2,)}, "num_steps": 20, "dtype": torch.float64}
    x = samplers.sample(DENOISER, FLOW, solver=solver, generator=generator(4), **options)
    plain = samplers.sample(DENOISER, FLOW, generator=generator(4), **options)
    assert bool((x["types"] < 2).all())
    assert float(loss(x).mean()) < 0.5 * float(loss(plain).mean())


def test_the_temperature_is_the_median_difference_of_losses():
    x0 = MOLECULES.sample(500, generator=generator(6))
    found = guidance.loss_spread(DENOISER, FLOW, loss, x0, num_draws=64, generator=generator(7))
    t = torch.full((500,), 0.5, dtype=torch.float64)
    noise = generator(7)
    answer = DENOISER(FLOW.corrupt(x0, t, generator=noise), t)
    rows = guidance.draws.joint_draws(answer["types"], 64, noise)
    losses = loss({"places": answer["places"].repeat_interleave(64, 0), "types": rows.flatten(0, 1)}).view(500, 64)
    gaps = (losses.unsqueeze(1) - losses.unsqueeze(2)).abs()[:, *torch.triu_indices(64, 64, 1)]
    assert found == pytest.approx(float(gaps[gaps > 1e-9].median()))
    with pytest.raises(ValueError, match="tells categories apart"):
        guidance.loss_spread(DENOISER, FLOW, lambda x: 0 * x["places"][:, 0], x0, num_draws=8)


def test_wrong_options_are_refused():
    for name, value in (("temperature", 0.0), ("clip", 0.0), ("num_draws", 0), ("rho", -1.0), ("mu", -1.0)):
        with pytest.raises(ValueError, match=name):
            TFGFlow(FLOW, loss, **{"temperature": TAU} | {name: value})


# ------------------------------------------------------------------------------------------- against the tilt


def test_the_posterior_of_a_masked_token_is_the_closed_form():
    """``pi_a N(x_t; alpha mu_a, alpha^2 S_a + sigma^2)``, of one token with numbers beside it."""
    law = MixedJoint([0.3, 0.7], [[-1.0], [0.5]], [[0.2], [0.6]])
    process = Mixed(numeric=VariancePreserving(), levels=Masked((2,)))
    x, t = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None], torch.full((9,), 0.4, dtype=torch.float64)
    answer = law.denoiser(process)({"numeric": x, "levels": torch.full((9, 1), 2)}, t)
    alpha, sigma = process.blocks["numeric"].alpha(t)[0], process.blocks["numeric"].sigma(t)[0]
    variance = alpha**2 * torch.tensor([0.2, 0.6], dtype=torch.float64) + sigma**2
    means = alpha * torch.tensor([-1.0, 0.5], dtype=torch.float64)
    weights = torch.tensor([0.3, 0.7]) * torch.exp(-0.5 * (x - means) ** 2 / variance) / variance.sqrt()
    torch.testing.assert_close(answer["levels"][:, 0].exp(), weights / weights.sum(1, keepdim=True))


def classes_and_means(x, weights):
    cells = MOLECULES.categories.cell(x["types"])
    law = torch.zeros(4, dtype=torch.float64).index_add(0, cells, weights)
    return law, (weights.unsqueeze(1) * x["places"]).sum(0)


def test_particles_turn_it_into_the_tilt():
    """Demanded .01 of the class law and .05 of log Z, at N = 20000; sampling alone makes about .006 of the former."""
    target, n = tilted(), 20_000
    guide = TFGFlow(FLOW, loss, TAU, mu=0.5, num_draws=16, num_iterations=2, smoothing=1.0, schedule="variance")
    guided = guidance.tfg_mixed(DENOISER, guide, generator=generator(8))
    particles = steering.run(
        DENOISER, FLOW, steering.Rewarded(lambda x: -loss(x) / TAU), proposal=guided, num_particles=n,
        num_steps=50, shape={"places": (2,)}, dtype=torch.float64, generator=generator(9),
    )  # fmt: skip
    law, mean = classes_and_means(particles.x, particles.log_weights[0].exp())
    cells = target.categories.probabilities.flatten()
    expected = (cells.unsqueeze(1) * target.means.flatten(0, 1)).sum(0)
    assert float((law - cells).abs().sum() / 2) < 0.01
    assert float(particles.log_z[0]) == pytest.approx(float(target.log_z), abs=0.05)
    assert float(particles.ess[-1, 0]) > 0.65 * n  # 0.60 without a proposal
    torch.testing.assert_close(mean, expected, rtol=0, atol=0.03)


def test_without_particles_it_is_near_but_not_there():
    target, n = tilted(), 10_000
    guide = TFGFlow(FLOW, loss, TAU, rho=0.02, num_draws=64)
    solver = Moved(guide, samplers.Mixed(numeric=Euler()))
    options = {"num_samples": n, "shape": {"places": (2,)}, "num_steps": 20, "dtype": torch.float64}
    found = {}
    for name, one in (("guided", solver), ("plain", samplers.Mixed(numeric=Euler()))):
        x = samplers.sample(DENOISER, FLOW, solver=one, generator=generator(10), **options)
        law, _ = classes_and_means(x, torch.full((n,), 1 / n, dtype=torch.float64))
        found[name] = (float((law - target.categories.probabilities.flatten()).abs().sum() / 2), float(loss(x).mean()))
    assert found["guided"][0] < found["plain"][0]
    assert found["guided"][1] < 0.4 * found["plain"][1]
