"""Staged search: the laws its potentials converge to, lineages that can be walked again, clusters that differ."""

import math

import pytest
import torch

from clarkia import samplers, schedules
from clarkia.oracles import FiniteJoint, GaussianMixture, MarkovChain
from clarkia.processes import Masked, VariancePreserving
from clarkia.random import categorical, generator
from clarkia.samplers import DDIM
from clarkia.steering import SamplerStages, first_component_scores, representatives, staged_search, survivors

P_A = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
P_B = torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64)
REWARDS = torch.tensor([[0.0, 1.0], [0.5, 0.2], [1.0, 0.3]], dtype=torch.float64)
JOINT = torch.stack([P_A * (1 - P_B), P_A * P_B], 1)
EXPECTED = (REWARDS * torch.stack([1 - P_B, P_B], 1)).sum(1)


class Tree:
    """Two stages: first a, then b given a; a preview of a alone holds -1."""

    num_stages = 2

    def __init__(self, seed):
        self.noise = generator(seed)

    def init(self, num_drafts):
        return torch.full((num_drafts, 2), -1)

    def advance(self, drafts, stage):
        if stage == 0:
            a = categorical(P_A.log().expand(len(drafts), 3), self.noise)
            return torch.stack([a, drafts[:, 1]], 1)
        p = P_B[drafts[:, 0]]
        b = categorical(torch.stack([1 - p, p], 1).log(), self.noise)
        return torch.stack([drafts[:, 0], b], 1)

    def preview(self, drafts, stage):
        return drafts

    def reorder(self, drafts, index):
        return drafts[index]


def tree_reward(x):
    return torch.where(x[:, 1] < 0, EXPECTED[x[:, 0]], REWARDS[x[:, 0], x[:, 1].clamp(min=0)])


def law(x):
    cells = torch.bincount(2 * x[:, 0] + x[:, 1], minlength=6).double() / len(x)
    return cells.view(3, 2)


VALUE = torch.tensor([[0.1334, 0.4223], [0.1294, 0.1065], [0.0648, 0.1437]], dtype=torch.float64)
TILT = torch.tensor([[0.1384, 0.4383], [0.1290, 0.1062], [0.0584, 0.1297]], dtype=torch.float64)


def normalised(table):
    return table / table.sum()


def test_the_reference_laws_are_what_the_formulas_say():
    torch.testing.assert_close(
        normalised(JOINT * torch.exp(2 * (EXPECTED[:, None] + REWARDS))), VALUE, rtol=0, atol=6e-5
    )
    torch.testing.assert_close(normalised(JOINT * torch.exp(2 * REWARDS)), TILT, rtol=0, atol=6e-5)
    assert float((VALUE - TILT).abs().sum() / 2) == pytest.approx(0.0210, abs=1e-4)


@pytest.mark.parametrize("scheme", ["multinomial", "systematic"])
@pytest.mark.parametrize(("potential", "limit"), [("value", VALUE), ("difference", TILT), ("max", None), ("sum", None)])
def test_resampling_at_both_stages_has_the_limit_law(potential, limit, scheme):
    """With 2e5 particles each cell within .004: value counts the reward twice, its gain counts it once."""
    n = 200_000
    found = staged_search(
        Tree(0), tree_reward, [n, n], resample_at={0, 1}, scale=2.0, potential=potential, scheme=scheme,
        generator=generator(1),
    )  # fmt: skip
    later = {"max": torch.maximum(EXPECTED[:, None], REWARDS), "sum": EXPECTED[:, None] + REWARDS}
    if limit is None:
        limit = normalised(JOINT * torch.exp(2 * (EXPECTED[:, None] + later[potential])))
    assert float((law(found.x) - limit).abs().max()) < 0.004
    assert float(found.rewards[found.best]) == float(REWARDS.max())


def test_a_gain_since_the_last_resampling_telescopes_over_stages_that_do_not_resample():
    n = 200_000
    found = staged_search(
        Tree(2), tree_reward, [n, n], resample_at={1}, scale=2.0, potential="difference", generator=generator(3)
    )
    assert float((law(found.x) - TILT).abs().max()) < 0.004


# ------------------------------------------------------------------------------------------------- any sampler

CHAIN = MarkovChain(torch.full((3,), 1 / 3), 0.7 * torch.eye(3) + 0.1, 6)
MASKED = Masked((3,) * 6)


def chain_stages(seed=0):
    return SamplerStages(CHAIN.denoiser(MASKED), MASKED, schedules.uniform(8), [3, 2, 2, 1], seed=seed)


def ones(x):
    return (x == 1).double().sum(1)


def test_a_survivor_is_an_independent_run_with_its_parents():
    stages = chain_stages()
    found = staged_search(
        stages, ones, [8, 6, 3, 3], cluster_at={0}, resample_at={1, 2}, scale=1.0, generator=generator(4),
        features=lambda x: torch.nn.functional.one_hot(x, 3).flatten(1).double(),
    )  # fmt: skip
    assert [len(parents) for parents in found.parents] == [8, 6, 3, 3]
    starts = stages.init(8)
    for survivor in range(3):
        places = found.lineage(survivor)
        draft = starts[places[0] : places[0] + 1]
        for stage, place in enumerate(places):
            draft = stages.advance(draft, stage, first=place)
        assert torch.equal(draft, found.x[survivor : survivor + 1])


def test_copies_of_one_parent_go_on_differently():
    stages = chain_stages()
    same = stages.init(1).expand(50, 6)
    children = stages.advance(stages.advance(same, 0), 1)
    assert len(children.unique(dim=0)) > 20


def test_without_search_it_is_the_sampler():
    stages = SamplerStages(CHAIN.denoiser(MASKED), MASKED, schedules.uniform(8), [3, 5], seed=1)
    found = staged_search(stages, ones, [4000, 4000])
    plain = samplers.sample(CHAIN.denoiser(MASKED), MASKED, num_samples=4000, num_steps=8, generator=generator(5))
    gap = float(ones(found.x).mean() - ones(plain).mean())
    assert abs(gap) < 4 * float(ones(plain).std()) * math.sqrt(2 / 4000)  # false alarm 6e-5
    assert all(torch.equal(parents, torch.arange(4000)) for parents in found.parents)


def test_search_finds_more_reward_than_as_many_plain_drafts():
    means = []
    for options in ({}, {"resample_at": {0, 1, 2}, "potential": "difference", "scale": 2.0}):
        found = [
            staged_search(chain_stages(seed), ones, [6] * 4, generator=generator(seed), **options) for seed in range(30)
        ]
        means.append(sum(float(one.rewards.mean()) for one in found) / 30)
    assert means[1] > means[0] + 0.8


def test_numbers_are_staged_too_and_previewed_by_their_mean():
    process, mixture = VariancePreserving(), GaussianMixture([0.5, 0.5], [[-2.0, 0], [2.0, 0]], [0.1, 0.1])
    stages = SamplerStages(
        mixture.denoiser(process), process, schedules.uniform(12), [4, 4, 4], shape=(2,), solver=DDIM(1.0),
        dtype=torch.float64,
    )  # fmt: skip
    drafts = stages.advance(stages.init(5), 0)
    t = torch.full((5,), 8 / 12, dtype=torch.float64)
    torch.testing.assert_close(stages.preview(drafts, 0), mixture.denoiser(process)(drafts, t))
    found = staged_search(stages, lambda x: x[:, 0], [16, 4, 4], resample_at={1}, generator=generator(0))
    assert bool((found.x[:, 0] > 1).all())
    assert found.best == int(found.x[:, 0].argmax())


# ------------------------------------------------------------------------------------------- clusters and choices


def test_two_tight_clusters_give_one_each_and_the_nearest_to_the_centre():
    around = torch.tensor([[0.0, 0.0], [0.1, 0.0], [-0.1, 0.0], [9.0, 0.0], [9.3, 0.0], [9.1, 0.0]])
    assert representatives(around, 2).tolist() == [0, 5]
    for count in (1, 3, 6):
        assert len(set(representatives(around, count).tolist())) == count
    same = torch.zeros(4, 2)
    assert representatives(same, 3).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="count"):
        representatives(around, 7)


def test_the_sign_of_component_scores_does_not_depend_on_the_orientation():
    parts = torch.randn(5, 16, 4, generator=generator(6), dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=generator(7), dtype=torch.float64))[0]
    scores = first_component_scores(parts)
    torch.testing.assert_close(first_component_scores(parts @ rotation), scores, rtol=0, atol=1e-10)
    assert bool((scores.gather(1, scores.abs().argmax(1, keepdim=True)) > 0).all())
    centred = parts - parts.mean(1, keepdim=True)
    largest = torch.linalg.eigvalsh(centred.mT @ centred)[:, -1]
    torch.testing.assert_close(scores.square().sum(1), largest)


def test_survivors_follow_their_weights():
    log_weights = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64).log()
    n = 20_000
    drawn = survivors(log_weights, n, "multinomial", generator(0))
    shares = torch.bincount(drawn, minlength=4).double() / n
    assert float((shares - log_weights.exp()).abs().max()) < 0.014  # 4 standard errors
    assert torch.bincount(survivors(log_weights, 10, "systematic", generator(1))).tolist() == [1, 2, 3, 4]
    pairs = torch.stack([survivors(log_weights, 2, "distinct", generator(seed)) for seed in range(4000)])
    assert bool((pairs[:, 0] < pairs[:, 1]).all())
    # Without replacement: p_i p_j / (1 - p_i) + p_j p_i / (1 - p_j) of the pair of the last two.
    expected = 0.3 * 0.4 / 0.7 + 0.4 * 0.3 / 0.6
    found = float(((pairs[:, 0] == 2) & (pairs[:, 1] == 3)).double().mean())
    assert abs(found - expected) < 4 * math.sqrt(expected * (1 - expected) / 4000)
    nothing = torch.full((3,), -math.inf, dtype=torch.float64)
    assert set(survivors(nothing, 60, "multinomial", generator(2)).tolist()) == {0, 1, 2}


def test_wrong_settings_are_refused():
    for match, widths, options in (
        ("widths", [4], {}),
        ("widths", [4, 3], {}),
        ("widths", [4, 5], {"cluster_at": {1}}),
        ("cluster_at", [4, 4], {"cluster_at": {1}, "resample_at": {1}}),
        ("potential", [4, 4], {"potential": "best"}),
        ("scheme", [4, 4], {"scheme": "best"}),
    ):
        with pytest.raises(ValueError, match=match):
            staged_search(Tree(0), tree_reward, widths, **options)
    with pytest.raises(ValueError, match="reward"):
        staged_search(Tree(0), lambda x: x.double(), [4, 4])
    with pytest.raises(ValueError, match="steps"):
        SamplerStages(CHAIN.denoiser(MASKED), MASKED, schedules.uniform(8), [3, 2])
    with pytest.raises(ValueError, match="times"):
        SamplerStages(CHAIN.denoiser(MASKED), MASKED, schedules.uniform(8)[:-1], [3, 4])


# ------------------------------------------------------------------------------------ corrections as a steering step


def test_a_reward_and_the_residual_of_the_law_together_draw_from_the_tilt():
    """By the reward alone the cells of a step stay independent; with the residual they are not."""
    table = torch.rand(2, 3, 2, generator=generator(8), dtype=torch.float64) ** 2 + 0.01
    joint, worth = FiniteJoint(table / table.sum()), torch.randn(2, 3, 2, generator=generator(9), dtype=torch.float64)
    process, target, flat = Masked((2, 3, 2)), joint.tilt(worth), worth.flatten()

    def residual(x_0, x_t, t, log_probs):
        drawn = log_probs.gather(-1, x_0.unsqueeze(-1)).squeeze(-1).double().sum(1)
        return drawn - joint.log_prob(x_0)

    reward = samplers.energies.from_reward(lambda x: flat[joint.cell(x)])
    distances, n = [], 10_000
    for energy in (reward, samplers.energies.total(reward, residual)):
        correction = samplers.EnergyCorrection(energy, 48, (1.0, 0.0))
        x = samplers.sample(
            joint.denoiser(process), process, num_samples=n, num_steps=2, generator=generator(10),
            solver=samplers.Ancestral(joint=correction),
        )  # fmt: skip
        found = torch.bincount(joint.cell(x), minlength=12).double() / n
        distances.append(float((found - target.probabilities.flatten()).abs().sum() / 2))

    assert distances[1] < 0.03 < 0.06 < distances[0]


@pytest.mark.parametrize("scale", [2.0, -2.0])
def test_drafts_that_are_excluded_early_stay_so(scale):
    """By minus infinity at the first stage; neither its difference to itself nor a negative scale brings one back."""
    n = 2000

    def reward(x):
        return torch.where(x[:, 0] == 1, -torch.inf, tree_reward(x))

    found = staged_search(
        Tree(0), reward, [n, n], resample_at={0, 1}, scale=scale, potential="difference", generator=generator(1)
    )
    assert set(found.x[:, 0].tolist()) == {0, 2}
