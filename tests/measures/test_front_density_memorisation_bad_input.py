"""Fronts, densities, memorisation and bits refuse what they cannot take, in one sentence that says where."""

import math

import pytest
import torch

from clarkia.measures import density, fronts, likelihood
from clarkia.measures.memorisation import copy_test, longest_shared_spans, membership_gap, memorisation, span_copies
from clarkia.oracles import GaussianMixture
from clarkia.processes import Masked, RectifiedFlow

X = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
HOLE = X.clone()
HOLE[5, 1] = math.nan
EQUAL = torch.ones(4, 3)
FLOW = RectifiedFlow()
DENOISE = GaussianMixture([1.0], [[0.0, 0.0, 0.0]], [1.0]).denoiser(FLOW)
AXES = {"mean": fronts.PerCondition(lambda samples, condition: samples.mean())}


def swept(grid={"a": [1]}, conditions=(0,), axes=AXES, **options):  # noqa: B006
    return fronts.sweep(lambda setting: lambda condition, n, noise: torch.ones(n), grid, conditions, axes, **options)


def bits(x=X, process=FLOW, denoiser=DENOISE, **options):
    return likelihood.bits_per_dim(denoiser, process, x, **options)


def immse(x=X, process=FLOW, denoiser=DENOISE, **options):
    return likelihood.immse_log_density(denoiser, process, x, **options)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fronts.pareto_mask(HOLE), "points: expected finite features, found nan in row 5, column 1"),
        (lambda: fronts.pareto_mask(X[:0]), "points: expected at least one row"),
        (lambda: fronts.pareto_mask(X, tolerance=-1.0), "tolerance: expected a number of at least 0"),
        (lambda: fronts.normal_replicates(X, X[:3]), "standard_errors: expected shape (12, 3), found (3, 3)"),
        (lambda: fronts.normal_replicates(X, -X.abs()), "standard_errors: expected numbers of at least 0"),
        (lambda: fronts.normal_replicates(X, X.abs(), num_draws=0), "num_draws: expected at least 1, found 0"),
        (lambda: fronts.front_probability(X), "replicates: expected shape (draws, n, d), found (12, 3)"),
        (lambda: fronts.front_probability(HOLE[None]), "replicates: expected finite numbers"),
        (lambda: fronts.hypervolume(X, [0.0, 0.0]), "reference: expected 3 finite numbers, one an axis"),
        (lambda: fronts.hypervolume(X, [0.0, 0.0, math.inf]), "reference: expected 3 finite numbers"),
        (lambda: fronts.hypervolume(X, [0.0] * 3, method="staircase"), "method: expected one of ['sweep', 'slicing'"),
        (
            lambda: fronts.hypervolume(X, [-9.0] * 3, method="monte-carlo", num_draws=1),
            "num_draws: expected at least 2, found 1",
        ),
        (lambda: fronts.epsilon_indicator(X, X[:, :2]), "target: expected 3 columns as points has, found 2"),
        (lambda: fronts.attainment([], X), "fronts: expected at least one, found none"),
        (lambda: fronts.attainment([X[:, :2]], X), "goals: expected 2 columns as fronts has, found 3"),
        (lambda: fronts.knee(HOLE), "points: expected finite features"),
        (lambda: fronts.group_fronts({}, [0.0]), "points: expected at least one group"),
        (lambda: fronts.group_fronts({"a": X, "b": X[:4]}, [0.0] * 3), "points: expected the same systems"),
        (lambda: fronts.conditional_diversity(X[:1]), "samples: expected at least 2 rows, found 1"),
        (lambda: fronts.conditional_realism(0 * X, X), "samples: expected rows other than 0, found one in row 0"),
        (lambda: swept(grid={}), "grid: expected at least one value of at least one knob"),
        (lambda: swept(grid={"a": []}), "grid: expected at least one value"),
        (lambda: swept(conditions=()), "conditions: expected at least one"),
        (lambda: swept(axes={}), "axes: expected at least one"),
        (lambda: swept(axes={"mean": len}), "axes['mean']: expected PerCondition or Pooled, found builtin"),
        (lambda: swept(axes={"x": fronts.Pooled(len, better="up")}), "axes['x']: expected better 'higher' or 'lower'"),
        (lambda: swept(per_condition=0), "per_condition: expected at least 1, found 0"),
        (
            lambda: swept(axes={"x": fronts.Pooled(lambda s: math.nan)}),
            "axes['x']: expected a finite number, found nan",
        ),
        (lambda: swept(num_seeds=1).replicates(), "num_seeds: expected a sweep of at least 2 seeds"),
        (lambda: swept().hypervolume({"b": 1.0}), "reference: expected one number for each of ['mean'], found ['b']"),
        (lambda: density.KernelDensity(bandwidth="best"), "bandwidth: expected 'loo', 'nn' or a positive number"),
        (lambda: density.KernelDensity(bandwidth=0.0), "bandwidth: expected 'loo', 'nn' or a positive number"),
        (lambda: density.KernelDensity(kernel="round"), "kernel: expected one of ['gaussian'"),
        (lambda: density.KernelDensity().fit(HOLE), "x: expected finite features, found nan in row 5"),
        (lambda: density.KernelDensity().fit(EQUAL), "x: expected at least 2 different rows, found 4 equal ones"),
        (lambda: density.KernelDensity(1.0).fit(X).log_prob(X[:, :2]), "x: expected 3 columns, found 2"),
        (lambda: density.KernelDensity(1.0).fit(EQUAL).leave_one_out(), "data: expected at least 2 different rows"),
        (lambda: density.KernelDensity(1.0, "cauchy").fit(X).oracle(), "kernel: expected 'gaussian' for an oracle"),
        (lambda: density.kernel_regimes(0.0), "alpha: expected a positive number"),
        (lambda: density.kernel_regimes(0.1, [0.0]), "spectrum: expected non-negative variances, not all 0"),
        (lambda: density.kernel_divergence(-1.0, 0.1), "bandwidth: expected a positive number, found -1.0"),
        (lambda: density.contributing_entropy(math.nan, 0.1), "bandwidth: expected a positive number, found nan"),
        (lambda: density.density_regimes(EQUAL), "data: expected at least 3 different rows, found 1"),
        (lambda: density.density_regimes(X, X[:, :2]), "held_out: expected 3 columns as data has, found 2"),
        (lambda: density.density_regimes(X, bandwidths=[1.0]), "bandwidths: expected at least 2 positive numbers"),
        (lambda: density.density_regimes(X, max_queries=0), "max_queries: expected at least 1, found 0"),
        (lambda: density.density_regimes(X, num_top=11), "num_top: expected 1 to 10, found 11"),
        (lambda: density.hill_index(X, 3), "num_top: expected 1 to 2, found 3"),
        (lambda: density.hill_index(HOLE), "log_values: expected at least 2 finite numbers a row"),
        (lambda: density.pn_criterion(X, X[:, :2]), "model: expected 3 columns as statistics has, found 2"),
        (lambda: density.pn_criterion(X, delta=0.5), "delta: expected a number between 0 and 0.5, found 0.5"),
        (lambda: density.pn_criterion(X, num_rows=0), "num_rows: expected at least 1, found 0"),
        (lambda: density.pn_criterion(X, weights=[1.0]), "weights: expected 12 non-negative numbers"),
        (lambda: density.pn_criterion(X[:, [0, 1, 1]]), "statistics: expected linearly independent columns"),
        (lambda: memorisation(X, X[:, :2], X), "holdout: expected 3 columns as train has, found 2"),
        (lambda: memorisation(X, X, HOLE), "generated: expected finite features, found nan in row 5, column 1"),
        (lambda: memorisation(EQUAL, X, X), "train: expected at least 2 different rows, found 4 equal ones"),
        (lambda: memorisation(X, X, X, scores=([1.0], [math.nan])), "holdout_scores: expected finite numbers"),
        (lambda: copy_test(X, X, X, num_cells=13), "num_cells: expected 1 to 12"),
        (lambda: copy_test(X, X, X, least=0), "least: expected at least 1, found 0"),
        (
            lambda: membership_gap([], [1.0]),
            "train_scores: expected one number a row, shape (n,), found shape (0,)",
        ),
        (lambda: longest_shared_spans("abc", ["a"]), "texts: expected a sequence of at least one text, found str"),
        (lambda: longest_shared_spans(["a"], []), "references: expected a sequence of at least one text"),
        (lambda: longest_shared_spans(["a"], [[1]]), "references: expected strings or token numbers"),
        (lambda: longest_shared_spans([[1.5]], [[1]]), "texts: expected strings or whole numbers in one row"),
        (lambda: span_copies(["a"], ["b"], ["c"], threshold=0.0), "threshold: expected a number in (0, 1]"),
        (lambda: span_copies(["a"], [], ["c"]), "holdout, generated: expected at least one text each"),
        (lambda: bits(method="guess"), "method: expected one of ['ode', 'elbo', 'immse'], found 'guess'"),
        (lambda: bits(num_dequantisations=2), "num_dequantisations: expected at least 1, and 1 without"),
        (lambda: bits(x=HOLE), "x: expected finite values, found a NaN or infinity in row 5"),
        (lambda: bits(method="immse", num_draws=3), "num_draws: expected an even number of at least 2, found 3"),
        (lambda: immse(process=Masked(3)), "process: expected a Gaussian process, found Masked; use measures.elbo"),
        (lambda: immse(scale=0.0), "scale: expected a positive number, found 0.0"),
        (lambda: immse(denoiser=lambda x_t, t: x_t[:, :2]), "shape"),
        (lambda: likelihood.UniformNoise(0.0), "bin_width: expected a positive number, found 0.0"),
        (lambda: likelihood.from_levels(torch.tensor([3]), 3), "levels: expected whole numbers from 0 to 2"),
        (lambda: likelihood.from_levels(torch.tensor([0]), 1), "num_levels: expected at least 2, found 1"),
    ],
)
def test_one_sentence(call, words):
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        call()
    assert words in str(raised.value)


def test_bad_input_changes_nothing_that_was_given():
    given = X.clone()
    memorisation(X, X, X, decimals=1)
    density.density_regimes(X)
    fronts.hypervolume(X, [0.0] * 3)
    assert torch.equal(given, X)
