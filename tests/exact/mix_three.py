"""The benchmark "mix-3": a mixture of three normals in the plane, measured along one line."""

import torch

from clarkia.measures import sliced_wasserstein
from clarkia.oracles import GaussianMixture
from clarkia.processes import VarianceExploding
from clarkia.random import generator

LAW = GaussianMixture(
    [0.5, 0.3, 0.2],
    [[-2.0, 0.0], [2.0, 1.0], [0.0, -3.0]],
    [[[0.5, 0.2], [0.2, 0.3]], [[0.2, 0.0], [0.0, 0.6]], [[0.4, -0.1], [-0.1, 0.2]]],
)
LINE = [[1.0, 0.5]]
Y = torch.tensor([0.6], dtype=torch.float64)
PROCESS = VarianceExploding(0.01, 20.0)


def distance_to_posterior(x, noise_std, seed=100):
    """Sliced Wasserstein distance to as many exact draws of the law given ``LINE x = Y``."""
    exact = LAW.posterior(LINE, Y, noise_std).sample(len(x), generator=generator(seed))
    return float(sliced_wasserstein(x, exact, n_projections=200, generator=generator(seed + 1)))
