"""The small experiments of the outlier papers, on data made here: what transfers to classes never seen."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from clarkia.measures.outliers import (
    GroupedGaussians,
    Mahalanobis,
    MaximumSoftmax,
    NearestNeighbours,
    ResidualDetector,
    ResidualFlow,
)
from clarkia.measures.scores import auroc
from clarkia.random import generator, rand, randn
from clarkia.training import TrainingOptions


def products(seed, *, classes=12, width=24, each=100, own=4):
    """Rows of classes at 4 N(0, I), each varying in 4 directions of its own at a scale of its own; half displaced."""
    noise = generator(seed)
    scales = 0.7 + 0.7 * rand((classes,), noise)
    centres = 4 * randn((classes, width), noise, dtype=torch.float64)
    ways = randn((classes, own, width), noise, dtype=torch.float64) / own**0.5
    labels = torch.arange(classes * each) % classes
    x = centres[labels] + scales[labels, None] * torch.einsum(
        "nk,nkd->nd", randn((len(labels), own), noise, dtype=torch.float64), ways[labels]
    )
    unusual = torch.arange(len(labels)) // classes % 2 == 1
    directions = torch.nn.functional.normalize(randn((len(labels), width), noise, dtype=torch.float64), dim=1)
    x = torch.where(unusual[:, None], x + 2 * scales[labels, None] * directions, x)
    return x, labels, unusual


def test_residuals_transfer_to_new_classes_where_features_do_not():
    """Gaussian density, 8 classes to learn from, 4 new ones with 32 shots: AUROC near one half against well above."""
    found = {"features": [], "residuals": [], "distance": []}
    for seed in range(3):
        x, labels, unusual = products(seed, each=200)
        known = labels < 8
        direct = Mahalanobis().fit(x[known & ~unusual])
        model = ResidualDetector(Mahalanobis(), shots=32, rounds=2).fit(
            x[known], labels[known], unusual=unusual[known], generator=generator(seed, 1)
        )
        areas = {name: [] for name in found}
        for new in range(8, 12):
            own = (labels == new).nonzero().squeeze(1)
            usual = own[~unusual[own]]
            shots, rest = usual[:32], torch.cat([usual[32:], own[unusual[own]]])
            marks = unusual[rest]
            areas["features"].append(auroc(marks, direct.score(x[rest]), draws=1).value)
            areas["residuals"].append(auroc(marks, model.score(x[rest], reference=x[shots]), draws=1).value)
            nearest = NearestNeighbours(1).fit(x[shots])
            areas["distance"].append(auroc(marks, nearest.score(x[rest]), draws=1).value)
        for name, values in areas.items():
            found[name].append(np.mean(values))
    features, residuals, distance = (np.mean(found[name]) for name in ("features", "residuals", "distance"))
    assert features < 0.65
    assert residuals > features + 0.1
    assert distance > features + 0.1


def test_a_trained_density_beats_the_distance_on_new_classes():
    """Constraint and flow on whitened residuals; AUROC above that of the nearest reference on each of two seeds."""
    options = TrainingOptions(max_steps=120, batch_size=256, learning_rate=1e-3)
    for seed in range(2):
        x, labels, unusual = products(seed, classes=6, each=160)
        known = labels < 4
        detector = ResidualDetector(ResidualFlow(blocks=4, options=options), shots=32, rounds=2)
        model = detector.fit(x[known], labels[known], unusual=unusual[known], generator=generator(seed, 1))
        trained, distance = [], []
        for new in (4, 5):
            own = (labels == new).nonzero().squeeze(1)
            usual = own[~unusual[own]]
            shots, rest = x[usual[:32]], torch.cat([usual[32:], own[unusual[own]]])
            trained.append(auroc(unusual[rest], model.score(x[rest], reference=shots), draws=1).value)
            distance.append(auroc(unusual[rest], NearestNeighbours(1).fit(shots).score(x[rest]), draws=1).value)
        assert np.mean(trained) > np.mean(distance) + 0.1


def test_correlations_of_features_matter_on_digits():
    """Digits 0 to 6 are usual: one full Gaussian a class beats many groups, and both beat a classifier's confidence."""
    data, target = load_digits(return_X_y=True)
    data, rng = data / 16, np.random.default_rng(0)
    usual = np.flatnonzero(target < 7)
    rng.shuffle(usual)
    train, test = usual[:800], np.concatenate([usual[800:], np.flatnonzero(target >= 7)])
    unusual = target[test] >= 7
    x, labels = torch.from_numpy(data[train]), torch.from_numpy(target[train])
    areas = {}
    for groups in (1, 4, 64):
        fitted = GroupedGaussians(groups).fit(x, labels)
        areas[groups] = auroc(unusual, fitted.score(torch.from_numpy(data[test])), draws=1).value
    classifier = LogisticRegression(max_iter=500).fit(data[train], target[train])
    confidence = MaximumSoftmax(classifier.decision_function)
    areas["confidence"] = auroc(unusual, confidence.score(data[test]), draws=1).value
    assert areas[1] > areas[4] > areas[64]
    assert areas[1] > areas["confidence"]
    assert areas[1] > 0.95
