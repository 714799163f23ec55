"""What a table model knows of missing cells: where they are in a state, and the law given that there are none."""

import torch
from torch import Tensor

from clarkia.codecs import TableCodec
from clarkia.denoisers import Denoiser
from clarkia.guidance import without_classes
from clarkia.spaces import Categorical


def present_cells(codec: TableCodec, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mask of a state, False at the level and the residual of every cell that came out missing."""
    present = {name: torch.ones(block.shape, dtype=torch.bool) for name, block in state.items()}
    for column in codec.columns:
        if column.level is not None and column.missing is not None:
            block, position = column.level
            missing = state[block][:, position] == column.missing
            present[block][missing, position] = False
            if column.residual is not None:
                present["numeric"][missing, column.residual] = False
    return present


def never_missing(codec: TableCodec, denoiser: Denoiser) -> Denoiser:
    """The denoiser given that no cell is missing: right where values are missing at random given the other columns."""
    forbidden = {
        name: torch.zeros(len(block.counts), block.max_classes, dtype=torch.bool)
        for name, block in codec.space.blocks.items()
        if isinstance(block, Categorical)
    }
    for column in codec.columns:
        if column.level is not None and column.missing is not None:
            block, position = column.level
            forbidden[block][position, column.missing] = True
    return without_classes(denoiser, forbidden)
