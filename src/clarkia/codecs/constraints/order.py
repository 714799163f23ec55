"""Which rules are built in, and in which order: each column is made by one step at the most."""

from __future__ import annotations

from collections.abc import Sequence

from clarkia.codecs.constraints.rules import Linked, Ordered, Rule, Sum
from clarkia.errors import DataError

Group = tuple[Rule, ...]
"""Rules that are built in by one step: one, or linked columns that share some."""


def buildable(rules: Sequence[Rule]) -> list[Group]:
    """The rules that can be built in. Linked columns come first: nothing else keeps them.

    Raises:
        DataError: a sum makes a column that is linked.
    """
    groups: list[Group] = list(_joined([rule for rule in rules if isinstance(rule, Linked)]))
    made = {name: group for group in groups for name in _makes(group)}
    for rule in rules:
        makes = () if isinstance(rule, Linked) else _makes((rule,))
        taken = [made[name] for name in makes if name in made]
        if taken and isinstance(rule, Sum) and isinstance(taken[0][0], Linked):
            _check_linked(rule, taken[0])
        elif makes and not taken:
            groups.append((rule,))
            made |= dict.fromkeys(makes, (rule,))
    return sorted(groups, key=lambda group: rules.index(group[0]))


def in_order(groups: Sequence[Group]) -> list[Group]:
    """An order in which each step finds its columns: one that needs a column before the one that makes it.

    Raises:
        DataError: two need each other's.
    """
    left, ordered = list(groups), []
    while left:
        free = [group for group in left if not any(set(_makes(group)) & set(_needs(other)) for other in left)]
        if not free:
            names = " and ".join(repr(str(rule)) for group in left for rule in group)
            raise DataError(f"The rules {names} follow from each other; leave one out.")
        ordered.append(free[0])
        left.remove(free[0])
    return ordered


def _joined(rules: Sequence[Linked]) -> list[tuple[Linked, ...]]:
    """Those that share columns, directly or through others, together."""
    groups: list[tuple[Linked, ...]] = []
    for rule in rules:
        apart = [group for group in groups if not set(_makes(group)) & set(rule.columns)]
        together = [one for group in groups if group not in apart for one in group]
        groups = [*apart, (*together, rule)]
    return groups


def _check_linked(rule: Sum, group: Group) -> None:
    """Raise `DataError` unless the sum holds in every combination that occurred."""
    loose = [name for name in rule.columns if name not in _makes(group)]
    if loose:
        linked = str(Linked(tuple(dict.fromkeys((*_makes(group), *loose)))))
        raise DataError(
            f"The rules {str(rule)!r} and {str(group[0])!r} both make the column {rule.total!r}; leave one out, or "
            f"link all columns, {linked!r}."
        )


def _makes(group: Group) -> tuple[str, ...]:
    """The columns that are no longer there when the rules are built in."""
    rule = group[0]
    if isinstance(rule, Sum):
        return () if rule.within else (rule.total,)
    if isinstance(rule, Ordered):
        return (rule.high,)
    return tuple(name for rule in group for name in rule.columns) if isinstance(rule, Linked) else ()


def _needs(group: Group) -> tuple[str, ...]:
    if isinstance(group[0], Linked):
        return ()
    return tuple(name for name in group[0].columns if name not in _makes(group))
