"""Filling the empty cells of rows, and predicting a column that is made by a rule."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarkia.codecs import TableCodec
from clarkia.codecs.constraints.linked import LinkStep
from clarkia.codecs.table.category import CategoryCoding, plain
from clarkia.models import queries
from clarkia.models.rows import ROWS_PER_EVALUATION, RowSampler
from clarkia.models.table_fit import tensors
from clarkia.random import RowBlocks, choose, rand

State = dict[str, Tensor]
Mask = NDArray[np.bool_]


def impute(codec: TableCodec, sampler: RowSampler, table: pa.Table, seed: int, coding_seed: int) -> pa.Table:
    """A table with every empty cell drawn from its law given the cells of its row that are there.

    Args:
        codec: of the changed columns.
        sampler: what is drawn with.
        table: rows with some of the columns.
        seed: of the draws.
        coding_seed: of what coding a value leaves open.

    Raises:
        DataError: a row that breaks a rule of the model, or a value that was never seen.
    """
    parts = [
        _filled(codec, sampler, table.slice(start, ROWS_PER_EVALUATION), start, seed, coding_seed)
        for start in range(0, table.num_rows, ROWS_PER_EVALUATION)
    ]
    return pa.concat_tables(parts) if parts else table


def _filled(
    codec: TableCodec, sampler: RowSampler, given: pa.Table, start: int, seed: int, coding_seed: int
) -> pa.Table:
    part, allowed = sampler.encoding.with_holes(given)
    rng = np.random.default_rng([coding_seed, start])
    values = tensors(codec.encode(part, rng, holes="fill", unseen="error"))
    mask = {name: torch.from_numpy(cells) for name, cells in codec.observed(part).items()}
    source = RowBlocks(seed, start, part.num_rows)
    if allowed:
        linked = RowBlocks(seed + (1 << 32), start, part.num_rows)
        values, mask = _hold_allowed(sampler, values, mask, allowed, linked)
    drawn = sampler.fill((values, mask), source, present_only=True)
    table = queries.filled(part, sampler.decode(drawn, source, start))
    for step in sampler.encoding.steps:
        if isinstance(step, LinkStep):
            table = _only_allowed(table, step, allowed[step.added])
    return queries.filled(given, sampler.encoding.backward(table)) if sampler.encoding.steps else table


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
