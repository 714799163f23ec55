"""Gradients of a loss as features of rows: closed forms, checkpoints, projection."""

import pytest
import torch
from torch import nn

from clarkia import curation
from clarkia.random import generator, randn


def squared_error(call, row):
    x, y = row
    return (call(x).squeeze(1) - y).square() / 2


def regression(n=9, d=4):
    torch.manual_seed(0)
    model = nn.Linear(d, 1, dtype=torch.float64)
    x, y = randn((n, d), generator(0), dtype=torch.float64), randn((n,), generator(1), dtype=torch.float64)
    return model, x, y


def test_the_gradient_of_linear_regression():
    model, x, y = regression()
    found = curation.gradient_features(model, squared_error, (x, y), batch_size=4)
    residual = (model(x).squeeze(1) - y).detach()[:, None]
    torch.testing.assert_close(found, torch.cat([residual * x, residual], 1))
    only = curation.gradient_features(model, squared_error, (x, y), parameters=["bias"])
    torch.testing.assert_close(only, residual)


def test_all_checkpoints_count():
    """The published code averages over checkpoints and then whitens the gradients of the last one."""
    model, x, y = regression()
    states = [{name: value + shift for name, value in model.state_dict().items()} for shift in (0.0, 0.5, -2.0)]
    each = [curation.gradient_features(model, squared_error, (x, y), checkpoints=[state]) for state in states]
    found = curation.gradient_features(model, squared_error, (x, y), checkpoints=states)
    torch.testing.assert_close(found, torch.stack(each).mean(0))
    assert float((found - each[-1]).abs().max()) > 0.1
    torch.testing.assert_close(
        found, curation.gradient_features(model, squared_error, (x, y), checkpoints=states[::-1])
    )


def test_the_projection_keeps_inner_products():
    """Over 300 draws of the signs: unbiased within four standard errors, of the stated size (false alarm 1e-3)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 1)).double()
    x, y = randn((3, 6), generator(0), dtype=torch.float64), randn((3,), generator(1), dtype=torch.float64)
    whole = curation.gradient_features(model, squared_error, (x, y))
    assert whole.shape == (3, 81)
    dim, draws = 16, 300
    parts = [
        curation.gradient_features(model, squared_error, (x, y), dim=dim, generator=generator(7, i))
        for i in range(draws)
    ]
    assert parts[0].shape == (3, dim)
    products = torch.stack([part @ part.T for part in parts])
    bound = (2 / dim) ** 0.5 * torch.outer(whole.norm(dim=1), whole.norm(dim=1))
    assert bool(((products.mean(0) - whole @ whole.T).abs() < 4 * bound / draws**0.5).all())
    assert bool((products.std(0) < 1.2 * bound).all())
    assert float(products.std(0)[0, 0]) > 0.3 * float(bound[0, 0])


def test_one_seed_projects_candidates_and_targets_alike_in_batches_of_any_size():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 40), nn.Tanh(), nn.Linear(40, 1)).double()
    x, y = randn((7, 6), generator(0), dtype=torch.float64), randn((7,), generator(1), dtype=torch.float64)
    found = [
        curation.gradient_features(model, squared_error, (x, y), dim=32, batch_size=size, generator=generator(3))
        for size in (1, 3, 32)
    ]
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0], found[2])
    assert float((found[0] - curation.gradient_features(
        model, squared_error, (x, y), dim=32, generator=generator(4)
    )).abs().max()) > 0.1  # fmt: skip


def test_the_model_is_run_in_evaluation_mode_and_left_as_it_was():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
    model(torch.randn(20, 3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    data = {"x": torch.randn(5, 3), "y": torch.randn(5)}
    found = curation.gradient_features(model, lambda call, row: call(row["x"]).squeeze(1) - row["y"], data)
    assert found.dtype == torch.float64
    again = curation.gradient_features(model, lambda call, row: call(row["x"]).squeeze(1) - row["y"], data)
    torch.testing.assert_close(found, again)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"dim": 0}, "dim: expected a whole number of at least 1, found 0."),
        ({"data": (torch.ones(3, 4), torch.ones(2))}, "data: expected tensors of one positive number of rows, found"),
        ({"data": [1.0]}, "data: expected tensors with rows, found list."),
        ({"parameters": ["wight"]}, "parameters: expected names among ['bias', 'weight'], found ['wight']."),
        ({"parameters": []}, "parameters: expected names among ['bias', 'weight'], found none."),
        ({"checkpoints": []}, "checkpoints: expected at least one state dict or None, found an empty sequence."),
        ({"checkpoints": [{"bias": torch.ones(1)}]}, "in entry 0, found 'weight' amiss."),
        ({"loss": lambda call, row: call(row[0]).expand(1, 2)}, "loss: expected one number a row, found shape (1, 2)."),
        ({"loss": lambda call, row: call(row[0]) / 0}, "found NaN or infinity at row 0."),
    ],
)
def test_bad_arguments(change, sentence):
    model, x, y = regression()
    arguments = {"model": model, "loss": squared_error, "data": (x, y), **change}
    with pytest.raises(ValueError, match="expected") as error:
        curation.gradient_features(**arguments)
    assert sentence in str(error.value)
