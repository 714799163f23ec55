"""Rows of single precision are converted in blocks: no float64 copy of a set, and no matrix of all pairs."""

from functools import partial
from importlib import import_module

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from clarkia._math import pairwise
from clarkia.measures import two_sample
from clarkia.measures.kernels import Gaussian
from clarkia.random import generator, randn

ROWS, WIDTH, CHUNK = 400, 40, 40

MEASURES = {
    "frechet": two_sample.frechet_distance,
    "kid": lambda x, y: two_sample.kid(x, y, subsets=3, size=200, generator=generator(2)).value,
    "mmd2": partial(two_sample.mmd2, kernel=Gaussian(9.0), chunk=CHUNK),
    "cmmd": partial(two_sample.cmmd, chunk=CHUNK),
    "energy": partial(two_sample.energy_distance, chunk=CHUNK),
    "characteristic": lambda x, y: two_sample.characteristic_distance(
        x, y, frequencies=two_sample.GaussianFrequencies(0.1), n_frequencies=16, chunk=CHUNK, generator=generator(3)
    ),
    "cauchy-schwarz": partial(two_sample.cauchy_schwarz, bandwidth=9.0, chunk=CHUNK),
    "line": lambda x, y: two_sample.wasserstein_1d(x, y).sum(),
    "sliced": lambda x, y: two_sample.sliced_wasserstein(x, y, n_projections=12, generator=generator(4)),
    "sinkhorn": partial(two_sample.sinkhorn_divergence, blur=20.0, tolerance=1e-2, chunk=CHUNK),
    "vendi": two_sample.vendi_ratio,
}


class Largest(TorchDispatchMode):
    """The largest float64 tensor that an operation returned."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64:
                self.numel = max(self.numel, leaf.numel())
        return result


@pytest.mark.parametrize("name", MEASURES)
def test_no_copy_of_all_rows(name, monkeypatch):
    monkeypatch.setattr(pairwise, "NUMBERS", CHUNK * WIDTH)
    for module, option, value in (("sinkhorn", "MATRIX", 0), ("sliced", "LINES", 12), ("kid", "BLOCK", CHUNK)):
        monkeypatch.setattr(import_module(f"clarkia.measures.two_sample.{module}"), option, value)
    x, y = (randn((ROWS, WIDTH), generator(seed)) * (1 + seed / 9) for seed in (0, 1))
    with Largest() as seen:
        value = float(MEASURES[name](x, y))
    assert 0 < seen.numel < ROWS * WIDTH / 2
    assert value == pytest.approx(float(MEASURES[name](x.double(), y.double())), rel=1e-10)
