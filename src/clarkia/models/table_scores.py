"""How likely rows are under a table model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from clarkia.models import architecture
from clarkia.models.rows import ROWS_PER_EVALUATION
from clarkia.models.table_fit import tensors
from clarkia.random import RowBlocks

if TYPE_CHECKING:
    from clarkia.models.table import TableModel


def lower_bounds(model: TableModel, table: pa.Table, seed: int, num_draws: int) -> NDArray[np.float64]:
    """The bound of each row, minus infinity where it breaks a rule of the model; see `TableModel.score_samples`."""
    scores = np.full(table.num_rows, -np.inf)
    kept = ~model.rules_.breaks(table)
    scores[kept] = _bounds(model, model.rules_.forward(table.filter(pa.array(kept))), seed, num_draws)
    return scores


def _bounds(model: TableModel, table: pa.Table, seed: int, num_draws: int) -> NDArray[np.float64]:
    codec = model.codec_
    objective = architecture.objective(model.process_, codec, 0.0)
    scores = np.zeros(table.num_rows)
    for start in range(0, table.num_rows, ROWS_PER_EVALUATION):
        part = table.slice(start, ROWS_PER_EVALUATION)
        state = codec.encode(part, np.random.default_rng([seed, start]), unseen="error")
        x0 = tensors(state)
        source = RowBlocks(seed, start, part.num_rows)
        with torch.no_grad():
            draws = [objective.elbo(model.denoiser_, x0, source) for _ in range(num_draws)]
        bound = torch.stack(draws).mean(0)
        # Residuals of levels without one are independent standard normal noise of our own making.
        noise = np.zeros(part.num_rows)
        if "numeric" in state:
            noise = np.where(codec.live(state), 0.0, 0.5 * (math.log(2 * math.pi) + state["numeric"] ** 2)).sum(1)
        scores[start : start + part.num_rows] = bound.numpy() + codec.log_abs_det(state) + noise
    return scores
