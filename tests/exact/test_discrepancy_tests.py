"""Tests of equal laws on the maximum mean discrepancy, kernels, and measures within groups."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from clarkia.measures import kernels, two_sample
from clarkia.random import generator, randn

F64 = torch.float64


def normal(n, d, *seed):
    return randn((n, d), generator(*seed), dtype=F64)


def by_definition(x, y, kernel, unbiased):
    def mean(a, b, same):
        gram = torch.stack([torch.stack([kernel(p[None], q[None])[0, 0] for q in b]) for p in a])
        return (gram.sum() - gram.trace()) / (len(a) * (len(a) - 1)) if same and unbiased else gram.mean()

    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


KERNELS = [
    kernels.Gaussian(0.7),
    kernels.Laplace(1.3),
    kernels.InverseMultiquadric(0.9),
    kernels.Polynomial(),
    kernels.Linear(),
    kernels.Energy(1.5),
    kernels.Sum((kernels.Gaussian(0.5), kernels.Linear())),
]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: type(k).__name__)
def test_discrepancy_by_definition(kernel):
    x, y = normal(13, 3, 0), normal(9, 3, 1) + 0.4
    for unbiased in (True, False):
        expected = float(by_definition(x, y, kernel, unbiased))
        for chunk in (4, 2048):
            assert float(two_sample.mmd2(x, y, kernel=kernel, unbiased=unbiased, chunk=chunk)) == pytest.approx(
                expected, abs=1e-12
            )
        grams = kernel(x, x), kernel(y, y), kernel(x, y)
        assert float(two_sample.mmd2_from_gram(*grams, unbiased=unbiased)) == pytest.approx(expected, abs=1e-12)


def test_kernels_of_two_points():
    x, y = torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 6.0]])  # r = 5, x.y = 16
    values = {
        kernels.Gaussian(2.0): math.exp(-25 / 8),
        kernels.Laplace(2.0): math.exp(-2.5),
        kernels.InverseMultiquadric(2.0): (1 + 25 / 8) ** -0.5,
        kernels.Polynomial(): 9.0**3,
        kernels.Linear(): 16.0,
        kernels.Energy(): -5.0,
    }
    for kernel, value in values.items():
        assert float(kernel(x, y)) == pytest.approx(value, rel=1e-14)
    assert float(kernels.Sum(tuple(values))(x, y)) == pytest.approx(sum(values.values()), rel=1e-14)
    mixture = kernels.gaussian_mixture(x, y)
    assert [kernel.bandwidth for kernel in mixture.kernels] == pytest.approx([1.25, 2.5, 5, 10, 20])


def test_bandwidth_does_not_depend_on_which_set_is_which():
    x, y = normal(30, 2, 2), normal(50, 2, 3) + 1
    assert kernels.gaussian_median(x, y).bandwidth == pytest.approx(kernels.gaussian_median(y, x).bandwidth, rel=1e-14)
    pooled = torch.pdist(torch.cat([x, y]))
    assert kernels.gaussian_median(x, y).bandwidth == pytest.approx(float(pooled.quantile(0.5)), rel=1e-12)


def test_gradient_goes_through_the_blocks():
    x, y = normal(11, 3, 4).requires_grad_(), normal(8, 3, 5)
    kernel = kernels.Gaussian(1.1)
    (whole,) = torch.autograd.grad(two_sample.mmd2(x, y, kernel=kernel), x)
    (parts,) = torch.autograd.grad(two_sample.mmd2(x, y, kernel=kernel, chunk=3), x)
    (plain,) = torch.autograd.grad(by_definition(x, y, kernel, True), x)
    torch.testing.assert_close(whole, plain, atol=1e-14, rtol=1e-10)
    torch.testing.assert_close(parts, plain, atol=1e-14, rtol=1e-10)


def test_permutations_in_one_pass():
    """Null values of the blocked pass are the discrepancies of the shuffled sets."""
    x, y = normal(12, 2, 6), normal(9, 2, 7) + 0.3
    kernel = kernels.Laplace(1.0)
    found = two_sample.mmd_permutation_test(x, y, kernel=kernel, permutations=5, chunk=4, generator=generator(8))
    assert found.value == pytest.approx(float(two_sample.mmd2(x, y, kernel=kernel)), abs=1e-13)
    from clarkia.measures.inputs import shuffled

    noise, pooled = generator(8), torch.cat([x, y])
    for null in found.null:
        first = shuffled(21, noise) < 12
        assert float(null) == pytest.approx(
            float(two_sample.mmd2(pooled[first], pooled[~first], kernel=kernel)), abs=1e-13
        )


def test_permutation_test_has_its_level_and_power():
    """p-values of one law are uniform on the multiples of 1/20; chi-square over 4 groups, false alarm 1e-3."""
    p_values = [
        two_sample.mmd_permutation_test(
            normal(20, 2, 9, i), normal(15, 2, 10, i), permutations=19, generator=generator(11, i)
        ).p_value
        for i in range(200)
    ]
    counts = torch.histc(torch.tensor(p_values) - 0.025, 4, 0, 1)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3
    far = two_sample.mmd_permutation_test(
        normal(50, 2, 12), normal(50, 2, 13) + 1, permutations=99, generator=generator(14)
    )
    assert far.p_value == 0.01
    x = normal(30, 2, 15)
    assert two_sample.mmd_permutation_test(x, x, permutations=19, generator=generator(16)).p_value > 0.5


def test_linear_time_test():
    """z is standard normal for one law: 200 of them, Kolmogorov-Smirnov, false alarm 1e-3."""
    kernel = kernels.Gaussian(1.0)
    z = [two_sample.mmd_linear_test(normal(400, 2, 17, i), normal(400, 2, 18, i), kernel=kernel).z for i in range(200)]
    assert stats.kstest(z, "norm").pvalue > 1e-3
    x, y = normal(2001, 2, 19), normal(2000, 2, 20) + 0.5
    far = two_sample.mmd_linear_test(x, y)
    assert far.p_value < 1e-3
    assert far.value == pytest.approx(float(two_sample.mmd2(x, y)), abs=0.05)
    one = torch.ones(8, 2)
    assert two_sample.mmd_linear_test(one, one).p_value == 1.0


def test_cmmd_is_on_the_unit_sphere():
    x, y = normal(20, 5, 21), normal(30, 5, 22) + 1
    unit = [rows / rows.norm(dim=1, keepdim=True) for rows in (x, y)]
    expected = 1000 * float(two_sample.mmd2(*unit, kernel=kernels.Gaussian(10.0), unbiased=False))
    assert float(two_sample.cmmd(7 * x, y)) == pytest.approx(expected, abs=1e-10)


def test_dependence_of_normal_variables():
    """0 for independent ones up to 1/n, growing with the correlation; the closed form of the joint and product laws."""
    noise = generator(23)
    x, e = randn((3000, 1), noise, dtype=F64), randn((3000, 1), noise, dtype=F64)
    found = []
    for rho in (0.0, 0.5, 0.9):
        t = rho * x + (1 - rho**2) ** 0.5 * e
        found.append(float(two_sample.cauchy_schwarz_dependence(x, t, x_bandwidth=0.5, t_bandwidth=0.5)))
        joint = torch.tensor([[1.0, rho], [rho, 1.0]], dtype=F64)
        zero, apart = torch.zeros(2, dtype=F64), torch.eye(2, dtype=F64)
        exact = float(two_sample.closed_forms.gaussian_cauchy_schwarz(zero, joint, zero, apart, 0.5))
        assert found[-1] == pytest.approx(exact, abs=0.01 + 0.1 * exact)
    assert found[0] < 0.01 < found[1] < found[2]


def test_conditional_divergence_by_definition():
    x, y, z = normal(15, 2, 24), normal(15, 1, 25), normal(15, 1, 26) + 0.5
    k, q = kernels.Gaussian(0.8), kernels.Gaussian(0.6)

    def s(first, second):
        gram = k(x, x)
        return (gram * q(first, second)).sum(1) / gram.sum(1).square()

    expected = s(y, y).sum().log() + s(z, z).sum().log() - 2 * s(z, y).sum().log()
    found = two_sample.conditional_cauchy_schwarz(x, y, z, input_bandwidth=0.8, output_bandwidth=0.6, chunk=4)
    assert float(found) == pytest.approx(float(expected), abs=1e-12)
    assert float(two_sample.conditional_cauchy_schwarz(x, y, y)) == pytest.approx(0, abs=1e-12)
    noise = generator(27)
    x = randn((1500, 1), noise, dtype=F64)
    y, same, other = (m * x + 0.3 * randn((1500, 1), noise, dtype=F64) for m in (1.0, 1.0, -1.0))
    near, far = (
        float(two_sample.conditional_cauchy_schwarz(x, y, made, input_bandwidth=0.2, output_bandwidth=0.3))
        for made in (same, other)
    )
    assert abs(near) < 0.02
    assert far > 0.5


def test_measure_within_groups():
    x, y = normal(40, 2, 28), normal(40, 2, 29)
    labels_x, labels_y = torch.arange(40) % 4 == 0, torch.arange(40) % 2 == 0
    whole, parts = two_sample.by_group(two_sample.frechet_distance, x, y, labels_x, labels_y)
    expected = {
        group: float(two_sample.frechet_distance(x[labels_x == group], y[labels_y == group])) for group in (True, False)
    }
    assert parts == pytest.approx(expected)
    assert float(whole) == pytest.approx(0.25 * expected[True] + 0.75 * expected[False])
    with pytest.raises(ValueError, match=r"groups_y: .* found 'a'"):
        two_sample.by_group(two_sample.mmd2, x[:2], y[:2], np.array(["a", "b"]), np.array(["b", "c"]))
