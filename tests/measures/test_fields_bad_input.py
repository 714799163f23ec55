"""What the diagnostics of a field say to arguments that they cannot take."""

import math

import pytest
import torch

from clarkia import measures
from clarkia.processes import EDM, Masked, VarianceExploding

X = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
BAD = X.clone()
BAD[5, 1] = math.nan


def denoise(x, t):
    return 0.5 * x


def jump(x, t, s):
    return x


FIELD = {
    "fokker_planck_residual": lambda x=X, t=0.5, p=EDM, **o: measures.fokker_planck_residual(denoise, p, x, t, **o),
    "potential_residual": lambda x=X, t=0.5, p=EDM, **o: measures.potential_residual(
        lambda x, t: x.sum(1), p, x, t, **o
    ),
    "conservativity": lambda x=X, t=0.5, p=EDM, **o: measures.conservativity(denoise, p, x, t, **o),
    "stein_test": lambda x=X, t=0.5, p=EDM, **o: measures.stein_test(denoise, p, x, t, **{"num_functions": 2, **o}),
    "gauge_decomposition": lambda x=X, t=0.5, p=EDM, **o: measures.gauge_decomposition(denoise, p, x, t, **o),
    "jacobian_rank": lambda x=X, t=0.5, p=EDM, **o: measures.jacobian_rank(denoise, p, x, t, **o),
    "semantic_directions": lambda x=X, t=0.5, p=EDM, **o: measures.semantic_directions(denoise, p, x, t, **o),
    "flow_map_residuals": lambda x=X, t=0.5, p=EDM, **o: measures.flow_map_residuals(
        jump, p, denoise, x, t, **{"s": 0.2, **o}
    ),
}
every_field = pytest.mark.parametrize("call", FIELD.values(), ids=FIELD.keys())


@every_field
def test_good_arguments_pass(call):
    call()


@every_field
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"p": Masked(3)}, "process: expected a Gaussian process, found Masked."),
        ({"x": X.tolist()}, "x_t: expected a floating-point tensor, found list."),
        ({"x": torch.ones(4, 2, dtype=torch.int64)}, "x_t: expected a floating-point tensor, found torch.int64."),
        ({"x": X[0]}, "x_t: expected shape (n, ...) with n >= "),
        ({"x": X[:0]}, "x_t: expected shape (n, ...) with n >= "),
        ({"x": X[:, :0]}, "found (8, 0)."),
        ({"x": BAD}, "x_t: expected finite numbers, found NaN or infinity in row 5."),
        ({"t": 0.0}, "t: expected times in (0, 1], found 0 to 0."),
        ({"t": torch.linspace(0.5, 1.2, 8)}, "t: expected times in (0, 1], found 0.5 to 1.2."),
        ({"t": math.nan}, "t: expected times in (0, 1], found nan to nan."),
        ({"t": torch.full((3,), 0.5)}, "t: expected one time or shape (8,), found (3,)."),
    ],
)
def test_bad_states_and_times(call, arguments, sentence):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        call(**arguments)
    assert sentence in str(caught.value)


HALF = torch.tensor([True, True, False])
ROWS = {
    "probes": lambda: FIELD["fokker_planck_residual"](probes=0),
    "probes ": lambda: FIELD["conservativity"](probes=1.5),
    "num_functions": lambda: FIELD["stein_test"](num_functions=7),
    "bandwidth": lambda: FIELD["stein_test"](bandwidth=0.0),
    "num_features": lambda: FIELD["gauge_decomposition"](num_features=0),
    "t": lambda: FIELD["gauge_decomposition"](t=torch.linspace(0.1, 0.9, 8)),
    "share": lambda: FIELD["jacobian_rank"](share=1.0),
    "components": lambda: FIELD["jacobian_rank"](components=True),
    "k": lambda: FIELD["semantic_directions"](k=4),
    "mask": lambda: FIELD["semantic_directions"](mask=torch.ones(3, dtype=torch.bool)),
    "mask ": lambda: FIELD["semantic_directions"](mask=torch.tensor([True, False])),
    "protected": lambda: FIELD["semantic_directions"](mask=HALF, protected=3),
    "protected ": lambda: FIELD["semantic_directions"](protected=1),
    "s": lambda: FIELD["flow_map_residuals"](s=0.0),
    "between": lambda: FIELD["flow_map_residuals"](between=2.0),
    "flow_map": lambda: measures.flow_map_residuals(lambda x, t, s: x[:, :1], EDM, denoise, X, 0.5, 0.2),
    "flow_map ": lambda: measures.flow_map_residuals(lambda x, t, s: None, EDM, denoise, X, 0.5, 0.2),
    "process": lambda: measures.ode_sde_gap(denoise, Masked(2), data=X),
    "data": lambda: measures.ode_sde_gap(denoise, EDM, data=BAD),
    "data ": lambda: measures.ode_sde_gap(denoise, EDM, data=X[:1]),
    "num_samples": lambda: measures.ode_sde_gap(denoise, EDM, data=X, num_samples=1),
    "num_steps": lambda: measures.ode_sde_gap(denoise, EDM, data=X, num_steps=0),
    "times": lambda: measures.ode_sde_gap(denoise, EDM, data=X, times=torch.tensor([0.0, 1.0])),
    "num_bins": lambda: measures.ode_sde_gap(denoise, EDM, data=X, num_bins=-1),
    "points_per_bin": lambda: measures.ode_sde_gap(denoise, EDM, data=X, points_per_bin="2"),
    "x": lambda: measures.intrinsic_dimension(denoise, EDM, BAD),
    "method": lambda: measures.intrinsic_dimension(denoise, EDM, X, method="slope"),
    "noise_levels": lambda: measures.intrinsic_dimension(denoise, EDM, X, noise_levels=[0.1, 0.1]),
    "noise_levels ": lambda: measures.intrinsic_dimension(denoise, EDM, X, noise_levels=[-0.1]),
    "noise_levels  ": lambda: measures.intrinsic_dimension(denoise, EDM, X, noise_levels=[100.0]),
    "noise_levels   ": lambda: measures.intrinsic_dimension(denoise, EDM, X, method="flow", noise_levels=[0.1]),
    "noise_levels    ": lambda: measures.intrinsic_dimension(
        denoise, VarianceExploding(sigma_min=0.1, sigma_max=1.0), X, noise_levels=[0.01]
    ),
    "num_steps ": lambda: measures.intrinsic_dimension(denoise, EDM, X, method="flow", num_steps=0),
    "x ": lambda: measures.recover_subspaces(X.reshape(4, 2, 3), 2, 1),
    "num_subspaces": lambda: measures.recover_subspaces(X, 0, 1),
    "dim": lambda: measures.recover_subspaces(X, 2, 4),
    "initial": lambda: measures.recover_subspaces(X, 2, 1, initial=torch.ones(2, 3)),
    "restarts": lambda: measures.recover_subspaces(X, 2, 1, restarts=0),
    "num_iterations": lambda: measures.recover_subspaces(X, 2, 1, num_iterations=0),
    "found": lambda: measures.subspace_error(torch.ones(2, 3, 1), torch.ones(1, 3, 1)),
    "data  ": lambda: measures.collapse_level(BAD),
    "data   ": lambda: measures.collapse_level(X[:1].expand(5, 3)),
    "data    ": lambda: measures.collapse_level(X[:2]),
    "process ": lambda: measures.collapse_level(X, denoise),
    "noise_levels     ": lambda: measures.collapse_level(X, noise_levels=[]),
    "num_samples ": lambda: measures.collapse_level(X, num_samples=0),
    "variances": lambda: measures.gaussian_collapse(torch.zeros(3), 10),
    "num_rows": lambda: measures.gaussian_collapse(torch.ones(3), 1),
    "x  ": lambda: measures.singularity_report(BAD),
    "x   ": lambda: measures.singularity_report(X[:2]),
    "neighbours": lambda: measures.singularity_report(X, neighbours=(5, 5)),
    "neighbours ": lambda: measures.singularity_report(X, neighbours=(0, 5)),
    "smoothness": lambda: measures.singularity_report(X, smoothness=0.0),
    "holdout": lambda: measures.choose_instance_noise(lambda noise: X, BAD),
    "levels": lambda: measures.choose_instance_noise(lambda noise: X, X, levels=[-0.1]),
    "levels ": lambda: measures.choose_instance_noise(lambda noise: X, X, levels=[]),
    "sample": lambda: measures.choose_instance_noise(lambda noise: X[:, :2], X),
    "sample ": lambda: measures.choose_instance_noise(lambda noise: BAD, X),
    "x    ": lambda: measures.ppca_noise(X[0], 1),
    "dim ": lambda: measures.ppca_noise(X, 3),
}


@pytest.mark.parametrize(("name", "call"), ROWS.items(), ids=[f"{i}-{name.strip()}" for i, name in enumerate(ROWS)])
def test_the_sentence_names_the_argument_what_was_expected_and_what_found(name, call):
    with pytest.raises(ValueError, match=rf"^{name.strip()}: expected .*, found .*\.$"):
        call()
