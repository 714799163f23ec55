"""Denoisers that rule something out: classes that may not be drawn, cells that may not be seen."""

from collections.abc import Mapping

import torch
from torch import Tensor

from clarkia.denoisers import Denoiser
from clarkia.processes import Masked, Mixed


def without_classes(denoiser: Denoiser, forbidden: Mapping[str, Tensor]) -> Denoiser:
    """The denoiser given that no cell takes a forbidden class: their mass is removed, the rest normalised.

    Each cell is conditioned on its own class alone, which is exact for cells whose classes are independent of the
    others' being allowed, such as values that are missing at random.

    Args:
        denoiser: over a mixed space.
        forbidden: by categorical block, bool (m, K_max); at least one class of every position is allowed.
    """

    def restricted(x_t, t, condition=None):
        prediction = dict(denoiser(x_t, t, condition))
        for name, classes in forbidden.items():
            prediction[name] = prediction[name].masked_fill(classes, -torch.inf).log_softmax(-1)
        return prediction

    return restricted


def unaware_of(denoiser: Denoiser, process: Mixed, hidden: Mapping[str, Tensor]) -> Denoiser:
    """The denoiser that does not see the hidden cells: they are shown at the noise end instead.

    Args:
        denoiser: over a mixed space, trained with cells at different times.
        process: its mixed process.
        hidden: by block, bool (n, p) or (1, p); blocks may be left out.
    """

    def blind(x_t, t, condition=None):
        x_t, t = dict(x_t), dict(t)
        for name, cells in hidden.items():
            time = t[name].reshape(len(x_t[name]), -1)
            t[name] = torch.where(cells, 1.0, time)
            block = process.blocks[name]
            # Noise at the prior's scale carries nothing of the cell, and its mean is as good as a draw.
            nothing = block.mask_state(x_t[name].device) if isinstance(block, Masked) else torch.zeros(())
            x_t[name] = torch.where(cells, nothing.to(x_t[name].dtype), x_t[name])
        return denoiser(x_t, t, condition)

    return blind
