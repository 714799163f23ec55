"""A small network trained by the denoising loss comes near the exact posterior, least so at little noise."""

import math

import torch
from torch import nn

from clarkia.denoisers import Preconditioned
from clarkia.measures.noise_profile import noise_profile
from clarkia.objectives import Denoising, UniformTime
from clarkia.oracles import GaussianMixture
from clarkia.processes import VariancePreserving
from clarkia.random import generator


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(9, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 8))

    def forward(self, inputs, noise, condition=None):
        return self.layers(torch.cat([inputs, noise[:, None]], 1))


def test_the_excess_over_the_posterior_of_a_lattice_by_noise_level():
    axis = torch.arange(-2, 3, dtype=torch.float64) / math.sqrt(2)
    turn = torch.randn(2, 8, generator=generator(4), dtype=torch.float64)
    places = torch.cartesian_prod(axis, axis) @ (turn / turn.norm(dim=0))
    law, process = GaussianMixture([1 / 25] * 25, places, [0.0025] * 25), VariancePreserving()
    torch.manual_seed(0)
    denoiser = Preconditioned(Network(), process)
    levels = process.kappa(torch.tensor([0.05, 0.27, 0.5, 0.72, 0.91], dtype=torch.float64)).log()

    def excess():
        return noise_profile(
            denoiser, law, process, levels, num_samples=500, dtype=torch.float32, generator=generator(7)
        ).excess

    before = excess()
    objective = Denoising(process, "eps", UniformTime(process), data_std=1.0)
    optimizer = torch.optim.Adam(denoiser.parameters(), 3e-3)
    data = law.sample(5_000, generator=generator(5)).float()
    for step in range(400):
        optimizer.zero_grad()
        x0 = data[torch.randint(0, len(data), (250,), generator=generator(8, step))]
        objective(denoiser, x0, generator(6, step)).mean().backward()
        optimizer.step()
    after = excess()
    assert bool((after[:3] < before[:3]).all())
    assert float(after[1]) < 0.1 * float(before[1])
    assert bool((after[1:] < 0.02).all())
    assert int(after.argmax()) == 0
