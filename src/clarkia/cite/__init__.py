"""The registry of methods: which paper, which public name, which test proves it, which figure shows it."""

from importlib import import_module
from typing import Any

from clarkia.cite.curation import CURATION
from clarkia.cite.engine import ENGINE
from clarkia.cite.measures import MEASURES
from clarkia.cite.method import Method
from clarkia.cite.networks import NETWORKS
from clarkia.cite.steering import STEERING

__all__ = ["METHODS", "Method", "cite", "methods", "page", "resolve"]

METHODS = ENGINE + NETWORKS + MEASURES + CURATION + STEERING


def methods() -> tuple[Method, ...]:
    """All the methods of the library, each with its paper, its proof and its figure."""
    return METHODS


def cite(obj: Any) -> tuple[Method, ...]:
    """The methods behind an object.

    Args:
        obj: a class or function of the library, an instance of one of its classes, or the dotted name of one.

    Returns:
        Its entries in the registry, none if it implements no published method; `str` of one is its title and year.
    """
    if isinstance(obj, str):
        return tuple(method for method in METHODS if method.public_name == obj)
    candidates = (obj, type(obj))
    names = {getattr(candidate, "__name__", None) for candidate in candidates}
    near = [method for method in METHODS if method.public_name.rpartition(".")[2] in names]
    return tuple(method for method in near if any(resolve(method.public_name) is one for one in candidates))


def resolve(public_name: str) -> Any:
    """The object that a dotted name stands for."""
    module, _, name = public_name.rpartition(".")
    return getattr(import_module(module), name)


def page() -> str:
    """The registry as a page of Markdown."""
    lines = [
        "# Methods",
        "",
        "Every published method in clarkia, the name that implements it, the test that proves it and, where there is",
        "one, the recorded benchmark that shows its claim. This page is written by `make docs` from the registry in",
        "`src/clarkia/cite`; `clarkia methods` prints the same table.",
        "",
        "| Paper | Year | Kind | Name | Proof | Figure |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for method in METHODS:
        proof = f"[{method.proof.partition('::')[2]}](../{method.proof.partition('::')[0]})"
        figure = f"[{method.figure.rpartition('/')[2]}](../{method.figure})" if method.figure else ""
        cells = (method.title, str(method.year), method.kind, f"`{method.public_name}`", proof, figure)
        lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    return "\n".join(lines) + "\n"
