"""Optimising points under a mask: what may not move does not, and the rest moves as the textbook says."""

import math

import pytest
import torch

from clarkia.curation import Descent, masked_optimise
from clarkia.random import generator, randn

RULES = ["adam", "gradient"]


def points(seed=0):
    return randn((6, 1, 4, 4), generator(seed), dtype=torch.float64)


def bowl(x, step):
    return ((x - 3.0).square() * torch.arange(1, 5)).sum() + x.sin().sum() + 0.1 * step * x.sum()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("schedule", ["constant", "cosine", "plateau"])
def test_masked_numbers_come_back_bit_for_bit(rule, schedule):
    """After 50 steps, with momentum, decay and bounds that the held numbers themselves break."""
    x = 3 * points()
    mask = (points(1) > 0).double()
    descent = Descent(steps=50, learning_rate=0.01, rule=rule, schedule=schedule, weight_decay=0.1)
    found = masked_optimise(x, bowl, mask, descent=descent, bounds=(-1.0, 1.0)).x
    held = mask == 0
    assert float(x[held].abs().max()) > 1
    assert torch.equal(found[held], x[held])
    assert bool((found[~held] != x[~held]).all())
    assert float(found[~held].abs().max()) <= 1
    nothing = masked_optimise(x, bowl, torch.zeros_like(x), descent=descent).x
    assert torch.equal(nothing, x)


@pytest.mark.parametrize("rule", RULES)
def test_a_mask_of_one_share_is_a_shorter_step(rule):
    """Under Adam too, which a mask on the gradient alone would not slow down."""
    x = points()
    plain = masked_optimise(x, bowl, descent=Descent(steps=30, learning_rate=0.02, rule=rule)).x
    masked = masked_optimise(
        x, bowl, torch.full((1,), 0.5, dtype=torch.float64), descent=Descent(steps=30, learning_rate=0.04, rule=rule)
    ).x
    assert torch.equal(plain, masked)
    assert float((plain - x).abs().min()) > 0.01


@pytest.mark.parametrize("schedule", ["constant", "cosine", "plateau"])
def test_without_a_mask_it_is_adamw(schedule):
    x, steps = points(), 60

    def loss(x, step):  # improves, then stays, so that plateaus are met
        return (x - 3.0).square().sum() if step < 20 else (x - 3.0).abs().sum() * 1e-9 + 7.0

    descent = Descent(steps=steps, learning_rate=0.05, schedule=schedule, weight_decay=0.3, patience=5, factor=0.3)
    found = masked_optimise(x, loss, descent=descent)
    leaf = x.clone().requires_grad_()
    optimiser = torch.optim.AdamW([leaf], lr=0.05, weight_decay=0.3)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.3, patience=5)
    for step in range(steps):
        optimiser.zero_grad()
        value = loss(leaf, step)
        value.backward()
        assert found.losses[step] == pytest.approx(float(value.detach()), rel=1e-9)
        if schedule == "cosine":
            optimiser.param_groups[0]["lr"] = 0.05 * 0.5 * (1 + math.cos(math.pi * step / steps))
        elif schedule == "plateau":
            plateau.step(value.detach())
        optimiser.step()
    torch.testing.assert_close(found.x, leaf.detach(), rtol=1e-9, atol=1e-9)
    assert schedule != "plateau" or optimiser.param_groups[0]["lr"] < 0.05 * 0.3**3


def test_blocks_of_points_move_together():
    x = {"a": points(), "b": points(1)[:, 0]}
    found = masked_optimise(
        x, lambda x, step: (x["a"][:, 0] * x["b"]).sum(), descent=Descent(steps=1, learning_rate=1.0, rule="gradient")
    ).x
    torch.testing.assert_close(found["a"], x["a"] - x["b"][:, None])
    torch.testing.assert_close(found["b"], x["b"] - x["a"][:, 0])
    still = masked_optimise(
        x, lambda x, step: x["b"].sum(), {"a": torch.ones(1), "b": torch.zeros(1)},
        descent=Descent(steps=3, learning_rate=1.0),
    ).x  # fmt: skip
    assert all(torch.equal(still[name], x[name]) for name in x)


STEPS = Descent(steps=2, learning_rate=0.1)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: masked_optimise(torch.ones(2, 2).long(), bowl, descent=STEPS), "x: expected a floating-point tensor"),
        (lambda: masked_optimise(points(), bowl, -torch.ones(1), descent=STEPS), "mask: expected shares from 0"),
        (lambda: masked_optimise(points(), bowl, torch.ones(5), descent=STEPS), "found (5,) from 1 to 1."),
        (lambda: masked_optimise(points(), bowl, torch.ones(2, 6, 1, 4, 4), descent=STEPS), "found (2, 6, 1, 4, 4)"),
        (
            lambda: masked_optimise(points(), bowl, {"y": points()}, descent=STEPS),
            "expected the blocks ['x'], found ['y']",
        ),
        (lambda: masked_optimise(points(), bowl, descent=STEPS, bounds=(1.0, 1.0)), "bounds: expected a lower and a"),
        (lambda: Descent(steps=-1, learning_rate=0.1), "steps: expected a whole number of at least 0, found -1."),
        (lambda: Descent(steps=1, learning_rate=0.0), "learning_rate: expected a number in (0, inf], found 0.0."),
        (lambda: Descent(steps=1, learning_rate=math.nan), "found nan."),
        (lambda: Descent(steps=1, learning_rate=1.0, rule="sgd"), "rule: expected one of ['adam', 'gradient']"),
        (lambda: Descent(steps=1, learning_rate=1.0, schedule="step"), "schedule: expected one of"),
        (lambda: Descent(steps=1, learning_rate=1.0, betas=(0.9, 1.0)), "betas: expected a number in"),
    ],
)
def test_bad_arguments(call, sentence):
    with pytest.raises(ValueError, match="expected") as error:
        call()
    assert sentence in str(error.value)


def test_a_loss_that_is_not_finite_is_an_error():
    with pytest.raises(FloatingPointError, match="the loss is nan at step 1"):
        masked_optimise(points(), lambda x, step: x.sum() * (math.nan if step else 1.0), descent=STEPS)
    with pytest.raises(FloatingPointError, match="the gradient is not finite at step 0"):
        masked_optimise(torch.zeros(2, 1), lambda x, step: x.sqrt().sum(), descent=STEPS)
