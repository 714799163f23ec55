"""Flows between two modalities: where the exact one leads, and what its objective teaches."""

import math

import pytest
import torch
from torch import nn

from clarkia import samplers, training
from clarkia.denoisers import Parametrized
from clarkia.guidance.indicator import indicated, indicator
from clarkia.networks.source import SourceCode, TextTrunk, VariationalEncoder, analogy, interpolated, standardised
from clarkia.objectives.crossflow import CrossFlow, CrossModal, contrastive, other_rows
from clarkia.processes import RectifiedFlow, VariancePreserving, spread
from clarkia.random import generator, rand, randn

FLOW = RectifiedFlow()
PHI = {0.5: 0.6915, 1.0: 0.8413, 2.0: 0.9772, 3.0: 0.9987}
"""Share of codes on their class's side of 0, by the distance of its mean over its deviation."""

MODE, WIDTH = 2.0, 0.3


def two_classes(m, s):
    """The exact denoiser of the flow from ``z | c ~ N(c m, s^2)`` to ``x | c ~ N(2 c, 0.3^2)``, c = 1 or -1."""

    def denoise(x_t, t, condition=None):
        t = spread(t, x_t)
        centre, variance = (1 - t) * MODE + t * m, (1 - t) ** 2 * WIDTH**2 + t**2 * s**2
        sign = torch.tanh(centre * x_t / variance)  # E[c | x_t]
        pull = (1 - t) * WIDTH**2 / variance
        return sign * MODE + pull * (x_t - sign * centre)

    return denoise


@pytest.mark.parametrize("ratio", PHI)
def test_the_flow_is_monotone_so_codes_on_the_wrong_side_end_on_the_wrong_side(ratio):
    """2 10^5 codes a class pair; the share right to four standard errors of the largest, 0.004."""
    c = torch.where(torch.arange(200_000) % 2 == 0, 1.0, -1.0).double()[:, None]
    z = (c * ratio + randn(c.shape, generator(0), dtype=torch.float64)).sort(0)
    codes, signs = z.values, c.gather(0, z.indices)
    x = samplers.sample(two_classes(ratio, 1.0), FLOW, initial=codes, num_steps=100)
    assert bool((x.diff(dim=0) >= 0).all())
    right = float((x.sign() == signs).double().mean())
    assert right == pytest.approx(PHI[ratio], abs=0.0042)
    assert right == pytest.approx(float((codes.sign() == signs).double().mean()), abs=1e-4)
    assert PHI[ratio] == pytest.approx(0.5 * math.erfc(-ratio / math.sqrt(2)), abs=5e-5)
    for sign in (-1, 1):  # the modes are reached whatever the codes: the marginal is transported
        side = x[x.sign() == sign]
        assert float(side.mean()) == pytest.approx(sign * MODE, abs=0.01)
        assert float(side.std()) == pytest.approx(WIDTH, abs=0.02)


def test_a_flow_between_correlated_normals_ends_where_it_began():
    """It transports the marginal: the end is the code itself, where the law given the code has variance 0.36."""
    rho = 0.8

    def denoise(x_t, t, condition=None):
        t = spread(t, x_t)
        variance = (1 - t) ** 2 + t**2 + 2 * t * (1 - t) * rho
        return (1 - t + t * rho) / variance * x_t

    z = randn((1000, 1), generator(1), dtype=torch.float64)
    x = samplers.sample(denoise, FLOW, initial=z, num_steps=200)
    torch.testing.assert_close(x, z, rtol=0, atol=1e-4)


def test_euler_looks_at_the_noisy_end_of_every_interval():
    times = []

    def denoise(x_t, t, condition=None):
        times.append(float(t[0]))
        return 0.5 * x_t

    samplers.sample(denoise, FLOW, initial=torch.ones(1, 1), num_steps=4, solver=samplers.Euler())
    assert times == [1.0, 0.75, 0.5, 0.25]


# ------------------------------------------------------------------------------------------------- the objective


class Recorder(nn.Module):
    """A denoiser that answers a number and keeps what it was asked."""

    def __init__(self, answer=0.0):
        super().__init__()
        self.answer, self.asked = answer, []

    def forward(self, x_t, t, condition=None):
        self.asked.append((x_t, t, condition))
        return torch.full_like(x_t, self.answer)


def correlated(n, rho=0.8, seed=2):
    z = randn((n, 1), generator(seed), dtype=torch.float64)
    return z, rho * z + (1 - rho**2) ** 0.5 * randn((n, 1), generator(seed, 1), dtype=torch.float64)


def test_rows_without_indicator_have_targets_that_their_codes_say_nothing_of():
    """Correlations of 10^5 rows, each to four standard errors."""
    z, target = correlated(200_000)
    pairs = CrossFlow(null_prob=0.5).paired(z, target, generator(3))
    assert float(pairs.null.double().mean()) == pytest.approx(0.5, abs=0.005)
    for rows, rho, error in ((pairs.null, 0.0, 0.0127), (~pairs.null, 0.8, 0.0046)):
        found = torch.corrcoef(torch.stack([z[rows, 0], pairs.target[rows, 0]]))[0, 1]
        assert float(found) == pytest.approx(rho, abs=error)
    assert torch.equal(pairs.target[~pairs.null], target[~pairs.null])
    t = pairs.t[:, None]
    torch.testing.assert_close(pairs.x_t, (1 - t) * pairs.target + t * z, rtol=0, atol=1e-12)
    assert torch.equal(pairs.z, z)


def test_a_single_row_without_indicator_gets_another_ones_target():
    """Where the published code trains nothing: 64 batches of two rows, one of them without."""
    z = torch.zeros(2, 1)
    seen = [CrossFlow(null_prob=0.3).paired(z, torch.tensor([[1.0], [2.0]]), generator(4, i)) for i in range(64)]
    lonely = [pairs for pairs in seen if int(pairs.null.sum()) == 1]
    assert len(lonely) > 10
    assert all(float(pairs.target[pairs.null]) == (2.0 if pairs.null[0] else 1.0) for pairs in lonely)


def test_another_row_is_any_other_row():
    """Chi-square of 30000 draws over the four others of each of five rows, 15 degrees: below 37.7 but once in 1000."""
    table = torch.zeros(5, 5)
    for i in range(6000):
        table[torch.arange(5), other_rows(5, generator(5, i))] += 1
    assert bool((table.diagonal() == 0).all())
    assert float(((table - 1500) ** 2 / 1500)[~torch.eye(5, dtype=torch.bool)].sum()) < 37.7
    assert other_rows(1).tolist() == [0]


@pytest.mark.parametrize("process", [FLOW, VariancePreserving("cosine")])
def test_the_loss_is_the_squared_error_of_the_velocity(process):
    z, target = (randn((50, 2, 3), generator(6, k), dtype=torch.float64) for k in range(2))
    objective = CrossFlow(process, null_prob=0.4)
    pairs, denoiser = objective.paired(z, target, generator(7)), Recorder(0.3)
    loss = objective.flow(denoiser, pairs)
    velocity = process.velocity(pairs.x_t, torch.full_like(z, 0.3), pairs.t)
    t = spread(pairs.t, z)
    true = process.d_alpha(t) * pairs.target + process.d_sigma(t) * z
    torch.testing.assert_close(loss, (velocity - true).square().mean((1, 2)), rtol=1e-9, atol=1e-12)
    assert torch.equal(denoiser.asked[0][2]["label"], torch.where(pairs.null, -1, 0))


def test_divergences_by_hand():
    code = SourceCode(torch.tensor([[1.0, 0.0], [2.0, 2.0]]), torch.log(torch.tensor([[1.0, 1.0], [0.5, 2.0]])))
    torch.testing.assert_close(code.divergence(), torch.tensor([0.25, 0.5 * (4 + 0.25)]))
    sixth = torch.tensor([0.3**6 / 4, 0.5 * (0.6**6 + 0.25)])
    torch.testing.assert_close(code.published_divergence(), sixth)
    free = SourceCode(torch.full((1, 1), 3.0), torch.zeros(1, 1))
    assert float(free.published_divergence()) < 0.3 < 4 < float(free.divergence())


def test_codes_have_the_law_they_are_said_to_have():
    """Mean and deviation of 10^5 draws to four standard errors."""
    code = SourceCode(torch.full((100_000, 1), 0.7), torch.full((100_000, 1), 2 * math.log(0.5)))
    z = code.sample(generator(8))
    assert float(z.mean()) == pytest.approx(0.7, abs=4 * 0.5 / 100_000**0.5)
    assert float(z.std()) == pytest.approx(0.5, abs=4 * 0.5 / 200_000**0.5)


def test_contrast_is_the_mean_of_two_cross_entropies():
    a, b = (randn((6, 4), generator(9, k), dtype=torch.float64) for k in range(2))
    cosine = nn.functional.normalize(a) @ nn.functional.normalize(b).T * 5
    both = 0.5 * (nn.functional.cross_entropy(cosine, torch.arange(6), reduction="none")
                  + nn.functional.cross_entropy(cosine.T, torch.arange(6), reduction="none"))  # fmt: skip
    torch.testing.assert_close(contrastive(3 * a, b, 5.0), both, rtol=0, atol=1e-12)
    assert float(contrastive(a, a, 200.0).max()) < 1e-6


def test_losses_have_names_and_weights():
    encoder = VariationalEncoder(Take("x"), 3, (2,))
    module = CrossModal(encoder, Recorder(), image=nn.Linear(2, 2), decoder=nn.Linear(2, 3))
    batch = {"x": torch.rand(8, 3), "target": torch.rand(8, 2), "features": torch.rand(8, 3)}
    losses = {kind: CrossFlow(align=kind, kl_weight=0.5)(module, batch, generator(10)) for kind in
              ("contrastive", "reconstruct", None)}  # fmt: skip
    assert [set(part) for part in losses.values()] == [{"flow", "divergence", "align"}] * 2 + [{"flow", "divergence"}]
    assert all(loss.shape == (8,) for part in losses.values() for loss in part.values())
    torch.testing.assert_close(losses[None]["divergence"], 0.5 * encoder(batch).divergence())
    published = CrossFlow(align=None, kl_weight=0.5, divergence="published")(module, batch, generator(10))
    torch.testing.assert_close(published["divergence"], 0.5 * encoder(batch).published_divergence())
    with pytest.raises(ValueError, match="image"):
        CrossFlow()(CrossModal(encoder, Recorder()), batch)
    with pytest.raises(ValueError, match="decoder"):
        CrossFlow(align="reconstruct")(CrossModal(encoder, Recorder()), batch)
    with pytest.raises(ValueError, match="one shape"):
        CrossFlow(align=None)(module, {**batch, "target": torch.rand(8, 3)})


@pytest.mark.parametrize(
    "options", [{"null_prob": 2.0}, {"kl_weight": -1.0}, {"align": "both"}, {"divergence": "none"}]
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ValueError, match="expected"):
        CrossFlow(**options)


# --------------------------------------------------------------------------------------------------- the guidance


def test_the_indicator_is_the_only_condition_and_both_answers_see_one_state():
    def denoise(x_t, t, condition=None):
        return x_t * (2.0 if condition is None else 3.0 + condition["label"][:, None])

    x, t = randn((4, 2), generator(11)), torch.ones(4)
    assert torch.equal(indicator(denoise, 0.0)(x, t), 3 * x)
    torch.testing.assert_close(indicator(denoise, 6.0)(x, t), 2 * x + 7 * (3 * x - 2 * x))
    assert indicated(3)["label"].tolist() == [0, 0, 0]


# ----------------------------------------------------------------------------------------------- trained in seconds


class Take(nn.Module):
    """One part of a batch."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def forward(self, batch):
        return batch[self.name]


class Velocity(nn.Module):
    """A small network of state, time and indicator."""

    def __init__(self, width=96):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, 1),
        )  # fmt: skip

    def forward(self, x_t, t, condition=None):
        g = torch.zeros_like(x_t) if condition is None else 1.0 + condition["label"][:, None].to(x_t.dtype)
        return self.layers(torch.cat([x_t, t[:, None].expand_as(x_t), g], 1))


class Fixed(nn.Module):
    """Codes around the class's sign, not trained."""

    def __init__(self, m):
        super().__init__()
        self.m = m

    def forward(self, source):
        return SourceCode(self.m * source["sign"], torch.zeros_like(source["sign"]))


@pytest.fixture(scope="module")
def trained():
    """A flow from codes one deviation off 0 to two modes, with half of the rows without indicator."""
    sign = torch.where(rand((20_000, 1), generator(12)) < 0.5, 1.0, -1.0)
    target = MODE * sign + WIDTH * randn(sign.shape, generator(13))
    torch.manual_seed(0)
    module = CrossModal(Fixed(1.0), Parametrized(Velocity(), FLOW, "velocity"))
    options = training.TrainingOptions(batch_size=1024, learning_rate=3e-3, max_steps=1200, ema_decay=0.99)
    training.fit(module, CrossFlow(align=None, null_prob=0.5), {"sign": sign, "target": target}, options=options,
                 progress=False)  # fmt: skip
    return module


def test_a_trained_flow_is_right_as_often_as_the_exact_one(trained):
    """Within 0.01 of Phi(1), of which 0.006 are four standard errors of 60000 rows."""
    sign = torch.where(torch.arange(60_000) % 2 == 0, 1.0, -1.0)[:, None]
    z = trained.encoder({"sign": sign}).sample(generator(14))
    x = samplers.sample(indicator(trained.denoiser, 0.0), FLOW, initial=z, num_steps=50, solver=samplers.Euler())
    assert float((x.sign() == sign).double().mean()) == pytest.approx(PHI[1.0], abs=0.01)


def test_without_indicator_the_trained_velocity_is_that_to_an_independent_target(trained):
    """``E[z - x' | x_t]`` in closed form, at the middle of the path: root mean square errors of a tenth of its own."""
    z = randn((4000, 1), generator(15)) + torch.where(rand((4000, 1), generator(16)) < 0.5, 1.0, -1.0)
    other = MODE * torch.where(rand((4000, 1), generator(17)) < 0.5, 1.0, -1.0) + WIDTH * randn(
        (4000, 1), generator(18)
    )
    t = torch.full((4000,), 0.5)
    x_t = 0.5 * z + 0.5 * other
    velocity = FLOW.velocity(x_t, trained.denoiser(x_t, t, None).detach(), t)
    torch.testing.assert_close(velocity, trained.denoiser.network(x_t, t, None).detach(), rtol=1e-4, atol=1e-4)
    expected = independent_velocity(x_t.double(), 0.5, 1.0).float()
    assert float((velocity - expected).square().mean().sqrt()) < 0.1 * float(expected.square().mean().sqrt())
    shown = FLOW.velocity(x_t, trained.denoiser(x_t, t, indicated(4000)).detach(), t)
    assert float((shown - expected).square().mean().sqrt()) > 0.3


def independent_velocity(x_t, t, m):
    """By the four pairs of classes: each is a normal law in which ``z - x'`` is linear in ``x_t``."""
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    z, x = m * signs[:, 0], MODE * signs[:, 1]
    variance = (1 - t) ** 2 * WIDTH**2 + t**2
    gap = x_t - ((1 - t) * x + t * z)
    share = (-(gap**2) / (2 * variance)).softmax(1)
    return (share * (z - x + (t - (1 - t) * WIDTH**2) / variance * gap)).sum(1, keepdim=True)


# ------------------------------------------------------------------------------------------- encoders and arithmetic


def test_sums_of_codes_are_standardised_and_lines_are_straight():
    a, b, c = (randn((3, 2, 4), generator(19, k), dtype=torch.float64) for k in range(3))
    z = analogy(a, b, c)
    torch.testing.assert_close(z.mean((1, 2)), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(z.std((1, 2), correction=0), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(z, standardised(3 * (a + b - c) + 7), rtol=0, atol=1e-12)
    torch.testing.assert_close(analogy(a, b, b), standardised(a), rtol=0, atol=1e-12)
    torch.testing.assert_close(interpolated(a, b, 0.25), 0.75 * a + 0.25 * b)
    assert standardised(torch.ones(1, 3)).tolist() == [[0, 0, 0]]


def test_a_text_becomes_a_code_of_the_targets_shape_and_padding_says_nothing():
    torch.manual_seed(1)
    trunk = TextTrunk(20, 6, width=16, depth=2, heads=2, channels=4)
    encoder = VariationalEncoder(trunk, trunk.features, (3, 4, 4), log_var=-2.0)
    words = torch.tensor([[3, 4, 5, 0, 0, 0], [3, 4, 5, 7, 0, 0]])
    mask = words > 0
    code = encoder({"tokens": words, "mask": mask})
    assert code.mean.shape == code.log_var.shape == (2, 3, 4, 4)
    assert torch.equal(code.log_var, torch.full_like(code.log_var, -2.0))
    other = encoder({"tokens": torch.where(mask, words, 9), "mask": mask})
    torch.testing.assert_close(other.mean, code.mean)
    short = encoder({"tokens": words[:1, :3], "mask": mask[:1, :3]})
    torch.testing.assert_close(short.mean, code.mean[:1])
    assert not torch.allclose(code.mean[0], code.mean[1])
