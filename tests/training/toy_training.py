"""A small regression with noise, dropout and a buffer: enough to notice every kind of state that a run carries."""

import sys
import time

import torch
from torch import nn

from clarkia.training import TrainingOptions, fit

OPTIONS = {"batch_size": 48, "max_steps": 60, "warmup_steps": 5, "validate_every": 20, "learning_rate": 0.01, "seed": 3}


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 32), nn.SiLU(), nn.Dropout(0.2), nn.Linear(32, 1))
        self.norm = nn.BatchNorm1d(32, affine=False)

    def forward(self, x):
        hidden = self.norm(self.layers[0](x))
        return self.layers[3](self.layers[2](self.layers[1](hidden)))


def module():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return Toy()


def data(rows=200):
    x = torch.randn(rows, 3, generator=torch.Generator().manual_seed(1))
    return {"x": x, "y": x[:, 0] + torch.sin(2 * x[:, 1])}


def loss(network, batch, generator):
    noise = torch.randn(batch["x"].shape, generator=generator)
    residual = network(batch["x"] + 0.1 * noise).squeeze(1) - batch["y"]
    return {"square": residual.square(), "size": 0.01 * residual.abs()}


def validate(network):
    held_out = data(100)
    return float((network(held_out["x"]).squeeze(1) - held_out["y"]).square().mean())


def run(checkpoint, *, resume=False, objective=loss, progress=False, **changes):
    network = module()
    options = TrainingOptions(**{**OPTIONS, **changes})
    summary = fit(
        network,
        objective,
        data(),
        options=options,
        validate=validate,
        checkpoint=checkpoint,
        resume=resume,
        progress=progress,
    )
    return network, summary


if __name__ == "__main__":
    # Trains slowly, with a checkpoint after every step, for a test to kill.
    def report(status):
        print("accelerate" if "accelerate" in sys.modules else status.step, flush=True)
        time.sleep(0.02)

    torch.set_num_threads(int(sys.argv[2]))
    run(sys.argv[1], checkpoint_minutes=0, progress=report)
