"""Derivatives of a field ``f(x, t)`` that acts on each row alone: products, traces, Jacobians and their spectra.

Several directions a row are served by one evaluation on repeated rows, so a field may branch on its data, as closed
forms do, and needs no batching rules. Nothing larger than about ``LARGEST`` numbers is put through a field at once.
"""

import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import TypeAlias

import torch
from torch import Tensor
from torch.func import grad, vjp

Field: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""``f(x, t) -> y`` with ``x`` of shape ``(n, ...)``, ``t`` of ``(n,)`` or ``x``'s shape, and ``y`` of ``(n, ...)``."""

LARGEST = 2**24


def along(
    function: Callable[..., Tensor], point: tuple[Tensor, ...], direction: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """Value of a function at a point and its derivative in a direction, by forward differentiation."""
    _load_rules()
    return torch.func.jvp(function, point, direction)  # type: ignore[return-value]


@cache
def _load_rules() -> None:
    """Have torch load its forward rules, which it compiles with a compiler that it calls deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.func.jvp(torch.sin, (torch.zeros(()),), (torch.zeros(()),))


def jvp(field: Field, x: Tensor, t: Tensor, directions: Tensor) -> Tensor:
    """Products ``J v`` of each row's Jacobian by k directions.

    Args:
        field: The field.
        x: ``(n, ...)``.
        t: ``(n,)`` or the shape of ``x``.
        directions: ``(n, k, ...)``, each of a row's own shape.

    Returns:
        ``(n, k, ...)``, each of the shape of a row of the field.
    """

    def push(rows: Tensor, times: Tensor, block: Tensor) -> Tensor:
        return along(lambda point: field(point, times), (rows,), (block,))[1]

    return torch.cat([_each(push, x, t, block) for block in _blocks(directions)], 1)


def vjp_rows(field: Field, x: Tensor, t: Tensor, directions: Tensor) -> Tensor:
    """Products ``J^T w`` of each row's Jacobian by k directions ``(n, k, ...)`` of the field's own shape."""

    def pull(rows: Tensor, times: Tensor, block: Tensor) -> Tensor:
        return vjp(lambda point: field(point, times), rows)[1](block)[0]

    return torch.cat([_each(pull, x, t, block) for block in _blocks(directions)], 1)


def time_derivative(field: Field, x: Tensor, t: Tensor) -> Tensor:
    """``df/dt`` at a fixed state, the time of all elements of a row moving together; the shape of the field."""
    return along(lambda time: field(x, time), (t,), (torch.ones_like(t),))[1]


def gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Gradient of a function of each row alone, ``(n, ...) -> (n,)``; the shape of ``x``."""
    return grad(lambda point: function(point).sum())(x)


def jacobian(field: Field, x: Tensor, t: Tensor) -> Tensor:
    """The Jacobian of every row, ``(n, d_out, d_in)``, both axes flattened."""
    columns = jvp(field, x, t, _basis(x))
    return columns.flatten(2).mT


def trace(field: Field, x: Tensor, t: Tensor, probes: Tensor | None = None) -> Tensor:
    """The divergence of the field at every row, ``(n,)``.

    Args:
        field: A field whose rows have the shape of a row of ``x``.
        x: ``(n, ...)``.
        t: ``(n,)`` or the shape of ``x``.
        probes: ``(n, k, ...)`` with independent entries of mean 0 and variance 1, for Hutchinson's unbiased estimate;
            None for the exact sum, which costs one evaluation an element.
    """
    directions = _basis(x) if probes is None else probes
    terms = (directions * jvp(field, x, t, directions)).flatten(2).sum(2)
    return terms.sum(1) if probes is None else terms.mean(1)


def rademacher(x: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """``count`` directions a row with entries -1 or 1, ``(n, count, ...)``."""
    device = generator.device if generator else x.device
    coins = torch.randint(2, (len(x), count, *x.shape[1:]), generator=generator, device=device)
    return 2 * coins.to(x) - 1


def normal(x: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """``count`` standard normal directions a row, ``(n, count, ...)``."""
    device = generator.device if generator else x.device
    return torch.randn((len(x), count, *x.shape[1:]), generator=generator, dtype=x.dtype, device=device).to(x)


def randomised_svd(
    field: Field,
    x: Tensor,
    t: Tensor,
    rank: int,
    *,
    oversample: int = 8,
    iterations: int = 2,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The leading singular triples of every row's Jacobian from products alone.

    Args:
        field: The field.
        x: ``(n, ...)``.
        t: ``(n,)`` or the shape of ``x``.
        rank: Number of triples; held at the size of a row.
        oversample: Further directions that make the leading ones accurate.
        iterations: Power iterations, each of which multiplies the spectral gaps.
        generator: Source of the first directions.

    Returns:
        ``U (n, d_out, rank)``, ``S (n, rank)`` in decreasing order and ``V^T (n, rank, d_in)``.

    Source: Finding Structure with Randomness (2011).
    """
    shape, size = x.shape[1:], x[0].numel()
    rank, width = min(rank, size), min(rank + oversample, size)
    image = jvp(field, x, t, normal(x, width, generator))
    out = image.shape[2:]
    for _ in range(iterations):
        back = vjp_rows(field, x, t, _orthonormal(image).unflatten(2, out))
        image = jvp(field, x, t, _orthonormal(back).unflatten(2, shape))
    basis = _orthonormal(image)
    u, s, vt = torch.linalg.svd(vjp_rows(field, x, t, basis.unflatten(2, out)).flatten(2), full_matrices=False)
    return basis.mT @ u[:, :, :rank], s[:, :rank], vt[:, :rank]


def _each(product: Callable[[Tensor, Tensor, Tensor], Tensor], x: Tensor, t: Tensor, directions: Tensor) -> Tensor:
    """One evaluation for k directions a row: every row is repeated k times."""
    n, k = directions.shape[:2]
    result = product(x.repeat_interleave(k, 0), t.repeat_interleave(k, 0), directions.flatten(0, 1))
    return result.unflatten(0, (n, k))


def _blocks(directions: Tensor) -> Iterator[Tensor]:
    """Directions in groups whose repeated rows hold at most ``LARGEST`` numbers."""
    a_direction = max(1, directions.shape[0] * directions[0, 0].numel())
    return iter(directions.split(max(1, LARGEST // a_direction), 1))


def _basis(x: Tensor) -> Tensor:
    size = x.shape[1:].numel()
    unit = torch.eye(size, dtype=x.dtype, device=x.device).reshape(size, *x.shape[1:])
    return unit.expand(len(x), *unit.shape)


def _orthonormal(vectors: Tensor) -> Tensor:
    """An orthonormal basis of the span of vectors ``(n, k, ...)``, as rows ``(n, k, d)``."""
    return torch.linalg.qr(vectors.flatten(2).mT)[0].mT
