"""What several processes train together: weights of every kind, and noise that couples the rows of a batch."""

import itertools
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors.torch import save_file
from torch import nn

from clarkia.random import of_batch, rand, randn
from clarkia.training import TrainingOptions, fit

OPTIONS = {
    "batch_size": 9,  # does not divide by two
    "max_steps": 20,
    "warmup_steps": 3,
    "validate_every": 5,
    "learning_rate": 0.01,
    "decay": "constant",
    "clip_norm": 0.5,
    "ema_decay": 0.9,
    "ema_sigmas": (0.1,),
    "seed": 3,
    "timeout_minutes": 0.5,
}


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(7, 11), nn.Linear(11, 7)

    def forward(self, h):
        return h + self.down(torch.tanh(self.up(h)))


class Network(nn.Module):
    """Layers in a list, one that is called from elsewhere, a weight without axes, a frozen and a seldom used one."""

    def __init__(self):
        super().__init__()
        self.into, self.out = nn.Linear(3, 7), nn.Linear(7, 1)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.gain = nn.Parameter(torch.tensor(0.5))
        self.seldom = nn.Parameter(torch.zeros(5))
        self.elsewhere = MappingProxyType({"out": self.out})
        self.fixed = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, x, *, all_of_it=False):
        h = self.into(x * self.fixed)
        for block in self.blocks:
            h = block(h)
        h = self.elsewhere["out"](h).squeeze(1) * self.gain
        return h + self.seldom.sum() if all_of_it else h


def module(seed=0):
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return Network()


def data():
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    return {"x": x, "y": x[:, 0] + torch.sin(2 * x[:, 1])}


def stratified(n, generator):
    def draw(rows, source):
        return (torch.argsort(rand((rows,), source)) + rand((rows,), source)) / rows

    return of_batch(n, generator, draw)


def loss(network, batch, generator):
    x, y = batch["x"], batch["y"]
    level = stratified(len(x), generator).float()
    often = of_batch(len(x), generator, lambda rows, source: rand((1,), source).expand(rows))
    noisy = x + level[:, None] * randn(x.shape, generator)
    residual = network(noisy, all_of_it=bool(often[0] < 0.3)) - y
    return {"square": residual.square(), "size": 0.01 * residual.abs()}


def validate(network):
    held_out = data()
    return float((network(held_out["x"]) - held_out["y"]).square().mean())


def run(checkpoint, *, resume=False, objective=loss, progress=False, seed=0, **changes):
    network = module(seed)
    options = TrainingOptions(**{**OPTIONS, **changes})
    arguments = {"checkpoint": checkpoint, "resume": resume, "progress": progress}
    return network, fit(network, objective, data(), options=options, validate=validate, **arguments)


def interrupted_at(step, rank):
    """The loss of a run in which Ctrl-C reaches one of the processes."""
    calls = itertools.count(1)

    def objective(network, batch, generator):
        if next(calls) == step and rank == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(network, batch, generator)

    return objective


def finished(folder, name, rank, **changes):
    """One run, from weights that differ between the processes; what it left behind goes to files for the test."""
    network, summary = run(folder / f"{name}.checkpoint", seed=rank, **changes)
    assert type(network) is Network
    assert not network.training
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, folder / f"{name}-{rank}")
    record = {**asdict(summary), "seconds": 0.0, "history": len(summary.history)}
    (folder / f"{name}-{rank}.json").write_text(json.dumps(record))


def main(folder, rank):
    finished(folder, "ddp", rank)
    finished(folder, "fsdp", rank, strategy="fsdp")
    finished(folder, "parts", rank, accumulate=2)
    finished(folder, "fsdp-parts", rank, strategy="fsdp", accumulate=3)
    finished(folder, "muon-ddp", rank, optimizer="muon")
    finished(folder, "muon-fsdp", rank, strategy="fsdp", optimizer="muon")
    finished(folder, "resumed-ddp", rank, resume=True)
    finished(folder, "resumed-fsdp", rank, strategy="fsdp", resume=True)
    finished(folder, "short-fsdp", rank, strategy="fsdp", max_steps=12)
    try:
        run(folder / "interrupted.checkpoint", objective=interrupted_at(7, rank), strategy="fsdp")
    except KeyboardInterrupt:
        (folder / f"interrupted-{rank}").touch()
    assert "accelerate" in sys.modules
    # A run without end, for the test to end by force.
    slow = {"max_steps": 10**6, "checkpoint_minutes": 0}
    run(folder / "endless.checkpoint", progress=lambda status: print(status.step, flush=True), **slow)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(os.environ["RANK"]))
