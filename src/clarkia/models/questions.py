"""What rows are asked for: conditions that the codec understands, and wishes that finished rows are judged by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from clarkia.adapters.frames import from_arrow
from clarkia.codecs import Condition, intersect
from clarkia.codecs.constraints import Rule, RuleEncoding, Sum, Where, parse_rules, parse_terms
from clarkia.codecs.constraints.cells import check_columns
from clarkia.codecs.constraints.rules import linear, missing_cells
from clarkia.codecs.table.roles import unknown_column
from clarkia.errors import DataError
from clarkia.models import queries
from clarkia.models.wishes import (
    NUM_PARTICLES,
    Exactness,
    Floats,
    Wish,
    callable_reward,
    callable_rules,
    check_question,
    numbers_of,
)


@dataclass(frozen=True)
class Question:
    """What rows are asked for.

    Attributes:
        conditions: on columns as they are coded.
        wish: what finished rows are judged by.
        exactness: how; see `TableModel.sample`.
        num_particles: particles a row.
        asked: whether more is wished than what every row of the model keeps.
    """

    conditions: Mapping[str, Condition]
    wish: Wish
    exactness: Exactness = "asymptotic"
    num_particles: int = NUM_PARTICLES
    asked: bool = False

    @property
    def by_particles(self) -> bool:
        """Whether rows are drawn by particles; what every row of the model keeps is hardly ever broken by a draw."""
        return self.asked and self.exactness != "exact"

    @classmethod
    def of(
        cls,
        encoding: RuleEncoding,
        like: Any,
        *,
        given: Mapping[str, Any] | None = None,
        where: str | None = None,
        constraints: Sequence[Any] | None = None,
        reward: Callable[[Any], Any] | str | None = None,
        reward_scale: float = 1.0,
        exactness: Exactness = "asymptotic",
        num_particles: int = NUM_PARTICLES,
        plain: Callable[[], pa.Table] | None = None,
    ) -> Question:
        """Put a question together.

        Args:
            encoding: of the model's rules.
            like: a frame of the kind that the user sees.
            given: as of `TableModel.sample`, like the following ones.
            where: conditions.
            constraints: rules.
            reward: what to maximise.
            reward_scale: how much it counts.
            exactness: how.
            num_particles: particles a row.
            plain: draws some rows without any wish, by which a reward that is a text finds its unit.

        Raises:
            DataError: something that cannot be asked.
        """
        check_question(exactness, num_particles, reward, reward_scale)
        conditions = queries.conditions(given, where)
        rules = parse_rules(constraints)
        known = encoding.schema.names
        for rule in (rule for rule in rules if isinstance(rule, Where)):
            check_columns(rule.columns, known, rule)
            for name, condition in rule.conditions.items():
                conditions[name] = intersect(name, conditions[name], condition) if name in conditions else condition
        for name in conditions:
            if name not in known:
                raise DataError(unknown_column(name, known))
        own = [rule for rule in rules if hasattr(rule, "excess") and not isinstance(rule, Where)]
        for rule in own:
            check_columns(rule.columns, known, rule)
        kept = [rule for rule in own if rule in encoding.rules]
        native, derived = encoding.translate(conditions)
        asked = [*derived, *(_measured(rule, plain) for rule in own if rule not in kept)]
        wishes = {str(rule): _excess(rule, holes=False) for rule in asked}
        show = _shown_as(like)
        wishes |= callable_rules([rule for rule in rules if not hasattr(rule, "excess")], show)
        earns = _of_columns(reward, known, plain) if isinstance(reward, str) else callable_reward(reward, show)
        is_asked = bool(wishes) or earns is not None
        # Every row of the model keeps its rules, where no cell is missing; the ones that are asked for allow no such.
        wishes = {str(rule): _present(rule) for rule in kept if rule not in encoding.standing} | wishes
        wishes = {str(rule): _excess(rule, holes=rule not in kept) for rule in encoding.standing} | wishes
        if is_asked:
            # Where a condition cuts a group of values its bounds may be too wide: what is drawn is judged by it again.
            met = {name: condition for name, condition in conditions.items() if name not in encoding.hidden}
            wishes |= {str(Where(met)): _excess(Where(met), holes=False)} if met else {}
        return cls(native, Wish(wishes, earns, reward_scale), exactness, num_particles, is_asked)


def _excess(rule: Rule, *, holes: bool) -> Callable[[pa.Table], Floats]:
    return lambda table: rule.excess(table, holes=holes)


def _present(rule: Rule) -> Callable[[pa.Table], Floats]:
    return lambda table: np.where(missing_cells(rule, table), np.nan, -1.0)


def _measured(rule: Rule, plain: Callable[[], pa.Table] | None) -> Rule:
    """A sum with the digits of plain rows: those of the rows at hand would be others in each batch."""
    return rule.measured(plain()) if plain and isinstance(rule, Sum) else rule


def _shown_as(like: Any) -> Callable[[pa.Table], Any]:
    return lambda table: from_arrow(table, like)


def _of_columns(text: str, known: Sequence[str], plain: Callable[[], pa.Table] | None) -> Callable[[pa.Table], Floats]:
    """The reward that a sum of columns is, in units of its deviation over plain rows; a missing cell excludes a row."""
    terms, _ = parse_terms(text)
    check_columns((name for name, _ in terms), known, text)
    values = linear(plain() if plain else pa.table({}), terms)
    middle, unit = float(np.nanmean(values)), float(np.nanstd(values)) or 1.0

    def reward(table: pa.Table) -> Floats:
        found = (linear(table, terms) - middle) / unit
        return numbers_of(np.where(np.isnan(found), -np.inf, found), table.num_rows, text)

    return reward
