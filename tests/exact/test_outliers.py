"""Outlier scorers against closed forms of Gaussian laws."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis

from clarkia.measures import outliers
from clarkia.oracles import GaussianMixture
from clarkia.processes import EDM, RectifiedFlow
from clarkia.random import generator, randn

ROOT = torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [-0.3, 0.5, 1.2]], dtype=torch.float64)
MEANS = torch.tensor([[0.0, 0, 0], [3, 0, 1], [0, 4, -2]], dtype=torch.float64)


def three_classes(n, seed):
    """Rows of three classes of one covariance, and their classes."""
    labels = torch.arange(n) % 3
    return MEANS[labels] + randn((n, 3), generator(seed), dtype=torch.float64) @ ROOT.T, labels


def test_every_scorer_keeps_the_protocol():
    x, labels = three_classes(60, 0)
    mixture = GaussianMixture([1.0], torch.zeros(1, 3), torch.ones(1))
    scorers = [
        outliers.NearestNeighbours(3),
        outliers.Mahalanobis(),
        outliers.GroupedGaussians(3),
        outliers.Energy(),
        outliers.MaximumSoftmax(),
        outliers.LogLikelihood(mixture.log_prob),
        outliers.DenoisingError(mixture.denoiser(EDM), EDM, (0.5, 2.0)),
    ]
    for scorer in scorers:
        assert isinstance(scorer, outliers.Scorer)
        fitted = scorer.fit(x, labels)
        assert isinstance(fitted, outliers.FittedScorer)
        scores = fitted.score(x)
        assert scores.shape == (60,)
        assert scores.dtype == torch.float64
        # a row's score is its own affair
        assert torch.allclose(fitted.score(x[7:9]), scores[7:9], rtol=1e-10, atol=1e-12)


def test_distances_to_neighbours_on_a_line():
    fitted = outliers.NearestNeighbours(2).fit([[0.0], [1.0], [3.0]])
    assert fitted.score([[0.0], [2.0], [10.0]]).tolist() == [1, 1, 9]
    mean = outliers.NearestNeighbours(2, "mean").fit([[0.0], [1.0], [3.0]])
    assert mean.score([[0.0], [10.0]]).tolist() == [0.5, 8]
    unit = outliers.NearestNeighbours(1, normalise=True).fit([[2.0, 0.0], [0.0, 0.1]])
    assert unit.score([[5.0, 0.0], [3.0, 3.0]]).tolist() == pytest.approx([0, math.sqrt(2 - math.sqrt(2))])


def test_the_mahalanobis_distance_ranks_as_linear_discriminant_analysis():
    """With one covariance and equal shares the smallest distance is the largest posterior; distances are chi-square."""
    x, labels = three_classes(60_000, 1)
    fitted = outliers.Mahalanobis(shrinkage=0.0).fit(x, labels)
    lda = LinearDiscriminantAnalysis(solver="lsqr", priors=[1 / 3] * 3).fit(x.numpy(), labels.numpy())
    whitened = torch.cdist(x @ fitted.factor.T, fitted.means @ fitted.factor.T)
    assert (lda.predict(x.numpy()) == whitened.argmin(1).numpy()).all()
    fresh, own = three_classes(5000, 2)
    to_own = torch.linalg.norm((fresh - fitted.means[own]) @ fitted.factor.T, dim=1) ** 2
    assert stats.kstest(to_own.numpy(), stats.chi2(3).cdf).pvalue > 0.01  # false alarm 1 %, seed fixed
    assert bool((fitted.score(fresh) <= to_own + 1e-9).all())


def test_energy_and_largest_probability_of_given_logits():
    logits = torch.tensor([[0.0, 0.0], [math.log(9), 0.0], [800.0, 0.0]], dtype=torch.float64)
    assert outliers.Energy().fit().score(logits).tolist() == pytest.approx([-math.log(2), -math.log(10), -800])
    hot = outliers.Energy(temperature=2.0).score(logits)
    assert hot.tolist() == pytest.approx([-2 * math.log(2), -2 * math.log(4), -800])
    found = outliers.MaximumSoftmax().fit().score(logits)
    assert found[:2].tolist() == pytest.approx([0.5, 0.1])
    sure = torch.tensor([[50.0, 0.0], [60.0, 0.0]], dtype=torch.float64)
    assert outliers.MaximumSoftmax().score(sure).tolist() == pytest.approx([math.exp(-50), math.exp(-60)], rel=1e-12)
    doubled = outliers.Energy(lambda x: 2 * x).score(logits[1:2])
    assert doubled.tolist() == pytest.approx([-math.log(82)])


@pytest.mark.parametrize("process", [EDM, RectifiedFlow()])
def test_the_denoising_error_of_a_normal_law(process):
    """``x0_hat = s y / (s + k^2)`` for variance s at level k, so an error is ``|k^2 x - s k e|^2 / (s + k^2)^2``."""
    variances, levels = torch.tensor([4.0, 1.0], dtype=torch.float64), (0.5, 1.5)
    law = GaussianMixture([1.0], torch.zeros(1, 2), variances[None])
    scorer = outliers.DenoisingError(law.denoiser(process), process, levels, num_draws=4)
    fitted = scorer.fit(law.sample(200, generator=generator(3)), generator=generator(4))
    x = torch.tensor([[0.0, 0.0], [3.0, -1.0], [20.0, 20.0]], dtype=torch.float64)
    for index, level in enumerate(levels):
        k2 = level**2
        errors = (k2 * x[:, None] - variances * level * fitted.noise[index].double()) / (variances + k2)
        expected = errors.square().sum(2).mean(1)
        assert torch.allclose(fitted.errors(x)[:, index], expected, rtol=1e-6)
    assert torch.allclose(fitted.score(x), (fitted.errors(x) / fitted.usual).mean(1))
    assert bool((fitted.score(x).diff() > 0).all())


def test_a_typical_row_is_not_the_most_probable_one():
    """In 100 dimensions the densest point is far from every sample: only the typical form flags it."""
    d = 100
    law = GaussianMixture([1.0], torch.zeros(1, d), torch.ones(1))
    usual = law.sample(4000, generator=generator(5))
    centre = torch.zeros(1, d, dtype=torch.float64)
    plain, typical = (outliers.LogLikelihood(law.log_prob, typical=t).fit(usual) for t in (False, True))
    assert plain.score(centre).item() == pytest.approx(0.5 * d * math.log(2 * math.pi))
    assert float(plain.score(centre)) < float(plain.score(usual).min())
    assert float(typical.score(centre)) > float(typical.score(usual).quantile(0.999))
    # the mean is minus the entropy, within 4 standard errors sqrt(d / 2 / n)
    entropy = 0.5 * d * math.log(2 * math.pi * math.e)
    assert typical.mean == pytest.approx(-entropy, abs=4 * math.sqrt(d / 2 / 4000))
    given = outliers.LogLikelihood().fit(law.log_prob(usual)[:, None])
    assert torch.equal(given.score(law.log_prob(usual)), plain.score(usual))


def test_one_group_is_half_the_mahalanobis_distance():
    """G = 1, one covariance, weights 1: half the squared distance, so it ranks as discriminant analysis does."""
    x, labels = three_classes(3000, 6)
    grouped = outliers.GroupedGaussians(1, shrinkage=0.0).fit(x, labels)
    apart = [torch.cov(x[labels == c].T) for c in range(3)]
    for c in range(3):
        gap = x - x[labels == c].mean(0)
        expected = 0.5 * (gap @ torch.linalg.inv(apart[c]) * gap).sum(1)
        assert torch.allclose(grouped.class_scores(x)[:, c], expected, rtol=1e-9)
    assert torch.equal(grouped.score(x), grouped.class_scores(x).min(1).values)
    # the normalised form is quadratic discriminant analysis, log-determinants and shares included
    normalised = outliers.GroupedGaussians(1, shrinkage=0.0, normalised=True).fit(x, labels)
    for c in range(3):
        law = stats.multivariate_normal(x[labels == c].mean(0).numpy(), apart[c].numpy())
        assert np.abs(normalised.class_log_probs(x)[:, c].numpy() - law.logpdf(x.numpy()) + math.log(3)).max() < 1e-8
    # scikit-learn divides by n instead of n - 1: a tenth of a percent of the exponent
    qda = QuadraticDiscriminantAnalysis().fit(x.numpy(), labels.numpy())
    posterior = torch.softmax(normalised.class_log_probs(x), 1).numpy()
    assert np.abs(posterior - qda.predict_proba(x.numpy())).max() < 1e-3


def test_group_scores_of_the_own_class_are_chi_square():
    """Gaussian classes in 3 groups of 4: twice a group score has 4 degrees of freedom, 5000 rows, p > 0.01."""
    groups, width, n = 3, 4, 20_000
    roots = randn((2, groups, width, width), generator(7), dtype=torch.float64)
    means = randn((2, groups, width), generator(8), dtype=torch.float64)
    labels = torch.arange(n) % 2

    def draw(classes, seed):
        noise = randn((len(classes), groups, width), generator(seed), dtype=torch.float64)
        return (means[classes] + torch.einsum("ngij,ngj->ngi", roots[classes], noise)).flatten(1)

    fitted = outliers.GroupedGaussians(groups, shrinkage=0.0, normalised=True).fit(draw(labels, 9), labels)
    own = torch.arange(5000) % 2
    fresh = draw(own, 10)
    scores = fitted.group_scores(fresh)[torch.arange(5000), own]
    for group in range(groups):
        # three tests at 1 % each, seed fixed
        assert stats.kstest(2 * scores[:, group].numpy(), stats.chi2(width).cdf).pvalue > 0.01
    law = GaussianMixture(
        [0.5, 0.5], means.flatten(1), torch.stack([torch.block_diag(*(r @ r.T for r in c)) for c in roots])
    )
    # Estimation error of a log-density: parameters / (2 n per class) a class on average, 42 over 10 000 rows.
    gap = fitted.log_prob(fresh) - law.log_prob(fresh)
    assert float(gap.mean()) == pytest.approx(0, abs=4 * 42 / 20_000 + 4 * float(gap.std()) / math.sqrt(5000))
    assert float(gap.abs().mean()) < 0.1
    assert torch.equal(-fitted.score(fresh), fitted.log_prob(fresh))


def test_weights_stand_in_the_exponent():
    """Two groups at squared distances 1 and 9 with weights .75 and .25: half of .75 + 2.25."""
    x = torch.tensor([[1.0, 1], [-1, 1], [1, -1], [-1, -1]], dtype=torch.float64) * math.sqrt(3 / 4)
    fitted = outliers.GroupedGaussians(2, shrinkage=0.0).fit(x, weights=[[0.75, 0.25]])
    assert float(fitted.score([[1.0, 3.0]])) == pytest.approx(0.5 * (0.75 * 1 + 0.25 * 9))
    assert float(outliers.GroupedGaussians(2, shrinkage=0.0).fit(x).score([[1.0, 3.0]])) == pytest.approx(0.25 * 10)


def test_shrinkage_goes_to_the_scaled_identity():
    x = torch.tensor([[2.0, 0], [-2, 0], [0, 1], [0, -1]], dtype=torch.float64)  # covariance diag(8/3, 2/3)
    fitted = outliers.GroupedGaussians(1, shrinkage=0.1).fit(x)
    expected = 0.5 * (1 / (0.9 * 8 / 3 + 0.1 * 5 / 3) + 1 / (0.9 * 2 / 3 + 0.1 * 5 / 3))
    assert float(fitted.score([[1.0, 1.0]])) == pytest.approx(expected, rel=1e-12)
