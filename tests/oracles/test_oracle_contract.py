"""What every oracle offers, and what each of them refuses."""

import pytest
import torch

from clarkia import testing
from clarkia.oracles import (
    Embedded,
    FiniteJoint,
    GaussianMixture,
    KernelSmoothed,
    MarkovChain,
    MixedJoint,
    MixtureOfLowRank,
    MixtureOfProducts,
)
from clarkia.processes import EDM, Masked, Mixed, RectifiedFlow, Uniform
from clarkia.random import RowBlocks, generator

HALF = [[0.5, 0.5], [0.5, 0.5]]
CHAIN = MarkovChain([0.5, 0.5], HALF, 4)
MIXTURE = GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.5]], [[[0.3, 0.1], [0.1, 0.2]]] * 2)
SMOOTH = KernelSmoothed([[0.0, 1.0], [2.0, -1.0], [0.5, 0.5]], 0.3)
LOW = MixtureOfLowRank([0.5, 0.5], [[[1.0], [0.5]], [[0.0], [2.0]]])
PRODUCTS = MixtureOfProducts([0.5, 0.5], [[[0.9, 0.1]] * 3, [[0.2, 0.8]] * 3])
JOINT = FiniteJoint([[0.1, 0.2], [0.3, 0.4]])
BOTH = MixedJoint([0.5, 0.5], [[-1.0], [1.0]], 0.2)
ORACLES = {
    "mixture": (MIXTURE, EDM),
    "smoothed": (SMOOTH, RectifiedFlow()),
    "low-rank": (LOW, EDM),
    "joint": (JOINT, Masked((2, 2))),
    "chain": (CHAIN, Masked(2)),
    "products": (PRODUCTS, Masked(2)),
    "embedded": (Embedded(CHAIN, [[0.0, 1.0], [1.0, 0.3]]), RectifiedFlow()),
    "mixed": (BOTH, Mixed(numeric=EDM, levels=Masked((2,)))),
}


@pytest.mark.parametrize(("law", "process"), ORACLES.values(), ids=ORACLES.keys())
def test_every_oracle_is_a_denoiser(law, process):
    x0 = law.sample(24, generator=generator(0))
    law.space.check(x0)
    testing.check_denoiser(law.denoiser(process), process, x0)
    assert law.log_z.shape == ()
    assert law.log_z.dtype == torch.float64
    x_t = process.corrupt(x0, torch.full((24,), 0.5), generator=generator(1))
    noisy = law.noisy_log_prob(process, x_t, torch.full((24,), 0.5, dtype=torch.float64))
    assert noisy.shape == (24,)
    assert noisy.dtype == torch.float64
    assert bool(noisy.isfinite().all())


@pytest.mark.parametrize("law", [law for law, _ in ORACLES.values()], ids=ORACLES.keys())
def test_rows_are_the_same_in_any_batch(law):
    """Row i of a seeded draw depends on the seed and i alone."""

    def rows(start, count):
        drawn = law.sample(count, generator=RowBlocks(3, start, count, block=8))
        return drawn if isinstance(drawn, dict) else {"": drawn}

    whole, part = rows(0, 20), rows(5, 9)
    assert all(torch.equal(whole[name][5:14], part[name]) for name in whole)


def test_single_precision_states_come_back_in_it():
    t = torch.full((6,), 0.5)
    for law, process in (ORACLES["smoothed"], ORACLES["low-rank"], ORACLES["embedded"], ORACLES["mixture"]):
        x_t = process.corrupt(law.sample(6, generator=generator(2)).float(), t, generator=generator(3))
        assert law.denoiser(process)(x_t, t).dtype == torch.float32


def test_uniform_noise_without_its_time_is_refused():
    with pytest.raises(ValueError, match="time of a MixturePath"):
        CHAIN.denoiser(Uniform(2))(torch.zeros(1, 4, dtype=torch.int64))


X, T = torch.zeros(3, 2), torch.full((3,), 0.5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GaussianMixture([1.0], [[0.0, 0.0]], [[[1.0, 2.0], [2.0, 1.0]]]), "covariances: .* eigenvalue -1"),
        (lambda: GaussianMixture([1.0], [[torch.nan]], [1.0]), "means: expected finite"),
        (lambda: GaussianMixture([torch.nan], [[0.0]], [1.0]), "weights"),
        (lambda: MIXTURE.log_prob(torch.zeros(3, 1)), r"x: expected a tensor of shape \(n, 2\)"),
        (lambda: MIXTURE.denoiser(EDM)(torch.zeros(3, 1), T), r"x_t: expected shape \(n, 2\), found \(3, 1\)"),
        (lambda: MIXTURE.denoiser(EDM)(X, T[:2]), "t: expected shape"),
        (lambda: MIXTURE.tilt([1.0]), r"slope: expected finite numbers of shape \(2,\)"),
        (lambda: MIXTURE.tilt([1.0, 1.0], [[0.0, 1.0], [0.0, 0.0]]), "quadratic: expected a number"),
        (lambda: MIXTURE.tilt([1.0, 1.0], -20.0), "quadratic: expected a reward that leaves every component"),
        (lambda: MIXTURE.posterior([1.0, 0.0], 0.0, -1.0), "noise_std: expected a number >= 0"),
        (lambda: MIXTURE.posterior([1.0, 0.0], 0.0, [1.0, 1.0]), "noise_std"),
        (lambda: MIXTURE.posterior([[1.0, 0.0], [2.0, 0.0]], [0.0, 0.0], 0.0), "noise_std: .* certain in advance"),
        (lambda: KernelSmoothed([[0.0]], 0.0), "bandwidth: expected positive numbers, found 0"),
        (lambda: KernelSmoothed([[0.0]], -1.0), "bandwidth"),
        (lambda: KernelSmoothed([[0.0]], [1.0, 1.0]), "bandwidth: expected a number"),
        (lambda: KernelSmoothed([0.0], 1.0), r"data: expected finite numbers of shape \(N, d\)"),
        (lambda: KernelSmoothed([[torch.inf]], 1.0), "data"),
        (lambda: KernelSmoothed([[0.0]], 1.0, weights=[0.5]), "weights: .* sum 0.5"),
        (lambda: KernelSmoothed([[0.0]], 1.0, weights=[0.5, 0.5]), "weights: expected shape"),
        (lambda: SMOOTH.denoiser(EDM)(torch.zeros(3, 1), T), "x_t"),
        (lambda: SMOOTH.posterior([1.0, 0.0], 0.0, 0.0).log_prob(X), "observed one with neither"),
        (lambda: LOW.log_prob(X), "no density"),
        (lambda: MixtureOfLowRank([1.0], [[[1.0, 0.0]]]), "bases: expected matrices"),
        (lambda: MixtureOfLowRank([1.0], [[1.0]]), "bases"),
        (lambda: MixtureOfLowRank([0.5, 0.5], [[[1.0]], [[1.0], [0.0]]]), "bases: .* same number of rows"),
        (lambda: MixtureOfLowRank([0.5, 0.5], [[[1.0], [0.0]]]), "weights, means"),
        (lambda: MixtureOfLowRank([1.0], [[[1.0], [0.0]]], [[0.0]]), "weights, means"),
        (lambda: LOW.denoiser(EDM)(torch.zeros(3, 3), T), "x_t"),
        (lambda: MarkovChain([0.5, 0.4], HALF, 3), "initial: .* sum 0.9"),
        (lambda: MarkovChain([0.5, 0.5], [[0.5, 0.5], [0.5, 0.6]], 3), "transition: .* sum 1.1"),
        (lambda: MarkovChain([0.5, 0.5], [HALF], 3), "transition: expected shape"),
        (lambda: MarkovChain([0.5, 0.5], HALF, 0), "length"),
        (lambda: CHAIN.log_prob(torch.tensor([[0, 1, 2, 0]])), "x: expected classes from 0 to 1"),
        (lambda: CHAIN.log_prob(torch.tensor([[0, 1]])), "x: expected"),
        (lambda: CHAIN.tilt(torch.zeros(3, 2)), r"reward: expected shape \(4, 2\)"),
        (lambda: CHAIN.tilt(torch.full((4, 2), torch.nan)), "reward: expected numbers below infinity"),
        (lambda: CHAIN.tilt(torch.zeros(4, 2), torch.zeros(4, 2, 2)), "pair_reward"),
        (lambda: CHAIN.tilt(torch.full((4, 2), -torch.inf)), "reward: .* found none"),
        (lambda: CHAIN.explain(torch.zeros(1, 3, 2)), "log_emissions"),
        (lambda: CHAIN.denoiser(Masked(2))(torch.zeros(1, 3, dtype=torch.int64)), "x_t: expected evidence of shape"),
        (lambda: MixtureOfProducts([1.0], [[[0.5, 0.4]]]), "probabilities: .* sum 0.9"),
        (lambda: MixtureOfProducts([1.0], [[0.5, 0.5]]), "weights, probabilities"),
        (lambda: MixtureOfProducts([1.0], [[[0.5, 0.5]]], num_classes=(1,)), "num_classes"),
        (lambda: PRODUCTS.tilt(torch.zeros(2, 2)), "reward"),
        (lambda: PRODUCTS.log_prob(torch.tensor([[0, 1, 2]])), "x: expected classes"),
        (lambda: Embedded(CHAIN, [[0.0, 1.0]]), "vectors"),
        (lambda: Embedded(CHAIN, [[0.0], [1.0]]).embed(torch.full((1, 4), 2)), "x: expected classes"),
        (lambda: Embedded(CHAIN, [[0.0], [1.0]]).denoiser(EDM)(torch.zeros(3, 2, 1), T), "x_t"),
        (lambda: BOTH.tilt(torch.zeros(3)), "reward"),
        (lambda: BOTH.tilt(slope=[1.0, 2.0]), "slope"),
        (lambda: BOTH.posterior([1.0], 0.0, 1.0, log_likelihood=torch.zeros(3)), "log_likelihood"),
        (lambda: BOTH.log_prob({"numeric": torch.zeros(1, 1), "levels": torch.tensor([[2]])}), "levels"),
    ],
)
def test_wrong_arguments_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()
