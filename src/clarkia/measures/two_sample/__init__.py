"""How far apart are two sets of rows? One measure a file."""

from clarkia.measures.two_sample import closed_forms
from clarkia.measures.two_sample.alpha_precision import AlphaPrecision, alpha_precision
from clarkia.measures.two_sample.assignment import exact_wasserstein
from clarkia.measures.two_sample.cauchy_schwarz import (
    cauchy_schwarz,
    cauchy_schwarz_dependence,
    conditional_cauchy_schwarz,
)
from clarkia.measures.two_sample.characteristic import characteristic_distance, characteristic_function
from clarkia.measures.two_sample.energy import crps, energy_distance, energy_score
from clarkia.measures.two_sample.frechet import FeatureStats, frechet_distance, frechet_floor, gaussian_frechet
from clarkia.measures.two_sample.frequencies import GaussianFrequencies, LearnedFrequencies
from clarkia.measures.two_sample.groups import by_group
from clarkia.measures.two_sample.kid import SubsetMean, kid
from clarkia.measures.two_sample.mmd import cmmd, mmd2, mmd2_from_gram
from clarkia.measures.two_sample.mmd_tests import MMDTest, mmd_linear_test, mmd_permutation_test
from clarkia.measures.two_sample.prdc import PRDC, expected_coverage, expected_density, prdc
from clarkia.measures.two_sample.sinkhorn import sinkhorn_divergence
from clarkia.measures.two_sample.sliced import max_sliced_wasserstein, sliced_wasserstein, wasserstein_1d
from clarkia.measures.two_sample.soft_precision import soft_precision_recall
from clarkia.measures.two_sample.vendi import effective_number, vendi, vendi_ratio

__all__ = [
    "PRDC",
    "AlphaPrecision",
    "FeatureStats",
    "GaussianFrequencies",
    "LearnedFrequencies",
    "MMDTest",
    "SubsetMean",
    "alpha_precision",
    "by_group",
    "cauchy_schwarz",
    "cauchy_schwarz_dependence",
    "characteristic_distance",
    "characteristic_function",
    "closed_forms",
    "cmmd",
    "conditional_cauchy_schwarz",
    "crps",
    "effective_number",
    "energy_distance",
    "energy_score",
    "exact_wasserstein",
    "expected_coverage",
    "expected_density",
    "frechet_distance",
    "frechet_floor",
    "gaussian_frechet",
    "kid",
    "max_sliced_wasserstein",
    "mmd2",
    "mmd2_from_gram",
    "mmd_linear_test",
    "mmd_permutation_test",
    "prdc",
    "sinkhorn_divergence",
    "sliced_wasserstein",
    "soft_precision_recall",
    "vendi",
    "vendi_ratio",
    "wasserstein_1d",
]
