"""The posterior of classes from denoising errors, against Bayes' rule and enumeration."""

import itertools
import math

import pytest
import torch

from clarkia.measures import diffusion_classifier
from clarkia.measures.classification import PRUNING
from clarkia.measures.classification.stages import nested_order
from clarkia.oracles import FiniteJoint, GaussianMixture, MixedJoint
from clarkia.processes import Masked, Mixed, RectifiedFlow, VarianceExploding, VariancePreserving
from clarkia.random import RowBlocks, generator, rand

PROCESS = VarianceExploding(1e-3, 100.0)
RANGE = (math.log(1e-3), math.log(1e4))
MEANS = torch.tensor(
    [[[0.76, 0.63], [1.53, -0.16]], [[-1.88, -0.62], [0.20, 1.06]], [[-2.32, 0.52], [-2.68, -0.44]]],
    dtype=torch.float64,
)
LAWS = [GaussianMixture([0.5, 0.5], means, [0.8, 0.8]) for means in MEANS]
ROWS = 600


def conditional(process, laws=LAWS):
    """The exact denoiser of the class that the condition numbers; the mixture of all without one."""
    each = [law.denoiser(process) for law in laws]
    whole = GaussianMixture(
        torch.cat([law.weights for law in laws]) / len(laws),
        torch.cat([law.means for law in laws]),
        torch.cat([law.covariances for law in laws]),
    ).denoiser(process)

    def denoise(x_t, t, condition=None):
        if condition is None:
            return whole(x_t, t)
        if isinstance(condition, int):
            return each[condition](x_t, t)
        answers = torch.stack([one(x_t, t) for one in each])
        return answers[condition, torch.arange(len(x_t))]

    return denoise


@pytest.fixture(scope="module")
def points():
    """Points of all classes, their labels and the exact posterior."""
    label = torch.arange(ROWS) % 3
    x = torch.stack([law.sample(ROWS, generator=generator(0, k)) for k, law in enumerate(LAWS)])[label, range(ROWS)]
    return x, label, torch.stack([law.log_prob(x) for law in LAWS], 1).softmax(1)


def asked(x, draws, seed=1, **options):
    classes = torch.arange(3)
    options = {"log_snr_range": RANGE, "antithetic": False, "rows_per_call": 8192} | options
    return diffusion_classifier(
        conditional(PROCESS), PROCESS, x, classes, num_draws=draws, generator=generator(seed), **options
    )


def agreement(found, exact):
    return float((found.argmax(1) == exact.argmax(1)).double().mean())


def distance(log_posterior, exact):
    """Mean total variation."""
    return float((log_posterior.exp() - exact).abs().sum(1).mean()) / 2


def test_the_problem_is_as_hard_as_the_published_table_s(points):
    _, label, exact = points
    assert float((exact.argmax(1) == label).double().mean()) == pytest.approx(0.693, abs=0.02)


def test_shared_noise_comes_to_the_posterior(points):
    """The table: agreement .89, .935, .97 and total variation .094, .044, .017 of 32, 128 and 1024 draws."""
    x, _, exact = points
    table = {32: (0.89, 0.094), 128: (0.935, 0.044), 1024: (0.97, 0.017)}
    for draws, (same, apart) in table.items():
        found = asked(x, draws)
        assert found.errors.shape == (ROWS, 3, draws)
        assert found.evaluations == ROWS * 3 * draws
        # A share of 600 rows varies by .013 at the most; the laws of the table are not these to the last digit.
        assert agreement(found.log_posterior, exact) == pytest.approx(same, abs=0.04)
        assert distance(found.log_posterior, exact) == pytest.approx(apart, rel=0.35)


def test_noise_of_their_own_costs_classes_sixteen_times_the_draws(points):
    """What 64 shared draws reach, 1024 independent ones hardly do: agreement .885 beside .89 of 32 shared."""
    x, _, exact = points
    each = [
        diffusion_classifier(
            conditional(PROCESS), PROCESS, x, [k], num_draws=1024, antithetic=False,
            log_snr_range=RANGE, generator=generator(3, k), rows_per_call=8192,
        ).log_likelihood
        for k in range(3)
    ]  # fmt: skip
    apart = torch.cat(each, 1)
    shared = asked(x, 64)
    assert agreement(apart, exact) == pytest.approx(0.885, abs=0.04)
    assert agreement(apart, exact) < agreement(shared.log_posterior, exact) + 0.01
    assert distance(apart.log_softmax(1), exact) > distance(shared.log_posterior, exact)


@pytest.mark.parametrize(("evaluations", "single", "pairs"), [(32, 0.091, 0.041), (128, 0.046, 0.022)])
def test_opposite_noises_halve_the_distance(points, evaluations, single, pairs):
    x, _, exact = points
    alone = distance(asked(x, evaluations).log_posterior, exact)
    paired = distance(asked(x, evaluations, antithetic=True).log_posterior, exact)
    assert alone == pytest.approx(single, rel=0.35)
    assert paired == pytest.approx(pairs, rel=0.45)
    assert paired < 0.6 * alone


def test_levels_even_in_time_are_no_posterior(points):
    """Agreement about .91 at 1000 draws, of levels even in the noise scale, and probabilities that mean nothing."""
    x, _, exact = points
    linear = VarianceExploding(0.01, 30.0, rho=1.0)
    found = diffusion_classifier(
        conditional(linear), linear, x, torch.arange(3), weight="uniform_t", num_draws=1000,
        antithetic=False, generator=generator(4), rows_per_call=8192,
    )  # fmt: skip
    assert agreement(found.log_posterior, exact) == pytest.approx(0.91, abs=0.03)
    assert distance(found.log_posterior, exact) > 0.3


# -------------------------------------------------------------------------------------------------- any process


@pytest.mark.parametrize("process", [VariancePreserving(), VariancePreserving("cosine"), RectifiedFlow(), PROCESS])
def test_every_gaussian_process_gives_the_same_posterior(points, process):
    """The error is of the noise at a log-SNR, whatever a network of the process predicts."""
    x, _, exact = points
    found = diffusion_classifier(
        conditional(process), process, x[:200], torch.arange(3), num_draws=512,
        log_snr_range=(math.log(2e-3), math.log(1e4)), generator=generator(5), rows_per_call=8192,
    )  # fmt: skip
    assert distance(found.log_posterior, exact[:200]) < 0.02
    again = diffusion_classifier(
        conditional(PROCESS), PROCESS, x[:200], torch.arange(3), num_draws=512,
        log_snr_range=(math.log(2e-3), math.log(1e4)), generator=generator(5), rows_per_call=8192,
    )  # fmt: skip
    torch.testing.assert_close(found.errors, again.errors, atol=1e-6, rtol=1e-5)


def test_columns_with_schedules_of_their_own_give_the_same_posterior(points):
    x, _, exact = points
    columns = VarianceExploding(1e-2, 40.0, rho=torch.tensor([3.0, 9.0]))
    each = [ShapedDenoiser(law, columns) for law in LAWS]
    found = diffusion_classifier(
        lambda x_t, t, k: each[k](x_t, t), columns, x[:150], [0, 1, 2], num_draws=512,
        generator=generator(6), rows_per_call=8192,
    )  # fmt: skip
    assert distance(found.log_posterior, exact[:150]) < 0.025


class ShapedDenoiser:
    """The exact posterior mean where each column has a noise of its own, by scaling the columns."""

    def __init__(self, law, process):
        self.law, self.process = law, process

    def __call__(self, x_t, t):
        sigma = self.process.sigma(t).expand(x_t.shape)
        covariance = torch.diag_embed(sigma**2).unsqueeze(1) + self.law.covariances
        gap = x_t.unsqueeze(1) - self.law.means
        solved = torch.linalg.solve(covariance, gap.unsqueeze(-1)).squeeze(-1)
        log_weight = self.law.weights.log() - 0.5 * ((gap * solved).sum(-1) + torch.logdet(covariance))
        means = self.law.means + torch.einsum("kij,nkj->nki", self.law.covariances, solved)
        return (log_weight.softmax(1).unsqueeze(-1) * means).sum(1)


def test_two_normal_laws_by_hand():
    """One dimension, means a and b, unit variance: the gap of the errors integrates to the gap of log-densities.

    ``E|eps - eps_hat_a|^2 - E|eps - eps_hat_b|^2`` at ratio r is ``r/(1+r)^2 ((x-a)^2 - (x-b)^2)``, whose integral over
    log r from low to high is ``[1/(1+low) - 1/(1+high)]`` times the gap. With pairs of noises the rest cancels.
    """
    laws = [GaussianMixture([1.0], [[mean]], [1.0]) for mean in (-0.5, 1.0)]
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    found = diffusion_classifier(
        conditional(PROCESS, laws), PROCESS, x, [0, 1], num_draws=4096, log_snr_range=RANGE,
        generator=generator(7), rows_per_call=100_000,
    )  # fmt: skip
    share = 1 / (1 + 1e-3) - 1 / (1 + 1e4)
    expected = -0.5 * share * ((x[:, 0] + 0.5) ** 2 - (x[:, 0] - 1.0) ** 2)
    gap = found.log_likelihood[:, 0] - found.log_likelihood[:, 1]
    torch.testing.assert_close(gap, expected, atol=2e-5, rtol=2e-4)


def test_two_normal_laws_by_hand_where_each_column_has_its_own_schedule():
    """The same gap: each column's log-SNR runs from the same end to the same end, at a pace of its own."""
    columns = VarianceExploding(1e-2, 40.0, rho=torch.tensor([1.0, 12.0]))
    means = torch.tensor([[-0.5, 0.3], [1.0, -0.8]], dtype=torch.float64)

    def denoise(x_t, t, k):
        variance = columns.sigma(t).double() ** 2
        return (x_t + variance * means[k]) / (1 + variance)

    x = torch.linspace(-2, 2, 10, dtype=torch.float64).reshape(5, 2)
    found = diffusion_classifier(
        denoise, columns, x, [0, 1], num_draws=4096, generator=generator(7), rows_per_call=100_000
    )  # fmt: skip
    share = 1 / (1 + 40.0**-2) - 1 / (1 + 1e4)
    expected = -0.5 * share * ((x - means[0]).square() - (x - means[1]).square()).sum(1)
    gap = found.log_likelihood[:, 0] - found.log_likelihood[:, 1]
    share_lost = 1.5 * 1e-3  # of the ends: columns of another pace reach theirs a little before or after
    torch.testing.assert_close(gap, expected, atol=1e-3 + share_lost, rtol=2e-3)


def test_a_prior_is_added(points):
    x = points[0][:50]
    log_prior = torch.tensor([0.7, 0.2, 0.1]).log().double()
    even, told = asked(x, 64), asked(x, 64, log_prior=log_prior)
    torch.testing.assert_close(told.log_posterior, (even.log_posterior + log_prior).log_softmax(1))


def test_without_a_condition_the_likelihood_is_relative(points):
    """``log p(x | c) - log p(x)``: the posterior over the prior, which compares rows as well."""
    x, _, exact = points
    found = asked(x[:200], 512, antithetic=True, unconditional=True)
    assert found.evaluations == 200 * 4 * 512
    assert found.log_likelihood.shape == (200, 3)
    error = (found.log_likelihood.exp() - 3 * exact[:200]).abs()
    assert float(error.mean()) < 0.08


def test_conditions_come_in_any_form(points):
    x = points[0][:40]
    one = asked(x, 16)
    listed = diffusion_classifier(
        conditional(PROCESS), PROCESS, x, [0, 1, 2], num_draws=16, antithetic=False, log_snr_range=RANGE,
        generator=generator(1), rows_per_call=7,
    )  # fmt: skip
    torch.testing.assert_close(one.errors, listed.errors)
    denoiser = conditional(PROCESS)
    nested = diffusion_classifier(
        lambda x_t, t, condition: denoiser(x_t, t, condition["label"]), PROCESS, x, {"label": torch.arange(3)},
        num_draws=16, antithetic=False, log_snr_range=RANGE, generator=generator(1),
    )  # fmt: skip
    torch.testing.assert_close(one.errors, nested.errors)
    turned = torch.stack([(torch.arange(3) + row) % 3 for row in range(40)])
    own = diffusion_classifier(
        denoiser, PROCESS, x, turned.flatten(), per_row=True, num_draws=16, antithetic=False, log_snr_range=RANGE,
        generator=generator(1),
    )  # fmt: skip
    torch.testing.assert_close(own.log_posterior, one.log_posterior.gather(1, turned))


def test_a_row_is_classified_the_same_in_any_company(points):
    x = points[0][:40]
    whole, part = (
        diffusion_classifier(
            conditional(PROCESS), PROCESS, x[rows], [0, 1, 2], num_draws=8,
            generator=RowBlocks(3, rows.start, rows.stop - rows.start, 16),
        ).errors
        for rows in (slice(0, 40), slice(20, 30))
    )  # fmt: skip
    torch.testing.assert_close(whole[20:30], part)


# ------------------------------------------------------------------------------------------------------ pruning


def test_what_is_not_given_up_is_as_if_nothing_had_been(points):
    x, _, exact = points
    full = asked(x, 128, antithetic=True)
    stages = ((16, 2), (48, 2), (128, 1))
    pruned = asked(x, 0, antithetic=True, stages=stages)
    kept = ~pruned.errors.isnan()
    torch.testing.assert_close(pruned.errors[kept], full.errors[kept], atol=0, rtol=0)
    count = kept.sum(2).sort(1).values
    assert count.unique(dim=0).tolist() == [[16, 128, 128]]
    assert pruned.evaluations == ROWS * (3 * 16 + 2 * 112) < full.evaluations
    # Whatever survives, its lead over the others that did is that of the full answer.
    survived = kept.all(2)
    both = survived[:, 0] & survived[:, 1]
    lead = [one.log_likelihood[both, 0] - one.log_likelihood[both, 1] for one in (pruned, full)]
    torch.testing.assert_close(*lead)
    best = full.labels
    sure = survived[torch.arange(ROWS), best]
    assert float(sure.double().mean()) > 0.98
    assert bool((pruned.labels == best)[sure & (full.log_posterior.amax(1).exp() > 0.6)].all())
    assert distance(pruned.log_posterior, exact) < 0.06


def test_one_stage_and_stages_that_keep_all_are_the_full_answer(points):
    x = points[0][:60]
    full = asked(x, 32)
    for stages in (((32, 1),), ((8, 3), (20, 3), (32, 2))):
        found = asked(x, 0, stages=stages)
        torch.testing.assert_close(found.log_posterior, full.log_posterior, atol=0, rtol=0)
        torch.testing.assert_close(found.errors, full.errors, atol=0, rtol=0)
    assert asked(x[:2], 0, stages="pets").errors.shape[2] == 250
    assert {stages[-1] for stages in PRUNING.values()} == {(500, 1), (250, 1), (1000, 1)}


@pytest.mark.parametrize("strata", [1, 2, 3, 8, 25, 64, 500])
def test_every_beginning_of_the_strata_is_spread(strata):
    """The first k of n strata leave no gap longer than four times the even one."""
    order = nested_order(strata)
    assert order.sort().values.tolist() == list(range(strata))
    for k in range(1, strata + 1):
        edges = torch.cat([torch.tensor([-1]), order[:k].sort().values, torch.tensor([strata])])
        assert int(edges.diff().max()) <= 4 * math.ceil(strata / k)


# -------------------------------------------------------------------------------------------- masked and mixed

TABLES = [rand((3, 2, 3), generator(10, k)).square() for k in range(3)]
JOINTS = [FiniteJoint(table / table.sum()) for table in TABLES]


def test_masked_classes_are_told_by_enumeration():
    """Of exact denoisers the any-order bound is the log-likelihood, at every state."""
    process = Masked((3, 2, 3))
    x = torch.tensor(list(itertools.product(range(3), range(2), range(3))))
    exact = torch.stack([law.log_prob(x) for law in JOINTS], 1)
    each = [law.denoiser(process) for law in JOINTS]
    found = diffusion_classifier(
        lambda x_t, t, k: each[k](x_t, t), process, x, [0, 1, 2], num_draws=12_000,
        generator=generator(11), rows_per_call=100_000,
    )  # fmt: skip
    # The nats of 18 states within 4.5 standard errors of each draw's spread: 4e-4 in all
    error = found.errors.std(2) / math.sqrt(12_000)
    assert bool(((found.log_likelihood - exact).abs() < 4.5 * error).all())
    assert distance(found.log_posterior, exact.softmax(1)) < 0.01
    assert bool((error < 0.1).all())


def test_cells_with_schedules_of_their_own_give_the_same():
    from clarkia.schedules import PolynomialMask

    process = Masked((3, 2, 3), PolynomialMask(torch.tensor([0.7, 1.0, 2.0])))
    x = torch.tensor([[0, 1, 2], [2, 0, 1], [1, 1, 0]])
    exact = torch.stack([law.log_prob(x) for law in JOINTS], 1)
    each = [law.denoiser(process) for law in JOINTS]
    found = diffusion_classifier(
        lambda x_t, t, k: each[k](x_t, t), process, x, [0, 1, 2], num_draws=20_000,
        generator=generator(12), rows_per_call=100_000,
    )  # fmt: skip
    error = found.errors.std(2) / math.sqrt(20_000)
    assert bool(((found.log_likelihood - exact).abs() < 4.5 * error).all())  # 6e-5


def test_mixed_classes_are_told_by_the_sum_of_their_blocks():
    process = Mixed(numeric=VarianceExploding(1e-3, 100.0), levels=Masked((2, 2)))
    laws = []
    for k in range(2):
        table = rand((2, 2), generator(13, k))
        means = 2 * rand((2, 2, 2), generator(14, k)) - 1
        laws.append(MixedJoint(table / table.sum(), means, torch.tensor(0.4)))
    drawn = [law.sample(20, generator=generator(15, k)) for k, law in enumerate(laws)]
    x = {name: torch.cat([state[name] for state in drawn]) for name in drawn[0]}
    exact = torch.stack([law.log_prob(x) for law in laws], 1)
    each = [law.denoiser(process) for law in laws]
    found = diffusion_classifier(
        lambda x_t, t, k: each[k](x_t, t), process, x, [0, 1], num_draws=4000, generator=generator(16),
        rows_per_call=100_000,
    )  # fmt: skip
    gap = found.log_likelihood[:, 0] - found.log_likelihood[:, 1]
    error = (found.errors[:, 0] - found.errors[:, 1]).std(1) / math.sqrt(4000)
    assert bool((((gap - (exact[:, 0] - exact[:, 1])).abs() - 2e-3) < 4.5 * error).all())  # 3e-4
    assert distance(found.log_posterior, exact.softmax(1)) < 0.02


def test_an_impossible_row_keeps_the_prior():
    process = Masked((2, 2))
    law = FiniteJoint(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    each = law.denoiser(process)
    found = diffusion_classifier(
        lambda x_t, t, k: each(x_t, t), process, torch.tensor([[1, 1]]), [0, 1], num_draws=8,
        log_prior=torch.tensor([0.25, 0.75]).log(), generator=generator(17),
    )  # fmt: skip
    torch.testing.assert_close(found.log_posterior.exp(), torch.tensor([[0.25, 0.75]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weight": "even"}, "weight: expected 'logsnr'"),
        ({"distance": "l3"}, "distance: expected 'squared'"),
        ({"num_draws": 5}, "num_draws: expected an even number"),
        ({"stages": "mnist"}, "stages: expected one of cifar10"),
        ({"stages": ((8, 2), (4, 1))}, "stages: expected at least one draw"),
        ({"stages": ((8, 1), (16, 2))}, "stages: expected at least 1 class"),
        ({"log_prior": torch.zeros(4)}, "log_prior: expected 3 numbers"),
        ({"log_snr_range": (0.0, 99.0)}, "log_snr_range: expected"),
        ({"per_row": True}, "conditions: expected the same number"),
        ({"rows_per_call": 0}, "rows_per_call: expected at least 1"),
    ],
)
def test_wrong_arguments_are_named(options, words):
    x = torch.zeros(2, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match=words):
        diffusion_classifier(conditional(PROCESS), PROCESS, x, torch.arange(3), **options)
