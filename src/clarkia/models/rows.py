"""Drawing rows: the sampling loop between a query's known cells and a decoded table."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import torch
from torch import Tensor

from clarkia import samplers
from clarkia.codecs import Condition, TableCodec
from clarkia.denoisers import Denoiser
from clarkia.guidance import classifier_free, unaware_of
from clarkia.models import architecture, missing, queries
from clarkia.processes import Mixed
from clarkia.random import RowBlocks, rand

State = dict[str, Tensor]

_STREAMS = 4
"""Sources of noise that an attempt may use, each of its own seed."""


@dataclass(frozen=True)
class RowSampler:
    """What rows are drawn with.

    Attributes:
        codec: of the table.
        process: the mixed process.
        denoiser: the trained denoiser.
        num_steps: solver steps; None for the default of the space.
        guidance_scale: classifier-free guidance towards known cells.
        solver: None for the default.
    """

    codec: TableCodec
    process: Mixed
    denoiser: Denoiser
    num_steps: int | None = None
    guidance_scale: float = 0.0
    solver: samplers.Mixed | None = None

    def table(
        self, conditions: Mapping[str, Condition], *, complete: bool, seed: int, start: int, rows: int
    ) -> pa.Table:
        """Rows number `start` and after of the law given the conditions; each depends on the seed and its number."""
        clues = queries.clues(self.codec, conditions)

        def attempt(number: int) -> pa.Table:
            # What takes as many draws as the hardest of its rows needs has noise of its own: the draws that come after
            # would otherwise depend on which rows are drawn together.
            cells, asked, holes, rare = (
                RowBlocks(seed + (number * _STREAMS + stream << 32), start, rows) for stream in range(_STREAMS)
            )
            known = queries.known_cells(clues, self.denoiser, self.process, self.codec.space, rows, asked)
            state = self.fill(known, cells)
            if complete:
                present = missing.present_cells(self.codec, state)
                state = self.fill((state, present), holes, present_only=True)
            return queries.stated(self.decode(state, rare if clues else cells, start), conditions)

        return queries.until_satisfied(attempt, lambda table: self.codec.satisfies(table, conditions))

    @torch.no_grad()
    def fill(self, known: tuple[State, State], source: RowBlocks, *, present_only: bool = False) -> State:
        """Draw every cell but the known ones; `present_only` rules out that a cell is missing."""
        values, mask = known
        if all(bool(cells.all()) for cells in mask.values()):
            return values
        held = any(bool(cells.any()) for cells in mask.values())
        denoiser = missing.never_missing(self.codec, self.denoiser) if present_only else self.denoiser
        if self.guidance_scale and held:
            free = unaware_of(denoiser, self.process, mask)
            denoiser = classifier_free(denoiser, self.guidance_scale, unconditional=free)
        drawn = samplers.sample(
            denoiser,
            self.process,
            num_samples=source.rows,
            shape=self.codec.space,
            solver=self.solver or architecture.default_solver(),
            num_steps=self.num_steps or architecture.default_steps(self.codec.space),
            known=(values, mask) if held else None,
            generator=source,
            dtype=torch.float32,
        )
        return dict(drawn)  # type: ignore[arg-type]  # a mixed process has mixed states

    def decode(self, state: State, source: RowBlocks, start: int) -> pa.Table:
        """The rows that a state stands for; `start` is the number of the first, from which keys are made."""
        uniforms = rand((source.rows, len(self.codec.columns)), source).numpy()
        return self.codec.decode(state, uniforms, first_row=start)
