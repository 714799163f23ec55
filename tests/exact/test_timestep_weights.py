"""Learned weights of noise levels: what they repair of a shift, and that they are never worse on purpose."""

import math
from functools import cache

import pytest
import torch

from clarkia.measures import diffusion_classifier, fit_timestep_weights
from clarkia.oracles import GaussianMixture
from clarkia.processes import VarianceExploding
from clarkia.random import generator, randn

PROCESS = VarianceExploding(1e-3, 100.0)
CLASSES, SIZE, DRAWS = 4, 16, 64
ROWS, EXAMPLES = 4000, 100


def laws():
    """Four normal laws in R^16, each thin in eight directions of its own: what least noise shows and a shift drowns."""
    found = []
    for k in range(CLASSES):
        mean = 0.45 * randn((1, SIZE), generator(0, k), dtype=torch.float64)
        turn = torch.linalg.qr(randn((SIZE, SIZE), generator(1, k), dtype=torch.float64))[0]
        variances = torch.tensor([1.0, 0.05], dtype=torch.float64).repeat_interleave(SIZE // 2)
        found.append(GaussianMixture([1.0], mean, (turn * variances @ turn.T)[None]))
    return found


LAWS = laws()


@cache
def shifted(tau):
    """Errors, labels and the exact log-densities of points with noise of deviation tau that the classes do not know."""
    label = torch.arange(ROWS + EXAMPLES) % CLASSES
    drawn = torch.stack([law.sample(len(label), generator=generator(2, k)) for k, law in enumerate(LAWS)])
    x = drawn[label, torch.arange(len(label))]
    x = x + tau * randn(x.shape, generator(3), dtype=torch.float64)
    each = [law.denoiser(PROCESS) for law in LAWS]
    errors = diffusion_classifier(
        lambda x_t, t, k: each[k](x_t, t), PROCESS, x, list(range(CLASSES)), num_draws=DRAWS,
        generator=generator(4), log_snr_range=(math.log(1e-3), math.log(1e3)), rows_per_call=100_000,
    ).errors  # fmt: skip
    noise = tau**2 * torch.eye(SIZE, dtype=torch.float64)
    blurred = [GaussianMixture([1.0], law.means, law.covariances + noise) for law in LAWS]
    return errors, label, torch.stack([law.log_prob(x) for law in blurred], 1)


def accuracy(scores, label):
    return float((scores.argmax(1) == label).double().mean())


def learned(tau, kind):
    errors, label, _ = shifted(tau)
    weights = fit_timestep_weights(errors[:EXAMPLES], label[:EXAMPLES], kind, generator=generator(5), num_steps=600)
    return weights, accuracy(weights.log_posterior(errors[EXAMPLES:]), label[EXAMPLES:])


def test_a_shift_is_repaired_from_a_hundred_examples():
    """At tau = 1, of 8000 rows: even weights .645, Bayes' rule .735. The table's .637 and .757 are of 1000."""
    errors, label, exact = shifted(1.0)
    test, truth = errors[EXAMPLES:], label[EXAMPLES:]
    even = accuracy(-test.mean(2), truth)
    single = max(accuracy(-test[:, :, level : level + 2].mean(2), truth) for level in range(0, DRAWS, 2))
    bayes = accuracy(exact[EXAMPLES:], truth)
    weights, better = learned(1.0, "free")
    assert even == pytest.approx(0.645, abs=0.03)  # four standard errors
    assert bayes == pytest.approx(0.735, abs=0.03)
    assert weights.selected
    # Two accuracies of the same rows differ by less than .03 by chance (4.5 standard errors of the difference)
    assert better > even + 0.05
    assert better > single - 0.03
    assert better < bayes + 0.03
    # The shift drowns the least noise, and that is what the weights have found out.
    assert float(weights.values[:20].mean()) < 0.5 * float(weights.values[20:].mean())


@pytest.mark.parametrize("kind", ["polynomial", "l1"])
def test_other_kinds_repair_it_too(kind):
    errors, label, _ = shifted(1.0)
    weights, better = learned(1.0, kind)
    assert weights.selected
    assert better > accuracy(-errors[EXAMPLES:].mean(2), label[EXAMPLES:]) + 0.03


@pytest.mark.parametrize("kind", ["free", "polynomial", "l1"])
@pytest.mark.parametrize("tau", [0.0, 0.5])
def test_where_there_is_little_to_repair_little_is_lost(tau, kind):
    """Within .03 of even weights for tau up to .5, from below; what a small shift costs may well be repaired."""
    errors, label, _ = shifted(tau)
    assert learned(tau, kind)[1] > accuracy(-errors[EXAMPLES:].mean(2), label[EXAMPLES:]) - 0.03


def test_weights_that_are_no_better_are_not_selected():
    """Labels that have nothing to do with the errors: whatever is learned is noise."""
    selected = 0
    for seed in range(20):
        errors = randn((60, 3, 8), generator(6, seed), dtype=torch.float64)
        label = torch.randint(3, (60,), generator=generator(7, seed))
        found = fit_timestep_weights(errors, label, generator=generator(8, seed), num_steps=100)
        assert found.selected == (bool((found.values != 1).any()))
        if found.selected:
            selected += 1
            assert found.validation.cross_entropy < found.uniform.cross_entropy
            assert found.validation.accuracy >= found.uniform.accuracy
        else:
            torch.testing.assert_close(found.values, torch.ones(8, dtype=torch.float64))
            torch.testing.assert_close(found.log_posterior(errors), (-errors.mean(2)).log_softmax(1))
    assert selected < 15


def test_even_weights_that_are_right_are_kept():
    """Errors in nats of independent levels: the posterior is right as it is, and no weights are better at it."""
    count, levels = 400, 6
    label = torch.arange(count) % 2
    evidence = randn((count, 2, levels), generator(9), dtype=torch.float64)
    evidence[torch.arange(count), label] -= 0.5  # unit normal noise: the log ratio of a level is this gap
    found = fit_timestep_weights(evidence * 0.5 * levels, label, generator=generator(10), num_steps=300)
    chosen = found.log_posterior(evidence * 0.5 * levels)
    plain = (-evidence.sum(2) * 0.5).log_softmax(1)
    assert accuracy(chosen, label) == pytest.approx(accuracy(plain, label), abs=0.03)


def test_one_level_that_tells_everything_is_found():
    """Two levels of which the second is noise with a large scale: only the first should count."""
    label = torch.arange(200) % 2
    errors = 20 * randn((200, 2, 2), generator(11), dtype=torch.float64)
    errors[:, :, 0] = 1.0
    errors[torch.arange(200), label, 0] = 0.0
    assert accuracy(-errors.mean(2), label) < 0.65
    found = fit_timestep_weights(errors, label, generator=generator(12), num_steps=1500)
    assert found.selected
    assert accuracy(found.log_posterior(errors), label) > 0.95


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((torch.zeros(5, 2, 3), torch.zeros(5, dtype=torch.int64), "spline"), "kind: expected 'free'"),
        ((torch.zeros(3, 2, 3), torch.zeros(3, dtype=torch.int64)), "errors: expected shape"),
        ((torch.full((5, 2, 3), torch.nan), torch.zeros(5, dtype=torch.int64)), "errors: expected finite"),
        ((torch.zeros(5, 2, 3), torch.zeros(4, dtype=torch.int64)), "labels: expected int64"),
        ((torch.zeros(5, 2, 3), torch.full((5,), 2)), "labels: expected classes from 0 to 1"),
    ],
)
def test_wrong_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        fit_timestep_weights(*arguments)
