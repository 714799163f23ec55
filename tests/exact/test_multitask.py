"""Several modalities in one latent: forward law, posterior, and a linear-Gaussian world where all is known."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from clarkia import samplers, schedules
from clarkia.denoisers import Preconditioned
from clarkia.networks.multihead import MultiHead
from clarkia.objectives.multitask import JointDenoiser, MultiTaskELBO
from clarkia.oracles import GaussianMixture
from clarkia.processes import RectifiedFlow, VariancePreserving
from clarkia.processes.aggregated import AggregatedGaussian, ClassEncoder, identity
from clarkia.random import generator
from clarkia.samplers.aggregated import given_classes, latent_denoiser, sample_jointly

DOUBLE = torch.float64
VP = VariancePreserving()


def at(step, n, steps=50):
    return torch.full((n,), step / steps, dtype=DOUBLE)


def random_weights(seed, steps=50):
    first = torch.rand(steps, generator=generator(seed), dtype=DOUBLE)
    second = torch.rand(steps, generator=generator(seed + 1), dtype=DOUBLE) * (torch.arange(steps) > steps // 2)
    return {"one": first / 10, "two": second / 10}


def test_the_marginal_is_that_of_simulated_chains():
    """200,000 chains of 50 steps with random weights: mean and variance within four standard errors at each decade."""
    weights, n, steps = random_weights(0), 200_000, 50
    process = AggregatedGaussian(VP, {"one": identity, "two": lambda x: 2 * x}, weights)
    x = {"one": torch.tensor([[1.5]], dtype=DOUBLE), "two": torch.tensor([[-0.7]], dtype=DOUBLE)}
    code = {"one": 1.5, "two": -1.4}
    alpha = VP.alpha(torch.arange(steps + 1, dtype=DOUBLE) / steps)
    z, noise = torch.zeros(n, dtype=DOUBLE), generator(1)
    for step in range(1, steps + 1):
        shrink = float(alpha[step] / alpha[step - 1])
        entering = sum(float(weights[name][step - 1]) * code[name] for name in code)
        draw = torch.randn(n, generator=noise, dtype=DOUBLE)
        z = shrink * (z + entering) + math.sqrt(1 - shrink**2) * draw
        if step % 10 == 0:
            t = at(step, 1)
            mean, variance = float(VP.alpha(t) * process.signal(x, t)[0, 0]), float(VP.sigma(t)) ** 2
            assert abs(float(z.mean()) - mean) < 4 * math.sqrt(variance / n)
            assert abs(float(z.var()) - variance) < 4 * variance * math.sqrt(2 / n)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("late", "early"), [(30, 29), (40, 12), (2, 1)])
def test_a_step_keeps_the_marginals_and_the_posterior_is_gaussian_conditioning(eta, late, early):
    process = AggregatedGaussian(VP, {"one": identity, "two": identity}, random_weights(2))
    x = {name: torch.randn(1, 3, generator=generator(seed), dtype=DOUBLE) for seed, name in enumerate(("one", "two"))}
    t, s = at(late, 1), at(early, 1)
    z_t = torch.randn(1, 3, generator=generator(9), dtype=DOUBLE)
    kernel = process.kernel(z_t, x, t, s, eta=eta)
    m_t, m_s = (float(VP.alpha(time)) * process.signal(x, time) for time in (t, s))
    var_t, var_s = (float(VP.sigma(time)) ** 2 for time in (t, s))
    slope = process.kernel(z_t + 1, x, t, s, eta=eta).mean - kernel.mean
    # Averaged over z_t, the step must lead to N(m_s, var_s).
    torch.testing.assert_close(kernel.mean + slope * (m_t - z_t), m_s, rtol=0, atol=1e-10)
    torch.testing.assert_close(
        slope**2 * var_t + kernel.std**2, torch.full((1, 3), var_s, dtype=DOUBLE), rtol=0, atol=1e-10
    )
    if eta == 1.0:  # cov(z_s, z_t) = sqrt(a) var_s
        covariance = float(VP.alpha(t) / VP.alpha(s)) * var_s
        mean = m_s + covariance / var_t * (z_t - m_t)
        torch.testing.assert_close(kernel.mean, mean, rtol=0, atol=1e-10)
        exact = math.sqrt(var_s - covariance**2 / var_t)
        torch.testing.assert_close(kernel.std.expand(1, 3), torch.full((1, 3), exact, dtype=DOUBLE), rtol=0, atol=1e-10)


def test_the_published_posterior():
    """``v [m_{t-1} / (1 - ab_{t-1}) + sqrt(a) (z_t - sqrt(a) sum w E) / (1 - a)]`` with the weights of one step."""
    weights = random_weights(4)
    process = AggregatedGaussian(VP, {"one": identity, "two": identity}, weights)
    x = {name: torch.randn(1, 3, generator=generator(seed), dtype=DOUBLE) for seed, name in enumerate(("one", "two"))}
    z_t = torch.randn(1, 3, generator=generator(9), dtype=DOUBLE)
    for step in (2, 17, 50):
        t, s = at(step, 1), at(step - 1, 1)
        a = (VP.alpha(t) / VP.alpha(s)) ** 2
        rest, rest_before = VP.sigma(t) ** 2, VP.sigma(s) ** 2
        v = rest_before * (1 - a) / rest
        entering = sum(weights[name][step - 1] * x[name] for name in x)
        before = VP.alpha(s) * process.signal(x, s)
        mean = v * (before / rest_before + a.sqrt() * (z_t - a.sqrt() * entering) / (1 - a))
        kernel = process.kernel(z_t, x, t, s)
        torch.testing.assert_close(kernel.mean, mean, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(kernel.std, v.sqrt()[:, None], rtol=1e-10, atol=0)


@pytest.mark.parametrize("process", [VP, RectifiedFlow()])
def test_without_other_modalities_it_is_the_plain_process_bit_for_bit(process):
    joint = AggregatedGaussian(process, {"one": identity, "two": lambda x: 3 * x}, {"one": 1.0, "two": 0.0})
    x0 = torch.randn(5, 3, generator=generator(0))
    x = {"one": x0, "two": torch.randn(5, 3, generator=generator(1))}
    t, s = torch.rand(5, generator=generator(2), dtype=DOUBLE), torch.zeros(5, dtype=DOUBLE)
    z = joint.corrupt(x, t, generator=generator(3))
    assert torch.equal(z, process.corrupt(x0, t, generator=generator(3)))
    for end in (s, 0.5 * t):
        ours, plain = joint.kernel(z, x, t, end), process.kernel(z, x0, t, end)
        assert torch.equal(ours.mean, plain.mean)
        assert torch.equal(ours.std, plain.std)


def test_a_late_modality_is_not_in_the_latent_near_the_data():
    process = AggregatedGaussian(VP, {"one": identity, "two": identity}, random_weights(6))
    t = torch.tensor([0.0, 0.52, 0.54, 1.0], dtype=DOUBLE)
    assert process.share("two", t)[:2].tolist() == [0.0, 0.0]
    assert float(process.share("two", t)[2]) > 0
    assert torch.equal(process.share("one", t[:1]), process.share("one", at(1, 1)))
    # A time in single precision belongs to the step it was meant for.
    steps = torch.arange(1, 51)
    found = process.share("one", (steps / 50).float())
    torch.testing.assert_close(found, process.share("one", steps.double() / 50), rtol=0, atol=0)


def test_a_late_modality_is_read_where_it_was_last_there():
    process = AggregatedGaussian(VP, {"one": identity, "two": identity}, random_weights(6))  # two enters in step 27

    def denoise(z_t, t):
        return {"one": z_t, "two": t[:, None].expand_as(z_t)}

    drawn = sample_jointly(denoise, process, 3, (2,), num_steps=50, generator=generator(0))
    assert drawn["two"].flatten().tolist() == pytest.approx([27 / 50] * 6)


def test_classes_as_vectors():
    encode = ClassEncoder.random(4, (2, 3), generator=generator(0))
    torch.testing.assert_close(encode.vectors.square().mean((1, 2)), torch.ones(4))
    classes = torch.tensor([2, 0])
    certain = torch.full((2, 4), -torch.inf).scatter(1, classes[:, None], 0.0)
    torch.testing.assert_close(encode(certain), encode(classes))
    half = torch.tensor([[0.5, 0.5, 0.0, 0.0]]).log()
    torch.testing.assert_close(encode(half)[0], encode.vectors[:2].mean(0))


# ---------------------------------------------------------------------------------------- a linear-Gaussian world

D = 4
ROOT = torch.randn(D, D, generator=generator(20), dtype=DOUBLE)
SIGMA = ROOT @ ROOT.T / D + 0.2 * torch.eye(D, dtype=DOUBLE)  # of (x1, x2), two numbers each
ENCODE = {
    "one": torch.eye(D, dtype=DOUBLE)[:2],
    "two": torch.tensor([[0.3, 0.0, 0.6, 0.0], [0.0, -0.3, 0.2, 0.6]], dtype=DOUBLE),
}
LINEAR = AggregatedGaussian(VP, {name: (lambda x, m=m: x @ m) for name, m in ENCODE.items()}, {"one": 1.0, "two": 1.0})
MIX = torch.cat([ENCODE["one"], ENCODE["two"]])  # (x1, x2) @ MIX is the clean latent


def exact_heads(z_t, t, condition=None):
    """``E[(x1, x2) | z_t]``, the linear posterior of jointly normal numbers."""
    alpha, sigma = float(VP.alpha(t[0])), float(VP.sigma(t[0]))
    cross = alpha * SIGMA @ MIX
    gain = torch.linalg.solve(alpha * MIX.T @ cross + sigma**2 * torch.eye(D, dtype=DOUBLE), cross.T).T
    both = z_t.double() @ gain.T
    return {"one": both[:, :2], "two": both[:, 2:]}


def draw(n, seed=0):
    both = torch.randn(n, D, generator=generator(seed), dtype=DOUBLE) @ torch.linalg.cholesky(SIGMA).T
    return {"one": both[:, :2], "two": both[:, 2:]}


def test_with_exact_heads_samples_have_the_covariance_of_the_data():
    scale = SIGMA.diagonal().sqrt()
    scale = scale[:, None] * scale
    grids = {0.0: schedules.uniform, 1.0: lambda steps: schedules.cosine(steps, VP)}
    for eta, grid in grids.items():
        errors = [float(((carried_covariance(grid(n), eta) - SIGMA) / scale).abs().max()) for n in (125, 500)]
        assert errors[1] < 0.02
        assert errors[1] / errors[0] == pytest.approx(0.25, abs=0.03)  # of first order in the steps
    n = 10_000
    drawn = sample_jointly(exact_heads, LINEAR, n, (D,), num_steps=50, generator=generator(3), dtype=DOUBLE)
    both = torch.cat([drawn["one"], drawn["two"]], 1)
    exact = carried_covariance(schedules.uniform(50), 1.0)
    assert float(((torch.cov(both.T) - exact) / scale).abs().max()) < 5 * math.sqrt(2 / n)
    assert float(((exact - SIGMA) / scale).abs().max()) > 0.1


def carried_covariance(grid, eta):
    """The covariance of what the sampler draws on a grid: every step is linear, so nothing need be drawn."""
    eye, covariance = torch.eye(D, dtype=DOUBLE), torch.eye(D, dtype=DOUBLE)
    for t, s in pairwise(node.expand(D) for node in grid):
        heads = torch.cat(list(exact_heads(eye, t).values()), 1)
        outcome = heads.T @ covariance @ heads
        kernel = LINEAR.kernel(eye, exact_heads(eye, t), t, s, eta=eta)
        covariance = kernel.mean.T @ covariance @ kernel.mean + float(kernel.std[0, 0]) ** 2 * eye
    return outcome


def test_a_fast_solver_samples_the_signal_of_a_constant_law():
    denoiser = latent_denoiser(exact_heads, LINEAR)
    z = samplers.sample(
        denoiser, VP, num_samples=20_000, shape=(D,), num_steps=30, generator=generator(4), dtype=DOUBLE
    )
    exact = MIX.T @ SIGMA @ MIX
    assert float((torch.cov(z.T) - exact).abs().max()) < 0.06
    t = torch.full((6,), 0.4, dtype=DOUBLE)
    oracle = GaussianMixture([1.0], torch.zeros(1, D), exact[None]).denoiser(VP)
    torch.testing.assert_close(denoiser(z[:6], t), oracle(z[:6], t), rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="constant shares"):
        latent_denoiser(exact_heads, AggregatedGaussian(VP, {"one": identity, "two": identity}, random_weights(0)))


def test_given_modalities_come_out_as_given_and_lead_the_others():
    """What is imputed leans the way of the exact conditional mean, though it is no exact draw from that law."""
    n = 4000
    known = {"one": torch.tensor([[1.0, -1.0]], dtype=DOUBLE).expand(n, 2)}
    drawn = sample_jointly(
        exact_heads, LINEAR, n, (D,), given=known, num_steps=100, generator=generator(5), dtype=DOUBLE
    )
    assert torch.equal(drawn["one"], known["one"])
    exact = SIGMA[2:, :2] @ torch.linalg.solve(SIGMA[:2, :2], known["one"][0])
    found = drawn["two"].mean(0)
    assert float(torch.nn.functional.cosine_similarity(found, exact, dim=0)) > 0.9


class Level:
    """All rows at one noise level."""

    def quantile(self, u):
        return torch.full_like(u, -0.3)


def test_linear_heads_that_are_trained_are_the_exact_ones():
    """Least squares through the objective itself, at one noise level: within 1e-2."""
    heads = MultiHead(nn.Identity(), {name: nn.Linear(D, 2, bias=False) for name in ENCODE}).double()
    heads.backbone.forward = lambda inputs, noise, condition=None: inputs
    denoiser = JointDenoiser(heads, LINEAR)
    objective = MultiTaskELBO(LINEAR, noise=Level())
    x0 = draw(40_000, seed=7)
    optimizer = torch.optim.LBFGS(heads.parameters(), max_iter=25, line_search_fn="strong_wolfe")
    seen = []

    def loss():
        optimizer.zero_grad()
        total = sum(part.mean() for part in objective(denoiser, x0, generator(8)).values())
        total.backward()
        seen.append(float(total.detach()))
        return total

    optimizer.step(loss)
    assert seen[-1] < seen[0]
    t = VP.t_of_kappa(torch.tensor([math.exp(-0.3)], dtype=DOUBLE)).expand(D)
    eye = torch.eye(D, dtype=DOUBLE)
    found, exact = denoiser(eye, t), exact_heads(eye, t)
    for name in ENCODE:
        torch.testing.assert_close(found[name].detach(), exact[name], rtol=0, atol=1e-2)


def test_the_losses_of_exact_heads_are_their_posterior_variances():
    objective = MultiTaskELBO(LINEAR, {"two": 0.5}, weight="x0", noise=Level())
    n = 100_000
    losses = objective(exact_heads, draw(n, seed=9), generator(10))
    t = VP.t_of_kappa(torch.tensor([math.exp(-0.3)], dtype=DOUBLE))
    alpha, sigma = float(VP.alpha(t)), float(VP.sigma(t))
    cross = alpha * SIGMA @ MIX
    left = SIGMA - cross @ torch.linalg.solve(alpha * MIX.T @ cross + sigma**2 * torch.eye(D, dtype=DOUBLE), cross.T)
    exact = {
        "latent": float((MIX.T @ left @ MIX).trace()) / D,
        "one": alpha**2 * float(left[:2, :2].trace()) / 2,
        "two": 0.5 * alpha**2 * float(left[2:, 2:].trace()) / 2,
    }
    for name, value in exact.items():
        assert abs(float(losses[name].mean()) - value) < 4 * float(losses[name].std()) / math.sqrt(n), name


def test_a_step_divergence_is_the_squared_gap_of_the_means():
    objective, n = MultiTaskELBO(LINEAR), 6
    x0, t, s = draw(n), at(20, n), at(19, n)
    z_t = LINEAR.corrupt(x0, t, generator=generator(11))
    prediction = exact_heads(z_t, t)
    gap = LINEAR.kernel(z_t, x0, t, s).mean - LINEAR.kernel(z_t, prediction, t, s).mean
    a = float(VP.alpha(t[0]) / VP.alpha(s[0])) ** 2
    variance = float(VP.sigma(s[0])) ** 2 * (1 - a) / float(VP.sigma(t[0])) ** 2
    found = objective.step_divergence(exact_heads, x0, t, s, generator(11))
    torch.testing.assert_close(found, gap.square().sum(1) / (2 * variance), rtol=1e-9, atol=0)


def test_classes_beside_numbers():
    encoders = {"image": identity, "label": ClassEncoder.random(3, (2, 2), generator=generator(0))}
    process = AggregatedGaussian(VP, encoders, {"image": 1.0, "label": 0.5})

    class Heads(nn.Module):
        def forward(self, inputs, noise, condition=None):
            assert noise.shape == (len(inputs),)
            return {"image": torch.zeros_like(inputs), "label": torch.zeros(len(inputs), 3)}

    denoiser = JointDenoiser(Heads(), process, main="image", classes=("label",))
    x0 = {"image": torch.randn(8, 2, 2, generator=generator(1)), "label": torch.arange(8) % 3}
    losses = MultiTaskELBO(process, {"label": 2.0})(denoiser, x0, generator(2))
    assert {name: part.shape for name, part in losses.items()} == dict.fromkeys(("latent", "image", "label"), (8,))
    assert float(losses["label"].max()) < 2 * math.log(3)
    drawn = sample_jointly(denoiser, process, 50, (2, 2), classes=("label",), num_steps=5, generator=generator(3))
    assert drawn["image"].shape == (50, 2, 2)
    assert drawn["label"].dtype == torch.int64
    assert set(drawn["label"].tolist()) == {0, 1, 2}
    known = torch.zeros(50, dtype=torch.int64)
    given = sample_jointly(denoiser, process, 50, (2, 2), given={"label": known}, num_steps=5, generator=generator(3))
    assert torch.equal(given["label"], known)


# --------------------------------------------------------------------------------------- numbers and their classes

CODES = ClassEncoder(torch.tensor([[0.4, 0.0], [0.0, 0.4], [-0.3, -0.3]], dtype=DOUBLE))
ODDS = torch.tensor([0.5, 0.3, 0.2], dtype=DOUBLE)
MEANS = torch.tensor([[0.0, 0.5], [-1.0, 0.0], [1.0, -1.0]], dtype=DOUBLE)
SPREADS = torch.stack([a @ a.T for a in torch.randn(3, 2, 2, generator=generator(30), dtype=DOUBLE)])
SPREADS = 0.3 * SPREADS + 0.2 * torch.eye(2, dtype=DOUBLE)
LATE = torch.cat([torch.zeros(10, dtype=DOUBLE), torch.full((40,), 0.02, dtype=DOUBLE)])  # the label's weights
ONCE = torch.cat([torch.ones(1, dtype=DOUBLE), torch.zeros(49, dtype=DOUBLE)])  # enters in the first step only


def labelled(main=1.0, label=1.0):
    return AggregatedGaussian(VP, {"image": identity, "label": CODES}, {"image": main, "label": label})


def within_classes(process, z_t, t):
    """``E[x | z_t, y]`` of every class ``(n, K, 2)``, and ``log p(y | z_t)``, by the normal law within a class."""
    alpha, sigma = VP.alpha(t)[:, None], VP.sigma(t)[:, None]
    main, label = process.share("image", t)[:, None], process.share("label", t)[:, None]
    means, log_p = [], []
    for k in range(3):
        gap = z_t - alpha * (main * MEANS[k] + label * CODES.vectors[k])
        gain = (alpha * main)[:, :, None] * SPREADS[k]
        whole = (alpha * main)[:, :, None] * gain + (sigma**2)[:, :, None] * torch.eye(2, dtype=DOUBLE)
        means.append(MEANS[k] + (gain @ torch.linalg.solve(whole, gap[:, :, None]))[:, :, 0])
        law = torch.distributions.MultivariateNormal(torch.zeros(2, dtype=DOUBLE), whole)
        log_p.append(ODDS[k].log() + law.log_prob(gap))
    return torch.stack(means, 1), torch.stack(log_p, 1).log_softmax(1)


def exact_pair(process):
    """What heads learn: ``E[x | z_t]`` and ``log p(y | z_t)``."""

    def denoise(z_t, t, condition=None):
        means, log_p = within_classes(process, z_t, t.double())
        return {"image": (log_p.exp()[:, :, None] * means).sum(1), "label": log_p}

    return denoise


@pytest.mark.parametrize("shares", [(1.0, 1.0), (1.0, 0.0), (0.7, 0.2), (ONCE, LATE)])
def test_given_a_class_the_prediction_is_bayes_rule(shares):
    process, n = labelled(*shares), 60
    y = torch.arange(n) % 3
    t = torch.rand(n, generator=generator(31), dtype=DOUBLE) * 0.9 + 0.05
    z_t = 1.5 * torch.randn(n, 2, generator=generator(32), dtype=DOUBLE)
    with torch.no_grad():
        found = given_classes(exact_pair(process), process, "image", {"label": y})(z_t, t)
    means, log_p = within_classes(process, z_t, t)
    torch.testing.assert_close(found["image"], means[torch.arange(n), y], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found["label"], log_p)
    assert not found["image"].requires_grad


@pytest.mark.parametrize("shares", [(1.0, 1.0), (1.0, 0.25), (ONCE, LATE)])
def test_samples_given_a_class_are_those_of_the_class(shares):
    """Mean and covariance within five standard errors of the class's own; imputation alone is far off."""
    process, n, k = labelled(*shares), 2000, 2
    known = {"label": torch.full((n,), k)}
    grid = schedules.cosine(100, VP)

    def draws(denoiser):
        found = sample_jointly(
            denoiser, process, n, (2,), given=known, times=grid, generator=generator(33), dtype=DOUBLE
        )
        return found["image"]

    exact = exact_pair(process)
    x = draws(given_classes(exact, process, "image", known))
    error = (SPREADS[k].diagonal() / n).sqrt()
    assert float(((x.mean(0) - MEANS[k]) / error).abs().max()) < 5
    scale = SPREADS[k].diagonal().sqrt()
    gap = (torch.cov(x.T) - SPREADS[k]) / (scale[:, None] * scale)
    assert float(gap.abs().max()) < 5 * math.sqrt(2 / n) + 0.02  # and what 100 steps leave
    assert float(((draws(exact).mean(0) - MEANS[k]) / error).abs().max()) > 15


def test_given_a_class_a_fast_solver_serves_too():
    process, n, k = labelled(1.0, 0.25), 4000, 1
    known = {"label": torch.full((n,), k)}
    denoiser = latent_denoiser(given_classes(exact_pair(process), process, "image", known), process, known)
    z = samplers.sample(denoiser, VP, num_samples=n, shape=(2,), num_steps=30, generator=generator(34), dtype=DOUBLE)
    x = z - 0.25 * CODES.vectors[k]
    assert float(((x.mean(0) - MEANS[k]) / (SPREADS[k].diagonal() / n).sqrt()).abs().max()) < 5
    assert float((torch.cov(x.T) - SPREADS[k]).abs().max()) < 0.06


def test_pure_noise_says_nothing_of_the_class():
    flow = AggregatedGaussian(RectifiedFlow(), {"image": identity, "label": CODES}, {"image": 1.0, "label": 1.0})
    heads = {"image": lambda z: 0 * z, "label": lambda z: (z @ CODES.vectors.T).log_softmax(-1)}
    denoiser = given_classes(
        lambda z, t: {name: head(z) for name, head in heads.items()}, flow, "image", {"label": torch.tensor([0, 1])}
    )
    z = torch.randn(2, 2, generator=generator(35), dtype=DOUBLE)
    assert bool(denoiser(z, torch.ones(2, dtype=DOUBLE))["image"].isfinite().all())


class Answers(nn.Module):
    """The same raw numbers whatever is asked."""

    def __init__(self, image, label):
        super().__init__()
        self.image, self.label = image, label

    def forward(self, inputs, noise, condition=None):
        return {"image": self.image.expand_as(inputs), "label": self.label}


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_a_main_modality_is_preconditioned_without_the_others(share):
    """As it were alone in ``z_t`` less what the other heads say is there: near the data the network adds nothing."""
    process, n = labelled(share, 0.8), 12
    y = torch.arange(n) % 3
    logits = torch.full((n, 3), -50.0, dtype=DOUBLE).scatter(1, y[:, None], 50.0)
    x0 = {"image": torch.randn(n, 2, generator=generator(36), dtype=DOUBLE), "label": y}
    silent = JointDenoiser(
        Answers(torch.zeros(1, dtype=DOUBLE), logits), process, main="image", classes=("label",), data_std=1.4
    )
    at_data = torch.zeros(n, dtype=DOUBLE)
    torch.testing.assert_close(silent(process.corrupt(x0, at_data), at_data)["image"], x0["image"])
    t = torch.rand(n, generator=generator(37), dtype=DOUBLE)
    z_t = process.corrupt(x0, t, generator=generator(38))
    alone = (z_t - 0.8 * VP.alpha(t)[:, None] * CODES(y)) / share  # alpha x + (sigma / share) eps
    raw = torch.tensor([0.3], dtype=DOUBLE)
    spoken = JointDenoiser(Answers(raw, logits), process, main="image", classes=("label",), data_std=1.4)
    alpha, sigma = VP.alpha(t)[:, None], VP.sigma(t)[:, None] / share
    variance = (1.4 * alpha) ** 2 + sigma**2
    exact = alpha * 1.4**2 / variance * alone + 1.4 * sigma / variance.sqrt() * raw
    torch.testing.assert_close(spoken(z_t, t)["image"], exact)


def test_a_main_modality_without_others_in_the_latent_is_preconditioned_as_ever():
    process = labelled(1.0, 0.0)
    raw = torch.randn(5, 2, generator=generator(39), dtype=DOUBLE)
    joint = JointDenoiser(
        Answers(raw, torch.zeros(5, 3, dtype=DOUBLE)), process, main="image", classes=("label",), data_std=0.5
    )
    plain = Preconditioned(Answers(raw, None), VP, data_std=0.5)
    plain.network.forward = lambda inputs, noise, condition: raw
    z, t = torch.randn(5, 2, generator=generator(40), dtype=DOUBLE), torch.linspace(0.1, 1.0, 5, dtype=DOUBLE)
    assert torch.equal(joint(z, t)["image"], plain(z, t))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: AggregatedGaussian(VP, {"one": identity}, {"two": 1.0}), "shares"),
        (
            lambda: AggregatedGaussian(VP, dict.fromkeys("ab", identity), {"a": torch.ones(3), "b": torch.ones(4)}),
            "one",
        ),
        (lambda: LINEAR.signal({"one": torch.zeros(1, 2).double()}, torch.ones(1)), "no 'two'"),
        (lambda: MultiTaskELBO(LINEAR, {"three": 1.0}), "weights"),
        (lambda: MultiTaskELBO(LINEAR, weight="snr"), "weight"),
        (lambda: JointDenoiser(nn.Identity(), LINEAR, main="three"), "main"),
        (lambda: JointDenoiser(nn.Identity(), labelled(LATE, ONCE), main="image"), "from the start"),
        (lambda: given_classes(exact_heads, LINEAR, "one", {}), "known"),
        (lambda: sample_jointly(exact_heads, LINEAR, 1, (D,), num_steps=2, times=torch.tensor([1.0, 0.0])), "both"),
    ],
)
def test_wrong_arguments(make, words):
    with pytest.raises(ValueError, match=words):
        make()
