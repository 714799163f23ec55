"""What the outlier scorers say to arguments that they cannot take."""

import math

import pytest
import torch

from clarkia.measures import outliers
from clarkia.processes import EDM, Masked
from clarkia.random import generator, randn

X = randn((30, 4), generator(0), dtype=torch.float64)
BAD = X.clone()
BAD[5, 1] = math.nan


def denoise(x, t):
    return 0.5 * x


SCORERS = {
    "neighbours": outliers.NearestNeighbours(3),
    "mahalanobis": outliers.Mahalanobis(),
    "grouped": outliers.GroupedGaussians(2),
    "denoising": outliers.DenoisingError(denoise, EDM, (0.5,)),
    "flow": outliers.ResidualFlow(),
}


@pytest.mark.parametrize("scorer", SCORERS.values(), ids=SCORERS.keys())
@pytest.mark.parametrize(
    ("x", "sentence"),
    [(BAD, "features: expected finite"), (X[:0], "features: expected"), (X[:, :0], "features: expected")],
)
def test_features_must_be_rows_of_finite_numbers(scorer, x, sentence):
    with pytest.raises(ValueError, match=sentence):
        scorer.fit(x)


@pytest.mark.parametrize("name", ["neighbours", "mahalanobis", "grouped", "denoising"])
def test_scored_rows_must_be_like_the_fitted_ones(name):
    fitted = SCORERS[name].fit(X)
    for x in (X[:, :3], BAD, X[0]):
        with pytest.raises(ValueError, match="features: expected"):
            fitted.score(x)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: outliers.NearestNeighbours(0), "k: expected at least 1, found 0."),
        (lambda: outliers.NearestNeighbours(3, "median"), "reduction: expected 'kth' or 'mean', found 'median'."),
        (
            lambda: outliers.NearestNeighbours(9).fit(X[:8]),
            "features: expected at least 9 rows for 9 neighbours, found 8.",
        ),
        (lambda: outliers.Mahalanobis(1.5), "shrinkage: expected 'ledoit-wolf' or a number in [0, 1], found 1.5."),
        (lambda: outliers.Mahalanobis("oas"), "shrinkage: expected 'ledoit-wolf' or a number in [0, 1], found 'oas'."),
        (lambda: outliers.Mahalanobis(0.0).fit(X[:3]), "shrinkage: expected enough to invert the covariance of"),
        (lambda: outliers.Mahalanobis().fit(X, torch.zeros(3, dtype=torch.int64)), "labels: expected one label a row"),
        (lambda: outliers.Mahalanobis().fit(X, X[:, 0]), "labels: expected whole numbers, found torch.float64."),
        (lambda: outliers.GroupedGaussians(0), "groups: expected at least 1, found 0."),
        (lambda: outliers.GroupedGaussians(3).fit(X), "groups: expected a divisor of the 4 columns, found 3."),
        (lambda: outliers.GroupedGaussians(1, 0.0).fit(X[:4]), "the covariance of class 0, group 0"),
        (
            lambda: outliers.GroupedGaussians().fit(X, [7] * 29 + [9]),
            "labels: expected at least 2 rows of every class, found 1 of 9.",
        ),
        (lambda: outliers.GroupedGaussians(2).fit(X, weights=[[1.0, -1.0]]), "weights: expected non-negative numbers"),
        (
            lambda: outliers.GroupedGaussians(2).fit(X, weights=[1.0, 1.0]),
            "weights: expected non-negative numbers of shape",
        ),
        (lambda: outliers.Energy(temperature=0.0), "temperature: expected a positive number, found 0.0."),
        (lambda: outliers.MaximumSoftmax(temperature=-1.0), "temperature: expected a positive number, found -1.0."),
        (lambda: outliers.Energy().score(X[:, :1]), "logits: expected at least 2 classes, found 1."),
        (lambda: outliers.Energy().score(BAD), "logits: expected finite features, found nan in row 5, column 1."),
        (
            lambda: outliers.LogLikelihood().fit(BAD[:, 1]),
            "log_prob: expected numbers below infinity, found nan in row 5.",
        ),
        (lambda: outliers.LogLikelihood().fit(X), "log_prob: expected one number a row, shape (n,), found (30, 4)."),
        (
            lambda: outliers.LogLikelihood(typical=True).fit(torch.tensor([0.0, -math.inf])),
            "features: expected finite log-probabilities of usual rows, found an infinite one in row 1.",
        ),
        (
            lambda: outliers.DenoisingError(denoise, Masked(3), (0.5,)),
            "process: expected a Gaussian process, found Masked.",
        ),
        (lambda: outliers.DenoisingError(denoise, EDM, (0.0,)), "noise_levels: expected distinct positive numbers"),
        (lambda: outliers.DenoisingError(denoise, EDM, (1e9,)), "noise_levels: expected ratios"),
        (lambda: outliers.DenoisingError(denoise, EDM, (0.5,), 0), "num_draws: expected a whole number of at least 1"),
        (lambda: outliers.ResidualFeatures(X, "manhattan"), "metric: expected 'cosine' or 'euclidean'"),
        (lambda: outliers.ResidualFeatures(X, kind="cubed"), "kind: expected 'signed' or 'squared', found 'cubed'."),
        (lambda: outliers.ResidualFeatures(BAD), "bank: expected finite features, found nan in row 5, column 1."),
        (lambda: outliers.ResidualFeatures(X)(X[:, :2]), "features: expected 4 columns as the bank has, found 2."),
        (
            lambda: outliers.ResidualFeatures(X[:2])(X[:1], own=(torch.zeros(1), torch.zeros(2))),
            "own: expected a row of the bank left for each row",
        ),
        (
            lambda: outliers.ResidualFeatures(X)(X, own=(torch.zeros(1), torch.zeros(30))),
            "own: expected shapes (30,) and (30,), found ((1,), (30,)).",
        ),
        (lambda: outliers.CouplingFlow(1), "width: expected at least 2 columns, found 1."),
        (lambda: outliers.ResidualDetector(shots=1), "shots, rounds: expected at least 2 and 1, found 1 and 4."),
        (lambda: outliers.ResidualDetector().fit(X, unusual=[True] * 3), "unusual: expected shape (30,)"),
        (lambda: outliers.ResidualDetector().fit([X, X[:5]]), "features: expected levels all (n, d) or all"),
        (
            lambda: outliers.ResidualDetector().fit(X, range(30)),
            "shots: expected fewer than 1, the usual rows of the smallest",
        ),
        (lambda: outliers.ResidualFlow().fit(X, unusual=[True] * 30), "unusual: expected marks of shape (30,)"),
        (lambda: outliers.image_scores(torch.zeros(1, 2, 2), 5), "top: expected 1 to 4 pixels, found 5."),
    ],
)
def test_bad_settings_are_named(call, sentence):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        call()
    assert sentence in str(error.value)


def test_a_denoiser_that_breaks_is_named():
    scorer = outliers.DenoisingError(lambda x, t: x[:, :2], EDM, (0.5,))
    with pytest.raises(ValueError, match=r"denoiser: expected prediction of shape"):
        scorer.fit(X)
    scorer = outliers.DenoisingError(lambda x, t: x / 0, EDM, (0.5,))
    with pytest.raises(ValueError, match="denoiser: expected finite numbers"):
        scorer.fit(X)


def test_a_detector_is_asked_for_what_it_learned():
    model = outliers.ResidualDetector(outliers.Mahalanobis(), shots=4, rounds=1).fit(X)
    with pytest.raises(ValueError, match=r"reference: expected at least 2 usual inputs of 1 levels, found 1 of 1\."):
        model.reference(X[:1])
    with pytest.raises(ValueError, match="features: expected the levels and columns of the reference"):
        model.reference(X[:4]).score(X[:, :2])
    with pytest.raises(ValueError, match="features: expected maps"):
        model.reference(X[:4]).maps(X)
