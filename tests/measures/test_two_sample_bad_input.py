"""Two-sample measures on what users get wrong: a sentence that names the argument, or a documented value."""

import functools
import math

import numpy as np
import pytest
import torch

from clarkia.measures import assess, compare, kernels, two_sample
from clarkia.measures.extractors import Extractor, fingerprint_of, flatten, identity, random_relu
from clarkia.measures.facts import Facts, facts_of, known
from clarkia.measures.inputs import features, lazy_features, pair, shuffled, some_rows
from clarkia.random import generator, randn
from clarkia.testing import _numbers

F64 = torch.float64
X, Y = (randn((40, 3), generator(seed), dtype=F64) for seed in (0, 1))

MEASURES = {
    "frechet": two_sample.frechet_distance,
    "mmd2": two_sample.mmd2,
    "kid": functools.partial(two_sample.kid, size=10, subsets=3),
    "cmmd": two_sample.cmmd,
    "permutation": functools.partial(two_sample.mmd_permutation_test, permutations=3),
    "linear": two_sample.mmd_linear_test,
    "energy": two_sample.energy_distance,
    "characteristic": functools.partial(two_sample.characteristic_distance, n_frequencies=8),
    "learned": functools.partial(
        two_sample.characteristic_distance, frequencies=two_sample.LearnedFrequencies(steps=2), n_frequencies=8
    ),
    "cauchy-schwarz": two_sample.cauchy_schwarz,
    "line": two_sample.wasserstein_1d,
    "sliced": two_sample.sliced_wasserstein,
    "max-sliced": functools.partial(two_sample.max_sliced_wasserstein, steps=2),
    "sinkhorn": functools.partial(two_sample.sinkhorn_divergence, blur=1.0),
    "exact": two_sample.exact_wasserstein,
    "prdc": two_sample.prdc,
    "soft": two_sample.soft_precision_recall,
    "alpha": two_sample.alpha_precision,
    "vendi": two_sample.vendi_ratio,
}
everything = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES.keys())


@everything
def test_wrong_features(measure):
    with pytest.raises(ValueError, match=r"y: expected 3 columns as x has, found 2\."):
        measure(X, Y[:, :2])
    broken = Y.clone()
    broken[4, 1] = torch.nan
    with pytest.raises(ValueError, match=r"y: expected finite features, found nan in row 4, column 1\."):
        measure(X, broken)
    with pytest.raises(ValueError, match=r"x: expected finite features, found inf in row 39, column 2\."):
        measure(torch.where(X[39, 2] == X, torch.inf, X), Y)
    for rows, shape in ((X[:0], r"\(0, 3\)"), (X[:, :0], r"\(40, 0\)")):
        with pytest.raises(ValueError, match=rf"x: expected at least one row and one column, found {shape}\."):
            measure(rows, Y)
    with pytest.raises(ValueError, match=r"x: expected real features \(rows, columns\), found"):
        measure(X[:, 0], Y)


@everything
def test_arrays_and_single_precision_are_taken(measure):
    before = X.clone()
    measure(X.numpy(), Y.float())
    assert bool((before == X).all())


ODD = {
    "identical": (X, X),
    "another order": (X, X.flip(0)),
    "constant column": (torch.cat([X, X[:, :1] * 0 + 7], 1), torch.cat([Y, Y[:, :1] * 0 + 7], 1)),
    "constant in one": (torch.cat([X, X[:, :1]], 1), torch.cat([Y, Y[:, :1] * 0 + 7], 1)),
    "all rows equal": (X[:1].expand(40, 3), X[:1].expand(40, 3)),
    "equal in one": (X, Y[:1].expand(40, 3)),
    "one column": (X[:, :1], Y[:, :1]),
    "duplicates": (X[:10].repeat(4, 1), Y[:10].repeat(4, 1)),
    "far from 0": (X + 1e8, Y + 1e8),
    "tiny": (X * 1e-150, Y * 1e-150),
    "whole numbers": (X.round().long(), Y.round().int()),
    "half precision": (X.half(), Y.bfloat16()),
}


REFUSED = {("cmmd", "whole numbers")}  # a row of zeros has no direction


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("odd", ODD)
def test_odd_sets_have_numbers(name, odd):
    """Whatever is legal has finite numbers, or, where none makes sense, a sentence that names the argument."""
    if (name, odd) in REFUSED:
        with pytest.raises(ValueError, match=r"^[xy]: expected"):
            MEASURES[name](*ODD[odd])
    else:
        assert bool(_numbers(MEASURES[name](*ODD[odd])).isfinite().all())


@pytest.mark.parametrize("name", MEASURES)
def test_a_large_set_beside_one_row(name):
    least = NEEDS.get(name, 1)
    for x, y in ((X, Y[:1]), (X[:1], Y)):
        if least > 1 and name != "alpha":  # whose k counts real rows only
            with pytest.raises(ValueError, match="expected at"):
                MEASURES[name](x, y)
        elif least == 1:
            assert bool(_numbers(MEASURES[name](x, y)).isfinite().all())


NEEDS = {
    "frechet": 2,
    "mmd2": 2,
    "kid": 10,
    "permutation": 2,
    "linear": 4,
    "learned": 2,
    "prdc": 6,
    "soft": 5,
    "alpha": 6,
}


@pytest.mark.parametrize("name", MEASURES)
def test_sets_of_few_rows(name):
    """One row too few raises with a number; as many as are needed do."""
    measure, least = MEASURES[name], NEEDS.get(name, 1)
    measure(X[:least], Y[:least])
    if least > 1:
        with pytest.raises(ValueError, match=r"(x|size): expected at (least|most) \d+ "):
            measure(X[: least - 1], Y)


def number(result):
    result = result[0] if isinstance(result, tuple) else result
    return float(getattr(result, "value", result))


@pytest.mark.parametrize("name", ["frechet", "cmmd", "energy", "characteristic", "cauchy-schwarz", "sliced", "exact"])
def test_equal_sets_are_at_zero(name):
    assert number(MEASURES[name](X, X)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", [*NEEDS, "energy", "cmmd", "characteristic", "sliced", "sinkhorn", "exact", "vendi"])
def test_constant_columns_are_harmless(name):
    """Two constant columns, equal in both sets; and sets of which all rows are equal."""
    flat_x, flat_y = X.clone(), Y.clone()
    flat_x[:, 1:], flat_y[:, 1:] = 2.0, 2.0
    result = MEASURES[name](flat_x, flat_y)
    if not isinstance(result, two_sample.PRDC | two_sample.AlphaPrecision) and name != "soft":
        assert math.isfinite(number(result))
    ones = torch.ones(20, 3)
    same = MEASURES[name](ones, ones)
    if isinstance(same, two_sample.PRDC):
        assert (same.precision, same.recall, same.coverage) == (1.0, 1.0, 1.0)
    elif name == "vendi":
        assert float(same) == pytest.approx(1)
    elif name not in ("soft", "alpha"):
        assert number(same) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: two_sample.frechet_distance(X, Y, path="sqrtm"), "path"),
        (lambda: two_sample.frechet_distance(two_sample.FeatureStats.of(X), Y, extrapolate=True), "x"),
        (lambda: two_sample.frechet_distance(two_sample.FeatureStats.of(X), Y[:, :2]), "y"),
        (lambda: two_sample.frechet_distance(two_sample.FeatureStats.of(X[:1]), Y), "x"),
        (lambda: two_sample.FeatureStats.of(X).add(Y[:, :2]), "x"),
        (lambda: two_sample.frechet_distance(X[:2], Y[:2], extrapolate=True), "x"),
        (lambda: two_sample.kid(X, Y, size=1000), "size"),
        (lambda: two_sample.kid(X[:1], Y), "x"),
        (lambda: two_sample.kid(X, Y, subsets=1, size=5), "subsets"),
        (lambda: two_sample.cmmd(X * 0, Y), "x"),
        (lambda: two_sample.mmd2_from_gram(X @ X.T, Y @ Y.T, X[:5] @ Y.T), "xy"),
        (lambda: two_sample.mmd2_from_gram(X[:1] @ X[:1].T, Y @ Y.T, X[:1] @ Y.T), "xy"),
        (lambda: two_sample.mmd_permutation_test(X, Y, permutations=0), "permutations"),
        (lambda: two_sample.energy_distance(X, Y, exponent=2.5), "exponent"),
        (lambda: two_sample.energy_distance(X[:1], Y, unbiased=True), "x"),
        (lambda: two_sample.energy_score(X, Y), "samples"),
        (lambda: two_sample.energy_score(X[:, None], X), "samples"),
        (lambda: two_sample.crps(X, X[:5, 0]), "samples"),
        (lambda: two_sample.crps(X[:, :1], X[:, 0]), "samples"),
        (lambda: two_sample.characteristic_distance(X, Y, power=3), "power"),
        (lambda: two_sample.characteristic_distance(X, Y, alpha=-1.0), "alpha"),
        (lambda: two_sample.characteristic_distance(X, Y, n_frequencies=0), "n_frequencies"),
        (lambda: two_sample.characteristic_distance(X, Y, frequencies=Y[:, :2]), "frequencies"),
        (lambda: two_sample.GaussianFrequencies(0.0), "scale"),
        (lambda: two_sample.LearnedFrequencies(bound=-1.0), "LearnedFrequencies"),
        (lambda: two_sample.cauchy_schwarz(X, Y, 0.0), "bandwidth"),
        (lambda: two_sample.conditional_cauchy_schwarz(X, Y, Y[:5]), "z"),
        (lambda: two_sample.cauchy_schwarz_dependence(X, Y[:5]), "t"),
        (lambda: two_sample.wasserstein_1d(X, Y, 0.5), "p"),
        (lambda: two_sample.sliced_wasserstein(X, Y, n_projections=0), "n_projections"),
        (lambda: two_sample.sinkhorn_divergence(X, Y, 0.0), "blur"),
        (lambda: two_sample.sinkhorn_divergence(X, Y, 1.0, 3), "p"),
        (lambda: two_sample.exact_wasserstein(torch.zeros(3001, 1), Y[:, :1]), "x"),
        (lambda: two_sample.exact_wasserstein(X, Y, math.inf), "p"),
        (lambda: two_sample.prdc(X, Y, 0), "k"),
        (lambda: two_sample.expected_coverage(5, 5, 5), "k"),
        (lambda: two_sample.soft_precision_recall(X, Y, scale=0.0), "scale"),
        (lambda: two_sample.alpha_precision(X, Y, levels=1), "levels"),
        (lambda: two_sample.vendi(X, -1.0), "q"),
        (lambda: two_sample.vendi(X, path="dual", kernel=kernels.Gaussian(1.0)), "path"),
        (lambda: two_sample.vendi(X, weights=torch.zeros(40)), "weights"),
        (lambda: two_sample.by_group(two_sample.mmd2, X, Y, np.zeros(40), np.zeros(39)), "groups_y"),
        (lambda: kernels.Gaussian(math.nan), "bandwidth"),
        (lambda: kernels.Polynomial(0), "degree"),
        (lambda: kernels.Energy(3.0), "exponent"),
        (lambda: kernels.Sum(()), "kernels"),
        (lambda: random_relu(0), "width"),
        (lambda: Facts("x", "smaller"), "better"),
        (lambda: facts_of(float), "measure"),
    ],
)
def test_wrong_options(call, argument):
    with pytest.raises(ValueError, match=rf"^{argument}: expected "):
        call()


SHORT = Extractor(lambda rows: rows[1:], "short", "")
TIMES = {"draws": 2, "seeds": 1, "permutations": 4}


@pytest.mark.parametrize(
    ("real", "generated", "options", "words"),
    [
        (X, Y, {"extractor": SHORT}, "short: expected one row of features a row"),
        (X, Y[:, :2], {}, "expected 3 columns"),
        (X, Y * torch.nan, {}, "expected finite features, found nan in row 0, column 0"),
        (X, Y[:0], {}, "expected at least one row"),
        (X, Y, {"holdout": X[:, :2]}, "holdout: expected 3 columns"),
        (X, Y, {"holdout": X * torch.inf}, "holdout: expected finite features"),
        (X, Y, {"seeds": -1}, "seeds: expected counts >= 0"),
        (X[:1], Y, {}, r"expected at least (30|2) rows"),
    ],
    ids=["extractor", "widths", "NaN", "empty", "holdout's widths", "holdout's inf", "counts", "one row"],
)
def test_comparisons_of_what_cannot_be_compared(real, generated, options, words):
    with pytest.raises(ValueError, match=words):
        compare(real, generated, **TIMES | options)
    with pytest.raises(ValueError, match=words):
        assess(two_sample.frechet_distance, real, generated, **TIMES | options)


@pytest.mark.parametrize("odd", ["identical", "constant column", "constant in one", "duplicates"])
def test_comparisons_of_odd_sets(odd):
    found = compare(*ODD[odd], holdout=ODD[odd][1], **TIMES)
    assert all(math.isfinite(one.value) for one in found.assessments.values())
    assert math.isfinite(found.test.auc)


def test_rows_that_are_all_equal_hold_no_copies():
    with pytest.raises(ValueError, match="train: expected at least 2 different rows, found 40 equal ones"):
        compare(*ODD["all rows equal"], holdout=X, **TIMES)


def test_files_that_are_only_read_are_taken(tmp_path):
    """Rows of a read-only array without a copy; of another byte order, type or order in memory."""
    np.save(tmp_path / "rows.npy", X.float().numpy())
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert lazy_features(rows).data_ptr() == rows.ctypes.data
    other = (rows.astype(">f4"), rows[::-1][::-1], np.asfortranarray(rows), rows.astype(object), rows.tolist())
    for same in other:
        assert torch.equal(lazy_features(same).float(), X.float())
    for wrong in (rows.astype(complex), torch.eye(3).to_sparse(), rows[None]):
        with pytest.raises(ValueError, match="x: expected real features"):
            lazy_features(wrong)


def test_features_of_anything_else():
    with pytest.raises(ValueError, match="real: expected a matrix of numbers, found list"):
        features([["a", "b"]], "real")
    with pytest.raises(ValueError, match="real: expected real features"):
        features(torch.zeros(2, 2, dtype=torch.complex64), "real")
    with pytest.raises(ValueError, match="found -inf in row 0, column 1"):
        pair(X, np.array([[0.0, -np.inf, np.inf]]))
    large = torch.full((3, 2), 1e308, dtype=F64)  # a sum that overflows is no entry that does
    assert features(large).shape == (3, 2)
    assert features(torch.arange(6).reshape(3, 2)).dtype == F64


def test_rows_in_random_order():
    assert sorted(shuffled(9, generator(2)).tolist()) == list(range(9))
    drawn = some_rows(X, 7, generator(3))
    assert len(drawn.unique(dim=0)) == 7
    assert some_rows(X, 40) is X


def test_extractors():
    batch = torch.arange(24.0).reshape(2, 3, 4)
    assert flatten(batch).shape == (2, 12)
    assert identity(batch).shape == (2, 12)
    assert identity(torch.arange(3.0)).shape == (3, 1)
    layer = random_relu(16, seed=1)
    torch.testing.assert_close(layer(batch), layer(batch))
    assert layer(batch).shape == (2, 16)
    assert float(layer(batch).min()) == 0
    assert layer.fingerprint != random_relu(16, seed=2).fingerprint
    assert not torch.equal(layer(batch), random_relu(16, seed=2)(batch))
    assert fingerprint_of(batch) == fingerprint_of(batch.clone()) != fingerprint_of(batch + 1)
    fewer = Extractor(lambda rows: rows[1:], "fewer", "")
    with pytest.raises(ValueError, match="fewer: expected one row of features a row, 2 rows, found 1"):
        fewer(batch)
    with pytest.raises(ValueError, match="text: expected a tensor of features, found str"):
        Extractor(lambda rows: "no", "text", "")(batch)


def test_every_measure_states_its_facts():
    assert {facts.better for measure in known() for facts in facts_of(measure)} == {"lower", "higher", "near"}
    for measure in known():
        for facts in facts_of(functools.partial(measure)):
            assert facts.name
            assert facts.sample_size
