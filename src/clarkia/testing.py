"""Checks of the library's contracts, for the processes, denoisers, solvers and measures that users write themselves.

Each check runs the object on data it is given and raises `AssertionError` with one sentence at the first broken
promise.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from clarkia.random import generator
from clarkia.spaces import State, map_blocks, num_rows, take_rows


def check_process(process: Any, x0: State, *, seed: int = 0) -> None:
    """Check a forward process on clean data.

    Elements at t = 0 come back exactly, whether times are by row or by element; shapes and dtypes are kept; the prior
    has them too; a kernel from t to t stays put; a kernel's own draw has a finite log-probability and its divergence
    to itself is 0. Of categories also: emissions are float64, allow the true class and at t = 0 no other; rates are
    finite and not negative; score and rates lead back to the prediction they came from.

    Args:
        process: The process.
        x0: At least 2 clean rows.
        seed: Seed of the noise.
    """
    noise = generator(seed)
    rows = num_rows(x0)
    zero, half = torch.zeros(rows), torch.full((rows,), 0.5)
    _same(process.corrupt(x0, zero, generator=noise), x0, "corrupt at t = 0 must return x0 exactly")
    x_half = process.corrupt(x0, half, generator=noise)
    _alike(x_half, x0, "corrupt")
    shape = {name: block.shape[1:] for name, block in x0.items()} if isinstance(x0, dict) else x0.shape[1:]
    _alike(process.prior(rows, shape, generator=noise), x0, "prior", dtypes=False)
    if not isinstance(x0, dict):
        observed = torch.rand(x0.shape, generator=noise) < 0.5
        x_t = process.corrupt(x0, torch.where(observed, 0.0, 0.5), generator=noise)
        _assert(bool((x_t == x0)[observed].all()), "elements at t = 0 must be returned exactly among noisy ones")
    answer = _some_prediction(process, x0, x_half)
    _same(process.kernel(x_half, answer, half, half).sample(noise), x_half, "a kernel from t to t must stay put")
    kernel = process.kernel(x_half, answer, half, 0.5 * half)
    log_prob = kernel.log_prob(kernel.sample(noise))
    _assert(log_prob.shape == (rows,) and log_prob.dtype == torch.float64, "log_prob must be float64 of shape (n,)")
    _assert(bool(log_prob.isfinite().all()), "a kernel's own draw must have a finite log-probability")
    _assert(bool((kernel.kl(kernel).abs() < 1e-9).all()), "a kernel's divergence to itself must be 0")
    for name, block in _blocks(x0).items():
        if not block.is_floating_point():
            part = process.blocks[name] if isinstance(x0, dict) else process
            _check_categories(part, block, _blocks(x_half)[name], half)


def check_denoiser(
    denoiser: Callable[..., Any], process: Any, x0: State, *, condition: Any = None, seed: int = 0
) -> None:
    """Check a denoiser under a process.

    Predictions have the right shape, are finite, and log-probabilities are normalised, with no mass on impossible
    classes and one-hot at certain cells; elements at t = 0 are predicted as they are; times may differ by element; a
    row's answer does not depend on the rows beside it.

    Args:
        denoiser: The denoiser, in evaluation mode where it is a network.
        process: The process it was made for.
        x0: At least 2 clean rows.
        condition: Passed to the denoiser where not None.
        seed: Seed of the noise.
    """
    noise = generator(seed)
    rows = num_rows(x0)
    given = () if condition is None else (condition,)
    floats = [block.dtype for block in _blocks(x0).values() if block.is_floating_point()]
    dtype = floats[0] if floats else torch.get_default_dtype()
    by_row = torch.linspace(0, 1, rows, dtype=dtype)
    cells = {
        name: torch.where(torch.rand(block.shape, generator=noise) < 0.3, 0.0, 0.7).to(dtype)
        for name, block in _blocks(x0).items()
    }
    by_cell: Any = cells if isinstance(x0, dict) else cells[""]
    with torch.no_grad():
        for t in (by_row, by_cell):
            x_t = process.corrupt(x0, t, generator=noise)
            prediction = denoiser(x_t, t, *given)
            for name, block in _blocks(x_t).items():
                part = process.blocks[name] if isinstance(x0, dict) else process
                answer = _blocks(prediction).get(name)
                time = t[name] if isinstance(t, Mapping) else t
                _check_answer(answer, block, time, part, name)
        if condition is None:
            few = slice(0, max(1, rows // 2))
            t_few = {name: time[few] for name, time in cells.items()} if isinstance(x0, dict) else by_cell[few]
            alone = denoiser(take_rows(x_t, few), t_few)
            for name, block in _blocks(alone).items():
                close = torch.allclose(block.exp(), _blocks(prediction)[name][few].exp(), rtol=1e-3, atol=1e-5)
                _assert(close, f"{_label(name)}: a row's prediction must not depend on the rows beside it")


def check_solver(solver: Any, process: Any, denoiser: Callable[..., Any], x0: State, *, seed: int = 0) -> None:
    """Check a solver on a process and a denoiser.

    A step keeps shapes and dtypes; a step of no length changes nothing; elements at t = 0 stay exactly as they are;
    the step to 0 leaves clean classes; nothing is kept on the solver.

    Args:
        solver: The solver.
        process: A process it is made for.
        denoiser: A denoiser of that process.
        x0: At least 2 clean rows.
        seed: Seed of the noise.
    """
    noise = generator(seed)
    rows = num_rows(x0)
    before = repr(vars(solver)) if hasattr(solver, "__dict__") else ""
    t, s, zero = (torch.full((rows,), level, dtype=torch.float64) for level in (0.8, 0.4, 0.0))
    x_t = process.corrupt(x0, t, generator=noise)
    carry = solver.init(x_t, process, noise)
    same, _ = solver.step(denoiser, process, x_t, t, t, carry, noise)
    _close(same, x_t, "a step of no length must change nothing")
    x_s, carry = solver.step(denoiser, process, x_t, t, s, carry, noise)
    _alike(x_s, x_t, "step")
    end, _ = solver.step(denoiser, process, x_s, s, zero, carry, noise)
    for name, block in _blocks(end).items():
        if not block.is_floating_point():
            part = process.blocks[name] if isinstance(x0, dict) else process
            clean = block < torch.as_tensor(part.num_classes)
            _assert(bool(clean.all()), f"{_label(name)}: the step to time 0 must leave clean classes")
    observed = t * (torch.arange(rows) % 2)
    x_t = process.corrupt(x0, observed, generator=noise)
    x_s, _ = solver.step(denoiser, process, x_t, observed, 0.5 * observed, solver.init(x_t, process, noise), noise)
    _same(
        take_rows(x_s, slice(0, None, 2)), take_rows(x_t, slice(0, None, 2)), "elements at t = 0 must stay as they are"
    )
    _assert(before == (repr(vars(solver)) if before else ""), "a solver must keep nothing on itself")


def check_measure(
    measure: Callable[..., Any],
    x: Tensor,
    y: Tensor,
    *,
    on_equal_sets: float | None = None,
    symmetric: bool = False,
    ordered: bool = False,
    differentiable: bool = False,
    seed: int = 0,
) -> None:
    """Check a two-sample measure on two feature matrices.

    Its numbers are finite and real, repeat under the same seed, and stay the same (to 1e-9) whatever the order of the
    rows, the ``chunk`` where it takes one, and whether the rows are float32, float64 or arrays; the rows themselves are
    left alone. Rows that make no sense raise `ValueError`: different widths, NaN, infinite numbers, no row, no matrix.
    One row, and rows that are all equal, raise it or give numbers. Random choices without a generator of their own are
    seeded before every call; a generator that is kept between calls breaks the promise to repeat.

    Args:
        measure: ``(x, y) ->`` a number, a tensor of numbers, a dataclass of these, or a tuple that begins with one.
        x: ``(n, d)``, float64, at least two columns and as many rows as the measure needs.
        y: ``(m, d)``.
        on_equal_sets: Its numbers where ``y`` is ``x``, to 1e-6; None where they have no fixed value.
        symmetric: ``measure(x, y)`` is ``measure(y, x)``.
        ordered: The order of the rows may matter.
        differentiable: Gradients in both sets are finite, where the sets are equal as well.
        seed: Seed of the choices.
    """

    def numbers(x: Any, y: Any, **options: Any) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _numbers(measure(x, y, **options))

    before = x.clone(), y.clone()
    value = numbers(x, y)
    _assert(bool(value.isfinite().all()), "a measure of finite rows must be finite")
    _near(numbers(x, y), value, "a measure must repeat under the same seed")
    if on_equal_sets is not None:
        gap = numbers(x, x.clone()) - on_equal_sets
        _assert(bool((gap.abs() < 1e-6).all()), f"a measure of equal sets must be {on_equal_sets:g}")
    if symmetric:
        _near(numbers(y, x), value, "a symmetric measure must not change when the sets are exchanged")
    if not ordered:
        _near(numbers(x.flip(0), y.roll(1, 0)), value, "a measure must not depend on the order of the rows")
    if "chunk" in inspect.signature(measure).parameters:
        _near(numbers(x, y, chunk=3), value, "a measure must not depend on chunk")
    single = x.float(), y.float()
    exact = numbers(*(rows.double() for rows in single))
    _near(numbers(*single), exact, "a measure of float32 rows must be that of the same numbers in float64")
    _near(numbers(x.numpy(), y.numpy()), value, "a measure of arrays must be that of tensors")
    _assert(torch.equal(x, before[0]) and torch.equal(y, before[1]), "a measure must leave its rows alone")
    _check_rows_that_make_no_sense(numbers, x, y)
    if differentiable:
        for other in (y, x):
            _check_gradient(numbers, x, other)


def _check_rows_that_make_no_sense(numbers: Callable[..., Tensor], x: Tensor, y: Tensor) -> None:
    def with_entry(number: float) -> Tensor:
        rows = y.clone()
        rows[-1, -1] = number
        return rows

    refused = {
        "different widths": (x, y[:, :-1]),
        "a NaN": (x, with_entry(torch.nan)),
        "an infinite number": (with_entry(-torch.inf), x),
        "no row": (x, y[:0]),
        "no column": (x[:, :0], y[:, :0]),
        "no matrix": (x[:, 0], y[:, 0]),
    }
    for what, rows in refused.items():
        try:
            numbers(*rows)
        except ValueError:
            continue
        raise AssertionError(f"a measure must raise ValueError for {what}.")
    for what, rows in {"one row": (x[:1], y[:1]), "equal rows": (x[:1].expand_as(x), x[:1].expand_as(y))}.items():
        try:
            value = numbers(*rows)
        except ValueError:
            continue
        _assert(bool(value.isfinite().all()), f"a measure of {what} must be finite or raise ValueError")


def _check_gradient(numbers: Callable[..., Tensor], x: Tensor, y: Tensor) -> None:
    leaves = [rows.clone().requires_grad_() for rows in (x, y)]
    for leaf, slope in zip(leaves, torch.autograd.grad(numbers(*leaves).sum(), leaves), strict=True):
        fits = slope.shape == leaf.shape and bool(slope.isfinite().all())
        _assert(fits, "a differentiable measure must have finite gradients, where sets are equal as well")


def _numbers(result: Any) -> Tensor:
    """The numbers of a measure's result in one row; those of a dataclass are its floats and tensors."""
    if isinstance(result, tuple):
        result = result[0]
    parts = [result]
    if dataclasses.is_dataclass(result):
        parts = [getattr(result, field.name) for field in dataclasses.fields(result)]
        parts = [part for part in parts if isinstance(part, float | Tensor)]
    return torch.cat([torch.as_tensor(part, dtype=torch.float64).flatten() for part in parts])


def _near(found: Tensor, expected: Tensor, promise: str) -> None:
    same = found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-9, atol=1e-12)
    _assert(same, promise)


def _check_answer(answer: Any, x_t: Tensor, t: Tensor, process: Any, name: str) -> None:
    label = _label(name)
    _assert(isinstance(answer, Tensor), f"{label}: the prediction must be a tensor")
    if x_t.is_floating_point():
        _assert(answer.shape == x_t.shape, f"{label}: x0_hat must have shape {tuple(x_t.shape)}")
        _assert(bool(answer.isfinite().all()), f"{label}: x0_hat must be finite")
        observed = t.reshape(*t.shape, *(1,) * (x_t.ndim - t.ndim)).expand(x_t.shape) == 0
        _assert(bool((answer == x_t)[observed].all()), f"{label}: x0_hat must be x_t at t = 0")
        return
    _assert(answer.shape == (*x_t.shape, process.max_classes), f"{label}: log-probabilities must be (n, ..., K_max)")
    _assert(not bool(answer.isnan().any()), f"{label}: log-probabilities must not be NaN")
    total = answer.double().exp().sum(-1)
    _assert(bool((total - 1).abs().max() < 1e-4), f"{label}: log-probabilities must be normalised")
    impossible = torch.arange(process.max_classes) >= torch.as_tensor(process.num_classes).unsqueeze(-1)
    _assert(
        bool((answer == -torch.inf)[impossible.expand(answer.shape)].all()), f"{label}: impossible classes need -inf"
    )
    explained = process.log_emission(x_t, t) > -torch.inf
    certain = explained.sum(-1) == 1
    _assert(bool((answer == 0)[explained & certain.unsqueeze(-1)].all()), f"{label}: certain cells must be one-hot")


def _check_categories(process: Any, x0: Tensor, x_t: Tensor, t: Tensor) -> None:
    shape = (*x0.shape, process.max_classes)
    emission, at_zero = process.log_emission(x_t, t), process.log_emission(x0, 0 * t)
    fits = emission.shape == shape and emission.dtype == torch.float64
    _assert(fits, "log_emission must be float64 of shape (n, ..., K_max)")
    true = x0.unsqueeze(-1)
    _assert(bool(emission.gather(-1, true).isfinite().all()), "log_emission must allow the class that was corrupted")
    alone = (at_zero > -torch.inf).sum(-1) == 1
    _assert(bool((at_zero.gather(-1, true) == 0).all()) and bool(alone.all()), "log_emission must be one-hot at t = 0")
    log_probs = _some_prediction(process, x0, x_t)
    rates = process.rates(x_t, log_probs, t)
    _assert(bool((rates.isfinite() & (rates >= 0)).all()), "rates must be finite and not negative at t = 0.5")
    for name, back in (
        ("score", process.log_probs_from_score(x_t, process.score(x_t, log_probs, t), t)),
        ("rates", process.log_probs_from_rates(x_t, rates, t)),
    ):
        same = torch.allclose(back.exp(), log_probs.exp(), rtol=1e-6, atol=1e-9)
        _assert(same, f"{name} must lead back to the prediction it came from")


def _some_prediction(process: Any, x0: State, x_t: State) -> Any:
    """A prediction at ``x_t``: the clean numbers, and of categories the one of equal logits."""
    if isinstance(x0, dict):
        return {name: _some_prediction(process.blocks[name], block, _blocks(x_t)[name]) for name, block in x0.items()}
    if x0.is_floating_point():
        return x0
    logits = torch.zeros(*x0.shape, process.max_classes, dtype=torch.float64)
    return process.log_probs(logits, x_t)


def _blocks(state: Any) -> dict[str, Any]:
    return dict(state) if isinstance(state, Mapping) else {"": state}


def _label(name: str) -> str:
    return f"block {name!r}" if name else "prediction"


def _alike(state: Any, like: State, what: str, *, dtypes: bool = True) -> None:
    for name, block in _blocks(like).items():
        found = _blocks(state).get(name)
        if not isinstance(found, Tensor):
            raise AssertionError(f"{what} must return {_label(name)}.")
        _assert(found.shape == block.shape, f"{what} must keep the shape of {_label(name)}")
        _assert(not dtypes or found.dtype == block.dtype, f"{what} must keep the dtype of {_label(name)}")


def _same(state: Any, like: State, promise: str) -> None:
    _alike(state, like, promise)
    _assert(all(torch.equal(_blocks(state)[name], block) for name, block in _blocks(like).items()), promise)


def _close(state: Any, like: State, promise: str) -> None:
    equal = map_blocks(lambda a, b: torch.isclose(a, b, rtol=1e-5, atol=1e-6).all(), state, like)
    _assert(all(bool(block) for block in _blocks(equal).values()), promise)


def _assert(promise_kept: bool, promise: str) -> None:
    if not promise_kept:
        raise AssertionError(promise + ".")
