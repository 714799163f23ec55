"""Selection as a user meets it: the minority among the targets, baselines, bad input."""

import math

import pytest
import torch

from clarkia import curation
from clarkia.random import generator, randn


def clusters(seed, candidates=4000, targets=200, d=32):
    """Ten equal clusters and a loud coordinate without meaning; targets from three clusters, six to three to one."""
    noise = generator(seed)
    centres = 2 * randn((10, d), noise, dtype=torch.float64)
    label = torch.randint(0, 10, (candidates,), generator=noise)
    target = torch.multinomial(torch.tensor([0.6, 0.3, 0.1]), targets, replacement=True, generator=noise)
    sets = [centres[part] + randn((len(part), d), noise, dtype=torch.float64) for part in (label, target)]
    for rows in sets:
        rows[:, 0] = 30 * randn((len(rows),), noise, dtype=torch.float64)
    return *sets, label


def shares(found, label):
    return torch.stack([(label[found.indices] == k).double().mean() for k in range(3)])


def test_the_minority_is_kept_by_transport_and_dropped_by_the_mean():
    """Means over two seeds of the shares of each target cluster in 400 rows."""
    rules = {"random": [], "mean": [], "transport": []}
    distances = {rule: [] for rule in rules}
    for seed in range(2):
        candidates, target, label = clusters(seed)
        for rule, found in rules.items():
            chosen = curation.select(candidates, target, size=400, rule=rule, generator=generator(seed))
            found.append(shares(chosen, label))
            distances[rule].append(chosen.distance)
    random, mean, transport = (torch.stack(found).mean(0) for found in rules.values())
    assert bool(((random - 0.1).abs() < 0.03).all())
    assert float(mean[0]) > 0.85
    assert float(mean[2]) < 0.01
    assert float(transport.sum()) > 0.98
    assert bool(((transport - torch.tensor([0.6, 0.3, 0.1])).abs() < 0.06).all())
    for first, second, third in zip(*(distances[rule] for rule in ("transport", "mean", "random")), strict=True):
        assert first < second < third


def test_the_automatic_size_finds_the_relevant_rows():
    candidates, target, label = clusters(0, candidates=600, targets=60, d=16)
    found = curation.select(candidates, target, folds=3, generator=generator(0))
    relevant = int((label < 3).sum())
    assert 0.5 * relevant < len(found.indices) < 1.5 * relevant
    assert float(shares(found, label).sum()) > 0.8
    assert found.share == len(found.indices) / 600
    assert len(found.distance_curve) == 3
    again = curation.select(candidates, target, folds=3, generator=generator(0))
    assert torch.equal(found.indices, again.indices)


def test_features_may_be_computed_on_the_way():
    candidates, target = randn((30, 4, 4), generator(0)), randn((10, 4, 4), generator(1))
    found = curation.select(candidates, target, size=5, features=lambda x: x.flatten(1)[:, :6])
    plain = curation.select(candidates.flatten(1)[:, :6].numpy(), target.flatten(1)[:, :6].numpy(), size=5)
    assert torch.equal(found.indices, plain.indices)


X, Y = randn((30, 3), generator(0), dtype=torch.float64), randn((12, 3), generator(1), dtype=torch.float64)
HOLE = X.clone()
HOLE[4, 1] = math.nan


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"candidates": HOLE}, "candidates: expected finite features, found nan in row 4, column 1."),
        ({"target": Y[:, :2]}, "target: expected 3 columns as candidates has, found 2."),
        ({"candidates": X[0]}, "candidates: expected real features"),
        ({"target": Y[:0]}, "target: expected at least one row"),
        ({"candidates": torch.ones(6, 3), "target": torch.ones(3, 3)}, "expected features that vary"),
        ({"size": 31}, "size: expected a whole number from 1 to 30, found 31."),
        ({"size": 0}, "size: expected a whole number from 1 to 30, found 0."),
        ({"size": 3.0}, "size: expected a whole number from 1 to 30, found 3.0."),
        ({"rule": "best"}, "rule: expected one of ['transport', 'nearest', 'mean', 'random'], found 'best'."),
        ({"size": None, "rule": "mean"}, "size: expected a number with the rule 'mean', found None."),
        ({"size": None, "folds": 13}, "folds: expected a whole number from 2 to 12, found 13."),
        ({"blur": 0.0}, "blur: expected a number in (0, inf], found 0.0."),
        ({"blur": math.nan}, "blur: expected a number in (0, inf], found nan."),
        ({"shrinkage": 2.0}, "shrinkage: expected 'ledoit-wolf' or a number in [0, 1], found 2.0."),
        (
            {"candidates": -torch.eye(3)[:2], "target": torch.eye(3), "size": None, "folds": 3, "whiten": False},
            "candidates: expected one of positive similarity to a target, found none.",
        ),
    ],
)
def test_bad_arguments(change, sentence):
    arguments = {"candidates": X, "target": Y, "size": 5, **change}
    with pytest.raises(ValueError, match="expected") as error:
        curation.select(arguments.pop("candidates"), arguments.pop("target"), **arguments)
    assert sentence in str(error.value)


@pytest.mark.parametrize("weights", [[], [[1.0]], [-1.0, 2.0], [0.0, 0.0], [math.inf]])
def test_counts_refuse_weights_that_are_none(weights):
    with pytest.raises(ValueError, match="weights: expected numbers that are not negative and not all 0"):
        curation.repetition_counts(torch.tensor(weights), 5)
    with pytest.raises(ValueError, match="slots: expected a whole number of at least 0, found -1"):
        curation.repetition_counts(torch.ones(2), -1)
