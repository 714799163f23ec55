"""Linear operators against their matrices, and the likelihoods of what is not linear."""

import math

import pytest
import torch
from scipy.stats import norm

from clarkia import operators
from clarkia.operators import (
    Blur,
    Dense,
    Downsample,
    Mask,
    Measurement,
    Nonlinear,
    Quantise,
    Radon,
    Stack,
    conjugate_gradients,
    gaussian_kernel,
    minimal_residual,
)
from clarkia.operators import linear as linear_module
from clarkia.random import generator, rand, randn

SLANTED = randn((3, 5), generator(1), dtype=torch.float64)
DEFICIENT = randn((5, 2), generator(3), dtype=torch.float64) @ randn((2, 6), generator(4), dtype=torch.float64)
ONE_SIDED = [0.5, 0.3, 0.2]
PICTURE = (2, 6, 8)


def some_mask(shape):
    return rand(shape, generator(2)) < 0.4


OPERATORS = {
    "mask": lambda: Mask(some_mask(PICTURE)),
    "downsample": lambda: Downsample(PICTURE, 2),
    "downsample a line": lambda: Downsample((12,), 3),
    "dense": lambda: Dense(randn((4, 6), generator(3)), (2, 3)),
    "dense of low rank": lambda: Dense(DEFICIENT),
    "blur, separable": lambda: Blur(PICTURE, gaussian_kernel(5, 1.0)),
    "blur, one-sided": lambda: Blur(PICTURE, ONE_SIDED),
    "blur, wider than the picture": lambda: Blur((3, 4), gaussian_kernel(9, 3.0)),
    "blur, slanted": lambda: Blur(PICTURE, SLANTED),
    "blur of a line": lambda: Blur((7,), ONE_SIDED),
    "blur on a torus": lambda: Blur(PICTURE, SLANTED, "circular"),
    "blur on a torus, one-sided": lambda: Blur(PICTURE, ONE_SIDED, "circular"),
    "blur on a torus, with zeros": lambda: Blur((4, 4), [1 / 4, 1 / 2, 1 / 4], "circular"),
    "blur of a ring": lambda: Blur((6,), ONE_SIDED, "circular"),
    "radon": lambda: Radon((5, 6), [0.3, 1.2, 2.0]),
    "radon of two channels": lambda: Radon((2, 4, 4), [0.3, 1.2]),
    "stack": lambda: Stack(Mask(some_mask((4, 6))), Downsample((4, 6), 2), Blur((4, 6), ONE_SIDED)),
}
each = pytest.mark.parametrize("name", OPERATORS)


@pytest.fixture(params=["with singular values", "without"])
def operator(request, name, monkeypatch):
    """The operator, and the same with everything left to conjugate gradients."""
    made = OPERATORS[name]()
    if request.param == "without":
        monkeypatch.setattr(type(made), "_decompose", lambda self: None)
        assert made.svd() is None
    return made


@each
def test_the_adjoint_turns_the_inner_product_over(name, operator):
    x = randn((3, *operator.shape), generator(5), dtype=torch.float64)
    y = randn((3, *operator.measured_shape), generator(6), dtype=torch.float64)
    forward = (operator.apply(x) * y).flatten(1).sum(1)
    torch.testing.assert_close(forward, (x * operator.adjoint(y)).flatten(1).sum(1), rtol=0, atol=1e-12)
    single = operator.adjoint(operator.apply(x.float()))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), operator.adjoint(operator.apply(x)), rtol=1e-4, atol=1e-4)


@each
def test_the_pseudo_inverse_and_the_solutions_are_those_of_the_matrix(name, operator):
    matrix = operator.matrix()
    y = randn((4, *operator.measured_shape), generator(7), dtype=torch.float64)
    exact = y.flatten(1) @ torch.linalg.pinv(matrix, rtol=1e-10).T
    torch.testing.assert_close(operator.pinv(y).flatten(1), exact, rtol=1e-6, atol=1e-6)
    square = matrix @ matrix.T
    eye = torch.eye(len(square), dtype=torch.float64)
    for weight, variance in ((0.7, 0.2), (0.0, 0.5), (1.3, 0.01)):
        solved = torch.linalg.solve(weight * square + variance * eye, y.flatten(1).T).T
        torch.testing.assert_close(operator.solve(weight, variance, y).flatten(1), solved, rtol=1e-7, atol=1e-7)
    weights = torch.tensor([0.0, 0.5, 1.0, 2.0], dtype=torch.float64)
    by_row = operator.solve(weights, 0.3, y).flatten(1)
    for row, weight in enumerate(weights):
        solved = torch.linalg.solve(weight * square + 0.3 * eye, y[row].flatten())
        torch.testing.assert_close(by_row[row], solved, rtol=1e-7, atol=1e-7)
    inside = operator.apply(operator.pinv(y))
    gap = (y.flatten(1) - y.flatten(1) @ (matrix @ torch.linalg.pinv(matrix, rtol=1e-10)).T).norm(dim=1)
    torch.testing.assert_close(operator.distance_to_range(y), gap, rtol=1e-6, atol=1e-6)
    assert float(operator.distance_to_range(inside).max()) < 1e-6


@each
def test_a_singular_solution_is_the_shortest(name, operator):
    """``(A A^T)^+ r`` for a residual that some point gives."""
    r = operator.apply(randn((2, *operator.shape), generator(8), dtype=torch.float64))
    matrix = operator.matrix()
    exact = r.flatten(1) @ torch.linalg.pinv(matrix @ matrix.T, rtol=1e-10, hermitian=True).T
    torch.testing.assert_close(operator.solve(1.0, 0.0, r).flatten(1), exact, rtol=1e-4, atol=1e-4)


@each
def test_singular_values_put_the_matrix_together(name):
    operator = OPERATORS[name]()
    svd = operator.svd()
    x = randn((3, *operator.shape), generator(9), dtype=torch.float64)
    torch.testing.assert_close(svd.u(svd.values * svd.v_t(x)), operator.apply(x), rtol=0, atol=1e-12)
    rank = len(svd.values)
    assert rank == int(torch.linalg.matrix_rank(operator.matrix(), rtol=1e-10))
    c = randn((3, rank), generator(10), dtype=torch.float64)
    for there, back in ((svd.v, svd.v_t), (svd.u, svd.u_t)):
        torch.testing.assert_close(back(there(c)), c, rtol=0, atol=1e-12)  # orthonormal columns
    torch.testing.assert_close((svd.v(c) * x).flatten(1).sum(1), (c * svd.v_t(x)).sum(1), rtol=0, atol=1e-12)
    y = randn((3, *operator.measured_shape), generator(11), dtype=torch.float64)
    torch.testing.assert_close((svd.u(c) * y).flatten(1).sum(1), (c * svd.u_t(y)).sum(1), rtol=0, atol=1e-12)


@each
def test_gradients_run_through_an_operator(name):
    operator = OPERATORS[name]()
    x = randn((2, *operator.shape), generator(12), dtype=torch.float64).requires_grad_()
    y = randn((2, *operator.measured_shape), generator(13), dtype=torch.float64)
    (slope,) = torch.autograd.grad((operator.apply(x) * y).sum(), x)
    torch.testing.assert_close(slope, operator.adjoint(y), rtol=0, atol=1e-12)


def test_a_blur_is_the_weighted_sum_it_says():
    """The point after the centre has the weight after the centre; outside, the edge is repeated and then mirrored."""
    line = torch.tensor([[1.0, 2.0, 4.0, 8.0]], dtype=torch.float64)
    reflected = Blur((4,), [0.5, 0.3, 0.2]).apply(line)
    torch.testing.assert_close(
        reflected, torch.tensor([[0.5 + 0.3 + 0.4, 0.5 + 0.6 + 0.8, 1 + 1.2 + 1.6, 2 + 2.4 + 1.6]]).double()
    )
    around = Blur((4,), [0.5, 0.3, 0.2], "circular").apply(line)
    torch.testing.assert_close(around[0, [0, 3]], torch.tensor([4 + 0.3 + 0.4, 2 + 2.4 + 0.2]).double())
    picture = randn((1, 1, 6, 7), generator(14), dtype=torch.float64)
    padded = torch.nn.functional.pad(picture, (2, 2, 1, 1), mode="circular")
    expected = torch.nn.functional.conv2d(padded, SLANTED[None, None])
    torch.testing.assert_close(Blur((1, 6, 7), SLANTED, "circular").apply(picture), expected)


def test_projections_keep_the_total_and_the_centre():
    angles = torch.linspace(0, 3, 7, dtype=torch.float64)
    operator = Radon((5, 8), angles)
    picture = rand((2, 5, 8), generator(15))
    bins = operator.apply(picture)
    torch.testing.assert_close(bins.sum(2), picture.sum((1, 2))[:, None].expand(2, 7))
    place = torch.arange(operator.num_bins) - (operator.num_bins - 1) / 2
    x = (picture.sum(1) * (torch.arange(8) - 3.5)).sum(1)
    y = (picture.sum(2) * (torch.arange(5) - 2)).sum(1)
    expected = x[:, None] * angles.cos() + y[:, None] * angles.sin()
    torch.testing.assert_close((bins * place).sum(2), expected)


def test_large_operators_are_left_to_conjugate_gradients(monkeypatch):
    monkeypatch.setattr(linear_module, "DENSE_LIMIT", 10)
    operator = Stack(Dense(randn((3, 6), generator(16))), Dense(randn((2, 6), generator(17))))
    assert operator.svd() is None
    y = randn((2, 5), generator(18), dtype=torch.float64)
    torch.testing.assert_close(operator.pinv(y), y @ torch.linalg.pinv(operator.matrix()).T, rtol=1e-8, atol=1e-8)


def test_conjugate_gradients_take_one_product_a_distinct_eigenvalue():
    values = torch.tensor([1.0, 2.0, 2.0, 5.0], dtype=torch.float64)
    b = randn((3, 4), generator(19), dtype=torch.float64)
    calls = []

    def product(x):
        calls.append(1)
        return values * x

    torch.testing.assert_close(conjugate_gradients(product, b), b / values, rtol=1e-10, atol=1e-12)
    assert len(calls) == 3
    assert bool((conjugate_gradients(product, torch.zeros_like(b)) == 0).all())


def test_minimal_residuals_solve_systems_that_are_not_symmetric():
    """As many products as there are dimensions solve exactly, and fewer leave less than nothing would."""
    matrices = randn((3, 4, 4), generator(23), dtype=torch.float64) + 2 * torch.eye(4, dtype=torch.float64)
    b = randn((3, 4), generator(24), dtype=torch.float64)

    def product(x):
        return (matrices @ x[..., None])[..., 0]

    exact = torch.linalg.solve(matrices, b)
    torch.testing.assert_close(minimal_residual(product, b, iterations=4, tolerance=0.0), exact, rtol=1e-9, atol=1e-9)
    left = [(b - product(minimal_residual(product, b, iterations=n))).norm(dim=1) for n in (1, 2, 3)]
    assert bool((left[0] < b.norm(dim=1)).all() and (left[1] < left[0]).all() and (left[2] < left[1]).all())
    # by least squares over b, M b, M^2 b
    powers = torch.stack([b, product(b)], -1)
    best = torch.linalg.lstsq(matrices @ powers, b[..., None]).solution
    torch.testing.assert_close(minimal_residual(product, b, iterations=2), (powers @ best)[..., 0])
    # rows that are finished early stay
    b[0] = 0
    matrices[1] = 3 * torch.eye(4, dtype=torch.float64)
    exact = torch.linalg.solve(matrices, b)
    torch.testing.assert_close(minimal_residual(product, b, iterations=6, tolerance=0.0), exact, rtol=1e-9, atol=1e-9)


# ------------------------------------------------------------------------------------------------ not linear


@pytest.mark.parametrize("bits", [1, 3])
def test_quantised_elements_have_the_probability_of_their_interval(bits):
    operator, n = Quantise((4,), bits), 50
    x = 1.5 * randn((n, 4), generator(20), dtype=torch.float64)
    y = operator.apply(x)
    edges = torch.linspace(-1, 1, 2**bits + 1, dtype=torch.float64)
    edges[0], edges[-1] = -torch.inf, torch.inf
    assert bool(((edges[y] <= x) & (x < edges[y + 1])).all())
    assert y.unique().tolist() == list(range(2**bits))
    other = operator.apply(x.flip(0))
    found = operator.log_likelihood(x, other, 0.4)
    exact = norm.cdf((edges[other + 1] - x) / 0.4) - norm.cdf((edges[other] - x) / 0.4)
    torch.testing.assert_close(found.exp(), torch.from_numpy(exact).prod(1), rtol=1e-9, atol=1e-15)
    certain = operator.log_likelihood(x, y, 0.0)
    assert bool((certain == 0).all())
    assert bool((operator.log_likelihood(x, (y + 1) % 2**bits, 0.0) == -torch.inf).all())


def test_the_likelihood_of_an_interval_far_away_is_finite_and_leads_there():
    operator = Quantise((2,), 3)
    x = torch.tensor([[40.0, -40.0]], dtype=torch.float64, requires_grad=True)
    value = operator.log_likelihood(x, torch.tensor([[4, 3]]), 0.5)
    (slope,) = torch.autograd.grad(value.sum(), x)
    # of a narrow interval that begins at 0.25 the log-probability falls like -(x - 0.25)^2 / 2 sigma^2
    torch.testing.assert_close(slope, torch.tensor([[-159.0, 159.0]]).double(), rtol=0.01, atol=0)
    assert bool(value.isfinite())


def test_any_function_with_normal_noise():
    operator = Nonlinear(lambda x: x[:, :1] * x[:, 1:], (2,))
    x = torch.tensor([[2.0, 3.0], [1.0, 1.0]])
    y = torch.tensor([5.5])
    expected = norm.logpdf(5.5, [6.0, 1.0], 0.5)
    torch.testing.assert_close(operator.log_likelihood(x, y, 0.5), torch.from_numpy(expected))
    assert operator.apply(x).tolist() == [[6.0], [1.0]]


# ----------------------------------------------------------------------------------------------- measurements


def test_the_likelihood_of_a_measurement():
    matrix = randn((2, 3), generator(21), dtype=torch.float64)
    measurement = Measurement(Dense(matrix), torch.tensor([0.5, -1.0], dtype=torch.float64), 0.3)
    x = randn((4, 3), generator(22), dtype=torch.float64)
    exact = torch.from_numpy(norm.logpdf(x @ matrix.T, [0.5, -1.0], 0.3)).sum(1)
    torch.testing.assert_close(measurement.log_likelihood(x), exact)
    torch.testing.assert_close(measurement.residual(x), torch.tensor([0.5, -1.0]) - x @ matrix.T)


def test_a_certain_measurement_must_be_possible():
    operator = Dense([[1.0, 0.0], [2.0, 0.0]])
    Measurement(operator, torch.tensor([1.0, 2.0]), 0.0)
    Measurement(operator, torch.tensor([1.0, 2.5]), 0.1)
    # (1, 2.5) is 0.5 / sqrt(5) = 0.224 away from the multiples of (1, 2)
    with pytest.raises(ValueError, match=r"y: .* distance 0\.224 .* give noise_std > 0"):
        Measurement(operator, torch.tensor([[1.0, 2.0], [1.0, 2.5]]), 0.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Mask(torch.zeros(3, dtype=torch.bool)), "measured: expected"),
        (lambda: Mask(torch.ones(3)), "measured: expected booleans"),
        (lambda: Downsample((1, 6, 8), 4), "factor: expected a divisor"),
        (lambda: Dense(torch.ones(2, 3), (2, 2)), "shape: expected 3 elements"),
        (lambda: Dense([[math.nan]]), "matrix: expected finite"),
        (lambda: Blur((4, 4), torch.ones(2)), "kernel: expected odd"),
        (lambda: Blur((4,), torch.ones(3, 3)), "kernel: expected odd"),
        (lambda: Blur((4, 4), torch.ones(3), "zero"), "boundary: expected"),
        (lambda: gaussian_kernel(4, 1.0), "size, std: expected"),
        (lambda: Radon((4,), [0.0]), "shape, angles: expected"),
        (lambda: Stack(Dense(torch.ones(3)), Dense(torch.ones(2))), "operators: expected"),
        (lambda: Stack(), "operators: expected"),
        (lambda: Downsample((4, 4), 2).apply(torch.ones(3, 4, 5)), r"x: expected .* \(n, 4, 4\), found"),
        (lambda: Downsample((4, 4), 2).apply(torch.ones(3, 4, 4, dtype=torch.int64)), "x: expected a floating"),
        (lambda: Downsample((4, 4), 2).adjoint(torch.ones(2, 2)), r"y: expected .* \(n, 2, 2\), found"),
        (lambda: Dense(torch.ones(3)).solve(torch.ones(3), 1.0, torch.ones(2, 1)), "weight, variance: expected"),
        (lambda: Quantise((2,), 0), "bits, low, high: expected"),
        (lambda: Quantise((2,)).apply(torch.ones(2, 3)), r"x: expected shape \(n, 2\)"),
        (lambda: Quantise((2,)).log_likelihood(torch.ones(1, 2), torch.ones(1, 2), -1.0), "noise_std: expected"),
        (lambda: Nonlinear(torch.exp, (2,)).log_likelihood(torch.ones(1, 2), 1.0, 0.0), "noise_std: expected"),
        (lambda: Measurement(Dense(torch.ones(3)), torch.ones(2), 0.1), r"y: expected a floating .* \(1\) or \(n, 1\)"),
        (lambda: Measurement(Dense(torch.ones(3)), torch.tensor([math.nan]), 0.1), "y: expected finite"),
        (lambda: Measurement(Dense(torch.ones(3)), torch.ones(1), -0.1), "noise_std: expected"),
        (
            lambda: Measurement(Dense(torch.ones(3)), torch.ones(2, 1), 0.1).residual(torch.ones(3, 3)),
            "y: expected one measurement or one for each of 3 rows, found 2",
        ),
        (
            lambda: Measurement(Dense(torch.ones(3)), torch.ones(1), 0.0).log_likelihood(torch.ones(3, 3)),
            "noise_std: expected a positive",
        ),
    ],
)
def test_wrong_arguments_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_operators_are_interfaces_or_final():
    with pytest.raises(TypeError):
        operators.LinearOperator()
