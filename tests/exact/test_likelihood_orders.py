"""A masked model as autoregressive ones: every order of an exact denoiser gives the log-probability."""

import itertools

import pytest
import torch

from clarkia import measures
from clarkia.oracles import FiniteJoint
from clarkia.processes import Masked
from clarkia.random import generator

TABLE = torch.rand(3, 2, 4, 2, generator=generator(0), dtype=torch.float64)
JOINT = FiniteJoint(TABLE / TABLE.sum())
PROCESS = Masked((3, 2, 4, 2))
ORDERS = list(itertools.permutations(range(4)))


def perturbed(x_t, t, condition=None):
    """Sharper where more is visible: the conditionals of no joint law, and none of them looks at time."""
    seen = 1 + 0.4 * (~PROCESS.is_masked(x_t)).double().sum(1).reshape(-1, 1, 1)
    return PROCESS.log_probs(seen * JOINT.denoiser(PROCESS)(x_t, t).clamp(min=-50), x_t)


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_gives_the_log_probability(order):
    found = measures.order_nll(JOINT.denoiser(PROCESS), PROCESS, JOINT.states, torch.tensor(order))
    assert found.kind == "exact"
    torch.testing.assert_close(found.nats, JOINT.log_prob(JOINT.states), rtol=0, atol=1e-12)


def test_orders_disagree_only_under_an_inconsistent_denoiser():
    rows = JOINT.states[::5]
    spread = measures.order_spread(JOINT.denoiser(PROCESS), PROCESS, rows, generator=generator(1))
    assert float(spread.max()) < 1e-12
    spread = measures.order_spread(perturbed, PROCESS, rows, generator=generator(1))
    assert float(spread.min()) > 1e-3


def test_orders_by_name_and_by_row():
    x = JOINT.states[:3]
    forward, backward = torch.arange(4), torch.arange(3, -1, -1)
    named = {name: measures.order_nll(perturbed, PROCESS, x, name).nats for name in ("forward", "backward")}
    assert torch.equal(measures.order_nll(perturbed, PROCESS, x).nats, named["forward"])
    by_row = measures.order_nll(perturbed, PROCESS, x, torch.stack([forward, backward, forward])).nats
    assert by_row.tolist() == [named[name][i] for i, name in enumerate(("forward", "backward", "forward"))]
    assert float((named["forward"] - named["backward"]).abs().min()) > 1e-4
    every = torch.stack([measures.order_nll(perturbed, PROCESS, x, torch.tensor(order)).nats for order in ORDERS])
    drawn = measures.order_nll(perturbed, PROCESS, x, "random", generator=generator(2)).nats
    assert float((every - drawn).abs().amin(0).max()) < 1e-12


def test_the_mean_over_orders_is_the_bound():
    """Of any denoiser that ignores time, exact or not."""
    every = [measures.order_nll(perturbed, PROCESS, JOINT.states, torch.tensor(order)).nats for order in ORDERS]
    bound = measures.enumerated_elbo(perturbed, PROCESS, JOINT.states, num_nodes=4)
    torch.testing.assert_close(torch.stack(every).mean(0), bound.nats, rtol=0, atol=1e-12)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_denoiser_of_time_is_asked_at_the_share_still_masked(schedule):
    process, seen = Masked(2, schedule), []

    def denoiser(x_t, t, condition=None):
        seen.append(float(process.alpha(t[:1].double())))
        return process.log_probs(torch.zeros(*x_t.shape, 2, dtype=torch.float64), x_t)

    measures.order_nll(denoiser, process, torch.zeros(2, 2, 2, dtype=torch.int64))
    assert seen == pytest.approx([0.0, 0.25, 0.5, 0.75], abs=1e-6)


def test_a_row_that_some_orders_find_impossible():
    process = Masked(2)

    def denoiser(x_t, t, condition=None):
        """Position 0 is never 1 once position 1 is known to be."""
        log_probs = torch.full((*x_t.shape, 2), 0.5).log().double()
        log_probs[x_t[:, 1] == 1, 0] = torch.tensor([0.0, -torch.inf], dtype=torch.float64)
        return process.log_probs(log_probs, x_t)

    x = torch.tensor([[1, 1], [0, 0]])
    assert measures.order_nll(denoiser, process, x, "backward").nats[0] == -torch.inf
    spread = measures.order_spread(denoiser, process, x, num_orders=12, generator=generator(3))
    assert spread.tolist() == [torch.inf, 0.0]
