"""Known cells at time 0 make a joint denoiser a conditional sampler."""

import pytest
import torch

from clarkia import samplers
from clarkia.oracles import FiniteJoint, GaussianMixture, MixedJoint
from clarkia.processes import EDM, Masked, Mixed, RectifiedFlow, VariancePreserving
from clarkia.random import generator
from clarkia.samplers import Ancestral, DPMSolverPP, Heun

PAIR = GaussianMixture([1.0], [[0.0, 0.0]], [[[1.0, 0.9], [0.9, 1.0]]])
KNOWN = (torch.tensor([[2.0, 0.0]], dtype=torch.float64), torch.tensor([[True, False]]))


@pytest.mark.parametrize("process", [EDM, VariancePreserving(), RectifiedFlow()], ids=["edm", "vp", "flow"])
@pytest.mark.parametrize("solver", [Heun(), Heun(churn=5.0), DPMSolverPP()], ids=["heun", "churn", "dpmpp"])
def test_a_bivariate_normal_given_one_of_its_numbers(process, solver):
    """``x_2 | x_1 = 2`` is N(1.80, 0.436^2) at correlation 0.9; replacement sampling would give 0.89 and 0.67."""
    x = samplers.sample(
        PAIR.denoiser(process), process, num_samples=20_000, known=KNOWN, solver=solver, num_steps=50,
        generator=generator(0), dtype=torch.float64,
    )  # fmt: skip
    assert bool((x[:, 0] == 2.0).all())
    assert float(x[:, 1].mean()) == pytest.approx(1.80, abs=0.02)
    assert float(x[:, 1].std()) == pytest.approx(0.436, rel=0.03)


def test_categories_given_one_of_them():
    table = torch.rand(3, 2, 4, generator=generator(1), dtype=torch.float64)
    joint, process = FiniteJoint(table / table.sum()), Masked((3, 2, 4))
    known = (torch.tensor([[1, 0, 0]]), torch.tensor([[True, False, False]]))
    x = samplers.sample(
        joint.denoiser(process), process, num_samples=50_000, known=known, num_steps=2,
        solver=Ancestral("stratified"), generator=generator(2),
    )  # fmt: skip
    assert bool((x[:, 0] == 1).all())
    share = torch.bincount(x[:, 1] * 4 + x[:, 2], minlength=8) / 50_000
    exact = (joint.probabilities[1] / joint.probabilities[1].sum()).flatten()
    assert float((share - exact).abs().max()) < 4.5 * 0.5 / 50_000**0.5  # false alarm 6e-5


@pytest.mark.parametrize("given", ["numeric", "levels"])
def test_one_kind_given_the_other(given):
    """Class given number, and number given class, at the exact conditional law."""
    oracle = MixedJoint([0.5, 0.3, 0.2], [[-1.5], [0.3], [1.6]], 0.35**2)
    process = Mixed(numeric=EDM, levels=Masked((3,)))
    values = {"numeric": torch.tensor([[1.0]], dtype=torch.float64), "levels": torch.tensor([[2]])}
    known = ({given: values[given]}, {given: torch.tensor([[True]])})
    n = 20_000
    x = samplers.sample(
        oracle.denoiser(process), process, num_samples=n, shape=oracle.space, known=known, num_steps=40,
        solver=samplers.Mixed(Heun(churn=1.0), Ancestral(remask=1.0)), generator=generator(3), dtype=torch.float64,
    )  # fmt: skip
    assert torch.equal(x[given], values[given].expand(n, 1))
    if given == "levels":
        assert float(x["numeric"].mean()) == pytest.approx(1.6, abs=0.015)
        assert float(x["numeric"].std()) == pytest.approx(0.35, rel=0.03)
    else:
        densities = torch.tensor([0.5, 0.3, 0.2]) * torch.exp(
            -0.5 * ((1.0 - torch.tensor([-1.5, 0.3, 1.6])) / 0.35) ** 2
        )
        share = torch.bincount(x["levels"][:, 0], minlength=3) / n
        assert float((share - densities / densities.sum()).abs().max()) < 4 * 0.5 / n**0.5
