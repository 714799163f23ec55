"""The optimiser of matrices against its formula, written out with singular values."""

import pytest
import torch
from torch import nn

from clarkia.errors import DataError
from clarkia.random import randn
from clarkia.training import TrainingOptions, fit
from clarkia.training.muon import COEFFICIENTS, orthogonal


def by_singular_values(matrix):
    """The polynomial on each singular value, five times over."""
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    a, b, c = COEFFICIENTS
    s = s / s.norm()
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    return u @ torch.diag(s) @ v


@pytest.mark.parametrize("shape", [(6, 6), (4, 30), (30, 4), (1, 5), (5, 1)])
def test_singular_vectors_stay_and_singular_values_follow_the_polynomial(shape):
    matrices = torch.randn(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([by_singular_values(matrix) for matrix in matrices])
    torch.testing.assert_close(orthogonal(matrices), expected, rtol=1e-9, atol=1e-11)


def test_singular_values_come_near_one_and_zeros_stay():
    matrices = torch.randn(1, 40, 160, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrices))
    assert values.min() > 0.65
    assert values.max() < 1.25
    tiny, none = orthogonal(torch.stack([1e-30 * matrices[0], 0 * matrices[0]]))
    torch.testing.assert_close(tiny, orthogonal(matrices)[0], rtol=1e-4, atol=1e-4)
    assert not none.any()


class Block(nn.Module):
    """A kernel, a matrix and a bias."""

    def __init__(self):
        super().__init__()
        self.kernel, self.matrix = nn.Conv2d(3, 5, 2, bias=False), nn.Linear(5, 2)

    def forward(self, grid):
        return self.matrix(torch.tanh(self.kernel(grid)).mean((2, 3)))


class Picture(nn.Module):
    """A table, a block, and a last layer."""

    def __init__(self):
        super().__init__()
        self.table, self.blocks, self.last = nn.Embedding(4, 3), nn.ModuleList([Block()]), nn.Linear(2, 2)

    def forward(self, rows):
        grid = self.table(rows["word"])[:, :, None, None] * rows["x"][:, None]
        return self.last(self.blocks[0](grid))


def pictures():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return Picture().double(), {"word": torch.arange(8) % 4, "x": torch.randn(8, 4, 4, dtype=torch.float64)}


def test_matrices_and_kernels_of_blocks_follow_the_formula_and_all_else_follows_adamw():
    network, rows = pictures()
    same = {"batch_size": 8, "max_steps": 2, "warmup_steps": 0, "decay": "constant", "clip_norm": None}
    options = TrainingOptions(**same, learning_rate=0.1, weight_decay=0.3, ema_decay=0.0, optimizer="muon")
    start = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    twin, _ = pictures()

    def loss(net, batch, _):
        return net(batch).square().sum(1)

    fit(network, loss, rows, options=options, progress=False)

    adamw = torch.optim.AdamW(twin.parameters(), lr=0.1, weight_decay=0.0)
    averages = {name: torch.zeros_like(start[name]) for name in ("blocks.0.kernel.weight", "blocks.0.matrix.weight")}
    for _ in range(2):
        adamw.zero_grad()
        loss(twin, rows, None).mean().backward()
        moved = {}
        for name, average in averages.items():
            weight = twin.get_parameter(name)
            assert weight.grad is not None
            averages[name] = 0.95 * average + 0.05 * weight.grad
            ahead = (0.95 * averages[name] + 0.05 * weight.grad).flatten(1)
            size = 0.2 * max(ahead.shape) ** 0.5
            direction = size * by_singular_values(ahead).view_as(weight)
            moved[name] = weight.detach() * (1 - 0.1 * 0.3) - 0.1 * direction
        with torch.no_grad():
            for matrix in (twin.table.weight, twin.last.weight):  # which AdamW decays, and biases not
                matrix.mul_(1 - 0.1 * 0.3)
        adamw.step()
        with torch.no_grad():
            for name, value in moved.items():
                twin.get_parameter(name).copy_(value)
    for name, weight in network.named_parameters():
        assert not torch.equal(weight, start[name])
        torch.testing.assert_close(weight, twin.get_parameter(name), rtol=1e-6, atol=1e-8, msg=lambda m, n=name: n + m)


def test_a_run_that_was_killed_goes_on_to_the_same_weights(tmp_path):
    options = {"batch_size": 4, "learning_rate": 0.05, "warmup_steps": 2, "optimizer": "muon", "decay": "constant"}

    def loss(net, batch, generator):
        return (net(batch) - randn((len(batch["x"]), 2), generator, dtype=torch.float64)).square().sum(1)

    def run(checkpoint, steps, **more):
        network, rows = pictures()
        settings = TrainingOptions(max_steps=steps, **options)
        fit(network, loss, rows, options=settings, checkpoint=checkpoint, progress=False, **more)
        return network.state_dict()

    whole = run(tmp_path / "whole", 12)
    run(tmp_path / "cut", 5)
    for name, weight in run(tmp_path / "cut", 12, resume=True).items():
        assert torch.equal(weight, whole[name])
    network, rows = pictures()
    settings = TrainingOptions(max_steps=20, **{**options, "optimizer": "adamw"})
    with pytest.raises(DataError, match="optimizer=muon, not adamw"):
        fit(network, loss, rows, options=settings, checkpoint=tmp_path / "cut", resume=True, progress=False)


def test_an_unknown_optimiser_is_refused():
    with pytest.raises(DataError, match="optimizer must be one of"):
        TrainingOptions(max_steps=1, optimizer="sgd")  # type: ignore[arg-type]


def test_a_module_without_blocks_is_refused():
    options = TrainingOptions(max_steps=1, optimizer="muon")
    with pytest.raises(DataError, match="without blocks"):
        fit(nn.Linear(2, 1), lambda net, x, _: net(x)[:, 0], torch.zeros(4, 2), options=options, progress=False)
