"""From conditions on columns to known cells: what is stated is held, what is bounded is drawn first, within bounds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from clarkia.codecs import Condition, Equal, Evidence, Missing, OneOf, TableCodec, intersect, parse
from clarkia.codecs.table.arrow import convert, is_missing, one_chunk
from clarkia.denoisers import Denoiser
from clarkia.errors import DataError
from clarkia.processes import Mixed
from clarkia.random import Noise, choose, rand
from clarkia.spaces import Categorical, Continuous
from clarkia.spaces import Mixed as MixedSpace

State = dict[str, Tensor]

# Below this probability of a condition the model has not learned what such rows look like.
LEAST_PROBABILITY = 1e-7
REJECTION_ROUNDS = 64


@dataclass(frozen=True)
class Clue:
    """What a condition says of one column.

    Attributes:
        name: the column.
        level: block and position of its level, None where the column has a single one.
        residual: position of its residual in the block "numeric", None where it has none.
        log_share: (K,) float64 log of the share of each level that meets the condition.
        low: (K,) float64 lower bound of the residual given each level.
        high: (K,) float64 upper bound.
    """

    name: str
    level: tuple[str, int] | None
    residual: int | None
    log_share: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, codec: TableCodec, name: str, evidence: Evidence) -> "Clue":
        """The clue that evidence on a column of a codec is."""
        column, _ = codec.column(name)
        parts = (evidence.levels, evidence.low, evidence.high)
        share, low, high = (torch.as_tensor(part, dtype=torch.float64) for part in parts)
        return cls(name, column.level, column.residual, share.log(), low, high)

    @property
    def is_value(self) -> bool:
        """Whether the condition leaves one level, and no width to its residual."""
        levels = torch.isfinite(self.log_share).nonzero().flatten()
        if len(levels) != 1:
            return False
        low, high = float(self.low[levels[0]]), float(self.high[levels[0]])
        return self.residual is None or low == high or (self.level is not None and low == -high == -torch.inf)


def conditions(given: Mapping[str, Any] | None, where: str | None) -> dict[str, Condition]:
    """All that is asked of the columns: values, lists of values and conditions by name, and conditions as text.

    Raises:
        DataError: the text is malformed, or two conditions on a column exclude each other.
    """
    found = {name: _condition(value) for name, value in (given or {}).items()}
    for name, condition in (parse(where) if where else {}).items():
        found[name] = intersect(name, found[name], condition) if name in found else condition
    return found


def _condition(value: Any) -> Condition:
    if isinstance(value, Condition):
        return value
    if value is None:
        return Missing()
    return OneOf(tuple(value)) if isinstance(value, list | tuple | set | frozenset) else Equal(value)


def clues(codec: TableCodec, conditions: Mapping[str, Condition]) -> list[Clue]:
    """The clues of all conditions, values first.

    Raises:
        DataError: an unknown column, a value never seen, a condition that no row can meet.
    """
    found = [Clue.of(codec, name, codec.evidence(name, condition)) for name, condition in conditions.items()]
    found = [clue for clue in found if clue.level is not None or clue.residual is not None]
    return sorted(found, key=lambda clue: not clue.is_value)


@torch.no_grad()
def known_cells(
    clues: list[Clue],
    denoiser: Denoiser,
    process: Mixed,
    space: MixedSpace,
    rows: int,
    generator: Noise,
    *,
    inside: bool = False,
) -> tuple[State, State]:
    """Draw the cells that conditions speak of, from the model's law given that all conditions hold.

    Columns are drawn one after the other, each given the ones before and within its condition; a row is kept with the
    probability that the conditions after the first had beforehand, which makes the joint law right. Rows that fail
    64 times keep one of their candidates, chosen in proportion to that probability. Where a condition cuts through a
    group of a numeric column, the value inside the group is drawn from the group's own law within the bounds only if
    nothing is known before; else the group alone is known, and whoever fills in the rest draws again what misses.

    Args:
        clues: of all conditions, values first.
        denoiser: trained with observed columns.
        process: its process.
        space: of the states.
        rows: number of rows.
        generator: source of randomness.
        inside: draw all values inside groups from the groups' own laws, as if they hung on no other column.

    Returns:
        Values and mask of the known cells, as `samplers.sample` takes them.

    Raises:
        DataError: under the model hardly any row meets the conditions.
    """
    x, mask = nothing_known(process, space, rows)
    bounded = [clue for clue in clues if not clue.is_value]
    for clue in clues[: len(clues) - len(bounded)]:
        level = int(torch.isfinite(clue.log_share).nonzero()[0])
        _hold(x, mask, clue, torch.full((rows,), level), torch.full((rows,), 0.5, dtype=torch.float64))
    if not bounded:
        return x, mask
    # Without a residual a group holds several values, of which none is drawn here.
    own = [clue.residual is not None and (inside or (clue is clues[0])) for clue in bounded]
    return _draw_bounded(x, mask, bounded, own, denoiser, rows, generator)


def forbidden(codec: TableCodec, clues: list[Clue]) -> dict[str, Tensor]:
    """By block, the classes that conditions rule out, bool ``(positions, classes)``; none where they rule out none."""
    found: dict[str, Tensor] = {}
    for clue in clues:
        impossible = torch.isinf(clue.log_share)
        if clue.level is not None and bool(impossible.any()):
            name, position = clue.level
            block = codec.space.blocks[name]
            assert isinstance(block, Categorical)
            found.setdefault(name, torch.zeros(len(block.counts), block.max_classes, dtype=torch.bool))
            found[name][position, : len(impossible)] = impossible
    return found


def stated(table: pa.Table, conditions: Mapping[str, Condition]) -> pa.Table:
    """The table with every value that was stated exactly as it was stated, whatever bucket it shares with others."""
    for name, condition in conditions.items():
        if isinstance(condition, Equal):
            index = table.schema.get_field_index(name)
            field = table.schema.field(index)
            coded = pa.types.is_dictionary(field.type)
            try:
                value = pa.scalar(condition.value, field.type.value_type if coded else field.type)
            except pa.ArrowException:
                continue  # a date stated as text, say: decoding it is exact already
            cells = pa.repeat(value, table.num_rows)
            table = table.set_column(index, field, cells.dictionary_encode().cast(field.type) if coded else cells)
    return table


def filled(table: pa.Table, drawn: pa.Table) -> pa.Table:
    """The drawn table with every cell that the given table holds put back as it was."""
    for index, field in enumerate(drawn.schema):
        if field.name in table.column_names:
            given = convert(field.name, one_chunk(table.column(field.name)), field.type)
            fresh = one_chunk(drawn.column(index))
            coded = pa.types.is_dictionary(field.type)
            if coded:
                given, fresh = (array.cast(field.type.value_type) for array in (given, fresh))
            cells = pc.if_else(pa.array(is_missing(given)), fresh, given)  # type: ignore[attr-defined]
            drawn = drawn.set_column(index, field, cells.dictionary_encode().cast(field.type) if coded else cells)
    return drawn


def _draw_bounded(
    stated: State,
    held: State,
    bounded: list[Clue],
    own: list[bool],
    denoiser: Denoiser,
    rows: int,
    generator: Noise,
) -> tuple[State, State]:
    """Draw the bounded columns by rejection; a row that is always rejected gets one of its candidates, resampled.

    What is stated and its mask come first; `own` says of each clue whether its value inside a group is drawn too.
    """
    x, mask = ({name: block.clone() for name, block in part.items()} for part in (stated, held))
    pending = torch.arange(rows)
    mass = torch.zeros(rows, dtype=torch.float64)
    for _ in range(REJECTION_ROUNDS if len(bounded) > 1 else 1):
        uniforms = rand((rows, 2 * len(bounded) + 2), generator)[pending]
        trial, trial_mask, log_odds = _one_round(stated, held, bounded, own, denoiser, pending, uniforms)
        probability = log_odds.exp().clamp(max=1.0)
        accepted = uniforms[:, -1] < probability
        # Among rejected candidates the odds are the weights that restore the law; the reservoir holds one of them,
        # drawn in proportion, whatever the number of rounds.
        weight = probability / (1.0 - probability).clamp(min=1e-12)  # a sure candidate is never rejected
        mass[pending] += weight
        kept = accepted | (uniforms[:, -2] * mass[pending] <= weight)
        for name in x:
            x[name][pending[kept]] = trial[name][kept]
            mask[name][pending[kept]] = trial_mask[name][kept]
        pending = pending[~accepted]
        if not len(pending):
            return x, mask
    if bool((mass[pending] <= LEAST_PROBABILITY).any()):
        raise DataError(f"Hardly any row meets all of the conditions on {_names(bounded)}: loosen one of them.")
    return x, mask


def _one_round(
    x: State,
    mask: State,
    bounded: list[Clue],
    own: list[bool],
    denoiser: Denoiser,
    pending: Tensor,
    uniforms: Tensor,
) -> tuple[State, State, Tensor]:
    """One candidate for each pending row, and the log-probability of the conditions after the first."""
    x, mask = ({name: block[pending] for name, block in part.items()} for part in (x, mask))
    log_odds = torch.zeros(len(pending), dtype=torch.float64)
    for index, (clue, inside) in enumerate(zip(bounded, own, strict=True)):
        # What is left to be drawn inside a group will be rejected with just the share that is missing here.
        log_share = clue.log_share if inside else torch.where(clue.log_share > -torch.inf, 0.0, -torch.inf)
        level = torch.zeros(len(pending), dtype=torch.int64)
        if clue.level is not None:
            block, position = clue.level
            log_probs = denoiser(x, _times(mask))[block][:, position, : len(log_share)].double()
            log_probs = log_probs + log_share
            total = log_probs.logsumexp(-1)
            if index == 0 and float(total.max()) < torch.tensor(LEAST_PROBABILITY).log():
                raise DataError(f"Hardly any row meets the condition on {clue.name!r}, given the others: loosen it.")
            # A candidate whose earlier columns rule the condition out has odds of zero, whatever the other rows.
            possible = torch.isfinite(total)[:, None]
            log_probs = torch.where(possible, log_probs - total[:, None], log_share)
            level = choose(log_probs, uniforms[:, 2 * index])
            log_odds += total if index else 0.0
        _hold(x, mask, clue, level, uniforms[:, 2 * index + 1] if inside else None)
    return x, mask, log_odds


def _hold(x: State, mask: State, clue: Clue, level: Tensor, uniforms: Tensor | None) -> None:
    """Write the level of a column into known cells and, with uniform numbers, its residual where it is bounded."""
    if clue.level is not None:
        block, position = clue.level
        x[block][:, position] = level
        mask[block][:, position] = True
    if clue.residual is not None and uniforms is not None:
        low, high = torch.special.ndtr(clue.low[level]), torch.special.ndtr(clue.high[level])
        residual = torch.special.ndtri(low + uniforms * (high - low)).clamp(-8.0, 8.0)  # u = 0 and u = 1 are infinite
        # A value stated exactly must not pass through the distribution function and back.
        residual = torch.where(clue.low[level] == clue.high[level], clue.low[level], residual)
        held = torch.isfinite(clue.low[level]) | torch.isfinite(clue.high[level])
        column = x["numeric"][:, clue.residual]
        x["numeric"][:, clue.residual] = torch.where(held, residual.to(column.dtype), column)
        mask["numeric"][:, clue.residual] = held


def nothing_known(process: Mixed, space: MixedSpace, rows: int) -> tuple[State, State]:
    """A state of which no cell is known, and its mask."""
    x: State = {}
    for name, block in space.blocks.items():
        if isinstance(block, Continuous):
            x[name] = torch.zeros((rows, *block.shape))
        else:
            x[name] = process.blocks[name].prior(rows, block.shape)  # type: ignore[assignment]
    return x, {name: torch.zeros(block.shape, dtype=torch.bool) for name, block in x.items()}


def _times(mask: State) -> State:
    return {name: torch.where(cells, 0.0, 1.0) for name, cells in mask.items()}


def _names(clues: list[Clue]) -> str:
    return " and ".join(repr(clue.name) for clue in clues)
