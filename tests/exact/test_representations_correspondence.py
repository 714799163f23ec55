"""Fusion of representations and matches between images, against hand-made cases."""

import pytest
import torch

from clarkia.measures import representations as r
from clarkia.measures.extractors import flatten, random_relu
from clarkia.random import generator, rand, randn


def test_fused_distance_is_the_weighted_cosine():
    a, b = randn((30, 5), generator(0)).double(), 100 * randn((30, 8), generator(1)).double()
    fused = r.fuse([a, b], [0.3, 0.7])
    cosines = [torch.nn.functional.cosine_similarity(p[:, None], p[None], dim=2) for p in (a, b)]
    mixed = 0.3 * cosines[0] + 0.7 * cosines[1]
    distances = torch.cdist(fused, fused, compute_mode="donot_use_mm_for_euclid_dist").square()
    torch.testing.assert_close(distances, 2 - 2 * mixed, rtol=0, atol=1e-12)
    queries, points = r.fuse([a[:10], b[:10]], [3, 7]), r.fuse([a[10:], b[10:]], [3, 7])
    assert torch.equal(r.nearest_features(queries, points), mixed[:10, 10:].argmax(1))
    torch.testing.assert_close(fused.norm(dim=1), torch.ones(30, dtype=torch.float64))


def test_fused_extractors():
    batch = randn((6, 2, 3), generator(2)).double()
    joint = r.fuse_extractors([flatten, random_relu(7)], [1, 3])
    torch.testing.assert_close(joint(batch), r.fuse([flatten(batch), random_relu(7)(batch)], [0.25, 0.75]))
    others = [r.fuse_extractors([flatten, random_relu(7)]), r.fuse_extractors([random_relu(7), flatten], [1, 3])]
    assert len({joint.fingerprint, *(other.fingerprint for other in others)}) == 3


def test_joint_components_of_full_rank_keep_all_distances():
    x, y = randn((12, 6), generator(3)).double(), randn((9, 6), generator(4)).double() + 3
    first, second = r.co_pca(x, y, 6)
    torch.testing.assert_close(torch.cdist(first, second), torch.cdist(x, y), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.cdist(first, first), torch.cdist(x, x), rtol=1e-4, atol=1e-4)
    first, second = r.co_pca(x, y, 2)
    both = torch.cat([x, y])
    expected = torch.linalg.svdvals(both - both.mean(0))[:2]
    torch.testing.assert_close(torch.linalg.svdvals(torch.cat([first, second])), expected)


def test_an_image_matches_itself_and_its_mirror_image():
    features = randn((16, 6, 9), generator(5)).double()
    ys, xs = torch.meshgrid(torch.arange(6), torch.arange(9), indexing="ij")
    points = torch.stack([(xs.flatten() + 0.5) * 10, (ys.flatten() + 0.5) * 10], 1)
    same = r.correspond(features, features, points, (90, 60), (90, 60))
    torch.testing.assert_close(same, points.double())
    mirrored = r.correspond(features, features.flip(2), points, (90, 60), (180, 60))
    torch.testing.assert_close(mirrored, torch.stack([180 - 2 * points[:, 0], points[:, 1]], 1).double())
    score = r.pck(same[None], points[None].double(), torch.tensor([90.0]))
    assert score.pooled == score.per_image == 1
    corner = r.correspond(features, features, torch.tensor([[90.0, 60.0], [0.0, 0.0]]), (90, 60), (90, 60))
    assert corner.tolist() == [[85, 55], [5, 5]]


def test_keypoints_by_hand():
    """Errors 0, 5, 10 and 3 on objects of size 100 and 20: right within 10 % are the first two, and none, none."""
    truth = torch.zeros(2, 2, 2)
    found = torch.tensor([[[0.0, 0.0], [3.0, 4.0]], [[10.0, 0.0], [0.0, 3.0]]])
    sizes = torch.tensor([100.0, 20.0])
    score = r.pck(found, truth, sizes)
    assert score.correct.tolist() == [[True, True], [False, False]]
    assert score.pooled == 0.5
    assert score.per_image == 0.5
    seen = torch.tensor([[True, True], [False, True]])
    score = r.pck(found, truth, sizes, visible=seen, alpha=0.16)
    assert score.pooled == 1
    score = r.pck(found, truth, sizes, visible=seen)
    assert score.pooled == pytest.approx(2 / 3)
    assert score.per_image == 0.5
    assert r.pck(found, truth, sizes, alpha=0.05).correct.tolist() == [[True, False], [False, False]]  # below, not at


def test_agreement_adds_up_and_bounds_the_choice():
    one, other = rand((400,), generator(6)) < 0.6, rand((400,), generator(7)) < 0.5
    found = r.agreement(one, other)
    assert found.both + found.only_first + found.only_second + found.neither == pytest.approx(1)
    assert found.both + found.only_first == pytest.approx(float(one.double().mean()))
    assert 1 - found.neither == pytest.approx(float((one | other).double().mean()))
    assert r.agreement(torch.tensor([True, False]), torch.tensor([False, False])) == r.Agreement(0, 0.5, 0, 0.5)


def test_a_shifted_image_has_no_roughness():
    index = torch.arange(20).reshape(4, 5)
    assert r.flow_roughness(index, 5) == 0
    assert r.flow_roughness(index[:, :4] + 1, 5) == 0
    broken = index.clone()
    broken[0, 0] = 4  # four tokens to the right of where it should be: two of its 31 neighbour pairs break by 4
    assert r.flow_roughness(broken, 5) == pytest.approx(8 / 31)


def test_stacked_maps():
    coarse, fine = randn((2, 3, 2, 2), generator(8)), randn((2, 4, 4, 4), generator(9))
    found = r.stack_maps([coarse, fine], (4, 4))
    assert found.shape == (2, 7, 4, 4)
    torch.testing.assert_close(found[:, 3:], fine.double())
    torch.testing.assert_close(found[:, :3, 0, 0], coarse[:, :, 0, 0].double())
    torch.testing.assert_close(r.stack_maps([torch.ones(1, 1, 2, 2)], (5, 3)), torch.ones(1, 1, 5, 3).double())


def test_fusing_two_representations_that_each_know_half():
    """Each representation confuses points the other tells apart; fused they tell all, at most the union of the two."""
    source = generator(10)
    codes = torch.cartesian_prod(torch.arange(6), torch.arange(6))
    one = torch.nn.functional.one_hot(codes[:, 0]).double()
    other = torch.nn.functional.one_hot(codes[:, 1]).double()

    def noisy(part):
        return part + 0.1 * randn(part.shape, source, dtype=torch.float64)

    queries, points = [noisy(one), noisy(other)], [noisy(one), noisy(other)]
    truth = torch.arange(36)
    right = [r.nearest_features(q, p) == truth for q, p in zip(queries, points, strict=True)]
    fused = r.nearest_features(r.fuse(queries), r.fuse(points)) == truth
    assert all(float(part.double().mean()) < 0.5 for part in right)
    assert float(fused.double().mean()) > 0.9
    table = r.agreement(*right)
    assert table.only_first > 0
    assert table.only_second > 0
