"""Drawing rows: the sampling loop between a query's known cells and a decoded table."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarkia import samplers, steering
from clarkia.codecs import Condition, TableCodec
from clarkia.codecs.constraints import RuleEncoding
from clarkia.codecs.table.fixed import KeyCoding
from clarkia.denoisers import Denoiser
from clarkia.errors import DataError
from clarkia.guidance import classifier_free, unaware_of, without_classes
from clarkia.guidance.guided import Guided
from clarkia.models import architecture, missing, queries, steered
from clarkia.models.questions import Question
from clarkia.processes import Mixed
from clarkia.random import RowBlocks, rand

State = dict[str, Tensor]

ROWS_PER_EVALUATION = 4096
"""Rows that go through the network together: enough to keep it busy, few enough for the cache."""

_STREAMS = 4
"""Sources of noise that an attempt may use, each of its own seed."""

_ATTEMPTS = 32
"""Attempts at conditions that each attempt at a wish may make, at the most."""

_MOST_DRAWS = 64
"""Draws of a row before a number is drawn within bounds from the law of its group alone."""


@dataclass(frozen=True)
class RowSampler:
    """What rows are drawn with.

    Attributes:
        codec: of the table, its columns changed by the rules.
        process: the mixed process.
        denoiser: the trained denoiser.
        num_steps: solver steps; None for the default of the space.
        guidance_scale: classifier-free guidance towards known cells.
        solver: None for the default.
        encoding: of the rules; by default of none.
    """

    codec: TableCodec
    process: Mixed
    denoiser: Denoiser
    num_steps: int | None = None
    guidance_scale: float = 0.0
    solver: samplers.Mixed | None = None
    encoding: RuleEncoding = field(default_factory=lambda: RuleEncoding(pa.schema([])))

    @property
    def steps(self) -> int:
        """Solver steps."""
        return self.num_steps or architecture.default_steps(self.codec.space)

    def table(self, question: Question, *, complete: bool, seed: int, start: int, rows: int) -> pa.Table:
        """Rows number `start` and after, each a function of the seed and its number."""
        if question.by_particles:
            return self._by_particles(question, complete, seed, start, rows)

        def draw(attempt: int, copies: int, some: NDArray[np.int64]) -> pa.Table:
            # Attempts are far enough apart for those that draw again what a condition cuts.
            source = seed + (attempt * _ATTEMPTS * _STREAMS << 32)
            return self.plain(question.conditions, complete, source, steered.copied(start + some, copies))

        if not question.wish:
            return self._with_keys(draw(0, 1, np.arange(rows)), start)
        kept = steered.first_kept(draw, question.wish, rows, together=ROWS_PER_EVALUATION)
        return self._with_keys(kept, start)

    def plain(
        self, conditions: Mapping[str, Condition], complete: bool, seed: int, rows: NDArray[np.int64]
    ) -> pa.Table:
        """Rows of these numbers that meet conditions on columns as they are coded, whatever is wished besides.

        Warns:
            UserWarning: some rows met no draw within the bounds of a group, so that numbers were drawn inside groups
                without regard to the other columns.
        """
        clues = queries.clues(self.codec, conditions)

        def draw(attempt: int, copies: int, some: NDArray[np.int64], *, inside: bool = False) -> pa.Table:
            # What takes as many draws as the hardest of its rows needs has noise of its own: the draws that come after
            # would otherwise depend on which rows are drawn together.
            cells, asked, holes, rare = _sources(seed, attempt, steered.copied(rows[some], copies))
            known = queries.known_cells(
                clues, self.denoiser, self.process, self.codec.space, cells.rows, asked, inside=inside
            )
            state = self.fill(known, cells)
            if complete:
                present = missing.present_cells(self.codec, state)
                state = self.fill((state, present), holes, present_only=True)
            return queries.stated(self.decode(state, rare if clues else cells), conditions)

        def within(table: pa.Table) -> NDArray[np.bool_]:
            return self.codec.satisfies(table, conditions)

        if not conditions:
            return self.encoding.backward(draw(0, 1, np.arange(len(rows))))
        found = steered.tried(draw, within, len(rows), together=ROWS_PER_EVALUATION, most=_MOST_DRAWS)
        drawn, lost = found.points, np.flatnonzero(~found.good)
        if len(lost):
            drawn = pa.concat_tables([drawn, self._inside(draw, within, lost, len(rows))])
            places = np.arange(len(rows))
            places[lost] = len(rows) + np.arange(len(lost))
            drawn = drawn.take(places)
        return self.encoding.backward(drawn)

    def _by_particles(self, question: Question, complete: bool, seed: int, start: int, rows: int) -> pa.Table:
        clues = queries.clues(self.codec, question.conditions)
        # Particles of a row share what they hold: what is stated. What is bounded they must find within its bounds.
        stated = [clue for clue in clues if clue.is_value]
        forbidden = queries.forbidden(self.codec, [clue for clue in clues if not clue.is_value])

        def shown(state: State, uniforms: np.ndarray) -> pa.Table:
            drawn = self.codec.decode(state, uniforms)
            return self.encoding.backward(queries.stated(drawn, question.conditions))

        def run(attempt: int, k: int, first: int, some: int) -> tuple[steering.Particles, pa.Table]:
            cells, asked, _, rare = _sources(seed, attempt, (start + first) * k + np.arange(some * k))
            known = queries.known_cells(stated, self.denoiser, self.process, self.codec.space, some * k, asked)
            held = any(bool(part.any()) for part in known[1].values())
            buckets = rand((some * k, len(self.codec.columns)), rare).numpy()
            foresight = steered.Foresight(
                question.wish,
                lambda state: shown(state, np.full_like(buckets, 0.5)),
                lambda state: shown(state, buckets),
                # Residuals are standard normal numbers.
                steering.Foreseen(num_draws=4, data_std=1.0),
                k,
            )
            denoiser = self._denoiser(known[1], held, present_only=complete)
            return steered.particles(
                denoiser,
                self.process,
                foresight,
                proposal=_within(denoiser, forbidden) if forbidden else None,
                rows=some,
                steps=self.steps,
                num_steps=self.steps,
                shape=self.codec.space,
                solver=self.solver or architecture.stochastic_solver(),
                known=known if held else None,
                generator=cells,
                dtype=torch.float32,
            )

        found = steered.chosen(
            run,
            question.wish,
            # No other use of the third.
            lambda attempt, first, some: _sources(seed, attempt, start + first + np.arange(some))[2],
            lambda count: self.plain(question.conditions, complete, 0, np.arange(count)),
            rows=rows,
            num_particles=question.num_particles,
            best=question.exactness == "heuristic",
        )
        return self._with_keys(found, start)

    @torch.no_grad()
    def fill(self, known: tuple[State, State], source: RowBlocks, *, present_only: bool = False) -> State:
        """Draw every cell but the known ones; `present_only` rules out that a cell is missing."""
        values, mask = known
        if all(bool(cells.all()) for cells in mask.values()):
            return values
        held = any(bool(cells.any()) for cells in mask.values())
        drawn = samplers.sample(
            self._denoiser(mask, held, present_only=present_only),
            self.process,
            num_samples=source.rows,
            shape=self.codec.space,
            solver=self.solver or architecture.default_solver(),
            num_steps=self.steps,
            known=(values, mask) if held else None,
            generator=source,
            dtype=torch.float32,
        )
        return dict(drawn)  # type: ignore[arg-type]  # a mixed process has mixed states

    def decode(self, state: State, source: RowBlocks, start: int = 0) -> pa.Table:
        """The rows that a state stands for; `start` is the number of the first, from which keys are made."""
        uniforms = rand((source.rows, len(self.codec.columns)), source).numpy()
        return self.codec.decode(state, uniforms, first_row=start)

    def _inside(self, draw: Any, within: Any, lost: NDArray[np.int64], rows: int) -> pa.Table:
        """The rows that met no draw within bounds, with numbers drawn inside groups from the groups' own laws."""

        def again(attempt: int, copies: int, some: NDArray[np.int64]) -> pa.Table:
            return draw(_ATTEMPTS // 2 + attempt, copies, lost[some], inside=True)

        found = steered.tried(again, within, len(lost), together=ROWS_PER_EVALUATION, most=_MOST_DRAWS)
        if not found.good.all():
            missed = int((~found.good).sum())
            raise DataError(f"{missed:,} of {rows:,} rows met no draw within the conditions: loosen them.")
        warnings.warn(
            f"conditions: {len(lost):,} of {rows:,} rows met none of {_MOST_DRAWS} draws; their numbers were drawn "
            "within the bounds, but without regard to the other columns. Loosen the narrowest condition.",
            stacklevel=2,
        )
        return found.points

    def _denoiser(self, mask: State, held: bool, *, present_only: bool) -> Any:
        denoiser = missing.never_missing(self.codec, self.denoiser) if present_only else self.denoiser
        if not (self.guidance_scale and held):
            return denoiser
        free = unaware_of(denoiser, self.process, mask)
        return classifier_free(denoiser, self.guidance_scale, unconditional=free)

    def _with_keys(self, table: pa.Table, start: int) -> pa.Table:
        """The table with the keys of rows number `start` and after."""
        for column, coding in zip(self.codec.columns, self.codec.codings, strict=True):
            if isinstance(coding, KeyCoding):
                index = table.schema.get_field_index(column.name)
                own = table.schema.field(index)
                table = table.set_column(index, own, coding.decode(table.num_rows, start).cast(own.type))
        return table


def _within(denoiser: Denoiser, forbidden: dict[str, Tensor]) -> Guided:
    """A proposal that never draws a forbidden class."""

    def both(x_t: Any, t: Any, condition: Any = None) -> tuple[Any, Any]:
        plain = denoiser(x_t, t)
        return plain, without_classes(lambda *asked: plain, forbidden)(x_t, t)

    return Guided(both)


def _sources(seed: int, attempt: int, rows: NDArray[np.int64]) -> list[RowBlocks]:
    index = torch.from_numpy(rows)
    return [RowBlocks.at(seed + (attempt * _STREAMS + stream << 32), index) for stream in range(_STREAMS)]
