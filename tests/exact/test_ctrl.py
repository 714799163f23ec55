"""Control of a denoiser against closed forms: chains of normals, one category, and a mixture with a classifier."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from clarkia import schedules
from clarkia.alignment import Control, ControlCost, Controlled, Copy, Correction, chain, control_gap, ctrl
from clarkia.denoisers import Preconditioned
from clarkia.guidance import classifier_free
from clarkia.guidance.guided import Guided
from clarkia.networks.conditioning import Conditions
from clarkia.oracles import FiniteJoint, GaussianMixture
from clarkia.processes import Masked, VarianceExploding, VariancePreserving
from clarkia.random import generator, randn
from clarkia.training import TrainingOptions
from small_networks import dit, shaken, unet, uvit

VP, VE = VariancePreserving(), VarianceExploding(0.02, 20.0)
STEPS = 6
TIMES = schedules.uniform(STEPS)
WIDE, AIM, SHARP, GAIN = 1.3, 0.8, 0.7, -0.25  # data N(0, WIDE), classifier exp(-(x - AIM)^2 / 2 SHARP^2)
NORMAL = GaussianMixture([1.0], [[0.0]], [WIDE])
NEAR = Control(lambda x, y: -0.5 * ((x.flatten(1)[:, 0] - AIM) / SHARP).square(), 2, gamma=1.5)


class Offsets(nn.Module):
    """A constant and a share of the state added to each prediction: the chain stays normal, and all is known of it."""

    def __init__(self, values):
        super().__init__()
        self.values = nn.Parameter(torch.as_tensor(values, dtype=torch.float32))

    def forward(self, plain, x_t, t, labels, condition=None):
        index = (TIMES.to(t) - t[0]).abs().argmin()
        return plain() + self.values[index] + GAIN * x_t


def controlled(values=(0.3, -0.2, 0.5, 0.1, 0.4)):
    return Controlled(NORMAL.denoiser(VP), Offsets(values), float(TIMES[-2]))


def closed_form(values, gain_=GAIN):
    """Cost, divergence, mean and variance of the chain with these offsets, in float64 with its gradient."""
    mean, variance, kl = torch.zeros((), dtype=torch.float64), VP.sigma(TIMES[:1])[0] ** 2, 0.0
    for index in range(STEPS):
        t, s = TIMES[index, None], TIMES[index + 1, None]
        decay, weight, std = (part[0] for part in VP.step_weights(t, s, eta=1.0))
        alpha, sigma = VP.alpha(t)[0], VP.sigma(t)[0]
        slope = decay + weight * alpha * WIDE / (alpha**2 * WIDE + sigma**2)
        push, gain = (0.0, 0.0) if index == STEPS - 1 else (weight * values[index], weight * gain_)
        if index < STEPS - 1:
            kl = kl + ((push + gain * mean) ** 2 + gain**2 * variance) / (2 * std**2)
        mean, variance = (slope + gain) * mean + push, (slope + gain) ** 2 * variance + std**2
    cost = kl + NEAR.gamma * ((mean - AIM) ** 2 + variance) / (2 * SHARP**2)
    return cost, kl, mean, variance


def gradients(module, cost, batches=30, rows=1000):
    """The gradient with respect to the offsets, batch by batch."""
    found = []
    for batch in range(batches):
        module.zero_grad()
        noise = generator(1, batch)
        losses = cost(module, None, noise, num_samples=rows)
        (losses["kl"] + losses["reward"]).mean().backward()
        found.append(module.change.values.grad.double().clone())
    return torch.stack(found)


@pytest.mark.parametrize(
    ("gradient", "truncate"), [("pathwise", None), ("pathwise", "random"), ("score", None), ("score", "random")]
)
def test_the_gradient_of_a_chain_of_normals(gradient, truncate):
    """Either estimate against the closed form, 30 batches; one cut a chain scales step i by (i + 1) / steps.

    Five numbers within five standard errors: a false alarm in some 10 000 seeds (Student, 29 degrees).
    """
    module = controlled()
    values = module.change.values.detach().double().requires_grad_()
    (exact,) = torch.autograd.grad(closed_form(values)[0], values)
    if truncate is not None:
        exact = exact * torch.arange(1, STEPS) / STEPS
    cost = ControlCost(VP, (NEAR,), (1,), TIMES, gradient=gradient, truncate=truncate)
    found = gradients(module, cost)
    error = found.std(0) / len(found) ** 0.5
    assert bool(((found.mean(0) - exact).abs() < 5 * error).all()), (found.mean(0), exact, error)
    assert float(error.max()) < 0.15 * float(exact.abs().max())  # sharp enough to tell


def test_recomputed_answers_have_the_same_gradient():
    kept, again = (
        gradients(controlled(), ControlCost(VP, (NEAR,), (1,), TIMES, recompute=recompute), batches=1)
        for recompute in (False, True)
    )
    assert torch.equal(kept, again)


def test_cost_and_evidence_of_any_control():
    """Cost and log Z of a chain whose control is arbitrary, both from its own draws: within four standard errors."""
    module = controlled()
    cost, _, _, _ = closed_form(module.change.values.detach().double())
    _, _, mean, variance = closed_form(torch.zeros(STEPS - 1, dtype=torch.float64), 0.0)
    shrink = 1 + NEAR.gamma * variance / SHARP**2
    log_z = float(-0.5 * shrink.log() - 0.5 * NEAR.gamma * (mean - AIM) ** 2 / SHARP**2 / shrink)
    found = control_gap(
        module, VP, NEAR, 1, shape=(1,), times=TIMES, num_samples=40_000, generator=generator(2), held_out=NEAR
    )
    assert abs(found.loss - float(cost)) < 4 * found.loss_error
    assert abs(found.log_z - log_z) < 4 * found.log_z_error < 0.05
    assert found.gap > 0.05
    assert 0 < found.judged < 1


def test_divergences_are_sums_over_elements():
    """A row of d equal coordinates pays d times as much as one of them, whatever their number."""
    x, values = randn((4, 1), generator(3)), (0.3, -0.2, 0.5, 0.1, 0.4)
    paid = {}
    for d in (1, 7):
        law = GaussianMixture([1.0], torch.zeros(1, d), [WIDE])
        module = Controlled(law.denoiser(VP), Offsets(values), float(TIMES[-2]))
        step = next(iter(chain(module, VP, x.expand(4, d), TIMES, {"control": torch.zeros(4, 1, dtype=torch.int64)})))
        paid[d] = step.kl().detach()
    torch.testing.assert_close(paid[7], 7 * paid[1], rtol=1e-5, atol=0)


# ------------------------------------------------------------------------------------- a mixture with a classifier

GRID = torch.linspace(-4.5, 5.5, 601, dtype=torch.float64)
WEIGHTS, CENTRES, WIDTHS = (0.6, 0.4), (-1.0, 1.5), (0.5, 0.7)
DENSITY = sum(
    w * torch.exp(-0.5 * ((GRID - m) / s) ** 2) / (s * math.sqrt(2 * math.pi))
    for w, m, s in zip(WEIGHTS, CENTRES, WIDTHS, strict=True)
)
MIXTURE = GaussianMixture(WEIGHTS, [[m] for m in CENTRES], [s**2 for s in WIDTHS])


NODES, SHARES = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(32))
LOG_SHARES = SHARES.log()


def log_class(x, label):
    """A logistic classifier of slope 3 around 1/2."""
    return nn.functional.logsigmoid((2 * label - 1) * 3 * (x.flatten(1)[:, 0] - 0.5))


def tilted(gamma, label):
    """Mixture times classifier to the gamma: log Z, mean, deviation, divergence, and the exact denoiser."""
    log_factor = gamma * log_class(GRID[:, None], torch.tensor(label)).double()
    weight = DENSITY * log_factor.exp()
    step = float(GRID[1] - GRID[0])
    z = float(weight.sum()) * step
    law = weight * step / z
    mean = float(law @ GRID)
    std = float((law @ (GRID - mean) ** 2) ** 0.5)

    def denoise(x_t, t, condition=None):
        # Components given x_t are normal: Gauss and Hermite's nodes of each, weighed by the classifier.
        noise, x = VE.sigma(t[:1].double()) ** 2, x_t.double()
        variance = torch.tensor(WIDTHS).double() ** 2
        total = variance + noise
        share = (
            torch.tensor(WEIGHTS).double().log() - 0.5 * (x - torch.tensor(CENTRES)) ** 2 / total - 0.5 * total.log()
        )
        middle = torch.tensor(CENTRES) + variance / total * (x - torch.tensor(CENTRES))
        points = middle[..., None] + (variance * noise / total).sqrt()[:, None] * NODES
        factor = gamma * log_class(points.reshape(-1, 1), torch.tensor(label)).reshape(points.shape)
        posterior = (share[..., None] + LOG_SHARES + factor).flatten(1).softmax(1)
        return (posterior * points.flatten(1)).sum(1, keepdim=True).to(x_t.dtype)

    return math.log(z), mean, std, float(law @ log_factor) - math.log(z), denoise


REFERENCE = [(1, 1, -1.0143, 1.540, 0.748, 0.780), (2, 1, -1.1516, 1.697, 0.605, 0.967),
             (5, 1, -1.3441, 1.831, 0.543, None), (1, 0, -0.4504, -0.876, None, None)]  # fmt: skip


@pytest.mark.parametrize(("gamma", "label", "log_z", "mean", "std", "kl"), REFERENCE)
def test_perfect_control_costs_minus_log_z(gamma, label, log_z, mean, std, kl):
    """With the tilted law's own denoiser the cost is ``-log Z`` and the divergence that of the laws.

    100 steps, 3000 chains. What is left is the gap of steps of equal width, some 4 / steps, that of the frozen chain
    from the mixture, some 2 / steps, and four standard errors (a false alarm in some 3000 of the checks made here).
    """
    exact = tilted(gamma, label)
    for found, published in zip(exact, (log_z, mean, std, kl), strict=False):
        assert published is None or found == pytest.approx(published, abs=6e-4)
    frozen = MIXTURE.denoiser(VE)
    guided = Guided(lambda x, t, c=None: (frozen(x, t), exact[4](x, t)))
    times, n = schedules.karras(100, VE), 3000
    control = Control(log_class, 2, gamma=gamma)
    found = control_gap(guided, VE, control, label, shape=(1,), times=times, num_samples=n, generator=generator(4))
    assert abs(found.loss + exact[0]) < 0.08 + 4 * found.loss_error
    assert 0 < found.gap < 0.06
    assert abs(found.log_z - exact[0]) < 0.02 + 4 * found.log_z_error
    assert found.effective > 0.94
    x, paid = VE.prior(n, (1,), generator=generator(5)), torch.zeros(n, dtype=torch.float64)
    for step in chain(guided, VE, x, times, generator=generator(6)):
        x, paid = step.x, paid + step.kl()
    assert float(paid.mean()) == pytest.approx(exact[3], abs=0.06 + 4 * float(paid.std()) / n**0.5)
    assert float(x.mean()) == pytest.approx(exact[1], abs=4 * exact[2] / n**0.5)
    assert float(x.std()) == pytest.approx(exact[2], rel=0.07)


# ------------------------------------------------------------------------------------------------------ one category

CLASSES = FiniteJoint([0.5, 0.3, 0.2])
HIDDEN = Masked((3,))
LIKELIHOOD = torch.tensor([0.1, 0.6, 0.9], dtype=torch.float64)
JUDGE = Control(lambda x, y: LIKELIHOOD.log()[x[:, 0]], 1, gamma=2.0)


class Tilt(nn.Module):
    """Log-probabilities plus a vector, where the cell is hidden."""

    def __init__(self, values):
        super().__init__()
        self.values = nn.Parameter(torch.as_tensor(values, dtype=torch.float64))

    def forward(self, plain, x_t, t, labels, condition=None):
        hidden = (x_t == 3)[..., None]
        return torch.where(hidden, (plain().double() + self.values).log_softmax(-1), plain().double())


def test_control_of_one_category_is_exact():
    """Tilted by gamma log p(y | x) every chain has the same weight, Z, and the same expected cost: no gap at all."""
    module = Controlled(CLASSES.denoiser(HIDDEN), Tilt(2 * LIKELIHOOD.log()))
    found = control_gap(
        module, HIDDEN, JUDGE, 0, shape=(1,), times=schedules.uniform(4), num_samples=500, generator=generator(9)
    )
    exact = math.log(float(CLASSES.probabilities @ LIKELIHOOD**2))
    assert found.log_z == pytest.approx(exact, abs=1e-6)
    assert found.effective == pytest.approx(1, abs=1e-9)
    assert abs(found.gap) < 4 * found.loss_error


def test_the_score_function_gradient_of_one_category():
    """Against the exact gradient of ``KL(q || p) - gamma E_q log p(y | x)``, five standard errors of 30 batches."""
    start = torch.tensor([0.4, -0.3, 0.1], dtype=torch.float64)
    values = start.clone().requires_grad_()
    log_q = (CLASSES.probabilities.log() + values).log_softmax(-1)
    cost = (log_q.exp() * (log_q - CLASSES.probabilities.log() - 2 * LIKELIHOOD.log())).sum()
    (exact,) = torch.autograd.grad(cost, values)
    module = Controlled(CLASSES.denoiser(HIDDEN), Tilt(start))
    loss = ControlCost(HIDDEN, (JUDGE,), (1,), schedules.uniform(4), gradient="score", truncate=None)
    found = gradients(module, loss)
    error = found.std(0) / len(found) ** 0.5
    assert bool(((found.mean(0) - exact).abs() < 5 * error).all()), (found.mean(0), exact, error)
    assert float(error.max()) < 0.1 * float(exact.abs().max())


# ----------------------------------------------------------------------------------------- what is learned, and where


def test_rows_without_labels_and_the_last_step_are_the_frozen_denoiser():
    module = Controlled(NORMAL.denoiser(VP), shaken(Correction(VP, 1, (2, 3))), float(TIMES[-2]))
    x, t = randn((4, 1), generator(10)), torch.full((4,), 0.5)
    labels = torch.tensor([[0, -1], [-1, -1], [1, 2], [-1, 0]])
    answer, plain = module(x, t, {"control": labels}), NORMAL.denoiser(VP)(x, t)
    assert torch.equal(answer[1], plain[1])
    assert bool((answer[[0, 2, 3]] != plain[[0, 2, 3]]).all())
    assert torch.equal(module(x, t), plain)
    last = TIMES[-2].float().expand(4)
    assert torch.equal(module(x, last, {"control": labels}), NORMAL.denoiser(VP)(x, last))
    pulled = classifier_free(module, 1.0)(x, t, {"control": labels})
    torch.testing.assert_close(pulled, 2 * answer - plain)


def test_a_certain_step_is_no_loophole():
    """An answer that is off in the last step alone, whatever it is made of, changes nothing of a chain."""
    module, plain = (Controlled(NORMAL.denoiser(VP), Offsets((0.0,) * STEPS)) for _ in range(2))
    with torch.no_grad():
        module.change.values[-1] = 100.0
    losses = ControlCost(VP, (NEAR,), (1,), TIMES)(module, None, generator(11), num_samples=50)
    others = ControlCost(VP, (NEAR,), (1,), TIMES)(plain, None, generator(11), num_samples=50)
    assert all(torch.equal(losses[name], others[name]) for name in ("kl", "reward"))


NETWORKS = {
    "dit": lambda: dit(Conditions()),
    "unet with labels": lambda: unet(Conditions(label_classes=(3,))),
    "uvit with labels": lambda: uvit(Conditions(label_classes=(3,))),
}


@pytest.mark.parametrize("rank", [2, None], ids=["adapters", "all weights"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_copy_starts_as_the_network_and_learns_beside_it(name, rank):
    network = NETWORKS[name]()
    base = shaken(Preconditioned(network, VP))
    before = {key: value.clone() for key, value in base.state_dict().items()}
    module = Controlled(base, Copy(base, (2, 3), rank=rank))
    x, t = randn((4, 2, 8, 8), generator(12)), torch.full((4,), 0.6)
    labels = torch.tensor([[0, -1], [-1, 2], [-1, -1], [1, 0]])
    condition = {"label": torch.tensor([[0], [1], [2], [1]])} if "labels" in name else {}
    told = {"control": labels, **condition}
    plain = base(x, t, condition or None)
    torch.testing.assert_close(module(x, t, told), plain, rtol=1e-5, atol=1e-5)
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        (module(x, t, told) - 1).square().sum().backward()
        optimiser.step()
    answer, plain = module(x, t, told).detach(), plain.detach()
    without = module(x, t, {**told, "control": torch.full((4, 2), -1)}).detach()
    assert torch.equal(answer[2], without[2])
    torch.testing.assert_close(without, plain, rtol=1e-5, atol=1e-5)
    assert bool(((answer - plain)[[0, 1, 3]].abs().amax((1, 2, 3)) > 1e-3).all())
    swapped = module(x, t, {**told, "control": torch.tensor([[1, -1], [-1, 0], [-1, -1], [0, 2]])}).detach()
    assert bool(((answer - swapped)[[0, 1, 3]].abs().amax((1, 2, 3)) > 1e-6).all())
    tables = [weight for key, weight in module.named_parameters() if "tables" in key]
    assert [len(table) for table in tables] == [3, 4]
    for table in tables:
        assert float(table[0].detach().abs().max()) == 0
        assert float(table[1].detach().abs().min()) > 0
    for key, value in before.items():
        assert torch.equal(base.state_dict()[key], value)
        assert torch.equal(module.frozen.state_dict()[key], value)


def test_training_closes_most_of_the_gap():
    """A correction learned on chains of eight steps: the gap of no control is large, what is left is small."""
    times = schedules.uniform(8)
    control = Control(lambda x, y: -0.5 * ((x[:, 0] - (2.0 * y - 1)) / 0.5).square(), 2)
    options = TrainingOptions(
        batch_size=128, max_steps=150, warmup_steps=10, learning_rate=1e-2, clip_norm=5.0, ema_decay=0.98
    )
    module = ctrl(NORMAL.denoiser(VP), VP, control, shape=(1,), options=options, times=times, width=32)
    none = Guided(lambda x, t, c=None: (NORMAL.denoiser(VP)(x, t),) * 2)
    for label in (0, 1):
        found, free = (
            control_gap(d, VP, control, label, shape=(1,), times=times, num_samples=4000, generator=generator(13))
            for d in (module, none)
        )
        assert free.gap > 1.5
        # The best answers of equal width: those of the law given the label (oracle), step by step.
        target = NORMAL.posterior([[1.0]], [2.0 * label - 1], [0.5]).denoiser(VP)
        best = control_gap(
            Guided(lambda x, t, c=None, target=target: (NORMAL.denoiser(VP)(x, t), target(x, t))), VP, control, label,
            shape=(1,), times=times, num_samples=4000, generator=generator(13),
        )  # fmt: skip
        assert found.gap < best.gap + 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Control(log_class, 0), "num_labels"),
        (lambda: Control(log_class, 2, law=(0.5, 0.6)), "law"),
        (lambda: Control(log_class, 2, gamma=math.inf), "gamma"),
        (lambda: ControlCost(HIDDEN, (JUDGE,), (1,), TIMES), "discrete"),
        (lambda: ControlCost(VP, (NEAR,), (1,), TIMES, truncate=3), "truncate"),
        (lambda: ControlCost(VP, (NEAR,), (1,), TIMES, drop=1.0), "drop"),
        (lambda: ControlCost(VP, (NEAR,), (1,), TIMES)(controlled(), None), "num_samples"),
        (lambda: Copy(nn.Linear(1, 1), (2,)), "correction"),
        (lambda: control_gap(controlled(), VP, NEAR, 2, shape=(1,), times=TIMES), "labels"),
        (lambda: control_gap(controlled(), VP, [], [], shape=(1,), times=TIMES), "controls"),
        (lambda: ctrl(NORMAL.denoiser(VP), VP, NEAR, shape=(1,), options=TrainingOptions(max_steps=1), change="x"),
         "change"),
        (lambda: ctrl(NORMAL.denoiser(VP), VP, NEAR, shape=(1,), options=TrainingOptions(max_steps=1), change="all"),
         "module"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
