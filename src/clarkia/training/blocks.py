"""The repeated layers of a network."""

from __future__ import annotations

from torch import nn


def blocks(module: nn.Module) -> list[nn.Module]:
    """The outermost members of module lists that are called as modules: the layers of which a network has many."""
    found = []
    for child in module.children():
        members = child if isinstance(child, nn.ModuleList) else ()
        called = [member for member in members if called_as_module(member) and any(True for _ in member.parameters())]
        found += called or blocks(child)
    return found


def called_as_module(module: nn.Module) -> bool:
    """Whether the module has a forward call of its own, which a list or a dict of modules has not."""
    return type(module).forward is not nn.Module.forward
