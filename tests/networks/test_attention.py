"""Attention against its definition, and the properties of rotary positions."""

import math

import pytest
import torch

from clarkia.networks.attention import CrossAttention, SelfAttention, attend, num_heads, rotary, rotate
from clarkia.random import generator


def vectors(*shape):
    return torch.randn(shape, generator=generator(0), dtype=torch.float64)


def test_attention_is_the_softmax_mean_over_real_keys():
    q, k, v = vectors(2, 3, 4, 8), vectors(2, 3, 5, 8) * 0.7, vectors(2, 3, 5, 8) + 1
    mask = torch.tensor([[1, 0, 1, 1, 0], [0, 1, 0, 0, 0]], dtype=torch.bool)
    logits = torch.einsum("nhld,nhmd->nhlm", q, k) / math.sqrt(8)
    weights = torch.where(mask[:, None, None], logits.exp(), 0.0)
    expected = torch.einsum("nhlm,nhmd->nhld", weights / weights.sum(-1, keepdim=True), v)
    torch.testing.assert_close(attend(q, k, v, mask), expected, rtol=1e-12, atol=1e-12)
    by_query = mask[:, None].expand(-1, 4, -1)
    torch.testing.assert_close(attend(q, k, v, by_query), expected, rtol=1e-12, atol=1e-12)


def test_rotated_products_depend_on_the_distance_alone():
    q, k = vectors(1, 1, 1, 8), vectors(1, 1, 1, 8).flip(-1)

    def product(i, j):
        a, b = (rotary(torch.tensor([place]), 8) for place in (i, j))
        return (rotate(q, a) * rotate(k, b)).sum()

    torch.testing.assert_close(product(7, 3), product(104, 100), rtol=1e-5, atol=1e-5)
    assert abs(product(7, 3) - product(7, 4)) > 1e-2
    torch.testing.assert_close(rotate(q, rotary(torch.tensor([0]), 8)), q)
    torch.testing.assert_close(rotate(q, rotary(torch.tensor([5]), 8)).norm(), q.norm())


def test_two_axes_share_a_head():
    q, k = vectors(1, 1, 1, 8), vectors(1, 1, 1, 8).flip(-1)

    def product(*places):
        a, b = (torch.cat([rotary(torch.tensor([axis]), 4) for axis in place], -1) for place in places)
        return (rotate(q, a) * rotate(k, b)).sum()

    torch.testing.assert_close(product((2, 3), (5, 1)), product((12, 8), (15, 6)), rtol=1e-5, atol=1e-5)
    assert abs(product((2, 3), (5, 1)) - product((3, 2), (1, 5))) > 1e-2


def test_positions_may_differ_by_row():
    x = vectors(2, 3, 4, 8)
    places = torch.tensor([[0, 1, 2, 3], [9, 7, 5, 3]])
    found = rotate(x, rotary(places, 8))
    for row in range(2):
        torch.testing.assert_close(found[row : row + 1], rotate(x[row : row + 1], rotary(places[row], 8)))


@pytest.mark.parametrize("qk_norm", [False, True])
def test_modules_are_attention_between_linear_layers(qk_norm):
    torch.manual_seed(0)
    x, context = vectors(2, 4, 16), vectors(2, 3, 10)
    own = SelfAttention(16, 2, qk_norm=qk_norm).double()
    q, k, v = (part.unflatten(-1, (2, 8)).transpose(1, 2) for part in own.qkv(x).chunk(3, -1))
    if qk_norm:
        q, k = (part / (part.square().mean(-1, keepdim=True) + 1e-6).sqrt() for part in (q, k))
    torch.testing.assert_close(own(x), own.out(attend(q, k, v).transpose(1, 2).flatten(2)))
    cross = CrossAttention(16, 2, context_width=10, qk_norm=qk_norm).double()
    q = cross.q(x).unflatten(-1, (2, 8)).transpose(1, 2)
    k, v = (part.unflatten(-1, (2, 8)).transpose(1, 2) for part in cross.kv(context).chunk(2, -1))
    if qk_norm:
        q, k = (part / (part.square().mean(-1, keepdim=True) + 1e-6).sqrt() for part in (q, k))
    torch.testing.assert_close(cross(x, context), cross.out(attend(q, k, v).transpose(1, 2).flatten(2)))


def test_rotary_attention_moves_with_its_tokens():
    torch.manual_seed(0)
    own, x = SelfAttention(16, 2).double(), vectors(1, 5, 16)
    here, there = (own(x, angles=rotary(torch.arange(5) + shift, 8)) for shift in (0, 11))
    torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-5)
    assert (here - own(x)).abs().max() > 1e-3


@pytest.mark.parametrize(("width", "heads"), [(2, 2), (30, 3), (32, 4), (64, 4), (192, 4), (256, 4), (512, 8), (7, 1)])
def test_there_are_four_heads_at_least_where_the_width_allows(width, heads):
    assert num_heads(width) == heads


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="divisor of the width 10"):
        SelfAttention(10, 3)
    with pytest.raises(ValueError, match="even number"):
        rotary(torch.arange(3), 5)
