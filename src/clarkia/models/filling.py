"""Filling the empty cells of rows so that the rules of the model are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarkia.codecs import TableCodec
from clarkia.codecs.constraints import RuleEncoding, kept
from clarkia.codecs.constraints.linked import LinkStep
from clarkia.codecs.table.arrow import is_missing, one_chunk
from clarkia.codecs.table.category import CategoryCoding, plain
from clarkia.errors import DataError
from clarkia.models import queries, steered
from clarkia.models.rows import ROWS_PER_EVALUATION, RowSampler
from clarkia.models.table_fit import tensors
from clarkia.random import RowBlocks, choose, rand

State = dict[str, Tensor]
Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]

MOST_DRAWS = 1024
"""Draws of one row before it is given up. Rows differ in how often a draw keeps the rules: each has so many."""


@dataclass(frozen=True, eq=False)
class Gaps:
    """Rows whose empty cells are to be filled: checked and coded.

    Attributes:
        given: the rows as they came.
        changed: their columns as they are coded, with what the rules imply.
        held: by linked column what the rows hold of those that are linked.
        values, mask: their state, and which of its cells are known.
        rows: their numbers in the frame, for messages.
    """

    given: pa.Table
    changed: pa.Table
    held: dict[str, pa.Table]
    values: State
    mask: State
    rows: Rows

    @classmethod
    def of(cls, codec: TableCodec, rules: RuleEncoding, given: pa.Table, coding_seed: int) -> Gaps:
        """Check and code the rows of a frame.

        Args:
            codec: of the changed columns.
            rules: of the model.
            given: rows with some of the columns.
            coding_seed: of what coding a value leaves open.

        Raises:
            DataError: a row that breaks a rule of the model, or a value that was never seen.
        """
        changed, held = rules.with_holes(given)
        rng = np.random.default_rng([coding_seed, 0])
        values = tensors(codec.encode(changed, rng, holes="fill", unseen="error"))
        mask = {name: torch.from_numpy(cells) for name, cells in codec.observed(changed).items()}
        return cls(given, changed, held, values, mask, np.arange(given.num_rows))

    def take(self, places: Rows) -> Gaps:
        """Some of the rows, also several times."""
        index = torch.from_numpy(places)
        return Gaps(
            self.given.take(places),
            self.changed.take(places),
            {name: table.take(places) for name, table in self.held.items()},
            {name: block[index] for name, block in self.values.items()},
            {name: block[index] for name, block in self.mask.items()},
            self.rows[places],
        )

    @property
    def narrowed(self) -> Mask:
        """Which rows hold something of linked columns that leaves several combinations, ``(n,)``."""
        found = np.zeros(len(self.rows), bool)
        for added, table in self.held.items():
            some = np.any([~is_missing(one_chunk(column)) for column in table.columns], axis=0)
            found |= some & is_missing(one_chunk(self.changed.column(added)))
        return found


def impute(codec: TableCodec, sampler: RowSampler, table: pa.Table, seed: int, coding_seed: int) -> pa.Table:
    """A table with every empty cell drawn from its law given the cells of its row that are there.

    Args:
        codec: of the changed columns.
        sampler: what is drawn with.
        table: rows with some of the columns.
        seed: of the draws.
        coding_seed: of what coding a value leaves open.

    Raises:
        DataError: a row that breaks a rule of the model or hardly ever keeps it, or a value that was never seen.
    """
    if not table.num_rows:
        return table
    gaps = Gaps.of(codec, sampler.encoding, table, coding_seed)
    whole = sampler._with_keys(fill(sampler, gaps, seed, gaps.rows), 0)
    return queries.filled(table, whole)


def fill(sampler: RowSampler, gaps: Gaps, seed: int, numbers: Rows) -> pa.Table:
    """The rows with every gap filled, so that the model's rules are kept.

    Args:
        sampler: what is drawn with.
        gaps: the rows.
        seed: of the draws.
        numbers: of the rows' noise.

    Raises:
        DataError: a row of which hardly any draw keeps a rule.
    """
    rules = sampler.encoding

    def draw(attempt: int, copies: int, some: Rows) -> pa.Table:
        noise = torch.from_numpy(steered.copied(numbers[some], copies))
        sources = (RowBlocks.at(seed + (2 * attempt + stream << 32), noise) for stream in range(2))
        return _filled(sampler, gaps.take(np.repeat(some, copies)), *sources)

    def keeps(drawn: pa.Table) -> Mask:
        good = ~rules.breaks_standing(drawn)
        if drawn.num_rows >= ROWS_PER_EVALUATION and not good.any():
            broken = _named(rules, drawn)
            raise DataError(f"None of {drawn.num_rows:,} draws keeps {broken}; the rows can hardly be filled in.")
        return good

    found = steered.tried(draw, keeps, len(numbers), together=ROWS_PER_EVALUATION, most=MOST_DRAWS)
    bad = np.flatnonzero(~found.good)
    if len(bad):
        broken = _named(rules, found.points.slice(bad[0], 1))
        raise DataError(
            f"Row {gaps.rows[bad[0]] + 1}: none of {MOST_DRAWS:,} draws keeps {broken} with what the row holds; "
            "correct the row, or leave more of its cells empty."
        )
    return found.points


def _named(rules: RuleEncoding, rows: pa.Table) -> str:
    """The rules that some of the rows break, for a message."""
    broken = [repr(str(rule)) for rule in rules.standing if not kept(rule, rows, holes=True).all()]
    return f"the rule{'s' if len(broken) > 1 else ''} {' and '.join(broken)}"


def _filled(sampler: RowSampler, gaps: Gaps, source: RowBlocks, linked: RowBlocks) -> pa.Table:
    rules, known = sampler.encoding, (gaps.values, gaps.mask)
    steps = {step.added: step for step in rules.steps if isinstance(step, LinkStep)}
    allowed = {name: steps[name].allowed(table) for name, table in gaps.held.items()}
    if allowed:
        known = _hold_allowed(sampler, *known, allowed, linked)
    drawn = sampler.fill(known, source, present_only=True)
    table = queries.filled(gaps.changed, sampler.decode(drawn, source))
    for name, fits in allowed.items():
        table = _only_allowed(table, steps[name], fits)
    return rules.emptied(queries.filled(gaps.given, rules.backward(table)), gaps.given)


@torch.no_grad()
def _hold_allowed(
    sampler: RowSampler, values: State, mask: State, allowed: Mapping[str, Mask], source: RowBlocks
) -> tuple[State, State]:
    """Draw linked columns first, each from its law given all that is known, among the combinations a row allows."""
    steps = {step.added: step for step in sampler.encoding.steps if isinstance(step, LinkStep)}
    values, mask = ({name: block.clone() for name, block in part.items()} for part in (values, mask))
    unknown, _ = queries.nothing_known(sampler.process, sampler.codec.space, source.rows)
    for name, fits in allowed.items():
        column, coding = sampler.codec.column(name)
        uniforms = rand((source.rows,), source)
        if column.level is None or not isinstance(coding, CategoryCoding):
            continue
        block, position = column.level
        open_rows = ~mask[block][:, position]
        shares = torch.from_numpy(_class_shares(coding, column.num_levels, steps[name], fits))
        times = {part: torch.where(cells, 0.0, 1.0) for part, cells in mask.items()}
        noisy = {part: torch.where(mask[part], cells, unknown[part]) for part, cells in values.items()}
        log_probs = sampler.denoiser(noisy, times)[block][:, position, : column.num_levels].double() + shares.log()
        # Where the model rules out all that a row allows, the combinations are as likely as each other.
        log_probs = torch.where((log_probs > -torch.inf).any(1, keepdim=True), log_probs, shares.log())
        level = choose(log_probs - log_probs.amax(1, keepdim=True), uniforms)
        values[block][:, position] = torch.where(open_rows, level, values[block][:, position])
        mask[block][:, position] = True
    return values, mask


def _class_shares(coding: CategoryCoding, num_levels: int, step: LinkStep, fits: Mask) -> NDArray[np.float64]:
    """Which share of each class of a linked column a row allows, ``(n, levels)``."""
    shares = np.zeros((len(fits), num_levels))
    place = {label: number for number, label in enumerate(step.labels.to_pylist())}
    for level, label in enumerate(plain(coding.values).to_pylist()):
        shares[:, level] = fits[:, place[label]]
    if coding.rare is not None:
        rare = [place[label] for label in plain(coding.rare_values).to_pylist()]
        shares[:, coding.rare] = fits[:, rare] @ (coding.rare_counts / coding.rare_counts.sum())
    return shares


def _only_allowed(table: pa.Table, step: LinkStep, allowed: Mask) -> pa.Table:
    """The table where a rare combination that a row does not allow is replaced by the commonest that it does."""
    column = plain(table.column(step.added).combine_chunks())
    place = {label: number for number, label in enumerate(step.labels.to_pylist())}
    found = np.array([place[label] for label in column.to_pylist()], np.int64)
    wrong = ~allowed[np.arange(len(found)), found]
    labels = step.labels.take(pa.array(np.where(wrong, allowed.argmax(1), found)))
    index = table.schema.get_field_index(step.added)
    return table.set_column(index, table.schema.field(index), labels.cast(table.schema.field(index).type))
