"""Designs given a reward: the closed forms of normal laws, and where asking for more stops paying."""

import math

import pytest
import torch

from clarkia import measures, samplers
from clarkia.alignment import (
    DiffusionDesigner,
    Ensemble,
    GaussianDesigner,
    RewardDirected,
    Ridge,
    TargetReport,
    gaussian_designs,
    recommend,
)
from clarkia.measures.subspace import leading_subspace, subspace_leak
from clarkia.processes import RectifiedFlow
from clarkia.random import generator, randn
from clarkia.training import TrainingOptions

TARGETS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
NOISE = 0.3


def example(seed=0, rows=2000, scored=100):
    """Rows in a plane of 4 of 16 dimensions, a reward that turns against those who leave, and some noisy scores."""
    basis = torch.linalg.qr(randn((16, 4), generator(seed, 0), dtype=torch.float64))[0]
    covariance = basis @ torch.diag(torch.tensor([2.0, 1.0, 0.5, 0.25], dtype=torch.float64)) @ basis.T
    theta = basis @ torch.tensor([0.6, 0.6, 0.4, 0.3], dtype=torch.float64)
    theta = theta / theta.norm()

    def reward(x):
        return x @ theta - 0.15 * (x.square().sum(1) - 8).clamp(min=0)

    roots = torch.tensor([2.0, 1.0, 0.5, 0.25], dtype=torch.float64).sqrt()
    x = (randn((rows, 4), generator(seed, 1), dtype=torch.float64) * roots) @ basis.T
    scores = reward(x) + NOISE * randn((rows,), generator(seed, 2), dtype=torch.float64)
    scores[scored:] = torch.nan
    return basis, covariance, theta, reward, x, scores


def test_the_closed_form_of_designs():
    """Mean ``Sigma theta a / v``, covariance ``Sigma - Sigma theta theta' Sigma / v``, rewards by the mean."""
    _, covariance, theta, _, _, _ = example()
    other = randn((16,), generator(3), dtype=torch.float64)
    law = gaussian_designs(covariance, theta, NOISE, 2.5)
    v = theta @ covariance @ theta + NOISE**2
    torch.testing.assert_close(law.mean, 2.5 * covariance @ theta / v, rtol=1e-10, atol=1e-10)
    expected = covariance - torch.outer(covariance @ theta, covariance @ theta) / v
    torch.testing.assert_close(law.covariance, expected, rtol=1e-10, atol=1e-10)
    assert float(other @ law.mean) == pytest.approx(float(2.5 * other @ covariance @ theta / v), abs=1e-10)


def test_sampled_designs_have_the_law_and_stay_in_the_subspace():
    """8000 designs by the exact denoiser: mean and covariance along five directions within three standard errors.

    Ten numbers, a false alarm in forty seeds; and the steps' own error of a covariance is below a percent.
    """
    basis, covariance, theta, _, _, _ = example()
    law, process, n = gaussian_designs(covariance, theta, NOISE, 3.0), RectifiedFlow(), 8000
    x = samplers.sample(
        law.denoiser(process), process, num_samples=n, shape=(16,), solver=samplers.Heun(),
        num_steps=60, generator=generator(4), dtype=torch.float64,
    )  # fmt: skip
    assert float(subspace_leak(x, basis).max()) < 1e-3
    directions = torch.cat([basis.T, theta[None]])
    along = x @ directions.T
    variance = (directions @ law.covariance * directions).sum(1)
    assert bool(((along.mean(0) - directions @ law.mean).abs() < 3 * (variance / n).sqrt()).all())
    assert bool(((along.var(0) / variance - 1).abs() < 3 * (2 / n) ** 0.5 + 0.01).all())


def test_the_published_curve():
    """Mean over 8 seeds of the example's rewards: the linear part rises with the target, the reward turns at 3.

    The figures are those of one draw of 100 scores. Their slope varies by some 4 % between draws and the penalty of a
    curve with it; three standard errors of such a draw, and of our mean, are allowed.
    """
    linear, whole = [], []
    for seed in range(8):
        _, _, theta, reward, x, scores = example(seed, rows=4000)
        model = Ridge(1.0, intercept=False).fit(x[:100], scores[:100])
        designs = RewardDirected(GaussianDesigner(), model).fit(x, scores, generator=generator(seed, 5)).designer
        drawn = [designs.sample(4000, a, generator=generator(seed, 6)) for a in TARGETS]
        linear.append([float((part @ theta).mean()) for part in drawn])
        whole.append([float(reward(part).mean()) for part in drawn])
    linear, whole = torch.tensor(linear), torch.tensor(whole)
    published = torch.tensor([0.87, 1.7, 2.6, 3.5, 5.2, 6.9])
    with_penalty = torch.tensor([0.85, 1.64, 2.10, 1.98, 0.76, -1.6])
    for found, figure in ((linear, published), (whole, with_penalty)):
        allowed = 3 * found.std(0) * (1 + 1 / 8) ** 0.5 + 0.02
        assert bool(((found.mean(0) - figure).abs() < allowed).all()), (found.mean(0), figure, allowed)
    assert bool((linear.diff(dim=1) > 0).all())
    assert TARGETS[int(whole.mean(0).argmax())] in (3.0, 4.0)


@pytest.mark.parametrize("seed", range(5))
def test_the_recommended_target_is_where_the_reward_turns(seed):
    _, _, _, reward, x, scores = example(seed)
    model = RewardDirected(GaussianDesigner(), Ridge(1.0, intercept=False)).fit(x, scores, generator=generator(seed, 7))
    found = model.propose(200, targets=TARGETS, true_reward=reward, generator=generator(seed, 8))
    assert found.target in (2.0, 3.0, 4.0)
    reports = found.reports
    assert [report.target for report in reports] == list(TARGETS)
    assert all(report.leak < 1e-3 for report in reports)
    distances = [report.distance for report in reports]
    assert distances == sorted(distances)
    assert reports[-1].predicted > reports[0].predicted + 4
    assert reports[-1].reward < reports[2].reward
    assert found.x.shape == (200, 16)
    assert bool((found.predicted.diff() <= 0).all())


def test_pseudo_labels_are_as_noisy_as_scores():
    """Their variance is ``theta' Sigma theta + noise^2`` of the fitted model, within four standard errors."""
    _, covariance, _, _, x, scores = example(rows=8000)
    model = RewardDirected(GaussianDesigner(), Ridge(1.0, intercept=False)).fit(x, scores, generator=generator(21))
    fitted = model.reward_model
    v = float(fitted.theta @ covariance @ fitted.theta) + fitted.noise_std**2
    assert fitted.noise_std > NOISE  # a line has the penalty to bear
    assert float(model.designer.law.covariance[-1, -1]) == pytest.approx(v, rel=4 * (2 / 8000) ** 0.5)


def test_the_target_is_the_largest_that_is_supported():
    def report(target, distance, supported):
        return TargetReport(target, 0.0, None, 0.0, distance, 1.0, supported)

    assert recommend([report(1.0, 1.0, True), report(2.0, 1.1, True), report(3.0, 9.0, False)]) == 2.0
    assert recommend([report(1.0, 5.0, False), report(2.0, 4.0, False)]) == 2.0


def test_designs_off_the_subspace_are_not_supported():
    """A designer that adds noise outside the plane of the data is told so at every target."""

    class Noisy:
        def fit(self, x, reward):
            self.inner = GaussianDesigner().fit(x, reward)
            return self

        def sample(self, num_samples, reward, *, generator=None):
            x = self.inner.sample(num_samples, reward, generator=generator)
            return x + 0.05 * randn(x.shape, generator, dtype=x.dtype)

    _, _, _, _, x, scores = example()
    model = RewardDirected(Noisy(), Ridge(intercept=False)).fit(x, scores, generator=generator(9))
    reports = model.diagnose(TARGETS, generator=generator(10))
    assert not any(report.supported for report in reports)
    assert all(report.leak > 0.1 for report in reports)


def test_a_diffusion_learns_the_designs_of_a_normal_law():
    """A small network on pseudo-labels, at a supported target: mean within a tenth of a deviation."""
    n = 3000
    scale = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    theta = torch.tensor([0.5, 1.0, -0.3], dtype=torch.float64)
    x = randn((n, 3), generator(11), dtype=torch.float64) * scale
    reward = x @ theta + NOISE * randn((n,), generator(12), dtype=torch.float64)
    options = TrainingOptions(batch_size=128, max_steps=700, ema_decay=0.99, learning_rate=3e-3)
    designer = DiffusionDesigner(options=options, width=64).fit(x, reward)
    law = gaussian_designs(torch.diag(scale**2), theta, NOISE, 1.5)
    drawn = designer.sample(2000, 1.5, generator=generator(13))
    assert bool(((drawn.mean(0) - law.mean).abs() < 0.1 * scale).all())
    assert float(drawn.T.cov().diagonal().div(law.covariance.diagonal()).log().abs().max()) < math.log(1.3)
    assert float((drawn @ theta).std() / (theta @ law.covariance @ theta) ** 0.5) == pytest.approx(1, abs=0.15)


def test_ridge_is_its_formula_and_knows_its_noise():
    x = randn((400, 5), generator(14), dtype=torch.float64)
    theta = torch.arange(5, dtype=torch.float64)
    y = x @ theta + 3 + 0.5 * randn((400,), generator(15), dtype=torch.float64)
    plain = Ridge(2.0, intercept=False).fit(x, y)
    expected = torch.linalg.solve(x.T @ x + 2 * torch.eye(5, dtype=torch.float64), x.T @ y)
    torch.testing.assert_close(plain.theta, expected, rtol=1e-10, atol=1e-12)
    model = Ridge(1e-9).fit(x, y)
    assert float(model.offset) == pytest.approx(3, abs=0.1)
    assert model.noise_std == pytest.approx(0.5, rel=4 / 800**0.5)
    residual = float((y - model.predict(x)).square().sum())
    assert model.noise_std**2 == pytest.approx(residual / (400 - 6), rel=1e-6)


def test_an_ensemble_bends_where_a_line_cannot_and_knows_its_noise():
    x = randn((600, 2), generator(16), dtype=torch.float64)
    noise = 0.3 * randn((600,), generator(17), dtype=torch.float64)
    curve = torch.sin(2 * x[:, 0]) + x[:, 1]
    model = Ensemble(4).fit(x[:500], (curve + noise)[:500])
    error = float((model.predict(x[500:]) - curve[500:]).square().mean() ** 0.5)
    line = float((Ridge().fit(x[:500], (curve + noise)[:500]).predict(x[500:]) - curve[500:]).square().mean() ** 0.5)
    assert error < 0.5 * line
    assert 0.27 < model.noise_std < 0.5
    assert float(model.spread(x[500:]).mean()) < float(model.spread(5 * x[500:]).mean())


def test_the_loop_finds_better_designs():
    """Three rounds of 20 queries: the best found beats the best of the 100 scores that it started from."""
    _, _, _, reward, x, scores = example(1)
    model = RewardDirected(GaussianDesigner(), Ridge(1.0, intercept=False), num_samples=300)
    model.fit(x, scores, generator=generator(18))
    history = model.improve(reward, rounds=3, batch=20, generator=generator(19))
    assert len(history) == 3
    assert model.x.shape == (2060, 16)
    assert int(model.reward.isfinite().sum()) == 160
    assert float(model.reward[2000:].max()) > float(reward(x[:100]).max())
    assert float(model.reward[2000:].mean()) > float(reward(x[:100]).mean()) + 1


def test_leading_subspaces():
    basis, _, _, _, x, _ = example()
    found = leading_subspace(x + 7.0, share=0.999)
    assert found.basis.shape == (16, 4)
    assert float(subspace_leak(basis.T, found.basis).max()) < 1e-6
    assert float(found.leak(x + 7.0).max()) < 1e-10
    assert leading_subspace(x, share=0.5).basis.shape[1] == 1
    assert leading_subspace(x, dims=2).basis.shape[1] == 2
    off = torch.linalg.qr(torch.cat([basis, randn((16, 1), generator(20), dtype=torch.float64)], 1))[0][:, 4]
    assert float(measures.subspace_leak(3 * off[None] + x[:1], basis)[0]) == pytest.approx(3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ridge(-1.0), "penalty"),
        (lambda: Ridge().fit(torch.zeros(1, 2), torch.zeros(1)), "at least 2"),
        (lambda: Ensemble(1), "members"),
        (lambda: DiffusionDesigner(shown=0.0), "shown"),
        (lambda: RewardDirected(quantile=1.0), "quantile"),
        (lambda: RewardDirected().fit(torch.zeros(4, 2), torch.zeros(3)), "x, reward"),
        (lambda: RewardDirected().fit(torch.zeros(4, 2), torch.full((4,), torch.nan)), "at least 2 scores"),
        (lambda: subspace_leak(torch.zeros(2, 3), torch.ones(3, 2)), "orthonormal"),
        (lambda: subspace_leak(torch.zeros(2, 3), torch.eye(2)), "rows"),
        (lambda: leading_subspace(torch.zeros(3, 2), share=0.0), "share"),
        (lambda: leading_subspace(torch.zeros(3, 2), dims=3), "dims"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
