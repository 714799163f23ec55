"""The mixed objective against closed forms: its bound is log p(x) when the denoiser is exact."""

import itertools
import math

import pytest
import torch

from clarkia import objectives
from clarkia.objectives.draws import Times, count_times, observed_columns
from clarkia.oracles import FiniteJoint, MixedJoint
from clarkia.processes import Masked, Mixed, VarianceExploding
from clarkia.random import generator
from clarkia.schedules import LearnedPolynomialMask, LearnedPowerMean

SHAPE = (2, 3, 2)


@pytest.fixture
def joint():
    table = torch.rand(SHAPE, generator=generator(3), dtype=torch.float64) + 0.05
    return FiniteJoint(table / table.sum())


def alone(denoiser):
    """A denoiser of one block as one of a mixed space."""
    return lambda x_t, t, condition=None: {"levels": denoiser(x_t["levels"], t["levels"])}


def every_mask(positions):
    """All sets of masked positions, how likely the count form draws each, and its weight on the masked terms."""
    masks, chances, weights = [], [], []
    for count in range(positions + 1):
        for chosen in itertools.combinations(range(positions), count):
            masks.append([i in chosen for i in range(positions)])
            chances.append(1 / ((positions + 1) * math.comb(positions, count)))
            weights.append((positions + 1) / count if count else 0.0)
    return torch.tensor(masks), torch.tensor(chances, dtype=torch.float64), torch.tensor(weights, dtype=torch.float64)


def test_masked_bound_is_the_log_probability_of_every_cell_by_enumeration(joint, monkeypatch):
    process = Mixed(levels=Masked(SHAPE))
    objective = objectives.MixedDenoising(process, {"levels": torch.arange(3)})
    masks, chances, weights = every_mask(3)
    half = torch.full((len(masks),), 0.5, dtype=torch.float64)
    for cell in itertools.product(*(range(k) for k in SHAPE)):
        x0 = {"levels": torch.tensor(cell).expand(len(masks), 3)}
        times = Times(half, torch.zeros_like(masks), masks, weights, half)
        monkeypatch.setattr("clarkia.objectives.mixed.count_times", lambda *_, times=times: times)
        bound = objective.elbo(alone(joint.denoiser(process.blocks["levels"])), x0)
        exact = joint.log_prob(torch.tensor([cell]))
        torch.testing.assert_close((chances * bound).sum()[None], exact, rtol=0, atol=1e-10)


def test_every_row_counts_from_none_to_all_and_its_weights_restore_a_uniform_time():
    n, positions = 80_000, 4
    observed = torch.zeros(n, positions, dtype=torch.bool)
    times = count_times(observed, torch.tensor([True, True, True, False]), generator(0))
    counts = torch.bincount(times.masked.sum(1), minlength=5).double()
    # Strata make the counts exact but for rounding.
    torch.testing.assert_close(counts, torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0]).double() * n / 4, rtol=0, atol=2.0)
    assert not times.masked[:, 3].any()
    # Given one masked position, each is as likely: chi-square with 2 degrees of freedom, false alarm 1 in 1,000.
    single = times.masked[times.masked.sum(1) == 1][:, :3].sum(0).double()
    expected = single.sum() / 3
    assert ((single - expected) ** 2 / expected).sum() < 13.8
    # Under a uniform time c of 3 masks have E[t^k 1(c)] = B(c + 1 + k, 4 - c) C(3, c); the weights restore that.
    for count in range(4):
        chosen = times.masked.sum(1) == count
        for power in range(3):
            terms = torch.where(chosen, times.continuous_weight * times.row**power, 0.0)
            beta = math.gamma(count + 1 + power) * math.gamma(4 - count) / math.gamma(5 + power)
            exact = math.comb(3, count) * beta
            assert abs(float(terms.mean()) - exact) < 4 * float(terms.std()) / math.sqrt(n) + 1e-5, (count, power)


def test_whole_columns_are_observed_in_a_share_of_the_rows():
    column = torch.tensor([0, 1, 1, 2])
    observed = observed_columns(40_000, column, 0.5, generator(1))
    assert torch.equal(observed[:, 1], observed[:, 2])
    assert abs(observed.double().mean() - 0.25) < 0.01  # 0.5 of the rows show half of their columns


def mixed_oracle():
    probabilities = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    means = torch.tensor([[-1.5], [0.3], [1.6]], dtype=torch.float64)
    covariances = torch.full((3, 1, 1), 0.35**2, dtype=torch.float64)
    return MixedJoint(probabilities, means, covariances)


def blocks(oracle):
    numeric, levels = oracle.space.blocks
    return numeric, levels


@pytest.mark.parametrize("learned", [False, True])
def test_mixed_bound_is_the_log_density_within_its_standard_error(learned):
    oracle = mixed_oracle()
    numeric, levels = blocks(oracle)
    process = Mixed.from_blocks(
        {
            numeric: VarianceExploding(schedule=LearnedPowerMean(1) if learned else None),
            levels: Masked((3,), LearnedPolynomialMask(1, 0.0, 0.0) if learned else "linear"),
        }
    )
    objective = objectives.MixedDenoising(process, {numeric: torch.tensor([0]), levels: torch.tensor([1])})
    denoiser = oracle.denoiser(process)
    for x, c in ((-1.2, 0), (0.5, 1), (0.5, 2)):
        x0 = {numeric: torch.tensor([[x]], dtype=torch.float64), levels: torch.tensor([[c]])}
        many = {name: block.expand(400_000, 1) for name, block in x0.items()}
        with torch.no_grad():
            bound = objective.elbo(denoiser, many, generator(7))
        error = float(bound.std() / math.sqrt(len(bound)))
        exact = float(oracle.log_prob(x0))
        # Beyond four standard errors only what sigma_max = 80 and sigma_min = 0.002 cost, below 2e-4 nats.
        assert abs(float(bound.mean()) - exact) < 4 * error + 2e-4, (float(bound.mean()), exact, error)
        assert error < 0.03


def test_exact_denoiser_of_a_standard_normal_has_loss_one_at_every_noise_level():
    process = Mixed(numeric=VarianceExploding())
    objective = objectives.MixedDenoising(process, {"numeric": torch.tensor([0])}, subset_probability=0.0)

    def exact(x_t, t, condition=None):
        sigma = process.blocks["numeric"].sigma(t["numeric"])
        return {"numeric": x_t["numeric"] / (1 + sigma**2)}

    x0 = {"numeric": torch.randn(200_000, 1, dtype=torch.float64, generator=generator(0))}
    loss = objective(exact, x0, generator(1))["numeric"]
    # A chi-square with one degree of freedom has variance 2: four standard errors.
    assert abs(float(loss.mean()) - 1) < 4 * math.sqrt(2 / 200_000)


def test_marginal_predictions_give_the_entropy_whatever_the_mask_schedule():
    marginal = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    entropy = float(-(marginal * marginal.log()).sum())
    for schedule, factor in (("linear", 1.0), (LearnedPolynomialMask(1), 1 - 1e-3 - 1e-5)):
        process = Mixed(levels=Masked((3,), schedule))
        objective = objectives.MixedDenoising(process, {"levels": torch.tensor([0])}, subset_probability=0.0)

        def constant(x_t, t, condition=None, process=process):
            logits = marginal.log().expand(*x_t["levels"].shape, 3)
            return {"levels": process.blocks["levels"].log_probs(logits, x_t["levels"])}

        x0 = {"levels": torch.multinomial(marginal, 400_000, replacement=True, generator=generator(0))[:, None]}
        with torch.no_grad():
            loss = objective(constant, x0, generator(2))["levels"].double()
        assert abs(float(loss.mean()) - factor * entropy) < 4 * float(loss.std()) / math.sqrt(400_000)


def test_schedule_gradient_is_that_of_the_expected_loss():
    """With a fixed wrong denoiser the expected loss is a sum over masks, whose derivative is known."""
    schedule = LearnedPolynomialMask(2, 0.0, 0.0)
    process = Mixed(levels=Masked((2, 2), schedule))
    objective = objectives.MixedDenoising(process, {"levels": torch.arange(2)}, subset_probability=0.0)
    cost = torch.tensor([[0.3, 1.7], [0.9, 0.2]], dtype=torch.float64)  # [other visible?, position]

    def wrong(x_t, t, condition=None):
        visible = (x_t["levels"] != 2).flip(1)
        nats = torch.where(visible, cost[1], cost[0])
        log_p = torch.stack([-nats, torch.log1p(-torch.exp(-nats))], -1)
        return {"levels": process.blocks["levels"].log_probs(log_p, x_t["levels"])}

    x0 = {"levels": torch.zeros(400_000, 2, dtype=torch.int64)}
    losses = objective(wrong, x0, generator(5))
    sum(loss.mean() for loss in losses.values()).backward()
    sampled = schedule.raw.grad.clone()
    schedule.raw.grad = None
    t = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    block = process.blocks["levels"]
    grid = t[:, None].expand(-1, 2)
    masked, weight = 1 - block.alpha(grid), block.weight(grid)
    expected = 0.0
    for position in (0, 1):
        other = masked[:, 1 - position]
        nats = other * cost[0, position] + (1 - other) * cost[1, position]
        expected = expected + (weight[:, position] * masked[:, position] * nats).mean()
    expected.backward()
    torch.testing.assert_close(sampled, schedule.raw.grad, rtol=0, atol=2e-4)
    assert schedule.raw.grad.abs().min() > 2e-5
