"""Watching a network train: the listener of `training.fit`, frozen bandwidths, and restored training modes."""

import torch
from sklearn.datasets import load_digits
from torch import nn

from clarkia.measures import representations as r
from clarkia.processes import EDM
from clarkia.random import generator, randn
from clarkia.training import Status, TrainingOptions, fit


def status(step):
    return Status(step, 0.0, 0.0, 0.0, None, {}, None)


def test_a_monitor_measures_at_the_first_report_after_each_multiple():
    told = []
    monitor = r.Monitor(lambda: {"value": 1.0}, 10, then=told.append)
    monitor.record(0)
    for step in (3, 9, 12, 15, 19, 20, 47, 49, 50):
        monitor(status(step))
    assert [line["step"] for line in monitor.history] == [0, 12, 20, 47, 50]
    assert len(told) == 9


def test_digits_spread_out_while_a_network_learns_them():
    """Labels become readable from the hidden layer: entropy and information about them rise from where they began."""
    digits = load_digits()
    x, y = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 32), nn.Dropout(0.1), nn.ReLU(), nn.Linear(32, 10))
    monitor = r.representation_monitor(
        lambda: r.activations(net, x[:400], ["2"]), labels=y[:400], inputs=x[:400].double(), every=50
    )
    monitor.record(0)

    def loss(module, batch, _generator):
        return nn.functional.cross_entropy(module(batch["x"]), batch["y"], reduction="none")

    options = TrainingOptions(batch_size=128, learning_rate=5e-3, max_steps=200, warmup_steps=0)
    fit(net, loss, {"x": x[400:], "y": y[400:]}, options=options, progress=monitor)
    first, last = monitor.history[0], monitor.history[-1]
    assert len(monitor.history) >= 2
    assert last["step"] > 100
    assert last["2: bandwidth"] == first["2: bandwidth"]
    assert last["2: entropy"] > first["2: entropy"] + 0.5
    assert last["2: information about labels"] > first["2: information about labels"] + 0.3
    assert "2: information about inputs" in last
    again = monitor.record(0)
    assert again == monitor.record(0)  # the same network, the same numbers


def test_a_measurement_leaves_training_as_it_was():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x = randn((20, 3), generator(0))
    monitor = r.representation_monitor(lambda: r.activations(net, x, ["0", "2"]), bandwidth={"0": 1.0, "2": 2.0})
    line = monitor.record(7)
    assert line["2: bandwidth"] == 2.0
    assert net.training
    assert net[1].training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_a_denoiser_is_watched_by_noise_level():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x_t, t):
            return self.layer(x_t)

    net, x = Net(), randn((60, 3), generator(1))
    monitor = r.representation_monitor(
        lambda: r.denoiser_features(net, EDM, x, [0.1, 5.0], "layer", generator=generator(2)), bandwidth=1.0
    )
    line = monitor.record(0)
    assert line["(0.1, 'layer'): entropy"] < line["(5.0, 'layer'): entropy"]


def test_filters_are_watched():
    net = nn.Sequential(nn.Conv2d(1, 40, 3), nn.Conv2d(40, 2, 3))
    monitor = r.filter_monitor(net, every=5)
    monitor(status(5))
    line = monitor.history[0]
    assert line["0: sparsity"] < 0.2
    assert 0.7 < line["1: entropy"] < 0.96
