"""Local dimension of data on a plane, from the denoiser's Jacobian and from the flow's."""

import math

import pytest
import torch
from wrong_fields import turned

from clarkia import measures
from clarkia._math.jacobians import jacobian
from clarkia.oracles import GaussianMixture
from clarkia.processes import EDM, RectifiedFlow, VarianceExploding, VariancePreserving
from clarkia.random import generator, randn

PROCESSES = {"edm": EDM, "vp": VariancePreserving(), "flow": RectifiedFlow()}
PLANE = GaussianMixture([1.0], [[0.0, 0.0, 0.0]], [[1.0, 1.0, 0.0]])
LEVELS = [0.4, 0.2, 0.1, 0.05, 0.02]


@pytest.fixture(params=PROCESSES.values(), ids=PROCESSES.keys())
def process(request):
    return request.param


def third_axis(c):
    """An antisymmetric matrix that couples the third axis with the other two."""
    return c * torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [-1.0, -1.0, 0.0]], dtype=torch.float64)


def test_a_plane_has_two_dimensions_by_both_methods(process):
    x = PLANE.sample(5, generator=generator(0))
    for method in ("jacobian", "flow"):
        found = measures.intrinsic_dimension(
            PLANE.denoiser(process), process, x, method=method, noise_levels=LEVELS, num_steps=5, generator=generator(1)
        )
        assert found.dimension.tolist() == [2] * 5
        assert found.profile.shape == (5, 5)
        assert bool((found.profile == 2).all())


def test_the_flow_singular_values(process):
    """``sqrt((S_i + sigma^2) / (S_i + sigma_1^2))`` at every level."""
    variances = torch.tensor([1.0, 0.3, 0.0], dtype=torch.float64)
    oracle = GaussianMixture([1.0], [[0.2, -0.1, 0.5]], variances.reshape(1, 3))
    found = measures.intrinsic_dimension(
        oracle.denoiser(process), process, oracle.sample(3, generator=generator(2)), method="flow",
        noise_levels=LEVELS, num_steps=16, generator=generator(3),
    )  # fmt: skip
    levels = torch.tensor(LEVELS, dtype=torch.float64).reshape(-1, 1, 1)
    expected = ((variances + levels**2) / (variances + LEVELS[0] ** 2)).sqrt().expand(5, 3, 3)
    torch.testing.assert_close(found.spectrum, expected, rtol=1e-6, atol=1e-7)


def test_the_jacobian_eigenvalues(process):
    """``S_i / (S_i + sigma^2)`` of every direction."""
    variances = torch.tensor([1.0, 0.3, 0.01], dtype=torch.float64)
    oracle = GaussianMixture([1.0], [[0.2, -0.1, 0.5]], variances.reshape(1, 3))
    found = measures.intrinsic_dimension(
        oracle.denoiser(process), process, oracle.sample(3, generator=generator(4)), noise_levels=LEVELS
    )
    levels = torch.tensor(LEVELS, dtype=torch.float64).reshape(-1, 1, 1)
    expected = (variances / (variances + levels**2)).expand(5, 3, 3)
    torch.testing.assert_close(found.spectrum, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.soft, expected.sum(2), rtol=1e-10, atol=1e-10)
    # the third direction, 0.1 wide, is seen below a noise of 0.1 and not above
    assert found.profile[:, 0].tolist() == [2, 2, 3, 3, 3] or found.profile[:, 0].tolist() == [2, 2, 2, 3, 3]


@pytest.mark.parametrize("c", [0.0, 0.5, 2.0, 10.0])
def test_symmetrised_eigenvalues_of_a_turned_field(c):
    """``J = I - sigma^2 (I + A) (S + sigma^2)^-1``, whose symmetric part has eigenvalues 1, (1 +- sqrt(1 + 2 c^2)) / 2.

    Exactly two of them lie above one half for any c, and the trace does not see A at all.
    """
    sigma = 1e-3
    process = VarianceExploding(sigma_min=1e-4, sigma_max=80.0)
    field = turned(PLANE.denoiser(process), process, third_axis(c))
    x = PLANE.sample(1, generator=generator(5))
    found = measures.intrinsic_dimension(field, process, x, noise_levels=[sigma], generator=generator(6))
    root = math.sqrt(1 + 2 * c**2)
    expected = torch.tensor(sorted([1.0, 0.5 * (1 + root), 0.5 * (1 - root)], reverse=True), dtype=torch.float64)
    torch.testing.assert_close(found.spectrum[0, 0], expected, rtol=0, atol=20 * (1 + c**2) * sigma**2)
    assert int(found.dimension) == 2
    assert float(found.soft) == pytest.approx(2 / (1 + sigma**2), abs=1e-9)


def test_raw_singular_values_of_a_turned_field():
    """The raw Jacobian has full rank for c > 0; at moderate noise its third singular value passes one half.

    ``det J = 2 c^2 e (1 - e)`` with ``e = sigma^2 / (1 + sigma^2)`` and the two others tend to 1 and sqrt(1 + 2 c^2),
    so the third is about ``sqrt(2) c e``: it vanishes with the noise, but not before ``c e`` does.
    """
    process = EDM
    x = torch.zeros(1, 3, dtype=torch.float64)
    for c, sigma, raw in ((0.0, 0.1, 2), (0.5, 0.1, 2), (10.0, 0.3, 3)):
        t = process.t_of_kappa(torch.tensor([sigma], dtype=torch.float64))
        field = turned(PLANE.denoiser(process), process, third_axis(c))
        matrix = jacobian(field, x, t)[0]
        e = sigma**2 / (1 + sigma**2)
        expected = torch.eye(3, dtype=torch.float64) - (torch.eye(3).double() + third_axis(c)) * torch.tensor(
            [e, e, 1.0], dtype=torch.float64
        )
        torch.testing.assert_close(matrix, expected, rtol=1e-9, atol=1e-9)
        values = torch.linalg.svdvals(matrix)
        assert float(values.prod()) == pytest.approx(2 * c**2 * e * (1 - e), abs=1e-9)
        assert int((values > 0.5).sum()) == raw
        found = measures.intrinsic_dimension(field, process, x, noise_levels=[sigma], generator=generator(7))
        assert int(found.dimension) == 2


def test_dimension_differs_from_point_to_point():
    """A line and a plane far apart: each point gets the dimension of its own piece."""
    line, plane = torch.diag(torch.tensor([1.0, 0, 0, 0])), torch.diag(torch.tensor([0, 1.0, 1.0, 0]))
    oracle = GaussianMixture([0.5, 0.5], [[0, 0, 0, 9.0], [0, 0, 0, -9.0]], torch.stack([line, plane]).tolist())
    x = oracle.sample(40, generator=generator(8))
    expected = torch.where(x[:, 3] > 0, 1, 2)
    for method in ("jacobian", "flow"):
        found = measures.intrinsic_dimension(
            oracle.denoiser(EDM), EDM, x, method=method, num_steps=5, generator=generator(9)
        )
        assert found.dimension.tolist() == expected.tolist()
        assert len(found.noise_levels) == 8


def test_states_of_any_shape_and_precision():
    process = VariancePreserving()

    def denoise(x_t, t):
        assert t.dtype == x_t.dtype
        return x_t * torch.tensor([[1.0, 1.0], [0.0, 0.0]])

    x = randn((3, 2, 2), generator(10))
    found = measures.intrinsic_dimension(denoise, process, x, noise_levels=[0.1, 0.01], generator=generator(11))
    assert found.dimension.tolist() == [2, 2, 2]
    flow = measures.intrinsic_dimension(
        lambda x_t, t: x_t / process.coefficients(t.double(), x_t)[0] * torch.tensor([[1.0, 1.0], [0.0, 0.0]]),
        process, x, method="flow", noise_levels=[0.1, 0.01], generator=generator(12),
    )  # fmt: skip
    assert flow.dimension.tolist() == [2, 2, 2]
