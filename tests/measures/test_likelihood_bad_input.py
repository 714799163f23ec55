"""Likelihoods refuse what they cannot score, in one sentence that says where."""

import pytest
import torch

from clarkia import measures
from clarkia.measures import Likelihood
from clarkia.oracles import FiniteJoint, GaussianMixture
from clarkia.processes import EDM, Masked, Mixed, MixturePath, RectifiedFlow, Uniform
from clarkia.schedules import PolynomialMask

FLOW = RectifiedFlow()
NORMAL = GaussianMixture([1.0], [[0.0, 0.0]], [1.0])
POINTS = torch.zeros(3, 2, dtype=torch.float64)
MASKED = Masked((3, 2))
JOINT = FiniteJoint(torch.full((3, 2), 1 / 6, dtype=torch.float64))
ROWS = torch.zeros(4, 2, dtype=torch.int64)
PER_POSITION = PolynomialMask(k=torch.tensor([1.0, 2.0]))
STILL_THERE = MixturePath((3, 2), [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], PolynomialMask(eps_max=0.5))
denoise_normal, denoise_joint = NORMAL.denoiser(FLOW), JOINT.denoiser(MASKED)


def density(x=POINTS, process=FLOW, denoiser=denoise_normal, **options):
    return measures.log_density(denoiser, process, x, **options)


def elbo(x=ROWS, process=MASKED, denoiser=denoise_joint, **options):
    return measures.elbo(denoiser, process, x, **options)


def enumerated(x=ROWS, process=MASKED, denoiser=denoise_joint, **options):
    return measures.enumerated_elbo(denoiser, process, x, **options)


def order(x=ROWS, process=MASKED, **options):
    return measures.order_nll(denoise_joint, process, x, **options)


def gaussian_elbo(x=POINTS, process=FLOW, **options):
    return measures.elbo(denoise_normal, process, x, **options)


def mixed(**blocks):
    process = Mixed(numeric=EDM, levels=MASKED)
    state = {"numeric": POINTS[:, :1], "levels": ROWS[:3]} | blocks
    return measures.elbo(lambda x_t, t: {name: block * torch.nan for name, block in x_t.items()}, process, state)


def broken(answer):
    return lambda x_t, t, condition=None: answer(x_t)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: density(process=MASKED), "process: expected a Gaussian process, found Masked; use measures.elbo"),
        (lambda: density(trace="guess"), "trace: expected 'exact' or 'hutchinson', found 'guess'"),
        (lambda: density(num_probes=1), "num_probes: expected at least 2"),
        (lambda: density(tolerance=0.0), "tolerance: expected a positive number"),
        (lambda: density(x=ROWS), "x: expected a floating dtype for a continuous block, found torch.int64"),
        (lambda: density(x=POINTS[:0]), "x: expected a tensor of shape"),
        (lambda: density(x=[[0.0]]), "x: expected a tensor of shape .*, found list"),
        (lambda: density(x=POINTS.clone().index_fill(0, torch.tensor([1]), torch.nan)), "x: expected finite .* row 1"),
        (lambda: density(denoiser=broken(torch.detach)), "differentiable in x_t"),
        (lambda: density(denoiser=broken(lambda x: x[:, :1])), r"expected prediction of shape \(3, 2\)"),
        (lambda: density(denoiser=broken(lambda x: x * torch.nan)), "found NaN at time 0.0019"),
        (lambda: gaussian_elbo(x=ROWS), "floating dtype"),
        (lambda: gaussian_elbo(num_draws=7), "num_draws: expected an even number of at least 2, found 7"),
        (lambda: gaussian_elbo(num_steps=0), "num_steps: expected at least 1 or None, found 0"),
        (lambda: gaussian_elbo(reconstruction="laplace"), "reconstruction: expected 'gaussian' or 'discretised'"),
        (lambda: gaussian_elbo(reconstruction="discretised"), "bin_width: expected a positive width"),
        (lambda: gaussian_elbo(reconstruction="discretised", bin_width=0.0), "bin_width: expected a positive width"),
        (lambda: gaussian_elbo(bin_width=0.1), "bin_width: expected None"),
        (lambda: gaussian_elbo(estimator="count"), "estimator: expected None for a Gaussian process"),
        (lambda: elbo(reconstruction="discretised", bin_width=1.0), "expected a Gaussian process to discretise"),
        (lambda: elbo(x=ROWS + 2), r"x: expected classes from 0 to 1 at position \[1\], found 2"),
        (lambda: elbo(x=ROWS[:, :1]), r"x: expected shape \(n, 2\), found \(4, 1\)"),
        (lambda: elbo(x=POINTS), "int64 classes"),
        (lambda: elbo(estimator="guess"), "estimator: expected 'count' or 'time', found 'guess'"),
        (lambda: elbo(process=Masked((3, 2), PER_POSITION), estimator="count"), "estimator: expected 'time'"),
        (lambda: elbo(process=Uniform((3, 2)), estimator="count"), "estimator: expected 'time'"),
        (lambda: elbo(process=Masked((3, 2), PolynomialMask(eps_max=0.25)), num_steps=3), "share of 0.25: .*infinite"),
        (lambda: elbo(denoiser=broken(lambda x: torch.full((4, 2, 3), torch.nan))), "found NaN at time .*, row 0"),
        (lambda: elbo(denoiser=broken(lambda x: x)), r"expected prediction of shape \(4, 2, 3\)"),
        (lambda: mixed(), "finite numbers in block .numeric., found NaN at time"),
        (lambda: mixed(levels=ROWS[:3] + 3), r"x\['levels'\]: expected classes"),
        (lambda: mixed(numeric=POINTS[:, 0]), r"x\['numeric'\]: expected shape \(n, p\), found \(3,\)"),
        (lambda: mixed(other=POINTS), "x: expected a dict with the blocks"),
        (lambda: enumerated(process=FLOW), "process: expected a discrete process, found RectifiedFlow"),
        (lambda: enumerated(num_steps=0), "num_steps: expected at least 1"),
        (lambda: enumerated(num_nodes=0), "num_nodes: expected at least 1"),
        (lambda: enumerated(x=torch.zeros(1, 17, dtype=torch.int64), process=Masked(2)), "at most 65536 .* 131072"),
        (lambda: enumerated(process=STILL_THERE, x=ROWS + 1), "nothing of the data at t = 1"),
        (lambda: order(process=Uniform((3, 2))), "process: expected a masked process, found MixturePath"),
        (lambda: order(process=Masked((3, 2), PER_POSITION)), "one schedule for all positions"),
        (lambda: order(order="sideways"), "order: expected 'forward', 'backward', 'random' or indices"),
        (lambda: order(order=torch.tensor([0, 0])), "every cell from 0 to 1 once in each row"),
        (lambda: order(order=torch.tensor([0.0, 1.0])), "every cell from 0 to 1 once in each row"),
        (lambda: order(order=torch.tensor([0, 1, 2])), r"expected shape \(2,\) or \(4, 2\), found \(3,\)"),
        (lambda: measures.order_spread(denoise_joint, MASKED, ROWS, num_orders=1), "num_orders: expected at least 2"),
        (lambda: Likelihood(torch.zeros(2), torch.zeros(2), "guess"), "kind: expected one of .*, found 'guess'"),  # type: ignore[arg-type]
        (lambda: Likelihood(torch.zeros(2), torch.zeros(3), "exact"), r"one shape \(n,\), found \(2,\) and \(3,\)"),
        (lambda: Likelihood(torch.zeros(2), torch.zeros(2), "exact").bits_per_dimension(0), "dimensions: .* found 0"),
        (lambda: Likelihood(torch.zeros(2), torch.zeros(2), "exact").perplexity(0), "num_tokens: expected a positive"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_flow_that_no_step_can_follow_is_refused(monkeypatch):
    """A velocity that jumps about at random leaves nothing for steps to converge to."""
    noise = torch.Generator().manual_seed(0)
    monkeypatch.setattr("clarkia.measures.likelihood.runge_kutta.MOST_STEPS", 50)

    def denoiser(x_t, t, condition=None):
        return x_t + torch.randn(x_t.shape, generator=noise, dtype=x_t.dtype)

    with pytest.raises(
        ValueError, match="tolerance: expected one that 50 steps can meet, found 1e-06 too small, row 0"
    ):
        density(denoiser=denoiser)


def test_an_impossible_row_has_an_infinite_bound():
    law = FiniteJoint([[0.5, 0.0], [0.0, 0.5]])
    process = Masked((2, 2))
    x = torch.tensor([[0, 1], [0, 0]])
    found = measures.elbo(law.denoiser(process), process, x)
    assert found.nats[0] == -torch.inf
    assert found.nats[1].isfinite()
    assert measures.enumerated_elbo(law.denoiser(process), process, x).nats[0] == -torch.inf
