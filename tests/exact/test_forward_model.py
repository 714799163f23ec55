"""Signals learned from measurements: a normal law in four dimensions, of which everything is known."""

from functools import partial

import pytest
import torch
from torch import nn

from clarkia import guidance, measures, samplers
from clarkia.forward_models import ThroughForward
from clarkia.measures.null_space import null_space_variance
from clarkia.objectives import Denoising, ForwardModelLoss, LogNormal
from clarkia.processes import VariancePreserving, spread
from clarkia.random import generator, randn
from clarkia.training import TrainingOptions, fit

PROCESS = VariancePreserving("cosine")
MEAN = torch.tensor([0.5, -1.0, 0.3, 0.8], dtype=torch.float64)
ROOT = torch.tensor(
    [[1.0, 0.0, 0.0, 0.0], [0.6, 0.8, 0.0, 0.0], [-0.3, 0.5, 0.9, 0.0], [0.2, -0.4, 0.3, 0.7]], dtype=torch.float64
)
SIGMA = ROOT @ ROOT.T
CONTEXT = torch.tensor([[0.8, 0.4, -0.4, 0.2]], dtype=torch.float64)
TARGET = torch.tensor([[-0.3, 0.9, 0.2, 0.0], [0.5, 0.0, 0.8, 0.1], [-0.2, -0.2, 0.1, 0.9]], dtype=torch.float64)
NARROW = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
SEEN = torch.tensor([0.9], dtype=torch.float64)


def conditioned(mean, covariance, operator, value, noise=0.0):
    """A normal law given ``operator x + noise = value``; ``value`` a row each."""
    gram = operator @ covariance @ operator.T + noise * torch.eye(len(operator), dtype=torch.float64)
    gain = covariance @ operator.T @ torch.linalg.inv(gram)
    return mean + (value - mean @ operator.T) @ gain.T, covariance - gain @ operator @ covariance


def forward(signal, view):
    """Linear measurements: a view is the matrix of each row."""
    return torch.einsum("nmd,nd->nm", view.to(signal.dtype), signal)


class Optimal(nn.Module):
    """``E[S | O_c, x_t]`` of the normal law, given any number of contexts; a view is the same for all rows."""

    def forward(self, x_t, t, condition):
        rows = condition["context_view"][0].double().reshape(-1, 4)
        mean, covariance = conditioned(MEAN, SIGMA, rows, condition["context"].double().flatten(1))
        alpha, sigma = (scale(t[:1].double()) for scale in (PROCESS.alpha, PROCESS.sigma))
        operator = alpha * condition["target_view"][0].double()
        return conditioned(mean, covariance, operator, x_t.double(), sigma**2)[0].to(x_t.dtype)


def told(n, target=TARGET, dtype=torch.float64):
    return {
        "context": SEEN.to(dtype).expand(n, 1),
        "context_view": CONTEXT.to(dtype).expand(n, 1, 4),
        "target_view": target.to(dtype).expand(n, *target.shape),
    }


def draw(network, target=TARGET, n=10_000, dtype=torch.float64, seed=0, steps=200):
    denoiser = ThroughForward(network, forward)
    return samplers.sample_signals(
        denoiser, PROCESS, num_samples=n, shape=(len(target),), condition=told(n, target, dtype),
        solver=samplers.Euler(), num_steps=steps, generator=generator(seed), dtype=dtype,
    )  # fmt: skip


def test_signals_have_the_law_given_the_context():
    """One row of context, three of target, jointly invertible: 10 000 signals, 200 steps of DDIM.

    The mean is within 0.02 and the steps' own error, the covariance within 8 % in spectral norm, of which sampling
    takes two.
    """
    signals, measured = draw(Optimal())
    mean, covariance = conditioned(MEAN, SIGMA, CONTEXT, SEEN[None])
    assert float((signals.mean(0) - mean).abs().max()) < 0.02 + 3 * float(covariance.diagonal().max() / 10_000) ** 0.5
    gap = torch.linalg.matrix_norm(signals.T.cov() - covariance, 2)
    assert float(gap / torch.linalg.matrix_norm(covariance, 2)) < 0.08
    # A signal explains both of its measurements.
    torch.testing.assert_close(signals @ TARGET.T, measured, rtol=0, atol=0.05)
    torch.testing.assert_close(signals @ CONTEXT.T, SEEN.expand(len(signals), 1), rtol=0, atol=1e-8)


def test_what_no_measurement_sees_collapses_to_its_mean():
    """Two rows of target: the variance of samples is that which the measurements explain, none along one direction."""
    target = NARROW
    signals, _ = draw(Optimal(), target)
    mean, covariance = conditioned(MEAN, SIGMA, CONTEXT, SEEN[None])
    _, left = conditioned(mean, covariance, target, torch.zeros(1, 2, dtype=torch.float64))
    share = float((covariance - left).trace() / covariance.trace())
    truth = mean + randn((10_000, 4), generator(1), dtype=torch.float64) @ root_of(covariance)
    found = null_space_variance(signals, [CONTEXT, target], reference=truth)
    assert found.basis.shape == (4, 1)
    assert found.share == pytest.approx(share, abs=0.03)
    assert share < 0.85
    # Along the unseen direction a signal is a function of what is seen: one number fewer varies than should.
    values = torch.linalg.eigvalsh(signals.T.cov())
    assert int((values > 1e-3).sum()) == 2
    assert int((torch.linalg.eigvalsh(truth.T.cov()) > 1e-3).sum()) == 3
    whole = null_space_variance(draw(Optimal())[0], [CONTEXT, TARGET], reference=truth)
    assert whole.basis.shape == (4, 0)
    assert whole.unseen == 0
    assert whole.share == pytest.approx(1, abs=0.06)


VIEWS = TARGET[:, None]
"""Three views of one row each."""


def draw_views(views, n=20_000, contexts=1, **options):
    """Signals drawn in one view after another, the first known measurement being the only context or none."""
    condition = {
        "context": SEEN.expand(n, 1, 1)[:, :contexts],
        "context_view": CONTEXT.expand(n, 1, 1, 4)[:, :contexts],
    }
    return samplers.sample_views(
        ThroughForward(Optimal(), forward), PROCESS, views.expand(n, *views.shape), condition=condition, **options
    )


def departures(rows, mean, covariance):
    """Mean and covariance of rows against a law, in standard errors, where it varies; and how far it strays beyond."""
    values, vectors = torch.linalg.eigh(covariance)
    varies = values > 1e-9 * values.max()
    white = (rows - mean) @ vectors[:, varies] / values[varies].sqrt()
    one = torch.eye(white.shape[1], dtype=rows.dtype)
    error = ((1 + one) / len(rows)).sqrt()
    beyond = ((rows - mean) @ vectors[:, ~varies]).abs()
    return white.mean(0) * len(rows) ** 0.5, (white.T.cov() - one) / error, float(beyond.max()) if beyond.numel() else 0


@pytest.mark.parametrize(("contexts", "count"), [(1, 3), (1, 2), (0, 3)])
def test_views_drawn_one_after_another_have_the_joint_law(contexts, count):
    """Signals are ``E[S | O_c, O_1 .. O_v]``: mean ``E[S | O_c]``, covariance ``Cov[S | O_c] - Cov[S | O_c, O_1 ..]``.

    One context and three views are invertible: the last term is 0, the law that of the signal given its context.
    """
    views, known = VIEWS[:count], CONTEXT[:contexts]
    signals, measured = draw_views(
        views, contexts=contexts, solver=samplers.Heun(), num_steps=60, generator=generator(7)
    )
    mean, covariance = conditioned(MEAN, SIGMA, known, SEEN[:contexts][None])
    rows = views.flatten(0, 1)
    left = conditioned(mean, covariance, rows, torch.zeros(1, count, dtype=torch.float64))[1]
    assert (float(left.trace()) < 1e-12) == (contexts + count == 4)
    off_mean, off_covariance, beyond = departures(signals, mean[0], covariance - left)
    assert float(off_mean.abs().max()) < 4
    assert float(off_covariance.abs().max()) < 4
    assert beyond < 1e-8
    # The law of what was drawn, view by view, and the signals explain it all.
    off_mean, off_covariance, _ = departures(measured[..., 0], mean[0] @ rows.T, rows @ covariance @ rows.T)
    assert float(off_mean.abs().max()) < 4
    assert float(off_covariance.abs().max()) < 4
    torch.testing.assert_close(signals @ rows.T, measured[..., 0], rtol=0, atol=1e-3)


def test_each_view_is_drawn_with_all_before_it_as_contexts():
    """Passes by hand: contexts grow by the target drawn before, in its own view; nothing else is changed."""
    n, seen = 5, []

    def network(x_t, t, condition):
        seen.append(condition)
        return Optimal()(x_t, t, condition)

    condition = {
        "context": SEEN.expand(n, 1, 1), "context_view": CONTEXT.expand(n, 1, 1, 4), "note": torch.arange(n)
    }  # fmt: skip
    source = generator(8)
    signals, measured = samplers.sample_views(
        ThroughForward(network, forward), PROCESS, VIEWS.expand(n, 3, 1, 4), condition=condition,
        solver=samplers.Euler(), num_steps=4, generator=source,
    )  # fmt: skip
    assert measured.shape == (n, 3, 1)
    source = generator(8)
    for i, view in enumerate(VIEWS):
        told = seen[4 * i]
        assert torch.equal(told["context"][:, 0], SEEN.expand(n, 1))
        assert torch.equal(told["context"][:, 1:], measured[:, :i])
        assert torch.equal(told["context_view"][0, 1:], VIEWS[:i])
        assert torch.equal(told["target_view"], view.expand(n, 1, 4))
        assert torch.equal(told["note"], torch.arange(n))
        by_hand = samplers.sample_signals(
            ThroughForward(Optimal(), forward), PROCESS, num_samples=n, shape=(1,), condition=told,
            solver=samplers.Euler(), num_steps=4, generator=source, dtype=torch.float64,
        )  # fmt: skip
        assert torch.equal(by_hand[1], measured[:, i])
    assert torch.equal(by_hand[0], signals)
    assert condition["context"].shape == (n, 1, 1)


def test_a_target_may_be_guided():
    """Predictions held in [-0.5, 0.5]: so are targets, while signals stay what the network says."""
    guide = partial(guidance.dynamic_threshold, quantile=1.0, bound=0.5)
    options = {"n": 50, "solver": samplers.Euler(), "num_steps": 5}
    free = draw_views(VIEWS, generator=generator(9), **options)[1]
    signals, held = draw_views(VIEWS, generator=generator(9), guide=guide, **options)
    assert float(held.abs().max()) == 0.5
    assert float(free.abs().max()) > 1
    torch.testing.assert_close(signals @ CONTEXT.T, SEEN.expand(50, 1), rtol=0, atol=1e-8)


def root_of(covariance):
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()).T


class Linear(nn.Module):
    """A signal linear in context and noisy target, with weights that depend on the noise level."""

    def __init__(self, rows):
        super().__init__()
        self.shape = (4, rows + 2)
        self.weights = nn.Sequential(
            nn.Linear(3, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 4 * (rows + 2))
        )

    def forward(self, x_t, t, condition):
        alpha, sigma = (scale(spread(t, x_t)).to(x_t.dtype) for scale in (PROCESS.alpha, PROCESS.sigma))
        weights = self.weights(torch.cat([alpha, sigma, alpha * sigma], 1)).unflatten(1, self.shape)
        seen = torch.cat([condition["context"], x_t, torch.ones_like(x_t[:, :1])], 1)
        return (weights @ seen[..., None])[..., 0]


def pairs(n, seed=2):
    """Measurements of signals that nobody keeps: context, target, and one held-out random row."""
    signals = MEAN + randn((n, 4), generator(seed), dtype=torch.float64) @ ROOT.T
    views = randn((n, 1, 1, 4), generator(seed, 1), dtype=torch.float64)
    batch = {
        "context": signals @ CONTEXT.T,
        "target": signals @ TARGET.T,
        "target_view": TARGET.expand(n, 3, 4),
        "extra_view": views,
        "extra": (views[:, 0] @ signals[..., None])[:, None, :, 0],
    }
    return {name: value.float().contiguous() for name, value in batch.items()}


def test_a_net_that_saw_measurements_alone_draws_signals():
    """Weights by noise level, trained on measurements of 50 000 signals: mean and covariance within a tenth."""
    torch.manual_seed(0)
    denoiser = ThroughForward(Linear(3), forward)
    loss = ForwardModelLoss(Denoising(PROCESS, weight="edm", noise=LogNormal(-0.3, 1.4), data_std=1.0))
    options = TrainingOptions(batch_size=256, max_steps=1200, learning_rate=5e-3, ema_decay=0.99)
    fit(denoiser, loss, pairs(50_000), options=options, progress=False)
    signals, _ = samplers.sample_signals(
        denoiser, PROCESS, num_samples=10_000, shape=(3,), condition=told(10_000, dtype=torch.float32),
        solver=samplers.Euler(), num_steps=100, generator=generator(3),
    )  # fmt: skip
    signals = signals.double()
    mean, covariance = conditioned(MEAN, SIGMA, CONTEXT, SEEN[None])
    size = float(covariance.trace() ** 0.5)
    assert float((signals.mean(0) - mean).norm()) < 0.1 * size
    gap = torch.linalg.matrix_norm(signals.T.cov() - covariance)
    assert float(gap / torch.linalg.matrix_norm(covariance)) < 0.1


def test_only_held_out_measurements_tell_the_signal():
    """At the best prediction the loss has no slope; moved where target and context are blind, only extras notice it."""
    n = 40_000
    batch = {name: value.double() for name, value in pairs(n).items()}
    batch["target"], batch["target_view"] = batch["target"][:, :2], batch["target_view"][:, :2]
    blind = torch.linalg.svd(torch.cat([CONTEXT, TARGET[:2]]))[2][3]

    def shifted(by):
        return ThroughForward(partial(network, by), forward)

    def network(by, x_t, t, condition):
        mean, covariance = conditioned(MEAN, SIGMA, CONTEXT, condition["context"])
        a = PROCESS.alpha(t)[:, None, None] * condition["target_view"][0]
        gram = a @ covariance @ a.mT + PROCESS.sigma(t)[:, None, None] ** 2 * torch.eye(2, dtype=torch.float64)
        gain = covariance @ a.mT @ torch.linalg.inv(gram)
        return mean + (gain @ (x_t[..., None] - a @ mean[..., None]))[..., 0] + by * blind

    denoising = Denoising(PROCESS, weight="x0", noise=LogNormal(0.0, 1.0), data_std=1.0)
    low, best, high = (ForwardModelLoss(denoising)(shifted(by), batch, generator(4)) for by in (-0.5, 0.0, 0.5))
    slope = (high["extra"] - low["extra"]) / 2
    assert abs(float(slope.mean())) < 4 * float(slope.std()) / n**0.5
    assert float((high["target"] - best["target"]).abs().max()) < 1e-6  # weights reach 1e5
    # Rows of unit normals see a shift by 0.5 as an error of 0.25 more.
    bend = (high["extra"] + low["extra"]) / 2 - best["extra"]
    assert float(bend.mean()) == pytest.approx(0.25, abs=4 * float(bend.std()) / n**0.5)
    assert set(ForwardModelLoss(denoising, num_extra=0)(shifted(0.0), batch, generator(4))) == {"target"}


def test_a_context_alone_predicts_the_mean_target():
    batch = {name: value.double() for name, value in pairs(200).items()}
    seen = []

    def network(x_t, t, condition):
        seen.append((x_t, t, condition))
        return MEAN.expand(len(x_t), 4)

    loss = ForwardModelLoss(Denoising(PROCESS), num_extra=0, context_weight=0.5, drop=0.3)
    losses = loss(ThroughForward(network, forward), batch, generator(5))
    x_t, t, condition = seen[-1]
    assert float(x_t.abs().max()) == 0
    assert float(t.min()) == 1
    expected = 0.5 * (MEAN @ TARGET.T - batch["target"]).square().mean(1)
    torch.testing.assert_close(losses["context"], expected)
    assert 0.55 < float(condition["present"].double().mean()) < 0.85
    assert "target" not in condition
    assert "extra" not in condition


@pytest.mark.parametrize("weight", [0.2, 0.7])
def test_features_of_measurements_are_compared(weight):
    """Squares and cubes, by hand, of a target of three numbers and two held-out measurements of one, as equals."""
    batch = {name: value.double() for name, value in pairs(6).items()}
    batch["extra_view"] = torch.cat([batch["extra_view"], CONTEXT.expand(6, 1, 1, 4), CONTEXT.expand(6, 1, 1, 4)], 1)
    batch["extra"] = torch.cat([batch["extra"], batch["context"][:, None], torch.full((6, 1, 1), 1e3)], 1)
    signal = MEAN.clone().requires_grad_()
    denoiser = ThroughForward(lambda x_t, t, condition: signal.expand(len(x_t), 4), forward)
    options = {} if weight == 0.2 else {"perceptual_weight": weight}
    loss = ForwardModelLoss(
        Denoising(PROCESS), num_extra=2, extra_weight=0.0, perceptual=lambda m: torch.stack([m**2, m**3], 1), **options
    )
    losses = loss(denoiser, batch, generator(10))
    assert set(losses) == {"target", "perceptual"}

    def gap(measured, truth):
        return ((measured**2 - truth**2) ** 2 + (measured**3 - truth**3) ** 2).sum(-1) / (2 * truth.shape[-1])

    parts = [gap(signal @ TARGET.T, batch["target"])]
    parts.append(gap((batch["extra_view"][:, 0] @ signal), batch["extra"][:, 0]))
    parts.append(gap(signal @ CONTEXT.T, batch["context"]))
    expected = weight * (parts[0] + parts[1] + parts[2]) / 3
    torch.testing.assert_close(losses["perceptual"], expected)
    slopes = [
        torch.autograd.grad(value.sum(), signal, retain_graph=True)[0] for value in (losses["perceptual"], expected)
    ]
    torch.testing.assert_close(*slopes)
    plain = ForwardModelLoss(Denoising(PROCESS), num_extra=2)(denoiser, batch, generator(10))
    assert set(plain) == {"target", "extra"}
    assert torch.equal(plain["target"], losses["target"])
    alone = ForwardModelLoss(Denoising(PROCESS), num_extra=0, perceptual=lambda m: m.sum(1))(denoiser, batch)
    torch.testing.assert_close(alone["perceptual"], 0.2 * ((signal @ TARGET.T).sum() - batch["target"].sum(1)) ** 2)


def test_observed_elements_come_back_as_they_are():
    denoiser = ThroughForward(lambda x_t, t, condition: MEAN + x_t[:, :1], forward)
    x = randn((3, 3), generator(6), dtype=torch.float64)
    t = torch.full((3,), 0.5, dtype=torch.float64)
    cells = t[:, None].repeat(1, 3)
    cells[:, 1] = 0
    answer = denoiser(x, cells, told(3))
    assert torch.equal(answer[:, 1], x[:, 1])
    torch.testing.assert_close(denoiser(x, t, told(3)), denoiser.signal(x, t, told(3)) @ TARGET.T)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ForwardModelLoss(Denoising(PROCESS), num_extra=-1), "num_extra"),
        (lambda: ForwardModelLoss(Denoising(PROCESS), drop=1.5), "drop"),
        (lambda: ForwardModelLoss(Denoising(PROCESS))(ThroughForward(Optimal(), forward), {"target": SEEN}), "batch"),
        (lambda: ForwardModelLoss(Denoising(PROCESS), num_extra=2)(ThroughForward(Optimal(), forward), pairs(5)),
         "extra"),
        (lambda: ThroughForward(Optimal(), forward)(torch.zeros(2, 3), torch.ones(2)), "target_view"),
        (lambda: samplers.sample_signals(ThroughForward(Optimal(), forward), PROCESS, num_samples=2, shape=(3,),
                                         condition=told(2), times=torch.tensor([1.0, 0.5])), "ends at 0"),
        (lambda: ForwardModelLoss(Denoising(PROCESS), perceptual_weight=-0.1), "perceptual_weight"),
        (lambda: ForwardModelLoss(Denoising(PROCESS), perceptual=torch.mean)(
            ThroughForward(lambda x_t, t, condition: x_t[:, :1].repeat(1, 4), forward), pairs(5)),
         "features of 5 rows"),
        (lambda: draw_views(VIEWS, 2, times=torch.tensor([[1.0, 1.0], [0.5, 0.0], [0.0, 0.0]])), "one grid for all"),
        (lambda: draw_views(VIEWS[:0], 2), "1 or more"),
        (lambda: draw_views(VIEWS, 2, times=torch.tensor([1.0, 0.5])), "ends at 0"),
        (lambda: samplers.sample_views(ThroughForward(Optimal(), forward), PROCESS, VIEWS[None], condition={}),
         "context_view"),
        (lambda: samplers.sample_views(ThroughForward(Optimal(), forward), PROCESS, VIEWS[None], condition=told(2)),
         "views: expected"),
        (lambda: samplers.sample_views(ThroughForward(Optimal(), forward), PROCESS, VIEWS[None], condition={
            "context": torch.zeros(1, 2, 1), "context_view": torch.zeros(1, 1, 1, 4)}), "same n and c"),
        (lambda: measures.null_space_variance(torch.zeros(4, 3), [torch.zeros(1, 2)]), "operators"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
