"""Conditions: what is not given is the learned null, in every way of not giving it."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import silu

from clarkia.networks.conditioning import ConditionEmbedding, Conditions, drop
from clarkia.random import generator
from small_networks import ALL, conditions


@pytest.fixture(params=[1, 3])
def embedding(request):
    torch.manual_seed(0)
    embedding = replace(ALL, token_window=request.param).embedding(8)
    torch.nn.init.normal_(embedding.null_vector)
    return embedding


def test_a_dropped_row_is_a_row_that_is_given_nothing(embedding):
    given, nothing = conditions(), embedding(None, 3)
    dropped = embedding({**given, "present": torch.tensor([True, False, True])}, 3)
    kept = embedding(given, 3)
    torch.testing.assert_close(dropped.vector[1], nothing.vector[1], rtol=0, atol=0)
    torch.testing.assert_close(dropped.tokens[1, :1], nothing.tokens[1], rtol=0, atol=0)
    assert dropped.mask[1].tolist() == [True, False, False, False, False]
    for row in (0, 2):
        torch.testing.assert_close(dropped.vector[row], kept.vector[row], rtol=0, atol=0)
        torch.testing.assert_close(dropped.tokens[row], kept.tokens[row], rtol=0, atol=0)
        assert torch.equal(dropped.mask[row], kept.mask[row])


def test_a_missing_key_is_that_part_of_the_null(embedding):
    given, nothing = conditions(), embedding(None, 3)
    alone = [embedding({name: given[name]}, 3).vector for name in ("label", "vector")]
    both = embedding({name: given[name] for name in ("label", "vector")}, 3).vector
    torch.testing.assert_close(alone[0] + alone[1] - nothing.vector, both)
    torch.testing.assert_close(embedding({"label": torch.full((3, 2), -1)}, 3).vector, nothing.vector)


def test_no_real_token_is_no_tokens(embedding):
    given = conditions()
    none = embedding({**given, "mask": torch.zeros(3, 5, dtype=torch.bool)}, 3)
    torch.testing.assert_close(none.tokens[:, :1], embedding(None, 3).tokens, rtol=0, atol=0)
    assert none.mask.sum(1).tolist() == [1, 1, 1]


def test_what_stands_at_masked_places_is_not_read_even_if_it_is_no_number(embedding):
    given = conditions()
    spoilt = torch.where(given["mask"][..., None], given["tokens"], torch.nan)
    found, expected = embedding({**given, "tokens": spoilt}, 3), embedding(given, 3)
    torch.testing.assert_close(found.tokens, expected.tokens, rtol=0, atol=0)
    torch.testing.assert_close(found.pooled(), expected.pooled(), rtol=0, atol=0)


def test_pooling_is_the_mean_of_real_tokens(embedding):
    found = embedding(conditions(), 3)
    torch.testing.assert_close(found.pooled()[1], found.tokens[1, :2].mean(0))
    torch.testing.assert_close(ConditionEmbedding(8)(None, 3).pooled(), torch.zeros(3, 8))


def test_the_sum_of_real_tokens_is_of_the_size_of_one(embedding):
    found = embedding(conditions(), 3)
    torch.testing.assert_close(found.summed()[1], found.tokens[1, :2].sum(0) / 2**0.5)
    assert ConditionEmbedding(8)(None, 3).summed().abs().max() == 0
    wide = ConditionEmbedding(4096, token_classes=100, std=1.0)({"tokens": torch.arange(100)[None]}, 1)
    assert 0.95 < wide.summed().std().item() < 1.05


def test_ids_are_looked_up_and_placed():
    embedding = ConditionEmbedding(8, token_classes=11, max_tokens=4)
    ids = torch.tensor([[3, 10, 0]])
    expected = embedding.ids.weight[ids[0]] + embedding.positions[:3]
    torch.testing.assert_close(embedding({"tokens": ids}, 1).tokens[0], expected)


def test_a_window_adds_what_a_token_says_with_its_neighbours_and_padding_says_nothing():
    torch.manual_seed(0)
    embedding = ConditionEmbedding(8, token_classes=11, token_window=3, std=1.0)
    (window,) = embedding.windows
    ids, mask = torch.tensor([[3, 10, 4, 7, 7], [5, 2, 1, 6, 9]]), torch.tensor([[1, 1, 1, 0, 0], [1] * 5]).bool()
    found = embedding({"tokens": ids, "mask": mask}, 2).tokens
    for row, words in enumerate([[3, 10, 4], [5, 2, 1, 6, 9]]):
        alone = [torch.zeros(8), *embedding.ids.weight[words], torch.zeros(8)]
        for place in range(len(words)):
            said = sum(window.near.weight[:, :, k] @ alone[place + k] for k in range(3)) + window.near.bias
            torch.testing.assert_close(found[row, place], alone[place + 1] + window.out(silu(said)))
        assert found[row, len(words) :].abs().sum() == 0
    torch.testing.assert_close(embedding({"tokens": ids[:1, :3]}, 1).tokens, found[:1, :3])


@pytest.mark.parametrize(("window", "told"), [(1, False), (3, True)])
def test_the_sum_of_words_read_with_their_neighbours_tells_which_belong_together(window, told):
    torch.manual_seed(0)
    embedding = ConditionEmbedding(64, token_classes=9, max_tokens=7, token_window=window, std=1.0)
    a, red, circle, and_, blue, square = range(2, 8)
    asked = torch.tensor([[a, red, circle, and_, a, blue, square], [a, blue, circle, and_, a, red, square]])
    one, other = embedding({"tokens": asked}, 2).summed()
    assert torch.allclose(one, other, atol=1e-5) is not told


def test_one_label_may_come_with_or_without_its_axis():
    embedding = ConditionEmbedding(8, label_classes=(4,))
    label = torch.tensor([3, -1, 0])
    expected = embedding({"label": label}, 3).vector
    torch.testing.assert_close(embedding({"label": label[:, None]}, 3).vector, expected)


def test_rows_are_dropped_at_the_rate_asked_for_and_stay_dropped():
    n = 40_000
    label = torch.zeros(n, dtype=torch.long)
    once = drop({"label": label}, 0.1, generator(0))
    # Binomial: six standard errors, false alarm below 1e-8.
    assert abs((~once["present"]).double().mean().item() - 0.1) < 6 * (0.1 * 0.9 / n) ** 0.5
    twice = drop(once, 0.5, generator(1))
    assert not bool((twice["present"] & ~once["present"]).any())
    assert bool(drop(once, 0.0)["present"].eq(once["present"]).all())
    assert not bool(drop(once, 1.0)["present"].any())
    assert drop(None, 0.5) is None
    assert "present" not in {"label": label}


def test_the_draw_is_the_generators():
    condition = {"label": torch.zeros(50, dtype=torch.long)}
    first, second = (drop(condition, 0.5, generator(7))["present"] for _ in range(2))
    assert torch.equal(first, second)


WRONG = {
    "unknown key": ({"labels": torch.zeros(3)}, r"keys among .* found \['labels'\]"),
    "class too large": ({"label": torch.tensor([[0, 0], [3, 0], [0, 0]])}, "label: expected classes"),
    "class too small": ({"label": torch.full((3, 2), -2)}, "label: expected classes"),
    "attributes": ({"label": torch.zeros(3, dtype=torch.long)}, r"label: expected shape \(3, 2\)"),
    "rows": ({"vector": torch.zeros(2, 4)}, r"vector: expected shape \(3, 4\), found \(2, 4\)"),
    "size": ({"tokens": torch.zeros(3, 5, 7)}, r"tokens: expected shape \(3, 5, 6\)"),
    "too many": ({"tokens": torch.zeros(3, 8, 6)}, "tokens: expected 1 to 7"),
    "none at all": ({"tokens": torch.zeros(3, 0, 6)}, "tokens: expected 1 to 7"),
    "mask alone": ({"mask": torch.ones(3, 5, dtype=torch.bool)}, "expected tokens beside the mask"),
    "mask length": ({"tokens": torch.zeros(3, 5, 6), "mask": torch.ones(3, 4).bool()}, "mask: expected shape"),
    "present": ({"present": torch.ones(4).bool()}, "present: expected shape"),
}


@pytest.mark.parametrize(("condition", "sentence"), WRONG.values(), ids=WRONG)
def test_a_wrong_condition_is_refused_in_one_sentence(embedding, condition, sentence):
    with pytest.raises(ValueError, match=sentence):
        embedding(condition, 3)


@pytest.mark.parametrize("name", ["label", "vector", "tokens"])
def test_what_is_not_declared_is_refused_not_ignored(name):
    with pytest.raises(ValueError, match=f"expected no '{name}'"):
        ConditionEmbedding(8)({name: conditions()[name]}, 3)


def test_other_wrong_arguments():
    with pytest.raises(ValueError, match="tokens are ids or embeddings"):
        ConditionEmbedding(8, token_classes=3, token_size=4)
    for size in (-1, 0, 2):
        with pytest.raises(ValueError, match="token_window: expected a positive odd number"):
            ConditionEmbedding(8, token_classes=3, token_window=size)
    with pytest.raises(ValueError, match="probability: expected"):
        drop({"label": torch.zeros(2)}, 1.5)
    with pytest.raises(ValueError, match="tokens: expected classes from 0"):
        ConditionEmbedding(8, token_classes=3)({"tokens": torch.tensor([[0, 3]])}, 1)


def test_conditions_say_what_they_hold():
    assert not Conditions().has_vector
    assert not Conditions().has_tokens
    assert Conditions(vector_size=3).has_vector
    assert Conditions(token_classes=3).has_tokens


def test_each_row_may_have_its_own_chance_to_be_dropped():
    dropped = drop({"label": torch.zeros(4, 1).long()}, torch.tensor([0.0, 1.0, 0.0, 1.0]), generator(0))
    assert dropped["present"].tolist() == [True, False, True, False]
    with pytest.raises(ValueError, match="probability"):
        drop({"label": torch.zeros(2, 1).long()}, torch.tensor([0.0, 1.5]), generator(0))
