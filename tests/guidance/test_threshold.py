"""The dynamic threshold of predictions."""

import numpy as np
import pytest
import torch

from clarkia import samplers
from clarkia.guidance import classifier_free, dynamic_threshold
from clarkia.oracles import GaussianMixture, MixedJoint
from clarkia.processes import EDM, Masked, Mixed, RectifiedFlow
from clarkia.random import generator, randn
from clarkia.testing import check_denoiser

SHAPE = (40, 3, 5, 4)
T = torch.full((40,), 0.5)


def answers(prediction):
    return lambda x_t, t, condition=None: prediction


def draws(scale, dtype=torch.float64):
    return scale * randn(SHAPE, generator(0), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rows_in_range_stay_bit_for_bit(dtype):
    prediction = draws(1.0, dtype).clamp(-1, 1)
    found = dynamic_threshold(answers(prediction))(prediction, T)
    assert found.dtype == dtype
    assert torch.equal(found, prediction)
    wide = 255 * prediction
    assert torch.equal(dynamic_threshold(answers(wide), bound=255.0)(wide, T), wide)


def test_a_row_scaled_up_comes_back():
    """Rows whose largest tenth is alike: any factor above 1 gives the same answer, and none below is undone."""
    row = draws(0.3).clamp(-0.5, 0.5) * 2
    row[..., -1, -1] = 1.0  # an edge that more than 5 % of the elements share
    assert float((row.abs() == 1).flatten(1).double().mean(1).min()) > 0.05
    for factor in (1.0, 1.5, 7.0):
        torch.testing.assert_close(dynamic_threshold(answers(factor * row))(row, T), row, rtol=0, atol=1e-14)
    assert torch.equal(dynamic_threshold(answers(0.5 * row))(row, T), 0.5 * row)


@pytest.mark.parametrize("quantile", [0.0, 0.5, 0.95, 0.993, 1.0])
@pytest.mark.parametrize("bound", [1.0, 0.25, 3.0])
def test_every_element_by_its_formula(quantile, bound):
    """Rows of many sizes, with the quantile of numpy."""
    prediction = draws(1.0) * torch.logspace(-1, 1, 40, dtype=torch.float64)[:, None, None, None]
    found = dynamic_threshold(answers(prediction), quantile, bound=bound)(prediction, T)
    rows = prediction.flatten(1).numpy()
    limits = [max(np.quantile(np.abs(row), quantile), bound) for row in rows]
    expected = [
        [min(max(value, -limit), limit) * bound / limit for value in row]
        for row, limit in zip(rows, limits, strict=True)
    ]
    np.testing.assert_allclose(found.flatten(1).numpy(), expected, rtol=1e-12, atol=0)
    assert sum(limit > bound for limit in limits) > 0 or quantile == 0
    assert float(found.abs().max()) <= bound * (1 + 1e-15)


def test_a_row_is_its_own():
    prediction = draws(4.0)
    whole = dynamic_threshold(answers(prediction))(prediction, T)
    for i in (0, 17):
        alone = dynamic_threshold(answers(prediction[i : i + 1]))(prediction[i : i + 1], T[:1])
        assert torch.equal(alone[0], whole[i])


def test_observed_elements_and_categories_stay():
    prediction, x = draws(4.0), draws(4.0)
    cells = torch.full(SHAPE, 0.5)
    cells[:, 0] = 0
    found = dynamic_threshold(answers(prediction))(x, cells)
    assert torch.equal(found[:, 0], prediction[:, 0])
    assert float(found[:, 1:].abs().max()) == 1
    logits = torch.randn(40, 2, 3)
    state = {"picture": x, "label": torch.zeros(40, 2, dtype=torch.int64)}
    both = answers({"picture": prediction, "label": logits})
    mixed = dynamic_threshold(both)(state, {"picture": cells, "label": T})
    assert torch.equal(mixed["label"], logits)
    assert torch.equal(mixed["picture"], found)
    assert torch.equal(dynamic_threshold(answers(logits))(state["label"], T), logits)


def test_it_keeps_the_contract_of_a_denoiser():
    law = GaussianMixture([0.4, 0.6], [[-2.0, 0.5], [1.0, 0.5]], [[[0.3, 0.1], [0.1, 0.2]]] * 2)
    for process in (EDM, RectifiedFlow()):
        check_denoiser(dynamic_threshold(law.denoiser(process), 0.5), process, law.sample(20, generator=generator(1)))
    joint, process = MixedJoint([0.5, 0.5], [[-1.0], [1.0]], 0.2), Mixed(numeric=EDM, levels=Masked((2,)))
    check_denoiser(dynamic_threshold(joint.denoiser(process)), process, joint.sample(20, generator=generator(2)))
    seen = []

    def denoise(x_t, t, condition=None):
        seen.append(condition)
        return x_t

    dynamic_threshold(denoise)(draws(1.0), T, "given")
    assert seen == ["given"]


@pytest.mark.parametrize("solver", [samplers.Euler(), samplers.Heun()])
def test_strong_guidance_draws_data_in_range(solver):
    """Two classes at 0.6 and -0.6, guided until samples leave [-1, 1]; held, none does."""
    process = RectifiedFlow()
    both = GaussianMixture([0.5, 0.5], [[-0.6] * 4, [0.6] * 4], [0.04, 0.04]).denoiser(process)
    upper = GaussianMixture([1.0], [[0.6] * 4], [0.04]).denoiser(process)

    def denoise(x_t, t, condition=None):
        return (both if condition is None else upper)(x_t, t)

    def drawn(denoiser):
        return samplers.sample(
            denoiser, process, num_samples=100, shape=(4,), condition="the upper", solver=solver, num_steps=20,
            generator=generator(3), dtype=torch.float64,
        )  # fmt: skip

    strong = classifier_free(denoise, 4.0)
    assert float(drawn(strong).abs().max()) > 1.1
    assert float(drawn(dynamic_threshold(strong)).abs().max()) <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [({"quantile": 1.1}, "quantile"), ({"quantile": -0.1}, "quantile"), ({"bound": 0.0}, "bound")],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        dynamic_threshold(answers(None), **options)
