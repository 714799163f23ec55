"""Fitting a table's denoiser: coded rows, a split to choose weights on, the objective and the loop."""

import os
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from clarkia import training
from clarkia.codecs import TableCodec
from clarkia.denoisers import Preconditioned
from clarkia.models import architecture
from clarkia.processes import Mixed
from clarkia.random import generator
from clarkia.spaces import num_rows

State = dict[str, Tensor]

VALIDATION_DRAWS = 16_384
"""Corrupted rows that a validation looks at, draws and rows together."""

VALIDATION_BATCH = 4096
"""How many of them go through the network at once."""


def encode(codec: TableCodec, table: pa.Table, seed: int) -> State:
    """The coded rows of a table, compact: float32 residuals and int16 levels."""
    state = codec.encode(table, np.random.default_rng(seed), dtype=np.int16)
    compact = {name: array.astype(np.float32) if name == "numeric" else array for name, array in state.items()}
    return {name: torch.from_numpy(array) for name, array in compact.items()}


def tensors(state: dict[str, Any]) -> State:
    """A coded state as the denoiser takes it: float32 residuals and int64 levels."""
    parts = {name: torch.as_tensor(array) for name, array in state.items()}
    return {name: part.float() if name == "numeric" else part.long() for name, part in parts.items()}


def split_rows(state: State, share: float, seed: int) -> tuple[State, State | None]:
    """Training and validation rows, split at random; no validation where its share is less than one row."""
    rows = num_rows(state)
    order = torch.randperm(rows, generator=generator(seed, rows))
    held_out = min(int(rows * share), VALIDATION_DRAWS)
    if held_out == 0:
        return state, None
    parts = (order[held_out:], order[:held_out])
    train, validation = ({name: block[part] for name, block in state.items()} for part in parts)
    return train, validation


def fit_denoiser(
    denoiser: Preconditioned,
    process: Mixed,
    codec: TableCodec,
    train: State,
    validation: State | None,
    options: training.TrainingOptions,
    subset_probability: float,
    checkpoint: str | os.PathLike[str] | None,
    resume: bool,
    progress: Any,
) -> training.TrainingRun:
    """Train a denoiser in place and leave it with the weights of the best validation bound."""
    objective = architecture.objective(process, codec, subset_probability)

    def loss(module, batch, noise):
        return objective(module, tensors(batch), noise)

    def nats_per_row(module, rows: State) -> float:
        x0, noise = tensors(rows), generator(options.seed, 1)
        # Few rows are repeated within a batch: each copy has corruption of its own.
        drawn = torch.arange(max(VALIDATION_DRAWS // num_rows(x0), 1) * num_rows(x0)) % num_rows(x0)
        batches = ({name: block[part] for name, block in x0.items()} for part in drawn.split(VALIDATION_BATCH))
        return -float(torch.cat([objective.elbo(module, batch, noise) for batch in batches]).mean())

    return training.fit(
        denoiser,
        loss,
        train,
        options=options,
        validate=None if validation is None else lambda module: nats_per_row(module, validation),
        checkpoint=checkpoint,
        resume=resume,
        progress=progress,
    )
