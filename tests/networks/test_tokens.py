"""Token networks: what they may look at, what they answer at the start, and that they learn a known law."""

import math

import pytest
import torch

from clarkia.denoisers import Preconditioned
from clarkia.networks.autoregressive import Autoregressive
from clarkia.networks.conditioning import Conditions
from clarkia.networks.energy import EnergyHead
from clarkia.networks.tokens import TokenTransformer
from clarkia.networks.transformer import KeyValueCache
from clarkia.oracles import MarkovChain
from clarkia.processes import Masked, Uniform
from clarkia.random import generator
from clarkia.testing import check_denoiser

TOLD = Conditions(label_classes=(3,), token_classes=7)


def network(seed=0, **options):
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        options = {"width": 32, "depth": 2, "heads": 4, **options}
        made = TokenTransformer(5, 9, **options).eval()
        for name, parameter in made.named_parameters():  # what starts at zero would hide what lies before it
            if "head" in name or "modulation" in name:
                torch.nn.init.normal_(parameter, std=0.3)
    return made


def tokens(rows=4, length=9, states=6, seed=0):
    return torch.randint(states, (rows, length), generator=generator(seed))


def condition(rows=4):
    mask = torch.arange(3) < torch.tensor([3, 1, 2, 3])[:rows, None]
    return {"label": torch.arange(rows) % 3, "tokens": tokens(rows, 3, 7), "mask": mask}


VARIANTS = {
    "plain": {},
    "time": {"time_conditioning": True},
    "told": {"conditions": TOLD},
    "both": {"time_conditioning": True, "conditions": TOLD},
    "causal": {"causal": True},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_a_new_network_answers_zero_and_every_weight_gets_a_gradient(options):
    x, t = tokens(), torch.rand(4, generator=generator(1))
    given = condition() if "conditions" in options else None
    new = TokenTransformer(5, 9, width=32, depth=2, heads=4, **options)
    assert new(x, t, given).shape == (4, 9, 5)
    assert bool((new(x, t, given) == 0).all())
    made = network(**options)
    made(x, t, given).square().sum().backward()
    made(x, t).square().sum().backward()  # the nulls
    assert [name for name, parameter in made.named_parameters() if parameter.grad is None] == []


def test_only_a_network_that_reads_the_time_depends_on_it():
    x, t = tokens(), torch.rand(4, generator=generator(1))
    plain, timed = network(), network(time_conditioning=True)
    assert plain.time_independent
    assert not timed.time_independent
    assert torch.equal(plain(x, t), plain(x, 1 - t))
    assert torch.equal(plain(x), plain(x, t))
    assert not torch.allclose(timed(x, t), timed(x, 1 - t), atol=1e-3)
    with pytest.raises(ValueError, match="noise"):
        timed(x)


@pytest.mark.parametrize("options", [VARIANTS["time"], VARIANTS["both"]], ids=["time", "both"])
def test_one_time_a_row_is_that_time_for_each_token(options):
    made, x, t = network(**options), tokens(), torch.rand(4, generator=generator(1))
    given = condition() if "conditions" in options else None
    whole = made(x, t, given)
    torch.testing.assert_close(made(x, t[:, None].expand(4, 9), given), whole, rtol=1e-5, atol=1e-5)
    other = t[:, None].repeat(1, 9)
    other[:, 2] = 0.0
    assert not torch.allclose(made(x, other, given), whole, atol=1e-3)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_short_sequences_are_answered_and_rows_do_not_mix(options):
    made, x, t = network(**options), tokens(length=5), torch.full((4,), 0.5)
    together = made(x, t)
    assert together.shape == (4, 5, 5)
    torch.testing.assert_close(made(x[2:3], t[2:3]), together[2:3], rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="up to 9"):
        made(tokens(length=10), t)


def test_padding_of_a_condition_is_not_looked_at_and_its_tokens_are():
    made, x, t = network(**VARIANTS["both"]), tokens(), torch.full((4,), 0.5)
    given = condition()
    whole = made(x, t, given)
    padded = given | {"tokens": torch.where(given["mask"], given["tokens"], 6)}
    torch.testing.assert_close(made(x, t, padded), whole, rtol=1e-5, atol=1e-5)
    changed = given | {"tokens": torch.where(given["mask"], 6 - given["tokens"], given["tokens"])}
    assert not torch.allclose(made(x, t, changed), whole, atol=1e-3)
    dropped = given | {"present": torch.zeros(4, dtype=torch.bool)}
    torch.testing.assert_close(made(x, t, dropped), made(x, t), rtol=1e-5, atol=1e-5)


def test_positions_matter_only_by_their_distance_but_for_the_anchor():
    """Rotary attention: a row of one repeated token looks the same from everywhere; order is seen all the same."""
    made = network(anchored=False)
    same = made(torch.full((1, 9), 2))
    torch.testing.assert_close(same, same[:, :1].expand_as(same), rtol=1e-4, atol=1e-4)
    x = torch.tensor([[0, 1, 2, 5, 5, 5, 5, 5, 5]])
    swapped = torch.tensor([[1, 0, 2, 5, 5, 5, 5, 5, 5]])
    assert not torch.allclose(made(x)[:, 3:], made(swapped)[:, 3:], atol=1e-3)
    anchored = network()
    unknown = anchored(torch.full((1, 9), 5))
    assert not torch.allclose(unknown[:, :1], unknown[:, 5:6], atol=1e-3)


def test_checkpointed_gradients_are_the_plain_ones():
    gradients = []
    for checkpoint in (False, True):
        made = network(checkpoint=checkpoint, **VARIANTS["both"]).train()
        made(tokens(), torch.full((4,), 0.5), condition()).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in made.parameters() if parameter.grad is not None])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("process", [Masked(5), Uniform(5)], ids=["masked", "uniform"])
def test_it_is_a_denoiser(process):
    made = network(time_conditioning=isinstance(process, type(Uniform(5))))
    made.embedding.weight.requires_grad_(False)
    check_denoiser(Preconditioned(made, process), process, tokens(states=5))


@pytest.mark.parametrize("bad", [{"causal": True, "time_conditioning": True}, {"causal": True, "conditions": TOLD}])
def test_a_causal_network_takes_neither_time_nor_tokens(bad):
    with pytest.raises(ValueError, match="causal"):
        TokenTransformer(5, 9, **bad)
    with pytest.raises(ValueError, match="heads"):
        TokenTransformer(5, 9, width=32, heads=5)


# -------------------------------------------------------------------------------------------------- autoregressive


def causal(**options):
    return Autoregressive(network(causal=True, **options))


def test_the_twins_are_of_one_size_but_for_the_anchor():
    sizes = [sum(p.numel() for p in network(causal=flag).parameters()) for flag in (False, True)]
    assert sizes[0] - 32 == sizes[1]  # the anchor
    with pytest.raises(ValueError, match="causal=True"):
        Autoregressive(network())


def test_no_token_sees_itself_or_those_after_it():
    ar = causal()
    embedded = ar.network.embedding(torch.cat([torch.full((1, 1), 5), tokens(1, 8, 5)], 1)).detach()
    for place in range(9):
        source = embedded.clone().requires_grad_()
        ar.network.head(ar.network.hidden(source))[0, place].sum().backward()
        reached = source.grad[0].abs().sum(1) > 0
        # Input j is token j - 1: the logits of a place are moved by the start and the tokens before it.
        assert reached.tolist() == [j <= place for j in range(9)]


def test_probabilities_of_all_sequences_sum_to_one():
    ar = causal()
    every = torch.cartesian_prod(*[torch.arange(5)] * 4)
    with torch.no_grad():
        log_prob = ar.log_prob(every)
    assert log_prob.dtype == torch.float64
    assert float(log_prob.exp().sum()) == pytest.approx(1.0, abs=1e-5)
    torch.testing.assert_close(ar.token_log_probs(every).double().sum(1), log_prob, rtol=0, atol=1e-5)


@pytest.mark.parametrize("conditions", [Conditions(), Conditions(label_classes=(3,))], ids=["free", "told"])
def test_kept_keys_and_values_give_the_features_of_the_whole(conditions):
    made = network(causal=True, conditions=conditions)
    given = {"label": torch.tensor([0, 1, 2, -1])} if conditions.label_classes else None
    embedded = made.embedding(tokens())
    whole = made.hidden(embedded, None, given)
    caches = [KeyValueCache.empty(block.attention, 4, 9) for block in made.blocks]
    parts = [made.hidden(part, None, given, caches) for part in embedded.split([3, 1, 1, 4], dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-5, atol=1e-5)


def test_samples_follow_the_probabilities():
    ar, n = causal(), 20_000
    x = ar.sample(n, generator(3), length=3)
    every = torch.cartesian_prod(*[torch.arange(5)] * 3)
    p = ar.log_prob(every).detach().exp()
    counts = torch.bincount((x * torch.tensor([25, 5, 1])).sum(1), minlength=125).double()
    enough = n * p >= 5
    observed = torch.cat([counts[enough], counts[~enough].sum()[None]])
    expected = torch.cat([n * p[enough], (n * p[~enough]).sum()[None]]).clamp(min=1e-9)
    chi2 = float(((observed - expected).square() / expected).sum())
    freedom = len(expected) - 1
    assert chi2 < freedom + 4 * math.sqrt(2 * freedom)  # false alarm about 1e-4


def test_a_prefix_is_kept_and_continued_by_its_law():
    ar, n = causal(), 20_000
    x = ar.sample(n, generator(4), prefix=torch.tensor([[3, 1]]), length=3)
    assert bool((x[:, :2] == torch.tensor([3, 1])).all())
    every = torch.cat([torch.tensor([[3, 1]]).expand(5, 2), torch.arange(5)[:, None]], 1)
    p = ar(every)[0, 2].detach().exp().double()
    found = torch.bincount(x[:, 2], minlength=5).double() / n
    assert float(((found - p) / (p * (1 - p) / n).sqrt()).abs().max()) < 4.4  # 5 classes: false alarm 5e-5
    assert torch.equal(ar.sample(2, prefix=x[:2], length=3), x[:2])
    with pytest.raises(ValueError, match="length"):
        ar.sample(2, prefix=x[:2], length=2)


# ---------------------------------------------------------------------------------------------------- learning


CHAIN = MarkovChain(torch.full((3,), 1 / 3), 0.7 * torch.eye(3) + 0.1, 4)
EVERY = torch.cartesian_prod(*[torch.arange(3)] * 4)
ENTROPY = 3.0157078676


def descended(module, nats):
    """The module's value after 250 steps down the exact expectation."""
    optimizer = torch.optim.Adam(module.parameters(), lr=4e-3)
    for step in range(250):
        optimizer.zero_grad()
        nats().backward()
        optimizer.param_groups[0]["lr"] = 4e-3 * 0.5 * (1 + math.cos(math.pi * step / 250))
        optimizer.step()
    return float(nats().detach())


def small(**options):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return TokenTransformer(3, 4, width=32, depth=2, heads=2, **options)


def test_both_twins_learn_a_chain_to_its_entropy():
    """Within 0.02 nats of 3.0157: the bound of the one, over all masked states, and the likelihood of the other."""
    process, x_t = Masked(3), torch.cartesian_prod(*[torch.arange(4)] * 4)
    count = process.is_masked(x_t).sum(1)
    x_t, count = x_t[count > 0], count[count > 0]
    posterior, evidence = CHAIN.explain(process.log_emission(x_t))
    weight = evidence.exp() * torch.exp(torch.lgamma(count) + torch.lgamma(5.0 - count)) / 24
    denoiser = Preconditioned(small(), process)

    def bound():
        log_probs = denoiser(x_t, torch.zeros(len(x_t)))
        cells = -(posterior.exp() * torch.where(process.is_masked(x_t).unsqueeze(-1), log_probs, 0.0)).sum((1, 2))
        return (weight * cells).sum()

    assert ENTROPY < descended(denoiser, bound) < ENTROPY + 0.02
    ar, p = Autoregressive(small(causal=True)), CHAIN.log_prob(EVERY).exp()
    assert ENTROPY - 1e-6 < descended(ar, lambda: -(p * ar.log_prob(EVERY)).sum()) < ENTROPY + 0.02


def test_an_energy_starts_at_zero_from_a_copy_and_learns():
    base = network()
    head = EnergyHead(base)
    x_0, x_t, t = tokens(states=5), tokens(), torch.rand(4, generator=generator(1))
    assert bool((head(x_0, x_t, t) == 0).all())
    torch.nn.init.normal_(head.out.weight)
    energy = head(x_0, x_t, t)
    assert energy.shape == (4,)
    assert energy.dtype == torch.float32
    energy.sum().backward()
    assert [name for name, parameter in head.named_parameters() if parameter.grad is None] == []
    assert all(parameter.grad is None for parameter in base.parameters())
    assert not torch.allclose(head(tokens(states=5, seed=1), x_t, t), energy, atol=1e-4)
    with pytest.raises(ValueError, match="causal"):
        EnergyHead(network(causal=True))
